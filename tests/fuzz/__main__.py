"""`python -m tests.fuzz --count N`: N mutants of every kind, and what came of them."""

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.kinds import KINDS
from tests.fuzz.soaking import Tally, soak

_HEAVY = 100  # of how many mutants one is tried where that takes long


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--count", type=int, default=1000, help="mutants of each kind; a hundredth of those that load TensorFlow"
    )
    parser.add_argument(
        "--kind", action="append", choices=sorted(KINDS), help="only this kind, heavy or not; repeatable"
    )
    parser.add_argument("--seed", type=int, default=0, help="start of all chance: the same seed tries the same")
    parser.add_argument(
        "--out", type=Path, default=Path("escapes"), help="folder for what escapes, as small as it gets"
    )
    given = parser.parse_args()
    plan = [
        (name, given.count if given.kind or not kind.heavy else -(-given.count // _HEAVY))
        for name, kind in KINDS.items()
        if not given.kind or name in given.kind
    ]
    start = time.monotonic()

    def say(tally: Tally) -> None:
        line = f"{tally.kind}: {tally.tried:,} tried, {sum(tally.escapes.values())} escapes, {time.monotonic() - start:.0f} s"
        print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)

    tallies = soak(plan, given.seed, given.out, say if sys.stderr.isatty() else lambda tally: None)
    print(f"{'kind':<12}{'tried':>10}{'right':>10}{'refused':>10}{'escapes':>9}{'slowest':>10}{'memory':>10}")
    for tally in tallies:
        escapes = sum(tally.escapes.values())
        print(
            f"{tally.kind:<12}{tally.tried:>10,}{tally.right:>10,}{tally.refused:>10,}{escapes:>9}"
            f"{tally.slowest:>8.2f} s{tally.memory / 2**20:>7.0f} MB"
        )
    for tally in tallies:
        for what, count in tally.escapes.most_common():
            print(f"{tally.kind}: {count} x {what}")
    return 1 if any(tally.escapes for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
