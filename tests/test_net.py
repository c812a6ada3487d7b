"""Wiring, shapes and weights of networks; what is refused, and in which words."""

import numpy as np
import pytest

import caffe2tf
from caffe2tf import layers, loading, reference
from caffe2tf.caffe import caffe_pb2
from caffe2tf.errors import NetError, UnsupportedLayer, UnsupportedParameter, WeightMismatch
from caffe2tf.net.support import set_fields
from tests.helpers import GOLDEN, cases, inputs, layer, load, make, parameter

DATA_DEPENDENT = {"filter": "f", "filter_nchw": "f"}  # as many items as the selector chooses


@pytest.mark.parametrize("path", cases("layers") + cases("forks") + cases("formats"))
def test_every_golden_case_reads_and_has_caffes_shapes(path):
    net = load(path)
    blobs = path / "blobs.npz" if (path / "blobs.npz").exists() else GOLDEN / "formats" / "blobs.npz"
    batch = 2 if path.name == "train_val" else None
    if batch:
        net = net.reshape({"data": (2, 3, 19, 19)})
    with np.load(blobs) as expected:
        for name in expected.files:
            if not name.startswith("in:") and DATA_DEPENDENT.get(path.name) != name and name != "det":
                assert net.blobs[name] == expected[name].shape, name


@pytest.mark.parametrize("path", cases("layers") + cases("forks"))
def test_weights_go_to_keras_and_back_exactly(path):
    net = load(path)
    back = net.with_weights(net.weights)
    for name, arrays in net.arrays.items():
        if net.layer(name).type == "BatchNorm":  # its factor is divided away
            again = back.weights[name]
            assert all(np.array_equal(again[key], array) for key, array in net.weights[name].items())
            continue
        for before, after in zip(arrays, back.arrays[name], strict=True):
            assert before.shape == after.shape
            assert before.tobytes() == after.tobytes()


def text_of(*parts):
    return inputs(data=(2, 3, 8, 8)) + "\n".join(parts)


def test_in_place_layers_make_versions(tmp_path):
    text = text_of(
        layer("ReLU", tops=["y"], name="a"),
        layer("Power", bottoms=["y"], tops=["y"], name="b"),
        layer("ReLU", bottoms=["y"], tops=["z"], name="c"),
    )
    prototxt, _ = make(tmp_path, text)
    nodes = {node.layer.name: node for node in loading.load(prototxt).nodes}
    assert nodes["b"].bottoms == (("y", 0),)
    assert nodes["b"].tops == (("y", 1),)
    assert nodes["c"].bottoms == (("y", 1),)
    assert [name for name, node in nodes.items() if node.in_place] == ["b"]
    assert loading.load(prototxt).outputs == ["z"]


