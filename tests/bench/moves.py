"""Random legal calls of what moves, picks, joins and parts values: all exact."""

from random import Random
from typing import Any

import keras
import numpy as np
from keras import ops

from tests.bench import plain
from tests.bench.calls import Call, operation, shape_of, values


@operation
def transpose(random: Random) -> Call:
    x = values(random, *shape_of(random, 1, 6, 7))
    order = random.sample(range(x.ndim), x.ndim)
    return Call(lambda x: ops.transpose(x, order), [x], x.transpose(order), said={"order": order})


@operation
def moveaxis(random: Random) -> Call:
    x = values(random, *shape_of(random, 1, 5))
    source, target = (random.randrange(-x.ndim, x.ndim) for _ in range(2))
    said = {"from": source, "to": target}
    return Call(lambda x: ops.moveaxis(x, source, target), [x], np.moveaxis(x, source, target), said=said)


@operation
def reshape(random: Random) -> Call:
    x = values(random, *shape_of(random, 1, 5))
    rest, shape = x.size, []
    while rest > 1:
        shape.append(random.choice([n for n in range(2, rest + 1) if rest % n == 0]))
        rest //= shape[-1]
    shape = [*shape, 1][random.choice([0, 0, 1]) if not shape else 0 :]
    expected = x.reshape(shape)
    if shape:
        shape[random.randrange(len(shape))] = -1
    return Call(lambda x: ops.reshape(x, shape), [x], expected, said={"shape": shape})


@operation
def expand_dims(random: Random) -> Call:
    x = values(random, *shape_of(random))
    axis = random.randrange(-x.ndim - 1, x.ndim + 1)
    return Call(lambda x: ops.expand_dims(x, axis), [x], np.expand_dims(x, axis), said={"axis": axis})


@operation
def split(random: Random) -> Call:
    """The parts are put together in the other order, so that one tensor tells of all."""
    shape = list(shape_of(random))
    axis, parts = random.randrange(len(shape)), random.randint(1, 4)
    shape[axis] *= parts
    x = values(random, *shape)

    def run(x: Any) -> Any:
        return ops.concatenate(ops.split(x, parts, axis=axis)[::-1], axis=axis)

    expected = np.concatenate(np.split(x, parts, axis)[::-1], axis)
    return Call(run, [x], expected, said={"parts": parts, "axis": axis})


@operation
def stack(random: Random) -> Call:
    shape, count = shape_of(random), random.randint(1, 5)
    xs = [values(random, *shape) for _ in range(count)]
    axis = random.randrange(-len(shape) - 1, len(shape) + 1)
    return Call(lambda *xs: ops.stack(xs, axis=axis), xs, np.stack(xs, axis), said={"axis": axis})


@operation
def concatenate(random: Random) -> Call:
    shape = shape_of(random)
    axis = random.randrange(len(shape))
    xs = [
        values(random, *(random.randint(1, 9) if a == axis else n for a, n in enumerate(shape)))
        for _ in range(random.randint(1, 5))
    ]
    return Call(lambda *xs: ops.concatenate(xs, axis=axis), xs, np.concatenate(xs, axis), said={"axis": axis})


@operation
def strided_slice(random: Random) -> Call:
    x = values(random, *shape_of(random, 1, 5, 9))
    index = []
    for n in x.shape:
        first = random.choice([None, random.randrange(n)])
        last = random.choice([None, random.randint((first or 0) + 1, n), -random.randrange(1, n + 1)])
        index.append(slice(first, last, random.choice([None, 1, 2, 3])))
    index = tuple(index)
    return Call(lambda x: x[index], [x], x[index], said={"index": index})


@operation
def pad(random: Random) -> Call:
    x = values(random, *shape_of(random, 1, 5))
    amounts = [(random.randint(0, 3), random.randint(0, 3)) for _ in x.shape]
    value = random.choice([0.0, 1.0, float(np.finfo(np.float32).min)])
    expected = np.pad(x, amounts, constant_values=np.float32(value))
    said = {"amounts": amounts, "value": value}
    return Call(lambda x: ops.pad(x, amounts, constant_values=value), [x], expected, said=said)


