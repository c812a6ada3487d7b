"""Files mapped into memory that may be cut meanwhile.

A map costs neither time nor memory until a value is used, which is why snapshots are read through one; but where another
process cuts the file, the system answers the next look at a lost page with SIGBUS, which ends the process without a word.
Copying the file first would cost its size in memory, and looking at its size before each use leaves a gap. So the signal
is answered: zeros take the place of the lost pages, the use goes on, and `check` then refuses what was made of it. A
SIGBUS that is none of ours goes to the handler that was there before.
"""

import contextlib
import ctypes
import itertools
import mmap
import os
import signal
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from caffe2tf.errors import Caffe2TFError, ParseError

_FIXED = 0x10  # MAP_FIXED, on Linux and macOS


@dataclass
class _Map:
    """One map, the `number`th: its file, kept open, what that was when it was mapped, and up to where its pages are still the file's."""

    number: int
    path: str
    handle: int
    size: int
    time: int
    address: int
    whole: int

    def changed(self) -> bool:
        now = os.fstat(self.handle)
        return self.whole < self.size or now.st_size != self.size or now.st_mtime_ns != self.time


_maps: dict[int, _Map] = {}  # by the id of the mmap
_numbers = itertools.count()
_gone: list[_Map] = []  # those whose file had changed when they were given up
_handler: list[object] = []  # ours, and the one before


def opened(path: str | os.PathLike[str], handle: int) -> mmap.mmap:
    """The open file `handle` of `path` as a map. Raises ValueError where it is empty, OSError where it cannot be mapped."""
    import numpy as np  # here, so that the command line starts without it

    made = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
    if os.name == "nt":  # a mapped file cannot be cut there
        return made
    state, kept = os.fstat(handle), os.dup(handle)
    address = np.frombuffer(made, np.uint8).ctypes.data
    _maps[id(made)] = _Map(next(_numbers), str(path), kept, len(made), state.st_mtime_ns, address, len(made))
    weakref.finalize(made, _close, id(made))
    if not _handler:
        _install()
    return made


def _close(key: int) -> None:
    entry = _maps.pop(key)
    if entry.changed():
        _gone.append(entry)
    os.close(entry.handle)


def check(maps: list[mmap.mmap]) -> None:
    """Raises ParseError where the file behind one of `maps` was cut or written to since it was mapped."""
    for made in maps:
        entry = _maps.get(id(made))
        if entry is not None and entry.changed():
            _fail(entry.path)


def _fail(path: str) -> None:
    raise ParseError(f"{path}: changed while it was read; run it again when the file is whole")


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """Raises ParseError at the end of the block where a file that was mapped in it changed meanwhile: so also for whatever
    error came of that."""
    first = next(_numbers)
    _gone.clear()
    try:
        yield
    except (Caffe2TFError, SystemExit):
        _check_all(first)
        raise
    _check_all(first)


def _check_all(first: int) -> None:
    changed = [*_gone, *(entry for entry in _maps.values() if entry.changed())]
    for entry in changed:
        if entry.number > first:
            _fail(entry.path)


def _install() -> None:
    library = ctypes.CDLL(None)
    library.signal.restype, library.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _FIXED

    def answer(number: int) -> None:
        filled = False
        for entry in list(_maps.values()):
            there = -(-os.fstat(entry.handle).st_size // mmap.PAGESIZE) * mmap.PAGESIZE
            if there < entry.whole:
                library.mmap(entry.address + there, entry.whole - there, mmap.PROT_READ, flags, -1, 0)
                entry.whole, filled = there, True
        if not filled:
            library.signal(signal.SIGBUS, before)

    ours = ctypes.CFUNCTYPE(None, ctypes.c_int)(answer)
    before = library.signal(signal.SIGBUS, ctypes.cast(ours, ctypes.c_void_p))
    _handler.extend((ours, before))
