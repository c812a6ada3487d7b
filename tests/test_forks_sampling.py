"""Layers of forks that resize maps or read them at places that other values say, against formulas in float64 NumPy.

Each formula is written from the source that it names; FlowWarp and Correlation have golden cases of OpenCV's besides.
"""

import math

import numpy as np
import pytest

from caffe2tf import loading
from caffe2tf.errors import NetError
from tests.helpers import inputs, layer, make
from tests.oracles import close, run_layer

pytest.importorskip("keras")

RANDOM = np.random.RandomState(17)


def data(*shape):
    return RANDOM.randn(*shape).astype(np.float32)


def refused(folder, kind, params, why, **shapes):
    text = inputs(**shapes) + layer(kind, params, bottoms=list(shapes))
    with pytest.raises(NetError, match=rf"^layer 'x' \({kind}\): .*{why}"):
        loading.load(make(folder, text)[0])


# ------------------------------------------------------------ Unpooling


def masks(shape, size):
    """Places of a plane of `size`, none twice in a plane."""
    planes = [RANDOM.permutation(size[0] * size[1])[: shape[2] * shape[3]] for _ in range(shape[0] * shape[1])]
    return np.stack(planes).reshape(shape)


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ("unpool_size: 9", (9, 9)),
        ("unpool_h: 7 unpool_w: 8", (7, 8)),
        ("", (7, 9)),
        ("kernel_size: 3 stride: 2", (7, 9)),
        ("kernel_h: 3 kernel_w: 4 stride_h: 2 stride_w: 3", (7, 13)),
    ],
)
def test_unpooling_by_mask(params, size, tmp_path):
    """DeconvNet's unpooling_layer.cpp: top[mask] = bottom in each plane."""
    params = params if "kernel" in params else f"kernel_size: 2 stride: 2 {params}"
    x, mask = data(2, 3, 3, 4), masks((2, 3, 3, 4), size)
    (found,) = run_layer(tmp_path, "Unpooling", f"unpooling_param {{ {params} }}", {"data": x, "mask": mask})
    expected = np.zeros((2, 3, size[0] * size[1]))
    for n in range(2):
        for c in range(3):
            expected[n, c, mask[n, c].ravel()] = x[n, c].ravel()
    close(found, expected.reshape(2, 3, *size))


def test_of_two_values_for_a_place_the_last_stays(tmp_path):
    given = {"data": [[[[1.0, 2, 3]]]], "mask": [[[[4.0, 1, 4]]]]}
    (found,) = run_layer(tmp_path, "Unpooling", "unpooling_param { kernel_size: 2 unpool_h: 2 unpool_w: 3 }", given)
    assert found.ravel().tolist() == [0, 2, 0, 0, 3, 0]


@pytest.mark.parametrize("method", ["MAX", "AVE", "TILE"])
@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [((2, 2), (2, 2), (6, 8)), ((3, 2), (2, 1), (7, 6)), ((3, 3), (3, 3), (8, 10))]
)
def test_unpooling_without_a_mask(method, kernel, stride, size, tmp_path):
    """DeconvNet's unpooling_layer.cpp: AVE and TILE add up where windows overlap; AVE counts a window as far as the
    top goes."""
    x = data(2, 3, 3, 4)
    pairs = zip(("kernel", "stride", "unpool"), (kernel, stride, size), strict=True)
    params = " ".join(f"{name}_h: {h} {name}_w: {w}" for name, (h, w) in pairs)
    (found,) = run_layer(tmp_path, "Unpooling", f"unpooling_param {{ unpool: {method} {params} }}", {"data": x})
    expected = np.zeros((2, 3, *size))
    for i in range(3):
        for j in range(4):
            top, left = i * stride[0], j * stride[1]
            if method == "MAX":
                expected[:, :, min(top, size[0] - 1), min(left, size[1] - 1)] = x[:, :, i, j]
                continue
            end, right = min(top + kernel[0], size[0]), min(left + kernel[1], size[1])
            area = (end - top) * (right - left) if method == "AVE" else 1
            expected[:, :, top:end, left:right] += x[:, :, i, j, None, None].astype(np.float64) / area
    close(found, expected)


