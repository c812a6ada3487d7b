"""Layers of Caffe's forks that move or resize values: SSD, ShuffleNet, DeepLab, PSPNet, SegNet."""

import numpy as np

from caffe2tf.arrays.layout import Shape, is_spatial, to_keras
from caffe2tf.layers.base import Layer
from caffe2tf.layers.types import Context, Field, Fields, Tensor


class Permute(Layer, type="Permute", param="permute_param", fields="order"):
    """The axes in another order; axes that are not named follow (SSD, permute_layer.cpp)."""

    def _order(self) -> list[int]:
        order, rank = list(self.p.order), len(self.bottoms[0])
        order += [axis for axis in range(rank) if axis not in order]
        if sorted(order) != list(range(rank)):
            self.fail(f"order {list(self.p.order)} of a bottom with {rank} axes; takes each axis once")
        return order

    def tops(self) -> list[Shape]:
        return [tuple(self.bottoms[0][axis] for axis in self._order())]

    def fixes_batch(self) -> bool:
        return self._order()[0] != 0

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        y = ctx.ops.transpose(self.to_caffe_order(ctx, x), self._order())
        return self.to_keras_order(ctx, y)


class ShuffleChannel(Layer, type="ShuffleChannel", param="shuffle_channel_param", fields="group"):
    """Channels of `group` groups dealt out in turn: channel g * n + i goes to i * group + g (ShuffleNet)."""

    def tops(self) -> list[Shape]:
        if len(self.bottoms[0]) < 2:
            self.fail(f"bottom of shape {self.bottoms[0]}; takes at least 2 axes")
        if self.p.group < 1 or self.bottoms[0][1] % self.p.group:
            self.fail(f"{self.bottoms[0][1]} channels are no multiple of group {self.p.group}")
        return [self.bottoms[0]]

    def receptive(self, fields: Fields) -> Field | None:
        return self.widest(fields)

    def any_size(self) -> bool:
        return is_spatial(len(self.bottoms[0]))

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        channels = self.bottoms[0][1]
        order = np.arange(channels).reshape(self.p.group, -1).T.ravel()
        return ctx.ops.take(x, order, axis=to_keras(1, len(x.shape)))


class Interp(
    Layer, type="Interp", param="interp_param", fields="height width zoom_factor shrink_factor pad_beg pad_end", rank=4
):
    """Bilinear resizing with the corners aligned (DeepLab, PSPNet, interp_layer.cpp)."""

    def _inner(self) -> list[int]:
        p = self.p
        if p.pad_beg > 0 or p.pad_end > 0:
            self.fail(f"pad_beg {p.pad_beg} and pad_end {p.pad_end}; takes 0 or less (cropping)")
        return [n + p.pad_beg + p.pad_end for n in self.bottoms[0][2:]]

    def tops(self) -> list[Shape]:
        p, (h, w) = self.p, self._inner()
        if p.height or p.width:
            if p.HasField("zoom_factor") or p.HasField("shrink_factor"):
                self.fail("height and width together with zoom_factor or shrink_factor; takes one kind")
            out = (p.height, p.width)
        else:
            if p.zoom_factor < 1 or p.shrink_factor < 1:
                self.fail(f"zoom_factor {p.zoom_factor} and shrink_factor {p.shrink_factor}; both must be at least 1")
            shrunk = ((n - 1) // p.shrink_factor + 1 for n in (h, w))
            out = tuple(n + (n - 1) * (p.zoom_factor - 1) for n in shrunk)
        if min(h, w, *out) < 1:
            self.fail(f"extents {h, w} to {out}; all must be at least 1")
        return [(*self.bottoms[0][:2], *out)]

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        for axis, n, out in zip((1, 2), self._inner(), self.tops()[0][2:], strict=True):
            at = np.arange(out) * ((n - 1) / (out - 1) if out > 1 else 0.0)
            low = np.minimum(at.astype(int), n - 1)
            high = np.minimum(low + 1, n - 1)
            share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(4)])
            low, high = low - self.p.pad_beg, high - self.p.pad_beg
            x = ctx.ops.take(x, low, axis=axis) * (1 - share) + ctx.ops.take(x, high, axis=axis) * share
        return x


class Upsample(
    Layer,
    type="Upsample",
    param="upsample_param",
    fields="scale scale_h scale_w pad_out_h pad_out_w upsample_h upsample_w",
    bottoms=(1, 2),
    rank=4,
):
    """With a mask as second bottom, each value goes back to where MAX pooling took it (SegNet); without, each value
    is repeated scale x scale times (ports of YOLO v3)."""

    def tops(self) -> list[Shape]:
        p, shape = self.p, self.bottoms[0]
        if len(self.bottoms) > 1:
            self.need_equal()
        out = []
        for axis, n in zip("hw", shape[2:], strict=True):
            scale = getattr(p, f"scale_{axis}") if p.HasField(f"scale_{axis}") else p.scale
            exact = getattr(p, f"upsample_{axis}")
            out.append(exact if exact else n * scale - int(getattr(p, f"pad_out_{axis}")))
        if len(self.bottoms) == 1 and any(o % n for o, n in zip(out, shape[2:], strict=True)):
            self.fail(f"extents {shape[2:]} to {tuple(out)} without a mask; takes whole multiples")
        return [(*shape[:2], *out)]

    def fixes_batch(self) -> bool:
        return len(self.bottoms) > 1

    def build(self, ctx: Context, x: Tensor, *mask: Tensor) -> Tensor | list[Tensor]:
        n, c, oh, ow = self.tops()[0]
        h, w = self.bottoms[0][2:]
        if not mask:
            return ctx.layers.UpSampling2D((oh // h, ow // w), data_format="channels_last", name=ctx.name)(x)
        ops = ctx.ops
        planes = np.repeat(np.arange(n * c) * oh * ow, h * w)
        places = ops.reshape(self.to_caffe_order(ctx, mask[0]), (-1,))
        places = ops.cast(places, "int32") + planes.astype(np.int32)
        values = ops.reshape(self.to_caffe_order(ctx, x), (-1,))
        # Of several values for one place the last stays (SegNet's upsample_layer.cpp).
        order = ops.cumsum(ops.ones_like(places)) - 1
        last = ops.segment_max(order, places, num_segments=n * c * oh * ow)
        y = ops.where(last >= 0, ops.take(values, ops.maximum(last, 0), axis=0), 0.0)
        return self.to_keras_order(ctx, ops.reshape(y, (n, c, oh, ow)))
