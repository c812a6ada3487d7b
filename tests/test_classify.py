"""Classes with names, for every kind of model."""

import csv
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import caffe2tf
from caffe2tf import loading
from caffe2tf.classification import classifier as classifying
from caffe2tf.classification import labels as labelling
from caffe2tf.classification import score as scores
from caffe2tf.classification import seeing
from caffe2tf.cli.main import main
from caffe2tf.errors import Caffe2TFError
from caffe2tf.images import decode as imaging
from caffe2tf.keras_model.device import DeviceError
from tests.helpers import inputs, layer, make, run

pytest.importorskip("keras")
IP = "inner_product_param { num_output: 3 }"


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
    run("convert", "net.caffemodel", *text, "-o", "x.npz", "-o", "x.keras", "-o", "saved/", "-o", "x.tflite", "-q")
    assert top(run("classify", "x.npz", *options, *text)) == ["blue", "green", "red"]
    assert top(run("classify", "x.keras", *options)) == ["blue", "green", "red"]
    assert top(run("classify", "saved", *options)) == ["blue", "green", "red"]
    assert top(run("classify", "x.tflite", *options)) == ["blue", "green", "red"]


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


def photo(folder, name, colour):
    Image.new("RGB", (20, 10), colour).save(folder / name)
    return name


def test_preprocessing_travels_in_every_whole_model(small):
    how = "transform_param { scale: 0.5 mean_value: 1 mean_value: 2 mean_value: 3 crop_size: 8 }"
    text = f'layer {{ name: "d" type: "Data" top: "data" {how} }}' + layer("InnerProduct", IP, name="fc")
    make(small, text, {"fc": [(3, 192), (3,)]})
    run("convert", "net.caffemodel", "-o", "x.keras", "-o", "saved/", "-o", "x.tflite", "-q")
    expected = run("classify", "net.caffemodel", "pictures", "--json")
    assert "minus (1, 2, 3), times 0.5 (the snapshot's transform_param)" in expected.stderr
    for model in ("x.keras", "saved", "x.tflite"):
        found = run("classify", model, "pictures", "--json")
        # All but the line that says which file it was.
        assert found.stderr.splitlines()[1:] == expected.stderr.splitlines()[1:]
        assert top(found) == top(expected)


def test_many_pictures_in_batches_are_what_each_is_alone(small):
    names = [photo(small, f"{i:02}.png", (3 * i, 250 - 3 * i, 100)) for i in range(70)]
    text = ["-p", "net.prototxt", "--json"]
    for count in (70, 20):  # compiled, and not
        together = json.loads(run("classify", "net.caffemodel", *names[:count], *text).stdout)["images"]
        assert [item["file"] for item in together] == names[:count]
        for place in (0, 15, 16, count - 1):
            (alone,) = json.loads(run("classify", "net.caffemodel", names[place], *text).stdout)["images"]
            for a, b in zip(alone["top"], together[place]["top"], strict=True):
                assert (a["class"], a["probability"]) == (b["class"], pytest.approx(b["probability"], rel=1e-5))


def test_a_model_of_a_fixed_batch(small):
    import keras

    image = keras.Input((8, 8, 3), batch_size=2)
    keras.Model(image, keras.ops.reshape(keras.layers.GlobalAveragePooling2D()(image), (2, 3))).save("two.keras")
    assert top(run("classify", "two.keras", "pictures", "--labels", "labels.txt", "--json")) == ["blue", "green", "red"]


def test_decoding_runs_ahead_but_not_far(small, monkeypatch):
    read, seen = imaging.read_image, []
    monkeypatch.setattr(imaging, "read_image", lambda path, *args: seen.append(path) or read(path, *args))
    classifier = classifying.load("net.caffemodel", "net.prototxt")
    results = classifier(["pictures/1_blue.png"] * 1000)
    next(results)
    assert 16 < len(seen) <= (seeing._AHEAD + 1) * seeing.BATCH
    results.close()


