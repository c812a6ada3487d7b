"""HDF5 that a Keras model with layers of the same names loads: `model.load_weights(path, by_name=True)`.

One group per layer under its Keras name (a `/` in Caffe's is `_`), with Caffe's name as an attribute.
"""

import h5py
import numpy as np

from caffe2tf.errors import ParseError
from caffe2tf.formats import _files
from caffe2tf.names import keras_names


def save(net, path, progress=None):
    names, places = keras_names(net), []
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        # Keras's legacy layout: names in attributes, datasets below groups of the same names.
        file.attrs["layer_names"] = [names[layer].encode() for layer in net.arrays]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.0"
        for layer in net.arrays:
            group = file.create_group(names[layer])
            moved = net.moved(layer)
            group.attrs["weight_names"] = [f"{names[layer]}/{name}:0".encode() for name in moved]
            group.attrs["caffe_name"] = layer
            inner = group.create_group(names[layer])
            for name, array in moved.items():
                space = h5py.h5s.create_simple(array.shape) if array.shape else h5py.h5s.create(h5py.h5s.SCALAR)
                data = h5py.h5d.create(inner.id, f"{name}:0".encode(), h5py.h5t.IEEE_F32LE, space, early)
                places.append((array, data.get_offset()))
    _files.write_places(path, places, progress)


def load(path):
    weights = {}
    try:
        with h5py.File(path, "r") as file:
            for key in file.attrs["layer_names"]:
                group = file[key]
                layer = weights.setdefault(str(group.attrs["caffe_name"]), {})
                for name in group.attrs["weight_names"]:
                    name = name.decode() if isinstance(name, bytes) else name
                    layer[name.rpartition("/")[2].removesuffix(":0")] = np.asarray(group[name])
    except (OSError, KeyError, RuntimeError) as error:
        raise ParseError(f"{path}: is not an .h5 that caffe2tf wrote ({str(error).splitlines()[0]})") from None
    return weights
