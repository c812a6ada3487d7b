"""Pictures of networks: the graph, filters as tiles, feature maps as tiles. Each function gives the bytes of a file."""

import functools
import io
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Patch, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from caffe2tf.drawing.graph import Box, arrange

KINDS = ("png", "svg", "pdf")
_DPI = 100
_NEUTRAL = "#7d8590"  # text that is read on white and on black
# Light enough for black text, and told apart by people who do not tell red from green (after Okabe and Ito).
_COLOURS = {
    "inputs": "#e3e6ea",
    "convolution": "#a9d3f5",
    "deconvolution": "#a9d3f5",
    "product": "#8fb8de",
    "pooling": "#f7d9a0",
    "normalization": "#bfe3c8",
    "activation": "#f4c2c2",
    "arithmetic": "#e0ccf0",
    "shaping": "#f3f0d7",
    "forks": "#f3f0d7",
    "detection": "#f0b8d9",
    "recurrent": "#c9d6a3",
}


def _saved(figure: Figure, kind: str, dpi: float = _DPI) -> bytes:
    file = io.BytesIO()
    if kind == "webp":  # for a page, whose background may be light or dark
        figure.set_facecolor("none")
        for text in figure.findobj(Text):
            text.set_color(_NEUTRAL)
    # Text stays text in an SVG, to search and to copy; its names and dates would differ from run to run.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "caffe2tf"}):
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure.savefig(file, format=kind, dpi=dpi, metadata=undated)
    return file.getvalue()


def _sheet(width: float, height: float) -> tuple[Figure, Callable[[float, float, float, float], Axes]]:
    """A Figure of `width` x `height` inches, and a function that gives an Axes at (left, top, width, height) in inches."""
    figure = Figure(figsize=(width, height), facecolor="white")

    def axes(left: float, top: float, wide: float, high: float) -> Axes:
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    return figure, axes


# ------------------------------------------------------------------------------------------------ the graph

_LINE, _PAD, _GAP, _BETWEEN, _MARGIN = 0.165, 0.1, 0.35, 0.38, 0.3  # inches
_SIZES = (9.5, 8, 8)  # points, of a box's lines


