"""ONNX, opset 18, for onnxruntime and other runtimes; inputs and outputs named as Caffe's blobs; needs `caffe2tf[onnx]`. (loads TensorFlow)

Read it with `onnxruntime.InferenceSession(path)`.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from caffe2tf.arrays.layout import Array
from caffe2tf.arrays.numbers import reason
from caffe2tf.errors import Caffe2TFError, OutputError, ParseError
from caffe2tf.formats import Runner, _files, _held, _note, _reload
from caffe2tf.formats._files import Progress
from caffe2tf.formats.savedmodel import serving
from caffe2tf.images import notes, preprocess
from caffe2tf.keras_model.pictures import INPUT, Pictures
from caffe2tf.keras_model.types import KerasModel
from caffe2tf.net.names import input_names
from caffe2tf.net.net import Net

try:
    import onnx
    import onnxruntime
    import tf2onnx
    from onnx.reference import ReferenceEvaluator
except ImportError as error:
    raise Caffe2TFError(
        f".onnx needs {error.name}; install it with tf2onnx and onnxruntime: pip install 'caffe2tf[onnx]'"
    ) from None

BACKEND = "tensorflow"  # of Keras, whose graph it is made of
OPSET = 18
_MOVES = frozenset(("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Split", "Identity"))
_MOST = (1 << 31) - (1 << 24)  # bytes of weights: a file is one protobuf message, which ends at 2 GiB


def save(net: Net, path: str, progress: Progress | None = None, pictures: Pictures | None = None) -> float:
    """Returns the largest difference between the model and the file, run by onnxruntime. Raises OutputError for a network of
    2 GiB, and where ONNX has no operation for one of its layers'."""
    total = sum(array.nbytes for arrays in net.arrays.values() for array in arrays)
    if total > _MOST:
        raise OutputError(f"{path}: {total} bytes of weights; a .onnx takes {_MOST}")
    model, given = _reload.model(net, pictures), _reload.example(net, pictures)
    serve = serving(model, net, pictures)
    arguments = {INPUT: INPUT} if pictures else input_names(net)
    made = _converted(model, serve, {name: blob for blob, name in arguments.items()}, path)
    made.producer_name = "caffe2tf"
    places = None if pictures else _held.places(model, _constants(made.graph))
    props = {preprocess.FILE: _note.of(net, pictures, places)}
    if pictures:
        props[_files.LABELS] = _files.text_of(pictures.names)
    onnx.helper.set_model_props(made, props)
    data = made.SerializeToString()
    del made
    with _sayable(path):
        onnx.checker.check_model(data, full_check=True)
    with open(path, "wb") as file:
        file.write(data)
    if progress:
        progress(total)
    session = _session(data)
    expected = serve(*map(tf.constant, given))
    found = session.run(list(expected), dict(zip(arguments, given, strict=True)))
    return _reload.largest_difference(path, _reload.values(expected), found)


def _converted(model: KerasModel, serve: Any, blobs: dict[str, str], path: str) -> Any:
    """The ModelProto of a tf.function; `blobs` {argument: the name of the input in its place}. It is what Keras's own
    `model.export(format="onnx")` calls, which knows no blobs."""
    # It says in many lines what becomes one below.
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    with _sayable(path):
        made = _with_weights(model, serve)
        for value in made.graph.input:
            _rename(made.graph, value.name, blobs[value.name.removesuffix(":0")])
        for value in [*made.graph.input, *made.graph.output]:
            if value.type.tensor_type.shape.dim and not value.type.tensor_type.shape.dim[0].HasField("dim_value"):
                value.type.tensor_type.shape.dim[0].dim_param = "N"
        if lacking := sorted({node.op_type for node in made.graph.node if not _known(node)}):
            raise OutputError(f"{path}: ONNX has no operation for TensorFlow's {', '.join(lacking)}")
    return made


@contextlib.contextmanager
def _sayable(path: str) -> Iterator[None]:
    """Turns whatever a converter or a checker meets into an OutputError."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:  # what no converter foresaw raises whatever it meets first
        raise OutputError(f"{path}: the network cannot be said in ONNX ({reason(error)})") from None


def _with_weights(model: KerasModel, serve: Any) -> Any:
    """The ModelProto of `serve`, which runs `model`. tf2onnx copies constants some forty times on its way (more than 8 GB for
    AlexNet), so the weights go through it as inputs, and become the file's initializers at the end."""
    weights = {f"caffe2tf_weight_{index}": variable for index, variable in enumerate(model.variables)}
    count = len(serve.input_signature)

    def given(*values: Any) -> Any:
        with keras.StatelessScope(list(zip(weights.values(), values[count:], strict=True))):
            return serve.python_function(*values[:count])

    specs = [tf.TensorSpec(variable.shape, variable.dtype, name=name) for name, variable in weights.items()]
    signature = [*serve.input_signature, *specs]
    made, _ = tf2onnx.convert.from_function(tf.function(given, signature), signature, opset=OPSET)
    graph, held = made.graph, dict[str, Array]()
    for value in list(graph.input):
        variable = weights.get(value.name.removesuffix(":0"))
        if variable is not None:
            held[value.name] = np.asarray(variable.value)
            graph.input.remove(value)
    _move(graph, held)
    graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in held.items())
    return made


