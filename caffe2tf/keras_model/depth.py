"""Keras follows its graph by functions that call themselves once for each layer of a chain; Python stops at 1,000 calls."""

import contextlib
import sys
import threading
from collections.abc import Iterator

_CALLS = 20  # for one Caffe layer: its Keras operations, several calls for each
_lock = threading.Lock()
_within: list[int] = []  # the limits that threads need at this moment
_outside = sys.getrecursionlimit()


@contextlib.contextmanager
def deep(layers: int) -> Iterator[None]:
    """Python's limit of calls within calls raised for a chain of so many Caffe `layers`.

    It is the limit of all threads: it goes back when the last of them has left, and not for good, since a limit beyond what the
    C stack holds turns a hostile file's RecursionError into the end of the process.
    """
    global _outside
    needed = 1000 + _CALLS * layers
    with _lock:
        if not _within:
            _outside = sys.getrecursionlimit()
        _within.append(needed)
        sys.setrecursionlimit(max(_outside, *_within))
    try:
        yield
    finally:
        with _lock:
            _within.remove(needed)
            sys.setrecursionlimit(max([_outside, *_within]))
