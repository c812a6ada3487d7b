"""Several values in, one value out: sums, maxima, reductions."""

import functools

import numpy as np

from caffe2tf.caffe_pb2 import EltwiseParameter, ReductionParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layout import to_keras


class Eltwise(Layer, type="Eltwise", param="eltwise_param", fields="operation coeff", bottoms=(2, None)):
    """The product, the sum (each times its coeff) or the maximum of bottoms of one shape (eltwise_layer.cpp)."""

    def tops(self):
        self.need_equal()
        count = len(self.p.coeff)
        if count and (count != len(self.bottoms) or self.p.operation != EltwiseParameter.SUM):
            self.fail(
                f"{count} coeff for {len(self.bottoms)} bottoms; SUM takes none or one for each, PROD and MAX none"
            )
        return [self.bottoms[0]]

    def receptive(self, fields):
        return self.widest(fields)

    def any_size(self):
        return True

    def build(self, keras, *xs):
        operation = EltwiseParameter.EltwiseOp.Name(self.p.operation)
        if operation == "SUM" and self.p.coeff:
            xs = [x if c == 1 else x * c for x, c in zip(xs, self.p.coeff, strict=True)]
        if not all(isinstance(x, keras.KerasTensor) for x in xs):  # Keras's layers take no constants
            merge = {"PROD": keras.ops.multiply, "SUM": keras.ops.add, "MAX": keras.ops.maximum}[operation]
            return functools.reduce(merge, xs)
        layer = {"PROD": keras.layers.Multiply, "SUM": keras.layers.Add, "MAX": keras.layers.Maximum}[operation]
        return layer(name=self.keras_name)(list(xs))


class Axpy(Layer, type="Axpy", bottoms=3):
    """a * x + y with one a per item and channel (SENet)."""

    def tops(self):
        a, x, y = self.bottoms
        if x != y or len(x) != 4 or tuple(a) not in ((*x[:2], 1, 1), tuple(x[:2])):
            self.fail(f"bottoms of shapes {a}, {x}, {y}; takes a (N, C) or (N, C, 1, 1), x and y (N, C, H, W)")
        return [x]

    def receptive(self, fields):
        a, x, y = fields
        return self.widest([x, y, a])

    def any_size(self):
        return True

    def build(self, keras, a, x, y):
        a = keras.ops.reshape(a, (-1, 1, 1, self.bottoms[1][1]))
        return keras.layers.Add(name=self.sublayer("add"))([a * x, y])


class Reduction(Layer, type="Reduction", param="reduction_param", fields="operation axis coeff"):
    """coeff times SUM, ASUM (of |x|), SUMSQ or MEAN over `axis` and all after it (reduction_layer.cpp)."""

    def tops(self):
        return [self.bottoms[0][: self.axis(self.p.axis)]]

    def fixes_batch(self):
        return self.axis(self.p.axis) == 0

    def build(self, keras, x):
        ops, first = keras.ops, self.axis(self.p.axis)
        x = self.to_caffe_order(keras, x)
        operation = ReductionParameter.ReductionOp.Name(self.p.operation)
        if operation == "ASUM":
            x = ops.absolute(x)
        elif operation == "SUMSQ":
            x = x * x
        reduce = ops.mean if operation == "MEAN" else ops.sum
        return self.to_keras_order(keras, reduce(x, axis=tuple(range(first, len(x.shape)))) * self.p.coeff)


class ArgMax(Layer, type="ArgMax", param="argmax_param", fields="out_max_val top_k axis"):
    """The places of the top_k largest values, or the values, along `axis` or over each whole item (argmax_layer.cpp)."""

    def _length(self):
        shape = self.bottoms[0]
        return shape[self.axis(self.p.axis)] if self.p.HasField("axis") else int(np.prod(shape[1:]))

    def tops(self):
        shape, k = list(self.bottoms[0]), self.p.top_k
        if not 1 <= k <= self._length():
            self.fail(f"top_k {k} of {self._length()} values")
        if self.p.HasField("axis"):
            shape[self.axis(self.p.axis)] = k
            return [tuple(shape)]
        top = [1] * max(3, len(shape))
        top[0], top[1], top[2] = shape[0], 2 if self.p.out_max_val else 1, k
        return [tuple(top)]

    def fixes_batch(self):
        return self.p.HasField("axis") and self.axis(self.p.axis) == 0

    def build(self, keras, x):
        ops, k, length = keras.ops, self.p.top_k, self._length()
        if self.p.HasField("axis"):
            axis = to_keras(self.axis(self.p.axis), len(x.shape))
            x = ops.moveaxis(x, axis, -1)
        else:
            x = ops.reshape(self.to_caffe_order(keras, x), (-1, length))
        # Of equal values Caffe takes the later place first, top_k the earlier: so it runs from the end.
        values, places = ops.top_k(ops.flip(x, axis=-1), k)
        places = ops.cast(length - 1 - places, "float32")
        if self.p.HasField("axis"):
            return ops.moveaxis(values if self.p.out_max_val else places, -1, axis)
        y = ops.stack([places, values], axis=1) if self.p.out_max_val else ops.expand_dims(places, 1)
        return self.reshape(keras, y, self.tops()[0])
