"""Whole models are loaded again after writing and compared with the model in memory."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from caffe2tf.arrays.layout import Array
from caffe2tf.errors import OutputError

if TYPE_CHECKING:
    from caffe2tf.keras_model.pictures import Pictures
    from caffe2tf.keras_model.types import KerasModel
    from caffe2tf.net.net import Net


def model(net: "Net", given: "Pictures | None", bounded: bool = False) -> "KerasModel":
    """`net` as a keras.Model, of pictures where they are given; `bounded` is keras_model.context.Context's."""
    from caffe2tf.keras_model import model, pictures

    return pictures.to_keras(net, given, bounded) if given else model.build(net, bounded=bounded)[0]


def example(net: "Net", given: "Pictures | None" = None) -> list[Array]:
    """One input of each shape of `net`, channels last: values in 0..1, which are valid indices too. A size that is free
    is 64. Where the model takes pictures, 8-bit ones of another size than the network's."""
    from caffe2tf.arrays.layout import keras_order

    random = np.random.RandomState(0)
    if given:
        (shape,) = net.inputs.values()
        return [random.randint(0, 256, (shape[0] or 1, 70, 90, 3)).astype(np.uint8)]
    arrays = list[Array]()
    for extents in net.inputs.values():
        array = random.random_sample([64 if extent is None else extent for extent in extents]).astype(np.float32)
        arrays.append(np.ascontiguousarray(array.transpose(keras_order(array.ndim))))
    return arrays


def values(outputs: Any) -> list[Array]:
    """The arrays of a model's result: a tensor, a list or a dictionary of them."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    # PyTorch gives no values of a tensor that a gradient may still be asked of.
    return [np.asarray(output.detach() if hasattr(output, "detach") else output) for output in outputs]


def largest_difference(path: str, expected: Iterable[Array], found: Iterable[Array]) -> float:
    """Over all outputs. Raises OutputError where a shape differs or a value is not finite in one of them alone."""
    largest = 0.0
    for a, b in zip(expected, found, strict=True):
        if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
            raise OutputError(
                f"{path}: read back, it gives shape {b.shape} for {a.shape}, or other values that are not finite"
            )
        finite = np.isfinite(a)
        largest = max(largest, float(np.abs(a[finite] - b[finite]).max(initial=0.0)))
    return largest
