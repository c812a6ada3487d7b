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
