"""Regions proposed out of scores and offsets of anchors (Ren et al., Faster R-CNN, and its children)."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caffe2tf.arrays.layout import Array, Shape
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.suppression import best_first, kept, overlaps
from caffe2tf.layers.types import Context, Tensor

_LARGEST = 3e38
_MOST = 1000  # anchors of one place; papers have 9 to 25


@dataclass(frozen=True)
class Settings:
    """`before` and `after`: how many boxes are left before and after suppression, 0 for all; `threshold` None: without it."""

    stride: int
    base: int
    ratios: Sequence[float]
    scales: Sequence[float]
    smallest: float
    before: int
    after: int
    threshold: float | None


def anchors(settings: Settings, halves_up: bool) -> Array:
    """(ratios * scales, 4) corners around a square of `base` pixels (generate_anchors.py): first and last pixel, widths of a
    ratio rounded to whole pixels, halves up (C++) or to even (NumPy)."""
    rounded = (lambda x: math.floor(x + 0.5)) if halves_up else round
    centre, found = (settings.base - 1) / 2, []
    for ratio in settings.ratios:
        width = rounded(math.sqrt(settings.base**2 / ratio))
        height = rounded(width * ratio)
        for scale in settings.scales:
            half_w, half_h = (width * scale - 1) / 2, (height * scale - 1) / 2
            found.append([centre - half_w, centre - half_h, centre + half_w, centre + half_h])
    return np.array(found)


class _Proposals(Layer, type=""):
    """Bottoms: scores (1, 2 A, h, w), the background's first; offsets (1, 4 A, h, w); the picture's height, width and scale.

    Each anchor at each place, moved by its offsets (centre in its widths, log of widths), cut to the picture, at least
    `smallest` times the scale in both extents; of those the best, without overlaps. Extents count first and last pixel.
    """

    loops = True

    halves_up = False
    counts_items = True

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        self.settings = self._settings()
        count = len(self.settings.ratios) * len(self.settings.scales)
        if not 0 < count <= _MOST:
            self.fail(f"{count} anchors; takes 1 to {_MOST}")
        if min(*self.settings.ratios, *self.settings.scales, self.settings.base, self.settings.stride) <= 0:
            self.fail("anchors of no extent; ratios, scales, base size and stride must be above 0")
        self.anchors = anchors(self.settings, self.halves_up)
        scores, offsets, picture = bottoms
        place = scores[2:]
        if scores != (1, 2 * count, *place) or len(place) != 2 or offsets != (1, 4 * count, *place):
            self.fail(
                f"bottoms of shapes {scores} and {offsets}; {count} anchors take (1, {2 * count}, h, w), (1, {4 * count}, h, w)"
            )
        if math.prod(picture) < self.picture:
            self.fail(f"bottom of shape {picture}; takes at least {self.picture} values of the picture")
        total = count * math.prod(place)
        self.before = min(self.settings.before or total, total)
        self.after = min(self.settings.after or self.before, self.before)

    picture = 3

    def _settings(self) -> Settings:
        raise NotImplementedError

    def tops(self) -> list[Shape]:
        """As if every place were taken: the true count is known only at run time."""
        shapes: list[Shape] = [(self.after, 5), (self.after, 1)]
        return shapes[: len(self.proto.top)]

    def fixes_batch(self) -> bool:
        return True

    def _boxes(self, ctx: Context, offsets: Tensor, info: Tensor) -> list[Tensor]:
        """x1, y1, x2, y2 of every anchor, place by place."""
        ops, (h, w) = ctx.ops, self.bottoms[0][2:]
        y, x = np.meshgrid(np.arange(h) * self.settings.stride, np.arange(w) * self.settings.stride, indexing="ij")
        corners = self.anchors + np.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        x1, y1, x2, y2 = corners.reshape(-1, 4).astype(np.float32).T
        boxes: dict[int, Tensor] = {}
        for axis, first, last in ((0, x1, x2), (1, y1, y2)):
            extent = last - first + 1
            centre = offsets[:, axis] * extent + (first + 0.5 * extent)
            half = 0.5 * (ops.exp(offsets[:, axis + 2]) * extent)
            edge = info[1 - axis] - 1.0
            boxes[axis] = ops.maximum(ops.minimum(centre - half, edge), 0.0)
            boxes[axis + 2] = ops.maximum(ops.minimum(centre + half, edge), 0.0)
        return [boxes[index] for index in range(4)]

    def _scored(self, ctx: Context, scores: Tensor, large: Tensor) -> Tensor:
        """The scores, and what becomes of those that are not `large`."""
        return ctx.ops.where(large, scores, -_LARGEST)

    def build(self, ctx: Context, scores: Tensor, offsets: Tensor, info: Tensor) -> Tensor | list[Tensor]:
        ops, s = ctx.ops, self.settings
        count = len(self.anchors)
        scores, offsets, info = (ctx.whole(x) for x in (scores, offsets, info))
        info = ops.reshape(self.to_caffe_order(ctx, info), (-1,))
        x1, y1, x2, y2 = self._boxes(ctx, ops.reshape(offsets, (-1, 4)), info)
        least_h, least_w = s.smallest * info[2], s.smallest * info[self.picture - 1]
        large = ops.logical_and(x2 - x1 + 1.0 >= least_w, y2 - y1 + 1.0 >= least_h)
        scores = self._scored(ctx, ops.reshape(scores[..., count:], (-1,)), large)
        boxes = ops.stack([x1, y1, x2, y2], axis=-1)
        if not self.halves_up:
            # NumPy sorts upwards and turns it round, so the later of equals comes first.
            scores, boxes = ops.flip(scores, axis=0), ops.flip(boxes, axis=0)
        scores, order, stay = best_first(ctx, scores, -_LARGEST, self.before)
        boxes = ops.take(boxes, order, axis=0)
        if s.threshold is not None:
            once = kept(ctx, boxes[None, None], stay[None, None], self.after, overlaps(ctx, 1.0), s.threshold)
            stay = ops.reshape(once, (-1,))
        stay = ops.logical_and(stay, ops.cumsum(ops.cast(stay, "int32")) <= self.after)
        # The places of the only axis; PyTorch's backend gives them as a matrix of one row.
        chosen = ops.reshape(ops.nonzero(stay)[0], (-1,))
        rois = ops.concatenate([ops.zeros_like(scores)[:, None], boxes], axis=1)
        tops = [ops.take(rois, chosen, axis=0), ops.take(self._second(scores), chosen, axis=0)]
        return tops[: len(self.proto.top)]

    def _second(self, scores: Tensor) -> Tensor:
        return scores[:, None]


class ProposalLayer(
    _Proposals,
    type="rpn.proposal_layer.ProposalLayer",
    param="python_param",
    fields="module layer param_str",
    bottoms=3,
    tops=(1, 2),
):
    """Faster R-CNN's and R-FCN's layer in Python: regions (n, 5), image 0 first, and their scores (n, 1).

    `param_str` holds feat_stride, and where they differ from 16, (0.5, 1, 2) and (8, 16, 32) base_size, ratios and scales.
    What is not there is of the configuration's TEST: 6000 boxes before and 300 after suppression at 0.7, none smaller than
    16; of its TRAIN 12000 and 2000 where the layer's phase says so. Of equal scores the later anchor comes first, as in
    a stable order turned round; NumPy's own is not stable (py-faster-rcnn, proposal_layer.py, bbox_transform.py, py_cpu_nms.py).
    """

    def _settings(self) -> Settings:
        said = self._said()
        before, after = (12000, 2000) if self.in_training() else (6000, 300)
        return Settings(*self._anchors(said), 16, before, after, 0.7)

    def _anchors(self, said: Mapping[str, list[float]]) -> tuple[int, int, list[float], list[float]]:
        if "feat_stride" not in said:
            self.fail(f"param_str {self.p.param_str!r} has no feat_stride, which it needs")
        stride, base = int(said["feat_stride"][0]), int(said.get("base_size", [16])[0])
        return stride, base, said.get("ratios", [0.5, 1, 2]), said.get("scales", [8, 16, 32])

    def _said(self) -> dict[str, list[float]]:
        """What `param_str` says, a flat mapping of YAML: {name: its numbers}."""
        number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
        many = rf"[\[(]\s*{number}(?:\s*,\s*{number})*\s*,?\s*[\])]"
        entry = rf"(['\"]?)(feat_stride|base_size|ratios|scales)\1\s*:\s*({number}|{many})"
        text = self.p.param_str.strip()
        rest = text[1:-1] if text[:1] == "{" and text[-1:] == "}" else text
        said: dict[str, list[float]] = {}
        while rest.strip():
            found = re.match(rf"\s*{entry}\s*(?:[,\n]|$)", rest)
            if found is None:
                self.fail(
                    f"param_str {text[:80]!r}; takes numbers of feat_stride, base_size, ratios and scales, as in "
                    "\"{'feat_stride': 16, 'scales': [8, 16, 32]}\""
                )
            said[found[2]] = [float(n) for n in re.findall(number, found[3])]
            rest = rest[found.end() :]
        return said


class SSHProposalLayer(
    ProposalLayer,
    type="SSH.layers.proposal_layer.ProposalLayer",
    param="python_param",
    fields="module layer param_str",
    bottoms=3,
    tops=(1, 2),
):
    """The same of SSH (Najibi et al.): the 1000 best of any size, without suppression, which comes after the network;
    in training 1000 before and 300 after suppression at 0.3, none smaller than 4 (SSH, proposal_layer.py, default_config.yml)."""

    def _settings(self) -> Settings:
        said = self._anchors(self._said())
        return Settings(*said, 4, 1000, 300, 0.3) if self.in_training() else Settings(*said, 0, 1000, 0, None)


class Proposal(
    _Proposals,
    type="Proposal",
    param="proposal_param",
    fields="feat_stride base_size min_size ratio scale pre_nms_topn post_nms_topn nms_thresh",
    bottoms=3,
    tops=(1, 2),
):
    """The same in C++ (Kim et al., PVANet, proposal_layer.cpp): regions (n, 5) and their scores (n).

    The third bottom is height, width, and a scale for each of them. A box that is too small stays with the score 0, and
    anchors round halves up.
    """

    halves_up = True
    picture = 4

    def _settings(self) -> Settings:
        p = self.p
        if p.post_nms_topn < 1 or p.pre_nms_topn < 1:
            self.fail(f"pre_nms_topn {p.pre_nms_topn} and post_nms_topn {p.post_nms_topn}; both must be at least 1")
        sizes = p.min_size, p.pre_nms_topn, p.post_nms_topn, p.nms_thresh
        return Settings(p.feat_stride, p.base_size, list(p.ratio), list(p.scale), *sizes)

    def tops(self) -> list[Shape]:
        shapes: list[Shape] = [(self.after, 5), (self.after,)]
        return shapes[: len(self.proto.top)]

    def _scored(self, ctx: Context, scores: Tensor, large: Tensor) -> Tensor:
        return ctx.ops.where(large, scores, 0.0)

    def _second(self, scores: Tensor) -> Tensor:
        return scores
