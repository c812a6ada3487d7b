"""Random legal calls of what is no window: one value each, reductions, products, moves, and stock layers."""

import functools
from collections.abc import Callable
from random import Random
from typing import Any

import keras
import numpy as np
from keras import ops

from tests.bench import plain
from tests.bench.calls import Call, operation, shape_of, values

DOUBLE = np.float64


def axes_of(random: Random, rank: int) -> tuple[int, ...]:
    return tuple(sorted(random.sample(range(rank), random.randint(1, rank))))


# ------------------------------------------------------------------ one value in, one value out

POINTWISE: dict[str, tuple[Any, Callable[[np.ndarray], np.ndarray], float, float]] = {
    # what is called, what it means, the range of its values
    "sigmoid": (ops.sigmoid, plain.sigmoid, -80, 80),
    "tanh": (ops.tanh, np.tanh, -20, 20),
    "softplus": (ops.softplus, lambda x: np.logaddexp(0, x), -80, 80),
    "exp": (ops.exp, np.exp, -80, 80),
    "log": (ops.log, np.log, 1e-30, 1e3),
    "sqrt": (ops.sqrt, np.sqrt, 0, 1e4),
    "rsqrt": (ops.rsqrt, lambda x: 1 / np.sqrt(x), 1e-6, 1e4),
    "absolute": (ops.absolute, np.abs, -1e3, 1e3),
    "floor": (ops.floor, np.floor, -1e3, 1e3),
    "ceil": (ops.ceil, np.ceil, -1e3, 1e3),
    "relu": (ops.relu, lambda x: np.maximum(x, 0), -1e3, 1e3),
    "to_int": (lambda x: ops.cast(x, "int32"), np.trunc, -1e3, 1e3),
    "ones_like": (ops.ones_like, np.ones_like, -1, 1),
    "zeros_like": (ops.zeros_like, np.zeros_like, -1, 1),
    "copy": (ops.copy, np.copy, -1e3, 1e3),
}


@operation
def pointwise(random: Random) -> Call:
    name = random.choice(list(POINTWISE))
    run, means, low, high = POINTWISE[name]
    # Long vectors too: packets, and what is left of them, and several threads take other ways.
    shape = random.choice([shape_of(random), (random.randint(1, 70),), (random.randint(1, 4), random.randint(1, 9000))])
    spread = random.choice([1.0, 1e-3])
    x = np.random.uniform(low, high, shape)
    x = (x * spread if low <= 0 else x).astype(np.float32)
    expected = means(x.astype(DOUBLE))
    return Call(run, [x], expected, abs(expected), {"function": name})


@operation
def power(random: Random) -> Call:
    x = np.random.uniform(1e-3, 1e3, shape_of(random)).astype(np.float32)
    exponent = random.choice([-0.75, 0.5, -0.5, 3, -2, 0.1, random.uniform(-3, 3)])
    expected = x.astype(DOUBLE) ** np.float32(exponent)
    return Call(lambda x: ops.power(x, exponent), [x], expected, abs(expected), {"exponent": exponent})


@operation
def clip(random: Random) -> Call:
    low = random.uniform(-2, 1)
    high = low + random.uniform(0, 2)
    x = values(random, *shape_of(random))
    low, high = float(np.float32(low)), float(np.float32(high))
    return Call(lambda x: ops.clip(x, low, high), [x], np.clip(x.astype(DOUBLE), low, high), said={"to": (low, high)})


BINARY: dict[str, tuple[Any, Callable[..., np.ndarray]]] = {
    "add": (ops.add, np.add),
    "subtract": (ops.subtract, np.subtract),
    "multiply": (ops.multiply, np.multiply),
    "divide": (ops.divide, np.divide),
    "maximum": (ops.maximum, np.maximum),
    "minimum": (ops.minimum, np.minimum),
    "greater": (lambda a, b: ops.cast(ops.greater(a, b), "float32"), np.greater),
    "where": (lambda a, b: ops.where(a > b, a, b * 2.0), lambda a, b: np.where(a > b, a, b * 2)),
    "floor_divide": (ops.floor_divide, np.floor_divide),
}


