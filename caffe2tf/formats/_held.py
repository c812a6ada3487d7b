"""Where a file that a converter made holds each weight: looked for when it is written, taken from there to the bit.

Converters turn kernels, merge a layer into the one before it, and pack values, each in its own way. None of that is undone here:
every variable of the Keras model is looked for among the constants of the file, in every order of its axes, and the file's note
says where it stands. A vector that stands nowhere, as statistics that were merged into others, goes along in the note itself;
without any other variable the file does not give its weights back.
"""

import base64
import itertools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from caffe2tf.arrays.layout import Array, Floats
from caffe2tf.arrays.numbers import check_claim
from caffe2tf.errors import ParseError, WeightMismatch
from caffe2tf.keras_model.build import Build
from caffe2tf.keras_model.model import from_keras
from caffe2tf.keras_model.types import KerasModel
from caffe2tf.net.net import Net

Constants = Mapping[str, Array]  # float32 or float16, by whatever name the file knows them
# {"constant": its name, "order": axes} or {"values": base64 of float32}; None for nowhere
Place = dict[str, Any] | None
_SAMPLE, _SLAB = 64, 1 << 20  # values that are looked at before all of them, and at once


class Held(NamedTuple):
    """As much of a Keras model as `from_keras` asks for."""

    name: str
    weights: list[Any]


def places(model: KerasModel, constants: Constants) -> dict[str, Place]:
    """{path of a variable of `model`: where `constants` hold its values, or their rounding to 16 bits}."""
    sized: dict[int, list[tuple[str, Array]]] = {}
    for name, constant in constants.items():
        sized.setdefault(constant.size, []).append((name, constant.reshape(-1)))
    found: dict[str, Place] = {}
    for variable in model.weights:
        value = np.asarray(variable.numpy(), np.float32)
        known = ((name, _order(value, flat)) for name, flat in sized.get(value.size, ()))
        place: Place = next(({"constant": name, "order": order} for name, order in known if order is not None), None)
        if place is None and value.size == max(value.shape, default=1):
            place = {"values": base64.b64encode(value.astype("<f4").tobytes()).decode("ascii")}
        found[variable.path] = place
    return found


def _order(value: Floats, flat: Array) -> list[int] | None:
    """The order of the axes of `value` in which its bits are those of `flat`; None where there is none."""
    some = np.linspace(0, flat.size - 1, min(_SAMPLE, flat.size), dtype=np.int64)
    for order in itertools.permutations(range(value.ndim)):
        turned = np.atleast_1d(value.transpose(order))
        if not _same(turned[np.unravel_index(some, turned.shape)], flat[some]):
            continue
        row = math.prod(turned.shape[1:])
        step = max(1, _SLAB // row)  # of the first axis at once, so that no copy of the whole is made
        slabs = (
            (turned[i : i + step].reshape(-1), flat[i * row : (i + step) * row]) for i in range(0, len(turned), step)
        )
        if all(_same(one, other) for one, other in slabs):
            return list(order)
    return None


def _same(value: Floats, flat: Array) -> bool:
    with np.errstate(over="ignore"):
        rounded = value.astype(flat.dtype)
    finite = bool(np.array_equal(np.isfinite(rounded), np.isfinite(value)))
    return finite and rounded.tobytes() == np.ascontiguousarray(flat).tobytes()


def filled(path: str, net: Net, held: Mapping[str, Place], constants: Callable[[set[str]], Constants]) -> Net:
    """`net`, which the note of the file at `path` describes, with its weights, which stand where `held` says among `constants(names)`;
    without them, and with why in its `lacking`, where one of them stands nowhere. Raises ParseError for a note that is not the
    file's."""
    if gone := [name for name, place in held.items() if place is None]:
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        why = f"{path}: does not give back {gone[0]}{more}, merged, split or packed when it was written; take the file that it was made of"
        return replace(net, lacking=why)
    claimed = sum(4 * math.prod(shape) for shapes in net.weight_shapes.values() for shape in shapes.values())
    try:
        check_claim(claimed, os.path.getsize(path))
        known = constants({place["constant"] for place in held.values() if place and "constant" in place})
        variables = Build(net, empty=True).model(net.outputs).weights
        weights = [_array(held, known, variable.path, tuple(variable.shape)) for variable in variables]
        made = from_keras(Held(path, weights), net)
    except (ParseError, WeightMismatch) as error:
        raise ParseError(f"{path}: {error}") from None
    if any(array.dtype == np.float16 for array in known.values()):
        made = replace(made, notes=(*made.notes, f"{path}: its weights were rounded to 16 bits when it was written"))
    return made


def _array(held: Mapping[str, Place], constants: Constants, name: str, shape: tuple[int, ...]) -> Floats:
    place, count = held.get(name), math.prod(shape)
    if place is None:
        raise ParseError(f"its note does not say where {name} stands")
    if "values" in place:
        try:
            data = base64.b64decode(place["values"], validate=True)
        except ValueError:
            data = b""
        if len(data) != 4 * count:
            raise ParseError(f"its note holds {len(data)} bytes of {name}, expected {4 * count}")
        return np.frombuffer(data, "<f4").astype(np.float32).reshape(shape)
    constant, order = constants.get(place["constant"]), place["order"]
    if constant is None or constant.size != count or sorted(order) != list(range(len(shape))):
        raise ParseError(f"its note says a place of {name} where the file holds no such values")
    turned = constant.reshape([shape[axis] for axis in order])
    return np.ascontiguousarray(turned.transpose(np.argsort(order)), np.float32)
