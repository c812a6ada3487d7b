"""TensorFlow Lite for phones and boards; `--quantize` for 8 or 16 bits. (loads TensorFlow)

Read it with `ai_edge_litert.interpreter.Interpreter(model_path=path)`, or the `tf.lite.Interpreter` that it follows.
"""

import os
import struct
import warnings
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.schema_py_generated import ModelT, TensorType

from caffe2tf.arrays.layout import Array
from caffe2tf.errors import OutputError, ParseError
from caffe2tf.formats import Runner, _files, _held, _note, _reload
from caffe2tf.formats._files import Progress
from caffe2tf.formats.savedmodel import holding, serving
from caffe2tf.images import notes
from caffe2tf.keras_model.pictures import INPUT, Pictures
from caffe2tf.net.names import input_names
from caffe2tf.net.net import Net

try:  # the successor, where it is installed
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
except ImportError:
    Interpreter, OpResolverType = tf.lite.Interpreter, tf.lite.experimental.OpResolverType

QUANTIZED = ("weights", "float16")


def save(
    net: Net,
    path: str,
    progress: Progress | None = None,
    quantize: bool | str = False,
    pictures: Pictures | None = None,
) -> float:
    """Returns the largest difference between the model and the file read back.

    `quantize`: "weights" (or True) stores weights in 8 bits, "float16" in 16. Raises OutputError for other words.
    """
    how = (QUANTIZED[0] if quantize else None) if isinstance(quantize, bool) else quantize
    if how not in (None, *QUANTIZED):
        raise OutputError(f"{path}: `quantize` is '{how}'; takes {', '.join(QUANTIZED)}")
    model, given = _reload.model(net, pictures), _reload.example(net, pictures)
    serve = serving(model, net, pictures)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], holding(model))
    if how:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if how == "float16":
        converter.target_spec.supported_types = [tf.float16]
    data = converter.convert()
    with open(path, "wb") as file:
        file.write(data)
    # What is said of it goes along at the end, where TensorFlow Lite keeps files that belong to a model.
    places = None if pictures else _held.places(model, _constants(ModelT.InitFromPackedBuf(data)))
    _note.write(path, net, pictures, places)
    if progress:
        progress(len(data))
    expected = serve(*map(tf.constant, given))
    # Without delegates there is no log line; the interpreter must outlive its signature.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = _interpreter(model_path=path, experimental_op_resolver_type=plain)
    signature = interpreter.get_signature_runner()
    names = [INPUT] if pictures else input_names(net).values()
    found = signature(**dict(zip(names, given, strict=True)))
    return _reload.largest_difference(path, _reload.values(expected), [found[name] for name in expected])


def _interpreter(**options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the interpreter's move to another package
        return Interpreter(**options)


def _whole(path: str) -> tuple[bytes, ModelT]:
    """The bytes of the file, and what is in them, seen through once: the interpreter follows every offset without a look, and one
    that leads past the end ends the process, as a file does that is cut while the interpreter has it mapped."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        return data, ModelT.InitFromPackedBuf(data)
    except OSError as error:
        raise ParseError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (struct.error, ValueError, TypeError, IndexError, AttributeError, OverflowError, BufferError):
        raise ParseError(f"{path}: is no .tflite, or is cut short or damaged") from None


def _constants(held: ModelT) -> dict[str, Array]:
    """{number of a buffer: its values} of the tensors of float32 and float16."""
    kinds = {TensorType.FLOAT32: "<f4", TensorType.FLOAT16: "<f2"}
    tensors = [tensor for graph in held.subgraphs or () for tensor in graph.tensors or () if tensor.type in kinds]
    known = {tensor.buffer: kinds[tensor.type] for tensor in tensors if tensor.buffer < len(held.buffers or ())}
    data = {number: held.buffers[number].data for number in known}
    return {
        str(number): np.frombuffer(values, known[number])
        for number, values in data.items()
        if values is not None and len(values) and len(values) % int(known[number][-1]) == 0
    }


def filled(path: str, net: Net) -> Net:
    """`net`, which the file's note describes, with the weights of the file; without them where one was merged or packed. Raises
    ParseError."""
    held = _constants(_whole(path)[1])
    return _held.filled(path, net, notes.noted_in(path).get("weights", {}), lambda names: held)


def runner(path: str, many: bool = False) -> Runner:
    """A Runner of the file. Raises ParseError for what is no .tflite, or no classifier."""
    data, _ = _whole(path)
    try:
        interpreter = _interpreter(model_content=data, num_threads=os.cpu_count())
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, RuntimeError) as error:
        raise ParseError(f"{path}: is not a .tflite that can be read ({str(error).splitlines()[0]})") from None
    if len(inputs) != 1 or len(inputs[0]["shape"]) != 4 or inputs[0]["dtype"] not in (np.float32, np.uint8):
        has = ", ".join(f"{item['dtype'].__name__} {item['shape'].tolist()}" for item in inputs)
        raise ParseError(f"{path}: has no single image input of float32 or uint8; its inputs are {has}")
    if len(outputs) != 1 or outputs[0]["dtype"] != np.float32:
        has = ", ".join(f"{item['dtype'].__name__} {item['shape'].tolist()}" for item in outputs)
        raise ParseError(f"{path}: has the outputs {has}; classify takes networks with one, of float32")
    place, result, ready = inputs[0]["index"], outputs[0]["index"], None

    raw = inputs[0]["dtype"] == np.uint8

    def call(images: Array) -> Array:
        nonlocal ready
        images = images.astype(np.uint8) if raw else images
        if images.shape != ready:
            interpreter.resize_tensor_input(place, images.shape)
            interpreter.allocate_tensors()
            ready = images.shape
        interpreter.set_tensor(place, images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(result))

    shape = [None if extent < 0 else int(extent) for extent in inputs[0]["shape_signature"]]
    classes = int(outputs[0]["shape_signature"][-1])
    noted, names = notes.noted_in(path), _files.names_in(path)
    return Runner(call, (shape[0], shape[3], *shape[1:3]), classes if classes > 0 else None, noted, names, raw)
