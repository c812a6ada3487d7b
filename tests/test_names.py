"""Names that Caffe allows and TensorFlow does not, and networks that are legal if unusual."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

import caffe2tf
from caffe2tf import formats, loading
from caffe2tf.errors import Caffe2TFError, NetError, OutputError, WeightMismatch
from caffe2tf.net import names
from tests.helpers import GOLDEN, inputs, layer, load, make, run

pytest.importorskip("keras")
CONV = "convolution_param { num_output: 2 kernel_size: 1 }"
STRANGE = ["a b", "a:0", "größe", "a@#", "_a", "-a", "a+b|c", "a/b", "..", "1c"]


def test_strange_layer_names_go_to_every_format(tmp_path):
    text = 'name: "größe net/1" ' + inputs(data=(1, 2, 3, 3)) + "".join(
        layer("Convolution", CONV, bottoms=["data" if i == 0 else f"y{i - 1}"], tops=[f"y{i}"], name=name)
        for i, name in enumerate(STRANGE)
    )  # fmt: skip
    net = loading.load(*make(tmp_path, text, {name: [(2, 2, 1, 1), (2,)] for name in STRANGE}))
    assert len(set(names.keras_names(net).values())) == len(STRANGE)
    for target in ("x.keras", "saved/", "x.tflite"):
        assert formats.save(net, f"{tmp_path}/{target}") < 1e-5
    formats.save(net, str(tmp_path / "x.h5"))
    assert list(formats.module("h5").load(str(tmp_path / "x.h5"))) == STRANGE


def test_names_with_zero_bytes_are_not_cut(tmp_path):
    """A zip archive would: both layers would be one there."""
    text = inputs(data=(1, 2, 3, 3)) + layer("Convolution", CONV, bottoms=["data"], tops=["y"], name=r"a\0b")
    text += layer("Convolution", CONV, bottoms=["y"], name=r"a\0c")
    blobs = {name: [(2, 2, 1, 1), (2,)] for name in ("a\0b", "a\0c")}
    net = loading.load(*make(tmp_path, text, blobs))
    for kind in ("npy", "h5", "safetensors"):
        formats.save(net, f"{tmp_path}/x.{kind}")
        assert list(formats.module(kind).load(f"{tmp_path}/x.{kind}")) == list(blobs)
    with pytest.raises(OutputError, match=r"layer 'a\\x00b': in a .npz a name ends at a zero byte"):
        formats.save(net, f"{tmp_path}/x.npz")
    assert not (tmp_path / "x.npz").exists()


def test_strange_input_names(tmp_path):
    blobs = {"x-1": (1, 3), "x_1": (1, 3), "x/1": (1, 3), "in": (1, 3), "self": (1, 3), "1": (1, 3)}
    text = inputs(**blobs) + layer("Eltwise", bottoms=list(blobs))
    net = loading.load(make(tmp_path, text)[0])
    assert len(set(names.input_names(net).values())) == 6
    for target in ("x.keras", "saved/", "x.tflite"):
        assert formats.save(net, f"{tmp_path}/{target}") < 1e-6


def test_octal_escapes_are_utf8(tmp_path):
    _, caffemodel = make(
        tmp_path, inputs(data=(1, 2, 3, 3)) + layer("Convolution", CONV, name="größe"), {"größe": [(2, 2, 1, 1), (2,)]}
    )
    (tmp_path / "octal.prototxt").write_text(
        (tmp_path / "net.prototxt").read_text().replace("größe", r"gr\303\266\303\237e")
    )
    assert list(loading.load(str(tmp_path / "octal.prototxt"), caffemodel).arrays) == ["größe"]


@pytest.mark.parametrize("kind", ["Eltwise", "Concat"])
@pytest.mark.parametrize("constant", ["DummyData", "Parameter"])
def test_constants_beside_inputs(kind, constant, tmp_path):
    value = np.full((2, 3, 5, 6), 2, np.float32)
    if constant == "DummyData":
        source = layer(
            "DummyData",
            "dummy_data_param { shape { dim: [2, 3, 5, 6] } data_filler { value: 2 } }",
            bottoms=[],
            tops=["k"],
            name="k",
        )
        blobs = {}
    else:
        source = layer("Parameter", "parameter_param { shape { dim: [2, 3, 5, 6] } }", bottoms=[], tops=["k"], name="k")
        blobs = {"k": [value]}
    net = loading.load(*make(tmp_path, inputs(data=value.shape) + source + layer(kind, bottoms=["data", "k"]), blobs))
    x = np.random.RandomState(0).randn(*value.shape).astype(np.float32)
    expected = x + value if kind == "Eltwise" else np.concatenate([x, value], 1)
    np.testing.assert_allclose(caffe2tf.forward(net, {"data": x})["top"], expected)
    assert formats.save(net, str(tmp_path / "x.keras")) == 0


def test_shared_parameters_trained_apart_are_kept_apart(tmp_path):
    share = 'param { name: "w" } param { name: "b" }' + CONV
    text = (
        inputs(data=(1, 2, 3, 3))
        + layer("Convolution", share, tops=["a"], name="a")
        + layer("Convolution", share, name="b")
    )
    net = loading.load(*make(tmp_path, text, {"a": [(2, 2, 1, 1), (2,)]}))
    weights = {name: dict(arrays) for name, arrays in net.weights.items()}
    weights["b"] = {key: array * 0 + 7 for key, array in weights["b"].items()}
    for changed, kernel in ((net, net.weights["a"]["kernel"]), (net.with_weights(weights), np.full((1, 1, 2, 2), 7))):
        formats.save(changed, str(tmp_path / "x.caffemodel"))
        again = loading.load(None, str(tmp_path / "x.caffemodel"))
        np.testing.assert_array_equal(again.weights["b"]["kernel"], kernel)
        np.testing.assert_array_equal(again.weights["a"]["kernel"], net.weights["a"]["kernel"])


def test_the_snapshots_preprocessing_stays_with_a_deploy_text(tmp_path):
    from caffe2tf.images import preprocess

    data = 'layer { name: "d" type: "Data" top: "data" transform_param { crop_size: 3 scale: 0.25 mean_value: 7 force_gray: true } }'
    _, caffemodel = make(tmp_path, data + layer("Convolution", CONV), {"x": [(2, 1, 1, 1), (2,)]})
    (tmp_path / "deploy.prototxt").write_text(inputs(data=(1, 1, 3, 3)) + layer("Convolution", CONV))
    net = loading.load(str(tmp_path / "deploy.prototxt"), caffemodel)
    how, source = preprocess.of(net)
    assert (how.scale, how.mean, source) == (0.25, (7.0,), "the snapshot's transform_param")
    formats.save(net, str(tmp_path / "x.keras"))
    with zipfile.ZipFile(tmp_path / "x.keras") as archive:
        assert json.loads(archive.read(preprocess.FILE))["preprocessing"]["scale"] == 0.25


def test_saved_models_say_what_the_caffemodel_says(shared, tmp_path):
    model = shared / "models" / "squeezenet_v1.0" / "squeezenet_v1.0.caffemodel"
    run("convert", model, "-o", tmp_path / "x.keras", "-o", f"{tmp_path}/saved/", "-q")
    found = [
        json.loads(run("classify", path, shared / "images" / "llama.jpeg", "--json").stdout)["images"][0]["top"]
        for path in (model, tmp_path / "x.keras", tmp_path / "saved")
    ]
    for other in found[1:]:
        assert [item["class"] for item in other] == [item["class"] for item in found[0]]
        assert other[0]["probability"] == pytest.approx(found[0][0]["probability"], abs=1e-6)


def test_networks_that_are_no_classifiers_are_refused(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "x.png")
    text = inputs(data=(1, 3, 8, 8)) + layer("ReLU", tops=["a"], name="a") + layer("TanH", tops=["b"], name="b")
    prototxt, model = make(tmp_path, text + layer("Bias", bottoms=["a"], tops=["c"]), {"x": [(3,)]})
    result = run("classify", model, "-p", prototxt, tmp_path / "x.png", code=1)
    assert "has the outputs b, c; classify takes networks with one" in result.stderr
    net = load(GOLDEN / "layers" / "conv_basic")
    formats.save(net, str(tmp_path / "x.keras"))
    result = run("classify", tmp_path / "x.keras", tmp_path / "x.png", "--input-shape", "1,3,13,11", code=1)
    assert "a map and not one value for each class" in result.stderr
    assert (
        "-p/--prototxt has no part in it"
        in run("classify", tmp_path / "x.keras", tmp_path / "x.png", "-p", "n", code=1).stderr
    )


def test_refusals_are_one_line_and_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    v1 = GOLDEN / "formats" / "v1"
    model = v1 / "net.caffemodel"
    assert (
        "a second shape for the same input"
        in run("inspect", model, "--input-shape", "1,3,9,9", "--input-shape", "1,3,8,8", code=2).stderr
    )
    assert "takes N,C,H,W" in run("inspect", model, "--input-shape", "1,3,²,5", code=2).stderr
    assert "is named twice as an output" in run("convert", model, "-o", "x.npz", "-o", "x.npz", code=1).stderr
    assert "a folder OUT/ for a SavedModel" in run("convert", model, "-o", "a.savedmodel", code=1).stderr
    (tmp_path / "x.keras").write_bytes(b"PK\x03\x04")
    assert "x.keras: does not hold its network text" in run("inspect", "x.keras", code=1).stderr
    (tmp_path / "x.ckpt").write_bytes(b"no checkpoint")
    takes = "a .ckpt is not read here; takes a .caffemodel, .h5, .keras, .npy, .npz, .onnx, .safetensors"
    assert takes in run("inspect", "x.ckpt", code=1).stderr
    assert "a network text comes beside it" in run("convert", v1 / "net.prototxt", code=1).stderr
    (tmp_path / "deploy.PROTO").write_text((v1 / "net.prototxt").read_text())
    assert "conv1" in run("inspect", "deploy.PROTO").stdout
    folder = GOLDEN / "layers" / "conv_basic"
    result = run(
        "verify",
        folder / "net.caffemodel",
        "-p",
        folder / "net.prototxt",
        "--golden",
        folder,
        "--images",
        "nowhere",
        code=1,
    )
    assert "nowhere: is no folder" in result.stderr


def test_the_python_api_refuses_in_its_own_words(tmp_path):
    net = load(GOLDEN / "layers" / "conv_basic")
    with pytest.raises(NetError, match="an input is no array of numbers"):
        caffe2tf.forward(net, {"data": "x"})
    with pytest.raises(NetError, match="inputs are list; takes a dictionary"):
        caffe2tf.forward(net, [1])
    with pytest.raises(WeightMismatch, match=r"int is no keras.Model"):
        caffe2tf.from_keras(3, net)
    bare = loading.load(make(tmp_path, inputs(data=(1, 2)) + layer("ReLU"))[0])
    with pytest.raises(OutputError, match="no layer with weights, which a checkpoint is made of"):
        formats.save(bare, str(tmp_path / "z.ckpt"))
    assert issubclass(NetError, Caffe2TFError)
