"""Caffe's own, in today's form: V0 and V1 layers upgraded, data and loss layers gone.

Caffe 1.0 reads it with the same network, or with a text that names the same layers.
"""

from caffe2tf import wire
from caffe2tf.caffe_pb2 import BlobProto, NetParameter
from caffe2tf.read import release


def save(net, path, progress=None):
    with open(path, "wb") as file:
        file.write(NetParameter(name=net.name).SerializeToString())
        for proto in net.param.layer:
            arrays = net.arrays.get(proto.name, ())
            parts = [proto.SerializeToString()]
            for array in arrays:
                parts += wire.field(7, wire.blob(BlobProto(shape={"dim": array.shape}), array))
            for part in wire.field(100, parts):
                file.write(part)
            if progress:
                progress(sum(array.nbytes for array in arrays))
            for array in arrays:
                release(array)
