"""Layers and blobs become a Net: wired, with every shape known, weights checked against the layers that take them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import MappingProxyType

from google.protobuf import text_format

from caffe2tf.arrays.numbers import float32
from caffe2tf.caffe.caffe_pb2 import NetParameter
from caffe2tf.caffe.upgrade import UNKNOWN
from caffe2tf.errors import NetError, WeightMismatch
from caffe2tf.net.wiring import wire


@dataclass(frozen=True)
class Net:
    """A network for inference. Frozen: `with_weights` and `reshape` return another.

    `nodes` in the order of the file; `inputs` {blob: shape} in Caffe's axis order; `outputs` the blobs that no layer
    reads; `arrays` {layer: Caffe's arrays, as views of the file where it allows}, empty where no weights were given;
    `transforms` {input: TransformationParameter} of data layers; `notes` what was dropped or assumed; `encoding` "V0",
    "V1" or "V2"; `preprocessing` how pictures become its input, where the user said so; `dropped` the blobs of layers that
    have no part in inference.
    """

    name: str
    nodes: tuple
    arrays: Mapping
    param: NetParameter
    transforms: Mapping = field(default_factory=dict)
    notes: tuple = ()
    encoding: str = "V2"
    preprocessing: object = None
    dropped: frozenset = frozenset()

    @property
    def inputs(self):
        return {
            top[0]: shape
            for node in self.nodes
            if node.layer.type == "Input"
            for top, shape in zip(node.tops, node.shapes, strict=True)
        }

    @property
    def outputs(self):
        read = self.consumers
        return [top[0] for node in self.nodes for top in node.tops if top not in read]

    @property
    def blobs(self):
        """{blob: shape of its last version}, in the order in which they are first made."""
        return {top[0]: shape for node in self.nodes for top, shape in zip(node.tops, node.shapes, strict=True)}

    @property
    def weights(self):
        """{layer: {name: array in Keras's layout}}, made from the file when asked for."""
        return _Weights(self)

    @property
    def weight_shapes(self):
        """{layer: {name: shape in Keras's layout}} of the layers with weights, whether they are there or not."""
        return {node.layer.name: node.layer.weight_shapes() for node in self.nodes if node.layer.blobs()}

    @property
    def unknown_size(self):
        """The inputs with an extent that nothing tells."""
        return [blob for blob, shape in self.inputs.items() if None in shape]

    def layer(self, name):
        """The layers.Layer `name`. Raises NetError with the nearest names."""
        for node in self.nodes:
            if node.layer.name == name:
                return node.layer
        near = get_close_matches(name, [node.layer.name for node in self.nodes], 3)
        raise NetError(f"no layer '{name}'" + (f"; nearest: {', '.join(near)}" if near else ""))

    def with_weights(self, weights):
        """This network with other weights, {layer: {name: array in Keras's layout}}; every layer's, and no other.

        Arrays of any real numbers become native float32. Raises WeightMismatch naming layer, shape found, shape wanted, and
        ParseError for what is no real number or more than float32 takes.
        """
        layers = {node.layer.name: node.layer for node in self.nodes if node.layer.blobs()}
        if list_missing := [name for name in layers if name not in weights]:
            raise WeightMismatch(f"no weights for layers {', '.join(list_missing)}")
        if extra := [name for name in weights if name not in layers]:
            raise WeightMismatch(f"weights for layers that the network does not have: {', '.join(extra)}")
        weights = {
            name: {key: float32(array, f"layer '{name}': {key}") for key, array in weights[name].items()}
            for name in layers
        }
        for name, layer in layers.items():
            found = {key: array.shape for key, array in weights[name].items()}
            if found != layer.weight_shapes():
                raise WeightMismatch(
                    f"layer '{name}' ({layer.type}): weights {found}, the layer wants {layer.weight_shapes()}"
                )
        arrays = {name: tuple(layer.arrays(weights[name])) for name, layer in layers.items()}
        return replace(self, arrays=MappingProxyType(arrays))

    def reshape(self, shapes):
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

    @property
    def varying(self):
        """{(blob, version)} of all that depends on an input, be it for how many items there are."""
        varying, counted = set(), set()
        for node in self.nodes:
            layer = node.layer
            read = [node.bottoms[index] for index in layer.value_bottoms()]
            if layer.counts_items or counted.intersection(node.bottoms):
                counted.update(blob for blob, _ in node.made())
                read = node.bottoms
            if layer.type == "Input" or (layer.constant() is None and varying.intersection(read)):
                varying.update(blob for blob, _ in node.made())
        return varying

    @property
    def producers(self):
        """{(blob, version): the node that makes it}, in place and through shared memory too."""
        return {blob: node for node in self.nodes for blob, _ in node.made()}

    @property
    def consumers(self):
        """{(blob, version): [the nodes that read it]}."""
        found = {}
        for node in self.nodes:
            for bottom in node.bottoms:
                found.setdefault(bottom, []).append(node)
        return found

    def is_constant(self, blob):
        """Whether `blob`, as it was last written, depends on no input."""
        return (blob, self.last_versions[blob]) not in self.varying

    @property
    def last_versions(self):
        """{blob: its last version}."""
        return {name: version for node in self.nodes for (name, version), _ in node.made()}

    def text(self):
        """The network as a prototxt, today's layers."""
        return text_format.MessageToString(self.param)

    def moved(self, layer):
        """{name: layout.Moved} of one layer: what `weights` gives, before a value is read."""
        return self.layer(layer).moved(self.arrays[layer])


class _Weights(Mapping):
    def __init__(self, net):
        self._layers = {node.layer.name: node.layer for node in net.nodes if node.layer.name in net.arrays}
        self._arrays = net.arrays

    def __getitem__(self, name):
        return self._layers[name].weights(self._arrays[name])

    def __iter__(self):
        return iter(self._layers)

    def __len__(self):
        return len(self._layers)


def parse_shapes(texts):
    """{input, or None for the only one: shape} of "N,C,H,W" and "NAME=N,C,H,W". Raises NetError."""
    shapes = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        extents = tuple(int(n) for n in dims.split(",") if n.strip().isdecimal() and n.isascii())
        if len(extents) != dims.count(",") + 1 or 0 in extents:
            raise NetError(f"'{text}'; takes N,C,H,W or NAME=N,C,H,W, whole numbers above 0")
        if (name or None) in shapes:
            raise NetError(f"'{text}'; a second shape for the same input")
        shapes[name or None] = extents
    return shapes


def rebuild(net, param, arrays, when=""):
    """`net` with other layers and other arrays in Caffe's layout, which must fit them."""
    nodes, _ = wire(param, arrays)
    for node in nodes:
        wanted = [weight.shape for weight in node.layer.blobs()]
        found = [array.shape for array in arrays.get(node.layer.name, ())]
        if found and found != wanted:
            node.layer.fail(f"{when}its weights would be {wanted}; they are {found}")
    return replace(
        net, param=param, nodes=nodes, arrays=MappingProxyType(arrays if isinstance(arrays, dict) else dict(arrays))
    )