def test_unpooling_undoes_pooling(tmp_path):
    from caffe2tf.keras_model import model

    x = data(2, 3, 6, 8)
    text = inputs(data=x.shape)
    text += layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops=["p", "m"], name="p")
    params = "unpooling_param { kernel_size: 2 stride: 2 unpool_h: 6 unpool_w: 8 }"
    net = loading.load(make(tmp_path, text + layer("Unpooling", params, bottoms=["p", "m"]))[0])
    found = model.forward(net, {"data": x})["top"]
    np.testing.assert_array_equal(found, np.where(np.isin(x, found[found != 0]), x, 0))
    assert (found != 0).sum() == 2 * 3 * 3 * 4


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ("", "kernel .* and stride .*; both must be at least 1"),
        ("kernel_size: 2 pad: 1", "takes 0 alone"),
        ("kernel_h: 2", "takes both or neither"),
        ("kernel_size: 2 unpool_h: 5", "takes both or neither"),
    ],
)
def test_unpooling_refused(params, why, tmp_path):
    refused(tmp_path, "Unpooling", f"unpooling_param {{ {params} }}", why, data=(1, 2, 3, 4))


# ------------------------------------------------------------ BilinearInterpolation


@pytest.mark.parametrize(
    ("params", "like", "size"),
    [("interpolation_factor: 3", None, (12, 15)), ("", (1, 7, 9, 6), (9, 6)), ("", (1, 1, 1, 3), (1, 3))],
)
def test_bilinear_interpolation(params, like, size, tmp_path):
    """bilinear_interpolation_layer.cpp: place h is (in - 1) h / (out - 1), so the corners stay."""
    x = data(2, 3, 4, 5)
    given = {"data": x} | ({"like": data(*like)} if like else {})
    (found,) = run_layer(tmp_path, "BilinearInterpolation", f"bilinear_interpolation_param {{ {params} }}", given)
    expected = np.empty((2, 3, *size))
    for h in range(size[0]):
        for w in range(size[1]):
            fh, fw = (3 * h / (size[0] - 1) if size[0] > 1 else 0), 4 * w / (size[1] - 1)
            a, b = math.floor(fh), math.floor(fw)
            c, d = min(a + 1, 3), min(b + 1, 4)
            dh, dw = fh - a, fw - b
            rows = (1 - dh) * x[:, :, a].astype(np.float64) + dh * x[:, :, c]
            expected[:, :, h, w] = (1 - dw) * rows[:, :, b] + dw * rows[:, :, d]
    close(found, expected)


def test_bilinear_interpolation_refused(tmp_path):
    refused(tmp_path, "BilinearInterpolation", "", "interpolation_factor 0; must be at least 1", data=(1, 2, 3, 4))


# ------------------------------------------------------------ Resample


def triangle(x):
    return max(0.0, 1 - abs(x))


def cubic(x):
    """The cubic of Keys 1981 with a = -0.5."""
    x = abs(x)
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ("height: 8 width: 10", (8, 10)),
        ("height: 8 width: 10 type: CUBIC", (8, 10)),
        ("height: 2 width: 3", (2, 3)),
        ("height: 2 width: 3 antialias: false", (2, 3)),
        ("height: 2 width: 3 type: CUBIC", (2, 3)),
        ("height: 2 width: 10", (2, 10)),
        ("", (7, 3)),
    ],
)
def test_resample(params, size, tmp_path):
    """resample_layer.cu of FlowNet 2: the weights of all places, but for those further than the reach."""
    x = data(2, 3, 4, 5)
    given = {"data": x} | ({} if params else {"like": data(1, 1, *size)})
    (found,) = run_layer(tmp_path, "Resample", f"resample_param {{ {params} }}", given)
    fy, fx = 4 / size[0], 5 / size[1]
    weight, wide = (cubic, 4) if "CUBIC" in params else (triangle, 2)
    soft = max(fx, fy) > 1 and "false" not in params
    expected = np.zeros((2, 3, *size))
    for i, j in np.ndindex(*size):
        shares = []
        for n, at, f in ((4, i * fy + fx / 2 - 0.5, fy), (5, j * fx + fy / 2 - 0.5, fx)):
            a = 1 / f if soft else 1.0
            reach = 2 if f < 1 else math.ceil(wide / a)
            middle = math.floor(abs(at) + 0.5) * (1 if at > 0 else -1)
            shares.append([weight(a * (at - p)) if abs(p - middle) <= reach else 0.0 for p in range(n)])
        both = np.outer(*shares)
        expected[:, :, i, j] = (x * both).sum((2, 3)) / both.sum() if both.sum() else 0
    close(found, expected)


