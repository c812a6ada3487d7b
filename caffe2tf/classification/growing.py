"""Results that grow while pictures are seen: `.csv`, `.jsonl`, and `.parquet` as a folder of parts; and what an earlier run left.

Unlike all other results these stand under their name while they grow: what is written stays when a run is killed.
"""

import contextlib
import csv
import json
import os
from collections.abc import Iterator
from typing import IO, Protocol

from caffe2tf.classification import parts
from caffe2tf.classification.names import Names, lock
from caffe2tf.classification.results import columns, csv_row, entry, rows
from caffe2tf.classification.seen import Seen
from caffe2tf.errors import OutputError, ParseError, escaped
from caffe2tf.files import records
from caffe2tf.files import replacing as files
from caffe2tf.files.renames import reason

SUFFIXES = (".csv", ".jsonl", ".parquet")
_LONGEST = 1 << 20  # bytes of a line


class Growing(Protocol):
    """A result that grows: `add` takes a picture that was read, with `count` classes or boxes at most; `names` are those that an
    earlier run left."""

    names: Names

    def add(self, seen: Seen, count: int | None) -> None: ...
    def close(self) -> None: ...


def check(path: str, resume: bool, force: bool) -> None:
    """Raises OutputError where `path` cannot be written, and with `force` or `resume` where it is not what this module writes;
    Caffe2TFError where pyarrow is missing."""
    folder = path.lower().endswith(".parquet")
    if folder:
        parts.arrow()
    if not resume and not force and os.path.lexists(path):
        raise OutputError(f"{path}: exists already; `force` replaces it, `resume` goes on with it")
    files.check(path, True, parts.KIND if folder else files.FILE)


@contextlib.contextmanager
def growing(path: str, detects: bool, known: bool, resume: bool, force: bool) -> Iterator[Growing]:
    """What takes the pictures of a result at `path`; `detects` and `known` as results.columns has them. With `resume` it goes on
    with what is there: a last line that was cut goes, with the rows of its picture.

    Raises OutputError where the file cannot be written or another run writes it, and ParseError where what is there is not of
    these columns.
    """
    check(path, resume, force)
    names = columns(detects, known)
    kind = parts.Parquet if path.lower().endswith(".parquet") else _Csv if path.lower().endswith(".csv") else _Jsonl
    try:
        made = kind(path, names, resume)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from None
    try:
        yield made
    finally:
        try:
            made.close()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {reason(error)}") from None


class _Lines:
    """A file of lines, which goes out picture by picture."""

    header = ""

    def __init__(self, path: str, names: tuple[str, ...], resume: bool) -> None:
        self.path, self.columns, self.names = path, names, Names()
        self._file: IO[bytes] = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            lock(self._file, path)
            if not resume:
                self._file.truncate(0)
            self.names = Names(self._left())
            if not self._file.tell():
                self._write(self.header)
        except BaseException:
            self._file.close()
            raise

    def _left(self) -> Iterator[str]:
        """The pictures of whole lines, the file then cut behind the last of them."""
        raise NotImplementedError

    def _whole_lines(self) -> Iterator[tuple[int, bytes]]:
        """(where it starts, the line) of every line with an end."""
        start = 0
        while line := self._file.readline(_LONGEST):
            if not line.endswith(b"\n"):
                if len(line) == _LONGEST:
                    raise ParseError(f"{self.path}: holds a line of more than {_LONGEST} bytes; name another file")
                return
            yield start, line
            start += len(line)

    def _cut(self, place: int) -> None:
        self._file.seek(place)
        self._file.truncate()

    def _write(self, text: str) -> None:
        try:
            self._file.write(text.encode("utf-8", "backslashreplace"))
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {reason(error)}") from None

    def close(self) -> None:
        self._file.close()


class _Jsonl(_Lines):
    """A picture a line."""

    def _left(self) -> Iterator[str]:
        end, key = 0, "boxes" if "score" in self.columns else "top"
        for number, (start, line) in enumerate(self._whole_lines(), 1):
            try:
                found = records.parsed(line, {"file": str, key: list})
            except ParseError as error:
                raise ParseError(
                    f"{self.path}:{number}: is no line of this run's: {error}; name another file"
                ) from None
            yield found["file"]
            end = start + len(line)
        self._cut(end)

    def add(self, seen: Seen, count: int | None) -> None:
        self._write(json.dumps(entry(seen, count) | {"file": escaped(seen.file)}) + "\n")


class _Csv(_Lines):
    """A row for each class or box of a picture."""

    def __init__(self, path: str, names: tuple[str, ...], resume: bool) -> None:
        self.header, self._held = csv_row(names), ("", "")
        super().__init__(path, names, resume)

    def _left(self) -> Iterator[str]:
        """Nothing tells whether the rows of the last picture are all of them, so it is seen again; where this run does not come to
        it, they stay at the end. That of a picture without any is whole."""
        lines = self._whole_lines()
        first = next(lines, (0, b""))[1]
        if first and first.decode("utf-8", "replace") != self.header:
            given = ",".join(self.columns)
            raise ParseError(f"{self.path}: has other columns than this run, which gives {given}; name another file")
        last, begin = None, len(first)
        for number, (start, line) in enumerate(lines, 2):
            cells = next(csv.reader([line.decode("utf-8", "replace").rstrip("\n")]), [])
            if len(cells) != len(self.columns) or not cells[1].isdecimal():
                raise ParseError(f"{self.path}:{number}: is no row of {len(self.columns)} cells; name another file")
            if int(cells[1]) < 2:  # of a picture that follows
                if last is not None:
                    yield last
                last, begin = cells[0], start
            if cells[1] == "0":
                yield cells[0]
                last, begin = None, start + len(line)
        if last is not None:
            self._file.seek(begin)
            self._held = last, self._file.read().rpartition(b"\n")[0].decode("utf-8", "replace")
        self._cut(begin)

    def add(self, seen: Seen, count: int | None) -> None:
        if escaped(seen.file) == self._held[0]:
            self._held = "", ""
        self._write("".join(map(csv_row, rows(seen, count))))

    def close(self) -> None:
        if self._held[1]:
            self._write(f"{self._held[1]}\n")
        super().close()
