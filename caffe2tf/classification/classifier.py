"""Pictures in, classes with names and probabilities out, for any model that caffe2tf reads or writes."""

import json
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from caffe2tf import bundled, formats, loading
from caffe2tf.errors import Caffe2TFError, ParseError
from caffe2tf.files import replacing as files
from caffe2tf.images import decode as imaging
from caffe2tf.images import preprocess
from caffe2tf.keras_model.device import DeviceError
from caffe2tf.keras_model.model import to_keras
from caffe2tf.probabilities import best, probabilities

BATCH = 16
MANY = 64  # pictures from which compiling the model pays
COLUMNS = ("file", "rank", "class", "name", "probability", "truth")  # of --csv, the last where it is known
_DRAWN = 24  # pictures of --plot: more cannot be read on one page
_READERS = min(4, os.cpu_count() or 1)
_AHEAD = 3 * BATCH  # pictures that are decoded before the model asks for them: 30 MB at 227 x 227


@dataclass(frozen=True)
class Seen:
    """What was seen in the picture `file`: `top` holds (class, name, probability), best first; `truth` the (class,
    name) that it really is, or None. `note` says what was left out of it; `error` why it could not be read, and then
    `top` is empty."""

    file: str
    top: tuple = ()
    truth: tuple = None
    note: str = None
    error: str = None

    @property
    def right(self):
        """Whether the best class is the true one; None where nothing tells."""
        return self.top[0][0] == self.truth[0] if self.top and self.truth else None


@dataclass(frozen=True)
class Classifier:
    """`run` maps images, float32 (N, H, W, C) as `preprocessing` gives them, to probabilities (N, classes); `source`
    says where the preprocessing comes from. `batch` images go at a time; with `full` never fewer."""

    run: object
    preprocessing: preprocess.Preprocessing
    source: str
    names: tuple
    ids: tuple = ()
    batch: int = BATCH
    full: bool = False

    def __call__(self, paths, count=5, truth=None):
        """Yields a Seen with `count` classes for each of `paths`, in their order, decoding ahead of the model. `truth`:
        the number of the class of each, where they are known."""
        labels = [(number, self.names[number]) for number in truth] if truth else [None] * len(paths)
        work = ((path, label) for path, label in zip(paths, labels, strict=True))
        ahead, loaded = deque(), []
        pool = ThreadPoolExecutor(_READERS)
        try:
            ahead.extend(pool.submit(self._load, *one) for one in islice(work, _AHEAD))
            while ahead:
                loaded.append(ahead.popleft().result())
                ahead.extend(pool.submit(self._load, *one) for one in islice(work, 1))
                if len(loaded) == self.batch or not ahead:
                    yield from self._see(loaded, count)
                    loaded = []
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self, path, truth):
        notes = []
        try:
            image = imaging.read_image(path, self.preprocessing.channels == 1, notes.append)
            # As Keras takes it: the memory is in that order already.
            image = self.preprocessing.apply(image).transpose(1, 2, 0)
        except ParseError as error:
            return Seen(path, truth=truth, error=str(error)), None
        return Seen(path, truth=truth, note="".join(notes) or None), image

    def _see(self, loaded, count):
        images = [image for _, image in loaded if image is not None]
        if images:
            blank = [np.zeros_like(images[0])] * (self.batch - len(images) if self.full else 0)
            rows = iter(self.run(np.stack(images + blank)))
        for seen, image in loaded:
            if image is None:
                yield seen
            else:
                yield replace(seen, top=tuple((c, self.names[c], p) for c, p in best(next(rows), count)))


