"""One walk over a Net's nodes, which leaves a tensor of a flat Keras graph for every blob."""

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from caffe2tf.arrays.layout import Array, Floats, OpenShape, Shape, caffe_order, is_spatial, keras_order
from caffe2tf.errors import NetError, WeightMismatch
from caffe2tf.keras_model.context import Binding, Context
from caffe2tf.keras_model.depth import deep
from caffe2tf.keras_model.types import KerasModel, Tensor
from caffe2tf.layers import Layer
from caffe2tf.net.names import free, input_names, keras_names, plain
from caffe2tf.net.net import Net
from caffe2tf.net.wiring import Blob, Node

# Sizes that a network free in height and width is tried at, beside its own.
_OTHER_SIZES = ((67, 69), (128, 160))


def to_last(array: Array) -> Array:
    return np.asarray(array.transpose(keras_order(array.ndim)), order="C")


class Build:
    """One walk over the nodes: a tensor (or a constant) for every version of every blob, and which variables hold which
    weights, `bindings` {layer: [context.Binding]}. `empty` leaves the variables as they are; `part` (nodes, {blob: shape}) walks
    some nodes alone, from blobs that are given; `bounded` is Context's."""

    def __init__(
        self,
        net: Net,
        empty: bool = False,
        part: tuple[Sequence[Node], Mapping[Blob, Shape]] | None = None,
        bounded: bool = False,
    ) -> None:
        import keras

        self.keras, self.net, self.empty, self._bounded = keras, net, empty, bounded
        self.names, self.input_names = keras_names(net), input_names(net)
        self._taken = {*self.names.values(), *self.input_names.values()}
        self.bindings: dict[str, list[Binding]] = {}
        self.tensors: dict[Blob, Tensor] = {}
        self.values: dict[Blob, Array] = {}
        self._varying = net.varying
        self._counted = any(node.layer.counts_items for node in net.nodes)
        self.fixed_batch = [node.layer.name for node in net.nodes if node.layer.fixes_batch()]
        self.free_size = part is None and _free_size(net)
        self.starts: list[Tensor] = []
        self.nodes: Sequence[Node] = net.nodes if part is None else part[0]
        if part is not None:
            wired = {blob: shape for node in net.nodes for blob, shape in node.made()}
            for index, (blob, shape) in enumerate(part[1].items()):
                # What a Filter left of a blob is another count than the wiring's.
                inner = [shape[a] if shape[a] == wired[blob][a] else None for a in keras_order(len(shape))]
                self.tensors[blob] = self.keras.Input(batch_shape=inner, name=free(f"given_{index}", self._taken))
                self.starts.append(self.tensors[blob])
            for node in part[0]:
                self._add(node)
            return
        if net.unknown_size and not self.free_size:
            raise NetError(
                f"the files do not tell the size of {', '.join(net.unknown_size)}, which this network needs; "
                "give it with `input_shape`"
            )
        with _uncollected():
            for node in net.nodes:
                self._add(node)

    @property
    def constants(self) -> dict[str, Array]:
        """{blob: array in Caffe's order} of the blobs that depend on no input."""
        return {key[0]: self.values[key] for key in self.net.last_versions.items() if key in self.values}

    def _add(self, node: Node) -> None:
        layer = node.layer
        if layer.type == "Input":
            for top, shape in zip(node.tops, node.shapes, strict=True):
                self.tensors[top] = self._input(top[0], shape)
            return
        constant = layer.constant(self._arrays(layer) if not layer.bottoms else ())
        layer.check(*(self.values.get(bottom) for bottom in node.bottoms))
        known = all(node.bottoms[index] in self.values for index in layer.value_bottoms())
        if constant is None and known and not self._varying.intersection(node.tops):
            constant = self._computed(node)
        if constant is not None:
            self.values.update(zip(node.tops, constant, strict=True))
            for index, echo, shape in node.echoes:
                self.values[echo] = constant[index].reshape([-1 if n is None else n for n in shape])
            return
        given = self._all_given(node)
        self._settled(layer, given)
        tops = self._layer(layer, given)
        self.tensors.update(zip(node.tops, tops, strict=True))
        for index, echo, shape in node.echoes:
            if shape == node.shapes[index]:  # where height and width are free, shapes of one memory are the same
                self.tensors[echo] = tops[index]
                continue
            extents = self._extents((echo[0], echo[1] - 1), shape)
            self.tensors[echo] = layer.reshape(self, tops[index], extents, free_first=not self.fixed_batch)

    def _settled(self, layer: Layer, given: Sequence[Tensor]) -> None:
        """Refuses windows over an extent that only a run of the model tells, the items of a Filter that were moved there: Caffe
        places them anew for each count."""
        if layer.windows_from is None or not self._counted:
            return
        for x in given:
            if None in [x.shape[axis] for axis in caffe_order(len(x.shape))][layer.windows_from :]:
                layer.fail("has windows over what a Filter before it counts; takes an extent that does not vary")

    def _extents(self, blob: Blob, shape: OpenShape) -> list[int]:
        """`shape` as ops.reshape takes it; -1 for the extent that only a run of the model tells."""
        known = self._given(blob).shape
        if list(known).count(None) == 1:
            shape = tuple(known[axis] for axis in caffe_order(len(known)))
        return [-1 if n is None else n for n in shape]

    def _arrays(self, layer: Layer) -> tuple[Floats, ...]:
        """Caffe's arrays of a layer's weights."""
        if layer.name in self.net.arrays:
            return self.net.arrays[layer.name]
        if self.empty or not layer.blobs():
            return tuple(np.zeros(weight.shape, np.float32) for weight in layer.blobs())
        raise WeightMismatch(f"layer '{layer.name}' ({layer.type}): {self.net.lacking}")

    @property
    def ops(self) -> Any:
        return self.keras.ops

    def _input(self, blob: str, shape: OpenShape) -> Tensor:
        inner = [shape[axis] for axis in keras_order(len(shape))]
        if self.free_size and is_spatial(len(shape)):
            inner[1:-1] = [None] * (len(inner) - 2)
        if inner and not self.fixed_batch:
            inner[0] = None
        return self.keras.Input(batch_shape=inner, name=self.input_names[blob])

    def _given(self, bottom: Blob) -> Tensor:
        if bottom in self.tensors:
            return self.tensors[bottom]
        return self.ops.convert_to_tensor(to_last(self.values[bottom]))

    def _all_given(self, node: Node) -> list[Tensor]:
        """The bottoms' tensors. Constants among others join the graph: Keras's layers take no plain tensor beside a symbolic
        one, and what they make of one they make at once, before they have their weights."""
        given = [self._given(bottom) for bottom in node.bottoms]
        if any(bottom not in self.tensors for bottom in node.bottoms):
            some = next(self.tensors[bottom] for bottom in node.bottoms if bottom in self.tensors)
            zero = self.ops.zeros_like(self.ops.reshape(some, (-1,))[(slice(0, 1),)])
            for index, bottom in enumerate(node.bottoms):
                if bottom not in self.tensors:
                    given[index] = self.ops.add(given[index], self.ops.reshape(zero, (1,) * len(given[index].shape)))
        return given

    def _layer(self, layer: Layer, given: Sequence[Tensor]) -> list[Tensor]:
        ctx = Context(self.keras, layer, self.names[layer.name], self._taken, self._bounded)
        tops = layer.build(ctx, *given)
        tops = ctx.finish(list(tops) if isinstance(tops, (list, tuple)) else [tops], given)
        self._assign(layer, ctx.bindings)
        return tops

    def _computed(self, node: Node) -> list[Array]:
        """The tops, arrays in Caffe's order, of a layer whose bottoms are all constant."""
        layer, given = node.layer, [self._given(bottom) for bottom in node.bottoms]
        if layer.blobs():
            # Its weights get their values only after it was built.
            held = [self.keras.Input(batch_shape=tensor.shape) for tensor in given]
            tops = self.keras.Model(held, self._layer(layer, held))(given)
        else:
            tops = layer.build(Context(self.keras, layer, self.names[layer.name], self._taken), *given)
        tops = tops if isinstance(tops, (list, tuple)) else [tops]
        return [layer.caffe_top(to_numpy(top)) for top in tops]

    def _assign(self, layer: Layer, bindings: list[Binding]) -> None:
        if not bindings:
            return
        self.bindings[layer.name] = bindings
        if self.empty:
            return
        weights = layer.weights(self._arrays(layer))
        for binding in bindings:
            value = weights[binding.weight] if binding.part is None else weights[binding.weight][binding.part]
            value = binding.turn(value) if binding.turn else value
            binding.variable.assign(np.ascontiguousarray(value).reshape(binding.variable.shape))

    def _inputs(self) -> list[Tensor]:
        return self.starts or [self.tensors[blob, 0] for blob in self.net.inputs]

    def _outputs(self, blobs: Sequence[str]) -> list[Tensor]:
        last = self.net.last_versions
        return [self.tensors[blob, last[blob]] for blob in blobs]

    def model(self, blobs: Sequence[str]) -> KerasModel:
        inputs, constants = self._inputs(), self.constants
        outputs = self._outputs([blob for blob in blobs if blob not in constants])
        if not inputs or not outputs:
            raise NetError("the network computes nothing from an input, so it is no model; `forward` gives its blobs")
        with deep(len(self.net.nodes)):
            return self.keras.Model(
                inputs if len(inputs) > 1 else inputs[0],
                outputs if len(outputs) > 1 else outputs[0],
                name=plain(self.net.name or "net"),
            )

    def function(self, versions: Sequence[Blob]) -> Callable[[Sequence[Array]], list[Array]]:
        """A function from a list of inputs to a list of arrays, one for each of `versions`, (blob, version)."""
        outputs = [self.tensors[version] for version in versions]
        with deep(len(self.net.nodes)):
            model = self.keras.Model(self._inputs(), outputs)

        call = caller(model, self.nodes)

        def run(values: Sequence[Array]) -> list[Array]:
            found = call(list(values))
            found = found if isinstance(found, (list, tuple)) else [found]
            return [to_numpy(value) for value in found]

        return run


