"""Layers of Caffe's forks that resize: DeepLab, PSPNet, SegNet, ports of YOLO v3."""

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

    rows, columns = (p.height, p.width) if p.height or p.width else (grown(h), grown(w))
    top = np.empty((*x.shape[:2], rows, columns))

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
