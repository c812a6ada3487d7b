"""Caffe's rules for the extents of tops and weights, written once more and apart from the package: what is legal.

Sources: `LayerSetUp` and `Reshape` of each layer's file in Caffe 1.0 (`src/caffe/layers/TYPE_layer.cpp`); for the types
of forks, the fork's.
"""

from collections.abc import Sequence
from typing import Any

from tests.random_nets import computing, moving
from tests.random_nets.legal import Illegal, Shape, need

RULES = {**computing.RULES, **moving.RULES}


def infer(layer: Any, bottoms: Sequence[Shape]) -> tuple[list[Shape], list[Shape]]:
    """(tops, weights) of a LayerParameter on bottoms of these shapes in Caffe's order. Raises Illegal."""
    try:
        tops, weights = RULES.get(layer.type, computing.same)(layer, bottoms, len(layer.top))
    except (IndexError, ValueError) as error:  # fewer bottoms or axes than the rule speaks of
        raise Illegal(str(error)) from None
    need(len(tops) == len(layer.top), "tops")
    need(all(n >= 1 for shape in [*tops, *weights] for n in shape), "an extent below 1")
    return tops, weights
