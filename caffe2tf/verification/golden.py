"""Golden sets: networks with results that Caffe itself computed, as `golden/record.py` writes them.

A set is a folder. A small net holds `net.prototxt`, `net.caffemodel` and `blobs.npz`: every blob whole. A full net holds
`expected.json` and `blobs.npz`: sampled values and norms of every blob for a few pictures, and predictions. Published
predictions are `expected.json` alone, with photographs found by their digest. No pickle is ever loaded.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf import bundled
from caffe2tf.arrays import numbers
from caffe2tf.errors import ParseError, guarded
from caffe2tf.files import records
from caffe2tf.files.digests import file_digest, of_array, of_arrays
from caffe2tf.images import decode as imaging
from caffe2tf.images import preprocess
from caffe2tf.net.net import Net
from caffe2tf.verification.sets import Expected, Golden, GoldenError, Photograph

# Real Caffe where Docker is: what it leaves in my_golden is a golden set.
DOCKER = (
    'caffe2tf record-script > record.py && docker run --rm -v "$PWD":/net -w /net bvlc/caffe:cpu '
    "python record.py deploy.prototxt net.caffemodel my_golden"
)
VERSIONS = (1,)
_TOP = ([int, float], {"class": int, "probability": float})
_HOW = {"?resize": [int, int], "?resize_method": str, "?crop": str, "?mean_bgr": [float], "?scale": float}
_PHOTOGRAPH = {"file": str, "sha256": str, "?preprocessing": (None, _HOW), "?top5": (None, [_TOP]), "?top1": _TOP}
_PHOTOGRAPH |= {"?tolerance": float, "?url": str, "?source": str}
_FORM = {"?images": [_PHOTOGRAPH], "?preprocessing": (None, _HOW), "?top5": [[[int, float]]], "?output_blob": str}
_FORM |= {"?weights_sha256": {str: [str]}}


def weight_digests(net: Net) -> dict[str, list[str]]:
    """{layer: [SHA-256 of each of Caffe's blobs, little-endian float32]}."""
    return of_arrays(net.arrays)


def knows_nothing(net: Net) -> bool:
    """Whether `net` is a sample with random weights: by its name, or as the seeded AlexNet by the bias of its first layer."""
    if bundled.is_random(net.name):
        return True
    first = next(iter(net.arrays), None)
    if first != "conv1" or [array.shape for array in net.arrays[first]] != [(96, 3, 11, 11), (96,)]:
        return False
    known = _json(os.path.join(bundled.home(), "alexnet", "expected.json"))["weights_sha256"]
    return bool(known[first][1] == of_array(net.arrays[first][1]))


def choose(net: Net, digests: Mapping[str, Sequence[str]] | None = None) -> Golden:
    """The set for `net`: the seeded AlexNet's or the trained SqueezeNet's by its weights, the published one where the shapes
    are AlexNet's. `digests` {layer: [of its blobs]} stand for weights that the net does not have."""
    from caffe2tf.net.reading import from_files

    for name, text in (("alexnet", bundled.alexnet_text()), ("squeezenet", bundled.squeezenet_text())):
        if net.weight_shapes != from_files(text).weight_shapes:
            continue
        known = load(os.path.join(bundled.home(), name))
        # Two small blobs tell networks apart; `verify` compares all of them.
        ends = [layer for layer in (net.arrays or digests or ()) if layer in known.weights]
        for layer in (*ends[:1], *ends[-1:]):
            told = of_array(net.arrays[layer][1]) if net.arrays else (digests or {})[layer][1]
            if told == known.weights[layer][1]:
                return known
        if name == "alexnet":
            return load(os.path.join(bundled.home(), "bvlc_alexnet"))
    raise GoldenError(
        f"no golden set of the network '{net.name}' comes with caffe2tf; opencv and reference judge it here (`against`), and "
        f"with Docker Caffe itself does: {DOCKER}"
    )


def load(folder: str | os.PathLike[str]) -> Golden:
    """The Golden set in `folder`. Raises GoldenError."""
    path = os.fspath(folder)
    if not os.path.isdir(path):
        raise GoldenError(f"{path}: no such golden folder")
    with guarded(path):
        return _set(path)


def _set(path: str) -> Golden:
    name = os.path.basename(os.path.normpath(path))
    files = set(os.listdir(path))
    if not files & {"expected.json", "blobs.npz"}:
        raise GoldenError(f"{path}: holds neither expected.json nor blobs.npz, so it is no golden set")
    expected = _json(os.path.join(path, "expected.json")) if "expected.json" in files else {}
    arrays = _npz(os.path.join(path, "blobs.npz")) if "blobs.npz" in files else {}
    if not any(key.startswith("value/") for key in arrays):
        given = {key[3:]: array for key, array in arrays.items() if key.startswith("in:")}
        blobs = {key: Expected(array) for key, array in arrays.items() if not key.startswith("in:")}
        inputs: dict[str | None, NDArray[Any]] = {key: array.values for key, array in blobs.items()}
        inputs.update(given)
        return Golden(name, path, inputs, blobs, photographs=_photographs(expected, path))
    images = arrays.get("bgr")
    if images is None and "images.npz" in files:
        images = _npz(os.path.join(path, "images.npz")).get("bgr")
    if images is None or images.dtype != np.uint8 or images.ndim != 4:
        raise GoldenError(f"{path}: holds no images, expected 'bgr', uint8 (N, H, W, 3), in blobs.npz or images.npz")
    mean = (expected.get("preprocessing") or {}).get("mean_bgr", preprocess.IMAGENET_MEAN)
    if len(mean) not in (1, images.shape[3]):
        raise GoldenError(f"{path}: expected.json: a mean of {len(mean)} channels for images of {images.shape[3]}")
    data = (images.astype(np.float32) - np.asarray(mean, np.float32)).transpose(0, 3, 1, 2)
    blobs = {
        key[6:]: Expected(array, arrays.get(f"index/{key[6:]}"), arrays.get(f"norm/{key[6:]}"))
        for key, array in arrays.items()
        if key.startswith("value/")
    }
    for blob, one in blobs.items():
        if not one.fits():
            raise GoldenError(f"{path}: blobs.npz: the values, places and norms of '{blob}' do not belong together")
    top5 = tuple(tuple(int(label) for label, _ in best) for best in expected.get("top5", ()))
    weights = expected.get("weights_sha256", {})
    photographs, output = _photographs(expected, path), expected.get("output_blob", "prob")
    return Golden(name, path, {None: np.ascontiguousarray(data)}, blobs, images, weights, top5, photographs, output)


def _json(path: str) -> dict[str, Any]:
    try:
        data: dict[str, Any] = records.parsed(records.whole(path), {"?version": int})
        if data.get("version", 1) in VERSIONS:
            records.check(data, _FORM)
    except (OSError, ParseError) as error:
        raise GoldenError(f"{path}: cannot be read: {numbers.reason(error)}") from None
    _check_version(path, data.get("version", 1))
    return data


def _check_version(path: str, version: int) -> None:
    if version not in VERSIONS:
        raise GoldenError(f"{path}: version {version}; this caffe2tf reads {', '.join(map(str, VERSIONS))}")


def _npz(path: str) -> dict[str, NDArray[Any]]:
    try:
        arrays = dict(numbers.read_npz(path))
    except ParseError as error:
        raise GoldenError(f"{path}: cannot be read: {error}") from None
    version = np.asarray(arrays.pop("version", 1))
    if version.shape or version.dtype.kind not in "iu":
        raise GoldenError(f"{path}: its version is no whole number")
    _check_version(path, int(version))
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise GoldenError(f"{path}: '{key}' holds values of type {array.dtype}; takes real numbers")
    return arrays


def _photographs(expected: Mapping[str, Any], path: str) -> tuple[Photograph, ...]:
    shared, found = expected.get("preprocessing"), list[Photograph]()
    for item in expected.get("images", ()):
        best = item.get("top5") or [item[key] for key in ("top1",) if key in item]
        top = tuple((b["class"], b["probability"]) if isinstance(b, dict) else tuple(b) for b in best)
        how = item.get("preprocessing") or shared
        if not top or how is None or "resize" not in how:
            raise GoldenError(f"{path}: expected.json: '{item['file']}' lacks its predictions or its preprocessing")
        rest = {key: item[key] for key in ("tolerance", "url", "source") if key in item}
        found.append(Photograph(item["file"], item["sha256"], _preprocessing(how, path), top, **rest))
    return tuple(found)


def _preprocessing(data: Mapping[str, Any], path: str) -> preprocess.Preprocessing:
    """The Preprocessing that a golden set states. Raises GoldenError for one that is not known."""
    where = f"{path}: expected.json"
    said = data.get("resize_method", "bilinear")
    method = next((known for known in reversed(preprocess.METHODS) if known in said), None)
    if method is None:
        raise GoldenError(f"{where}: resize_method '{said}'; takes one of {', '.join(preprocess.METHODS)}")
    values = {"resize": data["resize"], "mean": data.get("mean_bgr", [0.0]), "method": method}
    values |= {"scale": data["scale"]} if "scale" in data else {}
    if "crop" in data:
        size = re.search(r"([0-9]{1,5})x([0-9]{1,5})$", data["crop"], re.ASCII)
        if size is None:
            raise GoldenError(f"{where}: crop '{data['crop']}'; takes HxW, as in 'centre 227x227'")
        values["crop"] = [int(size[1]), int(size[2])]
    try:
        return preprocess.made_of(values, where)
    except ParseError as error:
        raise GoldenError(str(error)) from None


def find_photographs(photographs: Iterable[Photograph], folder: str | os.PathLike[str]) -> dict[Photograph, str]:
    """{photograph: path} of those that lie in `folder`, told by digest whatever their name."""
    wanted, found = {photo.sha256: photo for photo in photographs}, dict[Photograph, str]()
    names = {photo.file for photo in photographs}
    entries = sorted(os.listdir(folder), key=lambda entry: (entry not in names, entry))
    for entry in entries:
        path = os.path.join(folder, entry)
        if len(found) == len(wanted):
            break
        if os.path.isfile(path) and entry.lower().endswith(imaging.SUFFIXES):
            photo = wanted.get(file_digest(path))
            if photo is not None:
                found[photo] = path
    return found


def at_hand(photographs: Iterable[Photograph]) -> dict[Photograph, str]:
    """{photograph: path} of those that come with packages that caffe2tf needs, and are there as they were."""
    places = {photo: bundled.photograph(photo.file) for photo in photographs if photo.file in bundled.PHOTOGRAPHS}
    return {p: path for p, path in places.items() if os.path.isfile(path) and file_digest(path) == p.sha256}
