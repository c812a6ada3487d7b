"""The seeded AlexNet: the full-size network with weights from a frozen generator, the same on every machine.

It is written as the published bvlc_alexnet.caffemodel is by all accounts: V1 layers, legacy four extents, a snapshot of
the training phase with its data and loss layers, so that everything can be tried without a download.
"""

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from caffe2tf import bundled
from caffe2tf.caffe import wire
from caffe2tf.caffe.caffe_pb2 import BlobProto, NetParameter, V1LayerParameter
from caffe2tf.files import replacing as files
from caffe2tf.layers.base import Layer
from caffe2tf.net.net import Net
from caffe2tf.net.reading import from_files

SEED = 2012
BYTES = 243860896  # of the values
_CHUNK = 1 << 22  # values drawn at once: 32 MB as float64
_V1 = V1LayerParameter


def weights(net: Net) -> Iterator[tuple[Layer, list[NDArray[np.float32]]]]:
    """Yields (layer, [kernel, bias]) in Caffe's layout for each layer with weights, in net order.

    kernel (2u - 1) * sqrt(6 / fan_in), times 0.02 for fc8; bias (2u - 1) * 0.1; u from RandomState(2012), computed in
    float64 and rounded once to float32.
    """
    random = np.random.RandomState(SEED)
    for node in net.nodes:
        wanted = node.layer.blobs()
        if not wanted:
            continue
        kernel, bias = (weight.shape for weight in wanted)
        scale = np.sqrt(6.0 / np.prod(kernel[1:])) * (0.02 if node.layer.name == "fc8" else 1.0)
        yield node.layer, [_draw(random, kernel, scale), _draw(random, bias, 0.1)]


def _draw(random: np.random.RandomState, shape: Sequence[int], scale: float) -> NDArray[np.float32]:
    values = np.empty(int(np.prod(shape)), np.float32)
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK]
        part[:] = (2 * random.random_sample(part.size) - 1) * scale
    return values.reshape(shape)


def write(path: str | os.PathLike[str], force: bool = True, progress: Callable[[int], object] | None = None) -> None:
    """Writes the seeded AlexNet as a V1 snapshot (244 MB)."""
    net = from_files(bundled.alexnet_text())
    arrays = ((layer.name, blobs) for layer, blobs in weights(net))
    none: tuple[str, list[NDArray[np.float32]]] = ("", [])
    with files.replacing(path, force) as temporary, open(temporary, "wb") as file:
        file.write(NetParameter(name=bundled.random_name(net.name)).SerializeToString())
        name, blobs = next(arrays, none)
        for layer in _train_layers(net):
            parts: list[bytes | memoryview] = [layer.SerializeToString()]
            if layer.name == name:
                for blob in blobs:
                    num, channels, height, width = (1,) * (4 - blob.ndim) + blob.shape
                    header = BlobProto(num=num, channels=channels, height=height, width=width)
                    parts += wire.field(6, wire.blob(header, blob))
                if progress:
                    progress(sum(blob.nbytes for blob in blobs))
                name, blobs = next(arrays, none)
            for part in wire.field(2, parts):
                file.write(part)


def _train_layers(net: Net) -> Iterator[V1LayerParameter]:
    """The V1 layers of the training net around AlexNet's own."""
    data = _V1(name="data", type=_V1.DATA, top=["data", "label"])
    data.data_param.source, data.data_param.batch_size = "examples/imagenet/ilsvrc12_train_lmdb", 256
    data.transform_param.mirror, data.transform_param.crop_size = True, 227
    data.transform_param.mean_file = "data/ilsvrc12/imagenet_mean.binaryproto"
    yield data
    types = {"Convolution": _V1.CONVOLUTION, "ReLU": _V1.RELU, "LRN": _V1.LRN, "Pooling": _V1.POOLING}
    types |= {"InnerProduct": _V1.INNER_PRODUCT, "Dropout": _V1.DROPOUT}
    for proto in net.param.layer:
        if proto.type not in types:
            continue  # the input and the final Softmax: the training net has data and loss instead
        layer = _V1(name=proto.name, type=types[proto.type], bottom=proto.bottom, top=proto.top)
        for field, value in proto.ListFields():
            if field.name.endswith("_param"):
                getattr(layer, field.name).CopyFrom(value)
        if net.layer(proto.name).blobs():
            layer.blobs_lr.extend([1, 2])
            layer.weight_decay.extend([1, 0])
        yield layer
    yield _V1(name="loss", type=_V1.SOFTMAX_LOSS, bottom=["fc8", "label"], top=["loss"])
