"""A network as a part of a Keras model of one's own."""

import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import caffe2tf
from tests.helpers import README, ROOT, inputs, layer, make

OTHERS = ("jax", "torch")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", *OTHERS])
def test_features_heads_training_and_gradients_on_every_backend(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install '.[backends]'")
    env = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples" / "parts.py"), "4"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    norm = float(re.search(r"\(2, 64, 64, 3\) norm ([\d.]+)", done.stdout)[1])
    assert norm == pytest.approx(0.158356, rel=1e-3)  # as the first backend that was asked has it: they agree
    policies = ("float32",) if backend == "torch" else ("float32", "mixed_bfloat16")
    for policy in policies:
        first, last = map(float, re.search(rf"{policy}: loss ([\d.]+) to ([\d.]+)", done.stdout).groups())
        assert last < first / 2
    assert done.stdout.count("backbone as it was: True") == len(policies)


@pytest.fixture
def shared_layers(tmp_path):
    """Two layers of the same parameters, one behind the other."""
    pytest.importorskip("keras")
    share = 'param { name: "w" } param { name: "b" } inner_product_param { num_output: 4 }'
    text = inputs(data=(1, 4)) + layer("InnerProduct", share, tops=["a"], name="one")
    text += layer("TanH", bottoms=["a"], tops=["t"], name="tanh")
    text += layer("InnerProduct", share, bottoms=["t"], tops=["y"], name="two")
    return caffe2tf.load(*make(tmp_path, text, {"one": [(4, 4), (4,)], "two": [(4, 4), (4,)]}))


def gap(net):
    return np.abs(net.weights["one"]["kernel"] - net.weights["two"]["kernel"]).max()


def test_shared_weights_train_apart_and_nothing_of_that_is_lost(shared_layers, tmp_path):
    model = caffe2tf.to_keras(shared_layers)
    assert gap(shared_layers) == 0
    x = np.random.RandomState(0).randn(8, 4).astype(np.float32)
    model.compile("sgd", "mse")
    model.fit(x, x, verbose=0)
    apart = caffe2tf.from_keras(model, shared_layers)
    assert gap(apart) > 1e-4
    caffe2tf.save(apart, tmp_path / "apart.caffemodel")  # which would have one value for both, were they shared still
    back = caffe2tf.load(tmp_path / "apart.caffemodel")
    assert caffe2tf.diff(apart, back)["same"]


def test_shared_weights_are_tied_as_the_readme_says(shared_layers):
    import keras

    model = caffe2tf.to_keras(shared_layers)
    code = re.search(r"```text\n(shared = .*?)```", README, re.DOTALL)[1]
    x = np.random.RandomState(0).randn(8, 4).astype(np.float32)
    kernel = shared_layers.weights["one"]["kernel"]
    known = {"model": model, "keras": keras}
    before, after = code.split("tied.fit(...)\n")
    exec(before, known)
    tied = known["tied"]
    assert len(tied.weights) == 2
    tied.compile(keras.optimizers.SGD(1e-3), "mse")
    tied.fit(x, x, batch_size=8, verbose=0)
    exec(after, known)
    net = caffe2tf.from_keras(model, shared_layers)
    assert gap(net) == 0
    step = (kernel - net.weights["one"]["kernel"]) / 1e-3
    # Both gradients added, by differences of the loss in float64.
    bias = shared_layers.weights["one"]["bias"].astype(np.float64)

    def loss(w):
        return np.square(np.tanh(x @ w + bias) @ w + bias - x).mean()

    for place in np.ndindex(4, 4):
        small = np.zeros((4, 4))
        small[place] = 1e-5
        slope = (loss(kernel + small) - loss(kernel - small)) / 2e-5
        assert step[place] == pytest.approx(slope, rel=0.02, abs=2e-3)
