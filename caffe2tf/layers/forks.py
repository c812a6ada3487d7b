"""Layers of Caffe's forks that move or resize values: SSD, ShuffleNet, DeepLab, PSPNet, SegNet, DeconvNet."""

import math
from collections.abc import Sequence

import numpy as np

from caffe2tf.arrays.layout import Floats, Shape, is_spatial, to_keras
from caffe2tf.caffe.caffe_pb2 import LayerParameter, ResampleParameter, UnpoolingParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.types import Context, Field, Fields, Tensor


class Permute(Layer, type="Permute", param="permute_param", fields="order"):
    """The axes in another order, the unnamed ones last; in the same order, the bottom's memory (SSD, permute_layer.cpp)."""

    @classmethod
    def may_share(cls, proto: LayerParameter) -> dict[int, str]:
        return {0: proto.bottom[0]} if all(a == i for i, a in enumerate(proto.permute_param.order)) else {}

    def _order(self) -> list[int]:
        order, rank = list(self.p.order), len(self.bottoms[0])
        order += [axis for axis in range(rank) if axis not in order]
        if sorted(order) != list(range(rank)):
            self.fail(f"order {list(self.p.order)} of a bottom with {rank} axes; takes each axis once")
        return order

    def tops(self) -> list[Shape]:
        return [tuple(self.bottoms[0][axis] for axis in self._order())]

    def fixes_batch(self) -> bool:
        return bool(self.bottoms[0]) and self._order()[0] != 0

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

    windows_from = 2

    def _crop(self) -> tuple[int, int]:
        """How many rows and columns are left out at the near and the far end."""
        near, far = self.p.pad_beg, self.p.pad_end
        if max(near, far) > 0:
            self.fail(f"pad_beg {near} and pad_end {far}; takes 0 or less (cropping)")
        return -near, -far

    def _inner(self) -> list[int]:
        return [n - sum(self._crop()) for n in self.bottoms[0][2:]]

    def tops(self) -> list[Shape]:
        p, (h, w) = self.p, self._inner()
        if p.height or p.width:
            if any(map(p.HasField, ("zoom_factor", "shrink_factor"))):
                self.fail("height and width together with zoom_factor or shrink_factor; takes one kind")
            out = (p.height, p.width)
        else:
            if p.zoom_factor < 1 or p.shrink_factor < 1:
                self.fail(f"zoom_factor {p.zoom_factor} and shrink_factor {p.shrink_factor}; both must be at least 1")
            out = tuple((n - 1) // p.shrink_factor * p.zoom_factor + 1 for n in (h, w))
        if min(h, w, *out) < 1:
            self.fail(f"extents {h, w} to {out}; all must be at least 1")
        return [(*self.bottoms[0][:2], *out)]

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        for axis, n, out in zip((1, 2), self._inner(), self.tops()[0][2:], strict=True):
            at = np.arange(out) * ((n - 1) / (out - 1) if out > 1 else 0.0)
            low, high = (np.minimum(at.astype(int) + one, n - 1) for one in (0, 1))
            share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(4)])
            low, high = low + self._crop()[0], high + self._crop()[0]
            x = ctx.ops.take(x, low, axis=axis) * (1 - share) + ctx.ops.take(x, high, axis=axis) * share
        return x


def _triangle(x: Floats) -> Floats:
    return np.maximum(0, 1 - abs(x))


def _cubic(x: Floats) -> Floats:
    x = abs(x)
    inner, outer = x * x * (1.5 * x - 2.5) + 1, x * (x * (-0.5 * x + 2.5) - 4) + 2
    return np.asarray(np.where(x <= 1, inner, np.where(x < 2, outer, 0)), np.float32)


