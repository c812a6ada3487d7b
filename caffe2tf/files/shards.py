"""Rows of arrays on the disk, in shards: each written once and whole, in any order and by several processes, read back by row.

A folder holds `index.json`, which says of what the rows are and how they are cut, and `rows-00003-of-00064.safetensors`, each
with its rows of every array (N, ...) and, as `valid` (N) of 0 or 1, which of them have values. The library safetensors
reads them. What is in a shard's first bytes follows from the index, so that one that is cut, or another's, is known by it.

Rows are read at their place in the file, not mapped: pages of a map count as the process's memory, and those of a file that
is cut meanwhile would end it.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.errors import OutputError, ParseError
from caffe2tf.files import records, renames, replacing

INDEX = "index.json"
VALID = "valid"
KINDS = {"F32": "<f4", "U8": "|u1"}
_FORM = {
    "written_by": str, "digest": str, "about": dict, "rows": int, "rows_per_shard": int,
    "arrays": {str: {"dtype": str, "shape": [int]}},
}  # fmt: skip
SHARD_BYTES, _LEAST_SHARDS = 16 << 20, 64
_WRITER = "caffe2tf features"


def per_shard(rows: int, row_bytes: int) -> int:
    """How many rows a shard takes: 16 MiB, and of few rows so few that 64 processes find work."""
    return max(1, min(SHARD_BYTES // max(1, row_bytes), -(-rows // _LEAST_SHARDS)))


@dataclass(frozen=True)
class Shards:
    """`rows` rows of `arrays`, {name: (dtype "F32" or "U8", shape of a row)}, in `folder`, `each` in a shard. `digest` tells
    them from others, `about` says what they are."""

    folder: str
    digest: str
    about: Mapping[str, Any]
    rows: int
    each: int
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]

    @classmethod
    def read(cls, folder: str) -> "Shards":
        """Those that the index in `folder` describes. Raises ParseError."""
        path = os.path.join(folder, INDEX)
        try:
            found = records.parsed(records.whole(path), _FORM)
        except (OSError, ParseError) as error:
            raise ParseError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        arrays = {name: (item["dtype"], tuple(item["shape"])) for name, item in found["arrays"].items()}
        sound = all(kind in KINDS and all(0 < n < 1 << 31 for n in shape) for kind, shape in arrays.values())
        if found["written_by"] != _WRITER or not sound or found["rows"] < 0 or found["rows_per_shard"] < 1:
            raise ParseError(f"{path}: is not what `{_WRITER}` writes")
        return cls(folder, found["digest"], found["about"], found["rows"], found["rows_per_shard"], arrays)

    def begin(self) -> None:
        """Makes the folder and its index, unless it is there. Raises OutputError, also where the folder holds other rows."""
        path = os.path.join(self.folder, INDEX)
        if os.path.exists(path):
            other = Shards.read(self.folder)
            if (other.digest, other.rows, other.each, other.arrays) != (self.digest, self.rows, self.each, self.arrays):
                raise OutputError(
                    f"{self.folder}: holds rows of digest {other.digest[:12]} ({told(other.about)}), not of {self.digest[:12]} "
                    f"({told(self.about)}); name another folder, or remove it"
                )
            return
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be made: {renames.reason(error)}") from None
        arrays = {name: {"dtype": kind, "shape": shape} for name, (kind, shape) in self.arrays.items()}
        text = {"written_by": _WRITER, "digest": self.digest, "about": dict(self.about), "rows": self.rows}
        text |= {"rows_per_shard": self.each, "arrays": arrays}
        replacing.write_text(path, json.dumps(text, indent=1) + "\n", force=True)

    @property
    def count(self) -> int:
        """How many shards there are."""
        return -(-self.rows // self.each)

    @property
    def row_bytes(self) -> int:
        return 1 + sum(_size(item) for item in self.arrays.values())

    def path(self, shard: int) -> str:
        return os.path.join(self.folder, f"rows-{shard:05}-of-{self.count:05}.safetensors")

    def span(self, shard: int) -> range:
        """The rows of `shard`."""
        return range(shard * self.each, min(self.rows, (shard + 1) * self.each))

    def _layout(self, shard: int) -> tuple[bytes, dict[str, int]]:
        """(the first bytes of the file, {array: where its values begin}) of a shard."""
        count, end = len(self.span(shard)), 0
        header: dict[str, Any] = {"__metadata__": {"caffe2tf": self.digest, "shard": str(shard)}}
        starts = {}
        for name, item in (*self.arrays.items(), (VALID, ("U8", ()))):
            starts[name], size = end, count * _size(item)
            header[name] = {"dtype": item[0], "shape": [count, *item[1]], "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        first = len(text).to_bytes(8, "little") + text
        return first, {name: len(first) + start for name, start in starts.items()} | {"": len(first) + end}

    def whole(self, shard: int) -> bool:
        """Whether `shard` is there. Raises ParseError where it is cut or another's."""
        path, (first, starts) = self.path(shard), self._layout(shard)
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != starts[""]:
                    raise ParseError(f"{path}: has {size} bytes of {starts['']}; remove it, and it is made anew")
                if file.read(len(first)) != first:
                    raise ParseError(f"{path}: is not a shard of {self.digest[:12]}; remove it, and it is made anew")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ParseError(f"{path}: cannot be read: {renames.reason(error)}") from None
        return True

    def write(self, shard: int, arrays: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_]) -> None:
        """Writes the rows of `shard`, in place of what has its name. Raises OutputError."""
        first, _ = self._layout(shard)
        with replacing.replacing(self.path(shard), force=True) as path, open(path, "wb") as file:
            file.write(first)
            for name, (kind, _) in self.arrays.items():
                file.write(np.ascontiguousarray(arrays[name], KINDS[kind]).data)
            file.write(valid.astype(np.uint8).data)

    def values(self, name: str, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """The rows of the array `name`, or of `valid`. Raises ParseError for a shard that is missing or cut."""
        kind, shape = self.arrays.get(name, ("U8", ()))
        found = np.empty((len(rows), *shape), KINDS[kind])
        size, target = _size((kind, shape)), memoryview(found.reshape(-1).view(np.uint8).data)
        shards = rows // self.each
        for shard in np.unique(shards):
            path, places = self.path(int(shard)), np.flatnonzero(shards == shard)
            start = self._layout(int(shard))[1][name] - int(shard) * self.each * size
            try:
                handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except OSError as error:
                raise ParseError(f"{path}: cannot be read: {renames.reason(error)}; run it again to make it") from None
            try:
                # Runs of rows that follow one another are read at once.
                for run in np.split(places, np.flatnonzero((np.diff(rows[places]) != 1) | (np.diff(places) != 1)) + 1):
                    part = target[int(run[0]) * size : (int(run[-1]) + 1) * size]
                    _fill(handle, part, start + int(rows[run[0]]) * size, path)
            finally:
                os.close(handle)
        return found


def told(about: Mapping[str, Any]) -> str:
    """What rows are of, in words."""
    return ", ".join(f"{key} {value}" for key, value in about.items() if isinstance(value, str | int))


def _size(item: tuple[str, Sequence[int]]) -> int:
    return math.prod(item[1]) * np.dtype(KINDS[item[0]]).itemsize


def _fill(handle: int, target: memoryview, start: int, path: str) -> None:
    done = 0
    while done < len(target):
        if hasattr(os, "preadv"):
            count = os.preadv(handle, [target[done:]], start + done)
        else:
            os.lseek(handle, start + done, os.SEEK_SET)
            data = os.read(handle, len(target) - done)
            count = len(data)
            target[done : done + count] = data
        if not count:
            raise ParseError(f"{path}: ends at byte {start + done}; remove it, and it is made anew")
        done += count
