"""Every blob of every golden network, as Caffe (or for forks OpenCV) computed it."""

import numpy as np
import pytest

from caffe2tf import formats, layers, loading
from tests.conftest import GOLDEN, cases, layer, load

keras = pytest.importorskip("keras")
from caffe2tf.keras_model import model  # noqa: E402

RELATIVE = 1e-5  # L2 norm of the difference, of the blob's norm
LARGEST = 1e-4  # largest difference, of the blob's largest value
EVERY = cases("layers") + cases("forks") + cases("formats")


def golden(path):
    """({input: array}, {blob: array})."""
    file = path / "blobs.npz" if (path / "blobs.npz").exists() else GOLDEN / "formats" / "blobs.npz"
    with np.load(file) as archive:
        blobs = {name: archive[name] for name in archive.files}
    given = {name.removeprefix("in:"): array for name, array in blobs.items() if name.startswith("in:")}
    return given, {name: array for name, array in blobs.items() if not name.startswith("in:")}


def inputs_of(net, path):
    given, blobs = golden(path)
    return {name: given.get(name, blobs.get(name)) for name in net.inputs}


def error(found, expected):
    """(relative L2, largest difference of the largest value)."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    norm, top = np.linalg.norm(expected), np.abs(expected).max(initial=0)
    return np.linalg.norm(found - expected) / (norm or 1), np.abs(found - expected).max(initial=0) / (top or 1)


def assert_same(name, found, expected):
    assert found.shape == expected.shape, f"{name}: shape {found.shape}, Caffe's {expected.shape}"
    relative, largest = error(found, expected)
    assert relative <= RELATIVE, f"{name}: relative L2 {relative:.3g}"
    assert largest <= LARGEST, f"{name}: largest difference {largest:.3g} of the largest value"


@pytest.mark.parametrize("path", EVERY)
def test_every_blob(path):
    net = load(path)
    _, blobs = golden(path)
    found = model.forward(net, inputs_of(net, path))
    assert set(blobs) <= set(found)
    for name, expected in blobs.items():
        if path.name.startswith("prior_box") and name == "feat":
            # Kernel 5, stride 10: OpenCV writes 0 for a window that lies outside the bottom, Caffe -FLT_MAX.
            outside = np.zeros(expected.shape, bool)
            outside[:, :, 3:], outside[..., 4:] = True, True
            assert (found[name][outside] == np.finfo(np.float32).min).all()
            assert not expected[outside].any()
            found[name], expected = found[name][~outside], expected[~outside]
        assert_same(name, found[name], expected)


def first_case_of_each_type():
    found = {}
    for case in cases("layers") + cases("forks"):
        for node in load(case.values[0]).nodes:
            found.setdefault(node.layer.type, case)
    return sorted({case.id: case for case in found.values()}.values(), key=lambda case: case.id)


def is_model(net):
    return any(not net.is_constant(blob) for blob in net.outputs) and net.inputs


@pytest.mark.parametrize("path", EVERY)
def test_model_is_stock_keras_and_gives_its_weights_back(path):
    net = load(path)
    if not is_model(net):
        pytest.skip("depends on no input, so it is no model")
    made = model.to_keras(net)
    for operation in operations(made):
        assert type(operation).__module__.startswith("keras."), operation
    names = {layer.name for layer in made.layers}
    for node in net.nodes:
        row = node.layer
        constant = all(net.is_constant(blob) for blob, _ in node.tops)
        used = reaches_output(net, node)
        if row.type != "Input" and not constant and used:
            assert row.name in names, f"{row.name} is no layer of the model"
    again = model.from_keras(made, net)
    for name, arrays in net.weights.items():
        for key, array in arrays.items():
            assert again.weights[name][key].tobytes() == array.tobytes(), f"{name}/{key}"


def operations(made):
    for operation in made.operations:
        yield operation
        if isinstance(operation, keras.Model):
            yield from operations(operation)


def reaches_output(net, node):
    wanted = {top for other in net.nodes for top in other.tops if top[0] in net.outputs}
    needed = set(wanted)
    for other in reversed(net.nodes):
        if needed & set(other.tops):
            needed |= set(other.bottoms)
    return bool(needed & set(node.tops))


@pytest.mark.parametrize("path", first_case_of_each_type())
def test_model_reloads_equal(path, tmp_path):
    net = load(path)
    if not is_model(net):
        pytest.skip("depends on no input, so it is no model")
    assert formats.save(net, str(tmp_path / "x.keras")) == 0


BATCHED = [case for case in EVERY if case.id in (
    "conv_nchw", "ip_nchw", "pool_ave_nchw", "lrn_nchw", "scale_hw_nchw", "flatten_nchw", "softmax_nchw", "deconv_nchw",
    "conv_1d", "prelu_nchw", "mvn_nchw", "argmax_nchw", "normalize_channel", "permute_flatten", "im2col_nchw", "spp_nchw",
)]  # fmt: skip


@pytest.mark.parametrize("path", BATCHED)
def test_batch_is_free(path):
    net, (_, blobs) = load(path), golden(path)
    made = model.to_keras(net)
    assert all(tensor.shape[0] is None for tensor in made.inputs)
    one = model.forward(net, {name: array[:1] for name, array in inputs_of(net, path).items()})
    for name in net.outputs:
        assert_same(name, one[name], blobs[name][:1])


@pytest.mark.parametrize("name", ["reshape_axis", "concat_batch_nchw", "lstm", "batch_reindex", "tile_batch_nchw"])
def test_batch_is_fixed_where_a_layer_uses_axis_0(name):
    net = load(GOLDEN / "layers" / name)
    free = name == "reshape_axis"
    assert all((tensor.shape[0] is None) == free for tensor in model.to_keras(net).inputs)


def test_blobs_of_one_memory_change_together_at_any_size(tmp_path):
    path = tmp_path / "net.prototxt"
    means = "transform_param { mean_value: 1 mean_value: 2 mean_value: 3 }"
    path.write_text(
        layer("Data", means, bottoms=[], tops=["data"], name="data")
        + layer("Split", bottoms=["data"], tops=["a", "b"], name="split")
        + layer("Power", "power_param { scale: 3 }", bottoms=["a"], tops=["a"], name="power")
        + layer("Eltwise", bottoms=["a", "b"], tops=["sum"], name="sum")
    )
    net = loading.load(str(path))
    assert net.inputs["data"] == (1, 3, None, None)
    x = np.random.RandomState(0).random_sample((1, 5, 7, 3)).astype(np.float32)
    np.testing.assert_array_equal(model.to_keras(net, ["sum"])(x), 3 * x + 3 * x)


def test_height_and_width_are_free_where_every_layer_takes_any():
    net = load(GOLDEN / "layers" / "pool_ave_pad_ceil")
    made = model.to_keras(net)
    assert made.inputs[0].shape[1:3] == (None, None)
    random = np.random.RandomState(0)
    for size in ((7, 8), (11, 5), (6, 9)):
        x = random.rand(2, 2, *size).astype(np.float32)
        exact = model.forward(net.reshape({"data": x.shape}), {"data": x})["pool"]
        free = np.moveaxis(np.asarray(made(np.moveaxis(x, 1, -1))), -1, 1)
        np.testing.assert_allclose(free, exact, rtol=1e-6)
    assert model.to_keras(load(GOLDEN / "layers" / "ip_nchw")).inputs[0].shape == (None, 5, 4, 7)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(3, 2, 0), (3, 2, 1), (2, 3, 1), (2, 3, 0), (4, 3, 2), (5, 1, 2)]
)
def test_pooling_of_any_size_is_pooling_of_that_size(pool, kernel, stride, pad, tmp_path):
    from tests.conftest import inputs, layer, make

    params = f"pooling_param {{ pool: {pool} kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    net = loading.load(make(tmp_path, inputs(data=(1, 2, 9, 9)) + layer("Pooling", params))[0])
    outside = pool == "AVE" and stride > kernel and not pad  # windows may lie outside altogether: one size at a time
    made, random = model.to_keras(net), np.random.RandomState(0)
    assert made.inputs[0].shape[1:3] == ((9, 9) if outside else (None, None))
    for h in range(5, 13):
        x = random.randn(1, 2, h, h + 1).astype(np.float32)
        if outside:
            made = model.to_keras(net.reshape({"data": x.shape}))
        free = np.moveaxis(np.asarray(made(np.moveaxis(x, 1, -1))), -1, 1)
        np.testing.assert_allclose(free, reference_pool(x, pool, kernel, stride, pad), rtol=1e-5, atol=1e-6)


def reference_pool(x, pool, k, s, p):
    """pooling_layer.cpp, window by window."""
    sizes = []
    for n in x.shape[2:]:
        out = int(np.ceil((n + 2 * p - k) / s)) + 1
        sizes.append(out - 1 if p and (out - 1) * s >= n + p else out)
    top = np.full((*x.shape[:2], *sizes), np.finfo(np.float32).min)
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            (a, c), (b, d) = ((o * s - p, min(o * s - p + k, n + p)) for o, n in zip((i, j), x.shape[2:], strict=True))
            window = x[:, :, max(a, 0) : min(c, x.shape[2]), max(b, 0) : min(d, x.shape[3])]
            if pool == "AVE":
                top[:, :, i, j] = window.sum((2, 3)) / ((c - a) * (d - b)) if (c - a) * (d - b) else np.nan
            elif window.size:
                top[:, :, i, j] = window.max((2, 3))
    return top


def test_blobs_that_depend_on_no_input_are_given_all_the_same():
    net = load(GOLDEN / "layers" / "dummy_data")
    found = model.forward(net, {})
    assert (found["p"] == 3.0).all()
    from caffe2tf.errors import NetError

    with pytest.raises(NetError, match="computes nothing from an input, so it is no model"):
        model.to_keras(net)


def test_wrong_inputs_are_named():
    from caffe2tf.errors import NetError

    net = load(GOLDEN / "layers" / "conv_basic")
    with pytest.raises(NetError, match=r"inputs \['dota'\]; the network takes \['data'\]"):
        model.forward(net, {"dota": np.zeros((1, 3, 8, 8))})
    with pytest.raises(NetError, match="layer 'conv'"):
        model.forward(net, {"data": np.zeros((1, 4, 8, 8))})


def test_a_model_without_weights_or_of_another_network_is_refused():
    from caffe2tf.errors import WeightMismatch

    text = loading.load(str(GOLDEN / "layers" / "conv_basic" / "net.prototxt"))
    with pytest.raises(WeightMismatch, match=r"has no weights; give its .caffemodel"):
        model.to_keras(text)
    with pytest.raises(WeightMismatch, match="has other weights than the network"):
        model.from_keras(
            model.to_keras(load(GOLDEN / "layers" / "conv_group2")), load(GOLDEN / "layers" / "conv_basic")
        )


def test_a_trained_model_goes_to_every_format(tmp_path):
    net = load(GOLDEN / "layers" / "fire_module")
    made = model.to_keras(net)
    made.save(tmp_path / "x.keras")
    trained = keras.models.load_model(tmp_path / "x.keras")
    kernel = trained.get_layer("e1").kernel
    kernel.assign(kernel + 1.0)
    again = model.from_keras(trained, net)
    np.testing.assert_array_equal(again.weights["e1"]["kernel"], net.weights["e1"]["kernel"] + 1.0)
    np.testing.assert_array_equal(again.weights["s"]["kernel"], net.weights["s"]["kernel"])
    formats.save(again, str(tmp_path / "x.caffemodel"))
    loaded = loading.load(None, str(tmp_path / "x.caffemodel"))
    np.testing.assert_array_equal(loaded.weights["e1"]["kernel"], again.weights["e1"]["kernel"])


@pytest.mark.parametrize("kind", ["savedmodel", "tflite"])
@pytest.mark.parametrize(
    "name", ["fire_module", "ip_chain", "conv_shared_two_bottoms", "lstm_expose_hidden", "slice_points"]
)
def test_whole_model_formats_read_back(name, kind, tmp_path):
    pytest.importorskip("tensorflow")
    path = str(tmp_path / "x") + ("/" if kind == "savedmodel" else ".tflite")
    assert formats.save(load(GOLDEN / "layers" / name), path) < 1e-5


def test_saved_model_names_inputs_and_outputs_as_caffe_does(tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = GOLDEN / "layers" / "slice_points"
    net, (_, blobs) = load(path), golden(path)
    formats.save(net, str(tmp_path / "x") + "/")
    loaded = tf.saved_model.load(str(tmp_path / "x"))
    found = loaded.signatures["serving_default"](data=np.moveaxis(blobs["data"], 1, -1))
    assert set(found) == {"a", "b", "c"}
    for name, value in found.items():
        assert_same(name, np.moveaxis(value.numpy(), -1, 1), blobs[name])


def test_adding_a_layer_is_one_class(tmp_path, monkeypatch):
    from tests.conftest import inputs, layer, make

    before = dict(layers.REGISTRY)

    class Cube(layers.Layer, type="Cube", param="power_param", fields="scale"):
        """(scale * x) ^ 3."""

        def build(self, keras, x):
            return keras.ops.power(x * self.p.scale, 3.0)

    try:
        net = loading.load(make(tmp_path, inputs(data=(1, 3)) + layer("Cube", "power_param { scale: 2 }"))[0])
        x = np.array([[1.0, 2.0, 3.0]], np.float32)
        np.testing.assert_allclose(model.forward(net, {"data": x})["top"], 8 * x**3)
        assert formats.save(net, str(tmp_path / "x.keras")) == 0
        (tmp_path / "x").mkdir()
    finally:
        layers.REGISTRY.clear()
        layers.REGISTRY.update(before)
