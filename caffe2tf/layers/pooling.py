"""Windows that are reduced: Pooling, pyramids of it, and regions of interest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from caffe2tf.arrays.layout import Array, OpenShape, Shape
from caffe2tf.caffe.caffe_pb2 import LayerParameter, PoolingParameter, SPPParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.types import Context, Field, Fields, Mistake, Tensor

_LOWEST = float(np.finfo(np.float32).min)  # Caffe's -FLT_MAX: what MAX gives for a window that lies outside altogether


@dataclass(frozen=True)
class Window:
    """One axis of a pooling: kernel, stride, pad, how the extent is rounded, and whether any axis of the pooling has a pad
    (pooling_layer.cpp, Reshape)."""

    kernel: int
    stride: int
    pad: int
    ceil: bool = True
    padded: bool = False

    def out(self, n: int) -> int:
        rest = n + 2 * self.pad - self.kernel
        out = (-(-rest // self.stride) if self.ceil else rest // self.stride) + 1
        # With padding on either axis, a last window that starts beyond the bottom and its near padding is dropped.
        return out - 1 if self.padded and (out - 1) * self.stride >= n + self.pad else out

    def far(self, n: int | None = None) -> int:
        """How much to pad at the far end so that 'valid' windows are Caffe's, for any extent or exactly for `n`."""
        if n is not None:
            return max(0, (self.out(n) - 1) * self.stride + self.kernel - n - self.pad)
        reach = self.pad + (self.stride - 1 if self.ceil else 0)
        return min(reach, self.kernel - 1) if self.padded else reach


def _pad(ctx: Context, x: Tensor, windows: Sequence[Window], value: float) -> Tensor:
    """`x` (N, H, W, C) padded with `value` for 'valid' windows."""
    amounts = [(w.pad, w.far(n)) for w, n in zip(windows, x.shape[1:3], strict=True)]
    if not any(map(any, amounts)):
        return x
    if x.dtype == "float16":  # PyTorch takes no constant that half precision cannot hold
        value = max(value, float(np.finfo(np.float16).min))
    return ctx.ops.pad(x, [(0, 0), *amounts, (0, 0)], constant_values=value)


def _meets(window: Window, n: int | None) -> bool:
    """Whether every window takes in a value of the bottom, whose extent is `n`."""
    last = None if n is None else (window.out(n) - 1) * window.stride - window.pad
    return window.padded or window.stride <= window.kernel or (n is not None and last is not None and last < n)


def _edged(ctx: Context, x: Tensor, windows: Sequence[Window]) -> Tensor:
    """`x` padded with its own border: no window that takes in a part of the padding lacks the border beside it, so no maximum is
    another."""
    for axis, (window, n) in enumerate(zip(windows, x.shape[1:3], strict=True), 1):
        first, last = (x[:, :1], x[:, -1:]) if axis == 1 else (x[:, :, :1], x[:, :, -1:])
        near, far = window.pad, window.far(n)
        if near or far:
            x = ctx.ops.concatenate([first] * near + [x] + [last] * far, axis=axis)
    return x


def _trim(y: Tensor, extents: OpenShape, windows: Sequence[Window]) -> Tensor:
    """`y` without windows past Caffe's last one, which 'valid' takes in where the bottom needs no far padding."""
    tops = [None if n is None else w.out(n) for w, n in zip(windows, extents, strict=True)]
    return y if tuple(tops) == tuple(y.shape[1:3]) else y[:, : tops[0], : tops[1]]


def max_pool(ctx: Context, x: Tensor, windows: Sequence[Window], name: str) -> Tensor:
    kernel, stride = tuple(w.kernel for w in windows), tuple(w.stride for w in windows)
    extents = x.shape[1:3]
    inside = ctx.bounded and all(map(_meets, windows, extents))
    x = _edged(ctx, x, windows) if inside else _pad(ctx, x, windows, _LOWEST)
    y = ctx.layers.MaxPooling2D(kernel, stride, "valid", data_format="channels_last", name=name)(x)
    return _trim(y, extents, windows)


def ave_pool(ctx: Context, x: Tensor, windows: Sequence[Window], name: str) -> Tensor:
    """The mean over the window clipped to the padded extent: padding counts, what hangs over it does not."""
    kernel, stride = tuple(w.kernel for w in windows), tuple(w.stride for w in windows)
    pool = ctx.layers.AveragePooling2D(kernel, stride, "valid", data_format="channels_last", name=name)
    extents = x.shape[1:3]
    y = _trim(pool(_pad(ctx, x, windows, 0.0)), extents, windows)
    overhang = [max(0, w.far(n) - w.pad) for w, n in zip(windows, extents, strict=True)]
    if any(overhang):
        if None in extents:
            inside = ctx.ops.ones_like(x[:1, :, :, :1])
            pads = [(w.pad, min(w.pad, w.far())) for w in windows]
            inside = ctx.ops.pad(inside, [(0, 0), *pads, (0, 0)], constant_values=1.0)
            inside = ctx.ops.pad(inside, [(0, 0), *((0, o) for o in overhang), (0, 0)])
            y = y / ctx.ops.average_pool(inside, kernel, stride, "valid", data_format="channels_last")
        else:
            counts = []
            for w, n in zip(windows, extents, strict=True):
                starts = np.arange(w.out(n)) * w.stride - w.pad
                counts.append(np.minimum(starts + w.kernel, n + w.pad) - starts)
            # Outside altogether the sum is 0 and the count below 0, or 0 just at the end: there Caffe divides 0 by 0.
            counts = np.multiply.outer(*counts)
            share = np.where(counts == 0, np.nan, np.prod(kernel) / np.where(counts == 0, 1, counts))
            y = y * share[None, :, :, None].astype(np.float32)
    return y


