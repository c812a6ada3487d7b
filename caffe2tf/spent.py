"""What a run's time goes to: seconds that pass, and those of the processor, in each of its phases.

Python (until caffe2tf begins), imports (of caffe2tf and the light libraries), TensorFlow (or whichever backend, with Keras), load,
build, trace (the first run of what is compiled, with its compiling), run. `begin` starts the count; without it `on` costs nothing. A
phase within a phase counts for itself alone; what belongs to none is "rest". Threads beside the one that began are not counted apart:
their work is in the processor's seconds of the phase that waits for them.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

_Instant = tuple[float, float]  # seconds of the clock, seconds of the processor


def _now() -> _Instant:
    return time.perf_counter(), time.process_time()


def _age() -> float:
    """Seconds since this process began, by Linux's own note of it; elsewhere those of the processor."""
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return time.process_time()


class _Count:
    """The phases so far, {name: (seconds, seconds of the processor)} in the order in which they came up."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.phases: dict[str, _Instant] = {}
        self.open, self.last = ["rest"], _now()

    def settle(self) -> None:
        """Gives what passed since the last change to the innermost phase that is open."""
        now, name = _now(), self.open[-1]
        before = self.phases.get(name, (0.0, 0.0))
        self.phases[name] = (before[0] + now[0] - self.last[0], before[1] + now[1] - self.last[1])
        self.last = now


_IMPORTED = _now()
_count: _Count | None = None


def begin() -> None:
    """Starts counting, from the process's own beginning on: what came before this module is Python, what came since imports."""
    global _count
    _count = _Count()
    since = _count.last[0] - _IMPORTED[0], _count.last[1] - _IMPORTED[1]
    _count.phases["Python"] = max(_age() - since[0], _IMPORTED[1]), _IMPORTED[1]
    _count.phases["imports"] = since


def end() -> None:
    """Stops counting."""
    global _count
    _count = None


def rows() -> list[tuple[str, float, float]]:
    """(phase, seconds, seconds of the processor) so far, the rest and the total last; nothing where nobody counts."""
    if _count is None:
        return []
    _count.settle()
    found = [(name, *both) for name, both in _count.phases.items() if name != "rest"]
    found.append(("rest", *_count.phases.get("rest", (0.0, 0.0))))
    return [*found, ("total", sum(row[1] for row in found), sum(row[2] for row in found))]


@contextlib.contextmanager
def on(phase: str) -> Iterator[None]:
    """The block is of `phase`, where somebody counts."""
    count = _count
    if count is None or threading.get_ident() != count.thread:
        yield
        return
    count.settle()
    count.open.append(phase)
    try:
        yield
    finally:
        count.settle()
        count.open.pop()
