"""A Net as a `keras.Model` of stock layers and `keras.ops` alone, and back.

The model runs where caffe2tf is not installed, on every Keras backend. Inputs and outputs are channels last; images
stay BGR, minus the mean, as in Caffe.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from caffe2tf import spent
from caffe2tf.arrays.layout import Array, Floats
from caffe2tf.errors import Caffe2TFError, NetError, WeightMismatch
from caffe2tf.keras_model import pictures
from caffe2tf.keras_model.build import Build, to_last, to_numpy
from caffe2tf.keras_model.context import Binding
from caffe2tf.keras_model.types import KerasModel
from caffe2tf.net.net import Net
from caffe2tf.net.wiring import Blob, Node


def to_keras(net: Net, outputs: Sequence[str] | None = None, preprocessing: bool = False) -> KerasModel:
    """`net` as a flat keras.Model: the last operation of each Caffe layer is the Keras layer of its name (`/` becomes
    `_`), what comes before it is named after it, so that `keras.Model(model.input, model.get_layer("conv1").output)` gives
    the blob.

    Inputs are named as the blobs, shape (N, H, W, C) for rank 4, any other rank in Caffe's order, float32, images BGR
    minus mean as Caffe takes them. Outputs are the blobs `outputs`, of a network cut to what they need (`Net.cut`), or those
    that `net` has, in a list where there are several. The batch is free unless a layer uses axis 0; height and width are free where every layer takes any. Raises NetError
    where the files do not tell an extent that is needed.

    With `preprocessing` the model takes pictures, uint8 (N, H, W, 3) RGB of any size, and gives probabilities (N, classes): resize,
    crop, channel order, mean, scale and softmax are inside. Raises NetError for a network that takes none.
    """
    net = net if outputs is None else net.cut(outputs)
    if preprocessing:
        return pictures.to_keras(net, pictures.pictures(net))
    return build(net)[0]


def build(
    net: Net, outputs: Sequence[str] | None = None, bounded: bool = False
) -> tuple[KerasModel, dict[str, list[Binding]]]:
    """(`net` as a model of the blobs `outputs`, or of its own, {Caffe layer: what variable holds which weight of it}); `bounded`
    is context.Context's."""
    with spent.on("build"):
        made = Build(net, bounded=bounded)
        return made.model(net.outputs if outputs is None else outputs), made.bindings


def from_keras(model: KerasModel, net: Net) -> Net:
    """`net` with the weights of `model`, which `to_keras(net)` made and training changed: the exact inverse. Weights that have no
    part in the model's outputs stay as they are; of a `net` without weights that has such ones the result has none, and its
    `lacking` says why.

    Raises WeightMismatch where the model is another network's.
    """
    if not hasattr(model, "weights"):
        raise WeightMismatch(f"{type(model).__name__} is no keras.Model")
    walk = Build(net, empty=True)
    blank = walk.model(net.outputs)
    if [w.shape for w in blank.weights] != [w.shape for w in model.weights]:
        raise WeightMismatch(f"the model '{model.name}' has other weights than the network '{net.name}'")
    place = {id(variable): index for index, variable in enumerate(blank.weights)}
    weights = {name: dict(arrays) for name, arrays in net.weights.items()}
    lacking = set[tuple[str, str]]()
    if not net.arrays:
        wanted = net.weight_shapes
        lacking = {(name, key) for name, shapes in wanted.items() for key in shapes}
        weights = {
            n: {key: np.empty(shape, np.float32) for key, shape in shapes.items()} for n, shapes in wanted.items()
        }
    for layer, bindings in walk.bindings.items():
        mine = weights[layer]
        for binding in bindings:
            if id(binding.variable) not in place:
                continue  # of a layer that feeds no output
            lacking -= {(layer, binding.weight)}
            value = to_numpy(model.weights[place[id(binding.variable)]])
            whole = mine[binding.weight]
            part = whole if binding.part is None else whole[binding.part]
            if binding.turn:
                value = binding.turn(value.reshape(binding.turn(part).shape))
            value = value.reshape(part.shape)
            if binding.part is None:
                mine[binding.weight] = value
            else:
                if not whole.flags.writeable:
                    mine[binding.weight] = whole = whole.copy()
                whole[binding.part] = value
    if lacking:
        name, key = min(lacking)
        why = f"the model does not hold the {key} of layer '{name}' as one of its variables"
        return replace(net, lacking=f"{why}; take the file that it was made of")
    return net.with_weights(weights)


