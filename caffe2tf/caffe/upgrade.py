"""Networks of every age and purpose become one form: today's layers, as Caffe would run them for inference.

V0 and V1 records (Caffe's util/upgrade_proto.cpp), legacy inputs, phase rules (net.cpp, FilterNet), the Split layers
that Caffe inserts (util/insert_splits.cpp), data layers, losses. Nothing here knows shapes of layers or computes.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from caffe2tf.caffe import datalayers, legacy
from caffe2tf.caffe.caffe_pb2 import TEST, LayerParameter, NetParameter, NetState, NetStateRule, TransformationParameter
from caffe2tf.caffe.datalayers import UNKNOWN
from caffe2tf.caffe.read import Source
from caffe2tf.errors import NetError

_SINKS = ("Accuracy", "Silence", "HDF5Output", "DetectionEvaluate")
_BECOMES = {"SoftmaxWithLoss": "Softmax", "SigmoidCrossEntropyLoss": "Sigmoid"}


def upgrade(
    source: Source,
    learned: Callable[[str], bool],
    input_shapes: Mapping[str | None, Sequence[int]] | None = None,
    cut: Callable[[NetParameter], list[str]] | None = None,
) -> tuple[NetParameter, dict[str, TransformationParameter], list[str]]:
    """`source` (read.Source) as (NetParameter of today's layers for inference, {blob: transform_param}, notes).

    `learned` says of a type whether its layers have weights. `cut` leaves out of a NetParameter what is not wanted and returns
    notes; else what has no part in inference goes. An extent that nothing tells is UNKNOWN. `input_shapes` maps
    input blobs to shapes, N first, and wins over the file; the key None stands for the only input. Notes are lines for
    the user: what was dropped, what was assumed.
    """
    notes: list[str] = []
    net = NetParameter(name=source.net.name)
    net.layer.extend(_inputs(source.net))
    if source.net.layers:
        net.layer.extend(legacy.layers(source.net.layers))
    net.layer.extend(source.net.layer)
    for layer in net.layer:
        datalayers.move_transform(layer)
    _filter_phase(net, source.net.state, notes)
    _remove_splits(net)
    _losses(net, notes)
    transforms = datalayers.to_inputs(net, source.blobs, notes)
    inputs = _inputs_of(net)
    if cut is not None:
        notes += cut(net)
    else:
        _drop_unused(
            net, transforms.keys(), lambda layer: learned(layer.type) or bool(source.blobs.get(layer.name)), notes
        )
    shapes = dict(input_shapes or {})
    for name in [name for name in shapes if name in inputs and name not in _inputs_of(net)]:
        notes.append(f"the shape given for '{name}' has no effect: no layer that stays reads it")
        del shapes[name]
    _override_inputs(net, shapes)
    return (
        net,
        {
            layer.top[0]: transforms[layer.name]
            for layer in net.layer
            if layer.type == "Input" and layer.name in transforms
        },
        notes,
    )


def _inputs(net: NetParameter) -> Iterator[LayerParameter]:
    """`input`, `input_dim` and `input_shape` as Input layers."""
    if net.input_dim and len(net.input_dim) != 4 * len(net.input):
        raise NetError(f"{len(net.input_dim)} input_dim for {len(net.input)} inputs; Caffe takes four for each")
    if net.input_shape and len(net.input_shape) != len(net.input):
        raise NetError(f"{len(net.input_shape)} input_shape for {len(net.input)} inputs; Caffe takes one for each")
    for index, name in enumerate(net.input):
        layer = LayerParameter(name=name, type="Input", top=[name])
        dims = net.input_shape[index].dim if net.input_shape else net.input_dim[4 * index : 4 * index + 4]
        if not dims and not net.input_shape:
            dims = [1] + [UNKNOWN] * 3
        layer.input_param.shape.add().dim.extend(dims)
        yield layer


# ------------------------------------------------------------------------------------------------ phase, splits


def _meets(rule: NetStateRule, state: NetState) -> bool:
    if rule.HasField("phase") and rule.phase != TEST:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    return set(rule.stage) <= set(state.stage) and not set(rule.not_stage) & set(state.stage)


def _filter_phase(net: NetParameter, state: NetState, notes: list[str]) -> None:
    state = NetState(phase=TEST, level=0, stage=state.stage)  # Caffe's own tools set the level, whatever the text says
    kept: list[LayerParameter] = []
    dropped: list[LayerParameter] = []
    for layer in net.layer:
        if layer.include and layer.exclude:
            raise NetError(f"layer '{layer.name}' has both include and exclude rules; Caffe takes one kind")
        rules = layer.include or layer.exclude
        met = any(_meets(rule, state) for rule in rules)
        (kept if not rules or met == bool(layer.include) else dropped).append(layer)
    # A snapshot of the training phase holds only that phase's data layer: it is the input all the same.
    made = {top for layer in kept for top in layer.top}
    rescued = [layer for layer in dropped if datalayers.is_data(layer) and not made.intersection(layer.top)]
    notes.extend(
        f"layer '{layer.name}' ({layer.type}) belongs to training only: dropped"
        for layer in dropped
        if not datalayers.is_data(layer)
    )
    keep = {id(layer) for layer in kept + rescued}
    _keep(net, [layer for layer in net.layer if id(layer) in keep])
    for layer in net.layer:  # the rules have done their work: what is written out holds for every phase and stage
        layer.ClearField("include")
        layer.ClearField("exclude")


def _remove_splits(net: NetParameter) -> None:
    """Caffe's own Split layers `BLOB_LAYER_I_split` go, and their consumers read the blob again."""
    renamed: dict[str, str] = {}
    kept = []
    for layer in net.layer:
        layer_bottoms = [renamed.get(bottom, bottom) for bottom in layer.bottom]
        del layer.bottom[:]
        layer.bottom.extend(layer_bottoms)
        own = (
            layer.type == "Split"
            and len(layer.bottom) == 1
            and layer.name.endswith("_split")
            and list(layer.top) == [f"{layer.name}_{index}" for index in range(len(layer.top))]
        )
        if own:
            renamed.update(dict.fromkeys(layer.top, layer.bottom[0]))
        else:
            kept.append(layer)
    _keep(net, kept)


def _keep(net: NetParameter, layers: Iterable[LayerParameter]) -> None:
    layers = [LayerParameter.FromString(layer.SerializeToString()) for layer in layers]
    del net.layer[:]
    net.layer.extend(layers)


# ------------------------------------------------------------------------------------------------ losses


def _losses(net: NetParameter, notes: list[str]) -> None:
    """Losses become what they mean at inference, or sinks that `_drop_unused` takes away."""
    names = {layer.name for layer in net.layer} | {blob for layer in net.layer for blob in [*layer.top, *layer.bottom]}
    given = {layer.bottom[0] for layer in net.layer if layer.type in _BECOMES.values() and layer.bottom}
    losses = [layer for layer in net.layer if layer.type in _BECOMES and layer.bottom and layer.bottom[0] not in given]
    for layer in reversed(losses):
        old, top = layer.name, layer.top[1] if len(layer.top) > 1 else None
        kind = _BECOMES[layer.type]
        if "prob" not in names:
            layer.name = "prob"
            top = top or "prob"
            names.add("prob")
        notes.append(f"layer '{old}' ({layer.type}) is {kind} '{layer.name}' at inference")
        del layer.bottom[1:]
        top = top or (layer.top[0] if layer.top else layer.name)
        del layer.top[:]
        layer.top.append(top)
        layer.type = kind
        for name in ("loss_param", "loss_weight"):
            layer.ClearField(name)


def _is_sink(layer: LayerParameter) -> bool:
    return layer.type in _SINKS or layer.type.endswith("Loss")


def _drop_unused(
    net: NetParameter, data_layers: Collection[str], has_weights: Callable[[LayerParameter], bool], notes: list[str]
) -> None:
    """Sinks go, and with them what served them alone: labels and what is made of labels, and whatever is silenced.

    What a loss was computed from stays as an output (MTCNN's box regression), told by the weights it depends on.
    An explicit Input stays, even unused.
    """
    writer: dict[str, int] = {}  # blob -> index of its last writer
    sources: list[list[int]] = []  # of each layer: the writers of its bottoms
    readers: dict[tuple[int | None, str], set[int]] = {}  # (writer, blob) -> the layers that read it
    for index, layer in enumerate(net.layer):
        sources.append([writer[bottom] for bottom in layer.bottom if bottom in writer])
        for bottom in layer.bottom:
            readers.setdefault((writer.get(bottom), bottom), set()).add(index)
        writer.update(dict.fromkeys(layer.top, index))
    learned: set[int] = set()
    for index, layer in enumerate(net.layer):
        if has_weights(layer) or learned.intersection(sources[index]):
            learned.add(index)

    dropped: set[int] = set()
    silent: set[int] = set()
    for index in reversed(range(len(net.layer))):
        layer = net.layer[index]
        used = [readers.get((index, top), set()) for top in layer.top]
        if layer.type == "Input" and layer.name in data_layers:
            keep = [place for place, by in enumerate(used) if not by <= dropped]
            tops = [layer.top[place] for place in keep]
            shapes = [layer.input_param.shape[place] for place in keep]
            del layer.top[:], layer.input_param.shape[:]
            layer.top.extend(tops)
            layer.input_param.shape.extend(shapes)
            if keep:
                continue
        elif _is_sink(layer):
            silent.update({index} if layer.type == "Silence" else ())
        elif layer.type == "Input" or not layer.top or not all(used):
            continue
        elif all(by <= silent for by in used):
            silent.add(index)
        elif index in learned or not all(by <= dropped for by in used):
            continue
        dropped.add(index)
    for index in sorted(dropped):
        # A blob that stays has the value that was written to it last, be it for Silence alone.
        if set(net.layer[index].top) & set(net.layer[index].bottom) and dropped.isdisjoint(sources[index]):
            dropped.remove(index)
    notes.extend(
        f"layer '{net.layer[index].name}' ({net.layer[index].type}) has no part in inference: dropped"
        for index in sorted(dropped, reverse=True)
    )
    _keep(net, [layer for index, layer in enumerate(net.layer) if index not in dropped])


def _inputs_of(net: NetParameter) -> list[str]:
    return [top for layer in net.layer if layer.type == "Input" for top in layer.top]


def _override_inputs(net: NetParameter, given: Mapping[str | None, Sequence[int]]) -> None:
    tops = _inputs_of(net)
    shapes = dict(given)
    if None in shapes:
        if len(tops) != 1:
            raise NetError(
                f"`input_shape` without a name, but the inputs are {', '.join(tops) or 'none'}: write NAME=N,C,H,W"
            )
        shapes[tops[0]] = shapes.pop(None)
    for name in shapes:
        if name not in tops:
            raise NetError(f"`input_shape` names '{name}'; the inputs are {', '.join(tops) or 'none'}")
    for layer in net.layer:
        if layer.type != "Input" or not any(top in shapes for top in layer.top):
            continue
        told = [tuple(shape.dim) for shape in layer.input_param.shape] or [()]
        old = told * len(layer.top) if len(told) == 1 else told
        dims = [shapes.get(top, shape) for top, shape in zip(layer.top, old, strict=False)]
        del layer.input_param.shape[:]
        for shape in dims:
            layer.input_param.shape.add().dim.extend(shape)
