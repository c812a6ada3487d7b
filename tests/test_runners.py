"""Whole models that classify can run, and those that it cannot: each format says why in one line."""

import numpy as np
import pytest

import caffe2tf
from caffe2tf import formats
from caffe2tf.errors import OutputError, ParseError
from caffe2tf.formats import _reload
from tests.helpers import inputs, layer, make

pytest.importorskip("tensorflow")

KINDS = ("keras", "savedmodel", "tflite", "onnx")
SCORES = layer("InnerProduct", "inner_product_param { num_output: 4 }", tops=["s"], name="ip")


def written(net, kind, folder):
    path = f"{folder}/x" + ("" if kind == "savedmodel" else f".{kind}")
    formats.save(net, path, to=kind)
    return path


def refused(kind, text, blobs, folder):
    net = caffe2tf.load(*make(folder, text, blobs))
    path = written(net, kind, folder)
    with pytest.raises(ParseError) as caught:
        formats.module(kind).runner(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_no_pictures_come_in(tmp_path):
    said = {kind: refused(kind, inputs(data=(2, 3)) + SCORES, {"ip": [(4, 3), (4,)]}, tmp_path) for kind in KINDS}
    assert said == {
        "keras": "has no single image input; its input is (None, 3)",
        "savedmodel": "has no image input; its input is float32 (None, 3)",
        "tflite": "has no single image input of float32 or uint8; its inputs are float32 [1, 3]",
        "onnx": "has no single image input N x H x W x 3 or 1; its inputs are data tensor(float) ['N', 3]",
    }


def test_several_things_come_out(tmp_path):
    text = inputs(data=(1, 3, 2, 2)) + SCORES + layer("ReLU", name="r", tops=["r"])
    said = {kind: refused(kind, text, {"ip": [(4, 12), (4,)]}, tmp_path) for kind in KINDS}
    assert said["keras"] == "has outputs of [(None, 4), (None, 2, 2, 3)]; classify takes networks with one"
    assert said["savedmodel"] in [
        f"has the outputs {both}; classify takes networks with one" for both in ("s, r", "r, s")
    ]
    outputs, _, rest = said["tflite"].removeprefix("has the outputs ").partition("; ")
    assert sorted(outputs.split(", float32 ")) == ["[1, 4]", "float32 [1, 2, 2, 3]"]
    assert rest == "classify takes networks with one, of float32"
    outputs, _, rest = said["onnx"].removeprefix("has the outputs ").partition("; ")
    assert sorted(outputs.split("], ")) in (
        ["r tensor(float) ['N', 2, 2, 3", "s tensor(float) ['N', 4]"],
        ["r tensor(float) ['N', 2, 2, 3]", "s tensor(float) ['N', 4"],
    )
    assert rest == "classify takes networks with one, of floats"


def test_a_runner_says_what_it_takes_and_gives(tmp_path):
    """The batch is free in .onnx alone; a batch of another size goes through the others too where they can."""
    text = inputs(data=(1, 3, 5, 4)) + SCORES
    net = caffe2tf.load(*make(tmp_path, text, {"ip": [(4, 60), (4,)]}))
    image = np.random.RandomState(0).rand(1, 3, 5, 4).astype(np.float32)
    wanted = caffe2tf.forward(net, {"data": image})["s"]
    for kind in KINDS:
        runner = formats.module(kind).runner(written(net, kind, tmp_path))
        assert runner.shape[1:] == (3, 5, 4), kind
        assert runner.outputs == 4
        assert runner.shape[0] in (None, 1)
        np.testing.assert_allclose(runner.call(image.transpose(0, 2, 3, 1)), wanted, rtol=1e-5, atol=1e-6)


def test_what_is_read_back_is_compared():
    one = np.array([[1.0, 2.0, np.inf]])
    assert _reload.largest_difference("x", [one], [one + [[0.0, 0.25, 0.0]]]) == 0.25
    assert _reload.largest_difference("x", [one[:, 2:]], [one[:, 2:]]) == 0.0
    for other in (one[0], one + [[0.0, np.nan, 0.0]], one[:, :2]):
        with pytest.raises(OutputError, match="x: read back, it gives shape"):
            _reload.largest_difference("x", [one], [other])
