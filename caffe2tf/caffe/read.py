"""Caffe's files as they lie on disk: network texts, snapshots (`.caffemodel`) and mean images (`.binaryproto`).

A snapshot is mapped and cut at its top-level fields. The header of each layer is parsed with protobuf, while blob
values stay views of the mapped file, so that reading costs neither time nor memory until a value is used.
"""

import mmap
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from caffe2tf.arrays.layout import Array, Floats, Shape
from caffe2tf.arrays.numbers import MAX_AXES, float32
from caffe2tf.caffe import extra, foreign, messages, prototxt
from caffe2tf.caffe.caffe_pb2 import TRAIN, BlobProto, LayerParameter, NetParameter, V0LayerParameter, V1LayerParameter
from caffe2tf.caffe.faults import Fault, told_wrong
from caffe2tf.caffe.wire import BYTES, FIXED32, FIXED64, Damaged, fields, fields_with_runs
from caffe2tf.caffe.wire import field as wire_field
from caffe2tf.errors import ParseError
from caffe2tf.files import mapped

_MAX_EXTENT = 2**31 - 1  # Caffe's own limit (INT_MAX, blob.cpp)
_RAW_TYPES = {BlobProto.DOUBLE: "<f8", BlobProto.FLOAT: "<f4", BlobProto.FLOAT16: "<f2"}


_Record = TypeVar("_Record", bound=Message)


@dataclass(frozen=True)
class Blob:
    """One array of a snapshot: its shape as the file states it and views of its values.

    `legacy` marks the four extents (num, channels, height, width) that every blob had before `shape` existed.
    """

    shape: Shape
    parts: tuple[Array, ...]
    legacy: bool = False

    def array(self) -> Floats:
        """float32 of `shape`: a view of the file where it holds the values in one packed run, else a copy."""
        empty = np.zeros(0, np.float32)  # of a shape without values, which may have no part at all
        parts = [float32(part, f"a blob of shape {self.shape}") for part in self.parts or (empty,)]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(self.shape)


@dataclass(frozen=True)
class Source:
    """A file as it was read: its message without blob values, and the blobs of each layer by layer name, in the order in
    which the last of each name stands there.

    `encoding` is the layer generation: "V0", "V1" or "V2" (today's). `warnings` are lines for the user.
    """

    net: NetParameter
    blobs: Mapping[str, tuple[Blob, ...]] = field(default_factory=dict)
    encoding: str = "V2"
    warnings: tuple[str, ...] = ()
    path: str = ""


def read_prototxt(path: str | os.PathLike[str], faults: list[Fault] | None = None, data: bytes | None = None) -> Source:
    """A network text, `data` or what the file holds, as a Source without blobs. Unknown fields become warnings that name field
    and line; values that a field does not take go to `faults` where that is given, and are a ParseError where not."""
    data = bytes(_open(path)) if data is None else data
    text = data.decode("utf-8", "surrogateescape")
    if not foreign.is_text(data):
        raise ParseError(f"{path}: is binary, expected a network text (.prototxt); a .caffemodel goes to `model`")
    foreign.refuse(path, data)
    net = NetParameter()
    warnings = prototxt.parse(text.removeprefix("\ufeff"), net, str(path), faults)
    messages.check_axes(net, path)
    if not net.layer and not net.layers:
        solver = "base_lr" in text or "lr_policy" in text
        raise ParseError(
            f"{path}: holds no layers, "
            + ("it is a solver; expected the network text that it names" if solver else "expected a network text")
        )
    return Source(net, encoding=_generation(net), warnings=tuple(warnings), path=str(path))


