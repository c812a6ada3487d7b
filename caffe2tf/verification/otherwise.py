"""What OpenCV computes otherwise than Caffe, by design: such a layer is not judged by it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from caffe2tf.caffe.caffe_pb2 import LRNParameter, PoolingParameter
from caffe2tf.layers import Layer
from caffe2tf.net.wiring import Node


@dataclass(frozen=True)
class Otherwise:
    """`types` of layers (empty: any) for which `when` holds; what OpenCV `does`, and the file of Caffe that decides."""

    types: str
    when: Callable[[Node], bool]
    does: str
    decides: str


def why(node: Node) -> str | None:
    """Why OpenCV's result of the layer `node` is none of Caffe's, or None."""
    for one in _matching(node):
        return f"OpenCV {one.does}; Caffe's {one.decides} decides"
    return None


def _matching(node: Node) -> Iterator[Otherwise]:
    return (one for one in TABLE if node.layer.type in (one.types.split() or [node.layer.type]) and one.when(node))


def _sets(name: str, **defaults: Any) -> Callable[[Node], bool]:
    """Whether the layer's parameter `name` has other values than those."""
    return lambda node: any(getattr(getattr(node.layer.proto, name), k) != v for k, v in defaults.items())


def _always(node: Node) -> bool:
    return True


def _outside(node: Node) -> bool:
    """Whether a window of a Pooling lies outside its bottom altogether."""
    layer: Any = node.layer
    extents = zip(layer.windows, layer.bottoms[0][2:], layer.tops()[0][2:], strict=True)
    return any((out - 1) * window.stride - window.pad >= n for window, n, out in extents)


def _is_pool(kind: int) -> Callable[[Node], bool]:
    return lambda node: bool(node.layer.proto.pooling_param.pool == kind)


def _axis(layer: Layer, parameter: str) -> int:
    return int(getattr(layer.proto, parameter).axis) % len(layer.bottoms[0])


def _in_place(node: Node) -> bool:
    return node.in_place


def _has_spatial_norm(node: Node) -> bool:
    return bool(node.layer.proto.lrn_param.norm_region == LRNParameter.WITHIN_CHANNEL)


TABLE = (
    Otherwise("LRN", _sets("lrn_param", k=1.0), "takes k for 1", "lrn_layer.cpp"),
    Otherwise("Log", _sets("log_param", base=-1.0, scale=1.0, shift=0.0), "takes base, scale and shift for e, 1 and 0", "log_layer.cpp"),
    Otherwise("MVN", _sets("mvn_param", eps=1e-9), "adds eps to the variance", "mvn_layer.cpp"),
    Otherwise("InnerProduct", _sets("inner_product_param", transpose=False), "leaves transpose out", "inner_product_layer.cpp"),
    Otherwise("Scale", lambda node: _axis(node.layer, "scale_param") == 0, "scales from axis 1 on", "scale_layer.cpp"),
    Otherwise("Swish", _sets("swish_param", beta=1.0), "takes beta for 1", "swish_layer.cpp"),
    Otherwise("Pooling", _outside, "gives 0 for a window outside the bottom", "pooling_layer.cpp"),
    Otherwise("Pooling", _is_pool(PoolingParameter.STOCHASTIC), "draws no window by chance", "pooling_layer.cu"),
    Otherwise(
        "Convolution ConvolutionDepthwise DepthwiseConvolution Deconvolution InnerProduct",
        _in_place,
        "reads the bottom before it writes the top",
        "inner_product_layer.cpp, base_conv_layer.cpp",
    ),
)
