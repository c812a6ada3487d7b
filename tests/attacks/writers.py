"""Every kind of result, written with a number in all of it and read back as that number, for tests that kill or starve the
writer."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe2tf import finetune, formats, loading
from caffe2tf.files import replacing as files
from caffe2tf.finetuning import recipe, results
from caffe2tf.finetuning.checkpoint import Checkpoint
from caffe2tf.finetuning.settings import Recipe
from caffe2tf.net.net import Net
from tests.helpers import inputs, layer, make, write_small_set

WEIGHTS = ("npy", "npz", "h5", "safetensors", "caffemodel", "ckpt")


@dataclass(frozen=True)
class Writer:
    """`name`: the result's in its folder; `write(path, number)`; `read(path)`: the number, None where there is nothing.
    `resume`: what goes on after a kill where the old is gone and the new not there yet, which others never are."""

    name: str
    write: Callable[[str, int], object]
    read: Callable[[str], int | None]
    resume: Callable[[str, int], object] | None = None


_NETS: list[Net] = []
_PICTURES: list[str] = []


def prepare(folder: str, extents: tuple[int, int] = (64, 32)) -> None:
    """Makes in `folder` what the writers write, a matrix of `extents` and pictures to train on: once, before any of them."""
    text = inputs(data=(1, extents[1])) + layer("InnerProduct", f"inner_product_param {{ num_output: {extents[0]} }}")
    os.makedirs(os.path.join(folder, "small"))
    _NETS[:] = [loading.load(*make(folder, text, {"x": [np.zeros(extents), np.zeros(extents[0])]}))]
    write_small_set(Path(folder, "small"))
    _PICTURES[:] = [os.path.join(folder, "small")]


def _numbered(number: int) -> Net:
    """A network whose every weight is `number`."""
    net = _NETS[0]
    return net.with_weights({"x": {key: np.full_like(a, number) for key, a in net.weights["x"].items()}})


def _one(values: Any) -> int:
    """The number that all values are."""
    (found,) = {float(v) for array in values for v in np.unique(np.asarray(array))}
    return int(found)


def _save(path: str, number: int) -> None:
    formats.save(_numbered(number), path)


def _weights(path: str) -> int | None:
    if not os.path.exists(path):
        return None
    net = loading.load(None, path) if path.endswith("caffemodel") else _NETS[0]
    kind = formats.module(path.rpartition(".")[2])
    found = net.weights if path.endswith("caffemodel") else kind.load(path)
    return _one(found["x"].values())


def _ckpt(path: str) -> int | None:
    import tensorflow as tf

    if not os.path.exists(path + ".index"):
        return None
    reader = tf.train.load_checkpoint(path)
    return _one(reader.get_tensor(key) for key in reader.get_variable_to_shape_map())


def _keras(path: str) -> int | None:
    import keras

    return _one(keras.models.load_model(path).get_weights()) if os.path.exists(path) else None


def _ones() -> Any:
    return np.ones((1, *_NETS[0].inputs["data"][1:]), np.float32)


def _output(found: Any) -> int:
    """The number of a network whose every weight it is, by what it makes of ones."""
    return _one([found]) // (_ones().size + 1)


def _saved_model(path: str) -> int | None:
    import tensorflow as tf

    if not os.path.exists(path):
        return None
    (found,) = tf.saved_model.load(path).signatures["serving_default"](data=tf.constant(_ones())).values()
    return _output(found)


def _tflite(path: str) -> int | None:
    import tensorflow as tf

    if not os.path.exists(path):
        return None
    runner = tf.lite.Interpreter(model_path=path).get_signature_runner()
    (found,) = runner(data=_ones()).values()
    return _output(found)


def _onnx(path: str) -> int | None:
    import onnxruntime

    if not os.path.exists(path):
        return None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"data": _ones()})
    return _output(found)


def _report(path: str, number: int) -> None:
    files.write_text(path, f"{number}\n" * 3000, True)


def _text(path: str) -> int | None:
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert len(lines) == 3000
    return _one([list(map(int, lines))])


def _write_checkpoint(path: str, number: int) -> None:
    Checkpoint(path).save("last", [np.full((99, 999), number, np.float32)] * 3, {"number": number})


def _checkpoint(path: str) -> int | None:
    found = Checkpoint(path).load("last")
    return None if found is None else _one([*found[0], found[1]["number"]])


RESULTS = ("best.npz", "last.npz", "labels.txt", "history.csv", "report.html", "settings.json")


def _write_results(path: str, number: int) -> None:
    """As a run does: it begins, and at its end all of it is staged, then placed."""
    results.make_folder(path)
    keep = Checkpoint(path)
    with keep.alone():
        results.check_folder(path, True)
        results.note_board(path)
        keep.begin(Recipe(seed=number))
        _finish(path, number)


def _resume_results(path: str, number: int) -> None:
    with Checkpoint(path).alone():
        _finish(path, number)


def _finish(path: str, number: int) -> None:
    staged = results.staging(path)
    for name in RESULTS[:2]:
        formats.save(_numbered(number), os.path.join(staged, name))
    for name in RESULTS[2:]:
        files.write_text(os.path.join(staged, name), json.dumps(number), True)
    results.place(staged, path)
    Checkpoint(path).remove()


def _results(path: str) -> int | None:
    """None where not all of it is there: such a folder is no model yet."""
    found = [name for name in RESULTS if os.path.exists(os.path.join(path, name))]
    numbers = [_weights(os.path.join(path, name)) for name in found if name.endswith(".npz")]
    for name in found:
        if not name.endswith(".npz"):
            with open(os.path.join(path, name), encoding="utf-8") as file:
                numbers.append(json.load(file))
    assert len(set(numbers)) <= 1, f"of several runs: {dict(zip(found, numbers, strict=True))}"
    return numbers[0] if len(found) == len(RESULTS) else None


def _train(path: str, number: int, resume: bool = False) -> None:
    net, weights, pictures = (os.path.join(_PICTURES[0], name) for name in ("net.prototxt", "net.caffemodel", "train"))
    settings: dict[str, Any] = {
        "layers": "fc8",
        "data": pictures,
        "epochs": 4,
        "seed": number,
        "lr": 1e-3,
        "keep": "all",
    }
    finetune(weights, net, out=path, force=not resume, resume=resume, device="cpu", **settings)


def _trained(path: str) -> int | None:
    """The number that the results were trained with; all of them must be there, and the weights readable."""
    if not os.path.exists(os.path.join(path, "settings.json")):
        return None
    with open(os.path.join(path, "settings.json"), encoding="utf-8") as file:
        seed: int = json.load(file)["seed"]
    assert recipe.read(os.path.join(path, "recipe.toml")).seed == seed
    for name in ("best.npz", "last.npz", "best.h5"):
        assert formats.module(name.rpartition(".")[2]).load(os.path.join(path, name))["fc8"]["kernel"].shape[1] == 3
    for name in ("best.keras", "best_saved_model/saved_model.pb", "labels.txt", "report.html", "confusion.png"):
        assert os.path.getsize(os.path.join(path, name))
    return seed


WRITERS = {
    **{kind: Writer(f"x.{kind}", _save, _weights) for kind in WEIGHTS if kind != "ckpt"},
    "ckpt": Writer("x.ckpt", _save, _ckpt),
    "keras": Writer("x.keras", _save, _keras),
    "savedmodel": Writer("x/", _save, _saved_model),
    "tflite": Writer("x.tflite", _save, _tflite),
    "onnx": Writer("x.onnx", _save, _onnx),
    "report": Writer("report.html", _report, _text),
    "checkpoint": Writer("run", _write_checkpoint, _checkpoint),
    "results": Writer("run", _write_results, _results, _resume_results),
    "finetune": Writer("run", _train, _trained, lambda path, number: _train(path, number, True)),
}
