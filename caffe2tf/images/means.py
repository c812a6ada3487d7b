"""The mean that is subtracted from pictures, as a user says it: numbers, or a file."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffe2tf.arrays.layout import Floats
from caffe2tf.arrays.numbers import float32, read_npy, reason
from caffe2tf.caffe.read import read_mean
from caffe2tf.errors import ParseError, guarded

if TYPE_CHECKING:
    from caffe2tf.images.preprocess import Mean


def mean(said: Sequence[float] | str, channels: int) -> "Mean":
    """A mean as `images.said` has it, as Preprocessing has it. Raises ParseError."""
    if isinstance(said, str):
        if said == "none":
            return (0.0,)
        with guarded(said):
            array = _array(said)
        if array.ndim not in (1, 3) or array.shape[0] != channels or not array.size or not np.isfinite(array).all():
            raise ParseError(f"{said}: holds an array of {array.shape}; takes ({channels}) or ({channels}, H, W)")
        return tuple(array.tolist())
    if len(said) not in (1, channels) or not np.isfinite(said).all():
        numbers = ",".join(f"{value:g}" for value in said)
        raise ParseError(f"`mean` {numbers}; takes {channels} numbers, a .npy or .binaryproto file, or none")
    return tuple(said)


def _array(path: str) -> Floats:
    if not os.path.isfile(path):
        raise ParseError(f"{path}: no such file")
    if path.endswith(".npy"):
        try:
            with open(path, "rb") as file:
                return float32(read_npy(file, os.path.getsize(path)), "it")
        except (OSError, ParseError) as error:
            raise ParseError(f"{path}: is no array of numbers ({reason(error)})") from None
    found: Floats = read_mean(path)[0]
    return found
