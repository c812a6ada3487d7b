"""Data layers as the inputs that they are at inference, with as much of their shape as file and weights tell."""

import math
from collections.abc import Mapping, Sequence

from caffe2tf.arrays.layout import Shaped
from caffe2tf.caffe import purposes
from caffe2tf.caffe.caffe_pb2 import LayerParameter, NetParameter, TransformationParameter
from caffe2tf.errors import NetError

_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")

UNKNOWN = -1  # an extent of an Input that the file does not tell


def move_transform(layer: LayerParameter) -> None:
    """Data layers once held scale, mean_file, crop_size and mirror themselves (UpgradeNetDataTransformation)."""
    param = purposes.DATA.get(layer.type)
    if param is None or not layer.HasField(param):
        return
    data = getattr(layer, param)
    for name in _TRANSFORM_FIELDS:
        if name in data.DESCRIPTOR.fields_by_name and data.HasField(name):
            setattr(layer.transform_param, name, getattr(data, name))
            data.ClearField(name)


def to_inputs(
    net: NetParameter, blobs: Mapping[str, Sequence[Shaped]], notes: list[str]
) -> dict[str, TransformationParameter]:
    """Data layers become Inputs; returns the transform_param of each by layer name."""
    transforms: dict[str, TransformationParameter] = {}
    for layer in net.layer:
        if not (purposes.is_data(layer) or _is_chance(layer)) or not layer.top:
            continue
        put = LayerParameter(name=layer.name, type="Input", top=layer.top)
        for top in layer.top:
            put.input_param.shape.add().dim.extend(_data_shape(layer, top, net, blobs, notes))
        transforms[layer.name] = type(layer.transform_param).FromString(layer.transform_param.SerializeToString())
        notes.append(f"layer '{layer.name}' ({layer.type}) is an input at inference")
        layer.CopyFrom(put)
    return transforms


def _is_chance(layer: LayerParameter) -> bool:
    """Whether it is a DummyData that draws a blob by chance, which says of the values that any will do."""
    return layer.type == "DummyData" and any(filler.type != "constant" for filler in layer.dummy_data_param.data_filler)


def _dummy_shape(layer: LayerParameter, index: int) -> list[int]:
    """The shape that a DummyData gives its top number `index`, empty where it tells none."""
    dummy = layer.dummy_data_param
    if dummy.shape:
        return list(dummy.shape[index if len(dummy.shape) > index else 0].dim)
    four = (dummy.num, dummy.channels, dummy.height, dummy.width)
    return [extents[index if len(extents) > index else 0] for extents in four] if all(four) else []


def _data_shape(
    layer: LayerParameter, top: str, net: NetParameter, blobs: Mapping[str, Sequence[Shaped]], notes: list[str]
) -> list[int]:
    """(1, C, H, W) as far as the data layer and the weights of its first reader tell."""
    transform, images = layer.transform_param, layer.image_data_param
    if layer.type == "DummyData" and (dummy := _dummy_shape(layer, list(layer.top).index(top))):
        return dummy
    if layer.type == "MemoryData":
        memory = layer.memory_data_param
        return [1, memory.channels, transform.crop_size or memory.height, transform.crop_size or memory.width]
    height = transform.crop_h or transform.crop_size
    width = transform.crop_w or transform.crop_size
    if not height and layer.HasField("image_data_param"):
        height, width = images.new_height, images.new_width
    if not height and transform.HasField("resize_param"):
        height, width = transform.resize_param.height, transform.resize_param.width
    channels = len(transform.mean_value) if len(transform.mean_value) > 1 else UNKNOWN
    if transform.force_color:
        channels = 3
    elif transform.force_gray or (layer.HasField("image_data_param") and not images.is_color):
        channels = 1
    channels, flat = _first_weights(net, top, blobs, channels)
    if flat and not height:
        notes.append(
            f"input '{top}' is taken as flat vectors of {flat}, since nothing tells its shape; `input_shape` does"
        )
        return [1, flat]
    return [1, channels, height or UNKNOWN, width or UNKNOWN]


def _first_weights(
    net: NetParameter, blob: str, blobs: Mapping[str, Sequence[Shaped]], channels: int
) -> tuple[int, int | None]:
    """(channels of `blob`, None), or (channels, length) where an InnerProduct reads it: from its first reader's weights."""
    for layer in net.layer:
        if blob not in layer.bottom:
            continue
        found = blobs.get(layer.name)
        if found and layer.type == "Convolution":
            return found[0].shape[1] * max(1, layer.convolution_param.group), None
        if found and layer.type in ("BatchNorm", "Scale", "PReLU"):
            return math.prod(found[0].shape), None
        if found and layer.type == "InnerProduct":
            count = math.prod(found[0].shape) // max(1, layer.inner_product_param.num_output)
            return channels, count
        if not found and layer.top and layer.type in ("Power", "Dropout", "Split", "LRN", "Pooling"):
            known, flat = (
                _first_weights(net, layer.top[0], blobs, channels) if layer.top[0] != blob else (channels, None)
            )
            if known != UNKNOWN and flat is None:
                return known, None
    return channels, None


def inputs_of(net: NetParameter) -> list[str]:
    """The blobs that Input layers make."""
    return [top for layer in net.layer if layer.type == "Input" for top in layer.top]


def override_inputs(net: NetParameter, given: Mapping[str | None, Sequence[int]]) -> None:
    """Gives inputs these shapes, None being the only input. Raises NetError for a name that no input has."""
    tops = inputs_of(net)
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
