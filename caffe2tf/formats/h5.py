"""HDF5 that a Keras model with layers of the same names loads: `model.load_weights(path, by_name=True)`.

One group per layer under its Keras name (a `/` in Caffe's is `_`), with Caffe's name as an attribute.
"""

import io
import itertools
import os
import struct
from collections.abc import Iterator
from typing import IO, Any

import h5py
import numpy as np

from caffe2tf.arrays.layout import Floats, Moved
from caffe2tf.arrays.numbers import float32
from caffe2tf.errors import ParseError
from caffe2tf.formats import _files
from caffe2tf.formats._files import Progress, Weights
from caffe2tf.net.names import keras_names
from caffe2tf.net.net import Net

_HEAP = b"GCOL\x01"  # the three bytes behind it may be any
_PIECE = 8 << 20  # bytes that are read at once
_ATTRIBUTE = 64512  # bytes, what HDF5 takes of 65,536 for an attribute beside its own
_UNFOLDS = 100  # times, that a packed data set may be larger than what the file holds of it


def save(net: Net, path: str, progress: Progress | None = None) -> None:
    names, places = keras_names(net), list[tuple[Moved, int]]()
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        # Keras's legacy layout: names in attributes, datasets below groups of the same names.
        # Texts of a fixed length: HDF5 keeps others in heaps, and one that is damaged makes it search without end.
        _set_names(file, "layer_names", [names[layer] for layer in net.arrays])
        file.attrs["backend"], file.attrs["keras_version"] = np.bytes_(b"tensorflow"), np.bytes_(b"2.0.0")
        for layer in net.arrays:
            group = file.create_group(names[layer])
            moved = net.moved(layer)
            _set_names(group, "weight_names", [f"{names[layer]}/{name}:0" for name in moved])
            group.attrs["caffe_name"] = np.bytes_(layer.encode())
            inner = group.create_group(names[layer])
            for name, array in moved.items():
                space = h5py.h5s.create_simple(array.shape) if array.shape else h5py.h5s.create(h5py.h5s.SCALAR)
                data = h5py.h5d.create(inner.id, f"{name}:0".encode(), h5py.h5t.IEEE_F32LE, space, early)
                places.append((array, data.get_offset()))
    _files.write_places(path, places, progress)


def load(path: str) -> Weights:
    """Reads what lies in the file itself: links to other places and values kept outside are refused, as is a data set that
    claims more than the file can hold."""
    weights: Weights = {}
    size = os.path.getsize(path) if os.path.isfile(path) else 0
    try:
        if not os.path.isfile(path) and os.path.exists(path):  # a device may have no end
            raise ParseError("is no file")
        _check_heaps(path, size)
        with h5py.File(path, "r") as file:
            left = [size]
            for key in _names(file, "layer_names", size):
                group = _inside(file, key)
                (name,) = _names(group, "caffe_name", size)
                layer = weights.setdefault(name, {})
                for name in _names(group, "weight_names", size):
                    values = _values(_inside(group, name), f"'{name}'", left)
                    layer[name.rpartition("/")[2].removesuffix(":0")] = values
    except ParseError as error:
        raise ParseError(f"{path}: {error}") from None
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ParseError(f"{path}: is not an .h5 that caffe2tf wrote ({why})") from None
    return weights


def is_weights(path: str) -> bool:
    """Whether the file lists layers, as one of weights does: others hold arrays of another kind. Raises OSError."""
    with h5py.File(path, "r") as file:
        return "layer_names" in file.attrs or "layer_names0" in file.attrs


