"""Pictures of numbers: curves, a confusion matrix, a grid of images with what was seen in them."""

import os

import matplotlib

matplotlib.use("Agg")  # files only, on machines without a screen

import matplotlib.pyplot as plt
import numpy as np


def _save(figure, path):
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def curves(history, path):
    """Loss and accuracy of training and validation by epoch, from rows of `history.csv`; a line where a stage begins."""
    epochs = range(1, len(history) + 1)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(epochs, [row[name] for row in history], label="training", color="#4c78a8")
        axis.plot(epochs, [row[f"val_{name}"] for row in history], label="validation", color="#f58518")
        for place in range(1, len(history)):
            if history[place]["stage"] != history[place - 1]["stage"]:
                axis.axvline(place + 0.5, color="#999999", linewidth=0.8, linestyle="--")
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    _save(figure, path)


def confusion(matrix, classes, path):
    """Counts of true (rows) and predicted (columns) classes."""
    size = min(20, 3 + 0.45 * len(classes))
    figure, axis = plt.subplots(figsize=(size, size))
    axis.imshow(matrix, cmap="Blues")
    axis.set_xticks(range(len(classes)), classes, rotation=90)
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="predicted", ylabel="true")
    if len(classes) <= 40:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                shade = "white" if count > matrix.max() / 2 else "black"
                axis.text(column, row, str(count), ha="center", va="center", color=shade, fontsize=8)
    _save(figure, path)


def grid(images, truths, guesses, path):
    """uint8 BGR images with their true and predicted class names, wrong ones in red."""
    columns = min(6, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.2 * columns, 2.6 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, truth, guess in zip(axes.flat, images, truths, guesses, strict=False):
        axis.imshow(image[:, :, ::-1] if image.shape[2] == 3 else image[:, :, 0], cmap="gray")
        axis.set_title(
            truth if truth == guess else f"{guess}\nnot {truth}",
            fontsize=8,
            color="black" if truth == guess else "#c0392b",
        )
    _save(figure, path)


def seen(found, path):
    """uint8 BGR images of any size, each above the bars of its classify.Seen, five at most; in red what is wrong."""
    columns = max(1, min(4, len(found)))
    rows = max(1, -(-len(found) // columns))
    figure = plt.figure(figsize=(3 * columns, 4.1 * rows), layout="constrained")
    for place, cell in zip(found, figure.add_gridspec(rows, columns, hspace=0.08), strict=False):
        image, one = place
        above, below = (figure.add_subplot(part) for part in cell.subgridspec(2, 1, height_ratios=[5, 3], hspace=0.02))
        step = max(1, max(image.shape[:2]) // 400)
        above.imshow(image[::step, ::step, ::-1])
        above.set_anchor("S")
        title = _short(os.path.basename(one.file)) + (f"\nis {_short(one.truth[1])}" if one.right is False else "")
        above.set_title(title, fontsize=9, color="#c0392b" if one.right is False else "black", parse_math=False)
        top = one.top[:5]
        below.barh(range(len(top)), [p for _, _, p in top], height=0.8, color="#a9c6e8")
        for line, (_, name, p) in enumerate(top):
            below.text(0.01, line, _short(name), fontsize=8, va="center", parse_math=False)
            below.text(1.17, line, f"{p:.1%}", fontsize=8, va="center", ha="right")
        below.set(xlim=(0, 1.17), ylim=(4.5, -0.5))
        above.axis("off")
        below.axis("off")
    _save(figure, path)


def _short(name):
    """The first of a class's names, its middle left out where it is too long for a column."""
    first = name.split(", ")[0]
    return first if len(first) <= 30 else f"{first[:17]}…{first[-12:]}"
