"""HDF5 that a Keras model with layers of the same names loads: `model.load_weights(path, by_name=True)`.

One group per layer under its Keras name (a `/` in Caffe's is `_`), with Caffe's name as an attribute.
"""

import os

import h5py
import numpy as np

from caffe2tf.arrays import float32
from caffe2tf.errors import ParseError
from caffe2tf.formats import _files
from caffe2tf.names import keras_names

_UNFOLDS = 100  # times, that a packed data set may be larger than what the file holds of it


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
    """Reads what lies in the file itself: links to other places and values kept outside are refused, as is a data set that
    claims more than the file can hold."""
    weights, size = {}, os.path.getsize(path) if os.path.isfile(path) else 0
    try:
        with h5py.File(path, "r") as file:
            left = [size]
            for key in _names(file, "layer_names", size):
                group = _inside(file, key)
                layer = weights.setdefault(str(group.attrs["caffe_name"]), {})
                for name in _names(group, "weight_names", size):
                    values = _values(_inside(group, name), f"'{name}'", left)
                    layer[name.rpartition("/")[2].removesuffix(":0")] = values
    except ParseError as error:
        raise ParseError(f"{path}: {error}") from None
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ParseError(f"{path}: is not an .h5 that caffe2tf wrote ({why})") from None
    return weights


def _names(group, attribute, size):
    """The texts in an attribute. Its claim is seen first: in a damaged file it may be of any size."""
    kind = group.attrs.get_id(attribute)
    if kind.get_storage_size() > size or len(kind.shape) != 1 or kind.shape[0] > size:
        raise ParseError(f"is damaged: '{attribute}' claims more than the file holds")
    return [
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]
    ]


def _inside(group, path):
    """What `path` names in `group`, through links of the file's own alone: a damaged or hostile one leads elsewhere."""
    for part in path.split("/"):
        if not isinstance(group, h5py.Group) or not part or part == ".":
            raise ParseError(f"is damaged: '{path}' is not there")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ParseError(f"'{path}' is a link to another place; takes what the file holds itself")
        group = group[part]
    return group


def _values(found, where, left):
    """The float32 array of a data set; `left`: [bytes that the file may still unfold to, before `check_claim`'s factor]."""
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise ParseError(f"{where} is no data set with values")
    if found.external or found.is_virtual:
        raise ParseError(f"the values of {where} lie in other files; takes what the file holds itself")
    if found.dtype.kind not in "fiu":
        raise ParseError(f"{where} holds values of type {found.dtype}; takes real numbers (floats or integers)")
    stored = found.id.get_storage_size()
    if found.nbytes > stored and (found.chunks is None or found.nbytes > _UNFOLDS * stored):
        raise ParseError(f"{where} claims {found.nbytes} bytes of values and holds {stored}")
    left[0] -= stored
    if left[0] < 0:
        raise ParseError(f"is damaged: its data sets hold more than the file ({where})")
    return float32(np.asarray(found), where)
