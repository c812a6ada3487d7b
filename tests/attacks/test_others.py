"""Keras models, TFRecords, recipes, labels, golden sets and names from elsewhere: each ends in one line, and acts on nothing."""

import io
import json
import os
import shutil
import struct
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

from caffe2tf import formats, loading
from caffe2tf.errors import Caffe2TFError
from caffe2tf.finetuning import data, recipe
from tests.helpers import GOLDEN, ROOT, SMALL, inputs, layer, load, make, run

CASE = GOLDEN / "layers" / "conv_basic"
MARKUP = "[bold red]x[/bold red][link=file:///etc/passwd]y[/link]"
ACTING = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def refused(*args, why=""):
    """The command ends with one line, which holds `why`."""
    said = run(*args, code=1).stderr
    assert said.startswith("caffe2tf: "), said
    assert said.count("\n") == 1, said
    assert why in said
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A folder to be in, with a picture and a file that nothing may touch."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("x.png")
    (tmp_path / "precious").write_text("mine")
    yield tmp_path
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "written").exists()
    assert not (tmp_path.parent / "escaped").exists()


# ------------------------------------------------------------------------------------------------ .keras


@pytest.fixture
def keras_file(there):
    """`change(config, files)` makes m.keras of what Keras writes for a classifier of 4 x 4 pictures."""
    keras = pytest.importorskip("keras")
    shape = keras.Input((4, 4, 3))
    keras.Model(shape, keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(shape))).save("good.keras")

    def make_of(change):
        with zipfile.ZipFile("good.keras") as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
        config = json.loads(held["config.json"])
        change(config, held)
        held["config.json"] = held.get("raw", json.dumps(config).encode())
        held.pop("raw", None)
        with zipfile.ZipFile("m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in held.items():
                archive.writestr(name, content)

    return make_of


def replaced(module, name, settings=None):
    """A layer in the model's place that Keras would make of `module` and `name`."""

    def change(config, held):
        item = config["config"]["layers"][1]
        item.update(module=module, class_name=name, registered_name=None)
        item["config"] = {"name": item["name"], **(settings or {})}

    return change


def with_member(name, content):
    return lambda config, held: held.update({name: content})


def weights_elsewhere(config, held):
    with h5py.File("w.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "x")
    with open("w.h5", "rb") as file:
        held["model.weights.h5"] = file.read()


def deep(config, held):
    held["raw"] = b"[" * 100_000


def of_python(config, held):
    item = config["config"]["layers"][1]
    item["module"], item["class_name"] = None, "Lambda"


def long(config, held):
    held["raw"] = b'"' + b"x" * (1 << 27) + b'"'


def many_units(config, held):
    config["config"]["layers"][2]["config"]["units"] = 2_000_000


def many_gates(config, held):
    """A weight of a layer within a layer, which no configuration holds."""
    replaced("keras.layers", "Reshape", {"target_shape": [16, 3]})(config, held)
    item = config["config"]["layers"][2]
    item.update(class_name="LSTM", config={"name": item["name"], "units": 5000}, build_config={})


def weights_of_nothing(config, held):
    content = io.BytesIO(held["model.weights.h5"])
    with h5py.File(content, "a") as file:
        del file["layers/dense/vars/0"]
        file.create_dataset("layers/dense/vars/0", (1000, 500_000), "f4", chunks=(1, 500_000), compression="gzip")
    held["model.weights.h5"] = content.getvalue()


def wide(config, held):
    config["config"]["layers"][0]["config"]["batch_shape"] = [None, 30_000, 30_000, 3]
    layers = config["config"]["layers"]
    layers[1].update(module="keras.layers", class_name="GlobalAveragePooling2D", build_config={})
    layers[1]["config"] = {"name": layers[1]["name"]}
    layers[2].update(class_name="Softmax", config={"name": layers[2]["name"]}, build_config={})


KERAS = {
    "units without end": (many_units, "claims a weight of 48 x 2000000 values, more than the file holds"),
    "gates without end": (many_gates, "claims a weight of 5000 x 20000 values, more than the file holds"),
    "weights that unfold": (weights_of_nothing, "claims 2000000000 bytes of values and holds 0"),
    "pictures without end": (wide, "claims an output of 30000 x 30000 x 3 values"),
    "a lambda": (replaced("builtins", "__lambda__", {"value": "4wEAAAA="}), "can run code"),
    "a Lambda layer": (replaced("keras.layers", "Lambda", {"function": "os.system"}), "Lambda, which can run code"),
    "a function of Python's": (replaced("os", "system", {"command": "touch written"}), "os.system, which can run code"),
    "a function of Keras's": (replaced("keras.utils", "get_file", {"origin": "file:///etc/passwd"}), "can run code"),
    "a SavedModel within": (replaced("keras.layers", "TFSMLayer", {"filepath": "evil"}), "TFSMLayer"),
    "words of another file": (replaced("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}), "StringLookup"),
    "a layer that is none": (replaced("keras.layers", "Nothing"), "is not a .keras file"),
    "a member that climbs": (with_member("../escaped", b"x"), "holds '../escaped'"),
    "an absolute member": (with_member("/tmp/escaped", b"x"), "holds '/tmp/escaped'"),
    "assets": (with_member("assets/x", b"x"), "holds 'assets/x'"),
    "weights elsewhere": (weights_elsewhere, ""),
    "weights that are none": (with_member("model.weights.h5", b"no"), "is not a .keras file"),
    "brackets without end": (deep, ""),
    "a Lambda of no module": (of_python, "Lambda"),
    "a bomb": (long, "claims"),
}


def test_keras_files(keras_file):
    for name, (change, why) in KERAS.items():
        keras_file(change)
        refused("classify", "m.keras", "x.png", "-q", why=why)
        assert os.path.exists("m.keras"), name
    with open("m.keras", "wb") as file:
        file.write(b"PK\x03\x04" + bytes(100))
    refused("classify", "m.keras", "x.png", "-q", why="is not a .keras file")
    run("classify", "good.keras", "x.png", "-q")


# ------------------------------------------------------------------------------------------------ .tflite


def test_tflite_files(there):
    pytest.importorskip("tensorflow")
    for content in (
        b"",
        b"TFL3" * 9,
        b"\x1c\0\0\0TFL3" + b"\xff" * 500,
        struct.pack("<I", 1 << 31) + b"TFL3" + bytes(200),
    ):
        (there / "m.tflite").write_bytes(content)
        refused("classify", "m.tflite", "x.png", "-q", why="m.tflite")
    formats.save(
        load(GOLDEN / "layers" / "softmax_4d" if (GOLDEN / "layers" / "softmax_4d").exists() else CASE), "good.tflite"
    )
    whole = (there / "good.tflite").read_bytes()
    for end in (len(whole) // 2, 40):
        (there / "m.tflite").write_bytes(whole[:end])
        refused("classify", "m.tflite", "x.png", "-q", why="m.tflite")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("classes_without_end", "claims 1845493766 classes; takes 1048576"),
        ("items_without_end", "claims an input of 1509949439 x 3 x 13 x 11; takes 134217728 values at once"),
        ("scalar_output", "has the outputs float32 []; classify takes networks with one, of float32"),
    ],
)
def test_tflite_files_whose_claims_no_memory_holds(name, why, there):
    pytest.importorskip("tensorflow")
    refused("classify", ROOT / "tests" / "fuzz" / "corpus" / "tflite" / name / "x.tflite", "x.png", "-q", why=why)


# ------------------------------------------------------------------------------------------------ pictures to train on


def record(payload, length=None):
    return struct.pack("<Q", len(payload) if length is None else length) + bytes(4) + payload + bytes(4)


@pytest.mark.parametrize(
    "content", [record(b"x" * 40), record(b"", 1 << 62), record(b"x", 1 << 31), b"\xff" * 64, b"", b"x"]
)
def test_tfrecords_that_lie(content, there):
    tf = pytest.importorskip("tensorflow")
    (there / "x.tfrecord").write_bytes(content)
    with pytest.raises(data.DataError, match=r"x\.tfrecord"):
        data.read("x.tfrecord")
    features = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"no picture"]))}
    features["image/class/label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[-(1 << 63)]))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    with tf.io.TFRecordWriter("y.tfrecord") as writer:
        writer.write(example.SerializeToString())
    with pytest.raises(data.DataError, match=r"y\.tfrecord"):
        data.read("y.tfrecord")


def test_a_list_that_names_other_files_shows_nothing_of_them(here):
    (here / "secret").write_text("hunter2")
    rows = [f"{os.path.relpath(path, here)} {number}" for number, path in enumerate(sorted(here.glob("train/*/0.png")))]
    (here / "list.txt").write_text("\n".join([*rows, "../../../../etc/passwd 0", "secret 1", "/dev/zero 2"]) + "\n")
    said = run("finetune", *SMALL, "--layers", "fc8", "--data", "list.txt", "--strict", code=1).stderr
    assert "hunter2" not in said
    assert "root:" not in said
    assert not (here / "finetuned").exists()


def test_a_file_that_never_ends_is_no_picture(there):
    (there / "device.png").symlink_to("/dev/zero")
    from caffe2tf.images import decode

    with pytest.raises(Caffe2TFError, match="is not a picture"):
        decode.read_image("device.png")


# ------------------------------------------------------------------------------------------------ recipes


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 20_000,
        "seed = " + "9" * 5000,
        'layers = "fc8"\nlr = nan',
        'layers = "fc8"\nepochs = -1',
        f'layers = "{ACTING}"\nstrange = 1'.replace("\x1b", "\\u001b").replace("\x07", "\\u0007"),
        'layers = "fc8"\nresize = "99999999x99999999"',
        "\x00",
        "model = 3\n[[stage]]\nlayers = 7",
        '"\\ud800" = 1',
        "[stage]\n[stage.stage]",
    ],
)
def test_recipes(text, there):
    (there / "r.toml").write_text(text)
    with pytest.raises(Caffe2TFError) as told:
        recipe.read("r.toml")
    assert "\n" not in str(told.value)
    refused("finetune", "--recipe", "r.toml", "-q")


