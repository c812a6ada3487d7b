"""Pictures in any number: decoded as they are needed, features as shards on the disk, shares of several workers."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")
pytest.importorskip("sklearn")
from caffe2tf import features as written  # noqa: E402
from caffe2tf import loading  # noqa: E402
from caffe2tf.errors import OutputError, ParseError  # noqa: E402
from caffe2tf.files.shards import Shards, per_shard  # noqa: E402
from caffe2tf.finetuning import batches, data, placement, rows  # noqa: E402
from caffe2tf.finetuning.rows import Column, Decoded, Picked  # noqa: E402
from caffe2tf.images.preprocess import Preprocessing  # noqa: E402
from caffe2tf.keras_model.device import DeviceError  # noqa: E402
from tests.helpers import ROOT, SMALL, inputs, layer, make, run  # noqa: E402

HOW = Preprocessing((12, 12), None, (104.0, 117.0, 123.0))


def finetune(*args, code=0):
    return run("finetune", *SMALL, *args, code=code)


def shards(folder, digest="d" * 64, count=10, each=4):
    arrays = {"h": ("F32", (3,)), "p": ("U8", (2, 2))}
    made = Shards(str(folder), digest, {"network": "n"}, count, each, arrays)
    made.begin()
    for shard in range(made.count):
        span = np.arange(made.span(shard).start, made.span(shard).stop)
        values = {"h": span[:, None] * np.float32([1, 2, 3]), "p": np.full((len(span), 2, 2), 7) + span[:, None, None]}
        made.write(shard, values, span % 3 > 0)
    return made


# ------------------------------------------------------------------------------------------------ shards


def test_shards_give_rows_in_any_order_and_safetensors_reads_them(tmp_path):
    from safetensors.numpy import load_file

    made = shards(tmp_path)
    places = np.array([9, 0, 4, 5, 6, 4, 3])
    np.testing.assert_array_equal(made.values("h", places), places[:, None] * np.float32([1, 2, 3]))
    np.testing.assert_array_equal(made.values("p", places)[:, 1, 1], 7 + places)
    np.testing.assert_array_equal(made.values("valid", places) > 0, places % 3 > 0)
    np.testing.assert_array_equal(load_file(made.path(2))["h"], made.values("h", np.arange(8, 10)))
    again = Shards.read(str(tmp_path))
    assert (again.arrays, again.rows, again.each) == (made.arrays, 10, 4)
    assert all(again.whole(shard) for shard in range(again.count))


def test_a_shard_that_is_cut_or_missing_or_of_others_is_one_line(tmp_path):
    made = shards(tmp_path)
    whole = os.path.getsize(made.path(1))
    os.truncate(made.path(1), whole - 1)
    with pytest.raises(
        ParseError, match=rf"rows-00001-of-00003.safetensors: has {whole - 1} bytes of {whole}; remove it"
    ):
        made.whole(1)
    with pytest.raises(ParseError, match="ends at byte"):
        made.values("valid", np.array([7]))
    os.remove(made.path(2))
    assert not made.whole(2)
    with pytest.raises(ParseError, match=r"rows-00002-of-00003.safetensors: cannot be read: .*; run it again"):
        made.values("h", np.array([8]))
    other = shards(tmp_path / "other", "e" * 64)
    os.replace(other.path(0), made.path(0))
    with pytest.raises(ParseError, match="is not a shard of dddddddddddd"):
        made.whole(0)
    with pytest.raises(OutputError, match=r"holds rows of digest dddddddddddd \(network n\), not of eeeeeeeeeeee"):
        Shards(str(tmp_path), "e" * 64, {"network": "n"}, 10, 4, made.arrays).begin()


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 3}', '{"written_by": "x"}'])
def test_an_index_that_is_none_is_one_line(text, tmp_path):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ParseError, match=r"index.json: cannot be read"):
        Shards.read(str(tmp_path))


def test_shards_are_small_enough_for_many_workers_and_large_enough_for_disks():
    assert per_shard(1_200_000, 16384) == 1024
    assert per_shard(1360, 16384) == 22
    assert per_shard(3, 1 << 40) == 1


# ------------------------------------------------------------------------------------------------ batches


def test_a_batch_of_pictures_is_what_each_is_alone(here):
    pictures = data.read("train")
    images = Decoded(pictures.sources, HOW)[np.array([3, 20])]
    for how in (HOW, Preprocessing((12, 12), (9, 8), (1.0, 2.0, 3.0), 0.5, order="RGB")):
        alone = np.stack([how.apply(image).transpose(1, 2, 0) for image in images])
        np.testing.assert_array_equal(how.batch(images), alone)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_shares_of_workers_make_up_each_batch_of_one(workers):
    """Each reads its own rows alone, of which they have different numbers, and all take as many steps of the same shapes."""
    labels = np.arange(23)
    values = np.arange(23, dtype=np.float32)[:, None]
    owners = rows.owners(23, 5, workers)
    one = [
        (x[:, 0].numpy(), w.numpy()) for x, _, w in batches.dataset(batches.Examples([values], labels), 6, key=(0, 1))
    ]
    shares = []
    for worker in range(workers):
        mine = batches.Examples([np.where(owners[:, None] == worker, values, np.nan)], labels, owners=owners)
        shares.append(list(batches.dataset(mine, 6, (workers, (worker,)), (0, 1))))
    assert len({len(share) for share in shares}) == 1
    for step, (whole, weights) in enumerate(one):
        assert (weights == 1).all()
        parts = [share[step] for share in shares]
        assert len({tuple(x.shape) for x, _, _ in parts}) == 1
        seen = np.concatenate([x[:, 0].numpy()[w.numpy() > 0] for x, _, w in parts])
        assert sorted(seen) == sorted(whole)
        assert not np.isnan(np.concatenate([x.numpy() for x, _, _ in parts])).any()


def test_a_worker_without_a_row_takes_part():
    mine = batches.Examples([np.ones((3, 2), np.float32)], np.zeros(3, int), owners=np.array([0, 0, 0]))
    (batch,) = batches.dataset(mine, 3, (2, (1,)), (0, 1))
    assert batch[0].shape == (3, 2)
    assert batch[-1].numpy().tolist() == [0, 0, 0]


def test_what_fails_while_a_batch_is_made_is_raised_as_it_was(tmp_path):
    made = shards(tmp_path)
    os.remove(made.path(1))
    examples = batches.Examples([Picked(Column(made, "h"), np.arange(10))], np.zeros(10, int))
    with pytest.raises(ParseError, match=r"rows-00001-of-00003.safetensors: cannot be read"):
        list(batches.dataset(examples, 2))


def test_pictures_that_cannot_be_read_weigh_nothing(here):
    (here / "train" / "red" / "3.png").write_text("hello")
    said, pictures = [], data.read("train")
    images = Decoded(pictures.sources, HOW, say=said.append)
    part = batches.pictures(images, pictures.labels, HOW)
    part.good = lambda places: ~images.bad[places]
    for _ in range(2):
        weights = np.concatenate([batch[-1].numpy() for batch in batches.dataset(part, 7)])
        assert np.flatnonzero(weights == 0).tolist() == [23]
    assert len(said) == 1


# ------------------------------------------------------------------------------------------------ the cache


def losses(folder):
    with open(os.path.join(folder, "history.csv")) as file:
        return file.read()


def test_features_on_the_disk_train_as_those_in_memory_and_are_used_again(here, monkeypatch):
    finetune("--layers", "fc8", "--epochs", "2", "--out", "memory", "-q")
    said = finetune("--layers", "fc8", "--epochs", "2", "--out", "disk", "--cache", "disk:kept").stderr
    assert "features take 1.9 kB: in kept, for later runs too" in said
    assert losses("disk") == losses("memory")
    (folder,) = (here / "kept").iterdir()
    assert json.loads((folder / "index.json").read_text())["rows"] == 30
    read = []
    known = Decoded._one
    monkeypatch.setattr(Decoded, "_one", lambda self, place: read.append(place) or known(self, place))
    # Another seed splits otherwise; another rate is another run: the features are the same.
    finetune(
        "--layers",
        "fc8",
        "--epochs",
        "2",
        "--lr",
        "1e-3",
        "--seed",
        "5",
        "--out",
        "again",
        "--cache",
        "disk:kept",
        "-q",
    )
    assert len(set(read)) <= 12  # those in the results' pictures
    # One that is cut and one that is gone are made anew, nothing else.
    first, second, *rest = sorted(folder.glob("rows-*"))
    times = [path.stat().st_mtime_ns for path in rest]
    os.truncate(first, 20)
    second.unlink()
    said = finetune("--layers", "fc8", "--epochs", "2", "--out", "mended", "--cache", "disk:kept").stderr
    assert re.search(r"rows-00000-of-00030.safetensors: has 20 bytes of \d+: it is made anew\n", said)
    assert losses("mended") == losses("memory")
    assert [path.stat().st_mtime_ns for path in rest] == times


def test_what_memory_has_no_room_for_lies_on_the_disk_until_the_run_ends(here, monkeypatch):
    from caffe2tf.finetuning import sets

    finetune("--layers", "fc8", "--epochs", "2", "--out", "memory", "-q")
    monkeypatch.setattr(sets, "BUDGET", 1000)
    said = finetune("--layers", "fc8", "--epochs", "2", "--out", "large").stderr
    assert (
        "features take 1.9 kB: more than 1.0 kB, they lie on the disk until the run ends, --cache disk:DIR keeps them"
        in said
    )
    assert losses("large") == losses("memory")
    assert not (here / "large" / "checkpoint").exists()


@pytest.mark.parametrize("cache", ["none", "disk:kept"])
def test_pictures_train_alike_from_files_from_memory_and_from_the_disk(cache, here):
    options = ["--layers", "all", "--epochs", "2", "--augment", "mirror,crop", "--resize", "14", "-q"]
    finetune(*options, "--out", "memory")
    finetune(*options, "--out", "other", "--cache", cache)
    assert losses("other") == losses("memory")


def test_a_cache_of_another_network_is_refused_with_its_digest(here):
    run("features", *SMALL, "train", "-o", "kept")
    assert (here / "kept" / "pictures.csv").read_text().startswith("row,file,label,read\n0,train/blue/0.png,blue,1\n")
    finetune("--layers", "fc8", "--epochs", "1", "--cache", "disk:kept", "-q")
    assert len(list((here / "kept").glob("*.safetensors"))) == 30
    line = finetune("--layers", "fc7,fc8", "--epochs", "1", "--cache", "disk:kept", "--out", "o", code=1).stderr
    assert re.search(
        r"kept: holds rows of digest [0-9a-f]{12} \(.*\), not of [0-9a-f]{12} \(.*\); name another folder", line
    )


def test_a_disk_that_is_full_is_one_line_and_nothing_is_lost(here, monkeypatch):
    import shutil
    from types import SimpleNamespace

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
        line = finetune("--layers", "fc8", "--cache", "disk:kept", code=1).stderr
        assert "features take 1.9 kB there, and the disk has 10 bytes left; --cache names another place" in line
    known, left = Shards.write, [3]

    def write(self, *args):
        left[0] -= 1
        if left[0] < 0:
            raise OutputError(f"{self.path(args[0])}: cannot be written: the disk is full")
        known(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Shards, "write", write)
        line = finetune("--layers", "fc8", "--cache", "disk:kept", "-q", "-f", code=1).stderr
        assert line.endswith("the disk is full; what was there stays, and --resume goes on from it\n")
    assert len(list(here.glob("kept/*/rows-*"))) == 3
    run("finetune", "--resume", "-q")
    assert len(list(here.glob("kept/*/rows-*"))) == 30


@pytest.mark.parametrize("value", ["disk:", "ram", "disk"])
def test_a_cache_that_is_none_is_one_line(value, here):
    assert "takes memory, disk:DIR or none" in finetune("--layers", "fc8", "--cache", value, code=2).stderr


# ------------------------------------------------------------------------------------------------ features


def test_features_as_a_table_are_the_networks_own(here):
    from caffe2tf.keras_model.model import forward

    (here / "train" / "red" / "3.png").write_text("hello")
    result = run("features", *SMALL, "train", "-o", "f.npz", "--outputs", "h,p")
    assert "skipped: train/red/3.png" in result.stderr
    with np.load("f.npz", allow_pickle=False) as found:
        assert sorted(found.files) == ["classes", "files", "h", "labels", "p"]
        assert found["files"].tolist() == [s for s in sorted(data.read("train").sources) if s != "train/red/3.png"]
        assert found["classes"][found["labels"]].tolist() == [name.split("/")[1] for name in found["files"]]
        images = np.stack([HOW.load(name) for name in found["files"]])
        blobs = forward(loading.load("net.prototxt", "net.caffemodel"), {"data": images})
        np.testing.assert_allclose(found["h"], blobs["h"], rtol=1e-5, atol=1e-5)
        assert found["p"].shape == (29, 2, 2, 8)
        import pyarrow.parquet as pq

        run("features", *SMALL, "train", "-o", "f.parquet", "--outputs", "h,p")
        table = pq.read_table("f.parquet").to_pydict()
        assert list(table) == ["file", "label", "h", "p"]
        assert table["file"] == found["files"].tolist()
        assert table["label"] == found["classes"][found["labels"]].tolist()
        for blob in ("h", "p"):
            np.testing.assert_allclose(np.float32(table[blob]), found[blob].reshape(29, -1), rtol=1e-6)


def test_features_of_a_head_that_is_averaged_are_averages_and_finetune_takes_them(tmp_path, here):
    text = inputs(data=(1, 3, 12, 12))
    text += layer("Convolution", "convolution_param { num_output: 5 kernel_size: 3 }", tops=["c"], name="c")
    text += layer("Dropout", bottoms=["c"], tops=["c"], name="d")
    text += layer(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 1 pad: 1 }", bottoms=["c"], tops=["h"], name="h"
    )
    text += layer("ReLU", bottoms=["h"], tops=["h"], name="r")
    text += layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", bottoms=["h"], name="p")
    net = [*make(tmp_path, text, {"c": [(5, 3, 3, 3), (5,)], "h": [(4, 5, 1, 1), (4,)]})]
    run("features", *net, "train", "-o", "kept")
    run("features", *net, "train", "-o", "f.npz", "--outputs", "c")
    found, whole = written(net[1], "train", net[0]), np.load("f.npz")["c"]
    (blob,) = found.blobs
    assert blob == "c averaged"
    averages = whole.sum((1, 2)) / 12**2  # of 10 x 10 places and the zeros around them
    np.testing.assert_allclose(found.blobs[blob][np.arange(30)][:, 0, 0], averages, rtol=1e-4, atol=1e-6)
    there = sorted(os.listdir("kept"))
    run("finetune", *net, "--layers", "h", "--epochs", "1", "--keep", "npz", "--cache", "disk:kept")
    assert sorted(os.listdir("kept")) == there


def test_features_of_a_folder_without_labels(here):
    found = written("net.caffemodel", "train/red", "net.prototxt", out="kept")
    assert (found.classes, found.labels.tolist(), found.good.all()) == ((), [-1] * 10, True)
    again = written("net.caffemodel", "train/red", "net.prototxt")
    np.testing.assert_array_equal(found.blobs["h"][np.arange(10)], again.blobs["h"][np.arange(10)])


def test_features_of_bad_input_are_one_line(here, monkeypatch):
    assert "takes a .npz, a .parquet, or a folder" in run("features", *SMALL, "train", "-o", "f.csv", code=1).stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "takes pyarrow: pip install" in run("features", *SMALL, "train", "-o", "f.parquet", code=1).stderr
    assert "takes one PICTURES, not 2" in run("features", *SMALL, "train", "train", "-o", "f", code=2).stderr
    for path in (here / "train" / "red").iterdir():
        path.write_text("hello")
    assert "none of the 10 pictures can be read" in run("features", *SMALL, "train/red", "-o", "f.npz", code=1).stderr
    assert not (here / "f.npz").exists()


# ------------------------------------------------------------------------------------------------ callbacks


def test_callbacks_of_keras_are_told_of_epochs_and_may_end_a_stage(here):
    import keras

    from caffe2tf import finetune

    class Told(keras.callbacks.Callback):
        def __init__(self):
            self.epochs, self.batches = [], 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs.append((epoch, {name: round(value, 4) for name, value in logs.items()}))
            self.model.stop_training = epoch == 1

        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1

    told = Told()
    options = {"layers": "fc8", "epochs": 9, "batch_size": 10, "callbacks": [told]}
    finetune("net.caffemodel", "net.prototxt", **options)
    lines = losses("finetuned").splitlines()
    assert len(lines) == 3  # a head and two epochs of nine
    assert told.batches == 6
    assert [epoch for epoch, _ in told.epochs] == [0, 1]
    assert set(told.epochs[0][1]) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert told.epochs[1][1]["val_loss"] == round(float(lines[2].split(",")[4]), 4)


# ------------------------------------------------------------------------------------------------ workers


@pytest.mark.parametrize(("variables", "expected"), [
    ({"TF_CONFIG": {"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 1}, "environment": "cloud"}},
     (2, ["a:1", "b:1", "c:1"])),
    ({"TF_CONFIG": {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 0}}}, (0, ["a:1", "b:1"])),
    ({"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "2", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "2,1"},
     (2, ["n1:8888", "n1:8889", "n2:8888"])),
    ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
])  # fmt: skip
def test_workers_are_found_where_schedulers_name_them(variables, expected, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value if isinstance(value, str) else json.dumps(value))
    assert placement._cluster() == expected


def test_a_step_of_slurm_that_lacks_its_variables_is_one_line(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(DeviceError, match="SLURM's variables do not say who the 2 tasks are"):
        placement._cluster()


# Counts the pictures that a process reads, whatever thread reads them.
_COUNTED = """
import sys
from caffe2tf.images import decode
from caffe2tf.cli.main import main
seen, known = set(), decode.read_image
def read(path, *args, **more):
    seen.add(str(path))
    return known(path, *args, **more)
