"""A .tflite that computes in 8 bits, between the values that pictures give: what it says, and when it is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caffe2tf
from caffe2tf.classification.seen import Seen
from caffe2tf.errors import OutputError, ParseError
from caffe2tf.formats import _calibration, _reload, tflite
from caffe2tf.keras_model.build import Build, to_last
from caffe2tf.keras_model.model import to_keras
from tests.helpers import COLOURS, GOLDEN, inputs, inputs_of, layer, load, make, run

RANDOM = np.random.RandomState(5)
NAMES = [*COLOURS, *(f"other {number}" for number in range(7))]


def write_network(folder: Path) -> None:
    """In place of the small network one whose MAX pooling hangs over its bottom; it tells the three colours apart."""
    text = inputs(data=(1, 3, 12, 12))
    text += layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 }", tops=["c"], name="conv")
    text += layer("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }", ["c"], ["p"], name="pool")
    text += layer("InnerProduct", "inner_product_param { num_output: 10 }", ["p"], ["s"], name="fc")
    text += layer("Softmax", bottoms=["s"], tops=["prob"], name="prob")
    weights = np.abs(RANDOM.randn(10, 6, 5, 5)) * 2e-4
    for number, colour in enumerate(COLOURS.values()):
        for channel in range(6):
            weights[number, channel] *= 12 * (colour[2 - channel % 3] > 128)
    kernel = np.zeros((6, 3, 3, 3))
    for channel in range(6):
        kernel[channel, channel % 3] = 0.1 + 0.05 * RANDOM.rand(3, 3)
    make(folder, text, {"conv": [kernel, (6,)], "fc": [weights.reshape(10, 150), (10,)]})
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in NAMES))


@pytest.fixture
def overhanging(here: Path) -> Path:
    write_network(here)
    return here


def is_right(seen: Seen) -> bool:
    return Path(seen.file).parent.name == seen.top[0][1]


POOLS = ["pool_max_ceil", "pool_max_negative", "pool_max_pad", "pool_max_pad_ceil_clip", "pool_global_max"]


@pytest.mark.parametrize("name", [*POOLS, "pool_rect", "pool_stride1_same", "spp"])
def test_a_bounded_maximum_is_the_same_without_a_value_that_no_blob_has(name):
    path = GOLDEN / "layers" / name
    net = load(path)
    (given,) = inputs_of(net, path).values()
    bounded = Build(net, bounded=True).model(net.outputs)
    image = to_last(np.asarray(given, np.float32))
    np.testing.assert_array_equal(np.asarray(bounded(image)), np.asarray(to_keras(net)(image)))
    assert "-3.4028" not in bounded.to_json()


def test_without_a_bottom_in_each_window_a_bounded_maximum_is_still_caffes(tmp_path):
    text = inputs(data=(1, 3, 8, 8)) + layer("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 5 }")
    net = caffe2tf.load(make(tmp_path, text)[0])
    image = RANDOM.rand(1, 8, 8, 3).astype(np.float32)
    found, wanted = (np.asarray(model(image)) for model in (Build(net, bounded=True).model(net.outputs), to_keras(net)))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("more", [
    [], pytest.param(["--with-preprocessing", "--labels", "names.txt"], marks=pytest.mark.slow),
])  # fmt: skip
def test_the_file_says_what_the_network_says_and_convert_how_often(more, overhanging):
    command = ["convert", "net.caffemodel", "-p", "net.prototxt", "--calibrate", "train", *more, "-o", "x.tflite"]
    said = run(*command).output
    assert "computes in 8 bits, calibrated with 30 pictures: top class as in float32 for " in said
    assert "in floats" not in said
    exact = caffe2tf.classify("net.caffemodel", "train", prototxt="net.prototxt", labels="names.txt", top=10)
    found = caffe2tf.classify("x.tflite", "train", labels="names.txt", top=10)
    same = sum(a.top[0][0] == b.top[0][0] for a, b in zip(exact, found, strict=True))
    assert f"for {same} of 30, " in said
    shares = [np.array([[p for _, _, p in sorted(one.top)] for one in seen]) for seen in (exact, found)]
    assert len(set(shares[0].argmax(1))) == 3
    apart = np.abs(shares[0] - shares[1]).max()
    assert 0 < apart < 0.1
    assert f"probabilities within {apart:.2g}, " in said
    if more:
        assert f"right: {sum(map(is_right, found))} of 30 in 8 bits, {sum(map(is_right, exact))} in float32" in said
    else:
        assert "how often it is right is not known" in said  # the network has no names


def test_the_padding_of_a_maximum_would_leave_nothing_and_is_refused(overhanging, monkeypatch):
    """With -FLT_MAX in the padding the least value is that, and 8 bits hold nothing else: the fault that `bounded` is for. It is
    found in the ranges, and if it were not, in what the file says."""
    plain = _reload.model
    monkeypatch.setattr(_reload, "model", lambda net, given, bounded=False: plain(net, given))
    net = caffe2tf.load("net.prototxt", "net.caffemodel")
    for far, why in (
        (None, r"'.*' reaches -3.4e\+38"),
        (float("inf"), r"is not written: in 8 bits .* refused from 50%"),
    ):
        monkeypatch.setattr(tflite, "_FAR", far or tflite._FAR)
        with pytest.raises(OutputError, match=rf"^x\.tflite: .*{why}") as caught:
            caffe2tf.save(net, "x.tflite", calibrate="train")
        assert "\n" not in str(caught.value)
        assert not os.path.exists("x.tflite")


def test_a_range_without_end_does_not_end_the_process(here):
    text = inputs(data=(1, 3, 12, 12)) + layer("Exp", "exp_param { scale: 9 }")
    with pytest.raises(OutputError, match=r"cannot be calibrated"):
        caffe2tf.save(caffe2tf.load(make(here, text)[0]), "x.tflite", calibrate="train")


def test_what_is_lost_is_a_share_of_the_variance():
    random = np.random.RandomState(0)
    wanted = [random.randn(1, 4) for _ in range(50)]
    mean = np.mean(wanted, axis=0)
    for found, lost in ((wanted, 0.0), ([mean] * 50, 1.0), ([(a + mean) / 2 for a in wanted], 0.25)):
        sums = _calibration._Sums()
        for a, b in zip(wanted, found, strict=True):
            sums.add("x", [a], [b])
        assert sums.lost == pytest.approx(lost)


def test_probabilities_in_8_bits_sum_to_1():
    given = np.array([[0.5, 0.25, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(_calibration.shares(given), [[2 / 3, 1 / 3, 0, 0], [0.25] * 4])


def test_of_many_pictures_some_are_taken_from_all_over(tmp_path):
    for number in range(_calibration.MOST * 2 + 1):
        (tmp_path / f"{number:04}.png").write_bytes(b"")
    net = caffe2tf.load(make(tmp_path, inputs(data=(1, 3, 8, 8)) + layer("ReLU"))[0])
    paths = _calibration.samples(net, "x", tmp_path)
    assert _calibration.MOST / 2 < len(paths) <= _calibration.MOST
    assert [Path(path).stem for path in paths[:3]] == ["0000", "0003", "0006"]


def test_what_cannot_be_calibrated_is_one_line(here, tmp_path):
    said = run("convert", "net.caffemodel", "--calibrate", "train", "-o", "x.npz", code=2).stderr
    assert "--calibrate says how a .tflite computes, and no -o is one" in said
    said = run("convert", "net.caffemodel", "--calibrate", "train", "--quantize", "-o", "x.tflite", code=2).stderr
    assert "--calibrate computes in 8 bits, --quantize in floats; take one of them" in said
    (here / "empty").mkdir()
    said = run("convert", "net.caffemodel", "--calibrate", "empty", "-o", "x.tflite", code=1).stderr
    assert said.startswith("caffe2tf: empty: holds no pictures")
    said = run("convert", "net.caffemodel", "--calibrate", "none", "-o", "x.tflite", code=1).stderr
    assert said.endswith("caffe2tf: none: no such file or folder\n")
    (here / "empty" / "text.png").write_text("no picture")
    said = run("convert", "net.caffemodel", "--calibrate", "empty", "-o", "x.tflite", code=1).stderr
    assert "caffe2tf: empty/text.png: " in said
    assert not (here / "x.tflite").exists()
    flat = load(GOLDEN / "layers" / "ip_chain")
    with pytest.raises(OutputError, match=r"x.tflite: the network has the inputs .*; `calibrate` takes one picture"):
        caffe2tf.save(flat, "x.tflite", calibrate="train")
    with pytest.raises(OutputError, match="`calibrate` computes in 8 bits"):
        caffe2tf.save(flat, "x.tflite", calibrate="train", quantize=True)
    Image.new("RGB", (9, 9)).save("one.png")
    free = caffe2tf.load(make(tmp_path, inputs(data=(1, 3, 8, 8)) + layer("ReLU"))[0])
    with pytest.raises(ParseError, match="no such file"):
        caffe2tf.save(free, "x.tflite", calibrate="two.png")
