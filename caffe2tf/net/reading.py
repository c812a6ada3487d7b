"""A Net from a network text and a snapshot, or from either."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from caffe2tf.caffe.caffe_pb2 import NetParameter
from caffe2tf.caffe.faults import Fault
from caffe2tf.caffe.read import Blob, Source, read_caffemodel, read_prototxt
from caffe2tf.caffe.upgrade import upgrade
from caffe2tf.errors import NetError, ParseError, UnsupportedLayer
from caffe2tf.layers import REGISTRY, kind_of
from caffe2tf.layers.users import settle
from caffe2tf.net.likely import wire_open
from caffe2tf.net.net import Net
from caffe2tf.net.outputs import Cut, hinted
from caffe2tf.net.weights import take_weights


def from_files(
    prototxt: str | os.PathLike[str] | None = None,
    caffemodel: str | os.PathLike[str] | None = None,
    input_shapes: Mapping[str | None, Sequence[int]] | None = None,
    outputs: Sequence[str] = (),
) -> Net:
    """A Net from a network text, a snapshot, or both; a snapshot alone is enough where it holds the network.

    `input_shapes`: {blob, or None for the only input: shape, N first} wins over what the files say. With both files
    the text rules and weights are matched by layer name. `outputs`: the blobs to cut it to, none for all.
    """
    faults: list[Fault] = []
    snapshot = read_caffemodel(caffemodel, None if prototxt else faults) if caffemodel is not None else None
    text = read_prototxt(prototxt, faults) if prototxt is not None else None
    first = text or snapshot
    if first is None:
        raise NetError("neither a network text nor a .caffemodel is given; takes at least one")
    if not (text or first.net.layer or first.net.layers):
        raise NetError(f"{caffemodel}: holds weights but no network; give its text with `prototxt`")
    blobs = snapshot.blobs if snapshot else None
    warnings = [*(text.warnings if text else ()), *(snapshot.warnings if snapshot else ())]
    source = Source(first.net, blobs or {}, (snapshot or first).encoding, tuple(warnings), first.path)
    net = from_source(source, blobs, input_shapes, outputs, faults)
    if text is None or snapshot is None or net.transforms:
        return net
    # A deploy text says nothing of preprocessing; the snapshot's data layer does.
    try:
        _, transforms, _ = upgrade(snapshot, learned)
    except NetError:
        return net
    return replace(net, transforms={blob: param for blob, param in transforms.items() if blob in net.inputs})


def from_source(
    source: Source,
    blobs: Mapping[str, Sequence[Blob]] | None,
    input_shapes: Mapping[str | None, Sequence[int]] | None = None,
    outputs: Sequence[str] = (),
    faults: Sequence[Fault] = (),
) -> Net:
    """A Net from `source` (read.Source) and the Blobs of each layer, None for a network without weights; of `outputs` and what
    they need alone, where some are named.

    `faults` are what the text's fields do not take: notes where the layer has no part in inference, else a ParseError with
    whatever else is wrong with the network. Raises ShapeNeeded where an input lacks its channels and all else is well.
    """
    cut = Cut(outputs) if outputs else None
    try:
        param, transforms, notes = upgrade(source, learned, input_shapes, cut)
    except NetError as error:
        raise (_all_faults(faults, error) if faults else error) from None
    kept = {layer.name for layer in param.layer}
    idle = [fault for fault in faults if fault.layer is not None and fault.layer not in kept]
    faults = [fault for fault in faults if fault not in idle]
    if cut is not None and blobs is not None:
        blobs = cut.lent(blobs)
    for proto in param.layer:
        if kind := kind_of(proto):
            settle(kind, proto)
    names, renamed = _name_layers(param)
    blobs = {names.get(name, name): found for name, found in blobs.items()} if blobs is not None else None
    notes += [*(f"{fault.line}: dropped with its layer" for fault in idle), *renamed]
    try:
        nodes, assumed = wire_open(param, blobs or {})
    except UnsupportedLayer as error:
        told = hinted(error, param)
        raise (_all_faults(faults, told) if faults else told) from None
    except NetError as error:
        raise (_all_faults(faults, error) if faults else error) from None
    if faults:
        raise _all_faults(faults)
    arrays, ignored = take_weights(nodes, blobs) if blobs is not None else ({}, [])
    dropped = _tops(source.net) - {blob for node in nodes for (blob, _), _ in node.made()}
    return Net(
        source.net.name,
        nodes,
        arrays,
        param,
        transforms,
        (*source.warnings, *notes, *assumed, *ignored),
        source.encoding,
        dropped=dropped,
        chosen=cut.outputs if cut is not None else (),
    )


def _all_faults(faults: Sequence[Fault], other: Exception | None = None) -> ParseError:
    """The faults of a text and what else is wrong with its network, but for what follows from them."""
    told = tuple(f"layer '{fault.layer}'" for fault in faults)
    lines = [line for line in str(other or "").splitlines() if not line.startswith(told)]
    return ParseError("\n".join([*(fault.line for fault in faults), *lines]))


def learned(kind: str) -> bool:
    """Whether layers of the type `kind` have weights."""
    return kind in REGISTRY and REGISTRY[kind].learns()


def _tops(param: NetParameter) -> frozenset[str]:
    """The blobs that any layer of `param` makes, of whatever generation it is."""
    return frozenset(top for layers in (param.layer, param.layers) for layer in layers for top in layer.top)


def _name_layers(param: NetParameter) -> tuple[dict[str, str], list[str]]:
    """({name in the file: the layer that its weights belong to}, notes): gives every layer of `param` a name of its own.

    Caffe takes any names, none too, and copies weights to the first layer of a name. An input has no weights: its layer
    gives way to any other.
    """
    first: dict[str, str] = {}
    taken: set[str] = set()
    notes: list[str] = []
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
