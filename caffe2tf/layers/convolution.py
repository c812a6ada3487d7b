"""Convolution, and its unfolding."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from caffe2tf.layers.base import Layer, Weight
from caffe2tf.layout import is_spatial

FIELDS = (
    "num_output bias_term pad kernel_size stride dilation pad_h pad_w kernel_h kernel_w stride_h stride_w group axis"
)


class Windowed(Layer, type=""):
    """Kernel, stride, pad and dilation of base_conv_layer.cpp: one value for all axes, one for each, or _h and _w."""

    def __init__(self, proto, bottoms):
        super().__init__(proto, bottoms)
        rank = len(bottoms[0])
        self.channel_axis = self.axis(self.p.axis)
        self.extents = bottoms[0][self.channel_axis + 1 :]
        if not 1 <= len(self.extents) <= 3:
            self.fail(
                f"axis {self.p.axis} of a bottom with {rank} axes leaves {len(self.extents)} spatial axes; takes 1 to 3"
            )
        self.channels = bottoms[0][self.channel_axis]
        self.kernel = self._each("kernel_size", "kernel", None)
        self.stride = self._each("stride", "stride", 1)
        self.pad = self._each("pad", "pad", 0)
        self.dilation = self._each("dilation", None, 1)
        if min(self.kernel) < 1 or min(self.stride) < 1 or min(self.dilation) < 1:
            self.fail(f"kernel {self.kernel}, stride {self.stride}, dilation {self.dilation}; each must be at least 1")
        self.need_equal()

    def _each(self, field, pair, default):
        count, values = len(self.extents), list(getattr(self.p, field))
        if pair and (self.p.HasField(f"{pair}_h") or self.p.HasField(f"{pair}_w")):
            if count != 2 or values:
                self.fail(f"{pair}_h and {pair}_w need two spatial axes and no {field}")
            return (getattr(self.p, f"{pair}_h"), getattr(self.p, f"{pair}_w"))
        if not values:
            if default is None:
                self.fail(f"no {field} is set")
            return (default,) * count
        if len(values) not in (1, count):
            self.fail(f"{len(values)} values of {field} for {count} spatial axes; takes 1 or {count}")
        return tuple(values * count if len(values) == 1 else values)

    def reach(self):
        """The extents that one window covers."""
        return [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]

    def forward_extents(self):
        out = []
        for n, reach, s, p in zip(self.extents, self.reach(), self.stride, self.pad, strict=True):
            if n + 2 * p < reach:
                self.fail(
                    f"kernel {self.kernel} with dilation {self.dilation} is larger than its bottom {self.bottoms[0]} with pad {self.pad}"
                )
            out.append((n + 2 * p - reach) // s + 1)
        return tuple(out)


def convolved(
    keras: Any, x: Any, convolve: Callable[[Any], Any], inputs: int, kernel: Sequence[int], stride: Sequence[int]
) -> Any:
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
    wider = keras.ops.pad(x, [*[(0, 0)] * len(kernel), (0, stride[-1]), (0, 0)])
    return convolve(wider)[(*[slice(None)] * len(kernel), slice(None, -1))]


def picks_first(inputs: int, kernel: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a convolution is said as every `stride`-th place and then a convolution without stride.

    TensorFlow 2.21 writes past its memory in the gradient of the kernel where oneDNN runs on AVX-512, on threads that do
    not share the items evenly, and the kernel is 1 x 1, the stride is above 1, the extents are its multiples, and there
    are fewer than 16 input channels: training crashes. `tests/test_ops.py` tells when the library is mended.
    """
    return max(kernel) == 1 and max(stride) > 1 and inputs < 16


