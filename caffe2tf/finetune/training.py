"""The loop: frozen features once, then steps that cannot end in NaN without saying why."""

from dataclasses import dataclass, field

import numpy as np

from caffe2tf import model as models
from caffe2tf.errors import Caffe2TFError
from caffe2tf.finetune.data import storage
from caffe2tf.layout import keras_order

_FEATURE_BATCH = 32


class TrainingError(Caffe2TFError):
    """Training that had to stop: a loss that is not finite, settings that do not go together."""


@dataclass(frozen=True)
class Settings:
    """Caffe's habits: SGD with momentum 0.9, weight decay 5e-4 on kernels, a head that learns ten times as fast."""

    epochs: int = 20
    batch_size: int = 32
    lr: float = 1e-3
    schedule: str = "constant"
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_lr: float = 10.0
    label_smoothing: float = 0.0
    clip: float = None
    augment: tuple = ()
    seed: int = 0

    def rate(self, epoch):
        """The learning rate of `epoch`, from 0."""
        part = epoch / self.epochs
        if self.schedule == "step":  # a tenth after each third
            return self.lr * 0.1 ** int(3 * part)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + float(np.cos(np.pi * part)))
        if self.schedule == "piecewise":  # a tenth after half, a hundredth after three quarters
            return self.lr * (1 if part < 0.5 else 0.1 if part < 0.75 else 0.01)
        return self.lr


@dataclass
class Examples:
    """What the trained part takes: for each of its inputs an array (N, ...) channels last, or pictures to make it of."""

    arrays: list
    labels: np.ndarray
    make: object = None  # a function from (places, random, training) to inputs, where arrays are pictures

    def batch(self, places, random, training):
        return self.make(places, random, training) if self.make else [array[places] for array in self.arrays]


@dataclass
class Outcome:
    """The trained top network at its best and last epoch, and the history, a row for each epoch."""

    best: object
    last: object
    best_epoch: int
    history: list = field(default_factory=list)


def features(plan, images, how, step=lambda done: None):
    """[(N, ...) channels last] of the frontier's blobs for uint8 pictures: computed once."""
    run = models.compiled(plan.base, list(plan.frontier))
    blob, stores = next(iter(plan.base.inputs)), None
    for start in range(0, len(images), _FEATURE_BATCH):
        part = np.stack([how.apply(image) for image in images[start : start + _FEATURE_BATCH]])
        found = run({blob: part})
        found = [found[name].transpose(keras_order(found[name].ndim)) for name in plan.frontier]
        if stores is None:
            stores = [storage((len(images), *value.shape[1:]), np.float32) for value in found]
        for store, value in zip(stores, found, strict=True):
            store[start : start + len(value)] = value
        step(len(part))
    return stores


def pictures(images, labels, how, augment):
    """Examples that are made of uint8 pictures at every step, with `augment` of mirror, crop, colour in training."""

    def make(places, random, training):
        batch = []
        for place in places:
            image = images[place]
            if training and "mirror" in augment and random.rand() < 0.5:
                image = image[:, ::-1]
            if training and "colour" in augment:
                gain, shift = random.uniform(0.8, 1.2), random.uniform(-20, 20)
                image = np.clip(image * gain + shift, 0, 255).astype(np.uint8)
            if training and "crop" in augment and how.crop is not None:
                (height, width), (h, w) = image.shape[:2], how.crop
                top, left = random.randint(height - h + 1), random.randint(width - w + 1)
                image = image[top : top + h, left : left + w]
            batch.append(how.apply(image))
        return [np.stack(batch).transpose(0, 2, 3, 1)]

    return Examples([images], labels, make)


