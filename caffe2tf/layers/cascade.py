"""Boxes of later stages: what a stage's offsets make of its regions, and the detections at the end (Cai, Cascade R-CNN)."""

import math
from collections.abc import Sequence

import numpy as np

from caffe2tf.arrays.layout import Shape
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.mscnn import _LARGEST, _Boxes
from caffe2tf.layers.suppression import best_first, kept, largest
from caffe2tf.layers.types import Context, Tensor


class DecodeBBox(
    _Boxes, type="DecodeBBox", param="bbox_reg_param", fields="bbox_mean bbox_std cls_aware", bottoms=(2, 3)
):
    """The regions (R, 5) of the second bottom moved by the first's offsets (R, 8), of which the last four count: (R, 5, 1, 1),
    the image as it was (decode_bbox_layer.cpp).

    A centre moves in extents that count first and last pixel, extents change by the power of e. A third bottom, the truth, and
    the boxes that are left out for it are for training.
    """

    counts_items = False

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if self.in_training():
            self.fail("phase TRAIN leaves boxes out, which is not computed; takes TEST")
        offsets, rois = bottoms[:2]
        if offsets[0] != rois[0] or math.prod(offsets[1:]) != 8 or math.prod(rois[1:]) != 5:
            self.fail(f"bottoms of shapes {offsets} and {rois}; takes (R, 8) and (R, 5)")

    def note(self) -> str | None:
        told = f"bottom '{self.proto.bottom[-1]}' is for training and is not read"
        return told if len(self.bottoms) > 2 else None

    def tops(self) -> list[Shape]:
        return [(self.bottoms[1][0], 5, 1, 1)]

    def value_bottoms(self) -> tuple[int, ...]:
        return (0, 1)

    def fixes_batch(self) -> bool:
        return False

    def build(self, ctx: Context, offsets: Tensor, rois: Tensor, *boxes: Tensor) -> Tensor | list[Tensor]:
        ops = ctx.ops
        offsets, rois = ops.reshape(ctx.whole(offsets), (-1, 8)), ops.reshape(ctx.whole(rois), (-1, 5))
        moved = ops.concatenate([rois[:, :1], self._beside(ctx, offsets[:, 4:], rois)], axis=1)
        return self.reshape(ctx, moved, (-1, 5, 1, 1))


class FrcnnOutput(
    _Boxes,
    type="FrcnnOutput",
    param="frcnn_output_param",
    fields="conf_thr iou_thr nms_type max_det_num",
    bottoms=4,
):
    """Detections (n + 1, 7, 1, 1): image, x1, y1, x2, y2, class, score, behind a first row (0, -1, ...) (frcnn_output_layer.cpp).

    Bottoms: probabilities (R, classes), offsets (R, 4 classes), or with `cls_aware: false` (R, 8) whose last four count,
    regions (R, 5) or (R, 6), and the picture's (height, width). Boxes are cut to it, near sides at 0 and far sides at
    its extent. Class by class, best first, those of at least conf_thr without overlaps; of all, the max_det_num best.
    """

    loops = True

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        prob, offsets, rois, size = bottoms
        self.most, self.classes = prob[0], math.prod(prob[1:])
        self.aware = proto.bbox_reg_param.cls_aware
        wide = 4 * self.classes if self.aware else 8
        given = [math.prod(shape[1:]) for shape in (offsets, rois)]
        if self.classes < 2 or given[0] != wide or given[1] not in (5, 6) or {offsets[0], rois[0]} != {self.most}:
            self.fail(
                f"bottoms of shapes {prob}, {offsets}, {rois}; takes (R, classes), (R, {wide}) and (R, 5) or (R, 6)"
            )
        if math.prod(size) != 2:
            self.fail(f"bottom of shape {size}; takes the picture's height and width")
        total = (self.classes - 1) * self.most
        self.last = min(self.p.max_det_num or total, total)

    def tops(self) -> list[Shape]:
        return [(1 + self.last, 7, 1, 1)]

    def build(self, ctx: Context, prob: Tensor, offsets: Tensor, rois: Tensor, size: Tensor) -> Tensor | list[Tensor]:
        ops, p, labels, most = ctx.ops, self.p, self.classes - 1, self.most
        flat = [ops.reshape(self.to_caffe_order(ctx, ctx.whole(x)), (-1, math.prod(shape[1:]))) for x, shape in
                zip((prob, offsets, rois), self.bottoms, strict=False)]  # fmt: skip
        # Rows that are not there become copies of the last, which score nothing.
        count = ops.sum(ops.ones_like(flat[0][:, 0]))
        number = np.arange(most, dtype=np.float32)
        row = ops.cast(ops.minimum(count - 1.0, number), "int32")
        prob, offsets, rois = (ops.take(x, row, axis=0) for x in flat)
        height, width = (ops.reshape(size, (-1,))[i] for i in range(2))
        every = [
            self._beside(ctx, offsets[:, 4 * c : 4 * c + 4], rois)
            for c in (range(1, labels + 1) if self.aware else [1])
        ]
        boxes = ops.stack(every, axis=0)  # (classes or 1, R, 4)
        near, far = (
            ops.maximum(boxes[..., :2], 0.0),
            (ops.minimum(boxes[..., 2:3], width), ops.minimum(boxes[..., 3:], height)),
        )
        boxes = ops.concatenate([near, *far], axis=-1)
        scores = ops.transpose(prob[:, 1:], (1, 0))
        good = ops.logical_and(scores >= p.conf_thr, ops.expand_dims(count > number, 0))
        scores, order, stay = best_first(ctx, ops.where(good, scores, -_LARGEST), -_LARGEST, most)
        if self.aware:
            boxes = ops.take_along_axis(boxes, order[..., None], axis=1)
        else:
            boxes = ops.take(boxes[0], order, axis=0)
        stay = kept(
            ctx,
            ops.expand_dims(boxes, 0),
            ops.expand_dims(stay, 0),
            min(most, self.last),
            self._of_pixels(ctx),
            p.iou_thr,
        )[0]

        flat_scores = ops.reshape(ops.where(stay, scores, -_LARGEST), (-1,))
        best, place = largest(ctx, flat_scores, self.last)
        # Class by class again: by place, those that are none behind all.
        place = ops.sort(ops.where(best > -_LARGEST, place, labels * most))
        place = ops.take(place, ops.reshape(ops.nonzero(place < labels * most)[0], (-1,)), axis=0)
        label = np.repeat(np.arange(1, labels + 1, dtype=np.float32), most)
        cells = [
            flat_scores[:, None] * 0.0,
            ops.reshape(boxes, (-1, 4)),
            flat_scores[:, None] * 0.0 + label[:, None],
            flat_scores[:, None],
        ]
        rows = ops.take(ops.concatenate(cells, axis=1), place, axis=0)
        first = ops.reshape(height * 0.0, (1, 1)) + np.array([[0, *[-1] * 6]], np.float32)
        return self.reshape(ctx, ops.concatenate([first, rows], axis=0), (-1, 7, 1, 1))