@operation
def padding_layer(random: Random) -> Call:
    """ZeroPadding and Cropping of one to three spatial axes."""
    rank, crop = random.randint(1, 3), random.random() < 0.5
    amounts = [(random.randint(0, 3), random.randint(0, 3)) for _ in range(rank)]
    x = values(random, *shape_of(random, 1, 1), *(random.randint(7, 9) for _ in range(rank)), random.randint(1, 5))
    layer = getattr(keras.layers, f"{'Cropping' if crop else 'ZeroPadding'}{rank}D")
    layer = layer(amounts[0] if rank == 1 else amounts, **({} if rank == 1 else {"data_format": "channels_last"}))
    inner = tuple(slice(a, n - b) for (a, b), n in zip(amounts, x.shape[1:-1], strict=True))
    expected = x[(slice(None), *inner)] if crop else np.pad(x, [(0, 0), *amounts, (0, 0)])
    return Call(layer, [x], expected, said={"crop": crop, "amounts": amounts})


@operation
def upsampling(random: Random) -> Call:
    x = values(random, *shape_of(random, 4, 4))
    factors = (random.randint(1, 4), random.randint(1, 4))
    layer = keras.layers.UpSampling2D(factors, data_format="channels_last")
    return Call(layer, [x], plain.repeated(x, factors), said={"factors": factors})


@operation
def take(random: Random) -> Call:
    x = values(random, *shape_of(random, 1, 5))
    axis = random.randrange(x.ndim)
    places = np.random.randint(0, x.shape[axis], shape_of(random, 1, 2)).astype(np.int32)
    expected = np.take(x, places, axis)
    if random.random() < 0.5:  # places that are known when the model is made
        return Call(lambda x: ops.take(x, places, axis=axis), [x], expected, said={"axis": axis, "places": places})
    return Call(lambda x, places: ops.take(x, places, axis=axis), [x, places], expected, said={"axis": axis})


@operation
def take_along_axis(random: Random) -> Call:
    x = values(random, *shape_of(random, 2, 4))
    axis = random.randrange(x.ndim)
    shape = [random.randint(1, 9) if a == axis else random.choice([n, 1]) for a, n in enumerate(x.shape)]
    places = np.random.randint(0, x.shape[axis], shape).astype(np.int32)

    def run(x: Any, places: Any) -> Any:
        return ops.take_along_axis(x, places, axis=axis)

    return Call(run, [x, places], np.take_along_axis(x, places, axis), said={"axis": axis})


@operation
def embedding(random: Random) -> Call:
    rows, width = random.randint(1, 9), random.randint(1, 9)
    table, places = values(random, rows, width), np.random.randint(0, rows, shape_of(random, 1, 3)).astype(np.int32)
    layer = keras.layers.Embedding(rows, width)
    layer.build()
    layer.set_weights([table])
    return Call(layer, [places], table[places], said={"rows": rows, "width": width})


@operation
def flip(random: Random) -> Call:
    x = values(random, *shape_of(random))
    axis = random.randrange(-x.ndim, x.ndim)
    return Call(lambda x: ops.flip(x, axis=axis), [x], np.flip(x, axis), said={"axis": axis})


@operation
def top_k(random: Random) -> Call:
    """Values and places, the earlier place first where values tie."""
    x = values(random, *shape_of(random, 1, 3), random.randint(1, 40))
    k = random.choice([1, x.shape[-1], random.randint(1, x.shape[-1])])

    def run(x: Any) -> Any:
        found, places = ops.top_k(x, k)
        return ops.stack([found, ops.cast(places, "float32")], axis=0)

    return Call(run, [x], np.stack(plain.top_k(x, k)), said={"k": k})


@operation
def argmax(random: Random) -> Call:
    x = values(random, *shape_of(random, 1, 5, 9))
    axis = random.randrange(-x.ndim, x.ndim)
    return Call(lambda x: ops.argmax(x, axis=axis), [x], np.argmax(x, axis), said={"axis": axis})


@operation
def one_hot(random: Random) -> Call:
    count = random.randint(1, 9)
    places = np.random.randint(0, count, shape_of(random, 1, 4)).astype(np.int32)
    return Call(lambda places: ops.one_hot(places, count), [places], np.eye(count)[places], said={"count": count})


@operation
def scatter(random: Random) -> Call:
    """Small integers, so that values that meet sum exactly in any order."""
    count, n = random.randint(1, 40), random.randint(1, 40)
    places = np.random.randint(0, count, n).astype(np.int32)
    given = np.random.randint(-9, 10, n).astype(np.float32)

    def run(places: Any, given: Any) -> Any:
        return ops.scatter(ops.expand_dims(places, -1), given, (count,))

    return Call(run, [places, given], plain.scattered(places, given, count), said={"count": count})


@operation
def nonzero(random: Random) -> Call:
    x = values(random, random.randint(1, 40)) * np.float32(random.choice([0, 1, 1, 1]))
    return Call(lambda x: ops.reshape(ops.nonzero(x)[0], (-1,)), [x], np.nonzero(x)[0])
