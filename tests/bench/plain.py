"""What operations mean, in plain float64 NumPy: channels last, kernels as Keras keeps them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _places(offsets: Sequence[int], steps: Sequence[int], counts: Sequence[int]) -> tuple[slice, ...]:
    """The index of `counts` places, `steps` apart, from `offsets` on, of each spatial axis of (items, spatial, channels)."""
    spatial = (slice(o, o + s * (n - 1) + 1, s) for o, s, n in zip(offsets, steps, counts, strict=True))
    return (slice(None), *spatial)


def _windows(
    extents: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    return [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(extents, kernel, stride, dilation, strict=True)]


def convolution(x: Array, kernel: Array, stride: Sequence[int], dilation: Sequence[int] | None = None) -> Array:
    """Cross-correlation without padding; `kernel` (extents, inputs, outputs)."""
    extents = kernel.shape[:-2]
    dilation = dilation or (1,) * len(extents)
    counts = _windows(x.shape[1:-1], extents, stride, dilation)
    y = np.zeros((len(x), *counts, kernel.shape[-1]))
    for at in np.ndindex(*extents):
        offsets = [i * d for i, d in zip(at, dilation, strict=True)]
        y += x[_places(offsets, stride, counts)].astype(np.float64) @ kernel[at]
    return y


def depthwise(x: Array, kernel: Array, stride: Sequence[int], dilation: Sequence[int] | None = None) -> Array:
    """Each channel with its own kernels; `kernel` (extents, channels, multiplier)."""
    parts = [convolution(x[..., c : c + 1], kernel[..., c : c + 1, :], stride, dilation) for c in range(x.shape[-1])]
    return np.concatenate(parts, -1)


def transpose(x: Array, kernel: Array, stride: Sequence[int], extents: Sequence[int] | None = None) -> Array:
    """The transpose of `convolution`; `kernel` (extents, outputs, inputs). `extents` of the result, at least those that
    the windows cover; by default where the kernel is shorter than the stride a whole stride for each place."""
    size, counts = kernel.shape[:-2], x.shape[1:-1]
    extents = extents or [s * (n - 1) + max(k, s) for n, k, s in zip(counts, size, stride, strict=True)]
    y = np.zeros((len(x), *extents, kernel.shape[-2]))
    for at in np.ndindex(*size):
        y[_places(at, stride, counts)] += x.astype(np.float64) @ kernel[at].T
    return y


def kernel_gradient(x: Array, y: Array, kernel: Sequence[int], stride: Sequence[int]) -> Array:
    """What `y`, the gradient of a convolution's output, makes the gradient of its kernel of shape `kernel`."""
    found = np.zeros(kernel)
    counts = y.shape[1:-1]
    for at in np.ndindex(*kernel[:-2]):
        part = x[_places(at, stride, counts)].astype(np.float64).reshape(-1, x.shape[-1])
        found[at] = part.T @ y.reshape(-1, y.shape[-1])
    return found


def pooled(x: Array, kernel: Sequence[int], stride: Sequence[int], reduce: Callable[..., Array]) -> Array:
    counts = _windows(x.shape[1:-1], kernel, stride, (1,) * len(kernel))
    return reduce([x[_places(at, stride, counts)].astype(np.float64) for at in np.ndindex(*kernel)], axis=0)


def max_gradient(x: Array, y: Array, kernel: Sequence[int], stride: Sequence[int]) -> Array:
    """Each value of `y` goes to the first largest value of its window, row by row."""
    found = np.zeros(x.shape)
    for n, i, j, c in np.ndindex(*y.shape):
        top, left = i * stride[0], j * stride[1]
        window = x[n, top : top + kernel[0], left : left + kernel[1], c]
        row, column = np.unravel_index(window.argmax(), window.shape)
        found[n, top + row, left + column, c] += y[n, i, j, c]
    return found


def softmax(x: Array, axis: int) -> Array:
    power = np.exp(x.astype(np.float64) - x.max(axis=axis, keepdims=True))
    return power / power.sum(axis=axis, keepdims=True)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def scattered(places: Array, values: Array, count: int) -> Array:
    """`values` summed at `places` of a vector of `count` zeros."""
    found = np.zeros(count)
    for place, value in zip(places, values, strict=True):
        found[place] += value
    return found


def repeated(x: Array, factors: Sequence[int]) -> Array:
    """Every value of `x` (items, H, W, channels) factors[0] x factors[1] times."""
    y = np.zeros((x.shape[0], x.shape[1] * factors[0], x.shape[2] * factors[1], x.shape[3]))
    for i, j in itertools.product(range(factors[0]), range(factors[1])):
        y[:, i :: factors[0], j :: factors[1]] = x
    return y


def top_k(x: Array, k: int) -> tuple[Array, Array]:
    """(values, places) of the `k` largest of the last axis; of equal ones the first comes first."""
    places = np.argsort(-x.astype(np.float64), axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(x, places, -1), places


def lstm(x: Array, kernel: Array, recurrent: Array, bias: Array) -> Array:
    """The last output of Keras's LSTM over x (items, steps, inputs); gates in the order i, f, g, o."""
    h = c = np.zeros((len(x), recurrent.shape[0]))
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step].astype(np.float64) @ kernel + h @ recurrent + bias, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h
