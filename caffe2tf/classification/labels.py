"""What is really in the pictures: list files, folders per class, names that carry the class; how often a model is right."""

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from caffe2tf import bundled, formats
from caffe2tf.classification import lists
from caffe2tf.classification.lists import LabelError as LabelError
from caffe2tf.classification.names import Names
from caffe2tf.errors import guarded
from caffe2tf.images import decode as imaging


def is_picture(path: str) -> bool:
    """Whether an argument means pictures rather than a model: standard input, a glob, the name of a picture, a folder that holds
    some and is no model."""
    if os.path.isdir(path):
        names = (name for _, _, files in os.walk(path) for name in files)
        return not formats.is_model_folder(path) and any(name.lower().endswith(imaging.SUFFIXES) for name in names)
    return path == "-" or path.lower().endswith(imaging.SUFFIXES) or (not os.path.exists(path) and "*" in path)


def find(
    images: Sequence[str], labels: str | os.PathLike[str] | None = None, from_names: bool = False
) -> tuple[list[str], list[str] | None]:
    """(paths, labels as written or None) of the pictures that `images` (files, folders, globs, `-`) mean.

    With `from_names` the label is the file's name up to the first dot (`cat.0.jpg`). `labels` is a list file, `path label`
    a line, its paths relative to its folder, or a folder per class; without `images` all of it is taken, with `images`
    those pictures, told by path, else by file name. Raises LabelError and ParseError.
    """
    wanted = imaging.find_images(images)
    if labels is None:
        return wanted, [os.path.basename(path).split(".")[0] for path in wanted] if from_names else None
    with guarded(labels):
        entries = folders(labels) if os.path.isdir(labels) else listed(labels, wanted)
    if not entries:
        raise LabelError(f"{labels}: holds no labels")
    if not wanted:
        return [path for path, _ in entries], [label for _, label in entries]
    by_path, by_name = dict[str, str](), dict[str, str | None]()
    for path, label in entries:
        by_path[os.path.abspath(path)] = label
        name = os.path.basename(path)
        by_name[name] = label if by_name.get(name, label) == label else None  # two files of a name tell nothing
    found, lacking = list[str](), list[str]()
    for path in wanted:
        known = by_path.get(os.path.abspath(path), by_name.get(os.path.basename(path)))
        if known is None:
            lacking.append(path)
        else:
            found.append(known)
    if lacking:
        raise LabelError(f"{labels}: has no label for {len(lacking)} of {len(wanted)} pictures: {_few(lacking)}")
    return wanted, found


def each(
    images: Sequence[str], labels: str | os.PathLike[str] | None, from_names: bool, shard: tuple[int, int]
) -> tuple[Iterator[str], list[str] | None]:
    """As `find`, of a part of the pictures: (3, 16) is every 16th from the third. Without labels folders are listed while the
    pictures are asked for."""
    part, whole = shard
    if labels is None and not from_names:
        return islice(imaging.each_image(images), part - 1, None, whole), None
    paths, written = find(images, labels, from_names)
    return iter(paths[part - 1 :: whole]), written and written[part - 1 :: whole]


def left(paths: Iterable[str], numbers: Sequence[int] | None, names: Names) -> tuple[Iterator[str], list[int] | None]:
    """`paths`, and the class of each where it is known, without those of `names`."""
    if numbers is None:
        return (path for path in paths if path not in names), None
    pairs = [(path, number) for path, number in zip(paths, numbers, strict=True) if path not in names]
    return (path for path, _ in pairs), [number for _, number in pairs]


def folders(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """[(picture, class name)] of a folder per class. Raises LabelError."""
    names = [name for name in sorted(os.listdir(path)) if os.path.isdir(os.path.join(path, name))]
    if not names:
        raise LabelError(
            f"{path}: holds no folders, expected one for each class (or `labels_from_names` for cat.0.jpg)"
        )
    return [(file, name) for name in names for file in imaging.find_images([os.path.join(path, name)])]


def listed(path: str | os.PathLike[str], wanted: Iterable[str] = ()) -> list[tuple[str, str]]:
    """[(picture, label as written)] of a list file; of pictures that are not there, those named as one of `wanted`. Raises
    LabelError."""
    names = {os.path.basename(picture) for picture in wanted}
    entries, missing = list[tuple[str, str]](), list[str]()
    for _, ways in lists.lines(path):
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
    if missing and not names:
        raise LabelError(
            f"{path}: {len(missing)} of {len(entries) + len(missing)} files are not there: {_few(missing)}"
        )
    return entries


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def classes(count: int, names: Sequence[str] = ()) -> tuple[Sequence[str], Sequence[str]]:
    """(names, WordNet ids or none) of `count` classes: `names`, else ImageNet's where there are 1000, else their numbers."""
    if count == 1000 and (not names or list(names) == bundled.classes()):
        return bundled.classes(), bundled.classes(column=1)
    return names or [str(number) for number in range(count)], ()


def numbers(labels: Sequence[str], names: Sequence[str], ids: Sequence[str] = ()) -> list[int]:
    """The class of each of `labels`: a name of `names`, one of its synonyms (`zebra` of `zebra, Equus zebra`), a WordNet
    id of `ids`, or a number. Raises LabelError for what is no class."""
    known: dict[str, set[int]] = {}
    for index, name in enumerate(names):
        known.setdefault(name, set()).add(index)
    whole = set(names)
    for index, name in enumerate(names):
        for part in name.split(", "):
            if part not in whole:  # a whole name is no other's synonym
                known.setdefault(part, set()).add(index)
    for index, identity in enumerate(ids):
        known.setdefault(identity, set()).add(index)
    found: dict[str, int] = {}
    for label in dict.fromkeys(labels):
        places = known.get(label) or (
            {int(label)} if label.isdecimal() and len(label) <= 18 and int(label) < len(names) else set()
        )
        if len(places) != 1:
            raise LabelError(_strange(label, places, known, len(names)))
        (found[label],) = places
    return [found[label] for label in labels]


def _strange(label: str, places: set[int], known: Iterable[str], count: int) -> str:
    if places:
        which = ", ".join(map(str, sorted(places)))
        return f"label '{label}' is the name of several classes ({which}); give the number"
    near = difflib.get_close_matches(label, known, 1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"label '{label}' is no class of the model; {hint}takes a class name or a number from 0 to {count - 1}"
