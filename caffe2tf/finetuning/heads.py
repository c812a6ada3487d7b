"""What a head should know of its examples before it learns: how large its features are, how many each class has."""

import numpy as np
from numpy.typing import NDArray

from caffe2tf.finetuning.batches import Examples
from caffe2tf.finetuning.placement import Placement
from caffe2tf.finetuning.plan import Plan
from caffe2tf.finetuning.settings import Stage
from caffe2tf.keras_model import model as models
from caffe2tf.keras_model.build import to_numpy

_SAMPLE, _BATCH = 256, 32  # examples at even distances that tell enough, in batches


def spread(plan: Plan, stage: Stage, examples: Examples, placed: Placement) -> float:
    """How far the values lie apart that the head of `plan` reads: the root of the mean variance of a channel over `examples`. 1
    where they are all the same, and where `stage` has no use for it: with SGD and a solver of Caffe's. The same on any number
    of workers."""
    if stage.solver is not None or stage.optimizer != "adam":
        return 1.0
    blob = plan.top.layer(plan.head).proto.bottom[0]
    places = np.unique(np.linspace(0, len(examples) - 1, _SAMPLE).astype(np.intp))
    own = (
        np.arange(len(places)) if examples.owners is None else np.flatnonzero(examples.owners[places] == placed.worker)
    )
    model = models.to_keras(plan.top, [blob])
    found = np.zeros((len(places), int(model.output_shape[-1])), np.float32)
    good = np.zeros(len(places), np.int32)
    for start in range(0, len(own), _BATCH):
        part = own[start : start + _BATCH]
        wanted = places[part]
        given = examples.make(wanted, None) if examples.make else [array[wanted] for array in examples.arrays]
        value = to_numpy(model(given if len(given) > 1 else given[0], training=False)).astype(np.float32)
        found[part] = value.reshape(len(part), -1, value.shape[-1]).mean(1)
        good[part] = examples.good(wanted) if examples.good else True
    found, good = placed.total(found), placed.total(good)
    deviation = float(np.sqrt(found[good > 0].astype(np.float64).var(0).mean())) if good.any() else 0.0
    return deviation if np.isfinite(deviation) and deviation > 0 else 1.0


def weights(stage: Stage, examples: Examples, classes: int) -> NDArray[np.float32] | None:
    """How much an example of each class counts, so that all classes count the same and examples 1 in the mean; None where
    classes do not count."""
    if not stage.balanced:
        return None
    counts = np.bincount(examples.labels, minlength=classes)
    shares = len(examples) / (classes * np.maximum(counts, 1))
    return np.asarray(shares, np.float32)
