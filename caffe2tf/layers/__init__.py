"""The layer table: one class per Caffe layer type, found by importing every module of this folder."""

import importlib
import pkgutil

from caffe2tf.layers.base import NO_EFFECT, Layer, Weight
from caffe2tf.layers.registry import REGISTRY, kind_of

__all__ = ["NO_EFFECT", "REGISTRY", "Layer", "Weight", "kind_of"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
