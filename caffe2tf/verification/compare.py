"""Numbers instead of a verdict: how far a blob or a prediction is from Caffe's."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from caffe2tf.verification.sets import Classes, Expected, Judge


@dataclass(frozen=True)
class Difference:
    """Between a blob found and Caffe's: the largest, absolutely and as a share of Caffe's largest value, its place in
    Caffe's axes, and the relative L2 norm (also of each item's whole blob where the set holds its norm)."""

    largest: float
    relative: float
    place: tuple[int, ...]
    l2: float

    def within(self, tolerance: float) -> bool:
        return self.l2 <= tolerance


@dataclass(frozen=True)
class LayerCheck:
    """One blob, made by `layers` (an in-place layer counts with the one it changes). `alone`: the layers on Caffe's own
    bottoms, None where the set does not hold them whole; `chained`: the whole network up to here."""

    layers: tuple[str, ...]
    kind: str
    blob: str
    shape: tuple[int, ...]
    alone: Difference | None
    chained: Difference
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.chained.within(self.tolerance) and (self.alone is None or self.alone.within(self.tolerance))


@dataclass(frozen=True)
class Prediction:
    """Of one picture: (class, probability) best first, expected and found; `file` is the photograph's path where there
    is one. It passes when the top class is equal and its probability within `tolerance` (None: the class alone)."""

    image: str
    expected: Classes
    found: Classes
    tolerance: float | None = None
    file: str | None = None

    @property
    def passed(self) -> bool:
        same = self.expected[0][0] == self.found[0][0]
        return same and (self.tolerance is None or abs(self.expected[0][1] - self.found[0][1]) <= self.tolerance)

    @property
    def same_set(self) -> bool | None:
        """Whether the top classes are the same set; None where fewer than five are known. Reported, not judged."""
        count = len(self.expected)
        return {c for c, _ in self.expected} == {c for c, _ in self.found[:count]} if count >= 5 else None


@dataclass(frozen=True)
class Report:
    """All that was found for one network and one golden set. `missing`: photographs that were not there; `digest`: SHA-256
    over the digests of all blobs of the weights, in net order; `left_out`: recorded blobs of layers that have no part in
    inference (losses).

    Where a `judge` computed the set: `unjudged` {layer: why} and `total`, how many layers there are; `notes` on why it is this
    judge. `files`: ((file, SHA-256), ...) of what was tested, nothing for a Net that was changed since it was read."""

    name: str
    golden: str
    layers: tuple[LayerCheck, ...]
    predictions: tuple[Prediction, ...]
    changed_weights: tuple[str, ...]
    missing: tuple[str, ...]
    tolerance: float
    digest: str
    first_wrong: str | None = None
    hint: str | None = None
    running: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    judge: Judge | None = None
    unjudged: Mapping[str, str] = field(default_factory=dict)
    total: int = 0
    notes: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()

    @property
    def judged(self) -> int:
        """How many of `total` layers were."""
        return self.total - len(self.unjudged)

    @property
    def passed(self) -> bool:
        passed = [check.passed for check in self.layers] + [one.passed for one in self.predictions]
        return bool(passed) and not self.changed_weights and all(passed)


def compare(found: NDArray[np.float32], expected: Expected) -> Difference:
    """The Difference of `found`, a whole blob, from `expected` (sets.Expected)."""
    values = np.atleast_1d(expected.values).astype(np.float64)
    sampled = expected.sampled(found)
    if sampled.size != values.size:
        return Difference(np.inf, np.inf, (), np.inf)
    sampled = sampled.reshape(values.shape).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(sampled - values)
        apart[~np.isfinite(apart)] = np.inf
        apart[(sampled == values) | (np.isnan(sampled) & np.isnan(values))] = 0
    if not apart.size:
        return Difference(0.0, 0.0, (), 0.0)
    at = np.unravel_index(int(apart.argmax()), apart.shape)
    place = at
    if expected.values.shape != found.shape:
        if expected.index is None:
            place = np.unravel_index(int(apart.argmax()), found.shape)
        else:
            place = (at[0], *np.unravel_index(int(expected.index[at[1]]), found.shape[1:]))
    finite = values[np.isfinite(values)]
    largest, norm = float(apart.max()), float(np.linalg.norm(finite))
    l2 = float(np.linalg.norm(apart)) / (norm or 1.0)
    if expected.norm is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            norms = np.linalg.norm(found.reshape(len(found), -1).astype(np.float64), axis=1)
            off = np.abs(norms - expected.norm) / np.where(expected.norm, expected.norm, 1.0)
        off[(norms == expected.norm) | (np.isnan(norms) & np.isnan(expected.norm))] = 0
        l2 = max(l2, float(np.where(np.isfinite(off), off, np.inf).max()))
    return Difference(largest, largest / (float(np.abs(finite).max(initial=0)) or 1.0), tuple(map(int, place)), l2)
