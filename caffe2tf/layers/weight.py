"""One array of a layer, from Caffe's shape to Keras's and back."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caffe2tf.arrays import layout
from caffe2tf.arrays.layout import Array, Shape


@dataclass(frozen=True)
class Weight:
    """One array of a layer: Caffe's shape, and how its axes lie in Keras.

    The values go through three steps, each exact and undone by `to_caffe`: axes split into `split`, ordered by
    `axes`, merged into `merged`. `gates` orders the first axis of `split` (LSTM). `filler` is the layer's parameter that
    says how its values start, `start` the value where that is not set; None where they must be said. `unset` is what Caffe
    leaves there where neither a file nor a filler says anything: `start`, or 0.
    """

    name: str
    shape: Shape
    split: Shape | None = None
    axes: tuple[int, ...] | None = None
    merged: Shape | None = None
    gates: tuple[int, ...] | None = None
    filler: str | None = None
    start: float | None = None
    unset: float | None = None

    @property
    def keras_shape(self) -> Shape:
        if self.merged is not None:
            return self.merged
        split = self.split or self.shape
        return tuple(split[axis] for axis in self.axes) if self.axes else split

    def to_keras(self, array: Array) -> layout.Moved:
        """`array` of `shape` on its way to Keras's layout, a layout.Moved."""
        array = array.reshape(self.split or self.shape)
        if self.gates:
            array = array[list(self.gates)]
        return layout.Moved(array.transpose(self.axes) if self.axes else array, self.keras_shape)

    def to_caffe(self, array: npt.ArrayLike) -> Array:
        """The inverse of `to_keras`."""
        split = self.split or self.shape
        axes = self.axes or tuple(range(len(split)))
        found = np.asarray(array).reshape([split[axis] for axis in axes]).transpose(np.argsort(axes))
        if self.gates:
            found = found[np.argsort(self.gates)]
        return layout.contiguous(found).reshape(self.shape)
