"""Layers of forks that change values place by place, against their source's formula in float64 NumPy.

No recorded results of these forks exist; each formula is written from the source that it names, not from the class.
"""

import numpy as np
import pytest

import caffe2tf
from caffe2tf import loading, reference
from caffe2tf.errors import Caffe2TFError, NetError
from tests.helpers import inputs, layer, make
from tests.oracles import close, run_layer

pytest.importorskip("keras")

RANDOM = np.random.RandomState(11)


def data(*shape):
    return RANDOM.randn(*shape).astype(np.float32)


# ------------------------------------------------------------ BatchNorm of NVCaffe


def statistics(c):
    return [data(c), np.abs(data(c)) + 0.1, np.full(1, 4.0, np.float32), data(c), data(c)]


def nvcaffe(x, blobs, eps):
    """NVIDIA's batch_norm_layer.cpp at TEST: (x - EX) * (var + eps)^-0.5, times blob 3, plus blob 4."""
    mean, variance, _, scale, bias = (b.astype(np.float64).reshape(-1, *(1,) * (x.ndim - 2)) for b in blobs)
    return (x.astype(np.float64) - mean) * (variance + eps) ** -0.5 * scale + bias


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 3)])
@pytest.mark.parametrize(
    "params",
    [
        "scale_bias: true eps: 0.01",
        "scale_filler { value: 2 } eps: 0.01",
        "bias_filler { value: 0.1 } eps: 0.01",
        "scale_bias: true use_global_stats: false eps: 0.01",
    ],
)
def test_batch_norm_with_scale_and_bias(params, shape, tmp_path):
    """The factor of 4 divides nothing, and the batch is asked for nothing at inference."""
    x, blobs = data(*shape), statistics(3)
    (found,) = run_layer(tmp_path, "BatchNorm", f"batch_norm_param {{ {params} }}", {"data": x}, blobs)
    close(found, nvcaffe(x, blobs, 0.01))


def test_its_eps_is_at_least_1e_5(tmp_path):
    x, blobs = data(2, 3, 4, 5), statistics(3)
    blobs[1] = np.full(3, 1e-5, np.float32)
    (found,) = run_layer(tmp_path, "BatchNorm", "batch_norm_param { scale_bias: true eps: 1e-9 }", {"data": x}, blobs)
    close(found, nvcaffe(x, blobs, 1e-5))


def test_it_in_training_takes_the_batch(tmp_path):
    x, blobs = data(3, 2, 4, 5), statistics(2)
    (found,) = run_layer(
        tmp_path, "BatchNorm", "batch_norm_param { scale_bias: true } phase: TRAIN", {"data": x}, blobs
    )
    mean, variance = (f(x.astype(np.float64), axis=(0, 2, 3)) for f in (np.mean, np.var))
    close(found, nvcaffe(x, [mean, variance, *blobs[2:]], 1e-5))


def test_its_blobs_as_digits_once_wrote_them(tmp_path):
    """NVIDIA's net.cpp: scale, bias, mean, variance and one value more."""
    x, blobs = data(2, 3, 4, 5), statistics(3)
    mean, variance, factor, scale, bias = blobs
    params, old = "batch_norm_param { scale_bias: true eps: 0.01 }", [scale, bias, mean, variance, factor]
    (found,) = run_layer(tmp_path, "BatchNorm", params, {"data": x}, old)
    close(found, nvcaffe(x, blobs, 0.01))


def test_its_rates_may_be_anything(tmp_path):
    text = inputs(data=(2, 3, 4, 5)) + layer("BatchNorm", "batch_norm_param { scale_bias: true } param { lr_mult: 1 }")
    assert loading.load(make(tmp_path, text)[0]).outputs == ["top"]
    with pytest.raises(NetError, match="its statistics take 0"):
        loading.load(make(tmp_path, text.replace("scale_bias: true", ""))[0])


def test_it_folds_into_the_convolution_before_it(tmp_path):
    text = inputs(data=(2, 3, 6, 5))
    text += layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", tops=["c"], name="c")
    text += layer("BatchNorm", "batch_norm_param { scale_bias: true eps: 1e-9 }", bottoms=["c"], name="b")
    net = loading.load(*make(tmp_path, text, {"c": [(4, 3, 3, 3), (4,)], "b": statistics(4)}))
    folded, saved = caffe2tf.fold(net)
    x = data(2, 3, 6, 5)
    assert saved.layers == 1
    close(caffe2tf.forward(folded, {"data": x})["top"], caffe2tf.forward(net, {"data": x})["top"])


