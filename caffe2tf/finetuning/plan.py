"""Which layers train, where the frozen part ends, and what the loss is taken from."""

import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from caffe2tf.caffe.caffe_pb2 import FillerParameter, LayerParameter, NetParameter
from caffe2tf.errors import Caffe2TFError
from caffe2tf.finetuning.averaging import averaged_first, count
from caffe2tf.finetuning.specs import rests
from caffe2tf.net.fillers import fill
from caffe2tf.net.names import free
from caffe2tf.net.net import Net, rebuild

# A new head starts as Caffe's tutorials let it start, where the network does not say otherwise.
_HEAD_FILLER = FillerParameter(type="gaussian", std=0.01)
_Blob = tuple[str, int]  # name and version


class PlanError(Caffe2TFError):
    """A layer that cannot be trained, or a head that does not fit the classes."""


@dataclass(frozen=True)
class Plan:
    """`net`: all that leads to `logits`; `base`: its frozen part up to `frontier`, None where everything is computed at every step; `top`:
    the rest, whose inputs are the frontier's blobs; `trained`: the layers that change; `logits`: the blob that the loss is
    taken from."""

    net: Net
    head: str
    trained: tuple[str, ...]
    base: Net | None
    top: Net
    frontier: tuple[str, ...]
    logits: str

    @property
    def classes(self) -> int:
        return _classes(self.net, self.head)

    def uncached(self) -> "Plan":
        """The same with nothing computed beforehand."""
        return replace(self, base=None, top=self.net, frontier=tuple(self.net.inputs))


def _classes(net: Net, head: str) -> int:
    """How many classes the layer `head` gives."""
    count = net.layer(head).tops()[0][1]
    if count is None:
        raise PlanError(f"nothing tells how many classes the head '{head}' gives")
    return count


def with_head(
    net: Net, classes: int, head: str | None = None, seed: int = 0, filled: bool = False
) -> tuple[Net, str, bool]:
    """(`net` with a head for `classes` classes, the head's name, whether it starts fresh).

    The head is `head` or the last layer with weights. It is replaced where its outputs are not the classes, and starts
    from 0, or where it shall be `filled`, from its filler, else from gaussian of 0.01 and bias 0, as in Caffe's tutorials. A ReLU between a new head and the
    output is bypassed. Raises PlanError, NetError for a name that does not exist.
    """
    weighted = _weighted(net)
    head = head or weighted[-1]
    _check_name(net, head, weighted)
    _to_logits(net, head)
    if _classes(net, head) == classes:
        return net, head, False
    old = net.layer(head)
    if old.param not in ("inner_product_param", "convolution_param"):
        raise PlanError(f"the head '{head}' is of type {old.type}; takes InnerProduct or Convolution")
    param = _copy(net.param)
    kept, renamed, top = list[LayerParameter](), dict[str, str](), None
    for layer in param.layer:
        bottoms = [renamed.get(bottom, bottom) for bottom in layer.bottom]
        del layer.bottom[:]
        layer.bottom.extend(bottoms)
        if layer.name == head:
            getattr(layer, old.param).num_output = classes
            top = layer.top[0]
        elif layer.type == "ReLU" and top is not None and layer.bottom[0] == top:
            if layer.top[0] != top:
                renamed[layer.top[0]] = top
            continue
        kept.append(LayerParameter.FromString(layer.SerializeToString()))
    del param.layer[:]
    param.layer.extend(kept)
    arrays = {name: values for name, values in net.arrays.items() if name != head}
    net = rebuild(replace(net, chosen=tuple(renamed.get(name, name) for name in net.chosen)), param, arrays)
    fresh = fill(net.layer(head), np.random.RandomState(seed), _HEAD_FILLER)
    if not filled:  # by chance its first scores would be far apart where features are large
        fresh = tuple(np.zeros_like(array) for array in fresh)
    return replace(net, arrays={**arrays, head: fresh}), head, True


