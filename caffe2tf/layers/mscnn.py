"""Boxes out of scores and offsets, step by step: MS-CNN and Cascade R-CNN (Cai et al.)."""

import math
from collections.abc import Sequence

import numpy as np

from caffe2tf.arrays.layout import Shape
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.suppression import Overlap, best_first, kept, plus
from caffe2tf.layers.types import Context, Tensor

_LARGEST = 3e38


class _Boxes(Layer, type=""):
    """What the layers share: offsets are (value - mean) / std of `bbox_reg_param`, and boxes overlap as `nms_type` says."""

    counts_items = True

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        mean, std = list(proto.bbox_reg_param.bbox_mean), list(proto.bbox_reg_param.bbox_std)
        if not (mean and std):
            mean, std = [0.0] * 4, [1.0] * 4
        if len(mean) != 4 or len(std) != 4 or min(std) <= 0:
            self.fail(f"bbox_mean {mean} and bbox_std {std}; takes four of each, the second above 0")
        self.mean, self.std = mean, std

    def fixes_batch(self) -> bool:
        return True

    def _restored(self, offsets: Sequence[Tensor]) -> list[Tensor]:
        return [x * std + mean for x, mean, std in zip(offsets, self.mean, self.std, strict=True)]

    def _beside(self, ctx: Context, offsets: Tensor, rois: Tensor) -> Tensor:
        """Boxes (R, 4) that lie at `offsets` (R, 4) of the regions (R, 5); both count first and last pixel."""
        ops = ctx.ops
        dx, dy, dw, dh = self._restored([offsets[:, i] for i in range(4)])
        corners = [rois[:, i] for i in range(1, 5)]
        boxes: dict[int, Tensor] = {}
        for axis, shift, size in ((0, dx, dw), (1, dy, dh)):
            first, last = corners[axis], corners[axis + 2]
            extent = last - first + 1.0
            reach = extent * ops.exp(size)
            boxes[axis] = shift * extent + 0.5 * (first + last) - (reach - 1.0) / 2
            boxes[axis + 2] = boxes[axis] + reach - 1.0
        return ops.stack([boxes[i] for i in range(4)], axis=-1)

    def _shared(self, ctx: Context, both: Tensor, one: Tensor, others: Tensor) -> Tensor:
        """`both` of the areas `one` and `others`: of their union, of the smaller (IOMU), or of the first (IOFU)."""
        ops, kind = ctx.ops, self.p.nms_type
        whole = {"IOMU": ops.minimum(one, others), "IOFU": one + others * 0.0}.get(kind, one + others - both)
        return ops.where(both > 0, both / ops.maximum(whole, 1e-30), 0.0)

    def _of_pixels(self, ctx: Context) -> Overlap:
        """Overlaps of boxes that count first and last pixel (bbox_util.cpp): boxes that end before they start have none, nor
        have those that share no more than one line of pixels from left to right."""
        ops = ctx.ops

        def overlap(one: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
            (ax, ay, bx, by), (cx, cy, dx, dy) = one, others
            w, h = ops.minimum(bx, dx) - ops.maximum(ax, cx), ops.minimum(by, dy) - ops.maximum(ay, cy)
            meet = ops.logical_and(w >= 0, h > 0)
            for low, high in ((ax, bx), (ay, by), (cx, dx), (cy, dy)):
                meet = ops.logical_and(meet, high >= low)
            both = ops.where(meet, (w + 1.0) * (h + 1.0), 0.0)
            return self._shared(ctx, both, (bx - ax + 1.0) * (by - ay + 1.0), (dx - cx + 1.0) * (dy - cy + 1.0))

        return overlap


class _Outputs(_Boxes, type=""):
    """Tops: regions (n, 5, 1, 1), image by image, best first, and the same with their scores (n, 6, 1, 1); where no box is
    left one region (0, 1, 1, 10, 10) with the score row (0, 0, 0, 0, 0, 0)."""

    loops = True

    later_first = False

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if self.p.field_whr <= 0 or self.p.field_xyr <= 0:
            self.fail(f"field_whr {self.p.field_whr} and field_xyr {self.p.field_xyr}; both must be above 0")
        self.images, total = self._count()
        self.before = min(self.p.max_nms_num or total, total)
        self.after = min(self.p.max_post_nms_num or self.before, self.before)

    def _count(self) -> tuple[int, int]:
        """(images, boxes of each)."""
        raise NotImplementedError

    def tops(self) -> list[Shape]:
        """As if every place were taken: the true count is known only at run time."""
        most = self.images * self.after
        shapes: list[Shape] = [(most, 5, 1, 1), (most, 6, 1, 1)]
        return shapes[: len(self.proto.top)]

    def _centred(self, ctx: Context, offsets: Tensor, wide: Tensor, high: Tensor, stride: int) -> list[Tensor]:
        """Left, top, width and height of the boxes of offsets (..., h, w, 4) around fields of `wide` x `high`, bounded."""
        ops, (h, w) = ctx.ops, offsets.shape[-3:-1]
        move, size = 1.0 / self.p.field_xyr, math.log(self.p.field_whr)
        dx, dy, dw, dh = self._restored([offsets[..., i] for i in range(4)])
        x = (np.arange(w, dtype=np.float32) + 0.5) * stride
        y = (np.arange(h, dtype=np.float32)[:, None] + 0.5) * stride
        found = []
        for shift, log, extent, place in ((dx, dw, wide, x), (dy, dh, high, y)):
            reach = ops.exp(ops.minimum(ops.maximum(log, -size), size)) * extent
            start = plus(ops.minimum(ops.maximum(shift, -move), move) * extent, place) - reach / 2
            found.append((start, reach))
        return [found[0][0], found[1][0], found[0][1], found[1][1]]

    def _made(self, ctx: Context, xs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(scores (N, boxes), -_LARGEST for those that are none, boxes (N, boxes, 4))."""
        raise NotImplementedError

    def _overlap(self, ctx: Context) -> Overlap:
        return self._of_pixels(ctx)

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        ops = ctx.ops
        scores, boxes = self._made(ctx, [ctx.whole(x) for x in xs])
        if self.later_first:
            scores, boxes = ops.flip(scores, axis=1), ops.flip(boxes, axis=1)
        scores, order, stay = best_first(ctx, scores, -_LARGEST, self.before)
        boxes = ops.take_along_axis(boxes, order[..., None], axis=1)
        stay = kept(ctx, boxes[:, None], stay[:, None], self.after, self._overlap(ctx), self.p.iou_thr)[:, 0]
        stay = ops.logical_and(stay, ops.cumsum(ops.cast(stay, "int32"), axis=1) <= self.after)
        image = plus(ops.zeros_like(scores), np.arange(self.images, dtype=np.float32)[:, None])
        rows = ops.concatenate([image[..., None], boxes, scores[..., None]], axis=-1)
        stay = ops.reshape(stay, (-1,))
        stay = ops.concatenate([stay, ops.logical_not(ops.any(stay, keepdims=True))], axis=0)
        chosen = ops.reshape(ops.nonzero(stay)[0], (-1,))
        tops = []
        for width, lone in ((5, (0, 1, 1, 10, 10)), (6, (0,) * 6)):
            last = ops.zeros_like(rows[0, :1, :width]) + np.array(lone, np.float32)
            every = ops.concatenate([ops.reshape(rows[..., :width], (-1, width)), last], axis=0)
            tops.append(self.reshape(ctx, ops.take(every, chosen, axis=0), (-1, width, 1, 1)))
        return tops[: len(self.proto.top)]


class BoxGroupOutput(
    _Outputs,
    type="BoxGroupOutput",
    param="box_group_output_param",
    fields="fg_thr iou_thr nms_type box_group_param field_whr field_xyr max_nms_num max_post_nms_num min_size",
    bottoms=(2, None),
    tops=(1, 2),
    rank=4,
):
    """Cascade R-CNN's proposals (box_group_output_layer.cpp). Bottoms in pairs, one box_group_param for each: probabilities
    (N K, classes, h, w), the background's first, and offsets (N K, 4, h, w), K the fields of the group.

    A box scores 1 - background. Its centre moves by the offset in fields, at most 1 / field_xyr, its extents change at
    most field_whr times. Only its near side is cut at 0 and its far side at the map's extent times the stride.
    """

    def _count(self) -> tuple[int, int]:
        groups, pairs = list(self.p.box_group_param), list(zip(self.bottoms[::2], self.bottoms[1::2], strict=False))
        if len(self.bottoms) % 2 or len(groups) != len(pairs):
            self.fail(f"{len(groups)} box_group_param for {len(self.bottoms)} bottoms; takes one for each pair")
        total, images = 0, 0
        for group, (scores, offsets) in zip(groups, pairs, strict=True):
            fields = len(group.field_w)
            if not fields or len(group.field_h) != fields or not group.stride:
                self.fail(
                    f"{fields} field_w, {len(group.field_h)} field_h and stride {group.stride}; takes as many, and a stride"
                )
            images = images or scores[0] // fields
            if scores[0] != images * fields or offsets != (scores[0], 4, *scores[2:]) or len(scores) != 4:
                self.fail(f"bottoms of shapes {scores} and {offsets} for {fields} fields and {images} images")
            total += fields * math.prod(scores[2:])
        return images, total

    def _made(self, ctx: Context, xs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        ops, p = ctx.ops, self.p
        every, values = [], []
        for group, prob, offsets in zip(p.box_group_param, xs[::2], xs[1::2], strict=True):
            (h, w), fields = prob.shape[1:3], len(group.field_w)
            wide, high = (np.array(f, np.float32)[:, None, None] for f in (group.field_w, group.field_h))
            grouped = ops.reshape(offsets, (self.images, fields, h, w, 4))
            x, y, width, height = self._centred(ctx, grouped, wide, high, group.stride)
            x2, y2 = (
                ops.minimum(x + width - 1.0, float(w * group.stride)),
                ops.minimum(y + height - 1.0, float(h * group.stride)),
            )
            x, y = ops.maximum(x, 0.0), ops.maximum(y, 0.0)
            score = 1.0 - ops.reshape(prob[..., 0], (self.images, fields, h, w))
            good = ops.logical_and(x2 - x + 1.0 >= p.min_size, y2 - y + 1.0 >= p.min_size)
            good = ops.logical_and(good, score >= p.fg_thr)
            values.append(ops.reshape(ops.where(good, score, -_LARGEST), (self.images, -1)))
            every.append(ops.reshape(ops.stack([x, y, x2, y2], axis=-1), (self.images, -1, 4)))
        return ops.concatenate(values, axis=1), ops.concatenate(every, axis=1)


class BoxOutput(
    _Outputs,
    type="BoxOutput",
    param="box_output_param",
    fields="fg_thr iou_thr nms_type field_h field_w downsample_rate field_whr field_xyr max_nms_num max_post_nms_num min_size",
    bottoms=(1, None),
    tops=(1, 2),
    rank=4,
):
    """MS-CNN's proposals (box_output_layer.cpp). Bottoms (N, classes + 4, h, w), one field_w, field_h and downsample_rate for
    each: scores before a Softmax, the background's first, then offsets.

    A box scores its best class above the background. Boxes are as in BoxGroupOutput, but end where left and width say, with
    no pixel counted beyond, and of equal scores the later comes first.
    """

    later_first = True

    def _count(self) -> tuple[int, int]:
        p, bottoms = self.p, self.bottoms
        counts = [len(p.field_w), len(p.field_h), len(p.downsample_rate)]
        if counts != [len(bottoms)] * 3:
            self.fail(
                f"{counts} field_w, field_h and downsample_rate for {len(bottoms)} bottoms; takes one of each for each"
            )
        if any(len(b) != 4 or b[:2] != bottoms[0][:2] for b in bottoms) or bottoms[0][1] < 6:
            self.fail(f"bottoms of shapes {bottoms}; takes (N, classes + 4, h, w) with 2 classes or more")
        return bottoms[0][0], sum(math.prod(b[2:]) for b in bottoms)

    def _made(self, ctx: Context, xs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        ops, p, classes = ctx.ops, self.p, self.bottoms[0][1] - 4
        every, values = [], []
        for x, wide, high, rate in zip(xs, p.field_w, p.field_h, p.downsample_rate, strict=True):
            h, w = x.shape[1:3]
            left, top, width, height = self._centred(ctx, x[..., classes:], float(wide), float(high), rate)
            left, top = ops.maximum(left, 0.0), ops.maximum(top, 0.0)
            width, height = ops.minimum(width, w * rate - left), ops.minimum(height, h * rate - top)
            score = ops.max(x[..., 1:classes], axis=-1) - x[..., 0]
            good = ops.logical_and(width >= p.min_size, height >= p.min_size)
            good = ops.logical_and(good, score >= p.fg_thr)
            values.append(ops.reshape(ops.where(good, score, -_LARGEST), (self.images, -1)))
            boxes = ops.stack([left, top, left + width, top + height], axis=-1)
            every.append(ops.reshape(boxes, (self.images, -1, 4)))
        return ops.concatenate(values, axis=1), ops.concatenate(every, axis=1)

    def _overlap(self, ctx: Context) -> Overlap:
        """Of boxes by edges (math_functions.cpp, BoxIOU)."""
        ops = ctx.ops

        def overlap(one: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
            (ax, ay, bx, by), (cx, cy, dx, dy) = one, others
            w, h = ops.minimum(bx, dx) - ops.maximum(ax, cx), ops.minimum(by, dy) - ops.maximum(ay, cy)
            both = ops.maximum(w, 0.0) * ops.maximum(h, 0.0)
            return self._shared(ctx, both, (bx - ax) * (by - ay), (dx - cx) * (dy - cy))

        return overlap
