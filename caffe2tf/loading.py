"""A Net from whatever files hold it: a network text, a snapshot, weights that caffe2tf wrote."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral

from caffe2tf import bundled, formats, spent
from caffe2tf.caffe.read import is_text
from caffe2tf.errors import Caffe2TFError, guarded
from caffe2tf.formats import _note, _trained
from caffe2tf.net import reading
from caffe2tf.net.net import Net
from caffe2tf.net.outputs import checked

Path = str | os.PathLike[str]
InputShape = Mapping[str | None, Sequence[int]]
_TEXTS = ("prototxt", "pbtxt", "txt")  # the last may be any text
_LOG = logging.getLogger("caffe2tf")


def load(
    file: Path | None = None,
    other: Path | None = None,
    input_shape: InputShape | None = None,
    *,
    outputs: str | Sequence[str] | None = None,
    prototxt: Path | None = None,
    model: Path | None = None,
) -> Net:
    """A Net from a network text, weights, or both, in either order: what the files are tells which is which.

    `load("net.caffemodel")`, `load("deploy.prototxt")` (a network without weights), `load("deploy.prototxt",
    "net.caffemodel")` as Caffe and OpenCV have it, or the other way round; None in a place is no file. `prototxt` and
    `model` name them where the files shall not tell. Weights are a `.caffemodel` (alone enough where it holds the network)
    or a `.npy`, `.npz`, `.h5` or `.safetensors` that caffe2tf wrote, which needs the text (AlexNet's is taken where the
    weights are AlexNet's).
    `input_shape`: {input, or None for the only one: shape in Caffe's axis order, N first} where the files do not tell, or
    other than they tell. `outputs`: the blobs that are wanted, each as it is at the end of the whole network; what they do not
    need is left out, so that neither its types nor its shapes matter. What was assumed or left out is in the Net's `notes`, and is logged as information to "caffe2tf".
    A whole model that caffe2tf wrote (`.keras`, a SavedModel folder, `.tflite`, `.onnx`) holds its text, its preprocessing and its
    labels; where a converter merged or packed weights the Net has none, and its `lacking` says which. A folder of `finetune`'s
    results is the model in it.
    Raises ParseError, NetError, UnsupportedLayer, WeightMismatch, and Caffe2TFError for files that are no pair.
    """
    if isinstance(input_shape, str | os.PathLike):
        told_apart([one for one in (file, other, input_shape) if one is not None])
    if input_shape is not None and not isinstance(input_shape, Mapping):
        raise Caffe2TFError(f"`input_shape` is {input_shape!r}; takes {{input: shape in Caffe's axis order}}")
    given = [one for one in (file, other) if one is not None]
    if given and (prototxt is not None or model is not None):
        raise Caffe2TFError(
            f"{os.fspath(given[0])}: given beside `prototxt` or `model`; takes files, or those two by name"
        )
    if given:
        prototxt, model = told_apart(given)
    text, weights = (None if file is None else os.fspath(file) for file in (prototxt, model))
    shapes = {name: tuple(shape) for name, shape in input_shape.items()} if input_shape else None
    if strange := [shape for shape in (shapes or {}).values() if not all(isinstance(n, Integral) for n in shape)]:
        raise Caffe2TFError(f"`input_shape` holds {strange[0]}; takes whole numbers in Caffe's axis order")
    cut = checked(outputs) if outputs is not None else ()
    with guarded(text, weights), spent.on("load"):
        net = _read(text, weights, shapes, cut)
        net = replace(net, files=tuple(file for file in (text, weights) if file is not None))
    for note in net.notes:
        _LOG.info("%s", note)
    return net


def told_apart(files: Sequence[Path]) -> tuple[str | None, str | None]:
    """(network text, model) of one file or two in either order, None for what is not there. Raises Caffe2TFError for two texts,
    two models, or more than two files, and ParseError for a file that cannot be read."""
    paths = [os.fspath(file) for file in files]
    if len(paths) > 2:
        raise Caffe2TFError(
            f"{len(paths)} files ({', '.join(paths)}); takes one network text, one model, or one of each"
        )
    if not paths:
        return None, None
    texts = [_suffix(path) not in formats.names() and not os.path.isdir(path) and is_text(path) for path in paths]
    if len(paths) == 1:
        return (paths[0], None) if texts[0] else (None, paths[0])
    if texts[0] == texts[1]:  # then names tell which of them is not what it should be, and reading it says so
        named = [_suffix(path) in _TEXTS for path in paths]
        if named[0] == named[1]:
            what = "network texts" if texts[0] or named[0] else "models"
            raise Caffe2TFError(f"{paths[0]} and {paths[1]}: two {what} came; takes one network text and one model")
        texts = named
    return (paths[0], paths[1]) if texts[0] else (paths[1], paths[0])


def models_in(path: str) -> list[tuple[str | None, str]]:
    """[(its network text or None, model)] of `path`: itself, or of a folder that is no model itself every .caffemodel in it, with the
    text of its name, or the only text (deploy.prototxt) where it is the only model. Raises Caffe2TFError for a folder without."""
    if not os.path.isdir(path) or formats.is_model_folder(path):
        return [(None, path)]
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise Caffe2TFError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    models = [name for name in names if name.lower().endswith(".caffemodel")]
    texts = [name for name in names if name.lower().endswith(_TEXTS[:2])]
    if not models:
        raise Caffe2TFError(f"{path}: is a folder without a .caffemodel, and no model itself (SavedModel, finetune)")
    alone = next((one for one in ("deploy.prototxt", *texts[: len(texts) == 1]) if one in texts), None)
    beside = {os.path.splitext(name)[0]: name for name in texts}
    chosen = [beside.get(os.path.splitext(name)[0]) or (alone if len(models) == 1 else None) for name in models]
    return [
        (os.path.join(path, text) if text else None, os.path.join(path, model))
        for text, model in zip(chosen, models, strict=True)
    ]


def network(given: Net | Path) -> Net:
    """`given`, a Net or the file of one."""
    return given if isinstance(given, Net) else load(given)


def kind_of(path: str) -> str:
    """The format of a model's file or folder, as its name or its being a folder says: "caffemodel" for any other file."""
    if os.path.isdir(path):
        return formats.FOLDER
    suffix = _suffix(path)
    return suffix if suffix in formats.names() else "caffemodel"


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lstrip(".").lower()


def _read(
    prototxt: str | None,
    model: str | None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None,
    outputs: Sequence[str],
) -> Net:
    kind = kind_of(model) if model is not None else "caffemodel"
    if model is None or kind == "caffemodel":
        return reading.from_files(prototxt, model, input_shape, outputs)
    trained = _trained.found(model, prototxt)
    if trained is not None and trained.weights is not None:
        net = _of_weights(kind_of(trained.weights), trained.weights, trained.text, input_shape, ())
        net = replace(net, preprocessing=trained.preprocessing, labels=trained.labels)
        return net.cut(outputs) if outputs else net
    if trained is not None:
        model, kind = trained.model, "keras"
    if formats.runnable(kind):
        return _whole(kind, model, prototxt, input_shape, outputs)
    if not formats.readable(kind):
        kinds = ", ".join(
            f".{name}"
            for name in formats.names()
            if name != formats.FOLDER and (formats.readable(name) or formats.runnable(name))
        )
        raise Caffe2TFError(f"{model}: a .{kind} is not read here; takes a .caffemodel, {kinds}, or a SavedModel")
    return _of_weights(kind, model, prototxt, input_shape, outputs)


def _of_weights(
    kind: str,
    model: str,
    prototxt: str | None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None,
    outputs: Sequence[str],
) -> Net:
    """The Net of a file of weights and its text, AlexNet's where the weights are AlexNet's."""
    weights = formats.module(kind).load(model)
    if prototxt is None:
        prototxt = bundled.alexnet_text()
        layers = reading.from_files(prototxt).weight_shapes
        found = {name: {key: array.shape for key, array in arrays.items()} for name, arrays in weights.items()}
        if found != layers:
            raise Caffe2TFError(f"{model}: holds weights but no network; give its text with `prototxt`")
    net = reading.from_files(prototxt, None, input_shape, outputs)
    if outputs:
        weights = {name: arrays for name, arrays in weights.items() if name in net.weight_shapes}
    return net.with_weights(weights)


def _whole(
    kind: str,
    model: str,
    prototxt: str | None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None,
    outputs: Sequence[str],
) -> Net:
    """The Net of a whole model that caffe2tf wrote, by the text that it holds."""
    if prototxt is not None:
        raise Caffe2TFError(f"{model}: holds the whole network; `prototxt` has no part in it")
    module = formats.module(kind)
    net: Net = module.filled(model, _note.network(formats.noted(kind, model), model, input_shape))
    return net.cut(outputs) if outputs else net
