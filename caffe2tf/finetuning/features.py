"""What the frozen part of a network makes of pictures, computed once: into memory, or into shards on the disk that a later run
with the same network and pictures goes on with."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf import words
from caffe2tf.errors import ParseError
from caffe2tf.files.shards import INDEX, KINDS, VALID, Shards, per_shard
from caffe2tf.finetuning import batches, rows
from caffe2tf.finetuning.data import DataError, Source
from caffe2tf.finetuning.rows import Column, Places, Rows
from caffe2tf.images.preprocess import Preprocessing
from caffe2tf.keras_model import device as devices
from caffe2tf.keras_model import model as models
from caffe2tf.keras_model.build import output_shapes, to_numpy
from caffe2tf.keras_model.types import KerasModel
from caffe2tf.net.net import Net

BATCH = 32
Step = Callable[[int], object]
Shapes = dict[str, tuple[int, ...]]
Computed = Iterator[tuple[Places, Sequence[NDArray[Any]]]]  # rows, and for each array its values of them
Compute = Callable[[list[Places]], Computed]  # for rows in the batches in which they are computed


def about(
    net: Net, blobs: Sequence[str], how: Preprocessing, sources: Sequence[Source], precision: str
) -> dict[str, Any]:
    """What features are of: the digests of the network's text and weights and of the list of pictures, and settings."""
    found = hashlib.sha256()
    for layer in net.param.layer:
        if layer.type != "Dropout" or layer.top[0] != layer.bottom[0]:  # which does nothing here
            found.update(layer.SerializeToString(deterministic=True))
    for name in sorted(net.arrays):
        for array in net.arrays[name]:
            found.update(np.ascontiguousarray(array).data)
    return {
        "network": f"{net.name or 'network'} {found.hexdigest()[:12]}",
        "pictures": f"{len(sources)} {rows.digest(sources)[:12]}",
        "precision": precision,
        "blobs": list(blobs),
        "preprocessing": asdict(how),
    }  # fmt: skip


def digest(said: dict[str, Any]) -> str:
    """By which features are known from what they are of."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def values(net: Net, blobs: Iterable[str], images: Rows, how: Preprocessing, wanted: Sequence[Places]) -> Computed:
    """(rows, [(rows, ...) channels last of each of `blobs`]) for the rows of each of `wanted`, of uint8 BGR pictures (N, H, W, C);
    the pictures of the next are read meanwhile."""
    import tensorflow as tf

    run = _compiled(models.to_keras(net, list(blobs)), how_shape(how, images))
    given = batches.piped(lambda step: [how.batch(images[wanted[step]])], range(len(wanted)), [tf.float32])
    for places, (batch,) in zip(wanted, given, strict=True):
        found = run(batch)
        yield places, [to_numpy(value) for value in (found if isinstance(found, (list, tuple)) else [found])]


def _compiled(model: KerasModel, shape: Sequence[int]) -> Callable[[Any], Any]:
    """`model` as a compiled function of TensorFlow's tensors (N, *shape) of any N."""
    if devices.backend() != "tensorflow":
        return lambda batch: model.predict_on_batch(np.asarray(batch))
    import tensorflow as tf

    spec = tf.TensorSpec((None, *shape), tf.float32)
    run: Callable[[Any], Any] = tf.function(lambda x: model(x, training=False), [spec], autograph=False)
    return run


def outputs(net: Net, blob: str, given: Sequence[Rows], wanted: Sequence[Places]) -> Computed:
    """The same of `blob` of `net`, a Plan.top, for the features of its inputs."""
    model = models.to_keras(net, [blob])
    for places in wanted:
        values = [rows[places] for rows in given]
        yield places, [to_numpy(model(values if len(values) > 1 else values[0], training=False))]


def how_shape(how: Preprocessing, images: Rows) -> tuple[int, ...]:
    """(H, W, C) of the input that `how` makes of `images`."""
    return (*(how.crop or images.shape[1:3]), images.shape[3])


def groups(mine: NDArray[np.bool_]) -> list[Places]:
    """The rows that are `mine`, in the batches that they are computed in: the same however many are left to do, since the last
    bits of a value may depend on the batch that it is computed in."""
    parts = (np.arange(start, min(start + BATCH, len(mine))) for start in range(0, len(mine), BATCH))
    return [part[mine[part]] for part in parts if mine[part].any()]


def shapes(net: Net, blobs: Sequence[str], how: Preprocessing, images: Rows) -> Shapes:
    """{blob: the shape of a row} of what `values` gives."""
    found = output_shapes(models.to_keras(net, list(blobs)), (1, *how_shape(how, images)))
    made: Shapes = {}
    for blob, (_, *shape) in zip(blobs, found, strict=True):
        made[blob] = tuple(extent for extent in shape if extent is not None)
        if None in shape:
            raise DataError(f"blob '{blob}' has a shape that depends on the picture; its features cannot be stored")
    return made


def size(made: Shapes, count: int) -> int:
    """The bytes of `count` rows."""
    return sum(4 * int(np.prod(shape, dtype=np.int64)) for shape in made.values()) * count


