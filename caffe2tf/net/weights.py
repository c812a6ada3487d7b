"""The arrays of a snapshot, given to the layers that they belong to, as Net::CopyTrainedLayersFrom gives them (net.cpp)."""

import math
from collections.abc import Iterable, Mapping, Sequence

from caffe2tf.arrays.layout import Floats
from caffe2tf.caffe.caffe_pb2 import ParamSpec
from caffe2tf.errors import WeightMismatch
from caffe2tf.layers import Layer, Weight
from caffe2tf.layers.types import StoredBlob
from caffe2tf.net.fillers import left_alone
from caffe2tf.net.wiring import Node

Cell = tuple[str, int | None]  # a parameter: (name that several share, None) or (layer, index)


def take_weights(
    nodes: Sequence[Node], blobs: Mapping[str, Sequence[StoredBlob]]
) -> tuple[dict[str, tuple[Floats, ...]], list[str]]:
    """({layer: arrays}, notes): each layer's blobs checked against its layer, as Net::CopyTrainedLayersFrom of net.cpp: layer
    by layer in the order of the file, so that of parameters shared by name the last in it stays. What the file lacks
    keeps what its filler says; a filler with chance is refused."""
    layers = {node.layer.name: node.layer for node in nodes if node.layer.blobs()}
    cells, owners = _cells(layers.values())
    values: dict[Cell, Floats] = {}
    for name, found in blobs.items():
        if name in layers:
            values.update(zip(cells[name], layers[name].take_blobs(found), strict=True))
    if layers and not values:
        raise WeightMismatch(
            f"the file has weights of {_few(blobs) or 'no layer'}, the network wants those of {_few(layers)}: they have no "
            "layer in common"
        )
    notes, chance = [], []
    drawn: set[Cell] = set()
    for name, layer in layers.items():
        lacking = [
            (cell, weight)
            for cell, weight in zip(cells[name], layer.blobs(), strict=True)
            if cell not in values and cell not in drawn
        ]
        for cell, weight in lacking:
            start = left_alone(*owners[cell])
            if start is not None:
                values[cell] = start
            else:
                drawn.add(cell)
                chance.append(
                    f"layer '{name}' ({layer.type}): the file has no {weight.name} for it, and its filler is random"
                )
        if lacking and not chance:
            notes.append(
                f"layer '{name}' ({layer.type}): the file has no {', '.join(weight.name for _, weight in lacking)} for it; they "
                "keep what their fillers say, as in Caffe"
            )
    if chance:
        raise WeightMismatch(*chance)
    arrays = {
        name: tuple(
            values[cell] if values[cell].shape == weight.shape else values[cell].reshape(weight.shape)
            for cell, weight in zip(cells[name], layer.blobs(), strict=True)
        )
        for name, layer in layers.items()
    }
    known = {node.layer.name for node in nodes}
    others = [name for name in blobs if name not in known]
    notes += [f"weights of layers that the network does not have are left out: {', '.join(others)}"] if others else []
    return arrays, notes


def _cells(layers: Iterable[Layer]) -> tuple[dict[str, list[Cell]], dict[Cell, tuple[Layer, Weight]]]:
    """({layer: a key for each of its parameters, one key for those that share a name}, {key: (layer, Weight) of its owner})."""
    cells: dict[str, list[Cell]] = {}
    owners: dict[Cell, tuple[Layer, Weight]] = {}
    for layer in layers:
        mine, specs = [], [*layer.proto.param, *([ParamSpec()] * len(layer.blobs()))]
        for index, (weight, spec) in enumerate(zip(layer.blobs(), specs, strict=False)):
            cell: Cell = (spec.name, None) if spec.name else (layer.name, index)
            shape = owners.setdefault(cell, (layer, weight))[1].shape
            loose = spec.share_mode == ParamSpec.PERMISSIVE
            if math.prod(shape) != math.prod(weight.shape) if loose else shape != weight.shape:
                raise WeightMismatch(
                    f"layer '{layer.name}' ({layer.type}): shares '{spec.name}' of shape {shape}, the layer wants {weight.shape}"
                )
            mine.append(cell)
        cells[layer.name] = mine
    return cells, owners


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