def read_caffemodel(path: str | os.PathLike[str], faults: list[Fault] | None = None) -> Source:
    """A snapshot as a Source; blob values are views of the mapped file. Values that a field of a layer does not take go to
    `faults`, where that is given: they matter where the snapshot's own network is used.

    Raises ParseError for whatever is not a snapshot (an error page, a Git LFS pointer, a network text, HDF5) and for a
    damaged one: a length past the end, a shape that is not its data's.
    """
    buffer = _open(path)
    head = bytes(buffer[:4096])
    foreign.refuse(path, head)
    net, rest = NetParameter(), bytearray()
    blobs: dict[str, tuple[Blob, ...]] = {}
    unknown: dict[tuple[str, int], list[str]] = {}
    encodings: set[str] = set()
    try:
        for number, wire, start, end, begin in fields(buffer, 0, len(buffer)):
            if number in (2, 100) and wire == BYTES:
                kind: type[V1LayerParameter | LayerParameter] = V1LayerParameter if number == 2 else LayerParameter
                layer, found = _layer(buffer, start, end, kind)
                messages.decode_names(layer, encodings)
                name = layer.name
                if isinstance(layer, V1LayerParameter):
                    net.layers.append(layer)
                    name = layer.layer.name if layer.HasField("layer") else name
                else:
                    net.layer.append(layer)
                if found:
                    blobs.pop(name, None)  # Caffe copies layer by layer: of two of one name the last stays
                    blobs[name] = tuple(found)
                for message, missed in messages.unknown_values(layer):
                    if extra.reads(message, missed):
                        continue
                    field_name = told_wrong(message, missed)
                    if field_name is None:
                        unknown.setdefault((message.DESCRIPTOR.name, missed), []).append(name)
                    elif faults is not None:
                        why = f"field '{field_name}' has a value that Caffe does not know (layer '{name}')"
                        faults.append(Fault(name, f"{path}: {why}"))
            else:
                rest += buffer[begin:end]
        net.MergeFromString(bytes(rest))
        messages.decode_names(net, encodings)
        messages.check_axes(net, path)
        _forget_phase(net)
    except (DecodeError, Damaged) as error:
        why = str(error)
        if foreign.is_text(head):
            why = "is text, expected a binary .caffemodel; a network text goes to `prototxt`"
        elif isinstance(error, DecodeError):
            why = f"is not a .caffemodel ({why.splitlines()[0].lower()})"
        raise ParseError(f"{path}: {why}") from None
    if not (net.layer or net.layers or net.name):
        raise ParseError(f"{path}: holds no layers, so it is not a .caffemodel")
    warnings = tuple(
        f"{path}: unknown field {number} in {kind_name} of {len(names)} layers skipped (first: '{names[0]}')"
        for (kind_name, number), names in sorted(unknown.items())
    ) + tuple(f"{path}: names that are not UTF-8 are read as {name}" for name in sorted(encodings - {"utf-8"}))
    return Source(net, blobs, _generation(net), warnings, str(path))


def read_mean(path: str | os.PathLike[str]) -> Floats:
    """A mean image (`.binaryproto`) as float32 (1, C, H, W), BGR as Caffe stores it."""
    buffer = _open(path)
    foreign.refuse(path, bytes(buffer[:4096]))
    try:
        blob = _blob(buffer, 0, len(buffer))
    except (DecodeError, Damaged) as error:
        raise ParseError(f"{path}: is not a mean image (.binaryproto): {error}") from None
    if len(blob.shape) != 4 or blob.shape[0] != 1:
        raise ParseError(f"{path}: holds an array of shape {blob.shape}, expected a mean image (1, C, H, W)")
    return np.array(blob.array())


def is_text(path: str | os.PathLike[str]) -> bool:
    """Whether the file at `path` is text, as network texts are."""
    head = bytes(_open(path)[:4096])
    return foreign.is_text(head) and not any(head.startswith(magic) for magic, _ in foreign.FOREIGN)


def release(array: Array) -> None:
    """Gives the mapped pages behind `array` back to the system; they are read again when touched."""
    base = _map_of(array)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def check_unchanged(arrays: Iterable[Array]) -> None:
    """Raises ParseError where a file that one of `arrays` is a view of was cut or written to since it was read."""
    mapped.check([base for base in map(_map_of, arrays) if base is not None])


def _map_of(array: Array) -> mmap.mmap | None:
    """The map that `array` is a view of, or None."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None


# ------------------------------------------------------------------------------------------------ what a file is


def _open(path: str | os.PathLike[str]) -> memoryview:
    """The file's bytes, mapped where the system can."""
    if os.path.isdir(path):
        raise ParseError(f"{path}: is a folder, expected a file")
    try:
        with open(path, "rb") as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):  # which may have no end
                raise ParseError(f"{path}: is a device, expected a file")
            try:
                return memoryview(mapped.opened(path, file.fileno()))
            except (ValueError, OSError):  # empty, or a pipe
                data = file.read()
    except OSError as error:
        raise ParseError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if not data:
        raise ParseError(f"{path}: is empty")
    return memoryview(data)


