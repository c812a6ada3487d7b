"""Ctrl-C and SIGTERM end a run alike: as an exception that every `finally` sees, so that nothing half-written stays."""

import contextlib
import signal
import threading
from collections.abc import Iterator

STOPPED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM  # exit codes, as shells state them


class Terminated(KeyboardInterrupt):
    """The process was told to end by SIGTERM."""


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """SIGTERM raises Terminated in the block; a second one ends the process as ever. Where another handler is in place, or
    outside the main thread, nothing changes."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_code(error: BaseException) -> int:
    """130 after Ctrl-C, 143 after SIGTERM: of a KeyboardInterrupt, or of an error that notes the `number` of the signal."""
    told = isinstance(error, Terminated) or getattr(error, "number", None) == signal.SIGTERM
    return TERMINATED if told else STOPPED
