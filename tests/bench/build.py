"""Building and reopening a network's Keras model against keras.applications' own, in CPU time.

    python -m tests.bench.build deploy.prototxt ResNet50 [REPEATS]

Both build the same architecture without trained weights, in turn in one process; a ratio below 1 is faster than the peer.
"""

import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import caffe2tf


def seconds(work: Callable[[], Any]) -> float:
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def main(text: str, peer: str, repeats: int = 7) -> None:
    net = caffe2tf.load(text)
    net = net.with_weights(
        {
            layer: {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
            for layer, shapes in net.weight_shapes.items()
        }
    )
    build = getattr(keras.applications, peer)
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("ours.keras", "peer.keras")]
        caffe2tf.to_keras(net).save(files[0])
        build(weights=None).save(files[1])
        rounds = [
            (
                seconds(lambda: caffe2tf.to_keras(net)),
                seconds(lambda: build(weights=None)),
                *(seconds(lambda file=file: keras.models.load_model(file)) for file in files),
            )
            for _ in range(repeats)
        ]
    ours, theirs, again, again_theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"{len(net.nodes)} layers, medians of {repeats}, CPU seconds")
    print(f"to_keras  {ours:.2f}  keras.applications.{peer}  {theirs:.2f}  ratio {ours / theirs:.2f}")
    print(f"reopened  {again:.2f}  the peer's file  {again_theirs:.2f}  ratio {again / again_theirs:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:4]))
