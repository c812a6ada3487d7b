"""One Net in many threads: bit for bit what one thread makes, and nothing of a model stays with the Net."""

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caffe2tf
from caffe2tf import formats
from caffe2tf.net.net import Net
from tests.helpers import GOLDEN, inputs_of, load

keras = pytest.importorskip("keras")

THREADS = 8
# Weights in groups, shared by layers, statistics, recurrent ones, and layers that change their bottom in place.
NETS = ["inception_block", "residual_block", "conv_group2", "conv_shared_two_bottoms", "lstm_expose_hidden"]
LIGHT = [name for name in formats.names() if not formats.describe(name).endswith("(loads TensorFlow)")]


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    """What `work(number)` gives in each of THREADS threads, which start at once."""
    start = threading.Barrier(THREADS)

    def one(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def contents(path: Path) -> dict[str, bytes]:
    """The weights in a file, or in a .keras the model's."""
    if path.suffix == ".keras":
        return {w.path: keras.ops.convert_to_numpy(w).tobytes() for w in keras.models.load_model(path).weights}
    net = caffe2tf.load(None, path) if path.suffix == ".caffemodel" else None
    weights = net.weights if net else formats.module(path.suffix[1:]).load(str(path))
    return {f"{name}/{key}": array.tobytes() for name, found in weights.items() for key, array in found.items()}


def made(net: Net, folder: Path, suffix: str) -> dict[str, bytes]:
    folder.mkdir()
    formats.save(net, str(folder / f"x.{suffix}"))
    return contents(folder / f"x.{suffix}")


@pytest.mark.parametrize("name", NETS)
def test_forward_and_to_keras(name: str) -> None:
    path = GOLDEN / "layers" / name
    net, given = load(path), inputs_of(load(path), path)

    def run(number: int) -> tuple[dict[str, bytes], list[str], list[bytes]]:
        blobs = caffe2tf.forward(net, given)
        model = caffe2tf.to_keras(net)
        names = [layer.name for layer in model.layers]
        weights = [keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights]
        return {blob: value.tobytes() for blob, value in blobs.items()}, sorted(names), weights

    alone = run(0)
    assert all(found == alone for found in in_threads(run))


@pytest.mark.parametrize("suffix", [*LIGHT, "keras"])
def test_save(suffix: str, tmp_path: Path) -> None:
    net = load(GOLDEN / "layers" / "inception_block")
    alone = made(net, tmp_path / "alone", suffix)
    assert alone
    assert all(found == alone for found in in_threads(lambda number: made(net, tmp_path / str(number), suffix)))


@pytest.mark.parametrize("name", NETS)
def test_verify(name: str) -> None:
    path = GOLDEN / "layers" / name
    net = load(path)
    alone = caffe2tf.verify(net, path).layers
    assert alone
    assert all(repr(found) == repr(alone) for found in in_threads(lambda number: caffe2tf.verify(net, path).layers))


@pytest.mark.parametrize("name", NETS)
def test_a_dropped_model_is_gone_while_its_net_lives(name: str) -> None:
    path = GOLDEN / "layers" / name
    net = load(path)
    model = caffe2tf.to_keras(net)
    left = [weakref.ref(model), *(weakref.ref(layer) for layer in model.layers), weakref.ref(model.weights[0])]
    np.testing.assert_array_equal([ref() is None for ref in left], False)
    del model
    gc.collect()
    assert [ref() for ref in left if ref() is not None] == []
    assert caffe2tf.verify(net, path).passed
