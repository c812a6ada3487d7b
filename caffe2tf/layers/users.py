"""What stands between a user's own layer class and the rest: its settings as a dictionary, its mistakes as one line each."""

import functools
import inspect
import linecache
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from google.protobuf.message import DecodeError, Message

from caffe2tf.arrays.layout import keras_order
from caffe2tf.caffe import dictionary, extra
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.caffe.wire import Damaged
from caffe2tf.errors import Caffe2TFError, NetError, PluginError

if TYPE_CHECKING:
    from caffe2tf.layers.base import Layer

_METHODS = (
    *("__init__", "note", "tops", "blobs", "moved", "weights", "weight_shapes", "arrays", "multiply_adds", "receptive"),
    *("filters", "fixes_batch", "shares_memory", "value_bottoms", "mistakes", "take_blobs", "build", "constant"),
    *("caffe_top", "check", "any_size"),
)


def settings(kind: "type[Layer]", proto: LayerParameter) -> dict[str, Any]:
    """The parameters of a layer that the schema lacks and `kind` takes, as dictionary.of has them: all of its `param`, or
    the members that this message of the schema lacks. Raises NetError for a value of another kind than `numbers` says."""
    if not any(name in extra.TAKEN for name in kind.types):
        return {}
    try:
        message, numbers = _home(kind, proto)
        found = dictionary.numbered(message, numbers) | dictionary.of(message)
        found = {
            name: dictionary.typed(one, numbers[name][1], name) if name in numbers else one
            for name, one in found.items()
        }
    except (ValueError, Damaged, DecodeError) as error:
        raise NetError(f"layer '{proto.name}' ({proto.type}): {error}") from None
    if message is not proto:
        return found
    own = found.get(str(kind.param), {})
    if not isinstance(own, dict):
        raise NetError(f"layer '{proto.name}' ({proto.type}): {kind.param} is {own!r}; takes one {{ block }}")
    return own


def settle(kind: "type[Layer]", proto: LayerParameter) -> None:
    """Notes as text in `proto` what stands there by number, so that a text of the network has it too."""
    found = settings(kind, proto)
    message = _home(kind, proto)[0] if found else proto
    if found and not extra.texts(message):
        extra.keep(message, dictionary.text(found if message is not proto else {str(kind.param): found}))


def _home(kind: "type[Layer]", proto: LayerParameter) -> tuple[Message, dictionary.Numbers]:
    """(the message whose unknown fields `kind` takes, what it says of their numbers)."""
    if kind.param in proto.DESCRIPTOR.fields_by_name:
        return getattr(proto, str(kind.param)), kind.numbers.get(str(kind.param), {})
    return proto, {name: value for name, value in kind.numbers.items() if not isinstance(value, Mapping)}


# ------------------------------------------------------------------------------------------------ mistakes


def watch(kind: "type[Layer]") -> None:
    """Has every mistake that a method of `kind`, a class of a user's, makes told as a PluginError with its file and line:
    whatever it raises, shapes that are none, and tensors of other shapes than it said."""
    for name in _METHODS:
        method = getattr(kind, name)
        if not method.__module__.startswith("caffe2tf."):
            setattr(kind, name, _told(method))
    kind.tops = _checked_tops(kind.tops)  # type: ignore[method-assign]
    kind.build = _checked_build(kind.build)  # type: ignore[method-assign]


def _told(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: "Layer", *args: Any, **keywords: Any) -> Any:
        try:
            return method(self, *args, **keywords)
        except (Caffe2TFError, MemoryError):
            raise
        except Exception as error:
            proto = getattr(self, "proto", args[0] if args else None)
            who = f"layer '{proto.name}' ({proto.type})" if isinstance(proto, LayerParameter) else type(self).__name__
            raise PluginError(
                f"{place(error, inspect.unwrap(method).__code__.co_filename)}: {who}: {said(error)}"
            ) from error

    return call


def _checked_tops(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def tops(self: "Layer") -> list[tuple[int, ...]]:
        found = method(self)
        count = len(self.proto.top)
        try:
            shapes = [tuple(map(_whole, shape)) for shape in found]
        except TypeError:
            shapes = None
        if shapes is None or len(shapes) != count:
            _complain(self, method, f"tops gives {found!r}; takes a list of {count} shapes, whole numbers each")
        return shapes

    return tops


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError
    return int(value)


def _checked_build(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def build(self: "Layer", ctx: Any, *xs: Any) -> Any:
        made = method(self, ctx, *xs)
        found = list(made) if isinstance(made, (list, tuple)) else [made]
        wanted = self.tops()
        if len(found) != len(wanted):
            _complain(self, method, f"build gives {len(found)} tensors, tops says {len(wanted)}")
        for tensor, shape in zip(found, wanted, strict=True):
            said = [shape[axis] for axis in keras_order(len(shape))]
            real = list(tensor.shape) if hasattr(tensor, "shape") else None
            if (
                real is None
                or len(real) != len(said)
                or any(n is not None and n != m for n, m in zip(real, said, strict=True))
            ):
                what = type(tensor).__name__ if real is None else f"a tensor of shape {_shape(real)}"
                _complain(self, method, f"build gives {what}, tops says {_shape(said)} (channels last)")
        return made

    return build


def _shape(extents: Sequence[int | None]) -> str:
    return f"({', '.join('any' if n is None else str(n) for n in extents)})"


def _complain(layer: "Layer", method: Callable[..., Any], why: str) -> NoReturn:
    code = inspect.unwrap(method).__code__
    if method.__module__.startswith("caffe2tf."):  # the class has it from one of ours
        code = inspect.unwrap(type(layer).__init__).__code__
    raise PluginError(f"{code.co_filename}:{code.co_firstlineno}: layer '{layer.name}' ({layer.type}): {why}")


def place(error: BaseException, file: str | None = None) -> str:
    """FILE:LINE where `error` came from: the last place in `file`, else in any file that is neither ours nor Python's own."""
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    mine = [one for one in frames if one[0] == file] or [one for one in frames if linecache.getline(*one)]
    return "{}:{}".format(*(mine or frames)[-1])


def said(error: BaseException) -> str:
    """The type of `error` and the first line of what it says."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
