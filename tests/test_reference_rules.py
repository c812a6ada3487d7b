"""What is known of Caffe beyond the golden results: storage, comparisons, shapes, types of forks.

Numbers of Caffe's own layers were seen in Caffe 1.0 on a CPU with OpenBLAS; those of forks follow from their sources.
"""

from types import GeneratorType

import numpy as np
import pytest

from caffe2tf import loading, reference
from caffe2tf.errors import NetError
from caffe2tf.reference.table import FLT_MAX, TABLE
from tests.conftest import inputs, layer, make, parameter


def one(folder, kind, params, blobs=None, tops=("top",), **given):
    """Every blob of one layer on `given`, in the order of its bottoms."""
    arrays = {name: np.asarray(value, np.float32) for name, value in given.items()}
    text = inputs(**{name: array.shape for name, array in arrays.items()})
    text += layer(kind, params, bottoms=list(given), tops=tops)
    net = loading.load(*make(folder, text, {"x": blobs} if blobs else None))
    return reference.compute(net, arrays)


def many(folder, text, **given):
    """Every blob of a network on `given`."""
    arrays = {name: np.asarray(value, np.float32) for name, value in given.items()}
    text = inputs(**{name: array.shape for name, array in arrays.items()}) + text
    return reference.compute(loading.load(make(folder, text)[0]), arrays)


# ------------------------------------------------------------ forks


def test_depthwise_convolution_of_the_other_name(tmp_path):
    x = np.arange(8.0).reshape(1, 2, 2, 2)
    params = "convolution_param { num_output: 2 kernel_size: 1 group: 2 bias_term: false }"
    top = one(tmp_path, "DepthwiseConvolution", params, [np.array([2.0, -1.0]).reshape(2, 1, 1, 1)], data=x)["top"]
    np.testing.assert_array_equal(top.ravel(), [0, 2, 4, 6, -4, -5, -6, -7])


def test_axpy(tmp_path):
    x, y = np.arange(1.0, 5.0).reshape(1, 2, 1, 2), np.full((1, 2, 1, 2), 10.0)
    top = one(tmp_path, "Axpy", "", a=np.array([[2.0, -1.0]]), data=x, y=y)["top"]
    np.testing.assert_array_equal(top.ravel(), [12, 14, 7, 6])


def test_bn(tmp_path):
    gamma, beta, mean, variance = (
        np.array(v).reshape(1, 2, 1, 1) for v in ([2.0, 3.0], [1.0, 0.0], [1.0, 2.0], [3.0, 8.0])
    )
    x = np.array([5.0, 8.0]).reshape(1, 2, 1, 1)
    top = one(tmp_path, "BN", "bn_param { eps: 1 }", [gamma, beta, mean, variance], data=x)["top"]
    np.testing.assert_allclose(top.ravel(), [5, 6])  # 2 * 4 / 2 + 1, 3 * 6 / 3
    top = one(tmp_path, "BN", "bn_param { bn_mode: INFERENCE }", [gamma, beta], data=x)["top"]
    np.testing.assert_array_equal(top.ravel(), [11, 24])


def test_upsample(tmp_path):
    x = np.array([[[[1.0, 2.0]]]])
    top = one(tmp_path, "Upsample", "", data=x)["top"]
    np.testing.assert_array_equal(top[0, 0], [[1, 1, 2, 2], [1, 1, 2, 2]])
    top = one(tmp_path, "Upsample", "", data=x, mask=np.array([[[[5.0, 5.0]]]]))["top"]
    np.testing.assert_array_equal(top[0, 0], [[0, 0, 0, 0], [0, 2, 0, 0]])
    with pytest.raises(NetError, match="mask names place 8 of a top of 2 x 4"):
        one(tmp_path, "Upsample", "", data=x, mask=np.array([[[[5.0, 8.0]]]]))


def test_stochastic_pooling(tmp_path):
    params = "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }"
    x = np.array([[1.0, 2.0, -1.0, -2.0], [3.0, 0.0, -3.0, 0.0]])[None, None]
    np.testing.assert_allclose(one(tmp_path, "Pooling", params, data=x)["top"].ravel(), [14 / 6, 0])


