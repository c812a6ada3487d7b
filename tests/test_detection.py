"""What a detector finds, as boxes in the picture: as rows, as JSON, drawn, from every kind of model."""

import csv
import json
import re
import runpy

import numpy as np
import pytest
from PIL import Image

import caffe2tf
from caffe2tf import bundled
from caffe2tf.errors import Caffe2TFError
from caffe2tf.images import boxes
from tests.helpers import README, ROOT, run

EXAMPLES = ROOT / "examples"
MODEL = ["squares.prototxt", "squares.caffemodel"]
SQUARES = {"red": {(40, 20), (240, 200)}, "blue": {(320, 40), (80, 180)}}  # left, top of 120 x 80 pixels


@pytest.fixture
def squares(tmp_path, monkeypatch):
    """An SSD that finds red and blue squares, and a picture of 480 x 320 with two of each."""
    pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "squares.py"), run_name="__main__")
    return tmp_path


def assert_found(found):
    """That (name, left, top, right, bottom) are the squares, to the window that was looked through."""
    for colour, corners in SQUARES.items():
        mine = [one[1:] for one in found if one[0] == f"{colour} square"]
        assert len(mine) == len(corners)
        for left, top in corners:
            near = [np.abs(np.subtract(box, (left, top, left + 120, top + 80))).max() for box in mine]
            assert min(near) < 14  # a third of a window: 8 of 96 pixels, as parts of 480 and 320


def test_boxes_are_printed_in_pixels_of_the_picture(squares):
    args = ["squares.png", "--labels", "squares.txt", "--threshold", "0.5"]
    shown = run("classify", *MODEL, *args, "--plot", "boxes.png")
    lines = re.search(r"^\$ caffe2tf classify squares.*?\n(.*?)```", README, re.MULTILINE | re.DOTALL)[1]
    assert shown.stdout == lines
    rows = list(csv.DictReader(run("classify", *MODEL, *args, "--csv").stdout.splitlines()))
    corners = ("left", "top", "right", "bottom")
    assert_found([(row["name"], *(float(row[side]) for side in corners)) for row in rows])
    (image,) = json.loads(run("classify", *MODEL, *args, "--json").stdout)["images"]
    assert_found([(box["name"], *(box[side] for side in corners)) for box in image["boxes"]])
    assert len(json.loads(run("classify", *MODEL, *args, "--json", "-k", 1).stdout)["images"][0]["boxes"]) == 1
    drawn = np.asarray(Image.open("boxes.png").convert("RGB")).reshape(-1, 3)
    for colour in ((255, 0, 0), (0, 0, 255), (0xE4, 0x57, 0x56), (0x4C, 0x78, 0xA8)):
        assert (np.abs(drawn.astype(int) - colour).max(1) < 4).sum() > 100, colour


@pytest.mark.slow
def test_a_whole_model_remembers_that_it_is_a_detector(squares):
    run("convert", *MODEL, "-o", "x.keras", "-q")
    (squares / "two.txt").write_text("red square\nblue square\n")  # without the background
    (found,) = caffe2tf.classify("x.keras", "squares.png", labels="two.txt", threshold=0.5)
    assert_found([(box.name, *box[3:]) for box in found.boxes])
    assert {box.number for box in found.boxes} == {1, 2}
    (squares / "four.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(Caffe2TFError, match="4 labels for 3 classes, the background among them"):
        caffe2tf.classify("x.keras", "squares.png", labels="four.txt")


def test_what_is_asked_of_classes_is_refused(squares):
    assert (
        "is a detector, which sees a picture once; --crops"
        in run("classify", *MODEL, "squares.png", "--crops", "10", code=1).stderr
    )
    said = run("classify", *MODEL, "squares.png", "--labels-from-names", code=2).stderr
    assert "squares.caffemodel finds boxes, which are not compared" in said


def test_a_box_in_a_crop_is_found_in_the_picture():
    whole = boxes.in_picture((0.25, 0.5, 0.75, 1.0), None, None, (40, 80))
    assert whole == (20, 20, 60, 40)
    assert boxes.in_picture((0.25, 0.5, 0.75, 1.0), (10, 10), None, (40, 80)) == whole
    # 4 x 6 from the middle of 10 x 10: it starts at (3, 2)
    assert boxes.in_picture((0, 0, 1, 1), (10, 10), (4, 6), (40, 80)) == (16, 12, 64, 28)


def test_mtcnn_finds_the_face(shared):
    faces = runpy.run_path(str(EXAMPLES / "faces.py"))
    picture = Image.open(bundled.photograph("grace_hopper.jpg")).convert("RGB")
    ((score, box, points),) = faces["faces"](faces["load"](shared / "models" / "mtcnn"), picture)
    shown = re.search(r"^([\d.]+)  box ([\d ]+?)  points (.*)$", README, re.MULTILINE)
    assert score == pytest.approx(float(shown[1]), abs=1e-3)
    assert box == pytest.approx([float(side) for side in shown[2].split()], abs=2)
    assert np.ravel(points) == pytest.approx([float(n) for n in re.split("[ ,]", shown[3])], abs=2)