# ------------------------------------------------------------------------------------------------ names and labels


@pytest.mark.parametrize("coloured", [False, True])
def test_labels_are_no_markup_and_no_escapes(coloured, there, monkeypatch):
    pytest.importorskip("tensorflow")
    if coloured:
        monkeypatch.setenv("FORCE_COLOR", "1")
    text = inputs(data=(1, 3, 4, 4)) + layer("InnerProduct", "inner_product_param { num_output: 2 }")
    prototxt, model = make(there, text, {"x": [(2, 48), (2,)]})
    (there / "labels.txt").write_text(f"{MARKUP}\n{ACTING}<script>alert(1)</script>\n", encoding="utf-8")
    for more in ((), ("--csv",), ("--json",)):
        said = run("classify", prototxt, model, "x.png", "--labels", "labels.txt", *more).output
        assert not {"\x07", "\x9b", "\u202e"} & set(said)
        assert "\x1b]0;" not in said
        assert "[bold red]x" in said
        assert "\x1b]8;" not in said  # a link


def test_names_of_layers_are_no_paths_and_no_html(there):
    """In whatever is written of them."""
    bad = "<script>alert(1)</script>"
    names = ["../escaped", "/tmp/escaped", "..", bad, "a/../../escaped"]
    text = inputs(data=(1, 3, 4, 4))
    for number, name in enumerate(names):
        bottom = f"b{number - 1}" if number else "data"
        text += layer(
            "Convolution", "convolution_param { num_output: 3 kernel_size: 1 }", [bottom], [f"b{number}"], name
        )
    prototxt, model = make(there, text, {name: [(3, 3, 1, 1), (3,)] for name in names})
    before = sorted(os.listdir(there))
    for suffix in ("npz", "npy", "h5", "safetensors", "caffemodel"):
        run("convert", prototxt, model, "-q", "-o", f"o.{suffix}")
        for name, arrays in loading.load(prototxt, model).weights.items():
            np.testing.assert_array_equal(
                loading.load(prototxt, f"o.{suffix}").weights[name]["kernel"], arrays["kernel"]
            )
    run("inspect", prototxt, model, "--html", "o.html")
    assert "<script>alert" not in (there / "o.html").read_text()
    made = [name for name in sorted(os.listdir(there)) if name not in before]
    assert all(name.startswith("o.") for name in made)


