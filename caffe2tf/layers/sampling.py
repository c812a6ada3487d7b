"""Layers of Caffe's forks that read a map at places that other values say: along a flow, a transformation,
displacements."""

import math
from collections.abc import Sequence

import numpy as np

from caffe2tf.arrays.layout import Shape
from caffe2tf.caffe.caffe_pb2 import CorrelationParameter, FlowWarpParameter, LayerParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.types import Context, Tensor


class _Sampled(Layer, type=""):
    """A bottom (N, C, H, W) read between its places, each read bilinear from the four around it."""

    def _taken(self, ctx: Context, x: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Of `x` (N, H, W, C) what lies at whole `row` and `column` (N, h, w), numbers in float; 0 outside."""
        ops, (_, c, h, w), (_, _, rows, columns) = ctx.ops, self.bottoms[0], self.tops()[0]
        inside = ops.logical_and(
            ops.logical_and(row >= 0, row < float(h)), ops.logical_and(column >= 0, column < float(w))
        )
        place = ops.cast(ops.clip(row, 0.0, h - 1.0), "int32") * w + ops.cast(ops.clip(column, 0.0, w - 1.0), "int32")
        flat = ops.reshape(x, (-1, h * w, c))
        taken = ops.take_along_axis(flat, ops.reshape(place, (-1, rows * columns, 1)), axis=1)
        return ops.where(ops.expand_dims(inside, -1), ops.reshape(taken, (-1, rows, columns, c)), 0.0)

    def _bilinear(self, ctx: Context, x: Tensor, row: Tensor, column: Tensor, clamp: bool) -> Tensor:
        """`x` at `row` and `column` (N, h, w). `clamp`: past the last row or column stands that one again, else 0."""
        ops, (h, w), total = ctx.ops, self.bottoms[0][2:], 0.0
        top, left = ops.floor(row), ops.floor(column)
        for down in (0.0, 1.0):
            for right in (0.0, 1.0):
                share = (row - top if down else top + 1.0 - row) * (column - left if right else left + 1.0 - column)
                r, c = top + down, left + right
                if clamp:
                    r, c = ops.minimum(r, h - 1.0), ops.minimum(c, w - 1.0)
                total = total + self._taken(ctx, x, r, c) * ops.expand_dims(share, -1)
        return total


class FlowWarp(_Sampled, type="FlowWarp", param="flow_warp_param", fields="fill_value", bottoms=2, rank=4):
    """The first bottom read at x + flow: the second bottom (N, 2, H, W) says how far right, then how far down.

    A place outside [0, W) x [0, H) gives 0, or NaN with fill_value NOT_A_NUMBER; one past the last whole row or column
    reads that one (flow_warp_layer.cpp of FlowNet 2).
    """

    def tops(self) -> list[Shape]:
        n, _, h, w = self.bottoms[0]
        if self.bottoms[1] != (n, 2, h, w):
            self.fail(f"flow of shape {self.bottoms[1]} for an image {self.bottoms[0]}; takes {(n, 2, h, w)}")
        return [self.bottoms[0]]

    def build(self, ctx: Context, x: Tensor, flow: Tensor) -> Tensor | list[Tensor]:
        ops, (h, w) = ctx.ops, self.bottoms[0][2:]
        column = flow[..., 0] + np.arange(w, dtype=np.float32)
        row = flow[..., 1] + np.arange(h, dtype=np.float32)[:, None]
        inside = ops.logical_and(
            ops.logical_and(row >= 0, row < float(h)), ops.logical_and(column >= 0, column < float(w))
        )
        fill = 0.0 if self.p.fill_value == FlowWarpParameter.ZERO else np.nan
        # Places outside may be anything, NaN too: they read the first instead.
        row, column = ops.where(inside, row, 0.0), ops.where(inside, column, 0.0)
        return ops.where(ops.expand_dims(inside, -1), self._bilinear(ctx, x, row, column, True), fill)


_THETA = ("theta_1_1", "theta_1_2", "theta_1_3", "theta_2_1", "theta_2_2", "theta_2_3")


class SpatialTransformer(
    _Sampled,
    type="SpatialTransformer",
    param="st_param",
    fields=f"transform_type sampler_type output_H output_W to_compute_dU {' '.join(_THETA)}",
    bottoms=2,
    rank=4,
):
    """The first bottom read at theta (row, column, 1), rows and columns from -1 to 1; outside it is 0.

    theta is 2 x 3; its six numbers, row by row, are the second bottom's (N, ...) but for those that parameters set.
    Place i of n is 2 i / n - 1, and a row y of theta's answer is the row (y + 1) / 2 * H of the bottom (Jaderberg et
    al.; st_layer.cpp of daerduoCarey/SpatialTransformerLayer).
    """

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        p, self.given = self.p, [name for name in _THETA if not self.p.HasField(name)]
        if (p.transform_type, p.sampler_type) != ("affine", "bilinear"):
            self.fail(f"transform_type '{p.transform_type}', sampler_type '{p.sampler_type}'; takes affine, bilinear")
        if bottoms[1][:1] != bottoms[0][:1] or math.prod(bottoms[1][1:]) != len(self.given):
            self.fail(f"theta of shape {bottoms[1]}; takes {(bottoms[0][0], len(self.given))}, for {self.given}")

    def tops(self) -> list[Shape]:
        n, c, h, w = self.bottoms[0]
        out = (
            self.p.output_H if self.p.HasField("output_H") else h,
            self.p.output_W if self.p.HasField("output_W") else w,
        )
        if min(out) < 1:
            self.fail(f"output_H and output_W {out}; both must be at least 1")
        return [(n, c, *out)]

    def build(self, ctx: Context, x: Tensor, theta: Tensor) -> Tensor | list[Tensor]:
        ops, (h, w), (rows, columns) = ctx.ops, self.bottoms[0][2:], self.tops()[0][2:]
        theta = ops.reshape(self.to_caffe_order(ctx, theta), (-1, len(self.given), 1, 1))
        numbers = [
            theta[:, self.given.index(name)] if name in self.given else float(getattr(self.p, name)) for name in _THETA
        ]
        i = (np.arange(rows) / rows * 2 - 1).astype(np.float32)[None, :, None]
        j = (np.arange(columns) / columns * 2 - 1).astype(np.float32)[None, None]
        # Every place has a row and a column, whatever theta leaves out; 0 times a slice of x gives the batch its extent.
        zero = ops.zeros_like(x[:, :1, :1, 0])
        row, column = ((zero + a * i + b * j + c + 1.0) / 2.0 for a, b, c in (numbers[:3], numbers[3:]))
        shape = ops.zeros_like(i + j)
        return self._bilinear(ctx, x, row * float(h) + shape, column * float(w) + shape, False)


class Correlation(
    Layer,
    type="Correlation",
    param="correlation_param",
    fields="pad kernel_size max_displacement stride_1 stride_2 correlation_type",
    bottoms=2,
    rank=4,
):
    """The mean product of a window of the first bottom and one of the second, for every displacement between them.

    Both bottoms are padded with 0; top channel k is the displacement of k % g - r columns and k // g - r rows, each
    times stride_2, r = max_displacement // stride_2, g = 2 r + 1. With correlation_type SUBTRACT the mean of |a - b|
    (Dosovitskiy et al., FlowNet; correlation_layer.cu).
    """

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        self.need_equal()
        p = self.p
        if not (p.HasField("kernel_size") and p.HasField("max_displacement")) or p.kernel_size % 2 == 0:
            self.fail(
                f"kernel_size {p.kernel_size}, max_displacement {p.max_displacement}; both must be set, the first odd"
            )
        if p.stride_1 < 1 or p.stride_2 < 1:
            self.fail(f"stride_1 {p.stride_1}, stride_2 {p.stride_2}; both must be at least 1")
        self.reach = p.max_displacement // p.stride_2
        self.steps = [offset * p.stride_2 for offset in range(-self.reach, self.reach + 1)]
        border = p.max_displacement + (p.kernel_size - 1) // 2
        self.out = tuple(-(-(n + 2 * p.pad - 2 * border) // p.stride_1) for n in bottoms[0][2:])
        if min(self.out) < 1:
            self.fail(f"max_displacement {p.max_displacement} and kernel_size {p.kernel_size} do not fit {bottoms[0]}")

    def tops(self) -> list[Shape]:
        return [(self.bottoms[0][0], len(self.steps) ** 2, *self.out)]

    def multiply_adds(self) -> int:
        return math.prod(self.tops()[0]) * self.bottoms[0][1] * int(self.p.kernel_size) ** 2

    def build(self, ctx: Context, x: Tensor, y: Tensor) -> Tensor | list[Tensor]:
        ops, p, most = ctx.ops, self.p, self.p.max_displacement
        # The places that some window of the first bottom takes in, from `most` on in the padded bottoms.
        h, w = ((out - 1) * p.stride_1 + p.kernel_size for out in self.out)
        pads = [(0, 0), (p.pad, p.pad), (p.pad, p.pad), (0, 0)]
        x, y = ops.pad(x, pads)[:, most : most + h, most : most + w], ops.pad(y, pads)
        maps = []
        for down in self.steps:
            rows = y[:, most + down : most + down + h]
            for right in self.steps:
                other = rows[:, :, most + right : most + right + w]
                met = x * other if p.correlation_type == CorrelationParameter.MULTIPLY else ops.absolute(x - other)
                maps.append(ops.mean(met, axis=-1))
        z = ops.stack(maps, axis=-1)
        return ops.average_pool(z, p.kernel_size, p.stride_1, "valid", data_format="channels_last")
