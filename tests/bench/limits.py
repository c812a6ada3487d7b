"""What a machine can do at most, measured by the backend that is to be judged: a large product of matrices, a large copy."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from caffe2tf.inspection.summary import inspect
from caffe2tf.net.net import Net


def wait(values: Any) -> None:
    """Until `values`, what a backend gave, are there: a GPU works on after the call returns."""
    import keras

    first = values[0] if isinstance(values, (list, tuple)) else values
    keras.ops.convert_to_numpy(keras.ops.ravel(first)[:1])


def best(work: Callable[[], Any], seconds: float = 1.0, rounds: int = 3) -> float:
    """The seconds of one call of `work`: the best of as many rounds as fit into `seconds`, `rounds` at least. A round is as many
    calls in a row as take a tenth of that, waited for at its end; two calls come before."""
    for _ in range(2):
        start = time.perf_counter()
        wait(work())
        once = time.perf_counter() - start
    calls, found, end = max(1, int(seconds / 10 / max(once, 1e-6))), [], time.perf_counter() + seconds
    while len(found) < rounds or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(calls):
            values = work()
        wait(values)
        found.append((time.perf_counter() - start) / calls)
    return min(found)


def flops(dtype: str = "float32", size: int = 2048, seconds: float = 1.0) -> float:
    """Floating-point operations a second of a product of two square matrices."""
    from keras import ops

    a, b = (ops.cast(_noise((size, size)), dtype) for _ in range(2))
    return 2 * size**3 / best(lambda: ops.matmul(a, b), seconds)


def bandwidth(megabytes: int = 256, seconds: float = 1.0) -> float:
    """Bytes a second that are read and written, together, by adding one to each value of a large array."""
    from keras import ops

    x = ops.convert_to_tensor(np.zeros(megabytes << 18, np.float32))
    return 2 * (megabytes << 20) / best(lambda: ops.add(x, 1.0), seconds)


def least(net: Net, batch: int, operations: float, moved: float, width: int = 4) -> float:
    """The seconds that no forward pass of `batch` pictures can fall short of: its multiply-adds at `operations` a second, and its
    weights, of `width` bytes each, read once at `moved` bytes a second."""
    found = inspect(net)
    items = next(iter(net.inputs.values()))[0] or 1
    work: Any = found["multiply_adds"]
    weights: Any = found["parameters"]
    return max(2 * work / items * batch / operations, width * weights / moved)


def _noise(shape: Sequence[int]) -> Any:
    return np.random.default_rng(0).standard_normal(shape, np.float32)