def _set_names(group: Any, attribute: str, names: list[str]) -> None:
    """Texts as an attribute; above HDF5's 64 kB in attributes `attribute`0, `attribute`1, ..., as Keras cuts them."""
    texts = np.array([name.encode() for name in names], "S")
    if texts.nbytes <= _ATTRIBUTE:
        group.attrs[attribute] = texts
        return
    many = max(1, _ATTRIBUTE // texts.itemsize)
    for index, start in enumerate(range(0, len(texts), many)):
        group.attrs[f"{attribute}{index}"] = texts[start : start + many]


def _names(group: Any, attribute: str, size: int) -> list[str]:
    """The texts that `_set_names` or Keras left."""
    if attribute in group.attrs or f"{attribute}0" not in group.attrs:
        return _texts(group, attribute, size)
    parts = itertools.takewhile(group.attrs.__contains__, (f"{attribute}{index}" for index in itertools.count()))
    return [name for part in parts for name in _texts(group, part, size)]


def _texts(group: Any, attribute: str, size: int) -> list[str]:
    """The texts in an attribute. Its claim is seen first: in a damaged file it may be of any size."""
    kind = group.attrs.get_id(attribute)
    if kind.shape == (0,):  # of a network without weights; h5py 3.14 cannot tell the size of nothing
        return []
    if kind.get_storage_size() > size or len(kind.shape) > 1 or (kind.shape and kind.shape[0] > size):
        raise ParseError(f"is damaged: '{attribute}' claims more than the file holds")
    found = group.attrs[attribute] if kind.shape else [group.attrs[attribute]]
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in found]


def _check_heaps(path: str, size: int) -> None:
    """Raises ParseError for a heap of texts whose parts do not fill it: HDF5 1.14 goes through it without end (section III.E,
    "Disk Format: Level 1E - Global Heap", of HDF5's file format)."""
    with open(path, "rb") as file:
        for start in _heaps(file):
            file.seek(start + 8)
            whole = int.from_bytes(file.read(8), "little")
            at = 16
            while whole <= size and at + 16 <= whole:
                file.seek(start + at)
                index, held = struct.unpack("<H6xQ", file.read(16).ljust(16, b"\xff"))
                at += held if index == 0 else 16 + -(-held // 8) * 8
                if at > whole or (index == 0 and held < 16):
                    raise ParseError(f"is damaged: the heap at byte {start} does not hold what it claims")
            if whole > size:
                raise ParseError(f"is damaged: the heap at byte {start} claims {whole} bytes")


def _heaps(file: IO[bytes]) -> Iterator[int]:
    """Where heaps begin: at any byte, for HDF5 follows addresses that are no multiples of 8 too."""
    at, before = 0, b""
    while piece := file.read(_PIECE):
        data, base = before + piece, at - len(before)
        place = data.find(_HEAP)
        found = []
        while place >= 0:
            found.append(base + place)
            place = data.find(_HEAP, place + 1)
        at += len(piece)
        before = data[-len(_HEAP) + 1 :]
        yield from found
        file.seek(at)


def _inside(group: Any, path: str) -> Any:
    """What `path` names in `group`, through links of the file's own alone: a damaged or hostile one leads elsewhere."""
    for part in path.split("/"):
        if not isinstance(group, h5py.Group) or not part or part == ".":
            raise ParseError(f"is damaged: '{path}' is not there")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ParseError(f"'{path}' is a link to another place; takes what the file holds itself")
        group = group[part]
    return group


def _values(found: Any, where: str, left: list[int]) -> Floats:
    """The float32 array of a data set; `left`: [bytes that the file may still unfold to, before `check_claim`'s factor]."""
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise ParseError(f"{where} is no data set with values")
    if found.external or found.is_virtual:
        raise ParseError(f"the values of {where} lie in other files; takes what the file holds itself")
    if found.dtype.kind not in "fiu":
        raise ParseError(f"{where} holds values of type {found.dtype}; takes real numbers (floats or integers)")
    _check_claim(found, where, left)
    return float32(np.asarray(found), where)


def _check_claim(found: Any, where: str, left: list[int]) -> None:
    """Raises ParseError where a data set claims more than it holds, or all of them hold more than the file; `left` as above."""
    stored = found.id.get_storage_size()
    if found.nbytes > stored and (found.chunks is None or found.nbytes > _UNFOLDS * stored):
        raise ParseError(f"{where} claims {found.nbytes} bytes of values and holds {stored}")
    left[0] -= stored
    if left[0] < 0:
        raise ParseError(f"is damaged: its data sets hold more than the file ({where})")


def values_held(data: io.BytesIO) -> int:
    """How many values the data sets of an HDF5 file hold, whoever wrote it; reads none of them. Raises ParseError where they
    claim more than the file holds."""
    many, left = 0, [data.getbuffer().nbytes]

    def count(name: str, found: Any) -> None:
        nonlocal many
        if isinstance(found, h5py.Dataset) and found.shape is not None:
            _check_claim(found, f"'{name}'", left)
            many += found.size

    with h5py.File(data, "r") as file:
        file.visititems(count)
    return many
