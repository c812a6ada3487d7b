"""Layers of Caffe's forks that resize: DeepLab, PSPNet, SegNet, ports of YOLO v3."""

import math

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.reference.table import Array, fail, rule


@rule("Interp")
def interp(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """Bilinear with the corners aligned, without the borders that negative pads cut (interp_layer.cpp)."""
    p = layer.interp_param
    h, w = (n + p.pad_beg + p.pad_end for n in x.shape[2:])
    x = x[:, :, -p.pad_beg : -p.pad_beg + h, -p.pad_beg : -p.pad_beg + w]

    def grown(n: int) -> int:
        small = (n - 1) // p.shrink_factor + 1
        return small + (small - 1) * (p.zoom_factor - 1)

    return _resized(x, *((p.height, p.width) if p.height or p.width else (grown(h), grown(w))))


@rule("BilinearInterpolation")
def bilinear_interpolation(layer: LayerParameter, weights: list[Array], x: Array, *like: Array) -> Array:
    """Bilinear with the corners aligned, to the factor times the extents, or to those of a second bottom."""
    factor = layer.bilinear_interpolation_param.interpolation_factor
    rows, columns = like[0].shape[2:] if like else (n * factor for n in x.shape[2:])
    return _resized(x, rows, columns)


def _coefficient(cubic: bool, x: float) -> float:
    x = abs(x)
    if not cubic:
        return max(0.0, 1 - x)
    if x <= 1:
        return x * x * (1.5 * x - 2.5) + 1
    return x * (x * (-0.5 * x + 2.5) - 4) + 2 if x < 2 else 0.0


@rule("Resample")
def resample(layer: LayerParameter, weights: list[Array], x: Array, *like: Array) -> Array:
    """The mean of the values around (x fx + fy / 2 - 1/2, y fy + fx / 2 - 1/2), weighted by a triangle or a cubic,
    over the extents that a smaller top shrinks where antialias is set; NEAREST the value there (resample_layer.cu of
    FlowNet 2)."""
    p, (h, w) = layer.resample_param, x.shape[2:]
    rows, columns = like[0].shape[2:] if like else (p.height, p.width)
    fy, fx = h / rows, w / columns
    top = np.zeros((*x.shape[:2], rows, columns))
    cubic, thin = p.type == p.CUBIC, (fx > 1 or fy > 1) and p.antialias
    ax, ay = (1 / fx, 1 / fy) if thin else (1.0, 1.0)
    wide = 4 if cubic else 2
    reach_x, reach_y = (2 if f < 1 else math.ceil(wide / a) for f, a in ((fx, ax), (fy, ay)))
    for i, j in np.ndindex(rows, columns):
        at_x, at_y = j * fx + fy / 2 - 0.5, i * fy + fx / 2 - 0.5
        near_x, near_y = (int(at + math.copysign(0.5, at)) for at in (at_x, at_y))
        if p.type == p.NEAREST:
            top[:, :, i, j] = x[:, :, min(max(near_y, 0), h - 1), min(max(near_x, 0), w - 1)]
            continue
        total = 0.0
        for row in range(max(near_y - reach_y, 0), min(near_y + reach_y, h - 1) + 1):
            for column in range(max(near_x - reach_x, 0), min(near_x + reach_x, w - 1) + 1):
                share = _coefficient(cubic, ax * (at_x - column)) * _coefficient(cubic, ay * (at_y - row)) * ax * ay
                top[:, :, i, j] += share * x[:, :, row, column]
                total += share
        top[:, :, i, j] = top[:, :, i, j] / total if total else 0.0
    return top


def _resized(x: Array, rows: int, columns: int) -> Array:
    (h, w), top = x.shape[2:], np.empty((*x.shape[:2], rows, columns))

    def source(index: int, n: int, out: int) -> tuple[int, int, float]:
        at = index * (n - 1) / (out - 1) if out > 1 else 0.0
        return int(at), min(int(at) + 1, n - 1), at - int(at)

    for i in range(rows):
        for j in range(columns):
            (a, b, down), (c, d, right) = source(i, h, rows), source(j, w, columns)
            upper = (1 - right) * x[:, :, a, c] + right * x[:, :, a, d]
            lower = (1 - right) * x[:, :, b, c] + right * x[:, :, b, d]
            top[:, :, i, j] = (1 - down) * upper + down * lower
    return top


@rule("Upsample")
def upsample(layer: LayerParameter, weights: list[Array], x: Array, *masks: Array) -> Array:
    """With a mask each value at the place that it names in the (H, W) plane of the top, later ones over earlier ones
    (upsample_layer.cpp of SegNet); without, each value for the whole block that it becomes (ports of YOLO v3)."""
    p, out = layer.upsample_param, []
    for axis, n in zip("hw", x.shape[2:], strict=True):
        factor = getattr(p, f"scale_{axis}") if p.HasField(f"scale_{axis}") else p.scale
        out.append(getattr(p, f"upsample_{axis}") or n * factor - int(getattr(p, f"pad_out_{axis}")))
    rows, columns = out
    top = np.zeros((*x.shape[:2], rows, columns))
    if not masks:
        for i in range(rows):
            for j in range(columns):
                top[:, :, i, j] = x[:, :, i * x.shape[2] // rows, j * x.shape[3] // columns]
        return top
    for n, c, h, w in np.ndindex(*x.shape):
        place = int(masks[0][n, c, h, w])
        if not 0 <= place < rows * columns:
            fail(layer, f"mask names place {place} of a top of {rows} x {columns}")
        top[n, c, place // columns, place % columns] = x[n, c, h, w]
    return top


@rule("Unpooling")
def unpooling(layer: LayerParameter, weights: list[Array], x: Array, *masks: Array) -> Array:
    """MAX: each value at the place of its mask, or at the start of its window, later ones over earlier ones. TILE:
    each value added over its window; AVE: so over the window's area, cut at the top's end (unpooling_layer.cpp of
    DeconvNet)."""
    p = layer.unpooling_param
    (kh, kw), (sh, sw), out = (
        (getattr(p, f"{pair}_h"), getattr(p, f"{pair}_w")) if p.HasField(f"{pair}_h") else (getattr(p, single),) * 2
        for pair, single in (("kernel", "kernel_size"), ("stride", "stride"), ("unpool", "unpool_size"))
    )
    h, w = x.shape[2:]
    rows, columns = out if any(out) else (max((h - 1) * sh + kh, h * sh + 1), max((w - 1) * sw + kw, w * sw + 1))
    top = np.zeros((*x.shape[:2], rows, columns))
    for n, c, i, j in np.ndindex(*x.shape):
        if p.unpool == p.MAX:
            place = min(i * sh, rows - 1) * columns + min(j * sw, columns - 1)
            place = int(masks[0][n, c, i, j]) if masks else place
            if not 0 <= place < rows * columns:
                fail(layer, f"mask names place {place} of a top of {rows} x {columns}")
            top[n, c, place // columns, place % columns] = x[n, c, i, j]
            continue
        window = top[n, c, i * sh : min(i * sh + kh, rows), j * sw : min(j * sw + kw, columns)]
        area = (min(i * sh + kh, rows) - i * sh) * (min(j * sw + kw, columns) - j * sw)
        window += x[n, c, i, j] / (area if p.unpool == p.AVE else 1)
    return top
