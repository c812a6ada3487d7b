"""Golden sets: networks with results that Caffe itself computed, as `golden/record.py` writes them.

A set is a folder. A small net holds `net.prototxt`, `net.caffemodel` and `blobs.npz`: every blob whole. A full net holds
`expected.json` and `blobs.npz`: sampled values and norms of every blob for a few pictures, and predictions. Published
predictions are `expected.json` alone, with photographs found by their digest. No pickle is ever loaded.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf import bundled
from caffe2tf.arrays import numbers
from caffe2tf.errors import Caffe2TFError, ParseError
from caffe2tf.images import decode as imaging
from caffe2tf.images import preprocess
from caffe2tf.net.net import Net

VERSIONS = (1,)
Classes = tuple[tuple[int, float], ...]  # (class, probability), best first


class GoldenError(Caffe2TFError):
    """A golden set that is missing, broken, of an unknown version, or of another network."""


@dataclass(frozen=True)
class Expected:
    """What Caffe computed for a blob: `values` whole in Caffe's axis order, or (items, samples) at the flat positions
    `index` of each item; `norm` the L2 norm of each item, or None."""

    values: NDArray[Any]
    index: NDArray[Any] | None = None
    norm: NDArray[Any] | None = None

    def sampled(self, found: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same values of `found`, a whole blob."""
        if self.values.shape == found.shape:
            return found
        flat = found.reshape(len(found), -1)
        return flat if self.index is None else flat[:, self.index]


@dataclass(frozen=True)
class Photograph:
    """A published prediction: the file's SHA-256, how it became the input, the top classes with their probabilities."""

    file: str
    sha256: str
    preprocessing: preprocess.Preprocessing
    top: Classes
    tolerance: float = 0.02
    url: str = ""
    source: str = ""


@dataclass(frozen=True)
class Golden:
    """One set. `inputs` and `blobs` are empty where it holds published predictions alone; `weights` are SHA-256 digests
    {layer: (digest of each of Caffe's blobs)}; `top5` the classes for each input picture, best first."""

    name: str
    path: str
    inputs: Mapping[str | None, NDArray[Any]] = field(default_factory=dict)
    blobs: Mapping[str, Expected] = field(default_factory=dict)
    images: NDArray[np.uint8] | None = None
    weights: Mapping[str, list[str]] = field(default_factory=dict)
    top5: tuple[tuple[int, ...], ...] = ()
    photographs: tuple[Photograph, ...] = ()
    output: str = "prob"


def weight_digests(net: Net) -> dict[str, list[str]]:
    """{layer: [SHA-256 of each of Caffe's blobs, little-endian float32]}."""
    return {name: [_digest(array) for array in arrays] for name, arrays in net.arrays.items()}


def _digest(array: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").data).hexdigest()


def choose(net: Net) -> Golden:
    """The set for `net`: the seeded AlexNet's or the trained SqueezeNet's by its weights, the published one where the shapes
    are AlexNet's."""
    from caffe2tf.net.reading import from_files

    for name, text in (("alexnet", bundled.alexnet_text()), ("squeezenet", bundled.squeezenet_text())):
        if net.weight_shapes != from_files(text).weight_shapes:
            continue
        known = load(os.path.join(bundled.home(), name))
        # Two small blobs tell networks apart; `verify` compares all of them.
        ends = [layer for layer in net.arrays if layer in known.weights]
        if any(_digest(net.arrays[layer][1]) == known.weights[layer][1] for layer in (*ends[:1], *ends[-1:])):
            return known
        if name == "alexnet":
            return load(os.path.join(bundled.home(), "bvlc_alexnet"))
    raise GoldenError(
        f"no golden set of the network '{net.name}' comes with caffe2tf; record one with golden/record.py on a machine "
        "with Caffe, and give its folder with `golden`"
    )


def load(folder: str | os.PathLike[str]) -> Golden:
    """The Golden set in `folder`. Raises GoldenError."""
    path = str(folder)
    if not os.path.isdir(path):
        raise GoldenError(f"{path}: no such golden folder")
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
    mean = expected.get("preprocessing", {}).get("mean_bgr", preprocess.IMAGENET_MEAN)
    data = (images.astype(np.float32) - np.asarray(mean, np.float32)).transpose(0, 3, 1, 2)
    blobs = {
        key[6:]: Expected(array, arrays.get(f"index/{key[6:]}"), arrays.get(f"norm/{key[6:]}"))
        for key, array in arrays.items()
        if key.startswith("value/")
    }
    top5 = tuple(tuple(int(label) for label, _ in best) for best in expected.get("top5", ()))
    weights = expected.get("weights_sha256", {})
    photographs, output = _photographs(expected, path), expected.get("output_blob", "prob")
    return Golden(name, path, {None: np.ascontiguousarray(data)}, blobs, images, weights, top5, photographs, output)


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        if not isinstance(data, dict):
            raise ValueError("it holds no dictionary")
    except (OSError, ValueError, RecursionError) as error:
        raise GoldenError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    if data.get("version", 1) not in VERSIONS:
        raise GoldenError(f"{path}: version {data['version']}; this caffe2tf reads {', '.join(map(str, VERSIONS))}")
    return dict(data)


def _npz(path: str) -> dict[str, NDArray[Any]]:
    try:
        arrays = dict(numbers.read_npz(path))
    except ParseError as error:
        raise GoldenError(f"{path}: cannot be read: {error}") from None
    version = int(arrays.pop("version", 1))
    if version not in VERSIONS:
        raise GoldenError(f"{path}: version {version}; this caffe2tf reads {', '.join(map(str, VERSIONS))}")
    return arrays


def _photographs(expected: Mapping[str, Any], path: str) -> tuple[Photograph, ...]:
    shared, found = expected.get("preprocessing"), list[Photograph]()
    try:
        for item in expected.get("images", ()):
            best = item.get("top5") or [item["top1"]]
            top = tuple(
                (b["class"], b["probability"]) if isinstance(b, dict) else (int(b[0]), float(b[1])) for b in best
            )
            how = _preprocessing(item.get("preprocessing") or shared or {}, path)
            rest = {key: item[key] for key in ("tolerance", "url", "source") if key in item}
            found.append(Photograph(item["file"], item["sha256"], how, top, **rest))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GoldenError(f"{path}: expected.json: a photograph lacks or misstates {error}") from None
    except ParseError as error:
        raise GoldenError(str(error)) from None
    return tuple(found)


def _preprocessing(data: Mapping[str, Any], where: str) -> preprocess.Preprocessing:
    """The Preprocessing that a golden set states. Raises ParseError for a method that is not known."""
    method = "nearest_pillow" if "nearest_pillow" in data.get("resize_method", "") else "bilinear"
    if not any(known in data.get("resize_method", "bilinear") for known in preprocess.METHODS):
        raise ParseError(
            f"{where}: resize_method '{data['resize_method']}'; takes one of {', '.join(preprocess.METHODS)}"
        )
    crop = None
    if "crop" in data:
        height, width = data["crop"].split()[-1].split("x")
        crop = int(height), int(width)
    mean = tuple(float(m) for m in data.get("mean_bgr", (0.0,)))
    return preprocess.Preprocessing(tuple(data["resize"]), crop, mean, data.get("scale", 1.0), 3, method)


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


def file_digest(path: str) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
