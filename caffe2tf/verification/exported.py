"""A whole model as its file holds it, run itself: what `verify` judges of a .keras, a SavedModel, a .tflite or an .onnx."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe2tf import formats, loading
from caffe2tf.formats import _trained
from caffe2tf.keras_model.build import to_last
from caffe2tf.net.net import Net

_Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """`run` maps {input: array in Caffe's axis order} to the blobs that the file gives, in Caffe's order too; `digests` are those of
    the weights that it was made from, for a file that does not give them back."""

    file: str
    run: Callable[[_Arrays], dict[str, NDArray[np.float32]]]
    digests: Mapping[str, list[str]]


def opened(net: Net) -> Exported | None:
    """The whole model that `net` was read from, unchanged since; None where it is no such file. Raises ParseError for a model whose
    input is no picture, or that has several outputs and is no .keras."""
    if not net.files:
        return None
    file = net.files[-1]
    kind = loading.kind_of(file)
    if kind == "caffemodel" or not formats.runnable(kind) or _trained.found(file):
        return None
    digests = formats.noted(kind, file).get("weights_sha256", {})
    module = formats.module(kind)
    run = module.layers(file, net) if hasattr(module, "layers") else _of_output(net, kind, file)
    return Exported(file, run, digests)


def _of_output(net: Net, kind: str, file: str) -> Callable[[_Arrays], dict[str, NDArray[np.float32]]]:
    """The output alone: the layers of these files have no names of their own."""
    runner = formats.module(kind).runner(file)
    outputs = [blob for blob in net.outputs if not net.is_constant(blob)]
    producer = net.producers[outputs[0], net.last_versions[outputs[0]]].layer

    def run(inputs: _Arrays) -> dict[str, NDArray[np.float32]]:
        (given,) = inputs.values()
        return {outputs[0]: producer.caffe_top(np.asarray(runner.call(to_last(given)), np.float32))}

    return run
