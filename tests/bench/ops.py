"""Random calls of the Keras operations that layers are built of, against plain float64 NumPy.

Run as `python -m tests.bench.ops [--count CALLS_OF_EACH] [--seed SEED] [--threads N] [--only NAME ...]`. Before every
call the memory that TensorFlow hands out next is filled with 1e30, so that what a kernel leaves unwritten is seen.
Prints for each operation its calls, how many differ, the largest difference in units of the tolerance, and the
arguments of the first that differs. Exits with 1 where one differs that is not among `KNOWN`.
"""

import argparse
import os
import random
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from tests.bench import moves, points, windows  # noqa: F401 (each registers its operations)
from tests.bench.calls import OPERATIONS, Call

FUNCTION_SHARE = 0.02  # of the calls also run inside tf.function, which costs fifty times as much

# Faults of TensorFlow 2.21 and Keras 3.15: {operation: (when, in which layer it is gone round)}. `when` takes a Call.
KNOWN: dict[str, tuple[Callable[[Call], bool], str]] = {
    "conv": (
        lambda call: (
            call.arrays[1].shape[-2] == 1
            and call.expected.shape[-2] == 1
            and call.expected.ndim > 3
            and call.said["stride"][-2] == 1
            and call.said["stride"][-1] > 1
        ),
        "oneDNN leaves a narrow output of one channel unwritten: layers/convolution.py, `convolved`",
    ),
    "argmax": (
        lambda call: bool(np.signbit(call.arrays[0][call.arrays[0] == 0]).any()),
        "Keras takes -0.0 for less than 0.0: layers/pooling.py, `first_largest`",
    ),
    "binary": (
        lambda call: call.said["function"] == "add" and call.arrays[0].ndim < call.arrays[1].ndim,
        "Keras takes the second of add for a bias of the channels, and its axes of 1 are lost: layers/scaling.py, `_plus`",
    ),
}


def dirty(count: int) -> None:
    """Leaves values that no sum gives in the memory that TensorFlow hands out next."""
    for size in (count, count, count + 1, 2 * count):
        tf.fill([max(1, size)], 1e30)


def worst(call: Call, compile_too: bool) -> float:
    """The larger error of the call alone and inside tf.function."""
    tensors = [tf.convert_to_tensor(array) for array in call.arrays]
    runs = [call.run, tf.function(call.run, autograph=False)] if compile_too else [call.run]
    errors = []
    for run in runs:
        dirty(call.expected.size)
        errors.append(call.error(np.asarray(run(*tensors))))
    return max(errors)


def examine(names: Iterable[str], count: int, seed: int) -> int:
    """Calls each of `names` `count` times and prints the table; how many operations differ in a way not known."""
    bad = 0
    warnings.filterwarnings("ignore", "You are using a softmax over axis")
    print(f"{'operation':<22} {'calls':>7} {'differ':>7} {'known':>7} {'worst':>9}")
    for name in names:
        own = random.Random(f"{name} {seed}")
        np.random.seed(zlib.crc32(f"{name} {seed}".encode()))
        differ = known = 0
        largest, first = 0.0, None
        for _ in range(count):
            call = OPERATIONS[name](own)
            error = worst(call, own.random() < FUNCTION_SHARE)
            if error > 1 and name in KNOWN and KNOWN[name][0](call):
                known += 1
                continue
            largest = max(largest, error)
            if error > 1:
                differ += 1
                first = first or call
        print(f"{name:<22} {count:7} {differ:7} {known:7} {largest:9.2g}", flush=True)
        if first:
            bad += 1
            print(f"    first: {first.said}, arrays of {[a.shape for a in first.arrays]}", flush=True)
    return bad


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20000, help="calls of each operation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="they decide which kernel oneDNN takes")
    parser.add_argument("--only", nargs="+", choices=sorted(OPERATIONS), metavar="NAME", help=", ".join(OPERATIONS))
    options = parser.parse_args(args)
    tf.get_logger().setLevel("ERROR")  # it warns of a tf.function made for each call, as is meant here
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    bad = examine(options.only or OPERATIONS, options.count, options.seed)
    for name, (_, words) in KNOWN.items():
        print(f"known of {name}: {words}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
