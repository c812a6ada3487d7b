"""Caffe's files as they lie on disk: network texts, snapshots (`.caffemodel`) and mean images (`.binaryproto`).

A snapshot is mapped and cut at its top-level fields. The header of each layer is parsed with protobuf, while blob
values stay views of the mapped file, so that reading costs neither time nor memory until a value is used.
"""

import mmap
import os
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from caffe2tf.arrays.numbers import MAX_AXES, float32
from caffe2tf.caffe import messages, prototxt
from caffe2tf.caffe.caffe_pb2 import TRAIN, BlobProto, LayerParameter, NetParameter, V0LayerParameter, V1LayerParameter
from caffe2tf.caffe.wire import BYTES, FIXED32, FIXED64, Damaged, fields, fields_with_runs
from caffe2tf.caffe.wire import field as wire_field
from caffe2tf.errors import ParseError
from caffe2tf.files import mapped

_MAX_EXTENT = 2**31 - 1  # Caffe's own limit (INT_MAX, blob.cpp)
_RAW_TYPES = {BlobProto.DOUBLE: "<f8", BlobProto.FLOAT: "<f4", BlobProto.FLOAT16: "<f2"}


@dataclass(frozen=True)
class Blob:
    """One array of a snapshot: its shape as the file states it and views of its values.

    `legacy` marks the four extents (num, channels, height, width) that every blob had before `shape` existed.
    """

    shape: tuple
    parts: tuple
    legacy: bool = False

    def array(self):
        """float32 of `shape`: a view of the file where it holds the values in one packed run, else a copy."""
        parts = [float32(part, f"a blob of shape {self.shape}") for part in self.parts]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(self.shape)


@dataclass(frozen=True)
class Source:
    """A file as it was read: its message without blob values, and the blobs of each layer by layer name, in the order in
    which the last of each name stands there.

    `encoding` is the layer generation: "V0", "V1" or "V2" (today's). `warnings` are lines for the user.
    """

    net: NetParameter
    blobs: dict = field(default_factory=dict)
    encoding: str = "V2"
    warnings: tuple = ()
    path: str = ""


def read_prototxt(path):
    """A network text as a Source without blobs. Unknown fields become warnings that name field and line."""
    data = bytes(_open(path))
    text = data.decode("utf-8", "surrogateescape")
    if not _is_text(data):
        raise ParseError(
            f"{path}: is binary, expected a network text (.prototxt); a .caffemodel goes first: MODEL -p TEXT"
        )
    _refuse_foreign(path, data)
    net = NetParameter()
    warnings = prototxt.parse(text.removeprefix("\ufeff"), net, str(path))
    messages.check_axes(net, path)
    if not net.layer and not net.layers:
        solver = "base_lr" in text or "lr_policy" in text
        raise ParseError(
            f"{path}: holds no layers, "
            + ("it is a solver; expected the network text that it names" if solver else "expected a network text")
        )
    return Source(net, encoding=_generation(net), warnings=tuple(warnings), path=str(path))


def read_caffemodel(path):
    """A snapshot as a Source; blob values are views of the mapped file.

    Raises ParseError for whatever is not a snapshot (an error page, a Git LFS pointer, a network text, HDF5) and for a
    damaged one: a length past the end, a shape that is not its data's.
    """
    buffer = _open(path)
    head = bytes(buffer[:4096])
    _refuse_foreign(path, head)
    net, blobs, unknown, encodings = NetParameter(), {}, {}, set()
    rest = bytearray()
    try:
        for number, wire, start, end, begin in fields(buffer, 0, len(buffer)):
            if number in (2, 100) and wire == BYTES:
                layer, found = _layer(buffer, start, end, V1LayerParameter if number == 2 else LayerParameter)
                messages.decode_names(layer, encodings)
                (net.layers if number == 2 else net.layer).append(layer)
                name = layer.layer.name if number == 2 and layer.HasField("layer") else layer.name
                if found:
                    blobs.pop(name, None)  # Caffe copies layer by layer: of two of one name the last stays
                    blobs[name] = tuple(found)
                for item in UnknownFieldSet(layer):
                    unknown.setdefault(item.field_number, []).append(name)
            else:
                rest += buffer[begin:end]
        net.MergeFromString(bytes(rest))
        messages.decode_names(net, encodings)
        messages.check_axes(net, path)
        _forget_phase(net)
    except (DecodeError, Damaged) as error:
        why = str(error)
        if _is_text(head):
            why = "is text, expected a binary .caffemodel; a network text goes to `prototxt`"
        elif isinstance(error, DecodeError):
            why = f"is not a .caffemodel ({why.splitlines()[0].lower()})"
        raise ParseError(f"{path}: {why}") from None
    if not (net.layer or net.layers or net.name):
        raise ParseError(f"{path}: holds no layers, so it is not a .caffemodel")
    warnings = tuple(
        f"{path}: unknown field {number} of {len(names)} layers skipped (first: '{names[0]}')"
        for number, names in sorted(unknown.items())
    ) + tuple(f"{path}: names that are not UTF-8 are read as {name}" for name in sorted(encodings - {"utf-8"}))
    return Source(net, blobs, _generation(net), warnings, str(path))


