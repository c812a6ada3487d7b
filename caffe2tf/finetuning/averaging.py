"""A head of 1 x 1 that is averaged over all places, with the average before it."""

import math
from collections.abc import Sequence

from caffe2tf.caffe.caffe_pb2 import NetParameter
from caffe2tf.layers.convolution import Convolution
from caffe2tf.net.names import free
from caffe2tf.net.net import Net, rebuild


def count(extents: Sequence[int | None]) -> int | None:
    """How many values `extents` hold; None where one is unknown."""
    known = [extent for extent in extents if extent is not None]
    return math.prod(known) if len(known) == len(extents) else None


def averaged_first(net: Net, logits: str) -> Net:
    """`net` with a 1 x 1 convolution that makes `logits` and a global average after it in the other order: what is linear
    commutes, and the convolution has one place to work at instead of all. Where it pads (SqueezeNet), zeros count."""
    pool = next((node for node in net.nodes if logits in dict(node.tops)), None)
    if (
        pool is None
        or pool.layer.type != "Pooling"
        or not pool.layer.p.global_pooling
        or pool.layer.p.pool != pool.layer.p.AVE
    ):
        return net
    between = pool.bottoms[0]
    readers = net.consumers[between]
    conv = next((node for node in net.nodes if between in node.tops), None)
    if conv is None or conv.layer.type != "Convolution" or len(readers) > 1 or len(conv.tops) > 1:
        return net
    before, after = count(conv.layer.bottoms[0][2:]), count(conv.shapes[0][2:])
    if not isinstance(conv.layer, Convolution) or before is None or after is None:
        return net
    if any(k != 1 for k in (*conv.layer.kernel, *conv.layer.stride)):
        return net
    below = conv.layer.proto.bottom[0]
    mean = free(f"{below} averaged", set(net.blobs))
    param = NetParameter(name=net.name)
    for node in net.nodes:
        if node is pool:
            averaged, zeros, product = (param.layer.add() for _ in range(3))
            averaged.CopyFrom(pool.layer.proto)
            averaged.bottom[0], averaged.top[0] = below, mean
            zeros.name, zeros.type, zeros.power_param.scale = f"{conv.layer.name} zeros", "Power", before / after
            zeros.bottom.append(mean)
            zeros.top.append(mean)
            product.CopyFrom(conv.layer.proto)
            product.bottom[0], product.top[0] = mean, logits
            product.convolution_param.ClearField("pad")
            product.convolution_param.ClearField("pad_h")
            product.convolution_param.ClearField("pad_w")
        elif node is not conv:
            param.layer.add().CopyFrom(node.layer.proto)
    return rebuild(net, param, net.arrays)
