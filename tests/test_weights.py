"""The layout of weights, against numbers: what plain NumPy computes with them is what Caffe computed.

For each layout the naive reading (no transposition, rows not reordered) is seen to give another number.
"""

import numpy as np
import pytest

from tests.helpers import GOLDEN, load

LAYERS = GOLDEN / "layers"


def case(name):
    with np.load(LAYERS / name / "blobs.npz") as blobs:
        return load(LAYERS / name), {key: blobs[key] for key in blobs.files}


def close(found, expected):
    return np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def last(x):
    return np.moveaxis(x, 1, -1)


def convolve(x, kernel, stride=1, pad=0):
    """x (N, H, W, C) with kernel (kh, kw, C, out)."""
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    kh, kw = kernel.shape[:2]
    oh, ow = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    y = 0
    for i in range(kh):
        for j in range(kw):
            y = y + x[:, i : i + stride * oh : stride, j : j + stride * ow : stride][:, :oh, :ow] @ kernel[i, j]
    return y


def test_convolution():
    net, blobs = case("conv_basic")
    weights = net.weights["conv"]
    assert close(convolve(last(blobs["data"]), weights["kernel"]) + weights["bias"], last(blobs["conv"]))
    flipped = weights["kernel"][::-1, ::-1]
    assert not close(convolve(last(blobs["data"]), flipped) + weights["bias"], last(blobs["conv"]))


def test_groups_take_consecutive_outputs():
    net, blobs = case("conv_group2")
    weights = net.weights["conv"]
    assert weights["kernel"].shape == (5, 5, 4, 12)
    x, expected = last(blobs["data"]), last(blobs["conv"])

    def halves(order):
        parts = [
            convolve(x[..., 4 * i : 4 * i + 4], weights["kernel"][..., 6 * g : 6 * g + 6], pad=2) for i, g in order
        ]
        return np.concatenate(parts, -1) + weights["bias"]

    assert close(halves([(0, 0), (1, 1)]), expected)
    assert not close(halves([(1, 0), (0, 1)]), expected)


def test_deconvolution():
    net, blobs = case("deconv_basic")
    weights = net.weights["up"]
    kernel = weights["kernel"]  # (kh, kw, out, in)
    x, expected = last(blobs["data"]), last(blobs["up"])
    y = np.zeros((1, 2 * 4 + 4, 2 * 5 + 4, kernel.shape[2]), np.float32)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            y[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("nc,hwoc->nhwo", x[:, i, j], kernel)
    assert close(y[:, 1:-1, 1:-1] + weights["bias"], expected)


@pytest.mark.parametrize("name", ["ip_from_image", "ip_transpose"])
def test_inner_product_rows_are_in_the_order_h_w_c(name):
    net, blobs = case(name)
    weights, x = net.weights["fc"], blobs["data"]
    assert close(last(x).reshape(len(x), -1) @ weights["kernel"] + weights["bias"], blobs["fc"])
    assert not close(x.reshape(len(x), -1) @ weights["kernel"] + weights["bias"], blobs["fc"])


def test_inner_product_after_flatten_keeps_caffes_rows():
    net, blobs = case("ip_after_flatten")
    weights, x = net.weights["fc"], blobs["data"]
    assert close(x.reshape(len(x), -1) @ weights["kernel"] + weights["bias"], blobs["fc"])


def test_batch_norm_divides_by_its_factor():
    net, blobs = case("bn_global")
    (mean, variance, factor), weights = net.arrays["bn"], net.weights["bn"]
    assert factor != 1
    x = last(blobs["data"])
    assert close((x - weights["moving_mean"]) / np.sqrt(weights["moving_variance"] + 1e-5), last(blobs["bn"]))
    assert not close((x - mean) / np.sqrt(variance + 1e-5), last(blobs["bn"]))


def test_batch_norm_factor_zero_gives_zero():
    net, _ = case("bn_global")
    mean, variance, _ = net.arrays["bn"]
    found = net.layer("bn").weights([mean, variance, np.zeros(1, np.float32)])
    assert not found["moving_mean"].any()
    assert not found["moving_variance"].any()


def test_scale_over_two_axes_is_channels_last():
    net, blobs = case("scale_axis0")  # axis 1, two axes: C and H
    weights, x = net.weights["s"], last(blobs["data"])
    assert weights["gamma"].shape == (4, 3)
    assert close(x * weights["gamma"][:, None] + weights["beta"][:, None], last(blobs["s"]))


def test_prelu_and_embed():
    net, blobs = case("prelu")
    x = last(blobs["data"])
    assert close(np.where(x > 0, x, x * net.weights["act"]["alpha"]), last(blobs["act"]))
    net, blobs = case("embed")
    weights = net.weights["e"]
    assert close(weights["embeddings"][blobs["data"].astype(int)] + weights["bias"], blobs["e"])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_lstm_gates_are_in_keras_order():
    net, blobs = case("lstm")
    weights = net.weights["lstm"]

    def run(order):
        h = c = np.zeros((2, 6), np.float32)
        outputs = []
        for x, cont in zip(blobs["data"], blobs["cont"][..., None], strict=True):
            gates = x @ weights["kernel"] + weights["bias"] + (h * cont) @ weights["recurrent_kernel"]
            i, f, g, o = (np.split(gates, 4, -1)[k] for k in order)
            c = cont * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        return np.stack(outputs)

    assert close(run((0, 1, 2, 3)), blobs["lstm"])
    assert not close(run((0, 1, 3, 2)), blobs["lstm"])


def test_rnn():
    net, blobs = case("rnn")
    w, h, outputs = net.weights["rnn"], np.zeros((2, 6), np.float32), []
    for x, cont in zip(blobs["data"], blobs["cont"][..., None], strict=True):
        h = np.tanh(x @ w["kernel"] + w["bias"] + (h * cont) @ w["recurrent_kernel"])
        outputs.append(np.tanh(h @ w["output_kernel"] + w["output_bias"]))
    assert close(np.stack(outputs), blobs["rnn"])
