"""What the formats share: whole files or none, the arrays one after the other, and every format's names."""

import contextlib
import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

from caffe2tf.errors import OutputError
from caffe2tf.layout import THREADS
from caffe2tf.read import release

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
KERAS_NAMES = {new: old for old, new in TENSORFLOW_NAMES.items()}


def arrays(net, progress=None):
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


def write_places(path, places, progress=None):
    """Writes every (layout.Moved, offset) of `places` into the file at `path`, moving and writing at the same time."""
    if not hasattr(os, "pwrite"):  # Windows
        with open(path, "r+b") as file:
            for moved, offset in places:
                file.seek(offset)
                file.write(memoryview(moved.array()).cast("B"))
                if progress:
                    progress(moved.nbytes)
        return
    with open(path, "r+b") as file, ThreadPoolExecutor(THREADS) as pool:
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


def check(path, force):
    """(folder, name) of a target. Raises OutputError where the folder does not exist or is not writable, or, without
    `force`, the target exists."""
    folder, name = _place(path)
    if not os.path.isdir(folder):
        raise OutputError(f"{path}: its folder does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: its folder is not writable")
    if not force and any(_belongs(entry, name) for entry in os.listdir(folder)):
        raise OutputError(f"{path}: exists already; -f/--force replaces it")
    return folder, name


def _place(path):
    """(folder, name) of a result, a folder's trailing slash aside."""
    return os.path.split(os.path.abspath(str(path).rstrip("/" + os.sep)))


def size(path):
    """The bytes of a result: a file, a folder, or the parts of a checkpoint."""
    folder, name = _place(path)
    total = 0
    for entry in os.listdir(folder):
        if _belongs(entry, name):
            whole = os.path.join(folder, entry)
            parts = [os.path.join(top, file) for top, _, files in os.walk(whole) for file in files] or [whole]
            total += sum(os.path.getsize(part) for part in parts)
    return total


@contextlib.contextmanager
def replacing(path, force):
    """Gives a temporary name beside `path` and renames it when the block ends well; otherwise nothing is left.

    A result may be a file, a folder, or several files that start with the name (a checkpoint).
    """
    folder, name = check(path, force)
    part, aside = (f".{name}.{os.getpid()}.{kind}" for kind in ("part", "old."))
    part += os.path.splitext(name)[1]
    done = False
    try:
        yield os.path.join(folder, part)
        # What was there steps aside first: a rename onto an existing file makes some file systems write it out at once.
        # The index of a checkpoint comes last, since without it there is no checkpoint.
        _rename(folder, [(entry, aside + entry) for entry in os.listdir(folder) if _belongs(entry, name)])
        made = sorted(_starting(folder, part), key=lambda entry: entry.endswith(".index"))
        _rename(folder, [(entry, name + entry[len(part) :]) for entry in made])
        done = True
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {_reason(error)}") from None
    except Exception as error:
        # TensorFlow's own errors are no OSError, and importing their class here would load it.
        if type(error).__module__.startswith("tensorflow."):
            raise OutputError(f"{path}: cannot be written: {_reason(error)}") from None
        raise
    finally:
        for entry in _starting(folder, part):
            _remove(os.path.join(folder, entry))
        if done:
            for entry in _starting(folder, aside):
                _remove(os.path.join(folder, entry))
        else:
            _rename(folder, [(entry, entry[len(aside) :]) for entry in _starting(folder, aside)])


def _starting(folder, start):
    return [entry for entry in os.listdir(folder) if entry.startswith(start)]


def _rename(folder, pairs):
    for old, new in pairs:
        os.rename(os.path.join(folder, old), os.path.join(folder, new))


def _reason(error):
    if getattr(error, "errno", None) == errno.ENOSPC or "no space left" in str(error).lower():
        return "the disk is full"
    return (getattr(error, "strerror", None) or str(error).splitlines()[0]).lower()


def _belongs(entry, name):
    """Whether `entry` is the result `name`, or a part of the checkpoint of that name."""
    return entry == name or (entry.startswith(name + ".") and (entry.endswith(".index") or ".data-" in entry))


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def split_key(key):
    """(layer, name) of the key `fire2/conv1/kernel`: Caffe's layer names may hold slashes, weight names do not."""
    layer, _, name = key.rpartition("/")
    return layer, name
