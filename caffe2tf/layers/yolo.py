"""YOLO's own: a map folded into channels, and detections out of a grid of anchors (Redmon and Farhadi, YOLO v2 and v3)."""

import math
from collections.abc import Sequence

import numpy as np

from caffe2tf.arrays.layout import Array, Shape
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.suppression import best_first, kept, overlaps, plus
from caffe2tf.layers.types import Context, Tensor

_GONE = -1.0
_LARGEST = 3e38


class Reorg(Layer, type="Reorg", param="reorg_param", fields="stride reverse", rank=4):
    """Squares of stride x stride into channels, as darknet does it (darknet, reorg_cpu in blas.c; reorg_layer.cpp).

    Not what its shape says: the bottom's values, in their order, are taken for a blob (C / s^2, h s, w s), whose squares
    become channels, row of the square first; what comes out, (C, h, w), is taken for (C s^2, h / s, w / s) the same way.
    `reverse`, (C, h, w) to (C / s^2, h s, w s), is what its shape says, and so does not undo it: place (j s + a, i s + b) of
    channel k comes from place (j, i) of channel (a s + b) C / s^2 + k.
    """

    def tops(self) -> list[Shape]:
        n, c, h, w = self.bottoms[0]
        s = self.p.stride
        if s < 1 or c % (s * s) or (not self.p.reverse and (h % s or w % s)):
            self.fail(
                f"stride {s} of a bottom of shape {self.bottoms[0]}; takes channels in its squares and extents in its multiples"
            )
        return [(n, c // (s * s), h * s, w * s) if self.p.reverse else (n, c * s * s, h // s, w // s)]

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        ops, (_, c, h, w), s = ctx.ops, self.bottoms[0], self.p.stride
        x = self.to_caffe_order(ctx, x)
        if self.p.reverse:
            x = ops.transpose(ops.reshape(x, (-1, s, s, c // (s * s), h, w)), (0, 3, 4, 1, 5, 2))
        else:
            x = ops.transpose(ops.reshape(x, (-1, c // (s * s), h, s, w, s)), (0, 3, 5, 1, 2, 4))
        return self.to_keras_order(ctx, ops.reshape(x, (-1, *self.tops()[0][1:])))


class _Grid(Layer, type=""):
    """Bottoms (N, anchors * (5 + classes), h, w), for each anchor x, y, width, height, whether there is something, classes.

    Top (1, 1, n, 7): 0, class from 1 on, score, x1, y1, x2, y2 in parts of the picture, not cut, best first; of two boxes
    that overlap by nms_threshold or more, of whatever class and image, the better stays. Where there is none, a row of -1 behind
    the number of each image. The Keras model pads with -1, and `forward` trims it.
    """

    loops = True

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        self.length = 5 + self.p.num_classes
        if self.p.num_classes < 1 or any(len(b) != 4 or b[1] != self.p.num_box * self.length for b in bottoms):
            self.fail(
                f"bottoms of shapes {list(bottoms)}; {self.p.num_box} boxes of {self.p.num_classes} classes take (N, {self.p.num_box * self.length}, h, w)"
            )
        self.count = sum(self.p.num_box * b[0] * math.prod(b[2:]) for b in bottoms)

    def fixes_batch(self) -> bool:
        return True

    def tops(self) -> list[Shape]:
        """As if every place were taken: the true count is known only at run time."""
        return [(1, 1, self.count, 7)]

    def caffe_top(self, rows: Array) -> Array:
        """The detections in Caffe's shape from the Keras top (boxes, 7)."""
        found = rows[rows[:, 0] >= 0]
        if not len(found):
            found = np.full((self.bottoms[0][0], 7), _GONE, np.float32)
            found[:, 0] = np.arange(len(found))
        return found[None, None]

    def _anchors(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Widths and heights of a bottom's anchors in parts of the picture."""
        raise NotImplementedError

    def _scores(self, ctx: Context, classes: Tensor) -> Tensor:
        """What the classes (..., classes) score where there is something."""
        raise NotImplementedError

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        ops = ctx.ops
        every, values, labels = [], [], []
        for index, x in enumerate(xs):
            n, _, h, w = self.bottoms[index]
            x = ops.reshape(ctx.whole(x), (n, h, w, self.p.num_box, self.length))
            wide, high = self._anchors(index)
            cx = plus(ops.sigmoid(x[..., 0]), np.arange(w, dtype=np.float32)[:, None]) / w
            cy = plus(ops.sigmoid(x[..., 1]), np.arange(h, dtype=np.float32)[:, None, None]) / h
            half_w, half_h = ops.exp(x[..., 2]) * wide / 2, ops.exp(x[..., 3]) * high / 2
            # A box of several classes overlaps itself: the best of them stays alone.
            scores = self._scores(ctx, x[..., 5:]) * ops.sigmoid(x[..., 4:5])
            boxes = ops.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h], axis=-1)
            every.append(ops.reshape(boxes, (-1, 4)))
            values.append(ops.reshape(ops.max(scores, axis=-1), (-1,)))
            labels.append(ops.reshape(ops.cast(ops.argmax(scores, axis=-1), "float32") + 1.0, (-1,)))
        boxes, scores, label = (ops.concatenate(x, axis=0) for x in (every, values, labels))
        scores, order, stay = best_first(ctx, scores, self._least(), self.count)
        boxes, label = ops.take(boxes, order, axis=0), ops.take(label, order, axis=0)
        limit = float(np.nextafter(np.float32(self.p.nms_threshold), np.float32(-1)))
        stay = kept(ctx, boxes[None, None], stay[None, None], self.count, overlaps(ctx, 0.0), limit)[0, 0]
        rows = ops.concatenate([ops.zeros_like(scores)[:, None], label[:, None], scores[:, None], boxes], axis=1)
        return ops.where(stay[:, None], rows, _GONE)

    def _least(self) -> float:
        return float(self.p.confidence_threshold)


class Yolov3DetectionOutput(
    _Grid,
    type="Yolov3DetectionOutput",
    param="yolov3_detection_output_param",
    fields="num_classes num_box confidence_threshold nms_threshold biases anchors_scale mask_group_num mask gaussian_box",
    bottoms=(1, None),
):
    """A Sigmoid for each class; anchors in pixels of the network's input, anchors_scale times the bottom's extents, chosen by
    mask for each bottom; scores above confidence_threshold (MobileNet-YOLO, yolov3_detection_output_layer.cpp)."""

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        p = self.p
        if p.gaussian_box:
            self.fail("gaussian_box true is not computed; takes false")
        groups = len(p.mask) // p.mask_group_num if p.mask_group_num else 0
        if p.mask_group_num != len(bottoms) or len(p.anchors_scale) < len(bottoms) or groups < p.num_box:
            self.fail(
                f"mask_group_num {p.mask_group_num}, {len(p.mask)} mask, {len(p.anchors_scale)} anchors_scale for "
                f"{len(bottoms)} bottoms of {p.num_box} boxes"
            )
        if max(p.mask) * 2 + 1 >= len(p.biases) or min(p.anchors_scale) < 1:
            self.fail(
                f"mask {list(p.mask)} of {len(p.biases) // 2} anchors; takes those from 0 on, with an anchors_scale above 0"
            )
        self.groups = groups

    def _anchors(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        h, w = self.bottoms[index][2:]
        scale, mask = self.p.anchors_scale[index], self.p.mask[index * self.groups :][: self.p.num_box]
        sizes = np.array(self.p.biases, np.float32)[: len(self.p.biases) // 2 * 2].reshape(-1, 2)[list(mask)]
        return sizes[:, 0] / (w * scale), sizes[:, 1] / (h * scale)

    def _scores(self, ctx: Context, classes: Tensor) -> Tensor:
        return ctx.ops.sigmoid(classes)


class YoloDetectionOutput(
    _Grid,
    type="YoloDetectionOutput",
    param="yolo_detection_output_param",
    fields="side num_classes num_box coords confidence_threshold nms_threshold biases label_map_file",
    bottoms=(1, 2),
):
    """A Softmax over the classes; anchors in places of the map; scores of confidence_threshold or more (MobileNet-YOLO,
    yolo_detection_output_layer.cpp). `side` is the bottom's."""

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if len(self.p.biases) < 2 * self.p.num_box or self.p.coords != 4:
            self.fail(
                f"{len(self.p.biases)} biases and coords {self.p.coords}; takes two for each of {self.p.num_box} boxes, and 4"
            )
        if any(b[2] != b[3] for b in bottoms):
            self.fail(f"bottoms of shapes {list(bottoms)}; takes squares")

    def _anchors(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        sizes = np.array(self.p.biases, np.float32)[: 2 * self.p.num_box].reshape(-1, 2) / self.bottoms[index][3]
        return sizes[:, 0], sizes[:, 1]

    def _scores(self, ctx: Context, classes: Tensor) -> Tensor:
        return ctx.ops.softmax(classes, axis=-1)

    def _least(self) -> float:
        return float(np.nextafter(np.float32(self.p.confidence_threshold), np.float32(-1)))


class RegionOutput(
    Layer,
    type="RegionOutput",
    param="region_output_param",
    fields="thresh hier_thresh nms classes biases feat_stride class_specific_nms coords",
    bottoms=2,
    tops=2,
    rank=4,
):
    """A box for each anchor and place, darknet's region layer (MSRCCS/Caffe, region_loss_layer.cpp).

    Bottoms: (1, anchors * (5 + classes), h, w), for each anchor x, y, width, height, whether there is something, classes; and the
    picture's height and width, 0 for the network's own, h and w times feat_stride. Tops: (1, anchors * h * w, 4), x and y of the
    centre, width and height in pixels of the picture, which lies in the middle of the network's input, scaled but not
    stretched; and (1, anchors * h * w, classes + 1), a Softmax of the classes times whether there is something, 0 where it is
    not above thresh, and behind them the largest, whatever it is. Of boxes that overlap by more than nms, 0 for none, the worse
    have 0: class by class but not in the last column, or with `class_specific_nms: false` by the last column in all.
    """

    loops = True

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        p, shape = self.p, bottoms[0]
        self.anchors = len(p.biases) // 2
        if p.classes < 1 or not self.anchors or len(p.biases) % 2 or p.coords != 4 or p.feat_stride < 1:
            self.fail(
                f"{p.classes} classes, {len(p.biases)} biases, coords {p.coords}, feat_stride {p.feat_stride}; takes a class or "
                "more, two biases for each anchor, 4 and a stride above 0"
            )
        if shape[0] != 1 or shape[1] != self.anchors * (5 + p.classes) or math.prod(bottoms[1]) < 2:
            self.fail(
                f"bottoms of shapes {shape} and {bottoms[1]}; {self.anchors} anchors of {p.classes} classes take "
                f"(1, {self.anchors * (5 + p.classes)}, h, w) and two values"
            )
        self.count = self.anchors * math.prod(shape[2:])

    def fixes_batch(self) -> bool:
        return True

    def tops(self) -> list[Shape]:
        return [(1, self.count, 4), (1, self.count, self.p.classes + 1)]

    def _placed(self, ctx: Context, boxes: Tensor, size: Tensor) -> Tensor:
        """Boxes (..., 4) in parts of the network's input as boxes in pixels of a picture of `size`, (height, width, ...)."""
        ops, stride = ctx.ops, self.p.feat_stride
        net_h, net_w = (extent * stride for extent in self.bottoms[0][2:])
        # Whole numbers, as C divides them.
        size = ops.cast(ops.reshape(ctx.whole(self.to_caffe_order(ctx, size)), (-1,)), "int32")
        h, w = (ops.where(ops.equal(size[i], 0), own, size[i]) for i, own in enumerate((net_h, net_w)))
        high, wide = ops.cast(h, "float32"), ops.cast(w, "float32")
        by_width = net_w / wide < net_h / high
        new_w = ops.cast(ops.where(by_width, net_w, ops.floor_divide(w * net_h, h)), "float32")
        new_h = ops.cast(ops.where(by_width, ops.floor_divide(h * net_w, w), net_h), "float32")
        x = (boxes[..., 0] - (net_w - new_w) / (2 * net_w)) / (new_w / net_w) * wide
        y = (boxes[..., 1] - (net_h - new_h) / (2 * net_h)) / (new_h / net_h) * high
        return ops.stack(
            [x, y, boxes[..., 2] * (net_w / new_w) * wide, boxes[..., 3] * (net_h / new_h) * high], axis=-1
        )

    def _stay(self, ctx: Context, boxes: Tensor, scores: Tensor, least: float) -> Tensor:
        """1 for each of `scores` (groups, boxes) above `least` that stays, else 0."""
        ops = ctx.ops
        half = boxes[:, 2:] / 2
        corners = ops.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
        _, order, candidates = best_first(ctx, scores, least, self.count)
        taken = ops.expand_dims(ops.take(corners, order, axis=0), 0)
        stay = kept(ctx, taken, ops.expand_dims(candidates, 0), self.count, overlaps(ctx, 0.0), self.p.nms)[0]
        return ops.take_along_axis(ops.cast(stay, "float32"), ops.argsort(order, axis=-1), axis=-1)

    def build(self, ctx: Context, x: Tensor, size: Tensor) -> Tensor | list[Tensor]:
        ops, p, (h, w) = ctx.ops, self.p, self.bottoms[0][2:]
        x = ops.transpose(ops.reshape(ctx.whole(x), (h, w, self.anchors, 5 + p.classes)), (2, 0, 1, 3))
        sizes = np.array(p.biases, np.float32).reshape(-1, 2)[:, None, None] / np.array([w, h], np.float32)
        cx = plus(ops.sigmoid(x[..., 0]), np.arange(w, dtype=np.float32)) / w
        cy = plus(ops.sigmoid(x[..., 1]), np.arange(h, dtype=np.float32)[:, None]) / h
        extents = ops.exp(x[..., 2:4]) * sizes
        boxes = ops.stack([cx, cy, extents[..., 0], extents[..., 1]], axis=-1)
        boxes = self._placed(ctx, ops.reshape(boxes, (-1, 4)), size)
        every = ops.reshape(ops.softmax(x[..., 5:], axis=-1) * ops.sigmoid(x[..., 4:5]), (-1, p.classes))
        best = ops.max(every, axis=-1, keepdims=True)
        probs = ops.where(every > p.thresh, every, 0.0)
        if p.nms > 0 and p.class_specific_nms:
            probs = probs * ops.transpose(self._stay(ctx, boxes, ops.transpose(probs), 0.0))
        probs = ops.concatenate([probs, best], axis=1)
        if p.nms > 0 and not p.class_specific_nms:
            probs = probs * ops.transpose(self._stay(ctx, boxes, ops.transpose(best), 0.0))
        return [ops.expand_dims(boxes, 0), ops.expand_dims(probs, 0)]