def test_standard_input(small):
    data = (small / "pictures" / "3_red.png").read_bytes()
    args = ["classify", "net.caffemodel", "-p", "net.prototxt", "--labels", "labels.txt", "--json", "-q"]
    shown = json.loads(CliRunner().invoke(main, [*args, "-", "pictures/1_blue.png"], input=data).stdout)["images"]
    assert [(item["file"], item["top"][0]["name"]) for item in shown] == [("-", "red"), ("pictures/1_blue.png", "blue")]
    result = CliRunner().invoke(main, [*args, "-"], input=b"hello")
    assert result.stderr == f"caffe2tf: -: is not a picture that can be read ({', '.join(imaging.SUFFIXES)})\n"
    assert "-: is given twice; standard input holds one picture" in run(*args, "-", "-", code=1).stderr


def test_csv(small):
    args = ["classify", "net.caffemodel", "-p", "net.prototxt", "--labels", "labels.txt", "--csv", "pictures/3_red.png"]
    rows = list(csv.reader(run(*args, "-k", 2).stdout.splitlines()))
    assert rows[0] == ["file", "rank", "class", "name", "probability"]
    assert [row[:4] for row in rows[1:]] == [
        ["pictures/3_red.png", "1", "2", "red"], ["pictures/3_red.png", "2", "0", "blue"],
    ]  # fmt: skip
    (small / "list.txt").write_text("pictures/3_red.png 1\n")
    result = run(*args, "--truth", "list.txt", "-k", 1)
    rows = list(csv.reader(result.stdout.splitlines()))
    assert (rows[0][5], rows[1][5]) == ("truth", "green")
    assert result.stderr.splitlines()[-1] == "top-1 0.000 (0 of 1)"


LISTS = {
    "numbers": "pictures/1_blue.png 0\npictures/2_green.png 1\n\npictures/3_red.png 1\n",
    "names": "pictures/1_blue.png blue\npictures/2_green.png green\npictures/3_red.png green\n",
    "spaces, tabs and synonyms": "a b.png light blue\npictures/2_green.png\tgreen\npictures/3_red.png grass green\n",
    "Windows": "pictures\\1_blue.png blue\r\npictures\\2_green.png green\r\npictures\\3_red.png 1\r\n",
}


def test_what_has_no_part_in_a_call_is_refused(small):
    net = loading.load("net.prototxt", "net.caffemodel")
    for model, settings, why in (
        (
            net,
            {"prototxt": "net.prototxt"},
            "has its text and shapes; `prototxt`, `input_shape` and `outputs` are for files",
        ),
        (classifying.load(net), {"crops": 10}, "a Classifier knows how pictures become its input"),
        (classifying.load(net), {"scale": 2.0}, "a Classifier knows how pictures become its input"),
        (net, {"crops": 3}, "`crops` 3; takes 1 or 10"),
    ):
        with pytest.raises(Caffe2TFError, match=why):
            caffe2tf.classify(model, "pictures", **settings)
    with pytest.raises(DeviceError, match="gpu:0: TensorFlow Lite runs on the cpu"):
        classifying.load("x.tflite", device="gpu:0")


