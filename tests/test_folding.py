"""Folding keeps the function and drops the layers; what cannot be folded stays."""

import numpy as np
import pytest

from caffe2tf import loading
from caffe2tf.net.folding import fold
from tests.helpers import GOLDEN, error, golden, inputs, layer, load, make

pytest.importorskip("keras")
from caffe2tf.keras_model import model


@pytest.mark.parametrize(("name", "convolutions", "layers"), [("conv_bn_scale_relu", 1, 2), ("residual_block", 2, 4)])
def test_outputs_stay(name, convolutions, layers):
    path = GOLDEN / "layers" / name
    net, (_, blobs) = load(path), golden(path)
    folded, saved = fold(net)
    assert (saved.convolutions, saved.layers) == (convolutions, layers)
    assert saved.parameters > 0
    assert len(folded.nodes) == len(net.nodes) - layers
    found = model.forward(folded, {"data": blobs["data"]})
    for output in net.outputs:
        assert error(found[output], blobs[output])[0] < 1e-5
    assert "BatchNorm" not in [node.layer.type for node in folded.nodes]


CONV = "convolution_param { num_output: 4 kernel_size: 3 bias_term: false }"
BLOBS = {"c": [(4, 3, 3, 3)], "b": [(4,), np.ones(4), np.ones(1)], "s": [(4,)]}


@pytest.mark.parametrize(
    ("parts", "layers"),
    [
        ([layer("BatchNorm", bottoms=["c"], name="b", tops=["b"]), layer("Scale", bottoms=["b"], name="s")], 2),
        ([layer("BatchNorm", bottoms=["c"], name="b", tops=["b"]), layer("ReLU", bottoms=["b"], name="r", tops=["r"]),
          layer("Scale", bottoms=["r"], name="s")], 1),
        ([layer("BatchNorm", bottoms=["c"], name="b", tops=["b"]), layer("Scale", bottoms=["b"], name="s"),
          layer("ReLU", bottoms=["c"], name="r", tops=["r"])], 0),
        ([layer("BatchNorm", "batch_norm_param { use_global_stats: false }", bottoms=["c"], name="b", tops=["b"]),
          layer("Scale", bottoms=["b"], name="s")], 0),
    ],
)  # fmt: skip
def test_only_where_nothing_else_sees_the_difference(parts, layers, tmp_path):
    text = inputs(data=(2, 3, 6, 5)) + layer("Convolution", CONV, tops=["c"], name="c") + "".join(parts)
    net = loading.load(*make(tmp_path, text, BLOBS))
    folded, saved = fold(net)
    assert saved.layers == layers
    x = np.random.RandomState(0).randn(2, 3, 6, 5)
    before, after = model.forward(net, {"data": x}), model.forward(folded, {"data": x})
    for output in net.outputs:
        np.testing.assert_allclose(after[output], before[output], rtol=1e-4, atol=1e-5)


NORM = layer("BatchNorm", bottoms=["c"], name="b", tops=["b"])
SHARED = layer("BatchNorm", 'param { name: "m" lr_mult: 0 }', bottoms=["c"], name="b", tops=["b"])


@pytest.mark.parametrize(
    ("convolution", "parts", "scale", "gone"),
    [
        (CONV, [NORM, layer("Scale", "scale_param { bias_term: true }", bottoms=["b"], name="s")], [(4,), (4,)], 2),
        (CONV, [NORM, layer("Scale", 'param { name: "k" }', bottoms=["b"], name="s")], [(4,)], 1),
        (CONV, [NORM, layer("Scale", "scale_param { axis: -3 }", bottoms=["b"], name="s")], [(4,)], 2),
        (CONV, [NORM, layer("Scale", "scale_param { axis: 2 }", bottoms=["b"], name="s")], [(4,)], 1),
        (CONV, [NORM, layer("Scale", "scale_param { num_axes: 2 }", bottoms=["b"], name="s")], [(4, 4)], 1),
        (CONV, [NORM, layer("Scale", "scale_param { axis: 0 }", bottoms=["b", "b"], name="s")], [], 1),
        (CONV, [SHARED], [], 0),
        (f'{CONV} param {{ name: "w" }}', [NORM], [], 0),
        ("convolution_param { num_output: 4 kernel_size: 3 axis: 2 bias_term: false }", [NORM], [], 0),
    ],
)  # fmt: skip
def test_what_is_folded_is_a_layer_of_its_own_over_the_channels(convolution, parts, scale, gone, tmp_path):
    shape = (2, 3, 6, 5) if "axis: 2" not in convolution else (2, 4, 3, 6, 5)
    kernel = (4, 3, 3, 3)
    text = inputs(data=shape) + layer("Convolution", convolution, tops=["c"], name="c") + "".join(parts)
    net = loading.load(*make(tmp_path, text, {**BLOBS, "c": [kernel], "s": scale}))
    folded, saved = fold(net)
    assert saved.layers == gone
    assert len(folded.nodes) == len(net.nodes) - gone
    x = np.random.RandomState(0).randn(*shape)
    before, after = model.forward(net, {"data": x}), model.forward(folded, {"data": x})
    for output in net.outputs:
        np.testing.assert_allclose(after[output], before[output], rtol=1e-4, atol=1e-5)


def test_a_bias_and_a_factor_are_folded_in(tmp_path):
    """Caffe's own formula, in float64: gamma (k x + a - mean / f) / sqrt(variance / f + eps) + beta."""
    text = inputs(data=(1, 2, 1, 1)) + layer(
        "Convolution", "convolution_param { num_output: 1 kernel_size: 1 }", tops=["c"], name="c"
    )
    text += layer("BatchNorm", "batch_norm_param { eps: 0.5 }", bottoms=["c"], name="b", tops=["b"])
    text += layer("Scale", "scale_param { bias_term: true }", bottoms=["b"], name="s")
    blobs = {
        "c": [np.array([[[[3.0]], [[5.0]]]]), np.array([7.0])],
        "b": [np.array([4.0]), np.array([7.0]), np.array([2.0])],
    }
    net = loading.load(*make(tmp_path, text, {**blobs, "s": [np.array([6.0]), np.array([9.0])]}))
    folded, saved = fold(net)
    kernel, bias = folded.arrays["c"]
    np.testing.assert_allclose(kernel.ravel(), [9, 15])
    np.testing.assert_allclose(bias, [(7 - 2) * 6 / 2 + 9])
    assert (saved.convolutions, saved.layers, saved.parameters) == (1, 2, 5)
