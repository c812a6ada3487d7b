"""Fields that the schema lacks as a plain dictionary: from a text's own words, or from a snapshot's numbers.

A message is a dictionary, a field that is given several times a list. What says the types is a user's layer: {name: (number,
kind)}, `kind` one of float, int, bool, str, an enum.Enum, such a dictionary for a message, or a list of one of these for a
field that may be given several times.
"""

import enum
import struct
from collections.abc import Mapping
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from caffe2tf.caffe import extra, prototxt, wire
from caffe2tf.caffe.messages import decoded

Kind = Any
Numbers = Mapping[str, tuple[int, Kind]]


class _Reader(prototxt._Parser):
    """Reads a text without a schema; what the parser of the whole text has seen already is well-formed."""

    def tree(self, closing: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.kind is not None and not (closing and self.take(closing)):
            name = self.value
            self.advance()
            colon = self.take(":")
            if colon and self.take("["):
                values, several = list[Any](), True
                while not self.take("]"):
                    values.append(self._value())
                    self.take(",")
            else:
                values, several = [self._value()], False
            self.take(",", ";")
            if several or name in found:
                before = found.get(name, [])
                found[name] = [*(before if isinstance(before, list) else [before]), *values]
            else:
                found[name] = values[0]
        return found

    def _value(self) -> Any:
        opening = self.take("{", "<")
        if opening:
            return self.tree("}" if opening == "{" else ">")
        if self.kind == "string":
            return self.string()
        word = self.value
        self.advance()
        if word == "-" and self.kind == "word":
            word += self.value
            self.advance()
        return _plain(word)

    def string(self) -> str:
        parts = []
        while self.kind == "string":
            parts.append(prototxt._ESCAPE.sub(prototxt._unescape, self.value[1:-1].encode("utf-8", "surrogateescape")))
            self.advance()
        return decoded(b"".join(parts))[0]


def _plain(word: str) -> int | float | bool | str:
    """What a word stands for, as far as it tells: a name of an enum stays a text."""
    if word in ("true", "false"):
        return word == "true"
    try:
        if prototxt._NUMBER.fullmatch(word):
            digits = word.lstrip("+-")
            return int(word, 8 if len(digits) > 1 and digits[0] == "0" and digits.isdigit() else 0)
        return float(word[:-1] if word[-1] in "fF" and word.lower() not in ("inf", "-inf") else word)
    except ValueError:
        return word


def of(message: Message) -> dict[str, Any]:
    """What `extra.keep` added to `message`."""
    return _Reader("\n".join(extra.texts(message)), "layer").tree()


def numbered(message: Message, numbers: Numbers) -> dict[str, Any]:
    """The unknown fields of `message`, as a snapshot has them, that `numbers` names. Raises ValueError for values of another kind."""
    known = {number: (name, kind) for name, (number, kind) in numbers.items()}
    found: dict[str, Any] = {}
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        entry = unknown[index]
        if entry.field_number not in known:
            continue
        name, kind = known[entry.field_number]
        one = kind[0] if isinstance(kind, list) else kind
        if isinstance(kind, list) and entry.wire_type == wire.BYTES and one is not str and not isinstance(one, Mapping):
            found.setdefault(name, []).extend(_packed(bytes(entry.data), one, name))
        elif isinstance(kind, list):
            found.setdefault(name, []).append(_single(entry.wire_type, entry.data, one, name))
        else:
            found[name] = _single(entry.wire_type, entry.data, one, name)
    return found


def _packed(data: bytes, kind: Kind, name: str) -> list[Any]:
    if kind is float:
        if len(data) % 4:
            raise ValueError(f"{name} is no list of floats")
        return [value for (value,) in struct.iter_unpack("<f", data)]
    values, at = [], 0
    while at < len(data):
        value, at = wire.varint(memoryview(data), at, len(data))
        values.append(_single(wire.VARINT, value, kind, name))
    return values


def _single(wire_type: int, data: Any, kind: Kind, name: str) -> Any:
    if isinstance(kind, Mapping) and wire_type == wire.BYTES:
        return numbered(Empty.FromString(bytes(data)), kind)
    if kind is str and wire_type == wire.BYTES:
        return decoded(bytes(data))[0]
    if kind is float and wire_type == wire.FIXED32:
        return struct.unpack("<f", struct.pack("<I", data))[0]
    if kind is float and wire_type == wire.FIXED64:
        return struct.unpack("<d", struct.pack("<Q", data))[0]
    if wire_type == wire.VARINT and not isinstance(kind, Mapping) and kind not in (float, str):
        return typed(data - 2**64 if data >= 2**63 and kind is not bool else data, kind, name)
    raise ValueError(f"{name} is of another kind (wire type {wire_type}) than {words(kind)}")


def typed(value: Any, kind: Kind, name: str) -> Any:
    """`value` as `kind` has it. Raises ValueError for what it is not."""
    if isinstance(kind, list):
        return [typed(one, kind[0], name) for one in (value if isinstance(value, list) else [value])]
    if isinstance(kind, Mapping) and isinstance(value, dict):
        return {key: typed(one, kind[key][1], f"{name}.{key}") if key in kind else one for key, one in value.items()}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        names = {key: one for one in kind for key in (one, one.name, one.value)}
        if value in names:
            return names[value]
    elif kind is bool and value in (0, 1) and isinstance(value, int):
        return bool(value)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"{name} is {value!r}; takes {words(kind)}")


def words(kind: Kind) -> str:
    """What a value of `kind` is."""
    if isinstance(kind, list):
        return f"values that are each {words(kind[0])}"
    if isinstance(kind, Mapping):
        return "a { block }"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"one of {', '.join(one.name for one in kind)}"
    return {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}[kind]


def text(values: Mapping[str, Any]) -> str:
    """`values` in protobuf's text format: what `of` makes the same dictionary of."""
    lines = []
    for name, given in values.items():
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, Mapping):
                lines.append(f"{name} {{ {text(value)} }}")
            else:
                lines.append(f"{name}: {_word(value)}")
    return " ".join(lines)


def _word(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(
            chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in value.encode("utf-8")
        )
        return f'"{escaped}"'
    return repr(value)
