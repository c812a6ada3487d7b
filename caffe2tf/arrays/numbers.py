"""NumPy's arrays and files from elsewhere: of plain numbers, of the size that they claim, as float32 where they are weights.

`numpy.load` evaluates a header as a Python literal and takes the memory that it states; here a header is matched against
what NumPy writes (numpy/lib/format.py), and its claim against the bytes that are there, before memory is taken.
"""

import contextlib
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from caffe2tf.arrays.layout import Array, Floats, Shape
from caffe2tf.errors import ParseError

MAX_AXES = 32  # NumPy's and Caffe's limit (kMaxBlobAxes, blob.hpp)
_FREE, _TIMES = 64 << 20, 32  # what compressed data may unfold to: 64 MiB, and 32 times the file
# What Python's zipfile makes of a damaged archive.
ZIP_ERRORS = (
    *(OSError, ValueError, EOFError, NotImplementedError, OverflowError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
_PIECE = 8 << 20  # bytes that are read at once
_PLAIN = re.compile(r"[<>=|]?(?:b1|[iu][1248]|f(?:2|4|8|16))", re.ASCII)
_HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<dtype>[^']{1,16})',\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[0-9L, ]*)\),?\s*\}\s*",
    re.ASCII,
)


def float32(array: npt.ArrayLike, where: str) -> Floats:
    """`array` as native float32 in C order: itself where it is that, else a copy.

    Takes real numbers: floats and integers of any width and byte order. Raises ParseError, which begins with `where`, for
    any other kind (bool, complex, text, objects) and where a finite value is more than float32 holds.
    """
    found = np.asarray(array)
    if found.dtype.kind not in "fiu" and found.dtype.name != "bfloat16":
        raise ParseError(f"{where}: holds values of type {found.dtype.name}; takes real numbers (floats or integers)")
    with np.errstate(over="ignore"):
        made = np.asarray(found, np.float32, order="C")
    if found.dtype.itemsize > 4 and found.dtype.kind == "f":
        lost = np.isinf(made) & np.isfinite(found)
        if lost.any():
            raise ParseError(f"{where}: holds {found[lost].flat[0]:g}, which is more than float32 takes (3.4e38)")
    return made


def plain_dtype(text: str) -> np.dtype[Any]:
    """The dtype of plain numbers that `text` ("<f4", "u1") says. Raises ParseError for any other."""
    if text.endswith("O"):
        raise ParseError("Object arrays can hold anything; takes plain numbers")
    if not _PLAIN.fullmatch(text):
        raise ParseError(f"holds values of type '{text[:40]}'; takes plain numbers")
    try:
        return np.dtype(text)
    except TypeError:  # f16, which not every system has
        raise ParseError(f"holds values of type '{text}', which this system does not have") from None


def check_claim(claimed: int, size: int) -> None:
    """Raises ParseError where `size` bytes of a file claim to unfold to more than `claimed` can be believed."""
    if claimed > _FREE + _TIMES * size:
        raise ParseError(f"claims {claimed} bytes of values in a file of {size} bytes; takes {_TIMES} times as many")


@contextlib.contextmanager
def unzipped(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """The zip archive at `path`, whose members claim no more than the file can hold: Python takes the memory of a claim before it
    reads. Raises ParseError, and ZIP_ERRORS where it is damaged."""
    with zipfile.ZipFile(path) as archive:
        members, size = archive.infolist(), os.path.getsize(path)
        for member in members:
            if member.compress_size > size:
                raise ParseError(f"'{member.filename}' claims {member.compress_size} bytes of a file of {size}")
        check_claim(sum(member.file_size for member in members), size)
        yield archive


def read_npy(file: IO[bytes], size: int) -> Array:
    """The array of plain numbers in the .npy stream `file` of `size` bytes, in the order of axes that it was saved in.

    Raises ParseError for any other content and for a claim that is not the stream's size.
    """
    start = file.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise ParseError("is no .npy")
    wide = 2 if start[6] == 1 else 4
    (length,) = struct.unpack("<H" if wide == 2 else "<I", file.read(wide).ljust(wide, b"\0"))
    if length > min(size, 1 << 16):
        raise ParseError(f"is no .npy: its header claims {length} bytes")
    match = _HEADER.fullmatch(file.read(length).decode("latin-1"))
    if match is None:
        raise ParseError("is no .npy of one array of plain numbers")
    dtype = plain_dtype(match["dtype"])
    texts = [text.strip().removesuffix("L") for text in match["shape"].split(",") if text.strip()]
    if len(texts) > MAX_AXES or not all(text.isdigit() and len(text) < 20 for text in texts):
        raise ParseError(f"is no .npy: its shape ({match['shape'][:60]}) is none of {MAX_AXES} axes at most")
    shape = tuple(map(int, texts))
    nbytes, there = math.prod(shape) * dtype.itemsize, size - 8 - wide - length
    if nbytes != there:
        raise ParseError(f"claims {nbytes} bytes of values for shape {shape}, but holds {there}")
    return filled(file, shape, dtype, "F" if match["fortran"] == "True" else "C")


def filled(file: IO[bytes], shape: Shape, dtype: np.dtype[Any], order: Literal["C", "F"] = "C") -> Array:
    """An array read from `file`, piece by piece. Raises ParseError where it ends before, and for a shape that is none."""
    if math.prod(max(1, extent) for extent in shape) * dtype.itemsize >= 1 << 63:
        raise ParseError(f"has the shape {shape}, which no array can have")
    flat = np.empty(math.prod(shape), dtype)
    target, at = flat.view(np.uint8).data, 0
    while at < flat.nbytes:
        piece = file.read(min(_PIECE, flat.nbytes - at))
        if not piece:
            raise ParseError(f"ends after {at} of {flat.nbytes} bytes of values")
        target[at : at + len(piece)] = piece
        at += len(piece)
    return flat.reshape(shape, order=order)


def read_npz(path: str | os.PathLike[str]) -> Iterator[tuple[str, Array]]:
    """Yields (key, array) of the .npz at `path`, one after the other. Raises ParseError without the file's name."""
    try:
        if not os.path.isfile(path):  # a device may have no end
            raise ParseError("is no file" if os.path.exists(path) else "no such file")
        with unzipped(path) as archive:
            seen = set()
            for member in archive.infolist():
                key = member.filename.removesuffix(".npy")
                if key in seen:
                    raise ParseError(f"holds '{key}' twice")
                if member.flag_bits & 1:
                    raise ParseError(f"'{key}' is encrypted")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ParseError(f"'{key}' is packed in a way that NumPy does not write")
                seen.add(key)
                with archive.open(member) as file:
                    try:
                        yield key, read_npy(file, member.file_size)
                    except ParseError as error:
                        raise ParseError(f"{error} ('{key}')") from None
    except ZIP_ERRORS as error:
        raise ParseError(reason(error)) from None


def reason(error: Exception) -> str:
    """The first line of what `error` says, its type where it says nothing."""
    said = getattr(error, "strerror", None) or str(error)
    return (str(said).strip().splitlines() or [type(error).__name__])[0]
