"""What every row of the layer table has: wiring rules, shapes, weights, and how it is said in Keras."""

import math
from dataclasses import dataclass

import numpy as np

from caffe2tf import layout
from caffe2tf.errors import NetError, WeightMismatch

# Parameters without effect on inference: training, engines, initial values. Accepted everywhere, listed by `inspect -v`.
NO_EFFECT = frozenset(
    (
        *("weight_filler", "bias_filler", "filler", "scale_filler", "slope_filler", "shift_filler"),
        *("engine", "force_nd_im2col", "stable_prod_grad", "moving_average_fraction", "momentum", "scale_train"),
        *("debug_info", "frozen", "save_output_param", "visualize", "visualize_threshold", "save_file"),
    )
)

REGISTRY = {}  # Caffe type -> class


@dataclass(frozen=True)
class Weight:
    """One array of a layer: Caffe's shape, and how its axes lie in Keras.

    The values go through three steps, each exact and undone by `to_caffe`: axes split into `split`, ordered by
    `axes`, merged into `merged`. `gates` orders the first axis of `split` (LSTM). `filler` is the row's parameter that
    says how its values start, `start` the value where that is not set; None where they must be said.
    """

    name: str
    shape: tuple
    split: tuple = None
    axes: tuple = None
    merged: tuple = None
    gates: tuple = None
    filler: str = None
    start: float = None

    @property
    def keras_shape(self):
        if self.merged is not None:
            return self.merged
        split = self.split or self.shape
        return tuple(split[axis] for axis in self.axes) if self.axes else split

    def to_keras(self, array):
        """`array` of `shape` on its way to Keras's layout, a layout.Moved."""
        array = array.reshape(self.split or self.shape)
        if self.gates:
            array = array[list(self.gates)]
        return layout.Moved(array.transpose(self.axes) if self.axes else array, self.keras_shape)

    def to_caffe(self, array):
        """The inverse of `to_keras`."""
        split = self.split or self.shape
        axes = self.axes or tuple(range(len(split)))
        array = np.asarray(array).reshape([split[axis] for axis in axes]).transpose(np.argsort(axes))
        if self.gates:
            array = array[np.argsort(self.gates)]
        return layout.contiguous(array).reshape(self.shape)