CONV = "convolution_param { num_output: 4 kernel_size: 3 }"


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([layer("ReLU", bottoms=["nowhere"])], "layer 'x' (ReLU): bottom 'nowhere' is made by no layer"),
        ([layer("ReLU", bottoms=["b"], tops=["a"], name="a"), layer("ReLU", bottoms=["a"], tops=["b"], name="b")],
         "layer 'a' (ReLU): bottom 'b' is made only by a later layer (a cycle, or layers out of order)"),
        ([layer("ReLU"), layer("AbsVal", name="y")], "layer 'y' (AbsVal): top 'top' is already made by another layer"),
        ([layer("Eltwise")], "layer 'x' (Eltwise): 1 bottoms; takes 2 or more"),
        ([layer("ReLU", tops=["a", "b"])], "layer 'x' (ReLU): 2 tops; takes 1"),
        ([layer("Convolution", "convolution_param { num_output: 4 kernel_size: 9 }")],
         "kernel (9, 9) with dilation (1, 1) is larger than its bottom (2, 3, 8, 8) with pad (0, 0)"),
        ([layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 group: 2 }")],
         "num_output 4 and 3 channels must be multiples of group 2"),
        ([layer("Convolution", "convolution_param { num_output: 4 }")], "no kernel_size is set"),
        ([layer("Convolution", "convolution_param { num_output: 4 kernel_size: [3, 3, 3] }")],
         "3 values of kernel_size for 2 spatial axes; takes 1 or 2"),
        ([layer("Pooling", "pooling_param { kernel_size: 2 pad: 2 }")], "pad 2 is not smaller than kernel 2"),
        ([layer("Pooling", "pooling_param { kernel_size: 30 }")], "kernel 30 is larger than its bottom (2, 3, 8, 8)"),
        ([layer("Pooling", "pooling_param { pool: AVE kernel_size: 2 }", tops=["a", "b"])], "AVE pooling has no mask"),
        ([layer("LRN", "lrn_param { local_size: 4 norm_region: WITHIN_CHANNEL }")],
         "layer 'x' (LRN): lrn_param sets norm_region WITHIN_CHANNEL with an even local_size 4; Caffe requires an odd one"),
        ([layer("Softmax", "softmax_param { axis: 4 }")], "axis 4 of a bottom with 4 axes"),
        ([layer("Slice", tops=["a", "b"])], "3 values along axis 1 do not part evenly into 2 tops"),
        ([layer("Slice", "slice_param { slice_point: 3 }", tops=["a", "b"])], "slice_point [3] for 2 tops of 3 values"),
        ([layer("Reshape", "reshape_param { shape { dim: 0 dim: 5 dim: -1 } }")], "do not fit shape [0, 5, -1]"),
    ],
)  # fmt: skip
def test_networks_that_do_not_fit_together(parts, why, tmp_path):
    prototxt, _ = make(tmp_path, text_of(*parts))
    with pytest.raises(NetError) as caught:
        loading.load(prototxt)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shapes_that_do_not_fit_name_both(tmp_path):
    text = inputs(a=(2, 3, 4, 4), b=(2, 3, 4, 5)) + layer("Eltwise", bottoms=["a", "b"])
    with pytest.raises(NetError, match=r"bottoms of shapes \(2, 3, 4, 4\) and \(2, 3, 4, 5\); must be equal"):
        loading.load(make(tmp_path, text)[0])


def test_everything_unsupported_is_said_at_once_before_weights_are_read(tmp_path):
    text = text_of(
        layer("Warp", name="r"),
        layer("Convolution", CONV, tops=["c"], name="c"),
        layer("Correlation", "correlation_param { do_abs: true }", bottoms=["c", "c"], tops=["d"], name="d"),
        layer("Segmentation", bottoms=["d"], tops=["e"], name="e"),
    )
    with pytest.raises(UnsupportedLayer) as caught:
        loading.load(*make(tmp_path, text))  # the convolution has no weights either
    lines = str(caught.value).splitlines()
    assert lines[0] == "layer 'r': type 'Warp' is not supported"
    assert "layer 'd' (Correlation): correlation_param sets 'do_abs', which is not computed" in lines[1]
    assert lines[2] == "layer 'e': type 'Segmentation' is not supported"
    with pytest.raises(UnsupportedParameter):
        loading.load(make(tmp_path, text_of(layer("Correlation", "correlation_param { do_abs: true }")))[0])


def test_weights_that_do_not_belong(tmp_path):
    text = text_of(layer("Convolution", CONV))
    with pytest.raises(
        WeightMismatch,
        match="the file has weights of no layer, the network wants those of x: they have no layer in common",
    ):
        loading.load(*make(tmp_path, text))
    with pytest.raises(
        WeightMismatch, match=r"kernel has shape \(4, 3, 3, 2\) in the file, the layer wants \(4, 3, 3, 3\)"
    ):
        loading.load(*make(tmp_path, text, {"x": [(4, 3, 3, 2), (4,)]}))
    with pytest.raises(WeightMismatch, match=r"the file has 3 blobs .* the layer takes 2"):
        loading.load(*make(tmp_path, text, {"x": [(4, 3, 3, 3), (4,), (4,)]}))
    with pytest.raises(WeightMismatch, match=r"the file has 1 blobs .* the layer takes 2"):
        loading.load(*make(tmp_path, text, {"x": [(4, 3, 3, 3)]}))


