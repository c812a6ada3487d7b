"""Several values in, one value out: sums, maxima, reductions."""

import numpy as np

from caffe2tf.arrays.layout import Shape, to_keras
from caffe2tf.caffe.caffe_pb2 import EltwiseParameter, ReductionParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.types import Context, Field, Fields, Tensor

_LOWEST = float(np.finfo(np.float32).min)  # -FLT_MAX


class Eltwise(Layer, type="Eltwise", param="eltwise_param", fields="operation coeff", bottoms=(2, None)):
    """The product, the sum (each times its coeff) or the maximum of bottoms of one shape (eltwise_layer.cpp).

    The top is written from the first bottom to the last: in place, SUM has set its own bottom to 0 before it adds it, and MAX
    to -FLT_MAX before it compares it. MAX takes the first of two values where it is larger, else the second, so that a NaN counts only there.
    """

    works_in_place = True

    def tops(self) -> list[Shape]:
        self.need_equal()
        count = len(self.p.coeff)
        if count not in (0, len(self.bottoms)) or (count and self.p.operation == EltwiseParameter.PROD):
            self.fail(
                f"{count} coeff for {len(self.bottoms)} bottoms; SUM and MAX take none or one for each, PROD none"
            )
        return [self.bottoms[0]]

    def receptive(self, fields: Fields) -> Field | None:
        return self.widest(fields)

    def any_size(self) -> bool:
        return True

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        operation = EltwiseParameter.EltwiseOp.Name(self.p.operation)
        coeff = list(self.p.coeff) if operation == "SUM" and self.p.coeff else [1.0] * len(xs)
        plain = all(c == 1 for c in coeff) and not self.aliased and self.bottoms[0]
        if plain and operation != "MAX":
            layer = {"PROD": ctx.layers.Multiply, "SUM": ctx.layers.Add}[operation]
            return layer(name=ctx.name)(list(xs))
        if self.aliased and operation != "PROD":
            blank = ctx.ops.full_like(xs[0], 0.0 if operation == "SUM" else _LOWEST)
            xs = tuple(blank if index in self.aliased and index < 2 else x for index, x in enumerate(xs))
        top = xs[0] if coeff[0] == 1 else xs[0] * coeff[0]
        for index, (x, c) in enumerate(zip(xs[1:], coeff[1:], strict=True), 1):
            x = top if index in self.aliased and index > 1 else x
            if operation == "SUM":
                top = top + (x if c == 1 else x * c)
            elif operation == "PROD":
                top = top * x
            else:
                # The first two are compared as (a > b ? a : b), each after them as (c > top ? c : top).
                top = ctx.ops.where(top > x, top, x) if index == 1 else ctx.ops.where(x > top, x, top)
        return top


class Axpy(Layer, type="Axpy", bottoms=3):
    """a * x + y with one a per item and channel (SENet)."""

    def tops(self) -> list[Shape]:
        a, x, y = self.bottoms
        if x != y or len(x) != 4 or tuple(a) not in ((*x[:2], 1, 1), tuple(x[:2])):
            self.fail(f"bottoms of shapes {a}, {x}, {y}; takes a (N, C) or (N, C, 1, 1), x and y (N, C, H, W)")
        return [x]

    def receptive(self, fields: Fields) -> Field | None:
        a, x, y = fields
        return self.widest([x, y, a])

    def any_size(self) -> bool:
        return True

    def build(self, ctx: Context, a: Tensor, x: Tensor, y: Tensor) -> Tensor | list[Tensor]:
        a = ctx.ops.reshape(a, (-1, 1, 1, self.bottoms[1][1]))
        return ctx.layers.Add(name=ctx.name)([a * x, y])


class Reduction(Layer, type="Reduction", param="reduction_param", fields="operation axis coeff"):
    """coeff times SUM, ASUM (of |x|), SUMSQ or MEAN over `axis` and all after it (reduction_layer.cpp)."""

    def tops(self) -> list[Shape]:
        return [self.bottoms[0][: self.axis(self.p.axis)]]

    def fixes_batch(self) -> bool:
        return self.axis(self.p.axis) == 0

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        ops, first = ctx.ops, self.axis(self.p.axis)
        x = self.to_caffe_order(ctx, x)
        operation = ReductionParameter.ReductionOp.Name(self.p.operation)
        if operation == "ASUM":
            x = ops.absolute(x)
        elif operation == "SUMSQ":
            x = x * x
        reduce = ops.mean if operation == "MEAN" else ops.sum
        return self.to_keras_order(ctx, reduce(x, axis=tuple(range(first, len(x.shape)))) * self.p.coeff)


class ArgMax(Layer, type="ArgMax", param="argmax_param", fields="out_max_val top_k axis"):
    """The places of the top_k largest values, or the values, along `axis` or over each whole item (argmax_layer.cpp).

    Where values hold NaN, top_k above 1 may name other places than the heap of Caffe's partial_sort.
    """

    def _length(self) -> int:
        shape = self.bottoms[0]
        return shape[self.axis(self.p.axis)] if self.p.HasField("axis") else int(np.prod(shape[1:]))

    def tops(self) -> list[Shape]:
        shape, k = list(self.bottoms[0]), self.p.top_k
        if not shape:
            self.fail("bottom without axes; takes at least one")
        if not 1 <= k <= self._length():
            self.fail(f"top_k {k} of {self._length()} values")
        if self.p.HasField("axis"):
            shape[self.axis(self.p.axis)] = k
            return [tuple(shape)]
        top = [1] * max(3, len(shape))
        top[0], top[1], top[2] = shape[0], 2 if self.p.out_max_val else 1, k
        return [tuple(top)]

    def fixes_batch(self) -> bool:
        return self.p.HasField("axis") and self.axis(self.p.axis) == 0

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        ops, k = ctx.ops, self.p.top_k
        if self.p.HasField("axis"):
            axis = to_keras(self.axis(self.p.axis), len(x.shape))
            x = ops.moveaxis(x, axis, -1)
        else:
            x = ops.reshape(
                self.to_caffe_order(ctx, x), (-1, self._length()) if x.shape[0] is None else (x.shape[0], -1)
            )
        # How many values there are is known only at run time behind a Filter.
        place = ops.cumsum(ops.ones_like(x), axis=-1) - 1.0
        last = ops.max(place, axis=-1, keepdims=True)
        if k == 1:
            # Caffe keeps the first value only where it is larger than the next: whatever follows a NaN takes its place.
            after = ops.max(ops.where(ops.isnan(x), place, -1.0), axis=-1, keepdims=True)
            key = ops.where(place > after, x, ops.where(place == last, 0.0, -np.inf))
        else:
            key = x
        # Of equal values Caffe takes the later place first, top_k the earlier: so it runs from the end.
        values, places = ops.top_k(ops.flip(key, axis=-1), k)
        if k == 1:
            values = ops.take_along_axis(ops.flip(x, axis=-1), places, axis=-1)
        places = last - ops.cast(places, "float32")
        if self.p.HasField("axis"):
            return ops.moveaxis(values if self.p.out_max_val else places, -1, axis)
        y = ops.stack([places, values], axis=1) if self.p.out_max_val else ops.expand_dims(places, 1)
        return self.reshape(ctx, y, self.tops()[0])
