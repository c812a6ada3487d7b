"""Pictures of networks: the graph, filters as tiles, feature maps as tiles. Each function gives the bytes of a file."""

import functools
import io
import itertools
import math

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Patch, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

from caffe2tf.drawing.graph import arrange

KINDS = ("png", "svg", "pdf")
_DPI = 100
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


def _saved(figure, kind, dpi=_DPI):
    file = io.BytesIO()
    # Text stays text in an SVG, to search and to copy; its names and dates would differ from run to run.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "caffe2tf"}):
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure.savefig(file, format=kind, dpi=dpi, metadata=undated)
    return file.getvalue()


def _sheet(width, height):
    """A Figure of `width` x `height` inches, and a function that gives an Axes at (left, top, width, height) in inches."""
    figure = Figure(figsize=(width, height), facecolor="white")

    def axes(left, top, wide, high):
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    return figure, axes


# ------------------------------------------------------------------------------------------------ the graph

_LINE, _PAD, _GAP, _BETWEEN, _MARGIN = 0.165, 0.1, 0.35, 0.38, 0.3  # inches
_SIZES = (9.5, 8, 8)  # points, of a box's lines


def graph(title, boxes, kind):
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
def _wide(line, size):
    """Inches of a line of text, bold, with a little room for another font."""
    bold = FontProperties(weight="bold", size=size)
    return text_to_path.get_text_width_height_descent(line, bold, False)[0] / 72 * 1.04 if line else 0.0


def _edge(axis, box, below, top, high, shift):
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


def mosaic(tiles, columns):
    """One array of (n, h, w) or (n, h, w, 3) tiles, row by row, NaN in the lines of one pixel between them."""
    count, h, w = tiles.shape[:3]
    rows, line = -(-count // columns), 1 if h * w > 1 else 0
    sheet = np.full((rows * (h + line) - line, columns * (w + line) - line, *tiles.shape[3:]), np.nan, np.float32)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (h + line), index % columns * (w + line)
        sheet[top : top + h, left : left + w] = tile
    return sheet


def square_columns(count, h, w):
    """How many columns make a sheet of tiles about as wide as high."""
    return max(1, min(count, round(math.sqrt(count * (h + 1) / (w + 1)))))


def colour_filters(title, kernels, kind):
    """(n, h, w, 3) BGR kernels of a first layer as RGB tiles; grey is 0, one scale for all."""
    most = float(np.abs(kernels).max()) or 1.0
    count, h, w = kernels.shape[:3]
    sheet = mosaic(kernels[..., ::-1], square_columns(count, h, w)) / (2 * most) + 0.5
    bar = ScalarMappable(Normalize(-most, most), colormaps["gray"])
    return _sheet_of_tiles(title, np.where(np.isnan(sheet), 1.0, sheet), (h, w), ("", ""), bar, "neither", kind)


def filters(title, kernels, columns, labels, kind):
    """(n, h, w) kernels as tiles, `columns` a row, red above 0 and blue below; `labels` of (rows, columns)."""
    most, extend = _limit(np.abs(kernels))
    bar = ScalarMappable(Normalize(-most, most), colormaps["RdBu_r"])
    extend = "both" if extend == "max" else extend
    return _sheet_of_tiles(title, mosaic(kernels, columns), kernels.shape[1:], labels, bar, extend, kind)


def _limit(values):
    """(the end of a colour scale, its mark): a few outliers would leave all else dark, so they are drawn as the end."""
    end, most = float(np.quantile(values, 0.997, method="higher")), float(values.max())
    return (end, "max") if 0 < end < most / 1.2 else (most or 1.0, "neither")


def _sheet_of_tiles(title, sheet, tile, labels, bar, extend, kind):
    high, wide = sheet.shape[:2]
    scale = max(1, min(12, 1400 // max(high, wide)))
    width, height = wide * scale / _DPI, high * scale / _DPI
    figure, axes = _sheet(
        max(width + _SIDE + _BAR, _wide(title, 12) + 0.4), max(height, 1.6) + _HEAD + (0.6 if any(labels) else 0.2)
    )
    figure.text(0.2 / figure.get_figwidth(), 1 - 0.3 / figure.get_figheight(), title, fontsize=12, fontweight="bold")
    axis = axes(_SIDE, _HEAD, width, height)
    _tiles(axis, sheet, bar)
    for which, label, extent, size in ((axis.yaxis, labels[0], high, tile[0]), (axis.xaxis, labels[1], wide, tile[1])):
        if label:
            step = size + (1 if tile[0] * tile[1] > 1 else 0)
            count = -(-extent // step)
            apart = 0.45 * _DPI / (step * scale)  # tiles in the room that a number needs
            every = 2 ** max(0, math.ceil(math.log2(apart)))
            which.set_ticks([index * step + (size - 1) / 2 for index in range(0, count, every)], range(0, count, every))
            which.set_label_text(label, fontsize=9)
            which.set_tick_params(labelsize=8)
    _scale_bar(figure, bar, axes(_SIDE + width + 0.2, _HEAD, 0.14, min(max(height, 1.6), 4)), extend)
    return _saved(figure, kind)


def _scale_bar(figure, bar, axis, extend):
    figure.colorbar(bar, cax=axis, extend=extend).ax.tick_params(labelsize=8)


def _tiles(axis, sheet, bar):
    """Draws `sheet`, without interpolation where it is enlarged."""
    axis.imshow(sheet, norm=bar.norm, cmap=bar.cmap, interpolation="auto" if max(sheet.shape[:2]) > 800 else "nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)


def activations(title, picture, maps, kind):
    """Feature maps as tiles below one another, the picture beside them.

    `picture`: uint8 (H, W, 3) RGB or (H, W), None for none; `maps`: [(name, array)], (C, H, W) drawn as tiles in the order
    of channels, (C,) as bars. Each has its own scale. Without a title and names there is no room for them.
    """
    head, between = (_HEAD + 0.25, 0.75) if title else (0.1, 0.4)
    wide, beside = 8.0, 3.0 if picture is not None else 0.45
    sheets, heights = [], []
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
            bar = ScalarMappable(Normalize(low, most if most > low else low + 1), colormaps["viridis"])
            _tiles(axis, sheet, bar)
            _scale_bar(figure, bar, axes(beside + wide + 0.15, top, 0.14, min(height, 3)), extend)
        top += height + between
    return _saved(figure, kind)


def picture(pixels):
    """The WebP of uint8 (H, W, 3) RGB or (H, W) grey pixels, small ones enlarged."""
    from PIL import Image

    file, times = io.BytesIO(), max(1, 200 // max(pixels.shape[:2]))
    pixels = pixels.repeat(times, 0).repeat(times, 1)
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", quality=90)
    return file.getvalue()
