"""What differs between two networks: layers, wiring, parameters, and every value of every weight."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import Message
from numpy.typing import NDArray

from caffe2tf import loading
from caffe2tf.caffe.read import release
from caffe2tf.inspection import summary as inspection
from caffe2tf.layers import NO_EFFECT
from caffe2tf.net.net import Net
from caffe2tf.net.wiring import Node

_BLOCK = 1 << 20  # values compared at once: the float64 copies stay small beside the weights


def diff(
    first: Net | loading.Path, second: Net | loading.Path, step: Callable[[int], object] = lambda done: None
) -> dict[str, Any]:
    """A JSON-ready dictionary of how two networks differ, `same` where they compute the same; pairs are [first, second].
    Each is a Net, or a file that holds one.

    The batch is no part of a network, nor is an input's layer name; shapes are said where they begin to differ.
    Keys: same, preprocessing (a pair of words, null where equal; it does not make networks differ), layers: those that differ
    or have weights, with name, only (0 or 1: the network that alone has it, else null), differs {what: pair} of type,
    bottoms, tops, shapes and parameters that have a part in inference, and weights {name: difference}. A difference is
    {"equal": true}, {"shapes": pair}, {"only": 0 or 1} or {"equal": false, "largest", "relative" (largest / largest
    absolute value of the first), "place" (in Keras's axes), "changed" and "values" (how many)}; infinite ones are null. `step` is
    called with 1 for each layer. Raises what `loading.load` raises.
    """
    first, second = loading.network(first), loading.network(second)
    ours, theirs = ({_name(node): node for node in net.nodes} for net in (first, second))
    arrays = first.weights, second.weights
    layers: list[dict[str, Any]] = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        step(1)
        if name not in ours or name not in theirs:
            layers.append({"name": name, "only": int(name in theirs), "differs": {}, "weights": {}})
            continue
        differs = _differs(ours[name], theirs[name])
        weights = _weights(arrays[0].get(name), arrays[1].get(name))
        for array in (*first.arrays.get(name, ()), *second.arrays.get(name, ())):
            release(array)
        if differs or weights:
            layers.append({"name": name, "only": None, "differs": differs, "weights": weights})
    same = not any(
        layer["only"] is not None or layer["differs"] or any(not w.get("equal") for w in layer["weights"].values())
        for layer in layers
    )
    inputs = [(inspection.preprocessing(net) or {}).get("words") for net in (first, second)]
    return {"same": same, "preprocessing": None if inputs[0] == inputs[1] else inputs, "layers": layers}


def _name(node: Node) -> str:
    if node.layer.type == "Input":
        return ", ".join(blob for blob, _ in node.tops)
    return node.layer.name


def _differs(a: Node, b: Node) -> dict[str, list[Any]]:
    shapes = [[list(shape[1:]) for shape in node.shapes] for node in (a, b)]
    given = [[shape[1:] for shape in node.layer.bottoms] for node in (a, b)]
    sides: dict[str, tuple[Any, Any]] = {
        "type": (a.layer.type, b.layer.type),
        "bottoms": ([blob for blob, _ in a.bottoms], [blob for blob, _ in b.bottoms]),
        "tops": ([blob for blob, _ in a.tops], [blob for blob, _ in b.tops]),
        "shapes": (shapes[0], shapes[1]) if given[0] == given[1] else (None, None),
    }
    # An input's only parameter is its shape.
    for name in {**a.layer.extra, **b.layer.extra}:
        sides[name] = _extra(a, name), _extra(b, name)
    if a.layer.type == b.layer.type != "Input" and isinstance(a.layer.p, Message) and isinstance(b.layer.p, Message):
        for field in a.layer.p.DESCRIPTOR.fields:
            if field.name not in NO_EFFECT:
                sides[field.name] = _value(a.layer.p, field), _value(b.layer.p, field)
    return {what: list(pair) for what, pair in sides.items() if pair[0] != pair[1]}


def _extra(node: Node, name: str) -> str | None:
    """A parameter that the schema lacks, as words; None where it is not set."""
    return repr(node.layer.extra[name]) if name in node.layer.extra else None


def _value(message: Message, field: Any) -> Any:
    """A parameter, its default where it is not set, as JSON can hold it."""
    value = getattr(message, field.name)
    if field.message_type is not None:
        several = value if hasattr(value, "append") or hasattr(value, "add") else [value]
        return [text_format.MessageToString(one, as_one_line=True) for one in several]
    if field.enum_type is not None and isinstance(value, int):
        return field.enum_type.values_by_number[value].name
    return list(value) if hasattr(value, "append") else value


def _weights(
    first: Mapping[str, NDArray[np.float32]] | None, second: Mapping[str, NDArray[np.float32]] | None
) -> dict[str, dict[str, Any]]:
    if first is None or second is None:
        here = first or second or {}
        return {name: {"only": int(first is None)} for name in here}
    found: dict[str, dict[str, Any]] = {}
    for name in [*first, *(name for name in second if name not in first)]:
        if name not in first or name not in second:
            found[name] = {"only": int(name in second)}
        elif first[name].shape != second[name].shape:
            found[name] = {"shapes": [list(first[name].shape), list(second[name].shape)]}
        else:
            found[name] = _apart(first[name], second[name])
    return found


def _apart(a: NDArray[np.float32], b: NDArray[np.float32]) -> dict[str, Any]:
    """The difference of two arrays of one shape; equal are equal numbers, and NaN and NaN."""
    if np.array_equal(a, b):
        return {"equal": True}
    shape, a, b = a.shape, a.reshape(-1), b.reshape(-1)
    largest, at, changed, most = 0.0, 0, 0, 0.0
    for start in range(0, a.size, _BLOCK):
        x, y = (array[start : start + _BLOCK].astype(np.float64) for array in (a, b))
        with np.errstate(invalid="ignore"):
            apart = np.abs(x - y)
        apart[~np.isfinite(apart)] = np.inf
        apart[(x == y) | (np.isnan(x) & np.isnan(y))] = 0
        changed += int(np.count_nonzero(apart))
        if apart.max() > largest:
            largest, at = float(apart.max()), start + int(apart.argmax())
        finite = np.abs(x[np.isfinite(x)])
        most = max(most, float(finite.max())) if finite.size else most
    if not changed:
        return {"equal": True}
    known = np.isfinite(largest)
    return {
        "equal": False,
        "largest": largest if known else None,
        "relative": largest / most if known and most else None,
        "place": [int(n) for n in np.unravel_index(at, shape)],
        "changed": changed,
        "values": a.size,
    }
