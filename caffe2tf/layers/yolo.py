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
