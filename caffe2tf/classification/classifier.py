"""Pictures in, classes with names and probabilities out, or boxes, for any model that caffe2tf reads or writes."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, Literal

import numpy as np

from caffe2tf import bundled, formats, loading, words
from caffe2tf.classification import labels as labelling
from caffe2tf.classification.results import above
from caffe2tf.classification.seeing import BATCH, MANY, Classifier
from caffe2tf.classification.seen import Seen
from caffe2tf.errors import Caffe2TFError, ParseError, guarded
from caffe2tf.formats import _trained as results
from caffe2tf.formats._trained import label_names
from caffe2tf.images import boxes, preprocess, said
from caffe2tf.images import decode as imaging
from caffe2tf.images.crops import COUNTS as CROPS
from caffe2tf.keras_model import device as devices
from caffe2tf.keras_model.device import DeviceError
from caffe2tf.keras_model.model import to_keras
from caffe2tf.net.net import Net
from caffe2tf.probabilities import probabilities
from caffe2tf.verification import golden as goldens

_Path = str | os.PathLike[str]
_Extents = int | str | tuple[int, int] | Literal["none"]
# What a whole model may claim of itself, before memory is taken for it: 512 MiB of input at once, names of classes.
_VALUES, _CLASSES = 1 << 27, 1 << 20
TOP = 5  # classes of a picture that are said where nothing else is asked for


def load(
    model: Net | _Path,
    prototxt: _Path | None = None,
    labels: _Path | None = None,
    input_shape: Mapping[str | None, Sequence[int]] | None = None,
    many: bool = False,
    device: str = "auto",
    trust: bool = False,
    outputs: str | Sequence[str] | None = None,
    crops: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> Classifier:
    """A Classifier of a Net, a .caffemodel, weights (.npy, .npz, .h5, .safetensors), a .keras or .tflite file, a SavedModel
    folder or a folder of finetune's results.

    `labels`: a file with one class name per line, ImageNet's where there are 1000 outputs. `many`: more than MANY
    pictures are to come. `device` is only checked: the caller runs it there. `trust`: whether a SavedModel is run that caffe2tf
    did not write. `crops`: 1, or 10 whose outputs are averaged. `settings`: how pictures become input where it is not as the model
    says, those of images.said. Raises Caffe2TFError.
    """
    names = label_names(labels) if labels else None
    given = {name: said.convert(name, value) for name, value in (settings or {}).items() if value is not None}
    if isinstance(model, Net):
        if prototxt or input_shape or outputs:
            raise Caffe2TFError(
                f"the Net '{model.name}' has its text and shapes; `prototxt`, `input_shape` and `outputs` are for files"
            )
        return _of_net(model, model.name, names, many, crops, given)
    model = str(model)
    kind = loading.kind_of(model)
    how, source = None, ""
    if os.path.isdir(model) and (trained := results.found(model)):
        if input_shape:
            raise Caffe2TFError(
                f"{model}: its {results.SETTINGS} tells the input's size; `input_shape` has no part in it"
            )
        names = names or list(trained.labels)
        how, source = trained.preprocessing, "the settings it was trained with"
        if os.path.exists(trained.model):
            model, kind = trained.model, "keras"
        else:
            return _of_net(loading.load(model), model, names, many, crops, given)
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
        names = names or runner.names or runner.noted.get("labels")
        if runner.raw and (given or crops > 1):
            raise Caffe2TFError(
                f"{model}: prepares pictures itself; {', '.join(f'`{key}`' for key in given) or '`crops`'} has no part in it"
            )
        if how is None:
            how, source = _habit(runner, input_shape)
        if given:
            free = None in runner.shape[2:]
            how, source = preprocess.differing(how, None if free else runner.shape[2:], **given), "as said"
        warning = _warning(model, bundled.is_random(runner.noted.get("name", "")))
    else:
        net = loading.load(prototxt=prototxt, model=model, input_shape=input_shape, outputs=outputs)
        return _of_net(net, model, names, many, crops, given)
    return replace(_classifier(model, runner, how, source, names, many, crops), warning=warning)


def _warning(name: str, random: bool) -> str:
    return f"{name} has {bundled.RANDOM}" if random else ""


def _of_net(
    net: Net, name: str, names: Sequence[str] | None, many: bool, crops: int, given: Mapping[str, Any]
) -> Classifier:
    for what, blobs in (("inputs", net.inputs), ("outputs", net.outputs)):
        if len(blobs) != 1:
            raise Caffe2TFError(f"{name}: has the {what} {', '.join(blobs)}; classify takes networks with one")
    if given:
        net = preprocess.changed(net, **given)
    how, source = preprocess.of(net)
    names = names or list(net.labels)
    found = boxes.detector(net)
    noted = {"boxes": found} if found else {}
    runner = formats.module("keras").running(to_keras(net), name, noted, many or found is not None)
    made = _classifier(name, runner, how, source, names, many, crops)
    return replace(made, warning=_warning(name, goldens.knows_nothing(net)))


def _classifier(
    name: str,
    runner: formats.Runner,
    how: preprocess.Preprocessing,
    source: str,
    names: Sequence[str] | None,
    many: bool,
    crops: int,
) -> Classifier:
    """The Classifier of a runner, of whose pictures the size must be known."""
    if how.resize is None and how.crop is None:
        raise Caffe2TFError(f"{name}: the network takes any size, so nothing says which; give it with `input_shape`")
    found: boxes.Detector | None = runner.noted.get("boxes")
    if crops not in CROPS:
        raise Caffe2TFError(f"`crops` {crops}; takes {' or '.join(map(str, CROPS))}")
    if found and crops != 1:
        raise Caffe2TFError(f"{name}: is a detector, which sees a picture once; `crops` is for classes")
    batch = runner.shape[0]
    extents = how.crop or how.resize or ()
    taken = (batch or 1, how.channels, *extents)
    if math.prod(taken) > _VALUES:
        raise ParseError(f"{name}: claims an input of {words.shape(taken)}; takes {_VALUES} values at once")
    if (runner.outputs or 0) > _CLASSES:
        raise ParseError(f"{name}: claims {runner.outputs} classes; takes {_CLASSES}")
    if found:
        count = found["classes"]
        if names and len(names) == count - 1:
            names = [*names[: found["background"]], "background", *names[found["background"] :]]
    else:
        example = np.zeros((batch or 1, *extents, how.channels), np.float32)
        count = runner.outputs or probabilities(runner.call(example)).shape[1]
    if names and len(names) != count:
        what = "classes, the background among them" if found else "outputs"
        raise Caffe2TFError(f"{len(names)} labels for {count} {what}; takes one line for each")
    names, ids = labelling.classes(count, names or ())
    # A compiled model is compiled again for a batch of another size.
    together = batch or -(-BATCH // crops) * crops
    full = many or batch is not None or found is not None
    return Classifier(
        runner.call, how, source, tuple(names), tuple(ids), together, full, crops, detects=found is not None
    )


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


def classify(
    model: Net | Classifier | _Path,
    images: _Path | Sequence[_Path],
    *,
    prototxt: _Path | None = None,
    top: int | None = None,
    threshold: float = 0.0,
    crops: int = 1,
    resize: _Extents | None = None,
    crop: _Extents | None = None,
    mean: float | Sequence[float] | str | None = None,
    scale: float | None = None,
    channels: str | None = None,
    labels: _Path | None = None,
    truth: _Path | None = None,
    labels_from_names: bool = False,
    input_shape: Mapping[str | None, Sequence[int]] | None = None,
    outputs: str | Sequence[str] | None = None,
    device: str = "auto",
    trust: bool = False,
) -> list[Seen]:
    """What `model` sees in `images`: a Seen for each picture, in their order, with the `top` most probable classes (5), or the `top`
    best boxes of a detector (all), of a probability or score of `threshold` at least; and the error in place of them where a
    picture cannot be read.

    `model`: a Net, a Classifier, or whatever `load` takes, `prototxt` its network text. `images`: files, folders or globs.
    `labels`: a file with one class name per line. `crops`: 1, or 10 as Caffe's oversampling takes and averages them; `resize`, `crop`
    (256, (256, 227), height first, or "none"), `mean` (numbers, a .npy or .binaryproto file, or "none"), `scale` and `channels` ("bgr",
    "rgb", "grey") say how pictures become input where the model says otherwise. What the pictures really show, for `Seen.right`, say `truth` (a list file
    of `path label` lines, or a folder per class) or `labels_from_names` (the file name up to the first dot).
    `input_shape`: {input or None: (N, C, H, W)} where the model does not tell; `outputs`: the blob of the scores, as `load` has it. `device`: "auto", "cpu", "gpu" or "gpu:N";
    `trust`: whether a SavedModel is run that caffe2tf did not write. Raises Caffe2TFError.
    """
    several = [images] if isinstance(images, str | os.PathLike) else images
    asked = [os.fspath(image) for image in several]
    settings = {"resize": resize, "crop": crop, "mean": mean, "scale": scale, "channels": channels}
    if truth or labels_from_names:
        found, written = labelling.find(asked, truth, labels_from_names)
        paths = iter(found)
    else:
        paths, written = imaging.each_image(asked), None
    first = list(islice(paths, MANY + 1))
    with devices.running(device):
        made = model
        if not isinstance(made, Classifier):
            made = load(made, prototxt, labels, input_shape, len(first) > MANY, device, trust, outputs, crops, settings)
        elif crops != 1 or any(value is not None for value in settings.values()):
            raise Caffe2TFError("a Classifier knows how pictures become its input; `crops` and settings are for models")
        numbers = labelling.numbers(written, made.names, made.ids) if written is not None else None
        count = top if top is not None or made.detects else TOP
        return [above(seen, threshold) for seen in made(chain(first, paths), count, numbers)]
