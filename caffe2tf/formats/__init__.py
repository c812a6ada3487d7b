"""File formats. A module here is a format, its name the suffix: `npz.py` is `.npz`, `savedmodel.py` a folder `OUT/`.

Each has `save(net, path, progress=None)` and, where the file can be read back, `load(path)` giving
{layer: {name: array in Keras's layout}}; a whole model has `runner(path, many)` giving a Runner. Its docstring's first
line is its line in every table of formats.
"""

import ast
import difflib
import importlib
import os
import pkgutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from caffe2tf.arrays.layout import Array, Floats, OpenShape
from caffe2tf.arrays.numbers import float32
from caffe2tf.caffe import read
from caffe2tf.errors import OutputError
from caffe2tf.files import replacing as files

if TYPE_CHECKING:
    from caffe2tf.formats._files import Progress
    from caffe2tf.net.net import Net

FOLDER = "savedmodel"  # chosen by a trailing slash


@dataclass(frozen=True)
class Runner:
    """A whole model, ready to run: `call` maps images, float32 (N, H, W, C) as the network takes them, to its output as
    an array; `shape` is the input's (N, C, H, W), None what is free; `outputs` the classes, None where nothing tells;
    `noted` says how pictures become input ({"preprocessing", "source"} or {}); `names` are the classes', where the file has
    them. With `raw` the network takes 8-bit RGB as it is, in float32 here."""

    call: Callable[[Floats], Array]
    shape: OpenShape
    outputs: int | None = None
    noted: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    raw: bool = False


def names() -> list[str]:
    """All formats, without importing one."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def module(name: str) -> ModuleType:
    """The module of the format `name`."""
    if talks(name):
        importlib.import_module("keras")  # whose backend PyTorch, if it is that, cannot be loaded after TensorFlow
    return importlib.import_module(f"{__name__}.{name}")


def describe(name: str) -> str:
    """The first line of the format's docstring, without importing what the format needs."""
    return (ast.get_docstring(_tree(name)) or name).splitlines()[0]


def readable(name: str) -> bool:
    """Whether the format can be read back, without importing it."""
    return _has(name, "load")


def runnable(name: str) -> bool:
    """Whether the format holds a whole model that runs as it is, without importing it."""
    return _has(name, "runner")


def noted(name: str, path: str) -> dict[str, Any]:
    """What `_note.of` left in the whole model at `path`, of the format `name`; {} where there is nothing. Raises ParseError."""
    from caffe2tf.images import notes

    found: dict[str, Any] = module(name).noted(path) if _has(name, "noted") else notes.noted_in(path)
    return found


def is_model_folder(path: str) -> bool:
    """Whether the folder is a model: a SavedModel, or results of finetune."""
    return any(os.path.exists(os.path.join(path, name)) for name in ("saved_model.pb", "settings.json"))


def result(name: str) -> files.Kind:
    """The files.Kind of what the format writes: its KIND, one of those in `_files`, without importing it; else one file."""
    from caffe2tf.formats import _files

    said = _said(name, "KIND")
    kind: files.Kind = getattr(_files, said.rpartition(".")[2]) if said else files.FILE
    return kind


def check_backend(name: str, path: str | os.PathLike[str]) -> None:
    """Raises OutputError where another backend of Keras writes `path` than the BACKEND of its format `name`."""
    said = _said(name, "BACKEND")
    if said is None:
        return
    from caffe2tf.keras_model import device

    if device.foreseen() != ast.literal_eval(said):
        other = device.library(device.foreseen())
        raise OutputError(
            f"{path}: TensorFlow writes it, and Keras's backend is {other}; set KERAS_BACKEND=tensorflow, or take a .keras"
        )


def _said(name: str, constant: str) -> str | None:
    """What the format's module sets its `constant` to, without importing it."""
    for node in _tree(name).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == constant:
            return ast.unparse(node.value)
    return None


def _has(name: str, function: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in _tree(name).body)


_PARSING = threading.Lock()  # Python 3.11's parser raises SystemError where two threads are in it


def _tree(name: str) -> ast.Module:
    place = next(module for module in pkgutil.iter_modules(__path__) if module.name == name).module_finder
    with open(os.path.join(str(getattr(place, "path", "")), f"{name}.py"), encoding="utf-8") as file, _PARSING:
        return ast.parse(file.read())


