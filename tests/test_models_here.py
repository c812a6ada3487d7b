"""Which model is meant: the one of this folder, one of many, what caffe2tf wrote before; and what a result says it is of."""

import hashlib
import json
import zipfile

import numpy as np
import pytest

import caffe2tf
from caffe2tf import formats
from caffe2tf.errors import Caffe2TFError
from caffe2tf.files import digests
from caffe2tf.verification.verify import verify
from tests.helpers import inputs, layer, make, run

TEXT = (
    inputs(data=(1, 3, 9, 8))
    + layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", tops=["c"], name="conv1")
    + layer("ReLU", bottoms=["c"], tops=["c"], name="relu1")
    + layer("InnerProduct", "inner_product_param { num_output: 5 }", ["c"], ["f"], "ip")
    + layer("Softmax", bottoms=["f"], tops=["prob"], name="prob")
)
BLOBS = {"conv1": [(4, 3, 3, 3), (4,)], "ip": [(5, 4 * 7 * 6), (5,)]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def other_arrays(folder):
    import h5py

    np.save(folder / "mean.npy", np.zeros((3, 4, 4)))
    np.savez(folder / "blobs.npz", conv1=np.zeros(3))
    with h5py.File(folder / "features.h5", "w") as file:
        file["features"] = np.zeros(3)
    (folder / "x.safetensors").write_bytes(b"no header")


def test_the_caffemodel_is_meant_and_what_came_from_it_is_the_same(folder):
    with pytest.raises(Caffe2TFError, match=r"no model here; .* caffe2tf sample squeezenet"):
        formats.model_here()
    other_arrays(folder)
    with pytest.raises(
        Caffe2TFError, match=r"no model here \(blobs.npz, features.h5, mean.npy, x.safetensors: no weights"
    ):
        formats.model_here()
    make(folder, TEXT, BLOBS)
    net = caffe2tf.load("net.caffemodel")
    for kind in ("npy", "npz", "h5", "safetensors"):
        caffe2tf.save(net, f"of_{kind}.{kind}")
        assert formats.model_here() == "net.caffemodel"
    (folder / "net.caffemodel").rename("other.bin")
    with pytest.raises(Caffe2TFError, match=r"4 models here \(of_h5.h5, of_npy.npy, of_npz.npz, of_safetensors.saf"):
        formats.model_here()
    for kind in ("npy", "npz", "safetensors"):
        (folder / f"of_{kind}.{kind}").unlink()
        assert kind != "safetensors" or formats.model_here() == "of_h5.h5"
    (folder / "a.caffemodel").touch()
    (folder / "b.caffemodel").touch()
    with pytest.raises(Caffe2TFError, match=r"3 models here \(a.caffemodel, b.caffemodel, of_h5.h5\)"):
        formats.model_here()


def test_a_digest_of_a_folder_is_of_its_files_and_their_names(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"2")
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for data, name in ((b"2", "a"), (b"1", "b/x")))
    assert digests.digest(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()
    (tmp_path / "a").rename(tmp_path / "c")
    assert digests.digest(tmp_path) != hashlib.sha256(lines.encode()).hexdigest()
    assert digests.digest(tmp_path / "c") == hashlib.sha256(b"2").hexdigest()


def test_a_sample_that_is_missing_is_offered(folder):
    for command in (["inspect"], ["convert"], ["verify"], ["visualize", "graph"]):
        said = run(*command, "bvlc_alexnet.caffemodel", code=1).stderr
        assert "get it with caffe2tf download bvlc_alexnet or caffe2tf sample (" in said
        assert "knows no pictures" in said
    assert "sample lenet" in run("inspect", "lenet.caffemodel", code=1).stderr
    assert "get it with" not in run("inspect", "mine.caffemodel", code=1).stderr


def test_convert_takes_many_and_folders(folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        make(folder / name, TEXT, BLOBS)
    assert "a/net.caffemodel and b/net.caffemodel would have results of one name" in (
        run("convert", "a", "b", code=2).stderr
    )
    models = folder / "models"
    models.mkdir()
    (folder / "a" / "net.caffemodel").rename(models / "one.caffemodel")
    weights = caffe2tf.caffe.caffe_pb2.NetParameter.FromString((folder / "b" / "net.caffemodel").read_bytes())
    for item in weights.layer:
        item.ClearField("bottom")
    (models / "two.caffemodel").write_bytes(weights.SerializeToString())
    (models / "two.prototxt").write_text(TEXT)
    run("convert", "models", "--to", "npz")
    assert np.load("one.npz").files == np.load("two.npz").files
    run("convert", "models/one.caffemodel", "models/two.caffemodel", "models/two.prototxt", "-f", "-q")
    assert (folder / "one.npy").exists()
    assert (folder / "two.npy").exists()
    run("convert", "models/two.prototxt", "models/one.caffemodel", "-o", "pair.npz")
    assert "take --to FORMAT" in run("convert", "models", "-o", "x.npz", code=2).stderr
    (models / "bad.caffemodel").write_bytes(b"\xff\xff")
    said = run("convert", "models", "-f", code=1)
    assert "1 of 3 models were not converted" in said.stderr
    assert "two.npy" in said.stdout
    assert "is a folder without a .caffemodel" in run("convert", "b/..", code=1).stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a network in every format of whole models."""
    folder = tmp_path_factory.mktemp("whole")
    text, model = make(folder, TEXT, BLOBS)
    net = caffe2tf.load(text, model)
    import dataclasses

    net = dataclasses.replace(net, labels=("a", "b", "c", "d", "e"))
    for name in ("net.keras", "net.tflite", "saved/"):
        caffe2tf.save(net, folder / name if name[-1] != "/" else f"{folder}/{name}")
    return folder


@pytest.mark.parametrize("name", ["net.keras", "saved", "net.tflite"])
def test_whole_models_are_read_back(whole, name):
    net, original = caffe2tf.load(whole / name), caffe2tf.load(whole / "net.caffemodel")
    assert net.text() == original.text()
    assert net.name == original.name
    assert net.labels == ("a", "b", "c", "d", "e")
    assert net.files == (str(whole / name),)
    for layer_name in BLOBS:
        for one, other in zip(net.arrays[layer_name], original.arrays[layer_name], strict=True):
            np.testing.assert_array_equal(one, other)
    assert net.with_weights(original.weights).files == ()


def test_the_exported_file_itself_is_judged(whole, tmp_path, monkeypatch):
    """Weights that are changed in the file are found in the layer where they are, though the file's text is right."""
    monkeypatch.chdir(whole)
    for name in ("net.keras", "saved", "net.tflite"):
        found = verify(caffe2tf.load(name), against="reference", original="net.caffemodel")
        assert found.passed
        assert found.files == ((name, digests.digest(name)),)
        assert len(found.layers) == (3 if name == "net.keras" else 1)
    assert verify(caffe2tf.load("net.tflite"), against="reference").passed
    import keras

    model = keras.models.load_model("net.keras")
    layer_of = model.get_layer("ip")
    kernel, bias = layer_of.get_weights()
    layer_of.set_weights([kernel, bias + 0.1 * np.arange(5)])
    changed = tmp_path / "changed.keras"
    model.save(changed)
    with zipfile.ZipFile("net.keras") as old, zipfile.ZipFile(changed, "a") as new:
        new.writestr("caffe2tf.json", old.read("caffe2tf.json"))
    found = verify(caffe2tf.load(changed), against="reference", original="net.caffemodel")
    assert not found.passed
    assert found.first_wrong == "ip"
    keras.models.load_model("net.keras").save(tmp_path / "plain.keras")
    with pytest.raises(Caffe2TFError, match="does not hold its network text"):
        caffe2tf.load(tmp_path / "plain.keras")


def test_every_command_takes_a_whole_model_and_says_which(whole, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(whole)
    Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save("black.png")
    data = json.loads(run("verify", "net.keras", "--against", "reference", "--json", "--report", "r.html").stdout)
    digest = digests.digest("net.keras")
    assert data["nets"][0]["files"] == [{"file": "net.keras", "sha256": digest}]
    assert digest in (whole / "r.html").read_text()
    assert f"tested: net.keras  SHA-256 {digest}" in run("verify", "net.keras", "--against", "reference").stdout
    assert json.loads(run("inspect", "net.keras", "--json").stdout)["files"][0]["parameters"] == 112 + 845
    assert run("inspect", "--diff", "net.keras", "net.caffemodel").stdout.endswith("same network\n")
    run("convert", "net.keras", "-o", "again.npz")
    run("visualize", "graph", "net.tflite", "-o", "g.svg")
    data = json.loads(run("classify", "net.keras", "black.png", "--json").stdout)
    assert data["model"] == {"file": "net.keras", "sha256": digest}
    assert {one["name"] for one in data["images"][0]["top"]} == {"a", "b", "c", "d", "e"}
    seen = json.loads(run("classify", "black.png", "--json").stdout)
    assert seen["model"]["file"] == "net.caffemodel"


def test_the_page_marks_the_first_wrong_layer_apart_from_those_that_follow():
    from caffe2tf.verification import page
    from tests.helpers import GOLDEN, load

    net = load(GOLDEN / "layers" / "ip_chain")
    weights = {name: dict(arrays) for name, arrays in net.weights.items()}
    weights["fc6"]["bias"] = weights["fc6"]["bias"] + 1
    wrong = verify(net.with_weights(weights), GOLDEN / "layers" / "ip_chain")
    html = page.as_html([wrong])
    assert (wrong.first_wrong, html.count("<tr class=first>"), html.count("first wrong</span>")) == ("fc6", 1, 1)
    assert "<tr class=first><td>fc6" in html
    assert "<td>fc7 <span class=dragged>follows</span>" in html
    assert "class=dragged" not in page.as_html([verify(net, GOLDEN / "layers" / "ip_chain")])


def test_finetune_starts_from_what_it_left(folder):
    from tests.helpers import SMALL, write_small_set

    write_small_set(folder)
    some = ("--layers", "fc8", "--epochs", "1", "--no-tensorboard", "-q")
    run("finetune", *SMALL, *some, "--keep", "npz", "--out", "one")
    run("finetune", "one", *some, "--keep", "keras", "--out", "two")
    run("finetune", "two/best.keras", *some, "--keep", "npz", "--out", "three")
    assert caffe2tf.load("three").labels == caffe2tf.load("two").labels == ("blue", "green", "red")
    data = json.loads((folder / "two" / "settings.json").read_text())
    assert data["files"] == [{"file": "one", "sha256": digests.digest("one")}]