def caller(model: KerasModel, nodes: Iterable[Node]) -> Callable[[Any], Any]:
    """`model`, of the layers `nodes`, as a function of its input or the list of them. Where a layer loops, TensorFlow runs all of
    it as one graph: JAX compiles a loop by itself, and PyTorch none."""
    import keras

    if keras.backend.backend() == "tensorflow" and any(node.layer.loops for node in nodes):
        model.jit_compile = False  # XLA takes no count that is known at run time
        return lambda inputs: model.predict_on_batch(inputs)
    return lambda inputs: model(keras.tree.map_structure(keras.ops.convert_to_tensor, inputs), training=False)


def output_shapes(model: KerasModel, shape: Sequence[int]) -> list[tuple[int | None, ...]]:
    """The shapes of what `model` makes of an input of `shape`, None what only its values tell."""
    import keras

    found = model.compute_output_spec(keras.KerasTensor(shape))
    return [tuple(one.shape) for one in (found if isinstance(found, (list, tuple)) else [found])]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's collector of cycles: a walk makes objects by the hundred thousand that all stay, and the collector would
    go through every one of them several times (a tenth of the time)."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _free_size(net: Net) -> bool:
    """Whether every layer takes any height and width, and the weights stay what they are."""
    spatial = [blob for blob, shape in net.inputs.items() if is_spatial(len(shape))]
    if not spatial or not all(node.layer.any_size() for node in net.nodes if node.layer.type != "Input"):
        return False
    known = net.inputs
    if not all(len(known[blob]) == 4 for blob in spatial):
        return False
    try:
        for size in _OTHER_SIZES:
            net.reshape({blob: (*known[blob][:2], *size) for blob in spatial})
    except NetError:
        return False
    return True


def to_numpy(value: Tensor) -> Array:
    """A tensor or a variable of the backend as an array."""
    import keras

    return np.asarray(keras.ops.convert_to_numpy(value))
