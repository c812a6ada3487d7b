"""For every rule of Caffe's that other converters get wrong, the naive reading gives another number.

Each case reads a golden network, then the same with the rule left out, and sees that only the first is Caffe's.
"""

from pathlib import Path

import numpy as np
import pytest

from caffe2tf import loading
from caffe2tf.errors import Caffe2TFError
from caffe2tf.net.net import Net
from tests.helpers import GOLDEN, RELATIVE, error, golden, inputs, layer, make

pytest.importorskip("keras")
from caffe2tf.keras_model import model
from tests.oracles import run_layer

RULES = {
    "ceil pooling": ("layers/pool_max_ceil", "pool: MAX", "pool: MAX round_mode: FLOOR"),
    "ceil average pooling": ("layers/pool_ave_ceil", "pool: AVE", "pool: AVE round_mode: FLOOR"),
    "the last window that starts in the padding": ("layers/pool_max_pad_ceil_clip", "pad: 1", "pad: 0"),
    "pad_h is not pad_w": ("layers/pool_rect", "pad_h: 1 pad_w: 0", "pad_h: 0 pad_w: 1"),
    "pad of a convolution": ("layers/conv_rect_kernel", "pad_h: 0 pad_w: 2", "pad_h: 0 pad_w: 0"),
    "LRN divides alpha by local_size": ("layers/lrn_nchw", "alpha: 0.3", "alpha: 0.9"),
    "LRN divides alpha by the window's area": ("layers/lrn_within_nchw", "alpha: 0.7", "alpha: 6.3"),
    "LRN's k": ("layers/lrn_size3_k2", "k: 2", "k: 1"),
    "LRN within a channel": ("layers/lrn_within_channel", "norm_region: WITHIN_CHANNEL", ""),
    "coefficients of a sum": ("layers/eltwise_coeff", "coeff: 0.5 coeff: -2", ""),
    "slope of a leaky ReLU": ("layers/relu_leaky", "negative_slope: 0.1", ""),
    "dilation": ("layers/conv_dilation_hw", "dilation: 3 dilation: 1", "dilation: 1 dilation: 1"),
    "eps of BatchNorm": ("layers/bn_eps", "eps: 0.001", ""),
    "statistics of the batch": ("layers/bn_batch_stats", "use_global_stats: false", ""),
    "axis of Softmax": ("layers/softmax_axis2", "axis: 2", ""),
    "axis of InnerProduct": ("layers/reduction_mean_coeff", "coeff: 3", ""),
    "base of Exp": ("layers/exp_base2", "base: 2", ""),
    "base of Log": ("layers/log_base10", "base: 10", ""),
    "alpha of ELU": ("layers/elu", "alpha: 0.7", ""),
    "mean alone in MVN": ("layers/mvn_mean_only", "normalize_variance: false", ""),
    "eps of MVN": ("layers/mvn_eps", "eps: 0.05", ""),
    "offset of Crop": ("layers/crop", "offset: 1 offset: 2", ""),
    "group of ShuffleChannel": ("forks/shuffle_channel", "group: 3", "group: 4"),
    "clip of priors": ("forks/prior_box_clip_step", "clip: true", "clip: false"),
}


# Where the naive reading does not even fit: (case, text, naive text, what is said).
UNFIT = {
    "legacy name of Slice's axis": (
        "layers/slice_dim_legacy", "slice_dim: 1", "slice_dim: 2", "3 values along axis 2 do not part evenly into 2 tops"
    ),
    "transposed InnerProduct": (
        "layers/ip_transpose", "transpose: true", "", r"shape \(8, 4\) in the file, the layer wants \(4, 8\)"
    ),
}  # fmt: skip


def read_naively(folder: Path, case: str, written: str, naive: str) -> Net:
    """The golden network `case` with `naive` in its text where `written` stands."""
    path = GOLDEN / case
    text = (path / "net.prototxt").read_text()
    assert written in text
    (folder / "net.prototxt").write_text(text.replace(written, naive))
    return loading.load(str(folder / "net.prototxt"), str(path / "net.caffemodel"))


@pytest.mark.parametrize("rule", UNFIT)
def test_naive_reading_does_not_fit(rule, tmp_path):
    *naive, why = UNFIT[rule]
    with pytest.raises(Caffe2TFError, match=why):
        read_naively(tmp_path, *naive)


@pytest.mark.parametrize("rule", RULES)
def test_naive_reading_gives_another_number(rule, tmp_path):
    net, (_, blobs) = read_naively(tmp_path, *RULES[rule]), golden(GOLDEN / RULES[rule][0])
    found = model.forward(net, {name: blobs[name] for name in net.inputs})
    assert any(
        found[name].shape != array.shape or error(found[name], array)[0] > 10 * RELATIVE
        for name, array in blobs.items()
        if name in net.outputs
    )


