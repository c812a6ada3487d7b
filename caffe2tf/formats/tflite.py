"""TensorFlow Lite for phones and boards; `--quantize` for 8 or 16 bits, `--calibrate` to compute in 8. (loads TensorFlow)

Read it with `ai_edge_litert.interpreter.Interpreter(model_path=path)`, or the `tf.lite.Interpreter` that it follows.
"""

import os
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.lite.python.schema_py_generated import BuiltinOperator, ModelT, TensorType

from caffe2tf.arrays.layout import Array
from caffe2tf.arrays.numbers import reason
from caffe2tf.errors import OutputError, ParseError
from caffe2tf.formats import Runner, _calibration, _files, _held, _note, _reload
from caffe2tf.formats._calibration import Comparison
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

BACKEND = "tensorflow"  # of Keras, whose graph it is made of
QUANTIZED = ("weights", "float16")
_FAR = 1e30


def save(
    net: Net,
    path: str,
    progress: Progress | None = None,
    quantize: bool | str = False,
    pictures: Pictures | None = None,
    calibrate: str | os.PathLike[str] | None = None,
    compared: Callable[[Comparison], None] | None = None,
) -> float:
    """Returns the largest difference between the model and the file read back.

    `quantize`: "weights" (or True) stores weights in 8 bits, "float16" in 16. With `calibrate`, a folder of pictures, the
    network also computes in 8 bits, between the least and the largest values that the pictures give; what it takes and
    gives stays float32 (8-bit with `pictures`). The file is then run on these pictures, of which `compared` is told; the
    difference is over them. Raises OutputError for other words, for a network that cannot be calibrated, and where the file says
    too little of what the network says (_calibration.LOST).
    """
    how = (QUANTIZED[0] if quantize else None) if isinstance(quantize, bool) else quantize
    if how not in (None, *QUANTIZED):
        raise OutputError(f"{path}: `quantize` is '{how}'; takes {', '.join(QUANTIZED)}")
    if how and calibrate is not None:
        raise OutputError(
            f"{path}: `calibrate` computes in 8 bits; `quantize` is for a network that computes in floats"
        )
    paths = _calibration.samples(net, path, calibrate) if calibrate is not None else ()
    model = _reload.model(net, pictures, bounded=bool(paths))
    serve = serving(model, net, pictures).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve], holding(model))
    if how or paths:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if how == "float16":
        converter.target_spec.supported_types = [tf.float16]
    shown = partial(_calibration.inputs, net, paths, pictures, model.inputs[0].shape[0])
    data = _calibrated(converter, shown, path) if paths else converter.convert()
    with open(path, "wb") as file:
        file.write(data)
    # What is said of it goes along at the end, where TensorFlow Lite keeps files that belong to a model.
    held = ModelT.InitFromPackedBuf(data)
    places = None if pictures else _held.places(model, _constants(held))
    _note.write(path, net, pictures, places)
    if progress:
        progress(len(data))
    # Without delegates there is no log line; the interpreter must outlive its signature.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = _interpreter(model_path=path, experimental_op_resolver_type=plain)
    signature = interpreter.get_signature_runner()
    names = [INPUT] if pictures else list(input_names(net).values())

    def exact(*given: Array) -> list[Array]:
        found = serve(*map(tf.constant, given))
        return [found[name].numpy() for name in serve.structured_outputs]

    def read(*given: Array) -> list[Array]:
        found = signature(**dict(zip(names, given, strict=True)))
        return [found[name] for name in serve.structured_outputs]

    if not paths:
        given = _reload.example(net, pictures)
        return _reload.largest_difference(path, exact(*given), read(*given))
    seen = _calibration.compared(path, paths, shown(), exact, read, _in_floats(held), _ends_in_softmax(held))
    if compared:
        compared(seen)
    return seen.difference


