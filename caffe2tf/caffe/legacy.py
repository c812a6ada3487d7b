"""V0 and V1 layer records as today's layers (Caffe's util/upgrade_proto.cpp)."""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.message import Message

from caffe2tf.caffe import extra
from caffe2tf.caffe.caffe_pb2 import LayerParameter, V1LayerParameter
from caffe2tf.errors import NetError

# V1LayerParameter.LayerType -> type. Most are the enum's name in capitals; these are not.
_V1_NAMES = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col", "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH",
    # Forks' own, as a text may name them.
    "BN": "BN", "BATCHNORM": "BatchNorm", "ELU": "ELU", "LSTM": "LSTM", "PRELU": "PReLU", "RNN": "RNN",
    "ROI_POOLING": "ROIPooling", "ROIPOOLING": "ROIPooling", "SPP": "SPP",
}  # fmt: skip
# Forks' types that computed something else than the type of that name does today: the place that the first CROP cut from
# followed from all layers between its bottoms (longjon's crop_layer.cpp).
_V1_APART = ("CROP",)

# V0 type -> (type, {V0 field: (parameter message, field)}).
_V0_SHARED = {
    "num_output": "num_output",
    "biasterm": "bias_term",
    "weight_filler": "weight_filler",
    "bias_filler": "bias_filler",
}
_V0_WINDOW = {"pad": "pad", "kernelsize": "kernel_size", "stride": "stride"}
_V0_DATA = {"source": "source", "batchsize": "batch_size", "rand_skip": "rand_skip"}
_V0_TYPES: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "accuracy": ("Accuracy", None, {}),
    "bnll": ("BNLL", None, {}),
    "concat": ("Concat", "concat_param", {"concat_dim": "concat_dim"}),
    "conv": ("Convolution", "convolution_param", {**_V0_SHARED, **_V0_WINDOW, "group": "group"}),
    "data": ("Data", "data_param", _V0_DATA),
    "dropout": ("Dropout", "dropout_param", {"dropout_ratio": "dropout_ratio"}),
    "euclidean_loss": ("EuclideanLoss", None, {}),
    "flatten": ("Flatten", None, {}),
    "hdf5_data": ("HDF5Data", "hdf5_data_param", {"source": "source", "batchsize": "batch_size"}),
    "hdf5_output": ("HDF5Output", None, {}),
    "im2col": ("Im2col", "convolution_param", {**_V0_WINDOW}),
    "images": ("ImageData", "image_data_param", {**_V0_DATA, "new_height": "new_height", "new_width": "new_width"}),
    "infogain_loss": ("InfogainLoss", None, {}),
    "innerproduct": ("InnerProduct", "inner_product_param", _V0_SHARED),
    "lrn": ("LRN", "lrn_param", {"local_size": "local_size", "alpha": "alpha", "beta": "beta", "k": "k"}),
    "multinomial_logistic_loss": ("MultinomialLogisticLoss", None, {}),
    "pool": ("Pooling", "pooling_param", {**_V0_WINDOW, "pool": "pool"}),
    "relu": ("ReLU", None, {}),
    "sigmoid": ("Sigmoid", None, {}),
    "softmax": ("Softmax", None, {}),
    "softmax_loss": ("SoftmaxWithLoss", None, {}),
    "split": ("Split", None, {}),
    "tanh": ("TanH", None, {}),
    "window_data": ("WindowData", "window_data_param", {"source": "source", "batchsize": "batch_size"}),
}
_V0_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}


def layers(records: Iterable[V1LayerParameter]) -> list[LayerParameter]:
    """Today's layers from the `layers` of a V0 or V1 network; V0 records may stand among V1's."""
    upgraded = [_from_v0(record) if record.HasField("layer") else _from_v1(record) for record in records]
    return _merge_paddings(upgraded)


def _from_v1(v1: V1LayerParameter) -> LayerParameter:
    if not v1.HasField("type") and not v1.other_type:
        raise NetError(f"layer '{v1.name}' has no type")
    name = v1.other_type or V1LayerParameter.LayerType.Name(v1.type)
    if name == "NONE":
        raise NetError(f"layer '{v1.name}' has the type NONE, which Caffe cannot run")
    own = not name.isupper() or name in _V1_APART  # a type of today in a V1 layer
    layer = LayerParameter(name=v1.name, type=name if own else _V1_NAMES.get(name, name.title().replace("_", "")))
    same = LayerParameter.DESCRIPTOR.fields_by_name
    for field, value in v1.ListFields():
        if field.name in ("bottom", "top", "include", "exclude", "loss_weight"):
            getattr(layer, field.name).extend(value)
        elif field.message_type is not None and field.name in same and field.name != "blobs":
            getattr(layer, field.name).CopyFrom(value)
    for text in extra.texts(v1):
        extra.keep(layer, text)
    _param_specs(layer, v1.blobs_lr, v1.weight_decay, v1.param)
    return layer


def _from_v0(record: V1LayerParameter) -> LayerParameter:
    v0 = record.layer
    if v0.type == "padding":  # merged into the layer that reads it
        layer = LayerParameter(name=v0.name, type="padding")
        layer.convolution_param.pad.append(v0.pad)
    elif v0.type in _V0_TYPES:
        kind, param, fields = _V0_TYPES[v0.type]
        layer = LayerParameter(name=v0.name, type=kind)
        for old, new in fields.items():
            if param is not None and v0.HasField(old):
                _set(getattr(layer, param), new, getattr(v0, old))
        for old, new in _V0_TRANSFORM.items():
            if v0.HasField(old):
                _set(layer.transform_param, new, getattr(v0, old))
    else:
        raise NetError(f"layer '{v0.name}' has the V0 type '{v0.type}', which Caffe does not have")
    layer.bottom.extend(record.bottom)
    layer.top.extend(record.top)
    _param_specs(layer, v0.blobs_lr, v0.weight_decay, ())
    return layer


def _set(message: Message, name: str, value: Any) -> None:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        getattr(message, name).CopyFrom(value)
    elif field.is_repeated:
        getattr(message, name).append(value)
    else:
        setattr(message, name, value)


def _param_specs(layer: LayerParameter, rates: Sequence[float], decays: Sequence[float], names: Sequence[str]) -> None:
    for index in range(max(len(rates), len(decays), len(names))):
        spec = layer.param.add()
        if index < len(rates):
            spec.lr_mult = rates[index]
        if index < len(decays):
            spec.decay_mult = decays[index]
        if index < len(names) and names[index]:
            spec.name = names[index]


def _merge_paddings(layers: list[LayerParameter]) -> list[LayerParameter]:
    """V0's padding layers: their pad moves into the convolution or pooling that reads them."""
    paddings = {layer.top[0]: layer for layer in layers if layer.type == "padding"}
    for layer in layers:
        for index, bottom in enumerate(layer.bottom):
            if layer.type == "padding" or bottom not in paddings:
                continue
            padding = paddings[bottom]
            if layer.type not in ("Convolution", "Pooling"):
                raise NetError(
                    f"layer '{layer.name}' ({layer.type}) reads the padding layer '{padding.name}'; "
                    "only Convolution and Pooling can"
                )
            param = layer.convolution_param if layer.type == "Convolution" else layer.pooling_param
            _set(param, "pad", padding.convolution_param.pad[0])
            layer.bottom[index] = padding.bottom[0]
    return [layer for layer in layers if layer.type != "padding"]
