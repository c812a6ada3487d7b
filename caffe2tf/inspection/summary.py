"""What a network is made of, as data: for `inspect` and the closing table of `convert`."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from google.protobuf.message import Message

from caffe2tf import loading
from caffe2tf.caffe import read
from caffe2tf.errors import Caffe2TFError, ShapeNeeded, UnsupportedLayer, guarded
from caffe2tf.images import notes, preprocess
from caffe2tf.layers import NO_EFFECT
from caffe2tf.layers.base import Layer
from caffe2tf.net.net import Net
from caffe2tf.net.support import set_fields

Field = list[tuple[int | Fraction, int | Fraction]]  # (pixels, step) for each spatial axis


def inspect(
    *network: Net | loading.Path | None,
    input_shape: loading.InputShape | None = None,
    outputs: str | Sequence[str] | None = None,
    prototxt: loading.Path | None = None,
    model: loading.Path | None = None,
) -> dict[str, Any]:
    """What a network is made of, as `summarize` says it: of a Net, or of the files of one, as `loading.load` takes them.

    A network that is not supported is no error here: its dictionary says what is not. Nor is one whose input lacks a shape that
    nothing tells: a likely one is taken, and a note says so. Raises ParseError and NetError for
    what cannot be read.
    """
    files = [file for file in network if file is not None and not isinstance(file, Net)]
    for net in network:
        if isinstance(net, Net):
            if len(network) > 1 or prototxt or model or input_shape or outputs:
                raise Caffe2TFError(
                    f"the Net '{net.name}' comes with files, `input_shape` or `outputs`; takes it alone, or files"
                )
            return summarize(net)
    if files:
        prototxt, model = loading.told_apart(files)
    file = model if model is not None else prototxt
    named = None if file is None else os.fspath(file)
    try:
        try:
            net = loading.load(prototxt=prototxt, model=model, input_shape=input_shape, outputs=outputs)
        except ShapeNeeded as error:
            if not error.likely:
                raise
            shapes = {**error.likely, **(input_shape or {})}
            net = loading.load(prototxt=prototxt, model=model, input_shape=shapes, outputs=outputs)
            net = replace(net, notes=(*net.notes, f"shown for a shape that is a guess: {error}"))
        return summarize(net, named)
    except UnsupportedLayer as error:
        lines = list(error.args[:-1] if error.outputs else error.args)
        with guarded(prototxt, model):
            return summarize_unsupported(_source(prototxt, model), lines) | {"possible_outputs": list(error.outputs)}


def _source(prototxt: loading.Path | None, model: loading.Path | None) -> read.Source:
    """What the files hold, as they hold it: the text's layers where there is one, and the model's weights."""
    weights = None if model is None else read.read_caffemodel(model)
    text = None if prototxt is None else read.read_prototxt(prototxt)
    if weights is not None and text is not None:
        return replace(text, blobs=weights.blobs, path=weights.path)
    return weights or text  # type: ignore[return-value]  # one of them is given, else loading would have refused


def summarize(net: Net, file: str | None = None) -> dict[str, Any]:
    """A JSON-ready dictionary of `net`; shapes in Caffe's axis order, null where nothing tells an extent.

    Keys: file, name, encoding, inputs {blob: shape}, outputs, layers (name, type, bottoms, tops, shapes, weights {name:
    shape in Keras's layout}, parameters, multiply_adds, receptive_field, stride, no_effect), parameters, multiply_adds,
    preprocessing, fixed_batch (the layers that use axis 0, so that a model of the network has its batch size fixed),
    unsupported, possible_outputs (where something is not: the outermost blobs that do not need it), notes.
    Parameters count what Caffe learns; shared ones count once. Multiply-adds are those of one item of the batch, null
    where an extent is unknown.
    receptive_field and stride are [height, width] in pixels of the input: what one value depends on over all paths, were the
    picture without a border, and how far neighbouring values lie apart; null where a value is no place in a picture, or
    depends on the whole. preprocessing says how pictures become input, {"words", "source", and the values of
    preprocess.Preprocessing}, null for networks without an input of pictures.
    """
    layers, counted, fields = list[dict[str, Any]](), set[int](), receptive_fields(net)
    for node in net.nodes:
        layer = node.layer
        weights, own = layer.weight_shapes(), 0
        arrays = net.arrays.get(layer.name, [None] * len(layer.blobs()))
        for weight, array in zip(layer.blobs(), arrays, strict=True):
            # A shared array is one object in every layer that uses it.
            if weight.name in weights and (array is None or id(array) not in counted):
                own += math.prod(weight.shape)
            counted.add(id(array))
        known = all(None not in shape for shape in node.shapes)
        layers.append(
            {
                "name": layer.name,
                "type": layer.type,
                "bottoms": [blob for blob, _ in node.bottoms],
                "tops": [blob for blob, _ in node.tops],
                "shapes": [list(shape) for shape in node.shapes],
                "weights": {name: list(shape) for name, shape in weights.items()},
                "parameters": own,
                "multiply_adds": layer.multiply_adds() if known else None,
                **_in_pixels([fields[top] for top in node.tops]),
                "no_effect": no_effect(layer),
            }
        )
    work = [layer["multiply_adds"] for layer in layers]
    return {
        "file": file,
        "name": net.name,
        "encoding": net.encoding,
        "inputs": {blob: list(shape) for blob, shape in net.inputs.items()},
        "outputs": net.outputs,
        "layers": layers,
        "parameters": sum(layer["parameters"] for layer in layers),
        "multiply_adds": None if None in work else sum(work),
        "preprocessing": preprocessing(net),
        "fixed_batch": [node.layer.name for node in net.nodes if node.layer.fixes_batch()],
        "unsupported": [],
        "possible_outputs": [],
        "notes": [*net.notes, *([net.lacking] if net.lacking != Net.lacking else [])],
    }


def receptive_fields(net: Net) -> dict[tuple[str, int], Field | None]:
    """{(blob, version): [(pixels, step)] for each spatial axis, or None}, as layers.Layer.receptive says them."""
    fields: dict[tuple[str, int], Field | None] = {}
    for node in net.nodes:
        found: list[Field | None]
        if node.layer.type == "Input":
            found = [[(1, Fraction(1))] * (len(shape) - 2) if len(shape) > 2 else None for shape in node.shapes]
        else:
            found = [node.layer.receptive([fields[bottom] for bottom in node.bottoms])] * len(node.tops)
        fields.update(zip(node.tops, found, strict=True))
        # A blob of another shape in the same memory has no places of its own.
        fields.update(
            (echo, found[index] if shape == node.shapes[index] else None) for index, echo, shape in node.echoes
        )
    return fields


def _in_pixels(fields: Sequence[Field | None]) -> dict[str, Any]:
    if not fields or fields[0] is None:
        return {"receptive_field": None, "stride": None}
    # Behind a deconvolution steps are parts of a pixel, and a window that covers part of one depends on it.
    steps = [int(step) if step == int(step) else float(step) for _, step in fields[0]]
    return {"receptive_field": [math.ceil(pixels) for pixels, _ in fields[0]], "stride": steps}


def preprocessing(net: Net) -> dict[str, Any] | None:
    """How pictures become input, as `summarize` says it, or None."""
    known = json.loads(notes.to_json(net))
    if not known:
        return None
    how, source = preprocess.of(net)
    return {"words": str(how), "source": source, **known["preprocessing"]}


def no_effect(layer: Layer) -> list[str]:
    """The parameters that a layer sets and that do not reach inference: training, engines, initial values."""
    proto = layer.proto
    names = [name for name in ("loss_weight", "propagate_down") if getattr(proto, name)]
    if any(spec.HasField("lr_mult") or spec.HasField("decay_mult") for spec in proto.param):
        names.append("lr_mult")
    if isinstance(layer.p, Message) and proto.HasField(str(layer.param)):
        names.extend(name for name in set_fields(layer.p) if name in NO_EFFECT)
    return names


def summarize_unsupported(source: read.Source, lines: list[str]) -> dict[str, Any]:
    """The same dictionary for a network that is not computed: layers as the file has them, and why not."""
    layers = source.net.layer or source.net.layers
    return {
        "file": source.path,
        "name": source.net.name,
        "encoding": source.encoding,
        "inputs": {},
        "outputs": [],
        "layers": [
            {
                "name": layer.name,
                "type": layer.type if isinstance(layer.type, str) else "",
                "bottoms": list(layer.bottom),
                "tops": list(layer.top),
                "shapes": [],
                "weights": {},
                "parameters": sum(math.prod(blob.shape) for blob in source.blobs.get(layer.name, ())),
                "multiply_adds": None,
                "receptive_field": None,
                "stride": None,
                "no_effect": [],
            }
            for layer in layers
        ],
        "parameters": sum(math.prod(blob.shape) for blobs in source.blobs.values() for blob in blobs),
        "multiply_adds": None,
        "preprocessing": None,
        "fixed_batch": [],
        "unsupported": lines,
        "possible_outputs": [],
        "notes": list(source.warnings),
    }
