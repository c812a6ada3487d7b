"""The state of a net in the making: blobs, names, values. What layers there are to add stands in `proposals`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter, NetParameter
from tests.random_nets.legal import Illegal, Shape, need
from tests.random_nets.shapes import infer

LARGEST = 1500  # values of one blob
HIGHEST = 3e3  # about the largest magnitude of a value
# Layers whose top is the storage of their bottom in Caffe (ShareData).
WINDOWED = frozenset(
    (
        "Convolution",
        "Deconvolution",
        "ConvolutionDepthwise",
        "DepthwiseConvolution",
        "Im2col",
        "Interp",
        "Pooling",
        "SPP",
    )
)
SHARING = frozenset(("Flatten", "Reshape", "Split"))
STEMS = ("x", "conv", "fc", "a/b", "L", "block.1", "two words", "Node")


@dataclass
class Blob:
    """A blob as its last writer left it. `real`: its shape at run time, which a Filter makes smaller than `shape`.
    `low`: no value lies below it, None where nothing is known; `bound`: about its largest magnitude; `storage`: equal
    for blobs that Caffe keeps in one place."""

    name: str
    shape: Shape
    real: Shape
    bound: float
    low: float | None
    storage: int
    readers: int = 0
    whole: int | None = None  # values are whole numbers below this one


@dataclass
class Maker:
    """Adds legal layers to a net. `features`: what it may have beyond the plain (features.py)."""

    random: np.random.RandomState
    features: frozenset[str]
    net: Any = field(default_factory=NetParameter)
    blobs: list[Blob] = field(default_factory=list)
    weights: dict[str, list[np.ndarray]] = field(default_factory=dict)
    values: dict[str, Callable[[Shape], np.ndarray]] = field(default_factory=dict)
    fixed: dict[str, np.ndarray] = field(default_factory=dict)
    count: int = 0

    # ---------------------------------------------------------------- chance

    def chance(self, share: float) -> bool:
        return bool(self.random.random_sample() < share)

    def one(self, *options: Any) -> Any:
        return options[self.random.randint(len(options))]

    def some(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both taken."""
        return int(self.random.randint(low, high + 1))

    def number(self, low: float, high: float) -> float:
        """A number of three digits, so that texts stay readable."""
        return round(float(self.random.uniform(low, high)), 3)

    def pick(self, good: Callable[[Blob], bool] = lambda blob: True) -> Blob:
        """One of the blobs, later ones more likely. Raises Illegal where none is good."""
        found = [blob for blob in self.blobs if good(blob)]
        need(bool(found), "no blob for it")
        if not self.chance(0.4):
            found = found[-2:]
        return found[self.random.randint(len(found))]

    def axis(self, rank: int, low: int = 0) -> int:
        """An axis from `low` on, counted from the front or the end."""
        need(rank > low, "no axis")
        place = self.some(low, rank - 1)
        return place - rank if self.chance(0.3) else place

    # ---------------------------------------------------------------- names

    def layer_name(self) -> str:
        known = {layer.name for layer in self.net.layer}
        stem = self.one(*STEMS)
        for name in (stem, f"{stem}_1", f"{stem}/1", f"{stem}_1_1", f"{stem}_{len(known)}", f"{stem}{len(known)}"):
            if name not in known and self.chance(0.6):
                return name
        return f"layer{len(known)}"

    def blob_name(self, layer: str) -> str:
        known = {blob.name for blob in self.blobs} | {top for one in self.net.layer for top in one.top}
        name = layer if self.chance(0.5) else f"b{len(known)}"
        return name if name not in known else f"blob{len(known)}"

    # ---------------------------------------------------------------- adding

    def input(self, shape: Shape, values: Callable[[Shape], np.ndarray] | None = None, bound: float = 3.0) -> Blob:
        """A new Input; `values(shape)` are its values, of the usual kind where it is not given."""
        name = self.blob_name("data" if not self.blobs else f"data{len(self.blobs)}")
        layer = self.net.layer.add(name=name if self.chance(0.7) else self.layer_name(), type="Input", top=[name])
        layer.input_param.shape.add().dim.extend(shape)
        self.values[name] = values or self.usual
        return self._made(name, shape, shape, bound, None)

    def fixed_input(self, array: np.ndarray, whole: int | None = None) -> Blob:
        """A new Input of these values whatever the shape of others."""
        blob = self.input(array.shape, lambda shape: array)
        self.fixed[blob.name], blob.whole = array, whole
        return blob

    def _made(
        self, name: str, shape: Shape, real: Shape, bound: float, low: float | None, storage: int | None = None
    ) -> Blob:
        self.count += 1
        blob = Blob(name, shape, real, bound, low, self.count if storage is None else storage)
        self.blobs = [other for other in self.blobs if other.name != name] + [blob]
        return blob

    def add(
        self,
        kind: str,
        bottoms: Sequence[Blob] = (),
        tops: int = 1,
        in_place: bool = False,
        bound: float | None = None,
        low: float | None = None,
        share: float = 0.12,
        **params: Any,
    ) -> list[Blob]:
        """Adds a layer; returns its tops. Raises Illegal, with nothing added, where Caffe would refuse it."""
        layer = LayerParameter(name=self.layer_name(), type=kind, **params)
        layer.bottom.extend(blob.name for blob in bottoms)
        if in_place:
            self._may_overwrite(bottoms[0])
            layer.top.append(bottoms[0].name)
        else:
            while len(layer.top) < tops:
                name = self.blob_name(layer.name if not layer.top else f"{layer.name}_t")
                layer.top.append(name if name not in layer.top else f"{name}_{len(layer.top)}")
        shapes, weights = infer(layer, [blob.shape for blob in bottoms])
        real, others = infer(layer, [blob.real for blob in bottoms])
        need(weights == others, "weights that depend on a Filter")
        if kind in WINDOWED:
            axis = 1 if kind in ("Interp", "Pooling", "SPP") else layer.convolution_param.axis % len(bottoms[0].shape)
            counted = any(blob.shape[axis + 1 :] != blob.real[axis + 1 :] for blob in bottoms)
            need(not counted, "windows over what a Filter counts, which caffe2tf refuses")
        need(all(math.prod(shape) <= LARGEST for shape in [*shapes, *weights]), "too large")
        bound = bound if bound is not None else max([blob.bound for blob in bottoms], default=3.0)
        need(bound <= HIGHEST, "values too large")
        if weights:
            self._weigh(layer, weights, share)
        self.net.layer.add().CopyFrom(layer)
        shared = kind in SHARING or (kind in ("Slice", "Concat") and len(layer.top) == len(layer.bottom) == 1)
        shared |= kind == "Permute" and list(layer.permute_param.order) == list(range(len(layer.permute_param.order)))
        storage = bottoms[0].storage if shared or in_place else None
        for blob in bottoms:
            blob.readers += 1
        if tops == 0:
            return []
        made = [
            self._made(name, shape, now, bound, low, storage)
            for name, shape, now in zip(layer.top, shapes, real, strict=True)
        ]
        if kind == "LSTM" and len(made) > 1 and shapes[0][0] == 1:
            made[1].storage = made[0].storage  # the output is a Concat of one hidden state
        return made

    def _may_overwrite(self, blob: Blob) -> None:
        """Caffe refuses a second reader of a blob that is overwritten; blobs in one storage change together."""
        need(blob.readers == 0, "read before it is overwritten")
        alone = all(other.storage != blob.storage for other in self.blobs if other is not blob)
        need("alias" in self.features or alone, "shares its storage")

    # ---------------------------------------------------------------- values

    def usual(self, shape: Shape) -> np.ndarray:
        """Values in -3..3, of either sign, some of them exactly equal or 0."""
        r = self.random
        values = np.clip(r.standard_normal(shape) * self.one(0.5, 1.0, 1.5), -3, 3)
        kind = r.randint(5)
        if kind == 0:
            values = np.round(values * 2) / 2
        elif kind == 1:
            values = np.where(r.random_sample(shape) < 0.2, 0.0, values)
        elif kind == 2:
            values = np.abs(values)
        return np.asarray(values, np.float32)

    def _weigh(self, layer: Any, shapes: Sequence[Shape], share: float) -> None:
        """Random weights for the layer, or an earlier layer's by the name of the parameter."""
        batch_norm = layer.type == "BatchNorm"
        # The tops of Parameter layers that share a blob are that blob.
        share = 0 if layer.type == "Parameter" and "alias" not in self.features else share
        for owner in self.net.layer:
            stored = self.weights.get(owner.name, [])
            if stored and owner.type == layer.type and [array.shape for array in stored] == list(shapes):
                # Statistics of the batch are written into the blobs that hold the global ones.
                other = batch_norm and any("use_global_stats: false" in str(one) for one in (owner, layer))
                if not self.chance(share * 3) or (other and "shared_statistics" not in self.features):
                    break
                for index in range(len(shapes)):
                    while len(owner.param) <= index:
                        owner.param.add(**({"lr_mult": 0} if batch_norm else {}))
                    owner.param[index].name = owner.param[index].name or f"w{self.count}_{index}"
                    layer.param.add(name=owner.param[index].name, **({"lr_mult": 0} if batch_norm else {}))
                if self.chance(0.7):
                    self.weights[layer.name] = stored
                return
        self.weights[layer.name] = [
            np.asarray(self._weight(layer, index, shape), np.float32) for index, shape in enumerate(shapes)
        ]

    def _weight(self, layer: Any, index: int, shape: Shape) -> np.ndarray:
        r = self.random
        if layer.type == "BatchNorm" and index:
            return r.uniform(0.3, 2.0, shape) if index == 1 else np.full(shape, self.one(1.0, 1.0, 0.5, 999.98, 0.0))
        if layer.type == "BN" and index == 3:
            return r.uniform(0.3, 2.0, shape)
        if layer.type.endswith(("Convolution", "ConvolutionDepthwise", "InnerProduct")) and index == 0:
            if layer.type == "InnerProduct":
                inputs = shape[0] if layer.inner_product_param.transpose else shape[1]
            else:
                inputs = math.prod(shape[1:])
            return r.uniform(-1, 1, shape) * math.sqrt(3 / inputs)
        values = r.uniform(-1, 1, shape)
        return np.round(values * 4) / 4 if self.chance(0.1) else values


def attempt(maker: Maker, proposals: Sequence[Callable[[Maker], Any]], weights: np.ndarray) -> None:
    """Adds what one of the `proposals` says, the first of up to 40 that is legal."""
    for _ in range(40):
        proposal = proposals[maker.random.choice(len(proposals), p=weights)]
        net, blobs = NetParameter.FromString(maker.net.SerializeToString()), [replace(blob) for blob in maker.blobs]
        try:
            proposal(maker)
        except Illegal:
            maker.net, maker.blobs = net, blobs
            known = {layer.name for layer in net.layer} | {blob.name for blob in blobs}
            for found in (maker.weights, maker.values, maker.fixed):
                for name in [name for name in found if name not in known]:
                    del found[name]
        else:
            return
