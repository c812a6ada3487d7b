"""What a classifier says of one picture."""

from dataclasses import dataclass
from typing import NamedTuple


class Box(NamedTuple):
    """Something that a detector found: the `number` and `name` of its class, its score from 0 to 1, and its corners in pixels of
    the picture, from the left and from the top, which may lie outside of it."""

    number: int
    name: str
    score: float
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Seen:
    """What was seen in the picture `file`: `top` holds (class, name, probability), best first, of a detector `boxes` holds Box,
    best first (None of a classifier); `label` the (class, name) that it really is, or None. `note` says what was left out of
    it; `error` why it could not be read, and then `top` is empty."""

    file: str
    top: tuple[tuple[int, str, float], ...] = ()
    label: tuple[int, str] | None = None
    note: str | None = None
    error: str | None = None
    boxes: tuple[Box, ...] | None = None

    @property
    def right(self) -> bool | None:
        """Whether the best class is the label; None where nothing tells."""
        return self.top[0][0] == self.label[0] if self.top and self.label else None