def test_a_call_says_what_was_right(small):
    classifier = classifying.load(loading.load("net.prototxt", "net.caffemodel"), labels="labels.txt")
    (small / "list.txt").write_text("pictures/1_blue.png blue\npictures/2_green.png 0\npictures/3_red.png 2\n")
    seen = caffe2tf.classify(classifier, "pictures", truth="list.txt")
    assert [one.right for one in seen] == [True, False, True]
    for name in ("1_blue", "2_green", "3_red"):
        (small / "pictures" / f"{name}.png").rename(small / "pictures" / f"{name[2:]}.0.png")
    seen = caffe2tf.classify(classifier, "pictures", labels_from_names=True)
    assert [one.right for one in seen] == [True] * 3


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_accuracy_on_a_list(text, small, monkeypatch):
    (small / "labels.txt").write_text("blue, light blue\ngreen, grass green\nred\n")
    shutil.copy("pictures/1_blue.png", "a b.png")
    (small / "list.txt").write_bytes(text.encode())
    (small / "elsewhere").mkdir()
    monkeypatch.chdir(small / "elsewhere")  # paths of a list are relative to the list
    args = ["../net.caffemodel", "-p", "../net.prototxt", "--labels", "../labels.txt", "--truth", "../list.txt"]
    shown = json.loads(run("classify", *args, "--json").stdout)
    assert shown["accuracy"] == {"images": 3, "top1": pytest.approx(2 / 3)}
    assert shown["images"][2]["truth"] == {"class": 1, "name": "green, grass green"}
    lines = run("classify", *args, "--confusion", "c.csv", "-k", 1).stdout.splitlines()
    assert lines[0].endswith("  ok")
    assert lines[4].endswith("3_red.png  WRONG, is green, grass green")
    assert "top-1 0.667 (2 of 3)" in lines
    assert lines[-4:] == ["class    0  1  2", "0 blue   1  0  0", "1 green  0  1  1", "2 red    0  0  0"]
    rows = list(csv.reader((small / "elsewhere" / "c.csv").read_text().splitlines()))
    assert rows[0] == ["true \\ predicted", "blue, light blue", "green, grass green", "red"]
    assert rows[2] == ["green, grass green", "0", "1", "1"]


def test_accuracy_by_folders_and_by_names(small):
    args = ["classify", "net.caffemodel", "-p", "net.prototxt", "--labels", "labels.txt", "--json"]
    for name, label in (("1_blue", "blue"), ("2_green", "green"), ("3_red", "green")):
        (small / "classes" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(f"pictures/{name}.png", f"classes/{label}/{name}.png")
        (small / "flat").mkdir(exist_ok=True)
        shutil.copy(f"pictures/{name}.png", f"flat/{label}.{name}.png")
    for how in (["--truth", "classes"], ["--labels-from-names", "flat"]):
        assert json.loads(run(*args, *how).stdout)["accuracy"] == {"images": 3, "top1": pytest.approx(2 / 3)}
    # With images the list only says what they are, wherever it lies.
    (small / "names.txt").write_text("2_green.png green\n3_red.png red\n1_blue.png red\n")
    shown = json.loads(run(*args, "pictures", "--truth", "names.txt").stdout)
    assert [item["truth"]["name"] for item in shown["images"]] == ["red", "green", "red"]


def test_top5_counts_the_first_five_alone():
    names = tuple("abcdefg")
    score = scores.Score(names)
    tops = [(c, names[c], 0.1) for c in range(6)]
    for label in (0, 4, 5, 6):
        score.add(classifying.Seen("x", tuple(tops), (label, names[label])))
    score.add(classifying.Seen("x", tuple(tops)))
    score.add(classifying.Seen("x", label=(0, "a"), error="x: is no picture"))
    assert score.accuracy == {"images": 4, "top1": 0.25, "top5": 0.5}


def test_labels_mean_classes():
    names = ["tench, Tinca tinca", "crane", "crane", "1", "bass, tench"]
    assert labelling.numbers(["Tinca tinca", "0", "1", "bass", "n9"], names, ("n5", "n6", "n7", "n8", "n9")) == [
        0,
        0,
        3,
        4,
        4,
    ]
    with pytest.raises(labelling.LabelError, match="'tench' is the name of several classes"):
        labelling.numbers(["tench"], names)
    for label in ("bas", "5", "-1", ""):
        with pytest.raises(labelling.LabelError, match=r"is no class of the model.*a number from 0 to 4"):
            labelling.numbers([label], names)
    wrong = [f"no{number}" for number in range(20)]
    with pytest.raises(labelling.LabelError, match="'no0'"):  # the first, whatever the order of a set
        labelling.numbers(wrong, names)


def test_plot_and_confusion_are_pictures(small):
    args = ["net.caffemodel", "-p", "net.prototxt", "--labels", "labels.txt", "pictures", "--labels-from-names", "-q"]
    (small / "labels.txt").write_text("1_blue\n2_green\n3_red\n")
    run("classify", *args, "--plot", "seen.png", "--confusion", "matrix.png")
    run("classify", *args[:5], "pictures/1_blue.png", "--plot", "one.png")
    for path, colours in (("seen.png", [(0, 0, 255), (0, 255, 0), (255, 0, 0)]), ("one.png", [(0, 0, 255)])):
        pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
        assert all((pixels == colour).all(1).mean() > 0.02 for colour in colours), path
    assert min(Image.open("matrix.png").size) > 200
    before = (small / "seen.png").stat()
    assert "seen.png: exists already" in run("classify", *args, "--plot", "seen.png", code=1).stderr
    assert (small / "seen.png").stat().st_mtime_ns == before.st_mtime_ns
    picture = ["pictures/1_blue.png", "--plot", "pictures/1_blue.png", "-f", "-p", "net.prototxt"]
    assert "is the file that is read" in run("classify", "net.caffemodel", *picture, code=1).stderr


def test_plot_says_what_it_leaves_out(small):
    names = [photo(small, f"{i:02}.png", (5 * i, 0, 100)) for i in range(26)]
    result = run("classify", "net.caffemodel", *names, "-p", "net.prototxt", "--plot", "seen.png")
    assert "note: seen.png shows the first 24 of 26 pictures" in result.stderr


def test_what_cannot_be_read_is_listed_and_the_rest_goes_on(small):
    (small / "text.jpg").write_text("hello")
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (64, 64, 3), np.uint8)).save("whole.png")
    (small / "part.png").write_bytes((small / "whole.png").read_bytes()[:5000])
    args = ["net.caffemodel", "text.jpg", "pictures/1_blue.png", "part.png", "-p", "net.prototxt", "-k", 1, "--json"]
    result = run("classify", *args, code=1)
    shown = json.loads(result.stdout)
    assert [item["file"] for item in shown["images"]] == ["pictures/1_blue.png"]
    assert [item["file"] for item in shown["unreadable"]] == ["text.jpg", "part.png"]
    (small / "list.txt").write_text("text.jpg 1\n")
    args = ["net.caffemodel", "-p", "net.prototxt", "--truth", "list.txt", "--plot", "x.png", "--confusion", "y.png"]
    nothing = run("classify", *args, code=1)
    assert "no picture was read, so there is no accuracy" in nothing.stdout
    assert not (small / "x.png").exists()
    assert not (small / "y.png").exists()
    assert [line.split(":")[1] for line in result.stderr.splitlines()[2:]] == [
        " text.jpg", " part.png", " 2 of 3 pictures cannot be read",
    ]  # fmt: skip


