"""One value in, one value out."""

import math
from collections.abc import Sequence

import numpy as np

from caffe2tf.arrays.layout import Shape, is_spatial, to_keras
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import Layer, Weight
from caffe2tf.layers.types import Context, Field, Fields, Tensor


class _Pointwise(Layer, type=""):
    """Any shape, unchanged."""

    works_in_place = True

    def receptive(self, fields: Fields) -> Field | None:
        return self.widest(fields)

    def any_size(self) -> bool:
        return True


class ReLU(_Pointwise, type="ReLU", param="relu_param", fields="negative_slope"):
    """max(0, x) + negative_slope * min(0, x) (relu_layer.cpp). Without a slope -inf gives 0, Caffe's 0 * -inf is NaN."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        if self.p.negative_slope < 0:  # Keras's layer takes none
            return ctx.ops.relu(x) + self.p.negative_slope * ctx.ops.minimum(x, 0.0)
        return ctx.layers.ReLU(negative_slope=self.p.negative_slope, name=ctx.name)(x)


class ReLU6(_Pointwise, type="ReLU6"):
    """min(max(0, x), 6) (MobileNet forks)."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.layers.ReLU(max_value=6.0, name=ctx.name)(x)


class PReLU(_Pointwise, type="PReLU", param="prelu_param", fields="channel_shared"):
    """max(0, x) + alpha * min(0, x) with one alpha per channel, or one for all. Blob: alpha (C) or () (prelu_layer.cpp)."""

    def tops(self) -> list[Shape]:
        if not 2 <= len(self.bottoms[0]) <= 4:
            self.fail(f"bottom of shape {self.bottoms[0]}; takes 2 to 4 axes")
        return super().tops()

    def blobs(self) -> list[Weight]:
        shape = () if self.p.channel_shared else (self.bottoms[0][1],)
        return [Weight("alpha", shape, filler="filler", start=0.25)]

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        rank = len(x.shape)
        channel = to_keras(1, rank)
        shared = [a for a in range(1, rank) if self.p.channel_shared or a != channel]
        layer = ctx.layers.PReLU(shared_axes=shared or None, alpha_initializer="zeros", name=ctx.name)
        return ctx.bind(layer, alpha="alpha")(x)


class ELU(_Pointwise, type="ELU", param="elu_param", fields="alpha"):
    """x where x > 0, else alpha * (e^x - 1)."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.layers.ELU(alpha=self.p.alpha, name=ctx.name)(x)


class Sigmoid(_Pointwise, type="Sigmoid", param="sigmoid_param"):
    """1 / (1 + e^-x)."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.layers.Activation("sigmoid", name=ctx.name)(x)


class TanH(_Pointwise, type="TanH", param="tanh_param"):
    """tanh x."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.layers.Activation("tanh", name=ctx.name)(x)


class Swish(_Pointwise, type="Swish", param="swish_param", fields="beta"):
    """x * sigmoid(beta * x)."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return x * ctx.ops.sigmoid(self.p.beta * x)


class Mish(_Pointwise, type="Mish"):
    """x * tanh(log(1 + e^x)) (Misra 2019; mish_layer.cpp of the forks that run YOLO v4)."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return x * ctx.ops.tanh(ctx.ops.softplus(x))


class SeLu(_Pointwise, type="SeLu SeLU", param="selu_param", fields="lambda alpha"):
    """lambda * x where x > 0, else lambda * alpha * (e^x - 1) (Klambauer et al. 2017; selu_layer.cpp)."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.ops.elu(x, self.p.alpha) * getattr(self.p, "lambda")


class BNLL(_Pointwise, type="BNLL"):
    """log(1 + e^x)."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.layers.Activation("softplus", name=ctx.name)(x)


class AbsVal(_Pointwise, type="AbsVal"):
    """|x| (absval_layer.cpp)."""

    works_in_place = False

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.ops.absolute(x)


class Clip(_Pointwise, type="Clip", param="clip_param", fields="min max"):
    """x, but at least min and at most max; NaN gives min, as Caffe's comparisons do (clip_layer.cpp)."""

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if not (self.p.HasField("min") and self.p.HasField("max")):
            self.fail("clip_param must set min and max")

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.ops.where(x > self.p.min, ctx.ops.minimum(x, self.p.max), self.p.min)


