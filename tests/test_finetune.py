"""Training a new head on people's pictures: data as it lies, layers as named, no NaN unexplained, results that work."""

import csv
import gc
import json
import re

import numpy as np
import pytest
from PIL import Image

import caffe2tf
from caffe2tf import loading
from tests.helpers import COLOURS, SMALL, inputs, layer, load_small, make, run

tf = pytest.importorskip("tensorflow")
pytest.importorskip("sklearn")
from caffe2tf.errors import Caffe2TFError, NetError  # noqa: E402
from caffe2tf.finetuning import batches, data, features, heads, plan, rows, settings, trainer, training  # noqa: E402
from caffe2tf.finetuning import inputs as inputs_  # noqa: E402

# ------------------------------------------------------------------------------------------------ data


def test_every_way_that_data_lies(here):
    folders = data.read("train")
    assert (len(folders), folders.classes) == (30, ("blue", "green", "red"))
    (here / "list.txt").write_text("".join(f"train/{n}/{i}.png {n}\n" for n in COLOURS for i in range(10)))
    listed = data.read("list.txt")
    assert listed.classes == folders.classes
    assert listed.labels.tolist() == folders.labels.tolist()
    (here / "numbers.txt").write_text(
        "".join(f"train/{n}/{i}.png {k}\n" for k, n in enumerate(COLOURS) for i in range(10))
    )
    assert data.read("numbers.txt").classes == ("0", "1", "2")
    (here / "flat").mkdir()
    with tf.io.TFRecordWriter("train.tfrecord") as writer:
        for index, name in enumerate(COLOURS):
            for i in range(10):
                encoded = (here / "train" / name / f"{i}.png").read_bytes()
                (here / "flat" / f"{name}.{i}.png").write_bytes(encoded)
                feature = {
                    "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
                    "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[index])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    assert data.read("flat", labels_from_names=True).counts() == dict.fromkeys(COLOURS, 10)
    records = data.read("train.tfrecord")
    assert records.labels.tolist() == folders.labels.tolist()
    from caffe2tf.images.preprocess import Preprocessing

    how = Preprocessing((12, 12))
    every = np.arange(30)
    np.testing.assert_array_equal(rows.Decoded(records.sources, how)[every], rows.Decoded(folders.sources, how)[every])


def write_records(path, pictures):
    """A TFRecord of [(bytes of a picture, label)]."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for encoded, label in pictures:
            feature = {
                "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def test_pictures_of_records_stay_in_their_files(here):
    """What is known of each is where it lies, in several files too; a bad one has a name, and one that comes twice is seen."""
    files = [(here / "train" / name / f"{i}.png").read_bytes() for name in COLOURS for i in range(10)]
    (here / "records").mkdir()
    write_records(here / "records" / "a.tfrecord", [(files[0], 0), (b"no picture", 1), (files[10], 1)])
    write_records(here / "records" / "b.tfrecord", [(files[20], 2), (files[1], 0)])
    write_records(here / "val.tfrecord", [(files[10], 1), (files[2], 0), (files[22], 2)])
    found = data.read("records")
    assert [source.read() for source in found.sources] == [files[0], b"no picture", files[10], files[20], files[1]]
    assert {type(source) for source in found.sources} == {data.Record}
    (here / "train").rename(here / "elsewhere")
    result = run(
        *("finetune", *SMALL, "--layers", "fc8", "--data", "records", "--val", "val.tfrecord"), "--epochs", "1"
    )
    assert "warning: 1 validation pictures are among the training pictures too" in result.stderr
    assert re.search(r"new ones: val\.tfrecord \(record at byte \d+\)", result.stderr)
    assert "skipped: records/a.tfrecord (record at byte" in result.stderr
    assert "is not a picture that can be read" in result.stderr


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".gif"])
def test_every_kind_of_picture_is_read(suffix, tmp_path):
    """Those without loss give the same pixels; of an animated GIF the first frame counts."""
    random = np.random.RandomState(0)
    first = random.randint(0, 4, (9, 11)).astype(np.uint8) * 80  # few enough colours for a GIF
    first = np.stack([first, first.T.reshape(9, 11), 240 - first], 2)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        frames = {"save_all": True, "append_images": [Image.new("RGB", (11, 9))]} if suffix == ".gif" else {}
        Image.fromarray(first).save(tmp_path / name / f"x{suffix}", **frames)
    from caffe2tf.images.preprocess import Preprocessing

    pictures = data.read(str(tmp_path))
    images = rows.Decoded(pictures.sources, Preprocessing((9, 11)))
    assert pictures.classes == ("a", "b")
    np.testing.assert_array_equal(images[0], first[:, :, ::-1])


def test_folders_and_file_names_are_names_even_if_they_are_numbers(here):
    for number, name in (("1", "blue"), ("2", "green"), ("10", "red")):
        (here / "train" / name).rename(here / "train" / number)
    assert data.read("train").classes == ("1", "2", "10")


def test_lists_of_other_editors(here):
    (here / "list.txt").write_bytes(b"\xef\xbb\xbftrain/red/0.png\t1\r\ntrain/blue/0.png  0\r\n")
    assert data.read("list.txt").labels.tolist() == [1, 0]


@pytest.mark.parametrize("label", ["-1", "3", "--1", "²"])
def test_labels_of_a_validation_set_are_among_the_classes(label, here):
    (here / "val.txt").write_text(f"train/red/1.png 0\ntrain/blue/1.png {label}\n")
    (here / "train.txt").write_text(
        "".join(f"train/{n}/{i}.png {k}\n" for k, n in enumerate(COLOURS) for i in range(9))
    )
    line = finetune("--layers", "fc8", "--data", "train.txt", "--val", "val.txt", code=1).stderr
    assert f"labels {label} are not among the 3 classes" in line


def test_split_is_stratified_and_seeded(here):
    pictures = data.read("train")
    parts = data.split(pictures, (0.8, 0.1, 0.1), 3)
    assert [part.counts() for part in parts] == [dict.fromkeys(COLOURS, n) for n in (8, 1, 1)]
    again = data.split(pictures, (0.8, 0.1, 0.1), 3)
    assert [part.sources for part in parts] == [part.sources for part in again]
    assert parts[0].sources != data.split(pictures, (0.8, 0.1, 0.1), 4)[0].sources
    assert len({source for part in parts for source in part.sources}) == 30


def test_bad_data_is_one_line(here):
    (here / "one").mkdir()
    (here / "train" / "blue" / "0.png").rename(here / "one" / "x.png")
    (here / "missing.txt").write_text("nothing.png 0\ntrain/red/1.png 1\n")
    (here / "below.txt").write_text("train/red/1.png -1\ntrain/red/2.png 1\n")
    (here / "same.txt").write_text("train/red/1.png a\ntrain/red/2.png a\n")
    (here / "lone.txt").write_text("picture\n")
    (here / "text.tfrecord").write_text("hello")
    for path, why in [
        ("nowhere", "nowhere: no such file or folder"),
        ("one", "holds no folders, expected one for each class"),
        ("missing.txt", "1 of 2 files are not there: nothing.png"),
        ("below.txt", "below.txt: label -1; takes numbers from 0, or names"),
        ("same.txt", "all pictures are of one class, 'a'"),
        ("lone.txt", "lone.txt:1: 'picture'; takes a path and a label"),
        ("text.tfrecord", "(is no TFRecord with image/encoded|holds no pictures)"),
    ]:
        with pytest.raises(Caffe2TFError, match=why):
            data.read(path)
    pictures = data.read("train")
    with pytest.raises(data.DataError, match="two or three shares that add up to 1"):
        data.split(pictures, (0.5, 0.2), 0)
    with pytest.raises(data.DataError, match="too few for a split"):
        data.split(pictures.take(range(7, 14)), (0.98, 0.01, 0.01), 0)
    (here / "strange.txt").write_text("train/red/1.png strange\ntrain/red/2.png red\n")
    with pytest.raises(data.DataError, match="labels strange are not among the 3 classes"):
        data.read("strange.txt", classes=pictures.classes)


# ------------------------------------------------------------------------------------------------ layers


def test_a_new_head_alone_starts_fresh(here):
    net = load_small()
    changed, head, fresh = plan.with_head(net, 3)
    work = plan.make(changed, head, ["fc8"])
    assert (work.head, fresh, work.trained, work.logits) == ("fc8", True, ("fc8",), "s")
    assert work.frontier == ("h",)
    assert [node.layer.name for node in work.top.nodes][1:] == ["fc8"]
    assert work.net.weights["fc8"]["kernel"].shape == (16, 3)
    np.testing.assert_array_equal(work.net.weights["fc7"]["kernel"], net.weights["fc7"]["kernel"])
    both = plan.make(changed, head, ["fc*"])
    assert both.trained == ("fc7", "fc8")
    assert both.frontier == ("p",)
    assert plan.make(changed, head, ["all"]).base is None
    assert plan.with_head(net, 10) == (net, "fc8", False)


def test_a_relu_after_a_new_head_is_bypassed(tmp_path):
    text = inputs(data=(1, 3, 8, 8)) + layer(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 1 }", tops=["c"], name="c"
    )
    text += layer("ReLU", bottoms=["c"], tops=["c"], name="r")
    text += layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", bottoms=["c"], name="p")
    net = loading.load(*make(tmp_path, text, {"c": [(4, 3, 1, 1), (4,)]}))
    changed, head, _ = plan.with_head(net, 2)
    work = plan.make(changed, head, ["c"])
    assert [node.layer.name for node in work.net.nodes] == ["data", "c", "p"]
    assert work.logits == "top"


@pytest.mark.parametrize(
    ("head", "moves"), [("kernel_size: 1", True), ("kernel_size: 1 pad: 1", True), ("kernel_size: 2", False)]
)
def test_a_global_average_comes_before_a_1x1_head(head, moves, tmp_path):
    """The heads of SqueezeNet (which pads) and others: the same logits, from one place instead of all."""
    from caffe2tf.keras_model.model import forward

    text = inputs(data=(2, 3, 6, 8)) + layer(
        "Convolution", "convolution_param { num_output: 5 kernel_size: 3 }", tops=["c"], name="c"
    )
    text += layer("Convolution", f"convolution_param {{ num_output: 4 {head} }}", bottoms=["c"], tops=["h"], name="h")
    text += layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", bottoms=["h"], name="p")
    side = int(head[13])
    net = loading.load(*make(tmp_path, text, {"c": [(5, 3, 3, 3), (5,)], "h": [(4, 5, side, side), (4,)]}))
    work = plan.make(net, "h", ["h"])
    assert work.base is not None
    assert ("p" in [node.layer.name for node in work.base.nodes]) is moves
    assert [node.layer.name for node in work.top.nodes][1:] == (["h"] if moves else ["h", "p"])
    given = {"data": np.random.RandomState(0).randn(2, 3, 6, 8)}
    (frontier,) = work.frontier
    blobs, found = forward(net, given), forward(work.top, {frontier: forward(work.base, given)[frontier]})
    np.testing.assert_allclose(found[work.logits], blobs["top"], rtol=1e-5, atol=1e-5)


def tail(tmp_path, *layers, outputs=3):
    """fc8 with `layers` after it, on the small pictures' features."""
    text = inputs(data=(1, 3, 4, 4)) + layer(
        "InnerProduct", f"inner_product_param {{ num_output: {outputs} }}", tops=["s"], name="fc8"
    )
    return loading.load(
        *make(tmp_path, text + "".join(layers), {"fc8": [(outputs, 48), (outputs,)], "aux": [(2, 48), (2,)]})
    )


def test_the_loss_is_taken_before_the_softmax_wherever_it_stands(tmp_path):
    softmax = layer("Softmax", bottoms=["s"], tops=["s"], name="prob")  # in place
    assert [node.layer.name for node in plan.make(tail(tmp_path, softmax), "fc8", ["fc8"]).top.nodes] == ["data", "fc8"]
    flat = layer("Softmax", bottoms=["s"], tops=["p"], name="prob") + layer("Flatten", bottoms=["p"], name="flat")
    assert plan.make(tail(tmp_path, flat), "fc8", ["fc8"]).logits == "s"
    aux = layer("InnerProduct", "inner_product_param { num_output: 2 }", tops=["a"], name="aux")
    work = plan.make(tail(tmp_path, aux, layer("Softmax", bottoms=["s"], name="prob")), "fc8", ["all"])
    assert (work.trained, work.logits) == (("fc8",), "s")
    with pytest.raises(plan.PlanError, match="layer 'aux' has no part in the classes, which 'fc8' gives"):
        plan.make(tail(tmp_path, aux), "fc8", ["aux"])


@pytest.mark.parametrize("kind", ["Sigmoid", "ArgMax"])
def test_outputs_that_are_no_scores_are_refused(kind, tmp_path):
    net = tail(tmp_path, layer(kind, bottoms=["s"], name="last"))
    with pytest.raises(
        plan.PlanError, match=rf"is of layer 'last' \({kind}\).*takes one score for each of the 3 outputs"
    ):
        plan.make(net, "fc8", ["fc8"])


def test_a_head_that_does_not_give_the_classes_is_refused(here):
    line = finetune("--layers", "fc7", "--head", "fc7", code=1).stderr
    assert "takes one score for each of the 16 outputs of the head 'fc7' (--head names another)" in line


def test_dropout_counts_above_what_is_frozen_only(here):
    net, head, _ = plan.with_head(load_small(), 3)
    ratio = {
        node.layer.name: node.layer.p.dropout_ratio
        for node in plan.make(net, head, ["fc8"], 0.25).net.nodes
        if node.layer.type == "Dropout"
    }
    assert ratio == {"drop7": 0.25}
    assert [node.layer.name for node in plan.make(net, head, ["fc8"], 0.25).top.nodes][1:] == ["drop7", "fc8"]
    assert [node.layer.name for node in plan.make(net, head, ["fc8"], as_said=True).top.nodes][1:] == ["drop7", "fc8"]
    line = finetune("--layers", "conv1,fc8", "--split", "0.5,0.5", "--val", "train", code=1).stderr
    assert "--split 0.5,0.5 and --val train: the sets are split already" in line


def test_layers_that_cannot_train_are_named(here):
    net = load_small()
    with pytest.raises(NetError, match="no layer 'fc9'; nearest: fc8, fc7"):
        plan.make(net, "fc8", ["fc9"])
    with pytest.raises(
        plan.PlanError, match=r"layer 'pool' \(Pooling\) has no weights to train; those that have: conv1, fc7, fc8"
    ):
        plan.make(net, "fc8", ["pool"])
    with pytest.raises(plan.PlanError, match=r"`layers` x\* names no layer with weights"):
        plan.make(net, "fc8", ["x*"])
    with pytest.raises(NetError, match="no layer 'fc9'"):
        plan.with_head(net, 3, "fc9")
    line = finetune("--layers", "fc7", code=1).stderr
    assert "the head 'fc8' gives 10 classes, the data has 3: name it in --layers" in line


def test_what_only_one_of_two_settings_can_say_is_refused(here):
    """Whoever calls the library sees the names of its arguments."""
    stage = (settings.Stage("all"),)
    for run_, look, why in (
        (
            settings.Recipe(model="net.prototxt", prototxt="net.prototxt", stages=stage),
            inputs_.network,
            "`prototxt` has no part in it",
        ),
        (
            settings.Recipe(data="train", test="train", split=(0.5, 0.3, 0.2), stages=stage),
            inputs_.parts,
            "leaves two shares",
        ),
        (
            settings.Recipe(data="train", val="train", split=(0.5, 0.5), stages=stage),
            inputs_.parts,
            "the sets are split already",
        ),
    ):
        with pytest.raises(Caffe2TFError, match=why):
            look(run_)
    training, validation, test = inputs_.parts(settings.Recipe(data="train", test="train", stages=stage))
    assert len(training) + len(validation) == len(test) == 30
    training, validation, test = inputs_.parts(settings.Recipe(data="train", split=(0.6, 0.2, 0.2), stages=stage))
    assert len(training) + len(validation) + len(test) == 30


def test_features_of_what_has_none_beneath_its_head(tmp_path):
    """Without a head that gives classes, the first input of the last layer with weights; where that is changed later, none."""
    pooled = layer("Pooling", "pooling_param { kernel_size: 2 }", tops=["p"], name="pool")
    with pytest.raises(Caffe2TFError, match="has no layer with weights; name blobs as `outputs`"):
        caffe2tf.features(loading.load(make(tmp_path, inputs(data=(1, 3, 4, 4)) + pooled)[0]), tmp_path)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "x.png")
    text = inputs(data=(1, 3, 4, 4)) + pooled + layer("Scale", bottoms=["p"], tops=["s"], name="scale")
    text += layer("Sigmoid", bottoms=["s"], name="last")
    net = loading.load(*make(tmp_path, text, {"scale": [(3,)]}))
    found = caffe2tf.features(net, tmp_path)
    assert list(found.blobs) == ["p"]
    assert found.blobs["p"][np.arange(1)].shape == (1, 3, 3, 3)


