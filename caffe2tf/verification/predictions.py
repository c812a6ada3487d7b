"""What a network says of pictures, beside what Caffe said."""

import os
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from caffe2tf import probabilities
from caffe2tf.keras_model import model
from caffe2tf.net.net import Net
from caffe2tf.verification import golden as goldens
from caffe2tf.verification.compare import Prediction
from caffe2tf.verification.sets import Golden, GoldenError

_BATCH = 16


def generated(golden: Golden, found: Mapping[str, NDArray[np.float32]]) -> list[Prediction]:
    if not golden.top5 or golden.output not in found:
        return []
    if golden.output not in golden.blobs:
        raise GoldenError(f"golden set '{golden.name}': its output '{golden.output}' is no blob that it holds")
    shares = probabilities.probabilities(found[golden.output])
    known = golden.blobs[golden.output].values
    expected = probabilities.probabilities(known) if known.shape == found[golden.output].shape else known
    labels = [label for best in golden.top5 for label in best]
    if not len(golden.top5) == len(shares) == len(expected) or not all(0 <= n < expected[0].size for n in labels):
        raise GoldenError(f"golden set '{golden.name}': its predictions are not those of its output '{golden.output}'")
    return [
        Prediction(
            f"image {index + 1}", tuple((label, float(known[label])) for label in labels), probabilities.best(one)
        )
        for index, (labels, one, known) in enumerate(zip(golden.top5, shares, expected, strict=True))
    ]


def photographs(
    net: Net,
    golden: Golden,
    folder: str | os.PathLike[str] | None,
    run: Callable[[Mapping[str, NDArray[np.float32]]], Mapping[str, NDArray[np.float32]]] | None = None,
) -> tuple[list[Prediction], tuple[str, ...]]:
    """(predictions, photographs that are not there); `run` computes the blobs in place of the net."""
    if not golden.photographs or golden.output in net.dropped:
        return [], ()
    places = goldens.find_photographs(golden.photographs, folder) if folder else goldens.at_hand(golden.photographs)
    missing = tuple(photo.file for photo in golden.photographs if photo not in places)
    if folder and missing:
        few = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise GoldenError(f"{folder}: {len(missing)} of {len(golden.photographs)} photographs are not there: {few}")
    see, predictions = predictor(net, golden.output, run), list[Prediction]()
    photos = [photo for photo in golden.photographs if photo in places]
    for start in range(0, len(photos), _BATCH):
        batch = photos[start : start + _BATCH]
        found = see(np.stack([photo.preprocessing.load(places[photo]) for photo in batch]))
        for photo, shares in zip(batch, found, strict=True):
            best = probabilities.best(shares, max(5, len(photo.top)))
            predictions.append(Prediction(photo.file, photo.top, best, photo.tolerance, places[photo]))
    return predictions, missing


def predictor(
    net: Net,
    output: str | None = None,
    run: Callable[[Mapping[str, NDArray[np.float32]]], Mapping[str, NDArray[np.float32]]] | None = None,
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """A function from pictures (N, C, H, W) as Caffe takes them to probabilities (N, classes)."""
    scores = output if output in net.blobs else net.outputs[-1]
    blob = next(iter(net.inputs))
    compute = run or model.compiled(net, [scores])
    return lambda images: probabilities.probabilities(compute({blob: images})[scores])
