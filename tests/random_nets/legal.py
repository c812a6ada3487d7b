"""What Caffe's checks come to: a layer is legal, or Illegal is raised where they would end the process."""

from collections.abc import Callable, Sequence
from typing import Any

Shape = tuple[int, ...]
Rule = Callable[[Any, Sequence[Shape], int], tuple[list[Shape], list[Shape]]]


class Illegal(ValueError):
    """Caffe refuses this layer on these bottoms."""


def need(true: bool, why: str) -> None:
    """Raises Illegal where a check fails."""
    if not true:
        raise Illegal(why)


def canonical(axis: int, rank: int) -> int:
    """Blob::CanonicalAxisIndex."""
    need(-rank <= axis < rank, f"axis {axis} of {rank}")
    return axis % rank
