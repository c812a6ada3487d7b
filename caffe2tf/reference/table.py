"""The table of reference rules, and what a rule may answer."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.errors import NetError

Array = NDArray[np.float64]

FLT_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Shared:
    """A top without values of its own: the storage of the first bottom, or of the top with the index `top`, seen in `shape`
    (Caffe's Blob::ShareData)."""

    shape: tuple[int, ...]
    top: int | None = None


Tops = Array | Shared | Sequence[Array | Shared]
Rule = Callable[..., Tops | Iterator[Tops]]

TABLE: dict[str, Rule] = {}  # Caffe type, or module.layer of the type Python -> its rule


def rule(*types: str) -> Callable[[Rule], Rule]:
    """Registers a function as the rule of `types`: `function(layer, weights, *bottoms)` gives the top or all tops.

    `layer` is the LayerParameter, `weights` Caffe's blobs of the layer, `bottoms` the bottoms' values; all arrays are
    float64 in Caffe's axis order. The bottoms are views of storage, so a rule must not write into them. A rule whose
    Caffe code writes into its top and reads bottoms after that is a generator: what it yields is written to the tops
    before it goes on, and where the layer works in place the bottoms have changed by then.
    """

    def register(function: Rule) -> Rule:
        TABLE.update(dict.fromkeys(types, function))
        return function

    return register


def fail(layer: LayerParameter, why: str) -> NoReturn:
    """Raises NetError that names the layer."""
    raise NetError(f"layer '{layer.name}' ({layer.type}): {why}")


def larger(x: Array, y: float) -> Array:
    """std::max(x, y): y only where x < y, so NaN stays."""
    return np.where(x < y, y, x)


def smaller(x: Array, y: float) -> Array:
    """std::min(x, y): y only where y < x, so NaN stays."""
    return np.where(y < x, y, x)


def matrix(x: Array, axis: int) -> Array:
    """`x` with the axes before `axis` as rows and the others as columns; either may be 0 or none."""
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def spread(value: Array, x: Array, axis: int) -> Array:
    """`value` in a shape that broadcasts over `x` from `axis` on; a scalar covers all (scale_layer.cpp)."""
    first = axis % x.ndim if value.ndim else 0
    return value.reshape((1,) * first + value.shape + (1,) * (x.ndim - first - value.ndim))
