"""Inputs whose shape nothing tells: one that their network is likely to have been made for, found by trying it.

A shape counts as likely where every layer takes it. What it is tried for is told by the network's names (LeNet's digits),
its crop, the stride of its first convolution, the blobs that an input is put together with, and what is usual.
"""

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from caffe2tf.arrays.layout import OpenShape, Shape, Shaped
from caffe2tf.caffe.caffe_pb2 import LayerParameter, NetParameter
from caffe2tf.caffe.datalayers import UNKNOWN
from caffe2tf.errors import NetError, ShapeNeeded, UnsupportedLayer
from caffe2tf.net.support import problems
from caffe2tf.net.wiring import Node, Wiring, wire

_SQUARES = (224, 227, 32, 28, 64, 128, 256, 300, 320, 321, 416, 512, 513, 500, 600, 96, 112, 48, 24, 12)
_USUAL = (*((n, n) for n in _SQUARES), (360, 480), (480, 640), (240, 320), (576, 768), (512, 1024), (530, 730))
_MOST_LAYERS = 100_000  # that are tried, of all shapes together: some seconds
_BATCHES = (3, 4, 5, 7, 8, 16, 20, 25)  # where items are parts of one, as the frames of a film
# Words in the names of a network and its layers -> (channels, height and width) of the pictures that such networks were made for.
_NAMES = {"mnist": (1, 28), "lenet": (1, 28), "cifar": (3, 32), "pnet": (3, 12), "rnet": (3, 24), "onet": (3, 48)}
# Inputs of detectors, by name: rois (item, x1, y1, x2, y2), im_info (height, width, scale), boxes (x1, y1, x2, y2, class).
_TABLES = {"rois": (1, 5), "im_info": (1, 3), "gt_boxes": (1, 5)}
_BESIDE = ("Eltwise", "Concat")  # types that read blobs of one shape, or nearly


class _Open(NamedTuple):
    """An input with extents that nothing tells: its blob, its shape with None for those, and the first layer that reads it."""

    blob: str
    shape: OpenShape
    reader: LayerParameter | None


def wire_open(param: NetParameter, blobs: Mapping[str, Sequence[Shaped]]) -> tuple[tuple[Node, ...], list[str]]:
    """`wiring.wire`. Raises ShapeNeeded with a likely shape where an input has channels that nothing tells, or a height and width
    without which the layers do not fit."""
    opened, refused = _opened(param), list[Exception]()
    if not any(len(one.shape) > 1 and one.shape[1] is None for one in opened):
        try:
            return wire(param, blobs)
        except UnsupportedLayer:
            raise
        except NetError as error:
            if not opened:
                raise
            refused.append(error)
    for count, shapes in enumerate(_tries(param, opened)):
        if count * len(param.layer) > _MOST_LAYERS:
            break
        try:
            nodes, _ = wire(_with(param, shapes), blobs)
        except (NetError, UnsupportedLayer) as error:
            refused.append(error)
            if len(str(error).splitlines()) == len(problems(param)):
                break  # all layers but those that are not supported take it
            continue
        if _fit(nodes, blobs):
            raise ShapeNeeded(_words(opened, shapes), shapes)
    nearest = min(refused, key=lambda error: len(str(error).splitlines()), default=None)
    if isinstance(nearest, UnsupportedLayer):
        raise nearest
    raise ShapeNeeded("\n".join([_words(opened, {}), *str(nearest or "").splitlines()]), {})


def _opened(param: NetParameter) -> list[_Open]:
    found = []
    for layer in param.layer:
        given = layer.input_param.shape if layer.type == "Input" else ()
        # As many as both have: another count is refused where the layers are wired.
        for blob, one in zip(layer.top, list(given) * (len(layer.top) if len(given) == 1 else 1), strict=False):
            shape = tuple(None if n == UNKNOWN else int(n) for n in one.dim)
            if None in shape:
                reader = next((other for other in param.layer if blob in other.bottom), None)
                found.append(_Open(blob, shape, reader))
    return found


def _tries(param: NetParameter, opened: Sequence[_Open]) -> Iterator[dict[str, Shape]]:
    """Shapes for all of `opened`, the likeliest first."""
    for items, channels, height, width in _pictures(param):
        shapes: dict[str, Shape] = {}
        later = []
        for one in opened:
            if one.blob in _TABLES:
                shapes[one.blob] = _TABLES[one.blob]
            elif one.reader is not None and one.reader.type == "Embed":
                shapes[one.blob] = (1, 16)
            elif shapes and _beside(one):
                later.append(one)
            else:
                told = _told(one, channels, height, width)
                rest = (a if n is None else n for n, a in zip(one.shape[1:], told, strict=False))
                shapes[one.blob] = (items, *rest)
        for one in later:
            passing = {other.blob: (1,) * len(other.shape) for other in later}
            shapes[one.blob] = _neighbour(_with(param, passing | shapes), one.blob) or (items, channels, height, width)
        yield shapes


