"""What of Keras is handed around: Keras has no types, so these names say what is meant and check nothing."""

from typing import Any

from caffe2tf.layers.types import KerasLayer, Tensor

__all__ = ["KerasLayer", "KerasModel", "Tensor"]

KerasModel = Any