def load(model, prototxt=None, labels=None, input_shape=None, many=False, device="auto", trust=False):
    """A Classifier of a .caffemodel, weights (.npy, .npz, .h5, .safetensors), a .keras or .tflite file, a SavedModel
    folder or a folder of finetune's results.

    `labels`: a file with one class name per line, ImageNet's where there are 1000 outputs. `many`: more than MANY
    pictures are to come. `device` is only checked: the caller runs it there. `trust`: whether a SavedModel is run that caffe2tf
    did not write. Raises Caffe2TFError.
    """
    names = _labels(labels) if labels else None
    settings = os.path.join(model, "settings.json")
    kind = formats.FOLDER if os.path.isdir(model) else os.path.splitext(model)[1].lstrip(".").lower()
    how = None
    if os.path.exists(settings):  # the results of finetune
        names = names or _labels(os.path.join(model, "labels.txt"))
        how, source = _trained(settings), "the settings it was trained with"
        model, kind = os.path.join(model, "best.keras"), "keras"
        if input_shape:
            raise Caffe2TFError(f"{settings} tells the input's size; --input-shape has no part in it")
    if kind == "tflite" and device.startswith("gpu"):
        raise DeviceError(f"--device {device}: TensorFlow Lite runs on the cpu")
    if kind in formats.names() and formats.runnable(kind):
        if prototxt:
            raise Caffe2TFError(f"{model}: holds the whole network; -p/--prototxt has no part in it")
        runner = formats.module(kind).runner(model, many, **({"trust": trust} if kind == formats.FOLDER else {}))
        if how is None:
            how, source = _habit(runner, input_shape)
    else:
        net = loading.load(prototxt, model, input_shape)
        for what, blobs in (("inputs", net.inputs), ("outputs", net.outputs)):
            if len(blobs) != 1:
                raise Caffe2TFError(f"{model}: has the {what} {', '.join(blobs)}; classify takes networks with one")
        how, source = preprocess.of(net)
        runner = formats.module("keras").running(to_keras(net), model, many=many)
    if how.resize is None:
        raise Caffe2TFError(f"{model}: the network takes any size, so nothing says which; give it with --input-shape")
    return _classifier(model, runner, how, source, names, many)


def _classifier(model, runner, how, source, names, many):
    def run(images):
        return probabilities(runner.call(images))

    batch = runner.shape[0]
    count = runner.outputs or run(np.zeros((batch or 1, *(how.crop or how.resize), how.channels), np.float32)).shape[1]
    if names and len(names) != count:
        raise Caffe2TFError(f"{len(names)} labels for {count} outputs; takes one line for each")
    ids = ()
    if not names and count == 1000:
        names, ids = bundled.classes(), bundled.classes(column=1)
    names = names or map(str, range(count))
    # A compiled model is compiled again for a batch of another size.
    return Classifier(run, how, source, tuple(names), tuple(ids), batch or BATCH, many or batch is not None)


def _habit(runner, input_shape):
    shape = runner.shape
    if input_shape:
        shape = tuple(input_shape.get(None) or next(iter(input_shape.values())))
        if len(shape) != 4 or any(a not in (None, b) for a, b in zip(runner.shape[1:], shape[1:], strict=True)):
            takes = ",".join("?" if extent is None else str(extent) for extent in runner.shape)
            raise Caffe2TFError(f"--input-shape {','.join(map(str, shape))}; the model takes {takes} (N,C,H,W)")
    elif runner.noted.get("preprocessing"):
        return preprocess.made_of(runner.noted["preprocessing"], preprocess.FILE), runner.noted.get(
            "source", "the file"
        )
    return preprocess.habit(shape), "Caffe's ImageNet habit" if shape[1] == 3 else "the input's size alone"


def _trained(path):
    try:
        with open(path, encoding="utf-8") as file:
            return preprocess.made_of(json.load(file)["preprocessing"], path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ParseError(f"{path}: is not what finetune writes: {error}") from None


def _labels(path):
    try:
        with open(path, encoding="utf-8") as file:
            return [line.rstrip("\n") for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ParseError(f"{path}: cannot be read as labels: {getattr(error, 'strerror', None) or error}") from None


def rows(seen, count):
    """The rows of COLUMNS of a Seen, `count` at most."""
    truth = seen.truth[1:] if seen.truth else ()
    return [(seen.file, rank, *one, *truth) for rank, one in enumerate(seen.top[:count], 1)]


def as_data(found, count, score):
    """What --json prints of all Seen."""
    data = {"images": [_entry(seen, count) for seen in found if seen.top]}
    if unread := [{"file": seen.file, "error": seen.error} for seen in found if seen.error]:
        data["unreadable"] = unread
    return data | ({"accuracy": score.accuracy} if any(seen.truth for seen in found) else {})


def _entry(seen, count):
    top = [{"class": number, "name": name, "probability": p} for number, name, p in seen.top[:count]]
    truth = {"truth": dict(zip(("class", "name"), seen.truth, strict=True))} if seen.truth else {}
    return {"file": seen.file, "top": top} | truth


def draw(found, path, force):
    """Draws the first pictures with their bars as a .png, if one was read; returns a line on those left out. Raises
    OutputError."""
    from caffe2tf.drawing import plots as pictures

    seen = [one for one in found if one.top]
    if not seen:
        return []
    with files.replacing(path, force) as temporary:
        pictures.seen([(imaging.read_image(one.file), one) for one in seen[:_DRAWN]], temporary)
    return [f"{path} shows the first {_DRAWN} of {len(seen)} pictures"] if len(seen) > _DRAWN else []
