"""Convolution."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from caffe2tf.arrays.layout import Array, Shape, is_spatial
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import Weight
from caffe2tf.layers.types import Context, Field, Fields, KerasLayer, Mistake, Tensor
from caffe2tf.layers.windows import Windowed

FIELDS = (
    "num_output bias_term pad kernel_size stride dilation pad_h pad_w kernel_h kernel_w stride_h stride_w group axis"
)


def convolved(
    ctx: Context,
    x: Tensor,
    convolve: Callable[[Tensor], Tensor],
    inputs: int,
    kernel: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    """`convolve(x)`, for a convolution of `x` (items, spatial, channels) with `inputs` channels per group and no padding.

    TensorFlow 2.21 leaves most of the output unwritten, so that it holds what the memory held before, where oneDNN
    runs on AVX-512, there is one input channel per group, the stride is above 1 along the width and 1 along the height,
    the kernel is wider than 1 and the output is not. Such a bottom, and one whose width is not known, gets zeros for
    one more column of the output, which is dropped. `tests/test_ops.py` tells when the library computes it right.
    """
    width = x.shape[-2]
    if inputs > 1 or len(kernel) < 2 or kernel[-1] == 1 or stride[-2] > 1 or stride[-1] == 1:
        return convolve(x)
    if width is not None and width - kernel[-1] >= stride[-1]:
        return convolve(x)
    wider = ctx.ops.pad(x, [*[(0, 0)] * len(kernel), (0, stride[-1]), (0, 0)])
    return convolve(wider)[(slice(None),) * len(kernel) + (slice(None, -1),)]


def picks_first(inputs: int, kernel: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a convolution is said as every `stride`-th place and then a convolution without stride.

    TensorFlow 2.21 writes past its memory in the gradient of the kernel where oneDNN runs on AVX-512, on threads that do
    not share the items evenly, and the kernel is 1 x 1, the stride is above 1, the extents are its multiples, and there
    are fewer than 16 input channels: training crashes. `tests/test_ops.py` tells when the library is mended.
    """
    return max(kernel) == 1 and max(stride) > 1 and inputs < 16


