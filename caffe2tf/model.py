"""A Net as a `keras.Model` of stock layers and `keras.ops` alone, and back.

The model runs where caffe2tf is not installed, on every Keras backend. Inputs and outputs are channels last; images
stay BGR, minus the mean, as in Caffe.
"""

from collections.abc import Mapping

import numpy as np

from caffe2tf.context import Context
from caffe2tf.errors import NetError, WeightMismatch
from caffe2tf.layout import is_spatial, keras_order
from caffe2tf.names import free, input_names, keras_names, plain

# Sizes that a network free in height and width is tried at, beside its own.
_OTHER_SIZES = ((67, 69), (128, 160))


def to_keras(net, outputs=None):
    """`net` as a flat keras.Model: the last operation of each Caffe layer is the Keras layer of its name (`/` becomes
    `_`), what comes before it is named after it, so that `keras.Model(model.input, model.get_layer("conv1").output)` gives
    the blob.

    Inputs are named as the blobs, shape (N, H, W, C) for rank 4, any other rank in Caffe's order, float32, images BGR
    minus mean as Caffe takes them. Outputs are the blobs `outputs`, or those that no layer reads, in a list where there are
    several. The batch is free unless a layer uses axis 0; height and width are free where every layer takes any. Raises NetError
    where the files do not tell an extent that is needed.
    """
    return build(net, outputs)[0]


def build(net, outputs=None):
    """(`to_keras(net, outputs)`, {Caffe layer: the Keras layers that hold its weights})."""
    made = Build(net)
    parts = {name: [binding.layer for binding in bindings] for name, bindings in made.bindings.items()}
    return made.model(net.outputs if outputs is None else outputs), parts


def from_keras(model, net):
    """`net` with the weights of `model`, which `to_keras(net)` made and training changed: the exact inverse.

    Raises WeightMismatch where the model is another network's.
    """
    if not hasattr(model, "weights"):
        raise WeightMismatch(f"{type(model).__name__} is no keras.Model")
    build = Build(net, empty=True)
    blank = build.model(net.outputs)
    if [w.shape for w in blank.weights] != [w.shape for w in model.weights]:
        raise WeightMismatch(f"the model '{model.name}' has other weights than the network '{net.name}'")
    place = {id(variable): index for index, variable in enumerate(blank.weights)}
    weights = {name: dict(arrays) for name, arrays in net.weights.items()}
    for layer, bindings in build.bindings.items():
        mine = weights[layer]
        for binding in bindings:
            if id(binding.variable) not in place:
                continue  # of a layer that feeds no output
            value = _numpy(build.keras, model.weights[place[id(binding.variable)]])
            whole = mine[binding.weight]
            part = whole if binding.part is None else whole[binding.part]
            if binding.turn:
                value = binding.turn(value.reshape(binding.turn(part).shape))
            value = value.reshape(part.shape)
            if binding.part is None:
                mine[binding.weight] = value
            else:
                if not whole.flags.writeable:
                    mine[binding.weight] = whole = whole.copy()
                whole[binding.part] = value
    return net.with_weights(weights)


def forward(net, inputs):
    """{blob: float32 array} of every blob of `net`, the last value written to each, in Caffe's axis order.

    `inputs`: {input blob: array in Caffe's axis order}, of any batch and size that Caffe's reshape would take. Raises
    NetError for a missing or unknown input, or a shape that the network does not take.
    """
    if not isinstance(inputs, Mapping):
        raise NetError(
            f"inputs are {type(inputs).__name__}; takes a dictionary {{blob: array}} of {sorted(net.inputs)}"
        )
    try:
        arrays = {name: np.asarray(value, np.float32) for name, value in inputs.items()}
    except (TypeError, ValueError) as error:
        raise NetError(f"an input is no array of numbers: {error}") from None
    if set(arrays) != set(net.inputs):
        raise NetError(f"inputs {sorted(arrays)}; the network takes {sorted(net.inputs)}")
    if any(array.shape != net.inputs[name] for name, array in arrays.items()):
        net = net.reshape({name: array.shape for name, array in arrays.items()})
    blobs = compiled(net, list(net.blobs))(arrays)
    for node in net.nodes:
        node.row.check(*(blobs[name] for name, _ in node.bottoms))
    return blobs


