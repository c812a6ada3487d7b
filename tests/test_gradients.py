"""What training computes: gradients of every layer type with weights against finite differences in double precision."""

import numpy as np
import pytest

from caffe2tf import layers, loading
from tests.helpers import cases, inputs, layer, load, make

tf = pytest.importorskip("tensorflow")
import keras  # noqa: E402

from caffe2tf.keras_model.model import to_keras  # noqa: E402

STEP, ENTRIES = 1e-6, 12
# Learned by no gradient: statistics, and priors that depend on shapes alone.
CONSTANT = {"BatchNorm"}


def with_weights(path):
    return sorted({node.layer.types[0] for node in load(path).nodes if node.layer.blobs()} - CONSTANT)


CASES = [case for kind in ("layers", "forks") for case in cases(kind) if with_weights(case.values[0])]


def in_precision(net, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return to_keras(net)
    finally:
        keras.config.set_dtype_policy(before)


def test_every_type_with_weights_has_a_case():
    learned = {row.types[0] for row in layers.REGISTRY.values() if row.blobs is not layers.base.Layer.blobs}
    assert {kind for case in CASES for kind in with_weights(case.values[0])} == learned - CONSTANT - {"BN", "Lstm"}


STATISTICS = np.random.RandomState(2).uniform(0.5, 2, 3)


@pytest.mark.parametrize(
    ("kind", "params", "shape", "blobs"),
    [
        ("BN", "bn_param { eps: 1e-3 }", (2, 4, 5, 3), [*[(1, 3, 1, 1)] * 3, STATISTICS.reshape(1, 3, 1, 1)]),
        ("BatchNorm", "batch_norm_param { scale_bias: true }", (2, 4, 5, 3), [(3,), STATISTICS, (1,), (3,), (3,)]),
        ("Lstm", "lstm_param { num_output: 2 }", (4, 2, 3), [(8, 3), (8, 2), (8,)]),
    ],
)
def test_gradients_of_forks(kind, params, shape, blobs, tmp_path):
    """What no golden set holds."""
    given = np.random.RandomState(3).randn(*shape)
    caffe = shape if len(shape) == 3 else np.moveaxis(given, -1, 1).shape
    check(loading.load(*make(tmp_path, inputs(data=caffe) + layer(kind, params), {"x": blobs})), [given])


@pytest.mark.parametrize("path", CASES)
def test_gradients_are_those_of_finite_differences(path):
    net = load(path)
    with np.load(path / "blobs.npz") as file:
        given = [file[f"in:{name}" if f"in:{name}" in file else name] for name in net.inputs]
    check(net, [np.moveaxis(a, 1, -1) if a.ndim in (4, 5) else a for a in given])


def check(net, given):
    single, double = in_precision(net, "float32"), in_precision(net, "float64")
    random, marks = np.random.RandomState(0), None

    def total(model, kind):
        nonlocal marks
        tops = model(
            [tf.constant(a.astype(kind)) for a in given] if len(given) > 1 else tf.constant(given[0].astype(kind))
        )
        tops = tops if isinstance(tops, (list, tuple)) else [tops]
        marks = marks or [random.standard_normal(top.shape) for top in tops]
        return tf.add_n(
            [tf.reduce_sum(tf.cast(top, kind) * m.astype(kind)) for top, m in zip(tops, marks, strict=True)]
        )

    with tf.GradientTape() as tape:
        value = total(single, "float32")
    slopes = tape.gradient(value, [v.value for v in single.trainable_variables])
    for variable, slope in zip(double.trainable_variables, slopes, strict=True):
        slope = np.zeros(variable.shape) if slope is None else tf.convert_to_tensor(slope).numpy()
        start = variable.value.numpy()
        places = random.permutation(start.size)[:ENTRIES]
        found = []
        for place in places:
            ends = []
            for side in (STEP, -STEP):
                moved = start.copy()
                moved.ravel()[place] += side
                variable.assign(moved)
                ends.append(float(total(double, "float64")))
            found.append((ends[0] - ends[1]) / (2 * STEP))
        variable.assign(start)
        size = max(np.linalg.norm(found), 1e-6)
        assert np.linalg.norm(slope.ravel()[places] - found) / size <= 1e-3, variable.path
