"""The model that is meant where none is named: what lies in this folder."""

import json
import os
import zipfile

from caffe2tf.errors import Caffe2TFError
from caffe2tf.formats import _files, is_model_folder, module

_WEIGHTS = (".npy", ".npz", ".h5", ".safetensors")
_WHOLE = (".keras", ".onnx", ".tflite")
_NAMES = {*_files.TENSORFLOW_NAMES, *_files.KERAS_NAMES}  # of arrays in a layer


def the_model() -> str:
    """The .caffemodel in this folder, for what was converted from it is the same model; where there is none the only file of
    weights, or whole model. Raises Caffe2TFError that lists all of them, or what to type where there is none."""
    entries = sorted(os.listdir("."))
    original = [entry for entry in entries if entry.lower().endswith(".caffemodel")]
    if len(original) == 1:
        return original[0]
    models = original + [entry for entry in entries if _is_model(entry)]
    if len(models) == 1:
        return models[0]
    if models:
        raise Caffe2TFError(f"{len(models)} models here ({', '.join(models)}); name one as `model`")
    arrays = [entry for entry in entries if entry.lower().endswith(_WEIGHTS)]
    others = f" ({', '.join(arrays)}: no weights of a network)" if arrays else ""
    raise Caffe2TFError(
        f"no model here{others}; name one as `model`, or get one: caffe2tf sample squeezenet, caffe2tf download bvlc_alexnet"
    )


def _is_model(entry: str) -> bool:
    """Whether the file or folder is a whole model, or holds weights by layer: other arrays (means, blobs, features) are no models.
    Only what tells is read."""
    if os.path.isdir(entry):
        return is_model_folder(entry)
    kind = os.path.splitext(entry)[1].lower()
    if kind in _WHOLE:
        return True
    try:
        if kind == ".npy":
            with open(entry, "rb") as file:
                return b"'descr': '|O'" in file.read(128).replace(b"'O'", b"'|O'")
        if kind == ".npz":
            with zipfile.ZipFile(entry) as archive:
                return _by_layer([name.removesuffix(".npy") for name in archive.namelist()])
        if kind == ".safetensors":
            with open(entry, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length)) if length < os.path.getsize(entry) else {}
                return isinstance(header, dict) and _by_layer([name for name in header if name != "__metadata__"])
        if kind == ".h5":
            return bool(module("h5").is_weights(entry))
    except (OSError, ValueError, zipfile.BadZipFile, RecursionError):
        return False
    return False


def _by_layer(names: list[str]) -> bool:
    return bool(names) and all(_files.split_key(name)[0] and _files.split_key(name)[1] in _NAMES for name in names)
