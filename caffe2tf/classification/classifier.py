"""Pictures in, classes with names and probabilities out, for any model that caffe2tf reads or writes."""

import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf import bundled, formats, loading
from caffe2tf.arrays.numbers import reason
from caffe2tf.classification import labels as labelling
from caffe2tf.classification.score import Score
from caffe2tf.classification.seen import Seen
from caffe2tf.errors import Caffe2TFError, ParseError, guarded
from caffe2tf.files import records
from caffe2tf.files import replacing as files
from caffe2tf.images import decode as imaging
from caffe2tf.images import preprocess
from caffe2tf.keras_model import device as devices
from caffe2tf.keras_model.device import DeviceError
from caffe2tf.keras_model.model import to_keras
from caffe2tf.net.net import Net
from caffe2tf.probabilities import best, probabilities

BATCH = 16
MANY = 64  # pictures from which compiling the model pays
COLUMNS = ("file", "rank", "class", "name", "probability", "truth")  # of --csv, the last where it is known
_DRAWN = 24  # pictures of --plot: more cannot be read on one page
_READERS = min(4, os.cpu_count() or 1)
_AHEAD = 3 * BATCH  # pictures that are decoded before the model asks for them: 30 MB at 227 x 227
_Picture = NDArray[np.float32]
_Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Classifier:
    """`run` maps pictures, float32 (N, H, W, C) as `preprocessing` gives them, to probabilities (N, classes); `source`
    says where the preprocessing comes from. `batch` pictures go at a time; with `full` never fewer."""

    run: Callable[[_Picture], NDArray[np.float64]]
    preprocessing: preprocess.Preprocessing
    source: str
    names: tuple[str, ...]
    ids: tuple[str, ...] = ()
    batch: int = BATCH
    full: bool = False

    def __call__(self, paths: Sequence[str], count: int = 5, labels: Sequence[int] | None = None) -> Iterator[Seen]:
        """Yields a Seen with `count` classes for each of `paths`, in their order, decoding ahead of the model. `labels`:
        the number of the class of each, where they are known."""
        known = [(number, self.names[number]) for number in labels] if labels else [None] * len(paths)
        work = zip(paths, known, strict=True)
        ahead, loaded = deque[Future[tuple[Seen, _Picture | None]]](), list[tuple[Seen, _Picture | None]]()
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

    def _load(self, path: str, label: tuple[int, str] | None) -> tuple[Seen, _Picture | None]:
        notes: list[str] = []
        try:
            image = imaging.read_image(path, self.preprocessing.channels == 1, notes.append)
            # As Keras takes it: the memory is in that order already.
            image = self.preprocessing.apply(image).transpose(1, 2, 0)
        except ParseError as error:
            return Seen(path, label=label, error=str(error)), None
        return Seen(path, label=label, note="".join(notes) or None), image

    def _see(self, loaded: Sequence[tuple[Seen, _Picture | None]], count: int) -> Iterator[Seen]:
        images = [image for _, image in loaded if image is not None]
        blank = [np.zeros_like(image) for image in images[:1]] * (self.batch - len(images) if self.full else 0)
        shares = iter(self.run(np.stack(images + blank)) if images else ())
        for seen, image in loaded:
            if image is None:
                yield seen
            else:
                yield replace(seen, top=tuple((c, self.names[c], p) for c, p in best(next(shares), count)))


