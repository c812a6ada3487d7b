"""What may stand in a file of weights, a mean image, a checkpoint, a golden set, a recipe, a list of labels: by its grammar."""

import functools
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st

from caffe2tf.caffe.caffe_pb2 import BlobProto
from caffe2tf.finetuning.checkpoint import LAYOUT
from tests.fuzz import kinds, messages
from tests.fuzz.judging import Files

_KEYS = [
    "conv/kernel",
    "conv/bias",
    "conv/",
    "/kernel",
    "kernel",
    "",
    "a/b/c/kernel",
    "../../x/kernel",
    "n" * 300,
    "\x1b[2J/x",
]
_KEYS += [
    "version",
    "note",
    "0",
    "1",
    "2",
    "bgr",
    "data",
    "value/prob",
    "index/prob",
    "norm/prob",
    "in:data",
    "卷积/kernel",
]
_DTYPES = [
    "<f4",
    ">f4",
    "<f8",
    "<f2",
    "<i4",
    "|u1",
    "|i1",
    "<i8",
    "|b1",
    "<c8",
    "|S4",
    "<U2",
    "|O",
    "<M8[s]",
    "<f16",
    "|V8",
]
_TEXTS = ["", " ", "x", "\0", "\x1b[2J", "\ud800", "卷积", "n" * 5000, "a\nb", "nan", "-1", "9" * 5000, "[red]", "../x"]


def _keys() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(_KEYS), st.text(max_size=8))


def _array(draw: Any) -> Any:
    """An array of plain numbers, of any type and shape that is small."""
    kind = draw(st.sampled_from(["<f4"] * 6 + ["<f8", ">f8", "<f2", "|u1", "<i8", "|b1", "<c8", "<U2", "|S3"]))
    shape = draw(st.sampled_from([(), (0,), (1,), (3,), (2, 3), (3, 3, 2, 4), (4,), (1, 3, 4, 4), (1, 1, 1, 1, 1, 1)]))
    if kind[1] in "US":
        return np.full(shape, "ab", kind)
    value = draw(st.sampled_from([0, 1, 2, 100, float("nan"), float("inf"), -1.0, 3e38, 1e300]))
    with np.errstate(all="ignore"):
        return np.full(shape, value).astype(kind)


def _npy(draw: Any) -> bytes:
    """A .npy of an array, with a header as NumPy writes it or another."""
    array, file = _array(draw), io.BytesIO()
    if draw(st.integers(0, 2)):
        np.lib.format.write_array(file, array, version=draw(st.sampled_from([(1, 0), (2, 0), (3, 0)])))
        return file.getvalue()
    kind = draw(st.sampled_from(_DTYPES))
    shape = draw(
        st.sampled_from(
            [
                "()",
                "(3,)",
                "(3)",
                "(-1,)",
                f"({2**62},)",
                "(4, 4)",
                "(0,)",
                f"({'1,' * 40})",
                "(1.5,)",
                "('a',)",
                "(3L,)",
                "x",
            ]
        )
    )
    order = draw(st.sampled_from(["True", "False", "1", "None"]))
    header = draw(
        st.sampled_from(
            [
                f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}",
                f"{{'descr': [('a', '{kind}')], 'fortran_order': {order}, 'shape': {shape}, }}",
                f"{{'shape': {shape}}}",
                "{" * 3000,
                "__import__('os').system('true')",
            ]
        )
    ).encode()
    version = draw(st.sampled_from([b"\x01\0", b"\x02\0", b"\x03\0", b"\x04\0"]))
    length = draw(st.sampled_from([len(header)] * 5 + [0, 65535, 2**32 - 1]))
    size = struct.pack("<H", length & 0xFFFF) if version[0] == 1 else struct.pack("<I", length)
    return b"\x93NUMPY" + version + size + header + array.tobytes()


