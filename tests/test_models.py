"""Trained networks and the full-size AlexNet, against blobs and predictions that Caffe recorded."""

import gzip
import json

import numpy as np
import pytest

from caffe2tf import bundled, loading
from tests.helpers import GOLDEN, RELATIVE, assert_same, error

pytest.importorskip("keras")
from caffe2tf.keras_model import model

BGR_MEAN = np.array([104, 117, 123], np.float32)


def archive(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("name", ["det1", "det2", "det3"])
def test_mtcnn(name, shared):
    folder = shared / "models" / "mtcnn"
    net = loading.load(str(folder / f"{name}.prototxt"), str(folder / f"{name}.caffemodel"))
    blobs = archive(folder / f"{name}_blobs.npz")
    found = model.forward(net, {"data": blobs["data"]})
    for blob, expected in blobs.items():
        assert_same(blob, found[blob], expected)


def test_mtcnn_finds_faces_at_any_size(shared):
    folder = shared / "models" / "mtcnn"
    net = loading.load(str(folder / "det1.prototxt"), str(folder / "det1.caffemodel"))
    made = model.to_keras(net)
    blobs = archive(folder / "det1_blobs.npz")
    assert made.inputs[0].shape == (None, None, None, 3)
    for name, value in zip(net.outputs, made(np.moveaxis(blobs["data"], 1, -1)), strict=True):
        assert_same(name, np.moveaxis(np.asarray(value), -1, 1), blobs[name])


def test_lenet_makes_exactly_caffes_errors_on_mnist(shared):
    folder = shared / "models" / "lenet"
    net = loading.load(str(folder / "lenet.prototxt"), str(folder / "lenet_iter_10000.caffemodel"))
    blobs = archive(folder / "blobs.npz")
    found = model.forward(net, {"data": blobs["data"]})
    for blob, expected in blobs.items():
        assert_same(blob, found[blob], expected)
    expected = json.loads((folder / "expected.json").read_text())
    with gzip.open(shared / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        digits = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(shared / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    made = model.to_keras(net)
    guesses = [
        np.asarray(made(digits[start : start + 1000].astype(np.float32) * np.float32(0.00390625))).argmax(1)
        for start in range(0, len(digits), 1000)
    ]
    wrong = np.flatnonzero(np.concatenate(guesses) != labels)
    assert wrong.tolist() == expected["errors"]
    assert 1 - len(wrong) / len(labels) == pytest.approx(expected["accuracy"])


def compare_sampled(found, blobs):
    """Sampled values and norms of every blob, as `expected.json` sets keep them."""
    checked = 0
    for key, values in blobs.items():
        kind, _, blob = key.partition("/")
        if kind != "value":
            continue
        flat = found[blob].reshape(len(found[blob]), -1)
        sampled = flat[:, blobs[f"index/{blob}"]] if f"index/{blob}" in blobs else flat
        relative, _ = error(sampled, values)
        assert relative <= RELATIVE, f"{blob}: {relative:.3g}"
        norms = np.linalg.norm(flat.astype(np.float64), axis=1)
        np.testing.assert_allclose(norms, blobs[f"norm/{blob}"], rtol=RELATIVE)
        checked += 1
    return checked


def test_squeezenet(shared):
    folder = shared / "models" / "squeezenet_v1.0"
    net = loading.load(str(folder / "deploy.prototxt"), str(folder / "squeezenet_v1.0.caffemodel"))
    blobs = archive(folder / "blobs.npz")
    found = model.forward(net, {"data": (blobs["bgr"] - BGR_MEAN).transpose(0, 3, 1, 2)})
    assert compare_sampled(found, blobs) == len(net.blobs) - 1


def test_alexnet(alexnet):
    net = loading.load(bundled.alexnet_text(), str(alexnet))
    blobs = archive(GOLDEN / "alexnet" / "blobs.npz")
    bgr = archive(GOLDEN / "alexnet" / "images.npz")
    images = next(iter(bgr.values()))
    found = model.forward(net, {"data": (images - BGR_MEAN).transpose(0, 3, 1, 2)})
    assert compare_sampled(found, blobs) == len(net.blobs) - 1
    expected = json.loads((GOLDEN / "alexnet" / "expected.json").read_text())["top5"]
    for probabilities, top5 in zip(found["prob"], expected, strict=True):
        assert np.argsort(-probabilities)[:5].tolist() == [label for label, _ in top5]
