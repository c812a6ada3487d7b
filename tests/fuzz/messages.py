"""Messages of Caffe that no Caffe would write: good ones with fields set, cleared, doubled and moved, as text and as bytes."""

import functools
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message
from hypothesis import strategies as st

from caffe2tf.caffe import wire
from caffe2tf.caffe.caffe_pb2 import BlobProto, LayerParameter, NetParameter, V1LayerParameter
from tests.fuzz import kinds
from tests.fuzz.judging import Files

_WHOLE = [0, 1, 2, 3, 4, 5, 7, 16, 31, 32, 33, 255, 65536, 10**6, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1]
_WHOLE += [-1, -2, -4, -33, -(2**31), -(2**63)]
_SHAPES = [
    [],
    [0],
    [1],
    [4],
    [1, 2],
    [2, 0],
    [2, 3, 4],
    [1, 3, 1, 1],
    [1, 3, 4, 5, 6],
    [2**31 - 1] * 4,
    [-1, 3, -1, -1],
    [1] * 32,
]
_REAL = [0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, 1e30, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan")]
_NAMES = [
    "",
    " ",
    "data",
    "prob",
    "x",
    "a/b",
    "..",
    "/etc/passwd",
    "\x1b]0;x\x07",
    "卷积",
    "n" * 3000,
    "a'b\"c\\",
    "two\nlines",
]
_NAMES += [
    "\ud7ff",
    "\u202e",
    "{}",
    "%s",
    "[red]",
    "\0",
    "data_data_0_split_0",
    "Convolution",
    "InnerProduct",
    "Split",
    "Data",
]
_BAD = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x81\x30\x81\x30", b"\xc4\xe3"]  # no UTF-8, some of it Chinese


@functools.cache
def nets() -> list[tuple[NetParameter, NetParameter]]:
    """(text, snapshot) of the small networks as messages."""
    known = {}
    for folder in dict.fromkeys(kinds.folders()):
        text = text_format.Parse((folder / "net.prototxt").read_text(), NetParameter(), allow_unknown_field=True)
        known[folder] = text, NetParameter.FromString((folder / "net.caffemodel").read_bytes())
    return [known[folder] for folder in kinds.folders()]


def _parts(message: Message) -> list[Message]:
    """`message` and all messages in it."""
    found = [message]
    for entry, value in message.ListFields():
        if _is_map(entry):
            found += [part for item in value.values() if isinstance(item, Message) for part in _parts(item)]
        elif entry.message_type is not None:
            for item in value if entry.is_repeated else (value,):
                found += _parts(item)
    return found


def _is_map(entry: Any) -> bool:
    return entry.message_type is not None and bool(entry.message_type.GetOptions().map_entry)


def _names(message: Message) -> list[str]:
    found = [item.name for item in getattr(message, "layer", ())]
    found += [blob for item in [*message.layer, *message.layers] for blob in [*item.bottom, *item.top]]  # type: ignore[attr-defined]
    return [name for name in found if isinstance(name, str)] or [""]


def _value(draw: Any, entry: Any, names: list[str]) -> Any:
    if entry.enum_type is not None:
        return draw(st.sampled_from([value.number for value in entry.enum_type.values]))
    if entry.cpp_type == entry.CPPTYPE_STRING:
        if entry.type == entry.TYPE_BYTES:
            return draw(st.binary(max_size=16))
        return draw(st.one_of(st.sampled_from(names), st.sampled_from(_NAMES)))
    if entry.cpp_type in (entry.CPPTYPE_FLOAT, entry.CPPTYPE_DOUBLE):
        return draw(st.sampled_from(_REAL))
    if entry.cpp_type == entry.CPPTYPE_BOOL:
        return draw(st.booleans())
    least, most = {
        entry.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
        entry.CPPTYPE_UINT32: (0, 2**32 - 1),
        entry.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
        entry.CPPTYPE_UINT64: (0, 2**64 - 1),
    }[entry.cpp_type]
    return draw(st.sampled_from([value for value in _WHOLE if least <= value <= most]))


def _edit(draw: Any, root: Message, names: list[str]) -> None:
    """One field of one message in `root` is set, cleared, added, doubled, moved or taken away."""
    message = draw(st.sampled_from(_parts(root)))
    there = [entry for entry, _ in message.ListFields() if not _is_map(entry)]
    way = draw(st.sampled_from(["set", "set", "near", "near", "clear", "double", "move", "cut"]))
    if way in ("set", "near") or not there:
        entries = there if way == "near" and there else [e for e in message.DESCRIPTOR.fields if not _is_map(e)]
        if not entries:
            return
        entry = draw(st.sampled_from(entries))
        if entry.message_type is not None:
            part = getattr(message, entry.name)
            part = part.add() if entry.is_repeated else part
            part.SetInParent()
            if part.DESCRIPTOR.fields:
                inner = draw(st.sampled_from(list(part.DESCRIPTOR.fields)))
                if inner.message_type is None:
                    _set(part, inner, [_value(draw, inner, names)], draw)
            return
        count = draw(st.sampled_from([1, 1, 1, 2, 3, 40])) if entry.is_repeated else 1
        value = _value(draw, entry, names)
        _set(message, entry, [value] * count, draw)
        return
    entry = draw(st.sampled_from(there))
    if way == "clear" or not entry.is_repeated:
        message.ClearField(entry.name)
        return
    values = list(getattr(message, entry.name))
    at, other = (draw(st.integers(0, len(values) - 1)) for _ in range(2))
    if way == "double":
        values.insert(at, values[other])
    elif way == "move":
        values[at], values[other] = values[other], values[at]
    else:
        del values[at]
    made = type(message)()
    getattr(made, entry.name).extend(values)
    message.ClearField(entry.name)
    getattr(message, entry.name).MergeFrom(getattr(made, entry.name))


def _set(message: Message, entry: Any, values: list[Any], draw: Any) -> None:
    if not entry.is_repeated:
        setattr(message, entry.name, values[0])
        return
    held = getattr(message, entry.name)
    if len(held) and draw(st.booleans()):
        held[draw(st.integers(0, len(held) - 1))] = values[0]
    else:
        held.extend(values)


def _edited(draw: Any, message: NetParameter) -> NetParameter:
    made, names = NetParameter.FromString(message.SerializeToString()), _names(message)
    shapes = [part for part in _parts(made) if part.DESCRIPTOR.name == "BlobShape"]
    if shapes and draw(st.integers(0, 3)) == 0:
        del draw(st.sampled_from(shapes)).dim[:]  # type: ignore[attr-defined]
        draw(st.sampled_from(shapes)).dim.extend(draw(st.sampled_from(_SHAPES)))  # type: ignore[attr-defined]
    for _ in range(draw(st.integers(1, 4))):
        _edit(draw, made, names)
    return made


def _bytes(draw: Any, message: NetParameter) -> bytes:
    """The message as bytes; at times with a name that is no UTF-8, values in other encodings or fields that nobody knows."""
    way = draw(st.sampled_from(["plain"] * 5 + ["name", "unknown", "blob", "deep"]))
    data = message.SerializeToString()
    if way == "name":
        name = draw(st.sampled_from(_names(message))).encode()
        bad = draw(st.sampled_from(_BAD))
        if len(name) >= len(bad):
            return data.replace(name, bad + name[len(bad) :], draw(st.sampled_from([1, -1])))
    elif way == "unknown":
        return data + b"".join(
            wire.field(draw(st.sampled_from([1, 2, 99, 100, 536870911])), [draw(st.binary(max_size=9))])
        )
    elif way == "blob":
        body = draw(st.binary(max_size=24)) + draw(
            st.sampled_from([b"", bytes([0x2D, 0, 0, 0x80, 0x3F]) * 3, b"\x2a\x04\0\0\0\0"])
        )
        header = BlobProto(shape={"dim": [draw(st.sampled_from([0, 1, 2, 2**20, 2**40]))]}).SerializeToString()
        layer = LayerParameter(name="conv", type="InnerProduct").SerializeToString()
        return data + b"".join(wire.field(100, [layer, *wire.field(7, [header, body])]))
    elif way == "deep":
        inner: list[bytes | memoryview] = [b""]
        for _ in range(draw(st.sampled_from([3, 90, 120, 3000]))):
            inner = [b"".join(wire.field(1, inner))]
        return data + b"".join(wire.field(2, [V1LayerParameter(name="x").SerializeToString(), *inner]))
    return data


def _written(draw: Any, message: NetParameter) -> bytes:
    """The message as text, in one of protobuf's ways to write it."""
    if draw(st.integers(0, 20)) == 0:
        return draw(trees()).encode("utf-8", "surrogatepass")
    text = text_format.MessageToString(
        message, as_one_line=draw(st.booleans()), as_utf8=draw(st.booleans()), pointy_brackets=draw(st.booleans())
    )
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        words = text.split(" ")
        at = draw(st.integers(0, len(words) - 1))
        words[at : at + draw(st.integers(0, 3))] = draw(st.lists(_words(), max_size=3))
        text = " ".join(words)
    return text.encode("utf-8", "surrogatepass")


@functools.cache
def _words() -> st.SearchStrategy[str]:
    known = [
        "{",
        "}",
        "<",
        ">",
        "[",
        "]",
        ":",
        ",",
        ";",
        "#",
        '"',
        "'",
        "\\",
        "layer",
        "layers",
        "name:",
        "type:",
        "input_dim:",
    ]
    known += [
        '"\\377"',
        '"\\xff\\xfe"',
        '"\\u00e9"',
        "0x7fffffffffffffff",
        "0777",
        "09",
        "-",
        "+",
        ".",
        "1e999",
        "nan",
        "-inf",
        "inf",
    ]
    known += [
        "9" * 5000,
        "0x" + "f" * 5000,
        "1" * 400 + ".5",
        "true",
        "TRAIN",
        "\ufeff",
        "\r",
        "\v",
        "[a.b/c]:",
        "{" * 200,
        '"' + "n" * 300 + '"',
    ]
    return st.one_of(st.sampled_from(known), st.text(max_size=5))


@functools.cache
def trees() -> st.SearchStrategy[str]:
    """Network texts from their grammar: fields of any messages, in each other at any depth."""
    fields = [
        "layer",
        "layers",
        "name",
        "type",
        "top",
        "bottom",
        "input",
        "input_dim",
        "input_shape",
        "input_param",
        "shape",
        "dim",
    ]
    fields += [
        "convolution_param",
        "num_output",
        "kernel_size",
        "include",
        "phase",
        "blobs",
        "data",
        "param",
        "unknown",
        "state",
    ]
    scalars = st.one_of(
        st.sampled_from(['"data"', '"Input"', '"Convolution"', '"x"', "TRAIN", "1", "-1", "0.5"]), _words()
    )
    leaf = st.builds(lambda name, value: f"{name}: {value}", st.sampled_from(fields), scalars)
    block = st.recursive(
        leaf,
        lambda inner: st.builds(
            lambda name, parts: f"{name} {{ {' '.join(parts)} }}", st.sampled_from(fields), st.lists(inner, max_size=4)
        ),
        max_leaves=20,
    )
    return st.lists(block, min_size=1, max_size=5).map("\n".join)


@st.composite
def caffemodel(draw: Any) -> Files:
    return {"net.caffemodel": _bytes(draw, _edited(draw, draw(st.sampled_from(nets()))[1]))}


@st.composite
def prototxt(draw: Any) -> Files:
    return {"net.prototxt": _written(draw, _edited(draw, draw(st.sampled_from(nets()))[0]))}


@st.composite
def pair(draw: Any) -> Files:
    text, model = draw(st.sampled_from(nets()))
    which = draw(st.sampled_from(["text", "model", "both"]))
    return {
        "net.prototxt": _written(draw, _edited(draw, text) if which != "model" else text),
        "net.caffemodel": _bytes(draw, _edited(draw, model) if which != "text" else model),
    }


built = pair
