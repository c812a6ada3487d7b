"""The state of one build: what a layer's `build` is given, and what it leaves behind. No layer keeps any of it."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from caffe2tf.arrays.layout import Array
from caffe2tf.keras_model.types import KerasLayer, Tensor
from caffe2tf.layers import Layer
from caffe2tf.net.names import free


@dataclass(frozen=True)
class Binding:
    """A variable of a stock layer that holds a weight: `part` indexes the array in Keras's layout (one group of a
    convolution), `turn` is its own inverse."""

    layer: KerasLayer
    attribute: str
    weight: str
    part: Any = None
    turn: Callable[[Array], Array] | None = None

    @property
    def variable(self) -> Any:
        return getattr(self.layer, self.attribute)


class Context:
    """One Caffe layer on its way into a Keras graph.

    `ops` and `layers` are Keras's; `name` is the layer's in the model. What `build` makes last becomes the Keras layer of
    that name; `part` names what comes before it. `taken` holds the names of the whole model. `bounded`: no value may lie beyond
    those that the blobs have, since the model will compute in 8 bits between the least and the largest that it sees.
    """

    def __init__(self, keras: Any, layer: Layer, name: str, taken: set[str], bounded: bool = False) -> None:
        self.keras, self.ops, self.layers, self.bounded = keras, keras.ops, keras.layers, bounded
        self.layer, self.name, self._taken = layer, name, taken
        self.bindings: list[Binding] = []
        self._zero: Tensor = None

    @property
    def backend(self) -> str:
        return str(self.keras.backend.backend())

    def is_symbolic(self, x: Tensor) -> bool:
        """Whether `x` depends on an input; a constant is a tensor of the backend."""
        return isinstance(x, self.keras.KerasTensor)

    def whole(self, x: Tensor) -> Tensor:
        """`x` in float32 where it is of half precision."""
        return self.ops.cast(x, "float32") if x.dtype in ("float16", "bfloat16") else x

    def part(self, *words: object) -> str:
        """A name for a Keras layer before the last: `conv2_1`, free in the whole model."""
        return free("_".join([self.name, *map(str, words)]), self._taken)

    def bind(
        self,
        layer: KerasLayer,
        part: Any = None,
        turn: Callable[[Array], Array] | None = None,
        **variables: str,
    ) -> KerasLayer:
        """Notes that variables of a stock layer hold this layer's weights, bind(dense, kernel="kernel"); gives it back."""
        self.bindings += (Binding(layer, variable, weight, part, turn) for variable, weight in variables.items())
        return layer

    def held(self, x: Tensor, weight: str) -> Tensor:
        """The weight as a tensor of its Keras shape, trainable and saved: the one row of a stock Embedding. `x` is any
        tensor of the graph, since Keras has no layer without an input."""
        return self.ops.reshape(self.row(x, weight), self.layer.weight_shapes()[weight])

    def row(self, x: Tensor, weight: str) -> Tensor:
        """`held` as (1, values)."""
        count = max(1, math.prod(self.layer.weight_shapes()[weight]))
        table = self.layers.Embedding(1, count, name=self.part(weight), embeddings_initializer="zeros")
        if self._zero is None:
            first = self.ops.reshape(x, (-1,))[(slice(0, 1),)]  # Keras slices no other way at every rank
            self._zero = self.ops.zeros_like(first, dtype="int32")
        return self.bind(table, embeddings=weight)(self._zero)

    def finish(self, tops: list[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
        """The tops of `build`, named: `tops` in a list, made from the tensors `given`.

        The last operation bears the layer's name alone where it is a Keras layer that was given it; else the identity
        does, so that `model.get_layer(name).output` is Caffe's blob (a list of them where there are several tops).
        """
        last = tops[0]._keras_history.operation if self.is_symbolic(tops[0]) else None
        named = len(tops) == 1 and last is not None and last.name == self.name and id(tops[0]) not in map(id, given)
        for operation in self._between(tops, given):
            if operation is last and named:
                continue
            if operation.name == self.name or not isinstance(operation, self.keras.Layer):
                word = re.sub(r"_\d+$", "", operation.name) if operation.name != self.name else "inner"
                operation.name = self.part(word)
        if named:
            return tops
        same = self.layers.Identity(name=self.name)(tops if len(tops) > 1 else tops[0])
        return list(same) if isinstance(same, (list, tuple)) else [same]

    def _between(self, tops: Iterable[Tensor], given: Iterable[Tensor]) -> Iterable[Any]:
        """The operations that lead from `given` to `tops`."""
        seen, found, todo = {id(tensor) for tensor in given}, {}, list(tops)
        while todo:
            tensor = todo.pop()
            if id(tensor) in seen or not self.is_symbolic(tensor):
                continue
            seen.add(id(tensor))
            history = tensor._keras_history
            found[id(history.operation)] = history.operation
            todo += history.operation._inbound_nodes[history.node_index].input_tensors
        return found.values()