def make(
    net: Net,
    head: str,
    layers: Sequence[str],
    dropout: float | None = None,
    heeding: bool = False,
    as_said: bool = False,
) -> Plan:
    """The Plan to train `layers` (names and globs, or "all") of `net`. `dropout` replaces the ratio of the Dropout layers
    above the frozen part while training; below it they do not drop, nor where the head alone learns, unless `dropout` says it
    or all is `as_said` by the text. `heeding`: globs and "all" leave out layers whose lr_mult is 0, and none of them can be
    named. Raises PlanError, NetError for a name that does not exist."""
    weighted, (part, logits) = _weighted(net), _to_logits(net, head)
    inside, wanted = set(_weighted(part)), set[str]()
    resting = {name for name in weighted if heeding and rests(net.layer(name))}
    for pattern in layers:
        if pattern == "all" or any(c in pattern for c in "*?["):
            found = [name for name in weighted if pattern == "all" or fnmatch.fnmatchcase(name, pattern)]
            if not found:
                raise PlanError(f"`layers` {pattern} names no layer with weights; those are {', '.join(weighted)}")
            wanted.update(inside.intersection(found) - resting)
        else:
            _check_name(net, pattern, weighted)
            if pattern not in inside:
                raise PlanError(f"layer '{pattern}' has no part in the classes, which '{head}' gives")
            if pattern in resting:
                raise PlanError(f"layer '{pattern}' has lr_mult 0 in the network text; `lr_mult` off lets it learn")
            wanted.add(pattern)
    if not wanted:
        raise PlanError(f"`layers` {','.join(layers)} names no layer with a part in the classes, which '{head}' gives")
    trained = tuple(name for name in weighted if name in wanted)
    above = {node.layer.name for node in _cut(part, trained)[1].nodes if node.layer.type == "Dropout"}
    if dropout is not None and not above:
        raise PlanError(f"`dropout` {dropout:g}: there is no Dropout layer above what is frozen")
    # A ratio for learning all layers from a million pictures takes from a head what tells rare classes apart.
    alone = dropout is None and trained == (head,) and not as_said
    part = _with_ratios(part, above, 0.0 if alone else dropout)
    base, top, frontier = _cut(averaged_first(part, logits), trained)
    if base is None:
        top, frontier = part, tuple(part.inputs)
    return Plan(part, head, trained, base, top, frontier, logits)


def _with_ratios(net: Net, above: Collection[str], dropout: float | None) -> Net:
    param = _copy(net.param)
    for layer in param.layer:
        if layer.type == "Dropout" and layer.name not in above:
            layer.dropout_param.dropout_ratio = 0
        elif layer.type == "Dropout" and dropout is not None:
            layer.dropout_param.dropout_ratio = dropout
    return rebuild(net, param, net.arrays)


# What cannot be read as scores before a softmax.
_NO_SCORES = ("Sigmoid", "TanH", "ArgMax", "Threshold", "Softmax")


def _to_logits(net: Net, head: str) -> tuple[Net, str]:
    """(`net` up to the blob that the loss is taken from, that blob): the last output that `head` reaches, before its
    Softmax where it has one. Raises PlanError where that is no row of scores, one for each class of the head."""
    made, read = net.producers, net.consumers
    reached, outputs = set[_Blob](), list[_Blob]()
    for node in net.nodes:
        if node.layer.name == head or reached.intersection(node.bottoms):
            reached.update(blob for blob, _ in node.made())
            outputs += [top for top in node.tops if top not in read][:1]
    logits = at = outputs[-1]
    while made[at].layer.type in ("Softmax", "Flatten", "Reshape", "Split"):
        is_softmax, at = made[at].layer.type == "Softmax", made[at].bottoms[0]
        logits = at if is_softmax else logits
    source = made[logits]
    shape = dict(zip(source.tops, source.shapes, strict=True))[logits]
    classes = _classes(net, head)
    if source.layer.type in _NO_SCORES or count(shape[1:]) != classes:
        raise PlanError(
            f"the output '{outputs[-1][0]}' is of layer '{source.layer.name}' ({source.layer.type}), {list(shape[1:])} for a picture; "
            f"takes one score for each of the {classes} outputs of the head '{head}' (`head` names another)"
        )
    needed, wanted = set[str](), {logits}
    while wanted:
        nodes = {made[blob].layer.name: made[blob] for blob in wanted}
        needed.update(nodes)
        wanted = {bottom for node in nodes.values() for bottom in node.bottoms if made[bottom].layer.name not in needed}
    return net.part([node for node in net.nodes if node.layer.name in needed]), logits[0]


