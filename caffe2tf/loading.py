"""A Net from whatever files hold it: a network text, a snapshot, weights that caffe2tf wrote."""

import logging
import os
from collections.abc import Mapping, Sequence
from numbers import Integral

from caffe2tf import bundled, formats, spent
from caffe2tf.caffe.read import is_text
from caffe2tf.errors import Caffe2TFError, guarded
from caffe2tf.net import reading
from caffe2tf.net.net import Net
from caffe2tf.net.outputs import checked

Path = str | os.PathLike[str]
InputShape = Mapping[str | None, Sequence[int]]
_TEXTS = ("prototxt", "pbtxt", "txt")
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


def network(given: Net | Path) -> Net:
    """`given`, a Net or the file of one."""
    return given if isinstance(given, Net) else load(given)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lstrip(".").lower()


def _read(
    prototxt: str | None,
    model: str | None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None,
    outputs: Sequence[str],
) -> Net:
    suffix = _suffix(model) if model is not None else ""
    if suffix not in formats.names() or suffix == "caffemodel":
        return reading.from_files(prototxt, model, input_shape, outputs)
    if not formats.readable(suffix):
        kinds = ", ".join(f".{name}" for name in formats.names() if formats.readable(name))
        raise Caffe2TFError(f"{model}: a .{suffix} is not read here; takes a .caffemodel, or weights as {kinds}")
    weights = formats.module(suffix).load(model)
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
