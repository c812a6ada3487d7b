"""Scores of a network as probabilities of classes."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe2tf.errors import NetError


def probabilities(outputs: ArrayLike) -> NDArray[np.float64]:
    """(N, classes) probabilities of an output: itself where each item sums to 1, else its softmax."""
    scores = np.asarray(outputs, np.float64)
    if np.prod(scores.shape[2:]) != 1 and np.prod(scores.shape[1:3]) != 1:
        raise NetError(f"the output has shape {scores.shape}, a map and not one value for each class")
    scores = scores.reshape(len(scores), -1)
    if (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3):
        return scores
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    shares: NDArray[np.float64] = shifted / shifted.sum(1, keepdims=True)
    return shares


def best(shares: NDArray[np.floating[Any]], count: int = 5) -> tuple[tuple[int, float], ...]:
    """((class, probability), ...) of the `count` largest values of `shares`, those of one item."""
    return tuple((int(c), float(shares[c])) for c in np.argsort(-shares, kind="stable")[:count])
