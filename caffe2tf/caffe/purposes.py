"""What layers that serve training are at inference: the one table of them, Caffe's own and its forks'.

A fork's type that the table lacks is told by what its name and its blobs say: see each function.
"""

import re

from caffe2tf.caffe.caffe_pb2 import LayerParameter

# Data layers -> the parameters that they had in common once, None for those that the schema lacks.
DATA = {
    "AnnotatedData": "data_param",
    "Data": "data_param",
    "DenseImageData": None,
    "HDF5Data": "hdf5_data_param",
    "ImageData": "image_data_param",
    "ImageLabelmapData": "image_data_param",
    "ImageSegData": "image_data_param",
    "LabelData": "image_data_param",
    "MemoryData": "memory_data_param",
    "VideoData": None,
    "WindowData": "window_data_param",
}
# Losses that are something at inference.
BECOMES = {"SoftmaxWithLoss": "Softmax", "SigmoidCrossEntropyLoss": "Sigmoid"}
# What measures, prints, writes, or makes the labels of losses. Whatever is made of these goes too.
SINKS = frozenset(
    (
        *("AnchorTarget", "BoxAnnotatorOHEM", "ConfusionMatrix", "HDF5Output", "HardMining", "LabelBalance"),
        *("LargeMarginInnerProduct", "MarginInnerProduct", "MatWrite", "RPNTarget", "Silence"),
        *("Triplet", "TripletSample", "TripletSelect", "Yolov3"),
    )
)
# What draws samples for training out of its first bottom, or changes it by a label: its first top is that bottom at inference,
# and its other tops are labels.
DRAWS = frozenset(
    (
        *("ProposalTarget", "FrcnnProposalTarget", "DetectNetTransformation", "SubSample", "SubPoint"),
        *("LabelSpecificAdd", "LabelSpecificMarginAdd"),
    )
)
# What chooses among the items of its bottoms: a top for each, in their order.
CHOOSES = frozenset(("ScaleRoute",))
# What changes values in training alone.
SAME = frozenset(("Noise", "GaussianNoise", "SpatialDropout", "GradientReversal", "GradientReverse", "GradientScaler"))


def kind(layer: LayerParameter) -> str:
    """The type of `layer`; of a Python layer, the name of its class without "Layer"."""
    if layer.type == "Python":
        return layer.python_param.layer.removesuffix("Layer") or "Python"
    return layer.type


def is_data(layer: LayerParameter) -> bool:
    """Whether it reads data: a Python layer or another without bottoms whose name says that it does."""
    if layer.type in DATA:
        return True
    return not layer.bottom and (
        layer.type == "Python" or bool(re.search("(?<!Dummy)Data|Reader|Loader|Webcam|.Input", layer.type))
    )


def is_sink(layer: LayerParameter) -> bool:
    """Whether it has no part in inference: a loss, an accuracy, an evaluation, or a layer without tops."""
    name = kind(layer)
    if not layer.bottom:
        return False
    if name in SINKS or not layer.top:
        return True
    if (
        name == "CTCGreedyDecoder" and len(layer.bottom) > 1
    ):  # beside labels it gives the accuracy (ctc_decoder_layer.cpp)
        return True
    trains = layer.type == "Python" and re.search("Target|MSE$", name) is not None and name not in DRAWS
    return trains or re.search(r"Loss(?![a-z])|Accuracy|^Eval|Evaluat", name) is not None


def draws(layer: LayerParameter) -> bool:
    """Whether it draws samples out of its first bottom."""
    return kind(layer) in DRAWS and bool(layer.bottom) and bool(layer.top)


def chooses(layer: LayerParameter) -> bool:
    """Whether it has a top for each bottom, some items of it."""
    return layer.type in CHOOSES and len(layer.bottom) == len(layer.top) > 0


def is_same(layer: LayerParameter) -> bool:
    """Whether its top is its bottom at inference."""
    return kind(layer) in SAME and len(layer.bottom) == len(layer.top) == 1
