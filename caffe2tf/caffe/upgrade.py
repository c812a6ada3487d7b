"""Networks of every age and purpose become one form: today's layers, as Caffe would run them for inference.

V0 and V1 records (Caffe's util/upgrade_proto.cpp), legacy inputs, phase rules (net.cpp, FilterNet), the Split layers
that Caffe inserts (util/insert_splits.cpp), data layers, losses. Nothing here knows shapes of layers or computes.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from caffe2tf.caffe import datalayers, legacy, purposes
from caffe2tf.caffe.caffe_pb2 import TEST, LayerParameter, NetParameter, NetState, NetStateRule, TransformationParameter
from caffe2tf.caffe.datalayers import UNKNOWN
from caffe2tf.caffe.read import Source
from caffe2tf.errors import NetError


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
    net.layer.extend(_inputs(source.net, notes))
    net.layer.extend(_generations(source.net, notes))
    for layer in net.layer:
        datalayers.move_transform(layer)
    _filter_phase(net, source.net.state, notes)
    _remove_splits(net)
    _samples(net, notes)
    _losses(net, notes)
    transforms = datalayers.to_inputs(net, source.blobs, notes)
    inputs = datalayers.inputs_of(net)
    if cut is not None:
        notes += cut(net)
    else:
        _drop_unused(
            net, transforms.keys(), lambda layer: learned(layer.type) or bool(source.blobs.get(layer.name)), notes
        )
    shapes = dict(input_shapes or {})
    for name in [name for name in shapes if name in inputs and name not in datalayers.inputs_of(net)]:
        notes.append(f"the shape given for '{name}' has no effect: no layer that stays reads it")
        del shapes[name]
    datalayers.override_inputs(net, shapes)
    return (
        net,
        {
            layer.top[0]: transforms[layer.name]
            for layer in net.layer
            if layer.type == "Input" and layer.name in transforms
        },
        notes,
    )


def _generations(net: NetParameter, notes: list[str]) -> list[LayerParameter]:
    """The layers of every generation; where a text has both, those of today come first if the old ones read what they make."""
    old, new = legacy.layers(net.layers) if net.layers else [], list(net.layer)
    if not (old and new):
        return old or new
    notes.append(
        "the network has layers of two generations ('layers' and 'layer'): Caffe reads the old ones alone, here all are"
    )
    made = {top for layer in old for top in layer.top}.union(net.input)
    lacking = {bottom for layer in old for bottom in layer.bottom} - made
    return [*new, *old] if lacking & {top for layer in new for top in layer.top} else [*old, *new]


def _inputs(net: NetParameter, notes: list[str]) -> Iterator[LayerParameter]:
    """`input`, `input_dim` and `input_shape` as Input layers; one without a shape that a layer makes too is that layer's."""
    if net.input_dim and len(net.input_dim) != 4 * len(net.input):
        raise NetError(f"{len(net.input_dim)} input_dim for {len(net.input)} inputs; Caffe takes four for each")
    if net.input_shape and len(net.input_shape) != len(net.input):
        raise NetError(f"{len(net.input_shape)} input_shape for {len(net.input)} inputs; Caffe takes one for each")
    made = {top for layer in net.layer if layer.type == "Input" for top in layer.top}
    for index, name in enumerate(net.input):
        if name in made and not net.input_dim and not net.input_shape:
            notes.append(f"'input: \"{name}\"' has no shape: it is the layer's that makes it")
            continue
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
    # A network of the training phase holds only that phase's data layer: it is the input all the same, and samples of its
    # boxes are the boxes.
    made = {top for layer in kept for top in layer.top}
    read = {bottom for layer in kept for bottom in layer.bottom}
    rescued = []
    for layer in dropped:
        feeds = purposes.is_data(layer) or layer.type in ("DummyData", "Input")
        if (feeds and not made.intersection(layer.top)) or (purposes.draws(layer) and layer.top[0] in read - made):
            rescued.append(layer)
            made.update(layer.top)
        elif not feeds:
            notes.append(f"layer '{layer.name}' ({layer.type}) belongs to training only: dropped")
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


# ------------------------------------------------------------------------------------------------ samples, losses


