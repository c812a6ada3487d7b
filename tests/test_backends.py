"""The same model under Keras's other backends: AlexNet's probabilities, and every golden network."""

import importlib.util
import os
import subprocess
import sys

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
