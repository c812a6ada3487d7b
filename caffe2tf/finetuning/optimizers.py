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
        kernel = _KERNELS.get(solver.type) if keras.backend.backend() == "tensorflow" else None
        self.kernel: Callable[[Any, Any, Any, Any], None] | None = kernel and kernel.__get__(self)
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
        gradient, slots = ops.cast(gradient, variable.dtype), [slot[place] for slot in self.slots]
        if self.kernel is not None:
            self.kernel(gradient, variable, slots, rate)
        else:
            self.assign_sub(variable, self.rule(gradient, slots, rate))

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        """Keras's, but on one device nothing: TensorFlow keeps what it once reduced, graph, weights and all, until the process ends."""
        import tensorflow as tf

        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return grads_and_vars
        return super()._all_reduce_sum_gradients(grads_and_vars)

    def _mean(self, slot: Any, share: float, value: Any) -> Any:
        """Moves the history `slot` towards `value`, keeping `share` of it, and returns it."""
        kept = share * slot + (1 - share) * value
        self.assign(slot, kept)
        return kept

    def _sgd(self, gradient: Any, slots: Sequence[Any], rate: Any) -> Any:
        change = self.solver.momentum * slots[0] - rate * gradient  # what is added, as TensorFlow's kernel has it
        self.assign(slots[0], change)
        return -change

    def _nesterov(self, gradient: Any, slots: Sequence[Any], rate: Any) -> Any:
        return self.solver.momentum * self._sgd(gradient, slots, rate) + rate * gradient

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
        mean = self._mean(slots[0], self.solver.momentum, gradient)
        squares = self._mean(slots[1], self.solver.momentum2, ops.square(gradient))
        return rate * self._corrected(gradient.dtype) * mean / (ops.sqrt(squares) + self.solver.delta)

    def _corrected(self, kind: Any) -> Any:
        """By how much Adam's rate makes up for histories that begin with 0."""
        count = ops.cast(self.iterations + 1, kind)
        # 1 - x^n of an x near 1, which float32 alone would cut to few digits.
        first, second = (-ops.expm1(count * _log(share)) for share in (self.solver.momentum, self.solver.momentum2))
        return ops.sqrt(second) / first

    # TensorFlow's kernels change weights and histories in their place, where Keras's operations make several arrays of their size.

    def _momentum_kernel(self, gradient: Any, variable: Any, slots: Sequence[Any], rate: Any) -> None:
        import tensorflow as tf

        tf.raw_ops.ResourceApplyKerasMomentum(
            var=_handle(variable), accum=_handle(slots[0]), lr=rate, grad=gradient, momentum=self.solver.momentum,
            use_nesterov=self.solver.type == "Nesterov",
        )  # fmt: skip

    def _adam_kernel(self, gradient: Any, variable: Any, slots: Sequence[Any], rate: Any) -> None:
        import tensorflow as tf

        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable), m=_handle(slots[0]), v=_handle(slots[1]), beta1_power=0.0, beta2_power=0.0,
            lr=rate * self._corrected(gradient.dtype), beta1=self.solver.momentum, beta2=self.solver.momentum2,
            epsilon=self.solver.delta, grad=gradient,
        )  # fmt: skip


def _handle(variable: Any) -> Any:
    """The resource of a variable of Keras or TensorFlow; of several devices, that on the one which is being updated."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


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
_KERNELS = {
    "SGD": CaffeOptimizer._momentum_kernel,
    "Nesterov": CaffeOptimizer._momentum_kernel,
    "Adam": CaffeOptimizer._adam_kernel,
}
