"""Many mutants of many kinds, in a process of their own: one that ends or hangs is an escape too."""

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caffe2tf.errors import Caffe2TFError
from tests.fuzz import cutting
from tests.fuzz.judging import Files, Outcome, judge, workplace
from tests.fuzz.kinds import KINDS, Kind
from tests.fuzz.shrinking import shrunk
from tests.helpers import ROOT

BATCH = 50


@dataclass
class Tally:
    """What came of the mutants of a kind; `escapes` {what: how often}."""

    kind: str
    tried: int = 0
    right: int = 0
    refused: int = 0
    escapes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    memory: int = 0

    def add(self, outcome: Outcome) -> None:
        self.tried += 1
        if outcome.escape:
            self.escapes[outcome.escape] += 1
        elif outcome.right:
            self.right += 1
        else:
            self.refused += 1
        self.slowest, self.memory = max(self.slowest, outcome.seconds), max(self.memory, outcome.memory)

    def merge(self, other: "Tally") -> None:
        self.tried, self.right, self.refused = (
            self.tried + other.tried,
            self.right + other.right,
            self.refused + other.refused,
        )
        self.escapes.update(other.escapes)
        self.slowest, self.memory = max(self.slowest, other.slowest), max(self.memory, other.memory)


def examples(kind: Kind, seed: int, batch: int, count: int, each: Callable[[Files], None]) -> None:
    """Gives `each` `count` examples of a batch: even ones are cut, odd ones built where the kind has a grammar."""
    from tests.fuzz.structures import STRATEGIES

    if batch % 2 and kind.name in STRATEGIES:
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import seed as seeded

        @seeded(seed * 1_000_003 + batch)
        @settings(
            max_examples=count,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(STRATEGIES[kind.name]())
        def built(files: Files) -> None:
            each(files)

        built()
        return
    chance = random.Random(f"{seed} {kind.name} {batch}")
    starts = kind.starts()
    for _ in range(count):
        files = dict(chance.choice(starts))
        touched = chance.sample(kind.changed, chance.choice([1, len(kind.changed)]))
        for name in touched:
            files[name] = cutting.mutant(files[name], [start[name] for start in starts], chance)
        each(files)


def warm(kind: Kind, place: Path) -> None:
    """Reads a good example without bounds: libraries that are loaded take time and memory."""
    for name, data in kind.starts()[0].items():
        (place / name).write_bytes(data)
    with contextlib.suppress(Caffe2TFError):
        kind.read(place)


def keep(kind: str, files: Files, outcome: str, trace: str, folder: Path) -> None:
    """Writes an escape to a folder of its own, with what is known of it, and no second one of its sort."""
    place = folder / kind / hashlib.sha256(outcome.encode()).hexdigest()[:10]
    if place.exists():
        return
    place.mkdir(parents=True)
    for name, data in files.items():
        (place / name).write_bytes(data)
    (place / "WHY").write_text(f"{outcome}\n\n{trace}")


def work(plan: Sequence[tuple[str, int]], seed: int, start: tuple[int, int], kept: Path, place: Path) -> None:
    """The process's part: batches of each (kind, count) from `start` (index, batch) on, a line of JSON after each."""
    for index, (name, count) in enumerate(plan):
        kind = KINDS[name]
        if index < start[0]:
            continue
        first = start[1] if index == start[0] else 0
        print(json.dumps({"at": [index, first], "kind": name}), flush=True)
        warm(kind, place)
        for batch in range(first, -(-count // BATCH)):
            tally = Tally(name)

            def each(files: Files, kind: Kind = kind, tally: Tally = tally) -> None:
                outcome = judge(kind.read, files, place)
                tally.add(outcome)
                if (
                    outcome.escape
                    and not (kept / kind.name / hashlib.sha256(outcome.escape.encode()).hexdigest()[:10]).exists()
                ):
                    small = shrunk(files, lambda files: judge(kind.read, files, place).escape == outcome.escape)
                    keep(kind.name, small, outcome.escape, outcome.trace, kept)

            examples(kind, seed, batch, min(BATCH, count - batch * BATCH), each)
            print(json.dumps({"at": [index, batch + 1], "tally": vars(tally)}), flush=True)


def soak(
    plan: Sequence[tuple[str, int]], seed: int, kept: Path, said: Callable[[Tally], object] = lambda tally: None
) -> list[Tally]:
    """Tries `count` mutants of each (kind, count) of `plan`; escapes are kept in the folder `kept`."""
    tallies = {name: Tally(name) for name, _ in plan}
    at, name = [0, 0], plan[0][0]
    kept.mkdir(parents=True, exist_ok=True)
    with workplace() as place:
        while at[0] < len(plan):
            job = {"plan": list(plan), "seed": seed, "start": at, "kept": str(kept), "place": str(place)}
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "1", "CUDA_VISIBLE_DEVICES": ""}
            environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            with (kept / "stderr").open("wb") as errors:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.fuzz.worker", json.dumps(job)],
                    cwd=ROOT,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            finished = False
            assert process.stdout is not None
            for line in process.stdout:
                told = json.loads(line)
                at, name = told["at"], told.get("kind", name)
                if "tally" in told:
                    told["tally"]["escapes"] = Counter(told["tally"]["escapes"])
                    tallies[name].merge(Tally(**told["tally"]))
                    said(tallies[name])
                finished = told.get("finished", False)
            if process.wait() == 0 and finished:
                break
            said_last = (kept / "stderr").read_text(errors="replace")[-3000:]
            why = "hangs" if "Timeout (" in said_last else f"ends the process ({process.returncode})"
            tallies[name].escapes[why] += 1
            tallies[name].tried += 1
            keep(name, {file.name: file.read_bytes() for file in place.iterdir()}, why, said_last, kept)
            at = [at[0], at[1] + 1]
    return list(tallies.values())
