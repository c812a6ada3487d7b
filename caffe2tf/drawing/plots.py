"""Pictures of numbers: curves, a confusion matrix, a grid of pictures with what was seen in them."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

_Path = str | os.PathLike[str]
_NEUTRAL = "#7d8590"  # text that is read on white and on black
_COLOURS = "#e45756", "#4c78a8", "#54a24b", "#b279a2", "#f58518", "#9d755d", "#1f9e9e", "#d6278a"


class Seen(Protocol):
    """What a classifier says of the picture `file`: `top` holds (class, name, probability), best first; `label` the
    (class, name) that it really is, `right` whether it is the best, both None where nothing tells. Of a detector `boxes` holds
    (class, name, score, left, top, right, bottom) in pixels, best first."""

    @property
    def file(self) -> str: ...
    @property
    def top(self) -> Sequence[tuple[int, str, float]]: ...
    @property
    def label(self) -> tuple[int, str] | None: ...
    @property
    def right(self) -> bool | None: ...
    @property
    def boxes(self) -> Sequence[tuple[int, str, float, float, float, float, float]] | None: ...


def _save(figure: Figure, path: _Path) -> None:
    figure.savefig(path, dpi=120, bbox_inches="tight")


def curves(history: Sequence[Mapping[str, Any]], path: _Path, best: int | None = None) -> None:
    """Loss and accuracy of training and validation by epoch, from rows of `history.csv`; a line where a stage begins, and a mark at
    the row `best`, from 0."""
    epochs = range(1, len(history) + 1)
    figure = Figure(figsize=(10, 3.6))
    axes = figure.subplots(1, 2)
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(epochs, [row[name] for row in history], label="training", color="#4c78a8")
        axis.plot(epochs, [row[f"val_{name}"] for row in history], label="validation", color="#f58518")
        for place in range(1, len(history)):
            if history[place]["stage"] != history[place - 1]["stage"]:
                axis.axvline(place + 0.5, color="#999999", linewidth=0.8, linestyle="--")
        if best is not None:
            value = history[best][f"val_{name}"]
            axis.plot(
                [best + 1],
                [value],
                "o",
                color="#c0392b",
                markersize=7,
                zorder=3,
                label=f"epoch {best + 1}: {value:.4f}",
            )
        axis.set(xlabel="epoch", ylabel=name, title=name)
        axis.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
        axis.grid(alpha=0.3)
        axis.legend()
    _save(figure, path)


def confusion(matrix: NDArray[np.integer[Any]], classes: Sequence[str], path: _Path, what: str = "") -> None:
    """Counts of true (rows) and predicted (columns) classes, each coloured by its share of the true class; above them `what` they are of,
    and the accuracy."""
    size = min(20, 3 + 0.45 * len(classes))
    figure = Figure(figsize=(size + 1, size))
    axis = figure.subplots()
    count = matrix.sum(1, keepdims=True)
    shares = matrix / np.maximum(count, 1)
    drawn = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    right, total = int(np.trace(matrix)), int(matrix.sum())
    axis.set_title(f"{what + ': ' if what else ''}{right} of {total} right, {right / max(total, 1):.1%}", fontsize=11)
    bar = figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.03, format=PercentFormatter(1, 0))
    bar.set_label("share of the true class", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    axis.set_xticks(range(len(classes)), classes, rotation=90)
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="predicted", ylabel="true")
    if len(classes) <= 40:
        for (row, column), number in np.ndenumerate(matrix):
            if number:
                shade = "white" if shares[row, column] > 0.5 else "black"
                axis.text(column, row, str(number), ha="center", va="center", color=shade, fontsize=8)
    _save(figure, path)


def grid(
    images: Sequence[NDArray[np.uint8]], labels: Sequence[str], guesses: Sequence[tuple[str, float]], path: _Path
) -> None:
    """uint8 BGR pictures with their predicted class and its probability, and their true class; wrong ones in red."""
    columns = min(6, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, label, (guess, share) in zip(axes.flat, images, labels, guesses, strict=False):
        axis.imshow(image[:, :, ::-1] if image.shape[2] == 3 else image[:, :, 0], cmap="gray")
        axis.set_title(
            f"predicted {_short(guess)} ({share:.0%}),\ntrue {_short(label)}",
            fontsize=8,
            color=_NEUTRAL if label == guess else "#d9534f",
            parse_math=False,
        )
    figure.savefig(path, dpi=120, bbox_inches="tight", transparent=True)


def seen(found: Sequence[tuple[NDArray[np.uint8], Seen]], path: _Path) -> None:
    """uint8 BGR pictures of any size, each above the bars of its Seen, five at most, in red what is wrong; or under its boxes."""
    columns = max(1, min(4, len(found)))
    rows = max(1, -(-len(found) // columns))
    figure = Figure(figsize=(3 * columns, 4.1 * rows), layout="constrained")
    cells = figure.add_gridspec(rows, columns, hspace=0.08)
    for place, (image, one) in enumerate(found):
        if one.boxes is not None:
            _under_boxes(figure.add_subplot(cells[place]), image, one)
            continue
        parts = cells[place].subgridspec(2, 1, height_ratios=[5, 3], hspace=0.02)
        above, below = figure.add_subplot(parts[0]), figure.add_subplot(parts[1])
        step = max(1, max(image.shape[:2]) // 400)
        above.imshow(image[::step, ::step, ::-1])
        above.set_anchor("S")
        wrong = one.label if one.right is False else None
        title = _short(os.path.basename(one.file)) + (f"\nis {_short(wrong[1])}" if wrong else "")
        above.set_title(title, fontsize=9, color="#c0392b" if wrong else "black", parse_math=False)
        top = one.top[:5]
        below.barh(range(len(top)), [p for _, _, p in top], height=0.8, color="#a9c6e8")
        for line, (_, name, p) in enumerate(top):
            below.text(0.01, line, _short(name), fontsize=8, va="center", parse_math=False)
            below.text(1.17, line, f"{p:.1%}", fontsize=8, va="center", ha="right")
        below.set(xlim=(0, 1.17), ylim=(4.5, -0.5))
        above.axis("off")
        below.axis("off")
    _save(figure, path)


def _under_boxes(axis: Axes, image: NDArray[np.uint8], one: Seen) -> None:
    """A picture with the boxes of its Seen, the best on top, each class in a colour of its own."""
    height, width = image.shape[:2]
    step = max(1, max(height, width) // 800)
    axis.imshow(image[::step, ::step, ::-1], extent=(0, width, height, 0))
    for number, name, score, left, top, right, bottom in reversed(one.boxes or ()):
        colour = _COLOURS[(number - 1) % len(_COLOURS)]
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.8))
        # Its words stand on the box, or below its upper edge where the picture ends there.
        inside = top < 0.06 * height
        place, words = (max(left, 0), max(top, 0)), f"{_short(name)} {score:.2f}"
        above: dict[str, Any] = {
            "fontsize": 7,
            "color": "white",
            "va": "top" if inside else "bottom",
            "parse_math": False,
        }
        axis.text(*place, words, clip_on=True, **above, bbox={"facecolor": colour, "pad": 1.2, "linewidth": 0})
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.set_title(_short(os.path.basename(one.file)), fontsize=9, parse_math=False)
    axis.axis("off")


def _short(name: str) -> str:
    """The first of a class's names, its middle left out where it is too long for a column."""
    first = name.split(", ")[0]
    return first if len(first) <= 30 else f"{first[:17]}…{first[-12:]}"
