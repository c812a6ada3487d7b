"""What is known of a network's blobs, and by whom: a golden set in memory."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.errors import Caffe2TFError
from caffe2tf.images import preprocess

Path = str | os.PathLike[str]
Classes = tuple[tuple[int, float], ...]  # (class, probability), best first


class GoldenError(Caffe2TFError):
    """A golden set that is missing, broken, of an unknown version, or of another network."""


class JudgeError(GoldenError):
    """A judge refuses the network, or could judge nothing of it."""


class JudgeAbsent(JudgeError):
    """The judge is not installed, or is of a version that is no judge."""


@dataclass(frozen=True)
class Original:
    """The files that a judge reads: a network text and a .caffemodel, None for what is not there."""

    text: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Judge:
    """Who computed a set here and now: `name` for people who type it, `who` with its version, what it `read` and what it was `fed`."""

    name: str
    who: str
    read: str
    fed: str


@dataclass(frozen=True)
class Expected:
    """What Caffe computed for a blob: `values` whole in Caffe's axis order, or (items, samples) at the flat positions
    `index` of each item; `norm` the L2 norm of each item, or None."""

    values: NDArray[Any]
    index: NDArray[Any] | None = None
    norm: NDArray[Any] | None = None

    def fits(self, found: NDArray[np.float32] | None = None) -> bool:
        """Whether its arrays belong together, and to the whole blob `found` where it is there."""
        if self.index is None and self.norm is None:
            return True
        items = len(self.values) if self.values.ndim else -1
        if found is not None and (found.ndim == 0 or len(found) != items):
            return False
        if self.norm is not None and self.norm.shape != (items,):
            return False
        if self.index is None:
            return True
        if self.index.ndim != 1 or self.index.dtype.kind not in "iu" or self.values.shape != (items, len(self.index)):
            return False
        most = found.size // max(1, items) if found is not None else np.inf
        return bool(self.index.min(initial=0) >= 0 and self.index.max(initial=-1) < most)

    def sampled(self, found: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same values of `found`, a whole blob."""
        return found if self.index is None else found.reshape(len(found), -1)[:, self.index]


@dataclass(frozen=True)
class Photograph:
    """A published prediction: the file's SHA-256, how it became the input, the top classes with their probabilities."""

    file: str
    sha256: str
    preprocessing: preprocess.Preprocessing
    top: Classes
    tolerance: float = 0.02
    url: str = ""
    source: str = ""


@dataclass(frozen=True, eq=False)
class Golden:
    """One set. `inputs` and `blobs` are empty where it holds published predictions alone; `weights` are SHA-256 digests
    {layer: (digest of each of Caffe's blobs)}; `top5` the classes for each input picture, best first.

    A `judge` makes a set where Caffe made none: then `tolerances` {blob: relative L2 error that it allows}, `given` {(blob,
    version): value that the judge was fed for it, since it does not make it}, and `unjudged` {layer: why}."""

    name: str
    path: str
    inputs: Mapping[str | None, NDArray[Any]] = field(default_factory=dict)
    blobs: Mapping[str, Expected] = field(default_factory=dict)
    images: NDArray[np.uint8] | None = None
    weights: Mapping[str, list[str]] = field(default_factory=dict)
    top5: tuple[tuple[int, ...], ...] = ()
    photographs: tuple[Photograph, ...] = ()
    output: str = "prob"
    judge: Judge | None = None
    tolerances: Mapping[str, float] = field(default_factory=dict)
    given: Mapping[tuple[str, int], NDArray[Any]] = field(default_factory=dict)
    unjudged: Mapping[str, str] = field(default_factory=dict)
