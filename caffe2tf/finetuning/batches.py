"""Batches of examples through tf.data: in the same order on one device, on several, and after a break."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.images.preprocess import Preprocessing

Key = tuple[int, ...]  # the numbers of seed, stage and epoch
Share = tuple[int, Sequence[int]]  # how many replicas share a batch, which of them are here
HELD_LIMIT = 1 << 30  # bytes
_WORKERS, _AHEAD = 2, 2


@dataclass
class Examples:
    """What the trained part takes: for each of its inputs an array (N, ...) channels last, or pictures to make it of.

    `labels`: (N) class numbers; `make(places, key)`: the inputs, where `arrays` are pictures; `span`: (least, largest)
    value of the network's own input, `usual` of what it was trained on; `held`: the arrays as tensors, which a step then
    takes its rows from.
    """

    arrays: list[NDArray[Any]]
    labels: NDArray[np.integer[Any]]
    make: Callable[[NDArray[np.intp], Key | None], list[NDArray[np.float32]]] | None = None
    span: tuple[float, float] = (0.0, 0.0)
    usual: tuple[float, float] | None = None
    held: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def hold(self) -> "Examples":
        """Lets a step on one device take rows by itself, which is faster than handing them over; up to a limit, since the
        arrays are then there twice."""
        import tensorflow as tf

        if sum(array.nbytes for array in self.arrays) <= HELD_LIMIT and not self.make:
            self.held = tuple(tf.constant(array) for array in self.arrays)
        return self

    def inputs(self, places: NDArray[np.intp], key: Key | None) -> list[NDArray[Any]]:
        if self.held:
            return [places.astype(np.int32)]
        if self.make:
            return [*self.make(places, key)]
        return [array[places] for array in self.arrays]


def pictures(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    how: Preprocessing,
    augment: Sequence[str] = (),
    usual: tuple[float, float] | None = None,
) -> Examples:
    """Examples that are made of uint8 BGR pictures (N, H, W, C) at every step, with `augment` of mirror, crop, colour in
    training. What chance does to a picture depends on the seed, the epoch and its place alone."""

    def one(place: int, key: Key | None) -> NDArray[np.float32]:
        if key is None or not augment:
            return how.apply(images[place])
        random, image, corner = np.random.default_rng((*key, place)), images[place], None
        if "colour" in augment:
            gain, shift = random.uniform(0.8, 1.2), random.uniform(-20, 20)
            image = np.clip(image * gain + shift, 0, 255).astype(np.uint8)
        if "crop" in augment:
            (height, width), (h, w) = image.shape[:2], how.crop or image.shape[:2]
            corner = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
        values = how.apply(image, corner)
        # After the mean, as Caffe mirrors (data_transformer.cpp).
        return values[:, :, ::-1] if "mirror" in augment and random.random() < 0.5 else values

    def make(places: NDArray[np.intp], key: Key | None) -> list[NDArray[np.float32]]:
        return [np.ascontiguousarray(np.stack([one(place, key) for place in places]).transpose(0, 2, 3, 1))]

    return Examples([images], labels, make, how.span, usual)


def dataset(
    examples: Examples,
    size: int,
    share: Share = (1, (0,)),
    key: Key | None = None,
    start: int = 0,
    order: NDArray[np.intp] | None = None,
) -> Any:
    """A tf.data.Dataset of (input, ..., labels, weights) for the steps from `start`; of held examples, (places,
    labels, weights).

    With `key`, the numbers of seed, stage and epoch, the order and chance of a training epoch, each example weighing 1 /
    batch; without, the order of the examples, each weighing 1. `order`: the places of examples to go through instead. `share`: (how many replicas share a batch, which of them
    are here); each gets as many rows, those that are no examples of their own weigh 0.
    """
    import tensorflow as tf

    replicas, here = share
    if order is None:
        order = np.arange(len(examples)) if key is None else np.random.default_rng(key).permutation(len(examples))

    def load(step: int) -> list[NDArray[Any]]:
        places = np.sort(order[step * size : (step + 1) * size])
        rows = -(-len(places) // replicas)
        weights = (np.arange(rows * replicas) < len(places)) / np.float32(1 if key is None else len(places))
        mine = np.concatenate([np.arange(rows) + replica * rows for replica in here])
        places = np.resize(places, rows * replicas)[mine]
        labels = examples.labels[places].astype(np.int32)
        return [*examples.inputs(places, key), labels, weights[mine].astype(np.float32)]

    kinds = [tf.int32] if examples.held else [tf.float32] * len(examples.arrays)
    kinds += [tf.int32, tf.float32]
    steps = tf.data.Dataset.range(start, -(-len(order) // size))
    loaded = steps.map(
        lambda step: tf.numpy_function(load, [step], kinds), num_parallel_calls=_WORKERS, deterministic=True
    )
    return loaded.prefetch(_AHEAD)
