"""Pictures that an earlier run left in a result, and the lock that keeps two runs from one result."""

import contextlib
import hashlib
from collections.abc import Iterable
from typing import IO

import numpy as np

from caffe2tf.errors import OutputError, escaped


class Names:
    """Names of pictures, by 128 bits of each: a million take 16 MB."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        digests = bytearray()
        for name in names:
            digests += _digest(name)
        halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
        order = np.argsort(halves[:, 0], kind="stable")
        self._first, self._second = halves[order, 0], halves[order, 1]

    def __len__(self) -> int:
        return len(self._first)

    def __contains__(self, name: str) -> bool:
        first, second = np.frombuffer(_digest(name), np.uint64)
        low, high = (np.searchsorted(self._first, first, side) for side in ("left", "right"))
        return bool((self._second[low:high] == second).any())


def _digest(name: str) -> bytes:
    return hashlib.blake2b(escaped(name).encode(), digest_size=16).digest()  # as results hold it


def lock(file: IO[bytes], path: str) -> None:
    """Keeps other runs from the file until it is closed, where the system can. Raises OutputError where one has it."""
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{path}: another run writes it; give each its own name") from None
        except OSError:  # a file system without locks
            pass