# ------------------------------------------------------------------------------------------------ the command


def finetune(*args, code=0):
    return run("finetune", *SMALL, *args, code=code)


def test_results_work_and_reload_to_the_same_accuracy(here):
    result = finetune("--layers", "fc8", "--epochs", "8", "--lr", "0.01", "--split", "0.6,0.2,0.2", "--data", "train")
    assert "the head 'fc8' starts fresh" in result.stderr
    assert "trains fc8 on cpu" in result.stderr
    for line in (
        "class      training  validation  test",
        "blue              6           2     2",
        "3 classes        18           6     6",
    ):
        assert line in result.stderr.splitlines()
    for phase in ("features of the pictures: 30", "the test set: 6", "writing models: 2"):
        assert re.search(rf"^{phase} in [0-9.]+ s$", result.stderr, re.MULTILINE)
    assert re.search(r"^epoch   1  .*  [0-9.]+ s, [0-9.]+ s left$", result.stdout, re.MULTILINE)
    assert "frozen features up to h are computed once" in result.stderr
    names = {path.name for path in (here / "finetuned").iterdir()}
    assert names == {
        "best.keras", "best.npz", "labels.txt", "settings.json", "recipe.toml", "deploy.prototxt", "history.csv",
        "curves.png", "metrics.csv", "confusion.csv", "confusion.png", "examples.png", "report.html", "tensorboard", "caffe2tf.json",
    }  # fmt: skip
    with open("finetuned/history.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr"]
    assert len(rows) == 8
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])

    # Frozen weights are untouched, bit for bit; the results are a network like any other.
    best, net = loading.load("finetuned/deploy.prototxt", "finetuned/best.npz"), load_small()
    for name in ("conv1", "fc7"):
        for key, array in net.weights[name].items():
            assert best.weights[name][key].tobytes() == array.tobytes()

    # The saved model, read again, is as good as the report says.
    with open("finetuned/metrics.csv") as file:
        recall = {row["class"]: float(row["recall"]) for row in csv.DictReader(file)}
    test = data.split(data.read("train"), (0.6, 0.2, 0.2), 0)[2]
    said = json.loads(run("classify", "finetuned", *test.sources, "--json").stdout)["images"]
    right = {name: [] for name in recall}
    for item, label in zip(said, test.labels, strict=True):
        right[test.classes[label]].append(item["top"][0]["name"] == test.classes[label])
    assert {name: float(np.mean(hits)) for name, hits in right.items()} == pytest.approx(recall)
    assert f"test accuracy {np.mean([hit for hits in right.values() for hit in hits]):.4f}" in result.stdout


