"""What the user is told of the pictures of a run, and what about them makes its figures worth less than they look."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from caffe2tf.finetuning import inputs
from caffe2tf.finetuning.data import Pictures, Source
from caffe2tf.finetuning.sets import NAMES

_FEW = 30  # pictures of a validation set, below which an accuracy is coarse
_LOPSIDED = 10  # times as many pictures in one class as in another


def tell(sets: Sequence[Pictures | None], say: Callable[[str], object]) -> None:
    """Says how many pictures each class has in each of `sets` (training, validation and test or None), and what to beware of.
    Raises DataError for a class without pictures to train or to judge by."""
    for name, part in zip(NAMES, sets, strict=True):
        if part is None:
            continue
        if part.note:
            say(part.note)
        counts = part.counts()
        listed = ", ".join(f"{c} {n}" for c, n in counts.items())
        say(f"{name}: {len(part)} pictures of {len(counts)} classes ({listed})")
        inputs.check_classes(name, part)
    training, *others = sets
    if training is not None:
        for line in of(training, dict(zip(NAMES[1:], others, strict=True))):
            say(line)


def of(training: Pictures, others: Mapping[str, Pictures | None]) -> list[str]:
    """Lines for the user: a validation or test set that is tiny, pictures that stand in several sets, classes of which one has
    many times as many pictures as another."""
    lines = []
    for name, part in others.items():
        if part is not None and len(part) < _FEW:
            lines.append(
                f"warning: {len(part)} {name} pictures are few: one more that is right is {100 / len(part):.1f} points of accuracy"
            )
    counts = training.counts()
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= _LOPSIDED * counts[least]:
        lines.append(
            f"warning: class '{most}' has {counts[most]} training pictures and '{least}' {counts[least]}; `class_weights` balanced "
            "lets them count the same"
        )
    for name, part in others.items():
        if part is not None and (twice := _shared(training, part)):
            lines.append(
                f"warning: {len(twice)} {name} pictures are among the training pictures too, so its accuracy says little of new "
                f"ones: {_named(twice[0])}"
            )
    return lines


def _shared(one: Pictures, other: Pictures) -> list[Source]:
    """The sources of `other` whose bytes are those of one of `one`. Only files of the same size are read."""
    sizes = defaultdict(list)
    for source in one.sources:
        sizes[_size(source)].append(source)
    digests = dict[int, set[bytes]]()
    found = []
    for source in other.sources:
        size = _size(source)
        if size is None or size not in sizes:
            continue
        if size not in digests:
            digests[size] = {_digest(same) for same in sizes[size]}
        if _digest(source) in digests[size]:
            found.append(source)
    return found


def _size(source: Source) -> int | None:
    """Bytes; None for a file that is not there, which is told elsewhere."""
    try:
        return len(source) if isinstance(source, bytes) else os.path.getsize(source)
    except OSError:
        return None


def _digest(source: Source) -> bytes:
    try:
        if isinstance(source, bytes):
            return hashlib.sha256(source).digest()
        with open(source, "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except OSError:
        return source.encode() if isinstance(source, str) else source


def _named(source: Source) -> str:
    return "a record" if isinstance(source, bytes) else source
