"""What was seen as a folder of `.parquet` parts, each whole: what pandas, Arrow, Spark and Polars read as one table."""

import fnmatch
import json
import os
from collections.abc import Iterator
from typing import Any

from caffe2tf.classification.names import Names, lock
from caffe2tf.classification.results import Cell, rows
from caffe2tf.classification.seen import Seen
from caffe2tf.errors import Caffe2TFError, ParseError, escaped
from caffe2tf.files import replacing as files
from caffe2tf.files.renames import reason

_PART = 1 << 14  # rows of a part, which are in memory until it is written
_MARKER = "_caffe2tf.json"
KIND = files.Kind(marker=_MARKER, files=("part-*.parquet", ".part-*"))
_INSTALL = "install pyarrow: pip install 'caffe2tf[parquet]'"


class Parquet:
    """A folder of parts, each whole: what pandas, Arrow, Spark and Polars read as one table."""

    def __init__(self, path: str, names: tuple[str, ...], resume: bool) -> None:
        self.path, self.columns, self._rows = path, names, list[tuple[Cell, ...]]()
        self._arrow, self._parquet = arrow()
        pa = self._arrow
        kinds = {
            "file": pa.string(),
            "name": pa.string(),
            "truth": pa.string(),
            "rank": pa.int32(),
            "class": pa.int32(),
        }
        self._schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in names])
        os.makedirs(path, exist_ok=True)
        if not files.wrote(path, KIND):
            files.write_text(os.path.join(path, _MARKER), json.dumps({"columns": names}), True)
        self._lock = open(os.path.join(path, _MARKER), "r+b")  # noqa: SIM115
        try:
            lock(self._lock, path)
            if not resume:
                for part in self._parts():
                    os.remove(os.path.join(path, part))
            self.names = Names(self._left())
        except BaseException:
            self._lock.close()
            raise
        self._next = 1 + max((int(part[5:-8]) for part in self._parts()), default=-1)

    def _parts(self) -> list[str]:
        return sorted(
            name for name in os.listdir(self.path) if fnmatch.fnmatchcase(name, "part-" + "[0-9]" * 5 + ".parquet")
        )

    def _left(self) -> Iterator[str]:
        for part in self._parts():
            where = os.path.join(self.path, part)
            try:
                with self._parquet.ParquetFile(where) as file:
                    if not file.schema_arrow.equals(self._schema):
                        raise ParseError(f"{where}: has other columns than this run; name another folder")
                    for batch in file.iter_batches(columns=["file", "rank"]):
                        pairs = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                        yield from (name for name, rank in pairs if rank < 2)
            except ParseError:
                raise
            except Exception as error:  # whatever pyarrow meets first in a damaged file
                raise ParseError(f"{where}: is not a .parquet that can be read: {reason(error)}") from None

    def add(self, seen: Seen, count: int | None) -> None:
        self._rows += rows(seen, count)
        if len(self._rows) >= _PART:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        text = {name for name in self.columns if name in ("file", "name", "truth")}
        cells = {
            name: [escaped(str(cell)) if name in text and cell is not None else cell for cell in column]
            for name, column in zip(self.columns, zip(*self._rows, strict=True), strict=True)
        }
        with files.replacing(os.path.join(self.path, f"part-{self._next:05}.parquet"), False) as temporary:
            self._parquet.write_table(self._arrow.table(cells, schema=self._schema), temporary)
        self._rows, self._next = [], self._next + 1

    def close(self) -> None:
        try:
            self._flush()
        finally:
            self._lock.close()


def arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Caffe2TFError(f"a .parquet needs pyarrow, which is not installed; {_INSTALL}") from None
    return pyarrow, pyarrow.parquet