def load(
    model: Net | _Path,
    prototxt: _Path | None = None,
    labels: _Path | None = None,
    input_shape: Mapping[str | None, Sequence[int]] | None = None,
    many: bool = False,
    device: str = "auto",
    trust: bool = False,
    outputs: str | Sequence[str] | None = None,
) -> Classifier:
    """A Classifier of a Net, a .caffemodel, weights (.npy, .npz, .h5, .safetensors), a .keras or .tflite file, a SavedModel
    folder or a folder of finetune's results.

    `labels`: a file with one class name per line, ImageNet's where there are 1000 outputs. `many`: more than MANY
    pictures are to come. `device` is only checked: the caller runs it there. `trust`: whether a SavedModel is run that caffe2tf
    did not write. Raises Caffe2TFError.
    """
    names = label_names(labels) if labels else None
    if isinstance(model, Net):
        if prototxt or input_shape or outputs:
            raise Caffe2TFError(
                f"the Net '{model.name}' has its text and shapes; `prototxt`, `input_shape` and `outputs` are for files"
            )
        return _of_net(model, model.name, names, many)
    model = str(model)
    settings = os.path.join(model, "settings.json")
    kind = formats.FOLDER if os.path.isdir(model) else os.path.splitext(model)[1].lstrip(".").lower()
    how, source = None, ""
    if os.path.exists(settings):  # the results of finetune
        names = names or label_names(os.path.join(model, "labels.txt"))
        how, source = _trained(settings), "the settings it was trained with"
        model, kind = os.path.join(model, "best.keras"), "keras"
        if input_shape:
            raise Caffe2TFError(f"{settings} tells the input's size; `input_shape` has no part in it")
    if kind == "tflite" and device.startswith("gpu"):
        raise DeviceError(f"`device` {device}: TensorFlow Lite runs on the cpu")
    if kind in formats.names() and formats.runnable(kind):
        if outputs:
            raise Caffe2TFError(
                f"{model}: is a whole model, which cannot be cut; `outputs` is for Caffe's files and weights"
            )
        if prototxt:
            raise Caffe2TFError(f"{model}: holds the whole network; `prototxt` has no part in it")
        with guarded(model):
            runner = formats.module(kind).runner(model, many, **({"trust": trust} if kind == formats.FOLDER else {}))
        names = names or runner.names
        if how is None:
            how, source = _habit(runner, input_shape)
    else:
        net = loading.load(prototxt=prototxt, model=model, input_shape=input_shape, outputs=outputs)
        return _of_net(net, model, names, many)
    return _sized(model, runner, how, source, names, many)


def _of_net(net: Net, name: str, names: Sequence[str] | None, many: bool) -> Classifier:
    for what, blobs in (("inputs", net.inputs), ("outputs", net.outputs)):
        if len(blobs) != 1:
            raise Caffe2TFError(f"{name}: has the {what} {', '.join(blobs)}; classify takes networks with one")
    how, source = preprocess.of(net)
    return _sized(name, formats.module("keras").running(to_keras(net), name, many=many), how, source, names, many)


def _sized(
    name: str,
    runner: formats.Runner,
    how: preprocess.Preprocessing,
    source: str,
    names: Sequence[str] | None,
    many: bool,
) -> Classifier:
    """The Classifier of a runner, of whose pictures the size must be known."""
    if how.resize is None:
        raise Caffe2TFError(f"{name}: the network takes any size, so nothing says which; give it with `input_shape`")
    return _classifier(runner, how, source, names, many)


def _classifier(
    runner: formats.Runner, how: preprocess.Preprocessing, source: str, names: Sequence[str] | None, many: bool
) -> Classifier:
    def run(images: _Picture) -> NDArray[np.float64]:
        return probabilities(runner.call(images))

    batch = runner.shape[0]
    extents = how.crop or how.resize or ()
    count = runner.outputs or run(np.zeros((batch or 1, *extents, how.channels), np.float32)).shape[1]
    if names and len(names) != count:
        raise Caffe2TFError(f"{len(names)} labels for {count} outputs; takes one line for each")
    ids: Sequence[str] = ()
    if count == 1000 and (not names or list(names) == bundled.classes()):
        names, ids = bundled.classes(), bundled.classes(column=1)
    names = names or [str(number) for number in range(count)]
    # A compiled model is compiled again for a batch of another size.
    return Classifier(run, how, source, tuple(names), tuple(ids), batch or BATCH, many or batch is not None)


def _habit(
    runner: formats.Runner, input_shape: Mapping[str | None, Sequence[int]] | None
) -> tuple[preprocess.Preprocessing, str]:
    shape = runner.shape
    if input_shape and runner.raw and runner.noted:
        raise Caffe2TFError("the model resizes pictures itself; `input_shape` has no part in it")
    if input_shape:
        shape = tuple(input_shape.get(None) or next(iter(input_shape.values())))
        if len(shape) != 4 or any(a not in (None, b) for a, b in zip(runner.shape[1:], shape[1:], strict=True)):
            takes = ",".join("?" if extent is None else str(extent) for extent in runner.shape)
            raise Caffe2TFError(f"`input_shape` {','.join(map(str, shape))}; the model takes {takes} (N,C,H,W)")
    elif runner.noted.get("preprocessing"):
        how = preprocess.made_of(runner.noted["preprocessing"], preprocess.FILE)
        return how, runner.noted.get("source", "the file")
    if runner.raw:
        height, width = shape[2:]
        size = None if height is None or width is None else (height, width)
        return preprocess.Preprocessing(size, order="RGB"), "8-bit, as the model takes it"
    if shape[1] is None:
        raise Caffe2TFError("the model does not tell the channels of its input; takes 1 or 3")
    return preprocess.habit(shape), "Caffe's ImageNet habit" if shape[1] == 3 else "the input's size alone"


