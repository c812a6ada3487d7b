"""What training leaves behind: models, weights, numbers, pictures and one page."""

import csv
import json
import os

import numpy as np
from sklearn import metrics

from caffe2tf import formats, pages, pictures
from caffe2tf.errors import OutputError

_HISTORY = "history.csv"
COLUMNS = ("stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr")


def open_folder(path, force, resume=False):
    """Makes the results folder. Raises OutputError where one is there with something in it, unless `force` or `resume`."""
    if os.path.isdir(path) and os.listdir(path) and not (force or resume):
        raise OutputError(f"{path}: is in use; name another folder with --out, or -f/--force to write into it")
    if os.path.exists(path) and not os.path.isdir(path):
        raise OutputError(f"{path}: is a file; --out names a folder")
    try:
        os.makedirs(path, exist_ok=True)
        if force and finished(path):
            os.remove(os.path.join(path, _HISTORY))  # from here on the folder is this run's
    except OSError as error:
        raise OutputError(f"{path}: cannot be made: {error.strerror.lower()}") from None


def finished(folder):
    """Whether `folder` holds the results of a run."""
    return os.path.exists(os.path.join(folder, _HISTORY))


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
    _text(folder, "settings.json", json.dumps(settings, indent=1) + "\n")
    _text(folder, "deploy.prototxt", best.text())


def history(folder, rows):
    """history.csv and curves.png."""
    with open(os.path.join(folder, _HISTORY), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
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
    with open(os.path.join(folder, "metrics.csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with open(os.path.join(folder, "confusion.csv"), "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [
                ["true \\ predicted", *classes],
                *([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True)),
            ]
        )
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
