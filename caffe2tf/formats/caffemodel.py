"""Caffe's own, in today's form: V0 and V1 layers upgraded, data and loss layers gone.

Caffe 1.0 reads it with the same network, or with a text that names the same layers.
"""

import numpy as np

from caffe2tf.arrays.layout import Floats
from caffe2tf.caffe import wire
from caffe2tf.caffe.caffe_pb2 import BlobProto, LayerParameter, NetParameter
from caffe2tf.caffe.read import release
from caffe2tf.formats._files import Progress
from caffe2tf.net.net import Net


def save(net: Net, path: str, progress: Progress | None = None) -> None:
    with open(path, "wb") as file:
        file.write(NetParameter(name=net.name).SerializeToString())
        shared: dict[str, Floats] = {}
        for proto in net.param.layer:
            arrays = net.arrays.get(proto.name, ())
            for spec, array in zip(proto.param, arrays, strict=False):
                # Trained apart, what was shared is no longer: the name would make it so again.
                if spec.name and not np.array_equal(shared.setdefault(spec.name, array).ravel(), array.ravel()):
                    proto = LayerParameter.FromString(proto.SerializeToString())
                    for other in proto.param:
                        other.ClearField("name")
                    break
            parts: list[bytes | memoryview] = [proto.SerializeToString()]
            for array in arrays:
                parts += wire.field(7, wire.blob(BlobProto(shape={"dim": array.shape}), array))
            for part in wire.field(100, parts):
                file.write(part)
            if progress:
                progress(sum(array.nbytes for array in arrays))
            for array in arrays:
                release(array)
