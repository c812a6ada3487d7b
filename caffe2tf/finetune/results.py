"""What training leaves behind: models, weights, numbers, pictures and one page."""

import csv
import io
import json
import os

import numpy as np
from sklearn import metrics

from caffe2tf import formats, pages, pictures
from caffe2tf.errors import OutputError

COLUMNS = ("stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr")


def check_folder(path, force, resume=False):
    """Raises OutputError where `path` cannot be the results folder: a file, or in use without `force` or `resume`."""
    if os.path.exists(path) and not os.path.isdir(path):
        raise OutputError(f"{path}: is a file; --out names a folder")
    if os.path.isdir(path) and os.listdir(path) and not (force or resume):
        raise OutputError(f"{path}: is in use; name another folder with --out, or -f/--force to write into it")


def open_folder(path):
    """Makes the results folder. Raises OutputError where that cannot be."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made: {error.strerror.lower()}") from None


def _table(folder, name, rows):
    """A CSV file, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    _text(folder, name, text.getvalue())


def models(folder, best, last, classes, settings):
    """best.keras, best_saved_model/, best.h5, best.npz, last.npz, labels.txt, settings.json."""
    for net, name in (
        (best, "best.keras"),
        (best, "best_saved_model/"),
        (best, "best.h5"),
        (best, "best.npz"),
        (last, "last.npz"),
    ):
        formats.save(net, os.path.join(folder, name))
    _text(folder, "labels.txt", "".join(f"{name}\n" for name in classes))
    mean = settings["preprocessing"]["mean"]
    indent = None if isinstance(mean[0], (list, tuple)) else 1  # a mean image would fill a line with each value
    _text(folder, "settings.json", json.dumps(settings, indent=indent) + "\n")
    _text(folder, "deploy.prototxt", best.text())


def history(folder, rows):
    """history.csv and curves.png."""
    _table(folder, "history.csv", [COLUMNS, *([row[key] for key in COLUMNS] for row in rows)])
    pictures.curves(rows, os.path.join(folder, "curves.png"))


def evaluation(folder, images, truth, probabilities, classes):
    """metrics.csv, confusion.csv and .png, examples.png; returns {"accuracy", "classes": [...]}."""
    guess = probabilities.argmax(1)
    places = list(range(len(classes)))
    matrix = metrics.confusion_matrix(truth, guess, labels=places)
    values = metrics.precision_recall_fscore_support(truth, guess, labels=places, zero_division=0)
    rows = [
        {"class": name, "precision": p, "recall": r, "f1": f, "pictures": int(n)}
        for name, p, r, f, n in zip(classes, *values, strict=True)
    ]
    _table(folder, "metrics.csv", [list(rows[0]), *(list(row.values()) for row in rows)])
    named = [[name, *row] for name, row in zip(classes, matrix.tolist(), strict=True)]
    _table(folder, "confusion.csv", [["true \\ predicted", *classes], *named])
    pictures.confusion(matrix, classes, os.path.join(folder, "confusion.png"))
    wrong = np.flatnonzero(guess != truth)
    right = np.flatnonzero(guess == truth)
    count = min(len(right), 12 - min(6, len(wrong)))
    spread = right[np.linspace(0, len(right) - 1, count).astype(int)] if count else right
    shown = [*wrong[:6], *spread]
    pictures.grid(
        [images[i] for i in shown], [classes[truth[i]] for i in shown], [classes[guess[i]] for i in shown],
        os.path.join(folder, "examples.png"),
    )  # fmt: skip
    return {"accuracy": float((guess == truth).mean()), "classes": rows}


def page(folder, title, recipe, rows, found, best):
    """report.html, one self-contained page."""
    after = f"the weights of epoch {best['epoch']} of stage {best['stage']}, after {len(rows)} epochs"
    drawn = []
    for name in ("curves", "confusion", "examples"):
        with open(os.path.join(folder, f"{name}.png"), "rb") as file:
            drawn.append(file.read())
    facts = f"accuracy {found['accuracy']:.4f} with {after}"
    _text(folder, "report.html", pages.training(title, facts, found["classes"], *drawn, recipe))


def _text(folder, name, text):
    formats.write_text(os.path.join(folder, name), text, force=True)
