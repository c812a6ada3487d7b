"""What a .keras file claims, before memory is taken for it.

Keras first makes every weight that the configuration asks for, with values of chance, and then reads the file's own: a line of
text can ask for more than a machine has, and so can a data set that holds nothing.
"""

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any

import keras

from caffe2tf import words
from caffe2tf.errors import ParseError
from caffe2tf.keras_model.types import KerasModel

_SPARE = 1 << 18  # values beside twice what the file holds: layers may have weights that they do not save
_VALUES = 1 << 29  # of one output for one picture, 2 GiB: VGG-16 has as many for 2896 x 2896 pixels
_lock = threading.Lock()
_within = 0
_plain = keras.layers.Layer.add_weight
_this = threading.local()


def _counted(layer: Any, *args: Any, **options: Any) -> Any:
    """Keras's add_weight, of which every weight of every layer comes; in a thread that has a limit it counts."""
    if (left := getattr(_this, "left", None)) is not None:
        shape = options.get("shape", args[0] if args else ()) or ()
        many = math.prod(shape)
        if many > left:
            raise ParseError(
                f"layer '{layer.name}' claims a weight of {words.shape(shape)} values, more than the file holds"
            )
        _this.left = left - many
    return _plain(layer, *args, **options)


@contextlib.contextmanager
def bounded(values: int) -> Iterator[None]:
    """Layers that this thread makes within raise ParseError once they claim more weights than a file of so many `values` can
    fill, before memory is taken; other threads are left alone."""
    global _within
    with _lock:
        _within += 1
        keras.layers.Layer.add_weight = _counted
    _this.left = 2 * values + _SPARE
    try:
        yield
    finally:
        _this.left = None
        with _lock:
            _within -= 1
            if not _within:
                keras.layers.Layer.add_weight = _plain


def check_outputs(model: KerasModel) -> None:
    """Raises ParseError where an operation of `model`, or of a model within it, gives more than _VALUES for one picture."""
    for operation in getattr(model, "operations", getattr(model, "layers", ())):
        check_outputs(operation)
        for node in operation._inbound_nodes:
            for tensor in node.output_tensors:
                if math.prod(extent or 1 for extent in tensor.shape[1:]) > _VALUES:
                    raise ParseError(
                        f"layer '{operation.name}' claims an output of {words.shape(tensor.shape[1:])} values; "
                        f"takes {_VALUES} for one picture"
                    )
