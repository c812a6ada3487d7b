"""How weights start where no file gives them: Caffe's fillers (filler.hpp)."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from caffe2tf.arrays.layout import Array, Floats, Shape
from caffe2tf.caffe.caffe_pb2 import FillerParameter
from caffe2tf.layers import Layer, Weight

if TYPE_CHECKING:
    from caffe2tf.net.net import Net

# As text: NumPy loads its random numbers where they are first used, and whoever only reads weights need not wait for them.
Random: TypeAlias = "np.random.RandomState"


def start(net: "Net", seed: int = 0) -> "Net":
    """`net` with every weight that it lacks as its filler says. Raises NetError for a filler that Caffe does not have, and
    for a kernel without one, which Caffe would start at 0 and never train."""
    random, arrays = np.random.RandomState(seed), dict(net.arrays)
    for node in net.nodes:
        if node.layer.blobs() and node.layer.name not in arrays:
            arrays[node.layer.name] = fill(node.layer, random)
    return replace(net, arrays=arrays)


def left_alone(layer: Layer, weight: Weight) -> Floats | None:
    """The array that Caffe leaves where a file has none: what a filler without chance says; None of one with chance."""
    filler = getattr(layer.p, weight.filler) if weight.filler and _says(layer, weight.filler) else None
    if filler is None:
        return np.full(weight.shape, weight.start or 0.0 if weight.unset is None else weight.unset, np.float32)
    if filler.type not in ("constant", "bilinear"):
        return None
    try:
        return FILLERS[filler.type](weight.shape, filler, np.random.RandomState(0)).astype(np.float32)
    except ValueError as error:
        layer.fail(f"{weight.filler} {filler.type}: {error}")


def _says(layer: Layer, filler: str) -> bool:
    """Whether the layer's parameters say how a weight starts; a dictionary says no more than a constant."""
    return not isinstance(layer.p, dict) and bool(layer.p.HasField(filler))


def fill(layer: Layer, random: Random, default: FillerParameter | None = None) -> tuple[Floats, ...]:
    """Caffe's arrays of `layer`, a tuple, drawn from `random`; `default` is the FillerParameter of a kernel without one."""
    made = []
    for weight in layer.blobs():
        if weight.filler and _says(layer, weight.filler):
            filler = getattr(layer.p, weight.filler)
        elif weight.start is not None:
            filler = FillerParameter(value=weight.start)
        elif default is not None:
            filler = default
        else:
            layer.fail(f"has neither weights nor a {weight.filler}, so nothing says how its {weight.name} starts")
        if filler.type not in FILLERS:
            layer.fail(f"{weight.filler} of type '{filler.type}'; Caffe has {', '.join(FILLERS)}")
        try:
            made.append(FILLERS[filler.type](weight.shape, filler, random).astype(np.float32))
        except ValueError as error:
            layer.fail(f"{weight.filler} {filler.type}: {error}")
    return tuple(made)


def _constant(shape: Shape, filler: FillerParameter, random: Random) -> Array:
    return np.full(shape, filler.value)


def _uniform(shape: Shape, filler: FillerParameter, random: Random) -> Array:
    return random.uniform(filler.min, filler.max, shape)


def _gaussian(shape: Shape, filler: FillerParameter, random: Random) -> Array:
    values: Array = random.normal(filler.mean, filler.std, shape)
    if filler.sparse >= 0:  # about so many inputs of each output that are not 0
        values *= random.uniform(size=shape) < filler.sparse / shape[0]
    return values


def _positive_unitball(shape: Shape, filler: FillerParameter, random: Random) -> Array:
    rows = random.uniform(size=(shape[0], int(np.prod(shape[1:]))))
    made: Array = rows / rows.sum(1, keepdims=True)
    return made.reshape(shape)


def _fan(shape: Shape, filler: FillerParameter) -> float:
    """Inputs of an output, outputs of an input, or their mean, counted on Caffe's shape."""
    count = int(np.prod(shape))
    into, out = count / shape[0], count / shape[1] if len(shape) > 1 else count
    norm = filler.variance_norm
    return {FillerParameter.FAN_IN: into, FillerParameter.FAN_OUT: out}.get(norm, (into + out) / 2)


def _xavier(shape: Shape, filler: FillerParameter, random: Random) -> Array:
    reach = np.sqrt(3 / _fan(shape, filler))
    return random.uniform(-reach, reach, shape)


def _msra(shape: Shape, filler: FillerParameter, random: Random) -> Array:
    return random.normal(0, np.sqrt(2 / _fan(shape, filler)), shape)


def _bilinear(shape: Shape, filler: FillerParameter, random: Random) -> Array:
    """The kernel of bilinear upsampling, the same for every channel."""
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ValueError(f"of a kernel of shape {shape}; takes four axes, the last two equal")
    factor = -(-shape[3] // 2)
    centre = (shape[3] - 1) / (2 * factor)
    line = 1 - abs(np.arange(shape[3]) / factor - centre)
    return np.broadcast_to(line[:, None] * line, shape)


FILLERS: dict[str, Callable[[Shape, FillerParameter, Random], Array]] = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
}
