"""Layers of forks that read a map at places that other values say."""

import math

import numpy as np

from caffe2tf.caffe.caffe_pb2 import CorrelationParameter, FlowWarpParameter, LayerParameter
from caffe2tf.reference.table import Array, rule


@rule("FlowWarp")
def flow_warp(layer: LayerParameter, weights: list[Array], image: Array, flow: Array) -> Array:
    """The image at (x + flow 0, y + flow 1), bilinear, the last row and column repeated; where that lies outside, 0 or
    NaN (flow_warp_layer.cpp of FlowNet 2)."""
    n, _, h, w = image.shape
    zero = layer.flow_warp_param.fill_value == FlowWarpParameter.ZERO
    top = np.full(image.shape, 0.0 if zero else np.nan)
    for item, y, x in np.ndindex(n, h, w):
        x2, y2 = x + flow[item, 0, y, x], y + flow[item, 1, y, x]
        if x2 >= 0 and y2 >= 0 and x2 < w and y2 < h:
            left, upper = int(x2), int(y2)
            right, lower = min(left + 1, w - 1), min(upper + 1, h - 1)
            a, b = x2 - left, y2 - upper
            above = (1 - a) * image[item, :, upper, left] + a * image[item, :, upper, right]
            below = (1 - a) * image[item, :, lower, left] + a * image[item, :, lower, right]
            top[item, :, y, x] = (1 - b) * above + b * below
    return top


@rule("SpatialTransformer")
def spatial_transformer(layer: LayerParameter, weights: list[Array], image: Array, theta: Array) -> Array:
    """The image at theta (i, j, 1), i and j from -1 on in steps of 2 over the top's extents, times half the bottom's
    extents; what lies outside counts 0 (st_layer.cpp)."""
    p, (n, c, h, w) = layer.st_param, image.shape
    rows, columns = p.output_H if p.HasField("output_H") else h, p.output_W if p.HasField("output_W") else w
    names = [f"theta_{a}_{b}" for a in (1, 2) for b in (1, 2, 3)]
    top = np.zeros((n, c, rows, columns))
    for item in range(n):
        left = list(theta[item].ravel())
        full = [getattr(p, name) if p.HasField(name) else left.pop(0) for name in names]
        for i, j in np.ndindex(rows, columns):
            place = i * 1.0 / rows * 2 - 1, j * 1.0 / columns * 2 - 1, 1.0
            x = (float(np.dot(full[:3], place)) + 1) / 2 * h
            y = (float(np.dot(full[3:], place)) + 1) / 2 * w
            for row in (math.floor(x), math.floor(x) + 1):
                for column in (math.floor(y), math.floor(y) + 1):
                    if 0 <= row < h and 0 <= column < w:
                        share = max(0.0, 1 - abs(x - row)) * max(0.0, 1 - abs(y - column))
                        top[item, :, i, j] += share * image[item, :, row, column]
    return top


@rule("Correlation")
def correlation(layer: LayerParameter, weights: list[Array], first: Array, second: Array) -> Array:
    """The mean over a window and the channels of a b, or of |a - b|, b displaced by (k % g - r, k // g - r) stride_2
    columns and rows (correlation_layer.cu of FlowNet)."""
    p, (n, c, h, w) = layer.correlation_param, first.shape
    border = p.max_displacement + (p.kernel_size - 1) // 2
    rows, columns = (math.ceil((extent + 2 * p.pad - border * 2) / p.stride_1) for extent in (h, w))
    reach = p.max_displacement // p.stride_2
    grid = 2 * reach + 1
    first, second = (np.pad(x, [(0, 0), (0, 0), (p.pad, p.pad), (p.pad, p.pad)]) for x in (first, second))
    top = np.empty((n, grid * grid, rows, columns))
    for item, k, i, j in np.ndindex(*top.shape):
        y, x = i * p.stride_1 + p.max_displacement, j * p.stride_1 + p.max_displacement
        right, down = (k % grid - reach) * p.stride_2, (k // grid - reach) * p.stride_2
        a = first[item, :, y : y + p.kernel_size, x : x + p.kernel_size]
        b = second[item, :, y + down : y + down + p.kernel_size, x + right : x + right + p.kernel_size]
        met = a * b if p.correlation_type == CorrelationParameter.MULTIPLY else np.abs(a - b)
        top[item, k, i, j] = met.sum() / (p.kernel_size**2 * c)
    return top
