"""What training leaves behind: models, weights, numbers, pictures and one page."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from caffe2tf import formats
from caffe2tf.drawing import plots
from caffe2tf.errors import OutputError, ParseError
from caffe2tf.files import records, renames
from caffe2tf.files import replacing as files
from caffe2tf.finetuning import checkpoint
from caffe2tf.finetuning.rows import Rows
from caffe2tf.finetuning.settings import KEEP
from caffe2tf.inspection import page as pages
from caffe2tf.net.net import Net

Row = dict[str, Any]  # of the history: the values of COLUMNS
COLUMNS = ("stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr")
MARKER = checkpoint.MARKER  # {"written_by": "caffe2tf finetune", "entries": [...]}: what in a results folder is ours
BOARD = "tensorboard"
_MODELS = {
    "keras": "best.keras",
    "savedmodel": "best_saved_model/",
    "h5": "best.h5",
    "npz": "best.npz",
    "last": "last.npz",
}  # of KEEP
_LEFT = (
    *(name.rstrip("/") for name in _MODELS.values()),
    *(
        "labels.txt",
        "deploy.prototxt",
        "recipe.toml",
        "history.csv",
        "curves.png",
        "metrics.csv",
        "confusion.csv",
        "confusion.png",
        "examples.png",
    ),
    *("report.html", "settings.json"),
)


def check_folder(path: str, force: bool, resume: bool = False) -> None:
    """Raises OutputError where `path` cannot be the results folder: a file, in use without `force` or `resume`, or with
    something in it that has the name of a result and that no run of finetune wrote."""
    if os.path.lexists(path) and not os.path.isdir(path):
        raise OutputError(f"{path}: is a file; `out` names a folder")
    if not os.path.isdir(path) or not os.listdir(path):
        return
    if not (force or resume):
        raise OutputError(f"{path}: is in use; name another folder with `out`, or `force` to write into it")
    _check_entries(path)


def _check_entries(path: str) -> None:
    """Raises OutputError for what has the name of a result in the folder `path` and is not ours."""
    ours = entries(path)
    if checkpoint.ours(path):
        ours.add(checkpoint.FOLDER)
    for name in (*_LEFT, BOARD, checkpoint.FOLDER):
        whole = os.path.join(path, name)
        if os.path.lexists(whole) and (name not in ours or os.path.islink(whole)):
            raise OutputError(
                f"{whole}: no run of finetune wrote it (by {MARKER}); move it away, or name another folder with `out`"
            )
        if name in _LEFT:
            files.check(whole, True, formats.result(formats.FOLDER) if name == "best_saved_model" else files.FILE)


def entries(path: str) -> set[str]:
    """What in the folder `path` runs of finetune wrote, as its marker says; nothing where there is none. Raises OutputError
    for a marker that is damaged."""
    try:
        with open(os.path.join(path, MARKER), "rb") as file:
            data = records.parsed(file.read(), {"entries": [str]})
        return {name for name in data["entries"] if name in (*_LEFT, BOARD)}
    except FileNotFoundError:
        return set()
    except (OSError, ParseError) as error:
        raise OutputError(f"{os.path.join(path, MARKER)}: cannot be read ({error}); name another folder") from None


def _note(path: str, names: Iterable[str]) -> None:
    text = json.dumps({"written_by": "caffe2tf finetune", "entries": sorted(names)}, indent=1)
    files.write_text(os.path.join(path, MARKER), text + "\n", force=True)


def make_folder(path: str) -> None:
    """Makes the results folder. Raises OutputError."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made: {str(error.strerror).lower()}") from None


def note_board(path: str) -> None:
    """Notes in the results folder that its log will be ours. Raises OutputError."""
    if BOARD not in entries(path):
        _note(path, entries(path) | {BOARD})


def staging(path: str) -> str:
    """An empty folder in `path` where results are written first: until all are there, those of an earlier run stay."""
    made = os.path.join(path, checkpoint.FOLDER, checkpoint.RESULTS)
    shutil.rmtree(made, ignore_errors=True)
    os.makedirs(made)
    return made


def place(staged: str, path: str) -> None:
    """Moves whole results from the folder `staged` into `path`, in place of those of an earlier run.

    All of the old go before the first of the new comes, so that a run that is killed leaves one or the other, never new
    weights beside old labels, and `settings.json`, by which the folder is known as a model, is the last; --resume writes
    them again. Raises OutputError where something that is not ours came to be there meanwhile.
    """
    _check_entries(path)
    new = sorted(os.listdir(staged), key=lambda name: name == "settings.json")
    ours = entries(path) | set(new)
    _note(path, ours)
    for name in reversed(_LEFT):
        if name in ours:
            renames.remove(os.path.join(path, name))
    renames.flush_folder(path)
    for name in new:
        os.replace(os.path.join(staged, name), os.path.join(path, name))
    renames.flush_folder(path)
    _note(path, {*new} | ({BOARD} & ours))


