"""Training at length: stages, recipes, from scratch, stopped and gone on with, on several devices and machines."""

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from caffe2tf import loading
from tests.helpers import ROOT, SMALL, inputs, layer, pages, run

pytest.importorskip("tensorflow")
pytest.importorskip("sklearn")
from caffe2tf.finetuning import recipe, settings

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def finetune(*args, code=0):
    return run("finetune", *args, code=code)


def process(*args, **environment):
    command = [sys.executable, "-m", "caffe2tf", "finetune", *args]
    return subprocess.Popen(
        command, env={**ENVIRONMENT, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def rows(folder):
    with open(os.path.join(folder, "history.csv")) as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def losses(folder):
    return [[row["loss"], row["val_loss"]] for row in rows(folder)]


# ------------------------------------------------------------------------------------------------ stages and recipes


def test_stages_run_one_after_the_other(here):
    result = finetune(
        *SMALL, "--stage", "layers=fc8 epochs=3 lr=1e-2", "--stage", "layers=all epochs=2 lr=1e-3 dropout=0"
    )
    assert "stage 1 of 2: trains fc8 on cpu" in result.stderr
    assert "stage 2 of 2: trains conv1, fc7, fc8 on cpu" in result.stderr
    found = rows("finetuned")
    assert [row["stage"] for row in found] == [1, 1, 1, 2, 2]
    # The second stage starts from the best of the first, not from the beginning.
    assert found[3]["loss"] < found[0]["loss"] / 2
    text = (here / "finetuned" / "deploy.prototxt").read_text()
    assert "dropout_ratio" not in text  # the ratio was of training only


def test_a_recipe_is_written_and_runs_again(here):
    finetune(
        *SMALL, "--layers", "fc8", "--epochs", "2", "--lr", "0.01", "--seed", "3", "--mean", "0", "--scale", "0.01"
    )
    kept = recipe.read("finetuned/recipe.toml")
    assert (kept.seed, kept.mean, kept.scale, kept.stages[0].lr) == (3, (0.0,), 0.01, 0.01)
    os.makedirs("elsewhere")
    os.chdir("elsewhere")
    finetune("--recipe", "../finetuned/recipe.toml", "--out", "again", "-q")
    assert losses("again") == losses("../finetuned")
    assert recipe.difference(kept, recipe.read("again/recipe.toml")) is None


@pytest.mark.parametrize(("text", "why"), [
    ("epoch = 3", "unknown key 'epoch'; nearest: epochs"),
    ("epochs = 0", "epochs: '0'; takes a whole number from 1"),
    ("epochs = 2.5", "epochs: '2.5'; takes a whole number from 1"),
    ("epochs = true", "epochs: 'True'; takes a whole number from 1"),
    ("lr = 'fast'", "lr: 'fast'; takes a number above 0"),
    ("augment = 'mirror,twist'", "takes some of mirror, crop, colour"),
    ("schedule = 'linear'", "takes one of constant, step, cosine, piecewise"),
    ("[[stage]]\nepochs = 2", "stage 1 names no layers"),
    ("stage = 3", r"stage; takes tables \[\[stage\]\]"),
    ("[[stage]]\nlayers = 'all'\nseed = 3", "stage 1: unknown key 'seed'"),
    ("= 3", "is no TOML"),
])  # fmt: skip
def test_a_bad_recipe_is_one_line(text, why, tmp_path):
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(settings.RecipeError, match=why):
        recipe.read(tmp_path / "recipe.toml")


def test_bad_stages_are_one_line(here):
    for text, why in [
        ("layers=fc8 epoch=3", "--stage 1: unknown key 'epoch'; nearest: epochs"),
        ("epochs=3", "stage 1 names no layers; say which train: layers=fc8 or all"),
        ("fc8", "--stage 1: 'fc8'; takes KEY=VALUE with blanks between"),
        ("layers=fc9", "no layer 'fc9'; nearest: fc8, fc7"),
        ("layers=fc8 lr=-1", "--stage 1: lr: '-1'; takes a number above 0"),
    ]:
        result = finetune(*SMALL, "--stage", text, code=1)
        assert why in result.stderr, result.stderr
        assert not (here / "finetuned" / "best.keras").exists()
    assert "the run names no layers; say which train: --layers fc8 or all" in finetune(*SMALL, code=1).stderr
    (here / "recipe.toml").write_text("")
    both = finetune("--recipe", "recipe.toml", "--layers", "fc8", code=2)
    assert "--recipe says all settings; --layers has no part beside it" in both.stderr
    both = finetune("--recipe", "recipe.toml", "--stage", "layers=fc8", code=2)
    assert "--recipe says all settings; --stage has no part beside it" in both.stderr
    adam = finetune(*SMALL, "--layers", "fc8", "--optimizer", "adam", "--momentum", "0.5", code=1)
    assert "momentum 0.5 is of sgd; adam has none" in adam.stderr


# ------------------------------------------------------------------------------------------------ stop and go on

LONG = [
    *SMALL,
    "--keep",
    "npz,last",
    "--stage",
    "layers=fc8 epochs=3 lr=1e-2",
    "--stage",
    "layers=all epochs=4 lr=1e-3",
]


@pytest.mark.slow
def test_killed_and_gone_on_with_is_as_uninterrupted(here):
    """On a processor every number is equal; nothing is tolerated."""
    finetune(*LONG, "--out", "whole", "-q")
    for stop in (2, 5):
        out = f"killed{stop}"
        killed = process(*LONG, "--out", out)
        for line in killed.stdout:
            stop -= line.startswith("epoch")
            if not stop:
                break
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert not (here / out / "history.csv").exists()
        result = finetune("--resume", "--out", out)
        assert "goes on in stage" in result.stderr
        assert losses(out) == losses("whole")
        for name in ("best.npz", "last.npz"):
            with np.load(here / out / name) as ours, np.load(here / "whole" / name) as theirs:
                assert all(np.array_equal(ours[key], theirs[key]) for key in theirs.files)
        assert not (here / out / "checkpoint").exists()
        assert "the run is finished" in finetune("--resume", "--out", out).stderr


@pytest.mark.slow
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(here):
    finetune(*SMALL, "--layers", "all", "--epochs", "25", "--batch-size", "4", "--out", "whole", "-q")
    stopped = process(*SMALL, "--layers", "all", "--epochs", "25", "--batch-size", "4", "--out", "part")
    stopped.stdout.readline()
    stopped.send_signal(signal.SIGINT)
    error = stopped.communicate()[1]
    assert stopped.returncode == 130, error
    assert "go on with: caffe2tf finetune --resume --out part" in error
    assert "Traceback" not in error
    finetune("--resume", "--out", "part", "-q")
    assert losses("part") == losses("whole")


def test_resume_refuses_what_is_another_run(here):
    assert "holds no recipe.toml, so there is nothing to resume" in finetune("--resume", code=1).stderr
    finetune(*SMALL, "--layers", "fc8", "--epochs", "1", "-q")
    other = finetune(*SMALL, "--layers", "fc8", "--epochs", "2", "--resume", code=1)
    assert "is of another run, with epochs 1, not 2 (stage 1)" in other.stderr
    assert "--resume goes on with what --force would replace" in finetune("--resume", "-f", code=2).stderr


@pytest.mark.slow
def test_the_same_command_goes_on_where_the_mean_is_a_file(here):
    np.save("mean.npy", np.float32([1, 2, 3]))
    options = [*SMALL, "--layers", "all", "--epochs", "40", "--batch-size", "4", "--mean", "mean.npy"]
    stopped = process(*options)
    next(line for line in stopped.stdout if line.startswith("epoch"))
    stopped.send_signal(signal.SIGINT)
    stopped.communicate()
    assert "goes on in stage 1" in finetune(*options, "--resume").stderr


def test_a_recipe_without_model_and_data_takes_those_here(here):
    (here / "train.txt").write_text("".join(f"train/{n}/{i}.png {n}\n" for n in ("red", "blue") for i in range(9)))
    (here / "r.toml").write_text('prototxt = "net.prototxt"\nlayers = "fc8"\nepochs = 1\n')
    finetune("--recipe", "r.toml", "-q")
    assert recipe.read("finetuned/recipe.toml").model.endswith("net.caffemodel")


def test_a_damaged_checkpoint_is_one_line(here):
    finetune(*SMALL, "--layers", "fc8", "--epochs", "1", "-q")
    (here / "finetuned" / "checkpoint").mkdir()
    moved = recipe.text(recipe.read("finetuned/recipe.toml"), "finetuned/checkpoint")
    (here / "finetuned" / "checkpoint" / "recipe.toml").write_text(moved)
    (here / "finetuned" / "checkpoint" / "last.npz").write_bytes(b"PK\x03\x04nothing")
    assert "is damaged" in finetune("--resume", code=1).stderr


# ------------------------------------------------------------------------------------------------ from scratch


def scratch(filler='type: "xavier"'):
    """A network of the TensorFlow 2 kind: no groups, LRN after pooling, inputs from 0 to 1."""
    filled = f"weight_filler {{ {filler} }} bias_filler {{ value: 0.1 }}"
    text = inputs(data=(1, 3, 12, 12))
    text += layer(
        "Convolution", f"convolution_param {{ num_output: 8 kernel_size: 3 {filled} }}", tops=["c"], name="conv1"
    )
    text += layer("ReLU", bottoms=["c"], tops=["c"], name="relu1")
    text += layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", bottoms=["c"], tops=["p"], name="pool1")
    text += layer("LRN", "lrn_param { local_size: 5 }", bottoms=["p"], tops=["n"], name="norm1")
    text += layer(
        "InnerProduct", f"inner_product_param {{ num_output: 3 {filled} }}", bottoms=["n"], tops=["s"], name="fc"
    )
    return text + layer("Softmax", bottoms=["s"], tops=["prob"], name="prob")


def test_a_text_alone_trains_from_its_fillers(here):
    (here / "scratch.prototxt").write_text(scratch())
    options = ["--layers", "all", "--epochs", "6", "--lr", "0.02", "--head-lr", "1"]
    finetune("scratch.prototxt", *options, "--mean", "none", "--scale", "0.00392157", "--channels", "rgb")
    found = rows("finetuned")
    assert found[-1]["loss"] < found[0]["loss"]
    best = max(row["val_accuracy"] for row in found)
    with open("finetuned/settings.json") as file:
        assert json.load(file)["preprocessing"]["order"] == "RGB"
    # What is read again is as good as in training, from the folder and from the model alone.
    from caffe2tf.finetuning import data

    _, val = data.split(data.read("train"), (0.8, 0.2), 0)
    for model in ("finetuned", "finetuned/best.keras"):
        said = json.loads(run("classify", model, *val.sources, "--json").stdout)["images"]
        right = [item["top"][0]["class"] == label for item, label in zip(said, val.labels, strict=True)]
        assert np.mean(right) == pytest.approx(best)


def test_a_text_without_weights_must_say_how_they_start(here):
    (here / "scratch.prototxt").write_text(scratch('type: "orthogonal"'))
    line = finetune("scratch.prototxt", "--layers", "all", code=1).stderr
    assert "weight_filler of type 'orthogonal'; Caffe has constant, uniform, gaussian" in line
    (here / "scratch.prototxt").write_text(scratch().replace('weight_filler { type: "xavier" }', ""))
    line = finetune("scratch.prototxt", "--layers", "all", code=1).stderr
    assert "layer 'conv1' (Convolution): has neither weights nor a weight_filler" in line


# ------------------------------------------------------------------------------------------------ devices and machines

EQUAL = [*SMALL, "--stage", "layers=fc8 epochs=2 lr=1e-2 dropout=0", "--stage", "layers=all epochs=2 lr=1e-3 dropout=0"]
EQUAL += ["--batch-size", "10"]  # 24 pictures: the last batch is smaller, and no multiple of the devices
# Long enough that a worker that dies after the first epoch is missed.
NEVER_DONE = [*EQUAL[:-4], "--stage", "layers=all epochs=20 lr=1e-3 dropout=0", *EQUAL[-2:]]


@pytest.mark.slow
def test_two_devices_give_the_losses_of_one(here):
    finetune(*EQUAL, "--out", "one", "-q")
    two = process(*EQUAL, "--out", "two", "--device", "cpu:0,cpu:1")
    assert "on 2 devices (cpu:0, cpu:1)" in two.communicate()[1]
    assert two.returncode == 0
    np.testing.assert_allclose(losses("two"), losses("one"), rtol=1e-4)


def cluster():
    """The guide's TF_CONFIG of two workers, on free ports of this machine."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    tasks = re.findall(r"^TF_CONFIG='(.*?)' caffe2tf finetune", "\n".join(pages().values()), re.MULTILINE)
    assert [json.loads(task)["task"]["index"] for task in tasks] == [0, 1]
    for number, one in enumerate(sockets, 1):
        tasks = [task.replace(f"10.0.0.{number}:2222", f"127.0.0.1:{one.getsockname()[1]}") for task in tasks]
        one.close()
    return tasks


@pytest.mark.slow
def test_every_device_drops_otherwise(here):
    code = (
        "import keras, numpy as np, tensorflow as tf\n"
        "from caffe2tf.finetuning import dropout, placement\n"
        "with placement.placed('cpu:0,cpu:1') as place:\n"
        "    with place.strategy.scope(): layer = dropout.Dropout(RATIO)\n"
        "    run = tf.function(lambda: place.strategy.run(lambda: layer(tf.ones([10000]), training=True)))\n"
        "    a, b = (v.numpy() for v in place.strategy.experimental_local_results(run()))\n"
        "    for drawn in (a, b): assert abs((drawn == 0).mean() - RATIO) < 0.02 and abs(drawn.mean() - 1) < 0.05\n"
        "    assert (a != b).mean() > 0.3\n"
        "    again = place.strategy.experimental_local_results(run())[0].numpy()\n"
        "    assert (a != again).mean() > 0.3 and (b != again).mean() > 0.3\n"
    )
    for ratio in ("0.5", "0.3"):
        subprocess.run([sys.executable, "-c", code.replace("RATIO", ratio)], check=True, env=ENVIRONMENT)


@pytest.mark.slow
def test_two_workers_give_the_losses_of_one_and_the_chief_alone_writes(here):
    finetune(*EQUAL, "--out", "one", "-q")
    both = [process(*EQUAL, "--out", f"worker{n}", TF_CONFIG=task) for n, task in enumerate(cluster())]
    for worker in both:
        error = worker.communicate(timeout=240)[1]
        assert worker.returncode == 0, error
    np.testing.assert_allclose(losses("worker0"), losses("one"), rtol=1e-4)
    assert not (here / "worker1").exists()


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_others_and_resume_goes_on_with_two_or_one(here):
    finetune(*NEVER_DONE, "--out", "one", "-q")
    options = [*NEVER_DONE, "--out", "two"]
    both = [process(*options, TF_CONFIG=task) for task in cluster()]
    both[0].stdout.readline()
    both[1].send_signal(signal.SIGKILL)
    both[1].communicate()
    error = both[0].communicate(timeout=240)[1]
    assert both[0].returncode != 0
    assert "a worker is gone" in error
    assert "Traceback" not in error
    shutil.copytree("two", "alone")
    both = [process(*options, "--resume", TF_CONFIG=task) for task in cluster()]
    for worker in both:
        error = worker.communicate(timeout=240)[1]
        assert worker.returncode == 0, error
    np.testing.assert_allclose(losses("two"), losses("one"), rtol=1e-4)
    assert "goes on in stage" in finetune(*NEVER_DONE, "--out", "alone", "--resume").stderr
    np.testing.assert_allclose(losses("alone"), losses("one"), rtol=1e-4)


@pytest.mark.parametrize(("text", "why"), [
    ("hello", "TF_CONFIG is no JSON"),
    ('{"cluster": {"worker": ["127.0.0.1:1"]}}', "TF_CONFIG is incomplete"),
    ('{"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 3}}', "TF_CONFIG has no worker 3"),
    ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}', "takes workers alone"),
])  # fmt: skip
def test_a_bad_cluster_is_one_line(text, why, here, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert why in finetune(*SMALL, "--layers", "fc8", code=1).stderr


def test_devices_that_are_not_there_are_one_line(here):
    assert "sees no GPU here" in finetune(*SMALL, "--layers", "fc8", "--device", "gpu", code=1).stderr
    for device in ("cpu", "cpu:0,cpu:1"):
        line = finetune(*SMALL, "--layers", "fc8", "--precision", "tf32", "--device", device, code=1).stderr
        assert "--precision tf32 needs a GPU that has it" in line
    assert "names a device twice" in finetune(*SMALL, "--layers", "fc8", "--device", "cpu,cpu", code=1).stderr
    assert "several devices are" in finetune(*SMALL, "--layers", "fc8", "--device", "cpu:0,gpu:0", code=1).stderr
    assert not (here / "finetuned").exists()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_trains(precision, here):
    finetune(*SMALL, "--layers", "all", "--epochs", "2", "--precision", precision, "--lr", "1e-3")
    assert all(np.isfinite(row["loss"]) for row in rows("finetuned"))
    net = loading.load("finetuned/deploy.prototxt", "finetuned/best.npz")
    assert net.weights["fc8"]["kernel"].dtype == np.float32
    import keras

    assert keras.models.load_model("finetuned/best.keras").output.dtype == "float32"
