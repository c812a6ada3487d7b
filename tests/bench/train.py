"""Training AlexNet (seeded weights): a head on cached features against features at every step, and all layers with the
groups of its convolutions split, as caffe2tf does, against Keras's own grouped convolutions.

Run as `python tests/bench/train.py [REPEATS]`; it needs no data. With a folder per class as a second argument it also times
the whole of `caffe2tf finetune` for 100 epochs against one pass of decoding and forward over the same pictures, for
CAFFE2TF_SHARED's trained SqueezeNet.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from caffe2tf import bundled, loading
from caffe2tf.finetuning import batches, features, plan, trainer
from caffe2tf.finetuning.placement import placed
from caffe2tf.finetuning.settings import Stage
from caffe2tf.images import preprocess
from caffe2tf.samples import networks as sample

BATCH, CLASSES, PICTURES = 32, 17, 320


def unsplit():
    """AlexNet with Conv2D(groups=2), LRN as tf.nn has it."""
    layers = keras.layers
    x = inputs = keras.Input((227, 227, 3))

    def block(x, filters, size, stride, padding, groups, more):
        x = layers.Conv2D(filters, size, stride, padding, groups=groups, activation="relu")(x)
        if "lrn" in more:
            x = layers.Lambda(lambda t: tf.nn.local_response_normalization(t, 2, 1.0, 2e-5, 0.75))(x)
        return layers.MaxPooling2D(3, 2)(x) if "pool" in more else x

    x = block(x, 96, 11, 4, "valid", 1, "lrn pool")
    x = block(x, 256, 5, 1, "same", 2, "lrn pool")
    x = block(x, 384, 3, 1, "same", 1, "")
    x = block(x, 384, 3, 1, "same", 2, "")
    x = layers.Flatten()(block(x, 256, 3, 1, "same", 2, "pool"))
    for _ in range(2):
        x = layers.Dropout(0.5)(layers.Dense(4096, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def native_step(model):
    """A training step of `model` with SGD, as `caffe2tf.finetuning.trainer` takes it, on whatever compiles it."""
    optimizer = keras.optimizers.SGD(1e-4, momentum=0.9)
    optimizer.build(model.trainable_variables)

    # Grouped gradients do not run on a processor unless XLA compiles them.
    @tf.function(jit_compile=True)
    def differentiate(images, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images, training=True)))
        return loss, tape.gradient(loss, [v.value for v in model.trainable_variables])

    @tf.function
    def apply(values):
        optimizer.apply(values, model.trainable_variables)

    def step(batch):
        images, labels, _ = batch
        loss, values = differentiate(images, labels)
        apply(values)
        return float(loss)

    return step


def timed(repeats, **works):
    """{name: median seconds} of functions that run in turn; the first round compiles and warms up."""
    seconds = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def epoch(learner, examples):
    for batch in batches.dataset(examples, BATCH, key=(0, 1, 0)):
        learner.seen([learner.step(batch, examples.held)])


def main(repeats=5, folder=None):
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (PICTURES, 256, 256, 3)).astype(np.uint8)
    labels = random.randint(0, CLASSES, PICTURES)
    with tempfile.TemporaryDirectory() as temporary:
        path = os.path.join(temporary, "bvlc_alexnet.caffemodel")
        sample.write(path)
        net, head, _ = plan.with_head(loading.load(bundled.alexnet_text(), path), CLASSES)
        how, _ = preprocess.of(net)
        with placed("cpu") as place:
            work = plan.make(net, head, ["fc8"])
            store = features.computed(work.base, work.frontier, images, how)
            cached = trainer.Trainer(work, Stage("fc8"), place)
            again = trainer.Trainer(work.uncached(), Stage("fc8"), place)
            kept, made = batches.Examples(store, labels), batches.pictures(images, labels, how)
            kept.held, kept.rows = tuple(map(tf.constant, store)), np.arange(PICTURES)
            took = timed(repeats, cached=lambda: epoch(cached, kept), again=lambda: epoch(again, made))
            print(f"fc8 alone, an epoch of {PICTURES} pictures: {took['again']:.2f} s with features at every step,")
            print(f"  {took['cached']:.3f} s with cached ones: {took['again'] / took['cached']:.0f} times faster")

            every = trainer.Trainer(plan.make(net, head, ["all"]), Stage("all", lr=1e-6), place)
            batch = next(iter(batches.dataset(made, BATCH, key=(0, 1, 0))))
            native = native_step(unsplit())
            took = timed(repeats, ours=lambda: every.seen([every.step(batch)]), native=lambda: native(batch))
            for name, words in (("ours", "split groups"), ("native", "Conv2D(groups=2)")):
                print(f"all layers, a step of {BATCH}: {1000 * took[name] / BATCH:6.1f} ms a picture, {words}")
            print(f"  {took['native'] / took['ours']:.2f} times faster")
    if folder:
        whole(folder, repeats)


def whole(folder, repeats):
    """The 100-epoch command against one pass, whole processes."""
    models = Path(os.environ.get("CAFFE2TF_SHARED", "../shared")) / "models" / "squeezenet_v1.0"
    net = [str(models / "squeezenet_v1.0.caffemodel"), "-p", str(models / "deploy.prototxt")]
    one = (
        "import sys, numpy as np\n"
        "from caffe2tf import loading\n"
        "from caffe2tf.finetuning import data, features, rows\n"
        "from caffe2tf.images import preprocess\n"
        "net = loading.load(sys.argv[3], sys.argv[1])\n"
        "how, _ = preprocess.of(net)\n"
        "images = rows.Decoded(data.read(sys.argv[4]).sources, how)\n"
        "features.computed(net, net.outputs, images, how)\n"
    )
    with tempfile.TemporaryDirectory() as out:
        options = ["--layers", "conv_final", "--epochs", "100", "--schedule", "cosine", "-q", "-f", "--data", folder]
        train = [sys.executable, "-m", "caffe2tf", "finetune", *net, *options, "--out", out]
        once = [sys.executable, "-c", one, *net, folder]
        runs = timed(
            repeats, train=lambda: subprocess.run(train, check=True), once=lambda: subprocess.run(once, check=True)
        )
    print(
        f"100 epochs, the whole command {runs['train']:.1f} s; one pass {runs['once']:.1f} s: {runs['train'] / runs['once']:.2f}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, *sys.argv[2:])
