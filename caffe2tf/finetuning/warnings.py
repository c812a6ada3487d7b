"""What about the pictures of a run makes its figures worth less than they look."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence

from caffe2tf.files import digests
from caffe2tf.finetuning.data import Pictures, Record, Source

_FEW = 30  # pictures of a validation set, below which an accuracy is coarse
_LOPSIDED = 10  # times as many pictures in one class as in another
_PIECE = 1 << 12  # bytes


def of(parts: Mapping[str, Pictures], balanced: bool) -> list[str]:
    """Lines for the user on {set: its pictures}, the first of them the training set: another that is tiny, pictures that stand in
    several sets, classes of which one has many times as many pictures as another, with what to do where they are not `balanced`."""
    (_, training), *others = parts.items()
    lines = []
    for name, part in others:
        if len(part) < _FEW:
            points = 100 / len(part)
            lines.append(
                f"warning: {len(part)} {name} pictures are few: one more that is right is {points:.1f} points of accuracy"
            )
    counts = training.counts()
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= _LOPSIDED * counts[least]:
        other = "they count the same; `class_weights` off lets pictures count the same"
        advice = other if balanced else "`class_weights` balanced lets them count the same"
        lines.append(
            f"warning: class '{most}' has {counts[most]} training pictures and '{least}' {counts[least]}; {advice}"
        )
    for name, part in others:
        if twice := _shared(training.sources, part.sources):
            lines.append(
                f"warning: {len(twice)} {name} pictures are among the training pictures too, so its accuracy says little of new "
                f"ones: {twice[0]}"
            )
    return lines


def _shared(one: Sequence[Source], other: Sequence[Source]) -> Sequence[Source]:
    """Those of `other` whose bytes are those of one of `one`. Of millions of files few are read: those of the same size, and then of
    the same piece from the middle."""
    marks: tuple[Callable[[Source], int | bytes | str | None], ...] = (_size, _piece, _digest)
    for mark in marks:
        wanted = {mark(source) for source in other} - {None}
        pairs = [(found, source) for source in one if (found := mark(source)) in wanted]
        there, one = {found for found, _ in pairs}, [source for _, source in pairs]
        other = [source for source in other if mark(source) in there]
    return other


def _size(source: Source) -> int | None:
    """Bytes; None for a file that cannot be read, which is told elsewhere."""
    try:
        return source.size if isinstance(source, Record) else os.path.getsize(source)
    except OSError:
        return None


def _piece(source: Source) -> bytes | None:
    middle = (_size(source) or 0) // 2
    try:
        if isinstance(source, Record):
            return source.read(middle, _PIECE)
        with open(source, "rb") as file:
            file.seek(middle)
            return file.read(_PIECE)
    except OSError:
        return None


def _digest(source: Source) -> str | None:
    try:
        return hashlib.sha256(source.read()).hexdigest() if isinstance(source, Record) else digests.file_digest(source)
    except OSError:
        return None
