"""Boxes of MS-CNN and Cascade R-CNN, one by one as their C++ goes through them."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from caffe2tf.caffe.caffe_pb2 import BoxGroupOutputParameter, BoxOutputParameter, LayerParameter
from caffe2tf.reference.table import Array, rule

Box = Sequence[float]


def _restored(layer: LayerParameter, offsets: Array) -> Array:
    """Offsets (..., 4) as they were before `bbox_reg_param` made them small."""
    p = layer.bbox_reg_param
    return offsets * p.bbox_std + p.bbox_mean if p.bbox_mean and p.bbox_std else offsets


def _union(kind: str, a: float, b: float, both: float) -> float:
    return {"IOMU": min(a, b), "IOFU": a}.get(kind, a + b - both)


def _of_pixels(kind: str, a: Box, b: Box) -> float:
    """bbox_util.cpp, JaccardOverlap: first and last pixel belong to a box (x1, y1, x2, y2)."""
    if a[2] < a[0] or a[3] < a[1] or b[2] < b[0] or b[3] < b[1]:
        return 0.0
    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    both = 0.0 if x1 > x2 or y1 >= y2 else (x2 - x1 + 1) * (y2 - y1 + 1)
    area, other = ((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
    return both / _union(kind, area, other, both)


def _of_edges(kind: str, a: Box, b: Box) -> float:
    """math_functions.cpp, BoxIOU, of boxes (x, y, w, h)."""
    if min(a[2], a[3], b[2], b[3]) <= 0:
        return 0.0
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = w * h if w > 0 and h > 0 else 0.0
    return both / _union(kind, a[2] * a[3], b[2] * b[3], both)


def _left(boxes: list[Box], limit: float, kind: str, overlap: Callable[[str, Box, Box], float]) -> list[Box]:
    """Of boxes, best first, those that overlap none before them by more than the limit."""
    kept: list[Box] = []
    for box in boxes:
        if all(overlap(kind, other, box) <= limit for other in kept):
            kept.append(box)
    return kept


def _field(
    p: BoxOutputParameter | BoxGroupOutputParameter, offset: Array, wide: float, high: float, x: float, y: float
) -> list[float]:
    """(x, y, w, h) of a box around a field at a place, its offset bounded."""
    dx, dy = np.clip(offset[:2], -1 / p.field_xyr, 1 / p.field_xyr)
    w, h = np.array([wide, high]) * np.exp(np.clip(offset[2:], -math.log(p.field_whr), math.log(p.field_whr)))
    return [dx * wide + x - w / 2, dy * high + y - h / 2, w, h]


def _tops(layer: LayerParameter, rows: list[list[float]]) -> list[Array]:
    """Regions and scored regions; one of each that stand for none."""
    scored = np.array(rows or [[0] * 6], np.float64)
    regions = scored[:, :5] if rows else np.array([[0, 1, 1, 10, 10]], np.float64)
    return [top[:, :, None, None] for top in (regions, scored)][: len(layer.top)]


@rule("BoxGroupOutput")
def box_group_output(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> list[Array]:
    """Regions (n, 5, 1, 1) and the same with 1 - the background's probability (Cascade R-CNN, box_group_output_layer.cpp)."""
    p, rows = layer.box_group_output_param, []
    for image in range(len(bottoms[0]) // len(p.box_group_param[0].field_w)):
        found: list[Box] = []
        for group, prob, offsets in zip(p.box_group_param, bottoms[::2], bottoms[1::2], strict=True):
            (h, w), fields, stride = prob.shape[2:], len(group.field_w), group.stride
            for k, y, x in np.ndindex(fields, h, w):
                item = image * fields + k
                score = 1 - prob[item, 0, y, x]
                offset = _restored(layer, offsets[item, :, y, x])
                left, top, wide, high = _field(
                    p, offset, group.field_w[k], group.field_h[k], (x + 0.5) * stride, (y + 0.5) * stride
                )
                box = [max(left, 0), max(top, 0), min(left + wide - 1, w * stride), min(top + high - 1, h * stride)]
                if score >= p.fg_thr and min(box[2] - box[0], box[3] - box[1]) + 1 >= p.min_size:
                    found.append([*box, score])
        found.sort(key=lambda box: -box[4])
        kept = _left(found[: p.max_nms_num or None], p.iou_thr, p.nms_type, _of_pixels)
        rows += [[image, *box] for box in kept[: p.max_post_nms_num or None]]
    return _tops(layer, rows)


@rule("BoxOutput")
def box_output(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> list[Array]:
    """Regions (n, 5, 1, 1) and the same with the best class's lead over the background (MS-CNN, box_output_layer.cpp)."""
    p, rows, classes = layer.box_output_param, [], bottoms[0].shape[1] - 4
    for image in range(len(bottoms[0])):
        found: list[Box] = []
        for index, bottom in enumerate(bottoms):
            (h, w), rate = bottom.shape[2:], p.downsample_rate[index]
            for y, x in np.ndindex(h, w):
                values = bottom[image, :, y, x]
                score = values[1:classes].max() - values[0]
                offset = _restored(layer, values[classes:])
                left, top, wide, high = _field(
                    p, offset, p.field_w[index], p.field_h[index], (x + 0.5) * rate, (y + 0.5) * rate
                )
                left, top = max(left, 0), max(top, 0)
                wide, high = min(wide, w * rate - left), min(high, h * rate - top)
                if score >= p.fg_thr and min(wide, high) >= p.min_size:
                    found.append([left, top, wide, high, score])
        found.reverse()  # of equal scores the later comes first
        found.sort(key=lambda box: -box[4])
        kept = _left(found[: p.max_nms_num or None], p.iou_thr, p.nms_type, _of_edges)
        rows += [[image, x, y, x + w, y + h, s] for x, y, w, h, s in kept[: p.max_post_nms_num or None]]
    return _tops(layer, rows)


def _beside(layer: LayerParameter, offset: Array, region: Array) -> list[float]:
    """DecodeBBoxesWithPrior: the box at an offset of a region, first and last pixel."""
    dx, dy, dw, dh = _restored(layer, offset)
    x1, y1, x2, y2 = region
    w, h = x2 - x1 + 1, y2 - y1 + 1
    wide, high = w * math.exp(dw), h * math.exp(dh)
    x, y = dx * w + (x1 + x2) / 2 - (wide - 1) / 2, dy * h + (y1 + y2) / 2 - (high - 1) / 2
    return [x, y, x + wide - 1, y + high - 1]


@rule("DecodeBBox")
def decode_bbox(layer: LayerParameter, weights: list[Array], offsets: Array, rois: Array, *boxes: Array) -> Array:
    """The second bottom's regions where the last four of the first's eight offsets put them (decode_bbox_layer.cpp)."""
    offsets, rois = offsets.reshape(-1, 8), rois.reshape(-1, 5)
    rows = [[roi[0], *_beside(layer, offset[4:], roi[1:])] for offset, roi in zip(offsets, rois, strict=True)]
    return np.array(rows).reshape(-1, 5, 1, 1)


@rule("FrcnnOutput")
def frcnn_output(
    layer: LayerParameter, weights: list[Array], prob: Array, offsets: Array, rois: Array, size: Array
) -> Array:
    """Rows (0, x1, y1, x2, y2, class, score) behind (0, -1, ...), class by class, best first (frcnn_output_layer.cpp)."""
    p, (height, width) = layer.frcnn_output_param, size.ravel()
    prob, offsets, rois = (x.reshape(len(x), -1) for x in (prob, offsets, rois))
    rows: list[list[float]] = []
    for label in range(1, prob.shape[1]):
        first = 4 * label if layer.bbox_reg_param.cls_aware else 4
        found: list[Box] = []
        for values, offset, roi in zip(prob, offsets, rois, strict=True):
            if values[label] >= p.conf_thr:
                x1, y1, x2, y2 = _beside(layer, offset[first : first + 4], roi[1:5])
                found.append([max(x1, 0), max(y1, 0), min(x2, width), min(y2, height), label, values[label]])
        found.sort(key=lambda box: -box[5])
        rows += [[0, *box] for box in _left(found, p.iou_thr, p.nms_type, _of_pixels)]
    if 0 < p.max_det_num < len(rows):
        rows.sort(key=lambda row: -row[6])
        rows = sorted(rows[: p.max_det_num], key=lambda row: row[5])
    return np.array([[0, *[-1] * 6], *rows], np.float64)[:, :, None, None]
