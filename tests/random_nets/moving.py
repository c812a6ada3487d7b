"""Caffe's rules for layers that join, part, move or reduce values; `shapes.infer` finds them here."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from tests.random_nets.legal import Rule, Shape, canonical, need


def _eltwise(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p = layer.eltwise_param
    need(len(bottoms) >= 2 and all(b == bottoms[0] for b in bottoms), "bottoms of Eltwise")
    need(len(p.coeff) in (0, len(bottoms)) and not (p.coeff and p.operation == p.PROD), "coeff")
    return [bottoms[0]], []


def _axpy(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    a, x, y = bottoms
    need(len(x) == 4 and x == y and a[:2] == x[:2] and math.prod(a[2:]) == 1, "bottoms of Axpy")
    return [x], []


def _reduction(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    return [bottoms[0][: canonical(layer.reduction_param.axis, len(bottoms[0]))]], []


def _arg_max(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, shape = layer.argmax_param, bottoms[0]
    need(len(shape) >= 1, "rank of ArgMax")
    if p.HasField("axis"):
        axis = canonical(p.axis, len(shape))
        need(1 <= p.top_k <= shape[axis], "top_k")
        return [(*shape[:axis], p.top_k, *shape[axis + 1 :])], []
    need(1 <= p.top_k <= math.prod(shape[1:]), "top_k")
    top = [1] * max(3, len(shape))
    top[0], top[2] = shape[0], p.top_k
    if p.out_max_val:
        top[1] = 2
    return [tuple(top)], []


def _concat(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, shape = layer.concat_param, bottoms[0]
    axis = canonical(p.concat_dim if p.HasField("concat_dim") else p.axis, len(shape))
    for other in bottoms:
        need(len(other) == len(shape), "ranks of Concat")
        need(all(a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)) if i != axis), "extents of Concat")
    return [(*shape[:axis], sum(b[axis] for b in bottoms), *shape[axis + 1 :])], []


def _slice(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, shape = layer.slice_param, bottoms[0]
    axis = canonical(p.slice_dim if p.HasField("slice_dim") else p.axis, len(shape))
    points = list(p.slice_point)
    if points:
        need(len(points) == count - 1, "slice_point")
    else:
        need(shape[axis] % count == 0, "even slices")
        points = [shape[axis] // count * i for i in range(1, count)]
    edges = [0, *points, shape[axis]]
    return [(*shape[:axis], b - a, *shape[axis + 1 :]) for a, b in itertools.pairwise(edges)], []


def _crop(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    (shape, like), p = bottoms, layer.crop_param
    axis = canonical(p.axis, len(shape))
    offsets = list(p.offset) or [0]
    need(len(offsets) in (1, len(shape) - axis) and len(like) >= len(shape), "offset")
    offsets = offsets * (len(shape) - axis) if len(offsets) == 1 else offsets
    top = list(shape)
    for place, offset in zip(range(axis, len(shape)), offsets, strict=True):
        need(offset + like[place] <= shape[place], "crop reaches outside")
        top[place] = like[place]
    return [tuple(top)], []


def _flatten(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, shape = layer.flatten_param, bottoms[0]
    first, last = canonical(p.axis, len(shape)), canonical(p.end_axis, len(shape))
    need(first <= last + 1, "end_axis")
    return [(*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])], []


def _reshape(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, shape = layer.reshape_param, bottoms[0]
    first = p.axis if p.axis >= 0 else len(shape) + p.axis + 1
    last = len(shape) if p.num_axes == -1 else first + p.num_axes
    need(0 <= first <= len(shape) and p.num_axes >= -1 and last <= len(shape), "axis and num_axes")
    dims = list(p.shape.dim)
    need(dims.count(-1) <= 1 and all(dim >= -1 for dim in dims), "-1")
    for place, dim in enumerate(dims):
        if dim == 0:
            need(first + place < len(shape), "0 keeps no axis")
            dims[place] = shape[first + place]
    top = [*shape[:first], *dims, *shape[last:]]
    if -1 in dims:
        known = -math.prod(top)
        need(known > 0 and math.prod(shape) % known == 0, "-1")
        top[first + dims.index(-1)] = math.prod(shape) // known
    need(math.prod(top) == math.prod(shape), "count")
    return [tuple(top)], []


def _tile(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    axis, top = canonical(layer.tile_param.axis, len(bottoms[0])), list(bottoms[0])
    top[axis] *= layer.tile_param.tiles
    return [tuple(top)], []


def _batch_reindex(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    need(len(bottoms[1]) == 1 and len(bottoms[0]) >= 1, "bottoms of BatchReindex")
    return [(bottoms[1][0], *bottoms[0][1:])], []


def _filter(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    selector = bottoms[-1]
    need(len(selector) >= 1 and math.prod(selector[1:]) == 1, "selector")
    need(count == len(bottoms) - 1 and all(len(b) >= 1 and b[0] == selector[0] for b in bottoms), "bottoms of Filter")
    return list(bottoms[:-1]), []


def _copies(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    return [bottoms[0]] * count, []


def _permute(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    order = list(layer.permute_param.order)
    order += [axis for axis in range(len(bottoms[0])) if axis not in order]
    need(sorted(order) == list(range(len(bottoms[0]))), "order")
    return [tuple(bottoms[0][axis] for axis in order)], []


def _interp(layer: Any, bottoms: Sequence[Shape], count: int) -> tuple[list[Shape], list[Shape]]:
    p, shape = layer.interp_param, bottoms[0]
    need(len(shape) == 4, "rank of Interp")
    inner = [n + p.pad_beg + p.pad_end for n in shape[2:]]
    need(min(inner) > 0, "nothing is left")
    if p.height:
        return [(*shape[:2], p.height, p.width)], []
    out = [(n - 1) // p.shrink_factor + 1 for n in inner]
    return [(*shape[:2], *(n + (n - 1) * (p.zoom_factor - 1) for n in out))], []


RULES: dict[str, Rule] = {
    "Eltwise": _eltwise,
    "Axpy": _axpy,
    "Reduction": _reduction,
    "ArgMax": _arg_max,
    "Concat": _concat,
    "Slice": _slice,
    "Crop": _crop,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Tile": _tile,
    "BatchReindex": _batch_reindex,
    "Filter": _filter,
    "Split": _copies,
    "Silence": _copies,
    "Permute": _permute,
    "Interp": _interp,
}
