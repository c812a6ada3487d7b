"""Kills writers of results and looks at what is left: `python -m tests.attacks.kills --count 500`.

With `--count` by SIGKILL at moments of chance, that many in all; with `--steps` before every step that Python takes of the
system and at writes of every size; with `--both` two processes write one name; with `--full` the disk is full at every size,
and nobody dies: one line must say so. Prints a line for each kind; the exit code
is 1 where anything was lost: neither the old nor the new there and whole, or something left after the next run.
"""

import argparse
import importlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from caffe2tf import formats
from tests.attacks import dying
from tests.attacks.writers import WRITERS, Writer, prepare

_SIZES = (0, 1, 100, 3000, 4096, 8000, 9000, 20_000, 200_000)
_COLUMNS = ("kind", "kills", "old", "new", "resumed", "lost")


@dataclass
class Tally:
    """What the kills of one kind left: counts, and a line on each that lost something."""

    kills: int = 0
    found: dict[str, int] = field(default_factory=lambda: {"old": 0, "new": 0, "resumed": 0})
    lost: list[str] = field(default_factory=list)


class _Place:
    """A folder of its own for each attempt, with the old result in it."""

    def __init__(self, kind: str, top: str) -> None:
        self.writer: Writer = WRITERS[kind]
        self.folder = tempfile.mkdtemp(prefix=f"{kind}-", dir=top)
        self.log = os.path.join(top, f"{os.path.basename(self.folder)}.log")
        self.path = os.path.join(self.folder, self.writer.name)
        self.write(1)

    def done(self, work: Callable[[], object]) -> bool:
        return dying.ended(dying.child(work, self.log)) == dying.ENDED

    def write(self, number: int) -> None:
        if not self.done(lambda: self.writer.write(self.path, number)):
            raise RuntimeError(f"{self.path} cannot be written: {self.said()}")

    def reads(self, number: int | None) -> bool:
        def look() -> None:
            found = self.writer.read(self.path)
            assert found == number, f"reads {found}, not {number}"

        return self.done(look)

    def said(self) -> str:
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-3:]).replace("\n", " | ")

    def judge(self, tally: Tally, what: str) -> None:
        """Looks at what a writer of 2 that was killed left, and lets a run of 3 follow."""
        tally.kills += 1
        state = next((name for name, number in (("old", 1), ("new", 2), ("resumed", None)) if self.reads(number)), None)
        if state == "resumed":
            resume = self.writer.resume
            if resume is None or not self.done(lambda: resume(self.path, 2)) or not self.reads(2):
                state = None
        if state is None:
            tally.lost.append(f"{what}: {self.said()}")
            return
        tally.found[state] += 1
        if not self.done(lambda: self.writer.write(self.path, 3)) or not self.reads(3):
            tally.lost.append(f"{what}: the next run fails: {self.said()}")
        left = [name for top, folders, names in os.walk(self.folder) for name in (*folders, *names) if name[0] == "."]
        if left:
            tally.lost.append(f"{what}: {', '.join(left)} stays after the next run")


def by_step(kind: str, top: str) -> Tally:
    """Before each step in turn, and at the write beyond each of _SIZES."""
    tally, step = Tally(), 0
    while True:
        place = _Place(kind, top)
        ran = place.done(lambda place=place, step=step: dying.dying_at(step, lambda: place.writer.write(place.path, 2)))
        if ran:
            if not place.reads(2):
                tally.lost.append(f"no kill: {place.said()}")
            break
        place.judge(tally, f"step {step}")
        step += 1
    for size in _SIZES:
        place = _Place(kind, top)
        work = dying.ended(
            dying.child(
                lambda place=place, size=size: dying.starved(size, lambda: place.writer.write(place.path, 2), True)
            )
        )
        if work < 0:
            place.judge(tally, f"at {size} bytes")
    return tally


def by_chance(kind: str, top: str, count: int, chance: random.Random) -> Tally:
    """At `count` moments, anywhere in the time that a whole write takes."""
    tally, times = Tally(), list[float]()
    while len(times) < 3:
        place = _Place(kind, top)
        begun = time.monotonic()
        place.write(2)
        times.append(time.monotonic() - begun)
    while tally.kills < count:
        place = _Place(kind, top)
        moment = chance.uniform(0, 1.1 * max(times))
        if dying.killed_after(moment, lambda place=place: place.writer.write(place.path, 2)) < 0:
            place.judge(tally, f"after {moment:.3f} s")
    return tally


