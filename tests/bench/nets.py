"""Networks to measure: ours from Caffe's files, and the same ones as people write them in Keras."""

import math
import os
from typing import Any

import numpy as np

import caffe2tf
from caffe2tf.net.net import Net
from tests.bench import texts

NAMES = ("AlexNet", "SqueezeNet", "ResNet-50")


def ours(name: str, folder: str) -> Net:
    """The network with weights: AlexNet's and ResNet-50's are seeded, SqueezeNet's trained. Files go to `folder`."""
    if name != "ResNet-50":
        path = os.path.join(folder, f"{name}.caffemodel")
        caffe2tf.sample(name.lower(), path, force=True)
        return caffe2tf.load(path)
    return seeded(texts.network("ResNet50", folder))


def seeded(net: Net) -> Net:
    """`net` with weights by chance that keep the size of values: statistics and scales of one, kernels as He et al. start them."""
    random = np.random.default_rng(0)

    def one(name: str, shape: tuple[int, ...]) -> Any:
        if name in ("moving_variance", "gamma"):
            return np.ones(shape, np.float32)
        if name == "kernel":
            return random.standard_normal(shape, np.float32) * np.float32(math.sqrt(1 / math.prod(shape[:-1])))
        return np.zeros(shape, np.float32)

    return net.with_weights(
        {
            layer: {name: one(name, shape) for name, shape in shapes.items()}
            for layer, shapes in net.weight_shapes.items()
        }
    )


def peer(name: str) -> Any:
    """A keras.Model of the same architecture: of keras.applications, or as a tutorial would write it."""
    import keras

    if name == "ResNet-50":
        return keras.applications.ResNet50(weights=None)
    return {"AlexNet": _alexnet, "SqueezeNet": _squeezenet}[name](keras)


def _alexnet(keras: Any) -> Any:
    """Krizhevsky et al. 2012 in bvlc_alexnet's order: normalized, then pooled."""
    layers, ops = keras.layers, keras.ops

    def normalized(x: Any) -> Any:
        """Divided by what five neighbouring channels hold."""
        squares, count = ops.pad(ops.square(x), [(0, 0)] * 3 + [(2, 2)]), x.shape[-1]
        sums = sum(squares[..., at : at + count] for at in range(5))
        return x / ops.power(1 + 2e-5 * sums, 0.75)

    x = inputs = keras.Input((227, 227, 3))
    x = layers.MaxPooling2D(3, 2)(normalized(layers.Conv2D(96, 11, 4, activation="relu")(x)))
    x = normalized(layers.Conv2D(256, 5, padding="same", groups=2, activation="relu")(x))
    x = layers.Conv2D(384, 3, padding="same", activation="relu")(layers.MaxPooling2D(3, 2)(x))
    for count in (384, 256):
        x = layers.Conv2D(count, 3, padding="same", groups=2, activation="relu")(x)
    x = layers.Flatten()(layers.MaxPooling2D(3, 2)(x))
    for _ in range(2):
        x = layers.Dense(4096, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(1000, activation="softmax")(x))


def _squeezenet(keras: Any) -> Any:
    """Iandola et al. 2016, version 1.0."""
    layers = keras.layers

    def fire(x: Any, thin: int, wide: int) -> Any:
        x = layers.Conv2D(thin, 1, activation="relu")(x)
        sides = (layers.Conv2D(wide, size, padding="same", activation="relu")(x) for size in (1, 3))
        return layers.Concatenate()(list(sides))

    x = inputs = keras.Input((227, 227, 3))
    x = layers.MaxPooling2D(3, 2)(layers.Conv2D(96, 7, 2, activation="relu")(x))
    for thin, wide in ((16, 64), (16, 64), (32, 128)):
        x = fire(x, thin, wide)
    x = layers.MaxPooling2D(3, 2)(x)
    for thin, wide in ((32, 128), (48, 192), (48, 192), (64, 256)):
        x = fire(x, thin, wide)
    x = fire(layers.MaxPooling2D(3, 2)(x), 64, 256)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(1000, 1, activation="relu")(x))
    return keras.Model(inputs, layers.Softmax()(x))