def test_what_the_file_lacks_keeps_its_filler(tmp_path):
    known = layer("Bias", bottoms=["data"], tops=["b"], name="b")
    text = text_of(known, layer("Scale", "scale_param { filler { value: 3 } }", ["b"], ["s"], "s"))
    net = loading.load(*make(tmp_path, text, {"b": [(3,)]}))
    assert net.arrays["s"][0].tolist() == [3, 3, 3]
    assert net.notes == (
        "layer 's' (Scale): the file has no gamma for it; they keep what their fillers say, as in Caffe",
    )
    chance = text + layer("Convolution", CONV.replace("}", "weight_filler { type: 'msra' } }"), ["s"], ["c"], "c")
    with pytest.raises(
        WeightMismatch, match=r"layer 'c' \(Convolution\): the file has no kernel for it, and its filler is"
    ):
        loading.load(*make(tmp_path, chance, {"b": [(3,)]}))


def test_batch_norm_that_no_file_knows_divides_by_epsilon(tmp_path):
    """Caffe's statistics start at 0; a variance of 1 would be the usual reading."""
    text = text_of(layer("Bias", tops=["b"], name="b"), layer("BatchNorm", bottoms=["b"], name="n"))
    net = loading.load(*make(tmp_path, text, {"b": [np.zeros(3)]}))
    x = np.ones(net.inputs["data"], np.float32)
    np.testing.assert_allclose(caffe2tf.forward(net, {"data": x})["top"], x / np.sqrt(1e-5), rtol=1e-5)


def test_names_of_their_own(tmp_path):
    text = text_of(
        layer("ReLU", tops=["a"]), layer("Bias", bottoms=["a"], tops=["b"]), layer("ReLU", bottoms=["b"], name="")
    )
    net = loading.load(make(tmp_path, text)[0])
    assert [node.layer.name for node in net.nodes] == ["data", "x", "x_1", "ReLU"]
    assert net.notes == (
        "layer 'x_1' (Bias) is called so here: the name 'x' is another layer's too",
        "layer 'ReLU' (ReLU) is called so here: it has no name",
    )


def test_weights_of_other_layers_are_left_out_with_a_note(tmp_path):
    _, caffemodel = make(tmp_path, text_of(layer("Convolution", CONV)), {"x": [(4, 3, 3, 3), (4,)]})
    (tmp_path / "other.prototxt").write_text(text_of(layer("ReLU", name="r")))
    net = loading.load(str(tmp_path / "other.prototxt"), caffemodel)
    assert net.notes == ("weights of layers that the network does not have are left out: x",)


def test_legacy_extents_are_matched_without_leading_ones(tmp_path):
    text = inputs(data=(1, 6)) + layer("InnerProduct", "inner_product_param { num_output: 2 }")
    prototxt, caffemodel = make(tmp_path, text)
    net = caffe_pb2.NetParameter(name="n")
    blobs = net.layer.add(name="x", type="InnerProduct").blobs
    blobs.add(num=1, channels=1, height=2, width=6, data=range(12))
    blobs.add(num=1, channels=1, height=1, width=2, data=[1, 2])
    (tmp_path / "net.caffemodel").write_bytes(net.SerializeToString())
    kernel = loading.load(prototxt, caffemodel).weights["x"]["kernel"]
    np.testing.assert_array_equal(kernel, np.arange(12).reshape(2, 6).T)
    blobs[0].num, blobs[0].height = 2, 1
    (tmp_path / "net.caffemodel").write_bytes(net.SerializeToString())
    with pytest.raises(WeightMismatch, match=r"shape \(2, 1, 1, 6\) in the file, the layer wants \(2, 6\)"):
        loading.load(prototxt, caffemodel)


def test_shared_parameters_are_one_array(tmp_path):
    spec = 'param { name: "w" } param { name: "b" }'
    text = text_of(layer("Convolution", spec + CONV, tops=["a"], name="a"), layer("Convolution", spec + CONV, name="b"))
    net = loading.load(*make(tmp_path, text, {"a": [(4, 3, 3, 3), (4,)]}))
    assert np.shares_memory(net.arrays["a"][0], net.arrays["b"][0])
    from caffe2tf.inspection.summary import summarize

    assert summarize(net)["parameters"] == 4 * 27 + 4


