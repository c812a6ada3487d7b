"""The trained part of a network as a model that learns, on one device or on many."""

import numpy as np

from caffe2tf.errors import Caffe2TFError
from caffe2tf.finetuning.batches import dataset
from caffe2tf.finetuning.data import storage
from caffe2tf.keras_model import model as models

_FEATURE_BATCH, _TEST_BATCH = 32, 64
# Half precision loses gradients below 6e-8; the loss is multiplied by this, and by half of it whenever they overflow.
_LOSS_SCALE, _GROW_AFTER = 2.0**15, 1000


class TrainingError(Caffe2TFError):
    """Training that had to stop: another network's checkpoint, a worker that is gone."""


def features(net, blobs, images, how, step=lambda done: None):
    """[(N, ...) channels last] of `blobs` of `net` for uint8 BGR pictures (N, H, W, C)."""
    import tensorflow as tf

    model = models.to_keras(net, list(blobs))
    run = tf.function(lambda x: model(x, training=False), reduce_retracing=True, autograph=False)
    stores = None
    for start in range(0, len(images), _FEATURE_BATCH):
        part = np.stack([how.apply(image) for image in images[start : start + _FEATURE_BATCH]])
        found = run(np.ascontiguousarray(part.transpose(0, 2, 3, 1)))
        found = [value.numpy() for value in (found if isinstance(found, (list, tuple)) else [found])]
        if stores is None:
            stores = [storage((len(images), *value.shape[1:]), np.float32) for value in found]
        for store, value in zip(stores, found, strict=True):
            store[start : start + len(value)] = value
        step(len(part))
    return stores


def outputs(net, blob, stores):
    """(N, ...) of `blob` of `net`, a Plan.top, for the features of its inputs."""
    model, found = models.to_keras(net, [blob]), []
    for start in range(0, len(stores[0]), _TEST_BATCH):
        given = [store[start : start + _TEST_BATCH] for store in stores]
        found.append(model(given if len(given) > 1 else given[0], training=False).numpy())
    return np.concatenate(found)


