"""Where the rows of a training set come from: files that are decoded when they are asked for, memory, shards on the disk."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caffe2tf.errors import ParseError
from caffe2tf.files.shards import Shards
from caffe2tf.finetuning.data import DataError, Record, Source
from caffe2tf.images.preprocess import Preprocessing

Places = NDArray[np.integer[Any]]
READERS = min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class Rows(Protocol):
    """Something of `shape` (N, ...) whose rows are had by their numbers, an integer array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, places: Any, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Picked:
    """Rows of others, by number."""

    whole: Rows
    rows: Places

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), *self.whole.shape[1:]

    def __getitem__(self, places: Any) -> NDArray[Any]:
        return self.whole[self.rows[places]]


@dataclass(frozen=True)
class Column:
    """An array of Shards."""

    shards: Shards
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shards.rows, *self.shards.arrays[self.name][1]

    def __getitem__(self, places: Any) -> NDArray[Any]:
        found = self.shards.values(self.name, np.atleast_1d(places))
        return found if np.ndim(places) else found[0]


@dataclass(frozen=True)
class Held:
    """A tensor."""

    tensor: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def __getitem__(self, places: Any) -> NDArray[Any]:
        import tensorflow as tf

        found: NDArray[Any] = tf.gather(self.tensor, places).numpy()
        return found


class Decoded:
    """Pictures as uint8 (N, H, W, C), resized as `how` says, decoded by several threads whenever their rows are asked for; only
    what is asked for is in memory.

    One that cannot be read is zeros, noted in `bad`, and `say` gets a line on it once; with `strict` it is a DataError.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        how: Preprocessing,
        strict: bool = False,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        if how.resize is None:
            raise DataError("the network takes any size, so `resize` must say which")
        self.sources, self.how, self.strict, self.say = sources, how, strict, say
        self.shape = len(sources), *how.resize, how.channels
        self.bad = np.zeros(len(sources), bool)
        self._pool = ThreadPoolExecutor(READERS)

    def __getitem__(self, places: Any) -> NDArray[np.uint8]:
        if np.ndim(places) == 0:
            return self._one(int(places))
        found = np.empty((len(places), *self.shape[1:]), np.uint8)
        for index, image in enumerate(self._pool.map(self._one, np.asarray(places).tolist())):
            found[index] = image
        return found

    def _one(self, place: int) -> NDArray[np.uint8]:
        source = self.sources[place]
        try:
            return self.how.pixels(source.opened() if isinstance(source, Record) else source)
        except (ParseError, OSError) as error:
            if self.strict:
                raise DataError(str(error)) from None
            if not self.bad[place]:
                self.bad[place] = True
                self.say(f"skipped: {error}")
            return np.zeros(self.shape[1:], np.uint8)


def owners(rows: int, each: int, workers: int) -> NDArray[np.intp]:
    """Which of the workers reads each of `rows` rows, of which `each` stay together."""
    return np.arange(rows) // each % workers


def digest(sources: Sequence[Source]) -> str:
    """By which a list of pictures is known: the paths, sizes and times of change of their files, and where in them they lie."""
    found = hashlib.sha256()
    for source in sources:
        path = os.path.abspath(source.path if isinstance(source, Record) else source)
        try:
            state = os.stat(path)
            noted = f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0"
        except OSError:  # reading it says why
            noted = f"{path}\0"
        if isinstance(source, Record):
            noted += f"{source.start}\0{source.size}\0"
        found.update(noted.encode("utf-8", "surrogateescape"))
    return found.hexdigest()