def test_a_snapshot_alone_settles_extents_by_its_weights(tmp_path):
    data = 'layer { name: "d" type: "Data" top: "data" include { phase: TRAIN } }'
    conv = layer("Convolution", CONV, tops=["c"], name="c")
    text = data + conv + layer("InnerProduct", "inner_product_param { num_output: 2 }", bottoms=["c"], name="ip")
    _, caffemodel = make(tmp_path, text, {"c": [(4, 3, 3, 3), (4,)], "ip": [(2, 4 * 25), (2,)]})
    net = loading.load(None, caffemodel)
    assert net.inputs == {"data": (1, 3, None, None)}
    assert net.unknown_size == ["data"]
    assert net.blobs["c"] == (1, 4, None, None)
    assert net.blobs["top"] == (1, 2)
    assert any("its bottom is taken as 5x5" in note for note in net.notes)
    kernel = net.arrays["ip"][0].reshape(2, 4, 5, 5).transpose(2, 3, 1, 0).reshape(100, 2)
    np.testing.assert_array_equal(net.weights["ip"]["kernel"], kernel)
    sized = loading.load(None, caffemodel, input_shape={None: (1, 3, 7, 7)})
    np.testing.assert_array_equal(sized.weights["ip"]["kernel"], kernel)
    _, caffemodel = make(tmp_path, text, {"c": [(4, 3, 3, 3), (4,)], "ip": [(2, 4 * 15), (2,)]})
    with pytest.raises(NetError, match=r"layer 'ip' \(InnerProduct\): 60 inputs are no square .*`input_shape`"):
        loading.load(None, caffemodel)
    net = loading.load(None, caffemodel, input_shape={"data": (1, 3, 5, 7)})
    assert net.weights["ip"]["kernel"].shape == (60, 2)


@pytest.mark.parametrize(
    "name", ["lenet/lenet_iter_10000", "squeezenet_v1.0/squeezenet_v1.0", "mtcnn/det1", "mtcnn/det2", "mtcnn/det3"]
)
def test_trained_snapshots_read_alone(name, shared):
    net = loading.load(None, str(shared / "models" / f"{name}.caffemodel"))
    assert len(net.arrays) > 3
    assert all(len(net.weights[layer]) for layer in net.arrays)
    text = {"lenet": "lenet.prototxt", "squeezenet_v1.0": "deploy.prototxt"}
    folder, stem = name.split("/")
    deploy = shared / "models" / folder / text.get(folder, f"{stem}.prototxt")
    both = loading.load(str(deploy), str(shared / "models" / f"{name}.caffemodel"))
    for layer_name in both.arrays:
        for key, array in both.weights[layer_name].items():
            np.testing.assert_array_equal(array, net.weights[layer_name][key])


def test_reshape_keeps_weights_or_says_why_not():
    net = load(GOLDEN / "layers" / "conv_basic")
    assert net.reshape({"data": (5, 3, 20, 9)}).blobs["conv"] == (5, 6, 18, 7)
    with pytest.raises(NetError, match=r"layer 'conv' \(Convolution\): with inputs"):
        net.reshape({"data": (5, 4, 20, 9)})


def test_nearest_names():
    net = load(GOLDEN / "layers" / "conv_basic")
    with pytest.raises(NetError, match="no layer 'convv'; nearest: conv"):
        net.layer("convv")


def test_nested_messages_count_through_the_fields_that_the_layer_names():
    text = layer("DetectionOutput", "detection_output_param { nms_param { top_k: 5 } num_classes: 2 }")
    param = parameter(text).layer[0].detection_output_param
    assert set(set_fields(param)) == {"num_classes", "nms_param"}
    assert set(set_fields(param, {"nms_param.eta"})) == {"num_classes", "nms_param", "nms_param.top_k"}


def test_a_type_registered_twice_is_refused():
    with pytest.raises(TypeError, match="the type 'ReLU' is already that of ReLU"):
        type("Other", (layers.Layer,), {}, type="NewType ReLU")
    assert "NewType" not in layers.REGISTRY
    assert layers.REGISTRY["ReLU"].__name__ == "ReLU"


