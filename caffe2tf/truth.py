"""What is really in the pictures: list files, folders per class, names that carry the class; how often a model is right."""

import csv
import difflib
import io
import os
from dataclasses import dataclass, field

import numpy as np

from caffe2tf import files, imaging
from caffe2tf.errors import Caffe2TFError

TOP = 5


class TruthError(Caffe2TFError):
    """Labels that are missing, or that are no classes of the model."""


def find(images, truth=None, from_names=False):
    """(paths, labels as written or None) of the pictures that `images` (files, folders, globs, `-`) mean.

    With `from_names` the label is the file's name up to the first dot (`cat.0.jpg`). `truth` is a list file, `path label`
    a line, its paths relative to its folder, or a folder per class; without `images` all of it is taken, with `images`
    those pictures, told by path, else by file name. Raises TruthError and ParseError.
    """
    if truth is None:
        paths = imaging.find_images(images)
        return paths, [os.path.basename(path).split(".")[0] for path in paths] if from_names else None
    wanted = imaging.find_images(images)
    entries = folders(truth) if os.path.isdir(truth) else listed(truth, wanted)
    if not entries:
        raise TruthError(f"{truth}: holds no labels")
    if not wanted:
        return [path for path, _ in entries], [label for _, label in entries]
    labels, named = {}, {}
    for path, label in entries:
        labels[os.path.abspath(path)] = label
        name = os.path.basename(path)
        named[name] = label if named.get(name, label) == label else None  # two files of a name tell nothing
    found = [labels.get(os.path.abspath(path), named.get(os.path.basename(path))) for path in wanted]
    lacking = [path for path, label in zip(wanted, found, strict=True) if label is None]
    if lacking:
        raise TruthError(f"{truth}: has no label for {len(lacking)} of {len(wanted)} pictures: {_few(lacking)}")
    return wanted, found


def folders(path):
    """[(picture, class name)] of a folder per class. Raises TruthError."""
    names = [name for name in sorted(os.listdir(path)) if os.path.isdir(os.path.join(path, name))]
    if not names:
        raise TruthError(
            f"{path}: holds no folders, expected one for each class (or --labels-from-names for cat.0.jpg)"
        )
    return [(file, name) for name in names for file in imaging.find_images([os.path.join(path, name)])]


def listed(path, wanted=()):
    """[(picture, label as written)] of a list file; of pictures that are not there, those named as one of `wanted`. Raises
    TruthError."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise TruthError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    names = {os.path.basename(file) for file in wanted}
    entries, missing = [], []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        ways = list(_cut(line))
        if not ways:
            raise TruthError(f"{path}:{number}: '{line[:60]}'; takes a path and a label")
        base = os.path.dirname(path)
        for name, label in ways:
            # A list that was written on Windows has backslashes.
            whole = next(
                (w for n in (name, name.replace("\\", "/")) if os.path.exists(w := os.path.join(base, n))), None
            )
            if whole or os.path.basename(name) in names:
                entries.append((whole or name, label))
                break
        else:
            missing.append(ways[0][0])
    if missing and not wanted:
        raise TruthError(
            f"{path}: {len(missing)} of {len(entries) + len(missing)} files are not there: {_few(missing)}"
        )
    return entries


def _cut(line):
    """The (path, label) pairs that `line` can mean, the shortest label first: both may hold spaces, a tab settles it."""
    if "\t" in line:
        name, _, label = line.rpartition("\t")
        yield name.strip(), label.strip()
        return
    words = line.split(" ")
    for place in range(len(words) - 1, 0, -1):
        name, label = " ".join(words[:place]).strip(), " ".join(words[place:]).strip()
        if name and label:
            yield name, label


def _few(names):
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def numbers(labels, names, ids=()):
    """The class of each of `labels`: a name of `names`, one of its synonyms (`zebra` of `zebra, Equus zebra`), a WordNet
    id of `ids`, or a number. Raises TruthError for what is no class."""
    known = {}
    for index, name in enumerate(names):
        known.setdefault(name, set()).add(index)
    whole = set(names)
    for index, name in enumerate(names):
        for part in name.split(", "):
            if part not in whole:  # a whole name is no other's synonym
                known.setdefault(part, set()).add(index)
    for index, identity in enumerate(ids):
        known.setdefault(identity, set()).add(index)
    found = {}
    for label in set(labels):
        places = known.get(label) or (
            {int(label)} if label.isdecimal() and len(label) <= 18 and int(label) < len(names) else set()
        )
        if len(places) != 1:
            raise TruthError(_strange(label, places, known, len(names)))
        (found[label],) = places
    return [found[label] for label in labels]


def _strange(label, places, known, count):
    if places:
        which = ", ".join(map(str, sorted(places)))
        return f"label '{label}' is the name of several classes ({which}); give the number"
    near = difflib.get_close_matches(label, known, 1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"label '{label}' is no class of the model; {hint}takes a class name or a number from 0 to {count - 1}"


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
        from caffe2tf import pictures

        with files.replacing(path, force) as temporary:
            pictures.confusion(matrix, [name.split(", ")[0] for name in classes], temporary)