def test_npz_members_that_climb_write_nothing(there):
    with zipfile.ZipFile("x.npz", "w") as archive:
        for name in ("../escaped/kernel.npy", "/tmp/escaped/kernel.npy", "..\\escaped/kernel.npy"):
            with archive.open(name, "w") as file:
                np.lib.format.write_array(file, np.zeros(3, np.float32))
    refused("convert", CASE / "net.prototxt", "x.npz", "-o", "o.h5")
    assert sorted(os.listdir()) == ["precious", "x.npz", "x.png"]


# ------------------------------------------------------------------------------------------------ golden sets


def spoiled(folder, name, content):
    shutil.copytree(CASE, folder)
    (folder / name).write_bytes(content)


def test_golden_sets_from_elsewhere(there):
    """Whatever their files hold."""
    pytest.importorskip("tensorflow")
    spoiling = (
        ("blobs.npz", b""),
        ("blobs.npz", b"PK\x03\x04" + bytes(300)),
        ("expected.json", b"[" * 100_000),
        ("expected.json", b"[]"),
        ("expected.json", b'{"version": 1e999}'),
        ("expected.json", json.dumps({"version": 1, "images": [{"file": "../../etc/passwd"}]}).encode()),
    )
    for number, (name, content) in enumerate(spoiling):
        spoiled(there / str(number), name, content)
        refused("verify", CASE / "net.prototxt", CASE / "net.caffemodel", "--golden", str(number))
    spoiled(there / "links", "blobs.npz", b"")
    (there / "links" / "blobs.npz").unlink()
    (there / "links" / "blobs.npz").symlink_to("/dev/zero")
    refused("verify", CASE / "net.prototxt", CASE / "net.caffemodel", "--golden", "links")


# ------------------------------------------------------------------------------------------------ results of a training


@pytest.mark.parametrize(
    "how",
    [
        {"resize": [1 << 20, 1 << 20]},
        {"resize": [60_000, 60_000]},
        {"resize": [-1, 5]},
        {"resize": "ab"},
        {"channels": 1 << 40},
        {"mean": [[0]] * 3},
        {"strange": 1},
    ],
)
def test_settings_that_lie(how, there):
    """Of a folder of results that somebody else made."""
    keras = pytest.importorskip("keras")
    os.mkdir("run")
    shape = keras.Input((4, 4, 3))
    keras.Model(shape, keras.layers.Softmax()(keras.layers.Flatten()(shape))).save("run/best.keras")
    (there / "run" / "labels.txt").write_text("".join(f"{n}\n" for n in range(48)))
    (there / "run" / "settings.json").write_text(json.dumps({"preprocessing": how}))
    refused("classify", "run", "x.png", "-q")
