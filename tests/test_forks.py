"""Layers and parameters without golden results, against the published definition computed in float64 NumPy.

Each reference is written from the source that it names, not from the rows.
"""

import math

import numpy as np
import pytest

from caffe2tf import formats, loading
from tests.conftest import inputs, layer, make

pytest.importorskip("keras")
from caffe2tf.keras_model import model

RANDOM = np.random.RandomState(7)


def run(folder, kind, params, given, blobs=(), tops=("top",)):
    """The first top of one layer; `given` maps input blobs to arrays, in the order of the bottoms."""
    arrays = {name: np.asarray(value, np.float32) for name, value in given.items()}
    text = inputs(**{name: array.shape for name, array in arrays.items()})
    text += layer(kind, params, bottoms=list(given), tops=tops)
    net = loading.load(*make(folder, text, {"x": list(blobs)} if blobs else None))
    found = model.forward(net, arrays)[tops[0]]
    if model.to_keras(net).inputs:
        assert formats.save(net, str(folder / "x.keras")) == 0
    return found


def close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


def data(*shape):
    return RANDOM.randn(*shape).astype(np.float32)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("across", [True, False])
def test_normalize(across, shared, tmp_path):
    """SSD, normalize_layer.cpp: norm = (eps + sum x^2)^0.5 over channels, or over the whole item."""
    x, gamma = data(2, 3, 4, 5), (np.array(2.5) if shared else data(3))
    params = f"norm_param {{ across_spatial: {across} channel_shared: {shared} eps: 0.5 }}".lower()
    found = run(tmp_path, "Normalize", params, {"data": x}, [gamma])
    x = x.astype(np.float64)
    norm = np.sqrt(0.5 + (x**2).sum(axis=(1, 2, 3) if across else 1, keepdims=True))
    close(found, x / norm * (gamma if shared else gamma[:, None, None]))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1)])
def test_axpy(shape, tmp_path):
    """Hu, SENet, axpy_layer.cpp: F = a * X + Y, a per item and channel."""
    a, x, y = data(*shape), data(2, 3, 4, 5), data(2, 3, 4, 5)
    found = run(tmp_path, "Axpy", "", {"a": a, "data": x, "y": y})
    close(found, a.reshape(2, 3, 1, 1).astype(np.float64) * x + y)


def test_upsample_repeats_values(tmp_path):
    """Ports of YOLO v3, upsample_layer.cpp: top[i, j] = bottom[i / scale, j / scale]."""
    x = data(2, 3, 4, 5)
    close(run(tmp_path, "Upsample", "upsample_param { scale: 3 }", {"data": x}), x.repeat(3, 2).repeat(3, 3))
    params = "upsample_param { scale_h: 2 scale_w: 1 }"
    close(run(tmp_path, "Upsample", params, {"data": x}), x.repeat(2, 2))


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ("scale: 2", (6, 8)),
        ("scale: 2 pad_out_h: true pad_out_w: true", (5, 7)),
        ("upsample_h: 6 upsample_w: 7", (6, 7)),
    ],
)
def test_upsample_by_mask(params, size, tmp_path):
    """Badrinarayanan et al., SegNet, upsample_layer.cpp: each value goes to the place in its plane that the mask names."""
    x = data(2, 3, 3, 4)
    mask = np.stack([RANDOM.permutation(size[0] * size[1])[:12] for _ in range(6)]).reshape(2, 3, 3, 4)
    found = run(tmp_path, "Upsample", f"upsample_param {{ {params} }}", {"data": x, "mask": mask})
    expected = np.zeros((2, 3, size[0] * size[1]))
    for n in range(2):
        for c in range(3):
            expected[n, c, mask[n, c].ravel()] = x[n, c].ravel()
    close(found, expected.reshape(2, 3, *size))


def test_upsample_undoes_pooling_with_its_mask(tmp_path):
    x = data(2, 3, 6, 8)
    text = inputs(data=x.shape) + layer(
        "Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops=["p", "m"], name="p"
    )
    net = loading.load(make(tmp_path, text + layer("Upsample", bottoms=["p", "m"]))[0])
    found = model.forward(net, {"data": x})["top"]
    kept = np.isin(x, found[found != 0])
    np.testing.assert_array_equal(found, np.where(kept, x, 0))
    assert (found != 0).sum() == 2 * 3 * 3 * 4


