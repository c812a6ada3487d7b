"""What Caffe accepts is accepted, all that is wrong is said at once, and an input without a shape gets a likely one."""

from pathlib import Path

import pytest

import caffe2tf
from caffe2tf import loading
from caffe2tf.caffe import caffe_pb2
from caffe2tf.errors import NetError, ParseError, ShapeNeeded, UnsupportedLayer
from tests.helpers import inputs, layer, make, run

CONV = "convolution_param { num_output: 4 kernel_size: 3 %s }"
DATA = inputs(data=(1, 3, 8, 8))
OPEN = 'layer { name: "d" type: "Data" top: "data" }'


def write(folder, *parts):
    path = folder / "net.prototxt"
    path.write_text("\n".join(parts))
    return path


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    "part",
    [
        layer("Convolution", CONV % "engine: MKL2017", name="c"),
        layer("ReLU", "relu_param { engine: MKLDNN }", name="c"),
        layer("Convolution", CONV % "" + " param { lr_mult: fast }", name="c"),
        layer("SoftmaxWithLoss", "loss_param { normalization: PRE_FIXED ignore_label: none }", name="c"),
    ],
)
def test_values_without_a_part_in_inference_become_notes(tmp_path, part):
    net = loading.load(write(tmp_path, DATA, part))
    assert any("; skipped, for it has no part in inference" in note for note in net.notes)


def test_augmentations_given_twice_are_a_note(tmp_path):
    twice = "transform_param { crop_size: 8 resize_param { height: 8 width: 9 } resize_param { height: 5 width: 5 } }"
    data = layer("ImageData", twice + " image_data_param { is_color: true }", [], ["data"], "d")
    net = loading.load(
        write(tmp_path, data, layer("Convolution", CONV % "", name="c")), input_shape={None: (1, 3, 8, 8)}
    )
    assert (net.transforms["data"].resize_param.height, net.transforms["data"].resize_param.width) == (8, 9)
    assert any("field 'resize_param' is given twice; skipped" in note for note in net.notes)


def test_a_fault_of_a_layer_that_goes_is_a_note(tmp_path):
    train = layer("Pooling", "pooling_param { pool: MEAN } include { phase: TRAIN }", tops=["p"], name="p")
    net = loading.load(write(tmp_path, DATA, train, layer("ReLU", name="r")))
    assert any("found MEAN (layer 'p'): dropped with its layer" in note for note in net.notes)
    with pytest.raises(ParseError, match=r"net\.prototxt:\d+: field 'pool' takes .* found MEAN \(layer 'p'\)"):
        loading.load(write(tmp_path, DATA, train.replace("TRAIN", "TEST")))


def test_a_snapshots_unknown_value_is_told_where_it_matters(tmp_path):
    text = DATA + layer("Pooling", "pooling_param { kernel_size: 2 }", name="p")
    net = caffe_pb2.NetParameter.FromString(Path(make(tmp_path, text)[1]).read_bytes())
    net.layer[1].pooling_param.MergeFromString(b"\x08\x07")  # field 1, pool: 7
    assert not net.layer[1].pooling_param.HasField("pool")
    path = tmp_path / "other.caffemodel"
    path.write_bytes(net.SerializeToString())
    with pytest.raises(ParseError, match=r"field 'pool' has a value that Caffe does not know \(layer 'p'\)"):
        loading.load(path)
    net.layer[1].pooling_param.Clear()
    net.layer[1].pooling_param.MergeFromString(b"\x10\x02\x18\x02\x58\x07")  # field 11, engine: 7
    path.write_bytes(net.SerializeToString())
    assert loading.load(path).blobs["top"] == (1, 3, 4, 4)


# ------------------------------------------------------------------------------------------------ V1


def test_a_forks_v1_types_by_name_and_todays_types_in_v1_layers(tmp_path):
    text = """input: "data" input_dim: [1, 3, 8, 8]
      layers { name: "p" type: PRELU bottom: "data" top: "p" }
      layers { name: "s" type: "Softmax" bottom: "p" top: "s" }"""
    net = loading.load(write(tmp_path, text))
    assert [node.layer.type for node in net.nodes] == ["Input", "PReLU", "Softmax"]
    with pytest.raises(UnsupportedLayer, match="layer 'c': type 'CROP' is not supported"):
        loading.load(write(tmp_path, text, 'layers { name: "c" type: CROP bottom: "s" bottom: "data" top: "c" }'))


def test_layers_of_two_generations_in_the_order_in_which_they_are_made(tmp_path):
    old = 'layers { name: "s" type: SOFTMAX bottom: "r" top: "s" }'
    net = loading.load(write(tmp_path, old, DATA, layer("ReLU", tops=["r"], name="r")))
    assert [node.layer.name for node in net.nodes] == ["data", "r", "s"]
    assert any("two generations" in note for note in net.notes)
    old = 'input: "data" input_dim: [1, 3, 8, 8] layers { name: "s" type: SOFTMAX bottom: "data" top: "s" }'
    net = loading.load(write(tmp_path, layer("ReLU", bottoms=["s"], name="r"), old))
    assert [node.layer.name for node in net.nodes] == ["data", "s", "r"]


def test_an_input_without_shape_beside_its_layer(tmp_path):
    net = loading.load(write(tmp_path, 'input: "data"', DATA, layer("ReLU", name="r")))
    assert net.inputs == {"data": (1, 3, 8, 8)}


# ------------------------------------------------------------------------------------------------ all at once

MANY = "\n".join(
    [
        DATA,
        layer("Warp", tops=["w"], name="w"),
        layer("ReLU", bottoms=["w"], tops=["behind"], name="behind"),
        layer("LRN", "lrn_param { local_size: 4 }", tops=["l"], name="l"),
        layer("Pooling", "pooling_param { kernel_size: 2 pad: 2 }", tops=["p"], name="p"),
        layer("Concat", bottoms=["data", "nowhere"], tops=["c"], name="c"),
        layer("ReLU", bottoms=["c"], name="x"),
    ]
)


