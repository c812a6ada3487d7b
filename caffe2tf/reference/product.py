"""Layers that multiply by a matrix without windows."""

import math

from caffe2tf.caffe_pb2 import LayerParameter
from caffe2tf.reference.table import Array, fail, rule


@rule("InnerProduct")
def inner_product(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """y = W x + b over all axes from `axis` on (inner_product_layer.cpp).

    Blobs: kernel (num_output, inputs), or (inputs, num_output) with `transpose`; bias (num_output).
    """
    p = layer.inner_product_param
    lead = x.shape[: p.axis % x.ndim]
    rows = x.reshape(math.prod(lead), -1)
    y = rows @ (weights[0] if p.transpose else weights[0].T)
    return (y + weights[1] if p.bias_term else y).reshape(*lead, p.num_output)


@rule("Embed")
def embed(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """The row of the table that each value names, cut to a whole number, plus bias (embed_layer.cpp)."""
    p = layer.embed_param
    rows = x.astype(int)
    if rows.size and not 0 <= rows.min() <= rows.max() < p.input_dim:
        fail(layer, f"bottom names rows {rows.min()} to {rows.max()}; takes 0 to {p.input_dim - 1}")
    y = weights[0][rows]
    return y + weights[1] if p.bias_term else y
