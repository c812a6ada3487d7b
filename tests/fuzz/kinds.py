"""The kinds of files that users give: good ones to start from, how each is read, and what is done with what was read.

A reading returns where the result is right: what can be seen in another way (by protobuf, NumPy, h5py, safetensors) is the
same. Libraries that take seconds to load are loaded by the kinds that need them.
"""

import contextlib
import functools
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe2tf import formats, loading
from caffe2tf.caffe import read
from caffe2tf.caffe.caffe_pb2 import BlobProto, NetParameter
from caffe2tf.errors import UnsupportedLayer
from caffe2tf.net.net import Net
from tests.fuzz.judging import Files, workplace
from tests.helpers import GOLDEN

CASE = GOLDEN / "layers" / "conv_basic"
_SMALL = 3000  # bytes of a network that is worth a start


@dataclass(frozen=True)
class Kind:
    """`starts` makes good examples; `changed` are the files of one that mutation may touch; `read(folder)` reads one and uses
    it. Those that are `heavy` load TensorFlow or take long, so that fewer are tried."""

    name: str
    starts: Callable[[], Sequence[Files]]
    changed: tuple[str, ...]
    read: Callable[[Path], None]
    heavy: bool = False


KINDS: dict[str, Kind] = {}


def _kind(
    starts: Callable[[], Sequence[Files]], *changed: str, heavy: bool = False
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    def add(function: Callable[[Path], None]) -> Callable[[Path], None]:
        name = function.__name__.strip("_")
        KINDS[name] = Kind(name, functools.cache(starts), changed, function, heavy)
        return function

    return add


# ------------------------------------------------------------------------------------------------ networks


@functools.cache
def folders() -> list[Path]:
    """Small networks of all layers and forks, and those of every generation and encoding, which are few, ten times."""
    found = [path.parent for path in sorted(GOLDEN.glob("*/*/net.caffemodel")) if path.stat().st_size < _SMALL]
    found += 10 * [path for path in sorted(GOLDEN.glob("formats/*")) if (path / "net.caffemodel").exists()]
    assert len(found) > 100
    return found


def _nets(*names: str) -> list[Files]:
    return [{name: (folder / name).read_bytes() for name in names} for folder in folders()]


def _load(**files: Path) -> Net:
    """A Net; of what is not supported people see at least what it is."""
    from caffe2tf.inspection.summary import inspect

    try:
        return loading.load(**files)
    except UnsupportedLayer:
        json.dumps(inspect(**files))
        raise


def _use(net: Net, folder: Path) -> None:
    """What people do with a network that was read."""
    from caffe2tf.inspection.summary import summarize

    str(net), repr(net), json.dumps(summarize(net), allow_nan=True)
    if not net.arrays:
        return
    formats.save(net, folder / "saved.npz")
    again = formats.module("npz").load(str(folder / "saved.npz"))
    for layer, weights in net.weights.items():
        for name, array in weights.items():
            np.testing.assert_array_equal(again[layer][name], array)
    formats.save(net, folder / "saved.caffemodel")
    loading.load(folder / "saved.caffemodel")


def _same_blobs(path: Path) -> None:
    """That protobuf, where it reads the file too, finds the same values."""
    try:
        whole = NetParameter.FromString(path.read_bytes())
    except Exception:  # of what is skipped here
        return
    known: dict[str, list[BlobProto]] = {}
    for layer in [*whole.layers, *whole.layer]:
        inner = layer.layer if hasattr(layer, "layer") and layer.HasField("layer") else layer
        if inner.blobs and isinstance(inner.name, str):
            known[inner.name] = list(inner.blobs)
    found = read.read_caffemodel(path).blobs
    for name, blobs in known.items():
        for blob, ours in zip(blobs, found.get(name, ()), strict=True) if name in found else ():
            values = np.array(blob.double_data, np.float64) if blob.double_data else np.array(blob.data, np.float32)
            if not blob.raw_data:
                with np.errstate(over="ignore"):
                    np.testing.assert_array_equal(ours.array().ravel(), values.astype(np.float32))


@_kind(lambda: _nets("net.caffemodel"), "net.caffemodel")
def caffemodel(folder: Path) -> None:
    _use(_load(model=folder / "net.caffemodel"), folder)
    _same_blobs(folder / "net.caffemodel")


@_kind(lambda: _nets("net.prototxt"), "net.prototxt")
def prototxt(folder: Path) -> None:
    _use(_load(prototxt=folder / "net.prototxt"), folder)


@_kind(lambda: _nets("net.prototxt", "net.caffemodel"), "net.prototxt", "net.caffemodel")
def pair(folder: Path) -> None:
    _use(_load(prototxt=folder / "net.prototxt", model=folder / "net.caffemodel"), folder)


@_kind(lambda: _nets("net.prototxt", "net.caffemodel"), "net.prototxt", "net.caffemodel", heavy=True)
def built(folder: Path) -> None:
    """A network of any files as a Keras model."""
    from caffe2tf.keras_model.model import to_keras

    to_keras(loading.load(folder / "net.prototxt", folder / "net.caffemodel"))


# ------------------------------------------------------------------------------------------------ weights


@functools.cache
def _text() -> bytes:
    return (CASE / "net.prototxt").read_bytes()


def _weights(kind: str) -> list[Files]:
    """Weights of some small networks in a format; the text is that of the first."""
    found: list[Files] = []
    with workplace() as folder:
        for options in ({}, {"layout": "list"}) if kind == "npy" else ({},):
            net = loading.load(CASE / "net.prototxt", CASE / "net.caffemodel")
            formats.save(net, folder / f"x.{kind}", **options)
            found.append({f"x.{kind}": (folder / f"x.{kind}").read_bytes(), "net.prototxt": _text()})
    return found


def _load_weights(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    weights = formats.module(kind).load(str(folder / f"x.{kind}"))
    for layer, arrays in weights.items():
        assert isinstance(layer, str)
        for name, array in arrays.items():
            assert isinstance(name, str)
            assert array.dtype == np.float32
    net = loading.load(folder / "net.prototxt", folder / f"x.{kind}")
    _use(net, folder)
    return dict(weights)


def _equal(found: Mapping[str, Mapping[str, Any]], known: Mapping[str, Any]) -> None:
    """That every array of `found` is the one of `known` {"layer/name": array}."""
    for layer, arrays in found.items():
        for name, array in arrays.items():
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(array, np.asarray(known[f"{layer}/{name}"], np.float32))


@_kind(lambda: _weights("npz"), "x.npz")
def npz(folder: Path) -> None:
    weights = _load_weights(folder, "npz")
    with contextlib.suppress(ValueError):  # of what zipfile finds behind other bytes, and NumPy does not
        with np.load(folder / "x.npz") as archive:
            known = dict(archive)
        _equal(weights, known)


@_kind(lambda: _weights("npy"), "x.npy")
def npy(folder: Path) -> None:
    _load_weights(folder, "npy")


@_kind(lambda: _weights("h5"), "x.h5")
def h5(folder: Path) -> None:
    _load_weights(folder, "h5")


@_kind(lambda: _weights("safetensors"), "x.safetensors")
def safetensors(folder: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    weights = _load_weights(folder, "safetensors")
    with contextlib.suppress(SafetensorError):  # of JSON that Python reads more kindly
        _equal(weights, load_file(folder / "x.safetensors"))


# ------------------------------------------------------------------------------------------------ beside the network


def _means() -> list[Files]:
    array = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    file = io.BytesIO()
    np.save(file, array)
    blobs = [
        BlobProto(num=1, channels=3, height=4, width=4, data=array.ravel()),
        BlobProto(shape={"dim": [1, 3, 4, 4]}, double_data=array.ravel()),
    ]
    return [{"mean.binaryproto": blob.SerializeToString(), "mean.npy": file.getvalue()} for blob in blobs]


@functools.cache
def _pictures() -> Net:
    from caffe2tf.net.reading import from_source
    from tests.helpers import inputs, parameter

    return from_source(read.Source(parameter(inputs(data=(1, 3, 4, 4)))), None)


@_kind(_means, "mean.binaryproto", "mean.npy")
def mean(folder: Path) -> None:
    from caffe2tf.errors import ParseError
    from caffe2tf.images import preprocess

    with contextlib.suppress(ParseError):
        preprocess.changed(_pictures(), resize=(4, 4), mean=str(folder / "mean.npy"))
    how = preprocess.changed(_pictures(), resize=(4, 4), mean=str(folder / "mean.binaryproto")).preprocessing
    assert np.isfinite(how.mean).all()


def _checkpoints() -> list[Files]:
    from caffe2tf.finetuning.checkpoint import LAYOUT

    arrays = {"0": np.arange(6, dtype=np.float32).reshape(2, 3), "1": np.float32(3), "2": np.int64(7)}
    row = {"stage": 1, "epoch": 1, "loss": 1.5, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.25, "lr": 0.1}
    row |= {"seconds": 1.0}
    note = {
        "place": {"stage": 1, "epoch": 1, "step": 2, "loss": 0.5, "right": 3, "seen": 8},
        "history": [row],
        "layout": LAYOUT,
        "good_steps": 4,
    }
    file = io.BytesIO()
    np.savez(file, **arrays, note=np.frombuffer(json.dumps(note).encode(), np.uint8))
    return [{"last.npz": file.getvalue()}]


@_kind(_checkpoints, "last.npz")
def checkpoint(folder: Path) -> None:
    from caffe2tf.finetuning.checkpoint import Checkpoint

    keep = Checkpoint(str(folder))
    keep.folder = str(folder)
    found = keep.last()
    assert found is not None
    assert all(isinstance(array, np.ndarray) for array in found[0])


def _goldens() -> list[Files]:
    text = (GOLDEN / "bvlc_alexnet" / "expected.json").read_bytes()
    full, images = io.BytesIO(), np.zeros((1, 5, 5, 3), np.uint8)
    values = {"value/prob": np.full((1, 4), 0.25, np.float32), "index/prob": np.arange(4), "norm/prob": np.ones(1)}
    np.savez(full, version=1, bgr=images, **values)
    top = {"version": 1, "top5": [[[1, 0.5], [2, 0.25]]], "weights_sha256": {"conv": ["00"]}, "output_blob": "prob"}
    top |= {"preprocessing": {"mean_bgr": [1, 2, 3]}}
    small = {"blobs.npz": (CASE / "blobs.npz").read_bytes(), "expected.json": text}
    return [small, {"blobs.npz": full.getvalue(), "expected.json": json.dumps(top).encode()}]


@_kind(_goldens, "blobs.npz", "expected.json")
def golden(folder: Path) -> None:
    from caffe2tf.verification import golden as goldens

    found = goldens.load(folder)
    for photo in found.photographs:
        str(photo.preprocessing)


@_kind(_goldens, "blobs.npz", "expected.json", heavy=True)
def verified(folder: Path) -> None:
    """A golden set that a network is verified against."""
    from caffe2tf.verification import page, report
    from caffe2tf.verification.verify import verify

    found = verify(loading.load(CASE / "net.prototxt", CASE / "net.caffemodel"), folder)
    json.dumps(report.as_data([found]), allow_nan=True), report.conclusion(found), page.as_html([found])


def _recipes() -> list[Files]:
    texts = [
        'model = "net.caffemodel"\nlayers = "fc8"\nepochs = 3\nlr = 1e-3\nresize = "256x227"\nmean = [1, 2, 3]\nsplit = [0.5, 0.5]\n',
        'data = "train.txt"\ninput_shape = "data=1,3,4,4"\n\n[[stage]]\nlayers = ["fc8", "fire/*"]\nepochs = 1\n'
        'schedule = "cosine"\naugment = "mirror,crop"\n[[stage]]\nlayers = "all"\noptimizer = "adam"\nclip = 1.5\n',
    ]
    return [{"recipe.toml": text.encode()} for text in texts]


@_kind(_recipes, "recipe.toml")
def recipe(folder: Path) -> None:
    from caffe2tf.finetuning import recipe as recipes

    found = recipes.read(folder / "recipe.toml")
    (folder / "again.toml").write_text(recipes.text(found, str(folder)), encoding="utf-8")
    difference = recipes.difference(found, recipes.read(folder / "again.toml"))
    assert difference is None, difference


def _solvers() -> list[Files]:
    folder = GOLDEN / "training"
    fixed = {"train.prototxt": (folder / "train.prototxt").read_bytes()}
    return [{"solver.prototxt": path.read_bytes(), **fixed} for path in sorted(folder.glob("solver_*.prototxt"))]


@_kind(_solvers, "solver.prototxt")
def solver(folder: Path) -> None:
    """Read, made into settings, and asked for the rates of a run."""
    from caffe2tf.finetuning import recipe as recipes

    given = {"solver": str(folder / "solver.prototxt"), "prototxt": str(folder / "train.prototxt")}
    (stage,) = recipes.of(given).stages
    assert stage.solver is not None
    rates = [stage.solver.rate(iteration) for iteration in (0, 1, 1000, stage.solver.max_iter)]
    assert all(isinstance(float(rate), float) for rate in rates)


def _shards() -> list[Files]:
    from caffe2tf.files.shards import Shards

    with workplace() as folder:
        made = Shards(
            str(folder), "0" * 64, {"network": "x"}, 5, 3, {"fc7": ("F32", (4,)), "pixels": ("U8", (2, 2, 3))}
        )
        made.begin()
        for shard in range(made.count):
            count = len(made.span(shard))
            arrays = {"fc7": np.ones((count, 4), np.float32), "pixels": np.ones((count, 2, 2, 3), np.uint8)}
            made.write(shard, arrays, np.ones(count, bool))
        return [{path.name: path.read_bytes() for path in sorted(folder.iterdir())}]


@_kind(_shards, "index.json", "rows-00000-of-00002.safetensors", "rows-00001-of-00002.safetensors")
def features(folder: Path) -> None:
    from caffe2tf.files.shards import Shards

    found = Shards.read(str(folder))
    for shard in range(min(found.count, 3)):
        if found.whole(shard):
            span = found.span(shard)
            places = np.arange(span.start, span.stop)
            for name, (_, shape) in found.arrays.items():
                assert found.values(name, places).shape == (len(places), *shape)


def example(picture: bytes, label: int) -> Any:
    """What a TFRecord holds of a picture."""
    import tensorflow as tf

    made = tf.train.Example()
    made.features.feature["image/encoded"].bytes_list.value.append(picture)
    made.features.feature["image/class/label"].int64_list.value.append(label)
    return made


def _records() -> list[Files]:
    import tensorflow as tf

    with workplace() as folder:
        path = folder / "x.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for label in range(4):
                writer.write(example(b"picture %d" % label, label).SerializeToString())
        return [{path.name: path.read_bytes()}]


@_kind(_records, "x.tfrecord", heavy=True)
def records(folder: Path) -> None:
    from caffe2tf.finetuning import data

    found = data.read(str(folder / "x.tfrecord"))
    assert all(isinstance(source, data.Record) and len(source.read()) == source.size for source in found.sources)


def _labels() -> list[Files]:
    lists = [
        "a.png 0\nb.png 1\nc.png 0\nd.png 1\n",
        "a.png\tcat, Felis catus\nb.png\tcat, Felis catus\nc.png\tdog\nd.png\tdog\n",
        "b.png dog\na.png n02123045\nc.png dog\nd.png n02123045\n",
    ]
    names = "cat, Felis catus\ndog\nbird\n"
    pictures = dict.fromkeys(["a.png", "b.png", "c.png", "d.png"], b"")
    return [{"list.txt": text.encode(), "names.txt": names.encode(), **pictures} for text in lists]


@_kind(_labels, "list.txt", "names.txt")
def labels(folder: Path) -> None:
    from caffe2tf.classification import classifier
    from caffe2tf.classification import labels as labelling
    from caffe2tf.finetuning import data

    names = classifier.label_names(folder / "names.txt")
    found = data.read(str(folder / "list.txt"))
    data.split(found, (0.5, 0.5), 0)
    _, known = labelling.find([], folder / "list.txt")
    assert known is not None
    assert all(0 <= number < len(names) for number in labelling.numbers(known, names, ["n02123045"]))


def _notes() -> list[Files]:
    from caffe2tf.images import notes, preprocess

    text = notes.to_json(_pictures())
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(preprocess.FILE, text)
    return [{preprocess.FILE: text.encode(), "x.keras": file.getvalue()}]


@_kind(_notes, "caffe2tf.json", "x.keras")
def note(folder: Path) -> None:
    """How pictures become input, as a saved model says it."""
    from caffe2tf.images import notes, preprocess

    for name in ("x.keras", preprocess.FILE):
        noted = notes.noted_in(folder / name)
        if noted.get("preprocessing"):
            how = preprocess.made_of(noted["preprocessing"], name)
            str(how), how.span


def _models(kind: str) -> list[Files]:
    with workplace() as folder:
        formats.save(loading.load(CASE / "net.prototxt", CASE / "net.caffemodel"), folder / f"x.{kind}")
        return [{f"x.{kind}": (folder / f"x.{kind}").read_bytes()}]


def _see(path: Path) -> None:
    from caffe2tf.classification import classifier

    classifier.load(path)


@_kind(lambda: _models("keras"), "x.keras", heavy=True)
def keras(folder: Path) -> None:
    _see(folder / "x.keras")


@_kind(lambda: _models("tflite"), "x.tflite", heavy=True)
def tflite(folder: Path) -> None:
    _see(folder / "x.tflite")
    loading.load(folder / "x.tflite")  # its note says where the weights stand


@_kind(lambda: _models("onnx"), "x.onnx", heavy=True)
def onnx(folder: Path) -> None:
    _see(folder / "x.onnx")
    loading.load(folder / "x.onnx")


_PARTS = {
    "saved_model.pb": "saved_model.pb",
    "variables.index": "variables/variables.index",
    "variables.data": "variables/variables.data-00000-of-00001",
    "note.json": "assets.extra/caffe2tf.json",
}


def _saved() -> list[Files]:
    with workplace() as folder:
        formats.save(loading.load(CASE / "net.prototxt", CASE / "net.caffemodel"), f"{folder}/x/")
        return [{flat: (folder / "x" / path).read_bytes() for flat, path in _PARTS.items()}]


@_kind(_saved, *_PARTS, heavy=True)
def savedmodel(folder: Path) -> None:
    with workplace() as place:
        for flat, path in _PARTS.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes((folder / flat).read_bytes())
        _see(place)
        loading.load(place)
