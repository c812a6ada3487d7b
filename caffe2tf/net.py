"""Layers and blobs become a Net: wired, with every shape known, weights checked against the layers that take them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import MappingProxyType

from google.protobuf import text_format

from caffe2tf.arrays import float32
from caffe2tf.caffe_pb2 import NetParameter, ParamSpec
from caffe2tf.errors import NetError, WeightMismatch
from caffe2tf.fillers import left_alone
from caffe2tf.read import Source, read_caffemodel, read_prototxt
from caffe2tf.upgrade import UNKNOWN, upgrade
from caffe2tf.wiring import wire


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
            if node.row.type == "Input"
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
        return {node.row.name: node.row.weight_shapes() for node in self.nodes if node.row.blobs()}

    @property
    def unknown_size(self):
        """The inputs with an extent that nothing tells."""
        return [blob for blob, shape in self.inputs.items() if None in shape]

    def layer(self, name):
        """The row of the layer `name`. Raises NetError with the nearest names."""
        for node in self.nodes:
            if node.row.name == name:
                return node.row
        near = get_close_matches(name, [node.row.name for node in self.nodes], 3)
        raise NetError(f"no layer '{name}'" + (f"; nearest: {', '.join(near)}" if near else ""))

    def with_weights(self, weights):
        """This network with other weights, {layer: {name: array in Keras's layout}}; every layer's, and no other.

        Arrays of any real numbers become native float32. Raises WeightMismatch naming layer, shape found, shape wanted, and
        ParseError for what is no real number or more than float32 takes.
        """
        rows = {node.row.name: node.row for node in self.nodes if node.row.blobs()}
        if list_missing := [name for name in rows if name not in weights]:
            raise WeightMismatch(f"no weights for layers {', '.join(list_missing)}")
        if extra := [name for name in weights if name not in rows]:
            raise WeightMismatch(f"weights for layers that the network does not have: {', '.join(extra)}")
        weights = {
            name: {key: float32(array, f"layer '{name}': {key}") for key, array in weights[name].items()}
            for name in rows
        }
        for name, row in rows.items():
            found = {key: array.shape for key, array in weights[name].items()}
            if found != row.weight_shapes():
                raise WeightMismatch(
                    f"layer '{name}' ({row.type}): weights {found}, the layer wants {row.weight_shapes()}"
                )
        arrays = {name: tuple(row.arrays(weights[name])) for name, row in rows.items()}
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
        """{(blob, version)} of all that depends on an input."""
        varying = set()
        for node in self.nodes:
            row = node.row
            read = [node.bottoms[index] for index in row.value_bottoms()]
            if row.type == "Input" or (row.constant() is None and varying.intersection(read)):
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
        self._rows = {node.row.name: node.row for node in net.nodes if node.row.name in net.arrays}
        self._arrays = net.arrays

    def __getitem__(self, name):
        return self._rows[name].weights(self._arrays[name])

    def __iter__(self):
        return iter(self._rows)

    def __len__(self):
        return len(self._rows)


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
        wanted = [weight.shape for weight in node.row.blobs()]
        found = [array.shape for array in arrays.get(node.row.name, ())]
        if found and found != wanted:
            node.row.fail(f"{when}its weights would be {wanted}; they are {found}")
    return replace(
        net, param=param, nodes=nodes, arrays=MappingProxyType(arrays if isinstance(arrays, dict) else dict(arrays))
    )


def from_files(prototxt=None, caffemodel=None, input_shapes=None):
    """A Net from a network text, a snapshot, or both; a snapshot alone is enough where it holds the network.

    `input_shapes`: {blob, or None for the only input: shape, N first} wins over what the files say. With both files
    the text rules and weights are matched by layer name.
    """
    if prototxt is None and caffemodel is None:
        raise NetError("neither a network text nor a .caffemodel is given; takes at least one")
    snapshot = read_caffemodel(caffemodel) if caffemodel is not None else None
    text = read_prototxt(prototxt) if prototxt is not None else None
    if text is None and not (snapshot.net.layer or snapshot.net.layers):
        raise NetError(f"{caffemodel}: holds weights but no network; give its text with -p/--prototxt")
    first = text or snapshot
    blobs = snapshot.blobs if snapshot else None
    warnings = [*(text.warnings if text else ()), *(snapshot.warnings if snapshot else ())]
    source = Source(first.net, blobs or {}, (snapshot or first).encoding, tuple(warnings), first.path)
    net = from_source(source, blobs, input_shapes)
    if text is None or snapshot is None or net.transforms:
        return net
    # A deploy text says nothing of preprocessing; the snapshot's data layer does.
    try:
        _, transforms, _ = upgrade(snapshot)
    except NetError:
        return net
    return replace(net, transforms={blob: param for blob, param in transforms.items() if blob in net.inputs})


def from_source(source, blobs, input_shapes=None):
    """A Net from `source` (read.Source) and the Blobs of each layer, None for a network without weights."""
    param, transforms, notes = upgrade(source, input_shapes)
    names, renamed = unique_names(param)
    blobs = {names.get(name, name): found for name, found in blobs.items()} if blobs is not None else None
    notes += renamed
    nodes, assumed = wire(param, blobs or {})
    arrays, ignored = _take_weights(nodes, blobs) if blobs is not None else ({}, [])
    notes = (*source.warnings, *notes, *assumed, *ignored)
    dropped = blobs_of_layers(source.net) - {blob for node in nodes for (blob, _), _ in node.made()}
    arrays = MappingProxyType(arrays)
    return Net(source.net.name, nodes, arrays, param, transforms, notes, source.encoding, dropped=dropped)


def blobs_of_layers(param):
    """The blobs that any layer of `param` makes, of whatever generation it is."""
    return frozenset(top for layer in (*param.layer, *param.layers) for top in layer.top)


def unique_names(param):
    """({name in the file: the layer that its weights belong to}, notes): gives every layer of `param` a name of its own.

    Caffe takes any names, none too, and copies weights to the first layer of a name. An input has no weights: its layer
    gives way to any other.
    """
    first, taken, notes = {}, set(), []
    for proto in sorted(param.layer, key=lambda layer: layer.type == "Input"):
        old, stem = proto.name, proto.name or proto.type
        count = 0
        while proto.name in taken or not proto.name:
            proto.name, count = f"{stem}_{count}" if count else stem, count + 1
        taken.add(proto.name)
        first.setdefault(old, proto.name)
        if proto.name != old and proto.type != "Input":
            had = f"the name '{old}' is another layer's too" if old else "it has no name"
            notes.append(f"layer '{proto.name}' ({proto.type}) is called so here: {had}")
    return first, notes


# ------------------------------------------------------------------------------------------------ weights


def _take_weights(nodes, blobs):
    """({layer: arrays}, notes): each layer's blobs checked against its row, as Net::CopyTrainedLayersFrom of net.cpp: layer
    by layer in the order of the file, so that of parameters shared by name the last in it stays. What the file lacks
    keeps what its filler says; a filler with chance is refused."""
    rows = {node.row.name: node.row for node in nodes if node.row.blobs()}
    cells, owners = _cells(rows.values())
    values = {}
    for name, found in blobs.items():
        if name in rows:
            values.update(zip(cells[name], rows[name].take_blobs(found), strict=True))
    if rows and not values:
        raise WeightMismatch(
            f"the file has weights of {_few(blobs) or 'no layer'}, the network wants those of {_few(rows)}: they have no "
            "layer in common"
        )
    notes, chance = [], []
    for name, row in rows.items():
        lacking = [(cell, weight) for cell, weight in zip(cells[name], row.blobs(), strict=True) if cell not in values]
        for cell, weight in lacking:
            values[cell] = left_alone(*owners[cell])
            if values[cell] is None:
                chance.append(
                    f"layer '{name}' ({row.type}): the file has no {weight.name} for it, and its filler is random"
                )
        if lacking and not chance:
            notes.append(
                f"layer '{name}' ({row.type}): the file has no {', '.join(weight.name for _, weight in lacking)} for it; they "
                "keep what their fillers say, as in Caffe"
            )
    if chance:
        raise WeightMismatch("\n".join(chance))
    arrays = {
        name: tuple(
            values[cell] if values[cell].shape == weight.shape else values[cell].reshape(weight.shape)
            for cell, weight in zip(cells[name], row.blobs(), strict=True)
        )
        for name, row in rows.items()
    }
    known = {node.row.name for node in nodes}
    others = [name for name in blobs if name not in known]
    notes += [f"weights of layers that the network does not have are left out: {', '.join(others)}"] if others else []
    return arrays, notes


def _cells(rows):
    """({layer: a key for each of its parameters, one key for those that share a name}, {key: (row, Weight) of its owner})."""
    cells, owners = {}, {}
    for row in rows:
        mine, specs = [], [*row.proto.param, *([ParamSpec()] * len(row.blobs()))]
        for index, (weight, spec) in enumerate(zip(row.blobs(), specs, strict=False)):
            cell = (spec.name,) if spec.name else (row.name, index)
            shape = owners.setdefault(cell, (row, weight))[1].shape
            loose = spec.share_mode == ParamSpec.PERMISSIVE
            if math.prod(shape) != math.prod(weight.shape) if loose else shape != weight.shape:
                raise WeightMismatch(
                    f"layer '{row.name}' ({row.type}): shares '{spec.name}' of shape {shape}, the layer wants {weight.shape}"
                )
            mine.append(cell)
        cells[row.name] = mine
    return cells, owners


def _few(names):
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
