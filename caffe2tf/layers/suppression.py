"""Non-maximum suppression as one loop of the backend, and how much two boxes overlap.

The loop is `keras.ops.scan` over a model of one step, the one loop of Keras that a .keras file holds: what it repeats is an
argument of the call, where the functions of `while_loop` belong to the operation and cannot be written. A step has one state
and answers it twice, as the next and as what the loop lists; TensorFlow's has no other form. So that no list is longer than
a few states, loops of a few steps run in loops of a few steps: memory grows with the boxes, and with the logarithm of the
steps alone. Images come one by one: their states have a shape that is known, as TensorFlow Lite's loops need.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from caffe2tf.layers.types import Context, Tensor

# (the box that was chosen, all boxes), each its four coordinates, to the overlaps.
Overlap = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]

_CHOSEN, _OUT = -1.0, 3e38
_LOOP = 8  # steps of one loop, about
_MANY = 512  # steps beyond which the end is looked for


def largest(ctx: Context, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(values, places) of the `count` largest of the last axis, the first of equals first: PyTorch's top_k promises no order."""
    if ctx.backend != "torch":
        return tuple(ctx.ops.top_k(x, count))
    order = ctx.ops.argsort(-x, axis=-1)[..., :count]
    return ctx.ops.take_along_axis(x, order, axis=-1), order


def best_first(ctx: Context, scores: Tensor, least: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(scores, their places, whether above `least`) of the `count` largest of the last axis, the first of equals first."""
    scores, order = largest(ctx, ctx.ops.where(scores > least, scores, -_OUT), count)
    return scores, order, scores > -_OUT


def kept(
    ctx: Context,
    boxes: Tensor,
    candidates: Tensor,
    steps: int,
    overlap: Overlap,
    threshold: float,
    eta: float = 1.0,
) -> Tensor:
    """Which boxes stay: of each group the first candidate, then the first of those that overlap none that stayed by more than
    the threshold, and so on for at least `steps` of them, (N, groups, n) booleans.

    `boxes`: (N, groups or 1, n, 4), best first; `candidates`: (N, groups, n), whether a box may stay. Below 1, `eta` lowers the
    threshold of a group with every box that stays, until it is no more than 0.5 (SSD's bbox_util.cpp, ApplyNMSFast).
    """
    ops = ctx.ops
    groups, n = candidates.shape[1:]
    shared = boxes.shape[1]
    first, second = shared * n * 4, shared * n * 4 + groups

    def parts(state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        flat, limit, worst = ops.split(state, [first, second])
        worst = ops.reshape(worst, (groups, n))
        return flat, limit, worst, ops.logical_and(worst >= 0, worst <= limit[:, None])

    def step(state: Tensor) -> Tensor:
        flat, limit, worst, alive = parts(state)
        places = ops.reshape(flat, (shared, n, 4))
        some = ops.any(alive, axis=-1)
        best = ops.argmax(ops.cast(alive, "int32"), axis=-1)
        chosen = ops.logical_and(alive, ops.one_hot(best, n) > 0)
        if shared == 1:
            taken = ops.take(places[0], best, axis=0)[:, None]
        else:
            taken = ops.take_along_axis(places, ops.repeat(best[:, None, None], 4, axis=-1), axis=1)
        found = overlap([taken[..., i] for i in range(4)], [places[..., i] for i in range(4)])
        met = ops.logical_and(worst >= 0, some[:, None])
        worst = ops.where(chosen, _CHOSEN, ops.where(met, ops.maximum(worst, found), worst))
        if eta < 1:
            limit = ops.where(ops.logical_and(some, limit > 0.5), limit * eta, limit)
        return ops.concatenate([flat, limit, ops.reshape(worst, (-1,))], axis=0)

    def unless_done(loop: Tensor, state: Tensor) -> Tensor:
        """Some steps more, where any candidate is left."""
        more = ops.cast(ops.any(parts(state)[3]), "int32")
        return ops.switch(more, [same, _model(ctx, extent, functools.partial(_again, ctx, loop, length))], state)

    def image(state: Tensor) -> Tensor:
        return _again(ctx, loop, -(-steps // length ** (depth - 1)), state)

    extent = second + groups * n
    depth = max(1, math.ceil(math.log(steps, _LOOP)))
    length = math.ceil(round(steps ** (1 / depth), 6))
    loop, same = _model(ctx, extent, step, twice=True), _model(ctx, extent, lambda state: state)
    for _ in range(depth - 1):
        # A choice costs as much as some steps, and TensorFlow Lite has none.
        again = unless_done if steps > _MANY else lambda inner, state: _again(ctx, inner, length, state)
        loop = _model(ctx, extent, functools.partial(again, loop), twice=True)
    worst = ops.where(candidates, 0.0, _OUT)
    limit = ops.zeros_like(worst[..., 0]) + threshold
    start = [ops.reshape(boxes, (-1, first)), limit, ops.reshape(worst, (-1, groups * n))]
    end = ops.map(_model(ctx, extent, image), ops.concatenate(start, axis=1))
    return ops.reshape(end[:, second:], (-1, groups, n)) < 0


def _again(ctx: Context, step: Tensor, length: int, state: Tensor) -> Tensor:
    return ctx.ops.scan(step, state, length=length)[0]


def _model(ctx: Context, extent: int, function: Callable[[Tensor], Tensor], twice: bool = False) -> Tensor:
    """`function` of a state as a model; `twice` as a step of a loop."""
    state = ctx.keras.Input(batch_shape=(extent,), dtype="float32")
    after = function(state)
    return ctx.keras.Model(state, [after, after] if twice else after, dtype="float32")


def plus(x: Tensor, along: Any) -> Tensor:
    """`x + along` where `along` lies along an axis that is not the last: Keras takes the second of a sum for a bias of the
    channels where an extent is as theirs (`layers/scaling.py`), but no second of a difference."""
    return x - (-along)


def overlaps(ctx: Context, pixel: float) -> Overlap:
    """Intersection over union. `pixel` is what an extent counts beyond the difference of its ends: 1 where the ends are the
    first and the last pixel (py-faster-rcnn's py_cpu_nms.py), 0 where they are edges (SSD's bbox_util.cpp, JaccardOverlap)."""
    ops = ctx.ops

    def area(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
        return ops.maximum(x2 - x1 + pixel, 0.0) * ops.maximum(y2 - y1 + pixel, 0.0)

    def overlap(one: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        (ax, ay, bx, by), (cx, cy, dx, dy) = one, others
        both = area(ops.maximum(ax, cx), ops.maximum(ay, cy), ops.minimum(bx, dx), ops.minimum(by, dy))
        return both / ops.maximum(area(*one) + area(*others) - both, 1e-30)

    return overlap
