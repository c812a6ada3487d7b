"""Layers of forks that choose among steps or items by their values."""

import math

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.reference.table import FLT_MAX, Array, rule


@rule("CTCGreedyDecoder")
def ctc_greedy_decoder(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """For each item the largest class of each step, the first of equal ones, but for blanks and, with
    ctc_merge_repeated, the class of the step before; then -1 (ctc_decoder_layer.cpp)."""
    p, (steps, items, classes) = layer.ctc_decoder_param, x.shape
    blank = p.blank_index if p.blank_index >= 0 else classes - 1
    top = np.full((items, steps, 1, 1), -1.0)
    for n in range(items):
        before, count = -1, 0
        for t in range(steps):
            best = 0
            for c in range(1, classes):
                if x[t, n, c] > x[t, n, best]:
                    best = c
            if best != blank and not (p.ctc_merge_repeated and best == before):
                top[n, count] = best
                count += 1
            before = best
    return top


@rule("ScaleRoute")
def scale_route(layer: LayerParameter, weights: list[Array], boxes: Array, *others: Array) -> list[Array]:
    """The items whose box has low <= sqrt(area) < high, else the first with the least |log2(scale / middle)|; areas
    count the pixels of both ends, and 0 for a box that is none (scale_route_layer.cpp, bbox_util.cpp of Cascade
    R-CNN)."""
    p = layer.scale_route_param
    low, high = p.low_scale if p.HasField("low_scale") else 0.0, p.high_scale if p.HasField("high_scale") else FLT_MAX
    middle = 256.0
    if p.HasField("low_scale") and p.HasField("high_scale"):
        middle = math.sqrt(low * high)
    elif p.HasField("low_scale") or p.HasField("high_scale"):
        middle = low or high
    chosen, nearest, least = [], -1, FLT_MAX
    for index, (_, x1, y1, x2, y2) in enumerate(boxes.reshape(-1, 5)):
        scale = 0.0 if x2 < x1 or y2 < y1 else math.sqrt((x2 - x1 + 1) * (y2 - y1 + 1))
        if low <= scale < high:
            chosen.append(index)
        distance = abs(math.log2(scale / middle)) if scale else math.inf
        if distance < least:
            nearest, least = index, distance
    return [x[chosen or [nearest]] for x in (boxes, *others)]
