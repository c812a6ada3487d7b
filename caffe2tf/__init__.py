"""caffe2tf brings any Caffe network to TensorFlow 2 / Keras 3 and proves that it is still the same network.

>>> net = caffe2tf.load("deploy.prototxt", "net.caffemodel")
>>> print(net)
>>> net.weights["conv2"]["kernel"]
>>> caffe2tf.save(net, "net.h5")
>>> model = caffe2tf.to_keras(net)

Importing this package loads neither TensorFlow nor Keras. `__init__.pyi` says the same names with their types.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load": "loading",
    "save": "formats",
    "to_keras": "keras_model.model",
    "from_keras": "keras_model.model",
    "forward": "keras_model.model",
    "fold": "net.folding",
    "plugin": "plugins",
    "inspect": "inspection.summary",
    "diff": "inspection.difference",
    "verify": "verification.verify",
    "classify": "classification.classifier",
    "finetune": "finetuning.finetune",
    "features": "finetuning.tables",
    "visualize": "drawing.visualize",
    "download": "samples.download",
    "sample": "samples.sample",
    "Net": "net.net",
    "Caffe2TFError": "errors",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'caffe2tf' has no attribute '{name}'")
    return getattr(importlib.import_module(f"caffe2tf.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