@operation
def binary(random: Random) -> Call:
    """Layers hand the smaller value to `add` first: as second it can be taken for a bias of the channels."""
    name = random.choice(list(BINARY))
    run, means = BINARY[name]
    shape = shape_of(random)
    smaller = tuple(random.choice([1, n]) for n in shape)[random.choice([0, 0, random.randint(0, len(shape))]) :]
    a, b = values(random, *smaller), values(random, *shape)
    if name != "add" and random.random() < 0.5:
        a, b = b, a
    if name == "divide":
        b = np.where(abs(b) < 1e-3, np.float32(1), b)
    elif name == "floor_divide":
        a, b = np.trunc(a * 10).astype(np.int32), np.trunc(abs(b)).astype(np.int32) + 1
    expected = means(a.astype(DOUBLE), b.astype(DOUBLE))
    scale = abs(a) + abs(b) if name in ("add", "subtract") else abs(expected.astype(DOUBLE))
    return Call(run, [a, b], expected, scale, {"function": name})


# ------------------------------------------------------------------ reductions and products


@operation
def reduction(random: Random) -> Call:
    name = random.choice(["sum", "mean", "max"])
    x = values(random, *random.choice([shape_of(random), shape_of(random, 1, 5), (random.randint(1, 3), 7, 300)]))
    axes, keep = axes_of(random, x.ndim), random.random() < 0.5
    means = getattr(np, name)
    expected = means(x.astype(DOUBLE), axis=axes, keepdims=keep)
    scale = 0.0 if name == "max" else means(abs(x).astype(DOUBLE), axis=axes, keepdims=keep)

    def run(x: Any) -> Any:
        return getattr(ops, name)(x, axis=axes, keepdims=keep)

    return Call(run, [x], expected, scale, {"function": name, "axes": axes, "keepdims": keep})


@operation
def softmax(random: Random) -> Call:
    x = values(random, *shape_of(random, 1, 5))
    axis = random.randrange(x.ndim)
    run = functools.partial(ops.softmax, axis=axis) if axis == 0 else keras.layers.Softmax(axis=axis)
    return Call(run, [x], plain.softmax(x, axis), 2.0, {"axis": axis})


@operation
def cumsum(random: Random) -> Call:
    x = values(random, *shape_of(random))
    axis = random.randrange(x.ndim)
    scale = np.cumsum(abs(x).astype(DOUBLE), axis)
    return Call(lambda x: ops.cumsum(x, axis=axis), [x], np.cumsum(x.astype(DOUBLE), axis), scale, {"axis": axis})


@operation
def dense(random: Random) -> Call:
    inputs, units = random.choice([1, 2, 7, 16, 33, 100]), random.choice([1, 2, 5, 8, 16, 31, 64])
    x = values(random, *shape_of(random, 1, 3), inputs)
    k, b = values(random, inputs, units), values(random, units)
    activation = random.choice([None, "relu"])

    def run(x: Any, k: Any, b: Any) -> Any:
        y = ops.add(ops.matmul(x, k), b)
        return ops.relu(y) if activation else y

    expected = x.astype(DOUBLE) @ k + b
    expected = np.maximum(expected, 0) if activation else expected
    return Call(run, [x, k, b], expected, abs(x).astype(DOUBLE) @ abs(k) + abs(b), {"activation": activation})


@operation
def lstm(random: Random) -> Call:
    n, steps, inputs, units = (random.randint(1, 5) for _ in range(4))
    x, k, r, b = (np.random.randn(*s).astype(np.float32) for s in
                  [(n, steps, inputs), (inputs, 4 * units), (units, 4 * units), (4 * units,)])  # fmt: skip
    layer = keras.layers.LSTM(units)
    layer.build(x.shape)
    layer.set_weights([k, r, b])
    return Call(layer, [x], plain.lstm(x, k, r, b), 5.0, {"units": units})


