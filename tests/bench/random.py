"""Random networks, any number of them: what must hold of each, and which do not.

    python -m tests.bench.random --count 2000 --seed 7
    python -m tests.bench.random --count 2000 --caffe FOLDER    FOLDER holds pycaffe, the package `caffe` of real Caffe 1.0

Nets are those of seeds SEED, SEED + 1 and so on. Prints a table of what differed and, of each kind, the smallest net;
exit code 1 where anything did. `--out` keeps the smallest nets with their files.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from tests.random_nets import FEATURES, make
from tests.random_nets.checks import Problem, caffe_takes, check
from tests.random_nets.comparing import Blobs
from tests.random_nets.real import blobs_of
from tests.random_nets.sample import Sample
from tests.random_nets.shrinking import shrink

BATCH = 100  # nets that Caffe runs before the next look at what they give


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it all and returns the exit code."""
    options = _options(arguments)
    features = FEATURES - set(options.without.split(",")) - ({"forks"} if options.caffe else set())
    kinds: dict[tuple[str, str], list[int]] = {}
    smallest: dict[tuple[str, str], tuple[Problem, Sample]] = {}
    start, wrong = time.time(), 0
    for done, (sample, caffe) in enumerate(_samples(options, features), 1):
        problems = check(sample, caffe)
        wrong += bool(problems)
        for problem in problems:
            key = (problem.check, problem.kind)
            kinds.setdefault(key, []).append(sample.seed)
            if key not in smallest or (not problem.kind and len(kinds[key]) <= options.shrink):
                small = _smallest(sample, problem, caffe, options.caffe)
                if key not in smallest or len(small.text) < len(smallest[key][1].text):
                    smallest[key] = problem, small
                print(_shown(problem, sample.seed, small), flush=True)
                if options.out:
                    _keep(options.out, small, problem, options.caffe)
        if sys.stderr.isatty():
            print(f"\r{done} of {options.count} nets, {wrong} differ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(f"{options.count} nets from seed {options.seed} in {time.time() - start:.0f} s: {wrong} differ")
    for (name, kind), seeds in sorted(kinds.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):6}  {name:18} {kind or 'other numbers':64} seeds {' '.join(map(str, seeds[:6]))}")
    return int(bool(kinds))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--without", default="", metavar="NAME,...", help=f"features to leave out: {' '.join(sorted(FEATURES))}"
    )
    parser.add_argument(
        "--caffe", type=Path, metavar="FOLDER", help="compare with real Caffe: the folder that holds pycaffe"
    )
    parser.add_argument("--python", default="/usr/bin/python3", help="the Python that pycaffe is built for")
    parser.add_argument(
        "--shrink", type=int, default=5, metavar="N", help="nets with other numbers that are shrunk, of each check"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keeps the smallest nets here")
    return parser.parse_args(arguments)


def _samples(options: argparse.Namespace, features: frozenset[str]) -> Iterator[tuple[Sample, Blobs | str | None]]:
    """(sample, Caffe's answer) of each seed."""
    for first in range(options.seed, options.seed + options.count, BATCH):
        last = min(first + BATCH, options.seed + options.count)
        samples = [make(seed, features) for seed in range(first, last)]
        if not options.caffe:
            yield from ((sample, None) for sample in samples)
            continue
        with tempfile.TemporaryDirectory() as folder:
            yield from zip(samples, blobs_of(samples, options.caffe, Path(folder), options.python), strict=True)


def _ask(sample: Sample, pycaffe: Path | None) -> Blobs | str | None:
    """What real Caffe gives for one net, None where it is not asked."""
    if not pycaffe or not caffe_takes(sample):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return next(blobs_of([sample], pycaffe, Path(folder)))


def _smallest(sample: Sample, problem: Problem, caffe: Blobs | str | None, pycaffe: Path | None) -> Sample:
    """The smallest net with the same problem."""
    ask = pycaffe if problem.check in ("real Caffe", "forward") else None

    def fails(other: Sample) -> bool:
        return problem.also(other, _ask(other, ask))

    return shrink(sample, fails, caffe if isinstance(caffe, dict) else {}, 150 if ask else 300)


def _shown(problem: Problem, seed: int, small: Sample) -> str:
    return f"seed {seed}, {problem.check}: {problem.words[:400]}\n{small.text}"


def _keep(folder: Path, small: Sample, problem: Problem, pycaffe: Path | None) -> None:
    place = folder / f"{problem.check.replace(' ', '_')}_{small.seed}"
    small.write(place)
    (place / "why.txt").write_text(_shown(problem, small.seed, small))
    answer = _ask(small, pycaffe)
    if isinstance(answer, dict):
        np.savez(place / "blobs.npz", **answer)


if __name__ == "__main__":
    sys.exit(main())
