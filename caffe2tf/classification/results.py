"""What was seen as rows, as JSON and as a picture."""

import csv
import io
import json
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from caffe2tf.classification.score import Score
from caffe2tf.classification.seen import Seen
from caffe2tf.errors import escaped
from caffe2tf.files import replacing as files
from caffe2tf.images import decode as imaging

COLUMNS = ("file", "rank", "class", "name", "probability")
BOX_COLUMNS = ("file", "rank", "class", "name", "score", "left", "top", "right", "bottom")
DRAWN = 24  # pictures of --plot: more cannot be read on one page
Cell = str | int | float | None


def columns(detects: bool, known: bool) -> tuple[str, ...]:
    """The names of what `rows` gives, of a detector or a classifier; `known`: whether the truth is."""
    return (*(BOX_COLUMNS if detects else COLUMNS), *(("truth",) if known else ()))


def above(seen: Seen, threshold: float) -> Seen:
    """`seen` with what has a probability, or a score, of at least `threshold`."""
    if threshold <= 0:
        return seen
    boxes = seen.boxes and tuple(box for box in seen.boxes if box.score >= threshold)
    return replace(seen, top=tuple(one for one in seen.top if one[2] >= threshold), boxes=boxes)


def rows(seen: Seen, count: int | None) -> list[tuple[Cell, ...]]:
    """The rows of a picture that was read, `count` at most; where nothing is left, one of rank 0 without a class."""
    label = seen.label[1:] if seen.label else ()
    detects = seen.boxes is not None
    found = seen.boxes if seen.boxes is not None else seen.top
    made: list[tuple[Cell, ...]] = [(seen.file, rank, *one, *label) for rank, one in enumerate(found[:count], 1)]
    return made or [(seen.file, 0, *[None] * (len(columns(detects, False)) - 2), *label)]


def csv_row(cells: Iterable[Cell]) -> str:
    """A line of CSV, control characters as escapes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["" if cell is None else escaped(str(cell)) for cell in cells])
    return text.getvalue()


def entry(seen: Seen, count: int | None) -> dict[str, Any]:
    """A picture as JSON."""
    if seen.error:
        return {"file": seen.file, "error": seen.error}
    if seen.boxes is not None:
        corners = ("left", "top", "right", "bottom")
        found = [
            {"class": box.number, "name": box.name, "score": box.score, **dict(zip(corners, box[3:], strict=True))}
            for box in seen.boxes[:count]
        ]
        return {"file": seen.file, "boxes": found}
    top = [{"class": number, "name": name, "probability": p} for number, name, p in seen.top[:count]]
    label = {"truth": dict(zip(("class", "name"), seen.label, strict=True))} if seen.label else {}
    return {"file": seen.file, "top": top, **label}


def as_json(
    found: Iterable[Seen], count: int | None, score: Score, tested: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The lines of one JSON document of all that is seen, as it comes: what was `tested` {"file", "sha256"} as "model", images, then those that cannot be read, and where it is known
    what they are, how often it is right, as `score` has it at the end."""
    unread, last, known = list[dict[str, Any]](), None, False
    yield "{\n" + (f' "model": {json.dumps(tested)},\n' if tested else "") + ' "images": ['
    for seen in found:
        known |= seen.label is not None
        if seen.error:
            unread.append(entry(seen, count))
            continue
        if last is not None:
            yield f"{last},"
        last = textwrap.indent(json.dumps(entry(seen, count), indent=1), "  ")
    if last is not None:
        yield last
    rest = ({"unreadable": unread} if unread else {}) | ({"accuracy": score.accuracy} if known else {})
    yield " ]," if rest else " ]"
    yield json.dumps(rest, indent=1).removeprefix("{").lstrip("\n") if rest else "}"


def draw(found: Iterable[Seen], count: int, path: str | os.PathLike[str], force: bool) -> list[str]:
    """Draws pictures that were read, the first of `count`, with their bars or boxes as a .png, if there is one; returns a line on
    those left out. Raises OutputError."""
    from caffe2tf.drawing import plots

    seen: Sequence[Seen] = list(found)
    if not seen:
        return []
    with files.replacing(path, force) as temporary:
        plots.seen([(imaging.read_image(one.file), one) for one in seen], temporary)
    return [f"{path} shows the first {len(seen)} of {count} pictures"] if count > len(seen) else []
