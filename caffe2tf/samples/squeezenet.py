"""The trained SqueezeNet v1.0, unfolded from its code books (golden/squeezenet; its license is beside it).

Deep Compression left 256 different values in every kernel, so `weights.npz` holds each as one byte and loses nothing:
`network` is the NetParameter without values, `books` (kernels, 256) the values of each kernel, `codes` the places in them of
all kernels one after the other, `biases` all biases; kernels and biases in net order.
"""

import math
import os
from collections.abc import Mapping

from google.protobuf.message import DecodeError

from caffe2tf import bundled
from caffe2tf.arrays import numbers
from caffe2tf.arrays.layout import Array
from caffe2tf.caffe.caffe_pb2 import NetParameter
from caffe2tf.errors import Caffe2TFError, ParseError
from caffe2tf.samples import beside

BYTES = 5001136  # of the .caffemodel


def write(path: str, force: bool = True) -> list[str]:
    """Writes the .caffemodel to `path`, byte for byte as Caffe saved it, and its network text beside it; returns both paths."""
    return beside.write(path, caffemodel(), bundled.squeezenet_text(), force)


def caffemodel() -> bytes:
    """The file's content. Raises Caffe2TFError where the installed package is damaged."""
    path = os.path.join(bundled.home(), "squeezenet", "weights.npz")
    try:
        return _unfolded(dict(numbers.read_npz(path)))
    except (ParseError, DecodeError, LookupError, ValueError) as error:
        raise Caffe2TFError(f"{path}: cannot be read ({error}); install caffe2tf again") from None


def _unfolded(parts: Mapping[str, Array]) -> bytes:
    net = NetParameter.FromString(parts["network"].tobytes())
    codes, biases = 0, 0
    for layer, book in zip((layer for layer in net.layer if layer.blobs), parts["books"], strict=True):
        kernel, bias = layer.blobs
        size, count = math.prod(kernel.shape.dim), bias.shape.dim[0]
        kernel.data.extend(book[parts["codes"][codes : codes + size]].tolist())
        bias.data.extend(parts["biases"][biases : biases + count].tolist())
        codes, biases = codes + size, biases + count
    return net.SerializeToString()