def test_resample_to_the_nearest(tmp_path):
    x = data(1, 1, 3, 4)
    (found,) = run_layer(tmp_path, "Resample", "resample_param { type: NEAREST height: 6 width: 8 }", {"data": x})
    close(found, x.repeat(2, 2).repeat(2, 3))


@pytest.mark.parametrize(
    ("params", "why"), [("height: 3", "takes a height and a width"), ("height: 3 width: 3 type: AREA", "type AREA")]
)
def test_resample_refused(params, why, tmp_path):
    refused(tmp_path, "Resample", f"resample_param {{ {params} }}", why, data=(1, 2, 3, 4))


# ------------------------------------------------------------ FlowWarp, SpatialTransformer, Correlation


@pytest.mark.parametrize("fill", ["ZERO", "NOT_A_NUMBER"])
def test_flow_warp(fill, tmp_path):
    """flow_warp_layer.cpp of FlowNet 2: inside is [0, W) x [0, H), so between the last column and W that column is
    read."""
    x, flow = data(2, 3, 4, 5), 2 * data(2, 2, 4, 5)
    flow[0, :, 0, 0] = 0.25, -0.01  # a little above the map
    flow[0, :, 0, 1] = 3.75, 0.5  # between the last column and the end
    flow[0, :, 0, 2] = 3.0, 0  # the end itself
    flow[0, :, 0, 3] = np.nan, 0
    params = f"flow_warp_param {{ fill_value: {fill} }}"
    (found,) = run_layer(tmp_path, "FlowWarp", params, {"data": x, "flow": flow})
    expected = np.full((2, 3, 4, 5), 0.0 if fill == "ZERO" else np.nan)
    for n, i, j in np.ndindex(2, 4, 5):
        column, row = j + float(flow[n, 0, i, j]), i + float(flow[n, 1, i, j])
        if 0 <= column < 5 and 0 <= row < 4:
            left, top = int(column), int(row)
            lines = x[n][:, [top, min(top + 1, 3)]].astype(np.float64)
            ends = lines[:, :, left] * (left + 1 - column) + lines[:, :, min(left + 1, 4)] * (column - left)
            expected[n, :, i, j] = ends[:, 0] * (top + 1 - row) + ends[:, 1] * (row - top)
    close(found, expected)
    assert (found[0, :, 0, 1] != 0).all()


def test_flow_of_another_size_is_refused(tmp_path):
    refused(tmp_path, "FlowWarp", "", r"takes \(1, 2, 4, 5\)", data=(1, 3, 4, 5), flow=(1, 2, 4, 6))


@pytest.mark.parametrize("size", [(4, 5), (3, 7)])
@pytest.mark.parametrize(
    "params",
    [
        "",
        "theta_1_2: 0.0 theta_2_1: 0.25",
        "theta_1_1: 0.5 theta_1_2: 0.5 theta_1_3: 0.5 theta_2_1: 0.5 theta_2_2: 0.5",
        "theta_2_3: 0.2",
    ],
)
def test_spatial_transformer(params, size, tmp_path):
    """st_layer.cpp of daerduoCarey: rows come first, place i of n is 2 i / n - 1, taps outside count nothing."""
    x, theta = data(2, 3, 4, 5), (data(2, 6) * 0.4 + [1, 0, 0, 0, 1, 0]).astype(np.float32)
    names = [f"theta_{a}_{b}" for a in (1, 2) for b in (1, 2, 3)]
    words = params.replace(":", "").split()
    for name, value in zip(words[::2], words[1::2], strict=True):
        theta[:, names.index(name)] = float(value)
    free = [k for k, name in enumerate(names) if name not in words]
    params += f" output_H: {size[0]} output_W: {size[1]}"
    given = {"data": x, "theta": theta[:, free]}
    (found,) = run_layer(tmp_path, "SpatialTransformer", f"st_param {{ {params} to_compute_dU: false }}", given)
    expected = np.zeros((2, 3, *size))
    for n, i, j in np.ndindex(2, *size):
        row, column = theta[n].astype(np.float64).reshape(2, 3) @ [2 * i / size[0] - 1, 2 * j / size[1] - 1, 1]
        row, column = (row + 1) / 2 * 4, (column + 1) / 2 * 5
        for r in range(4):
            for c in range(5):
                share = max(0, 1 - abs(row - r)) * max(0, 1 - abs(column - c))
                expected[n, :, i, j] += share * x[n, :, r, c]
    close(found, expected)


