"""What a .tflite and an .onnx give back: the weights that they were made of, to the bit, or which of them they do not hold."""

import json
import zipfile

import numpy as np
import pytest

import caffe2tf
from caffe2tf import formats
from caffe2tf.errors import Caffe2TFError, ParseError
from caffe2tf.formats import _held
from tests.helpers import GOLDEN, inputs, layer, load, make, run

# Kernels that converters turn, split and share, vectors that they merge, and weights inside of loops.
NAMES = ["fire_module", "conv_group2", "deconv_group", "ip_nchw", "bn_scale_inplace", "prelu_shared", "embed", "lstm_static_input"]  # fmt: skip
KINDS = ["tflite", pytest.param("onnx", marks=pytest.mark.slow)]


def bits(net):
    return {(name, key): array.tobytes() for name, arrays in net.weights.items() for key, array in arrays.items()}


def saved(net, folder, kind, **options):
    if kind == "onnx":
        pytest.importorskip("tf2onnx")
    path = folder / f"x.{kind}"
    formats.save(net, path, **options)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tflite", "onnx"])
@pytest.mark.parametrize("name", NAMES)
def test_weights_come_back_to_the_bit(name, kind, tmp_path):
    if kind == "onnx" and name == "bn_scale_inplace":
        name = "conv_bn_scale_relu"  # which no converter to ONNX merges
    net = load(GOLDEN / "layers" / name)
    again = caffe2tf.load(saved(net, tmp_path, kind))
    assert bits(again) == bits(net)
    assert again.text() == net.text()


def test_a_kernel_that_was_merged_is_named(tmp_path, monkeypatch):
    """By every command that needs it; those that do not take the file all the same."""
    monkeypatch.chdir(tmp_path)
    name = saved(load(GOLDEN / "layers" / "conv_bn_scale_relu"), tmp_path, "tflite").name
    why = f"{name}: does not give back conv/kernel, merged, split or packed when it was written; take the file"
    assert run("convert", name, "-o", "y.npz", code=1).stderr.startswith(f"caffe2tf: y.npz: cannot be written: {why}")
    assert why in run("visualize", "filters", name, "conv", code=1).stderr
    assert why in run("inspect", name).stderr
    run("visualize", "graph", name, "-o", "y.svg")


@pytest.mark.slow
def test_half_precision_comes_back_rounded_and_8_bits_do_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = inputs(data=(1, 3, 8, 8)) + layer("InnerProduct", "inner_product_param { num_output: 64 }")
    net = caffe2tf.load(*make(tmp_path, text, {"x": [(64, 192), (64,)]}))
    again = caffe2tf.load(saved(net, tmp_path, "tflite", quantize="float16"))
    kernel = net.weights["x"]["kernel"]
    np.testing.assert_array_equal(again.weights["x"]["kernel"], kernel.astype(np.float16).astype(np.float32))
    assert "x.tflite: its weights were rounded to 16 bits when it was written" in run("inspect", "x.tflite").stderr
    saved(net, tmp_path, "tflite", quantize="weights")
    said = run("convert", "x.tflite", "-o", "y.npz", "-q", code=1).stderr
    assert "x.tflite: does not give back x/kernel" in said
    assert said.count("\n") == 1
    with pytest.raises(Caffe2TFError, match=r"x\.tflite: does not give its weights to a judge"):
        caffe2tf.verify(caffe2tf.load("x.tflite"), against="reference")


