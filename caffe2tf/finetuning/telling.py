"""What a run says of itself: counts of classes, seconds and time left, and on its page when, where and what next."""

import contextlib
import datetime
import shlex
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from caffe2tf import bundled, words
from caffe2tf.net.net import Net
from caffe2tf.verification import golden as goldens

_LISTED = 40  # classes that a table lists; of more, the range alone is said


_Bar = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]


def phases(bar: _Bar, say: Callable[[str], object]) -> _Bar:
    """`bar`, which makes a progress context of (what, total), with a line at its end that says how long it took."""

    @contextlib.contextmanager
    def phase(what: str, total: int) -> Iterator[Callable[[int], object]]:
        begun = time.monotonic()
        with bar(what, total) as step:
            yield step
        say(f"{what}: {total:,} in {seconds(time.monotonic() - begun)}")

    return phase


def start(net: Net, head: str, fresh: bool, afresh: bool, how: str) -> list[str]:
    """Lines on what the `head` starts from: anew (`fresh`), in a network that starts from its fillers (`afresh`), or its weights; `how`
    pictures become input; and that a sample with random weights has nothing to give."""
    begins = f"the head '{head}' {'starts fresh' if fresh else 'keeps its weights'}"
    lines = [f"{f'all layers start from their fillers, the head {head!r} too' if afresh else begins}; {how}"]
    if not afresh and goldens.knows_nothing(net):
        lines.append(f"note: the network has {bundled.RANDOM}: its layers that do not learn give noise")
    return lines


def stage(number: int, count: int, trained: Sequence[str], place: str) -> str:
    """Which layers the stage `number` of `count` trains, and on what."""
    what = ", ".join(trained) if len(trained) <= 8 else f"{len(trained)} layers, {trained[0]} to {trained[-1]},"
    return f"{f'stage {number} of {count}: ' if count > 1 else ''}trains {what} on {place}"


def memory(needed: float, there: float | None) -> str:
    """How many bytes a run takes at most, and whether the machine has them."""
    short = there is not None and needed > there
    more = f"; this machine has {words.size(there)} and may end it" if short and there is not None else ""
    return f"takes {words.size(needed)} of memory at most{more}"


def epoch(place: str, row: Mapping[str, Any]) -> str:
    """A row of the history in words, of the `place` that it stands for (`epoch   1`)."""
    numbers = f"loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  val_loss {row['val_loss']:.4f}"
    return f"{place}  {numbers}  val_accuracy {row['val_accuracy']:.4f}  lr {row['lr']:.3g}"


def counts(sets: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Lines of a table of {set: {class: pictures}}, with sums; of many classes how few and how many pictures one has."""
    classes = list(next(iter(sets.values())))
    if len(classes) > _LISTED:
        return [
            f"{name}: {sum(one.values()):,} pictures of {len(one):,} classes, {min(one.values()):,} to {max(one.values()):,} of each"
            for name, one in sets.items()
        ]
    rows = [["class", *sets], *([name, *(f"{one.get(name, 0):,}" for one in sets.values())] for name in classes)]
    rows.append([f"{len(classes)} classes", *(f"{sum(one.values()):,}" for one in sets.values())])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def seconds(count: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if count < 60:
        return f"{count:.1f} s" if count < 9.95 else f"{count:.0f} s"
    minutes, rest = divmod(round(count), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


class Clock:
    """Says after each of `epochs` epochs how long it took and, from those that this run saw, how long the rest will take."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.begun, self.seen = epochs, time.monotonic(), 0
        self.last = self.begun

    def __call__(self, epoch: int) -> str:
        now, self.seen = time.monotonic(), self.seen + 1
        took, self.last = now - self.last, now
        left = (now - self.begun) / self.seen * (self.epochs - epoch)
        return seconds(took) + (f", {seconds(left)} left" if epoch < self.epochs else "")


def about(
    device: str, took: float, files: Iterable[tuple[str, str]], out: str, keep: Collection[str]
) -> list[tuple[str, str]]:
    """[(what, value)] for the page: when and where it ran, how long, from which files, and the commands that come next."""
    lines = [("finished", f"{datetime.datetime.now():%Y-%m-%d %H:%M}"), ("device", device), ("took", seconds(took))]
    lines += [("started from", f"{file}, SHA-256 {digest}") for file, digest in files]
    folder = shlex.quote(out)
    lines.append(("next", f"caffe2tf classify {folder} PICTURE"))
    if "npz" in keep or "keras" in keep:
        lines.append(("next", f"caffe2tf convert {folder} -o net.tflite"))
    return lines