def first_largest(ctx: Context, x: Tensor) -> Tensor:
    """The place of the first largest value along the last axis.

    Keras 3.15's argmax takes -0.0 for less than 0.0, Caffe's comparison for equal: so every zero is made positive, in a
    form that no optimiser removes. `tests/test_ops.py` tells when Keras takes them for equal.
    """
    return ctx.ops.argmax(ctx.ops.where(ctx.ops.equal(x, 0.0), 0.0, x), axis=-1)


def stochastic_pool(ctx: Context, x: Tensor, windows: Sequence[Window], name: str) -> Tensor:
    """What STOCHASTIC computes at test time, sum x^2 / sum x where that is above 0, else 0 (pooling_layer.cu,
    StoPoolForwardTest)."""
    kernel, stride = tuple(w.kernel for w in windows), tuple(w.stride for w in windows)
    size, extents = kernel[0] * kernel[1], x.shape[1:3]
    pool = ctx.layers.AveragePooling2D(kernel, stride, "valid", data_format="channels_last", name=name)
    x = _pad(ctx, x, windows, 0.0)
    total = pool(x) * size
    y = ctx.ops.where(total > 0, pool(x * x) * size / ctx.ops.where(total > 0, total, 1.0), 0.0)
    return _trim(y, extents, windows)


_POOLS = {"MAX": max_pool, "AVE": ave_pool, "STOCHASTIC": stochastic_pool}