def test_bn_of_pspnet(tmp_path):
    """Zhao et al., PSPNet, bn_layer.cpp: slope * (x - mean) / sqrt(variance + eps) + bias, blobs (1, C, 1, 1)."""
    x, slope, bias, mean = data(2, 3, 4, 5), data(1, 3, 1, 1), data(1, 3, 1, 1), data(1, 3, 1, 1)
    variance = np.abs(data(1, 3, 1, 1)) + 0.1
    found = run(tmp_path, "BN", "bn_param { eps: 0.01 frozen: true }", {"data": x}, [slope, bias, mean, variance])
    close(found, slope * (x.astype(np.float64) - mean) / np.sqrt(variance + 0.01) + bias)


def test_bn_of_segnet_with_merged_statistics(tmp_path):
    """Badrinarayanan et al., SegNet, bn_layer.cpp with bn_mode INFERENCE: scale * x + shift."""
    x, scale, shift = data(2, 3, 4, 5), data(1, 3, 1, 1), data(1, 3, 1, 1)
    found = run(tmp_path, "BN", "bn_param { bn_mode: INFERENCE }", {"data": x}, [scale, shift])
    close(found, scale * x.astype(np.float64) + shift)


def test_depthwise_convolution_of_the_other_name(tmp_path):
    """The same layer as ConvolutionDepthwise, whose golden case is `depthwise`."""
    x, kernel = data(2, 3, 5, 6), data(3, 1, 3, 3)
    params = "convolution_param { num_output: 3 kernel_size: 3 group: 3 bias_term: false }"
    found = run(tmp_path, "DepthwiseConvolution", params, {"data": x}, [kernel])
    expected = np.zeros((2, 3, 3, 4))
    for i in range(3):
        for j in range(3):
            expected += x[:, :, i : i + 3, j : j + 4].astype(np.float64) * kernel[None, :, :, i, j, None]
    close(found, expected)


def test_stochastic_pooling_at_test_time(tmp_path):
    """Zeiler and Fergus 2013; pooling_layer.cu, StoPoolForwardTest: sum x^2 / sum x over the window in the bottom."""
    x = np.abs(data(2, 3, 5, 6))
    x[0, 0, :2, :2] = 0
    found = run(tmp_path, "Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }", {"data": x})
    expected = np.zeros((2, 3, 3, 3))
    for i in range(3):
        for j in range(3):
            window = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].astype(np.float64)
            total = window.sum((2, 3))
            expected[:, :, i, j] = np.where(total > 0, (window**2).sum((2, 3)) / np.maximum(total, 1e-30), 0)
    close(found, expected)
    assert found[0, 0, 0, 0] == 0


def test_ceil_mode_of_forks(tmp_path):
    """Forks' pooling_layer.cpp: ceil_mode false rounds the extent down, as round_mode FLOOR does."""
    x = data(2, 3, 6, 8)
    down = run(tmp_path, "Pooling", "pooling_param { kernel_size: 3 stride: 2 ceil_mode: false }", {"data": x})
    up = run(tmp_path, "Pooling", "pooling_param { kernel_size: 3 stride: 2 }", {"data": x})
    assert down.shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(up[:, :, :2, :3], down)
    assert up.shape == (2, 3, 3, 4)


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ("shrink_factor: 2", (3, 4)),
        ("zoom_factor: 3 pad_beg: -1 pad_end: -1", (7, 13)),
        ("shrink_factor: 2 zoom_factor: 2", (5, 7)),
        ("height: 1 width: 9 pad_end: -2", (1, 9)),
    ],
)
def test_interp(params, size, tmp_path):
    """Chen et al., DeepLab, interp_layer.cpp: corners aligned, bottom cropped by pad_beg and pad_end first."""
    x = data(2, 3, 5, 7)
    found = run(tmp_path, "Interp", f"interp_param {{ {params} }}", {"data": x})
    beg = 1 if "pad_beg: -1" in params else 0
    end = {"pad_end: -1": 1, "pad_end: -2": 2}.get(params[-11:], 0)
    inner = x[:, :, beg : 5 - end, beg : 7 - end].astype(np.float64)
    expected = np.zeros((2, 3, *size))
    for i in range(size[0]):
        for j in range(size[1]):
            y = i * (inner.shape[2] - 1) / (size[0] - 1) if size[0] > 1 else 0
            z = j * (inner.shape[3] - 1) / (size[1] - 1) if size[1] > 1 else 0
            a, b = int(y), int(z)
            c, d = min(a + 1, inner.shape[2] - 1), min(b + 1, inner.shape[3] - 1)
            u, v = y - a, z - b
            expected[:, :, i, j] = (
                (1 - u) * ((1 - v) * inner[:, :, a, b] + v * inner[:, :, a, d])
                + u * ((1 - v) * inner[:, :, c, b] + v * inner[:, :, c, d])
            )  # fmt: skip
    close(found, expected)


