"""Faults of TensorFlow's kernels that layers go round."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from caffe2tf import formats
from tests.conftest import inputs, layer, make

tf = pytest.importorskip("tensorflow")
from caffe2tf import model  # noqa: E402

GARBAGE = 1e30  # no sum of a test comes near it

# Of plain convolutions: batch, extents, channels, kernel, strides. All have an output of width 1.
UNWRITTEN = [
    ((2, 3, 4, 1), (1, 3, 1, 1), (1, 2)),
    ((4, 6, 4, 1), (5, 3, 1, 16), (1, 2)),
    ((3, 7, 3, 1), (5, 2, 1, 3), (1, 3)),
    ((2, 9, 5, 4, 1), (4, 3, 3, 1, 16), (2, 1, 3)),
]


def dirty(count: int) -> None:
    """Leaves `count` values that no sum gives in the memory that TensorFlow hands out next."""
    for size in (count, count, count + 1, 2 * count):
        tf.fill([size], GARBAGE)


def windows(x: np.ndarray, kernel: Sequence[int], stride: Sequence[int]) -> np.ndarray:
    """Every window of `x` (items, spatial, channels): (items, spatial, channels, kernel extents)."""
    spatial = tuple(range(1, len(kernel) + 1))
    every = np.lib.stride_tricks.sliding_window_view(x, kernel, spatial)
    return every[(slice(None), *(slice(None, None, step) for step in stride))]


def convolution(x: np.ndarray, kernel: np.ndarray, stride: Sequence[int]) -> np.ndarray:
    rank = len(stride)
    found = windows(x.astype(np.float64), kernel.shape[:rank], stride)
    return np.tensordot(found, kernel.astype(np.float64), [[*range(-rank, 0), rank + 1], [*range(rank + 1)]])


def runs_on_avx512() -> bool:
    found = Path("/proc/cpuinfo")
    flags = set(re.findall(r"avx512\w+", found.read_text())) if found.exists() else set()
    switched = os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0" or "ONEDNN_MAX_CPU_ISA" in os.environ
    return not switched and {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= flags


@pytest.mark.skipif(not runs_on_avx512(), reason="oneDNN does not run on AVX-512 here, and computes it right")
@pytest.mark.parametrize(("extents", "kernel", "stride"), UNWRITTEN)
def test_the_library_leaves_a_narrow_convolution_unwritten(extents, kernel, stride):
    random = np.random.RandomState(0)
    x, kernel = random.randn(*extents).astype(np.float32), random.randn(*kernel).astype(np.float32)
    expected = convolution(x, kernel, stride)
    plain = {2: tf.nn.conv2d, 3: tf.nn.conv3d}[len(stride)]
    worst = 0
    with tf.device("CPU"):
        for _ in range(10):
            dirty(expected.size)
            worst = max(worst, abs(plain(x, kernel, (1, *stride, 1), "VALID").numpy() - expected).max())
    assert worst > 1, (
        f"TensorFlow {tf.__version__} computes it right: once setup.cfg asks for that version, "
        "`convolved` in caffe2tf/layers/convolution.py can go, and this test"
    )


@pytest.mark.parametrize(
    ("shape", "params", "stride"),
    [
        ((2, 1, 3, 4), "kernel_h: 1 kernel_w: 3 stride_h: 1 stride_w: 2", (1, 2)),
        ((4, 1, 6, 4), "kernel_h: 5 kernel_w: 3 stride_h: 1 stride_w: 2", (1, 2)),
        ((4, 1, 6, 2), "kernel_h: 5 kernel_w: 3 stride_h: 1 stride_w: 3 pad_w: 1 pad_h: 0", (1, 3)),
        ((3, 2, 7, 5), "kernel_h: 3 kernel_w: 4 stride_h: 1 stride_w: 3 group: 2", (1, 3)),
        ((2, 1, 9, 5, 4), "kernel_size: [4, 3, 3] stride: [2, 1, 3]", (2, 1, 3)),
        ((4, 1, 6, 9), "kernel_h: 5 kernel_w: 3 stride_h: 1 stride_w: 2", (1, 2)),
    ],
)
def test_ours_is_right_where_the_library_is_not(tmp_path, shape, params, stride):
    extents = (4, 3, 3) if len(shape) == 5 else tuple(int(n) for n in re.findall(r"kernel_.: (\d)", params))
    kernel, bias = np.random.RandomState(1).randn(4, 1, *extents).astype(np.float32), np.arange(4, dtype=np.float32)
    text = inputs(data=shape) + "\n" + layer("Convolution", f"convolution_param {{ num_output: 4 {params} }}")
    net = formats.load(*make(tmp_path, text, {"x": [kernel, bias]}))
    x = np.random.RandomState(2).randn(*shape).astype(np.float32)
    last = np.moveaxis(x, 1, -1)
    pad = 1 if "pad_w: 1" in params else 0
    last = np.pad(last, [(0, 0)] * (last.ndim - 2) + [(pad, pad), (0, 0)])
    per_group = 4 // shape[1]
    parts = [
        convolution(
            last[..., g : g + 1], np.moveaxis(kernel[g * per_group : (g + 1) * per_group], (0, 1), (-1, -2)), stride
        )
        for g in range(shape[1])
    ]
    expected = np.moveaxis(np.concatenate(parts, -1) + bias, -1, 1)
    run, made = model.compiled(net, ["top"]), model.to_keras(net)
    for _ in range(5):
        for find in (
            lambda: run({"data": x})["top"],
            lambda: np.moveaxis(np.asarray(made(np.moveaxis(x, 1, -1))), -1, 1),
        ):
            dirty(expected.size)
            np.testing.assert_allclose(find(), expected, rtol=1e-5, atol=1e-5)
