"""The last touches of a net: other input shapes at run time, phases, stages and levels, older inputs, names."""

from typing import Any

import numpy as np

from caffe2tf.caffe.caffe_pb2 import TEST, TRAIN, NetParameter
from tests.random_nets.legal import Illegal, Shape
from tests.random_nets.making import LARGEST, Maker
from tests.random_nets.sample import Sample, replay


def finish(m: Maker, seed: int) -> Sample:
    """The Sample of what `m` has made."""
    shapes = {layer.top[0]: tuple(layer.input_param.shape[0].dim) for layer in m.net.layer if layer.type == "Input"}
    if m.chance(0.35):
        shapes = _reshaped(m, shapes)
    inputs = {name: np.asarray(m.values[name](shape), np.float32) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        inputs[name] = inputs[name].reshape(shape)
    if m.chance(0.3):
        _older_inputs(m)
    if "names" in m.features and m.chance(0.04):
        _without_names(m)
    dropped = _phases(m) if m.chance(0.25) else frozenset()
    m.net.name = m.one("", "net", "a net/of two")
    return Sample(seed, m.net, m.weights, inputs, dropped)


def _reshaped(m: Maker, shapes: dict[str, Shape]) -> dict[str, Shape]:
    """Other input shapes that Caffe takes with the same weights; the given ones where none is found."""
    selected = {name: int(np.count_nonzero(array)) for name, array in m.fixed.items()}
    try:
        before, weights = replay(m.net, m.net.layer, shapes, selected)
    except Illegal:
        return shapes
    free = [name for name in shapes if name not in m.fixed and shapes[name]]
    for _ in range(6):
        name = m.one(*free) if free else ""
        if not name:
            return shapes
        rank, axis = len(shapes[name]), m.some(0, len(shapes[name]) - 1)
        axis = 0 if m.chance(0.5) else axis
        old, new = shapes[name][axis], m.some(1, 9)
        other = dict(shapes)
        # Inputs that agree in this extent mostly go together (the batch).
        together = m.chance(0.6)
        for one in free:
            shape = shapes[one]
            if one == name or (
                together and len(shape) > axis and shape[axis] == old and (axis == 0 or len(shape) == rank)
            ):
                other[one] = (*shape[:axis], new, *shape[axis + 1 :])
        try:
            found, same = replay(m.net, m.net.layer, other, selected)
        except Illegal:
            continue
        # What BatchReindex picks and Filter selects must still be there.
        small = all(int(np.prod(shape)) <= 2 * LARGEST for shape in found.values())
        if (
            same == weights
            and small
            and not m.fixed
            and not _other_steps(m, before, found)
            and not _places(m, before, found)
        ):
            return other
    return shapes


def _places(m: Maker, before: dict[str, Shape], after: dict[str, Shape]) -> bool:
    """Whether Embed might read a place that ArgMax finds in a longer bottom: Caffe checks that in a debug build alone."""
    types = {layer.type for layer in m.net.layer}
    longer = any(np.prod(after[name]) > np.prod(shape) for name, shape in before.items())
    return {"ArgMax", "Embed"} <= types and longer


def _other_steps(m: Maker, before: dict[str, Shape], after: dict[str, Shape]) -> bool:
    """Whether a recurrent layer would see another number of steps, which Caffe refuses."""
    read = [layer.bottom[0] for layer in m.net.layer if layer.type in ("LSTM", "RNN")]
    return any(before[blob][0] != after[blob][0] for blob in read)


def _older_inputs(m: Maker) -> None:
    """The first layers, if they are Inputs, as `input` with `input_shape` or `input_dim`."""
    first: list[Any] = []
    while len(first) < len(m.net.layer) and m.net.layer[len(first)].type == "Input":
        first.append(m.net.layer[len(first)])
    if not first or any(layer.name != layer.top[0] for layer in first):
        return
    if len(first) == len(m.net.layer):
        return
    shapes = [list(layer.input_param.shape[0].dim) for layer in first]
    for layer in first:
        m.net.input.append(layer.top[0])
    if all(len(shape) == 4 for shape in shapes) and m.chance(0.5):
        m.net.input_dim.extend(extent for shape in shapes for extent in shape)
    else:
        for shape in shapes:
            m.net.input_shape.add().dim.extend(shape)
    del m.net.layer[: len(first)]


def _without_names(m: Maker) -> None:
    """Names that are empty or equal, of layers without weights."""
    bare = [layer for layer in m.net.layer if layer.name not in m.weights and layer.type != "Input"]
    name = m.one("", "twice")
    for layer in bare:
        if m.chance(0.6):
            layer.name = name


def _phases(m: Maker) -> frozenset[int]:
    """Rules that keep layers and, between them, layers that rules drop; the places of these."""
    net, dropped = NetParameter.FromString(m.net.SerializeToString()), []
    del net.layer[:]
    if "stages" in m.features and m.chance(0.5):
        net.state.stage.append("deploy")
    if "level" in m.features and m.chance(0.3):
        net.state.level = 2
    deploy = bool(net.state.stage)
    for layer in m.net.layer:
        twin = None
        rules: list[Any] = [{"phase": TEST}, {"min_level": 0}, {"max_level": 0}, {"not_stage": ["fit"]}]
        if deploy:
            rules += [{"stage": ["deploy"]}, {"phase": TEST, "stage": ["deploy"]}]
        if m.chance(0.3) and layer.type != "Input":
            if m.chance(0.6):
                for rule in m.one([rules[0]], [m.one(*rules)], [{"phase": TRAIN}, m.one(*rules)]):
                    layer.include.add(**rule)
            else:
                layer.exclude.add(**m.one({"phase": TRAIN}, {"stage": ["fit"]}, {"min_level": 1}))
        elif m.chance(0.2) and layer.type != "Input" and list(layer.top) != list(layer.bottom):
            twin = type(layer).FromString(layer.SerializeToString())
            layer.include.add(phase=TEST)
            twin.include.add(phase=TRAIN)
        if twin is not None:
            dropped.append(len(net.layer))
            net.layer.add().CopyFrom(twin)
        net.layer.add().CopyFrom(layer)
        if m.chance(0.1) and layer.top:
            dropped.append(len(net.layer))
            noise = net.layer.add(name=f"only{len(net.layer)}", type="Power", bottom=[layer.top[0]], top=[layer.top[0]])
            noise.power_param.scale = 3
            noise.include.add(**m.one({"phase": TRAIN}, {"stage": ["fit"]}, {"min_level": 1}, {"max_level": -1}))
    m.net = net
    return frozenset(dropped)