def forward(net: Net, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Floats]:
    """{blob: float32 array} of every blob of `net`, the last value written to each, in Caffe's axis order.

    `inputs`: {input blob: array in Caffe's axis order}, of any batch and size that Caffe's reshape would take. Raises
    NetError for a missing or unknown input, or a shape that the network does not take.
    """
    return forwarding(net, inputs)(inputs)


def forwarding(
    net: Net, inputs: Mapping[str, npt.ArrayLike]
) -> Callable[[Mapping[str, npt.ArrayLike]], dict[str, Floats]]:
    """`forward` of `net`, built once: for these `inputs`, and for others of any batch that it takes."""
    if not isinstance(inputs, Mapping):
        raise NetError(
            f"inputs are {type(inputs).__name__}; takes a dictionary {{blob: array}} of {sorted(net.inputs)}"
        )
    try:
        shapes = {name: np.asarray(value, np.float32).shape for name, value in inputs.items()}
    except (TypeError, ValueError) as error:
        raise NetError(f"an input is no array of numbers: {error}") from None
    if set(shapes) != set(net.inputs):
        raise NetError(f"inputs {sorted(shapes)}; the network takes {sorted(net.inputs)}")
    if shapes != net.inputs:
        net = net.reshape(shapes)
    run = compiled(net, list(net.blobs))

    def call(inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Floats]:
        try:
            blobs = run(inputs)
        except Exception as error:
            chooser = next((node.layer.name for node in net.nodes if node.layer.counts_items), None)
            if chooser is None or isinstance(error, Caffe2TFError):
                raise
            # Each backend has its own errors for shapes that do not meet while it runs, which only a count of then can cause.
            raise NetError(
                f"as many items as layer '{chooser}' lets through do not fit the layers behind it: {str(error).splitlines()[0]}"
            ) from None
        for node in net.nodes:
            # What a later layer overwrites is no longer what this one read.
            read = ((name, version == net.last_versions[name]) for name, version in node.bottoms)
            node.layer.check(*(blobs[name] if kept else None for name, kept in read))
        return blobs

    return call


def compiled(net: Net, blobs: Iterable[str]) -> Callable[[Mapping[str, npt.ArrayLike]], dict[str, Floats]]:
    """A function like `forward` for some `blobs` of `net` and inputs of any batch that it takes, built once."""
    with spent.on("build"):
        walk = Build(net)
        constants, last, producers = walk.constants, net.last_versions, net.producers
        computed = [blob for blob in blobs if blob not in constants]
        layers = {blob: producers[blob, last[blob]].layer for blob in computed}
        run = walk.function([(blob, last[blob]) for blob in computed]) if computed else None

    def call(inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Floats]:
        found = {blob: np.asarray(value, np.float32) for blob, value in constants.items()}
        if run:
            with spent.on("run"):
                values = run([to_last(np.asarray(inputs[name], np.float32)) for name in net.inputs])
                found.update(
                    (blob, layers[blob].caffe_top(value)) for blob, value in zip(computed, values, strict=True)
                )
        return {blob: found[blob] for blob in blobs}

    return call


def part(net: Net, nodes: Sequence[Node], given: Mapping[Blob, Array], target: Blob) -> Floats:
    """The blob `target`, a (name, version), in Caffe's axis order: `nodes` of `net` alone, in order, from the arrays `given`
    {(name, version): array in Caffe's axis order}."""
    with spent.on("build"):
        walk = Build(net, part=(nodes, {blob: array.shape for blob, array in given.items()}))
        if target in walk.values:
            return walk.values[target]
        call = walk.function([target])
    with spent.on("run"):
        found = call([to_last(np.asarray(array, np.float32)) for array in given.values()])[0]
    return net.producers[target].layer.caffe_top(found)
