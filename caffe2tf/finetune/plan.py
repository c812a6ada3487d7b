"""Which layers train, where the frozen part ends, and what the loss is taken from."""

import fnmatch
from dataclasses import dataclass, replace

import numpy as np

from caffe2tf.caffe_pb2 import NetParameter
from caffe2tf.errors import Caffe2TFError
from caffe2tf.net import rebuild


class PlanError(Caffe2TFError):
    """A layer that cannot be trained, or a head that does not fit the classes."""


@dataclass(frozen=True)
class Plan:
    """`net`: with the head for the classes; `base`: the frozen part up to `frontier`, None where everything trains;
    `top`: the rest, whose inputs are the frontier's blobs; `logits`: the blob that the loss is taken from."""

    net: object
    head: str
    fresh: bool
    trained: tuple
    base: object
    top: object
    frontier: tuple
    logits: str

    def whole(self, top):
        """`net` with the weights of `top`, a trained Plan.top."""
        weights = {**{name: self.net.weights[name] for name in self.net.arrays}, **top.weights}
        return self.net.with_weights(weights)


def make(net, classes, layers, head=None, dropout=None, seed=0):
    """The Plan to train `layers` (names and globs, or "all") of `net` for `classes` classes.

    The head, the last layer with weights or `head`, is replaced where its outputs are not the classes; it alone starts
    fresh, as Caffe's tutorials do: kernel gaussian of 0.01, bias 0. A ReLU between a new head and the output is bypassed.
    `dropout` replaces the ratio of every Dropout layer. Raises PlanError, NetError for a name that does not exist.
    """
    weighted = [node.row.name for node in net.nodes if node.row.blobs()]
    if not weighted:
        raise PlanError(f"the network '{net.name}' has no layer with weights")
    head = head or weighted[-1]
    for name in (head, *layers):
        if name not in weighted and not any(c in name for c in "*?[") and name != "all":
            kind = net.layer(name).type  # a NetError with the nearest names where it does not exist
            raise PlanError(f"layer '{name}' ({kind}) has no weights to train; those that have: {', '.join(weighted)}")
    patterns = ["*" if name == "all" else name for name in layers]
    for pattern in patterns:
        if not fnmatch.filter(weighted, pattern):
            raise PlanError(f"--layers {pattern} names no layer with weights; those are {', '.join(weighted)}")
    trained = tuple(name for name in weighted if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    fresh = net.layer(head).tops()[0][1] != classes
    if fresh and head not in trained:
        outputs = net.layer(head).tops()[0][1]
        raise PlanError(f"the head '{head}' gives {outputs} classes, the data has {classes}: name it in --layers")
    net = _with_head(net, head, classes, fresh, dropout, seed)
    base, top, frontier = _cut(net, trained)
    last = net.nodes[-1].row
    logits = last.proto.bottom[0] if last.type == "Softmax" else net.outputs[-1]
    return Plan(net, head, fresh, trained, base, top, frontier, logits)


def _with_head(net, head, classes, fresh, dropout, seed):
    param = NetParameter.FromString(net.param.SerializeToString())
    kept, renamed, after_head = [], {}, None
    for layer in param.layer:
        bottoms = [renamed.get(bottom, bottom) for bottom in layer.bottom]
        del layer.bottom[:]
        layer.bottom.extend(bottoms)
        if layer.name == head and fresh:
            row = net.layer(head)
            if row.param not in ("inner_product_param", "convolution_param"):
                raise PlanError(f"the head '{head}' is of type {row.type}; takes InnerProduct or Convolution")
            getattr(layer, row.param).num_output = classes
            after_head = layer.top[0]
        elif layer.type == "ReLU" and after_head is not None and layer.bottom[0] == after_head:
            if layer.top[0] != after_head:
                renamed[layer.top[0]] = after_head
            continue
        elif layer.type == "Dropout" and dropout is not None:
            layer.dropout_param.dropout_ratio = dropout
        kept.append(type(layer).FromString(layer.SerializeToString()))
    del param.layer[:]
    param.layer.extend(kept)
    arrays = dict(net.arrays)
    if fresh:
        arrays.pop(head, None)
    net = rebuild(net, param, arrays)
    if fresh:
        random = np.random.RandomState(seed)
        shapes = [weight.shape for weight in net.layer(head).blobs()]
        values = [random.randn(*shape) * 0.01 if index == 0 else np.zeros(shape) for index, shape in enumerate(shapes)]
        net = replace(net, arrays={**arrays, head: tuple(np.asarray(value, np.float32) for value in values)})
    return net


def _cut(net, trained):
    """(base, top, frontier): the nodes that no trained layer reaches, and the others, as networks of their own."""
    inside, made = set(), {}
    for index, node in enumerate(net.nodes):
        made.update(dict.fromkeys(node.tops, index))
        if node.row.name in trained or any(made[bottom] in inside for bottom in node.bottoms):
            inside.add(index)
    # A Dropout just below must drop anew at every step, so it belongs to what is computed at every step.
    grown = True
    while grown:
        below = {made[b] for i in inside for b in net.nodes[i].bottoms} - inside
        grown = {i for i in below if net.nodes[i].row.type == "Dropout"}
        inside |= grown
    frontier = sorted({b for i in inside for b in net.nodes[i].bottoms if made[b] not in inside})
    if all(net.nodes[made[blob]].row.type == "Input" for blob in frontier):
        return None, net, tuple(net.inputs)
    last = {}
    for index, node in enumerate(net.nodes):
        if index not in inside:
            last.update(node.tops)
    if any(last[name] != version for name, version in frontier):
        return None, net, tuple(net.inputs)  # a blob that is changed in place later: train on the whole
    needed, wanted = set(), {made[blob] for blob in frontier}
    while wanted:
        needed |= wanted
        wanted = {made[b] for i in wanted for b in net.nodes[i].bottoms} - needed
    base = _part(net, sorted(needed), ())
    top = _part(net, sorted(inside), [name for name, _ in frontier])
    return base, top, tuple(name for name, _ in frontier)


def _part(net, places, inputs):
    param = NetParameter(name=net.name)
    for name in inputs:
        layer = param.layer.add(name=f"features {name}", type="Input", top=[name])
        layer.input_param.shape.add().dim.extend(net.blobs[name])
    param.layer.extend(net.nodes[place].row.proto for place in places)
    names = {net.nodes[place].row.name for place in places}
    return rebuild(net, param, {name: arrays for name, arrays in net.arrays.items() if name in names})
