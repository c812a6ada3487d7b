"""Windows that are reduced: Pooling, pyramids of it, regions of interest."""

import math
from collections.abc import Iterator

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter, PoolingParameter
from caffe2tf.reference.table import FLT_MAX, Array, matrix, rule


class Places:
    """The windows of one axis of extent `n` (pooling_layer.cpp, Reshape): where each starts, and where it would end."""

    def __init__(self, n: int, kernel: int, stride: int, pad: int, ceil: bool, any_pad: bool) -> None:
        self.n, self.kernel, self.stride, self.pad = n, kernel, stride, pad
        rest = n + 2 * pad - kernel
        self.count = (-(-rest // stride) if ceil else rest // stride) + 1
        # With padding on any axis, a last window that starts beyond the bottom and its near padding is dropped.
        if any_pad and (self.count - 1) * stride >= n + pad:
            self.count -= 1

    def inside(self) -> Iterator[tuple[int, int]]:
        """(start, end) of each window's part inside the bottom; empty where end <= start."""
        for index in range(self.count):
            start = index * self.stride - self.pad
            yield max(start, 0), min(start + self.kernel, self.n)

    def lengths(self) -> list[int]:
        """Of each window, clipped to the padded extent as AVE counts it; below 1 where it starts past that."""
        starts = [index * self.stride - self.pad for index in range(self.count)]
        return [min(start + self.kernel, self.n + self.pad) - start for start in starts]


def max_pool(x: Array, rows: Places, columns: Places) -> list[Array]:
    """[maximum, its place in the (H, W) plane].

    A value counts if it is greater than what came before, at first -FLT_MAX with place -1: so nothing, NaN and minus
    infinity give these.
    """
    top = np.full((*x.shape[:2], rows.count, columns.count), -FLT_MAX)
    mask = np.full(top.shape, -1.0)
    for i, (top_row, last_row) in enumerate(rows.inside()):
        for j, (first, last) in enumerate(columns.inside()):
            for h in range(top_row, last_row):
                for w in range(first, last):
                    wins = x[:, :, h, w] > top[:, :, i, j]
                    top[:, :, i, j] = np.where(wins, x[:, :, h, w], top[:, :, i, j])
                    mask[:, :, i, j] = np.where(wins, h * columns.n + w, mask[:, :, i, j])
    return [top, mask]


def ave_pool(x: Array, rows: Places, columns: Places) -> list[Array]:
    """The sum inside the bottom over the area of the window clipped to the padded extent; nothing gives 0 / area."""
    top = np.zeros((*x.shape[:2], rows.count, columns.count))
    for i, (a, b) in enumerate(rows.inside()):
        for j, (c, d) in enumerate(columns.inside()):
            area = np.float64(rows.lengths()[i] * columns.lengths()[j])
            top[:, :, i, j] = x[:, :, a : max(a, b), c : max(c, d)].sum(axis=(2, 3)) / area
    return [top]


def stochastic_pool(x: Array, rows: Places, columns: Places) -> list[Array]:
    """At test time sum x^2 / sum x, and 0 where the sum is not above 0 (pooling_layer.cu, StoPoolForwardTest)."""
    top = np.zeros((*x.shape[:2], rows.count, columns.count))
    for i, (a, b) in enumerate(rows.inside()):
        for j, (c, d) in enumerate(columns.inside()):
            window = x[:, :, a : max(a, b), c : max(c, d)]
            total, squares = window.sum(axis=(2, 3)), (window * window).sum(axis=(2, 3))
            top[:, :, i, j] = np.where(total > 0, squares / total, 0.0)
    return [top]


_POOLS = {"MAX": max_pool, "AVE": ave_pool, "STOCHASTIC": stochastic_pool}


@rule("Pooling")
def pooling(layer: LayerParameter, weights: list[Array], x: Array) -> Iterator[list[Array]]:
    """MAX (with its mask as second top), AVE or STOCHASTIC over windows (pooling_layer.cpp).

    The tops are filled before the bottom is read: in place nothing of it is left.
    """
    p = layer.pooling_param

    def pair(single: str, name: str) -> tuple[int, int]:
        if p.HasField(f"{name}_h") or p.HasField(f"{name}_w"):
            return getattr(p, f"{name}_h"), getattr(p, f"{name}_w")
        return (getattr(p, single),) * 2

    kernel = x.shape[2:] if p.global_pooling else pair("kernel_size", "kernel")
    ceil = p.round_mode == PoolingParameter.CEIL if p.HasField("round_mode") else p.ceil_mode
    pads = pair("pad", "pad")
    each = zip(x.shape[2:], kernel, pair("stride", "stride"), pads, strict=True)
    rows, columns = (Places(n, k, s, pad, ceil, any(pads)) for n, k, s, pad in each)
    method = PoolingParameter.PoolMethod.Name(p.pool)
    shape = (*x.shape[:2], rows.count, columns.count)
    yield [np.full(shape, start) for start in ([-FLT_MAX, -1.0] if method == "MAX" else [0.0])][: len(layer.top)]
    yield _POOLS[method](x, rows, columns)[: len(layer.top)]


@rule("SPP")
def spp(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """Level i pools into 2^i x 2^i bins; of several levels each is flattened, side by side (spp_layer.cpp)."""
    p, pooled = layer.spp_param, []
    for level in range(p.pyramid_height):
        bins, each = 2**level, []
        for n in x.shape[2:]:
            kernel = math.ceil(n / bins)
            each.append((n, kernel, (kernel * bins - n + 1) // 2))
        any_pad = any(pad for _, _, pad in each)
        rows, columns = (Places(n, kernel, kernel, pad, True, any_pad) for n, kernel, pad in each)
        pooled.append(_POOLS[PoolingParameter.PoolMethod.Name(p.pool)](x, rows, columns)[0])
    return pooled[0] if len(pooled) == 1 else np.concatenate([matrix(y, 1) for y in pooled], axis=1)
