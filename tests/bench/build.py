"""Building and reopening a network's Keras model against keras.applications' own, in CPU time.

    python -m tests.bench.build [NAME[,NAME...] [REPEATS]]

The networks are ResNet50, DenseNet121 and InceptionResNetV2 (229, 548 and 988 layers of Caffe's). Both build the same architecture without trained weights, in turn in one process; a ratio below 1 is faster than the peer.
"""

import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import caffe2tf
from tests.bench import tables
from tests.bench.nets import seeded
from tests.bench.texts import TEXTS, network


def seconds(work: Callable[[], Any]) -> float:
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def measured(names: Iterable[str] = TEXTS, repeats: int = 7) -> list[tuple[str, str, str, str]]:
    """Rows: what, ours, the peer's, the ratio, of medians in CPU seconds."""
    return [row for name in names for row in _measured(name, repeats)]


def _measured(name: str, repeats: int) -> list[tuple[str, str, str, str]]:
    build = getattr(keras.applications, name)
    with tempfile.TemporaryDirectory() as folder:
        net = seeded(network(name, folder))
        files = [str(Path(folder) / file) for file in ("ours.keras", "peer.keras")]
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
        (f"{name}, {what}", f"{a:.2f} s", f"{b:.2f} s", f"{a / b:.2f}")
        for what, a, b in (("built", ours, theirs), ("reopened", again, again_theirs))
    ]


COLUMNS = ("network", "caffe2tf", "keras.applications", "ratio")


if __name__ == "__main__":
    said = measured(sys.argv[1].split(",") if sys.argv[1:] else TEXTS, *map(int, sys.argv[2:3]))
    print(tables.markdown(COLUMNS, said))
