"""What a layer that joins, parts, moves, picks or repeats values may look like, and layers with states or constants."""

import math
from typing import Any

import numpy as np

from caffe2tf.caffe.caffe_pb2 import ReductionParameter
from tests.random_nets.legal import Shape, need
from tests.random_nets.making import Blob, Maker


def _ranked(blob: Blob) -> bool:
    return len(blob.shape) >= 1


def reduction(m: Maker) -> None:
    x = m.pick(_ranked)
    kind = ReductionParameter
    params: dict[str, Any] = {"operation": m.one(kind.SUM, kind.ASUM, kind.SUMSQ, kind.MEAN)}
    if m.chance(0.6):
        params["axis"] = m.axis(len(x.shape))
    if m.chance(0.4):
        params["coeff"] = m.number(-2, 2)
    square = params["operation"] == kind.SUMSQ
    m.add(
        "Reduction",
        [x],
        bound=2 * x.bound ** (2 if square else 1) * math.sqrt(math.prod(x.shape)),
        reduction_param=params,
    )


def _averages_nothing(layer: Any) -> bool:
    """Whether the last window of an average may lie outside its bottom, where it is 0 / 0."""
    p = layer.pooling_param
    steps = (p.stride_h or p.stride, p.stride_w or p.stride)
    kernels = (p.kernel_h or p.kernel_size, p.kernel_w or p.kernel_size)
    return layer.type == "Pooling" and any(step > kernel for step, kernel in zip(steps, kernels, strict=True))


def arg_max(m: Maker) -> None:
    x = m.pick(_ranked)
    need("nan" in m.features or not any(_averages_nothing(layer) for layer in m.net.layer), "ArgMax of NaN")
    params: dict[str, Any] = {}
    if m.chance(0.5):
        params["axis"] = m.axis(len(x.shape))
        largest = x.shape[params["axis"]]
    else:
        largest = math.prod(x.shape[1:])
    if m.chance(0.6):
        params["top_k"] = m.some(1, min(4, largest))
    if m.chance(0.4):
        params["out_max_val"] = m.chance(0.8)
    (top,) = m.add("ArgMax", [x], bound=max(x.bound, largest), **({"argmax_param": params} if params else {}))
    if not params.get("out_max_val"):
        top.low, top.whole = 0.0, largest


def concat(m: Maker) -> None:
    x = m.pick(_ranked)
    axis = m.axis(len(x.shape))
    place = axis % len(x.shape)
    good = [
        b
        for b in m.blobs
        if len(b.shape) == len(x.shape)
        and all(p == q for i, (p, q) in enumerate(zip(b.shape, x.shape, strict=True)) if i != place)
    ]
    bottoms = [x, *(m.one(*good) for _ in range(m.some(0, 2)))]
    if len(bottoms) == 1 and m.chance(0.7):
        bottoms.append(m.input(tuple(m.some(1, 3) if i == place else n for i, n in enumerate(x.real))))
    low = 0.0 if all(b.low is not None for b in bottoms) else None
    params = {"concat_dim": place} if m.chance(0.2) else {"axis": axis}
    m.add("Concat", bottoms, low=low, **({} if place == 1 and m.chance(0.5) else {"concat_param": params}))


def slices(m: Maker) -> None:
    x = m.pick(_ranked)
    axis = m.axis(len(x.shape))
    n = x.shape[axis]
    params: dict[str, Any] = {}
    count = m.some(1, min(3, n))
    if axis != 1 or m.chance(0.5):
        params["slice_dim" if axis >= 0 and m.chance(0.2) else "axis"] = axis
    if n % count or m.chance(0.5):
        params["slice_point"] = sorted(m.random.choice(np.arange(1, n), count - 1, replace=False).tolist())
    m.add("Slice", [x], count, low=x.low, **({"slice_param": params} if params else {}))


def crop(m: Maker) -> None:
    x = m.pick(_ranked)
    params: dict[str, Any] = {}
    first = 2
    if len(x.shape) <= 2 or m.chance(0.5):
        axis = m.axis(len(x.shape))
        params["axis"], first = axis, axis % len(x.shape)
    like = [n if i < first else m.some(1, n) for i, n in enumerate(x.real)]
    room = [n - wanted for n, wanted in zip(x.real[first:], like[first:], strict=True)]
    if m.chance(0.6):
        params["offset"] = [m.some(0, n) for n in room] if m.chance(0.6) else [m.some(0, min(room))]
    bigger = [m.some(1, 3) if i < first else n for i, n in enumerate(like)]
    if "crop_ranks" in m.features and m.chance(0.15):
        bigger.append(2)
    same = [b for b in m.blobs if b.shape == tuple(bigger) and b is not x]
    m.add(
        "Crop",
        [x, m.one(*same) if same else m.input(tuple(bigger))],
        low=x.low,
        **({"crop_param": params} if params else {}),
    )