def test_places_that_are_not_the_files_are_refused(tmp_path):
    """A note may say anything: what it points at is measured first."""
    text = inputs(data=(1, 3)) + layer("InnerProduct", "inner_product_param { num_output: 2 }")
    net = caffe2tf.load(*make(tmp_path, text, {"x": [(2, 3), (2,)]}))
    whole = saved(net, tmp_path, "tflite")
    with zipfile.ZipFile(whole) as archive:
        note = json.loads(archive.read("caffe2tf.json"))
    plain = whole.read_bytes()
    good = note["weights"]["x/kernel"]
    assert set(good) == {"constant", "order"}
    for place, why in (
        ({**good, "constant": "999"}, "its note says a place of x/kernel where the file holds no such values"),
        ({**good, "order": [0, 0]}, "its note says a place of x/kernel where the file holds no such values"),
        ({**good, "constant": note["weights"]["x/bias"].get("constant", "0")}, "where the file holds no such values"),
        ({"values": "AAAA"}, "its note holds 3 bytes of x/kernel, expected 24"),
        ({"values": "no base64"}, "its note holds 0 bytes of x/kernel, expected 24"),
        ({"order": [0, 1]}, "cannot be read"),
    ):
        whole.write_bytes(plain)
        with zipfile.ZipFile(whole, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("caffe2tf.json", json.dumps({**note, "weights": {**note["weights"], "x/kernel": place}}))
        with pytest.raises(ParseError, match="x.tflite: .*" + why):
            caffe2tf.load(whole)
    whole.write_bytes(plain)
    vast = note["prototxt"].replace("num_output: 2", "num_output: 1000000000")
    with zipfile.ZipFile(whole, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("caffe2tf.json", json.dumps({**note, "prototxt": vast}))
    with pytest.raises(ParseError, match="claims 16000000000 bytes of values in a file of"):
        caffe2tf.load(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_what_others_wrote_is_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if kind == "tflite":
        import tensorflow as tf

        call = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec((1, 2), tf.float32)])
        data = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()]).convert()
    else:
        onnx = pytest.importorskip("onnx")
        value = onnx.helper.make_tensor_value_info("x", 1, [1])
        other = onnx.helper.make_tensor_value_info("y", 1, [1])
        graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", [value], [other])
        data = onnx.helper.make_model(graph).SerializeToString()
    (tmp_path / f"x.{kind}").write_bytes(data)
    for words in (["convert", f"x.{kind}"], ["inspect", f"x.{kind}"], ["visualize", "graph", f"x.{kind}"]):
        said = run(*words, code=1).stderr
        assert said.startswith(f"caffe2tf: x.{kind}: does not hold its network text, as what caffe2tf writes does")
        assert said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras", "tflite"])
def test_weights_without_a_part_are_not_made_up(kind, tmp_path):
    """A BatchNorm by the statistics of the batch computes without the means that it has."""
    path = saved(load(GOLDEN / "layers" / "bn_batch_stats"), tmp_path, kind)
    net = caffe2tf.load(path)
    assert not net.arrays
    with pytest.raises(Caffe2TFError, match="does not hold the moving_mean of layer 'bn' as one of its variables"):
        caffe2tf.save(net, tmp_path / "y.npz")


def test_orders_are_those_of_every_bit():
    """A constant is taken in the order in which all its bits are the value's, 0 and -0 told apart; none where one differs."""
    value = np.random.RandomState(0).rand(3, 3, 2, 5).astype(np.float32)
    value[1, 1, 1, 2] = 0

    class Variable:
        path, numpy = "x/kernel", staticmethod(lambda: value)

    class Model:
        weights = (Variable,)

    turned = np.ascontiguousarray(value.transpose(3, 0, 1, 2))
    assert _held.places(Model, {"a": turned}) == {"x/kernel": {"constant": "a", "order": [3, 0, 1, 2]}}
    for place, new in (((4, 2, 2, 1), np.float32(2)), ((2, 1, 1, 1), np.float32(-0.0))):
        other = turned.copy()
        other[place] = new
        assert _held.places(Model, {"a": other}) == {"x/kernel": None}
    assert _held.places(Model, {"a": turned.astype(np.float16)})["x/kernel"]["order"] == [3, 0, 1, 2]
    value[0, 0, 0, 0] = 1e6  # more than 16 bits take
    with np.errstate(over="ignore"):
        assert _held.places(Model, {"a": value.astype(np.float16)}) == {"x/kernel": None}
