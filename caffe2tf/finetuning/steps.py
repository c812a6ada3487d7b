"""What a step of training computes on TensorFlow: one compiled function, on one device or on many."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caffe2tf.finetuning.dropout import dropping as prepared
from caffe2tf.finetuning.optimizers import CaffeOptimizer as Optimizer

if TYPE_CHECKING:
    from caffe2tf.finetuning.trainer import Seen, Trainer

__all__ = ["Optimizer", "Steps", "prepared", "sampled"]

_GROW_AFTER = 1000  # good steps, after which the scale of the loss doubles
_SAMPLE = 1 << 16  # values of a weight or gradient that a histogram shows


class Steps:
    """trainer.Steps by one tf.function, whose results are read later."""

    def __init__(self, trainer: "Trainer") -> None:
        self.trainer, self.placement = trainer, trainer.placement
        self.gradients: Sequence[Any] = ()
        self._compile()

    def step(self, held: Sequence[Any], batch: Sequence[Any]) -> Any:
        told, self.gradients = self._step(held, *self.placement.split(batch))
        return told

    def seen(self, told: Sequence[Any]) -> "list[Seen]":
        import tensorflow as tf

        rows = tf.stack(list(told)).numpy() if told else ()
        return [(float(loss), int(right), float(top), int(count), bool(lost)) for loss, right, top, count, lost in rows]

    def sums(self, held: Sequence[Any], batch: Sequence[Any]) -> list[float]:
        return [self.placement.one(value) for value in self._test(held, *self.placement.split(batch))]

    def _logits(self, inputs: Sequence[Any], training: bool) -> Any:
        import tensorflow as tf

        given = inputs[0] if len(inputs) == 1 else list(inputs)
        return tf.cast(
            tf.reshape(self.trainer.model(given, training=training), (-1, self.trainer.plan.classes)), tf.float32
        )

    def _losses(self, logits: Any, labels: Any) -> Any:
        import tensorflow as tf

        smooth = self.trainer.stage.label_smoothing
        wanted = tf.one_hot(labels, self.trainer.plan.classes) * (1 - smooth) + smooth / self.trainer.plan.classes
        return tf.nn.softmax_cross_entropy_with_logits(wanted, logits)

    def _compile(self) -> None:
        import tensorflow as tf

        trainer, strategy = self.trainer, self.placement.strategy
        total, solver = strategy.num_replicas_in_sync, trainer.stage.solver

        def summed(values: Any) -> Any:
            if total == 1:  # TensorFlow keeps what it once reduced, graph, weights and all, until the process ends
                return values
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

        def taken(held: Sequence[Any], batch: Sequence[Any]) -> tuple[list[Any], Any, Any]:
            *inputs, labels, weights = batch
            return [tf.gather(tensor, inputs[0]) for tensor in held] if held else inputs, labels, weights

        def summands(inputs: Sequence[Any], labels: Any, weights: Any, count: Any) -> tuple[Any, Any, list[Any]]:
            counts = weights if trainer.weights is None else weights * tf.gather(trainer.weights, labels)
            with tf.GradientTape() as tape:
                logits = self._logits(inputs, True)
                loss = tf.reduce_sum(self._losses(logits, labels) * counts) / tf.maximum(count, 1)
                scaled = loss * trainer.scale.value if trainer.half else loss
            gradients = tape.gradient(scaled, [v.value for v in trainer.variables])
            hits = tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)
            return loss, tf.reduce_sum(hits * weights), [tf.convert_to_tensor(g) for g in gradients]

        def differentiate(held: Sequence[Any], *batch: Any) -> tuple[Any, list[Any], list[Any]]:
            inputs, labels, weights = taken(held, batch)
            count = summed(tf.reduce_sum(weights))
            cuts, rows = solver.iter_size if solver else 1, tf.shape(labels)[0]
            edges = [rows * place // cuts for place in range(cuts + 1)]
            parts = [
                summands([values[a:b] for values in inputs], labels[a:b], weights[a:b], count)
                for a, b in itertools.pairwise(edges)
            ]
            loss, right = summed([sum(part[0] for part in parts), sum(part[1] for part in parts)])
            gradients = [sum(found[1:], found[0]) for found in zip(*(part[2] for part in parts), strict=True)]
            gradients = summed([g / trainer.scale.value if trainer.half else g for g in gradients])
            # Not of abs(g), which is an array of its size.
            largest = tf.reduce_max([tf.maximum(tf.reduce_max(g), -tf.reduce_min(g)) for g in gradients])
            samples = [sampled(g) for g in gradients]
            seen = tf.stack([loss, right, largest, count])
            return seen, samples, trainer.optimizer.prepared(gradients, trainer.variables)

        def apply(gradients: Sequence[Any]) -> None:
            # Keras adds up what the replicas give; they give the sum already.
            trainer.optimizer.apply([g / total for g in gradients] if total > 1 else list(gradients), trainer.variables)

        def step(held: Sequence[Any], *batch: Any) -> tuple[Any, list[Any]]:
            seen, samples, gradients = strategy.run(differentiate, args=(held, *batch))
            first = strategy.experimental_local_results(seen)[0]
            finite = tf.reduce_all(tf.math.is_finite(first))
            if not trainer.half:  # what is not finite ends the run, and weights that were saved come back
                strategy.run(apply, args=(gradients,))
                trainer.good.assign_add(1)
                return tf.concat([first, [tf.cast(~finite, tf.float32)]], 0), samples

            def good() -> Any:
                strategy.run(apply, args=(gradients,))
                trainer.good.assign_add(1)
                grown = tf.where(trainer.good.value % _GROW_AFTER == 0, trainer.scale.value * 2, trainer.scale.value)
                trainer.scale.assign(grown)
                return tf.constant(False)

            def overflown() -> Any:
                lost = (trainer.scale.value <= 1) | ~tf.math.is_finite(first[0])
                trainer.scale.assign(tf.maximum(trainer.scale.value / 2, 1))
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


def sampled(values: Any) -> Any:
    """Values at even distances of a tensor, `_SAMPLE` of them or all."""
    from keras import ops

    flat = ops.reshape(values, (-1,))
    return flat[:: max(1, int(flat.shape[0]) // _SAMPLE)]
