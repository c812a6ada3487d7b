"""What comes of one file: read right, refused in a line, or an escape: a traceback, a hang, memory without end."""

import faulthandler
import os
import re
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from caffe2tf.errors import Caffe2TFError, NetError, ParseError, Unforeseen, UnsupportedLayer, WeightMismatch

SECONDS = 2.0  # of the processor's time, since others may use the machine too
_HANGS = 40  # seconds of any clock
MEMORY = 200 << 20  # bytes above the file's size
_ROOM = (
    1 << 30
)  # addresses above what is in use: a claim that is not used yet is none of memory, but one of this size is
_LISTS = ParseError, NetError, UnsupportedLayer, WeightMismatch  # one line for each layer
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
Files = Mapping[str, bytes]


class Overdue(BaseException):
    """The time is over; no Exception, so that no reader takes it for one of its own."""


@dataclass(frozen=True)
class Outcome:
    """`escape` says what went wrong and where, "" where nothing did; `trace` is the traceback of one."""

    right: bool
    escape: str = ""
    trace: str = ""
    seconds: float = 0.0
    memory: int = 0


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name))


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


@contextmanager
def _bounded(size: int) -> Iterator[None]:
    """Raises Overdue and MemoryError where the block takes too long or too much; the time is the process's own."""

    def late(number: int, frame: FrameType | None) -> None:
        raise Overdue

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + _ROOM + size, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    faulthandler.dump_traceback_later(_HANGS, exit=True)  # where no Python runs that could heed a signal
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def judge(read: Callable[[Path], None], files: Files, folder: Path) -> Outcome:
    """Writes `files` into `folder`, which holds nothing else afterwards, and says what came of `read(folder)`: it returns
    where the result is right, and raises AssertionError where it is not."""
    for name in os.listdir(folder):
        if name not in files:
            (folder / name).unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    size = sum(map(len, files.values()))
    _forget_peak()
    held, start, escape, trace, right = _status("VmRSS"), resource.getrusage(resource.RUSAGE_SELF), "", "", True
    try:
        with _bounded(size):
            read(folder)
    except Unforeseen as error:
        escape, trace = _where(error.__cause__ or error), traceback.format_exc()
    except Caffe2TFError as error:
        right, escape, trace = False, _unfit(error), traceback.format_exc()
    except Overdue as error:
        escape, trace = "takes more than 2 s: " + _where(error), traceback.format_exc()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        escape, trace = _where(error), traceback.format_exc()
    end = resource.getrusage(resource.RUSAGE_SELF)
    seconds = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
    memory = max(0, _status("VmHWM") - held - size)
    if not escape and seconds > SECONDS:
        escape = "takes more than 2 s"
    if not escape and memory > MEMORY:
        escape = "takes more than 200 MB"
    return Outcome(right and not escape, escape, trace, seconds, memory)


def _unfit(error: Caffe2TFError) -> str:
    """What is wrong with the words of a refusal."""
    text = str(error)
    if not text or (not isinstance(error, _LISTS) and "\n" in text):
        return f"says no single line: {_where(error)}"
    if _CONTROL.search(text):
        return f"says control characters: {_where(error)}"
    if any(len(line) > 2000 for line in text.split("\n")):
        return f"says a line without end: {_where(error)}"
    return ""


def _where(error: BaseException) -> str:
    """Type of the error, and the last place of ours that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/caffe2tf/" in frame.filename]
    place = (ours or frames)[-1] if frames else None
    at = f" in {os.path.basename(place.filename)}:{place.lineno}" if place else ""
    return f"{type(error).__name__}{at}"


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder in memory where the system has one."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as folder:
        yield Path(folder)