class Convolving(Windowed, type=""):
    """What Convolution and its transpose share; `suffix` ends the name of their layer in Keras."""

    works_in_place = True
    suffix: ClassVar[str]
    outputs: int
    group: int

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        self.outputs, self.group = self.p.num_output, self.p.group
        if self.outputs < 1 or self.group < 1 or self.outputs % self.group or self.channels % self.group:
            self.fail(
                f"num_output {self.outputs} and {self.channels} channels must be multiples of group {self.group}, and positive"
            )

    def ends(self) -> tuple[int, int]:
        """The first two extents of the kernel as one group of all: outputs and inputs, or the other way round."""
        raise NotImplementedError

    def top_extents(self) -> Shape:
        """The spatial extents of a top."""
        raise NotImplementedError

    def runner(self, ctx: Context, conv: Any) -> Callable[[Tensor], Tensor]:
        """The computation on (items, spatial, channels) where `conv` is Keras's layer for it."""
        raise NotImplementedError

    def prepared(self, ctx: Context, x: Tensor) -> tuple[Tensor, Shape]:
        """`x` as the windows of `gathered` run over it, and their stride."""
        raise NotImplementedError

    def bind_group(self, ctx: Context, layer: KerasLayer, index: int, outputs: slice | None) -> KerasLayer:
        """`layer`, which holds the group number `index` (from 1) of kernel and bias, `outputs` of them."""
        raise NotImplementedError

    def tops(self) -> list[Shape]:
        lead = self.bottoms[0][: self.channel_axis]
        return [(*lead, self.outputs, *self.top_extents())] * len(self.proto.top)

    def blobs(self) -> list[Weight]:
        first, second = self.ends()
        axes = (*range(2, 2 + len(self.kernel)), 1, 0)
        shape = first, second // self.group, *self.kernel
        kernel = Weight("kernel", shape, axes=axes, filler="weight_filler")
        bias = Weight("bias", (self.outputs,), filler="bias_filler", start=0.0)
        return [kernel, bias] if self.p.bias_term else [kernel]

    def any_size(self) -> bool:
        return self.channel_axis == 1 and len(self.kernel) in (1, 2, 3)

    def fixes_batch(self) -> bool:
        return self.channel_axis == 0

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        """Blobs travel through the runner as (items, spatial, channels)."""
        count, rank = len(self.kernel), len(self.bottoms[0])
        if self.aliased and all(n == 1 for n in (*self.kernel, *self.stride)) and not any(self.pad):
            # Of 1 x 1 Caffe makes no copy: the product has cleared its top, and with it the bottom, before it reads.
            xs = tuple(ctx.ops.zeros_like(x) for x in xs)
        if 1 <= count <= 3:
            run = self.runner(ctx, getattr(ctx.layers, f"Conv{count}D{self.suffix}"))
        else:
            run = self.gathered(ctx)
        if self.channel_axis == 1 and is_spatial(rank):
            tops = [run(x) for x in xs]
        else:
            # Axes before the channels are independent items; Caffe's order outside, channels last inside.
            spatial = range(2, 2 + count)
            tops = []
            for x, shape in zip(xs, self.tops(), strict=True):
                x = ctx.ops.reshape(self.to_caffe_order(ctx, x), (-1, self.channels, *self.extents))
                y = run(ctx.ops.transpose(x, (0, *spatial, 1)))
                y = ctx.ops.transpose(y, (0, count + 1, *range(1, count + 1)))
                tops.append(self.to_keras_order(ctx, ctx.ops.reshape(y, (-1, *shape[1:]))))
        return tops if len(tops) > 1 else tops[0]

    def gathered(self, ctx: Context) -> Callable[[Tensor], Tensor]:
        """Convolution as a product with the gathered values under each window, where Keras has no layer for the number of
        spatial axes: none, or more than three."""
        size, layers = self.channels // self.group, []
        for index, outputs in self.group_parts():
            dense = ctx.layers.Dense(
                self.outputs // self.group,
                use_bias=self.p.bias_term,
                kernel_initializer="zeros",
                name=ctx.name if self.group == 1 else ctx.part(index),
            )
            layers.append(self.bind_group(ctx, dense, index, outputs))

        def run(x: Tensor) -> Tensor:
            x, stride = self.prepared(ctx, x)
            out = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], self.reach(), stride, strict=True)]
            parts = [x[(slice(None),) + cut] for cut in self.cuts(stride, out)]
            tops = []
            for index, layer in enumerate(layers):
                mine = slice(index * size, (index + 1) * size)
                tops.append(layer(ctx.ops.concatenate([part[..., mine] for part in parts], axis=-1)))
            return ctx.ops.concatenate(tops, axis=-1) if len(tops) > 1 else tops[0]

        return run

    def receptive(self, fields: Fields) -> Field | None:
        return self.windowed(fields, zip(self.reach(), self.stride, strict=True)) if self.channel_axis == 1 else None

    def _biased(self) -> dict[str, str]:
        return {"bias": "bias"} if self.p.bias_term else {}

    def group_parts(self) -> Iterator[tuple[int, slice]]:
        """For each group: name suffix, and the index of its outputs in kernel (last axis) and bias."""
        size = self.outputs // self.group
        for index in range(self.group):
            yield index + 1, slice(index * size, (index + 1) * size)


