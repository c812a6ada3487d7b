"""Layers without bottoms."""

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.reference.table import Array, rule


@rule("Input")
def given(layer: LayerParameter, weights: list[Array], *values: Array) -> list[Array]:
    """What the caller gives, which `compute` hands over as if it were the bottoms (input_layer.cpp)."""
    return list(values)


@rule("DummyData")
def dummy_data(layer: LayerParameter, weights: list[Array]) -> list[Array]:
    """Constants: the i-th shape and filler for the i-th top, or the only one for all (dummy_data_layer.cpp)."""
    p, tops = layer.dummy_data_param, []
    for index in range(len(layer.top)):
        if p.shape:
            shape = tuple(p.shape[index if len(p.shape) > 1 else 0].dim)
        else:
            four = (p.num, p.channels, p.height, p.width)
            shape = tuple(extents[index if len(extents) > 1 else 0] for extents in four)
        filler = p.data_filler[index if len(p.data_filler) > 1 else 0] if p.data_filler else None
        tops.append(np.full(shape, filler.value if filler else 0.0))
    return tops


@rule("ContinuationIndicator")
def continuation_indicator(layer: LayerParameter, weights: list[Array]) -> Array:
    """0 at step 0 and 1 at every other, for each item (continuation_indicator_layer.cpp)."""
    p = layer.continuation_indicator_param
    return np.array([[float(step != 0)] * p.batch_size for step in range(p.time_step)])


@rule("Parameter")
def parameter(layer: LayerParameter, weights: list[Array]) -> Array:
    """The learned blob (parameter_layer.hpp)."""
    return weights[0]


@rule("Silence")
def silence(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> list[Array]:
    """Nothing (silence_layer.cpp)."""
    return []
