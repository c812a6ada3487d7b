"""The .onnx that convert writes: names, shapes, values, what it lacks, and what is refused."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import caffe2tf
from caffe2tf.arrays.layout import keras_order
from caffe2tf.errors import OutputError, ParseError
from tests.bench.onnx import difference
from tests.helpers import GOLDEN, ROOT, inputs, layer, load, load_small, make, run

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def test_a_file_has_the_names_of_the_blobs_and_a_free_batch(tmp_path):
    text = inputs(**{"in": (2, 3, 6, 7)}).replace('"in"', '"in/1"')
    text += layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", ["in/1"], ["out/a"], name="a")
    text += layer("Sigmoid", bottoms=["in/1"], tops=["b c"], name="b")
    net = caffe2tf.load(*make(tmp_path, text, {"a": [(4, 3, 3, 3), (4,)]}))
    assert caffe2tf.save(net, str(tmp_path / "x.onnx")) < 1e-5
    held = onnx.load(tmp_path / "x.onnx")
    onnx.checker.check_model(held, full_check=True)
    assert [item.version for item in held.opset_import if not item.domain] == [18]
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    assert [item.name for item in session.get_inputs()] == ["in/1"]
    assert sorted(item.name for item in session.get_outputs()) == ["b c", "out/a"]
    given = np.random.RandomState(0).rand(5, 3, 6, 7).astype(np.float32)
    found = session.run(["out/a", "b c"], {"in/1": given.transpose(0, 2, 3, 1)})
    blobs = caffe2tf.forward(net, {"in/1": given})
    for name, value in zip(["out/a", "b c"], found, strict=True):
        np.testing.assert_allclose(value.transpose(0, 3, 1, 2), blobs[name], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "conv_group2", "deconv_group", "lstm",
])  # fmt: skip
def test_golden_networks_are_the_same(name, tmp_path):
    path = GOLDEN / "layers" / name
    assert difference(path, str(tmp_path)) <= 1e-5


def test_what_onnx_lacks_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    from caffe2tf.formats import onnx as format_onnx

    monkeypatch.setattr(format_onnx, "_known", lambda node: node.op_type != "Conv")
    text = inputs(data=(1, 3, 6, 7)) + layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }")
    net = caffe2tf.load(*make(tmp_path, text, {"x": [(4, 3, 3, 3), (4,)]}))
    with pytest.raises(OutputError, match="ONNX has no operation for TensorFlow's Conv") as caught:
        caffe2tf.save(net, str(tmp_path / "x.onnx"))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]


def assert_one_line_alone(name, picture):
    """Of a process, since onnxruntime writes past Python."""
    command = [sys.executable, "-m", "caffe2tf", "classify", name, picture, "-q"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not re.match("WARNING: All log|[IE]0000", line)]
    assert len(lines) == 1
    assert lines[0].startswith(f"caffe2tf: {name}: is no .onnx that can be read (")


def test_classify_runs_it_and_refuses_others(here):
    run("convert", "net.caffemodel", "-p", "net.prototxt", "-o", "x.onnx", "-q")
    picture = "train/red/0.png"
    wanted = caffe2tf.classify(load_small(), [picture], top=10)[0].top
    found = caffe2tf.classify("x.onnx", [picture], top=10)[0].top
    assert [number for number, _, _ in found] == [number for number, _, _ in wanted]
    np.testing.assert_allclose([share for *_, share in found], [share for *_, share in wanted], atol=1e-6)
    whole = (here / "x.onnx").read_bytes()
    for name, data in {"text": b"hello", "empty": b"", "cut": whole[: len(whole) // 2]}.items():
        (here / f"{name}.onnx").write_bytes(data)
        said = run("classify", f"{name}.onnx", picture, "-q", code=1).stderr
        assert said.startswith(f"caffe2tf: {name}.onnx: "), said
        assert said.count("\n") == 1
    for name in ("labels.txt", "caffe2tf.json"):
        made = onnx.load_model_from_string(whole)
        del made.metadata_props[:]
        made.metadata_props.add(key=name, value="zebra")
        (here / "note.onnx").write_bytes(made.SerializeToString().replace(b"zebra", b"zebr\xff"))
        with pytest.raises(ParseError, match=r"^note\.onnx: "):
            caffe2tf.classify("note.onnx", [picture])
    held = onnx.load_model_from_string(whole)
    for tensor in held.graph.initializer:
        tensor.dims.append(3)
    (here / "lies.onnx").write_bytes(held.SerializeToString())
    for tensor in held.graph.initializer:
        tensor.dims.pop()
    assert_one_line_alone("lies.onnx", picture)
    (here / "letters.onnx").write_bytes(whole.replace(b"MatMul", b"MatMu\xff"))
    assert_one_line_alone("letters.onnx", picture)
    onnx.external_data_helper.set_external_data(held.graph.initializer[0], "/etc/hostname")
    (here / "other.onnx").write_bytes(held.SerializeToString())
    with pytest.raises(ParseError, match="keeps values in other files"):
        caffe2tf.classify("other.onnx", [picture])
    caffe2tf.save(load(GOLDEN / "layers" / "ip_chain"), "flat.onnx")
    with pytest.raises(ParseError, match="has no single image input N x H x W x 3 or 1"):
        caffe2tf.classify("flat.onnx", [picture])


@pytest.mark.slow
def test_without_its_libraries_the_line_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['tf2onnx'] = None\n"
        "from caffe2tf import formats\nfrom caffe2tf.errors import Caffe2TFError\n"
        "try: formats.module('onnx')\nexcept Caffe2TFError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    line = ".onnx needs tf2onnx; install it with tf2onnx and onnxruntime: pip install 'caffe2tf[onnx]'\n"
    assert done.stdout == line, done.stderr


@pytest.mark.slow
def test_alexnet_and_squeezenet_are_the_same(alexnet, tmp_path):
    """The largest difference is at most 1e-5 of the largest value, and in norm."""
    from caffe2tf.keras_model.model import to_keras

    caffe2tf.sample("squeezenet", tmp_path / "s.caffemodel")
    for source in (alexnet, tmp_path / "s.caffemodel"):
        net = caffe2tf.load(source)
        caffe2tf.save(net, str(tmp_path / "x.onnx"), force=True)
        (shape,) = net.inputs.values()
        extents = [2 if axis == 0 else shape[axis] for axis in keras_order(4)]
        images = np.random.RandomState(0).randint(-120, 140, extents).astype(np.float32)
        expected = np.asarray(to_keras(net)(images)).astype(np.float64)
        (found,) = onnxruntime.InferenceSession(tmp_path / "x.onnx").run(None, {next(iter(net.inputs)): images})
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
