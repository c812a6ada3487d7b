"""Blobs as Caffe keeps them: a shape, and a storage that several blobs may have in common."""

import math

import numpy as np


class Blob:
    """A named array of Caffe's (blob.cpp). `value` is read from the storage at the time of asking.

    A layer in place has one Blob as bottom and top, so it writes into the storage that its bottom has, and every other
    blob with that storage changes with it.
    """

    def __init__(self) -> None:
        self._storage = np.empty(0)
        self._shape: tuple[int, ...] = (0,)

    @property
    def value(self) -> np.ndarray:
        """A view of the storage in this blob's shape."""
        return self._storage.reshape(self._shape)

    def write(self, value: np.ndarray) -> None:
        """Puts `value` into the storage; the first write, or one of another size, takes a storage of its own."""
        value = np.asarray(value, np.float64)
        if self._storage.size != value.size or not math.prod(self._shape):
            self._storage = np.empty(value.size)
        self._shape = value.shape
        self._storage[:] = value.ravel()

    def share(self, other: "Blob", shape: tuple[int, ...]) -> None:
        """Takes the storage of `other`, seen in `shape`."""
        self._storage, self._shape = other._storage, shape
