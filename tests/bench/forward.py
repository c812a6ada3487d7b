"""Forward pass of AlexNet on the CPU against OpenCV's dnn and against what the processor can do at all, in one process.

Run as `python -m tests.bench.forward [REPEATS]`; it needs `pip install '.[test]'`. Everything runs in turn, so that a drift of the
machine's speed meets all of it, and counts by its best run. The limit: layers follow one another, and none is faster than its
multiply-adds at the speed of `sgemm`, nor than reading its weights once; what is less is summed over all layers. Kernels alone:
TensorFlow's own convolutions and products, each by itself, with nothing between them.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import tensorflow as tf

from caffe2tf import bundled, loading
from caffe2tf.inspection.summary import inspect
from caffe2tf.keras_model.model import to_keras
from caffe2tf.net.net import Net
from caffe2tf.samples import networks as sample
from tests.bench import tables

BATCHES = (1, 10, 50)
_SIDE, _READ = 2048, (4096, 16384)  # of the matrices: 17 GFLOP, 268 MB


def measured(repeats: int = 9) -> tuple[str, list[tuple[str, ...]]]:
    """(the limits in words, rows: batch, ours, OpenCV's, the kernels alone, `sgemm` alone, the limit, its share of ours), milliseconds a
    picture."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bvlc_alexnet.caffemodel")
        sample.write(path)
        net = loading.load(bundled.alexnet_text(), path)
        model, peer = to_keras(net), cv2.dnn.readNetFromCaffe(bundled.alexnet_text(), path)
    compiled = tf.function(lambda x: model(x, training=False), autograph=False)
    images = np.random.RandomState(0).randint(-120, 130, (max(BATCHES), 3, 227, 227)).astype(np.float32)
    random = np.random.default_rng(0)
    square, wide = random.standard_normal((_SIDE, _SIDE), np.float32), random.standard_normal(_READ, np.float32)
    row, squares, wides = np.ones(_READ[0], np.float32), tf.constant(square), tf.constant(wide)
    work: dict[str, Callable[[], Any]] = {
        "sgemm, NumPy": lambda: square @ square,
        "sgemm, TensorFlow": lambda: tf.linalg.matmul(squares, squares).numpy(),
        "read, NumPy": lambda: row @ wide,
        "read, TensorFlow": lambda: tf.reduce_max(wides).numpy(),
    }
    for batch in BATCHES:
        ours, theirs = tf.constant(images[:batch].transpose(0, 2, 3, 1)), np.ascontiguousarray(images[:batch])
        work[f"ours {batch}"] = lambda x=ours: compiled(x).numpy()
        work[f"OpenCV {batch}"] = lambda x=theirs: (peer.setInput(x), peer.forward())
        work |= {f"kernel {batch} {place}": one for place, one in enumerate(kernels(net, batch))}
    best = dict.fromkeys(work, float("inf"))
    for turn in range(repeats + 2):
        for name, one in work.items():
            start = time.perf_counter()
            one()
            if turn > 1:  # the first two compile and warm up
                best[name] = min(best[name], time.perf_counter() - start)
    flops = 2 * _SIDE**3 / min(best["sgemm, NumPy"], best["sgemm, TensorFlow"])
    read = wide.nbytes / min(best["read, NumPy"], best["read, TensorFlow"])
    rows = []
    for batch in BATCHES:
        mine, other = (1000 * best[f"{who} {batch}"] / batch for who in ("ours", "OpenCV"))
        limit = 1000 * least(net, batch, flops, read) / batch
        alone = 1000 * sum(best[name] for name in best if name.startswith(f"kernel {batch} ")) / batch
        sgemm = 2 * inspect(net)["multiply_adds"] / flops * 1000
        figures = (f"{one:.2f} ms" for one in (mine, other, alone, sgemm, limit))
        rows.append((str(batch), *figures, f"{limit / mine:.0%}"))
    return f"{flops / 1e9:.0f} GFLOP/s in `sgemm`, weights read at {read / 1e9:.1f} GB/s", rows


def kernels(net: Net, batch: int) -> Iterator[Callable[[], Any]]:
    """Each convolution and product of `net` by itself, for `batch` items of noise."""
    random = np.random.default_rng(0)
    for layer in (node.layer for node in net.nodes if node.layer.type in ("Convolution", "InnerProduct")):
        kernel = net.moved(layer.name)["kernel"].array()
        if layer.type == "InnerProduct":
            x = tf.constant(random.standard_normal((batch, len(kernel)), np.float32))
            yield tf.function(partial(tf.linalg.matmul, x, tf.constant(kernel)), autograph=False)
            continue
        same = all(s == 1 and 2 * p == r - 1 for s, p, r in zip(layer.stride, layer.pad, layer.reach(), strict=True))
        padding = "SAME" if same else [[0, 0], *([p, p] for p in layer.pad), [0, 0]] if any(layer.pad) else "VALID"
        height, width = layer.bottoms[0][2:]
        for part in np.split(kernel, layer.group, 3):
            x = tf.constant(random.standard_normal((batch, height, width, part.shape[2]), np.float32))
            run = partial(tf.nn.conv2d, x, tf.constant(part), layer.stride, padding)
            yield tf.function(run, autograph=False)


def least(net: Any, batch: int, flops: float, read: float) -> float:
    """The seconds that a forward pass cannot fall short of."""
    seconds = 0.0
    for layer in inspect(net)["layers"]:
        weights = 4 * (layer["parameters"] or 0)
        seconds += max(2 * (layer["multiply_adds"] or 0) * batch / flops, weights / read)
    return seconds


COLUMNS = (
    "AlexNet, batch",
    "caffe2tf",
    f"OpenCV {cv2.__version__}",
    "kernels alone",
    "`sgemm` alone",
    "limit",
    "of the limit",
)


def main(repeats: int = 9) -> None:
    words, rows = measured(repeats)
    print(f"{words}; a picture takes\n\n{tables.markdown(COLUMNS, rows)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
