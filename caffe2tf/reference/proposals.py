"""Regions proposed out of anchors, as py-faster-rcnn's NumPy and PVANet's C++ find them."""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from caffe2tf.caffe.caffe_pb2 import TRAIN, LayerParameter
from caffe2tf.reference.table import Array, rule


def _anchors(base: int, ratios: Sequence[float], scales: Sequence[float], whole: Callable[[float], float]) -> Array:
    """(A, 4): for each ratio a width of whole pixels with about the area of `base`, its height, times each scale."""
    rows = []
    for ratio in ratios:
        width = whole(math.sqrt(base * base / ratio))
        height = whole(width * ratio)
        for scale in scales:
            half = np.array([width * scale - 1, height * scale - 1]) / 2
            rows.append(np.concatenate([(base - 1) / 2 - half, (base - 1) / 2 + half]))
    return np.array(rows)


def _moved(anchors: Array, stride: int, offsets: Array, height: float, width: float) -> Array:
    """(h * w * A, 4) boxes inside the picture (bbox_transform_inv, clip_boxes)."""
    boxes = []
    for y, x in np.ndindex(*offsets.shape[2:]):
        for a, anchor in enumerate(anchors):
            dx, dy, dw, dh = offsets[0, 4 * a : 4 * a + 4, y, x]
            x1, y1, x2, y2 = anchor + stride * np.array([x, y, x, y])
            w, h = x2 - x1 + 1, y2 - y1 + 1
            cx, cy = dx * w + x1 + w / 2, dy * h + y1 + h / 2
            w, h = math.exp(dw) * w, math.exp(dh) * h
            boxes.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    edge = np.array([width, height, width, height]) - 1
    return np.asarray(np.maximum(np.minimum(boxes, edge), 0), np.float64)


def _overlap(a: Array, b: Array) -> float:
    w, h = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1, 0)
    areas = [(x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in (a, b)]
    return float(w * h / (sum(areas) - w * h))


def _chosen(boxes: Array, order: Sequence[int], most: int, threshold: float) -> list[int]:
    """Of `order`, best first, those that overlap none before them by more than the threshold (py_cpu_nms.py)."""
    kept: list[int] = []
    for index in order:
        if len(kept) == most:
            break
        if all(_overlap(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(index)
    return kept


def _rows(layer: LayerParameter, boxes: Array, scores: Array, kept: list[int]) -> list[Array]:
    rois = np.concatenate([np.zeros((len(kept), 1)), boxes[kept].reshape(-1, 4)], axis=1)
    return [rois, scores[kept]][: len(layer.top)]


def _of_python(
    layer: LayerParameter, scores: Array, offsets: Array, smallest: float, info: Array
) -> tuple[Array, Array, list[int]]:
    """(boxes, scores (n, 1), the places of those that are large enough, best first)."""
    text = layer.python_param.param_str

    def said(name: str, default: list[float]) -> list[float]:
        found = re.search(rf"{name}\W*?:\s*[\[(]?([^\])}}a-z]*)", text)
        return [float(n) for n in re.findall(r"[\d.]+", found[1])] if found else default

    ratios, scales = said("ratios", [0.5, 1, 2]), said("scales", [8, 16, 32])
    anchors = _anchors(int(said("base_size", [16])[0]), ratios, scales, round)
    height, width, scale = info.ravel()[:3]
    boxes = _moved(anchors, int(said("feat_stride", [])[0]), offsets, height, width)
    values = scores[:, len(anchors) :].transpose(0, 2, 3, 1).reshape(-1, 1)
    large = ((boxes[:, 2:] - boxes[:, :2] + 1) >= smallest * scale).all(axis=1)
    places = np.flatnonzero(large)
    order = places[np.argsort(values[places, 0], kind="stable")[::-1]]
    return boxes, values, list(order)


@rule("rpn.proposal_layer.ProposalLayer")
def proposal_layer(
    layer: LayerParameter, weights: list[Array], scores: Array, offsets: Array, info: Array
) -> list[Array]:
    """Regions (n, 5) and scores (n, 1): of the 6000 best boxes at most 300 that overlap by no more than 0.7, none smaller
    than 16 times the picture's scale; in training 12000 and 2000 (proposal_layer.py, config.py)."""
    before, after = (12000, 2000) if layer.phase == TRAIN and layer.HasField("phase") else (6000, 300)
    boxes, values, order = _of_python(layer, scores, offsets, 16, info)
    return _rows(layer, boxes, values, _chosen(boxes, order[:before], after, 0.7))


@rule("SSH.layers.proposal_layer.ProposalLayer")
def ssh_proposal_layer(
    layer: LayerParameter, weights: list[Array], scores: Array, offsets: Array, info: Array
) -> list[Array]:
    """The 1000 best boxes as they are; in training at most 300 of them that overlap by no more than 0.3, none smaller than 4
    (SSH, proposal_layer.py)."""
    training = layer.phase == TRAIN and layer.HasField("phase")
    boxes, values, order = _of_python(layer, scores, offsets, 4 if training else 0, info)
    return _rows(layer, boxes, values, _chosen(boxes, order[:1000], 300, 0.3) if training else order[:1000])


@rule("Proposal")
def proposal(layer: LayerParameter, weights: list[Array], scores: Array, offsets: Array, info: Array) -> list[Array]:
    """Regions (n, 5) and scores (n): a box that is too small has the score 0 (PVANet, proposal_layer.cpp)."""
    p, picture = layer.proposal_param, info.ravel()
    anchors = _anchors(p.base_size, p.ratio, p.scale, lambda x: math.floor(x + 0.5))
    boxes = _moved(anchors, p.feat_stride, offsets, picture[0], picture[1])
    extents = boxes[:, 2:] - boxes[:, :2] + 1
    large = (extents >= p.min_size * picture[[3, 2]]).all(axis=1)
    values = scores[:, len(anchors) :].transpose(0, 2, 3, 1).ravel() * large
    order = list(np.argsort(-values, kind="stable"))
    return _rows(layer, boxes, values, _chosen(boxes, order[: p.pre_nms_topn], p.post_nms_topn, p.nms_thresh))