class BReLU(_Pointwise, type="BReLU", param="brelu_param", fields="minval maxval"):
    """x, but at least minval and then at most maxval (Cai et al., DehazeNet; brelu_layer.cpp)."""

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if not (self.p.HasField("minval") and self.p.HasField("maxval")):
            self.fail("brelu_param must set minval and maxval")

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.ops.minimum(ctx.ops.maximum(x, self.p.minval), self.p.maxval)


class Threshold(_Pointwise, type="Threshold", param="threshold_param", fields="threshold"):
    """1 where x > threshold, else 0."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.ops.cast(ctx.ops.greater(x, self.p.threshold), "float32")


class Dropout(_Pointwise, type="Dropout", param="dropout_param", fields="dropout_ratio"):
    """Nothing at inference; in training each value is zeroed with dropout_ratio and the others grow to keep the mean."""

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if self.in_training():
            self.fail("its own phase is TRAIN, so it drops values at random at inference too; leave `phase` out")
        if not 0 <= self.p.dropout_ratio <= 1:
            self.fail(f"dropout_ratio {self.p.dropout_ratio:g}; takes a share from 0 to 1")

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.layers.Dropout(self.p.dropout_ratio, name=ctx.name)(x)


class SeLuDropout(Dropout, type="SeLuDropout SeLUDropout", param="selu_dropout_param", fields="dropout_ratio alpha"):
    """Nothing at inference; in training values become alpha with dropout_ratio, and all are scaled to keep mean and
    variance (Klambauer et al. 2017; selu_dropout_layer.cpp)."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.layers.AlphaDropout(self.p.dropout_ratio, name=ctx.name)(x)


class Power(_Pointwise, type="Power", param="power_param", fields="power scale shift"):
    """(shift + scale * x) ^ power; power 0 gives 1 (power_layer.cpp)."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        if self.p.power * self.p.scale == 0:  # a constant, of NaN too
            return ctx.ops.full_like(
                x, float(np.power(np.float32(self.p.shift), self.p.power)) if self.p.power else 1.0
            )
        y = x if self.p.scale == 1 else x * self.p.scale
        y = y + self.p.shift if self.p.shift else y  # 0 added to -0 would make it 0
        if self.p.power == 2:
            return y * y  # exact for negative values too
        if self.p.power == -1:
            return 1 / y  # a vectorized power rounds equal values otherwise at the end of a row, which breaks ties
        return y if self.p.power == 1 else ctx.ops.power(y, self.p.power)


class Exp(_Pointwise, type="Exp", param="exp_param", fields="base scale shift"):
    """base ^ (shift + scale * x); base -1 stands for e (exp_layer.cpp)."""

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        base = _log_base(self)
        return ctx.ops.exp((x * self.p.scale + self.p.shift) * base)


class Log(_Pointwise, type="Log", param="log_param", fields="base scale shift"):
    """log_base(shift + scale * x); base -1 stands for e (log_layer.cpp)."""

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if _log_base(self) == 0:
            self.fail("base 1; no number but 1 is a power of it")

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        base = _log_base(self)
        return ctx.ops.log(x * self.p.scale + self.p.shift) / base


def _log_base(layer: Layer) -> float:
    base = layer.p.base
    if base != -1 and base <= 0:
        layer.fail(f"base {base}; takes a number above 0, or -1 for e")
    return 1.0 if base == -1 else math.log(base)


class Softmax(Layer, type="Softmax", param="softmax_param", fields="axis"):
    """e^x / sum of e^x along `axis`, the channels by default (softmax_layer.cpp).

    Said in four operations: TensorFlow's own softmax gives 0 beside a NaN where Caffe gives NaN, and takes five axes at
    most.
    """

    works_in_place = True

    def tops(self) -> list[Shape]:
        self.axis(self.p.axis)
        return super().tops()

    def receptive(self, fields: Fields) -> Field | None:
        return self.widest(fields) if self.axis(self.p.axis) == 1 else None

    def any_size(self) -> bool:
        return is_spatial(len(self.bottoms[0])) and self.axis(self.p.axis) == 1

    def fixes_batch(self) -> bool:
        return self.axis(self.p.axis) == 0

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        axis = to_keras(self.axis(self.p.axis), len(x.shape))
        x = ctx.whole(x)  # sums of many exponentials lose too much in half precision
        y = ctx.ops.exp(x - ctx.ops.max(x, axis=axis, keepdims=True))
        return y / ctx.ops.sum(y, axis=axis, keepdims=True)