def changed(case, layer, change):
    """The worst relative error of the outputs of a golden case after `change` of a layer's weights in Keras's layout."""
    path = GOLDEN / "layers" / case
    net = loading.load(str(path / "net.prototxt"), str(path / "net.caffemodel"))
    weights = {name: dict(arrays) for name, arrays in net.weights.items()}
    weights[layer] = change(net.arrays[layer], weights[layer])
    given, blobs = golden(path)
    found = model.forward(net.with_weights(weights), {name: given.get(name, blobs.get(name)) for name in net.inputs})
    return max(error(found[name], blobs[name])[0] for name in net.outputs)


def test_rows_after_a_spatial_blob_are_reordered():
    def naive(arrays, weights):
        return {**weights, "kernel": arrays[0].T}

    for case in ("ip_nchw", "ip_after_concat_nchw", "ip_after_eltwise_pool_nchw"):
        assert changed(case, "x", lambda arrays, weights: weights) < 1e-5
        assert changed(case, "x", naive) > 1e-2


def test_rows_after_flatten_are_not():
    def naive(arrays, weights):
        out, rows = arrays[0].shape
        spatial = arrays[0].reshape(out, 3, 4, 5).transpose(2, 3, 1, 0).reshape(rows, out)
        return {**weights, "kernel": spatial}

    assert changed("ip_after_flatten", "fc", naive) > 1e-2


def test_groups_in_their_order():
    def swapped(arrays, weights):
        return {**weights, "kernel": np.roll(weights["kernel"], weights["kernel"].shape[-1] // 2, -1)}

    assert changed("conv_group2", "conv", swapped) > 1e-2


def test_batch_norm_factor():
    def undivided(arrays, weights):
        return {"moving_mean": arrays[0], "moving_variance": arrays[1]}

    assert changed("bn_global", "bn", undivided) > 1e-2


@pytest.mark.parametrize(
    "case", ["bias_equal_extents", "bias_axis2_equal_extents", "bias_axis3_equal_extents", "scale_equal_extents"]
)
def test_axes_of_equal_extent_are_told_apart(case):
    path = GOLDEN / "layers" / case
    _, blobs = golden(path)
    layer = "b" if case.startswith("bias") else "s"
    net = loading.load(str(path / "net.prototxt"), str(path / "net.caffemodel"))
    right = model.forward(net, {"data": blobs["data"]})[layer]
    turned = model.forward(net, {"data": blobs["data"].transpose(0, 2, 3, 1)})[layer].transpose(0, 3, 1, 2)
    assert error(right, blobs[layer])[0] < 1e-6
    assert error(turned, blobs[layer])[0] > 1e-2


def test_average_pooling_counts_padding_but_not_overhang(tmp_path):
    path = GOLDEN / "layers" / "pool_ave_pad_ceil"
    _, blobs = golden(path)
    x, expected = blobs["data"].astype(np.float64), blobs["pool"]
    padded = np.pad(x, [(0, 0), (0, 0), (2, 5), (2, 5)])
    whole = np.zeros(expected.shape)
    for i in range(expected.shape[2]):
        for j in range(expected.shape[3]):
            whole[:, :, i, j] = padded[:, :, 3 * i : 3 * i + 4, 3 * j : 3 * j + 4].mean((2, 3))
    assert error(whole, expected)[0] > 1e-2  # every window divided by its whole area


def test_shared_parameters_are_the_owners(tmp_path):
    conv = 'param { name: "w" } convolution_param { num_output: 2 kernel_size: 1 bias_term: false }'
    text = (
        inputs(data=(1, 2, 3, 3))
        + layer("Convolution", conv, tops=["a"], name="a")
        + layer("Convolution", conv, name="b")
    )
    net = loading.load(*make(tmp_path, text, {"a": [(2, 2, 1, 1)], "b": [(2, 2, 1, 1)]}))
    found = model.forward(net, {"data": np.ones((1, 2, 3, 3))})
    np.testing.assert_array_equal(found["a"], found["top"])


def test_a_bias_beside_extents_of_one_keeps_every_axis(tmp_path):
    """Keras's add takes an array with one extent for a bias of the channels, and would drop the other axes."""
    from tests.helpers import inputs, layer

    net = loading.load(*make(tmp_path, inputs(data=(1, 5, 1, 1, 1)) + layer("Bias"), {"x": [(5,)]}))
    x = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1, 1)
    expected = x + net.arrays["x"][0].reshape(1, 5, 1, 1, 1)
    np.testing.assert_allclose(model.forward(net, {"data": x})["top"], expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 3, 4), (3, 3), (2, 3, 3, 3), (2, 3, 1, 1), (2, 3, 3, 3, 3)])
