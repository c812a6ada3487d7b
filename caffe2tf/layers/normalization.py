"""Layers that bring values to a common scale."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from caffe2tf.arrays.layout import Array, Floats, Moved, Shape, is_spatial, to_keras
from caffe2tf.caffe.caffe_pb2 import BNParameter, LayerParameter, LRNParameter
from caffe2tf.layers.base import Layer, Weight
from caffe2tf.layers.types import Context, Field, Fields, Mistake, StoredBlob, Tensor


class LRN(Layer, type="LRN", param="lrn_param", fields="local_size alpha beta k norm_region", rank=4):
    """x / (k + alpha / n * sum x^2) ^ beta over n = local_size channels (lrn_layer.cpp). In place, the factor that x is
    multiplied by has overwritten x before: the top is the factor squared.

    On TensorFlow what is not finite reaches all channels of its place, not the window alone.

    WITHIN_CHANNEL: x / (1 + alpha / n^2 * sum x^2) ^ beta over an n x n window; k has no part in it.
    """

    works_in_place = True

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        self.region = LRNParameter.NormRegion.Name(self.p.norm_region)
        if self.p.local_size % 2 == 0:
            self.fail(
                f"lrn_param sets norm_region {self.region} with an even local_size {self.p.local_size}; Caffe requires an odd one"
            )

    def receptive(self, fields: Fields) -> Field | None:
        reach = self.p.local_size if self.region == "WITHIN_CHANNEL" else 1
        return self.windowed(fields, [(reach, 1)] * 2)

    def any_size(self) -> bool:
        return True

    def mistakes(self) -> list[Mistake]:
        area = self.p.local_size ** (1 if self.region == "ACROSS_CHANNELS" else 2)

        def divide(proto: LayerParameter, weights: dict[str, Array]) -> None:
            proto.lrn_param.alpha /= area

        def within(proto: LayerParameter, weights: dict[str, Array]) -> None:
            proto.lrn_param.norm_region = LRNParameter.WITHIN_CHANNEL

        return [("its alpha is not divided by local_size", divide), ("equal within a channel, not across", within)]

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        # Squares overflow in half precision.
        given, x = x, ctx.whole(x)
        y = self._normalized(ctx, x)
        return y if given is x else ctx.ops.cast(y, given.dtype)

    def _normalized(self, ctx: Context, x: Tensor) -> Tensor:
        n, squares = self.p.local_size, x * x
        if self.region == "WITHIN_CHANNEL":
            half = n // 2
            squares = ctx.ops.pad(squares, [(0, 0), (half, half), (half, half), (0, 0)])
            base = 1.0 + self.p.alpha * ctx.ops.average_pool(squares, n, 1, "valid", data_format="channels_last")
        else:
            base = self.p.k + self.p.alpha / n * self._window_sum(ctx, squares)
        if self.p.beta == 0.75:
            root = ctx.ops.rsqrt(base)
            factor = root * ctx.ops.sqrt(root)
        else:
            factor = ctx.ops.power(base, -self.p.beta)
        return factor * (factor if self.aliased and self.region == "ACROSS_CHANNELS" else x)

    def _window_sum(self, ctx: Context, squares: Tensor) -> Tensor:
        channels, half = self.bottoms[0][1], self.p.local_size // 2
        if ctx.backend == "tensorflow":
            # A band matrix as a 1x1 convolution: the fastest form there.
            place = np.arange(channels)
            band = (abs(place[:, None] - place[None]) <= half).astype(np.float32)
            return ctx.ops.conv(squares, band[None, None], padding="valid", data_format="channels_last")
        padded = ctx.ops.pad(squares, [(0, 0), (0, 0), (0, 0), (half, half)])
        total = padded[..., :channels]
        for shift in range(1, self.p.local_size):
            total = total + padded[..., shift : shift + channels]
        return total


class BatchNorm(Layer, type="BatchNorm", param="batch_norm_param", fields="use_global_stats eps scale_bias"):
    """(x - mean) / sqrt(variance + eps) per channel; the learned scale and shift are a Scale layer of their own.

    Blobs: mean (C), variance (C), and a factor (1) that both are divided by, 0 giving 0 (batch_norm_layer.cpp).

    With scale_bias, or a filler of either, it is NVCaffe's: gamma * that + beta, by stored statistics at inference
    whatever use_global_stats says, with an eps of at least 1e-5. Blobs: the three, of which the factor is not read,
    gamma (C) and beta (C); or, as DIGITS once wrote them, gamma, beta, mean, variance and one value more (its
    net.cpp).
    """

    works_in_place = True

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if len(bottoms[0]) < 2:
            self.fail(f"bottom of shape {bottoms[0]}; takes at least 2 axes")
        self.learned = self.p.scale_bias or self.p.HasField("scale_filler") or self.p.HasField("bias_filler")
        for spec in () if self.learned else proto.param:
            if spec.lr_mult:
                self.fail(f"a param sets lr_mult {spec.lr_mult:g} (1 where it says none); its statistics take 0")
        self.eps = max(self.p.eps, 1e-5) if self.learned else self.p.eps

    def batch_statistics(self) -> bool:
        """Whether it normalizes by the batch itself, as Caffe does in training."""
        if self.learned:
            return self.in_training()
        return not self.p.use_global_stats if self.p.HasField("use_global_stats") else self.in_training()

    def blobs(self) -> list[Weight]:
        c = self.bottoms[0][1]
        # Caffe starts all three at 0 and divides by the factor; Keras keeps no factor, so the variance starts at 1.
        starts = ("moving_mean", c, 0.0), ("moving_variance", c, 1.0), ("factor", 1, 1.0)
        weights = [Weight(name, (count,), start=start, unset=0.0) for name, count, start in starts]
        if self.learned:
            weights += [Weight("gamma", (c,), filler="scale_filler", start=1.0)]
            weights += [Weight("beta", (c,), filler="bias_filler", start=0.0)]
        return weights

    def take_blobs(self, blobs: Sequence[StoredBlob]) -> tuple[Floats, ...]:
        if self.learned and len(blobs) == 5 and blobs[4].shape != blobs[3].shape:  # of DIGITS
            blobs = [blobs[place] for place in (2, 3, 4, 0, 1)]
        return super().take_blobs(blobs)

    def weight_shapes(self) -> dict[str, Shape]:
        return {name: shape for name, shape in super().weight_shapes().items() if name != "factor"}

    def moved(self, arrays: Sequence[Array]) -> dict[str, Moved]:
        mean, variance, factor, *learned = arrays
        share = np.float32(0 if factor[0] == 0 else 1 / factor[0])
        share = np.float32(1) if self.learned else share
        found = {"moving_mean": mean * share, "moving_variance": variance * share}
        return {
            name: Moved(array) for name, array in (found | dict(zip(("gamma", "beta"), learned, strict=False))).items()
        }

    def arrays(self, weights: Mapping[str, npt.ArrayLike]) -> list[Array]:
        learned = [np.asarray(weights[name]) for name in ("gamma", "beta")] if self.learned else []
        statistics = [np.asarray(weights[name]) for name in ("moving_mean", "moving_variance")]
        return [*statistics, np.ones(1, np.float32), *learned]

    def receptive(self, fields: Fields) -> Field | None:
        return None if self.batch_statistics() else self.widest(fields)

    def any_size(self) -> bool:
        return True

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        axis = to_keras(1, len(x.shape))
        names = ["gamma", "beta"] if self.learned else []
        if self.batch_statistics():
            axes = [a for a in range(len(x.shape)) if a != axis]
            centred = x - ctx.ops.mean(x, axis=axes, keepdims=True)
            variance = ctx.ops.mean(centred * centred, axis=axes, keepdims=True)
            y = centred / ctx.ops.sqrt(variance + self.eps)
            if not names:
                return y
            shape = [-1 if a == axis else 1 for a in range(len(x.shape))]
            gamma, beta = (ctx.ops.reshape(ctx.held(x, name), shape) for name in names)
            return ctx.ops.add(beta, y * gamma)
        layer = ctx.layers.BatchNormalization(
            axis=axis,
            epsilon=self.eps,
            momentum=self.p.moving_average_fraction,
            center=self.learned,
            scale=self.learned,
            name=ctx.name,
        )
        ctx.bind(layer, **{name: name for name in ("moving_mean", "moving_variance", *names)})
        return layer(x, training=False) if self.p.use_global_stats else layer(x)


class BN(Layer, type="BN", param="bn_param", fields="eps bn_mode", rank=4):
    """SegNet's and PSPNet's: gamma * (x - mean) / sqrt(variance + eps) + beta in one layer.

    Blobs: gamma, beta, mean, variance, each (1, C, 1, 1); with bn_mode INFERENCE (SegNet, statistics merged)
    gamma and beta alone.
    """

    works_in_place = True

    def _merged(self) -> bool:
        return bool(self.p.bn_mode == BNParameter.INFERENCE)

    def blobs(self) -> list[Weight]:
        c = self.bottoms[0][1]
        scale, shift = (
            ("scale_filler", "shift_filler") if self.p.HasField("scale_filler") else ("slope_filler", "bias_filler")
        )
        starts = ("gamma", scale, 1.0), ("beta", shift, 0.0), ("moving_mean", None, 0.0), ("moving_variance", None, 1.0)
        weights = [
            Weight(name, (1, c, 1, 1), merged=(c,), filler=filler, start=start) for name, filler, start in starts
        ]
        return weights[:2] if self._merged() else weights

    def receptive(self, fields: Fields) -> Field | None:
        return self.widest(fields)

    def any_size(self) -> bool:
        return True

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        if self._merged():
            return ctx.ops.add(ctx.held(x, "beta"), x * ctx.held(x, "gamma"))
        layer = ctx.layers.BatchNormalization(axis=-1, epsilon=self.p.eps, momentum=self.p.momentum, name=ctx.name)
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        return ctx.bind(layer, **{name: name for name in names})(x)


class MVN(Layer, type="MVN", param="mvn_param", fields="normalize_variance across_channels eps"):
    """(x - mean) / (sqrt(variance) + eps) of each channel, or of each item across channels (mvn_layer.cpp).

    Where a bottom has no axes but those two, each value is its own mean. The top has four axes always.
    """

    works_in_place = True

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if len(bottoms[0]) > 4:
            self.fail(f"bottom of shape {bottoms[0]}; takes 4 axes at most")

    def tops(self) -> list[Shape]:
        return [self.bottoms[0] + (1,) * (4 - len(self.bottoms[0]))]

    def any_size(self) -> bool:
        return is_spatial(len(self.bottoms[0]))

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        rank = len(x.shape)
        first = 1 if self.p.across_channels else 2
        axes = tuple(to_keras(axis, rank) for axis in range(first, rank))
        y = x - (ctx.ops.mean(x, axis=axes, keepdims=True) if axes else x)
        if self.p.normalize_variance:
            variance = ctx.ops.mean(y * y, axis=axes, keepdims=True) if axes else y
            y = y / (ctx.ops.sqrt(variance) + self.p.eps)
        return y if rank == 4 else self.reshape(ctx, y, self.tops()[0], free_first=rank > 0)


class Normalize(Layer, type="Normalize", param="norm_param", fields="across_spatial channel_shared eps", rank=4):
    """SSD's: gamma * x / sqrt(eps + sum x^2) over the channels, or over channels and space.

    Blob: gamma (C), or () where the channels share it (normalize_layer.cpp of SSD).
    """

    works_in_place = True

    def blobs(self) -> list[Weight]:
        shape = () if self.p.channel_shared else (self.bottoms[0][1],)
        return [Weight("gamma", shape, filler="scale_filler", start=1.0)]

    def receptive(self, fields: Fields) -> Field | None:
        return None if self.p.across_spatial else self.widest(fields)

    def any_size(self) -> bool:
        return True

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        axes = (1, 2, 3) if self.p.across_spatial else 3
        norm = ctx.ops.sqrt(ctx.ops.sum(x * x, axis=axes, keepdims=True) + self.p.eps)
        return x / norm * ctx.held(x, "gamma")