class Resample(
    Layer, type="Resample", param="resample_param", fields="width height type antialias", bottoms=(1, 2), rank=4
):
    """Resizing to height and width, or to the extents of a second bottom (resample_layer.cu of FlowNet 2).

    LINEAR and CUBIC: a weighted mean around the place that a top's centre has in the bottom, by a triangle or a
    cubic, as wide as the map shrinks where antialias is set; NEAREST: the value there. The place along one axis is
    shifted by half the other axis's scale, as the fork computes it. Where NEAREST would read outside, it reads the
    border.
    """

    def tops(self) -> list[Shape]:
        out = self.bottoms[1][2:] if len(self.bottoms) > 1 else (self.p.height, self.p.width)
        if len(out) != 2 or min(out) < 1:
            self.fail(f"extents {out}; takes a height and a width of at least 1")
        if self.p.type == ResampleParameter.AREA:
            self.fail("type AREA; takes NEAREST, LINEAR or CUBIC, as its own fork does")
        return [(*self.bottoms[0][:2], *out)]

    def value_bottoms(self) -> tuple[int, ...]:
        return (0,)

    def _shares(self, axis: int) -> Floats:
        """(out, in): what each value of the bottom gives to each of the top along `axis` of the image."""
        extents, out = self.bottoms[0][2:], self.tops()[0][2:]
        scales = [np.float32(n) / np.float32(m) for n, m in zip(extents, out, strict=True)]
        scale, other = scales[axis], scales[1 - axis]
        at = np.arange(out[axis], dtype=np.float32) * scale + other / 2 - np.float32(0.5)
        near = np.trunc(at + np.copysign(np.float32(0.5), at))  # C rounds halves away from 0
        places = np.arange(extents[axis])
        if self.p.type == ResampleParameter.NEAREST:
            return np.asarray(np.clip(near, 0, extents[axis] - 1)[:, None] == places, np.float32)
        shrinks = self.p.antialias and max(scales) > 1
        part = 1 / scale if shrinks else np.float32(1)
        kernel, wide = (_cubic, 4) if self.p.type == ResampleParameter.CUBIC else (_triangle, 2)
        reach = 2 if scale < 1 else math.ceil(wide / part)
        shares = part * kernel(part * (at[:, None] - places)) * (abs(places - near[:, None]) <= reach)
        total = shares.sum(1, keepdims=True)
        return np.asarray(np.where(total == 0, 0, shares / np.where(total == 0, 1, total)), np.float32)

    def build(self, ctx: Context, x: Tensor, *like: Tensor) -> Tensor | list[Tensor]:
        for axis in (0, 1):
            x = ctx.ops.moveaxis(ctx.ops.tensordot(x, self._shares(axis), axes=[[axis + 1], [1]]), -1, axis + 1)
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
        (oh, ow), (h, w) = self.tops()[0][2:], self.bottoms[0][2:]
        if mask:
            return _put_back(self, ctx, x, mask[0])
        return ctx.layers.UpSampling2D((oh // h, ow // w), data_format="channels_last", name=ctx.name)(x)


def _put_back(layer: Layer, ctx: Context, x: Tensor, mask: Tensor) -> Tensor:
    """Each value of `x` at the place that the mask names in its plane of the top, 0 elsewhere."""
    ops, (n, c, oh, ow), (h, w) = ctx.ops, layer.tops()[0], layer.bottoms[0][2:]
    planes = np.repeat(np.arange(n * c) * oh * ow, h * w)
    places = ops.reshape(layer.to_caffe_order(ctx, mask), (-1,))
    places = ops.cast(places, "int32") + planes.astype(np.int32)
    values = ops.reshape(layer.to_caffe_order(ctx, x), (-1,))
    # Of several values for one place the last stays (upsample_layer.cpp, unpooling_layer.cpp).
    order = ops.cumsum(ops.ones_like(places)) - 1
    last = ops.segment_max(order, places, num_segments=n * c * oh * ow)
    y = ops.where(last >= 0, ops.take(values, ops.maximum(last, 0), axis=0), 0.0)
    return layer.to_keras_order(ctx, ops.reshape(y, (n, c, oh, ow)))


class BilinearInterpolation(
    Interp,
    type="BilinearInterpolation",
    param="bilinear_interpolation_param",
    fields="interpolation_factor",
    bottoms=(1, 2),
    rank=4,
):
    """Bilinear resizing with the corners aligned, to interpolation_factor times the extents or those of a second bottom
    (bilinear_interpolation_layer.cpp of several forks)."""

    def _crop(self) -> tuple[int, int]:
        return 0, 0

    def tops(self) -> list[Shape]:
        factor, shape = self.p.interpolation_factor, self.bottoms[0]
        if len(self.bottoms) > 1 and len(self.bottoms[1]) != 4:
            self.fail(f"second bottom of shape {self.bottoms[1]}; takes 4 axes")
        if len(self.bottoms) == 1 and factor < 1:
            self.fail(f"interpolation_factor {factor}; must be at least 1 where no second bottom gives the extents")
        out = self.bottoms[1][2:] if len(self.bottoms) > 1 else tuple(n * factor for n in shape[2:])
        return [(*shape[:2], *out)]

    def value_bottoms(self) -> tuple[int, ...]:
        return (0,)

    def build(self, ctx: Context, x: Tensor, *like: Tensor) -> Tensor | list[Tensor]:
        return super().build(ctx, x)


class Unpooling(
    Layer,
    type="Unpooling",
    param="unpooling_param",
    fields="unpool kernel_size kernel_h kernel_w stride stride_h stride_w pad pad_h pad_w unpool_size unpool_h unpool_w",
    bottoms=(1, 2),
    rank=4,
):
    """Pooling undone (Noh et al., DeconvNet, unpooling_layer.cpp).

    MAX: each value at the place that the mask, the second bottom, names in the plane of the top, or without a mask at
    the first place of its window; the last value stays. TILE: each value all over its window, windows added up; AVE:
    the same, each value over the area of its window first. Extents: unpool_size, or unpool_h and unpool_w; else what
    the windows take in, and at least one more than (n * stride).
    """

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        self.method = UnpoolingParameter.UnpoolMethod.Name(self.p.unpool)
        self.kernel, self.stride = self._pair("kernel_size", "kernel"), self._pair("stride", "stride")
        if any(self._pair("pad", "pad")):
            self.fail(f"pad {self._pair('pad', 'pad')}; takes 0 alone, as its own fork does")
        if min(*self.kernel, *self.stride) < 1:
            self.fail(f"kernel {self.kernel} and stride {self.stride}; both must be at least 1")
        if len(bottoms) > 1 and self.method == "MAX":
            self.need_equal()

    def _pair(self, single: str, pair: str) -> Shape:
        if self.p.HasField(f"{pair}_h") != self.p.HasField(f"{pair}_w"):
            self.fail(f"{pair}_h and {pair}_w; takes both or neither")
        if self.p.HasField(f"{pair}_h"):
            return getattr(self.p, f"{pair}_h"), getattr(self.p, f"{pair}_w")
        return (getattr(self.p, single),) * 2

    def tops(self) -> list[Shape]:
        shape, out = self.bottoms[0], self._pair("unpool_size", "unpool")
        if not any(out):
            steps = zip(shape[2:], self.kernel, self.stride, strict=True)
            out = tuple(max((n - 1) * s + k, n * s + 1) for n, k, s in steps)
        if min(out) < 1:
            self.fail(f"unpooled extents {out}; both must be at least 1")
        return [(*shape[:2], *out)]

    def fixes_batch(self) -> bool:
        return self.method == "MAX" and len(self.bottoms) > 1

    def value_bottoms(self) -> tuple[int, ...]:
        return (0, 1) if self.fixes_batch() else (0,)

    def build(self, ctx: Context, x: Tensor, *mask: Tensor) -> Tensor | list[Tensor]:
        if self.fixes_batch():
            return _put_back(self, ctx, x, mask[0])
        for axis, n, out, kernel, stride in zip(
            (1, 2), self.bottoms[0][2:], self.tops()[0][2:], self.kernel, self.stride, strict=True
        ):
            shares = np.zeros((out, n), np.float32)
            for index in range(n):
                first = index * stride
                if self.method == "MAX":
                    shares[min(first, out - 1)] = np.arange(n) == index
                else:
                    last = min(first + kernel, out)
                    shares[first:last, index] = 1.0 if self.method == "TILE" else 1 / max(last - first, 1)
            x = ctx.ops.moveaxis(ctx.ops.tensordot(x, shares, axes=[[axis], [1]]), -1, axis)
        return x
