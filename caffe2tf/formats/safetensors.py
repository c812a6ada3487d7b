"""safetensors: `conv1/kernel`, `conv1/bias`, ...

Read it with `safetensors.numpy.load_file(path)`.
"""

import json
import math
import os

import numpy as np

from caffe2tf.arrays.layout import Moved
from caffe2tf.arrays.numbers import MAX_AXES, filled, float32
from caffe2tf.errors import OutputError, ParseError
from caffe2tf.formats import _files
from caffe2tf.formats._files import Progress, Weights
from caffe2tf.net.net import Net

_MAX_HEADER = 100_000_000  # bytes, the format's own limit
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"} | {
    f"{sign}{8 * size}": f"<{sign.lower()}{size}" for sign in "IU" for size in (1, 2, 4, 8)
}


def save(net: Net, path: str, progress: Progress | None = None) -> None:
    """The library's own writer wants every array in memory at once, and a killed run would leave its temporary files for ever;
    here memory holds a few stripes."""
    header: dict[str, object] = {"__metadata__": {"format": "caffe2tf", "layout": "keras"}}
    arrays, end = list[tuple[Moved, int]](), 0
    for layer in net.arrays:
        for name, moved in net.moved(layer).items():
            offsets = [end, end + moved.nbytes]
            header[f"{layer}/{name}"] = {"dtype": "F32", "shape": list(moved.shape), "data_offsets": offsets}
            arrays.append((moved, end))
            end += moved.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # values begin at a multiple of 8
    if len(text) > _MAX_HEADER:
        raise OutputError(f"the names of {len(arrays)} arrays take {len(text)} bytes; .safetensors takes {_MAX_HEADER}")
    start = 8 + len(text)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(start + end)
    _files.write_places(path, ((moved, start + offset) for moved, offset in arrays), progress)


def load(path: str) -> Weights:
    """Read without a map, whose pages a file that is cut meanwhile would take away."""
    weights: Weights = {}
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, _MAX_HEADER):
                raise ParseError(f"its header claims {length} bytes")
            header = json.loads(file.read(length))
            if not isinstance(header, dict):
                raise ParseError("its header is no dictionary")
            header.pop("__metadata__", None)
            end = 0
            for key, item in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
                dtype, shape, (start, stop) = item["dtype"], item["shape"], item["data_offsets"]
                if dtype not in _DTYPES:
                    raise ParseError(f"'{key}' holds values of type {str(dtype)[:20]}; takes {', '.join(_DTYPES)}")
                if len(shape) > MAX_AXES or not all(type(n) is int and n >= 0 for n in shape):
                    raise ParseError(f"'{key}' has the shape {str(shape)[:60]}")
                kind = np.dtype(_DTYPES[dtype])
                if start != end or stop - start != math.prod(shape) * kind.itemsize or stop > size - 8 - length:
                    raise ParseError(f"'{key}' of shape {shape} does not lie at the bytes {start} to {stop}")
                end = stop
                values = filled(file, tuple(shape), kind)
                if dtype == "BF16":  # the upper half of a float32
                    values = (values.astype(np.uint32) << 16).view(np.float32)
                layer, name = _files.split_key(key)
                weights.setdefault(layer, {})[name] = float32(values, f"'{key}'")
    except (ParseError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ParseError(f"{path}: is not a .safetensors of weights ({why.splitlines()[0]})") from None
    return weights
