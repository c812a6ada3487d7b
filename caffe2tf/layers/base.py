"""What every class of the layer table has: wiring rules, shapes, weights, and how it is said in Keras."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from caffe2tf.arrays import layout
from caffe2tf.arrays.layout import Array, Floats, OpenShape, Shape, Shaped
from caffe2tf.caffe.caffe_pb2 import TRAIN, LayerParameter
from caffe2tf.errors import NetError, WeightMismatch
from caffe2tf.layers import users
from caffe2tf.layers.registry import REGISTRY as REGISTRY
from caffe2tf.layers.registry import register
from caffe2tf.layers.types import Context, Extent, Field, Fields, HasOps, Mistake, StoredBlob, Tensor
from caffe2tf.layers.weight import Weight as Weight

# Parameters without effect on inference: training, engines, initial values. Accepted everywhere, listed by `inspect -v`.
NO_EFFECT = frozenset(
    (
        *("weight_filler", "bias_filler", "filler", "scale_filler", "slope_filler", "shift_filler"),
        *("engine", "force_nd_im2col", "stable_prod_grad", "moving_average_fraction", "momentum", "scale_train"),
        *("debug_info", "frozen", "save_output_param", "visualize", "visualize_threshold", "save_file"),
        "clipping_threshold",
    )
)


class Layer:
    """One Caffe layer in a network. A subclass is all that is known of its type(s).

        class Threshold(Layer, type="Threshold", param="threshold_param", fields="threshold"):

    `type`: the Caffe types, space-separated; of a layer of type Python, "module.layer". `param`: the field of LayerParameter with
    its parameters, which are `self.p`: the message, or a dictionary where the schema has no such field. `fields`: the parameters
    that are computed; any other that a network sets is refused by name. Those of them that a message of the schema lacks are
    in the dictionary `self.extra`. `numbers`: {name: (number, kind)} of fields that the schema lacks, for snapshots, as
    caffe.dictionary has them: {"gain_param": (4711, {"factor": (1, float)})}, or inside a message of the schema
    {"relu_param": {"top": (99, float)}}. `bottoms`, `tops`: how many, as a number or a pair (least, most); most None is any.
    `rank`: the axes that its first bottom must have, None for any.
    """

    types: ClassVar[tuple[str, ...]] = ()
    param: ClassVar[str | None] = None
    fields: ClassVar[frozenset[str]] = frozenset()
    numbers: ClassVar[Mapping[str, Any]] = {}
    bottom_count: ClassVar[tuple[int, int | None]] = (1, 1)
    top_count: ClassVar[tuple[int, int | None]] = (1, 1)
    rank: ClassVar[int | None] = None
    # Whether its top may be its bottom: elsewhere Caffe refuses that, or overwrites what it reads.
    works_in_place: ClassVar[bool] = False
    # Whether how many items its tops have is known only at run time.
    counts_items: ClassVar[bool] = False
    # The first axis of its bottom whose extent decides where its windows lie, None where it has none.
    windows_from: int | None = None
    # Whether it runs in hundreds of steps, which are slow one operation after the other.
    loops: ClassVar[bool] = False
    # Whether its top is a list of boxes: image, class, score and corners in parts of the picture, class -1 where there is none.
    detects: ClassVar[bool] = False
    # The bottoms, by index, in the memory of a top: the wiring says so of a layer in place.
    aliased: tuple[int, ...] = ()

    def __init_subclass__(
        cls,
        type: str,
        param: str | None = None,
        fields: str = "",
        bottoms: int | tuple[int, int | None] = 1,
        tops: int | tuple[int, int | None] = 1,
        rank: int | None = None,
        numbers: Mapping[str, Any] | None = None,
    ) -> None:
        if not type:  # shared by several classes
            return
        cls.types, cls.param, cls.numbers = tuple(type.split()), param, numbers or {}
        inner = cls.numbers.get(param) if param else None
        members = inner[1] if isinstance(inner, tuple) else inner or {}
        cls.fields = frozenset(fields.split()).union(members if isinstance(members, Mapping) else ())
        cls.bottom_count = bottoms if isinstance(bottoms, tuple) else (bottoms, bottoms)
        cls.top_count = tops if isinstance(tops, tuple) else (tops, tops)
        cls.rank = rank
        if not cls.__module__.startswith("caffe2tf."):
            users.watch(cls)
        register(cls)

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        """`proto`: LayerParameter; `bottoms`: the shapes of its bottoms in Caffe's order."""
        self.proto, self.bottoms = proto, bottoms
        self.name, self.type = proto.name, proto.type
        self.extra = users.settings(type(self), proto)
        known = self.param is not None and self.param in proto.DESCRIPTOR.fields_by_name
        self.p: Any = getattr(proto, str(self.param)) if known else self.extra if self.param else None
        if self.rank is not None and len(bottoms[0]) != self.rank:
            self.fail(f"bottom of shape {bottoms[0]}; takes {self.rank} axes")

    # -------------------------------------------------------------- what a layer says

    def note(self) -> str | None:
        """What the user is told of the layer wherever the network is loaded, None for nothing."""
        return None

    @classmethod
    def learns(cls) -> bool:
        """Whether layers of this class may have weights."""
        return cls.blobs is not Layer.blobs

    @classmethod
    def settle(cls, proto: LayerParameter, bottom: OpenShape, blobs: Sequence[Shaped] | None) -> OpenShape:
        """Its first bottom's shape with the extents that nothing tells (None) filled in where the stored `blobs` tell them;
        here: as it is. Raises NetError where they contradict it."""
        return bottom

    def tops(self) -> list[Shape]:
        """The shapes of the tops in Caffe's order; here: each as its bottom."""
        return [self.bottoms[0]] * len(self.proto.top)

    def blobs(self) -> list[Weight]:
        """The Weights that Caffe stores for this layer, in its order; here: none."""
        return []

    def moved(self, arrays: Sequence[Array]) -> dict[str, layout.Moved]:
        """{name: layout.Moved} in Keras's layout, from Caffe's arrays in the order of `blobs`."""
        return {weight.name: weight.to_keras(array) for weight, array in zip(self.blobs(), arrays, strict=True)}

    def weights(self, arrays: Sequence[Array]) -> dict[str, Array]:
        """{name: array in Keras's layout}, from Caffe's arrays in the order of `blobs`."""
        return {name: moved.array() for name, moved in self.moved(arrays).items()}

    def weight_shapes(self) -> dict[str, Shape]:
        """{name: shape in Keras's layout}, without touching a value."""
        return {weight.name: weight.keras_shape for weight in self.blobs()}

    def arrays(self, weights: Mapping[str, npt.ArrayLike]) -> list[Array]:
        """Caffe's arrays from {name: array in Keras's layout}: the inverse of `weights`."""
        return [weight.to_caffe(weights[weight.name]) for weight in self.blobs()]

    def multiply_adds(self) -> int:
        """Multiply-adds of one run, of convolutions and products only, as papers count them."""
        return 0

    def receptive(self, fields: Fields) -> Field | None:
        """The receptive field of its tops, [(pixels, step)] for each spatial axis: how many pixels of the input one value
        depends on, were the picture without a border, and how many lie between neighbours. From `fields`, those of its
        bottoms in order. None where a value is no place in a picture, or depends on the whole; so here."""

    def filters(self) -> tuple[str, str, int] | None:
        """What the last axis of its kernel counts, the one before, and in how many groups; None: it has no filters."""

    def fixes_batch(self) -> bool:
        """Whether the layer uses axis 0 as more than a count of independent items."""
        return False

    @classmethod
    def may_share(cls, proto: LayerParameter) -> dict[int, str]:
        """{index of a top: the blob in whose memory Caffe keeps it, at least for some shapes}, as the record alone tells."""
        return {}

    def shares_memory(self) -> dict[int, str]:
        """The same for the shapes that it has: a layer that changes one of the two in place changes both."""
        return self.may_share(self.proto)

    def value_bottoms(self) -> tuple[int, ...]:
        """The indices of the bottoms whose values it reads; of the others, their shape alone."""
        return tuple(range(len(self.bottoms)))

    def mistakes(self) -> list[Mistake]:
        """What converters get wrong about this type: [(words, change)], where `change(proto, weights)` turns a layer with
        that mistake, in place, into the right one. `verify` tries them on the first wrong layer."""
        return []

    # -------------------------------------------------------------- helpers for layers

    def in_training(self) -> bool:
        """Whether the layer's own `phase` says TRAIN, which Caffe follows in a network for inference too (net.cpp)."""
        return self.proto.HasField("phase") and self.proto.phase == TRAIN

    def fail(self, why: str) -> NoReturn:
        raise NetError(f"layer '{self.name}' ({self.type}): {why}")

    def axis(self, value: int, rank: int | None = None, allow_end: bool = False) -> int:
        """`value` counted from the front, as Caffe's CanonicalAxisIndex."""
        rank = len(self.bottoms[0]) if rank is None else rank
        if not -rank <= value < rank + allow_end:
            self.fail(f"axis {value} of a bottom with {rank} axes")
        return value % rank if value < 0 else value

    def widest(self, fields: Fields) -> Field | None:
        """The receptive field where several bottoms meet place by place: the largest, in the steps of the first."""
        known = [field for field in fields if field is not None]
        if len(known) < len(fields) or len({len(field) for field in known}) != 1:
            return None
        return [(max(pixels for pixels, _ in axis), axis[0][1]) for axis in zip(*known, strict=True)]

    def windowed(self, fields: Fields, windows: Iterable[tuple[Extent, Extent]]) -> Field | None:
        """The receptive field of `windows`, [(reach, stride)] for each spatial axis, on its bottoms."""
        field = self.widest(fields)
        if field is None:
            return None
        return [
            (n + (reach - 1) * step, step * stride) for (n, step), (reach, stride) in zip(field, windows, strict=True)
        ]

    def need_equal(self, axes: Iterable[int] | None = None) -> None:
        """All bottoms have one shape, or agree on `axes`."""
        first = self.bottoms[0]
        for other in self.bottoms[1:]:
            same = len(other) == len(first) and all(
                other[a] == first[a] for a in (range(len(first)) if axes is None else axes)
            )
            if not same:
                where = "" if axes is None else f" outside axes {sorted(set(range(len(first))) - set(axes))}"
                self.fail(f"bottoms of shapes {first} and {other}; must be equal{where}")

    def take_blobs(self, blobs: Sequence[StoredBlob]) -> tuple[Floats, ...]:
        """Caffe's arrays in the shapes that the layer wants, from the file's Blobs; the legacy four extents are told apart.

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

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        """The tops (one tensor or a list) from the bottoms `xs`, in stock Keras layers and `keras.ops` alone.

        `ctx` (context.Context) has Keras, this layer's name there, and what notes which variable holds which weight.
        Tensors of rank 4 and 5 come and go channels last. Ranks and channel counts may be taken from `self.bottoms`;
        other extents only from `x.shape` where `any_size()` is true, since they can be None there.
        """
        raise NotImplementedError

    def constant(self, arrays: Sequence[Array] = ()) -> list[Array] | None:
        """The tops as arrays in Caffe's order where they depend on shapes and its own `arrays` alone, else None."""

    def caffe_top(self, value: Array) -> Array:
        """Caffe's blob from the array of a top as the Keras model gives it."""
        return np.asarray(value.transpose(layout.caffe_order(value.ndim)), order="C")

    def check(self, *values: Array | None) -> None:
        """Raises NetError for bottoms, arrays in Caffe's order or None where not known, whose values Caffe refuses."""

    def any_size(self) -> bool:
        """Whether `build` copes with height and width that are not known."""
        return False

    def to_caffe_order(self, ctx: HasOps, x: Tensor) -> Tensor:
        order = layout.caffe_order(len(x.shape))
        return x if order == tuple(range(len(order))) else ctx.ops.transpose(x, order)

    def to_keras_order(self, ctx: HasOps, x: Tensor) -> Tensor:
        order = layout.keras_order(len(x.shape))
        return x if order == tuple(range(len(order))) else ctx.ops.transpose(x, order)

    def open_axis(self, x: Tensor) -> int | None:
        """The first axis, in Caffe's order, whose extent only a run tells: the batch, or items that a Filter counts."""
        order = layout.caffe_order(len(x.shape))
        return next((axis for axis, place in enumerate(order) if x.shape[place] is None), None)

    def reshape(self, ctx: HasOps, x: Tensor, shape: Sequence[int], free_first: bool = True) -> Tensor:
        """`x` reshaped, seen in Caffe's order, to `shape`; its first extent stays free where it is the batch."""
        shape = (-1, *shape[1:]) if free_first and shape else tuple(shape)
        return self.to_keras_order(ctx, ctx.ops.reshape(self.to_caffe_order(ctx, x), shape))