def _table(folder: str, name: str, rows: Iterable[Iterable[Any]]) -> None:
    """A CSV file, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    _text(folder, name, text.getvalue())


def kept(names: Iterable[str]) -> set[str]:
    """What `keep` of a Recipe names: some of settings.KEEP, all of them for "all"."""
    return set(KEEP) if "all" in names else set(names)


def check_models(keep: Collection[str]) -> None:
    """Raises OutputError for what `keep` names and could not be written at the end."""
    for what, name in _MODELS.items():
        if what in keep:
            formats.check_backend(formats.of(name), name)


def models(
    folder: str,
    best: Net,
    last: Net,
    classes: Iterable[str],
    settings: Mapping[str, Any],
    keep: Collection[str],
    step: Callable[[int], object] = lambda done: None,
) -> None:
    """best.keras, best.npz, best_saved_model/, best.h5, last.npz, those of them that `keep` names; labels.txt, settings.json,
    deploy.prototxt."""
    for what, name in _MODELS.items():
        if what in keep:
            formats.save(last if what == "last" else best, os.path.join(folder, name))
            step(1)
    _text(folder, "labels.txt", "".join(f"{name}\n" for name in classes))
    mean = settings["preprocessing"]["mean"]
    indent = None if isinstance(mean[0], (list, tuple)) else 1  # a mean image would fill a line with each value
    _text(folder, "settings.json", json.dumps(settings, indent=indent) + "\n")
    _text(folder, "deploy.prototxt", best.text())


def history(folder: str, rows: Sequence[Row], best: Row, keep: Collection[str]) -> None:
    """history.csv, and with the report curves.png, in which the row `best` is marked."""

    _table(folder, "history.csv", [COLUMNS, *([row[key] for key in COLUMNS] for row in rows)])
    if "report" in keep:
        plots.curves(rows, os.path.join(folder, "curves.png"), list(rows).index(best))


def evaluation(
    folder: str,
    pictures: tuple[Rows, NDArray[np.integer[Any]], NDArray[np.bool_]],
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    judged: str,
    keep: Collection[str],
) -> dict[str, Any]:
    """metrics.csv and confusion.csv, and with the report confusion.png and examples.png, of (pictures, labels, which of them may be
    shown) of the `judged` set ("test", "validation"); returns {"accuracy", "classes": [...]}."""

    from caffe2tf.drawing import plots

    images, labels, here = pictures
    guesses = probabilities.argmax(1)
    places = list(range(len(classes)))
    matrix = metrics.confusion_matrix(labels, guesses, labels=places)
    values = metrics.precision_recall_fscore_support(labels, guesses, labels=places, zero_division=0)
    rows = [
        {"class": name, "precision": p, "recall": r, "f1": f, "pictures": int(n)}
        for name, p, r, f, n in zip(classes, *values, strict=True)
    ]
    _table(folder, "metrics.csv", [list(rows[0]), *(list(row.values()) for row in rows)])
    named = [[name, *row] for name, row in zip(classes, matrix.tolist(), strict=True)]
    _table(folder, "confusion.csv", [["true \\ predicted", *classes], *named])
    found = {"accuracy": float((guesses == labels).mean()), "classes": rows}
    if "report" not in keep:
        return found
    plots.confusion(matrix, classes, os.path.join(folder, "confusion.png"), f"{judged} set")
    wrong = np.flatnonzero((guesses != labels) & here)
    right = np.flatnonzero((guesses == labels) & here)
    count = min(len(right), 12 - min(6, len(wrong)))
    spread = right[np.linspace(0, len(right) - 1, count).astype(int)] if count else right
    shown = [*wrong[:6], *spread]
    plots.grid(
        [images[i] for i in shown],
        [classes[labels[i]] for i in shown],
        [(classes[guesses[i]], float(probabilities[i, guesses[i]])) for i in shown],
        os.path.join(folder, "examples.png"),
    )
    return found


def page(
    folder: str,
    title: str,
    recipe: str,
    rows: Sequence[Row],
    found: Mapping[str, Any],
    best: Row,
    about: Sequence[tuple[str, str]],
) -> None:
    """report.html, one self-contained page; `about`: [(what, value)] of the run."""
    after = f"the weights of epoch {best['epoch']} of stage {best['stage']}, after {len(rows)} epochs"

    def drawn(name: str) -> bytes:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()

    pictures = drawn("curves.png"), drawn("confusion.png"), drawn("examples.png")
    facts = f"accuracy {found['accuracy']:.4f} with {after}"
    _text(folder, "report.html", pages.training(title, facts, about, found["classes"], *pictures, recipe))


def _text(folder: str, name: str, text: str) -> None:
    files.write_text(os.path.join(folder, name), text, force=True)
