"""Networks to measure: ours from Caffe's files, and the same ones as people write them in Keras."""

import math
import os
from typing import Any

import numpy as np

import caffe2tf
from caffe2tf.caffe.caffe_pb2 import NetParameter
from caffe2tf.net.net import Net, rebuild

NAMES = ("AlexNet", "SqueezeNet", "ResNet-50")
_STAGES = (
    (64, 3),
    (128, 4),
    (256, 6),
    (512, 3),
)  # of ResNet-50: channels of the 3 x 3 convolutions, blocks (He et al. 2015)


def ours(name: str, folder: str) -> Net:
    """The network with weights: AlexNet's and ResNet-50's are seeded, SqueezeNet's trained. Files go to `folder`."""
    if name != "ResNet-50":
        path = os.path.join(folder, f"{name}.caffemodel")
        caffe2tf.sample(name.lower(), path, force=True)
        return _without_dropout(caffe2tf.load(path))
    path = os.path.join(folder, "resnet50.prototxt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(resnet50_text())
    return seeded(caffe2tf.load(path))


def _without_dropout(net: Net) -> Net:
    """`net`, on PyTorch without its Dropout, which does nothing here: Keras 3.15 cannot make one on PyTorch 2.15, whose Parameters
    must be floats where Keras keeps the layer's integer seed in one."""
    import keras

    if keras.backend.backend() != "torch":
        return net
    param = NetParameter.FromString(net.param.SerializeToString())
    kept = [layer for layer in param.layer if layer.type != "Dropout"]
    del param.layer[:]
    param.layer.extend(kept)
    return rebuild(net, param, net.arrays)


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


def resnet50_text() -> str:
    """ResNet-50 as a Caffe text: a stride stands in the first convolution of a block, BatchNorm and Scale follow each."""
    lines = ['name: "ResNet-50"', "input: 'data' input_shape { dim: 1 dim: 3 dim: 224 dim: 224 }"]

    def add(kind: str, name: str, bottoms: list[str], top: str, params: str = "") -> str:
        wires = " ".join([*(f'bottom: "{bottom}"' for bottom in bottoms), f'top: "{top}"'])
        lines.append(f'layer {{ name: "{name}" type: "{kind}" {wires} {params} }}')
        return top

    def convolution(name: str, bottom: str, count: int, size: int, stride: int = 1, relu: bool = True) -> str:
        params = f"num_output: {count} kernel_size: {size} stride: {stride} pad: {size // 2} bias_term: false"
        add("Convolution", name, [bottom], name, f"convolution_param {{ {params} }}")
        add("BatchNorm", f"{name}_bn", [name], name, "batch_norm_param { eps: 1e-5 }")
        add("Scale", f"{name}_scale", [name], name, "scale_param { bias_term: true }")
        return add("ReLU", f"{name}_relu", [name], name) if relu else name

    last = convolution("conv1", "data", 64, 7, 2)
    last = add("Pooling", "pool1", [last], "pool1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    for stage, (wide, blocks) in enumerate(_STAGES, 2):
        for block in range(blocks):
            name, stride = f"res{stage}_{block + 1}", 2 if block == 0 and stage > 2 else 1
            past = last if block else convolution(f"{name}_past", last, 4 * wide, 1, stride, relu=False)
            inner = convolution(f"{name}_in", last, wide, 1, stride)
            inner = convolution(f"{name}_mid", inner, wide, 3)
            inner = convolution(f"{name}_out", inner, 4 * wide, 1, relu=False)
            last = add("Eltwise", name, [past, inner], name)
            add("ReLU", f"{name}_relu", [name], name)
    last = add("Pooling", "pool5", [last], "pool5", "pooling_param { pool: AVE global_pooling: true }")
    last = add("InnerProduct", "fc", [last], "fc", "inner_product_param { num_output: 1000 }")
    add("Softmax", "prob", [last], "prob")
    return "\n".join(lines) + "\n"


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
