"""SSD's boxes: the priors of a feature map, and detections out of scores and offsets (Liu et al., SSD)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2tf.arrays.layout import Array, Shape
from caffe2tf.caffe.caffe_pb2 import LayerParameter, PriorBoxParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.suppression import best_first, kept, largest, overlaps
from caffe2tf.layers.types import Context, Tensor

_GONE = -1.0
_LARGEST = 3e38


class PriorBox(
    Layer,
    type="PriorBox",
    param="prior_box_param",
    fields="min_size max_size aspect_ratio flip clip variance img_size img_h img_w step step_h step_w offset",
    bottoms=2,
    rank=4,
):
    """Boxes (x1, y1, x2, y2) in 0..1 around each place of the first bottom, from the extents of both bottoms alone.

    Sizes are whole pixels: what is behind the point is cut. Top (1, 2, places * priors * 4): boxes, then variances
    (prior_box_layer.cpp).
    """

    def _need_positive(self, *names: str) -> None:
        for name in names:
            if not all(0 < value < math.inf for value in getattr(self.p, name)):
                self.fail(f"{name} {', '.join(f'{value:g}' for value in getattr(self.p, name))}; takes values above 0")

    def _ratios(self) -> list[float]:
        ratios = [1.0]
        for ratio in self.p.aspect_ratio:
            if all(abs(ratio - known) >= 1e-6 for known in ratios):
                ratios.append(ratio)
                if self.p.flip:
                    ratios.append(1.0 / ratio)
        return ratios

    def _sizes(self) -> list[tuple[float, float]]:
        """(width, height) of each prior in pixels."""
        sizes: list[tuple[float, float]] = []
        self._need_positive("min_size", "max_size", "aspect_ratio")
        large = [int(size) for size in self.p.max_size]
        if not self.p.min_size or (large and len(large) != len(self.p.min_size)):
            self.fail(
                f"{len(self.p.min_size)} min_size and {len(large)} max_size; takes at least one min_size, and no or as many max_size"
            )
        for index, small in enumerate(map(int, self.p.min_size)):
            sizes.append((small, small))
            if large:
                if large[index] <= small:
                    self.fail(f"max_size {large[index]} is not above min_size {small}")
                sizes.append((math.sqrt(small * large[index]),) * 2)
            sizes.extend((small * math.sqrt(r), small / math.sqrt(r)) for r in self._ratios() if abs(r - 1) >= 1e-6)
        return sizes

    def tops(self) -> list[Shape]:
        h, w = self.bottoms[0][2:]
        if len(self.p.variance) not in (0, 1, 4):
            self.fail(f"{len(self.p.variance)} values of variance; takes 1 or 4")
        return [(1, 2, h * w * len(self._sizes()) * 4)]

    def constant(self, arrays: Sequence[Array] = ()) -> list[Array] | None:
        p, (h, w), (image_h, image_w) = self.p, self.bottoms[0][2:], self.bottoms[1][2:]
        image_h, image_w = p.img_h or p.img_size or image_h, p.img_w or p.img_size or image_w
        step_h, step_w = p.step_h or p.step or image_h / h, p.step_w or p.step or image_w / w
        y, x = np.meshgrid((np.arange(h) + p.offset) * step_h, (np.arange(w) + p.offset) * step_w, indexing="ij")
        half = np.asarray(self._sizes()) / 2
        centres = np.stack([x, y], -1)[:, :, None]
        boxes = np.concatenate([centres - half, centres + half], -1) / (image_w, image_h, image_w, image_h)
        if p.clip:
            boxes = boxes.clip(0, 1)
        variance = list(p.variance) or [0.1]
        variances = np.tile(variance * 4 if len(variance) == 1 else variance, boxes.size // 4)
        return [np.stack([boxes.ravel(), variances])[None].astype(np.float32)]


class PriorBoxClustered(
    PriorBox,
    type="PriorBoxClustered",
    param="prior_box_param",
    fields="width height flip clip variance img_h img_w step step_h step_w offset",
    bottoms=2,
    rank=4,
):
    """As PriorBox, with the boxes' own sizes in pixels: one for each pair of `width` and `height`, nothing of them cut.

    `flip` changes nothing, as there are no aspect ratios (OpenVINO, prior_box_clustered.cpp; OpenCV, prior_box_layer.cpp).
    """

    def _sizes(self) -> list[tuple[float, float]]:
        p = self.p
        self._need_positive("width", "height")
        if not p.width or len(p.width) != len(p.height):
            self.fail(f"{len(p.width)} width and {len(p.height)} height; takes at least one pair")
        if not p.step and bool(p.step_h) != bool(p.step_w):
            self.fail(f"step_h {p.step_h:g} and step_w {p.step_w:g}; takes both, or a step for the other")
        return list(zip(p.width, p.height, strict=True))


class DetectionOutput(
    Layer,
    type="DetectionOutput",
    param="detection_output_param",
    fields="num_classes share_location background_label_id nms_param code_type keep_top_k variance_encoded_in_target "
    "confidence_threshold nms_param.nms_threshold nms_param.top_k nms_param.eta",
    bottoms=(3, 4),
):
    """Boxes decoded from offsets and priors, per class the best without overlaps, then the best of all classes.

    The best come first, as OpenCV lists them; SSD's own Caffe lists the same rows class by class.

    Bottoms: offsets (N, priors * 4), where share_location is false (N, priors * classes * 4), scores (N, priors * classes),
    priors (1, 2, priors * 4), and maybe the picture, which Caffe only shows. Caffe's top is (1, 1, n, 7): image, class,
    score, x1, y1, x2, y2. The Keras model gives (N, keep_top_k, 7) padded with -1, and `forward` trims it
    (detection_output_layer.cpp).
    """

    loops = True
    detects = True

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        p, nms = self.p, self.p.nms_param
        self.priors, self.classes = math.prod(bottoms[2][2:]) // 4, p.num_classes
        self.places = 1 if p.share_location else self.classes
        offsets = self.priors * self.places * 4
        if math.prod(bottoms[0][1:]) != offsets or math.prod(bottoms[1][1:]) != self.priors * self.classes:
            self.fail(
                f"bottoms of shapes {bottoms[0]} and {bottoms[1]} for {self.priors} priors of {self.classes} classes"
            )
        if not 0 < nms.eta <= 1:
            self.fail(f"nms_param sets eta {nms.eta}; takes above 0, up to 1")
        self.labels = [c for c in range(self.classes) if c != p.background_label_id]
        if not self.labels:
            self.fail(f"num_classes {self.classes} leaves no class beside the background")
        self.candidates = min(self.priors, nms.top_k) if nms.top_k > 0 else self.priors
        total = self.candidates * len(self.labels)
        self.kept = min(p.keep_top_k, total) if p.keep_top_k > 0 else total

    def tops(self) -> list[Shape]:
        """As if every place were taken: the true count is known only at run time."""
        return [(1, 1, self.bottoms[0][0] * self.kept, 7)]

    def value_bottoms(self) -> tuple[int, ...]:
        return (0, 1, 2)

    def caffe_top(self, rows: Array) -> Array:
        """The detections of all images in Caffe's shape from the Keras top (N, kept, 7); where none is at all, one row of -1
        behind the number of each image."""
        found = rows.reshape(-1, 7)
        found = found[found[:, 0] >= 0]
        if not len(found):
            found = np.full((len(rows), 7), _GONE, np.float32)
            found[:, 0] = np.arange(len(rows))
        return found[None, None]

    def _decode(self, ops: Any, offsets: Tensor, prior: Tensor, variance: Tensor) -> Tensor:
        p = self.p
        if p.variance_encoded_in_target:
            variance = ops.ones_like(variance)
        corners = [prior[:, i] for i in range(4)]
        shift = [offsets[..., i] * variance[:, i] for i in range(4)]
        w, h = corners[2] - corners[0], corners[3] - corners[1]
        if p.code_type == PriorBoxParameter.CORNER:
            decoded = [corner + s for corner, s in zip(corners, shift, strict=True)]
        elif p.code_type == PriorBoxParameter.CORNER_SIZE:
            decoded = [corner + s * side for corner, s, side in zip(corners, shift, (w, h, w, h), strict=True)]
        else:
            x, y = shift[0] * w + (corners[0] + corners[2]) / 2, shift[1] * h + (corners[1] + corners[3]) / 2
            half_w, half_h = ops.exp(shift[2]) * w / 2, ops.exp(shift[3]) * h / 2
            decoded = [x - half_w, y - half_h, x + half_w, y + half_h]
        return ops.stack(decoded, axis=-1)

    def build(self, ctx: Context, loc: Tensor, conf: Tensor, prior: Tensor, *picture: Tensor) -> Tensor | list[Tensor]:
        ops, p, k, count = ctx.ops, self.p, self.candidates, len(self.labels)
        prior = ops.reshape(prior, (2, self.priors, 4))
        offsets = ops.reshape(self.to_caffe_order(ctx, loc), (-1, self.priors, self.places, 4))
        offsets = ops.transpose(offsets, (0, 2, 1, 3))
        if self.places > 1:
            offsets = ops.take(offsets, np.asarray(self.labels), axis=1)
        boxes = self._decode(ops, offsets, prior[0], prior[1])
        scores = ops.reshape(self.to_caffe_order(ctx, conf), (-1, self.priors, self.classes))
        scores = ops.take(ops.transpose(scores, (0, 2, 1)), np.asarray(self.labels), axis=1)
        least = p.confidence_threshold if p.HasField("confidence_threshold") else -_LARGEST
        scores, order, candidates = best_first(ctx, scores, least, k)
        boxes = ops.take_along_axis(boxes, order[..., None], axis=2)  # (N, classes, k, 4)
        nms = p.nms_param
        stay = kept(ctx, boxes, candidates, min(k, self.kept), overlaps(ctx, 0.0), nms.nms_threshold, nms.eta)

        flat_scores = ops.reshape(ops.where(stay, scores, -_LARGEST), (-1, count * k))
        score, place = largest(ctx, flat_scores, self.kept)
        label = ops.take(np.asarray(self.labels, np.float32), ops.floor_divide(place, k))
        corner = ops.take_along_axis(ops.reshape(boxes, (-1, count * k, 4)), place[..., None], axis=1)
        image = ops.cumsum(ops.ones_like(label), axis=0) - 1.0
        rows = ops.concatenate([ops.stack([image, label, score], axis=-1), corner], axis=-1)
        return ops.where(score[..., None] > -_LARGEST, rows, _GONE)