def flatten(m: Maker) -> None:
    x = m.pick(_ranked)
    params: dict[str, Any] = {}
    rank = len(x.shape)
    if m.chance(0.5) or rank < 2:
        params["axis"] = m.axis(rank)
    first = params.get("axis", 1) % rank
    if m.chance(0.4):
        last = m.some(first - 1 if first and "flatten_before" in m.features else first, rank - 1)
        params["end_axis"] = last - rank if m.chance(0.4) else last
    m.add("Flatten", [x], low=x.low, **({"flatten_param": params} if params else {}))


def reshape(m: Maker) -> None:
    x = m.pick()
    rank = len(x.shape)
    first = m.some(0, min(rank, 2))
    last = m.some(first, rank) if m.chance(0.4) else rank
    dims = _factors(m, math.prod(x.shape[first:last]))
    if last > first and m.chance(0.5) and dims[0] != x.shape[first]:
        dims = [x.shape[first], *_factors(m, math.prod(x.shape[first + 1 : last]))]
    dims = [0 if first + i < rank and n == x.shape[first + i] and m.chance(0.6) else n for i, n in enumerate(dims)]
    if dims and m.chance(0.5):
        dims[m.some(0, len(dims) - 1)] = -1
    params: dict[str, Any] = {"shape": {"dim": dims}}
    if first or m.chance(0.2):
        params["axis"] = first - rank - 1 if m.chance(0.3) else first
    if last < rank or m.chance(0.2):
        params["num_axes"] = last - first
    m.add("Reshape", [x], low=x.low, reshape_param=params)


def _factors(m: Maker, n: int) -> list[int]:
    """A few whole numbers with the product `n`."""
    found = []
    for _ in range(m.some(1, 3)):
        found.append(m.one(*[d for d in range(1, n + 1) if n % d == 0]))
        n //= found[-1]
    found[m.some(0, len(found) - 1)] *= n
    return found


def tile(m: Maker) -> None:
    x = m.pick(_ranked)
    axis = m.axis(len(x.shape))
    params = {"tiles": m.some(1, 3)} | ({"axis": axis} if axis != 1 or m.chance(0.3) else {})
    m.add("Tile", [x], low=x.low, tile_param=params)


def split(m: Maker) -> None:
    x = m.pick()
    m.add("Split", [x], m.some(1, 3), low=x.low)


def silence(m: Maker) -> None:
    need(len(m.blobs) > 2, "blobs to spare")
    m.add("Silence", [m.pick()], 0)


def batch_reindex(m: Maker) -> None:
    x = m.pick(_ranked)
    items = m.random.randint(0, x.real[0], m.some(1, 4)).astype(np.float32)
    m.add("BatchReindex", [x, m.fixed_input(items)], low=x.low)


def filter_items(m: Maker) -> None:
    x = m.pick(lambda blob: _ranked(blob) and blob.shape == blob.real and blob.shape[0] > 1)
    selector = (m.random.random_sample(x.shape[0]) < 0.6) * m.one(1.0, 1.0, -0.5)
    selector[m.random.permutation(x.shape[0])[:2]] = 1.0, 0.0  # so that what is counted differs from what could be
    chosen = m.fixed_input(selector.reshape(m.one((-1,), (-1, 1), (-1, 1, 1, 1))).astype(np.float32))
    bottoms = [
        x,
        *[b for b in m.blobs if b.shape[:1] == x.shape[:1] and b.real == b.shape and b is not x and b is not chosen],
    ]
    bottoms = bottoms[: m.some(1, 2)]
    tops = m.add("Filter", [*bottoms, chosen], len(bottoms))
    for top, bottom in zip(tops, bottoms, strict=True):
        top.real, top.low = (int(np.count_nonzero(selector)), *top.shape[1:]), bottom.low


def embed(m: Maker) -> None:
    whole = [blob for blob in m.blobs if blob.whole is not None]
    if whole and m.chance(0.6):
        x = m.one(*whole)
        limit = (x.whole or 1) + m.some(0, 2)
    else:
        limit = m.some(2, 6)
        shape = tuple(m.some(1, 3) for _ in range(m.some(1, 3)))
        x = m.input(shape, lambda shape: m.random.randint(0, limit, shape).astype(np.float32))
    params: dict[str, Any] = {"num_output": m.some(1, 4), "input_dim": limit}
    if m.chance(0.4):
        params["bias_term"] = m.chance(0.4)
    m.add("Embed", [x], embed_param=params, bound=2.0)


