"""How weights start: the rules of Caffe's filler.hpp, on Caffe's shapes."""

import numpy as np
import pytest

from caffe2tf.caffe.read import Source
from caffe2tf.errors import NetError
from caffe2tf.layers.base import NO_EFFECT
from caffe2tf.net import fillers, reading
from tests.helpers import GOLDEN, inputs, layer, load, parameter


def weights(kind, params, shape=(1, 4, 9, 9), seed=0):
    """Caffe's arrays of one layer that starts from its fillers."""
    source = Source(parameter(inputs(data=shape) + layer(kind, params)), {}, "V2", (), "net.prototxt")
    made = reading.from_source(source, None)
    return fillers.start(made, seed).arrays["x"]


def convolution(filler, outputs=64):
    # 64 outputs, 2 groups of 2 inputs, 3 x 3: fan in 18, fan out 288
    return f"convolution_param {{ num_output: {outputs} kernel_size: 3 group: 2 weight_filler {{ {filler} }} }}"


@pytest.mark.parametrize(("norm", "fan"), [("FAN_IN", 18), ("FAN_OUT", 64 * 9), ("AVERAGE", (18 + 64 * 9) / 2)])
def test_xavier_and_msra_count_fans_on_caffes_shape(norm, fan):
    kernel, bias = weights("Convolution", convolution(f'type: "xavier" variance_norm: {norm}'))
    assert kernel.shape == (64, 2, 3, 3)
    reach = np.sqrt(3 / fan)
    assert reach * 0.95 < abs(kernel).max() <= reach
    assert kernel.std() == pytest.approx(reach / np.sqrt(3), rel=0.1)
    assert not bias.any()
    kernel, _ = weights("Convolution", convolution(f'type: "msra" variance_norm: {norm}'))
    assert kernel.std() == pytest.approx(np.sqrt(2 / fan), rel=0.1)
    assert abs(kernel).max() > 2.5 * kernel.std()  # normal, not uniform


def test_an_inner_product_counts_its_inputs():
    kernel, _ = weights("InnerProduct", 'inner_product_param { num_output: 50 weight_filler { type: "xavier" } }')
    assert kernel.shape == (50, 4 * 9 * 9)
    assert abs(kernel).max() <= np.sqrt(3 / (4 * 9 * 9))


def test_gaussian_uniform_and_constant():
    kernel, _ = weights("Convolution", convolution('type: "gaussian" mean: 2 std: 0.5'))
    assert (kernel.mean(), kernel.std()) == (pytest.approx(2, abs=0.1), pytest.approx(0.5, abs=0.05))
    kernel, _ = weights("Convolution", convolution('type: "gaussian" std: 1 sparse: 16'))
    assert (kernel != 0).mean() == pytest.approx(16 / 64, abs=0.05)
    kernel, _ = weights("Convolution", convolution('type: "uniform" min: -3 max: -2'))
    assert -3 <= kernel.min() < -2.95
    assert -2.05 < kernel.max() <= -2
    kernel, bias = weights(
        "Convolution",
        "convolution_param { num_output: 4 kernel_size: 1 weight_filler { value: 0.5 } bias_filler { value: 3 } }",
    )
    assert set(kernel.ravel()) == {0.5}
    assert set(bias) == {3}


def test_positive_unitball_adds_up_to_one_for_each_output():
    kernel, _ = weights("Convolution", convolution('type: "positive_unitball"'))
    np.testing.assert_allclose(kernel.reshape(64, -1).sum(1), 1, rtol=1e-5)
    assert kernel.min() >= 0


def test_bilinear_upsamples_a_plane_to_itself():
    params = 'convolution_param { num_output: 4 group: 4 bias_term: false kernel_size: 4 stride: 2 pad: 1 weight_filler { type: "bilinear" } }'
    (kernel,) = weights("Deconvolution", params)
    line = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_array_equal(kernel, np.broadcast_to(np.outer(line, line), (4, 1, 4, 4)))
    with pytest.raises(NetError, match="takes four axes, the last two equal"):
        weights("InnerProduct", 'inner_product_param { num_output: 4 weight_filler { type: "bilinear" } }')


@pytest.mark.parametrize(
    ("extent", "line"), [(1, [1]), (2, [0.5, 0.5]), (3, [0.5, 1, 0.5]), (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])]
)
def test_bilinear_of_any_extent(extent, line):
    """1 - |x / f - c| with f half of the extent, rounded up, and c = (extent - 1) / 2f (filler.hpp)."""
    params = f"kernel_size: {extent} bias_term: false num_output: 1"
    (kernel,) = weights("Deconvolution", f'convolution_param {{ {params} weight_filler {{ type: "bilinear" }} }}')
    np.testing.assert_allclose(kernel[0, 0], np.outer(line, line), rtol=1e-6)


def test_what_starts_without_a_filler():
    assert [set(a.ravel()) for a in weights("PReLU", "")] == [{0.25}]
    assert [set(a.ravel()) for a in weights("Scale", "scale_param { bias_term: true }")] == [{1}, {0}]
    assert [set(a.ravel()) for a in weights("BatchNorm", "")] == [{0}, {1}, {1}]
    with pytest.raises(
        NetError, match="has neither weights nor a weight_filler, so nothing says how its kernel starts"
    ):
        weights("Convolution", "convolution_param { num_output: 4 kernel_size: 1 }")


def test_starts_repeat_by_their_seed():
    draws = [weights("Convolution", convolution('type: "xavier"'), seed=seed)[0] for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_every_weight_says_how_it_starts():
    """By a parameter of its layer that only training reads, by a value, or by both."""
    for path in [*GOLDEN.glob("layers/*"), *GOLDEN.glob("forks/*")]:
        for node in load(path).nodes:
            for weight in node.layer.blobs():
                assert weight.filler or weight.start is not None, node.layer.type
                if weight.filler:
                    assert weight.filler in NO_EFFECT
                    assert weight.filler in node.layer.p.DESCRIPTOR.fields_by_name
