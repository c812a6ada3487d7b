"""Layers that move, join, part or repeat values without changing them."""

import itertools
import math

from caffe2tf.arrays.layout import Array, Shape, to_keras
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import Layer
from caffe2tf.layers.types import Context, Field, Fields, Tensor


class Split(Layer, type="Split", tops=(1, None)):
    """The bottom, once for each top."""

    @classmethod
    def may_share(cls, proto: LayerParameter) -> dict[int, str]:
        return dict.fromkeys(range(len(proto.top)), proto.bottom[0])

    def receptive(self, fields: Fields) -> Field | None:
        return self.widest(fields)

    def any_size(self) -> bool:
        return True

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return [ctx.ops.copy(x) for _ in self.proto.top]


class Silence(Layer, type="Silence", bottoms=(1, None), tops=0):
    """Nothing: it only keeps Caffe from reporting unused blobs, and is dropped with what feeds it alone."""

    def tops(self) -> list[Shape]:
        return []


class Concat(Layer, type="Concat", param="concat_param", fields="axis concat_dim", bottoms=(1, None)):
    """The bottoms side by side along `axis` (concat_layer.cpp)."""

    def _axis(self) -> int:
        if self.p.HasField("axis") and self.p.HasField("concat_dim"):
            self.fail("axis and concat_dim are both set; Caffe takes one")
        return self.axis(self.p.concat_dim if self.p.HasField("concat_dim") else self.p.axis)

    def tops(self) -> list[Shape]:
        axis, first = self._axis(), self.bottoms[0]
        self.need_equal([a for a in range(len(first)) if a != axis])
        return [(*first[:axis], sum(b[axis] for b in self.bottoms), *first[axis + 1 :])]

    @classmethod
    def may_share(cls, proto: LayerParameter) -> dict[int, str]:
        return {0: proto.bottom[0]} if len(proto.bottom) == 1 else {}

    def receptive(self, fields: Fields) -> Field | None:
        return self.widest(fields) if self._axis() == 1 else None

    def any_size(self) -> bool:
        return self._axis() == 1

    def fixes_batch(self) -> bool:
        return self._axis() == 0

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        if len(xs) == 1:
            return ctx.ops.copy(xs[0])
        axis = to_keras(self._axis(), len(xs[0].shape))
        return ctx.layers.Concatenate(axis=axis, name=ctx.name)(list(xs))


