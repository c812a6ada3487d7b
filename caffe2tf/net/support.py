"""What of a network is not computed, said before a weight is read: types that no class computes, parameters that it does not name."""

from collections.abc import Collection

from google.protobuf.message import Message

from caffe2tf.caffe.caffe_pb2 import NetParameter
from caffe2tf.errors import UnsupportedLayer, UnsupportedParameter
from caffe2tf.layers import NO_EFFECT, kind_of


def problems(param: NetParameter) -> list[tuple[type[UnsupportedLayer], str]]:
    """One line for each layer whose type is not in the table, or that sets a parameter its layer does not compute."""
    lines: list[tuple[type[UnsupportedLayer], str]] = []
    for layer in param.layer:
        kind = kind_of(layer)
        if kind is None:
            python = f"{layer.python_param.module}.{layer.python_param.layer}"
            what = f"type 'Python' of '{python}'" if layer.type == "Python" else f"type '{layer.type}'"
            lines.append((UnsupportedLayer, f"layer '{layer.name}': {what} is not supported"))
            continue
        if kind.param is None or not layer.HasField(kind.param):
            continue
        unknown = [
            name
            for name in set_fields(getattr(layer, kind.param), kind.fields)
            if name not in kind.fields and name not in NO_EFFECT
        ]
        # A nested message counts through its own fields.
        unknown = [name for name in unknown if not any(known.startswith(f"{name}.") for known in kind.fields)]
        for name in unknown:
            allowed = " ".join(sorted(kind.fields)) or "none"
            why = f"layer '{layer.name}' ({layer.type}): {kind.param} sets '{name}', which is not computed; takes {allowed}"
            lines.append((UnsupportedParameter, why))
    return lines


def set_fields(message: Message, fields: Collection[str] = ()) -> list[str]:
    """The names of all fields that `message` sets. A nested message counts as one (fillers, shapes), and through its own
    fields as well, dotted, where one of `fields` names one of them."""
    names = []
    for descriptor, value in message.ListFields():
        names.append(descriptor.name)
        prefix = f"{descriptor.name}."
        inner = [name.removeprefix(prefix) for name in fields if name.startswith(prefix)]
        if inner:
            names.extend(prefix + name for name in set_fields(value, inner))
    return names


def refuse_unsupported(param: NetParameter) -> None:
    lines = problems(param)
    if lines:
        error = UnsupportedLayer if any(error is UnsupportedLayer for error, _ in lines) else UnsupportedParameter
        raise error("\n".join(line for _, line in lines))