def test_prior_box_cuts_sizes_to_whole_pixels(tmp_path):
    params = "prior_box_param { min_size: 2.5 max_size: 8.9 clip: false }"
    top = one(tmp_path, "PriorBox", params, f=np.zeros((1, 1, 1, 1)), image=np.zeros((1, 3, 10, 20)))["top"]
    np.testing.assert_allclose(top[0, 0], [9 / 20, 4 / 10, 11 / 20, 6 / 10, 8 / 20, 3 / 10, 12 / 20, 7 / 10])
    np.testing.assert_allclose(top[0, 1], np.full(8, 0.1), rtol=1e-6)


def test_detections_are_listed_image_by_image_and_class_by_class(tmp_path):
    params = (
        "detection_output_param { num_classes: 3 confidence_threshold: 0.2 keep_top_k: 3 "
        "nms_param { nms_threshold: 0.5 } code_type: CORNER }"
    )
    boxes = [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.9], [0.5, 0.5, 1.0, 1.0]]
    prior = np.stack([np.ravel(boxes), np.ones(12)])[None]
    scores = np.array([[[0, 0.3, 0.9], [0, 0.8, 0.1], [0, 0.25, 0.7]], np.zeros((3, 3))]).reshape(2, 9)
    top = one(tmp_path, "DetectionOutput", params, loc=np.zeros((2, 12)), conf=scores, prior=prior)["top"]
    # Of class 1 box 0 overlaps box 1, and its box 2 is the worst of four.
    wanted = [[0, 1, 0.8, *boxes[1]], [0, 2, 0.9, *boxes[0]], [0, 2, 0.7, *boxes[2]]]
    np.testing.assert_allclose(top[0, 0], wanted, rtol=1e-6)
    none = one(tmp_path, "DetectionOutput", params, loc=np.zeros((2, 12)), conf=np.zeros((2, 9)), prior=prior)["top"]
    np.testing.assert_array_equal(none[0, 0], [[0, *[-1] * 6], [1, *[-1] * 6]])


# ------------------------------------------------------------ storage


@pytest.mark.parametrize(
    "shares",
    [
        layer("Flatten", tops=["f"]),
        layer("Reshape", "reshape_param { shape { dim: 4 } }", tops=["f"]),
        layer("Split", tops=["f"]),
        layer("Slice", tops=["f"]),
        layer("Concat", tops=["f"]),
        layer("Permute", "permute_param { order: 0 }", tops=["f"]),
    ],
)
def test_layers_that_share_their_bottom(shares, tmp_path):
    """A layer in place on the one changes the other, also for layers that read it later."""
    text = shares + layer("TanH", bottoms=["f"], tops=["f"], name="t") + layer("Power", tops=["late"], name="p")
    x = np.array([[1.0, 2.0], [3.0, -4.0]])
    found = many(tmp_path, text, data=x)
    for name in ("data", "late"):
        np.testing.assert_allclose(found[name], np.tanh(x))
    np.testing.assert_allclose(found["f"].ravel(), np.tanh(x).ravel())


def test_layers_that_do_not_share(tmp_path):
    x = np.array([[1.0, 2.0], [3.0, -4.0]])
    for copies in (
        layer("Dropout", tops=["f"]),
        layer("Tile", "tile_param { tiles: 1 }", tops=["f"]),
        layer("Slice", tops=["f", "g"]),
    ):
        found = many(tmp_path, copies + layer("TanH", bottoms=["f"], tops=["f"], name="t"), data=x)
        np.testing.assert_array_equal(found["data"], x)


A, B, C = np.array([[3.0, -2.0]]), np.array([[1.0, 5.0]]), np.array([[2.0, 2.0]])


@pytest.mark.parametrize(("operation", "left"), [("SUM", B + C), ("PROD", A * B * C), ("MAX", np.maximum(B, C))])
def test_what_eltwise_in_place_leaves(operation, left, tmp_path):
    text = layer("Eltwise", f"eltwise_param {{ operation: {operation} }}", bottoms=["data", "b", "c"], tops=["data"])
    np.testing.assert_array_equal(many(tmp_path, text, data=A, b=B, c=C)["data"], left)


def test_eltwise_in_place_with_a_bottom_of_the_same_storage(tmp_path):
    text = layer("Flatten", tops=["f"]) + layer("Flatten", tops=["g"], name="y")
    text += layer("Eltwise", bottoms=["f", "b", "g"], tops=["f"], name="e")
    found = many(tmp_path, text, data=A, b=B)
    for name in ("data", "f", "g"):
        np.testing.assert_array_equal(found[name], 2 * B)  # 0, then + b, then + itself