def _zip(draw: Any, names: st.SearchStrategy[str], fixed: dict[str, bytes] | None = None) -> bytes:
    """A zip of members, good ones or not, twice, packed, in folders, with what a zip may hold beside."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        members = [(name, data) for name, data in (fixed or {}).items()]
        members += [(f"{name}.npy", _npy(draw)) for name in draw(st.lists(names, max_size=4))]
        if draw(st.integers(0, 9)) == 0:
            members.append((draw(names), draw(st.binary(max_size=20))))
        for name, data in draw(st.permutations(members)):
            if draw(st.integers(0, 9)) == 0:
                continue
            info = zipfile.ZipInfo(name.replace("\0", "0").encode("utf-8", "replace").decode())
            info.compress_type = draw(st.sampled_from([0] * 6 + [8, 8, 12, 14]))
            info.extra = draw(st.sampled_from([b"", b"", b"", b"\x01\0\x08\0" + bytes(8)]))
            archive.writestr(info, data)
        archive.comment = draw(st.sampled_from([b"", b"", b"", b"PK\x05\x06" + bytes(18)]))
    return file.getvalue()


def _plain(array: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array))
    return file.getvalue()


def _good() -> dict[str, bytes]:
    kernel, bias = np.ones((3, 3, 3, 4), np.float32), np.ones(4, np.float32)
    net = kinds.loading.load(kinds.CASE / "net.prototxt")
    (layer, shapes), *_ = net.weight_shapes.items()
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    return {
        f"{layer}/{name}.npy": _plain(array) for name, array in (arrays or {"kernel": kernel, "bias": bias}).items()
    }


def _beside() -> dict[str, bytes]:
    return {"net.prototxt": (kinds.CASE / "net.prototxt").read_bytes()}


@st.composite
def npz(draw: Any) -> Files:
    return {"x.npz": _zip(draw, _keys(), draw(st.sampled_from([None, _good()]))), **_beside()}


# ------------------------------------------------------------------------------------------------ pickles


def _object(draw: Any) -> Any:
    """Dictionaries of dictionaries of arrays, or nearly so."""
    leaf = st.one_of(
        st.none(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5), st.sampled_from([(), [], {}])
    )
    names = st.one_of(
        st.sampled_from(["conv", "weights", "biases", b"conv", 3, None, ("a",), "\x1b", "卷积"]), st.text(max_size=3)
    )

    def item(depth: int) -> Any:
        way = draw(st.sampled_from(["array"] * 4 + ["leaf", "dict", "list", "object"]))
        if way == "array" or depth > 2:
            return _array(draw)
        if way == "leaf":
            return draw(leaf)
        if way == "dict":
            return {draw(names): item(depth + 1) for _ in range(draw(st.integers(0, 3)))}
        parts = [item(depth + 1) for _ in range(draw(st.integers(0, 3)))]
        if way == "list":
            return parts if draw(st.booleans()) else tuple(parts)
        made = np.empty((), object)
        made[()] = parts
        return made

    return {draw(names): item(0) for _ in range(draw(st.integers(0, 3)))} if draw(st.integers(0, 9)) else item(0)


_OPCODES = [
    bytes([code])
    for code in sorted(
        {
            ord(op)
            for op in vars(pickle).values()
            if isinstance(op, bytes) and len(op) == 1
            for op in op.decode("latin-1")
        }
    )
]


def _program(draw: Any) -> bytes:
    """A pickle of any operations, each with an argument of some kind."""
    arguments = [
        b"",
        b"\0",
        b"\x01",
        b"\x04\0\0\0abcd",
        b"\xff\xff\xff\xff",
        b"\xff" * 8,
        b"numpy\nndarray\n",
        b"numpy\ndtype\n",
    ]
    arguments += [
        b"numpy.core.multiarray\n_reconstruct\n",
        b"_codecs\nencode\n",
        b"builtins\neval\n",
        b"12\n",
        b"1e5\n",
        b"'a'\n",
        b"99999999999\n",
    ]
    parts = draw(st.lists(st.tuples(st.sampled_from(_OPCODES), st.sampled_from(arguments)), max_size=25))
    return b"\x80\x03" + b"".join(code + argument for code, argument in parts) + b"."


@st.composite
def npy(draw: Any) -> Files:
    file = io.BytesIO()
    if draw(st.integers(0, 3)) == 0:
        data = (
            b"\x93NUMPY\x01\0v\0"
            + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117)
            + b"\n"
            + _program(draw)
        )
    elif draw(st.integers(0, 9)) == 0:
        data = _npy(draw)
    else:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        whole = np.empty((), object)
        whole[()] = _object(draw)
        pickle.dump(whole, file, protocol=draw(st.sampled_from([0, 1, 2, 3, 4, 5])))
        data = file.getvalue()
    if draw(st.integers(0, 3)) == 0 and len(data) > 130:
        at = draw(st.integers(100, len(data) - 1))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 4)) :]
    return {"x.npy": data, **_beside()}


# ------------------------------------------------------------------------------------------------ .h5


def _attribute(draw: Any, names: list[str]) -> Any:
    return draw(
        st.sampled_from(
            [
                np.array([name.encode() for name in names], "S"),
                np.array([name.encode() for name in names], "S"),
                np.array([name.encode() for name in names], "S"),
                names,
                [name.encode() for name in names],
                np.array([[name.encode() for name in names]], "S"),
                np.bytes_(b"conv"),
                "conv",
                b"\xff\xfe",
                3,
                [1.5, 2.5],
                h5py.Empty("f4"),
                h5py.Empty("S3"),
                np.array([], "S1"),
                np.array([b""], "S1"),
            ]
        )
    )


def _data_set(draw: Any, group: Any, name: str, shape: tuple[int, ...]) -> None:
    way = draw(
        st.sampled_from(
            ["good"] * 6 + ["array", "array", "packed", "empty", "link", "soft", "external", "group", "claim", "record"]
        )
    )
    if way == "good":
        group[name] = np.ones(shape, np.float32)
    elif way == "array":
        array = _array(draw)
        group[name] = array.astype("S") if array.dtype.kind == "U" else array
    elif way == "packed":
        group.create_dataset(name, data=np.zeros((64, 64), "f4"), chunks=(8, 8), compression="gzip")
    elif way == "empty":
        group[name] = h5py.Empty("f4")
    elif way == "link":
        group[name] = h5py.ExternalLink("other.h5", "/x")
    elif way == "soft":
        group[name] = h5py.SoftLink("/conv")
    elif way == "external":
        group.create_dataset(name, (4,), "f4", external=[("net.prototxt", 0, 16)])
    elif way == "group":
        group.create_group(name)
    elif way == "claim":
        group.create_dataset(name, (1 << draw(st.sampled_from([10, 30, 50])),), "f4", chunks=(1 << 10,))
    else:
        group[name] = np.zeros(2, [("a", "f4"), ("b", "i4")])


@st.composite
def h5(draw: Any) -> Files:
    layers = kinds.loading.load(kinds.CASE / "net.prototxt").weight_shapes
    file = io.BytesIO()
    with h5py.File(file, "w", libver=draw(st.sampled_from(["earliest", "latest"]))) as made:
        names = [*layers, *draw(st.lists(st.sampled_from(["other", "..", "a/b", ""]), max_size=1))]
        if draw(st.integers(0, 9)):
            made.attrs["layer_names"] = _attribute(draw, names)
        for layer in [name for name in names if name not in ("", "..")]:
            group = made.require_group(layer)
            shapes = layers.get(layer, {"kernel": (2,)})
            weights = [f"{layer}/{name}:0" for name in shapes] + draw(
                st.lists(st.sampled_from(["x", "conv//y", "/", "."]), max_size=1)
            )
            if draw(st.integers(0, 9)):
                group.attrs["weight_names"] = _attribute(draw, weights)
            if draw(st.integers(0, 9)):
                group.attrs["caffe_name"] = draw(
                    st.sampled_from([np.bytes_(layer.encode())] * 4 + [layer, 3, [layer, layer], b"\xff"])
                )
            inner = group.require_group(layer) if draw(st.integers(0, 9)) else group
            for name, shape in shapes.items():
                if draw(st.integers(0, 9)):
                    _data_set(draw, inner, f"{name}:0", shape)
    data = file.getvalue()
    if draw(st.integers(0, 2)) == 0:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(min_size=1, max_size=2)) + data[at + 1 :]
    return {"x.h5": data, **_beside()}


# ------------------------------------------------------------------------------------------------ JSON, TOML, lines


@functools.cache
def _json() -> st.SearchStrategy[Any]:
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([0, 1, -1, 3, 255, 2**31, 2**63, 10**30, 1.5, 1e308, float("nan"), float("inf")]),
        st.sampled_from(_TEXTS),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_keys(), inner, max_size=3)),
        max_leaves=5,
    )


def _edited(draw: Any, value: Any, depth: int = 0) -> Any:
    """`value` with something in it replaced, taken away or added."""
    if depth and (not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0):
        return draw(_json())
    made = dict(value) if isinstance(value, dict) else list(value)
    if not made:
        return draw(_json())
    place = draw(st.sampled_from(sorted(made) if isinstance(made, dict) else range(len(made))))  # type: ignore[type-var]
    way = draw(st.sampled_from(["in", "in", "in", "gone", "more"]))
    if way == "gone":
        del made[place]
    elif way == "more" and isinstance(made, dict):
        made[draw(_keys())] = draw(_json())
    elif way == "more":
        made.insert(place, draw(_json()))
    else:
        made[place] = _edited(draw, made[place], depth + 1)
    return made


def _dumped(draw: Any, value: Any) -> bytes:
    for _ in range(draw(st.integers(0, 2))):
        value = _edited(draw, value) if isinstance(value, dict | list) else value
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    text = text.replace("\ud800", "?") if draw(st.booleans()) else text
    if draw(st.integers(0, 15)) == 0:
        text = draw(
            st.sampled_from(
                ["", "[" * 100000, '{"a":' * 5000, "9" * 5000, "[1,]", text + text, "\ufeff" + text, "null", "3"]
            )
        )
    return text.encode("utf-8", "surrogatepass" if draw(st.booleans()) else "replace")


@st.composite
def safetensors(draw: Any) -> Files:
    layers, data, head = kinds.loading.load(kinds.CASE / "net.prototxt").weight_shapes, b"", dict[str, Any]()
    for layer, shapes in layers.items():
        for name, shape in shapes.items():
            values = np.ones(shape, "<f4").tobytes()
            head[f"{layer}/{name}"] = {
                "dtype": "F32",
                "shape": list(shape),
                "data_offsets": [len(data), len(data) + len(values)],
            }
            data += values
    if draw(st.integers(0, 3)) == 0:
        key = draw(st.sampled_from(sorted(head)))
        head[key]["dtype"] = draw(st.sampled_from(["F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "U8"]))
    text = _dumped(draw, head)
    length = draw(st.sampled_from([len(text)] * 8 + [0, 1, 2**63, 2**64 - 1, max(0, len(text) - 1), len(text) + 1]))
    return {"x.safetensors": struct.pack("<Q", length) + text + data, **_beside()}


@st.composite
def mean(draw: Any) -> Files:
    count = draw(st.sampled_from([48, 48, 48, 0, 3, 47]))
    blob = BlobProto(data=[float(draw(st.sampled_from([0, 1, float("nan"), 1e30])))] * count)
    for name in ("num", "channels", "height", "width"):
        setattr(
            blob, name, draw(st.sampled_from([{"num": 1, "channels": 3}.get(name, 4)] * 5 + [0, 1, 2, -1, 2**31 - 1]))
        )
    for _ in range(draw(st.integers(0, 2))):
        messages._edit(draw, blob, [""])
    data = blob.SerializeToString()
    if draw(st.integers(0, 3)) == 0:
        data += draw(
            st.sampled_from(
                [
                    b"\x60\x01",
                    b"\x60\x03\x62\x04abcd",
                    b"\x62\x03abc",
                    b"\x2d\0\0\0\0",
                    b"\x42\x08" + bytes(8),
                    b"\x3a\x02\x08\x01",
                ]
            )
        )
    return {"mean.binaryproto": data, "mean.npy": _npy(draw)}


@st.composite
def checkpoint(draw: Any) -> Files:
    row = {
        "stage": 1,
        "epoch": 1,
        "loss": 1.5,
        "accuracy": 0.5,
        "val_loss": 1.0,
        "val_accuracy": 0.25,
        "lr": 0.1,
        "seconds": 1.0,
    }
    note = {
        "place": {"stage": 1, "epoch": 1, "step": 2, "loss": 0.5, "right": 3, "seen": 8},
        "history": [row],
        "layout": LAYOUT,
        "good_steps": 4,
    }
    members = {"note.npy": _plain(np.frombuffer(_dumped(draw, note), np.uint8)), "0.npy": _plain(np.ones(3, "f4"))}
    return {"last.npz": _zip(draw, st.sampled_from(["0", "1", "2", "note", "x", "٣", "-1", "01"]), members)}


@st.composite
def golden(draw: Any) -> Files:
    start = draw(st.sampled_from(kinds.KINDS["golden"].starts()))
    text = _dumped(draw, json.loads(start["expected.json"]))
    with zipfile.ZipFile(io.BytesIO(start["blobs.npz"])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return {"blobs.npz": _zip(draw, _keys(), members), "expected.json": text}


verified = golden


@st.composite
def note(draw: Any) -> Files:
    from caffe2tf.images import notes, preprocess

    start = json.loads(notes.to_json(kinds._pictures()))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for _ in range(draw(st.integers(0, 2))):
            archive.writestr(
                zipfile.ZipInfo(draw(st.sampled_from([preprocess.FILE, "metadata.json"]))), _dumped(draw, start)
            )
    return {preprocess.FILE: _dumped(draw, start), "x.keras": file.getvalue()}


@st.composite
def keras(draw: Any) -> Files:
    file, (start,) = io.BytesIO(), kinds.KINDS["keras"].starts()
    with zipfile.ZipFile(io.BytesIO(start["x.keras"])) as whole, zipfile.ZipFile(file, "w") as archive:
        changed = draw(
            st.sampled_from(["config.json", "config.json", "config.json", "metadata.json", "model.weights.h5"])
        )
        for name in whole.namelist():
            data = whole.read(name)
            if name == changed and name.endswith(".json"):
                data = _dumped(draw, _edited(draw, json.loads(data)))
            elif name == changed:
                at = draw(st.integers(0, len(data) - 1))
                data = data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at + draw(st.integers(0, 4)) :]
            if name != changed or draw(st.integers(0, 19)):
                archive.writestr(zipfile.ZipInfo(name), data)
    return {"x.keras": file.getvalue()}


@st.composite
def onnx(draw: Any) -> Files:
    """The graph with fields set, cleared, doubled and moved, any of them or those that say what it takes and gives."""
    from onnx import ModelProto

    (start,) = kinds.KINDS["onnx"].starts()
    made = ModelProto.FromString(start["x.onnx"])
    names = [
        *(item.name for item in made.graph.initializer),
        *(name for node in made.graph.node for name in node.output),
    ]
    parts = [made, made.graph, *made.graph.input, *made.graph.output, *made.graph.node, *made.metadata_props]
    for _ in range(draw(st.integers(1, 3))):
        messages._edit(draw, draw(st.sampled_from(parts)), names)
    return {"x.onnx": made.SerializeToString()}


def _toml(draw: Any, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value) if draw(st.integers(0, 9)) else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(_toml(draw, part) for part in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(draw, part)}" for key, part in value.items()) + "}"
    return str(value)


@st.composite
def recipe(draw: Any) -> Files:
    from caffe2tf.finetuning.settings import OPTIONS

    dated = [
        "1979-05-27",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        "0x1F",
        "1_000",
        "inf",
        "nan",
        "-0",
        "9" * 400,
        "1e400",
        '"""a\nb"""',
    ]
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        key = draw(
            st.one_of(
                st.sampled_from([*OPTIONS, "stage", "stages", "a.b", "lr.x", '""', "weight-decay"]), st.text(max_size=4)
            )
        )
        values = st.one_of(
            st.sampled_from(["all", "fc8", 1, 0.5, "1,2,3", "256x256", "none", True, "data=1,3,4,4", "0.5,0.5"]),
            _json(),
        )
        text = draw(st.sampled_from(dated)) if draw(st.integers(0, 7)) == 0 else _toml(draw, draw(values))
        lines.append(f"{key} = {text}")
        if draw(st.integers(0, 4)) == 0:
            lines.append(
                draw(
                    st.sampled_from(
                        ["[[stage]]", "[stage]", "[[stages]]", "# x", "[a.b]", "[[stage]", "stage = 3", "[[stage.x]]"]
                    )
                )
            )
    lines += draw(st.sampled_from([[], ["[[stage]]", 'layers = "all"'], ['layers = "all"']]))
    return {"recipe.toml": "\n".join(lines).encode("utf-8", "surrogatepass")}


@st.composite
def labels(draw: Any) -> Files:
    parts = st.one_of(
        st.sampled_from(
            ["a.png", "b.png", "./a.png", "0", "1", "2", "cat", "dog", "-1", "²", "٣", "9" * 30, "\t", " ", ".."]
        ),
        st.sampled_from(_TEXTS),
    )
    lines = draw(st.lists(st.lists(parts, max_size=4).map(draw(st.sampled_from([" ", "\t", ""])).join), max_size=5))
    names = draw(
        st.lists(st.one_of(st.sampled_from(["cat, Felis", "dog", "bird"]), st.sampled_from(_TEXTS)), max_size=4)
    )
    texts = ["\n".join(lines), "\n".join(names)]
    if draw(st.booleans()):
        texts[0] = "a.png cat\nb.png dog\nc.png cat\nd.png dog\n" + texts[0]
        texts[1] = "cat\ndog\n" + texts[1]
    listed, named = (text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])), "replace") for text in texts)
    return {"list.txt": listed, "names.txt": named, **dict.fromkeys(["a.png", "b.png", "c.png", "d.png"], b"")}


def _changed(draw: Any, message: Any) -> Any:
    """`message` with some of its fields set, cleared, doubled and moved."""
    for _ in range(draw(st.integers(1, 3))):
        messages._edit(draw, message, ["conv", "input", "x"])
    return message


@st.composite
def solver(draw: Any) -> Files:
    from google.protobuf import text_format

    from caffe2tf.caffe.caffe_pb2 import SolverParameter

    start = dict(draw(st.sampled_from(kinds.KINDS["solver"].starts())))
    made = _changed(draw, text_format.Parse(start["solver.prototxt"].decode(), SolverParameter()))
    text = text_format.MessageToString(made, as_utf8=draw(st.booleans()), as_one_line=draw(st.booleans()))
    return {**start, "solver.prototxt": text.encode("utf-8", "surrogatepass")}


@st.composite
def features(draw: Any) -> Files:
    (start,) = kinds.KINDS["features"].starts()
    return {**start, "index.json": _dumped(draw, _edited(draw, json.loads(start["index.json"])))}


@st.composite
def records(draw: Any) -> Files:
    """Whole records, of any examples."""
    import tensorflow as tf

    with kinds.workplace() as folder:
        path = str(folder / "x.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            for label in range(draw(st.integers(0, 4))):
                example = kinds.example(b"picture", label)
                writer.write(_changed(draw, example).SerializeToString() if draw(st.booleans()) else draw(st.binary()))
        with open(path, "rb") as file:
            return {"x.tfrecord": file.read()}


@st.composite
def savedmodel(draw: Any) -> Files:
    """The graph, its functions and its objects with fields set, cleared, doubled and moved; the note with others."""
    from tensorflow.core.protobuf import saved_model_pb2

    (start,) = kinds.KINDS["savedmodel"].starts()
    made = saved_model_pb2.SavedModel.FromString(start["saved_model.pb"])
    whole = made.meta_graphs[0]
    parts = [made, whole, whole.graph_def, whole.object_graph_def, *whole.signature_def.values()]
    parts += [*whole.graph_def.node, *whole.graph_def.library.function, *whole.object_graph_def.nodes]
    for _ in range(draw(st.integers(1, 3))):
        _changed(draw, draw(st.sampled_from(parts)))
    return {
        **start,
        "saved_model.pb": made.SerializeToString(),
        "note.json": _dumped(draw, json.loads(start["note.json"])),
    }


STRATEGIES: dict[str, Callable[[], st.SearchStrategy[Files]]] = {
    function.__name__: function
    for function in (npz, npy, h5, safetensors, mean, checkpoint, golden, note, recipe, labels, solver, features)
} | {"caffemodel": messages.caffemodel, "prototxt": messages.prototxt, "pair": messages.pair}
STRATEGIES |= {
    "built": messages.built,
    "verified": verified,
    "keras": keras,
    "onnx": onnx,
    "records": records,
    "savedmodel": savedmodel,
}