def _move(graph: Any, held: dict[str, Array]) -> None:
    """Does to `held`, weights by name, what `graph` only moves about: the nodes go, and what nothing reads any more."""
    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type in _MOVES and node.input[0] in held and all(name in known for name in node.input[1:]):
            others = {name: onnx.numpy_helper.to_array(known[name]) for name in node.input[1:]}
            evaluator = ReferenceEvaluator(node, opsets={"": OPSET})
            moved = list(evaluator.run(None, {node.input[0]: held[node.input[0]], **others}))
            held.update(zip(node.output, moved, strict=True))
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for name in set(held) - read:
        del held[name]


def _known(node: Any) -> bool:
    return bool(node.domain) or onnx.defs.has(node.op_type, max_inclusive_version=OPSET)


def _rename(graph: Any, old: str, new: str) -> None:
    if old == new:
        return
    for value in [*graph.input, *graph.output]:
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def _session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is fatal: an error is raised as well
    # Without the fallback, which prints to stdout and tries the same once more.
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors that a graph or a function holds, those of its nodes and of the graphs in them too."""
    ahead = [graph]
    while ahead:
        item = ahead.pop()
        yield from getattr(item, "initializer", ())
        for sparse in getattr(item, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for attribute in (attribute for node in item.node for attribute in node.attribute):
            yield from (
                attribute.t,
                *attribute.tensors,
                attribute.sparse_tensor.values,
                attribute.sparse_tensor.indices,
            )
            ahead += [attribute.g, *attribute.graphs]


def _constants(graph: Any, names: set[str] | None = None) -> dict[str, Array]:
    """{name: values} of the float32 tensors that `graph` itself holds, all or those called `names`. Raises ParseError."""
    held = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    try:
        return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in held if not names or tensor.name in names}
    except (ValueError, TypeError) as error:
        raise ParseError(f"holds a tensor that cannot be read ({reason(error)})") from None


class _Value(NamedTuple):
    """An input or output as onnxruntime tells it; of its own object a name that is no text fails at every look."""

    name: str
    type: str
    shape: list[int | str | None]


@contextlib.contextmanager
def _read(path: str) -> Iterator[tuple[bytes, Any]]:
    """(The bytes of the file, its ModelProto). Raises ParseError for what is no .onnx, here and within, or reads other files."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        held = onnx.load_model_from_string(data)
        parts = [held.graph, *held.functions]
        if any(onnx.external_data_helper.uses_external_data(one) for part in parts for one in _tensors(part)):
            raise ParseError(f"{path}: keeps values in other files; caffe2tf writes and reads one file")
        yield data, held
    except OSError as error:
        raise ParseError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ParseError, MemoryError):
        raise
    except Exception as error:  # onnxruntime has an error of its own for each way to be wrong, and no common one
        raise ParseError(f"{path}: is no .onnx that can be read ({reason(error)})") from None


def _props(held: Any) -> dict[str, bytes]:
    """What goes along with the file, by name; protobuf gives bytes for a field of text that is none."""
    values = {item.key: item.value for item in held.metadata_props}
    return {name: value if isinstance(value, bytes) else value.encode() for name, value in values.items()}


def _noted(held: Any, path: str) -> dict[str, Any]:
    return notes.noted(_props(held).get(preprocess.FILE, b"{}"), path)


def noted(path: str) -> dict[str, Any]:
    """The note that `save` left in the file, {} where there is none. Raises ParseError."""
    with _read(path) as (_, held):
        return _noted(held, path)


def filled(path: str, net: Net) -> Net:
    """`net`, which the file's note describes, with the weights of the file; without them where one was merged. Raises
    ParseError."""
    with _read(path) as (_, held):
        places = _noted(held, path).get("weights", {})
        return _held.filled(path, net, places, lambda names: _constants(held.graph, names))


def runner(path: str, many: bool = False) -> Runner:
    """A Runner of the file. Raises ParseError for what is no .onnx, reads other files, or is no classifier that takes its channels
    last, as caffe2tf writes it."""
    with _read(path) as (data, held):
        session = _session(data)
        sides = session.get_inputs(), session.get_outputs()
        inputs, outputs = ([_Value(item.name, item.type, item.shape) for item in side] for side in sides)
    shape = [extent if isinstance(extent, int) else None for extent in inputs[0].shape] if len(inputs) == 1 else []
    kinds = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
    if len(shape) != 4 or shape[3] not in (1, 3) or inputs[0].type not in kinds:
        has = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs)
        raise ParseError(f"{path}: has no single image input N x H x W x 3 or 1; its inputs are {has or 'none'}")
    if len(outputs) != 1 or outputs[0].type != "tensor(float)" or not outputs[0].shape:
        has = ", ".join(f"{item.name} {item.type} {item.shape}" for item in outputs)
        raise ParseError(f"{path}: has the outputs {has or 'none'}; classify takes networks with one, of floats")
    name, kind = inputs[0].name, kinds[inputs[0].type]

    def call(images: Array) -> Array:
        try:
            return np.asarray(session.run(None, {name: np.ascontiguousarray(images, kind)})[0])
        except MemoryError:
            raise
        except Exception as error:  # as in `_read`
            raise ParseError(f"{path}: cannot be run: {reason(error)}") from None

    props = _props(held)
    try:
        names = _files.named(props[_files.LABELS]) if _files.LABELS in props else None
    except UnicodeDecodeError as error:
        raise ParseError(f"{path}: its {_files.LABELS} cannot be read: {reason(error)}") from None
    last = outputs[0].shape[-1]
    classes = last if isinstance(last, int) else None
    return Runner(call, (shape[0], shape[3], *shape[1:3]), classes, _noted(held, path), names, kind is np.uint8)
