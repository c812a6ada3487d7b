"""Layers without bottoms."""

from collections.abc import Sequence

import numpy as np

from caffe2tf.arrays.layout import Array, Shape
from caffe2tf.layers.base import Layer, Weight


class Input(Layer, type="Input", param="input_param", fields="shape", bottoms=0, tops=(1, None)):
    """What the caller gives. One shape for all tops, or one for each."""

    def tops(self) -> list[Shape]:
        shapes = [tuple(shape.dim) for shape in self.p.shape]
        count = len(self.proto.top)
        if len(shapes) not in (1, count):
            self.fail(f"{len(shapes)} shapes for {count} tops; takes one, or one for each (`input_shape` sets it)")
        for shape in shapes:
            if any(extent < 1 for extent in shape):
                self.fail(f"shape {shape} has an extent below 1")
        return shapes * count if len(shapes) == 1 else shapes

    def fixes_batch(self) -> bool:
        return False


class DummyData(
    Layer,
    type="DummyData",
    param="dummy_data_param",
    fields="shape num channels height width data_filler",
    bottoms=0,
    tops=(1, None),
):
    """The same constant at every run; one with a random filler comes as an Input."""

    def tops(self) -> list[Shape]:
        if self.p.shape:
            shapes = [tuple(shape.dim) for shape in self.p.shape]
        else:
            count, four = len(self.proto.top), (self.p.num, self.p.channels, self.p.height, self.p.width)
            if any(len(extents) not in (1, count) for extents in four):
                self.fail(
                    f"{', '.join(str(len(e)) for e in four)} values of num, channels, height and width for {count} tops; "
                    f"each takes 1 or {count}"
                )
            shapes = list(zip(*(list(e) * count if len(e) == 1 else e for e in four), strict=True))
        count = len(self.proto.top)
        if len(shapes) not in (1, count) or len(self.p.data_filler) not in (0, 1, count):
            self.fail(f"{len(shapes)} shapes and {len(self.p.data_filler)} fillers for {count} tops")
        return shapes * count if len(shapes) == 1 else shapes

    def constant(self, arrays: Sequence[Array] = ()) -> list[Array] | None:
        values = [filler.value for filler in self.p.data_filler] or [0.0]
        shapes = self.tops()
        values = values * len(shapes) if len(values) == 1 else values
        return [np.full(shape, value, np.float32) for shape, value in zip(shapes, values, strict=True)]


class ContinuationIndicator(
    Layer,
    type="ContinuationIndicator",
    param="continuation_indicator_param",
    fields="time_step batch_size",
    bottoms=0,
):
    """What LSTM and RNN take beside one sequence for each item: (time_step, batch_size), 0 in the first row and 1 after
    (continuation_indicator_layer.cpp of the OCR forks)."""

    def tops(self) -> list[Shape]:
        shape = (self.p.time_step, self.p.batch_size)
        if min(shape) < 1:
            self.fail(f"time_step {shape[0]} and batch_size {shape[1]}; both must be at least 1")
        return [shape]

    def constant(self, arrays: Sequence[Array] = ()) -> list[Array] | None:
        going = np.ones(self.tops()[0], np.float32)
        going[0] = 0.0
        return [going]


class Parameter(Layer, type="Parameter", param="parameter_param", fields="shape", bottoms=0):
    """A learned blob as a top. Blob: `value` of the shape that is set."""

    def tops(self) -> list[Shape]:
        return [tuple(self.p.shape.dim)]

    def blobs(self) -> list[Weight]:
        return [Weight("value", tuple(self.p.shape.dim), start=0.0)]

    def constant(self, arrays: Sequence[Array] = ()) -> list[Array] | None:
        return list(arrays)
