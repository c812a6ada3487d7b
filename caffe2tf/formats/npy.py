"""NumPy dictionary as `bvlc_alexnet.npy` is: {'conv1': {'weights', 'biases'}, ...}; `--npy-layout list` for [W, b].

Read it with `numpy.load(path, allow_pickle=True).item()`. A dictionary in a .npy is a pickle: this one is written in
protocol 3 with the module names that NumPy has had since 1.13, so that every NumPy on Python 3 reads it under any
`encoding`; it is read back through an unpickler that knows arrays, dictionaries, lists, strings and numbers alone.
"""

import io
import pickle
import struct

import numpy as np

from caffe2tf.errors import OutputError, ParseError
from caffe2tf.formats import _files

LAYOUTS = ("dict", "list")
_MAX_ARRAY = 2**32 - 1  # BINBYTES has a four-byte length


def save(net, path, progress=None, layout="dict"):
    """`layout`: "dict" for {'weights': W, 'biases': b} per layer, "list" for [W, b]."""
    if layout not in LAYOUTS:
        raise OutputError(f"no layout '{layout}'; takes {' or '.join(LAYOUTS)}")
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


def _text(text):
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(value):
    return b"J" + struct.pack("<i", value)


def _new_array():
    return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def _dtype(code, order, flags):
    state = b"(K\x03" + _text(order.decode()) + b"NNN" + _int(-1) + _int(-1) + _int(flags) + b"tb"
    return b"cnumpy\ndtype\n" + _text(code) + b"\x89\x88\x87R" + state


# ------------------------------------------------------------------------------------------------ reading


def _reconstruct(kind, shape, code):
    """An empty array whatever shape is asked for: the values, and with them the memory, come with its state."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("an array subclass")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


_KNOWN = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _reconstruct
        if (module, name) == ("_codecs", "encode"):  # how Python 2's protocols hold bytes
            return _encode
        raise pickle.UnpicklingError(
            f"it holds {module}.{name}; only arrays, dicts, lists, strings and numbers are read"
        )


def _encode(text, encoding):
    return text.encode("latin1")


def load(path):
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = header(file)
            if not dtype.hasobject:
                raise ValueError(f"it holds an array of {dtype}, expected a dictionary of layers")
            data = _Unpickler(file, encoding="latin1").load()
        return _named(data.item() if isinstance(data, np.ndarray) else data)
    except ParseError as error:
        raise ParseError(f"{path}: {error}") from None
    except (
        pickle.UnpicklingError,
        ValueError,
        EOFError,
        TypeError,
        AttributeError,
        KeyError,
        OSError,
        io.UnsupportedOperation,
    ) as error:
        raise ParseError(f"{path}: is not a .npy of weights: {str(error).splitlines()[0]}") from None


def _named(data):
    """{layer: {Keras's name: array}} from any of the flavours; [W, b] are kernel and bias."""
    if not isinstance(data, dict):
        raise ParseError(f"holds a {type(data).__name__}, expected a dictionary of layers")
    weights = {}
    for layer, item in data.items():
        layer = layer.decode() if isinstance(layer, bytes) else layer
        if isinstance(item, (list, tuple)):
            item = dict(zip(("kernel", "bias"), item, strict=False)) if len(item) <= 2 else None
        if not isinstance(item, dict) or not all(isinstance(array, np.ndarray) for array in item.values()):
            raise ParseError(f"layer '{layer}' is neither {{'weights': W, 'biases': b}} nor [W, b]")
        names = {name.decode() if isinstance(name, bytes) else name: array for name, array in item.items()}
        weights[layer] = {_files.KERAS_NAMES.get(name, name): array for name, array in names.items()}
    return weights
