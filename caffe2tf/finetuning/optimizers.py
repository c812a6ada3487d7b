"""Caffe's update rules as Keras optimizers, for every backend of Keras.

They differ from Keras's own of the same names: the learning rate stands inside of the momentum, Nesterov's step is taken
from the old momentum, RMSProp and AdaGrad add `delta` outside of the root, and AdaDelta's history is of the step before the
rate. What Caffe does to gradients before is `prepared`: clipped by their norm, then pulled by the weights.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from caffe2tf.finetuning.rates import Solver


class _Rate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # Keras has no types
    """A Solver's rate of a step."""

    def __init__(self, solver: Solver) -> None:
        self.solver = solver

    def __call__(self, step: Any) -> Any:
        return self.solver.rate(ops.cast(step, "float32"), ops)


class CaffeOptimizer(keras.optimizers.Optimizer):  # type: ignore[misc]
    """The rule `solver.type` for `variables`, each with its multiples (lr_mult, decay_mult).

    `rate`: a number that is assigned from outside, in place of the solver's own policy.
    """

    def __init__(
        self,
        solver: Solver,
        variables: Sequence[Any],
        multiples: Sequence[tuple[float, float]],
        rate: float | None = None,
    ) -> None:
        super().__init__(_Rate(solver) if rate is None else rate, name=f"caffe_{solver.type.lower()}")
        self.solver, self.multiples = solver, list(multiples)
        self.rule: Callable[[Any, Any, Any], Any] = _RULES[solver.type].__get__(self)
        self.slots: list[list[Any]] = []
        self.build(variables)

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        count = _SLOTS.get(self.solver.type, 1)
        self.slots = [
            [self.add_variable_from_reference(variable, name=f"history_{slot}") for variable in variables]
            for slot in range(count)
        ]

    def prepared(self, gradients: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
        """`gradients` as the rule takes them: scaled down to the norm `clip` of all of them together, then with what
        pulls each variable towards 0 added (SGDSolver::ClipGradients, Regularize, in their order)."""
        solver, found = self.solver, list(gradients)
        if solver.clip is not None:
            norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in found))
            # Of the sum over iter_size batches, while these are of their mean.
            share = ops.minimum(1.0, solver.clip / solver.iter_size / ops.maximum(norm, 1e-30))
            found = [g * share for g in found]
        for place, (variable, (_, decay)) in enumerate(zip(variables, self.multiples, strict=True)):
            if solver.weight_decay * decay:
                value = ops.convert_to_tensor(variable)
                found[place] += solver.weight_decay * decay * (ops.sign(value) if solver.l1 else value)
        return found

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Changes `variable` by `gradient`, a prepared one (SGDSolver::ComputeUpdateValue of each rule)."""
        place = self._get_variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype) * self.multiples[place][0]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign_sub(variable, self.rule(gradient, [slot[place] for slot in self.slots], rate))

    def _mean(self, slot: Any, share: float, value: Any) -> Any:
        """Moves the history `slot` towards `value`, keeping `share` of it, and returns it."""
        kept = share * slot + (1 - share) * value
        self.assign(slot, kept)
        return kept

    def _sgd(self, gradient: Any, slots: Sequence[Any], rate: Any) -> Any:
        step = self.solver.momentum * slots[0] + rate * gradient
        self.assign(slots[0], step)
        return step

    def _nesterov(self, gradient: Any, slots: Sequence[Any], rate: Any) -> Any:
        momentum = self.solver.momentum
        before = momentum * slots[0]  # a tensor of its own: what is read of a variable alone may change with it
        return (1 + momentum) * self._sgd(gradient, slots, rate) - before

    def _adagrad(self, gradient: Any, slots: Sequence[Any], rate: Any) -> Any:
        squares = slots[0] + ops.square(gradient)
        self.assign(slots[0], squares)
        return rate * gradient / (ops.sqrt(squares) + self.solver.delta)

    def _rmsprop(self, gradient: Any, slots: Sequence[Any], rate: Any) -> Any:
        squares = self._mean(slots[0], self.solver.rms_decay, ops.square(gradient))
        return rate * gradient / (ops.sqrt(squares) + self.solver.delta)

    def _adadelta(self, gradient: Any, slots: Sequence[Any], rate: Any) -> Any:
        momentum, delta = self.solver.momentum, self.solver.delta
        squares = self._mean(slots[0], momentum, ops.square(gradient))
        step = gradient * ops.sqrt((slots[1] + delta) / (squares + delta))
        self._mean(slots[1], momentum, ops.square(step))
        return rate * step

    def _adam(self, gradient: Any, slots: Sequence[Any], rate: Any) -> Any:
        first, second = self.solver.momentum, self.solver.momentum2
        count = ops.cast(self.iterations + 1, gradient.dtype)
        # 1 - x^n of an x near 1, which float32 alone would cut to few digits.
        correction = ops.sqrt(-ops.expm1(count * _log(second))) / -ops.expm1(count * _log(first))
        mean = self._mean(slots[0], first, gradient)
        squares = self._mean(slots[1], second, ops.square(gradient))
        return rate * correction * mean / (ops.sqrt(squares) + self.solver.delta)


def _log(share: float) -> float:
    """The logarithm of `share`; of 0, a number whose power is 0 at once."""
    return math.log(share) if share > 0 else -1e4


_SLOTS = {"AdaDelta": 2, "Adam": 2}
_RULES = {
    "SGD": CaffeOptimizer._sgd,
    "Nesterov": CaffeOptimizer._nesterov,
    "AdaGrad": CaffeOptimizer._adagrad,
    "RMSProp": CaffeOptimizer._rmsprop,
    "AdaDelta": CaffeOptimizer._adadelta,
    "Adam": CaffeOptimizer._adam,
}
