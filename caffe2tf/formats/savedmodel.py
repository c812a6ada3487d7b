"""TensorFlow SavedModel folder, chosen by `OUT/`; `serving_default` has inputs and outputs named as Caffe's blobs. (loads TensorFlow)

Read it with `tf.saved_model.load(path).signatures["serving_default"]`. With pictures there are two signatures more, which
give the best classes of each, (N, 5) at most: `classes` int32, `scores` float32, `names` strings. `classify_images` takes
`images`, uint8 (N, H, W, 3) RGB; `classify_bytes` takes `bytes`, (N) encoded JPEG, PNG or GIF of one frame.
"""

import os
import tempfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from caffe2tf.arrays.layout import Array, Floats
from caffe2tf.errors import ParseError, WeightMismatch
from caffe2tf.files import replacing as files
from caffe2tf.formats import Runner, _allowed, _files, _held, _note, _reload
from caffe2tf.formats._files import Progress
from caffe2tf.images import notes, preprocess
from caffe2tf.keras_model.build import Build
from caffe2tf.keras_model.model import from_keras, to_keras
from caffe2tf.keras_model.pictures import INPUT, OUTPUT, Pictures, prepared, probabilities, resized
from caffe2tf.keras_model.types import KerasModel, Tensor
from caffe2tf.net.names import input_names
from caffe2tf.net.net import Net

BACKEND = "tensorflow"  # of Keras, whose graph it is made of
KIND = _files.SAVED_MODEL
_BEST = 5  # classes that the signatures for pictures give


def serving(model: KerasModel, net: Net, given: Pictures | None = None) -> Any:
    """A tf.function from Caffe's input blobs by name to {output blob: tensor}, as `model` computes it; of a model that takes
    pictures, from INPUT to OUTPUT."""
    arguments = [INPUT] if given else input_names(net).values()
    specs = [tf.TensorSpec(t.shape, t.dtype, name=name) for name, t in zip(arguments, model.inputs, strict=True)]
    names = [OUTPUT] if given else [blob for blob in net.outputs if not net.is_constant(blob)]

    def serve(*inputs: Tensor) -> dict[str, Tensor]:
        outputs = model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return dict(zip(names, outputs, strict=True))

    return tf.function(serve, input_signature=specs)


def holding(model: KerasModel) -> Any:
    """A tf.Module with TensorFlow's own variables of `model`: those inside a Keras model are saved under other names than functions
    read, which servers and converters take for two sorts."""
    holder = tf.Module()
    holder.held = [variable.value for variable in model.variables]
    return holder


def _classifying(model: KerasModel, net: Net, given: Pictures) -> dict[str, Any]:
    """{signature: tf.function} that give the best classes of pictures; `model` is the network alone."""
    names, ops = tf.constant(given.names), keras.ops

    def best(images: Tensor) -> dict[str, Tensor]:
        shares = probabilities(ops, net, model(prepared(ops, images, given.how), training=False))
        scores, classes = tf.math.top_k(shares, min(_BEST, len(given.names)))
        return {"classes": classes, "scores": scores, "names": tf.gather(names, classes)}

    def decoded(data: Tensor) -> Tensor:
        # Of TensorFlow's operations for JPEG and PNG this one alone has a setting for JPEGs as other libraries decode them.
        pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
        return tf.cast(resized(ops, pixels[None], size)[0], tf.uint8)

    def encoded(data: Tensor) -> dict[str, Tensor]:
        return best(tf.map_fn(decoded, data, fn_output_signature=tf.TensorSpec((*size, 3), tf.uint8)))

    size, count = given.size, model.inputs[0].shape[0]
    images = tf.TensorSpec((count, None, None, 3), tf.uint8, name="images")
    return {
        "classify_images": tf.function(best, input_signature=[images]),
        "classify_bytes": tf.function(encoded, input_signature=[tf.TensorSpec((count,), tf.string, name="bytes")]),
    }


def save(net: Net, path: str, progress: Progress | None = None, pictures: Pictures | None = None) -> float:
    """Returns the largest difference between the model and the folder read back; with `pictures` over the probabilities of a
    picture too."""
    model, given = to_keras(net), _reload.example(net)
    serve = serving(model, net)
    functions = {"serving_default": serve} | (_classifying(model, net, pictures) if pictures else {})
    holder = holding(model)
    with tempfile.TemporaryDirectory() as beside:
        if pictures:
            labels = os.path.join(beside, _files.LABELS)
            with open(labels, "w", encoding="utf-8", newline="\n") as file:
                file.write(_files.text_of(pictures.names))
            holder.labels = tf.saved_model.Asset(labels)
        tf.saved_model.save(holder, path, signatures=functions)
    os.makedirs(os.path.join(path, "assets.extra"), exist_ok=True)
    with open(os.path.join(path, "assets.extra", preprocess.FILE), "w", encoding="utf-8", newline="\n") as file:
        file.write(_note.of(net))
    if progress:
        progress(sum(variable.numpy().nbytes for variable in model.weights))
    # The loaded object must outlive the call: its variables go with it.
    again = tf.saved_model.load(path)
    named = dict(zip(input_names(net).values(), map(tf.constant, given), strict=True))
    expected, found = serve(*named.values()), again.signatures["serving_default"](**named)
    difference = _reload.largest_difference(path, _reload.values(expected), [found[name].numpy() for name in expected])
    if pictures:
        images = tf.constant(_reload.example(net, pictures)[0])
        best, seen = functions["classify_images"](images), again.signatures["classify_images"](images=images)
        more = _reload.largest_difference(path, [best["scores"].numpy()], [seen["scores"].numpy()])
        difference = max(difference, more)
    return difference


