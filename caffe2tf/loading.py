"""A Net from whatever files hold it: a network text, a snapshot, weights that caffe2tf wrote."""

import os

from caffe2tf import bundled, formats
from caffe2tf.errors import Caffe2TFError
from caffe2tf.net import reading


def load(prototxt=None, model=None, input_shape=None):
    """A Net from a network text, weights, or both; either may be None.

    `model`: a `.caffemodel` (alone enough where it holds the network), or a `.npy`, `.npz`, `.h5` or `.safetensors`
    that caffe2tf wrote, which needs the text (AlexNet's is taken where the weights are AlexNet's). `input_shape`: {input: shape, N first} where the files do not tell.
    Raises ParseError, NetError, UnsupportedLayer, WeightMismatch.
    """
    suffix = os.path.splitext(str(model))[1].lstrip(".").lower() if model is not None else ""
    if suffix in formats.names() and suffix != "caffemodel":
        if not formats.readable(suffix):
            kinds = ", ".join(f".{name}" for name in formats.names() if formats.readable(name))
            raise Caffe2TFError(f"{model}: a .{suffix} is not read here; takes a .caffemodel, or weights as {kinds}")
        weights = formats.module(suffix).load(model)
        if prototxt is None:
            prototxt = bundled.alexnet_text()
            layers = reading.from_files(prototxt).weight_shapes
            if {
                name: {key: array.shape for key, array in arrays.items()} for name, arrays in weights.items()
            } != layers:
                raise Caffe2TFError(f"{model}: holds weights but no network; give its text with -p/--prototxt")
        return reading.from_files(prototxt, None, input_shape).with_weights(weights)
    return reading.from_files(prototxt, model, input_shape)
