"""Keras model of stock layers: it opens where caffe2tf is not installed. (loads TensorFlow)

Read it with `keras.models.load_model(path)`.
"""

import zipfile
from typing import Any

import keras
import numpy as np

from caffe2tf.arrays.layout import Array, Floats
from caffe2tf.arrays.numbers import reason
from caffe2tf.errors import ParseError
from caffe2tf.formats import Runner, _reload
from caffe2tf.formats._files import Progress
from caffe2tf.images import preprocess
from caffe2tf.keras_model.model import to_keras
from caffe2tf.keras_model.types import KerasModel
from caffe2tf.net.net import Net


def save(net: Net, path: str, progress: Progress | None = None) -> float:
    """Returns the largest difference between the model and the file read back."""
    model, given = to_keras(net), _reload.example(net)
    model.save(path)
    # How pictures become its input goes along; Keras leaves files that it does not know alone.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(preprocess.FILE, preprocess.to_json(net))
    if progress:
        progress(sum(variable.numpy().nbytes for variable in model.weights))
    again = keras.models.load_model(path)
    inputs = given if len(given) > 1 else given[0]
    return _reload.largest_difference(path, _reload.values(model(inputs)), _reload.values(again(inputs)))


def runner(path: str, many: bool = False) -> Runner:
    """A Runner of the file, as `running` says. Raises ParseError for what is no .keras file, or no classifier."""
    try:
        model = keras.models.load_model(path)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes Keras raise whatever the class of a layer meets first
        raise ParseError(f"{path}: is not a .keras file that can be read ({reason(error)})") from None
    return running(model, path, preprocess.noted_in(path), many)


def running(model: KerasModel, where: str, noted: dict[str, Any] | None = None, many: bool = False) -> Runner:
    """A Runner of `model`; with `many` it is compiled, which takes half a second and pays beyond some 50 images."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ParseError(f"{where}: has no single image input; its input is {shape}")
    if not keras.ops.is_tensor(model.output) and not isinstance(model.output, keras.KerasTensor):
        raise ParseError(f"{where}: has outputs of {model.output_shape}; classify takes networks with one")
    # XLA, Keras's own choice, compiles four times as long and is no faster on a CPU; JAX has nothing else.
    model.compile(jit_compile=keras.backend.backend() == "jax")

    def call(images: Floats) -> Array:
        if many:
            return np.asarray(model.predict_on_batch(images))
        return np.asarray(keras.ops.convert_to_numpy(model(images, training=False)))

    return Runner(call, (shape[0], shape[3], *shape[1:3]), model.output_shape[-1], noted or {})