def full(kind: str, top: str) -> Tally:
    """No file may grow beyond each of _SIZES: the old stays, one line says why, and with room the next run ends well."""
    tally = Tally()
    for size in _SIZES:
        place = _Place(kind, top)
        code, said = dying.heard(
            lambda place=place, size=size: dying.starved(size, lambda: place.writer.write(place.path, 2), False)
        )
        if code == dying.ENDED:  # it needs less
            continue
        lines = [line for line in said.splitlines() if line.startswith(("caffe2tf: ", "Traceback"))]
        if code != dying.REFUSED or len(lines) != 1 or "cannot be written: " not in lines[0]:
            tally.lost.append(f"at {size} bytes: ended {code}: {said[-500:]}")
            continue
        if place.writer.resume is None and any(name.startswith(".") for name in os.listdir(place.folder)):
            tally.lost.append(f"at {size} bytes: something is left")
        place.judge(tally, f"at {size} bytes")
    return tally


def both(kind: str, top: str, rounds: int = 5) -> Tally:
    """Two processes write one name at once: both end well, of training runs one may be refused, and one of the two is there."""
    tally, place = Tally(), _Place(kind, top)
    for number in range(rounds):
        pair = [dying.child(lambda n=n: place.writer.write(place.path, n), place.log) for n in (4, 5)]
        codes = [dying.ended(one) for one in pair]
        alone = place.writer.resume is not None and sorted(codes) == [dying.ENDED, dying.REFUSED]
        if (codes != [dying.ENDED] * 2 and not alone) or not (place.reads(4) or place.reads(5)):
            tally.lost.append(f"round {number}: ended {codes}: {place.said()}")
        tally.found["new"] += 1
    if any(name.startswith(".") for name in os.listdir(place.folder)):
        tally.lost.append("something is left")
    return tally


def _tallies(args: argparse.Namespace, top: str) -> Iterator[tuple[str, Tally]]:
    chance = random.Random(args.seed)
    for place, kind in enumerate(args.kinds):
        if args.steps:
            yield kind, by_step(kind, top)
        elif args.full:
            yield kind, full(kind, top)
        elif args.both:
            yield kind, both(kind, top)
        else:
            share = args.count // len(args.kinds) + (place < args.count % len(args.kinds))
            yield kind, by_chance(kind, top, share, chance)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(WRITERS)}; all by default")
    parser.add_argument("--count", type=int, default=500, help="kills at moments of chance, of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", action="store_true", help="kill before every step instead")
    parser.add_argument("--full", action="store_true", help="let the disk be full instead")
    parser.add_argument("--both", action="store_true", help="let two processes write one name instead")
    parser.add_argument("--extents", type=int, nargs=2, default=(64, 32), help="of the matrix that is written")
    args = parser.parse_args()
    args.kinds = args.kinds or list(WRITERS)
    lost: list[str] = []
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory(prefix="caffe2tf-kills-") as top:
        prepare(os.path.join(top, "made"), tuple(args.extents))
        _import(args.kinds)
        print("  ".join(name.rjust(10) for name in _COLUMNS))
        for kind, tally in _tallies(args, top):
            row = [kind, tally.kills, *tally.found.values(), len(tally.lost)]
            print("  ".join(str(cell).rjust(10) for cell in row), flush=True)
            lost += [f"{kind}: {line}" for line in tally.lost]
    print("\n".join(lost or ["nothing was lost"]))
    return int(bool(lost))


def _import(kinds: list[str]) -> None:
    """What the writers use, so that each fork starts with it; nothing of it may run here, for a fork takes no threads along."""
    modules = ["caffe2tf.finetuning.results", "caffe2tf.finetuning.run"] if {"results", "finetune"} & {*kinds} else []
    for name in [*modules, *(f"caffe2tf.formats.{kind}" for kind in kinds if kind in formats.names())]:
        importlib.import_module(name)
    if "finetune" in kinds:
        for name in formats.names():
            formats.module(name)


if __name__ == "__main__":
    sys.exit(main())
