"""Keras model of stock layers: it opens where caffe2tf is not installed. (loads TensorFlow)

Read it with `keras.models.load_model(path)`.
"""

import io
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from caffe2tf import spent
from caffe2tf.arrays.layout import Array, Floats
from caffe2tf.arrays.numbers import reason, unzipped
from caffe2tf.errors import ParseError, WeightMismatch
from caffe2tf.formats import Runner, _claims, _files, _note, _reload, h5
from caffe2tf.formats._files import Progress
from caffe2tf.images import notes, preprocess
from caffe2tf.keras_model.build import caller, to_last
from caffe2tf.keras_model.depth import deep
from caffe2tf.keras_model.model import from_keras
from caffe2tf.keras_model.pictures import Pictures
from caffe2tf.keras_model.types import KerasModel
from caffe2tf.net.names import keras_names
from caffe2tf.net.net import Net

_LAYER = 1000  # bytes that no layer of Keras's falls short of in a file, so that what a file claims gives no limit


def save(net: Net, path: str, progress: Progress | None = None, pictures: Pictures | None = None) -> float:
    """Returns the largest difference between the model and the file read back."""
    model, given = _reload.model(net, pictures), _reload.example(net, pictures)
    model.save(path)
    _note.write(path, net, pictures)  # Keras leaves files that it does not know alone
    if progress:
        progress(sum(variable.numpy().nbytes for variable in model.weights))
    with deep(len(net.nodes)):
        again = keras.models.load_model(path)
    inputs = given if len(given) > 1 else given[0]
    expected, found = (caller(made, net.nodes)(inputs) for made in (model, again))
    return _reload.largest_difference(path, _reload.values(expected), _reload.values(found))


_MEMBERS = {"config.json", "metadata.json", "model.weights.h5", preprocess.FILE, _files.LABELS}
_LONGEST = 1 << 26  # bytes of a member of text: an hourglass of a thousand layers has 2 MB
_MODULES = {
    "builtins",
    "keras",
    *(f"keras.{name}" for name in ("layers", "models", "activations", "losses", "metrics")),
}
_MODULES |= {
    f"keras.{name}" for name in ("initializers", "regularizers", "constraints", "optimizers", "optimizers.schedules")
}
_INNER = ("keras.src.models.", "keras.src.ops.")  # where Keras keeps models and single operations
# They run Python, or read other files.
_ACTING = {"Lambda", "__lambda__", "__typespec__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
_ACTING |= {"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"}


def _look(path: str) -> int:
    """How many values the weights of the file are. Raises ParseError, ValueError or BadZipFile for a file that holds more than a
    network of Keras's own layers, or claims to unfold to more than it can hold: before Keras makes objects of it."""
    with unzipped(path) as archive:
        for item in archive.infolist():
            if item.filename not in _MEMBERS:
                raise ParseError(f"holds '{item.filename}', which no network of Keras's own layers has")
            most = max(100 * item.compress_size, 1 << 16)
            if item.file_size > (most if item.filename.endswith(".h5") else min(most, _LONGEST)):
                raise ParseError(f"'{item.filename}' claims {item.file_size} bytes")
        ahead = [json.loads(archive.read("config.json"))]
        values = h5.values_held(io.BytesIO(archive.read("model.weights.h5")))
    while ahead:
        item = ahead.pop()
        if isinstance(item, dict) and "class_name" in item:
            module, name = item.get("module"), item["class_name"]
            known = module is None or module in _MODULES or str(module).startswith(_INNER)
            if not known or name in _ACTING:
                raise ParseError(f"holds {module}.{name}, which can run code or read files; takes Keras's own layers")
        ahead += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return values


def filled(path: str, net: Net) -> Net:
    """`net`, which the file's note describes, with the weights of the model in the file. Raises ParseError."""
    try:
        return from_keras(opened(path), net)
    except WeightMismatch as error:
        raise ParseError(f"{path}: {error}") from None


def layers(path: str, net: Net) -> Callable[[Mapping[str, Floats]], dict[str, Floats]]:
    """A function from {input: array} to {blob: array}, both in Caffe's axis order, as the model in the file computes every blob of
    `net`, which its note describes, that is a layer or an output of it."""
    model, names, last = opened(path), keras_names(net), net.last_versions
    known = {layer.name: layer for layer in model.layers}
    makers = {blob: net.producers[blob, last[blob]].layer for blob in net.blobs}
    found = {blob: known[names[m.name]].output for blob, m in makers.items() if names.get(m.name) in known}
    found |= dict(zip((blob for blob in net.outputs if not net.is_constant(blob)), model.outputs, strict=False))
    tensors = {blob: one for blob, one in found.items() if isinstance(one, keras.KerasTensor)}
    whole = keras.Model(model.inputs, list(tensors.values()))

    def run(inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        values = whole([to_last(np.asarray(inputs[name], np.float32)) for name in net.inputs], training=False)
        arrays = (np.asarray(keras.ops.convert_to_numpy(value), np.float32) for value in values)
        return {blob: makers[blob].caffe_top(array) for blob, array in zip(tensors, arrays, strict=True)}

    return run


def runner(path: str, many: bool = False) -> Runner:
    """A Runner of the file, as `running` says. Raises ParseError for what is no .keras file, or no classifier."""
    return running(opened(path), path, notes.noted_in(path), many, _files.names_in(path))


def opened(path: str) -> KerasModel:
    """The model in the file. Raises ParseError for what is no .keras file of Keras's own layers."""
    try:
        with _claims.bounded(_look(path)), deep(os.path.getsize(path) // _LAYER), spent.on("build"):
            model = keras.models.load_model(path, compile=False, safe_mode=True)
        _claims.check_outputs(model)
        return model
    except ParseError as error:
        raise ParseError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes a hundred layers raise whatever they meet first
        raise ParseError(f"{path}: is not a .keras file that can be read ({reason(error)})") from None


def running(
    model: KerasModel,
    where: str,
    noted: dict[str, Any] | None = None,
    many: bool = False,
    names: tuple[str, ...] | None = None,
) -> Runner:
    """A Runner of `model`; with `many` it is compiled, which takes half a second and pays beyond some 50 images."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ParseError(f"{where}: has no single image input; its input is {shape}")
    if not keras.ops.is_tensor(model.output) and not isinstance(model.output, keras.KerasTensor):
        raise ParseError(f"{where}: has outputs of {model.output_shape}; classify takes networks with one")
    # XLA, Keras's own choice, compiles four times as long and is no faster on a CPU; JAX has nothing else.
    model.compile(jit_compile=keras.backend.backend() == "jax")
    raw = model.inputs[0].dtype == "uint8"

    traced = set[tuple[int, ...]]()

    def call(images: Array) -> Array:
        images = images.astype(np.uint8) if raw else images
        with spent.on("trace" if many and images.shape not in traced else "run"):
            traced.add(images.shape)
            if many:
                return np.asarray(model.predict_on_batch(images))
            return np.asarray(keras.ops.convert_to_numpy(model(images, training=False)))

    return Runner(call, (shape[0], shape[3], *shape[1:3]), model.output_shape[-1], noted or {}, names, raw)
