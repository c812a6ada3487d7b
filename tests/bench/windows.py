"""Random legal convolutions and poolings, and their gradients."""

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from caffe2tf.layers.convolution import picks_first
from tests.bench import plain
from tests.bench.calls import Call, operation, shape_of, values


def windowed(random: Random, rank: int, dilate: bool = False) -> tuple[tuple[int, ...], ...]:
    """(extents, kernel, stride, dilation); stride and dilation are not both above 1, as Keras has it."""
    kernel = tuple(random.choice([1, 1, 2, 3, 3, 4, 5, 7][: 8 if rank < 3 else 6]) for _ in range(rank))
    stride, dilation = (1,) * rank, (1,) * rank
    if dilate and random.random() < 0.3:
        dilation = tuple(random.randint(1, 3) for _ in range(rank))
    else:
        stride = tuple(random.randint(1, 4) for _ in range(rank))
    counts = [random.choice([1, 1, 2, 3, 4, 5, 9][: 7 if rank < 3 else 5]) for _ in range(rank)]
    extents = tuple(
        d * (k - 1) + 1 + s * (n - 1) + random.randrange(s)
        for n, k, s, d in zip(counts, kernel, stride, dilation, strict=True)
    )
    return extents, kernel, stride, dilation


def channels(random: Random) -> int:
    return random.choice([1, 1, 2, 3, 4, 5, 8, 15, 16, 17, 32])


def items(random: Random) -> int:
    return random.choice([1, 1, 2, 3, 4, 8])


@operation
def conv(random: Random) -> Call:
    rank = random.choice([1, 2, 2, 2, 2, 3])
    extents, kernel, stride, dilation = windowed(random, rank, dilate=True)
    x = values(random, items(random), *extents, channels(random))
    k = values(random, *kernel, x.shape[-1], channels(random))
    relu, bias = random.random() < 0.3, values(random, k.shape[-1]) if random.random() < 0.5 else None

    def run(x: Any, k: Any, *bias: Any) -> Any:
        y = ops.conv(x, k, stride, "valid", dilation_rate=dilation, data_format="channels_last")
        y = ops.add(y, ops.reshape(bias[0], (1,) * (rank + 1) + (-1,))) if bias else y
        return ops.relu(y) if relu else y

    given = [x, k] if bias is None else [x, k, bias]
    expected = plain.convolution(x, k, stride, dilation) + (0 if bias is None else bias)
    scale = plain.convolution(abs(x), abs(k), stride, dilation) + (0 if bias is None else abs(bias))
    expected = np.maximum(expected, 0) if relu else expected
    return Call(run, given, expected, scale, {"stride": stride, "dilation": dilation, "relu": relu})