def test_it_needs_all_five_blobs(tmp_path):
    text = inputs(data=(2, 3, 4, 5)) + layer("BatchNorm", "batch_norm_param { scale_bias: true }")
    with pytest.raises(Caffe2TFError, match=r"layer 'x' \(BatchNorm\): the file has 3 blobs .* the layer takes 5"):
        loading.load(*make(tmp_path, text, {"x": statistics(3)[:3]}))


# ------------------------------------------------------------ L2Norm


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1, 1)])
def test_l2_norm(shape, tmp_path):
    """MSRCCS's l2_norm_layer.cpp: x times the sum of squares of its item to the power -0.5; 0 gives NaN."""
    x = data(*shape)
    x[1] = 0
    (found,) = run_layer(tmp_path, "L2Norm", "", {"data": x})
    expected = np.empty(shape)
    for n in range(4):
        with np.errstate(all="ignore"):
            expected[n] = x[n] * np.sum(x[n].astype(np.float64) ** 2) ** -0.5
    close(found, expected)
    assert np.isnan(found[1]).all()


def test_l2_norm_of_places_is_refused(tmp_path):
    text = inputs(data=(2, 3, 4, 5)) + layer("L2Norm")
    with pytest.raises(NetError, match=r"layer 'x' \(L2Norm\): bottom of shape .*; takes \(N, C\) or \(N, C, 1, 1\)"):
        loading.load(make(tmp_path, text)[0])


# ------------------------------------------------------------ activations


def test_mish(tmp_path):
    """mish_layer.cpp of Synopsys: x tanh(softplus x); the golden case `mish` is OpenCV's."""
    x = np.concatenate([data(2, 3).ravel() * 4, [-60.0, 0.0, 25.0, 60.0]]).reshape(1, -1)
    (found,) = run_layer(tmp_path, "Mish", "", {"data": x})
    x = x.astype(np.float64)
    close(found, x * np.tanh(np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)))


@pytest.mark.parametrize("kind", ["SeLu", "SeLU"])
@pytest.mark.parametrize(
    ("params", "scale", "alpha"), [("", 1.050700987, 1.67326324), ("lambda: 0.5 alpha: 3", 0.5, 3)]
)
def test_selu(kind, params, scale, alpha, tmp_path):
    """selu_layer.cpp: both parts times lambda, the second times alpha too."""
    x = data(2, 3, 4, 5)
    (found,) = run_layer(tmp_path, kind, f"selu_param {{ {params} }}", {"data": x})
    close(found, np.where(x > 0, scale * x, scale * alpha * np.expm1(x.astype(np.float64))))


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.25), (0.5, -0.5)])
def test_brelu(low, high, tmp_path):
    """brelu_layer.cpp: the upper bound is put last, so it wins where the bounds are crossed."""
    x = data(2, 3, 4, 5)
    (found,) = run_layer(tmp_path, "BReLU", f"brelu_param {{ minval: {low} maxval: {high} }}", {"data": x})
    close(found, np.minimum(np.maximum(x, low), high))


def test_brelu_without_bounds_is_refused(tmp_path):
    with pytest.raises(NetError, match=r"layer 'x' \(BReLU\): brelu_param must set minval and maxval"):
        loading.load(make(tmp_path, inputs(data=(1, 2)) + layer("BReLU", "brelu_param { minval: 0 }"))[0])


@pytest.mark.parametrize("kind", ["SeLuDropout", "SeLUDropout"])
def test_selu_dropout_drops_nothing(kind, tmp_path):
    """selu_dropout_layer.cpp: at TEST the bottom."""
    x = data(2, 3, 4, 5)
    params = "selu_dropout_param { dropout_ratio: 0.4 alpha: -1 }"
    (found,) = run_layer(tmp_path, kind, params, {"data": x})
    np.testing.assert_array_equal(found, x)
    with pytest.raises(NetError, match="its own phase is TRAIN"):
        loading.load(make(tmp_path, inputs(data=(1, 2)) + layer(kind, "phase: TRAIN"))[0])


def test_channel_norm(tmp_path):
    """channel_norm_layer.cu of FlowNet 2."""
    x = data(2, 3, 4, 5)
    (found,) = run_layer(tmp_path, "ChannelNorm", "", {"data": x})
    close(found, np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True))


# ------------------------------------------------------------ Lstm


def lstm(x, kernel, recurrent, bias, start):
    """lstm_layer.cu of junhyukoh/caffe-lstm, item by item: x (T, N, I), start (T, N) 0 where a sequence begins."""
    steps, items, _ = x.shape
    size = recurrent.shape[1]
    top = np.zeros((steps, items, size))
    for n in range(items):
        h, c = np.zeros(size), np.zeros(size)
        for t in range(steps):
            gates = kernel @ x[t, n] + bias + start[t, n] * (recurrent @ h)
            i, f, o = (1 / (1 + np.exp(-gates[k * size : (k + 1) * size])) for k in range(3))
            c = start[t, n] * f * c + i * np.tanh(gates[3 * size :])
            h = o * np.tanh(c)
            top[t, n] = h
    return top