@pytest.mark.parametrize(
    ("params", "image", "step"),
    [
        ("img_size: 50", (50, 50), None),
        ("img_h: 40 img_w: 60", (40, 60), None),
        ("step_h: 7 step_w: 5", (30, 40), (7, 5)),
    ],
)
def test_prior_box_sizes(params, image, step, tmp_path):
    """Liu et al., SSD, prior_box_layer.cpp: centres (i + offset) * step, boxes as parts of the image."""
    text = inputs(data=(1, 3, 30, 40), feature=(1, 2, 3, 4))
    params = f"prior_box_param {{ min_size: 6 variance: [0.1, 0.1, 0.2, 0.2] offset: 0.5 {params} }}"
    text += layer("PriorBox", params, bottoms=["feature", "data"])
    net = loading.load(make(tmp_path, text)[0])
    found = model.forward(net, {"data": data(1, 3, 30, 40), "feature": data(1, 2, 3, 4)})["top"]
    step_h, step_w = step or (image[0] / 3, image[1] / 4)
    boxes = []
    for i in range(3):
        for j in range(4):
            y, x = (i + 0.5) * step_h, (j + 0.5) * step_w
            boxes += [(x - 3) / image[1], (y - 3) / image[0], (x + 3) / image[1], (y + 3) / image[0]]
    close(found, np.array([[boxes, [0.1, 0.1, 0.2, 0.2] * 12]]))


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE"])
@pytest.mark.parametrize("encoded", [False, True])
def test_detection_output(code, encoded, tmp_path):
    """Liu et al., SSD, detection_output_layer.cpp and bbox_util.cpp, for two images, box by box."""
    images, priors, classes, top_k, keep = 2, 12, 3, 8, 6
    low = RANDOM.rand(priors, 2) * 0.6
    prior = np.concatenate([low, low + 0.1 + RANDOM.rand(priors, 2) * 0.3], 1)
    variance = np.full((priors, 4), 0.1)
    loc = RANDOM.randn(images, priors, 4) * 0.5
    conf = RANDOM.rand(images, priors, classes)
    params = f"""detection_output_param {{ num_classes: {classes} code_type: {code} keep_top_k: {keep}
        variance_encoded_in_target: {str(encoded).lower()} confidence_threshold: 0.3
        nms_param {{ nms_threshold: 0.4 top_k: {top_k} eta: 1 }} }}"""
    found = run(
        tmp_path,
        "DetectionOutput",
        params,
        {
            "loc": loc.reshape(images, -1),
            "conf": conf.reshape(images, -1),
            "prior": np.stack([prior.ravel(), variance.ravel()])[None],
        },
    )
    rows = []
    for n in range(images):
        boxes = []
        for p in range(priors):
            shift = loc[n, p] * (1 if encoded else variance[p])
            if code == "CORNER":
                boxes.append(prior[p] + shift)
                continue
            w, h = prior[p, 2] - prior[p, 0], prior[p, 3] - prior[p, 1]
            x, y = (prior[p, 0] + prior[p, 2]) / 2 + shift[0] * w, (prior[p, 1] + prior[p, 3]) / 2 + shift[1] * h
            w, h = math.exp(shift[2]) * w, math.exp(shift[3]) * h
            boxes.append(np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
        picked = []
        for c in range(1, classes):
            order = [p for p in np.argsort(-conf[n, :, c])[:top_k] if conf[n, p, c] > 0.3]
            kept = []
            for p in order:
                if all(iou(boxes[p], boxes[q]) <= 0.4 for q in kept):
                    kept.append(p)
            picked += [(conf[n, p, c], c, p) for p in kept]
        rows += [[n, c, score, *boxes[p]] for score, c, p in sorted(picked, reverse=True)[:keep]]
    close(found, np.array(rows)[None, None])


def test_detection_output_without_detections(tmp_path):
    params = "detection_output_param { num_classes: 2 confidence_threshold: 0.9 keep_top_k: 2 nms_param { top_k: 2 } }"
    prior = np.array([[[0, 0, 1, 1, 0.2, 0.2, 0.5, 0.5], [0.1] * 8]])
    found = run(
        tmp_path, "DetectionOutput", params, {"loc": np.zeros((1, 8)), "conf": np.full((1, 4), 0.1), "prior": prior}
    )
    assert found.tolist() == [[[[0, *[-1] * 6]]]]


def test_dummy_data_of_four_extents(tmp_path):
    """dummy_data_layer.cpp: before `shape` there were num, channels, height and width."""
    params = """dummy_data_param { num: 2 channels: 3 height: 4 width: 5 num: 1 channels: 1 height: 1 width: 2
        data_filler { value: 1.5 } data_filler { value: -1 } }"""
    net = loading.load(make(tmp_path, layer("DummyData", params, bottoms=[], tops=["a", "b"]))[0])
    found = model.forward(net, {})
    assert found["a"].shape == (2, 3, 4, 5)
    assert (found["a"] == 1.5).all()
    assert found["b"].tolist() == [[[[-1, -1]]]]


def test_softmax_over_the_batch(tmp_path):
    x = data(4, 3)
    found = run(tmp_path, "Softmax", "softmax_param { axis: 0 }", {"data": x})
    shifted = np.exp(x.astype(np.float64) - x.max(0))
    close(found, shifted / shifted.sum(0))


def test_argmax_of_equal_values_takes_the_later_place(tmp_path):
    """argmax_layer.cpp sorts pairs (value, place) downwards."""
    x = np.array([[1, 5, 5, 0, 5, 2]])
    found = run(tmp_path, "ArgMax", "argmax_param { top_k: 4 }", {"data": x})
    assert found.ravel().tolist() == [4, 2, 1, 5]


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_stride_with_dilation(kind, group, tmp_path):
    """base_conv_layer.cpp takes both at once; Keras refuses them, so the row goes another way."""
    x, kernel = data(2, 4, 7, 9), data(4, 4 // group, 3, 2)
    params = f"convolution_param {{ num_output: 4 kernel_h: 3 kernel_w: 2 stride: 2 dilation: 3 pad_h: 2 pad_w: 1 group: {group} bias_term: false }}"
    found = run(tmp_path, kind, params, {"data": x}, [kernel])
    (n, _, h, w), size, (ph, pw) = x.shape, 4 // group, (2, 1)
    if kind == "Convolution":
        oh, ow = (h + 2 * ph - 7) // 2 + 1, (w + 2 * pw - 4) // 2 + 1
        padded = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)]).astype(np.float64)
        expected = np.zeros((n, 4, oh, ow))
        for o in range(4):
            for i in range(size):
                for a in range(3):
                    for b in range(2):
                        part = padded[:, o // size * size + i, 3 * a :: 2, 3 * b :: 2][:, :oh, :ow]
                        expected[:, o] += kernel[o, i, a, b] * part
    else:
        full = np.zeros((n, 4, 2 * (h - 1) + 7, 2 * (w - 1) + 4))
        for i in range(4):
            for o in range(size):
                for a in range(3):
                    for b in range(2):
                        full[:, i // size * size + o, 3 * a : 3 * a + 2 * h - 1 : 2, 3 * b : 3 * b + 2 * w - 1 : 2] += (
                            kernel[i, o, a, b] * x[:, i]
                        )
        expected = full[:, :, ph:-ph, pw:-pw]
    close(found, expected)
