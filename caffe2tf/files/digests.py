"""SHA-256 of files and folders, by which a result says what it is a result of."""

import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def file_digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, or of a folder: that of the lines `digest  path` of its files in order of their paths, as `sha256sum`
    prints them, with `/` between folders. Raises OSError."""
    if not os.path.isdir(path):
        return file_digest(path)
    found = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    named = sorted((os.path.relpath(file, path).replace(os.sep, "/"), file) for file in found)
    lines = (f"{file_digest(file)}  {name}\n" for name, file in named)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def of_arrays(arrays: Mapping[str, Sequence[NDArray[np.float32]]]) -> dict[str, list[str]]:
    """{layer: [`of_array` of each of its arrays]}."""
    return {name: [of_array(one) for one in several] for name, several in arrays.items()}


def of_array(array: NDArray[np.float32]) -> str:
    """The SHA-256 of the values of an array as little-endian float32."""
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").data).hexdigest()
