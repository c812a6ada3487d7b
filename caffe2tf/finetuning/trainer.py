"""The trained part of a network as a model that learns, on one device or on many."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.errors import Caffe2TFError
from caffe2tf.finetuning.batches import Examples, dataset
from caffe2tf.finetuning.multiples import multiples
from caffe2tf.finetuning.placement import Placement
from caffe2tf.finetuning.plan import Plan
from caffe2tf.finetuning.settings import Stage
from caffe2tf.keras_model import model as models
from caffe2tf.net.net import Net

_TEST_BATCH = 64
# Half precision loses gradients below 6e-8; the loss is multiplied by this, and by half of it whenever they overflow, as Keras's
# LossScaleOptimizer does it, which would hold a scale for each optimizer.
_LOSS_SCALE, _GROW_AFTER = 2.0**15, 1000
_SAMPLE = 1 << 16  # values of a weight or gradient that a histogram shows
Seen = tuple[
    float, int, float, int, bool
]  # of a step: mean loss, right ones, largest gradient, examples, whether it is broken


class TrainingError(Caffe2TFError):
    """Training that had to stop: another network's checkpoint, a worker that is gone."""


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

        from caffe2tf.finetuning.dropout import dropping
        from caffe2tf.finetuning.optimizers import CaffeOptimizer

        self.plan, self.stage, self.placement, self.weights = plan, stage, placement, weights
        keras.utils.set_random_seed(seed)
        self.half = keras.config.dtype_policy().compute_dtype == "float16"
        with placement.strategy.scope():
            model, bindings = models.build(plan.top, [plan.logits])
            self.model = dropping(model)
            trained = {id(held.layer) for name in plan.trained for held in bindings.get(name, ())}
            for layer in self.model.layers:
                layer.trainable = id(layer) in trained
            known = multiples(plan, stage, bindings, spread)
            self.variables = [v for v in self.model.trainable_variables if known[id(v)][0]]
            self.optimizer = CaffeOptimizer(
                stage.solver or stage.rule, self.variables, [known[id(v)] for v in self.variables],
                None if stage.solver else stage.base,
            )  # fmt: skip
            self.scale = keras.Variable(_LOSS_SCALE if self.half else 1.0, trainable=False, dtype="float32")
            self._good = keras.Variable(0, trainable=False, dtype="int32")
        self.gradients: Sequence[Any] = ()
        self._compile()

    @property
    def good_steps(self) -> int:
        """Steps whose gradients were applied."""
        return int(self._good.value.numpy())

    @good_steps.setter
    def good_steps(self, count: int) -> None:
        self._good.assign(count)

    def _unscaled(self, gradient: Any) -> Any:
        return gradient / self.scale.value if self.half else gradient

    def _logits(self, inputs: Sequence[Any], training: bool) -> Any:
        import tensorflow as tf

        given = inputs[0] if len(inputs) == 1 else list(inputs)
        return tf.cast(tf.reshape(self.model(given, training=training), (-1, self.plan.classes)), tf.float32)

    def _losses(self, logits: Any, labels: Any) -> Any:
        import tensorflow as tf

        smooth = self.stage.label_smoothing
        wanted = tf.one_hot(labels, self.plan.classes) * (1 - smooth) + smooth / self.plan.classes
        return tf.nn.softmax_cross_entropy_with_logits(wanted, logits)

    def _compile(self) -> None:
        import tensorflow as tf

        strategy, stage = self.placement.strategy, self.stage
        total = strategy.num_replicas_in_sync

        def summed(values: Any) -> Any:
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

        def taken(held: Sequence[Any], batch: Sequence[Any]) -> tuple[list[Any], Any, Any]:
            *inputs, labels, weights = batch
            return [tf.gather(tensor, inputs[0]) for tensor in held] if held else inputs, labels, weights

        def summands(inputs: Sequence[Any], labels: Any, weights: Any, count: Any) -> tuple[Any, Any, list[Any]]:
            counts = weights if self.weights is None else weights * tf.gather(self.weights, labels)
            with tf.GradientTape() as tape:
                logits = self._logits(inputs, True)
                loss = tf.reduce_sum(self._losses(logits, labels) * counts) / tf.maximum(count, 1)
                scaled = loss * self.scale.value if self.half else loss
            gradients = tape.gradient(scaled, [v.value for v in self.variables])
            hits = tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)
            return loss, tf.reduce_sum(hits * weights), [tf.convert_to_tensor(g) for g in gradients]

        def differentiate(held: Sequence[Any], *batch: Any) -> tuple[Any, list[Any], list[Any]]:
            inputs, labels, weights = taken(held, batch)
            count = summed(tf.reduce_sum(weights))
            cuts, rows = stage.solver.iter_size if stage.solver else 1, tf.shape(labels)[0]
            edges = [rows * place // cuts for place in range(cuts + 1)]
            parts = [
                summands([values[a:b] for values in inputs], labels[a:b], weights[a:b], count)
                for a, b in itertools.pairwise(edges)
            ]
            loss, right = summed([sum(part[0] for part in parts), sum(part[1] for part in parts)])
            gradients = [sum(found[1:], found[0]) for found in zip(*(part[2] for part in parts), strict=True)]
            gradients = summed([self._unscaled(g) for g in gradients])
            # Not of abs(g), which is an array of its size.
            largest = tf.reduce_max([tf.maximum(tf.reduce_max(g), -tf.reduce_min(g)) for g in gradients])
            samples = [_sampled(tf, g) for g in gradients]
            seen = tf.stack([loss, right, largest, count])
            return seen, samples, self.optimizer.prepared(gradients, self.variables)

        def apply(gradients: Sequence[Any]) -> None:
            # Keras adds up what the replicas give; they give the sum already.
            self.optimizer.apply([g / total for g in gradients] if total > 1 else list(gradients), self.variables)

        def step(held: Sequence[Any], *batch: Any) -> tuple[Any, list[Any]]:
            seen, samples, gradients = strategy.run(differentiate, args=(held, *batch))
            first = strategy.experimental_local_results(seen)[0]
            finite = tf.reduce_all(tf.math.is_finite(first))
            if not self.half:  # what is not finite ends the run, and weights that were saved come back
                strategy.run(apply, args=(gradients,))
                self._good.assign_add(1)
                return tf.concat([first, [tf.cast(~finite, tf.float32)]], 0), samples

            def good() -> Any:
                strategy.run(apply, args=(gradients,))
                self._good.assign_add(1)
                grown = tf.where(self._good.value % _GROW_AFTER == 0, self.scale.value * 2, self.scale.value)
                self.scale.assign(grown)
                return tf.constant(False)

            def overflown() -> Any:
                lost = (self.scale.value <= 1) | ~tf.math.is_finite(first[0])
                self.scale.assign(tf.maximum(self.scale.value / 2, 1))
                return lost

            broken = tf.cond(finite, good, overflown)
            return tf.concat([first, [tf.cast(broken, tf.float32)]], 0), samples

        def test(held: Sequence[Any], *batch: Any) -> Any:
            inputs, labels, weights = taken(held, batch)
            logits = self._logits(inputs, False)
            hits = tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)
            losses = tf.reduce_sum(self._losses(logits, labels) * weights)
            return summed([losses, tf.reduce_sum(hits * weights), tf.reduce_sum(weights)])

        self._step = tf.function(step, reduce_retracing=True, autograph=False)
        self._test = tf.function(lambda *given: strategy.run(test, args=given), reduce_retracing=True, autograph=False)

    def set_rate(self, epoch: int) -> float:
        """Sets and returns the learning rate of `epoch`, from 0; a solver's changes with every step."""
        if self.stage.solver is None:
            self.optimizer.learning_rate.assign(self.stage.rate(epoch))
        rate: Any = self.optimizer.learning_rate
        # Of a variable on several devices Python makes no float.
        return float(getattr(rate, "value", rate).numpy())

    def step(self, batch: Sequence[Any], held: Sequence[Any] = ()) -> Any:
        """Takes a step with one batch, of rows of `held` or of inputs; gives a tensor that `seen` reads, which waits for the device.
        What is broken must not be gone on with: in half precision alone a step that overflows changes nothing but the scale."""
        told, self.gradients = self._step(held, *self.placement.split(batch))
        return told

    def seen(self, told: Sequence[Any]) -> list[Seen]:
        """What the steps saw whose tensors are `told`."""
        import tensorflow as tf

        rows = tf.stack(list(told)).numpy() if told else ()
        return [(float(loss), int(right), float(top), int(count), bool(lost)) for loss, right, top, count, lost in rows]

    def evaluate(self, examples: Examples) -> tuple[float, float]:
        """(mean loss, accuracy)."""
        sums = np.zeros(3)
        for batch in dataset(examples, _TEST_BATCH, self.placement.share):
            sums += [self.placement.one(value) for value in self._test(examples.held, *self.placement.split(batch))]
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
            raise TrainingError("the checkpoint is of another network; start anew with -f")
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
        import tensorflow as tf

        for index, variable in enumerate(self.variables):
            yield f"weights/{variable.path}", self.placement.one(_sampled(tf, variable.value))
            if self.gradients:
                yield f"gradients/{variable.path}", self.placement.one(self.gradients[index])


class _Later:
    """A variable as an array, made when NumPy asks for it."""

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found: NDArray[Any] = np.asarray(self.variable.value.numpy())
        return found if dtype is None else found.astype(dtype)


def _sampled(tf: Any, values: Any) -> Any:
    """Values at even distances of a tensor, `_SAMPLE` of them or all."""
    flat = tf.reshape(values, [-1])
    return flat[:: max(1, int(flat.shape[0]) // _SAMPLE)]
