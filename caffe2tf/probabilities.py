"""Scores of a network as probabilities of classes."""

import numpy as np

from caffe2tf.errors import NetError


def probabilities(scores):
    """(N, classes) probabilities of an output: itself where each item sums to 1, else its softmax."""
    scores = np.asarray(scores, np.float64)
    if np.prod(scores.shape[2:]) != 1 and np.prod(scores.shape[1:3]) != 1:
        raise NetError(f"the output has shape {scores.shape}, a map and not one value for each class")
    scores = scores.reshape(len(scores), -1)
    if (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3):
        return scores
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def best(row, count=5):
    """((class, probability), ...) of the `count` largest values of `row`."""
    return tuple((int(c), float(row[c])) for c in np.argsort(-row, kind="stable")[:count])