def remembered(made: Shapes, mine: NDArray[np.bool_], step: Step, compute: Compute) -> list[NDArray[np.float32]]:
    """[(N, ...)] of the blobs in `made`, in memory; rows that are not `mine` hold nothing."""
    stores = [np.zeros((len(mine), *shape), np.float32) for shape in made.values()]
    for places, found in compute(groups(mine)):
        for store, value in zip(stores, found, strict=True):
            store[places] = value
        step(len(places))
    return stores


def computed(
    net: Net, blobs: Sequence[str], images: Rows, how: Preprocessing, step: Step = lambda done: None
) -> list[NDArray[np.float32]]:
    """[(N, ...) channels last] of `blobs` of `net` for all of `images`, in memory."""
    made, every = shapes(net, blobs, how, images), np.ones(images.shape[0], bool)
    return remembered(made, every, step, lambda wanted: values(net, blobs, images, how, wanted))


def held(made: Shapes, count: int, step: Step, compute: Compute) -> tuple[Any, ...]:
    """The same as tensors, filled in their place: a step takes rows of them by itself, which is faster than handing them over."""
    import tensorflow as tf

    stores = [tf.Variable(tf.zeros((count, *shape))) for shape in made.values()]
    for places, found in compute(groups(np.ones(count, bool))):
        for store, value in zip(stores, found, strict=True):
            store[int(places[0]) : int(places[-1]) + 1].assign(value)
        step(len(places))
    return tuple(store.read_value() for store in stores)


def there(folder: str, said: dict[str, Any]) -> Shards | None:
    """The Shards in `folder`, where they are of what is `said`; None where there is no index. Raises ParseError."""
    if not os.path.exists(os.path.join(folder, INDEX)):
        return None
    found = Shards.read(folder)
    return found if found.digest == digest(said) else None


def layout(folder: str, said: dict[str, Any], made: Shapes, count: int) -> Shards:
    """The Shards of `count` rows of the blobs in `made`, that `kept` fills."""
    each = per_shard(count, size(made, 1))
    return Shards(folder, digest(said), said, count, each, {blob: ("F32", shape) for blob, shape in made.items()})


def kept(
    shards: Shards,
    mine: NDArray[np.bool_],
    bad: NDArray[np.bool_],
    step: Step,
    say: Callable[[str], object],
    compute: Compute,
) -> list[Column]:
    """The Columns of `shards`, of whose rows those that are `mine` are computed where they are not there yet. `bad` says which
    pictures could not be read, and learns it of those whose rows are there. A shard that is cut is made anew, and said. Raises OutputError where the
    disk is full: what is whole stays."""
    shards.begin()
    todo = np.zeros(shards.rows, bool)
    for shard in range(shards.count):
        span = shards.span(shard)
        if not mine[span.start]:
            continue
        try:
            whole = shards.whole(shard)
        except ParseError as error:
            say(f"{str(error).split(';')[0]}: it is made anew")
            os.remove(shards.path(shard))
            whole = False
        todo[span.start : span.stop] = not whole
        if whole:
            bad[span.start : span.stop] = shards.values(VALID, np.arange(span.start, span.stop)) == 0
    step(int((mine & ~todo).sum()))
    needed, free = int(todo.sum()) * shards.row_bytes, shutil.disk_usage(shards.folder).free
    if needed > free:
        raise DataError(
            f"{shards.folder}: features take {words.size(needed)} there, and the disk has {words.size(free)} left; `cache` names "
            "another place, or none"
        )
    with ThreadPoolExecutor(1) as pool:
        written: list[Future[None]] = []
        open_: dict[int, tuple[dict[str, NDArray[Any]], list[int]]] = {}
        # Whole batches, as they would be without a break.
        wanted = [group for group in groups(mine) if todo[group].any()]
        for places, found in compute(wanted):
            for shard in np.unique(places[todo[places]] // shards.each):
                _fill(shards, int(shard), open_, places, found)
                arrays, left = open_[int(shard)]
                if not left[0]:
                    span = shards.span(int(shard))
                    for one in written:  # one at a time, while the next is computed
                        one.result()
                    written = [pool.submit(shards.write, int(shard), arrays, ~bad[span.start : span.stop])]
                    del open_[int(shard)]
            step(int(todo[places].sum()))
        for one in written:
            one.result()
    return [Column(shards, blob) for blob in shards.arrays]


def _fill(
    shards: Shards,
    shard: int,
    open_: dict[int, tuple[dict[str, NDArray[Any]], list[int]]],
    places: Places,
    found: Sequence[NDArray[Any]],
) -> None:
    """Puts what was `found` for `places` into the arrays of `shard`, and counts what it still lacks."""
    span = shards.span(shard)
    if shard not in open_:
        arrays = {name: np.empty((len(span), *shape), KINDS[kind]) for name, (kind, shape) in shards.arrays.items()}
        open_[shard] = arrays, [len(span)]
    arrays, left = open_[shard]
    inside = (places >= span.start) & (places < span.stop)
    for array, value in zip(arrays.values(), found, strict=True):
        array[places[inside] - span.start] = value[inside]
    left[0] -= int(inside.sum())