def compiled(net, blobs):
    """A function like `forward` for some `blobs` of `net` and inputs of any batch that it takes, built once."""
    build = Build(net)
    computed = [blob for blob in blobs if blob not in build.constants]
    last = net.last_versions
    run = build.function([(blob, last[blob]) for blob in computed]) if computed else None

    def call(inputs):
        found = dict(build.constants)
        if run:
            values = run([_to_last(np.asarray(inputs[name], np.float32)) for name in net.inputs])
            found.update(zip(computed, values, strict=True))
        return {blob: build.as_caffe(blob, found[blob]) for blob in blobs}

    return call


def part(net, nodes, given, target):
    """The blob `target`, a (name, version), in Caffe's axis order: `nodes` of `net` alone, in order, from the arrays `given`
    {(name, version): array in Caffe's axis order}."""
    build = Build(net, part=(nodes, {blob: array.shape for blob, array in given.items()}))
    if target in build.values:
        return build.values[target]
    found = build.function([target])([_to_last(np.asarray(array, np.float32)) for array in given.values()])[0]
    row = next(node.row for node in nodes if target in {blob for blob, _ in node.made()})
    return row.caffe_top(found)


def _to_last(array):
    return np.asarray(array.transpose(keras_order(array.ndim)), order="C")


class Build:
    """One walk over the nodes: a tensor (or a constant) for every version of every blob, and which variables hold which
    weights, `bindings` {layer: [context.Binding]}. `empty` leaves the variables as they are; `part` (nodes, {blob: shape}) walks
    some nodes alone, from blobs that are given."""

    def __init__(self, net, empty=False, part=None):
        import keras

        self.keras, self.net, self.empty = keras, net, empty
        self.names, self.input_names = keras_names(net), input_names(net)
        self._taken = {*self.names.values(), *self.input_names.values()}
        self.bindings, self.tensors, self.values = {}, {}, {}
        self.fixed_batch = [node.row.name for node in net.nodes if node.row.fixes_batch()]
        self.free_size = part is None and _free_size(net)
        self.starts = []
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
                "give it with --input-shape"
            )
        for node in net.nodes:
            self._add(node)

    @property
    def constants(self):
        """{blob: array in Caffe's order} of the blobs that depend on no input."""
        return {key[0]: self.values[key] for key in self.net.last_versions.items() if key in self.values}

    def _add(self, node):
        row = node.row
        if row.type == "Input":
            for top, shape in zip(node.tops, node.shapes, strict=True):
                self.tensors[top] = self._input(top[0], shape)
            return
        constant = row.constant(self._arrays(row) if not row.bottoms else ())
        row.check(*(self.values.get(bottom) for bottom in node.bottoms))
        if constant is None and all(node.bottoms[index] in self.values for index in row.value_bottoms()):
            constant = self._computed(node)
        if constant is not None:
            self.values.update(zip(node.tops, constant, strict=True))
            self.values.update((echo, constant[index].reshape(shape)) for index, echo, shape in node.echoes)
            return
        tops = self._layer(row, self._all_given(node))
        self.tensors.update(zip(node.tops, tops, strict=True))
        for index, echo, shape in node.echoes:
            tensor = row.reshape(self, tops[index], shape, free_first=not self.fixed_batch)
            self.tensors[echo] = tensor

    def _arrays(self, row):
        """Caffe's arrays of a layer's weights."""
        if row.name in self.net.arrays:
            return self.net.arrays[row.name]
        if self.empty or not row.blobs():
            return tuple(np.zeros(weight.shape, np.float32) for weight in row.blobs())
        raise WeightMismatch(f"layer '{row.name}' ({row.type}): the network has no weights; give its .caffemodel")

    @property
    def ops(self):
        return self.keras.ops

    def _input(self, blob, shape):
        inner = [shape[axis] for axis in keras_order(len(shape))]
        if self.free_size and is_spatial(len(shape)):
            inner[1:-1] = [None] * (len(inner) - 2)
        if inner and not self.fixed_batch:
            inner[0] = None
        return self.keras.Input(batch_shape=inner, name=self.input_names[blob])

    def _given(self, bottom):
        if bottom in self.tensors:
            return self.tensors[bottom]
        return self.ops.convert_to_tensor(_to_last(self.values[bottom]))

    def _all_given(self, node):
        """The bottoms' tensors. Constants among others join the graph: Keras's layers take no plain tensor beside a symbolic
        one, and what they make of one they make at once, before they have their weights."""
        given = [self._given(bottom) for bottom in node.bottoms]
        if any(bottom not in self.tensors for bottom in node.bottoms):
            some = next(self.tensors[bottom] for bottom in node.bottoms if bottom in self.tensors)
            zero = self.ops.zeros_like(self.ops.reshape(some, (-1,))[(slice(0, 1),)])
            for index, bottom in enumerate(node.bottoms):
                if bottom not in self.tensors:
                    given[index] = given[index] + self.ops.reshape(zero, (1,) * len(given[index].shape))
        return given

    def _layer(self, row, given):
        ctx = Context(self.keras, row, self.names[row.name], self._taken)
        tops = row.build(ctx, *given)
        tops = ctx.finish(list(tops) if isinstance(tops, (list, tuple)) else [tops], given)
        self._assign(row, ctx.bindings)
        return tops

    def _computed(self, node):
        """The tops, arrays in Caffe's order, of a layer whose bottoms are all constant."""
        row, given = node.row, [self._given(bottom) for bottom in node.bottoms]
        if row.blobs():
            # Its weights get their values only after it was built.
            held = [self.keras.Input(batch_shape=tensor.shape) for tensor in given]
            tops = self.keras.Model(held, self._layer(row, held))(given)
        else:
            tops = row.build(Context(self.keras, row, self.names[row.name], self._taken), *given)
        tops = tops if isinstance(tops, (list, tuple)) else [tops]
        return [row.caffe_top(_numpy(self.keras, top)) for top in tops]

    def _assign(self, row, bindings):
        if not bindings:
            return
        self.bindings[row.name] = bindings
        if self.empty:
            return
        weights = row.weights(self._arrays(row))
        for binding in bindings:
            value = weights[binding.weight] if binding.part is None else weights[binding.weight][binding.part]
            value = binding.turn(value) if binding.turn else value
            binding.variable.assign(np.ascontiguousarray(value).reshape(binding.variable.shape))

    def _inputs(self):
        return self.starts or [self.tensors[blob, 0] for blob in self.net.inputs]

    def _outputs(self, blobs):
        last = self.net.last_versions
        return [self.tensors[blob, last[blob]] for blob in blobs]

    def model(self, blobs):
        inputs, constants = self._inputs(), self.constants
        outputs = self._outputs([blob for blob in blobs if blob not in constants])
        if not inputs or not outputs:
            raise NetError("the network computes nothing from an input, so it is no model; `forward` gives its blobs")
        return self.keras.Model(
            inputs if len(inputs) > 1 else inputs[0],
            outputs if len(outputs) > 1 else outputs[0],
            name=plain(self.net.name or "net"),
        )

    def function(self, versions):
        """A function from a list of inputs to a list of arrays, one for each of `versions`, (blob, version)."""
        outputs = [self.tensors[version] for version in versions]
        model = self.keras.Model(self._inputs(), outputs)

        def run(values):
            found = model([self.keras.ops.convert_to_tensor(value) for value in values], training=False)
            found = found if isinstance(found, (list, tuple)) else [found]
            return [_numpy(self.keras, value) for value in found]

        return run

    def as_caffe(self, blob, value):
        """An array of the model's as Caffe's blob of that name."""
        if blob in self.constants:
            return np.asarray(value, np.float32)
        row = next(node.row for node in reversed(self.net.nodes) if blob in {top for (top, _), _ in node.made()})
        return row.caffe_top(value)


def _numpy(keras, value):
    return keras.ops.convert_to_numpy(value)


def _free_size(net):
    """Whether every layer takes any height and width, and the weights stay what they are."""
    spatial = [blob for blob, shape in net.inputs.items() if is_spatial(len(shape))]
    if not spatial or not all(node.row.any_size() for node in net.nodes if node.row.type != "Input"):
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