class Layer:
    """One Caffe layer in a network. A subclass is one row of the layer table and all that is known of its type(s).

        class Threshold(Layer, type="Threshold", param="threshold_param", fields="threshold"):

    `type`: the Caffe types, space-separated. `param`: the field of LayerParameter with its parameters. `fields`: the
    parameters that are computed; any other that a network sets is refused by name. `bottoms`, `tops`: how many, as a
    number or a pair (least, most); most None is any. `rank`: the axes that its first bottom must have, None for any.
    """

    types, param, fields = (), None, frozenset()
    bottom_count = top_count = (1, 1)
    rank = None

    def __init_subclass__(cls, type, param=None, fields="", bottoms=1, tops=1, rank=None):
        if not type:  # shared by several rows
            return
        cls.types, cls.param, cls.fields = tuple(type.split()), param, frozenset(fields.split())
        cls.bottom_count = bottoms if isinstance(bottoms, tuple) else (bottoms, bottoms)
        cls.top_count = tops if isinstance(tops, tuple) else (tops, tops)
        cls.rank = rank
        REGISTRY.update(dict.fromkeys(cls.types, cls))

    def __init__(self, proto, bottoms):
        """`proto`: LayerParameter; `bottoms`: the shapes of its bottoms in Caffe's order."""
        self.proto, self.bottoms = proto, bottoms
        self.name, self.type = proto.name, proto.type
        self.p = getattr(proto, self.param) if self.param else None
        if self.rank is not None and len(bottoms[0]) != self.rank:
            self.fail(f"bottom of shape {bottoms[0]}; takes {self.rank} axes")

    # -------------------------------------------------------------- what a row says

    def tops(self):
        """The shapes of the tops in Caffe's order; here: each as its bottom."""
        return [self.bottoms[0]] * len(self.proto.top)

    def blobs(self):
        """The Weights that Caffe stores for this layer, in its order; here: none."""
        return []

    def moved(self, arrays):
        """{name: layout.Moved} in Keras's layout, from Caffe's arrays in the order of `blobs`."""
        return {weight.name: weight.to_keras(array) for weight, array in zip(self.blobs(), arrays, strict=True)}

    def weights(self, arrays):
        """{name: array in Keras's layout}, from Caffe's arrays in the order of `blobs`."""
        return {name: moved.array() for name, moved in self.moved(arrays).items()}

    def weight_shapes(self):
        """{name: shape in Keras's layout}, without touching a value."""
        return {weight.name: weight.keras_shape for weight in self.blobs()}

    def arrays(self, weights):
        """Caffe's arrays from {name: array in Keras's layout}: the inverse of `weights`."""
        return [weight.to_caffe(weights[weight.name]) for weight in self.blobs()]

    def multiply_adds(self):
        """Multiply-adds of one run, of convolutions and products only, as papers count them."""
        return 0

    def receptive(self, fields):
        """The receptive field of its tops, [(pixels, step)] for each spatial axis: how many pixels of the input one value
        depends on, were the picture without a border, and how many lie between neighbours. From `fields`, those of its
        bottoms in order. None where a value is no place in a picture, or depends on the whole; so here."""

    def filters(self):
        """What the last axis of its kernel counts, the one before, and in how many groups; None: it has no filters."""

    def fixes_batch(self):
        """Whether the row uses axis 0 as more than a count of independent items."""
        return False

    def mistakes(self):
        """What converters get wrong about this type: [(words, change)], where `change(proto, weights)` turns a layer with
        that mistake, in place, into the right one. `verify` tries them on the first wrong layer."""
        return []

    # -------------------------------------------------------------- helpers for rows

    def fail(self, why):
        raise NetError(f"layer '{self.name}' ({self.type}): {why}")

    def axis(self, value, rank=None, allow_end=False):
        """`value` counted from the front, as Caffe's CanonicalAxisIndex."""
        rank = len(self.bottoms[0]) if rank is None else rank
        if not -rank <= value < rank + allow_end:
            self.fail(f"axis {value} of a bottom with {rank} axes")
        return value % rank if value < 0 else value

    def widest(self, fields):
        """The receptive field where several bottoms meet place by place: the largest, in the steps of the first."""
        if None in fields or len({len(field) for field in fields}) != 1:
            return None
        return [(max(pixels for pixels, _ in axis), axis[0][1]) for axis in zip(*fields, strict=True)]

    def windowed(self, fields, windows):
        """The receptive field of `windows`, [(reach, stride)] for each spatial axis, on its bottoms."""
        field = self.widest(fields)
        if field is None:
            return None
        return [
            (n + (reach - 1) * step, step * stride) for (n, step), (reach, stride) in zip(field, windows, strict=True)
        ]

    def need_equal(self, axes=None):
        """All bottoms have one shape, or agree on `axes`."""
        first = self.bottoms[0]
        for other in self.bottoms[1:]:
            same = len(other) == len(first) and all(
                other[a] == first[a] for a in (range(len(first)) if axes is None else axes)
            )
            if not same:
                where = "" if axes is None else f" outside axes {sorted(set(range(len(first))) - set(axes))}"
                self.fail(f"bottoms of shapes {first} and {other}; must be equal{where}")

    def take_blobs(self, blobs):
        """Caffe's arrays in the shapes that the row wants, from the file's Blobs; the legacy four extents are told apart.

        Raises WeightMismatch naming shape found and shape wanted.
        """
        wanted = self.blobs()
        if len(blobs) != len(wanted):
            kinds = ", ".join(f"{w.name} {w.shape}" for w in wanted) or "none"
            raise WeightMismatch(
                f"layer '{self.name}' ({self.type}): the file has {len(blobs)} blobs of shapes "
                f"{[b.shape for b in blobs]}, the layer takes {len(wanted)} ({kinds})"
            )
        for blob, weight in zip(blobs, wanted, strict=True):
            # Before `shape`, missing leading axes were written as ones (Blob::ShapeEquals in blob.cpp); some forks
            # write a scalar as (1).
            padded = (1,) * (4 - len(weight.shape)) + weight.shape
            same = blob.shape == weight.shape or (blob.legacy and blob.shape == padded)
            if not same and not (weight.shape == () and blob.shape == (1,)):
                raise WeightMismatch(
                    f"layer '{self.name}' ({self.type}): {weight.name} has shape {blob.shape} in the file, "
                    f"the layer wants {weight.shape}"
                )
        return tuple(blob.array().reshape(weight.shape) for blob, weight in zip(blobs, wanted, strict=True))

    # -------------------------------------------------------------- in Keras

    keras_name = None  # set by the model builder: this layer's name there
    bound = ()  # what `stock` and `held` noted: (Keras layer, variable attribute, weight, part, turn)

    def build(self, keras, *xs):
        """The tops (one tensor or a list) from the bottoms `xs`, in stock Keras layers and `keras.ops` alone.

        Tensors of rank 4 and 5 come and go channels last. Ranks and channel counts may be taken from `self.bottoms`;
        other extents only from `x.shape` where `any_size()` is true, since they can be None there.
        """
        raise NotImplementedError

    def constant(self):
        """The tops as arrays in Caffe's order where they depend on shapes alone, else None."""

    def any_size(self):
        """Whether `build` copes with height and width that are not known."""
        return False

    def sublayer(self, *parts):
        """A Keras name for a layer inside this one."""
        return "_".join([self.keras_name, *map(str, parts)])

    def stock(self, layer, part=None, turn=None, **variables):
        """Notes that the variables of a stock layer hold this layer's weights: stock(dense, kernel="kernel").

        `part` indexes the array in Keras's layout (one group of a convolution); `turn` is its own inverse.
        """
        self.bound = [*self.bound, *((layer, variable, name, part, turn) for variable, name in variables.items())]
        return layer

    def held(self, keras, x, name):
        """The weight `name` as a tensor of its Keras shape, trainable and saved: held by a stock Embedding of one row."""
        shape = self.weight_shapes()[name]
        row = keras.layers.Embedding(
            1, max(1, math.prod(shape)), name=self.sublayer(name), embeddings_initializer="zeros"
        )
        first = keras.ops.reshape(x, (-1,))[(slice(0, 1),)]
        zero = keras.ops.cast(keras.ops.zeros_like(first), "int32")
        return keras.ops.reshape(self.stock(row, embeddings=name)(zero), shape)

    def to_caffe_order(self, keras, x):
        order = layout.caffe_order(len(x.shape))
        return x if order == tuple(range(len(order))) else keras.ops.transpose(x, order)

    def to_keras_order(self, keras, x):
        order = layout.keras_order(len(x.shape))
        return x if order == tuple(range(len(order))) else keras.ops.transpose(x, order)

    def reshape(self, keras, x, shape, free_first=True):
        """`x` reshaped, seen in Caffe's order, to `shape`; its first extent stays free where it is the batch."""
        shape = (-1, *shape[1:]) if free_first and shape else tuple(shape)
        return self.to_keras_order(keras, keras.ops.reshape(self.to_caffe_order(keras, x), shape))