def test_what_lrn_in_place_leaves(tmp_path):
    x = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    params = "lrn_param { local_size: 3 alpha: 3 beta: 1 }"
    text = layer("LRN", params, tops=["data"])
    np.testing.assert_allclose(many(tmp_path, text, data=x)["data"].ravel(), [1 / 36, 1 / 225, 1 / 196])
    text = layer("LRN", params)
    np.testing.assert_allclose(many(tmp_path, text, data=x)["top"].ravel(), [1 / 6, 2 / 15, 3 / 14])


@pytest.mark.parametrize(
    ("kind", "params", "shape"),
    [
        ("InnerProduct", "inner_product_param { num_output: 2 }", (2, 2)),
        ("Convolution", "convolution_param { num_output: 2 kernel_size: 1 }", (2, 2, 1, 1)),
        ("Deconvolution", "convolution_param { num_output: 2 kernel_size: 1 }", (2, 2, 1, 1)),
    ],
)
def test_a_product_in_place_leaves_the_bias(kind, params, shape, tmp_path):
    bias = np.array([3.0, 4.0])
    found = one(tmp_path, kind, params, [shape, bias], tops=["data"], data=np.ones(shape))["data"]
    np.testing.assert_array_equal(found, np.broadcast_to(bias.reshape(1, 2, *[1] * (len(shape) - 2)), shape))


def test_batch_reindex_in_place_is_refused(tmp_path):
    """Caffe reads what it has just written."""
    with pytest.raises(NetError, match="cannot change 'data' in place"):
        many(tmp_path, layer("BatchReindex", bottoms=["data", "i"], tops=["data"]), data=[[1], [2]], i=[1, 0])


def test_a_layer_in_place_that_changes_the_size_is_refused(tmp_path):
    text = layer("Tile", "tile_param { tiles: 2 }", tops=["data"])
    with pytest.raises(
        NetError, match=r"layer 'x' \(Tile\): changes the size of 'data' in place; give it a top of its own"
    ):
        many(tmp_path, text, data=A)


# ------------------------------------------------------------ comparisons


INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("kind", "params", "x", "top"),
    [
        ("ReLU", "", [NAN, INF, -INF, -1], [NAN, INF, NAN, 0]),
        ("ReLU", "relu_param { negative_slope: 0.5 }", [NAN, INF, -INF, -1], [NAN, INF, -INF, -0.5]),
        ("Clip", "clip_param { min: -1 max: 2 }", [NAN, INF, -INF, 1], [-1, 2, -1, 1]),
        ("Threshold", "", [NAN, INF, -INF, 0], [0, 1, 0, 0]),
        ("Power", "power_param { power: 0 }", [NAN, INF, 0, 3], [1, 1, 1, 1]),
        ("Power", "power_param { scale: 0 shift: 2 power: 3 }", [NAN, INF, 0, 3], [8, 8, 8, 8]),
        ("Power", "power_param { power: 0.5 }", [NAN, INF, -INF, -1], [NAN, INF, INF, NAN]),
        ("Power", "power_param { power: -1 }", [INF, -INF, 0.0, -0.0], [0, -0.0, INF, -INF]),
        ("ELU", "", [NAN, INF, -INF, 0], [NAN, INF, -1, 0]),
    ],
)
def test_values_that_are_no_numbers(kind, params, x, top, tmp_path):
    np.testing.assert_array_equal(one(tmp_path, kind, params, data=[x])["top"], [top])


def test_max_of_what_is_no_number(tmp_path):
    params = "eltwise_param { operation: MAX }"
    a, b, c = [[NAN, 1, 1, NAN]], [[1, NAN, 2, NAN]], [[0, 0, NAN, 0]]
    found = one(tmp_path, "Eltwise", params, a=a, b=b, c=c)["top"]
    np.testing.assert_array_equal(found, [[1, NAN, 2, NAN]])


