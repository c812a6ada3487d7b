"""Layers that multiply by a matrix without windows."""

from collections.abc import Iterator

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.reference.table import Array, fail, matrix, rule


@rule("InnerProduct")
def inner_product(layer: LayerParameter, weights: list[Array], x: Array) -> Iterator[Array]:
    """y = W x + b over all axes from `axis` on (inner_product_layer.cpp).

    Blobs: kernel (num_output, inputs), or (inputs, num_output) with `transpose`; bias (num_output). OpenBLAS sets the
    product to 0 before it reads: in place, only the bias is left.
    """
    p = layer.inner_product_param
    first = p.axis % x.ndim
    shape = (*x.shape[:first], p.num_output)
    yield np.zeros(shape)
    y = matrix(x, first) @ (weights[0] if p.transpose else weights[0].T)
    yield (y + weights[1] if p.bias_term else y).reshape(shape)


@rule("Embed")
def embed(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """The row of the table that each value names, cut to a whole number, plus bias (embed_layer.cpp)."""
    p = layer.embed_param
    rows = x.astype(int)
    if rows.size and not 0 <= rows.min() <= rows.max() < p.input_dim:
        fail(layer, f"bottom names rows {rows.min()} to {rows.max()}; takes 0 to {p.input_dim - 1}")
    y: Array = weights[0][rows]
    return y + weights[1] if p.bias_term else y
