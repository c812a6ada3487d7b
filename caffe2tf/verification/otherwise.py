"""What OpenCV computes otherwise than Caffe, by design: such a layer is not judged by it.

More is put right where it stands: fusion of layers and the sharing of memory are switched off (`opencv_worker.py`), and
detections and proposals padded with rows of zeros are cut (`opencv.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe2tf.arrays.layout import Floats
from caffe2tf.caffe.caffe_pb2 import TRAIN, PoolingParameter
from caffe2tf.net.wiring import Node


@dataclass(frozen=True)
class Otherwise:
    """`types` of layers for which `when` holds, and `of` for one of their bottoms; what OpenCV `does`, and the file of Caffe that
    decides."""

    types: str
    when: Callable[[Node], bool]
    does: str
    decides: str
    of: Callable[[Floats], bool] | None = None


def why(node: Node, bottoms: Sequence[Floats]) -> str | None:
    """Why OpenCV's result of the layer `node` is none of Caffe's, or None. `bottoms`: those of its bottoms that are known."""
    if not all(np.isfinite(bottom).all() for bottom in bottoms):
        return "its bottoms leave the range of float32"
    for one in _matching(node, bottoms):
        return f"OpenCV {one.does}; Caffe's {one.decides} decides"
    return None


def _matching(node: Node, bottoms: Sequence[Floats]) -> Iterator[Otherwise]:
    return (
        one
        for one in TABLE
        if node.layer.type in one.types.split()
        and one.when(node)
        and (one.of is None or any(one.of(bottom) for bottom in bottoms))
    )


def _sets(name: str, **defaults: Any) -> Callable[[Node], bool]:
    """Whether the layer's parameter `name` has other values, in float32, than those."""

    def differs(node: Node) -> bool:
        given = getattr(node.layer.proto, name)
        return any(np.float32(getattr(given, key)) != np.float32(value) for key, value in defaults.items())

    return differs


def _outside(node: Node) -> bool:
    """Whether a window of a Pooling lies outside its bottom altogether."""
    layer: Any = node.layer
    extents = zip(layer.windows, layer.bottoms[0][2:], layer.tops()[0][2:], strict=True)
    return any((out - 1) * window.stride - window.pad >= n for window, n, out in extents)


def _padded_one_way(node: Node) -> bool:
    layer: Any = node.layer
    return len({window.pad > 0 for window in layer.windows}) == 2


def _by_chance(node: Node) -> bool:
    return bool(node.layer.proto.pooling_param.pool == PoolingParameter.STOCHASTIC)


def _scales_items(node: Node) -> bool:
    layer = node.layer
    whole = len(layer.bottoms) == 2 and len(layer.bottoms[1]) == len(layer.bottoms[0])
    return not whole and layer.axis(layer.proto.scale_param.axis) == 0


def _scales_and_adds(node: Node) -> bool:
    return len(node.bottoms) == 2 and node.layer.proto.scale_param.bias_term


def _trains(node: Node) -> bool:
    return node.layer.proto.HasField("phase") and node.layer.proto.phase == TRAIN


def _in_place(node: Node) -> bool:
    return node.in_place


def _dilated(node: Node) -> bool:
    return any(n != 1 for n in node.layer.proto.convolution_param.dilation)


def _padded_by_one_name(node: Node) -> bool:
    given = node.layer.proto.convolution_param
    return bool(given.HasField("pad_h") != given.HasField("pad_w"))


def _from_the_end(node: Node) -> bool:
    """Whether a negative axis counts from the end of a bottom of one axis."""
    axes = (getattr(given, "axis", 0) for _, given in node.layer.proto.ListFields())
    return len(node.layer.bottoms[0]) == 1 and any(isinstance(axis, int) and axis < 0 for axis in axes)


def _divides(node: Node) -> bool:
    return bool(node.layer.proto.mvn_param.normalize_variance)


def _hardly_varies(bottom: Floats) -> bool:
    """Whether 1e-9 is more than 1e-5 of the variance of a channel; without spatial axes, of an item."""
    axes = tuple(range(max(0, min(2, bottom.ndim - 1)), bottom.ndim))
    return bool((bottom.var(axis=axes, dtype=np.float64) < 1e-4).any())


def _no_alpha(node: Node) -> bool:
    return not node.layer.proto.lrn_param.HasField("alpha")


_LOG = {"base": -1.0, "scale": 1.0, "shift": 0.0}
_CONVOLUTIONS = "Convolution ConvolutionDepthwise DepthwiseConvolution Deconvolution"
_OVERWRITING = f"{_CONVOLUTIONS} InnerProduct Eltwise LRN Pooling"

TABLE = (
    Otherwise("LRN", _sets("lrn_param", k=1.0), "takes k for 1", "lrn_layer.cpp"),
    Otherwise("LRN", _no_alpha, "has another alpha where none is set", "caffe.proto"),
    Otherwise("Log", _sets("log_param", **_LOG), "leaves base, scale and shift out", "log_layer.cpp"),
    Otherwise("Concat", _sets("concat_param", concat_dim=1), "takes concat_dim for 1", "concat_layer.cpp"),
    Otherwise("MVN", _sets("mvn_param", eps=1e-9), "adds eps to the variance", "mvn_layer.cpp"),
    Otherwise("MVN", _divides, "adds even a small eps to a small variance", "mvn_layer.cpp", of=_hardly_varies),
    Otherwise(
        "InnerProduct",
        _sets("inner_product_param", transpose=False),
        "leaves transpose out",
        "inner_product_layer.cpp",
    ),
    Otherwise("Deconvolution", _dilated, "leaves dilation out", "base_conv_layer.cpp"),
    Otherwise(_CONVOLUTIONS, _padded_by_one_name, "leaves pad_h without pad_w out", "base_conv_layer.cpp"),
    Otherwise("Concat Crop Scale Slice Softmax", _from_the_end, "takes n values for n x 1", "blob.hpp"),
    Otherwise("Scale", _scales_items, "scales from axis 1 on", "scale_layer.cpp"),
    Otherwise("Scale", _scales_and_adds, "leaves the bias out beside a second bottom", "scale_layer.cpp"),
    Otherwise("Swish", _sets("swish_param", beta=1.0), "takes beta for 1", "swish_layer.cpp"),
    Otherwise("Proposal", _sets("proposal_param", min_size=1), "leaves min_size out", "proposal_layer.cpp of PVANet"),
    Otherwise("BatchNorm", _trains, "computes phase TEST", "batch_norm_layer.cpp"),
    Otherwise("Pooling", _outside, "gives 0 for a window outside the bottom", "pooling_layer.cpp"),
    Otherwise("Pooling", _padded_one_way, "clips the windows of one axis alone", "pooling_layer.cpp"),
    Otherwise("Pooling", _by_chance, "draws nothing by chance", "pooling_layer.cu"),
    Otherwise(_OVERWRITING, _in_place, "reads the bottom before it writes the top", "source of the layer"),
)