def read_mean(path):
    """A mean image (`.binaryproto`) as float32 (1, C, H, W), BGR as Caffe stores it."""
    buffer = _open(path)
    _refuse_foreign(path, bytes(buffer[:4096]))
    try:
        blob = _blob(buffer, 0, len(buffer))
    except (DecodeError, Damaged) as error:
        raise ParseError(f"{path}: is not a mean image (.binaryproto): {error}") from None
    if len(blob.shape) != 4 or blob.shape[0] != 1:
        raise ParseError(f"{path}: holds an array of shape {blob.shape}, expected a mean image (1, C, H, W)")
    return np.array(blob.array())


def is_text(path):
    """Whether the file at `path` is text, as network texts are."""
    head = bytes(_open(path)[:4096])
    return _is_text(head) and not any(head.startswith(magic) for magic, _ in _FOREIGN)


def release(array):
    """Gives the mapped pages behind `array` back to the system; they are read again when touched."""
    base = _map_of(array)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def check_unchanged(arrays):
    """Raises ParseError where a file that one of `arrays` is a view of was cut or written to since it was read."""
    mapped.check([base for base in map(_map_of, arrays) if base is not None])


def _map_of(array):
    """The map that `array` is a view of, or None."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None


# ------------------------------------------------------------------------------------------------ what a file is


def _open(path):
    """The file's bytes, mapped where the system can."""
    if os.path.isdir(path):
        raise ParseError(f"{path}: is a folder, expected a file")
    try:
        with open(path, "rb") as file:
            try:
                return memoryview(mapped.opened(path, file.fileno()))
            except (ValueError, OSError):  # empty, or a pipe
                data = file.read()
    except OSError as error:
        raise ParseError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if not data:
        raise ParseError(f"{path}: is empty")
    return memoryview(data)


_FOREIGN = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'"),
    (b"\x89HDF\r\n", "is HDF5; expected protobuf (Caffe's snapshot_format: BINARYPROTO)"),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"\x1f\x8b", "is gzip data; unpack it first"),
    (b"\x93NUMPY", "is a NumPy file, expected one of Caffe's"),
)


def _refuse_foreign(path, head):
    for magic, why in _FOREIGN:
        if head.startswith(magic):
            raise ParseError(f"{path}: {why}")
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ParseError(f"{path}: is a web page (a download that failed?), expected a file of Caffe's")


def _is_text(head):
    """Whether bytes are text in an encoding that has ASCII in it (UTF-8, Latin-1, GBK): without control characters."""
    return not head.translate(None, _WRITTEN)


_WRITTEN = bytes({*range(32, 256), *b"\t\n\v\f\r\x1a"} - {127})


def _generation(net):
    if any(layer.HasField("layer") for layer in net.layers):
        return "V0"
    return "V1" if net.layers else "V2"


# ------------------------------------------------------------------------------------------------ layers and blobs


def _forget_phase(net):
    """A snapshot notes on every layer the phase that it was trained in, which says nothing of inference; one that a text
    gave a layer stands among others."""
    if all(not layer.HasField("phase") or layer.phase == TRAIN for layer in net.layer):
        for layer in net.layer:
            layer.ClearField("phase")


def _layer(buffer, start, end, kind):
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


def _blob(buffer, start, end):
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
    if legacy:
        shape = (message.num, message.channels, message.height, message.width)
    else:
        shape = tuple(message.shape.dim)
    if len(shape) > MAX_AXES:
        raise Damaged(f"damaged: the blob at byte {start} has {len(shape)} axes; Caffe takes {MAX_AXES} at most")
    parts = tuple(doubles or floats)
    count = sum(part.size for part in parts)
    wanted = 1
    for extent in shape:
        if not 0 <= extent <= _MAX_EXTENT:
            raise Damaged(f"damaged: the blob at byte {start} has the extent {extent} in its shape {shape}")
        wanted *= extent
    if wanted > _MAX_EXTENT:
        raise Damaged(
            f"damaged: the blob at byte {start} has shape {shape}, more values than Caffe takes ({_MAX_EXTENT})"
        )
    if wanted != count:
        raise Damaged(f"damaged: the blob at byte {start} has shape {shape}, {wanted} values, but holds {count}")
    return Blob(shape, parts, legacy)


def _values(buffer, first, last, begin, dtype, packed):
    size = np.dtype(dtype).itemsize
    if packed:
        if (last - first) % size:
            raise Damaged(f"damaged: {last - first} bytes at byte {first} are no whole number of {size}-byte values")
        return np.frombuffer(buffer[first:last], dtype)
    records = np.frombuffer(buffer[begin:last], np.uint8).reshape(-1, size + 1)
    return np.ascontiguousarray(records[:, 1:]).view(dtype).ravel()
