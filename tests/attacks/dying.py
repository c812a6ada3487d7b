"""Processes that die at a step of what they write, or at a moment, or that the disk fails."""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from caffe2tf.errors import Caffe2TFError
from caffe2tf.files import renames

_STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}
_CALLS = ("fsync", "write", "pwrite")
ENDED, REFUSED, FAILED = 0, 1, 2


def child(work: Callable[[], object], log: str = os.devnull) -> int:
    """Starts `work` in a process of its own, a fork of this one, which starts at once; returns its number. It ends with
    ENDED, REFUSED after a Caffe2TFError, FAILED after another error; what it says goes to `log`."""
    number = os.fork()
    if number:
        return number
    code = FAILED
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        work()
        code = ENDED
    except Caffe2TFError as error:
        code = REFUSED
        os.write(2, f"caffe2tf: {error}\n".encode())
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def heard(work: Callable[[], object]) -> tuple[int, str]:
    """How `work` ends in a process of its own, and what it says, through a pipe: that no limit on files stops."""
    reader, writer = os.pipe()
    number = child(work, f"/dev/fd/{writer}")
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    return ended(number), said


def ended(number: int) -> int:
    """How the process ended: its exit code, or the signal as a negative number."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def dying_at(step: int, work: Callable[[], object]) -> None:
    """Runs `work`, and before its step number `step` this process is gone: every file that Python opens, every write, flush,
    rename, link, unlink, folder made or taken away is a step, those of C++ libraries aside (see `starved`)."""
    left = step

    def count() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in _STEPS and not (event == "open" and not _writes(args)):
            count()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            count()
            return function(*args, **options)

        return call

    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))
    known = renames._system_call()
    renames._system_call = lambda: counted(known) if known else None
    sys.addaudithook(hook)
    work()


def _writes(args: tuple[Any, ...]) -> bool:
    """Whether what the event `open` tells is an opening to write."""
    _, mode, flags = args
    return any(letter in mode for letter in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))


def starved(size: int, work: Callable[[], object], deadly: bool) -> None:
    """Runs `work` where no file may grow beyond `size` bytes: the write that would is an error, as on a full disk, or with
    `deadly` the end of the process, whatever library makes it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    work()


def killed_after(seconds: float, work: Callable[[], object], log: str = os.devnull) -> int:
    """Starts `work` and kills it with SIGKILL after `seconds`; how it ended."""
    number = child(work, log)
    time.sleep(seconds)
    os.kill(number, signal.SIGKILL)  # not waited for yet, so the number is still its own
    return ended(number)
