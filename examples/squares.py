"""A small SSD whose weights are set by hand, so that it finds red and blue squares of a quarter of the picture's sides.

`python examples/squares.py` writes squares.prototxt, squares.caffemodel, squares.txt (the names of its classes) and squares.png (a
picture with four squares) to this folder.
"""

import numpy as np
from PIL import Image, ImageDraw

import caffe2tf

TEXT = """
name: "squares"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 96 dim: 96 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: AVE kernel_size: 24 stride: 8 } }
layer { name: "loc" type: "Convolution" bottom: "pool1" top: "loc" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm" permute_param { order: [0, 2, 3, 1] } }
layer { name: "mbox_loc" type: "Flatten" bottom: "loc_perm" top: "mbox_loc" }
layer { name: "conf" type: "Convolution" bottom: "pool1" top: "conf" convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm" permute_param { order: [0, 2, 3, 1] } }
layer {
  name: "mbox_conf" type: "Reshape" bottom: "conf_perm" top: "mbox_conf"
  reshape_param { shape { dim: 0 dim: -1 dim: 3 } }
}
layer { name: "softmax" type: "Softmax" bottom: "mbox_conf" top: "softmax" softmax_param { axis: 2 } }
layer { name: "mbox_softmax" type: "Flatten" bottom: "softmax" top: "mbox_softmax" }
layer {
  name: "mbox_prior" type: "PriorBox" bottom: "pool1" bottom: "data" top: "mbox_prior"
  prior_box_param { min_size: 24 step: 8 offset: 1.5 variance: [0.1, 0.1, 0.2, 0.2] }
}
layer {
  name: "found" type: "DetectionOutput" bottom: "mbox_loc" bottom: "mbox_softmax" bottom: "mbox_prior" top: "found"
  detection_output_param {
    num_classes: 3 keep_top_k: 20 confidence_threshold: 0.01 code_type: CENTER_SIZE
    nms_param { nms_threshold: 0.3 top_k: 100 }
  }
}
"""
# Red is what has more red than green, blue what has more blue; a whole window of it outweighs the background.
COLOURS = np.array([[[[0.0, 1.0], [-1.0, -1.0], [1.0, 0.0]]]])  # (1, 1, BGR, red and blue)
SCORES = np.array([[[[0.0, 0.1, 0.0], [0.0, 0.0, 0.1]]]])  # of the background, red and blue
WEIGHTS = {
    "conv1": {"kernel": COLOURS, "bias": np.zeros(2)},
    "loc": {"kernel": np.zeros((1, 1, 2, 4)), "bias": np.zeros(4)},
    "conf": {"kernel": SCORES, "bias": np.array([18.0, 0.0, 0.0])},
}
SQUARES = [("red", (40, 20)), ("blue", (320, 40)), ("red", (240, 200)), ("blue", (80, 180))]  # left, top


def main() -> None:
    with open("squares.prototxt", "w", encoding="utf-8") as file:
        file.write(TEXT)
    with open("squares.txt", "w", encoding="utf-8") as file:
        file.write("background\nred square\nblue square\n")
    caffe2tf.save(caffe2tf.load("squares.prototxt").with_weights(WEIGHTS), "squares.caffemodel")
    picture = Image.new("RGB", (480, 320), "white")
    for colour, (left, top) in SQUARES:
        ImageDraw.Draw(picture).rectangle((left, top, left + 119, top + 79), fill=colour)
    picture.save("squares.png")


if __name__ == "__main__":
    main()
