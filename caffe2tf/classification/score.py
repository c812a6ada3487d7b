"""What a classifier said of pictures whose class is known: accuracy, confusion."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from caffe2tf.classification.seen import Seen
from caffe2tf.files import replacing as files

TOP = 5  # classes of which one may be right


@dataclass
class Score:
    """Counts what a model of the classes `names` said of pictures whose class is known."""

    names: Sequence[str]
    labels: list[int] = field(default_factory=list)
    guesses: list[int] = field(default_factory=list)
    near: int = 0

    def add(self, seen: Seen) -> None:
        """Counts a Seen with at least five classes, if it was read and its class is known."""
        if seen.top and seen.label:
            classes = [number for number, _, _ in seen.top]
            self.labels.append(seen.label[0])
            self.guesses.append(classes[0])
            self.near += seen.label[0] in classes[:TOP]

    @property
    def few(self) -> bool:
        """Whether the confusion matrix is one to read in a terminal: 20 classes at most."""
        return 0 < len({*self.labels, *self.guesses}) <= 20

    @property
    def right(self) -> dict[str, int]:
        """{"top1", "top5"}: how many pictures are right; top5 only with more than five classes."""
        hits = sum(a == b for a, b in zip(self.labels, self.guesses, strict=True))
        return {"top1": hits} | ({"top5": self.near} if len(self.names) > TOP else {})

    @property
    def accuracy(self) -> dict[str, int | float | None]:
        """{"images", "top1", "top5"}, the shares None without a picture; top5 only with more than five classes."""
        count = len(self.labels)
        return {"images": count, **{name: n / count if count else None for name, n in self.right.items()}}

    def __str__(self) -> str:
        count = len(self.labels)
        if not count:
            return "no picture was read, so there is no accuracy"
        return "  ".join(f"top-{name[3:]} {n / count:.3f} ({n} of {count})" for name, n in self.right.items())

    def confusion(self) -> tuple[list[int], NDArray[np.int_]]:
        """(numbers of the classes that occur, counts (label, predicted)) of the pictures so far."""
        places, cells = np.unique([self.labels, self.guesses], return_inverse=True)
        matrix = np.zeros((len(places), len(places)), int)
        np.add.at(matrix, tuple(cells.reshape(2, -1)), 1)
        return places.astype(int).tolist(), matrix

    def confusion_table(self) -> tuple[list[str], list[list[str]], str]:
        """The matrix as a table: columns, rows, title. Columns bear numbers, since names are too wide."""
        classes, matrix = self.confusion()
        rows = [
            [f"{number} {self.names[number].split(', ')[0]}", *map(str, row)]
            for number, row in zip(classes, matrix.tolist(), strict=True)
        ]
        return ["class", *(f">{number}" for number in classes)], rows, "confusion: true classes down, predicted across"

    def write_confusion(self, path: str | os.PathLike[str], force: bool) -> None:
        """Writes the matrix as .csv or .png, if a picture was read. Raises OutputError."""
        if not self.labels:
            return
        numbers, matrix = self.confusion()
        classes = [self.names[number] for number in numbers]
        if str(path).lower().endswith(".csv"):
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow(["true \\ predicted", *classes])
            rows.writerows([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
            files.write_text(path, text.getvalue(), force)
            return
        from caffe2tf.drawing import plots

        with files.replacing(path, force) as temporary:
            plots.confusion(matrix, [name.split(", ")[0] for name in classes], temporary)
