"""Layers that bring values to a common scale, and the learned scales and biases that follow them."""

from collections.abc import Iterator

import numpy as np

from caffe2tf.caffe.caffe_pb2 import TRAIN, BNParameter, LayerParameter, LRNParameter
from caffe2tf.reference.pooling import Places, ave_pool
from caffe2tf.reference.table import Array, matrix, rule, spread


@rule("LRN")
def lrn(layer: LayerParameter, weights: list[Array], x: Array) -> Iterator[Array]:
    """x (k + alpha / n sum x^2)^-beta over n channels; WITHIN_CHANNEL x (1 + alpha mean x^2)^-beta over n x n places.

    Across channels the factor is written to the top and multiplied by the bottom after that: in place it is squared
    and the bottom has no part in it. The sum runs along the channels, one in and one out (lrn_layer.cpp).
    """
    p = layer.lrn_param
    half = (p.local_size - 1) // 2
    if p.norm_region == LRNParameter.WITHIN_CHANNEL:
        rows, columns = (Places(n, p.local_size, 1, half, True, half > 0) for n in x.shape[2:])
        yield x * (1 + p.alpha * ave_pool(x * x, rows, columns)[0]) ** -p.beta
        return
    channels = x.shape[1]
    squares = np.pad(p.alpha / p.local_size * x * x, [(0, 0), (half, half), (0, 0), (0, 0)])
    base = np.empty(x.shape)
    base[:, 0] = p.k + squares[:, : p.local_size].sum(axis=1)
    for c in range(1, channels):
        base[:, c] = base[:, c - 1] + squares[:, c + p.local_size - 1] - squares[:, c - 1]
    factor = base**-p.beta
    yield factor
    yield factor * x


@rule("BatchNorm")
def batch_norm(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """(x - mean) / sqrt(variance + eps) per channel (batch_norm_layer.cpp).

    Blobs: mean, variance, and a factor that both are divided by, 0 giving 0. Where use_global_stats is false, or not
    set in a layer of phase TRAIN, mean and variance are those of the bottom.

    NVCaffe's, with scale_bias or a filler for it, asks the phase alone, leaves the factor out, takes no eps below 1e-5
    and gives gamma y + beta. Blobs: mean, variance, factor, gamma, beta.
    """
    p = layer.batch_norm_param
    if p.scale_bias or p.HasField("scale_filler") or p.HasField("bias_filler"):
        mean, variance, _, gamma, beta = (spread(weight, x, 1) for weight in weights)
        if _trains(layer):
            others = (0, *range(2, x.ndim))
            mean, variance = x.mean(axis=others, keepdims=True), x.var(axis=others, keepdims=True)
        return (x - mean) / np.sqrt(variance + max(p.eps, 1e-5)) * gamma + beta
    given = p.use_global_stats if p.HasField("use_global_stats") else not _trains(layer)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    if given:
        mean, variance, factor = weights
        share = 0.0 if factor.ravel()[0] == 0 else 1 / factor.ravel()[0]
        y, variance = x - spread(mean * share, x, 1), spread(variance * share, x, 1)
    else:
        y = x - x.mean(axis=axes, keepdims=True)
        variance = (y * y).mean(axis=axes, keepdims=True)
    return y / np.sqrt(variance + p.eps)


def _trains(layer: LayerParameter) -> bool:
    return layer.HasField("phase") and layer.phase == TRAIN


@rule("BN")
def bn(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """gamma (x - mean) / sqrt(variance + eps) + beta; bn_mode INFERENCE gamma x + beta (bn_layer.cpp of SegNet)."""
    p = layer.bn_param
    gamma, beta, *statistics = (weight.reshape(1, -1, 1, 1) for weight in weights)
    if p.bn_mode == BNParameter.INFERENCE:
        return gamma * x + beta
    mean, variance = statistics
    return gamma * (x - mean) / np.sqrt(variance + p.eps) + beta


@rule("MVN")
def mvn(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """(x - mean) / (sqrt(variance) + eps) of each channel, or of each item across channels (mvn_layer.cpp).

    The top has four axes; those that the bottom lacks are extents of 1.
    """
    p, x = layer.mvn_param, x.reshape(x.shape + (1,) * (4 - x.ndim))
    rows = matrix(x, 1 if p.across_channels else 2)
    y: Array = rows - rows.mean(axis=1, keepdims=True)
    if p.normalize_variance:
        y = y / (np.sqrt((y * y).mean(axis=1, keepdims=True)) + p.eps)
    return y.reshape(x.shape)


@rule("Normalize")
def normalize(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """gamma x / sqrt(sum x^2 + eps) over the channels, or over channels and space (normalize_layer.cpp of SSD)."""
    p = layer.norm_param
    axes = (1, 2, 3) if p.across_spatial else (1,)
    norm: Array = np.sqrt((x * x).sum(axis=axes, keepdims=True) + p.eps)
    return x / norm * weights[0].reshape(1, -1, 1, 1)


@rule("L2Norm")
def l2_norm(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """Each item over the root of the sum of its squares (l2_norm_layer.cpp of MSRCCS/Caffe)."""
    rows = matrix(x, 1)
    return np.stack([row * np.float64(row @ row) ** -0.5 for row in rows]).reshape(x.shape)


@rule("ChannelNorm")
def channel_norm(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """The root of the sum of squares over the channels (channel_norm_layer.cu of FlowNet 2)."""
    top = np.zeros((len(x), 1, *x.shape[2:]))
    for c in range(x.shape[1]):
        top[:, 0] += x[:, c] ** 2
    return np.sqrt(top)


@rule("Scale")
def scale(layer: LayerParameter, weights: list[Array], x: Array, *other: Array) -> Array:
    """gamma x + beta, gamma the second bottom or learned, from `axis` on (scale_layer.cpp). Blobs: [gamma], [beta]."""
    p, learned = layer.scale_param, list(weights)
    y = x * spread(other[0] if other else learned.pop(0), x, p.axis)
    return y + spread(learned.pop(0), x, p.axis) if p.bias_term else y


@rule("Bias")
def bias(layer: LayerParameter, weights: list[Array], x: Array, *other: Array) -> Array:
    """x + the second bottom, or the learned blob, from `axis` on (bias_layer.cpp)."""
    return x + spread(other[0] if other else weights[0], x, layer.bias_param.axis)
