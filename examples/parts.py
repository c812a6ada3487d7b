"""Ordinary Keras around a converted network: features, another head, `fit` on a `tf.data` set, mixed precision, and the gradient to
the picture.

`python examples/parts.py [EPOCHS]` runs on TensorFlow, and with KERAS_BACKEND=jax or torch on JAX or PyTorch. The network is the trained
SqueezeNet that comes with caffe2tf, at 64 x 64; the pictures are scikit-learn's handwritten digits.
"""

import sys

import keras
import numpy as np
import tensorflow as tf  # for tf.data, which every backend of Keras takes
from sklearn.datasets import load_digits

import caffe2tf

COUNT, SIDE = 96, 64


def pictures():
    """(digits as the network takes them: BGR, 0 to 255, minus the mean; their classes)."""
    data = load_digits()
    grey = np.kron(data.images[:COUNT] * 255 / 16, np.ones((8, 8)))  # 8 x 8 to 64 x 64
    return np.float32(grey[..., None] - np.array([104, 117, 123])), data.target[:COUNT]


def backbone(net):
    """A keras.Model from pictures to features (N, H, W, 512): what `fire9/concat` is made of, and nothing behind it."""
    model = caffe2tf.to_keras(net, outputs=["fire9/concat"])
    model.trainable = False
    return model


def with_head(features, classes):
    """The features under a head of its own."""
    x = keras.layers.GlobalAveragePooling2D()(features.output)
    x = keras.layers.Dense(classes, dtype="float32", name="scores", kernel_initializer="zeros")(x)
    return keras.Model(features.input, x)


def gradient(model, images, score):
    """(N, H, W, C): how every value of `images` changes the output `score`."""
    if keras.backend.backend() == "tensorflow":
        given = tf.convert_to_tensor(images)
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = tf.reduce_sum(model(given)[:, score])
        return tape.gradient(value, given).numpy()
    if keras.backend.backend() == "jax":
        import jax

        state = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]
        return np.asarray(jax.grad(lambda x: model.stateless_call(*state, x)[0][:, score].sum())(images))
    import torch

    given = torch.tensor(images, requires_grad=True)
    model(given)[:, score].sum().backward()
    return given.grad.numpy()


def main(epochs: int = 12) -> None:
    caffe2tf.sample("squeezenet", "squeezenet.caffemodel", force=True)
    net = caffe2tf.load("squeezenet.caffemodel", input_shape={"data": (1, 3, SIDE, SIDE)})
    images, classes = pictures()
    data = tf.data.Dataset.from_tensor_slices((images, classes)).shuffle(COUNT, seed=0).batch(32)

    whole = caffe2tf.to_keras(net, outputs=["conv_final"])
    scores = keras.Model(whole.input, keras.layers.GlobalAveragePooling2D()(whole.output))
    change = gradient(scores, images[:2], 355)
    print("gradient of a llama's score to the picture:", change.shape, f"norm {np.linalg.norm(change):.6g}")

    # PyTorch refuses the padding of MAX pooling, -FLT_MAX, in half precision.
    policies = ("float32",) if keras.backend.backend() == "torch" else ("float32", "mixed_bfloat16")
    for policy in policies:
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(policy)
        model = with_head(backbone(net), 10)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        history = model.fit(data, epochs=epochs, shuffle=False, verbose=0).history
        frozen = np.asarray(model.get_layer("conv1").kernel) == net.weights["conv1"]["kernel"]
        print(f"{policy}: loss {history['loss'][0]:.3f} to {history['loss'][-1]:.3f},", end=" ")
        print(f"accuracy {history['accuracy'][-1]:.3f}, backbone as it was: {bool(frozen.all())}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
