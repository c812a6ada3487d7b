"""Caffe's rules for layers that compute: extents of tops and weights from those of the bottoms (`shapes.infer`)."""

import math
from collections.abc import Sequence
from typing import Any

from tests.random_nets.legal import Rule, Shape, canonical, need

_POINTWISE = "ReLU ReLU6 ELU Sigmoid TanH Swish BNLL AbsVal Clip Threshold Dropout Power Exp Log"
POINTWISE = frozenset(_POINTWISE.split())


def same(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    need(layer.type in POINTWISE, f"no rule for {layer.type}")
    return [bottoms[0]], []


def _input(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    shapes = [tuple(shape.dim) for shape in layer.input_param.shape]
    need(len(shapes) in (1, count), "shapes for tops")
    return shapes * count if len(shapes) == 1 else shapes, []


def _dummy(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p = layer.dummy_data_param
    if p.shape:
        shapes = [tuple(shape.dim) for shape in p.shape]
        return shapes * count if len(shapes) == 1 else shapes, []
    fields = [
        [values[min(i, len(values) - 1)] for i in range(count)] for values in (p.num, p.channels, p.height, p.width)
    ]
    return list(zip(*fields, strict=True)), []


def _parameter(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    shape = tuple(layer.parameter_param.shape.dim)
    return [shape], [shape]


def _prelu(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    need(2 <= len(bottoms[0]) <= 4, "rank of PReLU")
    return [bottoms[0]], [() if layer.prelu_param.channel_shared else (bottoms[0][1],)]


def _shuffle_channel(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    need(bottoms[0][1] % layer.shuffle_channel_param.group == 0, "channels in groups")
    return [bottoms[0]], []


def _softmax(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    canonical(layer.softmax_param.axis, len(bottoms[0]))
    return [bottoms[0]], []


def _batch_norm(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    need(len(bottoms[0]) >= 2, "rank of BatchNorm")
    return [bottoms[0]], [(bottoms[0][1],), (bottoms[0][1],), (1,)]


def _bn(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    need(len(bottoms[0]) == 4, "rank of BN")
    return [bottoms[0]], [(1, bottoms[0][1], 1, 1)] * 4


def _normalize(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    need(len(bottoms[0]) == 4, "rank of Normalize")
    return [bottoms[0]], [() if layer.norm_param.channel_shared else (bottoms[0][1],)]


def _lrn(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    need(len(bottoms[0]) == 4 and layer.lrn_param.local_size % 2 == 1, "rank or size of LRN")
    return [bottoms[0]], []


def _mvn(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    need(1 <= len(bottoms[0]) <= 4, "rank of MVN")
    return [(*bottoms[0], *(1,) * (4 - len(bottoms[0])))], []


def _covered(p: Any, bottoms: Sequence[Shape]) -> Shape:
    """The shape that Scale and Bias cover."""
    shape = bottoms[0]
    if len(bottoms) > 1:
        first = canonical(p.axis, len(shape)) if bottoms[1] else 0
        need(shape[first : first + len(bottoms[1])] == bottoms[1], "second bottom")
        return bottoms[1]
    first = canonical(p.axis, len(shape))
    need(p.num_axes >= -1 and (p.num_axes == -1 or first + p.num_axes <= len(shape)), "num_axes")
    return shape[first:] if p.num_axes == -1 else shape[first : first + p.num_axes]


def _scale(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    covered = _covered(layer.scale_param, bottoms)
    weights = ([covered] if len(bottoms) == 1 else []) + ([covered] if layer.scale_param.bias_term else [])
    return [bottoms[0]], weights


def _bias(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    covered = _covered(layer.bias_param, bottoms)
    return [bottoms[0]], [covered] if len(bottoms) == 1 else []


def _each(p: Any, field: str, pair: str, default: int, count: int) -> list[int]:
    """One value for each spatial axis (base_conv_layer.cpp)."""
    if pair and (p.HasField(f"{pair}_h") or p.HasField(f"{pair}_w")):
        need(count == 2 and not getattr(p, field), "_h and _w")
        return [getattr(p, f"{pair}_h"), getattr(p, f"{pair}_w")]
    values = list(getattr(p, field)) or [default]
    need(len(values) in (1, count) or not count, f"{field} for {count} axes")
    return values * count if len(values) == 1 else values[:count]


def _windows(p: Any, shape: Shape) -> tuple[int, list[int], list[int], list[int], list[int]]:
    """(channel axis, kernel, stride, pad, reach) of a convolution."""
    axis = canonical(p.axis, len(shape))
    count = len(shape) - axis - 1
    kernel, stride = _each(p, "kernel_size", "kernel", 0, count), _each(p, "stride", "stride", 1, count)
    pad, dilation = _each(p, "pad", "pad", 0, count), _each(p, "dilation", "", 1, count)
    need(all(n > 0 for n in [*kernel, *stride, *dilation]), "kernel, stride, dilation")
    return axis, kernel, stride, pad, [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]


def _slid(extents: Shape, stride: list[int], pad: list[int], reach: list[int]) -> Shape:
    """Caffe divides integers as C++ does: toward zero."""
    return tuple(int((n + 2 * p - r) / s) + 1 for n, s, p, r in zip(extents, stride, pad, reach, strict=True))


def _convolution(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, shape = layer.convolution_param, bottoms[0]
    need(len(bottoms) == count and all(b == shape for b in bottoms), "bottoms")
    axis, kernel, stride, pad, reach = _windows(p, shape)
    need(p.num_output > 0 and shape[axis] % p.group == 0 and p.num_output % p.group == 0, "group")
    if layer.type == "Deconvolution":
        out = tuple(s * (n - 1) + r - 2 * q for n, s, r, q in zip(shape[axis + 1 :], stride, reach, pad, strict=True))
        first, second = shape[axis], p.num_output
    else:
        out = _slid(shape[axis + 1 :], stride, pad, reach)
        first, second = p.num_output, shape[axis]
    weights = [(first, second // p.group, *kernel)] + ([(p.num_output,)] if p.bias_term else [])
    return [(*shape[:axis], p.num_output, *out)] * count, weights


def _im2col(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    shape = bottoms[0]
    axis, kernel, stride, pad, reach = _windows(layer.convolution_param, shape)
    need(len(kernel) > 0, "spatial axes of Im2col")
    out = _slid(shape[axis + 1 :], stride, pad, reach)
    return [(*shape[:axis], shape[axis] * math.prod(kernel), *out)], []


def pooled(n: int, kernel: int, stride: int, pad: int, ceil: bool) -> int:
    """The extent that pooling leaves of `n`."""
    steps = (n + 2 * pad - kernel) / stride
    return (math.ceil(steps) if ceil else math.floor(steps)) + 1


def _pooling(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, shape = layer.pooling_param, bottoms[0]
    need(len(shape) == 4, "rank of Pooling")
    need(count == 1 or p.pool == p.MAX, "mask")
    if p.global_pooling:
        return [(*shape[:2], 1, 1)] * count, []
    sides = []
    for axis, n in zip("hw", shape[2:], strict=True):
        pair = {name: p.HasField(f"{name}_{axis}") for name in ("kernel", "stride", "pad")}
        kernel = getattr(p, f"kernel_{axis}") if pair["kernel"] else p.kernel_size
        stride = getattr(p, f"stride_{axis}") if pair["stride"] else p.stride
        pad = getattr(p, f"pad_{axis}") if pair["pad"] else p.pad
        need(kernel > 0 and stride > 0 and pad < kernel, "kernel, stride, pad")
        sides.append((n, kernel, stride, pad))
    ceil = p.round_mode == p.CEIL
    out = [pooled(n, k, s, pad, ceil) for n, k, s, pad in sides]
    need(min(out) > 0, "nothing is pooled")
    if any(pad for _, _, _, pad in sides):
        # The last window must start inside the bottom or its near padding, on both axes as soon as either is padded.
        for place, (n, _, s, pad) in enumerate(sides):
            out[place] -= (out[place] - 1) * s >= n + pad
            need((out[place] - 1) * s < n + pad, "a window starts outside")
    return [(*shape[:2], *out)] * count, []


def _spp(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, shape = layer.spp_param, bottoms[0]
    need(len(shape) == 4 and p.pyramid_height >= 1, "rank or height of SPP")
    total = 0
    for level in range(p.pyramid_height):
        bins, out = 2**level, []
        for n in shape[2:]:
            kernel = -(-n // bins)
            pad = (kernel * bins - n + 1) // 2
            need(pad < kernel, "pad of SPP")
            size = pooled(n, kernel, kernel, pad, True)
            out.append(size - ((size - 1) * kernel >= n + pad))
        need(min(out) > 0 and out == [bins, bins], "bins of SPP")
        total += shape[1] * out[0] * out[1]
    return [(*shape[:2], 1, 1) if p.pyramid_height == 1 else (shape[0], total)], []


def _inner_product(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, shape = layer.inner_product_param, bottoms[0]
    axis = canonical(p.axis, len(shape))
    inputs = math.prod(shape[axis:])
    weights = [(inputs, p.num_output) if p.transpose else (p.num_output, inputs)]
    return [(*shape[:axis], p.num_output)], weights + ([(p.num_output,)] if p.bias_term else [])


def _embed(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p = layer.embed_param
    weights: list[Shape] = [(p.input_dim, p.num_output)]
    return [(*bottoms[0], p.num_output)], weights + ([(p.num_output,)] if p.bias_term else [])


def _recurrent(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, x, cont = layer.recurrent_param, bottoms[0], bottoms[1]
    states = 2 if layer.type == "LSTM" else 1
    hidden = states if p.expose_hidden else 0
    need(len(x) >= 3 and cont == x[:2], "x and cont")
    static = len(bottoms) - 2 - hidden
    need(0 <= static <= 1 and count == 1 + hidden, "bottoms and tops")
    n, wide = p.num_output, 4 if layer.type == "LSTM" else 1
    weights: list[Shape] = [(wide * n, math.prod(x[2:])), (wide * n,)]
    if static:
        need(len(bottoms[2]) >= 2 and bottoms[2][0] == x[1], "static input")
        weights.append((wide * n, math.prod(bottoms[2][1:])))
    weights.append((wide * n, n))
    if layer.type == "RNN":
        weights += [(n, n), (n,)]
    need(all(b == (1, x[1], n) for b in bottoms[2 + static :]), "hidden states")
    return [(*x[:2], n), *[(1, x[1], n)] * hidden], weights


def _lstm_unit(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    c, x, cont = bottoms
    need(len(c) == len(x) == 3 and len(cont) == 2 and c[0] == x[0] == cont[0] == 1, "ranks of LSTMUnit")
    need(c[1] == x[1] == cont[1] and x[2] == 4 * c[2], "extents of LSTMUnit")
    return [c, c], []


RULES: dict[str, Rule] = {
    "Input": _input,
    "DummyData": _dummy,
    "Parameter": _parameter,
    "PReLU": _prelu,
    "ShuffleChannel": _shuffle_channel,
    "Softmax": _softmax,
    "BatchNorm": _batch_norm,
    "BN": _bn,
    "Normalize": _normalize,
    "LRN": _lrn,
    "MVN": _mvn,
    "Scale": _scale,
    "Bias": _bias,
    **dict.fromkeys(("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "Deconvolution"), _convolution),
    "Im2col": _im2col,
    "Pooling": _pooling,
    "SPP": _spp,
    "InnerProduct": _inner_product,
    "Embed": _embed,
    "LSTM": _recurrent,
    "RNN": _recurrent,
    "LSTMUnit": _lstm_unit,
}