class Pooling(
    Layer,
    type="Pooling",
    param="pooling_param",
    fields="pool kernel_size stride pad kernel_h kernel_w stride_h stride_w pad_h pad_w global_pooling round_mode ceil_mode",
    tops=(1, 2),
    rank=4,
):
    """MAX, AVE or STOCHASTIC over windows; extents round up unless round_mode says FLOOR (pooling_layer.cpp).

    A second top of MAX is the mask: the place of each maximum in its (H, W) plane, counted row by row, -1 for a window
    that lies outside altogether. There MAX gives -FLT_MAX and AVE 0, or NaN where it starts just at the end.
    """

    works_in_place = True
    windows_from = 2

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        p = self.p
        self.method = PoolingParameter.PoolMethod.Name(p.pool)
        ceil = p.ceil_mode if p.HasField("ceil_mode") and not p.HasField("round_mode") else p.round_mode == p.CEIL
        self.windows, pads = [], [self._one("pad", axis) for axis in "hw"]
        for axis, n, pad in zip("hw", bottoms[0][2:], pads, strict=True):
            kernel, stride = self._one("kernel", axis), self._one("stride", axis)
            if p.global_pooling:
                if kernel is not None or pad or stride != 1:
                    self.fail("global_pooling takes no kernel, no pad and stride 1")
                kernel = n
            if not kernel or not stride:
                self.fail(f"kernel {kernel} and stride {stride}; both must be set and at least 1")
            if pad >= kernel:
                self.fail(f"pad {pad} is not smaller than kernel {kernel}")
            window = Window(kernel, stride, pad, ceil, any(pads))
            if window.out(n) < 1:
                self.fail(f"kernel {kernel} is larger than its bottom {bottoms[0]} with pad {pad}")
            self.windows.append(window)
        if self.method == "STOCHASTIC" and any(w.pad for w in self.windows):
            self.fail("STOCHASTIC pooling with pad; Caffe takes none")
        if len(proto.top) > 1 and self.method != "MAX":
            self.fail(f"2 tops, but {self.method} pooling has no mask; takes 1")

    def _one(self, field: str, axis: str) -> Any:
        single = {"kernel": "kernel_size"}.get(field, field)
        pair = f"{field}_h", f"{field}_w"
        if any(map(self.p.HasField, pair)):
            if self.p.HasField(single):
                self.fail(f"{single} is set beside {' and '.join(filter(self.p.HasField, pair))}; takes one kind")
            if not all(map(self.p.HasField, pair)):
                self.fail(f"{' and '.join(filter(self.p.HasField, pair))} alone; takes both {pair[0]} and {pair[1]}")
            return getattr(self.p, f"{field}_{axis}")
        if field == "kernel" and not self.p.HasField(single):
            return None
        return getattr(self.p, single)

    def tops(self) -> list[Shape]:
        n, c, h, w = self.bottoms[0]
        return [(n, c, self.windows[0].out(h), self.windows[1].out(w))] * len(self.proto.top)

    def receptive(self, fields: Fields) -> Field | None:
        return None if self.p.global_pooling else self.windowed(fields, [(w.kernel, w.stride) for w in self.windows])

    def any_size(self) -> bool:
        # Windows that may lie outside altogether are counted for one size.
        outside = self.method == "AVE" and any(w.ceil and not w.padded and w.stride > w.kernel for w in self.windows)
        return len(self.proto.top) == 1 and not outside

    def note(self) -> str | None:
        told = "STOCHASTIC is computed as Caffe does on a GPU; on a CPU it refuses"
        return told if self.method == "STOCHASTIC" else None

    def mistakes(self) -> list[Mistake]:
        def round_up(proto: LayerParameter, weights: dict[str, Array]) -> None:
            proto.pooling_param.round_mode = PoolingParameter.CEIL

        return [("equal when extents round up (ceil pooling)", round_up)]

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        if self.aliased:  # Caffe fills the top before it reads the bottom
            x = ctx.ops.full_like(x, _LOWEST if self.method == "MAX" else 0.0)
        if self.p.global_pooling and self.method in ("MAX", "AVE"):
            if self.method == "MAX" and not ctx.bounded:
                x = ctx.ops.where(x > _LOWEST, x, _LOWEST)  # NaN is never larger
            pool = {"MAX": ctx.layers.GlobalMaxPooling2D, "AVE": ctx.layers.GlobalAveragePooling2D}[self.method]
            y = pool(data_format="channels_last", keepdims=True, name=ctx.name)(x)
        else:
            y = _POOLS[self.method](ctx, x, self.windows, ctx.name)
        return [y, self._mask(ctx, x)] if len(self.proto.top) == 2 else y

    def _mask(self, ctx: Context, x: Tensor) -> Tensor:
        w = self.bottoms[0][3]
        (oh, ow), (wh, ww) = self.tops()[0][2:], self.windows
        rows = np.arange(oh)[:, None] * wh.stride - wh.pad + np.zeros((1, ow), int)
        columns = np.arange(ow)[None] * ww.stride - ww.pad + np.zeros((oh, 1), int)
        padded = _pad(ctx, x, self.windows, _LOWEST)
        padded = ctx.ops.where(padded > _LOWEST, padded, _LOWEST)  # NaN is never larger
        values, places = [], []
        for i in range(wh.kernel):
            for j in range(ww.kernel):
                values.append(
                    padded[
                        :, i : i + wh.stride * (oh - 1) + 1 : wh.stride, j : j + ww.stride * (ow - 1) + 1 : ww.stride
                    ]
                )
                places.append((rows + i) * w + columns + j)
        values = ctx.ops.stack(values, axis=-1)
        hot = ctx.ops.one_hot(first_largest(ctx, values), len(places))
        mask = ctx.ops.sum(hot * np.stack(places, -1).astype(np.float32)[None, :, :, None], axis=-1)
        return ctx.ops.where(ctx.ops.max(values, axis=-1) > _LOWEST, mask, -1.0)


class SPP(Layer, type="SPP", param="spp_param", fields="pyramid_height pool", rank=4):
    """Spatial pyramid: level i pools into 2^i x 2^i bins; all bins of all levels side by side (spp_layer.cpp)."""

    windows_from = 2

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        self.method = SPPParameter.PoolMethod.Name(self.p.pool)
        self.levels = []
        for level in range(self.p.pyramid_height):
            windows = []
            for n in bottoms[0][2:]:
                kernel = -(-n // 2**level)
                pad = (kernel * 2**level - n + 1) // 2
                if pad >= kernel:
                    self.fail(
                        f"pyramid_height {self.p.pyramid_height} needs more than the extents of its bottom {bottoms[0]}"
                    )
                windows.append(Window(kernel, kernel, pad))
            padded = any(window.pad for window in windows)
            if padded and self.method == "STOCHASTIC":
                self.fail(f"STOCHASTIC pooling of the extents {bottoms[0][2:]} would need a pad; Caffe takes none")
            self.levels.append([replace(window, padded=padded) for window in windows])
        if not self.levels:
            self.fail("pyramid_height must be at least 1")

    def tops(self) -> list[Shape]:
        n, c, h, w = self.bottoms[0]
        bins = sum(windows[0].out(h) * windows[1].out(w) for windows in self.levels)
        return [(n, c * bins)] if len(self.levels) > 1 else [(n, c, 1, 1)]

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        h, w = self.bottoms[0][2:]
        pooled = [_POOLS[self.method](ctx, x, ws, ctx.part(level)) for level, ws in enumerate(self.levels)]
        if len(pooled) == 1:
            return pooled[0]
        flat = []
        for y, (wh, ww) in zip(pooled, self.levels, strict=True):
            length = self.bottoms[0][1] * wh.out(h) * ww.out(w)
            flat.append(ctx.ops.reshape(self.to_caffe_order(ctx, y), (-1, length)))
        return ctx.ops.concatenate(flat, axis=1)