def test_odd_pictures(small):
    frames = [Image.new("RGB", (30, 30), colour) for colour in ((0, 0, 255), (255, 0, 0))]
    frames[0].save("two.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 1), (0, 0, 255)).save("one.png")
    Image.new("RGB", (20_000, 100), (0, 0, 255)).save("wide.png")
    Image.new("1", (20_000, 20_000)).save("bomb.png")
    args = ["-p", "net.prototxt", "--labels", "labels.txt", "--json"]
    result = run("classify", "net.caffemodel", "two.gif", "one.png", "wide.png", *args)
    assert top(result) == ["blue"] * 3
    assert "note: two.gif: has several frames; the first is used" in result.stderr
    result = run("classify", "net.caffemodel", "bomb.png", *args, "-q", code=1)
    assert len(result.stderr.splitlines()) == 1
    assert "bomb.png: cannot be read: it has more than 89478485 pixels" in result.stderr


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "Missing argument 'IMAGE...'"),
        (["pictures", "--csv", "--json"], "--csv and --json both go to stdout"),
        (["pictures", "--confusion", "x.png"], "--confusion compares with what is in the pictures"),
        (["pictures", "--truth", "list.txt", "--labels-from-names"], "--truth and --labels-from-names both say"),
        (["pictures", "--plot", "x.jpg"], "'x.jpg'; takes a .png"),
        (["pictures", "--confusion", "x.txt"], "'x.txt'; takes a .png or .csv"),
    ],
)
def test_wrong_usage(args, why, small):
    assert why in run("classify", "net.caffemodel", *args, code=2).stderr


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pictures/1_blue.png blau\n", "label 'blau' is no class of the model; did you mean 'blue'?"),
        ("pictures/1_blue.png 3\n", "label '3' is no class of the model; takes a class name or a number from 0 to 2"),
        ("pictures/1_blue.png\n", "list.txt:1: 'pictures/1_blue.png'; takes a path and a label"),
        ("pictures/1_blue.png 0\nnone.png 1\n", "list.txt: 1 of 2 files are not there: none.png"),
        ("\n", "list.txt: holds no labels"),
        ("\xff", "list.txt: cannot be read"),
        (None, "list.txt: cannot be read: No such file or directory"),
    ],
)
def test_bad_labels_are_one_line(text, why, small):
    if text is not None:
        (small / "list.txt").write_bytes(text.encode("latin-1"))
    args = ["net.caffemodel", "-p", "net.prototxt", "--labels", "labels.txt", "-q", "--truth", "list.txt"]
    result = run("classify", *args, code=1)
    assert why in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_pictures_without_a_label_are_named(small):
    (small / "list.txt").write_text("pictures/1_blue.png 0\n")
    args = ["net.caffemodel", "-p", "net.prototxt", "pictures", "--truth", "list.txt"]
    assert (
        "no label for 2 of 3 pictures: pictures/2_green.png, pictures/3_red.png"
        in run("classify", *args, code=1).stderr
    )