def recurrent(m: Maker) -> None:
    kind = m.one("LSTM", "RNN")
    good = [b for b in m.blobs if 3 <= len(b.shape) <= 5 and b.shape[0] <= 4 and b.shape == b.real]
    x = m.one(*good) if good and m.chance(0.7) else m.input((m.some(1, 4), m.some(1, 3), m.some(1, 4)))
    steps, items = x.shape[:2]
    cont = m.input((steps, items), lambda shape: (m.random.random_sample(shape) < 0.7).astype(np.float32))
    bottoms, wide = [x, cont], m.some(1, 4)
    if m.chance(0.3):
        bottoms.append(m.input((items, m.some(1, 3)) + ((2,) if m.chance(0.2) else ())))
    expose = m.chance(0.35)
    states = (2 if kind == "LSTM" else 1) if expose else 0
    bottoms += [m.input((1, items, wide), bound=1.0) for _ in range(states)]
    params = {"num_output": wide} | ({"expose_hidden": True} if expose else {})
    m.add(kind, bottoms, 1 + states, bound=1.0, recurrent_param=params)


def lstm_unit(m: Maker) -> None:
    items, wide = m.some(1, 3), m.some(1, 3)
    cont = m.input((1, items), lambda shape: (m.random.random_sample(shape) < 0.7).astype(np.float32))
    m.add("LSTMUnit", [m.input((1, items, wide)), m.input((1, items, 4 * wide)), cont], 2, bound=4.0)


def constant(m: Maker) -> None:
    """DummyData or Parameter of a shape that something else has, and mostly a layer that joins the two."""
    like = m.pick()
    need(bool(like.shape) or "no_axes" in m.features, "no axes")
    if m.chance(0.4):
        (blob,) = m.add("Parameter", (), parameter_param={"shape": {"dim": like.shape}})
    else:
        filler = [{"type": "constant", "value": m.number(-2, 2)}] if m.chance(0.8) else []
        if len(like.shape) == 4 and m.chance(0.3):
            names = ("num", "channels", "height", "width")
            params: dict[str, Any] = {name: [n] for name, n in zip(names, like.shape, strict=True)}
            count = 2 if "dummy_uneven" in m.features and m.chance(0.3) else 1
            if count == 2:
                params[m.one(*names)].append(m.some(1, 3))
            blob = m.add("DummyData", (), count, dummy_data_param=params | {"data_filler": filler})[0]
        else:
            count = m.some(1, 2)
            shapes = [{"dim": like.shape}] * (count if m.chance(0.5) else 1)
            params = {"shape": shapes, "data_filler": filler * (count if m.chance(0.5) else 1)}
            blob = m.add("DummyData", (), count, dummy_data_param=params)[0]
    if "constant_weights" not in m.features:
        m.blobs = [b for b in m.blobs if b.name not in m.net.layer[-1].top]
    elif m.chance(0.5):
        return
    axis = {"concat_param": {"axis": 0}}
    if not like.shape or m.chance(0.5):
        m.add("Eltwise", m.one([like, blob], [blob, like]), bound=like.bound + 3)
    else:
        m.add("Concat", m.one([like, blob], [blob, like]), bound=max(like.bound, 3), **axis)


def forks(m: Maker) -> None:
    """A layer that Caffe 1.0 does not have."""
    need("forks" in m.features, "forks")
    kind = m.one("Permute", "ShuffleChannel", "Interp", "Axpy", "Normalize", "BN")
    x = m.pick(lambda blob: len(blob.shape) == 4 or (kind == "Permute" and 1 <= len(blob.shape) <= 5))
    params: dict[str, Any] = {}
    if kind == "Permute":
        order = m.random.permutation(len(x.shape)).tolist()
        params = {"permute_param": {"order": order[: m.some(1, len(order))]}}
    elif kind == "ShuffleChannel":
        groups = [d for d in range(1, x.shape[1] + 1) if x.shape[1] % d == 0]
        params = {"shuffle_channel_param": {"group": m.one(*groups)}}
    elif kind == "Interp":
        size = m.one({"height": m.some(1, 7), "width": m.some(1, 7)}, {"zoom_factor": 2}, {"shrink_factor": 2})
        params = {"interp_param": size | ({"pad_end": -1} if min(x.shape[2:]) > 2 and m.chance(0.3) else {})}
    elif kind == "Normalize":
        params = {"norm_param": {"across_spatial": m.chance(0.5), "channel_shared": m.chance(0.5)}}
    elif kind == "BN" and m.chance(0.5):
        params = {"bn_param": {"eps": 1e-3}}
    bottoms = [m.input((*x.real[:2], 1, 1)), x, m.input(x.real)] if kind == "Axpy" else [x]
    m.add(kind, bottoms, bound=4 * x.bound, **params)


def first_shape(m: Maker) -> Shape:
    """The shape of the first input: mostly a small batch of small pictures, at times of any rank."""
    if m.chance(0.7):
        return (m.some(1, 3), m.some(1, 5), m.some(1, 7), m.some(1, 7))
    rank = m.one(1, 2, 2, 3, 3, 5, 5, 6, *([0] if "no_axes" in m.features else []))
    return tuple(m.some(1, 4 if rank < 5 else 3) for _ in range(rank))
