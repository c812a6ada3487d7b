"""A random call of an operation, with what plain float64 NumPy says it gives; the operations by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

TOLERANCE = 2e-6  # of the sum of the magnitudes that go into a value; float32 rounds at 6e-8 of it for each step


@dataclass
class Call:
    """`run(*arrays)` should give `expected`; `said` is printed. `scale` is what the tolerance refers to, 0 for exact."""

    run: Callable[..., Any]
    arrays: Sequence[np.ndarray]
    expected: np.ndarray
    scale: Any = 0.0
    said: dict[str, Any] = field(default_factory=dict)

    def error(self, found: np.ndarray) -> float:
        """The largest difference in units of the tolerance; infinite for another shape or a value that is no number."""
        if found.shape != self.expected.shape:
            return float("inf")
        distance = np.abs(found.astype(np.float64) - self.expected)
        allowed = TOLERANCE * np.broadcast_to(self.scale, distance.shape) + np.finfo(np.float32).tiny
        worst = (distance / allowed).max(initial=0)
        return float(worst) if np.isfinite(worst) else float("inf")


OPERATIONS: dict[str, Callable[[Random], Call]] = {}


def operation(make: Callable[[Random], Call]) -> Callable[[Random], Call]:
    OPERATIONS[make.__name__] = make
    return make


def values(random: Random, *shape: int) -> np.ndarray:
    """Normal values, small integers (which tie), mostly zeros, or large values."""
    found = np.random.randn(*shape)
    kind = random.randrange(5)
    if kind == 1:
        found = np.random.randint(-2, 3, shape)
    elif kind == 2:
        found = found * (np.random.rand(*shape) < 0.2)
    elif kind == 3:
        found = found * 1e3
    return np.asarray(found, np.float32)


def shape_of(random: Random, low: int = 1, high: int = 4, extent: int = 6) -> tuple[int, ...]:
    return tuple(random.choice([1, random.randint(1, extent)]) for _ in range(random.randint(low, high)))
