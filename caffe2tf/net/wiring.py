"""Layers in their places: which blob each reads and writes, and every shape."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caffe2tf.arrays.layout import OpenShape, Shape, Shaped
from caffe2tf.caffe.caffe_pb2 import LayerParameter, NetParameter
from caffe2tf.caffe.datalayers import UNKNOWN
from caffe2tf.errors import NetError
from caffe2tf.layers import Layer, kind_of
from caffe2tf.net.memory import Memory
from caffe2tf.net.support import problems, refuse

# Two sizes for heights and widths that no file tells: extents that differ between them are unknown, others are not.
_PROBES = (256, 320)

Blob = tuple[str, int]  # (name, version)


@dataclass(frozen=True)
class Node:
    """One layer in its place. Blobs are (name, version): an in-place layer makes the next version of its bottom.

    `shapes`: of the tops, in Caffe's order; None is an extent that nothing tells. `echoes`: the blobs that lie in the same
    memory as a top that the layer changes in place, each (index of the top, (name, version), shape): they change with it.
    """

    layer: Layer
    bottoms: tuple[Blob, ...]
    tops: tuple[Blob, ...]
    shapes: tuple[OpenShape, ...]
    echoes: tuple[tuple[int, Blob, OpenShape], ...] = ()

    @property
    def row(self) -> Layer:
        """The layer, under the name that it had in 0.1.0."""
        return self.layer

    @property
    def in_place(self) -> bool:
        """Whether the layer overwrites its first bottom."""
        return bool(self.tops and self.bottoms) and self.tops[0][0] == self.bottoms[0][0]

    def made(self) -> tuple[tuple[Blob, OpenShape], ...]:
        """Every version of a blob that the layer makes, with its shape: tops, then echoes."""
        return (*zip(self.tops, self.shapes, strict=True), *((blob, shape) for _, blob, shape in self.echoes))


def wire(param: NetParameter, blobs: Mapping[str, Sequence[Shaped]]) -> tuple[tuple[Node, ...], list[str]]:
    """(nodes, notes) of `param`; `blobs` {layer: sequence of things with a shape} settle extents that it leaves open.

    Raises one error for all that is wrong, a line each: UnsupportedLayer where a type or a parameter is not computed, else
    NetError. What is made of a layer that is wrong is not looked at.
    """
    unsupported, wiring = problems(param), Wiring(param, blobs)
    for proto in param.layer:
        wiring.place(proto)
    if unsupported or wiring.faults:
        refuse(unsupported, list(wiring.faults.values()))
    nodes = tuple(wiring.nodes)
    told = (f"layer '{node.layer.name}' ({node.layer.type}): {said}" for node in nodes if (said := node.layer.note()))
    return nodes, [*wiring.notes, *told]


class Wiring:
    """The layers that have found their places, and every version of a blob that they make."""

    def __init__(self, param: NetParameter, blobs: Mapping[str, Sequence[Shaped]]) -> None:
        self.param, self.blobs = param, blobs
        self.sizes = _PROBES if any(n == UNKNOWN for s in _input_dims(param) for n in s) else _PROBES[:1]
        self.version: dict[str, int] = {}
        self.shapes: dict[Blob, list[Shape]] = {}  # one for each of `sizes`
        self.nodes: list[Node] = []
        self.notes: list[str] = []
        self.memory = Memory()
        self.faults = _two_sources(param)  # {layer: what is wrong with it}
        self.broken: set[str] = set()  # the blobs that a layer at fault makes

    def place(self, proto: LayerParameter) -> None:
        """Gives `proto` its node; or says among `faults` why it has none, if that is no fault of a layer before it."""
        kind = kind_of(proto)
        if kind is None or proto.name in self.faults or self.broken.intersection(proto.bottom):
            self.broken.update(proto.top)
            return
        try:
            self._place(proto, kind)
        except NetError as error:
            self.faults[proto.name] = str(error)
            self.broken.update(proto.top)

    def _place(self, proto: LayerParameter, kind: type[Layer]) -> None:
        where = f"layer '{proto.name}' ({proto.type})"
        _check_count(where, "bottoms", len(proto.bottom), kind.bottom_count)
        _check_count(where, "tops", len(proto.top), kind.top_count)
        bottoms = [self._bottom(where, blob) for blob in proto.bottom]
        layers = self._layers(where, kind, proto, bottoms)
        outs = [one.tops() for one in layers]
        if len(proto.param) > len(layers[0].blobs()):
            raise NetError(
                f"{where}: {len(proto.param)} param for {len(layers[0].blobs())} learned blobs; takes no more"
            )
        if any(n < 1 for out in outs for shape in out for n in shape):
            raise NetError(
                f"{where}: bottoms {layers[0].bottoms} give a top of shape {outs[0]}; every extent must be at least 1"
            )
        version, shapes = self.version, self.shapes
        tops: list[Blob] = []
        beside: list[tuple[int, str]] = []
        for index, blob in enumerate(proto.top):
            out = [one[index] for one in outs]
            if blob in version:
                if any(math.prod(a) != math.prod(b) for a, b in zip(out, shapes[bottoms[index]], strict=True)):
                    raise NetError(f"{where}: changes the size of '{blob}' in place; give it a top of its own")
                if not layers[0].works_in_place:
                    layers[0].fail(f"cannot change '{blob}' in place; give it a top of its own")
                others = self.memory.beside(blob)
                layers[0].aliased = tuple(i for i, b in enumerate(proto.bottom) if b == blob or b in others)
                beside += ((index, other) for other in others)
            else:
                self.memory.make(blob, layers[0].shares_memory().get(index))
            version[blob] = version.get(blob, -1) + 1
            tops.append((blob, version[blob]))
            shapes[tops[-1]] = out
        echoes: list[tuple[int, Blob, OpenShape]] = []
        for index, blob in beside:
            before = blob, version[blob]
            version[blob] += 1
            shapes[blob, version[blob]] = shapes[before]
            echoes.append((index, (blob, version[blob]), _merge(shapes[before])))
        merged = tuple(_merge(shapes[top]) for top in tops)
        self.nodes.append(Node(layers[0], tuple(bottoms), tuple(tops), merged, tuple(echoes)))

    def _bottom(self, where: str, blob: str) -> Blob:
        if blob not in self.version:
            later = any(blob in other.top for other in self.param.layer)
            why = "is made only by a later layer (a cycle, or layers out of order)" if later else "is made by no layer"
            raise NetError(f"{where}: bottom '{blob}' {why}")
        return blob, self.version[blob]

    def _layers(self, where: str, kind: type[Layer], proto: LayerParameter, bottoms: Sequence[Blob]) -> list[Layer]:
        """The layer once for each of `sizes`."""
        probed = [[self.shapes[b][i] for b in bottoms] for i in range(len(self.sizes))]
        if len(self.sizes) > 1 and probed[0] != probed[1]:
            given = _merge([p[0] for p in probed])
            settled = tuple(n for n in kind.settle(proto, given, self.blobs.get(proto.name)) if n is not None)
            if None in given and len(settled) == len(given):
                self.notes.append(
                    f"{where}: its bottom is taken as {settled[2]}x{settled[3]}, the square that its weights fit"
                )
                probed = [[settled]] * len(self.sizes)
        return [kind(_sized(proto, size), bottom) for size, bottom in zip(self.sizes, probed, strict=True)]


def _two_sources(param: NetParameter) -> dict[str, str]:
    """{layer: a line} for each blob that two layers make. It may be made again only in place, by the only layer that reads it (net.cpp, AppendTop; insert_splits.cpp gives
    each reader of a blob that has several a name of its own)."""
    made: dict[str, int] = {}
    readers: dict[Blob, int] = {}
    for proto in param.layer:
        for blob in proto.bottom:
            key = blob, made.get(blob, 0)
            readers[key] = readers.get(key, 0) + 1
        for blob in proto.top:
            made[blob] = made.get(blob, 0) + 1
    made, faults = {}, dict[str, str]()
    for proto in param.layer:
        where = f"layer '{proto.name}' ({proto.type})"
        read = {blob: made.get(blob, 0) for blob in proto.bottom}
        for index, blob in enumerate(proto.top):
            if blob in made:
                if index >= len(proto.bottom) or proto.bottom[index] != blob:
                    faults[proto.name] = (
                        f"{where}: top '{blob}' is already made by another layer; a layer changes a blob in place where it is "
                        f"its bottom number {index + 1}"
                    )
                elif readers[blob, read[blob]] > 1:
                    faults[proto.name] = (
                        f"{where}: changes '{blob}' in place, which is read elsewhere too; give it a top of its own"
                    )
            made[blob] = made.get(blob, 0) + 1
    return faults


def _input_dims(param: NetParameter) -> list[Shape]:
    return [tuple(shape.dim) for layer in param.layer if layer.type == "Input" for shape in layer.input_param.shape]


def _sized(proto: LayerParameter, size: int) -> LayerParameter:
    """An Input with its unknown extents set to the probe's."""
    if proto.type != "Input" or not any(UNKNOWN in shape.dim for shape in proto.input_param.shape):
        return proto
    sized = type(proto).FromString(proto.SerializeToString())
    for shape in sized.input_param.shape:
        shape.dim[:] = [size if n == UNKNOWN else n for n in shape.dim]
    return sized


def _merge(shapes: Sequence[Shape]) -> OpenShape:
    """One shape from those of all probes: None where they differ."""
    return tuple(extents[0] if len(set(extents)) == 1 else None for extents in zip(*shapes, strict=True))


def _check_count(where: str, what: str, count: int, allowed: tuple[int, int | None]) -> None:
    least, most = allowed
    if count < least or (most is not None and count > most):
        takes = str(least) if least == most else f"{least} to {most}" if most is not None else f"{least} or more"
        raise NetError(f"{where}: {count} {what}; takes {takes}")
