"""The trained part of a network as a model that learns, on one device or on many."""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caffe2tf.errors import Caffe2TFError
from caffe2tf.finetuning.batches import Examples, dataset
from caffe2tf.finetuning.multiples import multiples
from caffe2tf.finetuning.placement import Placement
from caffe2tf.finetuning.plan import Plan
from caffe2tf.finetuning.settings import Stage
from caffe2tf.keras_model import model as models
from caffe2tf.keras_model.build import to_numpy
from caffe2tf.net.net import Net

_TEST_BATCH = 64
# Half precision loses gradients below 6e-8; the loss is multiplied by this, and by half of it whenever they overflow, as Keras's
# LossScaleOptimizer does it, which would hold a scale for each optimizer.
_LOSS_SCALE = 2.0**15
Seen = tuple[
    float, int, float, int, bool
]  # of a step: mean loss, right ones, largest gradient, examples, whether it is broken


class TrainingError(Caffe2TFError):
    """Training that had to stop: another network's checkpoint, a worker that is gone."""


class Steps(Protocol):
    """What a step computes: `steps.Steps` on TensorFlow, `keras_steps.Steps` elsewhere. `gradients`: a sample of each of the last
    step's, where they are known."""

    gradients: Sequence[Any]

    def step(self, held: Sequence[Any], batch: Sequence[Any]) -> Any:
        """Takes a step with one batch, of rows of `held` or of inputs; gives what `seen` reads, which waits for the device."""

    def seen(self, told: Sequence[Any]) -> list[Seen]:
        """What the steps saw that `told` it."""

    def sums(self, held: Sequence[Any], batch: Sequence[Any]) -> Sequence[float]:
        """(sum of the losses, right ones, examples) of a batch."""


class Trainer:
    """`plan.top` as a model that learns by `stage`, on the devices of `placement`; its randomness comes from `seed`. `spread`: how
    far the values lie apart that its head reads; `weights`: how much an example of each class counts, None for 1."""

    def __init__(
        self,
        plan: Plan,
        stage: Stage,
        placement: Placement,
        seed: int = 0,
        spread: float = 1.0,
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        import keras

        # What a step computes is TensorFlow's, so that it can be many devices', or Keras's own, on JAX and PyTorch.
        here = "steps" if keras.backend.backend() == "tensorflow" else "keras_steps"
        steps = importlib.import_module(f"caffe2tf.finetuning.{here}")
        self.plan, self.stage, self.placement, self.weights = plan, stage, placement, weights
        keras.utils.set_random_seed(seed)
        self.half = keras.config.dtype_policy().compute_dtype == "float16"
        with placement.strategy.scope():
            model, bindings = models.build(plan.top, [plan.logits])
            self.model = steps.prepared(model)
            trained = {id(held.layer) for name in plan.trained for held in bindings.get(name, ())}
            for layer in self.model.layers:
                layer.trainable = id(layer) in trained
            known = multiples(plan, stage, bindings, spread)
            for variable in self.model.trainable_variables:
                variable.trainable = known[id(variable)][0] != 0
            self.variables = self.model.trainable_variables
            self.optimizer = steps.Optimizer(
                stage.solver or stage.rule, self.variables, [known[id(v)] for v in self.variables],
                None if stage.solver else stage.base,
            )  # fmt: skip
            self.scale = keras.Variable(_LOSS_SCALE if self.half else 1.0, trainable=False, dtype="float32")
            self.good = keras.Variable(0, trainable=False, dtype="int32")
        self._steps: Steps = steps.Steps(self)

    @property
    def good_steps(self) -> int:
        """Steps whose gradients were applied."""
        return int(to_numpy(self.good))

    @good_steps.setter
    def good_steps(self, count: int) -> None:
        self.good.assign(count)

    def set_rate(self, epoch: int) -> float:
        """Sets and returns the learning rate of `epoch`, from 0; a solver's changes with every step."""
        if self.stage.solver is None:
            self.optimizer.learning_rate.assign(self.stage.rate(epoch))
        rate: Any = self.optimizer.learning_rate
        return float(to_numpy(getattr(rate, "value", rate)))

    def step(self, batch: Sequence[Any], held: Sequence[Any] = ()) -> Any:
        """Takes a step with one batch, of rows of `held` or of inputs; gives what `seen` reads, which waits for the device. What is
        broken must not be gone on with: in half precision alone a step that overflows changes nothing but the scale."""
        return self._steps.step(held, batch)

    def seen(self, told: Sequence[Any]) -> list[Seen]:
        """What the steps saw that `told` it."""
        return self._steps.seen(told)

    @property
    def gradients(self) -> Sequence[Any]:
        """A sample of each of the last step's gradients, where they are known."""
        return self._steps.gradients

    def evaluate(self, examples: Examples) -> tuple[float, float]:
        """(mean loss, accuracy)."""
        sums = np.zeros(3)
        for batch in dataset(examples, _TEST_BATCH, self.placement.share):
            sums += self._steps.sums(examples.held, batch)
        return float(sums[0] / sums[2]), float(sums[1] / sums[2])

    @property
    def state(self) -> list[Any]:
        """Every variable that decides what comes next: weights, momenta, seeds, counts."""
        return [*self.model.variables, *self.optimizer.variables, self.scale]

    def values(self, variables: Sequence[Any] | None = None) -> list[Any]:
        """The state, or what of it is named, as what NumPy makes an array of when it is asked for: one after the other, so that a
        checkpoint does not take the memory of all."""
        return [_Later(variable) for variable in (self.state if variables is None else variables)]

    def restore(self, arrays: Sequence[NDArray[Any]] | None) -> None:
        """Sets the state. Raises TrainingError where it is another network's."""
        wanted = [tuple(v.shape) for v in self.state]
        if arrays is not None and [a.shape for a in arrays] != wanted:
            raise TrainingError(
                "the checkpoint is of another network, or of another backend of Keras; start anew with -f"
            )
        for index, variable in enumerate(self.state):
            blank = np.zeros(variable.shape, variable.dtype) if arrays is None else arrays[index]
            variable.assign(self.placement.spread(blank))

    def go_back(self, arrays: Sequence[NDArray[Any]] | None) -> None:
        """Sets the model's variables alone: those of the best epoch."""
        for index, variable in enumerate(self.model.variables):
            blank = np.zeros(variable.shape, variable.dtype) if arrays is None else arrays[index]
            variable.assign(self.placement.spread(blank))

    def net(self) -> Net:
        """`plan.top` with the weights as they are."""
        return models.from_keras(self.model, self.plan.top)

    def histograms(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """(name, array) of a sample of each of the trained weights and of the last step's gradients, made when asked for."""
        from caffe2tf.finetuning.steps import sampled

        for index, variable in enumerate(self.variables):
            yield f"weights/{variable.path}", self.placement.one(sampled(variable.value))
            if self.gradients:
                yield f"gradients/{variable.path}", self.placement.one(self.gradients[index])


class _Later:
    """A variable as an array, made when NumPy asks for it."""

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = to_numpy(self.variable)
        return found if dtype is None else found.astype(dtype)