def _calibrated(converter: Any, shown: Callable[[], Iterator[Array]], path: str) -> bytes:
    """What `converter` makes of a network that computes in 8 bits wherever it can, with the ranges that the inputs `shown` give. Raises
    OutputError where it finds none."""

    def each() -> Iterator[list[Array]]:
        return ([image] for image in shown())

    converter.representative_dataset = each
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    # In two steps, as TensorFlow's QuantizationDebugger goes: the second ends the process where a range is not finite.
    converter._experimental_calibrate_only = True
    why = "`quantize` needs no ranges"
    try:
        calibrated = bytes(converter.convert())
        if far := _far(ModelT.InitFromPackedBuf(calibrated)):
            raise OutputError(f"{path}: cannot be calibrated: {far}, beside which 8 bits hold nothing; {why}")
        return bytes(mlir_quantize(calibrated))
    except (RuntimeError, ValueError) as error:
        raise OutputError(f"{path}: cannot be calibrated ({reason(error)}); {why}") from None


def _far(model: ModelT) -> str:
    """`NAME reaches VALUE` of a tensor whose range no blob of a network that works can have; nothing where there is none."""
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        held = tensor.quantization
        for ends in (held.min, held.max) if held is not None else ():
            if ends is not None and not (np.abs(ends) < _FAR).all():
                return f"'{tensor.name.decode()}' reaches {max(ends, key=abs):.3g}"
    return ""


def _name(model: ModelT, operator: Any) -> str:
    """What TensorFlow Lite calls an operation of the file."""
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return next((name for name, value in vars(BuiltinOperator).items() if value == number), str(number))


def _in_floats(model: ModelT) -> list[str]:
    """The operations of the file that compute in float32; those that only turn integers into it do not."""
    found = {
        _name(model, operator)
        for graph in model.subgraphs
        for operator in graph.operators
        if any(graph.tensors[index].type == TensorType.FLOAT32 for index in operator.outputs)
    }
    return sorted(found - {"CAST", "DEQUANTIZE"})


def _ends_in_softmax(model: ModelT) -> bool:
    """Whether the file's one output is a softmax that is computed in 8 bits."""
    graph = model.subgraphs[0]
    makers = {index: operator for operator in graph.operators for index in operator.outputs}
    index = graph.outputs[0]
    while operator := makers.pop(index, None):  # a hostile file may go round
        name = _name(model, operator)
        if name not in ("DEQUANTIZE", "QUANTIZE", "RESHAPE"):
            return len(graph.outputs) == 1 and name == "SOFTMAX" and graph.tensors[index].type == TensorType.INT8
        index = operator.inputs[0]
    return False


def _interpreter(**options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the interpreter's move to another package
        return Interpreter(**options)


def _whole(path: str) -> tuple[bytes, ModelT]:
    """The bytes of the file, and what is in them, seen through once: the interpreter follows every offset without a look, and one
    that leads past the end ends the process, as a file does that is cut while the interpreter has it mapped."""
    damaged = f"{path}: is no .tflite, or is cut short or damaged"
    try:
        with open(path, "rb") as file:
            data = file.read()
        held = ModelT.InitFromPackedBuf(data)
    except OSError as error:
        raise ParseError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (struct.error, ValueError, TypeError, IndexError, AttributeError, OverflowError, BufferError):
        raise ParseError(damaged) from None
    if held.subgraphs is None:  # of which the interpreter takes the first, there or not
        raise ParseError(damaged)
    return data, held


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
    data, held = _whole(path)
    try:
        interpreter = _interpreter(model_content=data, num_threads=os.cpu_count())
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        softmax = _ends_in_softmax(held)
    except (ValueError, RuntimeError, TypeError, IndexError, AttributeError) as error:
        raise ParseError(f"{path}: is not a .tflite that can be read ({reason(error)})") from None
    if len(inputs) != 1 or len(inputs[0]["shape"]) != 4 or inputs[0]["dtype"] not in (np.float32, np.uint8):
        has = ", ".join(f"{item['dtype'].__name__} {item['shape'].tolist()}" for item in inputs)
        raise ParseError(f"{path}: has no single image input of float32 or uint8; its inputs are {has}")
    if len(outputs) != 1 or outputs[0]["dtype"] != np.float32 or not len(outputs[0]["shape_signature"]):
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
        found = np.asarray(interpreter.get_tensor(result))
        return _calibration.shares(found) if softmax else found

    shape = [None if extent < 0 else int(extent) for extent in inputs[0]["shape_signature"]]
    classes = int(outputs[0]["shape_signature"][-1])
    noted, names = notes.noted_in(path), _files.names_in(path)
    return Runner(call, (shape[0], shape[3], *shape[1:3]), classes if classes > 0 else None, noted, names, raw)