def test_all_that_is_wrong_with_a_network_is_said_at_once(tmp_path):
    with pytest.raises(UnsupportedLayer) as caught:
        loading.load(write(tmp_path, MANY))
    lines = str(caught.value).splitlines()
    assert [line.split("'")[1] for line in lines] == ["w", "l", "p", "c"]
    with pytest.raises(NetError) as caught:
        loading.load(write(tmp_path, MANY.replace("Warp", "TanH")))
    assert str(caught.value).splitlines() == lines[1:]


def test_faults_of_the_text_come_with_those_of_the_network(tmp_path):
    pool = layer("Pooling", 'pooling_param { pool: MEAN kernel_size: "x" stride: -1 }', tops=["q"], name="q")
    path = write(tmp_path, MANY, pool)
    with pytest.raises(ParseError) as caught:
        loading.load(path)
    lines = str(caught.value).splitlines()
    assert [line.startswith(f"{path}:") for line in lines] == [True] * 3 + [False] * 4
    for field, line in zip(["pool", "kernel_size", "stride"], lines, strict=False):
        assert f"'{field}'" in line
        assert line.endswith("(layer 'q')")
    shown = run("inspect", path, code=1).stderr
    assert all(line.replace(str(path), "") in shown.replace(str(path), "") for line in lines)


# ------------------------------------------------------------------------------------------------ shapes


@pytest.mark.parametrize(
    ("parts", "likely"),
    [
        ([OPEN, layer("Convolution", CONV % "", name="c")], {"data": (1, 3, 224, 224)}),
        (['input: "data"', layer("Convolution", CONV % "", name="c")], {"data": (1, 3, 224, 224)}),
        ([OPEN, layer("Embed", "embed_param { input_dim: 9 num_output: 2 }", name="e")], {"data": (1, 16)}),
        ([OPEN, layer("Pooling", "pooling_param { kernel_size: 2 }", name="p")], {"data": (1, 3, 224, 224)}),
        ([OPEN, layer("Convolution", CONV.replace("3 %", "11 stride: 4 %") % "", name="c")], {"data": (1, 3, 227, 227)}),
        (['name: "LeNet"', OPEN, layer("Convolution", CONV % "", name="c")], {"data": (1, 1, 28, 28)}),
        ([OPEN.replace('"d"', '"cifar"'), layer("Convolution", CONV % "", name="c")], {"data": (1, 3, 32, 32)}),
        ([OPEN.replace("top:", "transform_param { crop_size: 99 } top:"), layer("Convolution", CONV % "", name="c")],
         {"data": (1, 3, 99, 99)}),
        ([OPEN, layer("Convolution", "convolution_param { num_output: 8 group: 4 kernel_size: 3 }", name="c")],
         {"data": (1, 4, 224, 224)}),
        ([OPEN, layer("Reshape", "reshape_param { shape { dim: [-1, 10, 56, 48] } }", name="r")],
         {"data": (1, 10, 56, 48)}),
        ([OPEN, layer("Slice", "slice_param { slice_point: [3, 5] }", tops=["a", "b", "c"], name="s")],
         {"data": (1, 7, 224, 224)}),
        ([OPEN.replace('"data"', '"data" top: "mask"'), layer("Convolution", CONV % "pad: 1 stride: 2", tops=["c"], name="c"),
          layer("Eltwise", bottoms=["c", "mask"], tops=["e"], name="e"), layer("TanH", bottoms=["e"], name="t")],
         {"data": (1, 3, 224, 224), "mask": (1, 4, 112, 112)}),
    ],
)  # fmt: skip
def test_a_likely_shape_is_one_that_every_layer_takes(tmp_path, parts, likely):
    path = write(tmp_path, *parts)
    with pytest.raises(ShapeNeeded, match="nothing tells") as caught:
        loading.load(path)
    assert caught.value.likely == likely
    assert loading.load(path, input_shape=caught.value.likely).inputs == likely
    for name, shape in likely.items():
        assert ("" if len(likely) == 1 else f"{name}=") + ",".join(map(str, shape)) in str(caught.value)


def test_inspect_takes_the_likely_shape_and_says_so(tmp_path):
    path = write(tmp_path, OPEN, layer("Convolution", CONV % "", name="c"))
    found = caffe2tf.inspect(path)
    assert found["inputs"] == {"data": [1, 3, 224, 224]}
    assert found["parameters"] == 4 * 3 * 9 + 4
    assert any("a guess" in note for note in found["notes"])
    assert "--input-shape 1,3,224,224" in run("inspect", path).stderr
    assert caffe2tf.inspect(path, input_shape={"data": (1, 1, 9, 9)})["inputs"] == {"data": [1, 1, 9, 9]}


def test_no_shape_is_named_where_none_fits(tmp_path):
    path = write(tmp_path, OPEN, layer("Reshape", "reshape_param { shape { dim: [7, 11, 13] } }", name="r"))
    with pytest.raises(ShapeNeeded, match="give it with `input_shape`\nlayer 'r'") as caught:
        loading.load(path)
    assert caught.value.likely == {}


def test_types_that_are_not_supported_are_said_before_a_shape_is_asked_for(tmp_path):
    path = write(
        tmp_path, OPEN, layer("Convolution", CONV % "", tops=["c"], name="c"), layer("Warp", bottoms=["c"], name="w")
    )
    with pytest.raises(UnsupportedLayer) as caught:
        loading.load(path)
    assert str(caught.value).splitlines()[0] == "layer 'w': type 'Warp' is not supported"