class Slice(Layer, type="Slice", param="slice_param", fields="axis slice_dim slice_point", tops=(1, None)):
    """The bottom parted along `axis`, at each slice_point or evenly (slice_layer.cpp)."""

    def _axis(self) -> int:
        if self.p.HasField("axis") and self.p.HasField("slice_dim"):
            self.fail("axis and slice_dim are both set; Caffe takes one")
        return self.axis(self.p.slice_dim if self.p.HasField("slice_dim") else self.p.axis)

    def _points(self) -> list[int]:
        length, count = self.bottoms[0][self._axis()], len(self.proto.top)
        points = list(self.p.slice_point)
        if not points:
            if length % count:
                self.fail(f"{length} values along axis {self._axis()} do not part evenly into {count} tops")
            points = [length // count * i for i in range(1, count)]
        edges = [0, *points, length]
        if len(points) != count - 1 or any(b <= a for a, b in itertools.pairwise(edges)):
            self.fail(f"slice_point {points} for {count} tops of {length} values; takes {count - 1}, rising, inside")
        return edges

    def tops(self) -> list[Shape]:
        axis, shape, edges = self._axis(), self.bottoms[0], self._points()
        return [(*shape[:axis], b - a, *shape[axis + 1 :]) for a, b in itertools.pairwise(edges)]

    @classmethod
    def may_share(cls, proto: LayerParameter) -> dict[int, str]:
        return {0: proto.bottom[0]} if len(proto.top) == 1 else {}

    def receptive(self, fields: Fields) -> Field | None:
        return self.widest(fields) if self._axis() == 1 else None

    def any_size(self) -> bool:
        return self._axis() == 1

    def fixes_batch(self) -> bool:
        return self._axis() == 0

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        before = (slice(None),) * to_keras(self._axis(), len(x.shape))
        edges = self._points()
        return [x[before + (slice(a, b),)] for a, b in itertools.pairwise(edges)]


class Crop(Layer, type="Crop", param="crop_param", fields="axis offset", bottoms=2):
    """The first bottom cut to the extents of the second from `axis` on, `offset` values in (crop_layer.cpp)."""

    def _offsets(self) -> dict[int, int]:
        first, rank = self.axis(self.p.axis), len(self.bottoms[0])
        offsets = list(self.p.offset) or [0]
        if len(offsets) not in (1, rank - first):
            self.fail(f"{len(offsets)} values of offset for {rank - first} axes; takes 1 or {rank - first}")
        return dict(zip(range(first, rank), offsets * (rank - first) if len(offsets) == 1 else offsets, strict=True))

    def tops(self) -> list[Shape]:
        shape, like = list(self.bottoms[0]), self.bottoms[1]
        if len(like) < len(shape):
            self.fail(f"bottoms of shapes {tuple(shape)} and {like}; the second must have as many axes at least")
        for axis, offset in self._offsets().items():
            if offset + like[axis] > shape[axis]:
                self.fail(f"offset {offset} + {like[axis]} on axis {axis} reaches past the bottom {self.bottoms[0]}")
            shape[axis] = like[axis]
        return [tuple(shape)]

    def receptive(self, fields: Fields) -> Field | None:
        return fields[0]

    def fixes_batch(self) -> bool:
        return 0 in self._offsets()

    def value_bottoms(self) -> tuple[int, ...]:
        return (0,)

    def build(self, ctx: Context, x: Tensor, like: Tensor) -> Tensor | list[Tensor]:
        index, rank, ops = [slice(None)] * len(x.shape), len(self.bottoms[1]), ctx.ops
        for axis, offset in self._offsets().items():
            place, other = to_keras(axis, len(x.shape)), to_keras(axis, rank)
            if like.shape[other] is None:  # behind a Filter: as many as there are at run time
                first = tuple(slice(None) if a == other else slice(0, 1) for a in range(rank))
                count = ops.cast(ops.reshape(ops.ones_like(like[first]), (-1,)), "int32")
                x = ops.take(x, ops.cumsum(count) - 1 + offset, axis=place)
            else:
                index[place] = slice(offset, offset + self.bottoms[1][axis])
        return x[tuple(index)]


class Flatten(Layer, type="Flatten", param="flatten_param", fields="axis end_axis"):
    """The axes from `axis` to `end_axis` as one, values in Caffe's order (flatten_layer.cpp). An `end_axis` one before `axis`
    takes in none of them: a new axis of extent 1 stands there."""

    def _span(self) -> tuple[int, int]:
        first, last = self.axis(self.p.axis), self.axis(self.p.end_axis)
        if last < first - 1:
            self.fail(f"end_axis {self.p.end_axis} lies more than one before axis {self.p.axis}")
        return first, last

    def tops(self) -> list[Shape]:
        (first, last), shape = self._span(), self.bottoms[0]
        return [(*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])]

    @classmethod
    def may_share(cls, proto: LayerParameter) -> dict[int, str]:
        return dict.fromkeys(range(len(proto.top)), proto.bottom[0])

    def fixes_batch(self) -> bool:
        return self._span()[0] == 0 and self._span()[1] != 0

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        (first, last), top, axis = self._span(), list(self.tops()[0]), self.open_axis(x)
        if axis is not None:
            top[axis if axis < first else max(first, axis - (last - first))] = -1
        return self.reshape(ctx, x, top, free_first=False)


