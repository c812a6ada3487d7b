"""TensorFlow Lite for phones and boards; `--quantize` for 8-bit weights. (loads TensorFlow)

Read it with `tf.lite.Interpreter(model_path=path)`.
"""

import os
import struct
import warnings
import zipfile
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.schema_py_generated import ModelT

from caffe2tf.arrays.layout import Array, Floats
from caffe2tf.errors import ParseError
from caffe2tf.formats import Runner, _reload
from caffe2tf.formats._files import Progress
from caffe2tf.formats.savedmodel import serving
from caffe2tf.images import preprocess
from caffe2tf.keras_model.model import to_keras
from caffe2tf.net.names import input_names
from caffe2tf.net.net import Net


def save(net: Net, path: str, progress: Progress | None = None, quantize: bool = False) -> float:
    """Returns the largest difference between the model and the file read back; `quantize`: dynamic range."""
    model, given = to_keras(net), _reload.example(net)
    serve = serving(model, net)
    # The converter gives values to the variables of TensorFlow's own that it finds, not to those inside a Keras model.
    holder = tf.Module()
    holder.held = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], holder)
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    data = converter.convert()
    with open(path, "wb") as file:
        file.write(data)
    # How pictures become its input goes along at the end, where TensorFlow Lite keeps files that belong to a model.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(preprocess.FILE, preprocess.to_json(net))
    if progress:
        progress(len(data))
    expected = serve(*map(tf.constant, given))
    # Without delegates there is no log line; the interpreter must outlive its signature.
    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = _interpreter(model_path=path, experimental_op_resolver_type=plain)
    signature = interpreter.get_signature_runner()
    found = signature(**dict(zip(input_names(net).values(), given, strict=True)))
    return _reload.largest_difference(path, _reload.values(expected), [found[name] for name in expected])


def _interpreter(**options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the interpreter's move to another package
        return tf.lite.Interpreter(**options)


def _whole(path: str) -> bytes:
    """The bytes of the file, seen through once: the interpreter follows every offset without a look, and one that leads past
    the end ends the process, as a file does that is cut while the interpreter has it mapped."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        ModelT.InitFromPackedBuf(data)
        return data
    except OSError as error:
        raise ParseError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (struct.error, ValueError, TypeError, IndexError, AttributeError, OverflowError, BufferError):
        raise ParseError(f"{path}: is no .tflite, or is cut short or damaged") from None


def runner(path: str, many: bool = False) -> Runner:
    """A Runner of the file. Raises ParseError for what is no .tflite, or no classifier."""
    data = _whole(path)
    try:
        interpreter = _interpreter(model_content=data, num_threads=os.cpu_count())
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, RuntimeError) as error:
        raise ParseError(f"{path}: is not a .tflite that can be read ({str(error).splitlines()[0]})") from None
    if len(inputs) != 1 or len(inputs[0]["shape"]) != 4 or inputs[0]["dtype"] != np.float32:
        has = ", ".join(f"{item['dtype'].__name__} {item['shape'].tolist()}" for item in inputs)
        raise ParseError(f"{path}: has no single float32 image input; its inputs are {has}")
    if len(outputs) != 1 or outputs[0]["dtype"] != np.float32:
        has = ", ".join(f"{item['dtype'].__name__} {item['shape'].tolist()}" for item in outputs)
        raise ParseError(f"{path}: has the outputs {has}; classify takes networks with one, of float32")
    place, result, ready = inputs[0]["index"], outputs[0]["index"], None

    def call(images: Floats) -> Array:
        nonlocal ready
        if images.shape != ready:
            interpreter.resize_tensor_input(place, images.shape)
            interpreter.allocate_tensors()
            ready = images.shape
        interpreter.set_tensor(place, images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(result))

    shape = [None if extent < 0 else int(extent) for extent in inputs[0]["shape_signature"]]
    classes = int(outputs[0]["shape_signature"][-1])
    return Runner(call, (shape[0], shape[3], *shape[1:3]), classes if classes > 0 else None, preprocess.noted_in(path))
