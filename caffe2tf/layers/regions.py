"""Values of a map's regions: Fast R-CNN's, R-FCN's and MS-CNN's pooling of regions."""

import math
from collections.abc import Sequence

import numpy as np

from caffe2tf.arrays.layout import Shape
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.suppression import plus
from caffe2tf.layers.types import Context, Tensor

_LOWEST = float(np.finfo(np.float32).min)


class _Regions(Layer, type=""):
    """Bottoms: a map (N, C, h, w), regions (R, 5) or (R, 5, 1, 1): image, x1, y1, x2, y2, first and last pixel."""

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if len(bottoms[1]) not in (2, 4) or math.prod(bottoms[1][1:]) != 5:
            self.fail(f"regions of shape {bottoms[1]}; takes (R, 5)")

    def _pooled(self, more: int = 0) -> list[Shape]:
        if self.p.pooled_h < 1 or self.p.pooled_w < 1:
            self.fail(f"pooled_h {self.p.pooled_h} and pooled_w {self.p.pooled_w}; both must be at least 1")
        return [(self.bottoms[1][0], self.bottoms[0][1], self.p.pooled_h + more, self.p.pooled_w + more)]

    def _padded(self, ctx: Context, rois: Tensor) -> tuple[Tensor, Tensor]:
        """(images, corners in places of the map (R, 4)); each side further out by the share `pad_ratio` of its extent (MS-CNN)."""
        ops = ctx.ops
        rois = ops.reshape(rois, (-1, 5))
        corners = rois[:, 1:]
        if self.p.pad_ratio:
            pad = (corners[:, 2:] - corners[:, :2] + 1.0) * self.p.pad_ratio
            corners = ops.concatenate([corners[:, :2] - pad, corners[:, 2:] + pad], axis=1)
        return ops.cast(rois[:, 0], "int32"), corners * self.p.spatial_scale


class ROIPooling(
    _Regions,
    type="ROIPooling",
    param="roi_pooling_param",
    fields="pooled_h pooled_w spatial_scale pad_ratio",
    bottoms=2,
    rank=4,
):
    """The maximum of each bin of each region (image, x1, y1, x2, y2), Girshick, Fast R-CNN (roi_pooling_layer.cpp)."""

    def tops(self) -> list[Shape]:
        return self._pooled()

    def build(self, ctx: Context, x: Tensor, rois: Tensor) -> Tensor | list[Tensor]:
        ops = ctx.ops
        image, corners = self._padded(ctx, rois)
        images = ops.take(x, image, axis=0)
        corners = _rounded(ctx, corners)
        for axis, bins, first in ((1, self.p.pooled_h, 1), (2, self.p.pooled_w, 0)):
            n = self.bottoms[0][axis + 1]
            start, end = corners[:, first], corners[:, first + 2]
            size = ops.maximum(end - start + 1.0, 1.0) / bins
            places = np.arange(n, dtype=np.float32)[None]
            parts = []
            for index in range(bins):
                low = ops.clip(ops.floor(size * float(index)) + start, 0.0, float(n))
                high = ops.clip(ops.ceil(size * float(index + 1)) + start, 0.0, float(n))
                inside = ops.logical_and(low[:, None] <= places, high[:, None] > places)
                inside = ops.reshape(inside, (-1, n, 1, 1) if axis == 1 else (-1, 1, n, 1))
                parts.append(ops.max(ops.where(inside, images, _LOWEST), axis=axis, keepdims=True))
            images = ops.concatenate(parts, axis=axis)
        return ops.where(images > _LOWEST, images, 0.0)


def _rounded(ctx: Context, x: Tensor) -> Tensor:
    """C's round: halves go away from 0."""
    return ctx.ops.sign(x) * ctx.ops.floor(ctx.ops.abs(x) + 0.5)