decode.read_image = read
try:
    main(sys.argv[2:])
finally:
    open(sys.argv[1], "w").write("\\n".join(sorted(seen)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--layers", "fc8"), ("--layers", "all", "--cache", "none")])
def test_two_workers_read_half_each_and_give_the_losses_of_one(more, here):
    from tests.test_finetune_long import ENVIRONMENT, cluster, losses

    Image.new("RGB", (14, 16), (30, 30, 200)).save(
        here / "train" / "blue" / "extra.png"
    )  # 31: shares of different size
    options = [*SMALL, *more, "--epochs", "3", "--lr", "1e-2", "--dropout", "0", "--batch-size", "10"]
    run("finetune", *options, "--out", "one", "-q")
    both = [
        subprocess.Popen(
            [sys.executable, "-c", _COUNTED, f"seen{n}", "finetune", *options, "--out", "two"],
            env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), "TF_CONFIG": task}, stderr=subprocess.PIPE, text=True,
        )
        for n, task in enumerate(cluster())
    ]  # fmt: skip
    for worker in both:
        error = worker.communicate(timeout=240)[1]
        assert worker.returncode == 0, error
    np.testing.assert_allclose(losses("two"), losses("one"), rtol=1e-4)
    seen = [set((here / f"seen{n}").read_text().split()) for n in range(2)]
    assert sorted(map(len, seen)) == [15, 16]
    assert not seen[0] & seen[1]