def talks(name: str) -> bool:
    """Whether the format loads TensorFlow, which writes to the terminal by itself."""
    return "(loads TensorFlow)" in describe(name)


def of(path: str | os.PathLike[str], to: str | None = None) -> str:
    """The format that `path` means by its suffix, or `to`. Raises OutputError that lists the formats."""
    known = names()
    if to is not None:
        if to.lstrip(".") not in known:
            raise OutputError(f"no format '{to}'; takes one of {', '.join(known)}")
        return to.lstrip(".")
    path = str(path)
    if path.endswith(("/", os.sep)) and FOLDER in known:
        return FOLDER
    suffix = os.path.splitext(path)[1].lstrip(".").lower()
    if suffix in known and suffix != FOLDER:
        return suffix
    others = [name for name in known if name != FOLDER]
    near = difflib.get_close_matches(suffix, others, 1)
    hint = f"did you mean .{near[0]}? " if near else ""
    raise OutputError(
        f"{path}: no format has the suffix '.{suffix}'; {hint}takes one of {', '.join('.' + n for n in others)}, a folder "
        "OUT/ for a SavedModel, or `to`"
    )


def save(
    net: "Net",
    path: str | os.PathLike[str],
    to: str | None = None,
    force: bool = True,
    progress: "Progress | None" = None,
    preprocessing: bool = False,
    labels: Sequence[str] | None = None,
    **options: Any,
) -> float | None:
    """Writes `net` in the format of `path`'s suffix, or of `to`.

    The file appears whole or not at all. A whole model is read back; returns the largest difference between its outputs
    and those of the model in memory, None for weights. `progress` is called with the bytes of each array written. With
    `preprocessing` a whole model takes pictures as they are (keras_model.pictures) and bears the names of its classes:
    `labels`, else ImageNet's where there are 1000. `options` are the format's own (`layout` of npy, `quantize` of tflite).
    Raises OutputError where the target cannot be written or, without `force`, exists, and for `preprocessing` of weights;
    NetError for that of a network that takes no pictures.
    """
    name = of(path, to)
    if preprocessing and not runnable(name):
        whole = ", ".join(f".{n}" for n in names() if runnable(n) and n != FOLDER)
        raise OutputError(
            f"{path}: holds weights alone; `preprocessing` goes into whole models: {whole}, a folder OUT/"
        )
    if labels is not None and not preprocessing:
        raise OutputError(f"{path}: `labels` go into a model with `preprocessing`")
    if not net.arrays and any(node.layer.blobs() for node in net.nodes):
        raise OutputError(f"{path}: cannot be written: {net.lacking}")
    net = replace(
        net,
        arrays={
            layer: tuple(float32(array, f"layer '{layer}'") for array in arrays) for layer, arrays in net.arrays.items()
        },
    )
    if preprocessing:
        from caffe2tf.keras_model.pictures import pictures

        options["pictures"] = pictures(net, labels)
    kind = result(name)
    if kind.parts:
        options["taken"] = files.shards(path)
    writer = module(name)
    check_backend(name, path)
    with files.replacing(path, force, kind) as temporary:
        try:
            difference: float | None = writer.save(net, temporary, progress=progress, **options)
        except OutputError as error:
            raise OutputError(str(error).replace(temporary, os.fspath(path))) from None
        read.check_unchanged([array for arrays in net.arrays.values() for array in arrays])
        return difference


def check_targets(
    paths: Sequence[str], force: bool, sources: Sequence[str] = (), kinds: Sequence[str | None] = ()
) -> None:
    """Raises OutputError for a target that would fail at the end of the work, or that is one of the `sources`; `kinds`: the
    format of each, where they are formats."""
    whole = [os.path.abspath(path.rstrip("/" + os.sep)) for path in paths]
    for path, place, kind in zip(paths, whole, kinds or [None] * len(paths), strict=True):
        if whole.count(place) > 1:
            raise OutputError(f"{path}: is named twice as an output")
        if any(os.path.exists(path) and os.path.samefile(path, source) for source in sources if os.path.exists(source)):
            raise OutputError(f"{path}: is the file that is read")
        if kind:
            check_backend(kind, path)
        files.check(path, force, result(kind) if kind else files.FILE)


def model_here() -> str:
    """The model that is meant where none is named: the .caffemodel of this folder, else the only other model. Raises Caffe2TFError
    that lists what was found."""
    from caffe2tf.formats import _here

    return _here.the_model()
