"""What of a network is not computed, said before a weight is read: types that no class computes, parameters that it does not name."""

from collections.abc import Collection, Sequence
from typing import NoReturn

from google.protobuf.message import Message

from caffe2tf.caffe.caffe_pb2 import LayerParameter, NetParameter
from caffe2tf.errors import NetError, UnsupportedLayer, UnsupportedParameter
from caffe2tf.layers import NO_EFFECT, Layer, kind_of
from caffe2tf.layers.users import settings


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
        where, names = _set(layer, kind)
        unknown = [name for name in names if name not in kind.fields and name not in NO_EFFECT]
        # A nested message counts through its own fields.
        unknown = [name for name in unknown if not any(known.startswith(f"{name}.") for known in kind.fields)]
        for name in unknown:
            allowed = " ".join(sorted(kind.fields)) or "none"
            why = f"layer '{layer.name}' ({layer.type}): {where} sets '{name}', which is not computed; takes {allowed}"
            lines.append((UnsupportedParameter, why))
    return lines


def _set(layer: LayerParameter, kind: type[Layer]) -> tuple[str | None, list[str]]:
    """(the field with the parameters of a layer, those that it sets); of a Python layer what finds its class is none."""
    param = "python_param" if layer.type == "Python" and kind.param is None else kind.param
    if param is None or param not in layer.DESCRIPTOR.fields_by_name:
        return param, list(settings(kind, layer))
    names = set_fields(getattr(layer, param), kind.fields) if layer.HasField(param) else []
    return param, [
        name for name in names if param != "python_param" or name not in ("module", "layer", "share_in_parallel")
    ]


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


def refuse(unsupported: Sequence[tuple[type[UnsupportedLayer], str]], faults: Sequence[str]) -> NoReturn:
    """Raises what `problems` found and the other `faults` of a network as one error, a line each."""
    lines = [*(line for _, line in unsupported), *faults]
    if not unsupported:
        raise NetError("\n".join(lines))
    error = UnsupportedLayer if any(error is UnsupportedLayer for error, _ in unsupported) else UnsupportedParameter
    raise error("\n".join(lines))
