"""The types that a layer's methods speak of."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Protocol

from caffe2tf.arrays.layout import Array, Floats, Shaped
from caffe2tf.caffe.caffe_pb2 import LayerParameter

Tensor = Any  # of the graph or of the backend: Keras has no types
KerasLayer = Any
Extent = int | Fraction
Field = list[tuple[Extent, Extent]]  # a receptive field: (pixels, step) of each spatial axis
Fields = Sequence[Field | None]
Mistake = tuple[str, Callable[[LayerParameter, dict[str, Array]], None]]


class HasOps(Protocol):
    """Where `keras.ops` is at hand."""

    @property
    def ops(self) -> Any: ...


class Context(HasOps, Protocol):
    """What a layer's `build` is given: Keras, the layer's name there, and what notes which variable holds which weight.
    `keras_model.context.Context` says what each does."""

    @property
    def keras(self) -> Any: ...
    @property
    def layers(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def bounded(self) -> bool: ...
    def is_symbolic(self, x: Tensor) -> bool: ...
    def whole(self, x: Tensor) -> Tensor: ...
    def part(self, *words: object) -> str: ...
    def bind(self, layer: KerasLayer, part: Any = None, turn: Any = None, **variables: str) -> KerasLayer: ...
    def held(self, x: Tensor, weight: str) -> Tensor: ...
    def row(self, x: Tensor, weight: str) -> Tensor: ...


class StoredBlob(Shaped, Protocol):
    """A blob as a file holds it (caffe.read.Blob)."""

    @property
    def legacy(self) -> bool: ...
    def array(self) -> Floats: ...
