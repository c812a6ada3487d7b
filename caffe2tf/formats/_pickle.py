"""Pickles of dictionaries of arrays, as .npy files of weights hold them, read so that nothing but that can come of them.

What a pickle names is never imported: `numpy.dtype`, `numpy.ndarray` and `_reconstruct` are stand-ins below, which check
shape, type and length before they make an array. Python's own unpickler in C is not used, since it takes the memory that
a file claims for a place in its memo or a string; the one in Python takes what `_Bounded` gives it.
"""

import math
import pickle
from typing import IO, Any, ClassVar

import numpy as np

from caffe2tf.arrays.numbers import MAX_AXES, plain_dtype
from caffe2tf.errors import ParseError

_RECONSTRUCT = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Bounded:
    """The rest of an open file; a read of more than is there is refused before memory is taken."""

    def __init__(self, file: IO[bytes], left: int) -> None:
        self.file, self.left = file, left

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= self.left:
            raise ParseError(f"is damaged: {count} bytes are asked for where {self.left} are left")
        data = self.file.read(count)
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        line = self.file.readline(1000)
        self.left -= len(line)
        return line


class _DType:
    """A dtype: `code` and its state give it; only plain numbers and, for the dictionary itself, objects."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, ""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise ParseError("is damaged: a dtype without byte order")
        if any(part is not None for part in state[2:5]):
            raise ParseError("holds arrays of records; takes plain numbers")
        self.order = state[1]

    def plain(self) -> np.dtype[Any]:
        return plain_dtype(self.order + self.code)


class _Array:
    """An array before and after its state: `value` is then an ndarray of plain numbers, or what a 0-d object array holds."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise ParseError("is damaged: an array without its state")
        shape, dtype, fortran, data = state[-4:]
        if not isinstance(dtype, _DType):
            raise ParseError("is damaged: an array without a dtype")
        if not isinstance(shape, tuple) or len(shape) > MAX_AXES or not all(type(n) is int and n >= 0 for n in shape):
            raise ParseError(f"is damaged: an array of shape {str(shape)[:60]}")
        if dtype.code in ("O8", "O4", "O"):
            if shape != () or not isinstance(data, list) or len(data) != 1:
                raise ParseError("holds an array of objects; takes arrays of plain numbers")
            self.value = data[0]
            return
        kind = dtype.plain()
        data = data.encode("latin-1") if isinstance(data, str) else data
        if not isinstance(data, (bytes, bytearray)) or len(data) != math.prod(shape) * kind.itemsize:
            raise ParseError(f"is damaged: an array of shape {shape} whose values are not of that size")
        self.value = np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")


class _Unpickler(pickle._Unpickler):
    # Without the operation that takes the memory it claims before it reads: no array is held so.
    dispatch: ClassVar[dict[int, Any]] = {
        code: act for code, act in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    # Bound methods, since a pickle can set the attributes of what it is given.
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return "ndarray"  # `_reconstruct` is told it; called it is nothing
        if (module, name) == ("numpy", "dtype"):
            return self._dtype
        if name == "_reconstruct" and module in _RECONSTRUCT:
            return self._reconstruct
        if (module, name) == ("_codecs", "encode"):  # how Python 2's protocols hold bytes
            return self._encode
        raise pickle.UnpicklingError(
            f"it holds {module}.{name}; only arrays, dicts, lists, strings and numbers are read"
        )

    def _reconstruct(self, kind: object, shape: object, code: object) -> _Array:
        if kind != "ndarray":
            raise pickle.UnpicklingError("an array subclass")
        return _Array()

    def _dtype(self, code: object, *_: object) -> _DType:
        if not isinstance(code, (str, bytes)):
            raise ParseError("is damaged: a dtype without a code")
        return _DType(code.decode("latin-1") if isinstance(code, bytes) else code)

    def _encode(self, text: str, encoding: object) -> bytes:
        return text.encode("latin-1")


def load(file: IO[bytes], left: int) -> Any:
    """What the pickle in `file`, of at most `left` bytes, holds: dictionaries, lists, texts, numbers and ndarrays.

    Raises ParseError and what a damaged pickle makes of Python's unpickler: UnpicklingError, ValueError, EOFError,
    TypeError, AttributeError, KeyError, IndexError, OverflowError.
    """
    return opened(_Unpickler(_Bounded(file, left), encoding="latin1").load())


def opened(item: Any) -> Any:
    """The array or object in a stand-in, anything else as it is."""
    return item.value if isinstance(item, _Array) else item
