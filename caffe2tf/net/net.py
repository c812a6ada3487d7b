"""Layers and blobs become a Net: wired, with every shape known, weights checked against the layers that take them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from caffe2tf.arrays.layout import Floats, Moved, OpenShape, Shape
from caffe2tf.arrays.numbers import float32
from caffe2tf.caffe.caffe_pb2 import NetParameter, TransformationParameter
from caffe2tf.caffe.datalayers import UNKNOWN
from caffe2tf.caffe.extra import printed
from caffe2tf.errors import NetError, WeightMismatch
from caffe2tf.layers import Layer
from caffe2tf.net import table
from caffe2tf.net.outputs import Cut, checked
from caffe2tf.net.wiring import Blob, Node, wire


@dataclass(frozen=True, eq=False, repr=False)
class Net:
    """A network for inference. Frozen: `with_weights`, `reshape` and `subnet` return another, and no array can be written to.
    Equal to itself alone.

    `nodes` in the order of the file; `inputs` {blob: shape} in Caffe's axis order; `outputs` the blobs that were `chosen`, else
    those that no layer reads; `arrays` {layer: Caffe's arrays, as views of the file where it allows}, empty where no weights were given;
    `transforms` {input: TransformationParameter} of data layers; `notes` what was dropped or assumed; `encoding` "V0",
    "V1" or "V2"; `preprocessing` how pictures become its input, where the user said so; `dropped` the blobs of layers that
    have no part in inference; `labels` the names of its classes, where it was trained with names; `files` what it was read
    from, nothing once it was changed; `lacking` why there are no weights, where there are none.
    """

    name: str
    nodes: tuple[Node, ...]
    arrays: Mapping[str, tuple[Floats, ...]]
    param: NetParameter
    transforms: Mapping[str, TransformationParameter] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    encoding: str = "V2"
    preprocessing: Any = None  # an images.preprocess.Preprocessing: imports point up
    dropped: frozenset[str] = frozenset()
    chosen: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    lacking: str = "the network has no weights; give its .caffemodel"

    def __post_init__(self) -> None:
        known: dict[int, Floats] = {}  # an array that layers share stays one object
        for arrays in self.arrays.values():
            known.update((id(array), _read_only(array)) for array in arrays if id(array) not in known)
        kept = {name: tuple(known[id(array)] for array in arrays) for name, arrays in self.arrays.items()}
        object.__setattr__(self, "arrays", MappingProxyType(kept))

    def __repr__(self) -> str:
        return f"<Net {table.line(self)}>"

    def __str__(self) -> str:
        return table.text(self)

    def _repr_html_(self) -> str:
        return table.as_html(self)

    @property
    def inputs(self) -> dict[str, OpenShape]:
        return {
            top[0]: shape
            for node in self.nodes
            if node.layer.type == "Input"
            for top, shape in zip(node.tops, node.shapes, strict=True)
        }

    @property
    def outputs(self) -> list[str]:
        if self.chosen:
            return list(self.chosen)
        read = {bottom for node in self.nodes for bottom in node.bottoms}
        return [top[0] for node in self.nodes for top in node.tops if top not in read]

    @property
    def blobs(self) -> dict[str, OpenShape]:
        """{blob: shape of its last version}, in the order in which they are first made."""
        return {top[0]: shape for node in self.nodes for top, shape in zip(node.tops, node.shapes, strict=True)}

    @property
    def weights(self) -> Mapping[str, Mapping[str, Floats]]:
        """{layer: {name: array in Keras's layout}}, made from the file when asked for."""
        return _Weights(self)

    @property
    def weight_shapes(self) -> dict[str, dict[str, Shape]]:
        """{layer: {name: shape in Keras's layout}} of the layers with weights, whether they are there or not."""
        return {node.layer.name: node.layer.weight_shapes() for node in self.nodes if node.layer.blobs()}

    @property
    def unknown_size(self) -> list[str]:
        """The inputs with an extent that nothing tells."""
        return [blob for blob, shape in self.inputs.items() if None in shape]

    def layer(self, name: str) -> Layer:
        """The layers.Layer `name`. Raises NetError with the nearest names."""
        if name in self._layers:
            return self._layers[name]
        near = get_close_matches(name, self._layers, 3)
        raise NetError(f"no layer '{name}'" + (f"; nearest: {', '.join(near)}" if near else ""))

    @cached_property
    def _layers(self) -> dict[str, Layer]:
        return {node.layer.name: node.layer for node in reversed(self.nodes)}

    def with_weights(self, weights: Mapping[str, Mapping[str, npt.ArrayLike]]) -> "Net":
        """This network with other weights, {layer: {name: array in Keras's layout}}; every layer's, and no other.

        Arrays of any real numbers become native float32. Raises WeightMismatch naming layer, shape found, shape wanted, and
        ParseError for what is no real number or more than float32 takes.
        """
        layers = {node.layer.name: node.layer for node in self.nodes if node.layer.blobs()}
        if list_missing := [name for name in layers if name not in weights]:
            raise WeightMismatch(f"no weights for layers {', '.join(list_missing)}")
        if extra := [name for name in weights if name not in layers]:
            raise WeightMismatch(f"weights for layers that the network does not have: {', '.join(extra)}")
        given = {
            name: {key: float32(array, f"layer '{name}': {key}") for key, array in weights[name].items()}
            for name in layers
        }
        for name, layer in layers.items():
            found = {key: array.shape for key, array in given[name].items()}
            if found != layer.weight_shapes():
                raise WeightMismatch(
                    f"layer '{name}' ({layer.type}): weights {found}, the layer wants {layer.weight_shapes()}"
                )
        arrays = {name: tuple(layer.arrays(given[name])) for name, layer in layers.items()}
        return replace(self, arrays=arrays, files=())

    def reshape(self, shapes: Mapping[str, Sequence[int | None]]) -> "Net":
        """This network for inputs of other shapes, {blob: shape in Caffe's order}, as Caffe's Net::Reshape."""
        param = NetParameter.FromString(self.param.SerializeToString())
        for layer in param.layer:
            if layer.type == "Input":
                known = {top: self.inputs[top] for top in layer.top} | {
                    t: s for t, s in shapes.items() if t in layer.top
                }
                del layer.input_param.shape[:]
                for top in layer.top:
                    layer.input_param.shape.add().dim.extend(UNKNOWN if n is None else n for n in known[top])
        return rebuild(self, param, self.arrays, f"with inputs {shapes} ")

    def subnet(self, from_: str | Sequence[str], to: str | Sequence[str]) -> "Net":
        """The part of this network that makes the blobs `to` out of the blobs `from_`, which become its inputs, both as the last
        layer that changes them leaves them; inputs that `to` needs beside them stay. Shapes are those of this network.
        Raises NetError for a blob that it does not have, and where a blob of `from_` is needed before its last change."""
        starts, ends = ([names] if isinstance(names, str) else list(names) for names in (from_, to))
        last, producers = self.last_versions, self.producers
        for name in (*starts, *ends):
            if name not in last:
                near = get_close_matches(name, last, 3)
                raise NetError(f"no blob '{name}'" + (f"; nearest: {', '.join(near)}" if near else ""))
        given = {(name, last[name]) for name in starts}
        needed: set[Blob] = set()
        wanted = {(name, last[name]) for name in ends} - given
        while wanted:
            needed |= wanted
            wanted = {bottom for blob in wanted for bottom in producers[blob].bottoms} - needed - given
        if early := sorted(name for name, _ in needed if name in starts):
            raise NetError(f"blob '{early[0]}' is needed before its last change; start from what it is made of")
        return self.part([node for node in self.nodes if needed.intersection(blob for blob, _ in node.made())], starts)

    def cut(self, outputs: str | Sequence[str]) -> "Net":
        """This network with what the blobs `outputs` need alone, which become its outputs: layers, inputs and weights. Raises
        NetError for a blob that it does not have."""
        param = NetParameter.FromString(self.param.SerializeToString())
        kept = Cut(checked(outputs))
        kept(param)
        names = {layer.name for layer in param.layer}
        made = rebuild(self, param, {name: arrays for name, arrays in self.arrays.items() if name in names})
        transforms = {blob: param for blob, param in self.transforms.items() if blob in made.inputs}
        dropped = self.dropped | (set(self.blobs) - set(made.blobs))
        return replace(made, transforms=transforms, chosen=kept.outputs, dropped=dropped)

    def part(self, nodes: Iterable[Node], inputs: Iterable[str] = ()) -> "Net":
        """This network of `nodes` alone, in their order; the blobs `inputs` come from outside."""
        param, nodes, outside = NetParameter(name=self.name), list(nodes), list(inputs)
        for name in outside:
            layer = param.layer.add(name=f"features {name}", type="Input", top=[name])
            layer.input_param.shape.add().dim.extend(UNKNOWN if n is None else n for n in self.blobs[name])
        param.layer.extend(node.layer.proto for node in nodes)
        names = {node.layer.name for node in nodes}
        whole = replace(self, chosen=())
        made = rebuild(whole, param, {name: arrays for name, arrays in self.arrays.items() if name in names})
        pictures = set(made.inputs) <= set(self.inputs)
        transforms = {blob: param for blob, param in self.transforms.items() if blob in made.inputs}
        return replace(made, transforms=transforms, preprocessing=self.preprocessing if pictures else None)

    @cached_property
    def varying(self) -> frozenset[Blob]:
        """{(blob, version)} of all that depends on an input, be it for how many items there are."""
        varying: set[Blob] = set()
        counted: set[Blob] = set()
        for node in self.nodes:
            layer = node.layer
            read: Sequence[Blob] = [node.bottoms[index] for index in layer.value_bottoms()]
            if layer.counts_items or counted.intersection(node.bottoms):
                counted.update(blob for blob, _ in node.made())
                read = list(node.bottoms)
            if layer.type == "Input" or (layer.constant() is None and varying.intersection(read)):
                varying.update(blob for blob, _ in node.made())
        return frozenset(varying)

    @property
    def producers(self) -> dict[Blob, Node]:
        """{(blob, version): the node that makes it}, in place and through shared memory too."""
        return {blob: node for node in self.nodes for blob, _ in node.made()}

    @property
    def consumers(self) -> dict[Blob, list[Node]]:
        """{(blob, version): [the nodes that read it]}."""
        found: dict[Blob, list[Node]] = {}
        for node in self.nodes:
            for bottom in node.bottoms:
                found.setdefault(bottom, []).append(node)
        return found

    def is_constant(self, blob: str) -> bool:
        """Whether `blob`, as it was last written, depends on no input."""
        return (blob, self.last_versions[blob]) not in self.varying

    @cached_property
    def last_versions(self) -> Mapping[str, int]:
        """{blob: its last version}."""
        return MappingProxyType({name: version for node in self.nodes for (name, version), _ in node.made()})

    def text(self) -> str:
        """The network as a prototxt, today's layers."""
        return printed(self.param)

    def moved(self, layer: str) -> dict[str, Moved]:
        """{name: layout.Moved} of one layer: what `weights` gives, before a value is read."""
        return self.layer(layer).moved(self.arrays[layer])


def _read_only(array: Floats) -> Floats:
    """`array`, or where it could be written to, a view through which it cannot."""
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


class _Weights(Mapping[str, Mapping[str, Floats]]):
    def __init__(self, net: Net) -> None:
        self._layers = {node.layer.name: node.layer for node in net.nodes if node.layer.name in net.arrays}
        self._arrays = net.arrays

    def __getitem__(self, name: str) -> Mapping[str, Floats]:
        return {key: _read_only(array) for key, array in self._layers[name].weights(self._arrays[name]).items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def parse_shapes(texts: Iterable[str]) -> dict[str | None, Shape]:
    """{input, or None for the only one: shape} of "N,C,H,W" and "NAME=N,C,H,W". Raises NetError."""
    shapes: dict[str | None, Shape] = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        extents = tuple(int(n) for n in dims.split(",") if n.strip().isdecimal() and n.isascii())
        if len(extents) != dims.count(",") + 1 or 0 in extents:
            raise NetError(f"'{text}'; takes N,C,H,W or NAME=N,C,H,W, whole numbers above 0")
        if (name or None) in shapes:
            raise NetError(f"'{text}'; a second shape for the same input")
        shapes[name or None] = extents
    return shapes


def rebuild(net: Net, param: NetParameter, arrays: Mapping[str, tuple[Floats, ...]], when: str = "") -> Net:
    """`net` with other layers and other arrays in Caffe's layout, which must fit them."""
    nodes, _ = wire(param, arrays)
    for node in nodes:
        wanted = [weight.shape for weight in node.layer.blobs()]
        found = [array.shape for array in arrays.get(node.layer.name, ())]
        if found and found != wanted:
            node.layer.fail(f"{when}its weights would be {wanted}; they are {found}")
    return replace(net, param=param, nodes=nodes, arrays=arrays, files=())
