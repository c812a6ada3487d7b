"""The same model under Keras's other backends: AlexNet's probabilities, and every golden network."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import ROOT

ALEXNET = """
import sys, json
import numpy as np
from caffe2tf import loading
from caffe2tf import bundled
from caffe2tf.verification import golden
from caffe2tf.keras_model import model
from caffe2tf import formats
net = loading.load(bundled.alexnet_text(), sys.argv[1])
with np.load(bundled.home() + "/alexnet/images.npz") as file:
    images = file[file.files[0]]
with np.load(bundled.home() + "/alexnet/blobs.npz") as file:
    expected = file["value/prob"]
found = model.forward(net, {"data": (images - np.float32([104, 117, 123])).transpose(0, 3, 1, 2)})["prob"]
print(float(abs(found - expected).max()))
"""

GOLDEN = """
import sys
import numpy as np
from caffe2tf.keras_model import model
from caffe2tf import formats
from tests.helpers import cases, error, golden, inputs_of, load
worst = 0
for case in cases("layers") + cases("forks"):
    path = case.values[0]
    if path.name.startswith("prior_box"):
        continue
    net = load(path)
    found = model.forward(net, inputs_of(net, path))
    for name, blob in golden(path)[1].items():
        assert found[name].shape == blob.shape, (path.name, name)
        relative = error(found[name], blob)[0]
        assert relative < 1e-5, (path.name, name, relative)
        worst = max(worst, relative)
print(worst)
"""


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("jax", "torch")]


def run(backend, code, *args):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install '.[backends]'")
    env = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *args], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split()[-1])


@pytest.mark.parametrize("backend", ["tensorflow", *OTHERS])
def test_alexnet(backend, alexnet):
    assert run(backend, ALEXNET, str(alexnet)) <= 1e-6


@pytest.mark.parametrize("backend", OTHERS)
def test_every_golden_network(backend):
    assert run(backend, GOLDEN) < 1e-5


@pytest.mark.parametrize("backend", OTHERS)
def test_layers_of_forks_against_their_sources(backend):
    """With what `run_layer` holds: the values, the reference's rule, and the .keras file read back. SavedModel and .tflite are
    TensorFlow's alone; the loops of boxes take minutes: `KERAS_BACKEND=jax pytest tests/test_forks_boxes.py`."""
    options = ["-n", "0", "-q", "-k", "not whole_model and not boxes"]
    code = f"import sys, pytest; failed = pytest.main([*{options}, *sys.argv[1:]]); print(); print(int(failed))"
    files = sorted(str(path) for path in (ROOT / "tests").glob("test_forks_*.py"))
    assert run(backend, code, *files) == 0


FINETUNE = """
import sys
import keras
import caffe2tf

class Seen(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.rows = getattr(self, "rows", []) + [logs]
        self.model.stop_training = epoch == 2

seen = Seen()
out, *settings = sys.argv[1:]
caffe2tf.finetune(out=out, callbacks=[seen], **dict(setting.split("=") for setting in settings))
assert len(seen.rows) == 3 and {"loss", "val_accuracy", "learning_rate"} <= set(seen.rows[0])
print(seen.rows[-1]["loss"])
"""
TRAINED = {
    "head": ["layers=fc8", "class_weights=balanced", "label_smoothing=0.1"],
    "all": ["layers=all", "optimizer=sgd", "lr=1e-3", "clip=0.5", "augment=mirror,crop", "dropout=0"],
}


@pytest.mark.slow
@pytest.mark.parametrize("what", TRAINED)
def test_training_is_the_same_on_every_backend(what, here):
    """The same batches, rule and losses; the callbacks of the user are told and heeded, and the best weights are a model."""
    settings = ["model=net.caffemodel", "prototxt=net.prototxt", "resize=14x14", "crop=12x12"]
    losses, weights = [], []
    for backend in ("tensorflow", "jax", "torch"):
        losses.append(run(backend, FINETUNE, backend, *settings, "epochs=5", "batch_size=8", *TRAINED[what]))
        with np.load(f"{backend}/best.npz") as file:
            weights.append(np.concatenate([file[name].ravel() for name in sorted(file)]))
    assert max(losses) - min(losses) < 1e-5
    assert np.ptp(weights, axis=0).max() < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_run_elsewhere_is_stopped_and_resumed_to_the_same_weights(backend, here):
    code = (
        "import sys\nfrom tests.helpers import run, SMALL\nfrom caffe2tf.finetuning import trainer\n"
        "step, taken = trainer.Trainer.step, []\n"
        "def broken(self, *given):\n"
        "    taken.append(1)\n"
        "    if len(taken) == 7: raise KeyboardInterrupt\n"
        "    return step(self, *given)\n"
        "args = ['finetune', *SMALL, '--layers', 'fc7,fc8', '--epochs', '3', '--batch-size', '8', '-q']\n"
        "run(*args, '--out', 'whole')\n"
        "trainer.Trainer.step = broken\nrun(*args, code=130)\ntrainer.Trainer.step = step\n"
        "run(*args, '--resume')\nprint(int(len(taken) == 7))"
    )
    assert run(backend, code) == 1
    for name in ("best.npz", "history.csv"):
        assert (here / "finetuned" / name).read_bytes() == (here / "whole" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_what_only_tensorflow_does_is_one_line_elsewhere(backend, here):
    name = {"jax": "JAX", "torch": "PyTorch"}[backend]
    lines = {
        ("--device", "cpu:0,cpu:1"): f"{name} trains on one device here; KERAS_BACKEND=tensorflow on several",
        ("--precision", "mixed_float16"): f"{name} trains here in float32, tf32",
        ("--keep", "keras,savedmodel"): f"best_saved_model/: TensorFlow writes it, and Keras's backend is {name}",
    }
    code = (
        "import sys\nfrom tests.helpers import run, SMALL\n"
        f"for given, why in {lines!r}.items():\n"
        "    assert why in run('finetune', *SMALL, '--layers', 'fc8', *given, code=1).stderr, why\n"
        "for out in ('x/', 'x.tflite', 'x.onnx'):\n"
        f"    why = f'{{out}}: TensorFlow writes it, and Keras\\'s backend is {name}; set KERAS_BACKEND=tensorflow'\n"
        "    assert why in run('convert', *SMALL, '-o', out, code=1).stderr\n"
        "run('convert', *SMALL, '-o', 'x.ckpt')\nprint(1)"
    )
    assert run(backend, code) == 1


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("name", ["nesterov", "sgd_iter_size"])
def test_sixty_iterations_follow_caffe_on_every_backend(backend, name, shared):
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.bench import solvers\n"
        "loss, weight = solvers.follow(sys.argv[1], Path(sys.argv[2]))\nassert weight < 1e-3, weight\nprint(loss)"
    )
    assert run(backend, code, name, str(shared)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_command_ends_in_silence(backend, here):
    """PyTorch's bindings count what is left when Python ends."""
    code = (
        "import os, subprocess, sys\nfrom tests.helpers import SMALL\n"
        "environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'}\n"
        "command = [sys.executable, '-m', 'caffe2tf', 'convert', *SMALL, '-o', 'x.keras', '-q']\n"
        "done = subprocess.run(command, capture_output=True, text=True, env=environment)\n"
        "assert (done.returncode, done.stdout, done.stderr) == (0, '', ''), done\nprint(1)"
    )
    assert run(backend, code) == 1