def train(plan, settings, training, validation, report=lambda row: None, watch=None):
    """Trains `plan.top` and returns an Outcome. `report` gets each row of the history; `watch(epoch, variables)` may
    look at weights and gradients. Raises TrainingError for a loss that is not finite, with what was seen."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(settings.seed)
    random = np.random.RandomState(settings.seed)
    made = models.to_keras(plan.top, [plan.logits])
    names = models.keras_names(plan.top)
    trained = {names[name] for name in plan.trained}
    for layer in made.layers:
        layer.trainable = layer.name in trained
    head = {id(v) for v in made.get_layer(names[plan.head]).trainable_variables}
    variables = made.trainable_variables
    parts = (
        ([v for v in variables if id(v) in head], settings.head_lr),
        ([v for v in variables if id(v) not in head], 1.0),
    )
    groups = [(group, times) for group, times in parts if group]
    kind = keras.optimizers.Adam if settings.optimizer == "adam" else keras.optimizers.SGD
    options = {} if settings.optimizer == "adam" else {"momentum": settings.momentum}
    optimizers = [kind(learning_rate=settings.lr, **options) for _ in groups]
    for optimizer, (group, _) in zip(optimizers, groups, strict=True):
        optimizer.build(group)
    classes = plan.net.layer(plan.head).tops()[0][1]

    def losses(logits, labels):
        wanted = tf.one_hot(labels, classes)
        wanted = wanted * (1 - settings.label_smoothing) + settings.label_smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(wanted, logits)

    def run(inputs, training):
        return tf.reshape(made(inputs if len(inputs) > 1 else inputs[0], training=training), (-1, classes))

    @tf.function(reduce_retracing=True, autograph=False)
    def step(inputs, labels):
        with tf.GradientTape() as tape:
            logits = run(inputs, True)
            loss = tf.reduce_mean(losses(logits, labels))
        gradients = dict(zip(map(id, variables), tape.gradient(loss, [v.value for v in variables]), strict=True))
        largest = tf.reduce_max([tf.reduce_max(tf.abs(g)) for g in map(tf.convert_to_tensor, gradients.values())])
        # A step that is not finite is undone by the caller: Keras's optimizers cannot stand below a condition.
        for optimizer, (group, _) in zip(optimizers, groups, strict=True):
            slopes = [tf.convert_to_tensor(gradients[id(v)]) for v in group]
            slopes = [
                g + settings.weight_decay * v if len(v.shape) > 1 else g for g, v in zip(slopes, group, strict=True)
            ]
            if settings.clip is not None:
                slopes, _ = tf.clip_by_global_norm(slopes, settings.clip)
            optimizer.apply(slopes, group)
        right = tf.reduce_sum(tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.int32))
        return loss, right, largest

    @tf.function(reduce_retracing=True, autograph=False)
    def test(inputs, labels):
        logits = run(inputs, False)
        return tf.reduce_sum(losses(logits, labels)), tf.argmax(logits, 1, tf.int32)

    def tensors(examples, places, training=False):
        inputs = [tf.constant(np.ascontiguousarray(a)) for a in examples.batch(places, random, training)]
        return inputs, tf.constant(examples.labels[places])

    def evaluate(examples):
        total, right = 0.0, 0
        for start in range(0, len(examples.labels), 64):
            places = np.arange(start, min(start + 64, len(examples.labels)))
            loss, guess = test(*tensors(examples, places))
            total += float(loss)
            right += int((guess.numpy() == examples.labels[places]).sum())
        return total / len(examples.labels), right / len(examples.labels)

    def weights():
        return [keras.ops.convert_to_numpy(v).copy() for v in made.weights]

    outcome, best, good = Outcome(None, None, 0), None, weights()
    for epoch in range(settings.epochs):
        rate = settings.rate(epoch)
        for optimizer, (_, times) in zip(optimizers, groups, strict=True):
            optimizer.learning_rate.assign(rate * times)
        order, total, right = random.permutation(len(training.labels)), 0.0, 0
        for number, start in enumerate(range(0, len(order), settings.batch_size)):
            places = np.sort(order[start : start + settings.batch_size])
            inputs, labels = tensors(training, places, True)
            loss, hits, largest = (value.numpy() for value in step(inputs, labels))
            if not np.isfinite(loss) or not np.isfinite(largest):
                for variable, value in zip(made.weights, good, strict=True):
                    variable.assign(value)
                reach = max(float(tf.reduce_max(tf.abs(x))) for x in inputs)
                raise TrainingError(
                    f"the loss is {loss} at epoch {epoch + 1}, step {number + 1}: learning rate {rate:g} (head {rate * settings.head_lr:g}), "
                    f"largest gradient {largest:.3g}, inputs of the trained layers reach {reach:.3g}; nothing was kept of it. "
                    f"Try --lr {rate / 10:g} or --clip 1"
                )
            total += float(loss) * len(places)
            right += int(hits)
        good = weights()
        val_loss, val_accuracy = evaluate(validation)
        count = len(training.labels)
        row = {
            "stage": 1,
            "epoch": epoch + 1,
            "loss": total / count,
            "accuracy": right / count,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "lr": rate,
        }
        outcome.history.append(row)
        report(row)
        if watch:
            watch(epoch + 1, row, {v.path: keras.ops.convert_to_numpy(v) for v in variables})
        if best is None or val_accuracy > outcome.history[outcome.best_epoch - 1]["val_accuracy"]:
            best, outcome.best_epoch = good, epoch + 1
    outcome.last = models.from_keras(made, plan.top)
    for variable, value in zip(made.weights, best, strict=True):
        variable.assign(value)
    outcome.best = models.from_keras(made, plan.top)
    return outcome
