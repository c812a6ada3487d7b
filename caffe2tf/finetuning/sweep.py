"""`lr` auto: a head tries some rates for a few steps each, and learns with the one that served the validation set best."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from caffe2tf import spent
from caffe2tf.finetuning.batches import Examples, dataset
from caffe2tf.finetuning.trainer import Trainer, TrainingError
from caffe2tf.finetuning.walk import Walk

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
STEPS = 400  # at most, with each rate
_ROUNDS = 8  # in how many pieces a rate falls along the stage's schedule
_Bar = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]


def best(
    learner: Trainer,
    given: tuple[Examples, Examples],
    key: tuple[int, int],
    say: Callable[[str], object],
    bar: _Bar,
) -> float:
    """The one of RATES with the lowest loss over the validation Examples of `given` after training on the others for STEPS steps
    or, where the stage of `learner` has fewer, for as many, the rate falling by the stage's schedule in them. `learner` is as
    before at the end; `key`: the numbers of seed and stage, by which its batches are drawn. Raises TrainingError where every rate
    ends in what is not finite."""
    stage, begun = learner.stage, [np.array(np.asarray(value)) for value in learner.values()]
    whole = Walk.of(stage, len(given[0]), given[0].make is None)
    each = max(1, min(STEPS, whole.rounds * whole.each) // _ROUNDS)
    losses = []
    with bar("trying learning rates", len(RATES) * _ROUNDS * each) as step, spent.on("run"):
        try:
            for rate in RATES:
                learner.stage = replace(stage, lr=rate, epochs=_ROUNDS)
                learner.restore(begun)
                losses.append(_loss(learner, given, replace(whole, rounds=_ROUNDS, each=each), key, step))
        finally:
            learner.stage, learner.good_steps = stage, 0
            learner.restore(begun)
    if not any(map(math.isfinite, losses)):
        raise TrainingError("no learning rate of those that `lr` auto tries gives a finite loss; name one, or `clip` 1")
    found = RATES[int(np.nanargmin([loss if math.isfinite(loss) else math.nan for loss in losses]))]
    tried = ", ".join(f"{rate:g}: {loss:.4g}" for rate, loss in zip(RATES, losses, strict=True))
    say(f"learning rate {found:g}: the lowest of the validation losses after {_ROUNDS * each} steps ({tried})")
    return found


def _loss(
    learner: Trainer,
    given: tuple[Examples, Examples],
    walk: Walk,
    key: tuple[int, int],
    step: Callable[[int], object],
) -> float:
    """The validation loss after `walk`, of whole batches; infinite where a step is not finite."""
    training, validation = given
    walk = replace(walk, iterations=walk.rounds * walk.each)
    for number in range(walk.rounds):
        learner.set_rate(number)
        order, told = walk.order(number, key), []
        for batch in dataset(training, walk.batch, learner.placement.share, (*key, number), 0, order):
            told.append(learner.step(batch, training.held))
            step(1)
        if any(broken for *_, broken in learner.seen(told)):
            step((walk.rounds - number - 1) * walk.each)
            return math.inf
    return learner.evaluate(validation)[0]