@operation
def conv_same(random: Random) -> Call:
    rank = random.choice([1, 2, 2, 3])
    dilation = (random.choice([1, 1, 2]),) * rank
    kernel = tuple(random.choice([1, 3, 5]) for _ in range(rank))
    x = values(random, items(random), *shape_of(random, rank, rank, 8), channels(random))
    k = values(random, *kernel, x.shape[-1], channels(random))
    wide = np.pad(x, [(0, 0), *((d * (n // 2),) * 2 for n, d in zip(kernel, dilation, strict=True)), (0, 0)])
    expected, scale = (plain.convolution(a, b, (1,) * rank, dilation) for a, b in ((wide, k), (abs(wide), abs(k))))

    def run(x: Any, k: Any) -> Any:
        return ops.conv(x, k, 1, "same", dilation_rate=dilation, data_format="channels_last")

    return Call(run, [x, k], expected, scale, {"dilation": dilation})


def _gradient(random: Random, of_kernel: bool) -> Call:
    rank = random.choice([2, 2, 2, 3])
    extents, kernel, stride, _ = windowed(random, rank)
    x = values(random, items(random), *extents, channels(random))
    k = values(random, *kernel, x.shape[-1], channels(random))
    y = values(random, *plain.convolution(x, k, stride).shape)

    # As the layers have it: without, the process can end.
    pick = picks_first(x.shape[-1], kernel, stride)
    every = (slice(None), *(slice(None, None, s) for s in stride)) if pick else ()

    def run(x: Any, k: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, k])
            found = ops.conv(x[every], k, 1 if pick else stride, "valid", data_format="channels_last")
            total = tf.reduce_sum(found * y)
        return tape.gradient(total, k if of_kernel else x)

    def back(x: Any, k: Any, y: Any) -> Any:
        return plain.kernel_gradient(x, y, k.shape, stride) if of_kernel else plain.transpose(y, k, stride, extents)

    return Call(run, [x, k, y], back(x, k, y), back(abs(x), abs(k), abs(y)), {"stride": stride})


@operation
def conv_input_gradient(random: Random) -> Call:
    return _gradient(random, False)


@operation
def conv_kernel_gradient(random: Random) -> Call:
    return _gradient(random, True)


@operation
def depthwise_conv(random: Random) -> Call:
    rank = random.choice([1, 2, 2, 2])
    extents, kernel, stride, dilation = windowed(random, rank, dilate=True)
    if len(set(stride)) > 1:  # as Keras and the layers have it
        stride = (1,) * rank
    x = values(random, items(random), *extents, channels(random))
    k = values(random, *kernel, x.shape[-1], random.randint(1, 3))
    expected, scale = (plain.depthwise(a, b, stride, dilation) for a, b in ((x, k), (abs(x), abs(k))))

    def run(x: Any, k: Any) -> Any:
        return ops.depthwise_conv(x, k, stride, "valid", data_format="channels_last", dilation_rate=dilation)

    return Call(run, [x, k], expected, scale, {"stride": stride, "dilation": dilation})


@operation
def conv_transpose(random: Random) -> Call:
    rank = random.choice([1, 2, 2, 2, 3])
    kernel = tuple(random.randint(1, 5) for _ in range(rank))
    stride = tuple(random.randint(1, 4) for _ in range(rank))
    x = values(random, items(random), *shape_of(random, rank, rank), channels(random))
    k = values(random, *kernel, channels(random), x.shape[-1])

    def run(x: Any, k: Any) -> Any:
        return ops.conv_transpose(x, k, stride, "valid", data_format="channels_last")

    expected, scale = (plain.transpose(a, b, stride) for a, b in ((x, k), (abs(x), abs(k))))
    return Call(run, [x, k], expected, scale, {"stride": stride})


def _pool(random: Random, run: Callable[..., Any], reduce: Callable[..., Any], exact: bool) -> Call:
    extents, kernel, stride, _ = windowed(random, 2)
    x = values(random, items(random), *extents, channels(random))

    def call(x: Any) -> Any:
        return run(x, kernel, stride, "valid", data_format="channels_last")

    expected = plain.pooled(x, kernel, stride, reduce)
    scale = 0.0 if exact else plain.pooled(abs(x), kernel, stride, reduce)
    return Call(call, [x], expected, scale, {"kernel": kernel, "stride": stride})


@operation
def max_pool(random: Random) -> Call:
    return _pool(random, ops.max_pool, np.max, True)


@operation
def average_pool(random: Random) -> Call:
    return _pool(random, ops.average_pool, np.mean, False)


def _pool_gradient(random: Random, largest: bool) -> Call:
    extents, kernel, stride, _ = windowed(random, 2)
    x = np.random.randn(items(random), *extents, channels(random)).astype(np.float32)
    y = values(random, *plain.pooled(x, kernel, stride, np.max).shape)

    def run(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            pool = ops.max_pool if largest else ops.average_pool
            total = tf.reduce_sum(pool(x, kernel, stride, "valid", data_format="channels_last") * y)
        return tape.gradient(total, x)

    def back(y: Any) -> Any:
        if largest:
            return plain.max_gradient(x, y, kernel, stride)
        share = np.full((*kernel, 1, 1), 1 / np.prod(kernel))
        parts = [plain.transpose(y[..., c : c + 1], share, stride, extents) for c in range(y.shape[-1])]
        return np.concatenate(parts, -1)

    return Call(run, [x, y], back(y), back(abs(y)), {"kernel": kernel, "stride": stride})


@operation
def max_pool_gradient(random: Random) -> Call:
    return _pool_gradient(random, True)


@operation
def average_pool_gradient(random: Random) -> Call:
    return _pool_gradient(random, False)
