"""Pictures by the million: listed, shared, seen and written as they come, and what a run that was killed left."""

import csv
import json
import os
import sys
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

import caffe2tf
from caffe2tf.classification import growing, labels, results
from caffe2tf.classification.names import Names
from caffe2tf.classification.seen import Box, Seen
from caffe2tf.errors import Caffe2TFError, OutputError, ParseError
from caffe2tf.images import crops, preprocess
from caffe2tf.images import decode as imaging
from tests.helpers import SMALL, run, write_small_set

RANDOM = np.random.RandomState(0)
NAMES = ["a.jpg", "b/c.png", "b.jpg", "b-c/x.jpg", "b/d/e.JPG", "z.txt", "b/c/0.jpg", "ü.jpg", "b.d/1.bmp"]


# ------------------------------------------------------------------------------------------------ which pictures


@pytest.mark.parametrize("portion", [1, 2, 3, 100])
def test_a_folder_is_listed_in_the_order_of_whole_names(portion, tmp_path, monkeypatch):
    monkeypatch.setattr(imaging, "_PORTION", portion)
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    wanted = sorted(str(tmp_path / name) for name in NAMES if not name.endswith(".txt"))
    found = imaging.each_image([str(tmp_path)])
    assert iter(found) is found
    assert list(found) == wanted
    parts = [list(labels.each([str(tmp_path)], None, False, (part, 3))[0]) for part in (1, 2, 3)]
    assert parts == [wanted[0::3], wanted[1::3], wanted[2::3]]
    labelled = labels.each([str(tmp_path)], None, True, (2, 3))
    assert (list(labelled[0]), labelled[1]) == (parts[1], [os.path.basename(path).split(".")[0] for path in parts[1]])


def test_pictures_are_asked_for_no_sooner_than_needed(tmp_path, monkeypatch):
    for index in range(5):
        (tmp_path / f"{index}.jpg").touch()
    monkeypatch.setattr(imaging, "_PORTION", 2)
    found = imaging.each_image([str(tmp_path)])
    next(found), next(found)
    (tmp_path / "3.jpg").unlink()  # it is not in the first portion, so nothing knows of it yet
    assert [os.path.basename(path) for path in found] == ["2.jpg", "4.jpg"]


def test_names_are_told_apart():
    names = Names(f"{i}.jpg" for i in range(1000))
    assert len(names) == 1000
    assert all(f"{i}.jpg" in names for i in range(1000))
    assert not any(f"{i}.png" in names for i in range(1000))
    assert "x" not in Names()


# ------------------------------------------------------------------------------------------------ what grows

SEEN = [Seen(f'{i}, "{i}".jpg', ((i, "a, b", 0.75), (3, "c\nd", 0.25))) for i in range(4)]
SEEN[2] = Seen("nothing\n.jpg", ())  # all below the threshold
BOXES = [Seen(f"{i}", boxes=tuple(Box(1, "x", 0.5, 1, 2, 3, n) for n in range(i))) for i in range(4)]


def grow(path, seen, resume=True, detects=False):
    """Adds what is not there yet; returns how many pictures were."""
    with growing.growing(str(path), detects, False, resume, False) as out:
        for one in seen:
            if one.file not in out.names:
                out.add(one, 5)
        return len(out.names)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("seen", [SEEN, BOXES], ids=["classes", "boxes"])
def test_a_result_that_was_cut_anywhere_goes_on_to_the_same(suffix, seen, tmp_path):
    path, detects = tmp_path / f"x.{suffix}", seen is BOXES
    assert grow(path, seen, resume=False, detects=detects) == 0
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        grow(path, seen, detects=detects)
        assert path.read_bytes() == whole, size


def test_what_is_there_already_is_left_out(tmp_path):
    for name, kept in (("x.csv", 3), ("x.jsonl", 4), ("x.parquet", 4)):
        if name == "x.parquet":
            pytest.importorskip("pyarrow")
        path = tmp_path / name
        grow(path, SEEN, resume=False)
        assert grow(path, SEEN) == kept, name
        with pytest.raises(OutputError, match="exists already; `force` replaces it, `resume` goes on"):
            grow(path, SEEN, resume=False)


