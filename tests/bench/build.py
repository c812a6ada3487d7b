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

import caffe2tf
from caffe2tf.net.net import Net
from tests.bench import tables
from tests.bench.nets import seeded


def seconds(work: Callable[[], Any]) -> float:
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def measured(net: Net, peer: str, repeats: int = 7) -> list[tuple[str, str, str, str]]:
    """Rows: what, ours, the peer's, the ratio, of medians in CPU seconds."""
    net = seeded(net)
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
    return [
        (f"{peer}, {what}", f"{a:.2f} s", f"{b:.2f} s", f"{a / b:.2f}")
        for what, a, b in (("built", ours, theirs), ("reopened", again, again_theirs))
    ]


COLUMNS = ("network", "caffe2tf", "keras.applications", "ratio")


if __name__ == "__main__":
    said = measured(caffe2tf.load(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:4]))
    print(tables.markdown(COLUMNS, said))
