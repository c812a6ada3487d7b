"""Windows that are weighed and summed, laid out as channels, or scattered."""

import math
from collections.abc import Iterator

import numpy as np

from caffe2tf.caffe.caffe_pb2 import ConvolutionParameter, LayerParameter
from caffe2tf.reference.table import Array, rule


class Windows:
    """Kernel, stride, pad and dilation of each spatial axis: one value for all, one for each, or _h and _w
    (base_conv_layer.cpp). `extents` are those of the bottom after the channel axis; there may be none."""

    def __init__(self, p: ConvolutionParameter, x: Array) -> None:
        self.axis = p.axis % x.ndim
        self.extents = x.shape[self.axis + 1 :]
        self.kernel = self._each(p, "kernel_size", "kernel", 1)
        self.stride = self._each(p, "stride", "stride", 1)
        self.pad = self._each(p, "pad", "pad", 0)
        self.dilation = self._each(p, "dilation", None, 1)
        self.reach = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]

    def _each(self, p: ConvolutionParameter, name: str, pair: str | None, default: int) -> list[int]:
        if pair and (p.HasField(f"{pair}_h") or p.HasField(f"{pair}_w")):
            return [getattr(p, f"{pair}_h"), getattr(p, f"{pair}_w")]
        values = list(getattr(p, name)) or [default]
        return values * len(self.extents) if len(values) == 1 else values

    def plain(self) -> bool:
        """Whether a window is one place and each place has one: then Caffe multiplies without unfolding."""
        return all(k == s == 1 and p == 0 for k, s, p in zip(self.kernel, self.stride, self.pad, strict=True))

    def out(self) -> list[int]:
        """The top's extents. C++ divides towards 0, so a kernel that overhangs by less than a stride fits once."""
        sizes = zip(self.extents, self.pad, self.reach, self.stride, strict=True)
        return [math.trunc((n + 2 * p - r) / s) + 1 for n, p, r, s in sizes]

    def at(self, place: tuple[int, ...]) -> tuple[slice, ...]:
        """Where in the padded extents the window of `place` lies."""
        each = zip(place, self.stride, self.reach, self.dilation, strict=True)
        return tuple(slice(i * s, i * s + r, d) for i, s, r, d in each)


def _product_shape(p: ConvolutionParameter, x: Array) -> tuple[int, ...]:
    axis = p.axis % x.ndim
    return (*x.shape[:axis], p.num_output, *x.shape[axis + 1 :])


def _unfolded(x: Array, w: Windows) -> Array:
    """(items, channels, kernel extents, top extents): the values under each window, 0 outside the bottom."""
    items = x.reshape(math.prod(x.shape[: w.axis]), *x.shape[w.axis :])
    pads = [(p, p + r) for p, r in zip(w.pad, w.reach, strict=True)]
    padded = np.pad(items, [(0, 0), (0, 0), *pads])
    found = np.zeros((*items.shape[:2], *w.kernel, *w.out()))
    for place in np.ndindex(*w.out()):
        found[(...,) + place] = padded[(slice(None),) * 2 + w.at(place)]
    return found


@rule("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution")
def convolution(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> Iterator[list[Array]]:
    """For each group, output and place the sum of kernel times value over the window, plus bias (conv_layer.cpp).

    Blobs: kernel (num_output, channels / group, kernel extents), bias (num_output). One top for each bottom. In place
    a 1x1 kernel leaves only the bias, as InnerProduct does.
    """
    p, kernel, tops = layer.convolution_param, weights[0], []
    if Windows(p, bottoms[0]).plain():
        yield [np.zeros(_product_shape(p, x)) for x in bottoms]
    for x in bottoms:
        w = Windows(p, x)
        windows = _unfolded(x, w)
        outputs, inputs = p.num_output // p.group, windows.shape[1] // p.group
        y = np.zeros((len(windows), p.num_output, *w.out()))
        for g in range(p.group):
            mine, its = slice(g * outputs, (g + 1) * outputs), slice(g * inputs, (g + 1) * inputs)
            flat = windows[:, its].reshape(len(windows), inputs * math.prod(w.kernel), math.prod(w.out()))
            y[:, mine] = (kernel[mine].reshape(outputs, -1) @ flat).reshape(len(y), outputs, *w.out())
        if p.bias_term:
            y += weights[1].reshape(-1, *(1,) * len(w.kernel))
        tops.append(y.reshape(*x.shape[: w.axis], *y.shape[1:]))
    yield tops


@rule("Im2col")
def im2col(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> list[Array]:
    """Every window's values as channels, ordered channel, then kernel place (im2col_layer.cpp)."""
    tops = []
    for x in bottoms:
        w = Windows(layer.convolution_param, x)
        channels = x.shape[w.axis] * math.prod(w.kernel)
        tops.append(_unfolded(x, w).reshape(*x.shape[: w.axis], channels, *w.out()))
    return tops


@rule("Deconvolution")
def deconvolution(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> Iterator[list[Array]]:
    """Each value times the kernel, added where its window lies; what lies in the padding is cut (deconv_layer.cpp).

    Blobs: kernel (channels, num_output / group, kernel extents), bias (num_output). In place as Convolution.
    """
    p, kernel, tops = layer.convolution_param, weights[0], []
    if Windows(p, bottoms[0]).plain():
        yield [np.zeros(_product_shape(p, x)) for x in bottoms]
    for x in bottoms:
        w = Windows(p, x)
        items = x.reshape(math.prod(x.shape[: w.axis]), *x.shape[w.axis :])
        inputs, outputs = items.shape[1] // p.group, p.num_output // p.group
        whole = [s * (n - 1) + r for s, n, r in zip(w.stride, w.extents, w.reach, strict=True)]
        y = np.zeros((len(items), p.num_output, *whole))
        for g in range(p.group):
            mine, its = slice(g * outputs, (g + 1) * outputs), slice(g * inputs, (g + 1) * inputs)
            for place in np.ndindex(*w.extents):
                values = items[(slice(None), its) + place]
                y[(slice(None), mine) + w.at(place)] += np.tensordot(values, kernel[its], axes=1)
        y = y[(slice(None),) * 2 + tuple(slice(p, n - p) for p, n in zip(w.pad, whole, strict=True))]
        if p.bias_term:
            y = y + weights[1].reshape(-1, *(1,) * len(w.kernel))
        tops.append(y.reshape(*x.shape[: w.axis], *y.shape[1:]))
    yield tops
