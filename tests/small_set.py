"""A network and pictures that train in a second."""

import numpy as np
from PIL import Image

from caffe2tf import loading
from tests.conftest import inputs, layer, make

COLOURS = {"blue": (30, 30, 220), "green": (30, 220, 30), "red": (220, 30, 30)}


def write(tmp_path):
    """A small AlexNet-like network and three classes of ten pictures, in a folder per class."""
    text = inputs(data=(1, 3, 12, 12))
    text += layer("Convolution", "convolution_param { num_output: 8 kernel_size: 3 }", tops=["c"], name="conv1")
    text += layer("ReLU", bottoms=["c"], tops=["c"], name="relu1")
    text += layer(
        "Pooling", "pooling_param { pool: AVE kernel_size: 5 stride: 5 }", bottoms=["c"], tops=["p"], name="pool"
    )
    text += layer("InnerProduct", "inner_product_param { num_output: 16 }", bottoms=["p"], tops=["h"], name="fc7")
    text += layer("ReLU", bottoms=["h"], tops=["h"], name="relu7") + layer(
        "Dropout", bottoms=["h"], tops=["h"], name="drop7"
    )
    text += layer("InnerProduct", "inner_product_param { num_output: 10 }", bottoms=["h"], tops=["s"], name="fc8")
    text += layer("Softmax", bottoms=["s"], tops=["prob"], name="prob")
    random = np.random.RandomState(1)
    blobs = {
        "conv1": [random.randn(8, 3, 3, 3) * 0.05, (8,)],
        "fc7": [random.randn(16, 32) * 0.05, (16,)],
        "fc8": [(10, 16), (10,)],
    }
    make(tmp_path, text, blobs)
    for name, colour in COLOURS.items():
        (tmp_path / "train" / name).mkdir(parents=True)
        for index in range(10):
            noise = random.randint(-25, 26, (14, 16, 3))
            Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(
                tmp_path / "train" / name / f"{index}.png"
            )


NET = ["net.caffemodel", "-p", "net.prototxt"]


def load():
    return loading.load("net.prototxt", "net.caffemodel")