def _samples(net: NetParameter, notes: list[str]) -> None:
    """Layers that draw samples of their bottom, or change it, in training alone give it on; what reads the labels of samples
    beside other bottoms reads those alone, and what is made of labels alone goes."""
    labels: set[str] = set()
    of_labels: set[int] = set()
    layers = list(net.layer)
    for layer in layers:
        if purposes.chooses(layer) and layer.bottom[0] not in labels:
            pairs = list(zip(layer.bottom, layer.top, strict=True))
            labels.update(top for bottom, top in pairs if bottom in labels)
            del layer.top[:]
            layer.top.extend(top for bottom, top in pairs if bottom not in labels)
        if labels.intersection(layer.bottom) and not purposes.is_sink(layer):
            kept = [bottom for bottom in layer.bottom if bottom not in labels]
            if not kept:
                notes.append(f"layer '{layer.name}' ({layer.type}) is made of labels: dropped")
                labels.update(layer.top)
                of_labels.add(id(layer))
            elif layer.bottom[0] not in labels:
                del layer.bottom[:]
                layer.bottom.extend(kept)
        if id(layer) not in of_labels:
            labels.difference_update(layer.top)
        if purposes.draws(layer):
            labels.update(layer.top[1:])
        elif not purposes.is_same(layer):
            continue
        notes.append(f"layer '{layer.name}' ({layer.type}) gives on '{layer.bottom[0]}' at inference")
        same = LayerParameter(name=layer.name, type="Dropout", bottom=layer.bottom[:1], top=layer.top[:1])
        same.dropout_param.dropout_ratio = 0
        layer.CopyFrom(same)
    if of_labels:
        _keep(net, [layer for layer in layers if id(layer) not in of_labels])


def _losses(net: NetParameter, notes: list[str]) -> None:
    """Losses become what they mean at inference, or sinks that `_drop_unused` takes away."""
    names = {layer.name for layer in net.layer} | {blob for layer in net.layer for blob in [*layer.top, *layer.bottom]}
    given = {layer.bottom[0] for layer in net.layer if layer.type in purposes.BECOMES.values() and layer.bottom}
    losses = [
        layer for layer in net.layer if layer.type in purposes.BECOMES and layer.bottom and layer.bottom[0] not in given
    ]
    for layer in reversed(losses):
        old, top = layer.name, layer.top[1] if len(layer.top) > 1 else None
        kind = purposes.BECOMES[layer.type]
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


def _drop_unused(
    net: NetParameter, data_layers: Collection[str], has_weights: Callable[[LayerParameter], bool], notes: list[str]
) -> None:
    """Sinks go, and with them what served them alone: labels and what is made of labels, and whatever is silenced.

    What a loss was computed from stays as an output (MTCNN's box regression), told by the weights it depends on, but not
    where it is mixed with a label (DetectNet's boxes, masked where there are none). An explicit Input stays, even unused.
    """
    writer: dict[str, int] = {}  # blob -> index of its last writer
    reads: list[list[tuple[int, str]]] = []  # of each layer: (writer, blob) of its bottoms
    sources: list[list[int]] = []  # of each layer: the writers of its bottoms
    readers: dict[tuple[int | None, str], set[int]] = {}  # (writer, blob) -> the layers that read it
    for index, layer in enumerate(net.layer):
        reads.append([(writer[bottom], bottom) for bottom in layer.bottom if bottom in writer])
        sources.append([index for index, _ in reads[-1]])
        for bottom in layer.bottom:
            readers.setdefault((writer.get(bottom), bottom), set()).add(index)
        writer.update(dict.fromkeys(layer.top, index))
    learned: set[int] = set()
    labels: set[tuple[int, str]] = (
        set()
    )  # (writer, blob) of what data layers give beside their first blob, and made of that
    for index, (layer, read) in enumerate(zip(net.layer, reads, strict=True)):
        if layer.type == "Input" and layer.name in data_layers:
            labels.update((index, top) for top in layer.top[1:])
        elif has_weights(layer):  # whatever it reads: a file may give the label first, as MTCNN's does
            learned.add(index)
        elif read and labels.issuperset(read):
            labels.update((index, top) for top in layer.top)
        elif labels.isdisjoint(read) and learned.intersection(sources[index]):
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
        elif purposes.is_sink(layer):
            silent.update({index} if layer.type == "Silence" else ())
        elif layer.type == "Input" or not layer.top or not all(used):
            continue
        elif all(by <= silent for by in used):
            silent.add(index)
        elif index in learned or not all(by <= dropped for by in used):
            continue
        dropped.add(index)
    lost = {index for index in dropped if purposes.is_sink(net.layer[index]) and net.layer[index].type != "Silence"}
    for index in range(len(net.layer)):
        if index not in dropped and lost.intersection(sources[index]):
            lost.add(index)
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