def _pictures(param: NetParameter) -> Iterator[tuple[int, int, int, int]]:
    """(items, channels, height, width) of pictures, the likeliest first."""
    words = {word for layer in param.layer for word in re.split(r"[^a-z]+", f"{param.name} {layer.name}".lower())}
    for name, (channels, extent) in _NAMES.items():
        if any(word.startswith(name) for word in words):
            yield 1, channels, extent, extent
    usual = list(_USUAL)
    first = next((layer.convolution_param for layer in param.layer if layer.type == "Convolution"), None)
    if first is not None and list(first.kernel_size) == [11]:
        usual.sort(key=lambda extents: extents != (227, 227))  # AlexNet's
    yield from ((1, 3, *extents) for extents in usual)
    yield from ((1, 1, *extents) for extents in usual)
    yield from ((items, 3, *usual[0]) for items in _BATCHES)


def _beside(one: _Open) -> bool:
    """Whether the input meets another blob in the layer that reads it, whose shape is then its own."""
    return one.reader is not None and one.reader.type in _BESIDE and len(one.reader.bottom) > 1


def _told(one: _Open, channels: int, height: int, width: int) -> tuple[int, int, int]:
    """The channels, height and width for a picture of these extents, or what the layer that reads it tells: the groups of a convolution, where it is
    cut, what it is reshaped to."""
    if one.reader is None:
        return channels, height, width
    if one.reader.type == "Reshape" and len(one.reader.reshape_param.shape.dim) == 4:
        _, c, h, w = (max(0, n) for n in one.reader.reshape_param.shape.dim)
        return c or channels, h or height, w or width
    if one.reader.type == "Slice" and one.reader.slice_param.axis == 1 and one.reader.slice_param.slice_point:
        before, last = (0, *one.reader.slice_param.slice_point)[-2:]
        return 2 * last - before, height, width
    group = one.reader.convolution_param.group if one.reader.type == "Convolution" else 1
    return channels if group < 1 or channels % group == 0 else group, height, width


def _neighbour(param: NetParameter, blob: str) -> Shape | None:
    """The shape of another blob that the first reader of `blob` reads, None where that cannot be known before it."""
    wiring = Wiring(param, {})
    for layer in param.layer:
        if blob in layer.bottom:
            others = [(name, wiring.version[name]) for name in layer.bottom if name != blob and name in wiring.version]
            return wiring.shapes[others[0]][0] if others else None
        wiring.place(layer)
    return None


def _with(param: NetParameter, shapes: Mapping[str, Shape]) -> NetParameter:
    """`param` with these shapes of its inputs. A layer whose own shapes are not as many as its tops stays, and is refused in its turn."""
    made = NetParameter.FromString(param.SerializeToString())
    for layer in made.layer:
        old = layer.input_param.shape
        if layer.type == "Input" and shapes.keys() & set(layer.top) and len(old) in (1, len(layer.top)):
            dims = [tuple(old[i if len(old) > 1 else 0].dim) for i in range(len(layer.top))]
            del layer.input_param.shape[:]
            for top, extents in zip(layer.top, dims, strict=True):
                layer.input_param.shape.add().dim.extend(shapes.get(top, extents))
    return made


def _fit(nodes: Sequence[Node], blobs: Mapping[str, Sequence[Shaped]]) -> bool:
    """Whether the layers want as many values as the stored `blobs` of their names have."""
    return all(
        math.prod(blob.shape) == math.prod(weight.shape)
        for node in nodes
        for blob, weight in zip(blobs.get(node.layer.name, ()), node.layer.blobs(), strict=False)
    )


def _words(opened: Sequence[_Open], shapes: Mapping[str, Shape]) -> str:
    names = ", ".join(f"'{one.blob}'" for one in opened)
    if not shapes:
        return f"input {names}: nothing tells its shape; give it with `input_shape`"
    alone = len(opened) == 1
    flags = (
        f"`input_shape` {shlex.quote(('' if alone else f'{one.blob}=') + ','.join(map(str, shapes[one.blob])))}"
        for one in opened
    )
    return f"input {names}: nothing tells {'its shape' if alone else 'their shapes'}; likely: {' '.join(flags)}"