class Convolution(
    Convolving,
    type="Convolution ConvolutionDepthwise DepthwiseConvolution",
    param="convolution_param",
    fields=FIELDS,
    bottoms=(1, None),
    tops=(1, None),
):
    """Cross-correlation with zero padding and floor division of the extent, in `group` independent halves (conv_layer.cpp).

    Blobs: kernel (num_output, channels / group, kernel extents), bias (num_output).
    """

    suffix = ""

    def prepared(self, ctx: Context, x: Tensor) -> tuple[Tensor, Shape]:
        return ctx.ops.pad(x, [(0, 0), *self.padding(), (0, 0)]), self.stride

    def bind_group(self, ctx: Context, layer: KerasLayer, index: int, outputs: slice | None) -> KerasLayer:
        part = None if self.group == 1 else (..., outputs)
        return ctx.bind(layer, part=part, kernel="kernel", **self._biased())

    def any_size(self) -> bool:
        hangs = any(near != far for near, far in self.padding())
        return super().any_size() and not hangs

    def ends(self) -> tuple[int, int]:
        return self.outputs, self.channels

    def top_extents(self) -> Shape:
        return self.forward_extents()

    def filters(self) -> tuple[str, str, int] | None:
        return "output", "input", self.group

    def multiply_adds(self) -> int:
        return sum(math.prod(top[1:]) for top in self.tops()) * math.prod(self.kernel) * self.channels // self.group

    def mistakes(self) -> list[Mistake]:
        inputs = self.channels // self.group

        def swap_colours(proto: LayerParameter, weights: dict[str, Array]) -> None:
            weights["kernel"] = weights["kernel"][..., ::-1, :]

        def swap_groups(proto: LayerParameter, weights: dict[str, Array]) -> None:
            weights["kernel"] = np.roll(weights["kernel"], self.outputs // self.group, -1)

        def transpose(proto: LayerParameter, weights: dict[str, Array]) -> None:
            kernel = weights["kernel"]
            weights["kernel"] = np.moveaxis(kernel.reshape(self.outputs, inputs, *self.kernel), (0, 1), (-1, -2))

        found: list[Mistake] = [("equal after transposing its kernel", transpose)]
        if self.channels == 3:
            found.append(("equal after swapping B and R", swap_colours))
        if self.group > 1:
            found.append(("equal after swapping its groups", swap_groups))
        return found

    def runner(self, ctx: Context, conv: Any) -> Callable[[Tensor], Tensor]:
        dilated, strided = max(self.dilation) > 1, max(self.stride) > 1
        # Keras refuses stride with dilation: every value is computed and every stride-th one taken.
        thin = self.stride if dilated and strided else None
        inputs = self.channels // self.group
        every = tuple(slice(None, None, s) for s in (1, *self.stride))
        pick = not thin and picks_first(inputs, self.kernel, self.stride)
        stride = (1,) * len(self.kernel) if thin or pick else self.stride
        options = {
            "strides": stride,
            "dilation_rate": self.dilation,
            "data_format": "channels_last",
            "use_bias": self.p.bias_term,
        }
        same = not strided and all(2 * p == r - 1 for p, r in zip(self.pad, self.reach(), strict=True))
        options["padding"] = "same" if same else "valid"
        pad, amounts = None, self.padding()
        if any(map(any, amounts)) and not same:
            padding = getattr(ctx.layers, f"ZeroPadding{len(self.kernel)}D")
            pad = padding(
                amounts[0] if len(amounts) == 1 else amounts, data_format="channels_last", name=ctx.part("pad")
            )
        convolve = self._split(ctx, conv, options) if self.group > 1 else self._one(ctx, conv, options)

        def run(x: Tensor) -> Tensor:
            x = pad(x) if pad else x
            x = x[every] if pick else x
            y = convolved(ctx, x, convolve, inputs, self.kernel, stride)
            return y[every] if thin else y

        return run

    def _one(self, ctx: Context, conv: Any, options: dict[str, Any]) -> KerasLayer:
        layer = conv(self.outputs, self.kernel, kernel_initializer="zeros", name=ctx.name, **options)
        return self.bind_group(ctx, layer, 1, None)

    def _split(self, ctx: Context, conv: Any, options: dict[str, Any]) -> KerasLayer:
        depthwise = getattr(ctx.layers, f"DepthwiseConv{len(self.kernel)}D", None)
        if self.channels == self.group and depthwise and len(set(options["strides"])) == 1:
            options = {**options, "strides": options["strides"][0]}
            multiplier = self.outputs // self.group
            layer = depthwise(
                self.kernel, depth_multiplier=multiplier, depthwise_initializer="zeros", name=ctx.name, **options
            )
            return ctx.bind(layer, kernel="kernel", **self._biased())
        # One convolution per group: Keras's own `groups` is slow on CPUs and has no gradient there.
        layers = []
        for index, outputs in self.group_parts():
            layer = conv(
                self.outputs // self.group,
                self.kernel,
                kernel_initializer="zeros",
                name=ctx.part(index),
                **options,
            )
            layers.append(self.bind_group(ctx, layer, index, outputs))
        join = ctx.layers.Concatenate(axis=-1, name=ctx.name)

        def run(x: Tensor) -> Tensor:
            parts = ctx.ops.split(x, self.group, axis=-1)
            return join([layer(part) for layer, part in zip(layers, parts, strict=True)])

        return run
