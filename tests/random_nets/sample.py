"""One random net: its text, its weights, what it is fed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

from caffe2tf.caffe.caffe_pb2 import NetParameter
from tests.random_nets.legal import Shape, need
from tests.random_nets.shapes import infer

_FORKS = "ReLU6 Permute ShuffleChannel Interp Axpy Normalize BN ConvolutionDepthwise DepthwiseConvolution"
FORKS = frozenset(_FORKS.split())


@dataclass(frozen=True)
class Sample:
    """`net`: the layers without blobs, as its text says them. `weights`: {layer: Caffe's arrays}, of the layers that the
    .caffemodel holds. `inputs`: {blob: float32 array in Caffe's order}, of other extents than the text's where the net
    is run reshaped. `dropped`: the layers, by index, that Caffe's phase rules take away."""

    seed: int
    net: Any
    weights: Mapping[str, Sequence[np.ndarray]]
    inputs: Mapping[str, np.ndarray]
    dropped: frozenset[int] = field(default_factory=frozenset)

    @property
    def text(self) -> str:
        """The .prototxt, a line for each layer."""
        head = NetParameter.FromString(self.net.SerializeToString())
        del head.layer[:]
        lines = [text_format.MessageToString(head, as_one_line=True)]
        lines += [f"layer {{ {text_format.MessageToString(layer, as_one_line=True)} }}" for layer in self.net.layer]
        return "\n".join(lines) + "\n"

    @property
    def kept(self) -> list[Any]:
        """The layers that Caffe's phase rules leave."""
        return [layer for index, layer in enumerate(self.net.layer) if index not in self.dropped]

    @property
    def types(self) -> set[str]:
        return {layer.type for layer in self.net.layer}

    def snapshot(self) -> bytes:
        """The .caffemodel: the layers that are kept, with their blobs; one whose weights are another's may be missing."""
        net = NetParameter.FromString(self.net.SerializeToString())
        del net.layer[:]
        for layer in self.kept:
            if layer.name not in self.weights and any(spec.name for spec in layer.param):
                continue
            one = net.layer.add()
            one.CopyFrom(layer)
            for array in self.weights.get(layer.name, ()):
                blob = one.blobs.add()
                blob.shape.dim.extend(array.shape)
                blob.data.extend(array.ravel().tolist())
        return net.SerializeToString()

    def write(self, folder: Path) -> None:
        """deploy.prototxt, net.caffemodel and inputs.npz in `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "deploy.prototxt").write_text(self.text)
        (folder / "net.caffemodel").write_bytes(self.snapshot())
        np.savez(folder / "inputs.npz", **self.inputs)


def at_size(sample: Sample) -> Any:
    """The net of `sample` with the input shapes at which it is run."""
    net = NetParameter.FromString(sample.net.SerializeToString())
    if net.input:
        del net.input_dim[:], net.input_shape[:]
        for name in net.input:
            net.input_shape.add().dim.extend(sample.inputs[name].shape)
    for layer in net.layer:
        if layer.type == "Input":
            layer.input_param.shape[0].dim[:] = sample.inputs[layer.top[0]].shape
    return net


def replay(
    net: Any, layers: Sequence[Any], inputs: Mapping[str, Shape], selected: Mapping[str, int]
) -> tuple[dict[str, Shape], dict[str, list[Shape]]]:
    """({blob: shape}, {layer: shapes of its weights}) of `layers` fed with inputs of these shapes. Raises Illegal.

    `selected`: how many items each selector of a Filter chooses.
    """
    shapes, weights = dict(inputs), {}
    for layer in layers:
        if layer.type == "Input":
            continue
        need(all(bottom in shapes for bottom in layer.bottom), "a bottom that no layer makes")
        tops, weights[layer.name] = infer(layer, [shapes[bottom] for bottom in layer.bottom])
        if layer.type == "Filter" and layer.bottom[-1] in selected:
            tops = [(selected[layer.bottom[-1]], *top[1:]) for top in tops]
        shapes.update(zip(layer.top, tops, strict=True))
    return shapes, weights