def _refuse_strangers(path: str) -> None:
    """A marker alone can be copied, so what is in the folder and in the graph is seen too."""
    words = "a SavedModel can read and write any file when it is loaded or run; `trust` runs it nevertheless"
    if not files.wrote(path, KIND):
        raise ParseError(f"{path}: was not written by caffe2tf (it holds no {KIND.marker}), and {words}")
    try:
        with open(os.path.join(path, "saved_model.pb"), "rb") as file:
            held = saved_model_pb2.SavedModel.FromString(file.read())
    except (OSError, DecodeError) as error:
        raise ParseError(f"{path}: is not a SavedModel that can be read ({error})") from None
    strange = files.stranger(path, KIND) or _allowed.strange(held)
    if strange:
        raise ParseError(f"{path}: holds {strange}, which caffe2tf does not write, and {words}")


def noted(path: str) -> dict[str, Any]:
    """The note that `save` left in the folder, {} where there is none. Raises ParseError."""
    return notes.noted_in(os.path.join(path, "assets.extra", preprocess.FILE))


def filled(path: str, net: Net) -> Net:
    """`net`, which the folder's note describes, with the weights of the model in it. Raises ParseError, as for a folder that
    caffe2tf did not write."""
    _refuse_strangers(path)
    loaded = _opened(path)
    known = {variable.name.removesuffix(":0"): variable for variable in loaded.signatures["serving_default"].variables}
    wanted = [weight.path for weight in Build(net, empty=True).model(net.outputs).weights]
    if lacking := [name for name in wanted if name not in known]:
        raise ParseError(f"{path}: holds no weights {', '.join(lacking[:3])}, which its network text has")
    try:
        return from_keras(_held.Held(path, [known[name] for name in wanted]), net)
    except WeightMismatch as error:
        raise ParseError(f"{path}: {error}") from None


def _opened(path: str) -> Any:
    try:
        loaded = tf.saved_model.load(path)
        tuple(loaded.signatures["serving_default"].variables)  # which are looked for when they are asked for
    except MemoryError:
        raise
    except Exception as error:  # a damaged graph makes TensorFlow's loader raise whatever its Python meets first
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ParseError(f"{path}: is not a SavedModel that can be read ({why})") from None
    return loaded


def runner(path: str, many: bool = False, trust: bool = False) -> Runner:
    """A Runner of the folder's `serving_default`. Raises ParseError for what is no SavedModel, or no classifier, and without
    `trust` for one that caffe2tf did not write or that holds what it never writes: loading it would be running it."""
    if not os.path.exists(os.path.join(path, "saved_model.pb")):
        raise ParseError(f"{path}: is a folder without saved_model.pb, so it is no SavedModel")
    if not trust:
        _refuse_strangers(path)
    loaded = _opened(path)
    signature = loaded.signatures["serving_default"]
    specs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(specs) != 1:
        raise ParseError(f"{path}: has the inputs {', '.join(specs) or 'none'}; classify takes networks with one")
    if len(outputs) != 1:
        raise ParseError(f"{path}: has the outputs {', '.join(outputs)}; classify takes networks with one")
    (name, spec), (out,) = next(iter(specs.items())), outputs.values()
    if not all(isinstance(getattr(one, "shape", None), tf.TensorShape) for one in (spec, out)):
        raise ParseError(f"{path}: its signature serving_default has an input or an output that is no tensor")
    if spec.shape.rank != 4 or spec.dtype != tf.float32:
        raise ParseError(f"{path}: has no image input; its input is {spec.dtype.name} {spec.shape}")
    shape = spec.shape.as_list()

    def call(images: Floats, keep: Any = loaded) -> Array:  # the loaded object must live as long as its function
        return np.asarray(next(iter(signature(**{name: tf.constant(images)}).values())))

    classes = out.shape[-1] if out.shape.rank else None
    names = _files.names_in(os.path.join(path, "assets", _files.LABELS))
    return Runner(call, (shape[0], shape[3], *shape[1:3]), classes, noted(path), names)
