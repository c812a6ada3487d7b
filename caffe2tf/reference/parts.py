"""Layers of forks that turn maps round, part them by places and lay them out again."""

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.reference.table import Array, rule


@rule("Transpose")
def transpose(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """Axis i of the top is axis dim[i] of the bottom (transpose_layer.cpp)."""
    top: Array = x.transpose(list(layer.transpose_param.dim)).copy()
    return top


@rule("Reverse")
def reverse(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """What lies at i of the axis goes to n - 1 - i (reverse_layer.cpp)."""
    top, axis = np.empty(x.shape), layer.reverse_param.axis
    into, out_of = (np.moveaxis(array, axis, 0) for array in (top, x))
    for i in range(x.shape[axis]):
        into[x.shape[axis] - 1 - i] = out_of[i]
    return top


@rule("Division")
def division(layer: LayerParameter, weights: list[Array], x: Array) -> list[Array]:
    """For each top the height x width values from (ycoord, xcoord) on (division_layer.cpp)."""
    p = layer.division_param
    places = zip(p.ycoord[: len(layer.top)], p.xcoord[: len(layer.top)], strict=True)
    return [x[:, :, v : v + p.height, w : w + p.width].copy() for v, w in places]


@rule("Combination")
def combination(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> Array:
    """Each bottom written from (ycoord, xcoord) on, in turn; the top ends with the last (combination_layer.cpp)."""
    p, last = layer.combination_param, len(bottoms) - 1
    h, w = bottoms[last].shape[2:]
    top = np.zeros((*bottoms[0].shape[:2], p.ycoord[last] + h, p.xcoord[last] + w))
    for n, x in enumerate(bottoms):
        top[:, :, p.ycoord[n] : p.ycoord[n] + x.shape[2], p.xcoord[n] : p.xcoord[n] + x.shape[3]] = x
    return top
