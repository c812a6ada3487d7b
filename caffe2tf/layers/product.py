"""Layers that multiply by a matrix without windows."""

import math
from collections.abc import Sequence

from caffe2tf.arrays.layout import Array, OpenShape, Shape, Shaped, is_spatial
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.errors import NetError
from caffe2tf.layers.base import Layer, Weight
from caffe2tf.layers.types import Context, Mistake, Tensor


class InnerProduct(
    Layer, type="InnerProduct", param="inner_product_param", fields="num_output bias_term axis transpose"
):
    """y = W x + b over all axes from `axis` on, taken in the order C, H, W (inner_product_layer.cpp).

    Blobs: kernel (num_output, inputs), or (inputs, num_output) with `transpose`; bias (num_output). In Keras's layout
    (inputs, num_output), rows in the order H, W, C after a spatial bottom. In place the product has cleared its top, and
    with it the bottom, before it reads: the bias is left.
    """

    works_in_place = True

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        self.first = self.axis(self.p.axis)
        self.inputs = math.prod(bottoms[0][self.first :])
        self.outputs: int = self.p.num_output
        if self.outputs < 1:
            self.fail("num_output must be at least 1")

    @classmethod
    def settle(cls, proto: LayerParameter, bottom: OpenShape, blobs: Sequence[Shaped] | None) -> OpenShape:
        """`bottom` with unknown height and width (None) filled in from the weights where only a square fits."""
        p = proto.inner_product_param
        if not blobs or p.axis not in (1, -3, -4) or len(bottom) != 4 or bottom[1] is None:
            return bottom
        inputs = math.prod(blobs[0].shape) // max(1, p.num_output)
        side = math.isqrt(max(0, inputs // bottom[1]))
        if side * side * bottom[1] != inputs:
            raise NetError(
                f"layer '{proto.name}' (InnerProduct): {inputs} inputs are no square of {bottom[1]} channels, so the "
                "file does not tell its input size; give it with `input_shape`"
            )
        return (bottom[0], bottom[1], side, side)

    def tops(self) -> list[Shape]:
        return [(*self.bottoms[0][: self.first], self.outputs)]

    def _reordered(self) -> bool:
        return self.first == 1 and is_spatial(len(self.bottoms[0]))

    def blobs(self) -> list[Weight]:
        bias = [Weight("bias", (self.outputs,), filler="bias_filler", start=0.0)] if self.p.bias_term else []
        count = len(self.bottoms[0]) - 1 if self._reordered() else 1
        extents = self.bottoms[0][1:] if self._reordered() else (self.inputs,)
        rows = (*range(1, count), 0)  # C, H, W -> H, W, C
        if self.p.transpose:
            shape, split, axes = (self.inputs, self.outputs), (*extents, self.outputs), (*rows, count)
        else:
            shape, split, axes = (self.outputs, self.inputs), (self.outputs, *extents), (*(r + 1 for r in rows), 0)
        return [Weight("kernel", shape, split, axes, (self.inputs, self.outputs), filler="weight_filler"), *bias]

    def mistakes(self) -> list[Mistake]:
        extents = self.bottoms[0][1:]

        def reorder(proto: LayerParameter, weights: dict[str, Array]) -> None:
            rows = weights["kernel"].reshape(*extents, self.outputs)
            weights["kernel"] = rows.transpose(*range(1, len(extents)), 0, -1).reshape(self.inputs, self.outputs)

        return [("equal after permuting its rows from C, H, W to H, W, C", reorder)] if self._reordered() else []

    def multiply_adds(self) -> int:
        return math.prod(self.bottoms[0][1 : self.first]) * self.inputs * self.outputs

    def fixes_batch(self) -> bool:
        return self.first == 0

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        bias = {"bias": "bias"} if self.p.bias_term else {}
        dense = ctx.layers.Dense(self.outputs, use_bias=self.p.bias_term, kernel_initializer="zeros", name=ctx.name)
        dense = ctx.bind(dense, kernel="kernel", **bias)
        x = ctx.ops.zeros_like(x) if self.aliased else x
        if self._reordered():
            # Dense on (N, H * W * C): the kernel's rows are in that order, so nothing is moved at run time.
            return dense(ctx.layers.Flatten(data_format="channels_last", name=ctx.part("flatten"))(x))
        if len(x.shape) == 2 and self.first == 1:
            return dense(x)
        x = ctx.ops.reshape(self.to_caffe_order(ctx, x), (-1, self.inputs))
        return self.reshape(ctx, dense(x), self.tops()[0], free_first=self.first > 0)


class Embed(Layer, type="Embed", param="embed_param", fields="num_output input_dim bias_term"):
    """Row x of a table, plus a bias. Blobs: embeddings (input_dim, num_output), bias (num_output) (embed_layer.cpp)."""

    def tops(self) -> list[Shape]:
        return [(*self.bottoms[0], self.p.num_output)]

    def blobs(self) -> list[Weight]:
        table = Weight("embeddings", (self.p.input_dim, self.p.num_output), filler="weight_filler")
        bias = Weight("bias", (self.p.num_output,), filler="bias_filler", start=0.0)
        return [table, bias] if self.p.bias_term else [table]

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        x = self.to_caffe_order(ctx, x)
        layer = ctx.layers.Embedding(
            self.p.input_dim, self.p.num_output, embeddings_initializer="zeros", name=ctx.part("table")
        )
        y = ctx.bind(layer, embeddings="embeddings")(ctx.ops.cast(x, "int32"))
        if self.p.bias_term:
            y = ctx.ops.add(ctx.ops.reshape(ctx.held(x, "bias"), (1,) * len(self.bottoms[0]) + (-1,)), y)
        return self.to_keras_order(ctx, y)
