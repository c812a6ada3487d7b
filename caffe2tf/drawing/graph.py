"""Where the layers of a network stand in its drawing: in rows from the inputs down, branches side by side.

Sugiyama's scheme in short: a row is the longest way from an input, edges that pass rows get a place in each, the order
within rows is that of the neighbours' middles, and places are as near to the neighbours as the widths allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from caffe2tf.net.net import Net
from caffe2tf.net.wiring import Node

_SWEEPS = 12


@dataclass(eq=False)
class Box:
    """One layer with those that change its top in place, or where an edge passes a row (`layers` empty).

    `kind`: the family of its type, as the files in layers/ part them; `lines` what is said about it; `x`, `y`: its middle,
    in the unit of `width`, y growing downwards; `above`, `below`: the boxes it has edges with.
    """

    layers: tuple[str, ...] = ()
    kind: str = ""
    lines: tuple[str, ...] = ()
    width: float = 0.0
    row: int = 0
    x: float = 0.0
    above: list[Box] = field(default_factory=list)
    below: list[Box] = field(default_factory=list)


def boxes(net: Net, describe: Callable[[Sequence[Node]], Iterable[str]]) -> list[Box]:
    """The Boxes of `net` with their edges; `describe(nodes)` gives the lines of one, its layer first."""
    makers, found, readers = dict[tuple[str, int], list[Node]](), list[list[Node]](), net.consumers
    for node in net.nodes:
        if node.in_place and len(node.tops) == len(node.bottoms) == 1 and len(readers[node.bottoms[0]]) == 1:
            nodes = makers[node.bottoms[0]]
            nodes.append(node)
        else:
            nodes = [node]
            found.append(nodes)
        makers.update((blob, nodes) for blob, _ in node.made())
    places: dict[int, Box] = {}
    for nodes in found:
        kind = type(nodes[0].layer).__module__.rpartition(".")[2]
        box = places[id(nodes)] = Box(tuple(node.layer.name for node in nodes), kind, tuple(describe(nodes)))
        for bottom in nodes[0].bottoms:
            above = places[id(makers[bottom])]
            if above not in box.above:
                box.above.append(above)
                above.below.append(box)
        box.row = 1 + max((above.row for above in box.above), default=-1)
    return [places[id(nodes)] for nodes in found]


def count_places(found: Sequence[Box]) -> int:
    """How many places Boxes take in rows, those where an edge passes included."""
    return len(found) + sum(below.row - box.row - 1 for box in found for below in box.below)


def arrange(found: Sequence[Box], gap: float) -> list[list[Box]]:
    """Sets `x` of Boxes whose `width` is known; returns all rows, with a Box of no layers where an edge passes.

    `gap`: between neighbours. The drawing begins at x = 0.
    """
    rows: list[list[Box]] = [[] for _ in range(1 + max(box.row for box in found))]
    for box in found:
        rows[box.row].append(box)
    for box in found:
        for below in list(box.below):
            if below.row > box.row + 1:
                _pass(box, below, rows, gap)
    places = {id(box): index for line in rows for index, box in enumerate(line)}
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows[1:] if down else reversed(rows[:-1]):
            middles = [_middle([places[id(other)] for other in (box.above if down else box.below)]) for box in row]
            keys = [index if middle is None else middle for index, middle in enumerate(middles)]
            row[:] = [row[index] for index in sorted(range(len(row)), key=keys.__getitem__)]
            places.update((id(box), index) for index, box in enumerate(row))
    for row in rows:
        _place(row, [0.0] * len(row), gap)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wanted = [_middle([other.x for other in (box.above if down else box.below)]) for box in row]
            _place(row, [box.x if want is None else want for box, want in zip(row, wanted, strict=True)], gap)
    left = min(box.x - box.width / 2 for row in rows for box in row)
    for row in rows:
        for box in row:
            box.x -= left
    return rows


def _pass(box: Box, below: Box, rows: Sequence[list[Box]], gap: float) -> None:
    """Parts the edge from `box` to `below` at every row between."""
    chain = [box, *(Box(width=gap, row=row) for row in range(box.row + 1, below.row)), below]
    box.below[box.below.index(below)] = chain[1]
    below.above[below.above.index(box)] = chain[-2]
    for before, place, after in zip(chain, chain[1:], chain[2:], strict=False):
        place.above, place.below = [before], [after]
        rows[place.row].append(place)


def _middle(places: Sequence[float]) -> float | None:
    """The middle of the places of what a box has edges with; None without any."""
    return sum(places) / len(places) if places else None


def _place(row: Sequence[Box], wanted: Sequence[float], gap: float) -> None:
    """Sets `x` as near to `wanted` as the order and the widths allow (least squares: pool adjacent violators)."""
    starts, at = list[float](), 0.0
    for box in row:
        starts.append(at + box.width / 2)
        at += box.width + gap
    blocks: list[tuple[float, int]] = []  # (sum of wanted places less those of boxes side by side, how many)
    for want, start in zip(wanted, starts, strict=True):
        blocks.append((want - start, 1))
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            (total, count), (before, others) = blocks.pop(), blocks.pop()
            blocks.append((before + total, others + count))
    shifts = [total / count for total, count in blocks for _ in range(count)]
    for box, start, shift in zip(row, starts, shifts, strict=True):
        box.x = start + shift
