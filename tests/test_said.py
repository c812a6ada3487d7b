"""What layers say of themselves: receptive fields, multiply-adds, filters, free extents, whether items are independent."""

import pytest

from caffe2tf.caffe import read
from caffe2tf.layers import REGISTRY
from caffe2tf.net.reading import from_source
from tests.helpers import inputs, layer, parameter

IMAGE, FLAT, CUBE = (2, 4, 5, 6), (2, 8), (2, 4, 3, 5, 6)
FIELD = [(7, 2), (9, 4)]  # of the bottoms: (pixels, step) for each axis
SAME = FIELD
# (type, its parameters, the bottoms' shapes, the receptive field of its tops, whether height and width may be free).
FIELDS = [
    ("ReLU", "", [IMAGE], SAME, True),
    ("Convolution", "convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 3 }", [IMAGE],
     [(7 + 2 * 2, 2), (9 + 4, 12)], True),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 2 dilation: 3 }", [IMAGE],
     [(7 + 3 * 2, 2), (9 + 3 * 4, 4)], True),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 2 axis: 2 }", [CUBE], None, False),
    ("Deconvolution", "convolution_param { num_output: 4 kernel_size: 3 stride: 2 }", [IMAGE],
     [(7 + 2, 1), (9 + 4, 2)], True),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", [IMAGE], [(7 + 4, 4), (9 + 8, 8)], True),
    ("LRN", "lrn_param { local_size: 3 }", [IMAGE], SAME, True),
    ("LRN", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }", [IMAGE], [(7 + 4, 2), (9 + 8, 4)], True),
    ("BatchNorm", "", [IMAGE], SAME, True),
    ("BatchNorm", "batch_norm_param { use_global_stats: false }", [IMAGE], None, True),
    ("Softmax", "", [IMAGE], SAME, True),
    ("Softmax", "softmax_param { axis: 2 }", [IMAGE], None, False),
    ("Softmax", "", [FLAT], SAME, False),
    ("Eltwise", "", [IMAGE, IMAGE], SAME, True),
    ("Axpy", "", [(2, 4, 1, 1), IMAGE, IMAGE], SAME, True),
    ("Concat", "", [IMAGE, IMAGE], SAME, True),
    ("Concat", "concat_param { axis: 2 }", [IMAGE, IMAGE], None, False),
    ("Slice", "", [IMAGE], SAME, True),
    ("ChannelNorm", "", [IMAGE], SAME, True),
    ("ShuffleChannel", "shuffle_channel_param { group: 2 }", [IMAGE], SAME, True),
    ("ShuffleChannel", "shuffle_channel_param { group: 2 }", [FLAT], SAME, False),
    ("InnerProduct", "inner_product_param { num_output: 3 }", [IMAGE], None, False),
    ("Reduction", "", [IMAGE], None, False),
    ("Flatten", "", [IMAGE], None, False),
    ("Permute", "permute_param { order: 1 }", [IMAGE], None, False),
]  # fmt: skip


def placed(kind, params, shapes, tops=1):
    names = [f"in{index}" for index in range(len(shapes))]
    text = inputs(**dict(zip(names, shapes, strict=True)))
    text += layer(kind, params, names, [f"top{index}" for index in range(tops)])
    return from_source(read.Source(parameter(text)), None).nodes[-1].layer


@pytest.mark.parametrize(("kind", "params", "shapes", "field", "free"), FIELDS, ids=lambda value: str(value)[:40])
def test_receptive_fields_and_free_extents(kind, params, shapes, field, free):
    one = placed(kind, params, shapes)
    found = one.receptive([FIELD] * len(shapes))
    assert (None if found is None else list(found)) == field
    assert one.any_size() is free
    assert one.receptive([None] * len(shapes)) is None


def test_where_several_paths_meet_the_widest_counts_in_the_steps_of_the_first():
    one = placed("Eltwise", "", [IMAGE, IMAGE])
    assert one.widest([[(3, 2)], [(5, 4)]]) == [(5, 2)]
    assert one.widest([[(9, 2)], [(5, 4)]]) == [(9, 2)]
    assert one.widest([[(3, 2)], None]) is None
    assert one.widest([[(3, 2)], [(3, 2), (3, 2)]]) is None
    assert one.windowed([[(3, 2)], [(5, 4)]], [(3, 5)]) == [(5 + 2 * 2, 10)]