@operation
def batch_normalization(random: Random) -> Call:
    x = values(random, *shape_of(random, 2, 5))
    axis = random.choice([1, -1])
    count, spread = x.shape[axis], [1] * x.ndim
    spread[axis] = count
    mean, variance = values(random, count), np.random.uniform(1e-3, 10, count).astype(np.float32)
    layer = keras.layers.BatchNormalization(axis=axis, epsilon=1e-5, center=False, scale=False)
    layer.build(x.shape)
    layer.set_weights([mean, variance])
    root = np.sqrt(variance.astype(DOUBLE) + 1e-5).reshape(spread)
    mean = mean.astype(DOUBLE).reshape(spread)
    return Call(functools.partial(layer, training=False), [x], (x - mean) / root, (abs(x) + abs(mean)) / root,
                {"axis": axis})  # fmt: skip


@operation
def activation_layer(random: Random) -> Call:
    x = values(random, *shape_of(random, 2, 4))
    slope = float(np.float32(random.uniform(0, 1)))
    kind = random.choice(["relu", "relu6", "elu", "prelu"])
    below = x.astype(DOUBLE) * slope
    if kind == "relu":
        layer = keras.layers.ReLU(negative_slope=slope)
    elif kind == "relu6":
        layer = keras.layers.ReLU(max_value=6.0)
    elif kind == "elu":
        layer, below = keras.layers.ELU(alpha=slope), slope * np.expm1(np.minimum(x.astype(DOUBLE), 0))
    else:
        layer = keras.layers.PReLU(shared_axes=list(range(1, x.ndim - 1)) or None)
        layer.build(x.shape)
        alpha = values(random, *layer.alpha.shape)
        layer.set_weights([alpha])
        below = x.astype(DOUBLE) * alpha
    expected = np.clip(x.astype(DOUBLE), 0, 6) if kind == "relu6" else np.where(x > 0, x, below)
    # ELU is said as e^x - 1, which cancels near 0, in Caffe as well.
    scale = abs(x) + abs(below) + (slope if kind == "elu" else 0)
    return Call(layer, [x], expected, scale, {"layer": kind, "slope": slope})


@operation
def merging_layer(random: Random) -> Call:
    kind = random.choice(["Add", "Multiply", "Maximum", "Concatenate"])
    shape, count = shape_of(random, 2, 4), random.randint(2, 4)
    axis = random.randrange(1, len(shape)) if kind == "Concatenate" else None
    xs = [
        values(random, *(random.randint(1, 4) if a == axis else n for a, n in enumerate(shape))) for _ in range(count)
    ]
    doubles = [x.astype(DOUBLE) for x in xs]
    if kind == "Concatenate":
        layer, expected, scale = keras.layers.Concatenate(axis=axis), np.concatenate(doubles, axis), 0.0
    else:
        means = {"Add": np.add, "Multiply": np.multiply, "Maximum": np.maximum}[kind]
        layer, expected = getattr(keras.layers, kind)(), functools.reduce(means, doubles)
        scale = sum(abs(x) for x in doubles) if kind == "Add" else abs(expected)
    return Call(lambda *xs: layer(list(xs)), xs, expected, scale, {"layer": kind, "axis": axis})


@operation
def global_pool(random: Random) -> Call:
    x = values(random, *shape_of(random, 4, 4, 9))
    largest = random.random() < 0.5
    layer = (keras.layers.GlobalMaxPooling2D if largest else keras.layers.GlobalAveragePooling2D)(
        data_format="channels_last", keepdims=True
    )
    expected = (np.max if largest else np.mean)(x.astype(DOUBLE), (1, 2), keepdims=True)
    return Call(layer, [x], expected, 0.0 if largest else abs(x).mean((1, 2), keepdims=True), {"max": largest})
