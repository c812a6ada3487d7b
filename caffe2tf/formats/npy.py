"""NumPy dictionary as `bvlc_alexnet.npy` is: {'conv1': [W, b], ...}; `--npy-layout dict` for {'weights', 'biases'}.

Read it with `numpy.load(path, allow_pickle=True).item()`. The AlexNet and VGG tutorials go through the arrays of a layer and tell W
from b by their axes, so that a dictionary of a layer fails there; caffe-tensorflow's networks go through the names of a layer, so
that a list fails there. Where every layer has W and b at most, lists are written, else dictionaries, for lists have no place for what
a BatchNorm holds. A dictionary in a .npy is a pickle: this one is written in
protocol 3 with the module names that NumPy has had since 1.13, so that every NumPy on Python 3 reads it under any
`encoding`; it is read back by `_pickle`, which knows arrays, dictionaries, lists, strings and numbers alone.
"""

import io
import os
import pickle
import re
import struct
from typing import Any

import numpy as np

from caffe2tf.arrays.numbers import float32
from caffe2tf.errors import OutputError, ParseError
from caffe2tf.formats import _files, _pickle
from caffe2tf.formats._files import Progress, Weights
from caffe2tf.net.net import Net

LAYOUTS = ("auto", "dict", "list")
READ_BY = {
    "list": "{'conv1': [W, b], ...}, for the AlexNet and VGG tutorials",
    "dict": "{'conv1': {'weights', 'biases'}, ...}, for caffe-tensorflow's networks",
}  # what a layout is, and whose loaders take it
_MAX_ARRAY = 2**32 - 1  # BINBYTES has a four-byte length


def layout_of(net: Net) -> str:
    """The layout that "auto" means for `net`: "list" where its layers have a kernel and a bias at most, else "dict"."""
    plain = all(list(shapes) in (["kernel"], ["kernel", "bias"]) for shapes in net.weight_shapes.values())
    return "list" if plain else "dict"


def save(net: Net, path: str, progress: Progress | None = None, layout: str = "auto") -> None:
    """`layout`: "dict" for {'weights': W, 'biases': b} per layer, "list" for [W, b], "auto" for `layout_of`."""
    if layout not in LAYOUTS:
        raise OutputError(f"no layout '{layout}'; takes {', '.join(LAYOUTS)}")
    layout = layout_of(net) if layout == "auto" else layout
    places = []
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        # The 0-d object array that holds the dictionary, and in it the arrays, opcode by opcode, with gaps where the
        # values go: `pickle` would hold the whole file in memory.
        file.write(b"\x80\x03" + _new_array() + b"(K\x01)" + _dtype("O8", b"|", 63) + b"\x89](}(")
        for layer in net.arrays:
            file.write(_text(layer) + (b"}(" if layout == "dict" else b"]("))
            for name, moved in net.moved(layer).items():
                if moved.nbytes > _MAX_ARRAY:
                    raise OutputError(
                        f"layer '{layer}': {moved.nbytes} bytes are more than a .npy dictionary takes; use .npz"
                    )
                file.write(_text(_files.TENSORFLOW_NAMES[name]) if layout == "dict" else b"")
                shape = b"(" + b"".join(map(_int, moved.shape)) + b"t"
                file.write(
                    _new_array()
                    + b"(K\x01"
                    + shape
                    + _dtype("f4", b"<", 0)
                    + b"\x89B"
                    + struct.pack("<I", moved.nbytes)
                )
                places.append((moved, file.tell()))
                file.seek(moved.nbytes, io.SEEK_CUR)
                file.write(b"tb")
            file.write(b"u" if layout == "dict" else b"e")
        file.write(b"uetb.")
    _files.write_places(path, places, progress)


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _new_array() -> bytes:
    return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def _dtype(code: str, order: bytes, flags: int) -> bytes:
    state = b"(K\x03" + _text(order.decode()) + b"NNN" + _int(-1) + _int(-1) + _int(flags) + b"tb"
    return b"cnumpy\ndtype\n" + _text(code) + b"\x89\x88\x87R" + state


# ------------------------------------------------------------------------------------------------ reading


def load(path: str) -> Weights:
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
            header = file.read(min(length, 1 << 16)).decode("latin-1")
            if not re.search(r"'descr': '\|?O'", header):
                raise ParseError("it holds one array, expected a dictionary of layers")
            data = _pickle.load(file, os.path.getsize(path) - file.tell())
        return _named(data)
    except ParseError as error:
        raise ParseError(f"{path}: {error}") from None
    except (
        pickle.UnpicklingError,
        ValueError,
        EOFError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        OverflowError,
        OSError,
    ) as error:
        raise ParseError(f"{path}: is not a .npy of weights: {(str(error) or '?').splitlines()[0]}") from None


def _named(data: Any) -> Weights:
    """{layer: {Keras's name: float32 array}} from any of the flavours; [W, b] are kernel and bias."""
    if not isinstance(data, dict):
        raise ParseError(f"holds a {type(data).__name__}, expected a dictionary of layers")
    weights = {}
    for layer, item in data.items():
        layer = _name(layer)
        item = _pickle.opened(item)
        if isinstance(item, (list, tuple)):
            item = dict(zip(("kernel", "bias"), item, strict=False)) if len(item) <= 2 else None
        if not isinstance(item, dict):
            raise ParseError(f"layer '{layer}' is neither {{'weights': W, 'biases': b}} nor [W, b]")
        arrays = {_name(name): _pickle.opened(array) for name, array in item.items()}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ParseError(f"layer '{layer}' is neither {{'weights': W, 'biases': b}} nor [W, b]")
        weights[layer] = {
            _files.KERAS_NAMES.get(name, name): float32(array, f"layer '{layer}': {name}")
            for name, array in arrays.items()
        }
    return weights


def _name(name: Any) -> str:
    name = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    if not isinstance(name, str):
        raise ParseError(f"holds a {type(name).__name__} where the name of a layer or an array stands")
    return name
