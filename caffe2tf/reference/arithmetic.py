"""Several values in, one value out: sums, maxima, reductions."""

from collections.abc import Iterator

import numpy as np

from caffe2tf.caffe.caffe_pb2 import EltwiseParameter, LayerParameter, ReductionParameter
from caffe2tf.reference.table import FLT_MAX, Array, matrix, rule


@rule("Eltwise")
def eltwise(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> Iterator[Array]:
    """The product, the sum (each times its coeff) or the maximum, bottom by bottom into the top (eltwise_layer.cpp).

    SUM sets its top to 0 before it reads, MAX to -FLT_MAX: in place, the first bottom is gone by then. MAX takes the
    later bottom unless the earlier is greater, and from the third on the later only if it is greater.
    """
    p = layer.eltwise_param
    if p.operation == EltwiseParameter.SUM:
        top = np.zeros(bottoms[0].shape)
        yield top
        for coeff, x in zip(p.coeff or [1.0] * len(bottoms), bottoms, strict=True):
            top = top + coeff * x
            yield top
    elif p.operation == EltwiseParameter.PROD:
        top = bottoms[0] * bottoms[1]
        yield top
        for x in bottoms[2:]:
            top = top * x
            yield top
    else:
        yield np.full(bottoms[0].shape, -FLT_MAX)
        top = np.where(bottoms[0] > bottoms[1], bottoms[0], bottoms[1])
        yield top
        for x in bottoms[2:]:
            top = np.where(x > top, x, top)
            yield top


@rule("Axpy")
def axpy(layer: LayerParameter, weights: list[Array], a: Array, x: Array, y: Array) -> Array:
    """a x + y with one a for each item and channel (axpy_layer.cpp of SENet)."""
    return a.reshape(*x.shape[:2], 1, 1) * x + y


@rule("Reduction")
def reduction(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """coeff times the sum of x, |x| or x^2, or the mean, over `axis` and all after it (reduction_layer.cpp)."""
    p = layer.reduction_param
    first = p.axis % x.ndim
    rows = matrix(x, first)
    if p.operation == ReductionParameter.ASUM:
        rows = np.abs(rows)
    elif p.operation == ReductionParameter.SUMSQ:
        rows = rows * rows
    coeff = p.coeff / rows.shape[1] if p.operation == ReductionParameter.MEAN else p.coeff
    sums: Array = coeff * rows.sum(axis=1)
    return sums.reshape(x.shape[:first])


@rule("ArgMax")
def argmax(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """The places, or values, of the top_k largest along `axis`, or places and values over each item (argmax_layer.cpp).

    (value, place) pairs are sorted downwards, so of equal values the later place comes first.
    """
    p = layer.argmax_param
    axis = p.axis % x.ndim if p.HasField("axis") else None
    lists = matrix(x, 1) if axis is None else np.moveaxis(x, axis, -1)
    places, values = np.zeros((2, *lists.shape[:-1], p.top_k))
    for index in np.ndindex(lists.shape[:-1]):
        best = sorted(((value, place) for place, value in enumerate(lists[index])), reverse=True)[: p.top_k]
        if p.top_k == 1:
            # What is kept gives way unless it is larger, and NaN never is: other than for whole orders where one is there.
            for pair in enumerate(lists[index]):
                best = best if pair[0] and best[0][0] > pair[1] else [pair[::-1]]
        values[index], places[index] = zip(*best, strict=True)
    if axis is not None:
        return np.moveaxis(values if p.out_max_val else places, -1, axis)
    rows = np.stack([places, values], axis=1) if p.out_max_val else places[:, None]
    return rows.reshape(*rows.shape, *(1,) * (x.ndim - 3))
