"""The smallest net that still shows a difference: fewer layers, plainer parameters, smaller extents, one at a time."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter, NetParameter
from tests.random_nets.legal import Illegal, Shape
from tests.random_nets.sample import Sample, replay

Fails = Callable[[Sample], bool]


def shrink(sample: Sample, fails: Fails, blobs: Mapping[str, np.ndarray], most: int = 400) -> Sample:
    """The smallest Sample found, in at most `most` runs of `fails`, of which `fails` is still true.

    `blobs`: values for blobs whose layer is cut away, which become inputs.
    """
    small, left = _plain(sample), most
    if not fails(small):
        small = sample
    again = True
    while again and left > 0:
        again = False
        for move in (_ruleless, _without_layers, _cut, _plainer, _smaller):
            for other in move(small, blobs):
                if left <= 0:
                    break
                legal = _legal(other)
                if legal is None:
                    continue
                left -= 1
                if fails(legal):
                    small, again = legal, True
                    break
            if again:
                break
    return small


def _copies(sample: Sample) -> list[Any]:
    return [LayerParameter.FromString(layer.SerializeToString()) for layer in sample.kept]


def _made(sample: Sample, layers: list[Any], inputs: Mapping[str, np.ndarray]) -> Sample:
    """A Sample of these layers, with those inputs that something reads as `input` of the shape of their values."""
    made = {top for layer in layers for top in layer.top}
    read = {bottom for layer in layers for bottom in layer.bottom} - made
    read |= {bottom for layer in layers for bottom in layer.bottom if bottom in inputs}
    net = NetParameter(state=sample.net.state if sample.net.HasField("state") else None)
    used = {name: array for name, array in inputs.items() if name in read}
    for name, array in used.items():
        net.input.append(name)
        net.input_shape.add().dim.extend(array.shape)
    net.layer.extend(layers)
    names = {layer.name for layer in layers}
    return Sample(sample.seed, net, {n: w for n, w in sample.weights.items() if n in names}, used)


def _plain(sample: Sample) -> Sample:
    """Without what phases drop and without Input layers, at the extents at which it runs."""
    return _made(sample, [layer for layer in _copies(sample) if layer.type != "Input"], sample.inputs)


def _ruleless(sample: Sample, blobs: Mapping[str, np.ndarray]) -> Iterator[Sample]:
    """Without rules of phases, of all layers or of one, and without the net's state."""
    ruled = [index for index, layer in enumerate(sample.kept) if layer.include or layer.exclude]
    for chosen in [ruled, *([index] for index in ruled)] if ruled else []:
        layers = _copies(sample)
        for index in chosen:
            del layers[index].include[:], layers[index].exclude[:]
        yield _made(sample, layers, sample.inputs)
    if sample.net.HasField("state") and not ruled:
        net = NetParameter.FromString(sample.net.SerializeToString())
        net.ClearField("state")
        yield replace(sample, net=net)


def _without_layers(sample: Sample, blobs: Mapping[str, np.ndarray]) -> Iterator[Sample]:
    """Without one layer and what depends on it."""
    layers = _copies(sample)
    for index in reversed(range(len(layers))):
        gone, kept = set(layers[index].top) - set(layers[index].bottom), layers[:index]
        for layer in layers[index + 1 :]:
            if gone.intersection(layer.bottom):
                gone.update(layer.top)
            else:
                kept.append(layer)
        if kept:
            yield _made(sample, kept, sample.inputs)


def _cut(sample: Sample, blobs: Mapping[str, np.ndarray]) -> Iterator[Sample]:
    """With the tops of one layer as inputs, of their values in `blobs` where it has them."""
    layers, shapes = _copies(sample), _replayed(sample)[0]
    for index, layer in enumerate(layers[:-1]):
        if layer.top and not set(layer.top) & set(layer.bottom):
            values = {top: np.random.RandomState(0).standard_normal(shapes[top]) for top in layer.top}
            values |= {top: blobs[top] for top in layer.top if top in blobs}
            inputs = {**sample.inputs, **{top: np.asarray(value, np.float32) for top, value in values.items()}}
            yield _made(sample, layers[:index] + layers[index + 1 :], inputs)


def _plainer(sample: Sample, blobs: Mapping[str, np.ndarray]) -> Iterator[Sample]:
    """With one parameter less, or one blob less at either end of a layer."""
    for index, layer in enumerate(sample.kept):
        for part, _ in layer.ListFields():
            if not part.name.endswith("param"):
                continue
            layers = _copies(sample)
            layers[index].ClearField(part.name)
            yield _made(sample, layers, sample.inputs)
            if part.name == "param":
                continue
            for field, value in getattr(layer, part.name).ListFields():
                layers = _copies(sample)
                getattr(layers[index], part.name).ClearField(field.name)
                yield _made(sample, layers, sample.inputs)
                if isinstance(value, int) and not isinstance(value, bool) and value > 1:
                    layers = _copies(sample)
                    setattr(getattr(layers[index], part.name), field.name, value - 1)
                    yield _made(sample, layers, sample.inputs)
        for ends in ("bottom", "top"):
            for place in range(1, len(getattr(layer, ends))):
                layers = _copies(sample)
                del getattr(layers[index], ends)[place]
                yield _made(sample, layers, sample.inputs)


def _smaller(sample: Sample, blobs: Mapping[str, np.ndarray]) -> Iterator[Sample]:
    """With smaller extents of the inputs: of one, or of all that are equal on an axis."""
    for name, array in sample.inputs.items():
        for axis, extent in enumerate(array.shape):
            for less in sorted({1, extent // 2, extent - 1} - {0, extent}):
                index = (slice(None),) * axis + (slice(less),)
                yield _made(sample, _copies(sample), {**sample.inputs, name: array[index]})
                together = {
                    n: a[index] if a.ndim > axis and a.shape[axis] == extent else a for n, a in sample.inputs.items()
                }
                if any(together[n].shape != a.shape for n, a in sample.inputs.items() if n != name):
                    yield _made(sample, _copies(sample), together)


def _replayed(sample: Sample) -> tuple[dict[str, Shape], dict[str, list[Shape]]]:
    selected = {name: int(np.count_nonzero(array)) for name, array in sample.inputs.items()}
    return replay(sample.net, sample.kept, {name: a.shape for name, a in sample.inputs.items()}, selected)


def _legal(sample: Sample) -> Sample | None:
    """`sample` with its weights cut to the shapes that its layers take, None where Caffe would refuse it."""
    try:
        _, shapes = _replayed(sample)
    except Illegal:
        return None
    weights = {}
    for name, arrays in sample.weights.items():
        wanted = shapes.get(name, [])
        if len(wanted) > len(arrays) or any(len(w) != a.ndim for w, a in zip(wanted, arrays, strict=False)):
            return None
        weights[name] = [
            np.ascontiguousarray(np.resize(a, w) if a.shape != w else a) for w, a in zip(wanted, arrays, strict=False)
        ]
    return replace(sample, weights=weights)
