"""Batches of examples through tf.data: in the same order on one device, on several, and after a break.

tf.data runs `_WORKERS` batches at a time and keeps `_AHEAD` ready, whatever the number of examples: that is all that is in
memory of what is not cached. What makes a batch is Python: Pillow decodes without Python's lock, in threads of its own, and
NumPy resizes as OpenCV does, bit for bit, which no operation of TensorFlow's does.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.finetuning.rows import Places, Rows
from caffe2tf.images.preprocess import Preprocessing

Key = tuple[int, ...]  # the numbers of seed, stage and epoch
Share = tuple[int, Sequence[int]]  # how many replicas share a batch, which of them are here
HELD_LIMIT = 1 << 30  # bytes
_WORKERS, _AHEAD = 2, 2
BUFFERED = _WORKERS + _AHEAD + 1  # batches that are in memory at once


@dataclass
class Examples:
    """What the trained part takes: for each of its inputs rows (N, ...) channels last, or pictures to make it of.

    `labels`: (N) class numbers; `make(places, key)`: the inputs, where `arrays` are pictures; `span`: (least, largest)
    value of the network's own input, `usual` of what it was trained on; `held`: all rows of each input as a tensor, of which
    a step then takes `rows[place]` by itself; `owners`: (N) which worker reads each; `good(places)`: which have values, once
    they are read.
    """

    arrays: Sequence[Rows]
    labels: NDArray[np.integer[Any]]
    make: Callable[[Places, Key | None], list[NDArray[np.float32]]] | None = None
    span: tuple[float, float] = (0.0, 0.0)
    usual: tuple[float, float] | None = None
    held: tuple[Any, ...] = ()
    rows: Places | None = None
    owners: NDArray[np.intp] | None = None
    good: Callable[[Places], NDArray[np.bool_]] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, places: Places, key: Key | None) -> list[NDArray[Any]]:
        if self.held:
            return [(places if self.rows is None else self.rows[places]).astype(np.int32)]
        if self.make:
            return [*self.make(places, key)]
        return [array[places] for array in self.arrays]


def pictures(
    images: Rows,
    labels: NDArray[np.integer[Any]],
    how: Preprocessing,
    augment: Sequence[str] = (),
    usual: tuple[float, float] | None = None,
) -> Examples:
    """Examples that are made of uint8 BGR pictures (N, H, W, C) at every step, with `augment` of mirror, crop, colour in
    training. What chance does to a picture depends on the seed, the epoch and its place alone."""

    def one(image: NDArray[np.uint8], key: Key) -> NDArray[np.float32]:
        random, corner = np.random.default_rng(key), None
        if "colour" in augment:
            gain, shift = random.uniform(0.8, 1.2), random.uniform(-20, 20)
            image = np.clip(image * gain + shift, 0, 255).astype(np.uint8)
        if "crop" in augment:
            (height, width), (h, w) = image.shape[:2], how.crop or image.shape[:2]
            corner = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
        values = how.apply(image, corner)
        # After the mean, as Caffe mirrors (data_transformer.cpp).
        return values[:, :, ::-1] if "mirror" in augment and random.random() < 0.5 else values

    def make(places: Places, key: Key | None) -> list[NDArray[np.float32]]:
        given = images[places]
        if key is None or not augment:
            return [how.batch(given)]
        varied = [one(image, (*key, int(place))) for image, place in zip(given, places, strict=True)]
        return [np.ascontiguousarray(np.stack(varied).transpose(0, 2, 3, 1))]

    return Examples([images], labels, make, how.span, usual)


def piped(
    load: Callable[[int], list[NDArray[Any]]], steps: range, kinds: Sequence[Any]
) -> Generator[tuple[Any, ...], None, None]:
    """The tensors, of `kinds`, that `load` makes for each of `steps`, in order and made ahead. Raises what `load` raises."""
    import tensorflow as tf

    failed: list[Exception] = []

    def guarded(step: Any) -> list[NDArray[Any]]:
        try:
            return load(int(step))
        except Exception as error:
            failed.append(error)
            raise

    made = tf.data.Dataset.range(steps.start, steps.stop).map(
        lambda step: tf.numpy_function(guarded, [step], kinds), num_parallel_calls=_WORKERS, deterministic=True
    )
    try:
        yield from made.prefetch(_AHEAD)
    except tf.errors.OpError:
        if failed:
            raise failed[0] from None
        raise


def dataset(
    examples: Examples,
    size: int,
    share: Share = (1, (0,)),
    key: Key | None = None,
    start: int = 0,
    order: NDArray[np.intp] | None = None,
) -> Generator[tuple[Any, ...], None, None]:
    """(input, ..., labels, weights) for the steps from `start`; of held examples, (rows, labels, weights).

    With `key`, the numbers of seed, stage and epoch, the order and chance of a training epoch; without, the order of the
    examples. `order`: the places of examples to go through instead. `share`: (how many replicas share a batch, which of them are here). Of each batch a worker reads the rows that are
    its own, all replicas get as many as the one with most needs, and those that are none or cannot be read weigh 0, others 1:
    so on any number of workers the batches are the same.
    """
    import tensorflow as tf

    replicas, here = share
    workers, worker = replicas // len(here), here[0] // len(here)
    owners = np.zeros(len(examples), np.intp) if examples.owners is None else examples.owners
    if order is None:
        order = _dealt(owners) if key is None else np.random.default_rng(key).permutation(len(examples))
    spare = np.flatnonzero(owners == worker)[:1]

    def load(step: int) -> list[NDArray[Any]]:
        places = np.sort(order[step * size : (step + 1) * size])
        own = places[owners[places] == worker]
        most = int(np.bincount(owners[places], minlength=workers).max())
        count = -(-most // len(here)) * len(here)
        filled = np.resize(own if len(own) else spare, count) if len(spare) else np.zeros(count, np.intp)
        weights = np.arange(count) < len(own)
        given = examples.inputs(filled, key) if len(spare) else _blank(examples, count)
        if examples.good:
            weights &= examples.good(filled)
        return [*given, examples.labels[filled].astype(np.int32), weights.astype(np.float32)]

    kinds = [tf.int32] if examples.held else [tf.float32] * len(examples.arrays)
    return piped(load, range(start, -(-len(order) // size)), [*kinds, tf.int32, tf.float32])


def _dealt(owners: NDArray[np.intp]) -> NDArray[np.intp]:
    """All places, those of different workers in turn, so that each has as much of a batch to do."""
    rank = np.empty(len(owners), np.intp)
    for worker in np.unique(owners):
        mine = np.flatnonzero(owners == worker)
        rank[mine] = np.arange(len(mine))
    return np.lexsort((owners, rank))


def _blank(examples: Examples, count: int) -> list[NDArray[Any]]:
    shapes = [array.shape[1:] for array in examples.arrays]
    if examples.make:
        made = examples.make(np.zeros(0, np.intp), None)
        shapes = [array.shape[1:] for array in made]
    return [np.zeros((count, *shape), np.float32) for shape in shapes]
