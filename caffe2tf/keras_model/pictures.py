"""A Net as a keras.Model that takes the picture itself: 8-bit RGB of any size in, probabilities of classes out.

What `images.preprocess` and `images.decode` do to a picture is said once more here in `keras.ops`, in integers where those
have them, so that both are equal bit for bit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe2tf import bundled, words
from caffe2tf.arrays.layout import OpenShape
from caffe2tf.errors import NetError
from caffe2tf.images.preprocess import Preprocessing, Size, of
from caffe2tf.keras_model.build import Build
from caffe2tf.keras_model.context import Context
from caffe2tf.keras_model.types import KerasModel, Tensor
from caffe2tf.net.names import free
from caffe2tf.net.net import Net

INPUT, OUTPUT = "pictures", "probabilities"
# Of red, green and blue in grey, in parts of 2 ** 14 and rounded: OpenCV's decoders (utils.cpp).
_GREY = (4899, 9617, 1868)


@dataclass(frozen=True)
class Pictures:
    """What a model that takes pictures knows beside its network: `how` they become input, and the `names` of its classes,
    a number for each where nothing names them."""

    how: Preprocessing
    names: tuple[str, ...]

    @property
    def size(self) -> Size:
        """The (height, width) that pictures are resized to."""
        assert self.how.resize is not None, "pictures() refuses a network of any size"
        return self.how.resize

    @property
    def outside(self) -> Preprocessing:
        """What is left to do to a picture before such a model: it need have its size, so that several make a batch, which
        the model's own resize then leaves as it is."""
        return Preprocessing(self.how.resize, order="RGB")


def pictures(net: Net, labels: Sequence[str] | None = None) -> Pictures:
    """The Pictures of `net`; `labels`: the names of its classes, else ImageNet's where there are 1000. Raises NetError where
    `net` has no single picture as its input or no single value for each class as its output, and for as many labels as it has
    no classes."""
    inputs = ", ".join(f"'{blob}' {words.shape(shape)}" for blob, shape in net.inputs.items()) or "none"
    shapes = list(net.inputs.values())
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (1, 3):
        raise NetError(
            f"the network '{net.name}' has the inputs {inputs}; `preprocessing` takes one picture, N x 3 x H x W or N x 1 x H x W"
        )
    outputs = [blob for blob in net.outputs if not net.is_constant(blob)]
    if len(outputs) != 1:
        raise NetError(
            f"the network '{net.name}' has the outputs {', '.join(outputs) or 'none'}; `preprocessing` takes one, chosen by `outputs`"
        )
    how, _ = of(net)
    assert how.method == "bilinear", "a network's own way; the other is a golden set's"
    if how.resize is None:
        raise NetError(
            f"the network '{net.name}' has the inputs {inputs}, any size, so nothing says which; give it with `input_shape`"
        )
    count = _classes(net, outputs[0])
    if labels is None:
        labels = bundled.classes() if count == 1000 else [str(number) for number in range(count)]
    names = tuple(" ".join(label.split()) for label in labels)
    if len(names) != count or not all(names):
        said = f"{len(names)} labels" if all(names) else "an empty label"
        raise NetError(f"{said} for {count} classes of '{outputs[0]}'; takes one line for each")
    return Pictures(how, names)


def _classes(net: Net, blob: str) -> int:
    shape = net.blobs[blob]
    count = math.prod(n or 0 for n in shape[1:])
    if len(shape) < 2 or not count or count != shape[1]:
        raise NetError(
            f"'{blob}' is {words.shape(shape)}; `preprocessing` takes an output with one value for each class, N x C"
        )
    return count


def to_keras(net: Net, given: Pictures, bounded: bool = False) -> KerasModel:
    """`net` as a keras.Model from `pictures`, uint8 (N, H, W, 3) RGB of any height and width, to probabilities (N, classes),
    as `classify` makes both. The layer of the input blob's name gives what the network itself takes.
    `bounded` is context.Context's."""
    walk = _Build(net, given.how, bounded)
    return walk.model(net.outputs)


class _Build(Build):
    """The walk with the picture's way before it and the softmax behind it."""

    def __init__(self, net: Net, how: Preprocessing, bounded: bool) -> None:
        self._how = how
        super().__init__(net, bounded=bounded)

    def _input(self, blob: str, shape: OpenShape) -> Tensor:
        batch = shape[0] if self.fixed_batch else None
        name = free(INPUT, self._taken)
        given = self.keras.Input(batch_shape=(batch, None, None, 3), dtype="uint8", name=name)
        self.starts.append(given)
        context = Context(self.keras, self.net.producers[blob, 0].layer, self.input_names[blob], self._taken)
        return context.finish([prepared(self.ops, given, self._how, self._bounded)], [given])[0]

    def _outputs(self, blobs: Sequence[str]) -> list[Tensor]:
        (tensor,) = super()._outputs(blobs)
        layer = self.net.producers[blobs[0], self.net.last_versions[blobs[0]]].layer
        context = Context(self.keras, layer, free(OUTPUT, self._taken), self._taken)
        return context.finish([probabilities(self.ops, self.net, tensor, self._bounded)], [tensor])


