"""BatchNorm, and the Scale after it, folded into the convolution before them: the same function with fewer layers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caffe2tf.arrays.layout import Floats
from caffe2tf.caffe.caffe_pb2 import NetParameter
from caffe2tf.layers.convolution import Convolution
from caffe2tf.layers.normalization import BatchNorm
from caffe2tf.layers.scaling import Scale
from caffe2tf.net.net import Net, rebuild
from caffe2tf.net.wiring import Blob, Node


@dataclass(frozen=True)
class Folded:
    """What folding saved: convolutions changed, layers gone, parameters fewer."""

    convolutions: int
    layers: int
    parameters: int


def fold(net: Net) -> tuple[Net, Folded]:
    """(Net, Folded): every BatchNorm with stored statistics, alone or followed by a Scale over the channels, that is
    the only reader of a Convolution's top goes into that convolution's kernel and bias.

    The folded blobs keep the name of the last of the three; values differ by rounding alone.
    """
    readers, last = net.consumers, net.last_versions
    chosen = {(name, last[name]) for name in net.chosen}
    arrays = dict(net.arrays)
    gone: set[str] = set()
    changed: dict[str, list[str]] = {}
    tops: dict[str, str] = {}
    for node in net.nodes:
        chain = _chain(node, readers, chosen)
        if not chain:
            continue
        arrays[node.layer.name] = _merged(net, node, chain)
        changed[node.layer.name] = [proto.layer.name for proto in chain]
        gone.update(changed[node.layer.name])
        tops[node.layer.name] = chain[-1].tops[0][0]
    param = NetParameter.FromString(net.param.SerializeToString())
    kept = []
    for layer in param.layer:
        if layer.name in gone:
            continue
        if layer.name in changed:
            layer.convolution_param.bias_term = True
            layer.top[0] = tops[layer.name]
        kept.append(type(layer).FromString(layer.SerializeToString()))
    del param.layer[:]
    param.layer.extend(kept)
    folded = rebuild(net, param, {name: value for name, value in arrays.items() if name not in gone})
    before, after = (sum(array.size for one in n.arrays.values() for array in one) for n in (net, folded))
    return folded, Folded(len(changed), len(gone), before - after)


def _chain(node: Node, readers: Mapping[Blob, Sequence[Node]], chosen: Collection[Blob]) -> list[Node]:
    """[BatchNorm] or [BatchNorm, Scale] after the convolution `node`, where both may be folded into it; none of `chosen` goes."""
    if not isinstance(node.layer, Convolution) or len(node.tops) != 1:
        return []
    if node.layer.channel_axis != 1 or any(spec.name for spec in node.layer.proto.param):
        return []
    chain: list[Node] = []
    top = node.tops[0]
    for kind in (BatchNorm, Scale):
        after = readers.get(top, [])
        if top in chosen or len(after) != 1 or not isinstance(after[0].layer, kind) or len(after[0].bottoms) != 1:
            break
        layer = after[0].layer
        if any(spec.name for spec in layer.proto.param):
            break
        if isinstance(layer, BatchNorm) and layer.batch_statistics():
            break
        if isinstance(layer, Scale) and (layer.axis(layer.p.axis) != 1 or layer.p.num_axes != 1):
            break
        chain.append(after[0])
        top = after[0].tops[0]
    return chain


def _merged(net: Net, node: Node, chain: Sequence[Node]) -> tuple[Floats, Floats]:
    """Caffe's kernel and bias of the convolution with the chain inside, computed in float64."""
    kernel, *rest = (array.astype(np.float64) for array in net.arrays[node.layer.name])
    bias = rest[0] if rest else np.zeros(len(kernel))
    first = chain[0].layer
    assert isinstance(first, BatchNorm)
    norm = net.weights[first.name]
    share = 1 / np.sqrt(norm["moving_variance"].astype(np.float64) + first.eps)
    share = share * norm.get("gamma", 1.0)
    shift = norm.get("beta", 0.0) - norm["moving_mean"] * share
    if len(chain) > 1:
        scale = net.weights[chain[1].layer.name]
        share, shift = share * scale["gamma"], shift * scale["gamma"] + scale.get("beta", 0.0)
    kernel = kernel * share.reshape((-1,) + (1,) * (kernel.ndim - 1))
    return kernel.astype(np.float32), (bias * share + shift).astype(np.float32)
