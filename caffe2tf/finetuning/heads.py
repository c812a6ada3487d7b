"""What a head should know of its examples before it learns: how large its features are, how many each class has."""

import numpy as np
from numpy.typing import NDArray

from caffe2tf.finetuning.batches import Examples
from caffe2tf.finetuning.placement import Placement
from caffe2tf.finetuning.plan import Plan
from caffe2tf.finetuning.settings import Stage
from caffe2tf.keras_model import model as models

_SAMPLE = 256  # examples at even distances that tell enough


def spread(plan: Plan, examples: Examples, placed: Placement) -> float:
    """How far the values lie apart that the head of `plan` reads: the root of the mean variance of a channel over `examples`,
    1 where they are all the same. On several workers it is the first's."""
    blob = plan.top.layer(plan.head).proto.bottom[0]
    places = np.unique(np.linspace(0, len(examples) - 1, _SAMPLE).astype(np.intp))
    model, found = models.to_keras(plan.top, [blob]), list[NDArray[np.float32]]()
    for part in np.array_split(places, -(-len(places) // 32)):
        given = examples.make(part, None) if examples.make else [array[part] for array in examples.arrays]
        value = np.asarray(model(given if len(given) > 1 else given[0], training=False), np.float32)
        found.append(value.reshape(len(part), -1, value.shape[-1]).mean(1))
    deviation = np.sqrt(np.concatenate(found).astype(np.float64).var(0).mean())
    whole = placed.spread(np.array([deviation if deviation > 0 else 1.0], np.float32))
    return float(np.asarray(whole)[0])


def weights(stage: Stage, examples: Examples, classes: int) -> NDArray[np.float32] | None:
    """How much an example of each class counts, so that all classes count the same and examples 1 in the mean; None where
    `class_weights` is off."""
    if stage.class_weights == "off":
        return None
    counts = np.bincount(examples.labels, minlength=classes)
    shares = len(examples) / (classes * np.maximum(counts, 1))
    return np.asarray(shares, np.float32)
