"""Windows that run over the spatial axes of a bottom, and their unfolding."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from caffe2tf.arrays.layout import Shape
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.types import Context, Field, Fields, Tensor


class Windowed(Layer, type=""):
    """Kernel, stride, pad and dilation of base_conv_layer.cpp: one value for all axes, one for each, or _h and _w."""

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        self.channel_axis = self.axis(self.p.axis)
        self.windows_from = self.channel_axis + 1
        self.extents = bottoms[0][self.windows_from :]
        self.channels = bottoms[0][self.channel_axis]
        self.kernel = self._each("kernel_size", "kernel", None)
        self.stride = self._each("stride", "stride", 1)
        self.pad = self._each("pad", "pad", 0)
        self.dilation = self._each("dilation", None, 1)
        if any(n < 1 for n in (*self.kernel, *self.stride, *self.dilation)):
            self.fail(f"kernel {self.kernel}, stride {self.stride}, dilation {self.dilation}; each must be at least 1")
        self.need_equal()

    def _each(self, field: str, pair: str | None, default: int | None) -> Shape:
        count, values = len(self.extents), list(getattr(self.p, field))
        if pair and (self.p.HasField(f"{pair}_h") or self.p.HasField(f"{pair}_w")):
            if count != 2 or values:
                self.fail(f"{pair}_h and {pair}_w need two spatial axes and no {field}")
            return (getattr(self.p, f"{pair}_h"), getattr(self.p, f"{pair}_w"))
        if not values:
            if default is None:
                return self.fail(f"no {field} is set") if count else ()
            return (default,) * count
        if len(values) not in (1, count):
            self.fail(f"{len(values)} values of {field} for {count} spatial axes; takes 1 or {count}")
        return tuple(values * count if len(values) == 1 else values)

    def reach(self) -> list[int]:
        """The extents that one window covers."""
        return [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]

    def forward_extents(self) -> Shape:
        out = []
        for n, reach, s, p in zip(self.extents, self.reach(), self.stride, self.pad, strict=True):
            rest = n + 2 * p - reach
            if rest <= -s:
                self.fail(
                    f"kernel {self.kernel} with dilation {self.dilation} is larger than its bottom {self.bottoms[0]} with pad {self.pad}"
                )
            out.append(max(rest, 0) // s + 1)  # C++ rounds to 0: a kernel may hang over by less than the stride
        return tuple(out)

    def cuts(self, stride: Sequence[int], out: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """For each place of the kernel, in order, where in padded extents the values lie that it meets in `out` windows."""
        for place in np.ndindex(*self.kernel):
            steps = zip(place, self.dilation, stride, out, strict=True)
            yield tuple(slice(i * d, i * d + s * (o - 1) + 1, s) for i, d, s, o in steps)

    def padding(self) -> list[tuple[int, int]]:
        """(near, far) padding of each spatial axis; far also what a kernel hangs over."""
        return [(p, p + max(0, r - n - 2 * p)) for n, r, p in zip(self.extents, self.reach(), self.pad, strict=True)]


class Im2col(
    Windowed,
    type="Im2col",
    param="convolution_param",
    fields="pad kernel_size stride dilation pad_h pad_w kernel_h kernel_w stride_h stride_w axis",
):
    """Every window's values as channels, ordered channel, kernel row, kernel column (im2col.cpp)."""

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        if not self.extents:
            self.fail(
                f"axis {self.p.axis} of a bottom of shape {bottoms[0]} leaves no spatial axis; takes at least one"
            )

    def tops(self) -> list[Shape]:
        lead = self.bottoms[0][: self.channel_axis]
        return [(*lead, self.channels * math.prod(self.kernel), *self.forward_extents())]

    def receptive(self, fields: Fields) -> Field | None:
        return self.windowed(fields, zip(self.reach(), self.stride, strict=True)) if self.channel_axis == 1 else None

    def fixes_batch(self) -> bool:
        return self.channel_axis == 0

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        x, axis = self.to_caffe_order(ctx, x), self.channel_axis
        free = axis if axis == 0 or x.shape[axis] is None else 0  # channels may be items that a Filter counted
        lead = math.prod(self.bottoms[0][:axis])
        x = ctx.ops.reshape(x, (lead, -1, *self.extents) if free == axis else (-1, self.channels, *self.extents))
        x = ctx.ops.pad(x, [(0, 0), (0, 0), *self.padding()])
        windows = [x[(slice(None),) * 2 + cut] for cut in self.cuts(self.stride, self.forward_extents())]
        y = ctx.ops.stack(windows, axis=2)
        # The values lie in Caffe's order: nothing but the axes before the channels and the windows' own are to be merged.
        top = [-1 if index == free else extent for index, extent in enumerate(self.tops()[0])]
        return self.to_keras_order(ctx, ctx.ops.reshape(y, top))