def _generation(net: NetParameter) -> str:
    if any(layer.HasField("layer") for layer in net.layers):
        return "V0"
    return "V1" if net.layers else "V2"


# ------------------------------------------------------------------------------------------------ layers and blobs


def _forget_phase(net: NetParameter) -> None:
    """A snapshot notes on every layer the phase that it was trained in, which says nothing of inference; one that a text
    gave a layer stands among others."""
    if all(not layer.HasField("phase") or layer.phase == TRAIN for layer in net.layer):
        for layer in net.layer:
            layer.ClearField("phase")


def _layer(buffer: memoryview, start: int, end: int, kind: type[_Record]) -> tuple[_Record, list[Blob]]:
    """The layer's message without blobs, and its blobs."""
    blob_field = kind.DESCRIPTOR.fields_by_name["blobs"].number
    header, blobs = bytearray(), []
    for number, wire, first, last, begin in fields(buffer, start, end):
        if number == blob_field and wire == BYTES:
            blobs.append(_blob(buffer, first, last))
        elif kind is V1LayerParameter and number == 1 and wire == BYTES:
            v0, blobs = _layer(buffer, first, last, V0LayerParameter)
            inner = v0.SerializeToString()
            header += b"".join(wire_field(1, [inner]))
        else:
            header += buffer[begin:last]
    message = kind()
    message.MergeFromString(bytes(header))
    return message, blobs


def _blob(buffer: memoryview, start: int, end: int) -> Blob:
    """Cuts one BlobProto: header through protobuf, values as views."""
    header, floats, doubles, raws = bytearray(), [], [], []
    for number, wire, first, last, begin in fields_with_runs(buffer, start, end):
        if number == 5 and wire in (BYTES, FIXED32):
            floats.append(_values(buffer, first, last, begin, "<f4", wire == BYTES))
        elif number == 8 and wire in (BYTES, FIXED64):
            doubles.append(_values(buffer, first, last, begin, "<f8", wire == BYTES))
        elif number == 12 and wire == BYTES:
            raws.append((first, last))
        elif number not in (6, 9):  # gradients
            header += buffer[begin:last]
    message = BlobProto()
    message.MergeFromString(bytes(header))
    if raws:
        if message.raw_data_type not in _RAW_TYPES:
            kind = BlobProto.Type.Name(message.raw_data_type)
            raise Damaged(f"holds raw_data of type {kind}; FLOAT16, FLOAT and DOUBLE are read")
        first, last = raws[-1]
        floats = [_values(buffer, first, last, first, _RAW_TYPES[message.raw_data_type], True)]
    legacy = not message.HasField("shape") and any(
        message.HasField(name) for name in ("num", "channels", "height", "width")
    )
    shape: Shape = tuple(message.shape.dim)
    if legacy:
        shape = (message.num, message.channels, message.height, message.width)
    if len(shape) > MAX_AXES:
        raise Damaged(f"damaged: the blob at byte {start} has {len(shape)} axes; Caffe takes {MAX_AXES} at most")
    parts = tuple(doubles or floats)
    count = sum(part.size for part in parts)
    wanted, most = 1, 1  # `most`: as if no extent were 0, which NumPy has a limit for
    for extent in shape:
        if not 0 <= extent <= _MAX_EXTENT:
            raise Damaged(f"damaged: the blob at byte {start} has the extent {extent} in its shape {shape}")
        wanted, most = wanted * extent, most * max(1, extent)
    if most > _MAX_EXTENT:
        raise Damaged(
            f"damaged: the blob at byte {start} has shape {shape}, more values than Caffe takes ({_MAX_EXTENT})"
        )
    if wanted != count:
        raise Damaged(f"damaged: the blob at byte {start} has shape {shape}, {wanted} values, but holds {count}")
    return Blob(shape, parts, legacy)


def _values(buffer: memoryview, first: int, last: int, begin: int, dtype: str, packed: bool) -> Array:
    size = np.dtype(dtype).itemsize
    if packed:
        if (last - first) % size:
            raise Damaged(f"damaged: {last - first} bytes at byte {first} are no whole number of {size}-byte values")
        return np.frombuffer(buffer[first:last], dtype)
    records = np.frombuffer(buffer[begin:last], np.uint8).reshape(-1, size + 1)
    return np.ascontiguousarray(records[:, 1:]).view(dtype).ravel()