class Convolving(Windowed, type=""):
    def __init__(self, proto, bottoms):
        super().__init__(proto, bottoms)
        self.outputs, self.group = self.p.num_output, self.p.group
        if self.outputs < 1 or self.group < 1 or self.outputs % self.group or self.channels % self.group:
            self.fail(
                f"num_output {self.outputs} and {self.channels} channels must be multiples of group {self.group}, and positive"
            )

    def tops(self):
        lead = self.bottoms[0][: self.channel_axis]
        return [(*lead, self.outputs, *self.top_extents())] * len(self.proto.top)

    def blobs(self):
        first, second = self.ends()
        rank = len(self.kernel)
        axes = (*range(2, 2 + rank), 1, 0)
        kernel = Weight("kernel", (first, second // self.group, *self.kernel), axes=axes, filler="weight_filler")
        bias = Weight("bias", (self.outputs,), filler="bias_filler", start=0.0)
        return [kernel, bias] if self.p.bias_term else [kernel]

    def any_size(self):
        return self.channel_axis == 1

    def fixes_batch(self):
        return self.channel_axis == 0

    def build(self, keras, *xs):
        """Blobs travel through `self.run` as (items, spatial, channels)."""
        run = self.runner(keras, getattr(keras.layers, f"Conv{len(self.kernel)}D{self.suffix}"))
        rank = len(self.bottoms[0])
        if self.channel_axis == 1 and is_spatial(rank):
            tops = [run(x) for x in xs]
        else:
            # Axes before the channels are independent items; Caffe's order outside, channels last inside.
            spatial = range(2, 2 + len(self.kernel))
            tops = []
            for x, shape in zip(xs, self.tops(), strict=True):
                x = keras.ops.reshape(self.to_caffe_order(keras, x), (-1, self.channels, *self.extents))
                y = run(keras.ops.transpose(x, (0, *spatial, 1)))
                y = keras.ops.transpose(y, (0, len(self.kernel) + 1, *range(1, len(self.kernel) + 1)))
                tops.append(self.to_keras_order(keras, keras.ops.reshape(y, (-1, *shape[1:]))))
        return tops if len(tops) > 1 else tops[0]

    def receptive(self, fields):
        return self.windowed(fields, zip(self.reach(), self.stride, strict=True)) if self.channel_axis == 1 else None

    def group_parts(self):
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

    def ends(self):
        return self.outputs, self.channels

    def top_extents(self):
        return self.forward_extents()

    def filters(self):
        return "output", "input", self.group

    def multiply_adds(self):
        return sum(math.prod(top[1:]) for top in self.tops()) * math.prod(self.kernel) * self.channels // self.group

    def mistakes(self):
        inputs = self.channels // self.group

        def swap_colours(proto, weights):
            weights["kernel"] = weights["kernel"][..., ::-1, :]

        def swap_groups(proto, weights):
            weights["kernel"] = np.roll(weights["kernel"], self.outputs // self.group, -1)

        def transpose(proto, weights):
            kernel = weights["kernel"]
            weights["kernel"] = np.moveaxis(kernel.reshape(self.outputs, inputs, *self.kernel), (0, 1), (-1, -2))

        found = [("equal after transposing its kernel", transpose)]
        if self.channels == 3:
            found.append(("equal after swapping B and R", swap_colours))
        if self.group > 1:
            found.append(("equal after swapping its groups", swap_groups))
        return found

    def runner(self, keras, conv):
        dilated, strided = max(self.dilation) > 1, max(self.stride) > 1
        # Keras refuses stride with dilation: every value is computed and every stride-th one taken.
        thin = self.stride if dilated and strided else None
        inputs = self.channels // self.group
        every = tuple(slice(None, None, s) for s in self.stride)
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
        pad = None
        if any(self.pad) and not same:
            amounts = [(p, p) for p in self.pad]
            padding = getattr(keras.layers, f"ZeroPadding{len(self.kernel)}D")
            pad = padding(
                amounts[0] if len(amounts) == 1 else amounts, data_format="channels_last", name=self.sublayer("pad")
            )
        convolve = self._split(keras, conv, options) if self.group > 1 else self._one(keras, conv, options)

        def run(x):
            x = pad(x) if pad else x
            x = x[(slice(None), *every)] if pick else x
            y = convolved(keras, x, convolve, inputs, self.kernel, stride)
            return y[(slice(None), *every)] if thin else y

        return run

    def _biased(self):
        return {"bias": "bias"} if self.p.bias_term else {}

    def _one(self, keras, conv, options):
        layer = conv(self.outputs, self.kernel, kernel_initializer="zeros", name=self.keras_name, **options)
        return self.stock(layer, kernel="kernel", **self._biased())

    def _split(self, keras, conv, options):
        depthwise = getattr(keras.layers, f"DepthwiseConv{len(self.kernel)}D", None)
        if self.channels == self.group and depthwise and len(set(options["strides"])) == 1:
            options = {**options, "strides": options["strides"][0]}
            multiplier = self.outputs // self.group
            layer = depthwise(
                self.kernel, depth_multiplier=multiplier, depthwise_initializer="zeros", name=self.keras_name, **options
            )
            return self.stock(layer, kernel="kernel", **self._biased())
        # One convolution per group: Keras's own `groups` is slow on CPUs and has no gradient there.
        layers = []
        for index, outputs in self.group_parts():
            layer = conv(
                self.outputs // self.group,
                self.kernel,
                kernel_initializer="zeros",
                name=self.sublayer(index),
                **options,
            )
            layers.append(self.stock(layer, part=(..., outputs), kernel="kernel", **self._biased()))
        join = keras.layers.Concatenate(axis=-1, name=self.sublayer("concat"))

        def run(x):
            parts = keras.ops.split(x, self.group, axis=-1)
            return join([layer(part) for layer, part in zip(layers, parts, strict=True)])

        return run


class Im2col(
    Windowed,
    type="Im2col",
    param="convolution_param",
    fields="pad kernel_size stride dilation pad_h pad_w kernel_h kernel_w stride_h stride_w axis",
):
    """Every window's values as channels, ordered channel, kernel row, kernel column (im2col.cpp)."""

    def tops(self):
        if len(self.bottoms[0]) != 4 or self.channel_axis != 1:
            self.fail(f"axis {self.p.axis} of a bottom of shape {self.bottoms[0]}; only 4 axes and axis 1 are computed")
        return [(self.bottoms[0][0], self.channels * math.prod(self.kernel), *self.forward_extents())]

    def receptive(self, fields):
        return self.windowed(fields, zip(self.reach(), self.stride, strict=True))

    def build(self, keras, x):
        (ph, pw), (sh, sw), (dh, dw) = self.pad, self.stride, self.dilation
        oh, ow = self.forward_extents()
        x = keras.ops.pad(x, [(0, 0), (ph, ph), (pw, pw), (0, 0)])
        windows = [
            x[:, i * dh : i * dh + sh * (oh - 1) + 1 : sh, j * dw : j * dw + sw * (ow - 1) + 1 : sw]
            for i in range(self.kernel[0])
            for j in range(self.kernel[1])
        ]
        stacked = keras.ops.stack(windows, axis=-1)
        return keras.ops.reshape(stacked, (-1, oh, ow, self.channels * len(windows)))