def _drop_here(layer):
    """Lets a Dropout layer drop otherwise on every device, and quickly where 256ths hold its ratio, as Caffe's 0.5: Keras
    draws 32 random bits for each value, 8 are enough (1 for 0.5), and that is most of the work of a head on cached features."""
    import tensorflow as tf

    dropped = int(layer.rate * 256)

    def call(inputs, training=False):
        if not training or not layer.rate:
            return inputs
        # All devices hold one seed, which counts up in its second number.
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        seed = tf.cast(layer.seed_generator.next(), tf.int64) + tf.stack([replica * (1 << 32), tf.zeros_like(replica)])
        if dropped != layer.rate * 256:
            return tf.nn.experimental.stateless_dropout(inputs, layer.rate, seed)
        count, values = tf.size(inputs), 32 if dropped == 128 else 4  # in a word
        words = tf.random.stateless_uniform([(count + values - 1) // values], seed, None, None, tf.uint32)
        drawn = tf.reshape(tf.bitcast(words, tf.uint8), [-1, 1])
        if dropped == 128:
            drawn = tf.bitwise.bitwise_and(drawn, tf.constant([1, 2, 4, 8, 16, 32, 64, 128], tf.uint8))
        drawn = tf.reshape(tf.reshape(drawn, [-1])[:count], tf.shape(inputs))
        return tf.where(
            drawn > 0 if dropped == 128 else drawn >= dropped, inputs * (256 / (256 - dropped)), tf.zeros_like(inputs)
        )

    layer.call = call


class Trainer:
    """`plan.top` as a model that learns by `stage`, on the devices of `placement`; its randomness comes from `seed`."""

    def __init__(self, plan, stage, placement, seed=0):
        import keras

        self.plan, self.stage, self.placement = plan, stage, placement
        keras.utils.set_random_seed(seed)
        self.half = keras.config.dtype_policy().compute_dtype == "float16"
        with placement.strategy.scope():
            self.model, parts = models.build(plan.top, [plan.logits])
            trained = {id(layer) for name in plan.trained for layer in parts.get(name, ())}
            for layer in self.model.layers:
                if isinstance(layer, keras.layers.Dropout):
                    _drop_here(layer)
                layer.trainable = id(layer) in trained
            self.variables = self.model.trainable_variables
            head = {id(v) for layer in parts[plan.head] for v in layer.trainable_variables}
            parts = (
                ([v for v in self.variables if id(v) in head], stage.head_lr),
                (
                    [v for v in self.variables if id(v) not in head],
                    1.0,
                ),
            )
            self.groups = [(self._optimizer(keras, group), group, times) for group, times in parts if group]
            self.scale = keras.Variable(_LOSS_SCALE if self.half else 1.0, trainable=False, dtype="float32")
        self.good_steps, self.slopes = 0, None
        self._compile()

    def _optimizer(self, keras, group):
        if self.stage.optimizer == "adam":
            optimizer = keras.optimizers.Adam(self.stage.lr)
        else:
            optimizer = keras.optimizers.SGD(self.stage.lr, momentum=self.stage.momentum)
        optimizer.build(group)
        return optimizer

    def _logits(self, inputs, training):
        import tensorflow as tf

        given = inputs[0] if len(inputs) == 1 else list(inputs)
        return tf.cast(tf.reshape(self.model(given, training=training), (-1, self.plan.classes)), tf.float32)

    def _losses(self, logits, labels):
        import tensorflow as tf

        smooth = self.stage.label_smoothing
        wanted = tf.one_hot(labels, self.plan.classes) * (1 - smooth) + smooth / self.plan.classes
        return tf.nn.softmax_cross_entropy_with_logits(wanted, logits)

    def _compile(self):
        import tensorflow as tf

        strategy, stage = self.placement.strategy, self.stage
        total = strategy.num_replicas_in_sync

        def summed(values):
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

        def rows(held, batch):
            *inputs, labels, weights = batch
            return [tf.gather(tensor, inputs[0]) for tensor in held] if held else inputs, labels, weights

        def slope(held, *batch):
            inputs, labels, weights = rows(held, batch)
            with tf.GradientTape() as tape:
                logits = self._logits(inputs, True)
                loss = tf.reduce_sum(self._losses(logits, labels) * weights)
                scaled = loss * self.scale.value
            slopes = tape.gradient(scaled, [v.value for v in self.variables])
            slopes = summed([tf.convert_to_tensor(g) / self.scale.value for g in slopes])
            largest = tf.reduce_max([tf.reduce_max(tf.abs(g)) for g in slopes])
            slopes = [
                g + stage.weight_decay * v.value if len(v.shape) > 1 else g
                for g, v in zip(slopes, self.variables, strict=True)
            ]
            if stage.clip is not None:
                slopes, _ = tf.clip_by_global_norm(slopes, stage.clip)
            hits = tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)
            loss, right = summed([loss, tf.reduce_sum(tf.where(weights > 0, hits, 0))])
            return loss, right, largest, slopes

        def apply(slopes):
            by_variable = dict(zip(map(id, self.variables), slopes, strict=True))
            for optimizer, group, _ in self.groups:
                # Keras adds up what the replicas give; they give the sum already.
                optimizer.apply([by_variable[id(v)] / total for v in group], group)

        def test(held, *batch):
            inputs, labels, weights = rows(held, batch)
            logits = self._logits(inputs, False)
            hits = tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)
            return summed([tf.reduce_sum(self._losses(logits, labels) * weights), tf.reduce_sum(hits * weights)])

        def whole(function):
            return tf.function(
                lambda *given: strategy.run(function, args=given), reduce_retracing=True, autograph=False
            )

        # Two functions: what is not finite is never applied.
        self.slope, self.apply, self.test = whole(slope), whole(apply), whole(test)

    def set_rate(self, epoch):
        """Sets and returns the learning rate of `epoch`, from 0."""
        rate = self.stage.rate(epoch)
        for optimizer, _, times in self.groups:
            optimizer.learning_rate.assign(rate * times)
        return rate

    def step(self, batch, held=()):
        """(loss, right ones, largest gradient) of one batch, of places in `held` or of inputs; nothing changes unless all
        are finite."""
        given = self.placement.split(batch)
        while True:
            loss, right, largest, slopes = self.slope(held, *given)
            loss, right, largest = (self.placement.one(value) for value in (loss, right, largest))
            if np.isfinite(loss) and np.isfinite(largest):
                self.apply(slopes)
                self.slopes, self.good_steps = slopes, self.good_steps + 1
                if self.half and self.good_steps % _GROW_AFTER == 0:
                    self.scale.assign(self.scale.value * 2)
                return float(loss), int(right), float(largest)
            if not self.half or not np.isfinite(loss) or float(self.scale.value) <= 1:
                return float(loss), int(right), float(largest)
            self.scale.assign(self.scale.value / 2)

    def evaluate(self, examples):
        """(mean loss, accuracy)."""
        sums = np.zeros(2)
        for batch in dataset(examples, _TEST_BATCH, self.placement.share):
            sums += [self.placement.one(value) for value in self.test(examples.held, *self.placement.split(batch))]
        return tuple(float(value) for value in sums / len(examples))

    @property
    def state(self):
        """Every variable that decides what comes next: weights, momenta, seeds, counts."""
        optimizers = [v for optimizer, _, _ in self.groups for v in optimizer.variables]
        return [*self.model.variables, *optimizers, self.scale]

    def values(self):
        """The state as arrays."""
        return [v.value.numpy() for v in self.state]

    def restore(self, arrays):
        """Sets the state. Raises TrainingError where it is another network's."""
        wanted = [tuple(v.shape) for v in self.state]
        if arrays is not None and [a.shape for a in arrays] != wanted:
            raise TrainingError("the checkpoint is of another network; start anew with -f")
        for index, variable in enumerate(self.state):
            blank = np.zeros(variable.shape, variable.dtype) if arrays is None else arrays[index]
            variable.assign(self.placement.spread(blank))

    def go_back(self, arrays):
        """Sets the model's variables alone: those of the best epoch."""
        for index, variable in enumerate(self.model.variables):
            blank = np.zeros(variable.shape, variable.dtype) if arrays is None else arrays[index]
            variable.assign(self.placement.spread(blank))

    def net(self):
        """`plan.top` with the weights as they are."""
        return models.from_keras(self.model, self.plan.top)

    def histograms(self):
        """{name: array} of the trained weights and of the last step's gradients."""
        found = {}
        for index, variable in enumerate(self.variables):
            found[f"weights/{variable.path}"] = variable.value.numpy()
            if self.slopes is not None:
                found[f"gradients/{variable.path}"] = self.placement.one(self.slopes[index])
        return found