@pytest.mark.parametrize(
    ("kind", "params", "shapes", "count"),
    [
        # For each value of the top as many as the kernel has for it.
        ("Convolution", "convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 group: 2 }", [IMAGE], 6 * 3 * 5 * 2 * 6),
        ("Deconvolution", "convolution_param { num_output: 6 kernel_size: 2 group: 2 }", [IMAGE], 4 * 5 * 6 * 4 * 3),
        ("InnerProduct", "inner_product_param { num_output: 3 }", [IMAGE], 4 * 5 * 6 * 3),
        ("InnerProduct", "inner_product_param { num_output: 3 axis: 2 }", [IMAGE], 4 * 5 * 6 * 3),
        ("RNN", "recurrent_param { num_output: 3 }", [(5, 2, 4), (5, 2)], 5 * (3 * 4 + 3 * 3 + 3 * 3)),
        ("LSTM", "recurrent_param { num_output: 3 }", [(5, 2, 4), (5, 2)], 5 * 4 * (3 * 4 + 3 * 3)),
        ("Lstm", "lstm_param { num_output: 3 }", [(5, 1, 4)], 5 * 4 * (3 * 4 + 3 * 3)),
        ("ReLU", "", [IMAGE], 0),
    ],
)  # fmt: skip
def test_multiply_adds_of_one_item(kind, params, shapes, count):
    assert placed(kind, params, shapes).multiply_adds() == count


@pytest.mark.parametrize(
    ("kind", "params", "shapes", "filters"),
    [
        ("Convolution", "convolution_param { num_output: 6 kernel_size: 2 group: 2 }", [IMAGE], ("output", "input", 2)),
        ("Deconvolution", "convolution_param { num_output: 6 kernel_size: 2 group: 2 }", [IMAGE], ("input", "output", 2)),
        ("InnerProduct", "inner_product_param { num_output: 3 }", [IMAGE], None),
        ("ReLU", "", [IMAGE], None),
    ],
)  # fmt: skip
def test_what_the_axes_of_a_kernel_count(kind, params, shapes, filters):
    assert placed(kind, params, shapes).filters() == filters


@pytest.mark.parametrize(
    ("kind", "params", "shapes", "fixed"),
    [
        ("Softmax", "softmax_param { axis: 0 }", [IMAGE], True),
        ("Softmax", "", [IMAGE], False),
        ("Reduction", "", [IMAGE], True),
        ("Reduction", "reduction_param { axis: 1 }", [IMAGE], False),
        ("ArgMax", "argmax_param { axis: 0 }", [IMAGE], True),
        ("ArgMax", "", [IMAGE], False),
        ("Concat", "concat_param { axis: 0 }", [IMAGE, IMAGE], True),
        ("Concat", "", [IMAGE, IMAGE], False),
        ("Tile", "tile_param { axis: 0 tiles: 2 }", [IMAGE], True),
        ("Tile", "tile_param { tiles: 2 }", [IMAGE], False),
        ("Permute", "permute_param { order: 1 }", [IMAGE], True),
        ("Permute", "permute_param { order: 0 order: 2 }", [IMAGE], False),
        ("InnerProduct", "inner_product_param { num_output: 3 axis: 0 }", [IMAGE], True),
        ("InnerProduct", "inner_product_param { num_output: 3 }", [IMAGE], False),
        ("Scale", "scale_param { axis: 0 }", [IMAGE], True),
        ("Scale", "", [IMAGE], False),
        ("Scale", "scale_param { axis: 0 }", [IMAGE, IMAGE], False),
        ("Bias", "bias_param { axis: -4 num_axes: -1 }", [IMAGE], True),
        ("Bias", "bias_param { axis: 0 num_axes: 0 }", [IMAGE], False),
        ("BatchReindex", "", [IMAGE, (3,)], True),
        ("Filter", "", [IMAGE, (2,)], True),
        ("RNN", "recurrent_param { num_output: 3 }", [(5, 2, 4), (5, 2)], True),
    ],
)
def test_which_layers_need_the_batch_that_the_file_states(kind, params, shapes, fixed):
    assert placed(kind, params, shapes).fixes_batch() is fixed


@pytest.mark.parametrize(
    ("kind", "params", "shapes", "read"),
    [
        ("BilinearInterpolation", "", [IMAGE, IMAGE], (0,)),
        ("Crop", "", [IMAGE, IMAGE], (0,)),
        ("Eltwise", "", [IMAGE, IMAGE], (0, 1)),
        ("DecodeBBox", "", [(3, 8), (3, 5), (2, 5)], (0, 1)),
        ("Unpooling", "unpooling_param { kernel_size: 2 }", [IMAGE, IMAGE], (0, 1)),
        ("Unpooling", "unpooling_param { unpool: TILE kernel_size: 2 }", [IMAGE, IMAGE], (0,)),
    ],
)
def test_of_which_bottoms_values_are_read(kind, params, shapes, read):
    assert tuple(placed(kind, params, shapes).value_bottoms()) == read


def test_one_shape_is_that_of_every_top():
    for kind, param in (("Input", "input_param"), ("DummyData", "dummy_data_param")):
        one, two = (parameter(layer(kind, f"{param} {{ {shapes} }}", [], ["a", "b"])).layer[0] for shapes in (
            "shape { dim: 2 }", "shape { dim: 2 } shape { dim: 3 }"
        ))  # fmt: skip
        assert REGISTRY[kind](one, []).tops() == [(2,), (2,)]
        assert REGISTRY[kind](two, []).tops() == [(2,), (3,)]
