"""What Caffe ends on, or its forks disagree about: each layer says in one line what came and what it takes."""

import pytest

from caffe2tf import loading
from caffe2tf.caffe import read
from caffe2tf.errors import NetError
from caffe2tf.net.reading import from_source
from tests.helpers import inputs, layer, make, parameter

IMAGE = (2, 4, 5, 6)
# (type, its parameters, the bottoms' shapes, how many tops, what is said).
REFUSED = [
    ("Clip", "", [IMAGE], 1, "clip_param must set min and max"),
    ("Clip", "clip_param { min: 1 }", [IMAGE], 1, "clip_param must set min and max"),
    ("BReLU", "brelu_param { maxval: 1 }", [IMAGE], 1, "brelu_param must set minval and maxval"),
    ("PReLU", "", [(2,)], 1, "bottom of shape (2,); takes 2 to 4 axes"),
    ("PReLU", "", [(1, 2, 1, 1, 1)], 1, "bottom of shape (1, 2, 1, 1, 1); takes 2 to 4 axes"),
    *(
        ("Dropout", f"dropout_param {{ dropout_ratio: {ratio} }}", [IMAGE], 1, f"dropout_ratio {ratio}; takes a share from 0 to 1")
        for ratio in ("130", "-0.5", "nan")
    ),
    ("Dropout", "phase: TRAIN", [IMAGE], 1,
     "its own phase is TRAIN, so it drops values at random at inference too; leave `phase` out"),
    ("Log", "log_param { base: 0 }", [IMAGE], 1, "base 0.0; takes a number above 0, or -1 for e"),
    ("Eltwise", "eltwise_param { coeff: 1 }", [IMAGE, IMAGE], 1,
     "1 coeff for 2 bottoms; SUM and MAX take none or one for each, PROD none"),
    ("Eltwise", "eltwise_param { operation: PROD coeff: 1 coeff: 1 }", [IMAGE, IMAGE], 1,
     "2 coeff for 2 bottoms; SUM and MAX take none or one for each, PROD none"),
    ("Axpy", "", [(2, 3), IMAGE, IMAGE], 1,
     "bottoms of shapes (2, 3), (2, 4, 5, 6), (2, 4, 5, 6); takes a (N, C) or (N, C, 1, 1), x and y (N, C, H, W)"),
    ("Axpy", "", [(2, 4), (2, 4), (2, 4)], 1,
     "bottoms of shapes (2, 4), (2, 4), (2, 4); takes a (N, C) or (N, C, 1, 1), x and y (N, C, H, W)"),
    ("Axpy", "", [(2, 4), IMAGE, (2, 4, 5, 5)], 1,
     "bottoms of shapes (2, 4), (2, 4, 5, 6), (2, 4, 5, 5); takes a (N, C) or (N, C, 1, 1), x and y (N, C, H, W)"),
    ("ArgMax", "argmax_param { top_k: 5 }", [(2, 4)], 1, "top_k 5 of 4 values"),
    ("ArgMax", "argmax_param { top_k: 0 }", [(2, 4)], 1, "top_k 0 of 4 values"),
    ("ArgMax", "argmax_param { top_k: 6 axis: 2 }", [IMAGE], 1, "top_k 6 of 5 values"),
    ("ArgMax", "", [()], 1, "bottom without axes; takes at least one"),
    ("ChannelNorm", "", [(2, 4)], 1, "bottom of shape (2, 4); takes 4 axes"),
    ("Convolution", "convolution_param { num_output: 0 kernel_size: 1 }", [IMAGE], 1,
     "num_output 0 and 4 channels must be multiples of group 1, and positive"),
    ("Convolution", "convolution_param { num_output: 4 group: 0 kernel_size: 1 }", [IMAGE], 1,
     "num_output 4 and 4 channels must be multiples of group 0, and positive"),
    ("Convolution", "convolution_param { num_output: 3 group: 3 kernel_size: 1 }", [IMAGE], 1,
     "num_output 3 and 4 channels must be multiples of group 3, and positive"),
    ("Convolution", "convolution_param { num_output: 1 kernel_size: 0 }", [IMAGE], 1,
     "kernel (0, 0), stride (1, 1), dilation (1, 1); each must be at least 1"),
    ("Convolution", "convolution_param { num_output: 1 kernel_size: 1 stride: 0 }", [IMAGE], 1,
     "kernel (1, 1), stride (0, 0), dilation (1, 1); each must be at least 1"),
    ("Convolution", "convolution_param { num_output: 1 kernel_size: 1 dilation: 0 }", [IMAGE], 1,
     "kernel (1, 1), stride (1, 1), dilation (0, 0); each must be at least 1"),
    ("Convolution", "convolution_param { num_output: 1 }", [IMAGE], 1, "no kernel_size is set"),
    ("Convolution", "convolution_param { num_output: 1 kernel_size: 1 kernel_h: 1 }", [IMAGE], 1,
     "kernel_h and kernel_w need two spatial axes and no kernel_size"),
    ("Convolution", "convolution_param { num_output: 1 kernel_w: 1 }", [(2, 4, 5)], 1,
     "kernel_h and kernel_w need two spatial axes and no kernel_size"),
    ("Convolution", "convolution_param { num_output: 1 kernel_size: 3 dilation: 3 pad: 0 }", [IMAGE], 1,
     "kernel (3, 3) with dilation (3, 3) is larger than its bottom (2, 4, 5, 6) with pad (0, 0)"),
    ("Im2col", "convolution_param { axis: 3 kernel_size: 1 }", [IMAGE], 1,
     "axis 3 of a bottom of shape (2, 4, 5, 6) leaves no spatial axis; takes at least one"),
    ("Deconvolution", "convolution_param { num_output: 1 kernel_size: 1 pad: 3 }", [IMAGE], 1,
     "pad (3, 3) leaves nothing of the top: extents (-1, 0)"),
    ("Pooling", "pooling_param { global_pooling: true stride: 2 }", [IMAGE], 1,
     "global_pooling takes no kernel, no pad and stride 1"),
    ("Pooling", "pooling_param { global_pooling: true kernel_size: 5 }", [IMAGE], 1,
     "global_pooling takes no kernel, no pad and stride 1"),
    ("Pooling", "pooling_param { global_pooling: true pad: 1 }", [IMAGE], 1,
     "global_pooling takes no kernel, no pad and stride 1"),
    ("Pooling", "", [IMAGE], 1, "kernel None and stride 1; both must be set and at least 1"),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 0 }", [IMAGE], 1,
     "kernel 2 and stride 0; both must be set and at least 1"),
    ("Pooling", "pooling_param { kernel_size: 2 pad: 2 }", [IMAGE], 1, "pad 2 is not smaller than kernel 2"),
    ("Pooling", "pooling_param { kernel_size: 8 pad: 1 }", [IMAGE], 1,
     "kernel 8 is larger than its bottom (2, 4, 5, 6) with pad 1"),
    ("Pooling", "pooling_param { kernel_size: 2 kernel_h: 2 kernel_w: 2 }", [IMAGE], 1,
     "kernel_size is set beside kernel_h and kernel_w; takes one kind"),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 1 stride_w: 2 }", [IMAGE], 1,
     "stride is set beside stride_w; takes one kind"),
    ("Pooling", "pooling_param { kernel_h: 2 }", [IMAGE], 1, "kernel_h alone; takes both kernel_h and kernel_w"),
    ("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 pad: 1 }", [IMAGE], 1,
     "STOCHASTIC pooling with pad; Caffe takes none"),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 2 }", [IMAGE], 2, "2 tops, but AVE pooling has no mask; takes 1"),
    ("SPP", "spp_param { pyramid_height: 4 }", [IMAGE], 1,
     "pyramid_height 4 needs more than the extents of its bottom (2, 4, 5, 6)"),
    ("SPP", "spp_param { pyramid_height: 2 pool: STOCHASTIC }", [IMAGE], 1,
     "STOCHASTIC pooling of the extents (5, 6) would need a pad; Caffe takes none"),
    ("SPP", "", [IMAGE], 1, "pyramid_height must be at least 1"),
    ("LRN", "lrn_param { local_size: 4 }", [IMAGE], 1,
     "lrn_param sets norm_region ACROSS_CHANNELS with an even local_size 4; Caffe requires an odd one"),
    ("LRN", "lrn_param { local_size: 2 norm_region: WITHIN_CHANNEL }", [IMAGE], 1,
     "lrn_param sets norm_region WITHIN_CHANNEL with an even local_size 2; Caffe requires an odd one"),
    ("BatchNorm", "", [(2,)], 1, "bottom of shape (2,); takes at least 2 axes"),
    ("BatchNorm", "param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 2 }", [IMAGE], 1,
     "a param sets lr_mult 2 (1 where it says none); its statistics take 0"),
    ("InnerProduct", "", [IMAGE], 1, "num_output must be at least 1"),
    ("Scale", "scale_param { axis: 0 }", [IMAGE, (2, 5)], 1,
     "second bottom of shape (2, 5) does not fit axis 0 of the first, (2, 4, 5, 6)"),
    ("Bias", "bias_param { axis: 2 num_axes: 3 }", [IMAGE], 1, "num_axes 3 from axis 2 of a bottom with 4 axes"),
    ("Bias", "bias_param { num_axes: -2 }", [IMAGE], 1, "num_axes -2 from axis 1 of a bottom with 4 axes"),
    ("Concat", "concat_param { axis: 1 concat_dim: 1 }", [IMAGE, IMAGE], 1, "axis and concat_dim are both set; Caffe takes one"),
    ("Concat", "concat_param { axis: 2 }", [IMAGE, (2, 4, 5, 7)], 1,
     "bottoms of shapes (2, 4, 5, 6) and (2, 4, 5, 7); must be equal outside axes [2]"),
    ("Slice", "slice_param { axis: 1 slice_dim: 1 }", [IMAGE], 2, "axis and slice_dim are both set; Caffe takes one"),
    ("Slice", "", [(2, 5)], 2, "5 values along axis 1 do not part evenly into 2 tops"),
    ("Slice", "slice_param { slice_point: 4 }", [IMAGE], 2,
     "slice_point [4] for 2 tops of 4 values; takes 1, rising, inside"),
    ("Slice", "slice_param { slice_point: 2 slice_point: 2 }", [IMAGE], 3,
     "slice_point [2, 2] for 3 tops of 4 values; takes 2, rising, inside"),
    ("Slice", "slice_param { slice_point: 1 slice_point: 2 }", [IMAGE], 2,
     "slice_point [1, 2] for 2 tops of 4 values; takes 1, rising, inside"),
    ("Crop", "crop_param { offset: 0 offset: 0 offset: 0 }", [IMAGE, IMAGE], 1, "3 values of offset for 2 axes; takes 1 or 2"),
    ("Crop", "crop_param { axis: 1 offset: 1 }", [IMAGE, (2, 3, 4, 6)], 1,
     "offset 1 + 6 on axis 3 reaches past the bottom (2, 4, 5, 6)"),
    ("Crop", "", [IMAGE, (2, 4, 5)], 1,
     "bottoms of shapes (2, 4, 5, 6) and (2, 4, 5); the second must have as many axes at least"),
    ("Flatten", "flatten_param { axis: 3 end_axis: 1 }", [IMAGE], 1, "end_axis 1 lies more than one before axis 3"),
    ("Reshape", "reshape_param { axis: 3 num_axes: 2 }", [IMAGE], 1, "axis 3 and num_axes 2 of a bottom with 4 axes"),
    ("Reshape", "reshape_param { axis: -6 }", [IMAGE], 1, "axis -6 and num_axes -1 of a bottom with 4 axes"),
    ("Reshape", "reshape_param { num_axes: -2 }", [IMAGE], 1, "axis 0 and num_axes -2 of a bottom with 4 axes"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", [IMAGE], 1,
     "shape [-1, -1]; takes one -1 at most and no other negative extent"),
    ("Reshape", "reshape_param { shape { dim: -2 } }", [IMAGE], 1,
     "shape [-2]; takes one -1 at most and no other negative extent"),
    ("Reshape", "reshape_param { axis: 3 shape { dim: 6 dim: 0 } }", [IMAGE], 1,
     "shape [6, 0] keeps axis 4 of a bottom with 4 axes"),
    ("Reshape", "reshape_param { shape { dim: 7 dim: -1 } }", [IMAGE], 1,
     "240 values of its bottom (2, 4, 5, 6) do not fit shape [7, -1]"),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 119 } }", [IMAGE], 1,
     "bottom (2, 4, 5, 6) has 240 values, shape (2, 119) takes 238"),
    ("Tile", "tile_param { tiles: 0 }", [IMAGE], 1, "tiles 0; must be at least 1"),
    ("BatchReindex", "", [IMAGE, (2, 1)], 1, "second bottom of shape (2, 1); takes one axis of item numbers"),
    ("Filter", "", [IMAGE, (2, 2)], 1,
     "bottoms of shapes [(2, 4, 5, 6), (2, 2)]; takes one selector value for each item"),
    ("Filter", "", [IMAGE, (3,)], 1, "bottoms of shapes [(2, 4, 5, 6), (3,)]; takes one selector value for each item"),
    ("Filter", "", [IMAGE, (2,)], 2, "2 tops for 1 bottoms and a selector"),
    ("Permute", "permute_param { order: 1 order: 1 }", [IMAGE], 1,
     "order [1, 1] of a bottom with 4 axes; takes each axis once"),
    ("ShuffleChannel", "shuffle_channel_param { group: 3 }", [IMAGE], 1, "4 channels are no multiple of group 3"),
    ("ShuffleChannel", "shuffle_channel_param { group: 0 }", [IMAGE], 1, "4 channels are no multiple of group 0"),
    ("ShuffleChannel", "", [(4,)], 1, "bottom of shape (4,); takes at least 2 axes"),
    ("Interp", "interp_param { pad_end: 1 height: 3 width: 3 }", [IMAGE], 1,
     "pad_beg 0 and pad_end 1; takes 0 or less (cropping)"),
    ("Interp", "interp_param { height: 3 width: 3 zoom_factor: 2 }", [IMAGE], 1,
     "height and width together with zoom_factor or shrink_factor; takes one kind"),
    ("Interp", "interp_param { zoom_factor: 0 }", [IMAGE], 1,
     "zoom_factor 0 and shrink_factor 1; both must be at least 1"),
    ("Interp", "interp_param { height: 3 }", [IMAGE], 1, "extents (5, 6) to (3, 0); all must be at least 1"),
    ("Interp", "interp_param { pad_beg: -5 height: 3 width: 3 }", [IMAGE], 1,
     "extents (0, 1) to (3, 3); all must be at least 1"),
    ("Upsample", "upsample_param { upsample_h: 11 upsample_w: 12 }", [IMAGE], 1,
     "extents (5, 6) to (11, 12) without a mask; takes whole multiples"),
    ("BilinearInterpolation", "", [IMAGE, (2, 4)], 1, "second bottom of shape (2, 4); takes 4 axes"),
    ("Unpooling", "unpooling_param { kernel_size: 2 unpool_h: 3 unpool_w: 0 }", [IMAGE], 1,
     "unpooled extents (3, 0); both must be at least 1"),
    ("PriorBox", "prior_box_param { min_size: 3 max_size: 4 max_size: 5 }", [IMAGE, IMAGE], 1,
     "1 min_size and 2 max_size; takes at least one min_size, and no or as many max_size"),
    ("PriorBox", "prior_box_param { max_size: 4 }", [IMAGE, IMAGE], 1,
     "0 min_size and 1 max_size; takes at least one min_size, and no or as many max_size"),
    ("PriorBox", "prior_box_param { min_size: 4 max_size: 4 }", [IMAGE, IMAGE], 1, "max_size 4 is not above min_size 4"),
    ("PriorBox", "prior_box_param { min_size: 4 variance: 1 variance: 2 }", [IMAGE, IMAGE], 1,
     "2 values of variance; takes 1 or 4"),
    ("RNN", "recurrent_param { num_output: 2 }", [(3, 2), (3, 2)], 1,
     "bottoms of shapes (3, 2) and (3, 2); takes x (T, N, ...) and cont (T, N)"),
    ("RNN", "recurrent_param { num_output: 2 }", [(3, 2, 4), (2, 3)], 1,
     "bottoms of shapes (3, 2, 4) and (2, 3); takes x (T, N, ...) and cont (T, N)"),
    ("RNN", "recurrent_param { num_output: 2 }", [(3, 2, 4), (3, 2)], 2,
     "2 bottoms and 2 tops; takes x, cont, an optional static input and 0 states, and gives 1 + 0"),
    ("RNN", "recurrent_param { num_output: 2 expose_hidden: true }", [(3, 2, 4), (3, 2), (1, 2, 3)], 2,
     "state of shape (1, 2, 3); takes (1, 2, 2)"),
    ("RNN", "recurrent_param { num_output: 2 }", [(3, 2, 4), (3, 2), (3, 4)], 1,
     "static input of shape (3, 4); takes (2, ...)"),
    ("LSTM", "recurrent_param { num_output: 2 }", [(3, 2, 4), (3, 2), (2, 4), (2, 4)], 1,
     "4 bottoms and 1 tops; takes x, cont, an optional static input and 0 states, and gives 1 + 0"),
    ("LSTMUnit", "", [(1, 2, 3), (1, 2, 9), (1, 2)], 2,
     "bottoms of shapes (1, 2, 3), (1, 2, 9), (1, 2); takes (1, N, D), (1, N, 4 D), (1, N)"),
    ("DecodeBBox", "", [(3, 8), (3, 4)], 1, "bottoms of shapes (3, 8) and (3, 4); takes (R, 8) and (R, 5)"),
    ("DecodeBBox", "", [(3, 8), (2, 5)], 1, "bottoms of shapes (3, 8) and (2, 5); takes (R, 8) and (R, 5)"),
    ("FrcnnOutput", "bbox_reg_param { cls_aware: true }", [(3, 2), (3, 8), (3, 5), (1, 3)], 1,
     "bottom of shape (1, 3); takes the picture's height and width"),
    ("CTCGreedyDecoder", "ctc_decoder_param { blank_index: 4 }", [(3, 2, 4)], 1, "blank_index 4 of 4 classes"),
    ("Reorg", "reorg_param { stride: 2 }", [IMAGE], 1,
     "stride 2 of a bottom of shape (2, 4, 5, 6); takes channels in its squares and extents in its multiples"),
    ("ROIPooling", "roi_pooling_param { pooled_h: 1 pooled_w: 1 }", [IMAGE, (3, 4)], 1,
     "regions of shape (3, 4); takes (R, 5)"),
    ("YoloDetectionOutput",
     "yolo_detection_output_param { num_classes: 1 num_box: 1 coords: 4 biases: 1 biases: 1 }", [(1, 6, 2, 3)], 1,
     "bottoms of shapes [(1, 6, 2, 3)]; takes squares"),
    ("Yolov3DetectionOutput",
     "yolov3_detection_output_param { num_classes: 1 num_box: 1 gaussian_box: true }", [(1, 6, 2, 2)], 1,
     "gaussian_box true is not computed; takes false"),
    ("Yolov3DetectionOutput",
     "yolov3_detection_output_param { num_classes: 1 num_box: 1 mask_group_num: 2 mask: 0 anchors_scale: 1 biases: 1 biases: 1 }",
     [(1, 6, 2, 2)], 1, "mask_group_num 2, 1 mask, 1 anchors_scale for 1 bottoms of 1 boxes"),
]  # fmt: skip