def test_pooling_of_what_is_no_number_and_of_nothing(tmp_path):
    params = "pooling_param { kernel_size: 1 stride: 3 }"
    x = np.full((1, 1, 5, 5), 7.0)
    x[0, 0, 0, 0], x[0, 0, 0, 3] = NAN, -INF
    found = one(tmp_path, "Pooling", params, tops=["top", "mask"], data=x)
    np.testing.assert_array_equal(found["top"][0, 0], [[-FLT_MAX] * 3, [7, 7, -FLT_MAX], [-FLT_MAX] * 3])
    np.testing.assert_array_equal(found["mask"][0, 0], [[-1] * 3, [15, 18, -1], [-1] * 3])
    # A window that starts 1 past the extent has a length of -1: 0 / -1. At the extent itself it is 0 / 0.
    found = one(
        tmp_path, "Pooling", "pooling_param { pool: AVE kernel_size: 1 stride: 3 }", data=np.full((1, 1, 5, 5), 7.0)
    )
    np.testing.assert_array_equal(found["top"][0, 0], [[7, 7, 0], [7, 7, 0], [0, 0, 0]])
    found = one(
        tmp_path, "Pooling", "pooling_param { pool: AVE kernel_size: 1 stride: 5 }", data=np.full((1, 1, 6, 5), 7.0)
    )
    np.testing.assert_array_equal(found["top"][0, 0], [[7, NAN], [7, NAN]])


def test_argmax_of_equal_values_takes_the_later_place(tmp_path):
    top = one(tmp_path, "ArgMax", "argmax_param { top_k: 3 }", data=[[1, 3, 3, 2]])["top"]
    np.testing.assert_array_equal(top.ravel(), [2, 1, 3])


# ------------------------------------------------------------ shapes


def top_of(kind, params, bottoms, weights=()):
    """The first top of a rule alone."""
    item = parameter(layer(kind, params)).layer[0]
    result = TABLE[kind](item, list(weights), *bottoms)
    result = list(result)[-1] if isinstance(result, GeneratorType) else result
    return result[0] if isinstance(result, list) else result


@pytest.mark.parametrize(
    ("kind", "params", "shapes", "top"),
    [
        ("MVN", "", [(2, 3)], (2, 3, 1, 1)),
        ("MVN", "mvn_param { across_channels: true }", [(5,)], (5, 1, 1, 1)),
        ("Flatten", "flatten_param { axis: 2 end_axis: 1 }", [(2, 3, 4)], (2, 3, 1, 4)),
        ("Im2col", "convolution_param { kernel_size: 2 axis: 0 pad: 1 stride: 2 }", [(2, 5, 4)], (8, 3, 3)),
        ("Crop", "crop_param { axis: 1 }", [(1, 4), (1, 2, 1)], (1, 2)),
        ("InnerProduct", "inner_product_param { num_output: 2 }", [(0, 3)], (0, 2)),
        ("ArgMax", "argmax_param { top_k: 2 out_max_val: true }", [(2, 3)], (2, 2, 2)),
        ("Reshape", "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }", [(2, 3)], (2, 3, 1)),
    ],
)
def test_shapes_that_few_expect(kind, params, shapes, top):
    assert top_of(kind, params, [np.ones(shape) for shape in shapes], [np.ones((2, 3)), np.ones(2)]).shape == top


def test_convolution_without_spatial_axes_is_a_product():
    x, kernel = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])
    params = "convolution_param { num_output: 2 bias_term: false }"
    np.testing.assert_array_equal(top_of("Convolution", params, [x], [kernel]), [[11, 17]])


def test_a_kernel_that_overhangs_by_less_than_a_stride_fits_once():
    x, kernel = np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), np.arange(9.0).reshape(1, 1, 3, 3)
    params = "convolution_param { num_output: 1 kernel_size: 3 stride: 2 bias_term: false }"
    np.testing.assert_array_equal(top_of("Convolution", params, [x], [kernel]), [[[[0 + 2 + 9 + 16]]]])


def test_coeff_has_no_part_in_a_maximum():
    params = "eltwise_param { operation: MAX coeff: 2 coeff: -1 }"
    np.testing.assert_array_equal(top_of("Eltwise", params, [A, B]), np.maximum(A, B))


def test_places_that_do_not_exist_are_named(tmp_path):
    params = "embed_param { input_dim: 3 num_output: 2 bias_term: false }"
    with pytest.raises(NetError, match="bottom names rows 0 to 3; takes 0 to 2"):
        one(tmp_path, "Embed", params, [(3, 2)], data=[[0, 3]])
    with pytest.raises(NetError, match="items -1 to 0 of a batch of 2; takes 0 to 1"):
        one(tmp_path, "BatchReindex", "", data=[[1], [2]], i=[0, -1])
