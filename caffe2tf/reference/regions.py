"""Pooling of regions."""

import math

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.reference.table import FLT_MAX, Array, rule


def _round(x: float) -> int:
    """C's round: halves go away from 0."""
    return int(math.copysign(math.floor(abs(float(x)) + 0.5), x))


def _padded(rois: Array, ratio: float) -> Array:
    """(R, 5) regions, each side further out by a share of the extent that counts first and last pixel (MS-CNN)."""
    rois = rois.reshape(-1, 5).copy()
    pad = (rois[:, 3:] - rois[:, 1:3] + 1) * ratio
    rois[:, 1:3] -= pad
    rois[:, 3:] += pad
    return rois


@rule("ROIPooling")
def roi_pooling(layer: LayerParameter, weights: list[Array], x: Array, rois: Array) -> Array:
    """The maximum of each bin of each region (image, x1, y1, x2, y2); 0 for an empty bin (roi_pooling_layer.cpp).

    Where a bin starts and ends is told in float32, as there: rounding decides whether a row belongs to it.
    """
    p, scale = layer.roi_pooling_param, np.float32(layer.roi_pooling_param.spatial_scale)
    rois = _padded(rois, p.pad_ratio)
    top = np.zeros((len(rois), x.shape[1], p.pooled_h, p.pooled_w))

    def bins(start: int, end: int, count: int, n: int) -> list[tuple[int, int]]:
        size = np.float32(max(end - start + 1, 1)) / np.float32(count)
        edges = [(math.floor(np.float32(i) * size), math.ceil(np.float32(i + 1) * size)) for i in range(count)]
        return [(min(max(a + start, 0), n), min(max(b + start, 0), n)) for a, b in edges]

    for index, roi in enumerate(rois):
        corners = roi[1:].astype(np.float32) * scale
        x1, y1, x2, y2 = map(_round, corners)
        for i, (a, b) in enumerate(bins(y1, y2, p.pooled_h, x.shape[2])):
            for j, (c, d) in enumerate(bins(x1, x2, p.pooled_w, x.shape[3])):
                if a < b and c < d:
                    top[index, :, i, j] = x[int(roi[0]), :, a:b, c:d].max(axis=(1, 2), initial=-FLT_MAX)
    return top


@rule("PSROIPooling")
def psroi_pooling(layer: LayerParameter, weights: list[Array], x: Array, rois: Array) -> Array:
    """The mean of each bin, whose channel is (d * k + i) * k + j; 0 for an empty one (R-FCN, psroi_pooling_layer.cu).

    Where a bin starts and ends is told in float32, as there.
    """
    p, f = layer.psroi_pooling_param, np.float32
    k, scale, rois = p.group_size, f(p.spatial_scale), rois.reshape(-1, 5)
    top = np.zeros((len(rois), p.output_dim, k, k))

    def bins(first: float, last: float, n: int) -> list[range]:
        start, end = f(_round(first)) * scale, f(_round(last) + 1) * scale
        size = max(end - start, f(0.1)) / f(k)
        low = [math.floor(f(i) * size + start) for i in range(k)]
        high = [math.ceil(f(i + 1) * size + start) for i in range(k)]
        return [range(min(max(a, 0), n), min(max(b, 0), n)) for a, b in zip(low, high, strict=True)]

    for index, (image, x1, y1, x2, y2) in enumerate(rois):
        rows, columns = bins(y1, y2, x.shape[2]), bins(x1, x2, x.shape[3])
        for d, i, j in np.ndindex(*top.shape[1:]):
            if rows[i] and columns[j]:
                plane = x[int(image), (d * k + i) * k + j]
                top[index, d, i, j] = plane[np.ix_(rows[i], columns[j])].mean()
    return top


@rule("ROIAlign")
def roi_align(layer: LayerParameter, weights: list[Array], x: Array, rois: Array) -> Array:
    """The map between its places at the corners of pooled_h x pooled_w bins; 0 outside (MS-CNN, roi_align_layer.cpp)."""
    p, (h, w) = layer.roi_pooling_param, x.shape[2:]
    rois = _padded(rois, p.pad_ratio)
    top = np.zeros((len(rois), x.shape[1], p.pooled_h + 1, p.pooled_w + 1))
    for index, roi in enumerate(rois):
        x1, y1, x2, y2 = roi[1:] * p.spatial_scale - 0.5
        if x2 <= x1 or y2 <= y1:
            continue
        for i, j in np.ndindex(*top.shape[2:]):
            v, u = y1 + i * (y2 - y1) / p.pooled_h, x1 + j * (x2 - x1) / p.pooled_w
            if not (-0.5 <= v <= h - 0.5 and -0.5 <= u <= w - 0.5):
                continue
            a, b = min(max(math.floor(v), 0), h - 1), min(max(math.floor(u), 0), w - 1)
            c, d = min(max(math.floor(v) + 1, 0), h - 1), min(max(math.floor(u) + 1, 0), w - 1)
            s, t = min(max(v, 0), h - 1) - a, min(max(u, 0), w - 1) - b
            near, far = x[int(roi[0]), :, a], x[int(roi[0]), :, c]
            top[index, :, i, j] = (1 - s) * ((1 - t) * near[:, b] + t * near[:, d]) + s * (
                (1 - t) * far[:, b] + t * far[:, d]
            )
    return top
