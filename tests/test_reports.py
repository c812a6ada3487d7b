"""What comparison says in data, in one line and in numbers, and what it reads of a golden set: part by part."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffe2tf import loading
from caffe2tf.images.preprocess import Preprocessing
from caffe2tf.verification import feeding, golden, opencv, otherwise, report
from caffe2tf.verification.compare import Difference, LayerCheck, Prediction, Report, compare
from caffe2tf.verification.hearing import Dispute
from caffe2tf.verification.sets import Expected, GoldenError, Judge, Photograph
from tests.helpers import inputs, layer, make

NONE, FAR = Difference(0.0, 0.0, (), 0.0), Difference(math.inf, 2.0, (1, 2), 0.5)


def checked(name, chained=NONE, alone=None, tolerance=0.1):
    return LayerCheck((name,), "ReLU", name, (1, 2), alone, chained, tolerance)


def told(**given):
    plain = {"layers": (), "predictions": (), "changed_weights": (), "missing": (), "tolerance": 0.1, "digest": "00"}
    return Report("net", "set", **plain | given)


# ------------------------------------------------------------------------------------------------ in one line

PREDICTED = Prediction("a.png", tuple((n, 0.1) for n in range(5)), tuple((n, 0.1) for n in (0, 4, 3, 2, 1)), 0.01)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "FAIL  nothing was compared"),
        ({"layers": (checked("a"),)}, "PASS  1 of 1 blobs within 0.1 (largest 0)"),
        ({"layers": (checked("a"), checked("b", FAR)), "first_wrong": "b", "hint": "why"},
         "FAIL  1 of 2 blobs within 0.1 (largest 0.5), first wrong layer: b (why)"),
        ({"layers": (checked("a", FAR),), "first_wrong": "a"},
         "FAIL  0 of 1 blobs within 0.1 (largest 0.5), first wrong layer: a"),
        ({"layers": (checked("a"), checked("b", tolerance=0.05))},
         "PASS  2 of 2 blobs within what float32 costs, at most 0.1 (largest 0)"),
        ({"layers": (checked("a"),), "judge": Judge("reference", "it", "files", "noise"), "total": 3, "unjudged": {"x": "y"}},
         "PASS  1 of 1 blobs within 0.1 (largest 0), 2 of 3 layers judged"),
        ({"predictions": (PREDICTED,), "missing": ("b.png", "c.png"), "left_out": ("loss", "acc")},
         "PASS  1 of 1 predictions equal, 1 of 1 top-5 sets equal, 2 photographs not there (`images`), "
         "loss, acc left out (no part in inference)"),
        ({"layers": (checked("a"),), "changed_weights": ("c", "d")},
         "FAIL  1 of 1 blobs within 0.1 (largest 0), weights changed in c, d"),
    ],
)  # fmt: skip
def test_the_conclusion(given, said):
    assert report.conclusion(told(**given)) == said


def test_when_a_check_and_a_prediction_pass():
    assert checked("a", alone=NONE).passed
    assert not checked("a", alone=FAR).passed
    assert checked("a", Difference(9.0, 9.0, (), 0.1)).passed
    one = ((3, 0.5), (4, 0.25))
    assert Prediction("x", one, ((3, 0.75), (4, 0.1))).passed
    assert Prediction("x", one, ((3, 0.75),), 0.25).passed
    assert not Prediction("x", one, ((3, 0.75),), 0.2).passed
    assert not Prediction("x", one, ((4, 0.5), (3, 0.25))).passed
    assert Prediction("x", one, one).same_set is None
    assert PREDICTED.same_set
    assert not Prediction("x", PREDICTED.expected, ((0, 0.1), (1, 0.1), (2, 0.1), (3, 0.1), (5, 0.1))).same_set


def disputed(value, alone=None):
    pairs = ("caffe2tf", "opencv"), ("caffe2tf", "reference"), ("opencv", "reference")
    return Dispute(("a", "b"), "a", dict.fromkeys(pairs, value), dict.fromkeys(pairs, 0.1), alone)


def test_who_differs_from_whom_in_one_line():
    assert report.settled([disputed(0.1), disputed(0.0)]) == "all agree on 2 of 2 blobs"
    assert report.settled([disputed(0.0), disputed(0.2)]) == (
        "they differ on 1 of 2 blobs, first at a + b, where no two agree, or only some do"
    )
    assert (
        report.settled([disputed(0.2, "opencv")])
        == "they differ on 1 of 1 blobs, first at a + b, where opencv stands alone"
    )
    assert report.against(told()) == "golden set 'set'"
    assert report.against(told(judge=Judge("reference", "who", "files", "noise"))) == "who"


# ------------------------------------------------------------------------------------------------ as data


def test_the_data_of_a_report():
    judge = Judge("opencv", "OpenCV 4", "its files", "noise")
    whole = told(
        layers=(checked("a", FAR, NONE),), predictions=(PREDICTED,), changed_weights=("c",), missing=("m.png",),
        first_wrong="a", hint="why", left_out=("loss",), judge=judge, unjudged={"x": "reason"}, total=4, notes=("note",),
        files=(("net.caffemodel", "ff"),), running={"device": "cpu", "precision": "float32", "backend": "tensorflow"},
    )  # fmt: skip
    data = report.as_data([whole], [disputed(math.inf, "opencv")])
    json.dumps(data, allow_nan=False)
    assert {key: data[key] for key in ("pass", "device", "precision", "backend")} == {
        "pass": False, "device": "cpu", "precision": "float32", "backend": "tensorflow"
    }  # fmt: skip
    assert set(data["versions"]) == {"caffe2tf", "python", "keras", "tensorflow", "numpy"}
    (net,) = data["nets"]
    predicted = net.pop("predictions")
    nothing = {"largest": 0.0, "relative": 0.0, "place": [], "l2": 0.0}
    assert net == {
        "name": "net", "files": [{"file": "net.caffemodel", "sha256": "ff"}], "golden": "set", "pass": False,
        "tolerance": 0.1, "first_wrong": "a", "hint": "why", "weights_sha256": "00", "changed_weights": ["c"],
        "missing_photographs": ["m.png"], "left_out": ["loss"],
        "layers": [{"layer": "a", "layers": ["a"], "type": "ReLU", "blob": "a", "shape": [1, 2], "alone": nothing,
                    "chained": {"largest": None, "relative": 2.0, "place": [1, 2], "l2": 0.5}, "tolerance": 0.1, "pass": False}],
        "judge": {"name": "opencv", "who": "OpenCV 4", "read": "its files", "fed": "noise"}, "judged": 3, "of": 4,
        "unjudged": [{"layer": "x", "reason": "reason"}], "notes": ["note"],
    }  # fmt: skip
    assert [(one["image"], one["pass"], one["tolerance"], one["same_set"]) for one in predicted] == [
        ("a.png", True, 0.01, True)
    ]
    assert predicted[0]["found"][1]["class"] == 4
    (dispute,) = data["disputes"]
    assert {key: dispute[key] for key in ("layers", "blob", "agreed", "alone")} == {
        "layers": ["a", "b"], "blob": "a", "agreed": False, "alone": "opencv"
    }  # fmt: skip
    assert dispute["apart"][2] == {"one": "opencv", "other": "reference", "l2": None, "tolerance": 0.1}


# ------------------------------------------------------------------------------------------------ numbers


def test_differences_of_a_whole_blob():
    values = np.float32([[1, -4], [0, 2]])
    found = compare(values + np.float32([[0, 0], [0.5, 0]]), Expected(values))
    assert found == Difference(0.5, 0.125, (1, 0), pytest.approx(0.5 / np.sqrt(21)))
    assert compare(values, Expected(values)) == Difference(0.0, 0.0, (0, 0), 0.0)
    assert compare(values[:1], Expected(values)) == Difference(np.inf, np.inf, (), np.inf)
    assert compare(np.zeros((0, 3), np.float32), Expected(np.zeros((0, 3)))) == Difference(0.0, 0.0, (), 0.0)
    spoilt = values.copy()
    spoilt[0, 1] = np.nan
    assert compare(spoilt, Expected(values)).largest == np.inf
    assert compare(spoilt, Expected(spoilt)) == Difference(0.0, 0.0, (0, 0), 0.0)
    assert compare(values, Expected(np.zeros((2, 2)))) == Difference(4.0, 4.0, (0, 1), pytest.approx(np.sqrt(21)))
    assert compare(values, Expected(values.reshape(4))).place == (0, 0)
    assert compare(values + np.float32([[0, 0], [0, 1]]), Expected(values.reshape(4))).place == (1, 1)


def test_differences_of_samples_and_norms():
    whole = np.float32([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    index, norms = np.array([1, 2]), np.linalg.norm(whole.reshape(2, -1).astype(float), axis=1)
    expected = Expected(whole.reshape(2, -1)[:, index], index, norms)
    assert compare(whole, expected).l2 == 0
    off = whole.copy()
    off[1, 1, 0] += 2
    assert compare(off, expected) == Difference(
        2.0, 2 / 7, (1, 1, 0), pytest.approx(2 / np.sqrt(4 + 9 + 36 + 49), rel=0.01)
    )
    beside = whole.copy()
    beside[0, 0, 0] += 30  # between the samples
    found = compare(beside, expected)
    assert found.largest == 0
    assert found.l2 == pytest.approx((np.linalg.norm(beside[0]) - norms[0]) / norms[0])


# ------------------------------------------------------------------------------------------------ golden sets


def test_how_a_golden_set_says_that_its_pictures_became_inputs():
    said = {"resize": [256, 128], "mean_bgr": [1, 2, 3], "scale": 0.5, "crop": "centre 224x112"}
    assert golden._preprocessing(said, "set") == Preprocessing(
        resize=(256, 128), mean=(1.0, 2.0, 3.0), scale=0.5, crop=(224, 112)
    )
    assert golden._preprocessing({"resize": [4, 5]}, "set") == Preprocessing(resize=(4, 5), mean=(0.0,))
    nearest = golden._preprocessing({"resize": [4, 5], "resize_method": "nearest_pillow of Pillow 12"}, "set")
    assert nearest == Preprocessing(resize=(4, 5), mean=(0.0,), method="nearest_pillow")
    for wrong, why in (
        ({"crop": "centre"}, "crop 'centre'; takes HxW"),
        ({"resize_method": "cubic"}, "resize_method 'cubic'"),
    ):
        with pytest.raises(GoldenError, match=f"set: expected.json: {why}"):
            golden._preprocessing({"resize": [4, 5], **wrong}, "set")


def test_photographs_are_told_by_their_bytes(tmp_path):
    import hashlib

    def picture(value):
        file = io.BytesIO()
        Image.new("RGB", (3, 3), (value, 0, 0)).save(file, "PNG")
        return file.getvalue()

    one, two = picture(1), picture(2)
    wanted = [
        Photograph(name, hashlib.sha256(data).hexdigest(), Preprocessing((3, 3)), ((1, 0.5),))
        for name, data in (("one.png", one), ("two.png", two), ("three.png", picture(3)))
    ]
    for name, data in (("a.png", one), ("one.png", one), ("b.PNG", two), ("c.txt", picture(3)), ("d.png", b"other")):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "z.png").mkdir()
    found = golden.find_photographs(wanted, tmp_path)
    assert {photo.file: Path(path).read_bytes() for photo, path in found.items()} == {"one.png": one, "two.png": two}


# ------------------------------------------------------------------------------------------------ what judges get and give


def test_a_batch_reindex_behind_a_filter_is_given_the_one_item_that_there_is(tmp_path):
    def fed(bottom):
        text = inputs(data=(4, 2), keep=(4,), items=(3,)) + layer(
            "Filter", bottoms=["data", "keep"], tops=["some"], name="f"
        )
        text += layer("BatchReindex", bottoms=[bottom, "items"], name="r")
        net = loading.load(make(tmp_path, text)[0])
        return feeding.inputs(net)[0]["items"]

    assert not fed("some").any()
    assert fed("data").any()


@pytest.mark.parametrize(("rows", "kept"), [(0, 1), (1, 1), (2, 2), (4, 4)])
def test_rows_of_zeros_behind_proposals_are_none(rows, kept, tmp_path):
    class Node:
        layer = type("Layer", (), {"type": "Proposal"})

    array = np.zeros((4, 5), np.float32)
    array[:rows, 3] = 7
    assert opencv._Run._shaped(None, Node, array).shape == (kept, 5)


@pytest.mark.parametrize(("rows", "found"), [(0, [[0, -1], [1, -1]]), (2, [[0, 7], [0, 7]])])
def test_no_detection_is_a_row_for_each_image(rows, found):
    class Node:
        layer = type("Layer", (), {"type": "DetectionOutput", "bottoms": [(2, 8)]})

    array = np.zeros((1, 1, 3, 7), np.float32)
    array[0, 0, :rows, 1] = 7
    made = opencv._Run._shaped(None, Node, array)
    assert made.shape == (1, 1, 2, 7)
    assert made[0, 0, :, :2].tolist() == found


@pytest.mark.parametrize(
    ("params", "outside"),
    [
        ("kernel_size: 3 stride: 2 pad: 1", False),
        ("kernel_size: 1 stride: 4", True),
        ("kernel_size: 1 stride: 3", False),
    ],
)
def test_windows_that_lie_outside_altogether(params, outside, tmp_path):
    text = inputs(data=(1, 1, 4 + ("pad" in params), 4)) + layer("Pooling", f"pooling_param {{ {params} }}")
    assert otherwise._outside(loading.load(make(tmp_path, text)[0]).nodes[-1]) is outside