def probabilities(ops: Any, net: Net, output: Tensor, bounded: bool = False) -> Tensor:
    """`caffe2tf.probabilities`, for each item by itself, of the one `output` of `net`: (N, classes). Where `bounded` the layers say
    whether they are probabilities, and not their values: in 8 bits what chooses between two tensors gives both one range."""
    scores = ops.reshape(output, (-1, math.prod(output.shape[1:])))
    (blob,) = (blob for blob in net.outputs if not net.is_constant(blob))
    node = net.producers[blob, net.last_versions[blob]]
    while bounded and node.layer.type in ("Flatten", "Reshape", "Dropout"):
        node = net.producers[node.bottoms[0]]
    if node.layer.type == "Softmax" and node.layer.axis(node.layer.p.axis) == 1:
        return scores
    if bounded:
        return ops.softmax(scores, axis=-1)
    near = ops.less_equal(ops.absolute(ops.sum(scores, axis=1, keepdims=True) - 1.0), 1e-3)
    shares = ops.logical_and(near, ops.greater_equal(ops.min(scores, axis=1, keepdims=True), 0.0))
    return ops.where(shares, scores, ops.softmax(scores, axis=-1))


def prepared(ops: Any, images: Tensor, how: Preprocessing, bounded: bool = False) -> Tensor:
    """What `how.apply` makes of each of `images`, uint8 (N, H, W, 3) RGB: float32 (N, h, w, C); `bounded` as in `resized`."""
    if how.channels == 1:
        grey = ops.sum(ops.multiply(ops.cast(images, "int32"), np.array(_GREY, np.int32)), axis=-1, keepdims=True)
        images = ops.floor_divide(ops.add(grey, 1 << 13), 1 << 14)
    assert how.resize is not None, "pictures() refuses a network of any size"
    pixels, (height, width) = resized(ops, images, how.resize, bounded), how.resize
    mean = np.asarray(how.mean, np.float32)
    mean = mean.transpose(1, 2, 0) if mean.ndim == 3 else mean[None, None, :]
    if how.crop is not None:
        h, w = how.crop
        top, left = (height - h) // 2, (width - w) // 2
        pixels = pixels[:, top : top + h, left : left + w, :]
        if mean.shape[:2] == (height, width):
            mean = mean[top : top + h, left : left + w]
    if how.channels == 3 and how.order == "BGR":
        pixels = ops.flip(pixels, axis=-1)
    if bounded and np.array_equal(mean, np.rint(mean)):  # in 8 bits the picture and what is left of it have other steps
        pixels, mean = ops.subtract(pixels, mean[None].astype(np.int32)), np.zeros_like(mean)
    pixels = ops.cast(pixels, "float32")
    if np.any(mean):
        pixels = ops.subtract(pixels, np.ascontiguousarray(mean[None]))
    return pixels if how.scale == 1 else ops.multiply(pixels, np.float32(how.scale))


def resized(ops: Any, images: Tensor, size: Size, bounded: bool = False) -> Tensor:
    """`images.decode.resize` of each of `images`, integers (N, H, W, C), to `size` (height, width): int32 (N, h, w, C). Exact
    where a side has at most 2 ** 23 pixels divided by the new side's, which float32 counts without a gap; where `bounded`, which is
    Context's, within 1."""
    (rows, down), (columns, across) = (_places(ops, images, axis, size[axis - 1], bounded) for axis in (1, 2))
    lines = [ops.take(images, places, axis=1) for places in rows]
    parts = []
    for line, share in zip(lines, down, strict=True):
        near, far = (
            ops.multiply(ops.cast(ops.take(line, places, axis=2), "int32"), ops.reshape(weight, (1, 1, -1, 1)))
            for places, weight in zip(columns, across, strict=True)
        )
        wide = ops.floor_divide(ops.add(near, far), 1 << 4)
        parts.append(ops.floor_divide(ops.multiply(wide, ops.reshape(share, (1, -1, 1, 1))), 1 << 16))
    return ops.clip(ops.floor_divide(ops.add(ops.add(*parts), 2), 4), 0, 255)


def _places(ops: Any, images: Tensor, axis: int, out: int, bounded: bool) -> tuple[list[Tensor], list[Tensor]]:
    """((near, far) indices along `axis`, (near, far) weights of 2048) of each of `out` places; where `bounded` without a float,
    so that 8 bits have no part in them: weights are then the nearest, where float32 may give the next."""
    line = images[0, :, 0, 0] if axis == 1 else images[0, 0, :, 0]
    count = ops.sum(
        ops.ones_like(line, dtype="int32")
    )  # a symbolic tensor's shape is not known, how many ones it has is
    odd = 2 * np.arange(out, dtype=np.int32) + 1
    # 2048 times ((place + 0.5) * count / out - 0.5): one quotient is all that is not whole, and float32 rounds it as it does that
    # of the place itself.
    given, last = ops.subtract(ops.multiply(count, odd), out), ops.subtract(count, 1)
    if bounded:
        low = ops.floor_divide(given, 2 * out)
        rest = ops.subtract(given, ops.multiply(low, 2 * out))
        far = ops.floor_divide(ops.add(ops.multiply(rest, 2048), out), 2 * out)
    else:
        scaled = ops.divide(ops.cast(given, "float32"), np.float32(out / 1024))
        fixed = ops.cast(ops.round(scaled), "int32")
        low = ops.floor_divide(fixed, 2048)
        far = ops.subtract(fixed, ops.multiply(low, 2048))
    places = [ops.minimum(ops.maximum(ops.add(low, step), 0), last) for step in (0, 1)]
    return places, [ops.subtract(2048, far), far]
