"""A Net as a `keras.Model` of stock layers and `keras.ops` alone, and back.

The model runs where caffe2tf is not installed, on every Keras backend. Inputs and outputs are channels last; images
stay BGR, minus the mean, as in Caffe.
"""

from collections.abc import Mapping

import numpy as np

from caffe2tf.errors import NetError, WeightMismatch
from caffe2tf.layout import caffe_order, is_spatial, keras_order
from caffe2tf.names import input_names, keras_names, plain

# Sizes that a network free in height and width is tried at, beside its own.
_OTHER_SIZES = ((67, 69), (128, 160))


def to_keras(net, outputs=None):
    """`net` as a keras.Model with one layer per Caffe layer, named as it (`/` becomes `_`).

    Inputs are named as the blobs, shape (N, H, W, C) for rank 4, any other rank in Caffe's order, float32, images BGR
    minus mean as Caffe takes them. Outputs are the blobs `outputs`, or those that no layer reads, in a list where there are
    several. The batch is free unless a layer uses axis 0; height and width are free where every layer takes any. Raises NetError
    where the files do not tell an extent that is needed.
    """
    return _Builder(net).model(net.outputs if outputs is None else outputs)


def from_keras(model, net):
    """`net` with the weights of `model`, which `to_keras(net)` made and training changed: the exact inverse.

    Raises WeightMismatch where the model is another network's.
    """
    if not hasattr(model, "weights"):
        raise WeightMismatch(f"{type(model).__name__} is no keras.Model")
    builder = _Builder(net, empty=True)
    blank = builder.model(net.outputs)
    if [w.shape for w in blank.weights] != [w.shape for w in model.weights]:
        raise WeightMismatch(f"the model '{model.name}' has other weights than the network '{net.name}'")
    place = {id(variable): index for index, variable in enumerate(blank.weights)}
    weights = {name: dict(arrays) for name, arrays in net.weights.items()}
    for row in builder.rows:
        for layer, attribute, name, part, turn in row.bound:
            value = _numpy(builder.keras, model.weights[place[id(getattr(layer, attribute))]])
            value = turn(value) if turn else value
            if part is None:
                weights[row.name][name] = value.reshape(row.weight_shapes()[name])
            else:
                if not weights[row.name][name].flags.writeable:
                    weights[row.name][name] = weights[row.name][name].copy()
                weights[row.name][name][part] = value
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
    return compiled(net, list(net.blobs))(arrays)


def compiled(net, blobs):
    """A function like `forward` for some `blobs` of `net` and inputs of any batch that it takes, built once."""
    builder = _Builder(net)
    computed = [blob for blob in blobs if blob not in builder.constants]
    run = builder.function(computed) if computed else None

    def call(inputs):
        found = dict(builder.constants)
        if run:
            values = run([_to_last(np.asarray(inputs[name], np.float32)) for name in net.inputs])
            found.update(zip(computed, values, strict=True))
        return {blob: builder.as_caffe(blob, found[blob]) for blob in blobs}

    return call


def _to_last(array):
    return np.asarray(array.transpose(keras_order(array.ndim)), order="C")