class Reshape(Layer, type="Reshape", param="reshape_param", fields="shape axis num_axes"):
    """The same values, in Caffe's order, in another shape; 0 keeps an extent, -1 takes what is left (reshape_layer.cpp)."""

    def _span(self) -> tuple[int, int]:
        rank = len(self.bottoms[0])
        first = self.p.axis if self.p.axis >= 0 else rank + self.p.axis + 1
        last = rank if self.p.num_axes == -1 else first + self.p.num_axes
        if not 0 <= first <= rank or self.p.num_axes < -1 or last > rank:
            self.fail(f"axis {self.p.axis} and num_axes {self.p.num_axes} of a bottom with {rank} axes")
        return first, last

    def tops(self) -> list[Shape]:
        (first, last), shape, dims = self._span(), self.bottoms[0], list(self.p.shape.dim)
        if dims.count(-1) > 1 or any(dim < -1 for dim in dims):
            self.fail(f"shape {dims}; takes one -1 at most and no other negative extent")
        for index, dim in enumerate(dims):
            if dim == 0:
                if first + index >= len(shape):
                    self.fail(f"shape {dims} keeps axis {first + index} of a bottom with {len(shape)} axes")
                dims[index] = shape[first + index]
        top = [*shape[:first], *dims, *shape[last:]]
        total = math.prod(shape)
        if -1 in dims:
            known = -math.prod(top)
            if known == 0 or total % known:
                self.fail(f"{total} values of its bottom {shape} do not fit shape {list(self.p.shape.dim)}")
            top[top.index(-1)] = total // known
        if math.prod(top) != total:
            self.fail(f"bottom {shape} has {total} values, shape {tuple(top)} takes {math.prod(top)}")
        return [tuple(top)]

    @classmethod
    def may_share(cls, proto: LayerParameter) -> dict[int, str]:
        return dict.fromkeys(range(len(proto.top)), proto.bottom[0])

    def fixes_batch(self) -> bool:
        (first, last), dims = self._span(), list(self.p.shape.dim)
        return first == 0 and bool(dims or last) and not (dims and last and dims[0] == 0)

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        (first, last), dims, top = self._span(), list(self.p.shape.dim), list(self.tops()[0])
        axis = self.open_axis(x)
        if axis is not None and (axis < first or (axis < last and dims[axis - first : axis - first + 1] == [0])):
            top[axis] = -1
        elif axis is not None and axis >= last:
            top[first + len(dims) + axis - last] = -1
        elif axis is not None and -1 in dims:
            top[first + dims.index(-1)] = -1
        return self.reshape(ctx, x, top, free_first=False)


class Tile(Layer, type="Tile", param="tile_param", fields="axis tiles"):
    """The bottom `tiles` times along `axis` (tile_layer.cpp)."""

    def tops(self) -> list[Shape]:
        axis, shape = self.axis(self.p.axis), list(self.bottoms[0])
        if self.p.tiles < 1:
            self.fail(f"tiles {self.p.tiles}; must be at least 1")
        shape[axis] *= self.p.tiles
        return [tuple(shape)]

    def fixes_batch(self) -> bool:
        return self.axis(self.p.axis) == 0

    def build(self, ctx: Context, x: Tensor) -> Tensor | list[Tensor]:
        return ctx.ops.concatenate([x] * self.p.tiles, axis=to_keras(self.axis(self.p.axis), len(x.shape)))


class BatchReindex(Layer, type="BatchReindex", bottoms=2):
    """The items of the first bottom that the second names, in its order (batch_reindex_layer.cpp)."""

    def tops(self) -> list[Shape]:
        if len(self.bottoms[1]) != 1:
            self.fail(f"second bottom of shape {self.bottoms[1]}; takes one axis of item numbers")
        return [(self.bottoms[1][0], *self.bottoms[0][1:])]

    def fixes_batch(self) -> bool:
        return True

    def check(self, *values: Array | None) -> None:
        _, items = values
        if items is not None and items.size and not 0 <= items.min() <= items.max() < self.bottoms[0][0]:
            self.fail(
                f"its second bottom names the items {items.min():g} to {items.max():g}; its first has 0 to "
                f"{self.bottoms[0][0] - 1}"
            )

    def build(self, ctx: Context, x: Tensor, items: Tensor) -> Tensor | list[Tensor]:
        # Frameworks disagree on items that do not exist; `check` refuses them where their numbers are known.
        places = ctx.ops.clip(ctx.ops.cast(items, "int32"), 0, self.bottoms[0][0] - 1)
        return ctx.ops.take(x, places, axis=0)


class Filter(Layer, type="Filter", bottoms=(2, None), tops=(1, None)):
    """The items of each bottom whose selector, the last bottom, is not 0 (filter_layer.cpp).

    How many there are is known only at run time; `tops` counts as if all were chosen.
    """

    counts_items = True

    works_in_place = True

    def tops(self) -> list[Shape]:
        selector = self.bottoms[-1]
        if not selector or math.prod(selector[1:]) != 1 or any(b[:1] != selector[:1] for b in self.bottoms):
            self.fail(f"bottoms of shapes {self.bottoms}; takes one selector value for each item")
        if len(self.proto.top) != len(self.bottoms) - 1:
            self.fail(f"{len(self.proto.top)} tops for {len(self.bottoms) - 1} bottoms and a selector")
        return list(self.bottoms[:-1])

    def fixes_batch(self) -> bool:
        return True

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        # The places of the only axis; PyTorch's backend gives them as a matrix of one row.
        chosen = ctx.ops.reshape(ctx.ops.nonzero(ctx.ops.reshape(xs[-1], (-1,)))[0], (-1,))
        return [ctx.ops.take(x, chosen, axis=0) for x in xs[:-1]]
