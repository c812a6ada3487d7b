"""Layers that move, join, part or repeat values without changing them."""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.reference.table import Array, Shared, fail, rule


@rule("Split")
def split(layer: LayerParameter, weights: list[Array], x: Array) -> list[Shared]:
    """The bottom itself for each top (split_layer.cpp)."""
    return [Shared(x.shape)] * len(layer.top)


@rule("Flatten")
def flatten(layer: LayerParameter, weights: list[Array], x: Array) -> Shared:
    """The axes from `axis` to `end_axis` as one; none, where end_axis is before axis, as 1 (flatten_layer.cpp)."""
    first, last = (axis % x.ndim for axis in (layer.flatten_param.axis, layer.flatten_param.end_axis))
    return Shared((*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


@rule("Reshape")
def reshape(layer: LayerParameter, weights: list[Array], x: Array) -> Shared:
    """The axes of the span [axis, axis + num_axes) replaced by `shape`: 0 keeps an extent, -1 takes what is left
    (reshape_layer.cpp)."""
    p = layer.reshape_param
    first = p.axis if p.axis >= 0 else x.ndim + p.axis + 1
    last = x.ndim if p.num_axes == -1 else first + p.num_axes
    dims = [x.shape[first + index] if dim == 0 else dim for index, dim in enumerate(p.shape.dim)]
    shape = [*x.shape[:first], *dims, *x.shape[last:]]
    if -1 in shape:
        shape[shape.index(-1)] = x.size // math.prod(extent for extent in shape if extent != -1)
    if math.prod(shape) != x.size:
        fail(layer, f"bottom of shape {x.shape} has {x.size} values; shape {tuple(shape)} takes {math.prod(shape)}")
    return Shared(tuple(shape))


@rule("Concat")
def concat(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> Array | Shared:
    """The bottoms side by side along `axis`; a single one is shared (concat_layer.cpp)."""
    p = layer.concat_param
    if len(bottoms) == 1:
        return Shared(bottoms[0].shape)
    return np.concatenate(bottoms, axis=p.concat_dim if p.HasField("concat_dim") else p.axis)


@rule("Slice")
def parted(layer: LayerParameter, weights: list[Array], x: Array) -> list[Array | Shared]:
    """The bottom parted along `axis` at each slice_point, or evenly; a single top shares it (slice_layer.cpp)."""
    p, count = layer.slice_param, len(layer.top)
    if count == 1:
        return [Shared(x.shape)]
    axis = p.slice_dim if p.HasField("slice_dim") else p.axis % x.ndim
    length = x.shape[axis]
    points = list(p.slice_point) or [length // count * index for index in range(1, count)]
    return [x[(slice(None),) * axis + (slice(a, b),)] for a, b in itertools.pairwise([0, *points, length])]


@rule("Crop")
def crop(layer: LayerParameter, weights: list[Array], x: Array, like: Array) -> Array:
    """From `axis` on the extents of the second bottom, from the offset of the axis or the only one (crop_layer.cpp)."""
    p = layer.crop_param
    first = p.axis % x.ndim
    offsets = list(p.offset) or [0]
    index = [slice(None)] * x.ndim
    for axis in range(first, x.ndim):
        offset = offsets[axis - first if len(offsets) > 1 else 0]
        if offset + like.shape[axis] > x.shape[axis]:
            fail(layer, f"offset {offset} + {like.shape[axis]} on axis {axis} reaches past the bottom {x.shape}")
        index[axis] = slice(offset, offset + like.shape[axis])
    return x[tuple(index)]


@rule("Tile")
def tile(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """The bottom `tiles` times along `axis` (tile_layer.cpp)."""
    return np.concatenate([x] * layer.tile_param.tiles, axis=layer.tile_param.axis)


@rule("BatchReindex")
def batch_reindex(layer: LayerParameter, weights: list[Array], x: Array, items: Array) -> Iterator[Array]:
    """The items of the first bottom that the second names, one after the other (batch_reindex_layer.cpp)."""
    chosen = items.astype(int)
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(x):
        fail(layer, f"items {chosen.min()} to {chosen.max()} of a batch of {len(x)}; takes 0 to {len(x) - 1}")
    top = x.copy() if len(chosen) == len(x) else np.zeros((len(chosen), *x.shape[1:]))
    yield top
    for place, item in enumerate(chosen):
        top[place] = x[item]
        yield top


@rule("Filter")
def filtered(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> list[Array]:
    """The items of each bottom whose selector, the last bottom, is not 0 (filter_layer.cpp)."""
    chosen = np.flatnonzero(bottoms[-1].ravel())
    return [x[chosen] for x in bottoms[:-1]]


@rule("Permute")
def permute(layer: LayerParameter, weights: list[Array], x: Array) -> Array | Shared:
    """The axes in another order; axes that are not named follow. In the same order the bottom is shared
    (permute_layer.cpp of SSD)."""
    order = list(layer.permute_param.order)
    order += [axis for axis in range(x.ndim) if axis not in order]
    return Shared(x.shape) if order == sorted(order) else x.transpose(order)


@rule("ShuffleChannel")
def shuffle_channel(layer: LayerParameter, weights: list[Array], x: Array) -> Array:
    """Channel i of group g goes to place i * group + g (shuffle_channel_layer.cpp of ShuffleNet)."""
    group, top = layer.shuffle_channel_param.group, np.empty(x.shape)
    size = x.shape[1] // group
    for g in range(group):
        for i in range(size):
            top[:, i * group + g] = x[:, g * size + i]
    return top
