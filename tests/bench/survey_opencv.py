"""Networks run with seeded weights by OpenCV's Caffe importer as well, for `tests.bench.survey --opencv`.

Where they differ, Caffe's source is the judge. OpenCV 4.14 is known to leave out LRN's `k` (lrn_layer.cpp adds it), to keep
fractions of PriorBox's sizes (prior_box_layer.cpp cuts them), to give a convolution of one channel a group other values on
maps of 1 x 1 (conv_layer.cpp run on the same net gives ours), to scale Axpy's third bottom in SE-ResNet where SENet's
axpy_layer.hpp scales the second, and to fill DetectionOutput with rows of zeros.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import caffe2tf
from caffe2tf.layers import Weight
from caffe2tf.net.net import Net
from caffe2tf.net.wiring import Node

_CLOSE = 1e-4  # of a blob's largest value
_LARGEST = 2e10  # multiply-adds of an item, or a network takes minutes
_FREE = 64  # for a height or width that nothing tells


def seeded(net: Net, seed: int = 0) -> Net:
    """`net` with weights by chance under which its values neither vanish nor grow: variances and factors positive."""
    rng = np.random.default_rng(seed)

    def drawn(weight: Weight) -> NDArray[np.float32]:
        if weight.name in ("variance", "factor"):
            return np.full(weight.shape, 1.0, np.float32) * rng.uniform(0.8, 1.2, weight.shape).astype(np.float32)
        if len(weight.shape) > 1:
            fan = max(1.0, float(np.prod(weight.shape[1:])))
            return (rng.standard_normal(weight.shape) * np.sqrt(2 / fan)).astype(np.float32)
        return rng.uniform(0.05, 0.15, weight.shape).astype(np.float32)

    layers = [node.layer for node in net.nodes if node.layer.blobs()]
    arrays = {layer.name: [drawn(weight) for weight in layer.blobs()] for layer in layers}
    return net.with_weights({layer.name: layer.weights(arrays[layer.name]) for layer in layers})


def compare(nets: Iterable[tuple[str, Net]], say: Callable[[str], object] = print) -> dict[str, str]:
    """{name: "equal", "not run" (by OpenCV, or too large), or how far off and at which layer first}, each said as it is found."""
    found: dict[str, str] = {}
    for name, net in nets:
        try:
            found[name] = _one(net)
        except _NotRun as error:
            found[name] = f"not run: {error}"
        if found[name] != "equal":
            say(f"{name}: {found[name]}")
    ran = [verdict for verdict in found.values() if not verdict.startswith("not run")]
    say(f"OpenCV runs {len(ran)} of {len(found)}; equal: {ran.count('equal')}")
    return found


class _NotRun(Exception):
    """Why OpenCV does not run a network."""


def _one(net: Net) -> str:
    import cv2

    net = net.reshape({name: [n or _FREE for n in shape] for name, shape in net.inputs.items()})
    if not net.inputs:
        raise _NotRun("no inputs")
    if sum(node.layer.multiply_adds() or 0 for node in net.nodes) > _LARGEST:
        raise _NotRun("too large")
    net = seeded(net)
    rng = np.random.default_rng(1)
    inputs = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in net.inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        text, weights = os.path.join(folder, "net.prototxt"), os.path.join(folder, "net.caffemodel")
        with open(text, "w", encoding="utf-8") as file:
            file.write(net.text())
        caffe2tf.save(net, weights)
        try:
            other = cv2.dnn.readNetFromCaffe(text, weights)
            other.enableFusion(False)
            for name, value in inputs.items():
                other.setInput(value, name)
            outputs = [node for node in net.nodes if any(blob in net.outputs for blob, _ in node.tops)]
            theirs = {node.layer.name: other.forward(node.layer.name) for node in outputs if _compared(net, node)}
        except cv2.error as error:
            raise _NotRun(str(error).strip().splitlines()[-1][:120]) from None
        ours = caffe2tf.forward(net, inputs)
        if all(_off(node, ours, theirs[node.layer.name]) <= _CLOSE for node in outputs if _compared(net, node)):
            return "equal"
        for node in net.nodes:
            if not _compared(net, node):
                continue
            try:
                off = _off(node, ours, other.forward(node.layer.name))
            except cv2.error:  # a layer that it runs as a part of another alone
                continue
            if off > _CLOSE:
                return f"{off:.2g} at layer '{node.layer.name}' ({node.layer.type})"
    return "its outputs alone differ"


def _compared(net: Net, node: Node) -> bool:
    """Whether the first top of `node` is the last value of its blob, and no constant of ours alone."""
    blob, version = node.tops[0] if node.tops else ("", 0)
    return bool(node.tops) and node.layer.type != "Input" and net.last_versions[blob] == version


def _off(node: Node, blobs: dict[str, Any], theirs: NDArray[Any]) -> float:
    """How far the first top of `node` is from `theirs`, as a part of its largest value, infinite for other counts of values."""
    ours = blobs[node.tops[0][0]]
    if node.layer.type == "DetectionOutput":  # OpenCV fills up with rows of zeros, and orders ties its own way
        ours, theirs = (_ordered(rows.reshape(-1, 7)) for rows in (ours, theirs))
    if ours.size != theirs.size:
        return float("inf")
    scale = max(float(np.abs(ours).max(initial=0)), 1e-6)
    return float(np.abs(ours.ravel().astype(np.float64) - theirs.ravel()).max(initial=0)) / scale


def _ordered(rows: NDArray[Any]) -> NDArray[Any]:
    """Detections by item, class and score, without rows of zeros and without SSD's row for none at all (class -1)."""
    rows = rows[np.any(rows != 0, axis=1) & (rows[:, 1] >= 0)]
    return rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))]
