"""The layer table: one class per Caffe layer type, found by importing every module of this folder."""

import importlib
import pkgutil

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import NO_EFFECT, REGISTRY, Layer, Weight

__all__ = ["NO_EFFECT", "REGISTRY", "Layer", "Weight", "kind_of"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def kind_of(proto: LayerParameter) -> type[Layer] | None:
    """The class of a layer by its type, or by the module and layer that it names where that is Python; None where none is."""
    kind, python = proto.type, proto.python_param
    return REGISTRY.get(f"{python.module}.{python.layer}" if kind == "Python" else kind)
