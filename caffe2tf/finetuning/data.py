"""People's pictures as they lie: list files, folders per class, names that carry the class, TFRecords."""

import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from caffe2tf.classification import labels as labelling
from caffe2tf.errors import Caffe2TFError, guarded
from caffe2tf.images import decode as imaging


class DataError(Caffe2TFError):
    """Training data that cannot be used: labels, classes, splits, files that are not there."""


@dataclass(frozen=True, order=True)
class Record:
    """An encoded picture inside of a file, `size` bytes from `start` on; they are read when they are asked for."""

    path: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.path} (record at byte {self.start:,})"

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """Its bytes, or `size` of them from `offset` on. Raises OSError."""
        with open(self.path, "rb") as file:
            file.seek(self.start + offset)
            return file.read(self.size if size is None else min(size, self.size - offset))

    def opened(self) -> BinaryIO:
        """Its bytes as a file that bears its name. Raises OSError."""
        file = _Named(self.read())
        file.name = str(self)
        return file


class _Named(io.BytesIO):
    name = ""


Source = str | Record  # a path, or a part of a file


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures. `sources`: paths, or Records; `labels`: numbers into `classes`; `note`: what
    the user should be told of them."""

    sources: tuple[Source, ...]
    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    note: str = ""

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, places: Sequence[int]) -> "Pictures":
        return replace(self, sources=tuple(self.sources[i] for i in places), labels=self.labels[list(places)])

    def counts(self) -> dict[str, int]:
        """{class name: pictures}."""
        found = Counter(self.labels.tolist())
        return {name: found[index] for index, name in enumerate(self.classes)}


def read(path: str, labels_from_names: bool = False, classes: tuple[str, ...] | None = None) -> Pictures:
    """The Pictures that `path` means: a list file (`path label` a line), a folder per class, a folder of pictures whose
    names carry the class (`cat.0.jpg`, with `labels_from_names`), or TFRecords (`image/encoded`, `image/class/label`).

    `classes`: the names that the training set found, which a validation or test set must keep to. Raises DataError.
    """
    with guarded(path):
        return _read(path, labels_from_names, classes)


def _read(path: str, labels_from_names: bool, classes: tuple[str, ...] | None) -> Pictures:
    numbered = True  # numbers are class numbers; the names of folders and files are names, whatever they look like
    pairs: Sequence[tuple[Source, str]]
    if os.path.isdir(path):
        records = [os.path.join(path, f) for f in sorted(os.listdir(path)) if ".tfrecord" in f]
        if records:
            pairs = _records(records)
        elif labels_from_names:
            numbered = False
            pairs = [(file, os.path.basename(file).split(".")[0]) for file in imaging.find_images([path])]
        else:
            numbered = False
            pairs = labelling.folders(path)
    elif not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder")
    elif ".tfrecord" in os.path.basename(path):
        pairs = _records([path])
    else:
        pairs = labelling.listed(path)
    return _labelled(path, pairs, classes, numbered)


def _records(paths: Sequence[str]) -> list[tuple[Record, str]]:
    return [pair for path in paths for pair in _records_of(path)]


def _records_of(path: str) -> Iterator[tuple[Record, str]]:
    """Where the pictures lie in a TFRecord, and their labels: TensorFlow checks and cuts it, and nothing of a picture stays in memory."""
    import tensorflow as tf

    keys = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    start = 0
    try:
        whole = tf.data.TFRecordDataset(path).map(lambda record: (record, tf.io.parse_single_example(record, keys)))
        for record, example in whole.as_numpy_iterator():
            encoded = example["image/encoded"]
            # A record is its length and the checksum of that, 12 bytes, before it, and its checksum, 4, behind it (TensorFlow's record_writer.h).
            yield Record(path, start + 12 + record.find(encoded), len(encoded)), str(int(example["image/class/label"]))
            start += 12 + len(record) + 4
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # the second where it says a damaged name
        why = (str(getattr(error, "message", "")).splitlines() or ["damaged"])[0]
        raise DataError(f"{path}: is no TFRecord with image/encoded and image/class/label ({why})") from None


def _labelled(
    path: str, pairs: Sequence[tuple[Source, str]], classes: tuple[str, ...] | None, numbered: bool
) -> Pictures:
    if not pairs:
        raise DataError(f"{path}: holds no pictures")
    names = [label for _, label in pairs]
    numbers = numbered and all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names)
    if classes is None:
        if numbers:
            found = sorted({int(name) for name in names})
            if found[0] < 0:
                raise DataError(f"{path}: label {found[0]}; takes numbers from 0, or names")
            classes = tuple(map(str, found))
        else:
            classes = tuple(
                sorted(set(names), key=lambda name: (not _is_number(name), int(name) if _is_number(name) else 0, name))
            )
    places = {name: index for index, name in enumerate(classes)}
    if numbers:
        names = [str(int(name)) for name in names]
    strange = sorted(set(names) - set(places))
    # Numbers of classes that have names count from 0; those of classes that are numbers are their names.
    counted = numbers and not any(_is_number(name) for name in classes)
    if strange and not (counted and all(0 <= int(name) < len(classes) for name in names)):
        raise DataError(
            f"{path}: labels {', '.join(strange[:3])} are not among the {len(classes)} classes of the training set"
        )
    if len(classes) < 2:
        raise DataError(f"{path}: all pictures are of one class, '{classes[0]}'; takes at least two")
    labels = [places[name] if name in places else int(name) for name in names]
    sources = tuple(source for source, _ in pairs)
    return Pictures(sources, np.array(labels, np.int32), classes, _mapped(path, classes) if numbers else "")


def _mapped(path: str, classes: Sequence[str]) -> str:
    """What the user is told of labels that are numbers other than 0, 1, 2, ..., and so are others in the network."""
    if list(classes) == list(map(str, range(len(classes)))) or not all(map(_is_number, classes)):
        return ""
    pairs = ", ".join(f"{name} is class {place}" for place, name in enumerate(classes[:3]))
    more = f", and so on: {len(classes)} classes, labels up to {classes[-1]}" if len(classes) > 3 else ""
    return f"{path}: the labels are not 0, 1, 2, ...: {pairs}{more}; `labels.txt` of the result has them in the network's order"


def _is_number(name: str) -> bool:
    """Whether a name is a number that Python reads: it refuses those of thousands of digits."""
    return name.isdecimal() and len(name) <= 18


def split(pictures: Pictures, fractions: Sequence[float], seed: int) -> list[Pictures]:
    """Parts of `pictures` by `fractions`, each class alike, drawn with `seed`. Raises DataError for an empty class."""
    if not 2 <= len(fractions) <= 3 or not min(fractions) > 0 or not abs(sum(fractions) - 1) <= 1e-6:
        raise DataError(f"`split` {','.join(map(str, fractions))}; takes two or three shares that add up to 1")
    random = np.random.RandomState(seed)
    parts: list[list[int]] = [[] for _ in fractions]
    for index, name in enumerate(pictures.classes):
        places = random.permutation(np.flatnonzero(pictures.labels == index))
        edges = np.rint(np.cumsum([0, *fractions]) * len(places)).astype(int)
        for part, start, end in zip(parts, edges, edges[1:], strict=False):
            if start == end:
                raise DataError(f"class '{name}' has {len(places)} pictures, too few for a split of {fractions}")
            part.extend(places[start:end].tolist())
    return [pictures.take(sorted(part)) for part in parts]