def _trained(path: str) -> preprocess.Preprocessing:
    try:
        found = records.parsed(records.whole(path), {"preprocessing": dict})
        return preprocess.made_of(found["preprocessing"], path)
    except OSError as error:
        raise ParseError(f"{path}: cannot be read: {reason(error)}") from None
    except ParseError as error:
        raise ParseError(f"{path}: is not what finetune writes: {error}") from None


def label_names(path: _Path) -> list[str]:
    """The class names in the file at `path`, one in a line. Raises ParseError."""
    try:
        lines = io.TextIOWrapper(io.BytesIO(records.whole(path)), encoding="utf-8")
        return [line.rstrip("\n") for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise ParseError(f"{path}: cannot be read as labels: {reason(error)}") from None


def classify(
    model: Net | Classifier | _Path,
    images: _Path | Sequence[_Path],
    *,
    prototxt: _Path | None = None,
    top: int = 5,
    labels: _Path | None = None,
    truth: _Path | None = None,
    labels_from_names: bool = False,
    input_shape: Mapping[str | None, Sequence[int]] | None = None,
    outputs: str | Sequence[str] | None = None,
    device: str = "auto",
    trust: bool = False,
) -> list[Seen]:
    """What `model` sees in `images`: a Seen for each picture, in their order, with the `top` most probable classes, and the
    error in place of them where a picture cannot be read.

    `model`: a Net, a Classifier, or whatever `load` takes, `prototxt` its network text. `images`: files, folders or globs.
    `labels`: a file with one class name per line. What the pictures really show, for `Seen.right`, say `truth` (a list file
    of `path label` lines, or a folder per class) or `labels_from_names` (the file name up to the first dot).
    `input_shape`: {input or None: (N, C, H, W)} where the model does not tell; `outputs`: the blob of the scores, as `load` has it. `device`: "auto", "cpu", "gpu" or "gpu:N";
    `trust`: whether a SavedModel is run that caffe2tf did not write. Raises Caffe2TFError.
    """
    several = [images] if isinstance(images, str | os.PathLike) else images
    paths, written = labelling.find([os.fspath(image) for image in several], truth, labels_from_names)
    with devices.running(device):
        made = model
        if not isinstance(made, Classifier):
            made = load(made, prototxt, labels, input_shape, len(paths) > MANY, device, trust, outputs)
        numbers = labelling.numbers(written, made.names, made.ids) if written else None
        return list(made(paths, top, numbers))


def rows(seen: Seen, count: int) -> list[tuple[str | int | float, ...]]:
    """The rows of COLUMNS of a Seen, `count` at most."""
    label = seen.label[1:] if seen.label else ()
    return [(seen.file, rank, *one, *label) for rank, one in enumerate(seen.top[:count], 1)]


def as_data(found: Sequence[Seen], count: int, score: Score) -> dict[str, Any]:
    """What --json prints of all Seen."""
    data: dict[str, Any] = {"images": [_entry(seen, count) for seen in found if seen.top]}
    if unread := [{"file": seen.file, "error": seen.error} for seen in found if seen.error]:
        data["unreadable"] = unread
    return data | ({"accuracy": score.accuracy} if any(seen.label for seen in found) else {})


def _entry(seen: Seen, count: int) -> dict[str, Any]:
    top = [{"class": number, "name": name, "probability": p} for number, name, p in seen.top[:count]]
    label = {"truth": dict(zip(("class", "name"), seen.label, strict=True))} if seen.label else {}
    return {"file": seen.file, "top": top, **label}


def draw(found: Sequence[Seen], path: _Path, force: bool) -> list[str]:
    """Draws the first pictures with their bars as a .png, if one was read; returns a line on those left out. Raises
    OutputError."""
    from caffe2tf.drawing import plots

    seen = [one for one in found if one.top]
    if not seen:
        return []
    with files.replacing(path, force) as temporary:
        plots.seen([(imaging.read_image(one.file), one) for one in seen[:_DRAWN]], temporary)
    return [f"{path} shows the first {_DRAWN} of {len(seen)} pictures"] if len(seen) > _DRAWN else []