def test_a_scale_of_the_channels_is_that_of_axis_1_at_any_rank(shape, tmp_path):
    """Where other axes have as many places, the last axis of Keras's order would give another number."""
    text = inputs(data=shape) + layer("Scale", "scale_param { bias_term: true }")
    gamma, beta = np.float32([2, 3, 5]), np.float32([7, 11, 13])
    net = loading.load(*make(tmp_path, text, {"x": [gamma, beta]}))
    x = np.random.RandomState(0).rand(*shape).astype(np.float32)
    wide = (1, 3) + (1,) * (len(shape) - 2)
    found = model.forward(net, {"data": x})["top"]
    np.testing.assert_allclose(found, x * gamma.reshape(wide) + beta.reshape(wide), rtol=1e-6)


def test_the_mask_of_zeros_is_the_first_of_the_largest(tmp_path):
    """A zero, of either sign, is as large as another zero and no larger than what is above it."""
    text = inputs(data=(1, 1, 1, 8)) + layer(
        "Pooling", "pooling_param { kernel_h: 1 kernel_w: 2 stride: 2 }", tops=["top", "mask"]
    )
    net = loading.load(make(tmp_path, text)[0])
    x = np.float32([0, 0.5, -0.0, 0, 0, -0.0, -1, 0]).reshape(1, 1, 1, 8)
    found = model.forward(net, {"data": x})
    assert found["mask"].ravel().tolist() == [1, 2, 4, 7]
    assert found["top"].ravel().tolist() == [0.5, 0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "params", "kernel"),
    [
        ("Convolution", "num_output: 6 group: 2 kernel_size: 2 stride: 2", (6, 2, 2, 2, 2, 2)),
        ("Deconvolution", "num_output: 6 group: 2 kernel_size: 2 stride: 2", (4, 3, 2, 2, 2, 2)),
        (
            "Deconvolution",
            "num_output: 6 group: 2 kernel_size: 2 stride: 1 pad: 1 bias_term: false",
            (4, 3, 2, 2, 2, 2),
        ),
    ],
)
def test_groups_over_four_spatial_axes(kind, params, kernel, tmp_path):
    random = np.random.RandomState(0)
    blobs = [random.randn(*kernel)] + ([] if "bias_term" in params else [random.randn(6)])
    run_layer(tmp_path, kind, f"convolution_param {{ {params} }}", {"data": random.randn(1, 4, 3, 2, 3, 2)}, blobs)


@pytest.mark.parametrize(("group", "names"), [(1, {"x_inner"}), (2, {"x_1", "x_2"})])
def test_the_products_of_a_convolution_over_four_axes_have_its_name(group, names, tmp_path):
    params = f"convolution_param {{ num_output: 2 group: {group} kernel_size: 2 }}"
    blobs = [np.zeros((2, 4 // group, 2, 2, 2, 2)), np.zeros(2)]
    files = make(tmp_path, inputs(data=(1, 4, 3, 2, 3, 2)) + layer("Convolution", params), {"x": blobs})
    assert {one.name for one in model.to_keras(loading.load(*files)).layers if one.weights} == names


def test_strides_between_places_that_lie_apart(tmp_path):
    """Keras has no layer for both; a stride or a dilation of 2 alone is one of its own."""
    random = np.random.RandomState(1)
    blobs = [random.randn(3, 2, 3, 3), random.randn(3)]
    for params in ("stride: 2 dilation: 2", "stride: 3 dilation: 2 pad: 2"):
        text = f"convolution_param {{ num_output: 3 kernel_size: 3 {params} }}"
        run_layer(tmp_path, "Convolution", text, {"data": random.randn(1, 2, 9, 8)}, blobs)


def test_a_product_of_rank_3_takes_any_number_of_items(tmp_path):
    random = np.random.RandomState(2)
    kernel, bias, x = random.randn(2, 12), random.randn(2), random.randn(5, 3, 4).astype(np.float32)
    text = inputs(data=(1, 3, 4)) + layer("InnerProduct", "inner_product_param { num_output: 2 }")
    found = model.to_keras(loading.load(*make(tmp_path, text, {"x": [kernel, bias]}))).predict(x, verbose=0)
    np.testing.assert_allclose(found, x.reshape(5, 12) @ kernel.T + bias, rtol=1e-5)