def test_a_results_folder_in_use_is_not_touched(here):
    (here / "finetuned").mkdir()
    (here / "finetuned" / "mine.txt").write_text("mine")
    result = finetune("--layers", "fc8", "--epochs", "1", code=1)
    assert "finetuned: is in use; name another folder with --out" in result.stderr
    assert [path.name for path in (here / "finetuned").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("options", [["--optimizer", "adam"], ["--augment", "mirror,crop,colour", "--resize", "14x16"], ["--dropout", "0"],
                                     ["--schedule", "cosine"], ["--label-smoothing", "0.1"], ["--clip", "1"]])  # fmt: skip
def test_options_train(options, here):
    finetune("--layers", "fc7,fc8", "--epochs", "2", "--lr", "0.001", *options)
    with open("finetuned/history.csv") as file:
        assert all(np.isfinite(float(row["loss"])) for row in csv.DictReader(file))


def test_runs_repeat_by_their_seed(here):
    for out in ("a", "b"):
        finetune("--layers", "all", "--epochs", "2", "--out", out, "--seed", "5", "-q")
    assert (here / "a" / "history.csv").read_text() == (here / "b" / "history.csv").read_text()


def test_a_loss_that_is_not_finite_says_why(here):
    result = finetune("--layers", "all", "--epochs", "3", "--lr", "1e30", code=1)
    lines = [line for line in result.stderr.splitlines() if line.startswith("caffe2tf:")]
    assert len(lines) == 1
    for part in ("the loss is", "learning rate 1e+30", "largest gradient", "reach", "Try --lr"):
        assert part in lines[0]
    assert not (here / "finetuned" / "best.keras").exists()


def test_a_loss_that_is_not_finite_names_inputs_of_another_range(here):
    """The commonest cause: a network that was trained on 0 to 255 gets 0 to 1, and the rate is raised until it breaks."""
    result = finetune("--layers", "all", "--lr", "1e30", "--mean", "0", "--scale", "0.00392157", code=1)
    assert "pictures from 0 to 1, and this net was trained on -123 to 151" in result.stderr


def test_after_a_loss_that_is_not_finite_the_epochs_before_count(here):
    """The second stage breaks; the results are those of the first."""
    stages = ["--stage", "layers=fc8 epochs=2 lr=1e-2", "--stage", "layers=all epochs=3 lr=1e30"]
    result = finetune(*stages, code=1)
    assert "the loss is" in result.stderr
    assert "the results in finetuned are those of the epochs before" in result.stderr
    with open("finetuned/history.csv") as file:
        assert [row["stage"] for row in csv.DictReader(file)] == ["1", "1"]
    best = loading.load("finetuned/deploy.prototxt", "finetuned/best.npz")
    assert np.isfinite(best.weights["fc8"]["kernel"]).all()
    np.testing.assert_array_equal(best.weights["conv1"]["kernel"], load_small().weights["conv1"]["kernel"])


def test_tensorboard_gets_graph_numbers_histograms_and_pictures(here):
    finetune("--layers", "fc7,fc8", "--epochs", "1", "-q")
    seen, scalars = set(), set()
    for path in (here / "finetuned" / "tensorboard").rglob("*tfevents*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            seen.add("graph") if event.graph_def else None
            seen.update(value.tag for value in event.summary.value)
            scalars.update((path.parent.name, value.tag) for value in event.summary.value)
    for tag in (
        "graph",
        "lr",
        "weights/fc8/kernel",
        "gradients/fc8/kernel",
        "gradients/fc7/bias",
    ):
        assert tag in seen
    assert any(tag.startswith("training pictures/") for tag in seen)
    # One name in two logs is one chart.
    assert {(part, name) for part in ("training", "validation") for name in ("loss", "accuracy")} <= scalars


def test_what_is_kept_is_chosen(here):
    finetune("--layers", "fc8", "--epochs", "1", "-q", "--keep", "npz", "--no-tensorboard", "--out", "small")
    assert {path.name for path in (here / "small").iterdir()} == {
        "best.npz", "labels.txt", "settings.json", "recipe.toml", "deploy.prototxt", "history.csv", "metrics.csv", "confusion.csv",
        "caffe2tf.json",
    }  # fmt: skip
    said = json.loads(run("classify", "small", "train/red/0.png", "--json").stdout)
    assert {one["name"] for one in said["images"][0]["top"]} == {"blue", "green", "red"}
    finetune("--layers", "fc8", "--epochs", "1", "-q", "--keep", "all", "--out", "small", "-f")
    kept = {path.name for path in (here / "small").iterdir()}
    assert {"best.keras", "best_saved_model", "best.h5", "last.npz", "report.html", "tensorboard"} <= kept
    # Without the models of before: they would be of another run.
    finetune("--layers", "fc8", "--epochs", "1", "-q", "--keep", "report", "--out", "small", "-f", "--no-tensorboard")
    assert not {path.name for path in (here / "small").iterdir()} & {"best.keras", "best_saved_model", "best.npz"}
    assert "so there is no model in it" in run("classify", "small", "train/red/0.png", code=1).stderr
    assert "takes some of keras, npz" in finetune("--layers", "fc8", "--keep", "best", code=2).stderr


def test_a_model_ends_in_a_softmax_over_named_classes(here):
    """SqueezeNet's way to end: a convolution and a global average, whose output has places."""
    from caffe2tf.finetuning import plan

    text = inputs(data=(1, 3, 12, 12))
    text += layer(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", tops=["c"], name="features"
    ) + layer("Convolution", "convolution_param { num_output: 7 kernel_size: 1 }", ["c"], ["s"], "last")
    pooled = text + layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", ["s"], ["p"], "pool")
    blobs = {"features": [(4, 3, 3, 3), (4,)], "last": [(7, 4, 1, 1), (7,)]}
    for end in (pooled, pooled + layer("Softmax", bottoms=["p"], tops=["probs"], name="probs")):
        net = loading.load(*make(here, end, blobs))
        net, head, _ = plan.with_head(net, 3)
        done = plan.finished(net, head)
        (top,) = done.outputs
        assert done.blobs[top] == (1, 3)
        assert done.nodes[-1].layer.type == "Softmax"
        assert plan.finished(done, head) is done
        given = {"data": np.random.RandomState(0).rand(2, 3, 12, 12).astype(np.float32)}
        found, before = caffe2tf.forward(done, given), caffe2tf.forward(net, given)["p"].reshape(2, 3)
        shares = np.exp(before) / np.exp(before).sum(1, keepdims=True)
        np.testing.assert_allclose(found[top], shares, rtol=1e-5)
    (here / "names.txt").write_text("indigo\nlime\nrose\n")
    (here / "train.txt").write_text(
        "".join(f"train/{name}/{n}.png {k}\n" for k, name in enumerate(("blue", "green", "red")) for n in range(10))
    )
    run("finetune", "net.caffemodel", "--layers", "last", "--data", "train.txt", "--labels", "names.txt",
        "--epochs", "1", "--keep", "keras", "--no-tensorboard", "-q", "--out", "out")  # fmt: skip
    assert loading.load("out").labels == ("indigo", "lime", "rose")
    said = json.loads(run("classify", "out/best.keras", "train/red/0.png", "--json").stdout)
    assert {one["name"] for one in said["images"][0]["top"]} == {"indigo", "lime", "rose"}


def test_the_layer_that_is_offered_exists(here):
    assert "say which train: --layers fc8 or all" in finetune(code=1).stderr
    text = (here / "net.prototxt").read_text().replace('"fc8"', '"scores"')
    (here / "other.prototxt").write_text(text)
    said = run("finetune", "other.prototxt", code=1).stderr
    assert "say which train: --layers scores or all" in said


def test_a_net_from_scratch_keeps_nothing(here):
    text = (here / "net.prototxt").read_text()
    for kind in ("convolution_param", "inner_product_param"):
        text = text.replace(f"{kind} {{", f'{kind} {{ weight_filler {{ type: "xavier" }}')
    (here / "scratch.prototxt").write_text(text)
    said = run(
        "finetune", "scratch.prototxt", "--layers", "all", "--epochs", "1", "--no-tensorboard", "--keep", "npz"
    ).stderr
    assert "keeps its weights" not in said
    assert "from" in said
    assert "fillers" in said


def test_the_full_alexnet_gets_a_new_head(shared, alexnet, tmp_path, monkeypatch):
    """On a slice of the flowers; what is frozen stays bit for bit."""
    monkeypatch.chdir(tmp_path)
    lines = []
    for label, folder in enumerate(sorted((shared / "flowers17").iterdir())):
        lines += [f"{path} {label}\n" for path in sorted(folder.iterdir())[:4]]
    (tmp_path / "train.txt").write_text("".join(lines))
    run("finetune", alexnet, "--layers", "fc8", "--split", "0.5,0.5", "--epochs", "3", "--lr", "1e-6", "-q")
    before, after = loading.load(None, str(alexnet)), loading.load("finetuned/deploy.prototxt", "finetuned/best.npz")
    assert after.weights["fc8"]["kernel"].shape == (4096, 17)
    for name in set(before.weights) - {"fc8"}:
        for key, array in before.weights[name].items():
            assert after.weights[name][key].tobytes() == array.tobytes()
    with open("finetuned/history.csv") as file:
        assert all(np.isfinite(float(row["val_loss"])) for row in csv.DictReader(file))


def test_results_stay_until_those_of_a_forced_run_are_there(here):
    finetune("--layers", "fc8", "--epochs", "1", "-q")
    before = {path.name: path.read_bytes() for path in (here / "finetuned").glob("*.*")}
    finetune("--layers", "all", "--lr", "1e30", "-f", code=1)
    assert {path.name: path.read_bytes() for path in (here / "finetuned").glob("*.*")} == before


def test_a_class_whose_pictures_cannot_be_read_is_refused(here):
    for path in (here / "train" / "red").iterdir():
        path.write_text("hello")
    assert "no picture of class 'red' that can be read" in finetune("--layers", "fc8", code=1).stderr


def test_unreadable_pictures_are_skipped_and_counted(here):
    (here / "train" / "red" / "bad.png").write_text("hello")
    result = finetune("--layers", "fc8", "--epochs", "1")
    assert "1 of " in result.stderr
    assert "cannot be read and are skipped" in result.stderr
    strict = finetune("--layers", "fc8", "--epochs", "1", "--strict", "--out", "other", code=1)
    assert "bad.png: is not a picture" in strict.stderr
    assert not (here / "other").exists()


def test_a_validation_set_smaller_than_a_batch(here):
    (here / "val.txt").write_text("train/red/1.png red\ntrain/blue/1.png blue\ntrain/green/1.png green\n")
    finetune("--layers", "fc8", "--epochs", "1", "--val", "val.txt", "--batch-size", "64")
    with open("finetuned/history.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["val_accuracy"]) in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1)


def test_no_data_says_what_to_type(here):
    (here / "train").rename(here / "elsewhere")
    assert "name it: --data LIST.txt" in finetune("--layers", "fc8", code=1).stderr


def test_cached_features_are_what_the_whole_network_computes(here):
    from caffe2tf.images import preprocess
    from caffe2tf.keras_model.model import forward

    net = load_small()
    how, _ = preprocess.of(net)
    pictures = data.read("train")
    images = rows.Decoded(pictures.sources, how)
    work = plan.make(net, "fc8", ["fc8"])
    (stored,) = features.computed(work.base, work.frontier, images, how)
    batch = np.stack([how.apply(image) for image in images[np.arange(len(pictures))]])
    np.testing.assert_allclose(stored, forward(net, {"data": batch})["h"], rtol=1e-5, atol=1e-5)
    assert len(pictures) == len(stored)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_stage_leaves_no_memory_behind(optimizer, here):
    """Its graphs hold its weights and histories: of AlexNet 0.8 GB, which a second stage and the results would come on top of."""
    from caffe2tf.finetuning.placement import placed

    def graphs():
        gc.collect()
        return {id(found) for found in gc.get_objects() if type(found).__name__ == "FuncGraph"}

    before = graphs()
    work = plan.make(load_small(), "fc8", ["fc7", "fc8"])
    examples = batches.Examples([np.ones((4, *work.top.inputs["p"][2:], 8), np.float32)], np.zeros(4, np.int32))
    with placed("cpu") as place:
        learner = trainer.Trainer(work, settings.Stage(("fc7", "fc8"), optimizer=optimizer), place)
        learner.seen([learner.step(batch) for batch in batches.dataset(examples, 2)])
        learner.evaluate(examples)
        del learner
    assert graphs() <= before


def best_accuracy(shared, tmp_path, path, head_epochs, **options):
    """Mean of three seeds: the best validation accuracy of a new head on SqueezeNet's cached features, 80/20."""
    from caffe2tf.finetuning.checkpoint import Checkpoint
    from caffe2tf.finetuning.placement import placed
    from caffe2tf.images import preprocess

    folder = shared / "models" / "squeezenet_v1.0"
    net = loading.load(str(folder / "deploy.prototxt"), str(folder / "squeezenet_v1.0.caffemodel"))
    how, _ = preprocess.of(net)
    pictures = data.read(str(path), **options)
    images = rows.Decoded(pictures.sources, how)
    places = {source: place for place, source in enumerate(pictures.sources)}
    found, store = [], None
    for seed in range(3):
        changed, head, _ = plan.with_head(net, len(pictures.classes), seed=seed)
        work = plan.make(changed, head, ["conv_final"])
        if store is None:
            (store,) = features.computed(work.base, work.frontier, images, how)
        sets = [
            batches.Examples([store[[places[source] for source in part.sources]]], part.labels)
            for part in data.split(pictures, (0.8, 0.2), seed)
        ]
        stage = settings.Stage(("conv_final",), head_epochs)
        history = []
        with placed("cpu") as place:
            learner = trainer.Trainer(work, stage, place, seed, heads.spread(work, stage, sets[0], place))
            training.train(learner, sets, (seed, 1), Checkpoint(tmp_path), None, history)
        found.append(training.best_of(history)["val_accuracy"])
    return np.mean(found)


def test_cats_and_dogs(shared, tmp_path):
    assert best_accuracy(shared, tmp_path, shared / "cats_dogs", 8, labels_from_names=True) >= 0.95


def test_flowers(shared, tmp_path):
    """A logistic regression on the same features gives 0.943."""
    assert best_accuracy(shared, tmp_path, shared / "flowers17", 12) >= 0.93


def test_a_recipe_without_a_network_is_one_line():
    from caffe2tf.finetuning.placement import placed
    from caffe2tf.finetuning.run import Run

    why = "the recipe names no network; give its file as `model`"
    with placed("cpu") as place, pytest.raises(settings.RecipeError, match=why):
        Run(settings.Recipe(stages=(settings.Stage("all"),)), place)