def finished(net: Net, head: str) -> Net:
    """`net`, which ends in the scores of `head`, ending in probabilities of shape (N, classes): its Softmax, or one named `prob`, behind a
    Flatten where the scores have places."""
    part, logits = _to_logits(net, head)
    classes = part.blobs[logits]
    tops = {(top, version) for node in part.nodes for top, version in node.tops}
    rest = [node for node in net.nodes if not tops.intersection(node.tops)]
    if [node.layer.type for node in rest] == ["Softmax"] and len(classes) == 2:
        return net
    param = _copy(part.param)
    names = {layer.name for layer in net.param.layer}
    if len(classes) > 2:
        flat = free("flat", names | set(net.blobs))
        param.layer.add(name=flat, type="Flatten", bottom=[logits], top=[flat])
        logits = flat
    old = next((node.layer.proto for node in rest if node.layer.type == "Softmax"), None)
    kept = {layer.name for layer in param.layer}
    name = old.name if old is not None and old.name not in kept else free("prob", kept | set(part.blobs))
    top = old.top[0] if old is not None and old.top[0] not in part.blobs else name
    param.layer.add(name=name, type="Softmax", bottom=[logits], top=[top])
    return rebuild(replace(net, chosen=()), param, {layer: net.arrays[layer] for layer in part.arrays})


def merged(net: Net, top: Net) -> Net:
    """`net` with the weights of `top`, a trained Plan.top."""
    return rebuild(net, net.param, {**net.arrays, **top.arrays})


def _copy(param: NetParameter) -> NetParameter:
    return NetParameter.FromString(param.SerializeToString())


def _weighted(net: Net) -> list[str]:
    weighted = [node.layer.name for node in net.nodes if node.layer.blobs()]
    if not weighted:
        raise PlanError(f"the network '{net.name}' has no layer with weights")
    return weighted


def _check_name(net: Net, name: str, weighted: Collection[str]) -> None:
    if name not in weighted:
        kind = net.layer(name).type  # a NetError with the nearest names where it does not exist
        raise PlanError(f"layer '{name}' ({kind}) has no weights to train; those that have: {', '.join(weighted)}")


def _cut(net: Net, trained: Collection[str]) -> tuple[Net | None, Net, tuple[str, ...]]:
    """(base, top, frontier): the nodes that no trained layer reaches, and the others, as networks of their own."""
    inside, made = set[int](), dict[_Blob, int]()
    for index, node in enumerate(net.nodes):
        made.update((blob, index) for blob, _ in node.made())
        if node.layer.name in trained or any(made[bottom] in inside for bottom in node.bottoms):
            inside.add(index)
    # A Dropout just below must drop anew at every step, so it belongs to what is computed at every step.
    grown = set(inside)
    while grown:
        below = {made[b] for i in inside for b in net.nodes[i].bottoms} - inside
        grown = {i for i in below if net.nodes[i].layer.type == "Dropout" and net.nodes[i].layer.p.dropout_ratio}
        inside |= grown
    frontier = sorted({b for i in inside for b in net.nodes[i].bottoms if made[b] not in inside})
    if all(net.nodes[made[blob]].layer.type == "Input" for blob in frontier):
        return None, net, tuple(net.inputs)
    last: dict[str, int] = {}
    for index, node in enumerate(net.nodes):
        if index not in inside:
            last.update(blob for blob, _ in node.made())
    if any(last[name] != version for name, version in frontier):
        return None, net, tuple(net.inputs)  # a blob that is changed in place later: train on the whole
    needed, wanted = set[int](), {made[blob] for blob in frontier}
    while wanted:
        needed |= wanted
        wanted = {made[b] for i in wanted for b in net.nodes[i].bottoms} - needed
    base = net.part([net.nodes[place] for place in sorted(needed)])
    top = net.part([net.nodes[place] for place in sorted(inside)], [name for name, _ in frontier])
    return base, top, tuple(name for name, _ in frontier)
