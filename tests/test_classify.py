"""Classes with names, for every kind of model."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.conftest import inputs, layer, make, run

pytest.importorskip("keras")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A network that tells blue (class 0), green (1) and red (2) pictures, and three such pictures."""
    monkeypatch.chdir(tmp_path)
    text = inputs(data=(1, 3, 8, 8)) + layer(
        "Pooling", "pooling_param { pool: AVE global_pooling: true }", tops=["g"], name="g"
    )
    text += layer("InnerProduct", "inner_product_param { num_output: 3 }", bottoms=["g"], tops=["y"], name="fc")
    text += layer("Softmax", bottoms=["y"], tops=["prob"], name="prob")
    make(tmp_path, text, {"fc": [np.eye(3) / 50, np.zeros(3)]})
    (tmp_path / "pictures").mkdir()
    for name, colour in (("1_blue", (0, 0, 255)), ("2_green", (0, 255, 0)), ("3_red", (255, 0, 0))):
        Image.new("RGB", (20, 10), colour).save(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "labels.txt").write_text("blue\ngreen\nred\n")
    return tmp_path


def top(result):
    return [item["top"][0]["name"] for item in json.loads(result.stdout)["images"]]


def test_every_kind_of_model_says_the_same(small):
    options = ["pictures", "--labels", "labels.txt", "--json"]
    text = ["-p", "net.prototxt"]
    assert top(run("classify", "net.caffemodel", *options, *text)) == ["blue", "green", "red"]
    run("convert", "net.caffemodel", *text, "-o", "x.npz", "-o", "x.keras", "-o", "saved/", "-q")
    assert top(run("classify", "x.npz", *options, *text)) == ["blue", "green", "red"]
    assert top(run("classify", "x.keras", *options)) == ["blue", "green", "red"]
    assert top(run("classify", "saved", *options)) == ["blue", "green", "red"]


def test_json_is_in_input_order_with_stable_keys(small):
    result = run(
        "classify",
        "net.caffemodel",
        "pictures/3_red.png",
        "pictures/1_blue.png",
        "-p",
        "net.prototxt",
        "--json",
        "-k",
        2,
    )
    images = json.loads(result.stdout)["images"]
    assert [item["file"] for item in images] == ["pictures/3_red.png", "pictures/1_blue.png"]
    assert [set(item["top"][0]) for item in images] == [{"class", "name", "probability"}] * 2
    assert images[0]["top"][0]["class"] == 2
    assert len(images[0]["top"]) == 2
    assert "minus (104, 117, 123)" in result.stderr


def test_plain_output(small):
    lines = run(
        "classify", "net.caffemodel", "pictures/2_green.png", "-p", "net.prototxt", "--labels", "labels.txt"
    ).stdout.splitlines()
    assert lines[0] == "pictures/2_green.png"
    assert lines[1].endswith("green")


def test_bad_input_is_one_line(small):
    (small / "two.txt").write_text("a\nb\n")
    (small / "text.jpg").write_text("hello")
    (small / "folder").mkdir()
    text = ["-p", "net.prototxt"]
    for args, why in [
        (["net.caffemodel", "nothing.jpg", *text], "nothing.jpg: no such file or folder"),
        (["net.caffemodel", "text.jpg", *text], "text.jpg: is not a picture that can be read"),
        (["net.caffemodel", "folder", *text], "folder: holds no pictures"),
        (["net.caffemodel", "pictures", *text, "--labels", "two.txt"], "2 labels for 3 outputs"),
        (["net.caffemodel", "pictures", *text, "--labels", "none.txt"], "none.txt: cannot be read as labels"),
        (["folder", "pictures"], "folder: is a folder without saved_model.pb"),
        (["text.keras", "pictures"], "text.keras: is not a .keras file"),
    ]:
        result = run("classify", *args, code=1)
        assert why in result.stderr
        assert len([line for line in result.stderr.splitlines() if line.startswith("caffe2tf:")]) == 1


def test_squeezenet_knows_a_llama(shared):
    folder = shared / "models" / "squeezenet_v1.0"
    result = run("classify", folder / "squeezenet_v1.0.caffemodel", shared / "images" / "llama.jpeg", "--json")
    assert top(result) == ["llama"]
