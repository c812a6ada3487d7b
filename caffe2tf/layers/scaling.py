"""Learned scales and biases, and those that another bottom gives."""

from caffe2tf.arrays.layout import Shape, is_spatial, keras_order
from caffe2tf.layers.base import Layer, Weight
from caffe2tf.layers.types import Context, Field, Fields, Tensor


class _Broadcast(Layer, type=""):
    """A factor or a summand that covers some axes of the first bottom: learned, or the second bottom (scale_layer.cpp)."""

    works_in_place = True

    def _span(self) -> list[int]:
        """The axes of the first bottom that are covered."""
        shape = self.bottoms[0]
        if len(self.bottoms) > 1:
            other = self.bottoms[1]
            first = self.axis(self.p.axis) if other else 0
            if tuple(shape[first : first + len(other)]) != tuple(other):
                self.fail(f"second bottom of shape {other} does not fit axis {self.p.axis} of the first, {shape}")
            return list(range(first, first + len(other)))
        first, count = self.axis(self.p.axis), self.p.num_axes
        last = len(shape) if count == -1 else first + count
        if count < -1 or last > len(shape):
            self.fail(f"num_axes {count} from axis {self.p.axis} of a bottom with {len(shape)} axes")
        return list(range(first, last))

    def tops(self) -> list[Shape]:
        self._span()
        if getattr(self.p, "bias_term", False):
            self.axis(self.p.axis)  # its bias is a Bias layer, which counts the axis on the first bottom alone
        return [self.bottoms[0]]

    def _weight(self, name: str, filler: str, start: float) -> Weight:
        span = self._span()
        order = [a for a in keras_order(len(self.bottoms[0])) if a in span]
        shape, axes = tuple(self.bottoms[0][a] for a in span), tuple(span.index(a) for a in order)
        return Weight(name, shape, axes=axes, filler=filler, start=start)

    def receptive(self, fields: Fields) -> Field | None:
        return self.widest(fields)

    def any_size(self) -> bool:
        return self._span() in ([], [1])

    def fixes_batch(self) -> bool:
        """A weight for each item has as many as the file states."""
        return len(self.bottoms) == 1 and 0 in self._span()

    def _spread(self, ctx: Context, x: Tensor, weight: str) -> Tensor:
        """A weight as a tensor that broadcasts over x."""
        span, order, value = self._span(), keras_order(len(self.bottoms[0])), ctx.row(x, weight)
        # (1, C) beside channels that come last; Keras takes its first extent for unknown, and then that of a 1 beside it too.
        if span == [1] and order[-1] == 1 and (len(order) == 2 or x.shape[-2] != 1):
            return value
        return ctx.ops.reshape(value, [self.bottoms[0][a] if a in span else 1 for a in order])

    def _plus(self, ctx: Context, x: Tensor, summand: Tensor) -> Tensor:
        # On TensorFlow Keras's add(x, y) takes a y with one extent for a bias of the channels, the last axis or the second:
        # right for (1, C), a guess for all others, which go first.
        return ctx.ops.add(x, summand) if len(summand.shape) < len(x.shape) else ctx.ops.add(summand, x)

    def _spread_bottom(self, ctx: Context, other: Tensor) -> Tensor:
        span, rank = self._span(), len(self.bottoms[0])
        shape = [self.bottoms[0][a] if a in span else 1 for a in range(rank)]
        if span and span[0] == 0:
            shape[0] = -1
        other = ctx.ops.reshape(self.to_caffe_order(ctx, other), shape)
        return ctx.ops.transpose(other, keras_order(rank)) if is_spatial(rank) else other


class Scale(_Broadcast, type="Scale", param="scale_param", fields="axis num_axes bias_term", bottoms=(1, 2)):
    """gamma * x + beta. Blobs: gamma of the covered shape (unless it is the second bottom), beta (scale_layer.cpp)."""

    def blobs(self) -> list[Weight]:
        gamma = [self._weight("gamma", "filler", 1.0)] if len(self.bottoms) == 1 else []
        return [*gamma, self._weight("beta", "bias_filler", 0.0)] if self.p.bias_term else gamma

    def build(self, ctx: Context, x: Tensor, *other: Tensor) -> Tensor | list[Tensor]:
        if not other and self._span() == [1] and len(x.shape) == 4:
            # One stock layer, and the faster one: 1 x 1 and depthwise, it multiplies each channel and adds to it.
            bias = {"bias": "beta"} if self.p.bias_term else {}
            layer = ctx.layers.DepthwiseConv2D(
                1,
                use_bias=self.p.bias_term,
                depthwise_initializer="zeros",
                data_format="channels_last",
                name=ctx.name,
            )
            return ctx.bind(layer, kernel="gamma", **bias)(x)
        gamma = self._spread_bottom(ctx, *other) if other else self._spread(ctx, x, "gamma")
        y = x * gamma
        return self._plus(ctx, y, self._spread(ctx, x, "beta")) if self.p.bias_term else y


class Bias(_Broadcast, type="Bias", param="bias_param", fields="axis num_axes", bottoms=(1, 2)):
    """x + bias. Blob: bias of the covered shape, unless it is the second bottom (bias_layer.cpp)."""

    def blobs(self) -> list[Weight]:
        return [self._weight("bias", "filler", 0.0)] if len(self.bottoms) == 1 else []

    def build(self, ctx: Context, x: Tensor, *other: Tensor) -> Tensor | list[Tensor]:
        return self._plus(ctx, x, self._spread_bottom(ctx, *other) if other else self._spread(ctx, x, "bias"))
