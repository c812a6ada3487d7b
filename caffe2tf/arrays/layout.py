"""Axis orders: Caffe's (N, C, spatial) outside, Keras's (N, spatial, C) inside, and a copy between them that is fast."""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
OpenShape = tuple[int | None, ...]  # None: an extent that nothing tells
Array = npt.NDArray[Any]  # of any plain numbers
Floats = npt.NDArray[np.float32]


class Shaped(Protocol):
    """Whatever has a shape in Caffe's order: an array, a blob of a file."""

    @property
    def shape(self) -> Shape: ...


THREADS = 2  # memory bandwidth is spent by then
_LINE = 16  # float32 values in a cache line: the smallest tile that wastes no memory traffic
_TILE = 32 * 1024  # values in a tile: its source and target lines stay in the L2 cache
_SLAB = 8 << 20  # bytes that are moved or written at once


def is_spatial(rank: int) -> bool:
    """Blobs of rank 4 and 5 travel channels last; all others keep Caffe's order."""
    return rank in (4, 5)


def to_keras(axis: int, rank: int) -> int:
    """Where Caffe's `axis` lies in the Keras model's tensor of the same rank."""
    if not is_spatial(rank) or axis == 0:
        return axis
    return rank - 1 if axis == 1 else axis - 1


def keras_order(rank: int) -> tuple[int, ...]:
    """The permutation from Caffe's order to the model's: (0, 2, 3, 1) for rank 4."""
    return (0, *range(2, rank), 1) if is_spatial(rank) else tuple(range(rank))


def caffe_order(rank: int) -> tuple[int, ...]:
    """The permutation from the model's order to Caffe's: (0, 3, 1, 2) for rank 4."""
    return (0, rank - 1, *range(1, rank - 1)) if is_spatial(rank) else tuple(range(rank))


class Moved:
    """An array whose axes are still to be moved: a strided `view` of the source, and the `shape` it gets afterwards.

    Nothing is read before `array()` or `write()`.
    """

    def __init__(self, view: Array, shape: Shape | None = None) -> None:
        self.view = view
        self.shape = tuple(view.shape if shape is None else shape)
        self.nbytes = view.nbytes

    def array(self) -> Array:
        """The array, C-contiguous: the source itself where nothing moves."""
        return contiguous(self.view).reshape(self.shape)

    def write(self, pool: ThreadPoolExecutor, fd: int, offset: int) -> "list[Future[None]]":
        """Starts writing the array's bytes into the file `fd` at `offset`; returns the futures of `pool` to wait for.

        Each task moves one stripe through a small buffer, so that memory for the whole array is never taken.
        """
        view, size = _merged(self.view), self.view.itemsize
        if view.flags.c_contiguous:
            data = view.reshape(-1).data.cast("B")
            return [pool.submit(_pwrite, data[at : at + _SLAB], fd, offset + at) for at in range(0, len(data), _SLAB)]
        axis, step = _stripes(view)
        after = int(np.prod(view.shape[axis + 1 :])) * size

        def stripe(start: int) -> None:
            part = view[(slice(None),) * axis + (slice(start, start + step),)]
            block = _move(part, _scratch(part.size, part.dtype).reshape(part.shape))
            rows = block.reshape(-1, part.shape[axis] * after // size)
            for index, row in enumerate(rows):
                _pwrite(row.data.cast("B"), fd, offset + (index * view.shape[axis] + start) * after)

        return [pool.submit(stripe, start) for start in range(0, view.shape[axis], step)]


_local = threading.local()


def _scratch(count: int, dtype: np.dtype[Any]) -> Array:
    """A buffer of this thread's: fresh memory for every stripe would be cleared by the system first."""
    buffer = getattr(_local, "buffer", None)
    if buffer is None or buffer.size < count or buffer.dtype != dtype:
        buffer = _local.buffer = np.empty(count, dtype)
    return buffer[:count]


def _pwrite(data: memoryview, fd: int, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


def contiguous(view: Array) -> Array:
    """A C-contiguous copy of `view`, or itself, made in cache-sized tiles by two threads.

    A plain `ascontiguousarray` of a transposed 150 MB matrix fetches every cache line once per value; here each
    line is fetched once.
    """
    if view.flags.c_contiguous:
        return view
    shape, view = view.shape, _merged(view)
    out = np.empty(view.shape, view.dtype)
    axis, step = _stripes(view)
    cuts = [(slice(None),) * axis + (slice(start, start + step),) for start in range(0, view.shape[axis], step)]
    if len(cuts) == 1:
        _move(view, out)
        return out.reshape(shape)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda cut: _move(view[cut], out[cut]), cuts))
    return out.reshape(shape)


def _merged(view: Array) -> Array:
    """`view` with neighbouring axes that lie behind one another in memory as one: (6, 6, 256, O) as (36, 256, O)."""
    shape: list[int] = []
    strides: list[int] = []
    for extent, stride in zip(view.shape, view.strides, strict=True):
        if shape and strides[-1] == extent * stride:
            shape[-1], strides[-1] = shape[-1] * extent, stride
        else:
            shape.append(extent)
            strides.append(stride)
    return np.lib.stride_tricks.as_strided(view, shape, strides, writeable=False)


def _near(view: Array) -> int:
    """The axis along which the source is contiguous."""
    return min(range(view.ndim), key=lambda axis: view.strides[axis] if view.shape[axis] > 1 else np.inf)


def _stripes(view: Array) -> tuple[int, int]:
    """(axis, step) of stripes whose source rows are long enough to stream and whose target stays small."""
    near, last = _near(view), view.ndim - 1
    others = [axis for axis in range(view.ndim) if axis not in (near, last) and view.shape[axis] > 1]
    axis = min(others, key=lambda other: view.strides[other]) if others and near != last else near
    if near == last:
        axis = 0
    rest = max(1, view.size // view.shape[axis])
    return axis, max(1, min(view.shape[axis], _SLAB // view.itemsize // rest))


def _move(view: Array, out: Array) -> Array:
    """Copies `view` into `out`, a cache line of the target at a time and few enough of them to stay cached."""
    near, last = _near(view), view.ndim - 1
    if near == last or view.size < _TILE:
        np.copyto(out, view)
        return out
    rest = max(1, view.size // view.shape[last] // view.shape[near])
    rows = max(_LINE, _TILE // _LINE // rest)
    index = [slice(None)] * view.ndim
    for row in range(0, view.shape[near], rows):
        index[near] = slice(row, row + rows)
        for column in range(0, view.shape[last], _LINE):
            index[last] = slice(column, column + _LINE)
            np.copyto(out[tuple(index)], view[tuple(index)])
    return out