def test_a_parquet_grows_by_whole_parts(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("caffe2tf.classification.parts._PART", 2)
    path = tmp_path / "x.parquet"
    grow(path, SEEN[:3], resume=False)
    assert grow(path, SEEN) == 3
    assert len(list(path.glob("part-*.parquet"))) == 4
    rows = parquet.read_table(path).to_pylist()
    assert [(row["file"], row["rank"], row["class"]) for row in rows[:3]] == [
        ('0, "0".jpg', 1, 0), ('0, "0".jpg', 2, 3), ('1, "1".jpg', 1, 1),
    ]  # fmt: skip
    assert rows[4] == {"file": "nothing\\n.jpg", "rank": 0, "class": None, "name": None, "probability": None}
    (path / "part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ParseError, match=r"part-00001\.parquet: is not a \.parquet that can be read"):
        grow(path, SEEN)
    (path / "mine.txt").touch()
    with pytest.raises(OutputError, match=r"holds mine\.txt, which caffe2tf did not write"):
        grow(path, SEEN)


def test_without_pyarrow_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        Caffe2TFError, match=r"needs pyarrow, which is not installed; .* pip install 'caffe2tf\[parquet\]'"
    ):
        grow(tmp_path / "x.parquet", SEEN)


@pytest.mark.parametrize(("name", "text", "why"), [
    ("x.csv", "file,rank\n", "has other columns than this run, which gives file,rank,class,name,probability"),
    ("x.csv", "file,rank,class,name,probability\na,1\n", "x.csv:2: is no row of 5 cells"),
    ("x.csv", "file,rank,class,name,probability\na,x,1,b,0.5\n", "x.csv:2: is no row of 5 cells"),
    ("x.csv", "a" * (1 << 20), "holds a line of more than 1048576 bytes"),
    ("x.jsonl", '{"file": "a", "boxes": []}\n', "x.jsonl:1: is no line of this run's: it lacks 'top'"),
    ("x.jsonl", "hello\n", "x.jsonl:1: is no line of this run's: is no JSON"),
])  # fmt: skip
def test_what_is_no_result_of_ours_is_not_gone_on_with(name, text, why, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ParseError, match=why):
        grow(tmp_path / name, SEEN)
    assert (tmp_path / name).read_text() == text


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_two_runs_do_not_write_one_result(name, tmp_path):
    pytest.importorskip("fcntl")
    if name == "x.parquet":
        pytest.importorskip("pyarrow")
    grow(tmp_path / name, SEEN[:1], resume=False)
    with growing.growing(str(tmp_path / name), False, False, True, False) as out:
        for way in ({"resume": True, "force": False}, {"resume": False, "force": True}):
            with pytest.raises(OutputError, match="another run writes it"), ExitStack() as stack:
                stack.enter_context(growing.growing(str(tmp_path / name), False, False, **way))
        out.add(SEEN[1], 5)
        out.add(SEEN[2], 5)
    assert grow(tmp_path / name, SEEN[:3]) == (2 if name == "x.csv" else 3)  # its last picture is seen again


def test_a_threshold_leaves_out_and_says_nothing_of_the_rest():
    cut = results.above(SEEN[1], 0.5)
    assert results.rows(cut, 5) == [('1, "1".jpg', 1, 1, "a, b", 0.75)]
    assert results.rows(results.above(SEEN[1], 0.9), 5) == [('1, "1".jpg', 0, None, None, None)]
    assert results.above(BOXES[2], 0.6).boxes == ()
    assert results.above(BOXES[2], 0.5) == BOXES[2]


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def here(tmp_path, monkeypatch):
    pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    write_small_set(tmp_path)
    return tmp_path


def files(text):
    return [row["file"] for row in csv.DictReader(text.splitlines()) if row["rank"] == "1"]


def test_shards_and_a_run_that_goes_on_see_every_picture_once(here):
    whole = run("classify", *SMALL, "train", "--csv").stdout
    for part in ("1/3", "2/3", "3/3"):
        said = run("classify", *SMALL, "train", "--out", "seen.csv", "--shard", part, "--resume").stdout
    assert said == "seen.csv  10 pictures, beside those of an earlier run\n"
    text = (here / "seen.csv").read_text()
    assert sorted(files(text)) == files(whole)
    assert len(text.splitlines()) == len(whole.splitlines())
    (here / "seen.csv").write_bytes((here / "seen.csv").read_bytes()[:-700])
    run("classify", *SMALL, "train", "--out", "seen.csv", "--resume")
    assert sorted(files((here / "seen.csv").read_text())) == files(whole)
    assert "seen.csv: exists already" in run("classify", *SMALL, "train", "--out", "seen.csv", code=1).stderr
    run("classify", *SMALL, "train/red", "--out", "seen.csv", "-f", "-k", "1", "-q")
    assert files((here / "seen.csv").read_text()) == sorted(f"train/red/{i}.png" for i in range(10))


def test_json_goes_out_as_it_comes_and_is_one_document(here):
    (here / "train" / "red" / "0.png").write_text("x")
    said = run("classify", *SMALL, "train/red", "--json", "-k", 2, code=1)
    shown = json.loads(said.stdout)
    assert len(shown["images"]) == 9
    assert shown["unreadable"][0]["file"] == "train/red/0.png"
    assert said.stdout == json.dumps(shown, indent=1) + "\n"
    labelled = json.loads(
        run("classify", *SMALL, "train/red/1.png", "--json", "--truth", "l.txt", code=1).stdout or "{}"
    )
    assert labelled == {}


@pytest.mark.parametrize(("args", "code", "why"), [
    (["--resume"], 2, "--resume goes on with a file; name it with --out"),
    (["--resume", "--force", "--out", "x.csv"], 2, "--resume goes on with what --force would replace"),
    (["--shard", "4/3"], 2, "'4/3'; takes a part of all, 1/16 to 16/16"),
    (["--shard", "1"], 2, "'1'; takes a part of all"),
    (["--out", "x.txt"], 2, "'x.txt'; takes a .csv or .jsonl or .parquet"),
    (["--out", "none/x.csv"], 1, "its folder does not exist"),
    (["--threshold", "2"], 2, "2.0 is not in the range 0<=x<=1"),
    (["--resize", "1y"], 2, "'1y'; takes 227, 256x227 (height first) or none"),
    (["--crop", "5"], 1, "--resize and --crop give 5x5; the network takes 12x12"),
    (["--mean", "1,2"], 1, "--mean 1,2; takes 3 numbers"),
    (["--channels", "grey"], 1, "--channels grey: the network's input has 3 channels"),
])  # fmt: skip
def test_wrong_ways_are_one_line(args, code, why, here):
    assert why in run("classify", *SMALL, "train", *args, code=code).stderr


def test_settings_mean_what_they_mean_for_finetune_and_for_every_kind_of_model(here):
    said = ["--resize", "16x14", "--mean", "1,2,3", "--scale", "0.5", "--channels", "rgb"]
    run("convert", *SMALL, "-o", "x.keras", "-q")
    words = "RGB, bilinear to 16 x 14, centre crop 12 x 12, minus (1, 2, 3), times 0.5 (as said)"
    tops = []
    for model in (SMALL, ["x.keras"]):
        shown = run("classify", *model, "train/red", "--csv", *said)
        assert words in shown.stderr
        tops.append(shown.stdout)
    assert tops[0] == tops[1] != run("classify", *SMALL, "train/red", "--csv").stdout
    net = preprocess.changed(caffe2tf.load(*SMALL[::2]), resize=(16, 14), mean=(1, 2, 3), scale=0.5, channels="rgb")
    (alone,) = caffe2tf.classify(net, "train/red/0.png")
    (told,) = caffe2tf.classify(
        "net.caffemodel",
        "train/red/0.png",
        prototxt="net.prototxt",
        resize="16x14",
        mean=[1, 2, 3],
        scale=0.5,
        channels="rgb",
    )
    assert told == alone
    with pytest.raises(Caffe2TFError, match="`resize`: 'True'; takes 227"):
        caffe2tf.classify(net, "train/red/0.png", resize=True)
    with pytest.raises(Caffe2TFError, match="`crops` 5; takes 1 or 10"):
        caffe2tf.classify(net, "train/red/0.png", crops=5)


# ------------------------------------------------------------------------------------------------ ten crops


def oversampled(image, h, w):
    """Caffe's crops of a picture (H, W, C): corners by rows, the centre, and all five mirrored."""
    down, right = image.shape[0] - h, image.shape[1] - w
    starts = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    five = [image[y : y + h, x : x + w] for y, x in starts]
    return np.stack(five + [np.flip(one, 1) for one in five])


def test_ten_crops_are_caffes():
    image = RANDOM.randint(0, 256, (9, 12, 3)).astype(np.uint8)
    planes = np.moveaxis(oversampled(image.astype(np.float32), 4, 5), 3, 1)
    plain = preprocess.Preprocessing(None, (4, 5), (1.0, 2.0, 3.0), 0.5)
    np.testing.assert_array_equal(
        crops.Ten(plain)(image), (planes - np.float32([1, 2, 3])[:, None, None]) * np.float32(0.5)
    )
    # pycaffe's mean lies on the mirrored crop as on any; the data layers' goes with the picture before it is mirrored.
    small, large = (RANDOM.randint(0, 256, (3, *size)).astype(np.float32) for size in ((4, 5), (9, 12)))
    of_crop = preprocess.Preprocessing(None, (4, 5), tuple(small.tolist()))
    np.testing.assert_array_equal(crops.Ten(of_crop)(image), planes - small)
    of_all = preprocess.Preprocessing(None, (4, 5), tuple(large.tolist()))
    wanted = oversampled(image - np.moveaxis(large, 0, 2), 4, 5)
    np.testing.assert_array_equal(crops.Ten(of_all)(image), np.moveaxis(wanted, 3, 1))


def test_ten_crops_are_averaged_before_anything_else_is_made_of_them(here):
    net = caffe2tf.load(*SMALL[::2], outputs=["s"])  # scores, of which the average comes before Softmax
    Image.fromarray(RANDOM.randint(0, 256, (30, 40, 3)).astype(np.uint8)).save("x.png")
    how, _ = preprocess.of(preprocess.changed(net, resize=(20, 22)))
    ten = crops.Ten(how)(imaging.read_image("x.png"))
    scores = caffe2tf.forward(net, {"data": ten})["s"].astype(np.float64).mean(0)
    wanted = np.exp(scores) / np.exp(scores).sum()
    paths = ["x.png", "train/red/0.png", "x.png"]
    found = caffe2tf.classify(net, paths, crops=10, resize=(20, 22), top=10)
    assert {number: p for number, _, p in found[2].top} == pytest.approx(dict(enumerate(wanted)), rel=1e-5)
    assert [p for _, _, p in found[0].top] == pytest.approx([p for _, _, p in found[2].top], rel=1e-6)
    one = caffe2tf.classify(net, "x.png", resize=(20, 22), top=10)[0]
    assert max(abs(a[2] - b[2]) for a, b in zip(sorted(one.top), sorted(found[0].top), strict=True)) > 1e-6
