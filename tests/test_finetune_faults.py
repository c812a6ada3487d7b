"""What may fail while a network is trained: memory, the disk, pictures."""

import os
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("sklearn")

from caffe2tf.errors import OutputError
from caffe2tf.finetuning import tensorboard as board
from caffe2tf.finetuning.checkpoint import Checkpoint
from tests.helpers import GOLDEN, ROOT, SMALL, run


def written(folder, tag):
    """The rows of the histogram `tag` in the log in `folder`."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == tag:
                    assert value.metadata.plugin_data.plugin_name == "histograms"
                    return tf.make_ndarray(value.tensor)
    raise AssertionError(f"no {tag} in {folder}")


@pytest.mark.parametrize("kind", ["spread", "one value", "none"])
def test_histograms_are_tensorflows_own(kind, tmp_path):
    import tensorflow as tf

    random = np.random.RandomState(0)
    values = {"spread": random.standard_normal((400, 500)), "one value": np.full((3, 4), 2.5), "none": np.zeros((0, 3))}
    array = values[kind].astype(np.float32)
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default(step=1):
        tf.summary.histogram("theirs", array)
        board._write_histogram("ours", array, 1)
    writer.close()
    ours, theirs = written(tmp_path, "ours"), written(tmp_path, "theirs")
    np.testing.assert_allclose(ours[:, :2], theirs[:, :2], rtol=1e-5, atol=1e-5)  # the edges are of float32
    assert np.abs(ours[:, 2] - theirs[:, 2]).sum() <= 4  # values on an edge
    assert ours[:, 2].sum() == array.size


def test_a_histogram_takes_little_memory():
    """TensorFlow's own takes 240 bytes a value."""
    array = np.random.RandomState(0).standard_normal(4_000_000).astype(np.float32)
    tracemalloc.start()
    board._write_histogram("x", array, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes


def holds_what_it_says(folder, *args):
    """That the run in `folder` takes no more memory than it says at its start, and says no more than four times as much."""
    command = [sys.executable, "-m", "caffe2tf", "finetune", *map(str, args), "--device", "cpu", "--epochs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Between a test's process and the run stands a small one: a child's peak counts from that of the process that starts it.
    code = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stderr=subprocess.STDOUT); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    text = done.stdout
    assert done.returncode == 0, text + done.stderr
    (size, unit) = re.search(r"takes ([0-9.]+) (MB|GB) of memory at most", text).groups()
    most = float(size) * {"MB": 1e6, "GB": 1e9}[unit]
    peak = int(text.split()[-1]) * (1024 if sys.platform == "linux" else 1)
    assert peak <= most <= 4 * peak, (peak, most)


@pytest.mark.slow
def test_memory_is_said_and_held(here):
    holds_what_it_says(here, *SMALL, "--layers", "all")


@pytest.mark.slow
@pytest.mark.parametrize("more", [("fc8",), ("all", "--optimizer", "adam", "--batch-size", "24")])
def test_memory_of_alexnet_is_said_and_held(more, alexnet, here):
    layers, *rest = more
    holds_what_it_says(here, alexnet, GOLDEN / "alexnet" / "deploy.prototxt", "--layers", layers, *rest)


def test_a_network_that_is_too_large_for_the_machine_is_noted(here, monkeypatch):
    from caffe2tf.finetuning import memory

    monkeypatch.setattr(memory, "there", lambda: 1 << 20)
    said = run("finetune", *SMALL, "--layers", "fc8", "--epochs", "1").stderr
    assert "of memory at most; this machine has 1.0 MB and may end it\n" in said


def test_a_full_disk_late_in_a_run_loses_nothing(here, monkeypatch):
    """The message says where to go on; there, the run is the same as without the break."""
    known, count = Checkpoint.save, []

    def save(self, name, *args):
        count.append(name)
        if count.count("last") > 3:
            raise OutputError(f"{name}.npz: cannot be written: the disk is full")
        known(self, name, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", save)
        said = run("finetune", *SMALL, "--layers", "fc8", "--epochs", "6", "--out", "o", "-q", code=1).stderr
    told = "caffe2tf: last.npz: cannot be written: the disk is full; what was there stays, and --resume goes on from it"
    assert said == f"{told}\n"
    assert run("finetune", "--resume", "--out", "o").stdout.startswith("epoch   4")
    run("finetune", *SMALL, "--layers", "fc8", "--epochs", "6", "--out", "whole", "-q")
    assert (here / "o" / "history.csv").read_text() == (here / "whole" / "history.csv").read_text()


def test_a_log_that_cannot_be_written_ends_alone(tmp_path, monkeypatch):
    import tensorflow as tf

    said = []

    def fail():
        raise tf.errors.OutOfRangeError(None, None, "events.out.tfevents.1; No space left on device")

    with board.open(str(tmp_path), 0, said.append) as watch:
        monkeypatch.setattr(watch.writer, "flush", fail)
        with watch._writing(1):
            tf.summary.scalar("loss", 1.0)
        assert watch.writer is None
    assert said == ["the log for TensorBoard ends here: the disk is full"]
