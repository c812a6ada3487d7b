"""The trained part of a network as a model that learns, on one device or on many."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.errors import Caffe2TFError
from caffe2tf.finetuning.batches import Examples, dataset
from caffe2tf.finetuning.data import storage
from caffe2tf.finetuning.multiples import multiples
from caffe2tf.finetuning.placement import Placement
from caffe2tf.finetuning.plan import Plan
from caffe2tf.finetuning.settings import Stage
from caffe2tf.images.preprocess import Preprocessing
from caffe2tf.keras_model import model as models
from caffe2tf.net.net import Net

_FEATURE_BATCH, _TEST_BATCH = 32, 64
# Half precision loses gradients below 6e-8; the loss is multiplied by this, and by half of it whenever they overflow.
_LOSS_SCALE, _GROW_AFTER = 2.0**15, 1000


class TrainingError(Caffe2TFError):
    """Training that had to stop: another network's checkpoint, a worker that is gone."""


def features(
    net: Net,
    blobs: Iterable[str],
    images: NDArray[np.uint8],
    how: Preprocessing,
    step: Callable[[int], object] = lambda done: None,
) -> list[NDArray[np.float32]]:
    """[(N, ...) channels last] of `blobs` of `net` for uint8 BGR pictures (N, H, W, C)."""
    import tensorflow as tf

    model = models.to_keras(net, list(blobs))
    run = tf.function(lambda x: model(x, training=False), reduce_retracing=True, autograph=False)
    stores: list[NDArray[np.float32]] = []
    for start in range(0, len(images), _FEATURE_BATCH):
        part = np.stack([how.apply(image) for image in images[start : start + _FEATURE_BATCH]])
        found = run(np.ascontiguousarray(part.transpose(0, 2, 3, 1)))
        found = [value.numpy() for value in (found if isinstance(found, (list, tuple)) else [found])]
        if not stores:
            stores = [storage((len(images), *value.shape[1:]), np.float32) for value in found]
        for store, value in zip(stores, found, strict=True):
            store[start : start + len(value)] = value
        step(len(part))
    return stores


def outputs(net: Net, blob: str, stores: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(N, ...) of `blob` of `net`, a Plan.top, for the features of its inputs."""
    model, found = models.to_keras(net, [blob]), list[NDArray[np.float32]]()
    for start in range(0, len(stores[0]), _TEST_BATCH):
        given = [store[start : start + _TEST_BATCH] for store in stores]
        found.append(model(given if len(given) > 1 else given[0], training=False).numpy())
    return np.concatenate(found)


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
                None if stage.solver else stage.lr,
            )  # fmt: skip
            self.scale = keras.Variable(_LOSS_SCALE if self.half else 1.0, trainable=False, dtype="float32")
        self.good_steps = 0
        self.gradients: Sequence[Any] = ()
        self._compile()

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

        def summands(inputs: Sequence[Any], labels: Any, weights: Any) -> tuple[Any, Any, list[Any]]:
            counts = weights if self.weights is None else weights * tf.gather(self.weights, labels)
            with tf.GradientTape() as tape:
                logits = self._logits(inputs, True)
                loss = tf.reduce_sum(self._losses(logits, labels) * counts)
                scaled = loss * self.scale.value
            gradients = tape.gradient(scaled, [v.value for v in self.variables])
            hits = tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)
            return loss, tf.reduce_sum(tf.where(weights > 0, hits, 0)), [tf.convert_to_tensor(g) for g in gradients]

        def differentiate(held: Sequence[Any], *batch: Any) -> tuple[Any, Any, Any, list[Any]]:
            inputs, labels, weights = taken(held, batch)
            count, rows = stage.solver.iter_size if stage.solver else 1, tf.shape(labels)[0]
            edges = [rows * place // count for place in range(count + 1)]
            parts = [
                summands([values[a:b] for values in inputs], labels[a:b], weights[a:b])
                for a, b in itertools.pairwise(edges)
            ]
            loss, right = summed([sum(part[0] for part in parts), sum(part[1] for part in parts)])
            gradients = [sum(found) for found in zip(*(part[2] for part in parts), strict=True)]
            gradients = summed([g / self.scale.value for g in gradients])
            largest = tf.reduce_max([tf.reduce_max(tf.abs(g)) for g in gradients])
            return loss, right, largest, self.optimizer.prepared(gradients, self.variables)

        def apply(gradients: Sequence[Any]) -> None:
            # Keras adds up what the replicas give; they give the sum already.
            self.optimizer.apply([g / total for g in gradients], self.variables)

        def test(held: Sequence[Any], *batch: Any) -> Any:
            inputs, labels, weights = taken(held, batch)
            logits = self._logits(inputs, False)
            hits = tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)
            return summed([tf.reduce_sum(self._losses(logits, labels) * weights), tf.reduce_sum(hits * weights)])

        def whole(function: Callable[..., Any]) -> Any:
            return tf.function(
                lambda *given: strategy.run(function, args=given), reduce_retracing=True, autograph=False
            )

        # Two functions: what is not finite is never applied.
        self._differentiate, self._apply, self._test = whole(differentiate), whole(apply), whole(test)

    def set_rate(self, epoch: int) -> float:
        """Sets and returns the learning rate of `epoch`, from 0; a solver's changes with every step."""
        if self.stage.solver is None:
            self.optimizer.learning_rate.assign(self.stage.rate(epoch))
        return float(self.optimizer.learning_rate)

    def step(self, batch: Sequence[Any], held: Sequence[Any] = ()) -> tuple[float, int, float]:
        """(loss, right ones, largest gradient) of one batch, of places in `held` or of inputs; nothing changes unless all
        are finite."""
        given = self.placement.split(batch)
        while True:
            loss, right, largest, gradients = self._differentiate(held, *given)
            loss, right, largest = (self.placement.one(value) for value in (loss, right, largest))
            if np.isfinite(loss) and np.isfinite(largest):
                self._apply(gradients)
                self.gradients, self.good_steps = gradients, self.good_steps + 1
                if self.half and self.good_steps % _GROW_AFTER == 0:
                    self.scale.assign(self.scale.value * 2)
                return float(loss), int(right), float(largest)
            if not self.half or not np.isfinite(loss) or float(self.scale.value) <= 1:
                return float(loss), int(right), float(largest)
            self.scale.assign(self.scale.value / 2)

    def evaluate(self, examples: Examples) -> tuple[float, float]:
        """(mean loss, accuracy)."""
        sums = np.zeros(2)
        for batch in dataset(examples, _TEST_BATCH, self.placement.share):
            sums += [self.placement.one(value) for value in self._test(examples.held, *self.placement.split(batch))]
        loss, accuracy = sums / len(examples)
        return float(loss), float(accuracy)

    @property
    def state(self) -> list[Any]:
        """Every variable that decides what comes next: weights, momenta, seeds, counts."""
        return [*self.model.variables, *self.optimizer.variables, self.scale]

    def values(self) -> list[NDArray[Any]]:
        """The state as arrays."""
        return [v.value.numpy() for v in self.state]

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
        """(name, array) of each of the trained weights and of the last step's gradients, made when asked for."""
        for index, variable in enumerate(self.variables):
            yield f"weights/{variable.path}", variable.value.numpy()
            if self.gradients:
                yield f"gradients/{variable.path}", self.placement.one(self.gradients[index])
