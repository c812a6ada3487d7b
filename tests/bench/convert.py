"""Converting AlexNet (244 MB), whole processes: time against `cp` and OpenCV's loading, peak memory, and what else they took of the
system, which tells why two machines differ: page faults, waits, blocks written, the processor's time.

Run as `python -m tests.bench.convert [REPEATS]`; it needs `pip install '.[test]'` and 1 GB of disk. The commands run in turn, so that
a drift of the machine's speed meets all of them; figures are the best of their runs, and ratios of these. `cp` leaves its copy to the
system's memory; what caffe2tf writes is on the disk before it takes its name, so `cp` with `sync` stands beside it.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caffe2tf import bundled
from tests.bench import tables
from tests.bench.startup import environment

PYTHON = sys.executable
CV2 = "import cv2, sys; cv2.dnn.readNetFromCaffe(*sys.argv[1:])"
PEER = "cv2.dnn.readNetFromCaffe"
FLOOR = ("cp", "python -c 'import numpy'")


@dataclass(frozen=True)
class Cost:
    """Of one process: seconds, MiB at most, the processor's seconds in it and in the system for it, page faults, times that it
    waited and that it was made to, and blocks of 512 bytes that it wrote."""

    seconds: float
    peak: float
    user: float
    system: float
    faults: int
    waits: int
    switched: int
    blocks: int


def cost(command: Sequence[str], env: Mapping[str, str] | None = None) -> Cost:
    start = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command}: exit status {status}")
    took = time.perf_counter() - start
    faults = used.ru_minflt + used.ru_majflt
    counts = (faults, used.ru_nvcsw, used.ru_nivcsw, used.ru_oublock)
    return Cost(took, used.ru_maxrss / 1024, used.ru_utime, used.ru_stime, *counts)


def measure(command: Sequence[str]) -> tuple[float, float]:
    """(seconds, peak MiB) of a process."""
    found = cost(command)
    return found.seconds, found.peak


def measured(repeats: int = 7) -> dict[str, Cost]:
    """{command: the Cost of its fastest run}."""
    with tempfile.TemporaryDirectory() as folder:
        env, model = environment(folder), os.path.join(folder, "bvlc_alexnet.caffemodel")
        # In a process of its own: a child's peak memory counts from that of the process that starts it.
        subprocess.run([PYTHON, "-m", "caffe2tf", "sample", "-q", model], env=env, check=True)
        copy = os.path.join(folder, "copy")

        def convert(out: str) -> list[str]:
            return [PYTHON, "-m", "caffe2tf", "convert", model, "-f", "-q", "-o", os.path.join(folder, out)]

        commands = {
            "cp": ["cp", model, copy],
            "cp, sync": ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", model, copy],
            "python -c pass": [PYTHON, "-c", "pass"],
            "python -c 'import numpy'": [PYTHON, "-c", "import numpy"],
            "convert to .npy": convert("x.npy"),
            "convert to .h5": convert("x.h5"),
        }
        found = {name: list[Cost]() for name in (*commands, PEER)}
        for turn in range(repeats + 1):
            for name, command in commands.items():
                run = cost(command, env)
                if turn:  # the first warms the caches
                    found[name].append(run)
        # OpenCV's loading comes after the others: the 400 MB that it frees are cleared at the next command's expense.
        found[PEER] = [cost([PYTHON, "-c", CV2, bundled.alexnet_text(), model]) for _ in range(repeats)]
        found["convert to .ckpt"] = [cost(convert("x.ckpt"), env)]
    return {name: min(runs, key=lambda run: run.seconds) for name, runs in found.items()}


def ratios(found: Mapping[str, Cost]) -> list[tuple[str, str, str, str]]:
    """Rows of the README: what, time, peak memory, ratios."""
    floor = sum(found[name].seconds for name in FLOOR)
    flushed = floor - found["cp"].seconds + found["cp, sync"].seconds
    rows = []
    for suffix in (".npy", ".h5"):
        one = found[f"convert to {suffix}"]
        beside = (
            f"{one.seconds / floor:.2f} of `cp` and Python's start with NumPy ({one.seconds / flushed:.2f} with `sync`)"
        )
        peer = f"{one.seconds / found[PEER].seconds:.2f} of OpenCV's loading"
        rows.append((f"AlexNet to `{suffix}`", f"{one.seconds:.2f} s", f"{one.peak:.0f} MiB", f"{beside}, {peer}"))
    one = found["convert to .ckpt"]
    rows.append(("AlexNet to `.ckpt`", f"{one.seconds:.1f} s", f"{one.peak:.0f} MiB", "TensorFlow's import included"))
    return rows


def main(repeats: int = 7) -> None:
    found = measured(repeats)
    columns = (
        "best run",
        "seconds",
        "peak MiB",
        "user",
        "system",
        "page faults",
        "waits",
        "switched",
        "blocks written",
    )
    rows = [
        (
            name,
            f"{c.seconds:.3f}",
            f"{c.peak:.0f}",
            f"{c.user:.3f}",
            f"{c.system:.3f}",
            c.faults,
            c.waits,
            c.switched,
            c.blocks,
        )
        for name, c in found.items()
    ]
    print(tables.markdown(columns, rows))
    print("\n" + tables.markdown(("convert", "time", "peak memory", "ratio"), ratios(found)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
