"""Every layer type once more in plain float64 NumPy, written from Caffe's own sources: the judge that needs nobody.

Nothing here knows `caffe2tf.layers` or Keras: a rule reads the layer's protobuf record, Caffe's blobs and the bottoms'
values, and finds shapes by itself. It is slow and meant for small networks.

Caffe computes in float32, this in float64. Where a layer decides (ArgMax, masks of pooling, Threshold, Filter,
non-maximum suppression), values that lie closer together than float32 tells apart can be decided otherwise than in
Caffe.

Blobs are storages as in Caffe: Flatten, Reshape, Split, and Slice and Concat of one blob share theirs with the bottom,
so a layer in place changes what others read. The Split layers that Caffe inserts share as well and need no trace here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.errors import NetError, WeightMismatch
from caffe2tf.reference import (  # noqa: F401  each registers its rules
    activation,
    arithmetic,
    choosing,
    convolution,
    detection,
    mscnn,
    normalization,
    parts,
    pooling,
    product,
    proposals,
    recurrent,
    regions,
    resizing,
    sampling,
    shaping,
    sources,
    yolo,
)
from caffe2tf.reference.storage import Blob
from caffe2tf.reference.table import TABLE, Shared, Tops, fail

if TYPE_CHECKING:
    from caffe2tf.net.net import Net

_ROUNDING = 2.0**-23


def compute(net: "Net", inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{blob: its last value, float64 in Caffe's axis order} of a run of `net` on `inputs` {input: array}, of all blobs that need
    no layer of a user's own: those have no rule here.

    Inputs of other shapes than the network's are taken as `Net.reshape` takes them. Raises NetError, WeightMismatch.
    """
    return _run(net, inputs, lambda value: value)


def float32_cost(
    net: "Net", inputs: Mapping[str, np.ndarray], seed: int = 0, exact: Mapping[str, np.ndarray] | None = None
) -> dict[str, float]:
    """{blob: the L2 norm by which it changes when every value, as it is written, is off by up to 2^-23 of itself}.

    That is the size of difference that a computation in float32 may have. Whole numbers, such as places and constants,
    stay what they are; what rounding inside one layer costs comes on top. Infinite where a blob gets another shape, or
    other values that are not finite. `exact`: what `compute` gave, where it is known.
    """
    random = np.random.RandomState(seed)

    def nudged(value: np.ndarray) -> np.ndarray:
        share = random.uniform(-_ROUNDING, _ROUNDING, value.shape)
        return np.where(value == np.round(value), value, value * (1 + share))

    exact, off = compute(net, inputs) if exact is None else exact, _run(net, inputs, nudged)
    return {name: distance(exact[name], off[name]) for name in exact}


def distance(x: np.ndarray, y: np.ndarray) -> float:
    """The L2 norm of x - y, infinite where shapes or values that are not finite differ."""
    finite = np.isfinite(x)
    if x.shape != y.shape or not np.array_equal(np.where(finite, 0, x), np.where(np.isfinite(y), 0, y), equal_nan=True):
        return float("inf")
    return float(np.linalg.norm(x[finite].astype(np.float64) - y[finite]))


def _run(
    net: "Net", inputs: Mapping[str, np.ndarray], written: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """As `compute`; `written` maps each value on its way into storage."""
    net = _fitted(net, inputs)
    if missing := [name for name in net.weight_shapes if name not in net.arrays]:
        raise WeightMismatch(f"layer '{missing[0]}': {net.lacking}")
    blobs: dict[str, Blob] = {}
    untold: set[tuple[str, int]] = set()
    with np.errstate(all="ignore"):  # NaN and infinity are results here, as in Caffe
        for node in net.nodes:
            layer = node.layer.proto
            rule = next((TABLE[name] for name in (layer.type, *node.layer.types) if name in TABLE), None)
            if rule is None or untold.intersection(node.bottoms):
                untold.update(blob for blob, _ in node.made())
                for (name, _), _ in node.made():
                    blobs.pop(name, None)
                continue
            weights = [np.asarray(array, np.float64) for array in net.arrays.get(layer.name, ())]
            bottoms = [blobs[name] for name, _ in node.bottoms]
            tops = [blobs.setdefault(name, Blob()) for name, _ in node.tops]
            if layer.type == "Input":
                given = [np.asarray(inputs[name], np.float64) for name, _ in node.tops]
            else:
                given = [bottom.value for bottom in bottoms]
            result = rule(layer, weights, *given)
            for values in result if isinstance(result, Iterator) else [result]:
                _write(layer, tops, bottoms, values, written)
    return {name: blob.value.copy() for name, blob in blobs.items()}


def _fitted(net: "Net", inputs: Mapping[str, np.ndarray]) -> "Net":
    """`net` for inputs of the shapes that came."""
    if set(inputs) != set(net.inputs):
        raise NetError(f"inputs {sorted(inputs)}; the network takes {sorted(net.inputs)}")
    shapes = {name: np.shape(array) for name, array in inputs.items()}
    return net if shapes == net.inputs else net.reshape(shapes)


def _write(
    layer: LayerParameter,
    tops: list[Blob],
    bottoms: list[Blob],
    values: Tops,
    written: Callable[[np.ndarray], np.ndarray],
) -> None:
    for top, value in zip(tops, values if isinstance(values, (list, tuple)) else [values], strict=True):
        if isinstance(value, Shared):
            top.share(bottoms[0] if value.top is None else tops[value.top], value.shape)
            continue
        # Caffe reshapes the bottom with the top before it computes; only Filter makes sense of that.
        if top in bottoms and value.size != top.value.size and layer.type != "Filter":
            fail(layer, f"works in place, but makes {value.shape} of its bottom {top.value.shape}")
        top.write(written(value))
