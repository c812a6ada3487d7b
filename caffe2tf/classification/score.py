"""What a classifier said of pictures whose class is known: accuracy, confusion."""

import csv
import io
from dataclasses import dataclass, field

import numpy as np

from caffe2tf.files import replacing as files

TOP = 5  # classes of which one may be right


@dataclass
class Score:
    """Counts what a model of the classes `names` said of pictures whose class is known."""

    names: tuple
    truth: list = field(default_factory=list)
    guess: list = field(default_factory=list)
    near: int = 0

    def add(self, seen):
        """Counts a classify.Seen with at least five classes, if it was read and its class is known."""
        if seen.right is not None:
            classes = [number for number, _, _ in seen.top]
            self.truth.append(seen.truth[0])
            self.guess.append(classes[0])
            self.near += seen.truth[0] in classes[:TOP]

    @property
    def few(self):
        """Whether the confusion matrix is one to read in a terminal: 20 classes at most."""
        return 0 < len({*self.truth, *self.guess}) <= 20

    @property
    def accuracy(self):
        """{"images", "top1", "top5"}, the shares None without a picture; top5 only with more than five classes."""
        count = len(self.truth)
        right = sum(a == b for a, b in zip(self.truth, self.guess, strict=True))
        found = {"top1": right} | ({"top5": self.near} if len(self.names) > TOP else {})
        return {"images": count} | {name: n / count if count else None for name, n in found.items()}

    def __str__(self):
        shares = self.accuracy
        count = shares.pop("images")
        if not count:
            return "no picture was read, so there is no accuracy"
        return "  ".join(
            f"top-{name[3:]} {share:.3f} ({round(share * count)} of {count})" for name, share in shares.items()
        )

    def confusion(self):
        """(numbers of the classes that occur, counts (true, predicted)) of the pictures so far."""
        places, cells = np.unique([self.truth, self.guess], return_inverse=True)
        matrix = np.zeros((len(places), len(places)), int)
        np.add.at(matrix, tuple(cells.reshape(2, -1)), 1)
        return places.astype(int).tolist(), matrix

    def confusion_table(self):
        """The matrix as terminal.table takes it: columns, rows, title. Columns bear numbers, since names are too wide."""
        classes, matrix = self.confusion()
        rows = [
            [f"{number} {self.names[number].split(', ')[0]}", *map(str, row)]
            for number, row in zip(classes, matrix.tolist(), strict=True)
        ]
        return ["class", *(f">{number}" for number in classes)], rows, "confusion: true classes down, predicted across"

    def write_confusion(self, path, force):
        """Writes the matrix as .csv or .png, if a picture was read. Raises OutputError."""
        if not self.truth:
            return
        numbers, matrix = self.confusion()
        classes = [self.names[number] for number in numbers]
        if path.lower().endswith(".csv"):
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow(["true \\ predicted", *classes])
            rows.writerows([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
            files.write_text(path, text.getvalue(), force)
            return
        from caffe2tf.drawing import plots as pictures

        with files.replacing(path, force) as temporary:
            pictures.confusion(matrix, [name.split(", ")[0] for name in classes], temporary)
