"""What of a network is not computed, said before a weight is read: types that no class computes, parameters that it does not name."""

from caffe2tf.errors import UnsupportedLayer, UnsupportedParameter
from caffe2tf.layers import NO_EFFECT, REGISTRY


def problems(param):
    """One line for each layer whose type is not in the table, or that sets a parameter its layer does not compute."""
    lines = []
    for layer in param.layer:
        kind = REGISTRY.get(layer.type)
        if kind is None:
            lines.append((UnsupportedLayer, f"layer '{layer.name}': type '{layer.type}' is not supported"))
            continue
        if kind.param is None or not layer.HasField(kind.param):
            continue
        unknown = [
            name for name in set_fields(getattr(layer, kind.param)) if name not in kind.fields and name not in NO_EFFECT
        ]
        # A nested message counts through its own fields.
        unknown = [name for name in unknown if not any(known.startswith(f"{name}.") for known in kind.fields)]
        for name in unknown:
            allowed = " ".join(sorted(kind.fields)) or "none"
            why = f"layer '{layer.name}' ({layer.type}): {kind.param} sets '{name}', which is not computed; takes {allowed}"
            lines.append((UnsupportedParameter, why))
    return lines


def set_fields(message, prefix=""):
    """The names of all fields that `message` sets, those of nested messages dotted; fillers and shapes count as one."""
    names = []
    for descriptor, value in message.ListFields():
        name = prefix + descriptor.name
        names.append(name)
        if descriptor.message_type is not None and descriptor.message_type.name == "NonMaximumSuppressionParameter":
            names.extend(set_fields(value, f"{name}."))
    return names


def refuse_unsupported(param):
    lines = problems(param)
    if lines:
        error = UnsupportedLayer if any(error is UnsupportedLayer for error, _ in lines) else UnsupportedParameter
        raise error("\n".join(line for _, line in lines))
