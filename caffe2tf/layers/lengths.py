"""Layers of Caffe's forks that measure vectors by the root of the sum of their squares."""

from caffe2tf.arrays.layout import Shape, to_keras
from caffe2tf.layers.base import Layer
from caffe2tf.layers.types import Context, Field, Fields, Tensor


class L2Norm(Layer, type="L2Norm"):
    """x / sqrt(sum x^2) of each item (l2_norm_layer.cpp of MSRCCS/Caffe).

    Other forks' layers of the name sum over the channels of each place, so an item has no places: it is (N, C) or
    (N, C, 1, 1).
    """

    works_in_place = True

    def tops(self) -> list[Shape]:
        if len(self.bottoms[0]) < 2 or max(self.bottoms[0][2:], default=1) > 1:
            self.fail(f"bottom of shape {self.bottoms[0]}; takes (N, C) or (N, C, 1, 1): forks disagree on others")
        return super().tops()

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return x * ctx.ops.rsqrt(ctx.ops.sum(x * x, axis=to_keras(1, len(x.shape)), keepdims=True))


class ChannelNorm(Layer, type="ChannelNorm", rank=4):
    """The length of each place's vector of channels, sqrt(sum x^2): top (N, 1, H, W) (channel_norm_layer.cu of
    FlowNet 2)."""

    def tops(self) -> list[Shape]:
        n, _, h, w = self.bottoms[0]
        return [(n, 1, h, w)]

    def receptive(self, fields: Fields) -> Field | None:
        return self.widest(fields)

    def any_size(self) -> bool:
        return True

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.ops.sqrt(ctx.ops.sum(x * x, axis=-1, keepdims=True))