@pytest.mark.parametrize(
    ("params", "theta", "why"),
    [
        ("", (1, 5), r"theta of shape \(1, 5\); takes \(1, 6\)"),
        ('transform_type: "tps"', (1, 6), "transform_type 'tps', sampler_type 'bilinear'; takes affine, bilinear"),
        ('sampler_type: "nearest"', (1, 6), "sampler_type 'nearest'; takes affine, bilinear"),
        ("output_H: 0", (1, 6), "both must be at least 1"),
    ],
)
def test_spatial_transformer_refused(params, theta, why, tmp_path):
    refused(tmp_path, "SpatialTransformer", f"st_param {{ {params} }}", why, data=(1, 2, 3, 4), theta=theta)


@pytest.mark.parametrize(
    "params",
    [
        "pad: 2 kernel_size: 1 max_displacement: 2",
        "pad: 3 kernel_size: 3 max_displacement: 2 stride_1: 2",
        "pad: 4 kernel_size: 1 max_displacement: 4 stride_2: 3",
        "pad: 2 kernel_size: 1 max_displacement: 2 correlation_type: SUBTRACT",
    ],
)
def test_correlation(params, tmp_path):
    """correlation_layer.cu of FlowNet, place by place: channel k is k % g columns and k // g rows from the first."""
    x, y = data(2, 3, 6, 7), data(2, 3, 6, 7)
    (found,) = run_layer(tmp_path, "Correlation", f"correlation_param {{ {params} }}", {"data": x, "other": y})
    words = params.replace(":", "").split()
    p = dict(zip(words[::2], words[1::2], strict=True))
    pad, kernel, most = (int(p[name]) for name in ("pad", "kernel_size", "max_displacement"))
    one, two = int(p.get("stride_1", 1)), int(p.get("stride_2", 1))
    reach, radius = most // two, (kernel - 1) // 2
    size = [math.ceil((n + 2 * pad - 2 * (most + radius)) / one) for n in (6, 7)]
    x, y = (np.pad(a.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)]) for a in (x, y))
    expected = np.zeros((2, (2 * reach + 1) ** 2, *size))
    for k, i, j in np.ndindex(*expected.shape[1:]):
        right, down = (k % (2 * reach + 1) - reach) * two, (k // (2 * reach + 1) - reach) * two
        for v in range(kernel):
            for w in range(kernel):
                a = x[:, :, i * one + most + v, j * one + most + w]
                b = y[:, :, i * one + most + v + down, j * one + most + w + right]
                expected[:, k, i, j] += (np.abs(a - b) if "SUBTRACT" in params else a * b).sum(1)
    close(found, expected / (kernel**2 * 3))


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ("kernel_size: 2 max_displacement: 1", "the first odd"),
        ("kernel_size: 1", "both must be set"),
        ("kernel_size: 1 max_displacement: 2 stride_2: 0", "both must be at least 1"),
        ("kernel_size: 1 max_displacement: 4", r"do not fit \(1, 2, 6, 7\)"),
    ],
)
def test_correlation_refused(params, why, tmp_path):
    params = f"correlation_param {{ {params} }}"
    refused(tmp_path, "Correlation", params, why, data=(1, 2, 6, 7), other=(1, 2, 6, 7))
