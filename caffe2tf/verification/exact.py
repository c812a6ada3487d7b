"""The reference as a judge: every layer in float64, and how much of a difference float32 may make on this very network."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from caffe2tf import __version__, reference
from caffe2tf.arrays.layout import Floats
from caffe2tf.net.net import Net
from caffe2tf.verification.golden import weight_digests
from caffe2tf.verification.sets import Expected, Golden, Judge, JudgeError

# A blob may be apart by this share of its norm, plus so many times what float32 costs on the way to it: the cost counts what
# layers write, and rounding inside a layer adds to it. Caffe's own results keep within both (tests/test_reference.py).
RELATIVE, TIMES_COST = 1e-6, 8
LONGEST = 60.0  # seconds that it takes without being told to
# Of one core of some 10 GFLOP/s in float64; a window costs a turn of a Python loop.
_MULTIPLY_ADDS, _TURN = 0.4e9, 8e-6
_LARGEST = float(np.sqrt(np.finfo(np.float32).max))
_RUNS = 2  # one exact, one with every value nudged
_LOOPS = {
    "Convolution",
    "ConvolutionDepthwise",
    "DepthwiseConvolution",
    "Deconvolution",
    "Im2col",
    "Pooling",
    "SPP",
    "Crop",
}


def record(net: Net, inputs: Mapping[str, Floats], read: str, fed: str, yes: bool = False) -> Golden:
    """What the reference computes of `net` on `inputs`, as a golden set.

    Raises JudgeError where that takes longer than LONGEST, unless `yes`.
    """
    refuse_long(net, inputs, yes)
    exact = reference.compute(net, inputs)
    cost = reference.float32_cost(net, inputs, exact=exact)
    tolerances, unjudged = dict[str, float](), dict[str, str]()
    for name, array in exact.items():
        norm = float(np.linalg.norm(array[np.isfinite(array)])) or 1.0
        tolerances[name] = RELATIVE + TIMES_COST * cost[name] / norm
        if not math.isfinite(cost[name]):
            unjudged[net.producers[name, net.last_versions[name]].layer.name] = (
                "it decides between values that float32 does not tell apart"
            )
    for node in net.nodes:
        if any(name not in exact for name, _ in node.tops):
            unjudged[node.layer.name] = "the reference has no rule for it, or for what it reads"
    wild = _wild(net, exact)
    for name in wild:
        unjudged[net.producers[name, net.last_versions[name]].layer.name] = "its bottoms leave the range of float32"
    judge = Judge("reference", f"the reference of caffe2tf {__version__}, in float64", read, fed)
    return Golden(
        "reference",
        "",
        dict(inputs.items()),
        {
            name: Expected(_told(net, name, array))
            for name, array in exact.items()
            if name not in wild and math.isfinite(tolerances[name])
        },
        weights=weight_digests(net),
        judge=judge,
        tolerances=tolerances,
        given={(name, net.last_versions[name]): array for name, array in exact.items()},
        unjudged=unjudged,
    )


def _wild(net: Net, exact: Mapping[str, NDArray[np.float64]]) -> set[str]:
    """The blobs behind values that float32 cannot square: what they become there is no matter of the layer."""
    large = {name for name, array in exact.items() if np.abs(array[np.isfinite(array)]).max(initial=0) > _LARGEST}
    wild: set[str] = set()
    for node in net.nodes:
        if any(name in large or name in wild for name, _ in node.bottoms):
            wild.update(name for (name, _), _ in node.made() if name not in {bottom for bottom, _ in node.bottoms})
    return wild


def _told(net: Net, blob: str, array: NDArray[np.float64]) -> NDArray[np.float64]:
    """`array` as our layers tell it: infinite beyond float32, and detections the best first within an item."""
    array = np.where(np.abs(array) > np.finfo(np.float32).max, np.copysign(np.inf, array), array)
    if net.producers[blob, net.last_versions[blob]].layer.type == "DetectionOutput":
        rows = array[0, 0]
        array = rows[np.lexsort((-rows[:, 2], rows[:, 0]))][None, None]
    return array


def refuse_long(net: Net, inputs: Mapping[str, Floats], yes: bool) -> None:
    """Raises JudgeError where the reference takes longer than LONGEST, unless `yes`."""
    expected = seconds(net, inputs)
    if expected > LONGEST and not yes:
        raise JudgeError(
            f"the reference would take about {_time(expected)} for inputs of {_shapes(inputs)}; "
            "give a smaller `input_shape`, or `yes` to wait"
        )


def seconds(net: Net, inputs: Mapping[str, Floats]) -> float:
    """About how long the reference takes for `inputs`."""
    fitted = net.reshape({name: array.shape for name, array in inputs.items()})
    total = 0.0
    for node in fitted.nodes:
        turns = 0
        if node.layer.type in _LOOPS:
            turns = max(math.prod(int(n or 0) for n in shape[2:]) for shape in (*node.shapes, node.layer.bottoms[0]))
        total += node.layer.multiply_adds() * _items(node.shapes) / _MULTIPLY_ADDS + turns * _TURN
    return _RUNS * total


def _items(shapes: tuple[tuple[int | None, ...], ...]) -> int:
    return int(shapes[0][0] or 1) if shapes and shapes[0] else 1


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} minutes"
        if seconds < 7200
        else f"{seconds / 3600:.0f} hours"
    )


def _shapes(inputs: Mapping[str, Floats]) -> str:
    return ", ".join(f"{' x '.join(map(str, array.shape))}" for array in inputs.values())