def test_every_field_of_a_row_exists_in_the_schema():
    for kind, row in layers.REGISTRY.items():
        names = {field.split(".")[0] for field in row.fields}
        if row.param is None:
            assert not names, kind
            continue
        known = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name[row.param].message_type.fields_by_name
        assert names <= set(known), kind


def test_a_layer_named_as_the_data_is_no_data(tmp_path):
    text = (
        'layer { name: "data" type: "Data" top: "data" top: "label" data_param { batch_size: 4 } transform_param { crop_size: 4 } }'
        + layer("Scale", bottoms=["data"], tops=["data"], name="data")
    )
    net = loading.load(make(tmp_path, text)[0], input_shape={"data": (1, 3, 4, 4)})
    assert [(node.layer.name, node.layer.type) for node in net.nodes] == [("data_1", "Input"), ("data", "Scale")]
    assert list(net.inputs) == ["data"]


def test_items_that_a_filter_lets_through_and_the_next_layer_does_not_take(tmp_path):
    text = inputs(data=(3, 2), s=(3,)) + layer("Filter", bottoms=["data", "s"], tops=["f"], name="f")
    text += layer("InnerProduct", "inner_product_param { num_output: 2 axis: 0 }", ["f"], ["p"], "p")
    net = loading.load(*make(tmp_path, text, {"p": [(2, 6), (2,)]}))
    x = np.ones((3, 2), np.float32)
    assert caffe2tf.forward(net, {"data": x, "s": np.ones(3)})["p"].shape == (2,)
    with pytest.raises(NetError, match="as many items as layer 'f' lets through do not fit"):
        caffe2tf.forward(net, {"data": x, "s": np.array([1, 0, 1])})


def test_a_bias_of_scalars_has_no_axis(tmp_path):
    text = inputs(a=(2,), b=()) + layer("Reduction", "reduction_param { axis: 0 }", ["a"], ["r"], "r")
    with pytest.raises(NetError, match="axis 0 of a bottom with 0 axes"):
        loading.load(make(tmp_path, text + layer("Scale", "scale_param { axis: 0 bias_term: true }", ["r", "b"]))[0])


def test_a_permute_that_moves_nothing_lies_in_the_memory_of_its_bottom(tmp_path):
    for order, moved in (("order: 0", False), ("order: 0 order: 2 order: 1", True)):
        text = inputs(data=(1, 2, 2)) + layer("Permute", f"permute_param {{ {order} }}", ["data"], ["p"], "p")
        text += layer("Power", "power_param { shift: 1 }", ["p"], ["p"], "add")
        net = loading.load(make(tmp_path, text)[0])
        x = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
        expected = x if moved else x + 1
        assert caffe2tf.forward(net, {"data": x})["data"].tolist() == expected.tolist()
        assert reference.compute(net, {"data": x})["data"].tolist() == expected.tolist()


def test_what_a_filter_let_through_changes_with_what_shares_its_memory(tmp_path):
    text = inputs(data=(3, 2), s=(3,)) + layer("Filter", bottoms=["data", "s"], tops=["f"], name="f")
    text += layer("Reshape", "reshape_param { shape { dim: 1 dim: 2 } axis: 1 }", ["f"], ["r"], "r")
    text += layer("Power", "power_param { shift: 1 }", ["r"], ["r"], "add")
    net = loading.load(make(tmp_path, text)[0])
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = caffe2tf.forward(net, {"data": x, "s": np.array([1, 0, 1])})
    assert found["r"].tolist() == [[[1, 2]], [[5, 6]]]
    assert found["f"].tolist() == [[1, 2], [5, 6]]