class _Builder:
    """Walks the nodes once and keeps a tensor (or a constant) for every version of every blob."""

    def __init__(self, net, empty=False):
        import keras

        self.keras, self.net, self.empty = keras, net, empty
        self.names, self.input_names = keras_names(net), input_names(net)
        self.rows, self.tensors, self.values = [], {}, {}
        self.fixed_batch = [node.row.name for node in net.nodes if node.row.fixes_batch()]
        self.free_size = _free_size(net)
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
        return {blob: value for (blob, _), value in self._last(self.values).items()}

    def _last(self, versions):
        """The last version of each blob, of those in `versions`."""
        newest = {}
        for node in self.net.nodes:
            newest.update(node.tops)
        return {(blob, v): versions[blob, v] for blob, v in newest.items() if (blob, v) in versions}

    def _add(self, node):
        row = node.row
        if row.type == "Input":
            for top, shape in zip(node.tops, node.shapes, strict=True):
                self.tensors[top] = self._input(top[0], shape)
            return
        row.keras_name, row.bound = self.names[row.name], ()
        constant = row.constant()
        if constant is None and row.type == "Parameter":
            constant = [self.net.arrays[row.name][0]] if row.name in self.net.arrays else None
        if constant is not None:
            self.values.update(zip(node.tops, constant, strict=True))
            return
        if all(bottom in self.values for bottom in node.bottoms):
            given = [self._constant(bottom) for bottom in node.bottoms]
            tops = row.build(self.keras, *given)
            tops = tops if isinstance(tops, (list, tuple)) else [tops]
            self._assign(row)
            for top, value in zip(node.tops, tops, strict=True):
                self.values[top] = _numpy(self.keras, value).transpose(caffe_order(len(value.shape)))
            return
        tops = self._layer(node)
        self.rows.append(row)
        self._assign(row)
        self.tensors.update(zip(node.tops, tops, strict=True))

    def _input(self, blob, shape):
        inner = [shape[axis] for axis in keras_order(len(shape))]
        if self.free_size and is_spatial(len(shape)):
            inner[1:-1] = [None] * (len(inner) - 2)
        batch = inner[0] if self.fixed_batch else None
        return self.keras.Input(inner[1:], batch_size=batch, name=self.input_names[blob])

    def _constant(self, bottom):
        value = self.values[bottom]
        return self.keras.ops.convert_to_tensor(_to_last(value))

    def _layer(self, node):
        """The layer's tops: one stock layer on its own, or what it takes as one nested model of its name."""
        keras, row = self.keras, node.row
        outer = [self.tensors[bottom] for bottom in node.bottoms if bottom in self.tensors]
        distinct = list({id(tensor): tensor for tensor in outer}.values())
        holders = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in distinct]
        inner = {id(tensor): holder for tensor, holder in zip(distinct, holders, strict=True)}
        given = [
            inner[id(self.tensors[bottom])] if bottom in self.tensors else self._constant(bottom)
            for bottom in node.bottoms
        ]
        tops = row.build(keras, *given)
        tops = list(tops) if isinstance(tops, (list, tuple)) else [tops]
        nested = keras.Model(holders, tops, name=row.keras_name)
        alone = [one for one in nested.operations if not isinstance(one, keras.layers.InputLayer)]
        if len(alone) == 1 and len(tops) == 1 and alone[0].name == row.keras_name:
            call = {"training": False} if getattr(row.p, "use_global_stats", False) else {}
            result = alone[0](outer if len(outer) > 1 else outer[0], **call)
        else:
            result = nested(distinct if len(distinct) > 1 else distinct[0])
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def _assign(self, row):
        if self.empty or not row.bound:
            return
        if row.name not in self.net.arrays:
            raise WeightMismatch(f"layer '{row.name}' ({row.type}): the network has no weights; give its .caffemodel")
        weights = self.net.weights[row.name]
        for layer, attribute, name, part, turn in row.bound:
            value = weights[name] if part is None else weights[name][part]
            value = turn(value) if turn else value
            variable = getattr(layer, attribute)
            variable.assign(np.ascontiguousarray(value).reshape(variable.shape))

    def _inputs(self):
        return [self.tensors[blob, 0] for blob in self.net.inputs]

    def _outputs(self, blobs):
        last = self._last(self.tensors)
        tensors = {blob: tensor for (blob, _), tensor in last.items()}
        return [tensors[blob] for blob in blobs]

    def model(self, blobs):
        inputs = self._inputs()
        outputs = self._outputs([blob for blob in blobs if blob not in self.constants])
        if not inputs or not outputs:
            raise NetError("the network computes nothing from an input, so it is no model; `forward` gives its blobs")
        return self.keras.Model(
            inputs if len(inputs) > 1 else inputs[0],
            outputs if len(outputs) > 1 else outputs[0],
            name=plain(self.net.name or "net"),
        )

    def function(self, blobs):
        """A function from a list of inputs to a list of arrays, one for each of `blobs`."""
        outputs = self._outputs(blobs)
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
        row = next(node.row for node in reversed(self.net.nodes) if blob in dict(node.tops))
        if hasattr(row, "caffe_top"):
            return row.caffe_top(value)
        return np.asarray(value.transpose(caffe_order(value.ndim)), order="C")


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
