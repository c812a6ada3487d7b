"""When two results of one net are the same: what float32 must keep, and what it may lose.

A blob is right within a relative L2 error of 1e-5. Where values cancel, or a choice falls between values that are equal
but for rounding (ArgMax, a mask, Threshold), no float32 arithmetic keeps that. Such a blob is told apart by the net
itself: what every computing layer makes is changed by about one unit in the last place of float32 (`shaken`), and the
net runs again, in float64 where the reference is there. An error is rounding where it is at most MARGIN times what that
changed; a wrong formula moves a blob by far more. What lies below FLOOR is nothing: Caffe's own Sigmoid and LSTM go
through a sum with 1.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from tests.random_nets.sample import Sample, at_size

TOLERANCE = 1e-5
MARGIN = 30
UNIT = 2e-7
FLOOR = 1e-7
# Their tops are values of their bottoms, or small whole numbers: float32 changes nothing there.
_EXACT = (
    "Input DummyData Parameter ArgMax Threshold BatchReindex Filter Silence Split Concat Slice Crop Flatten Reshape Tile "
    "Dropout Permute ShuffleChannel Im2col"
)
EXACT = frozenset(_EXACT.split())
# Types whose equal values may differ by rounding: sums of other summands that are equal by chance, and functions that a library
# computes otherwise in its vectors than in what is left at the end of a row.
MIXING = frozenset(
    ("LRN", "MVN", "Normalize", "Softmax", "Power", "Exp", "Log", "Sigmoid", "TanH", "BNLL", "ELU", "Swish")
)
Blobs = Mapping[str, np.ndarray]


def distance(wanted: np.ndarray, found: np.ndarray) -> float:
    """The relative L2 error of `found`; inf for another shape, or where values that are not finite differ.

    What float32 cannot hold is infinite.
    """
    if wanted.shape != found.shape:
        return math.inf
    with np.errstate(over="ignore"):
        wanted, found = (np.asarray(array, np.float32).astype(np.float64) for array in (wanted, found))
    finite = np.isfinite(wanted)
    if not np.array_equal(wanted[~finite], found[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return math.inf
    apart, norm = np.linalg.norm(found[finite] - wanted[finite]), np.linalg.norm(wanted[finite])
    return float(apart / max(norm, 1e-30))


def shaken(sample: Sample, seed: int, blobs: Blobs) -> Sample:
    """`sample` with the tops of its computing layers multiplied by 1 + UNIT * u, u even in -1..1 for each value.

    Values that are equal in `blobs`, what the net gives, get the same u: a tie stays a tie. But before a layer that takes
    a mean away each value gets its own: what is left of equal values is rounding alone.
    """
    random, weights = np.random.RandomState(seed), dict(sample.weights)
    net = at_size(sample)
    layers = [LayerParameter.FromString(layer.SerializeToString()) for layer in net.layer]
    del net.layer[:]
    dropped = set()
    later: dict[str, int] = {}
    for index, layer in enumerate(layers):
        later.update({top: index for top in layer.top if index not in sample.dropped})
    counted = 0
    for index, layer in enumerate(layers):
        counted |= layer.type == "Filter"
        if index in sample.dropped:
            dropped.add(len(net.layer))
        if index not in sample.dropped and _centres(layer) and layer.bottom[0] in blobs and blobs[layer.bottom[0]].ndim:
            name, shape = f"shaken {len(net.layer)}", blobs[layer.bottom[0]].shape
            top = layer.bottom[0] if layer.bottom[0] in layer.top else name
            one = net.layer.add(name=name, type="Scale", bottom=[layer.bottom[0]], top=[top])
            # Behind a Filter the wiring knows another count of items than there are: there all of them move alike.
            one.scale_param.axis, one.scale_param.num_axes = min(counted, len(shape) - 1), -1
            moved = 1 + UNIT * random.uniform(-1, 1, shape[one.scale_param.axis :])
            weights[name] = [moved.astype(np.float32)]
            layer.bottom[0] = top
        net.layer.add().CopyFrom(layer)
        if layer.type in EXACT or index in sample.dropped:
            continue
        # A mask of MAX pooling is a place, not a value.
        tops = layer.top[:1] if layer.type == "Pooling" else layer.top
        for top in tops:
            name = f"shaken {len(net.layer)}"
            one = net.layer.add(name=name, bottom=[top], top=[top])
            if later[top] == index and top in blobs and blobs[top].ndim and not counted:
                kinds, place = np.unique(blobs[top], return_inverse=True)
                one.type, one.scale_param.axis, one.scale_param.num_axes = "Scale", 0, -1
                moved = (1 + UNIT * random.uniform(-1, 1, kinds.shape))[place].reshape(blobs[top].shape)
                if layer.type in MIXING:
                    each = 1 + UNIT * random.uniform(-1, 1, moved.shape)
                    moved = np.where(np.isin(blobs[top], (0, 1)), moved, each)
                weights[name] = [moved.astype(np.float32)]
            else:
                one.type, one.power_param.scale = "Power", 1 + UNIT * random.choice([-1, 1])
    return replace(sample, net=net, weights=weights, dropped=frozenset(dropped))


def _centres(layer: LayerParameter) -> bool:
    """Whether the layer takes away the mean of what it reads."""
    p = layer.batch_norm_param
    return layer.type == "MVN" or (
        layer.type == "BatchNorm" and p.HasField("use_global_stats") and not p.use_global_stats
    )


def gap(wanted: np.ndarray, found: np.ndarray) -> float:
    """The L2 norm of the difference; inf as in `distance`."""
    with np.errstate(over="ignore"):
        single = np.asarray(wanted, np.float32).astype(np.float64)
    return distance(wanted, found) * max(float(np.linalg.norm(single[np.isfinite(single)])), 1e-30)


def differing(sample: Sample, wanted: Blobs, found: Blobs, run: Callable[[Sample], Blobs]) -> dict[str, float]:
    """{blob: error} of the blobs of `wanted` that `found` lacks or has wrong; `run` computes a Sample's blobs."""
    errors = {name: distance(array, found[name]) if name in found else math.inf for name, array in wanted.items()}
    wrong = {name: error for name, error in errors.items() if not error <= TOLERANCE}
    if not wrong:
        return {}
    moved = dict.fromkeys(wrong, 0.0)
    try:
        still = run(sample)
        for seed in range(3):
            other = run(shaken(sample, seed, still))
            for name in wrong:
                if name in still and name in other:
                    moved[name] = max(moved[name], gap(still[name], other[name]))
    except Exception:  # what cannot be shaken is judged as it is
        return wrong
    return {
        name: error
        for name, error in wrong.items()
        if not gap(wanted[name], found[name]) <= MARGIN * moved[name] + FLOOR * math.sqrt(wanted[name].size)
    }