class PSROIPooling(
    _Regions,
    type="PSROIPooling",
    param="psroi_pooling_param",
    fields="spatial_scale output_dim group_size",
    bottoms=2,
    rank=4,
):
    """The mean of each bin of each region, every bin in a channel of its own (Dai et al., R-FCN, psroi_pooling_layer.cu).

    Channel (d * k + i) * k + j of the bottom feeds channel d at bin (i, j) of the k x k of the top (R, output_dim, k, k). A
    region starts at its rounded first and ends behind its rounded last pixel, times `spatial_scale`, with no rounding after;
    it is at least 0.1 wide. A bin outside the map is 0.
    """

    def tops(self) -> list[Shape]:
        dim, k, channels = self.p.output_dim, self.p.group_size, self.bottoms[0][1]
        if dim < 1 or k < 1 or channels != dim * k * k:
            self.fail(
                f"{channels} channels for output_dim {dim} and group_size {k}; takes their product {dim} * {k} * {k}"
            )
        return [(self.bottoms[1][0], dim, k, k)]

    def build(self, ctx: Context, x: Tensor, rois: Tensor) -> Tensor | list[Tensor]:
        ops, (n, _, h, w) = ctx.ops, self.bottoms[0]
        dim, k = self.p.output_dim, self.p.group_size
        rois = ops.reshape(rois, (-1, 5))
        corners = _rounded(ctx, rois[:, 1:])
        inside, counts = [], []
        for extent, first in ((h, 1), (w, 0)):
            start = corners[:, first] * self.p.spatial_scale
            size = ops.maximum((corners[:, first + 2] + 1.0) * self.p.spatial_scale - start, 0.1) / k
            step = np.arange(k, dtype=np.float32)[None]
            low = ops.clip(ops.floor(start[:, None] + size[:, None] * step), 0.0, float(extent))
            high = ops.clip(ops.ceil(start[:, None] + size[:, None] * (step + 1)), 0.0, float(extent))
            places = np.arange(extent, dtype=np.float32)[None, None]
            within = ops.logical_and(low[..., None] <= places, high[..., None] > places)
            inside.append(ops.cast(within, "float32"))
            counts.append(ops.maximum(high - low, 0.0))
        image = ops.cast(ops.one_hot(ops.cast(rois[:, 0], "int32"), n), "float32")
        rows, columns = inside
        x = ops.reshape(ctx.whole(x), (-1, h, w, dim, k, k))
        # Row by row of bins: the sums over the map's rows are small, where every region's part of the map is not.
        sums = []
        for i in range(k):
            lines = ops.einsum("rn,rh,nhwdj->rwdj", image, rows[:, i], x[:, :, :, :, i])
            sums.append(ops.einsum("rwdj,rjw->rjd", lines, columns))
        areas = counts[0][:, :, None] * counts[1][:, None]
        return ops.stack(sums, axis=1) / ops.maximum(areas, 1.0)[..., None]


class ROIAlign(
    _Regions,
    type="ROIAlign",
    param="roi_pooling_param",
    fields="pooled_h pooled_w spatial_scale pad_ratio",
    bottoms=2,
    rank=4,
):
    """Values at the corners of the bins of each region, bilinear between places (Cai, MS-CNN, roi_align_layer.cpp).

    Top (R, C, pooled_h + 1, pooled_w + 1): an average of 2 x 2 behind it is He et al.'s. Place (i, j) stands at (i + 0.5,
    j + 0.5); a corner outside the map is 0, and so is a region that ends before it starts.
    """

    def tops(self) -> list[Shape]:
        return self._pooled(1)

    def build(self, ctx: Context, x: Tensor, rois: Tensor) -> Tensor | list[Tensor]:
        ops, (_, c, h, w) = ctx.ops, self.bottoms[0]
        image, corners = self._padded(ctx, rois)
        corners = corners - 0.5
        axes = []
        for extent, bins, first in ((h, self.p.pooled_h, 1), (w, self.p.pooled_w, 0)):
            start = corners[:, first : first + 1]
            reach = corners[:, first + 2 : first + 3] - start
            at = start + (reach / bins) * np.arange(bins + 1, dtype=np.float32)[None]
            good = ops.logical_and(ops.logical_and(at >= -0.5, at <= extent - 0.5), reach > 0)
            low = ops.clip(ops.floor(at), 0.0, extent - 1.0)
            high = ops.clip(ops.floor(at) + 1.0, 0.0, extent - 1.0)
            axes.append((good, low, high, ops.clip(at, 0.0, extent - 1.0) - low))
        (good_y, *ys, share_y), (good_x, *xs, share_x) = axes
        flat, start = ops.reshape(x, (-1, c)), image * (h * w)
        y: Tensor = 0.0
        for row, part_y in zip(ys, (1.0 - share_y, share_y), strict=True):
            for column, part_x in zip(xs, (1.0 - share_x, share_x), strict=True):
                place = plus(ops.cast(row, "int32")[:, :, None] * w, ops.cast(column, "int32")[:, None])
                values = ops.take(flat, start[:, None, None] + place, axis=0)
                y = y + values * (part_y[:, :, None] * part_x[:, None])[..., None]
        good = ops.logical_and(good_y[:, :, None], good_x[:, None])
        return ops.where(good[..., None], y, 0.0)
