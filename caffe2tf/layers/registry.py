"""Which class is that of a type, and what it takes beside the schema."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from caffe2tf.caffe import extra
from caffe2tf.caffe.caffe_pb2 import LayerParameter

if TYPE_CHECKING:
    from caffe2tf.layers.base import Layer

REGISTRY: "dict[str, type[Layer]]" = {}  # Caffe type, or module.layer of a type Python -> class


def kind_of(proto: LayerParameter) -> "type[Layer] | None":
    """The class of a layer by its type, or by the module and layer that it names where that is Python; None where none is."""
    if proto.type == "Python":
        return REGISTRY.get(f"{proto.python_param.module}.{proto.python_param.layer}")
    return REGISTRY.get(proto.type)


def register(kind: "type[Layer]") -> None:
    """Makes `kind` the class of its types. Raises TypeError for a type that has one; the same class defined once more, as a
    cell of a notebook does, takes its place."""
    for name in kind.types:
        other = REGISTRY.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (kind.__module__, kind.__qualname__):
            raise TypeError(f"the type '{name}' is already that of {other.__name__}")
    fields, numbers = _beside_schema(kind)
    for name in kind.types:
        REGISTRY[name] = kind
        if fields:
            extra.TAKEN[name] = fields, numbers


def forget(kind: "type[Layer]") -> None:
    """Undoes `register`."""
    for name in kind.types:
        if REGISTRY.get(name) is kind:
            del REGISTRY[name]
            extra.TAKEN.pop(name, None)


def _beside_schema(kind: "type[Layer]") -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, int]]]:
    """(the fields that the schema lacks and `kind` takes, (message, name) each; those with a number, (message, number) each)."""
    schema = LayerParameter.DESCRIPTOR
    lacking = {
        (schema.name, name) for name in [*kind.numbers, kind.param] if name and name not in schema.fields_by_name
    }
    param = schema.fields_by_name.get(kind.param or "")
    message = param.message_type if param is not None else None
    if message is not None:
        inner = {name.split(".")[0] for name in kind.fields}
        lacking |= {(message.name, name) for name in inner if name not in message.fields_by_name}
    numbers = {(schema.name, value[0]) for value in kind.numbers.values() if not isinstance(value, Mapping)}
    if message is not None:
        numbers |= {(message.name, value[0]) for value in kind.numbers.get(kind.param or "", {}).values()}
    return frozenset(lacking), frozenset(numbers)
