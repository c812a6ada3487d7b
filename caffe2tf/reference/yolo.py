"""YOLO's layers, place by place as their C++ goes through them."""

import math
from collections.abc import Iterator

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.reference.table import Array, rule


@rule("Reorg")
def reorg(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """darknet's reorg_cpu: channel k, place (j, i) of the bottom's shape meets place (j s + k / out / s, i s + k / out % s) of
    channel k % out, out = C / s^2, and either side is written as it lies into the top's shape."""
    s, reverse = layer.reorg_param.stride, layer.reorg_param.reverse
    n, c, h, w = x.shape
    out = c // (s * s)
    top = np.zeros(x.size)
    flat = x.ravel()
    for here, (b, k, j, i) in enumerate(np.ndindex(n, c, h, w)):
        row, column = divmod(k // out, s)
        there = i * s + column + w * s * (j * s + row + h * s * (k % out + out * b))
        if reverse:
            top[there] = flat[here]
        else:
            top[here] = flat[there]
    return top.reshape((n, out, h * s, w * s) if reverse else (n, c * s * s, h // s, w // s))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _iou(a: list[float], b: list[float]) -> float:
    """Of boxes (x, y, w, h) around their centres (box_iou)."""
    w, h = (
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1)
    )
    both = 0.0 if w < 0 or h < 0 else w * h
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def _values(bottom: Array, boxes: int) -> Iterator[tuple[int, int, int, Array]]:
    """(row, column, anchor, its values) of all images."""
    n, channels, h, w = bottom.shape
    each = bottom.reshape(n, boxes, channels // boxes, h, w)
    for image, y, x, k in np.ndindex(n, h, w, boxes):
        yield y, x, k, each[image, k, :, y, x]


def _rows(found: list[tuple[float, int, list[float]]], threshold: float, images: int) -> Array:
    """The best without overlaps, of whatever class and image."""
    kept: list[tuple[float, int, list[float]]] = []
    for one in sorted(found, key=lambda item: -item[0]):
        if all(_iou(other[2], one[2]) < threshold for other in kept):
            kept.append(one)
    rows = [[0, label, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2] for score, label, (x, y, w, h) in kept]
    return np.array(rows or [[image, *[-1] * 6] for image in range(images)], np.float64)[None, None]


@rule("Yolov3DetectionOutput")
def yolov3_detection_output(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> Array:
    """Every class of every anchor above confidence_threshold is a box (yolov3_detection_output_layer.cpp)."""
    p, found = layer.yolov3_detection_output_param, []
    groups = len(p.mask) // p.mask_group_num
    for index, bottom in enumerate(bottoms):
        (h, w), scale = bottom.shape[2:], p.anchors_scale[index]
        for y, x, k, v in _values(bottom, p.num_box):
            anchor = p.mask[index * groups + k]
            box = [(x + _sigmoid(v[0])) / w, (y + _sigmoid(v[1])) / h]
            box += [math.exp(v[2 + i]) * p.biases[2 * anchor + i] / (scale * (w, h)[i]) for i in (0, 1)]
            for label in range(p.num_classes):
                score = _sigmoid(v[5 + label]) * _sigmoid(v[4])
                if score > p.confidence_threshold:
                    found.append((score, label + 1, box))
    return _rows(found, p.nms_threshold, len(bottoms[0]))


@rule("YoloDetectionOutput")
def yolo_detection_output(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> Array:
    """The best class of every anchor is a box where it has confidence_threshold (yolo_detection_output_layer.cpp)."""
    p, found = layer.yolo_detection_output_param, []
    for bottom in bottoms:
        side = bottom.shape[3]
        for y, x, k, v in _values(bottom, p.num_box):
            box = [(x + _sigmoid(v[0])) / side, (y + _sigmoid(v[1])) / side]
            box += [math.exp(v[2 + i]) * p.biases[2 * k + i] / side for i in (0, 1)]
            shares = np.exp(v[5:] - v[5:].max())
            score = _sigmoid(v[4]) * shares.max() / shares.sum()
            if score >= p.confidence_threshold:
                found.append((score, int(shares.argmax()) + 1, box))
    return _rows(found, p.nms_threshold, len(bottoms[0]))


@rule("RegionOutput")
def region_output(layer: LayerParameter, weights: list[Array], bottom: Array, picture: Array) -> tuple[Array, Array]:
    """Boxes of the picture, then for each what its classes score and the best of them (region_loss_layer.cpp,
    get_region_boxes, correct_region_boxes, do_nms_sort and do_nms_obj)."""
    p, (rows, columns) = layer.region_output_param, bottom.shape[2:]
    anchors, nets = len(p.biases) // 2, (columns * p.feat_stride, rows * p.feat_stride)
    w, h = (int(picture.ravel()[i]) or nets[1 - i] for i in (1, 0))
    if np.float32(nets[0] / w) < np.float32(nets[1] / h):
        inner = (nets[0], h * nets[0] // w)
    else:
        inner = (w * nets[1] // h, nets[1])
    boxes = np.zeros((anchors * rows * columns, 4))
    probs = np.zeros((len(boxes), p.classes + 1))
    for y, x, k, v in _values(bottom, anchors):
        index = (k * rows + y) * columns + x
        for i, (place, cells, extent) in enumerate(((x, columns, w), (y, rows, h))):
            margin = (nets[i] - inner[i]) / 2 / nets[i]
            boxes[index, i] = ((place + _sigmoid(v[i])) / cells - margin) / (inner[i] / nets[i]) * extent
            boxes[index, 2 + i] = math.exp(v[2 + i]) * p.biases[2 * k + i] / cells * nets[i] / inner[i] * extent
        shares = np.exp(v[5:] - v[5:].max())
        every = _sigmoid(v[4]) * shares / shares.sum()
        probs[index] = [*np.where(every > p.thresh, every, 0), every.max()]
    if p.nms > 0:
        columns_of = [[label] for label in range(p.classes)]
        for each in columns_of if p.class_specific_nms else [list(range(p.classes, -1, -1))]:
            order = np.argsort(-probs[:, each[0]], kind="stable")
            for at, one in enumerate(order):
                for other in order[at + 1 :] if probs[one, each[0]] else ():
                    if _iou(list(boxes[one]), list(boxes[other])) > p.nms:
                        probs[other, each] = 0
    return boxes[None], probs[None]