def graph(title: str, boxes: Sequence[Box], kind: str) -> bytes:
    """The network of `boxes` (graph.boxes), from the inputs down; colours say the kind of layer."""
    for box in boxes:
        box.width = max(map(_wide, box.lines, _SIZES)) + 2 * _PAD
    rows = arrange(boxes, _GAP)
    high = _LINE * len(_SIZES) + 2 * _PAD
    kinds = list(dict.fromkeys(box.kind for box in boxes))
    head = 0.75
    across = max(box.x + box.width / 2 for row in rows for box in row)
    width = max(across, _wide(title, 13), 1.25 * len(kinds)) + 2 * _MARGIN
    height = head + len(rows) * (high + _BETWEEN) + _MARGIN
    figure, axes = _sheet(width, height)
    axis = axes(0, 0, width, height)
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.axis("off")
    axis.text(_MARGIN, 0.32, title, fontsize=13, fontweight="bold", va="center")
    legend = [Patch(facecolor=_COLOURS.get(kind, "#ffffff"), edgecolor="#8a929b", label=kind) for kind in kinds]
    axis.legend(
        handles=legend, loc="upper left", bbox_to_anchor=(_MARGIN / width, 1 - 0.45 / height), ncols=len(kinds),
        frameon=False, fontsize=8, borderaxespad=0, borderpad=0, handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip
    shift = (width - across) / 2
    top = {box.row: head + 0.15 + box.row * (high + _BETWEEN) for row in rows for box in row}
    for box in boxes:
        for below in box.below:
            _edge(axis, box, below, top, high, shift)
    for box in boxes:
        x, y = box.x + shift, top[box.row]
        axis.add_patch(
            FancyBboxPatch(
                (x - box.width / 2, y), box.width, high, boxstyle="round,pad=0,rounding_size=0.06", linewidth=0.8,
                facecolor=_COLOURS.get(box.kind, "#ffffff"), edgecolor="#8a929b",
            )
        )  # fmt: skip
        for index, (line, size) in enumerate(zip(box.lines, _SIZES, strict=True)):
            weight = "bold" if index == 0 else "normal"
            at = y + _PAD + (index + 0.5) * _LINE
            axis.text(x, at, line, fontsize=size, fontweight=weight, ha="center", va="center_baseline")
    return _saved(figure, kind, min(_DPI, 60000 / max(width, height)))


@functools.cache
def _wide(line: str, size: float) -> float:
    """Inches of a line of text, bold, with a little room for another font."""
    bold = FontProperties(weight="bold", size=size)
    return text_to_path.get_text_width_height_descent(line, bold, False)[0] / 72 * 1.04 if line else 0.0


def _edge(axis: Axes, box: Box, below: Box, top: dict[int, float], high: float, shift: float) -> None:
    """From the lower end of `box` through the places where the edge passes rows, to the upper end of a layer."""
    points = [(box.x + shift, top[box.row] + high)]
    while not below.layers:
        points += [(below.x + shift, top[below.row]), (below.x + shift, top[below.row] + high)]
        below = below.below[0]
    end = (below.x + shift, top[below.row])
    points.append((end[0], end[1] - 0.07))
    vertices, codes = [points[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        half = (y0 + y1) / 2
        vertices += [(x0, half), (x1, half), (x1, y1)]
        codes += [Path.CURVE4] * 3
    axis.add_patch(PathPatch(Path(vertices, codes), fill=False, edgecolor="#5b6470", linewidth=1.0))
    tip = [end, (end[0] - 0.035, end[1] - 0.08), (end[0] + 0.035, end[1] - 0.08)]
    axis.add_patch(Polygon(tip, closed=True, facecolor="#5b6470", edgecolor="none"))


# ------------------------------------------------------------------------------------------------ tiles

_HEAD, _SIDE, _BAR = 0.62, 0.75, 0.95  # inches, above, left and right of tiles


@dataclass(frozen=True)
class _Scale:
    """Which colour means which value; `extend`: the ends beyond which values lie."""

    norm: Normalize
    colours: str
    extend: str = "neither"


def mosaic(tiles: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """One array of (n, h, w) or (n, h, w, 3) tiles, row by row, NaN in the lines of one pixel between them."""
    count, h, w = tiles.shape[:3]
    rows, line = -(-count // columns), 1 if h * w > 1 else 0
    sheet = np.full((rows * (h + line) - line, columns * (w + line) - line, *tiles.shape[3:]), np.nan, np.float32)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (h + line), index % columns * (w + line)
        sheet[top : top + h, left : left + w] = tile
    return sheet


def square_columns(count: int, h: int, w: int) -> int:
    """How many columns make a sheet of tiles about as wide as high."""
    return max(1, min(count, round(math.sqrt(count * (h + 1) / (w + 1)))))


def colour_filters(title: str, kernels: NDArray[np.float32], kind: str) -> bytes:
    """(n, h, w, 3) RGB kernels of a first layer as tiles; grey is 0, one scale for all."""
    most = float(np.abs(kernels).max()) or 1.0
    count, h, w = kernels.shape[:3]
    sheet = mosaic(kernels, square_columns(count, h, w)) / (2 * most) + 0.5
    scale = _Scale(Normalize(-most, most), "gray")
    shown = ~np.isnan(sheet).any(2, keepdims=True)  # what lies between the tiles is the page
    return _sheet_of_tiles(title, np.concatenate([np.nan_to_num(sheet), shown], 2), (h, w), ("", ""), scale, kind)


def filters(title: str, kernels: NDArray[np.float32], columns: int, labels: tuple[str, str], kind: str) -> bytes:
    """(n, h, w) kernels as tiles, `columns` a row, red above 0 and blue below; `labels` of (rows, columns)."""
    most, extend = _limit(np.abs(kernels))
    scale = _Scale(Normalize(-most, most), "RdBu_r", "both" if extend == "max" else extend)
    return _sheet_of_tiles(title, mosaic(kernels, columns), kernels.shape[1:3], labels, scale, kind)


def _limit(values: NDArray[np.float32]) -> tuple[float, str]:
    """(the end of a colour scale, its mark): a few outliers would leave all else dark, so they are drawn as the end."""
    end, most = float(np.quantile(values, 0.997, method="higher")), float(values.max())
    return (end, "max") if 0 < end < most / 1.2 else (most or 1.0, "neither")


def _sheet_of_tiles(
    title: str,
    sheet: NDArray[np.float32],
    tile: tuple[int, ...],
    labels: tuple[str, str],
    scale: _Scale,
    kind: str,
) -> bytes:
    high, wide = sheet.shape[:2]
    titled = _wide(title, 12) + 0.4
    filling = int((titled - _SIDE - _BAR) * _DPI / wide)  # few tiles are as wide as their title
    times = max(1, min(max(12, min(24, filling)), 1400 // max(high, wide)))
    width, height = wide * times / _DPI, high * times / _DPI
    figure, axes = _sheet(max(width + _SIDE + _BAR, titled), max(height, 1.6) + _HEAD + (0.6 if any(labels) else 0.2))
    figure.text(0.2 / figure.get_figwidth(), 1 - 0.3 / figure.get_figheight(), title, fontsize=12, fontweight="bold")
    axis = axes(_SIDE, _HEAD, width, height)
    _tiles(axis, sheet, scale)
    sides: tuple[tuple[Axis, str, int, int], ...] = (
        (axis.yaxis, labels[0], high, tile[0]),
        (axis.xaxis, labels[1], wide, tile[1]),
    )
    for which, label, extent, size in sides:
        if label:
            step = size + (1 if tile[0] * tile[1] > 1 else 0)
            count = -(-extent // step)
            apart = 0.45 * _DPI / (step * times)  # tiles in the room that a number needs
            every = 2 ** max(0, math.ceil(math.log2(apart)))
            places = range(0, count, every)
            which.set_ticks([index * step + (size - 1) / 2 for index in places], [str(index) for index in places])
            which.set_label_text(label, fontsize=9)
            which.set_tick_params(labelsize=8)
    _scale_bar(figure, scale, axes(_SIDE + width + 0.2, _HEAD, 0.14, min(max(height, 1.6), 4)))
    return _saved(figure, kind)


def _scale_bar(figure: Figure, scale: _Scale, axis: Axes) -> None:
    bar = ScalarMappable(scale.norm, colormaps[scale.colours])
    figure.colorbar(bar, cax=axis, extend=scale.extend).ax.tick_params(labelsize=8)


def _tiles(axis: Axes, sheet: NDArray[np.float32], scale: _Scale) -> None:
    """Draws `sheet`, without interpolation where it is enlarged."""
    how = "auto" if max(sheet.shape[:2]) > 800 else "nearest"
    axis.patch.set_visible(False)  # what lies between tiles is the page
    axis.imshow(sheet, norm=scale.norm, cmap=scale.colours, interpolation=how)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)


def activations(
    title: str, picture: NDArray[np.uint8] | None, maps: Sequence[tuple[str, NDArray[np.float32]]], kind: str
) -> bytes:
    """Feature maps as tiles below one another, the picture beside them.

    `picture`: uint8 (H, W, 3) RGB or (H, W), None for none; `maps`: [(name, array)], (C, H, W) drawn as tiles in the order
    of channels, (C,) as bars. Each has its own scale. Without a title and names there is no room for them.
    """
    head, between = (_HEAD + 0.25, 0.75) if title else (0.1, 0.4)
    wide, beside = 8.0, 3.0 if picture is not None else 0.45
    sheets, heights = list[NDArray[np.float32] | None](), list[float]()
    for _, values in maps:
        sheet = mosaic(values, square_columns(*values.shape)) if values.ndim == 3 else None
        sheets.append(sheet)
        heights.append(2.0 if sheet is None else wide * sheet.shape[0] / sheet.shape[1])
    total = head + sum(heights) + between * len(maps)
    figure, axes = _sheet(beside + wide + _BAR, max(total, head + 3 if picture is not None else 0))
    figure.text(0.2 / figure.get_figwidth(), 1 - 0.3 / figure.get_figheight(), title, fontsize=12, fontweight="bold")
    top = head
    if picture is not None:
        shown = axes(0.2, top, beside - 0.5, (beside - 0.5) * picture.shape[0] / picture.shape[1])
        shown.imshow(picture, cmap="gray", vmin=0, vmax=255)
        shown.axis("off")
    for (name, values), sheet, height in zip(maps, sheets, heights, strict=True):
        axis = axes(beside, top, wide, height)
        axis.set_title(name, fontsize=10, loc="left")
        if sheet is None:
            axis.fill_between(
                np.arange(len(values)), values, step="mid", color="#4c78a8", linewidth=0.8, edgecolor="#4c78a8"
            )
            axis.set_xlim(-0.5, len(values) - 0.5)
            axis.tick_params(labelsize=8)
            axis.grid(alpha=0.3)
        else:
            low, (most, extend) = float(values.min()), _limit(values)
            scale = _Scale(Normalize(low, most if most > low else low + 1), "viridis", extend)
            _tiles(axis, sheet, scale)
            _scale_bar(figure, scale, axes(beside + wide + 0.15, top, 0.14, min(height, 3)))
        top += height + between
    return _saved(figure, kind)


def picture(pixels: NDArray[np.uint8]) -> bytes:
    """The WebP of uint8 (H, W, 3) RGB or (H, W) grey pixels, small ones enlarged."""
    from PIL import Image

    file, times = io.BytesIO(), max(1, 200 // max(pixels.shape[:2]))
    pixels = pixels.repeat(times, 0).repeat(times, 1)
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", quality=90)
    return file.getvalue()
