"""A Net from a network text and a snapshot, or from either."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from caffe2tf.caffe.caffe_pb2 import NetParameter
from caffe2tf.caffe.read import Blob, Source, read_caffemodel, read_prototxt
from caffe2tf.caffe.upgrade import upgrade
from caffe2tf.errors import NetError, UnsupportedLayer
from caffe2tf.layers import REGISTRY, kind_of
from caffe2tf.layers.users import settle
from caffe2tf.net.net import Net
from caffe2tf.net.outputs import Cut, hinted
from caffe2tf.net.weights import take_weights
from caffe2tf.net.wiring import wire


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
    snapshot = read_caffemodel(caffemodel) if caffemodel is not None else None
    text = read_prototxt(prototxt) if prototxt is not None else None
    first = text or snapshot
    if first is None:
        raise NetError("neither a network text nor a .caffemodel is given; takes at least one")
    if not (text or first.net.layer or first.net.layers):
        raise NetError(f"{caffemodel}: holds weights but no network; give its text with `prototxt`")
    blobs = snapshot.blobs if snapshot else None
    warnings = [*(text.warnings if text else ()), *(snapshot.warnings if snapshot else ())]
    source = Source(first.net, blobs or {}, (snapshot or first).encoding, tuple(warnings), first.path)
    net = from_source(source, blobs, input_shapes, outputs)
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
) -> Net:
    """A Net from `source` (read.Source) and the Blobs of each layer, None for a network without weights; of `outputs` and what
    they need alone, where some are named."""
    cut = Cut(outputs) if outputs else None
    param, transforms, notes = upgrade(source, learned, input_shapes, cut)
    if cut is not None and blobs is not None:
        blobs = cut.lent(blobs)
    for proto in param.layer:
        if kind := kind_of(proto):
            settle(kind, proto)
    names, renamed = _name_layers(param)
    blobs = {names.get(name, name): found for name, found in blobs.items()} if blobs is not None else None
    notes += renamed
    try:
        nodes, assumed = wire(param, blobs or {})
    except UnsupportedLayer as error:
        raise hinted(error, param) from None
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
