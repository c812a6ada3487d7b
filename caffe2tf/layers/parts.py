"""Layers of Caffe's forks that turn maps round, part them by places and lay them out again."""

from collections.abc import Sequence

import numpy as np

from caffe2tf.arrays.layout import Shape, to_keras
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.forks import Permute
from caffe2tf.layers.types import Context, Tensor


class Transpose(Permute, type="Transpose", param="transpose_param", fields="dim"):
    """The axes in another order: axis i of the top is axis dim[i] of the bottom, each named once (transpose_layer.cpp
    of the OCR forks)."""

    def _order(self) -> list[int]:
        order = list(self.p.dim)
        if sorted(order) != list(range(len(self.bottoms[0]))):
            self.fail(f"dim {order} of a bottom with {len(self.bottoms[0])} axes; takes each axis once")
        return order


class Reverse(Layer, type="Reverse", param="reverse_param", fields="axis"):
    """The values along `axis`, the first by default, from the last to the first (reverse_layer.cpp of the OCR forks)."""

    def tops(self) -> list[Shape]:
        if self.p.axis < 0:
            self.fail(f"axis {self.p.axis}; takes 0 or more")
        self.axis(self.p.axis)
        return [self.bottoms[0]]

    def any_size(self) -> bool:
        return True

    def fixes_batch(self) -> bool:
        return bool(self.p.axis == 0)

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.ops.flip(x, axis=to_keras(self.axis(self.p.axis), len(x.shape)))


class _Placed(Layer, type=""):
    """Parts of a map, each at its (xcoord, ycoord): columns, then rows."""

    def _places(self, count: int) -> list[tuple[int, int]]:
        """(row, column) of each of `count` parts."""
        columns, rows = list(self.p.xcoord), list(self.p.ycoord)
        if min(len(columns), len(rows)) < count:
            self.fail(f"{len(columns)} xcoord and {len(rows)} ycoord for {count} parts; takes one of each for each")
        return list(zip(rows[:count], columns[:count], strict=True))

    def _need_inside(self, part: Sequence[int], place: tuple[int, int], whole: Sequence[int]) -> None:
        if any(first + n > extent for first, n, extent in zip(place, part, whole, strict=True)):
            self.fail(f"a part of extents {tuple(part)} at (row, column) {place} reaches past extents {tuple(whole)}")


class Division(
    _Placed, type="Division", param="division_param", fields="width height xcoord ycoord", tops=(1, None), rank=4
):
    """Top i is the part of `height` rows and `width` columns from row ycoord[i], column xcoord[i] on
    (division_layer.cpp of ZhiwenShao/ARL)."""

    def tops(self) -> list[Shape]:
        part = (self.p.height, self.p.width)
        if min(part) < 1:
            self.fail(f"height {part[0]} and width {part[1]}; both must be at least 1")
        for place in self._places(len(self.proto.top)):
            self._need_inside(part, place, self.bottoms[0][2:])
        return [(*self.bottoms[0][:2], *part)] * len(self.proto.top)

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        h, w = self.p.height, self.p.width
        return [x[:, i : i + h, j : j + w] for i, j in self._places(len(self.proto.top))]


class Combination(
    _Placed, type="Combination", param="combination_param", fields="xcoord ycoord", bottoms=(1, None), rank=4
):
    """Bottom i laid from row ycoord[i], column xcoord[i] on, later ones over earlier ones, 0 where none lies. The last
    bottom ends in the top's far corner (combination_layer.cpp of ZhiwenShao/ARL)."""

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        self.need_equal([0, 1])

    def tops(self) -> list[Shape]:
        places = self._places(len(self.bottoms))
        whole = tuple(first + n for first, n in zip(places[-1], self.bottoms[-1][2:], strict=True))
        for bottom, place in zip(self.bottoms, places, strict=True):
            self._need_inside(bottom[2:], place, whole)
        return [(*self.bottoms[0][:2], *whole)]

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        ops, (_, c, h, w), start = ctx.ops, self.tops()[0], 0
        source = np.full((h, w), -1)
        for (i, j), bottom in zip(self._places(len(xs)), self.bottoms, strict=True):
            rows, columns = bottom[2:]
            source[i : i + rows, j : j + columns] = start + np.arange(rows * columns).reshape(rows, columns)
            start += rows * columns
        flat = ops.concatenate([ops.reshape(x, (-1, b[2] * b[3], c)) for x, b in zip(xs, self.bottoms, strict=True)], 1)
        y = ops.reshape(ops.take(flat, np.maximum(source, 0).ravel(), axis=1), (-1, h, w, c))
        return y if source.min() >= 0 else ops.where((source >= 0)[None, :, :, None], y, 0.0)