def test_bad_models_are_one_line(small):
    run("convert", "net.caffemodel", "-p", "net.prototxt", "-o", "x.tflite", "-o", "x.keras", "-q")
    for size in (0, 3, 100, 1000):
        (small / "cut.tflite").write_bytes((small / "x.tflite").read_bytes()[:size])
        result = run("classify", "cut.tflite", "pictures", code=1)  # the interpreter itself would end the process
        assert result.stderr == "caffe2tf: cut.tflite: is no .tflite, or is cut short or damaged\n"
    for args, why in [
        (["x.tflite", "-p", "net.prototxt"], "holds the whole network; -p/--prototxt has no part in it"),
        (["x.keras", "--input-shape", "1,3,9,9"], "--input-shape 1,3,9,9; the model takes ?,3,8,8"),
        (["none.tflite"], "none.tflite: cannot be read: no such file or directory"),
    ]:
        assert why in run("classify", *args, "pictures", code=1).stderr
    text = inputs(data=(1, 3, 8, 8), more=(1, 3, 8, 8)) + layer("Eltwise", bottoms=["data", "more"], name="sum")
    make(small, text)
    args = ["net.caffemodel", "-p", "net.prototxt", "pictures"]
    assert "has the inputs data, more; classify takes networks with one" in run("classify", *args, code=1).stderr
    (small / "mine").mkdir()
    (small / "mine" / "settings.json").write_text('{"preprocessing": {"resize": "large"}}')
    (small / "mine" / "labels.txt").write_text("a\n")
    assert "mine/settings.json: its preprocessing is not what" in run("classify", "mine", "pictures", code=1).stderr


def test_squeezenet_is_as_often_right_as_in_caffe(shared, tmp_path):
    folder = shared / "models" / "squeezenet_v1.0"
    known = json.loads((folder / "expected.json").read_text())["images"]
    (tmp_path / "list.txt").write_text("".join(f"{item['file']} {item['label']}\n" for item in known))
    images = [shared / "images" / item["file"] for item in known]
    args = [folder / "squeezenet_v1.0.caffemodel", *images, "--truth", tmp_path / "list.txt", "--json"]
    shown = json.loads(run("classify", *args).stdout)
    assert shown["accuracy"] == {"images": 62, "top1": pytest.approx(47 / 62), "top5": pytest.approx(57 / 62)}
    assert [item["top"][0]["class"] for item in shown["images"]] == [item["top5"][0]["class"] for item in known]
