"""List files of labelled pictures as editors, spreadsheets and scripts leave them: a path and a label a line, or CSV."""

import csv
import io
import os
from collections.abc import Iterator, Sequence

from caffe2tf.errors import Caffe2TFError, ParseError
from caffe2tf.files import records

_TABLES = (".csv", ".tsv")
_DELIMITERS = (",", ";", "\t")
# How columns are called, the likelier names first.
_PATHS = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "picture",
    "name",
)
_LABELS = ("label", "class", "class_name", "category", "target", "species", "y", "class_id", "label_id", "id")
Line = tuple[
    int, list[tuple[str, str]]
]  # its number, and the (path, label) pairs that it can mean, the likeliest first


class LabelError(Caffe2TFError):
    """Labels that are missing, or that are no classes of the model."""


def lines(path: str | os.PathLike[str]) -> list[Line]:
    """What each line of the list file `path` can mean; blank ones are left out. A .csv or .tsv is a table with commas,
    semicolons or tabs between, with quotes or without, whose header, where it has one, says which columns are meant; any other
    file has a path, blanks or a tab, and a label on each line, or is a table if its first line has no blank but a comma. Line ends and a byte order mark are of any system.

    Raises LabelError for a file that cannot be read, a line without label, and a table that does not say its columns.
    """
    try:
        text = io.TextIOWrapper(io.BytesIO(records.whole(path)), encoding="utf-8-sig").read()
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise LabelError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if os.fspath(path).lower().endswith(_TABLES):
        return _table(os.fspath(path), text)
    found = list[Line]()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        ways = list(_cut(line.strip()))
        if not ways and not found and any(mark in line for mark in _DELIMITERS):
            return _table(os.fspath(path), text)
        if not ways:
            raise LabelError(f"{path}:{number}: '{line.strip()[:60]}'; takes a path and a label")
        found.append((number, ways))
    return found


def _cut(line: str) -> Iterator[tuple[str, str]]:
    """The (path, label) pairs that `line` can mean: cut at its last tab, then the shortest label first, for both may hold
    blanks."""
    places = [place for place, character in enumerate(line) if character in " \t"]
    for place in sorted(places, key=lambda place: (line[place] == "\t", place), reverse=True):
        name, label = line[:place].strip(), line[place:].strip()
        if name and label:
            yield name, label


def _table(path: str, text: str) -> list[Line]:
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows += ((reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row)))
    except csv.Error as error:
        raise LabelError(
            f"{path}:{reader.line_num}: is no table with '{delimiter}' between its columns: {error}"
        ) from None
    if not rows:
        return []
    columns = _columns(path, rows[0][1])
    if columns is not None:
        rows = rows[1:]
    name, label = columns or (0, 1)
    for number, row in rows:
        if len(row) <= max(name, label) or not (row[name] and row[label]):
            raise LabelError(
                f"{path}:{number}: '{delimiter.join(row)[:60]}'; takes a path and a label in their columns"
            )
    return [(number, [(row[name], row[label])]) for number, row in rows]


def _columns(path: str, head: Sequence[str]) -> tuple[int, int] | None:
    """(column of the path, of the label) of a table that begins with the row `head`, None for one of two columns without a
    header. Raises LabelError."""
    names = [cell.lower().replace(" ", "_") for cell in head]
    name = next((names.index(known) for known in _PATHS if known in names), None)
    label = next((names.index(known) for known in _LABELS if known in names), None)
    if name is not None and label is not None:
        return name, label
    if len(head) == 2 and name is None and label is None:
        return None
    if len(head) == 2:  # one of the two is known, so the row is a header
        return (name, 1 - name) if name is not None else (1 - (label or 0), label or 0)
    raise LabelError(
        f"{path}: its columns are {', '.join(head)[:200]}; takes one for the picture ({', '.join(_PATHS[:3])}) and one for its "
        f"class ({', '.join(_LABELS[:3])}), or two columns without a header"
    )
