"""What the formats share: what a result consists of, the arrays one after the other, and every format's names."""

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from caffe2tf.arrays.layout import THREADS, Array, Floats, Moved
from caffe2tf.arrays.numbers import ZIP_ERRORS, reason, unzipped
from caffe2tf.caffe.read import release
from caffe2tf.errors import ParseError
from caffe2tf.files import records, renames
from caffe2tf.files import replacing as files
from caffe2tf.images import preprocess

if TYPE_CHECKING:
    from caffe2tf.net.net import Net

# Keras's name -> TensorFlow's, as `bvlc_alexnet.npy` and checkpoints of slim and ethereon's converter have them.
# npz, safetensors and h5 keep Keras's name; a .caffemodel has places, no names.
TENSORFLOW_NAMES = {
    "kernel": "weights",
    "bias": "biases",
    "gamma": "scale",
    "beta": "offset",
    "moving_mean": "mean",
    "moving_variance": "variance",
    "alpha": "alpha",
    "embeddings": "embeddings",
    "recurrent_kernel": "recurrent_weights",
    "static_kernel": "static_weights",
    "output_kernel": "output_weights",
    "output_bias": "output_biases",
    "value": "value",
}
Progress = Callable[[int], object]  # called with the bytes of what has been written
Weights = dict[str, dict[str, Floats]]  # {layer: {Keras's name: array in Keras's layout}}
PARTS = files.PARTS
LABELS = "labels.txt"  # the names of classes, one a line: in a zip archive (.keras, .tflite), and a SavedModel's asset
SAVED_MODEL = files.Kind(
    marker=f"assets.extra/{preprocess.FILE}",
    files=(
        *("saved_model.pb", "fingerprint.pb", "variables/variables.index", "variables/variables.data-*-of-*"),
        f"assets/{LABELS}",
    ),
)
KERAS_NAMES = {new: old for old, new in TENSORFLOW_NAMES.items()}


def arrays(net: "Net", progress: Progress | None = None) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yields (layer, {name: array}) in net order, each layer's arrays made when asked for.

    The mapped pages behind a layer are given back when the next is asked for, so that memory holds one layer at a time.
    """
    for layer in net.arrays:
        made = {name: moved.array() for name, moved in net.moved(layer).items()}
        yield layer, made
        if progress:
            progress(sum(array.nbytes for array in made.values()))
        del made
        for array in net.arrays[layer]:
            release(array)


def write_places(path: str, places: Iterable[tuple[Moved, int]], progress: Progress | None = None) -> None:
    """Writes every (layout.Moved, offset) of `places` into the file at `path`, moving and writing at the same time."""
    if not hasattr(os, "pwrite"):  # Windows
        with open(path, "r+b") as file:
            for moved, offset in places:
                file.seek(offset)
                file.write(moved.array().data.cast("B"))
                if progress:
                    progress(moved.nbytes)
        return
    with open(path, "r+b") as file, renames.flushing(file.fileno()), ThreadPoolExecutor(THREADS) as pool:
        tasks = [(moved, moved.write(pool, file.fileno(), offset)) for moved, offset in places]
        try:
            for moved, futures in tasks:
                for future in futures:
                    future.result()
                if progress:
                    progress(moved.nbytes)
                release(moved.view)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def text_of(names: Iterable[str]) -> str:
    """Names of classes, one a line."""
    return "".join(f"{name}\n" for name in names)


def names_in(path: str) -> tuple[str, ...] | None:
    """The names of classes that `write_notes` left in the archive at `path`, or in the file LABELS itself; None where there are
    none. Raises ParseError."""
    try:
        if os.path.basename(path) == LABELS and os.path.isfile(path):
            return named(records.whole(path))
        if not zipfile.is_zipfile(path):
            return None
        with unzipped(path) as archive:
            if LABELS not in archive.namelist():
                return None
            return named(archive.read(LABELS))
    except (ParseError, *ZIP_ERRORS) as error:
        raise ParseError(f"{path}: its {LABELS} cannot be read: {reason(error)}") from None


def named(text: bytes) -> tuple[str, ...]:
    """The names of classes in `text`, one a line."""
    return tuple(line for line in text.decode().splitlines() if line.strip())


def split_key(key: str) -> tuple[str, str]:
    """(layer, name) of the key `fire2/conv1/kernel`: Caffe's layer names may hold slashes, weight names do not."""
    layer, _, name = key.rpartition("/")
    return layer, name
