"""One value in, one value out."""

import math

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.reference.table import Array, larger, rule, smaller, spread


def sigmoid(x: Array) -> Array:
    """0.5 tanh(0.5 x) + 0.5, which does not overflow (sigmoid_layer.cpp)."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


@rule("ReLU")
def relu(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """max(x, 0) + slope * min(x, 0); minus infinity gives NaN where the slope is 0 (relu_layer.cpp)."""
    return larger(x, 0) + layer.relu_param.negative_slope * smaller(x, 0)


@rule("ReLU6")
def relu6(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """min(max(x, 0), 6) (relu6_layer.cpp of the MobileNet forks)."""
    return smaller(larger(x, 0), 6)


@rule("PReLU")
def prelu(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """max(x, 0) + alpha * min(x, 0), alpha of the channel or one for all (prelu_layer.cpp)."""
    alpha = weights[0].ravel()
    alpha = spread(alpha, x, 1) if alpha.size > 1 else alpha[0]
    return larger(x, 0) + alpha * smaller(x, 0)


@rule("ELU")
def elu(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """max(x, 0) + alpha (e^min(x, 0) - 1) (elu_layer.cpp)."""
    return larger(x, 0) + layer.elu_param.alpha * (np.exp(smaller(x, 0)) - 1)


@rule("Sigmoid")
def sigmoid_rule(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """1 / (1 + e^-x) (sigmoid_layer.cpp)."""
    return sigmoid(x)


@rule("TanH")
def tanh(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """tanh x (tanh_layer.cpp)."""
    return np.tanh(x)


@rule("Swish")
def swish(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """x sigmoid(beta x) (swish_layer.cpp)."""
    return x * sigmoid(layer.swish_param.beta * x)


@rule("Mish")
def mish(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """x tanh(log(1 + e^x)) (mish_layer.cpp)."""
    return x * np.tanh(np.logaddexp(0, x))


@rule("SeLu", "SeLU")
def selu(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """lambda x where x > 0, else lambda alpha (e^x - 1) (selu_layer.cpp)."""
    p = layer.selu_param
    y: Array = getattr(p, "lambda") * np.where(x > 0, x, p.alpha * (np.exp(x) - 1))
    return y


@rule("BReLU")
def brelu(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """std::min(std::max(x, minval), maxval) (brelu_layer.cpp)."""
    return smaller(larger(x, layer.brelu_param.minval), layer.brelu_param.maxval)


@rule("BNLL")
def bnll(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """x + log(1 + e^-x) where x > 0, else log(1 + e^x) (bnll_layer.cpp)."""
    y: Array = np.where(x > 0, x + np.log(1 + np.exp(-x)), np.log(1 + np.exp(x)))
    return y


@rule("AbsVal")
def absval(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """|x| (absval_layer.cpp)."""
    return np.abs(x)


@rule("Clip")
def clip(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """std::max(min, std::min(x, max)); NaN gives min, since no comparison with it holds (clip_layer.cpp)."""
    low, x = layer.clip_param.min, smaller(x, layer.clip_param.max)
    return np.where(low < x, x, low)


@rule("Threshold")
def threshold(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """1 where x > threshold, else 0 (threshold_layer.cpp)."""
    return np.where(x > layer.threshold_param.threshold, 1.0, 0.0)


@rule("Dropout", "SeLuDropout", "SeLUDropout")
def dropout(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """The bottom: at test time nothing is dropped (dropout_layer.cpp, selu_dropout_layer.cpp)."""
    return x


@rule("Power")
def power(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """(shift + scale x)^power; where power or scale is 0 a constant, whatever x (power_layer.cpp)."""
    p = layer.power_param
    if p.power == 0 or p.scale == 0:
        return np.full(x.shape, 1.0 if p.power == 0 else float(np.power(np.float64(p.shift), p.power)))
    y = p.scale * x + p.shift if p.shift else p.scale * x  # adding 0 would lose the sign of -0
    # An exponent that is an array is C's pow; for one number NumPy takes roots and reciprocals, which differ at -inf.
    return y if p.power == 1 else np.power(y, np.full(x.shape, p.power))


@rule("Exp")
def exp(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """base^(shift + scale x), base -1 for e, as base^shift e^(log(base) scale x) (exp_layer.cpp)."""
    p = layer.exp_param
    log_base = 1.0 if p.base == -1 else math.log(p.base)
    outer = np.exp(np.float64(log_base * p.shift)) if p.shift else 1.0
    return outer * np.exp(log_base * p.scale * x)


@rule("Log")
def log(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """log(shift + scale x) / log(base), base -1 for e (log_layer.cpp)."""
    p = layer.log_param
    return np.log(p.scale * x + p.shift) / (1.0 if p.base == -1 else math.log(p.base))


@rule("Softmax")
def softmax(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """e^(x - max) / sum of e^(x - max) along the axis (softmax_layer.cpp)."""
    axis = layer.softmax_param.axis
    powers: Array = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    total: Array = powers.sum(axis=axis, keepdims=True)
    return powers / total