def said(text):
    with pytest.raises(NetError) as caught:
        from_source(read.Source(parameter(text)), None)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(("kind", "params", "shapes", "tops", "why"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_layer_says_what_it_takes(kind, params, shapes, tops, why):
    names = [f"in{index}" for index in range(len(shapes))]
    text = inputs(**dict(zip(names, shapes, strict=True)))
    text += layer(kind, params, names, [f"top{index}" for index in range(tops)])
    assert said(text) == f"layer 'x' ({kind}): {why}"


def shaped(*shapes):
    return " ".join(f"shape {{ {' '.join(f'dim: {n}' for n in shape)} }}" for shape in shapes)


@pytest.mark.parametrize(
    ("kind", "params", "tops", "why"),
    [
        ("Input", f"input_param {{ {shaped((1, 2), (1, 2))} }}", 3,
         "2 shapes for 3 tops; takes one, or one for each (`input_shape` sets it)"),
        ("Input", f"input_param {{ {shaped((1, 0))} }}", 1, "shape (1, 0) has an extent below 1"),
        ("DummyData", f"dummy_data_param {{ {shaped((1, 2), (1, 2))} }}", 3, "2 shapes and 0 fillers for 3 tops"),
        ("DummyData", f"dummy_data_param {{ {shaped((1, 2))} data_filler {{}} data_filler {{}} }}", 3,
         "1 shapes and 2 fillers for 3 tops"),
        ("DummyData", "dummy_data_param { num: 1 num: 2 channels: 1 height: 1 width: 1 width: 1 width: 1 }", 3,
         "2, 1, 1, 3 values of num, channels, height and width for 3 tops; each takes 1 or 3"),
        ("ContinuationIndicator", "continuation_indicator_param { time_step: 0 batch_size: 2 }", 1,
         "time_step 0 and batch_size 2; both must be at least 1"),
    ],
)  # fmt: skip
def test_a_layer_without_bottoms_says_what_it_takes(kind, params, tops, why):
    assert said(layer(kind, params, [], [f"top{index}" for index in range(tops)])) == f"layer 'x' ({kind}): {why}"


def test_no_blob_is_empty():
    text = layer("DummyData", "dummy_data_param { shape { dim: 2 dim: 0 } }", [])
    assert (
        said(text) == "layer 'x' (DummyData): bottoms [] give a top of shape [(2, 0)]; every extent must be at least 1"
    )


def test_a_snapshot_whose_own_network_caffe_refuses_gives_its_weights(tmp_path):
    """Beside a text that rules: Caffe copies blobs by the names of layers and looks at nothing else of the snapshot (net.cpp)."""
    text = inputs(data=(1, 2)) + layer("InnerProduct", "inner_product_param { num_output: 3 }")
    both = text.replace('name: "x"', 'name: "x" include { phase: TEST } exclude { phase: TRAIN }')
    _, model = make(tmp_path, both, {"x": [(3, 2), (3,)]})
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(NetError, match="both include and exclude"):
        loading.load(None, model)
    net = loading.load(str(tmp_path / "net.prototxt"), model)
    assert [array.shape for array in net.arrays["x"]] == [(3, 2), (3,)]
    assert net.transforms == {}
