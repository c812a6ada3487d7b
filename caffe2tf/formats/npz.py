"""NumPy archive without pickle: `conv1/kernel`, `conv1/bias`, ...

Read it with `numpy.load(path)`.
"""

import zipfile

import numpy as np

from caffe2tf.arrays import numbers as arrays
from caffe2tf.errors import OutputError, ParseError
from caffe2tf.formats import _files
from caffe2tf.formats._files import Progress, Weights
from caffe2tf.net.net import Net


def save(net: Net, path: str, progress: Progress | None = None) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for layer, made in _files.arrays(net, progress):
            if "\0" in layer:
                raise OutputError(
                    f"layer '{layer}': in a .npz a name ends at a zero byte; use .npy, .h5 or .safetensors"
                )
            for name, array in made.items():
                with archive.open(f"{layer}/{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)


def load(path: str) -> Weights:
    weights: Weights = {}
    try:
        for key, array in arrays.read_npz(path):
            layer, name = _files.split_key(key)
            weights.setdefault(layer, {})[name] = arrays.float32(array, f"'{key}'")
    except ParseError as error:
        raise ParseError(f"{path}: is not a .npz of weights ({error})") from None
    return weights
