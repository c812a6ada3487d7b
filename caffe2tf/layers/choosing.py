"""Layers of Caffe's forks that choose among steps or items by their values."""

import math

from caffe2tf.arrays.layout import Shape
from caffe2tf.layers.base import Layer
from caffe2tf.layers.pooling import first_largest
from caffe2tf.layers.types import Context, Tensor


class CTCGreedyDecoder(
    Layer, type="CTCGreedyDecoder", param="ctc_decoder_param", fields="blank_index ctc_merge_repeated", rank=3
):
    """The most likely class of each step of (T, N, C), without blanks, and without repeats unless ctc_merge_repeated
    is false: top (N, T, 1, 1), filled up with -1.

    A class repeats where the step before has it too, so a blank between two of one class keeps both. blank_index
    below 0 is the last class (ctc_decoder_layer.cpp of the OCR forks).
    """

    def tops(self) -> list[Shape]:
        steps, items, classes = self.bottoms[0]
        if self.p.blank_index >= classes:
            self.fail(f"blank_index {self.p.blank_index} of {classes} classes")
        return [(items, steps, 1, 1)]

    def fixes_batch(self) -> bool:
        return True

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        ops, (steps, _, classes) = ctx.ops, self.bottoms[0]
        blank = self.p.blank_index if self.p.blank_index >= 0 else classes - 1
        best = ops.transpose(ops.cast(first_largest(ctx, x), "float32"))
        keep = ops.not_equal(best, float(blank))
        if self.p.ctc_merge_repeated:
            before = ops.concatenate([ops.full_like(best[:, :1], -1.0), best[:, :-1]], axis=1)
            keep = ops.logical_and(keep, ops.not_equal(best, before))
        kept = ops.cast(keep, "float32")
        # Row t of `hot` has its one at the place among the kept ones, or none: the sum below picks one class a place.
        place = ops.cast(ops.cumsum(kept, axis=1) - 1.0, "int32")
        hot = ops.one_hot(place, steps) * ops.expand_dims(kept, -1)
        found = ops.sum(hot * ops.expand_dims(best + 1.0, -1), axis=1) - 1.0
        return self.reshape(ctx, found, self.tops()[0], free_first=False)


class ScaleRoute(
    Layer,
    type="ScaleRoute",
    param="scale_route_param",
    fields="low_scale high_scale",
    bottoms=(1, None),
    tops=(1, None),
):
    """The items of each bottom whose box is of a scale from low_scale to below high_scale, in their order; where
    there is none, the one whose scale is nearest to the middle by its logarithm.

    The first bottom holds the boxes (image, x1, y1, x2, y2); a box's scale is the root of (x2 - x1 + 1) (y2 - y1 +
    1), 0 where it ends before it starts. The middle is the geometric mean of both bounds, the one that is set, or
    256. How many items there are is known only at run time; `tops` counts as if all were chosen
    (scale_route_layer.cpp of Cascade R-CNN).
    """

    counts_items = True

    def tops(self) -> list[Shape]:
        boxes = self.bottoms[0]
        if math.prod(boxes[1:]) != 5 or any(b[:1] != boxes[:1] for b in self.bottoms):
            self.fail(f"bottoms of shapes {self.bottoms}; takes boxes (R, 5) and R items of each other")
        if len(self.proto.top) != len(self.bottoms):
            self.fail(f"{len(self.proto.top)} tops for {len(self.bottoms)} bottoms; takes one for each")
        self._bounds()
        return list(self.bottoms)

    def _bounds(self) -> tuple[float, float, float]:
        """(least, below, middle) scale."""
        p = self.p
        low, high = (getattr(p, name) if p.HasField(name) else None for name in ("low_scale", "high_scale"))
        if (low is not None and low <= 0) or (high is not None and (high <= 0 or high < (low or 0))):
            self.fail(f"low_scale {low} and high_scale {high}; takes 0 < low_scale <= high_scale")
        middle = math.sqrt(low * high) if low and high else low or high or 256.0
        return low or 0.0, math.inf if high is None else high, middle

    def fixes_batch(self) -> bool:
        return True

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        ops, (low, high, middle) = ctx.ops, self._bounds()
        boxes = ops.reshape(xs[0], (-1, 5))
        wide, tall = boxes[:, 3] - boxes[:, 1], boxes[:, 4] - boxes[:, 2]
        sound = ops.logical_and(wide >= 0, tall >= 0)
        scale = ops.where(sound, ops.sqrt(ops.maximum((wide + 1.0) * (tall + 1.0), 0.0)), 0.0)
        inside = ops.logical_and(scale >= low, scale < high)
        far = ops.absolute(ops.log(scale / middle))
        nearest = ops.equal(ops.cumsum(ops.ones_like(scale)) - 1.0, ops.cast(ops.argmin(far), "float32"))
        chosen = ops.logical_or(inside, ops.logical_and(nearest, ops.logical_not(ops.any(inside))))
        places = ops.reshape(ops.nonzero(chosen)[0], (-1,))
        return [ops.take(x, places, axis=0) for x in xs]
