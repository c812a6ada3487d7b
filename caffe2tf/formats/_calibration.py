"""What pictures tell of a network that is to compute in 8 bits: the ranges of its values, and what it loses."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from caffe2tf import probabilities, words
from caffe2tf.arrays.layout import Array
from caffe2tf.errors import NetError, OutputError
from caffe2tf.formats import _reload
from caffe2tf.images import decode as imaging
from caffe2tf.images import preprocess
from caffe2tf.keras_model.pictures import Pictures
from caffe2tf.net.net import Net

MOST = 200  # pictures that are calibrated with; with more the ranges hardly move
# Share of the variance over the pictures that 8 bits may lose. A network that says the same of every picture loses 1, and one that
# works a few hundredths: half is broken beyond doubt, and far from both.
LOST = 0.5
Call = Callable[[Array], Sequence[Array]]  # from one input to the values of every output


@dataclass(frozen=True)
class Comparison:
    """What a network in 8 bits says of the pictures that it was calibrated with, beside what it says in float32.

    `pictures`: their paths; `top`, `float_top`: the class of each, of so many `classes`, empty where the output is not one value for each class;
    `apart`: the largest difference of a probability, or of a value where there are no classes; `lost`: the share of the variance over the
    pictures that is gone, 0 for none; `difference`: the largest of an output's values; `floats`: the operations that are still
    computed in floats.
    """

    pictures: tuple[str, ...]
    top: tuple[int, ...]
    float_top: tuple[int, ...]
    classes: int
    apart: float
    lost: float
    difference: float
    floats: tuple[str, ...]

    @property
    def same(self) -> int:
        """For how many pictures the top class is that of float32."""
        return sum(a == b for a, b in zip(self.top, self.float_top, strict=True))

    def __str__(self) -> str:
        count = len(self.pictures)
        said = f"computes in 8 bits, calibrated with {count} picture{'s' * (count != 1)}: "
        if self.top:
            said += f"top class as in float32 for {self.same} of {count}, probabilities within {self.apart:.2g}"
        else:
            said += f"values within {self.apart:.2g}"
        return f"{said}, {self.lost:.2%} of the variance lost" + (
            f"; in floats still: {', '.join(self.floats)}" if self.floats else ""
        )


def samples(net: Net, path: str, folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The pictures in `folder` to calibrate `net` with: MOST at most, from all over it. Raises OutputError for a network that takes
    no single picture of a known size, or gives boxes, and ParseError for a folder without pictures."""
    inputs = ", ".join(f"'{blob}' {words.shape(shape)}" for blob, shape in net.inputs.items()) or "none"
    shapes = list(net.inputs.values())
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (1, 3):
        raise OutputError(
            f"{path}: the network has the inputs {inputs}; `calibrate` takes one picture, N x 3 x H x W or N x 1 x H x W"
        )
    if preprocess.of(net)[0].resize is None:
        raise OutputError(
            f"{path}: the network has the inputs {inputs}, any size, so nothing says which; give it with `input_shape`"
        )
    found = imaging.find_images([os.fspath(folder)])
    return tuple(found[:: -(-len(found) // MOST)])


def inputs(net: Net, paths: Sequence[str], pictures: Pictures | None, batch: int | None) -> Iterator[Array]:
    """Each of the pictures at `paths` as the model takes it: float32 (N, H, W, C), or uint8 RGB where it takes `pictures`; N is 1, or
    `batch` times the same where the network has one. Raises ParseError for what is no picture."""
    how = pictures.outside if pictures else preprocess.of(net)[0]
    for path in paths:
        image = how.batch(how.pixels(path)[None])
        yield np.repeat(image.astype(np.uint8) if pictures else image, batch or 1, axis=0)


def shares(outputs: Array) -> Array:
    """(N, ...) probabilities in 8 bits, whose sum may be far from 1 where there are many classes, made to sum to 1; all the same where all
    are 0, less than a 512th."""
    values = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
    sums = values.sum(1, keepdims=True)
    whole = np.where(sums > 0, values, 1.0) / np.where(sums > 0, sums, values.shape[1])
    return whole.reshape(outputs.shape)


def compared(
    path: str,
    paths: Sequence[str],
    given: Iterable[Array],
    exact: Call,
    rough: Call,
    floats: Iterable[str],
    softmax: bool = False,
) -> Comparison:
    """What the file at `path` says of `given`, the pictures at `paths`, as `rough`, beside `exact`, which is float32; `softmax`: its one
    output is one in 8 bits. Raises OutputError where it loses LOST or more."""
    sums = _Sums()
    tops, float_tops, classes, apart = list[int](), list[int](), 0, 0.0
    for image in given:
        wanted, found = exact(image), rough(image)
        sums.add(path, wanted, found)
        if len(wanted) != 1 or wanted[0].ndim < 2:
            continue
        (a,), (b,) = wanted, found
        try:
            share = probabilities.probabilities(a[:1])[0]
            other = probabilities.probabilities(shares(b[:1]) if softmax else b[:1])[0]
        except NetError:  # a map
            continue
        float_tops.append(int(share.argmax()))
        classes = len(share)
        tops.append(int(other.argmax()))
        apart = max(apart, float(np.abs(share - other).max()))
    made = Comparison(
        tuple(paths),
        tuple(tops),
        tuple(float_tops),
        classes,
        apart if tops else sums.difference,
        sums.lost,
        sums.difference,
        tuple(floats),
    )
    if not made.lost < LOST:
        raise OutputError(
            f"{path}: is not written: in 8 bits the network no longer says of the {len(paths)} pictures of `calibrate` what it says in "
            f"float32 ({made.lost:.0%} of the variance lost, refused from {LOST:.0%}); take `quantize` float16 or weights, or other pictures"
        )
    return made


class _Sums:
    """What the variance of each output over the pictures is made from, and the errors beside it, in memory of one picture."""

    def __init__(self) -> None:
        self.difference = 0.0
        self._count = 0
        self._parts = list[tuple[Array, Array, float]]()

    def add(self, path: str, wanted: Sequence[Array], found: Sequence[Array]) -> None:
        """Adds the outputs of one picture. Raises OutputError where `found` has other shapes or is not finite."""
        self.difference = max(self.difference, _reload.largest_difference(path, wanted, found))
        self._parts = self._parts or [(np.zeros(a.shape), np.zeros(a.shape), 0.0) for a in wanted]
        self._count += 1
        for index, (a, b) in enumerate(zip(wanted, found, strict=True)):
            a, b = (np.nan_to_num(values.astype(np.float64)) for values in (a, b))
            total, squares, error = self._parts[index]
            self._parts[index] = (total + a, squares + a * a, error + float(((b - a) ** 2).sum()))

    @property
    def lost(self) -> float:
        """The squared errors over the squared distances from the mean over the pictures, of the worst output; from the mean over
        all values where there is one picture."""
        return max((self._share(*part) for part in self._parts), default=0.0)

    def _share(self, total: Array, squares: Array, error: float) -> float:
        spread = float((squares - total * total / self._count).sum())
        if self._count == 1:
            spread = float(squares.sum() - total.sum() ** 2 / total.size)
        if error == 0:
            return 0.0
        return error / spread if spread > 0 else float("inf")