def blobs_of(size, inputs_):
    return [data(4 * size, inputs_), data(4 * size, size), data(4 * size)]


def started_once(steps, items):
    return np.concatenate([np.zeros((1, items)), np.ones((steps - 1, items))])


def test_lstm_of_the_ocr_forks(tmp_path):
    x, blobs = data(5, 3, 4), blobs_of(2, 4)
    (found,) = run_layer(tmp_path, "Lstm", "lstm_param { num_output: 2 clipping_threshold: 0.1 }", {"data": x}, blobs)
    close(found, lstm(x.astype(np.float64), *blobs, started_once(5, 3)))


@pytest.mark.parametrize("shape", [(6, 4), (6, 2, 2, 1)])
def test_lstm_of_steps_of_a_batch(shape, tmp_path):
    """Junhyuk Oh's own: rows step by step, batch_size items each."""
    x, blobs = data(*shape), blobs_of(3, 4)
    (found,) = run_layer(tmp_path, "Lstm", "lstm_param { num_output: 3 batch_size: 2 }", {"data": x}, blobs)
    close(found, lstm(x.reshape(3, 2, 4).astype(np.float64), *blobs, started_once(3, 2)).reshape(6, 3))


def test_lstm_that_starts_again(tmp_path):
    x, blobs, starts = data(5, 1, 4), blobs_of(2, 4), np.array([0, 1, 1, 0, 1])
    given = {"data": x, "clip": starts}
    (found,) = run_layer(tmp_path, "Lstm", "lstm_param { num_output: 2 }", given, blobs)
    close(found, lstm(x.astype(np.float64), *blobs, starts.reshape(5, 1)))
    assert np.abs(found - lstm(x.astype(np.float64), *blobs, started_once(5, 1))).max() > 0.01


def test_lstm_with_starts_says_where_it_starts(tmp_path):
    text = inputs(data=(5, 1, 4), clip=(5,)) + layer("Lstm", "lstm_param { num_output: 2 }", bottoms=["data", "clip"])
    assert any("starts at 0, where its fork goes on" in note for note in loading.load(make(tmp_path, text)[0]).notes)


@pytest.mark.parametrize(
    ("shapes", "params", "why"),
    [
        ({"data": (5, 4)}, "num_output: 2 batch_size: 2", r"bottom \(5, 4\); takes whole steps of a batch"),
        ({"data": (5, 2, 4)}, "", "num_output 0"),
        ({"data": (5, 2, 4), "clip": (10,)}, "num_output: 2", "takes one for each step of one item"),
        ({"data": (5, 1, 4), "clip": (4,)}, "num_output: 2", "takes one for each step of one item"),
    ],
)
def test_lstm_refused(shapes, params, why, tmp_path):
    text = inputs(**shapes) + layer("Lstm", f"lstm_param {{ {params} }}", bottoms=list(shapes))
    with pytest.raises(NetError, match=rf"^layer 'x' \(Lstm\): .*{why}"):
        loading.load(make(tmp_path, text)[0])


def test_continuation_indicator(tmp_path):
    """continuation_indicator_layer.cpp of warpctc-caffe: (time_step, batch_size); LSTM starts at the first step alone."""
    text = inputs(data=(4, 2, 3))
    params = "continuation_indicator_param { time_step: 4 batch_size: 2 }"
    text += layer("ContinuationIndicator", params, bottoms=[], tops=["cont"], name="cont")
    text += layer("LSTM", "recurrent_param { num_output: 2 }", bottoms=["data", "cont"], name="l")
    x, (kernel, recurrent, bias) = data(4, 2, 3), blobs_of(2, 3)
    net = loading.load(*make(tmp_path, text, {"l": [kernel, bias, recurrent]}))
    for found in (caffe2tf.forward(net, {"data": x}), reference.compute(net, {"data": x})):
        assert found["cont"].tolist() == [[0, 0], [1, 1], [1, 1], [1, 1]]
        close(found["top"], lstm(x.astype(np.float64), kernel, recurrent, bias, started_once(4, 2)))
    with pytest.raises(
        NetError, match=r"\(ContinuationIndicator\): time_step 4 and batch_size 0; both must be at least 1"
    ):
        loading.load(make(tmp_path, text.replace("batch_size: 2", ""))[0])
