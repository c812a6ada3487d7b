"""A Net as people see it: one line, a table of text, a table of HTML."""

import html
import math
from typing import TYPE_CHECKING

from caffe2tf.words import shape

if TYPE_CHECKING:
    from caffe2tf.net.net import Net

_COLUMNS = "layer", "type", "output", "weights", "parameters"


def line(net: "Net") -> str:
    """`AlexNet: 24 layers, 60,965,224 parameters, data 1 x 3 x 227 x 227 -> prob 1 x 1000`."""
    blobs = net.blobs
    given, made = (", ".join(f"{blob} {shape(blobs[blob])}" for blob in names) for names in (net.inputs, net.outputs))
    count = sum(_parameters(net).values())
    weights = f"{count:,} parameters" + (", without weights" if count and not net.arrays else "")
    return (
        f"{net.name or 'no name'}: {len(net.nodes)} layers, {weights}, {given or 'no input'} -> {made or 'no output'}"
    )


def text(net: "Net") -> str:
    """`line`, and a row for each layer: its name, type, shapes of its tops and weights, in Caffe's and in Keras's axis order,
    and how many parameters it has, shared ones counted where they come first."""
    rows = [_COLUMNS, *_rows(net)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(_COLUMNS))]
    lines = []
    for row in rows:
        *left, count = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([*left, count.strip().rjust(widths[-1])]).rstrip())
    return "\n".join([line(net), *lines])


def as_html(net: "Net") -> str:
    """The same as a table of HTML, for notebooks."""
    head = "".join(f"<th>{name}" for name in _COLUMNS)
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}' for cell in row)}" for row in _rows(net))
    return f"<p>{html.escape(line(net))}</p><table><thead><tr>{head}</thead><tbody>{rows}</tbody></table>"


def _rows(net: "Net") -> list[tuple[str, ...]]:
    counts, rows = _parameters(net), list[tuple[str, ...]]()
    for node in net.nodes:
        name, count = node.layer.name, counts[node.layer.name]
        weights = ", ".join(f"{key} {shape(extents)}" for key, extents in node.layer.weight_shapes().items())
        rows.append((name, node.layer.type, ", ".join(map(shape, node.shapes)), weights, f"{count:,}" if count else ""))
    return rows


def _parameters(net: "Net") -> dict[str, int]:
    """{layer: its parameters}, what Caffe learns; a shared array counts once."""
    counted: set[int] = set()
    found = {}
    for node in net.nodes:
        layer, count = node.layer, 0
        named = layer.weight_shapes()
        for weight, array in zip(layer.blobs(), net.arrays.get(layer.name, [None] * len(layer.blobs())), strict=True):
            if weight.name in named and (array is None or id(array) not in counted):
                count += math.prod(weight.shape)
            counted.add(id(array))
        found[layer.name] = count
    return found
