"""What a step of training computes on JAX and PyTorch: Keras's own, with the loss that is TensorFlow's here too."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from caffe2tf.finetuning.optimizers import CaffeOptimizer

if TYPE_CHECKING:
    from caffe2tf.finetuning.trainer import Seen, Trainer


class Optimizer(CaffeOptimizer):
    """Caffe's rule, that takes the gradients as they come from Keras, and notes the largest."""

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)
        if not hasattr(self, "largest"):
            self.largest = self.add_variable((), "zeros", "float32", name="largest")

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        self.assign(self.largest, ops.max(ops.stack([ops.max(ops.abs(g)) for g in grads])))
        super().apply(self.prepared(grads, variables), variables)


class _Learning(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A network with its loss: the mean over the examples of a batch, each as often as it `counts`."""

    classes, smoothing = 0, 0.0

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        wanted = ops.one_hot(y["labels"], self.classes) * (1 - self.smoothing) + self.smoothing / self.classes
        losses = -ops.sum(wanted * ops.log_softmax(self._logits(y_pred)), 1)
        return ops.sum(losses * y["counts"]) / ops.maximum(ops.sum(y["weights"]), 1)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        hits = ops.cast(ops.argmax(self._logits(y_pred), 1) == y["labels"], "float32")
        return {"loss": self.compute_loss(x, y, y_pred), "right": ops.sum(hits * y["weights"])}

    def _logits(self, y_pred: Any) -> Any:
        return ops.cast(ops.reshape(y_pred, (-1, self.classes)), "float32")


class Steps:
    """trainer.Steps by Keras's train_on_batch."""

    gradients: Sequence[Any] = ()  # Keras's loop keeps none

    def __init__(self, trainer: "Trainer") -> None:
        self.trainer = trainer
        self.learning = _Learning(trainer.model.input, trainer.model.output)
        self.learning.classes, self.learning.smoothing = trainer.plan.classes, trainer.stage.label_smoothing
        self.learning.compile(optimizer=trainer.optimizer, auto_scale_loss=False)

    def step(self, held: Sequence[Any], batch: Sequence[Any]) -> "Seen":
        inputs, labels, weights = _arrays(batch)
        share = self.trainer.weights
        counts = weights if share is None else weights * share[labels]
        told = self.learning.train_on_batch(inputs, _said(labels, weights, counts), return_dict=True)
        loss, right, count = float(told["loss"]), float(told["right"]), float(weights.sum())
        largest = float(ops.convert_to_numpy(self.trainer.optimizer.largest))
        self.trainer.good.assign_add(1)
        return loss, int(right), largest, int(count), not np.isfinite([loss, largest]).all()

    def seen(self, told: "Sequence[Seen]") -> "list[Seen]":
        return list(told)

    def sums(self, held: Sequence[Any], batch: Sequence[Any]) -> list[float]:
        inputs, labels, weights = _arrays(batch)
        logits = self.learning.predict_on_batch(inputs)
        told = self.learning.compute_metrics(inputs, _said(labels, weights, weights), logits)
        count = float(weights.sum())
        return [float(told["loss"]) * max(count, 1), float(told["right"]), count]


def _arrays(batch: Sequence[Any]) -> tuple[Any, Any, Any]:
    """(the input or the list of them, labels, weights) of a batch, as NumPy."""
    *inputs, labels, weights = (np.asarray(tensor) for tensor in batch)
    return inputs[0] if len(inputs) == 1 else inputs, labels, weights


def _said(labels: Any, weights: Any, counts: Any) -> dict[str, Any]:
    """What the loss takes of a batch: class numbers, which examples there are, how much each counts."""
    return {
        "labels": ops.convert_to_tensor(labels),
        "weights": ops.convert_to_tensor(weights),
        "counts": ops.convert_to_tensor(counts),
    }


def prepared(model: Any) -> Any:
    """`model`, a flat keras.Model, with Dropout whose seeds are said: only then does Keras draw PyTorch's numbers from a state that a
    checkpoint holds. All other layers are the same objects."""

    def exchanged(layer: Any) -> Any:
        if type(layer) is not keras.layers.Dropout or not layer.rate:
            return layer
        seed = int(ops.convert_to_numpy(layer.seed_generator.state)[0])
        return keras.layers.Dropout.from_config({**layer.get_config(), "seed": seed})

    return keras.models.clone_model(model, clone_function=exchanged)