@pytest.mark.parametrize(
    ("kind", "params", "windows"),
    [
        ("Flatten", "", False),
        ("Flatten", "flatten_param { axis: 2 }", False),
        ("ArgMax", "", False),
        ("Reduction", "reduction_param { axis: 2 }", False),
        ("Pooling", "pooling_param { pool: AVE kernel_size: 1 stride: 3 }", True),
        ("Im2col", "convolution_param { kernel_size: 2 }", True),
        ("SPP", "spp_param { pyramid_height: 2 }", True),
        ("Interp", "interp_param { zoom_factor: 2 }", True),
    ],
)
def test_items_that_a_filter_counted_along_another_axis(tmp_path, kind, params, windows):
    text = inputs(data=(5, 2, 3, 3), s=(5,)) + layer("Filter", bottoms=["data", "s"], tops=["f"], name="f")
    text += layer("Permute", "permute_param { order: 2 order: 1 order: 0 order: 3 }", ["f"], ["p"], "p")
    net = loading.load(make(tmp_path, text + layer(kind, params, ["p"], ["top"], "x"))[0])
    given = {"data": np.random.RandomState(0).randn(5, 2, 3, 3), "s": np.array([1, 0, 1, 1, 0])}
    if windows:
        with pytest.raises(NetError, match=rf"layer 'x' \({kind}\): has windows over what a Filter before it counts"):
            caffe2tf.forward(net, given)
        return
    found, expected = caffe2tf.forward(net, given)["top"], reference.compute(net, given)["top"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_items_that_a_filter_counted_as_channels_of_im2col(tmp_path):
    text = inputs(data=(3, 2, 2), s=(3,)) + layer("Filter", bottoms=["data", "s"], tops=["f"], name="f")
    text += layer("Im2col", "convolution_param { kernel_size: 2 axis: 0 }", ["f"], ["top"], "x")
    net = loading.load(make(tmp_path, text)[0])
    found = caffe2tf.forward(net, {"data": np.arange(12.0).reshape(3, 2, 2), "s": np.array([0, 1, 1])})["top"]
    assert found.ravel().tolist() == list(range(4, 12))


def test_a_learned_bias_keeps_an_extent_of_one(tmp_path):
    text = inputs(data=(1, 1, 6, 1)) + layer("Bias", bottoms=["data"], tops=["b"], name="b")
    text += layer("InnerProduct", "inner_product_param { num_output: 4 }", ["b"], ["top"], "fc")
    net = loading.load(*make(tmp_path, text, {"b": [(1,)], "fc": [(4, 6), (4,)]}))
    x = np.random.RandomState(0).randn(1, 1, 6, 1)
    found = caffe2tf.forward(net, {"data": x})["top"]
    np.testing.assert_allclose(found, reference.compute(net, {"data": x})["top"], atol=1e-5)


def test_an_axis_put_before_the_items(tmp_path):
    text = inputs(data=(3, 2), s=(3,)) + layer("Filter", bottoms=["data", "s"], tops=["f"], name="f")
    text += layer("Reshape", "reshape_param { shape { dim: 1 } num_axes: 0 }", ["f"], ["top"], "r")
    net = loading.load(make(tmp_path, text)[0])
    given = {"data": np.arange(6.0).reshape(3, 2), "s": np.array([1, 0, 1])}
    assert caffe2tf.forward(net, given)["top"].tolist() == [[[0, 1], [4, 5]]]
    text = inputs(data=(3, 2)) + layer(
        "Reshape", "reshape_param { shape { dim: 1 } num_axes: 0 }", ["data"], ["top"], "r"
    )
    net = loading.load(make(tmp_path, text)[0])
    assert caffe2tf.to_keras(net).input_shape == (3, 2)  # of six items it would make two of three


def test_items_that_are_overwritten_after_they_were_read(tmp_path):
    text = inputs(data=(3, 2), items=(2,)) + layer("BatchReindex", bottoms=["data", "items"], tops=["top"], name="r")
    text += layer("Reshape", "reshape_param { shape { dim: 2 } }", ["items"], ["seen"], "view")
    text += layer("Power", "power_param { shift: -5 }", ["seen"], ["seen"], "add")
    net = loading.load(make(tmp_path, text)[0])
    found = caffe2tf.forward(net, {"data": np.arange(6.0).reshape(3, 2), "items": np.array([2, 0])})
    assert found["top"].tolist() == [[4, 5], [0, 1]]
    assert found["items"].tolist() == [-3, -5]
