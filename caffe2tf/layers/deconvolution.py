"""The transpose of convolution."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from caffe2tf.arrays.layout import Array, Shape
from caffe2tf.layers.convolution import FIELDS, Convolving, picks_first
from caffe2tf.layers.types import Context, Field, Fields, KerasLayer, Tensor


class Deconvolution(
    Convolving, type="Deconvolution", param="convolution_param", fields=FIELDS, bottoms=(1, None), tops=(1, None)
):
    """The transpose of Convolution: extent stride * (n - 1) + kernel - 2 pad (deconv_layer.cpp).

    Blobs: kernel (channels, num_output / group, kernel extents), bias (num_output).
    """

    suffix = "Transpose"

    def ends(self) -> tuple[int, int]:
        return self.channels, self.outputs

    def top_extents(self) -> Shape:
        reach = self.reach()
        out = tuple(
            s * (n - 1) + r - 2 * p for n, s, r, p in zip(self.extents, self.stride, reach, self.pad, strict=True)
        )
        if any(n < 1 for n in out):
            self.fail(f"pad {self.pad} leaves nothing of the top: extents {out}")
        return out

    def receptive(self, fields: Fields) -> Field | None:
        """Of a kernel that is laid out every `stride` places, at most reach / stride, rounded up, meet in one."""
        if self.channel_axis != 1:
            return None
        meeting = [-(-r // s) for r, s in zip(self.reach(), self.stride, strict=True)]
        return self.windowed(fields, [(m, Fraction(1, s)) for m, s in zip(meeting, self.stride, strict=True)])

    def filters(self) -> tuple[str, str, int] | None:
        return "input", "output", self.group

    def multiply_adds(self) -> int:
        return len(self.bottoms) * math.prod(self.bottoms[0][1:]) * math.prod(self.kernel) * self.outputs // self.group

    def runner(self, ctx: Context, conv: Any) -> Callable[[Tensor], Tensor]:
        if self._spreads():
            return self._spread(ctx)
        options = {"strides": self.stride, "data_format": "channels_last", "padding": "valid"}
        options |= {"use_bias": self.p.bias_term, "kernel_initializer": "zeros"}
        # Keras's extent is stride * n where the kernel is shorter than the stride.
        crops = [(p, p + max(0, s - k)) for p, s, k in zip(self.pad, self.stride, self.kernel, strict=True)]
        return self._grouped(ctx, conv, options, crops, None)

    def _spreads(self) -> bool:
        """Whether zeros go between the values: Keras has no dilated transpose, and the gradient of the kernel of a strided
        1 x 1 one is the call that `picks_first` avoids."""
        return max(self.dilation) > 1 or picks_first(self.outputs // self.group, self.kernel, self.stride)

    def _spread(self, ctx: Context) -> Callable[[Tensor], Tensor]:
        """Zeros between the values, then a convolution with the turned kernel."""
        conv = getattr(ctx.layers, f"Conv{len(self.kernel)}D")
        options = {"dilation_rate": self.dilation, "data_format": "channels_last", "padding": "valid"}
        options |= {"use_bias": self.p.bias_term, "kernel_initializer": "zeros"}
        inner = self._grouped(ctx, conv, options, None, self._turned)
        return lambda x: inner(self.prepared(ctx, x)[0])

    def _turned(self, kernel: Array) -> Array:
        return np.flip(kernel, tuple(range(len(self.kernel)))).swapaxes(-1, -2) if kernel.ndim > 1 else kernel

    def prepared(self, ctx: Context, x: Tensor) -> tuple[Tensor, Shape]:
        """`x` with stride - 1 zeros between its values and room for the kernel around them."""
        ops = ctx.ops
        for axis, stride in enumerate(self.stride, 1):
            n = x.shape[axis]
            x = ops.expand_dims(x, axis + 1)
            x = ops.pad(x, [(0, stride - 1) if a == axis + 1 else (0, 0) for a in range(len(x.shape))])
            shape = [*x.shape[:axis], -1 if n is None else n * stride, *x.shape[axis + 2 :]]
            x = ops.reshape(x, [-1 if a == 0 else extent for a, extent in enumerate(shape)])
            x = x[(slice(None),) * axis + (slice(None, None if stride == 1 else 1 - stride),)]
        margins = [r - 1 - p for r, p in zip(self.reach(), self.pad, strict=True)]
        x = ops.pad(x, [(0, 0), *((max(0, m),) * 2 for m in margins), (0, 0)])
        cut = tuple(slice(-m, m) if m < 0 else slice(None) for m in (0, *margins))
        return x[cut], (1,) * len(self.stride)

    def bind_group(self, ctx: Context, layer: KerasLayer, index: int, outputs: slice | None) -> KerasLayer:
        size = self.channels // self.group
        ctx.bind(layer, part=(..., slice((index - 1) * size, index * size)), turn=self._turned, kernel="kernel")
        return ctx.bind(layer, part=(outputs,), **self._biased())

    def any_size(self) -> bool:
        return super().any_size() and not self._spreads()

    def _grouped(
        self,
        ctx: Context,
        conv: Any,
        options: dict[str, Any],
        crops: list[tuple[int, int]] | None,
        turn: Callable[[Array], Array] | None,
    ) -> Callable[[Tensor], Tensor]:
        size, layers = self.channels // self.group, []
        for index, outputs in self.group_parts():
            layer = conv(
                self.outputs // self.group,
                self.kernel,
                name=ctx.name if self.group == 1 else ctx.part(index),
                **options,
            )
            inputs = slice((index - 1) * size, index * size)
            ctx.bind(layer, part=(..., inputs), turn=turn, kernel="kernel")
            layers.append(ctx.bind(layer, part=(outputs,), **self._biased()))
        crop = None
        if crops and any(map(any, crops)):
            cropping = getattr(ctx.layers, f"Cropping{len(self.kernel)}D")
            options = {} if len(crops) == 1 else {"data_format": "channels_last"}
            crop = cropping(crops[0] if len(crops) == 1 else crops, name=ctx.part("crop"), **options)

        def run(x: Tensor) -> Tensor:
            parts = ctx.ops.split(x, self.group, axis=-1) if self.group > 1 else [x]
            y = [layer(part) for layer, part in zip(layers, parts, strict=True)]
            y = ctx.ops.concatenate(y, axis=-1) if len(y) > 1 else y[0]
            return crop(y) if crop else y

        return run
