"""A network that is right passes; one that is slightly wrong fails, and the right layer is named."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from caffe2tf import bundled, loading
from caffe2tf.verification import golden
from caffe2tf.verification.sets import GoldenError
from tests.helpers import GOLDEN, cases, load, run

keras = pytest.importorskip("keras")
from caffe2tf.keras_model import device  # noqa: E402
from caffe2tf.probabilities import best, probabilities  # noqa: E402
from caffe2tf.verification import report  # noqa: E402
from caffe2tf.verification.verify import verify  # noqa: E402


@pytest.fixture(scope="module")
def seeded(alexnet):
    return loading.load(bundled.alexnet_text(), str(alexnet))


def test_alexnet_holds(seeded):
    found = verify(seeded)
    assert found.passed
    assert found.golden == "alexnet"
    assert len(found.layers) == 14
    assert all(check.chained.l2 <= 1e-5 for check in found.layers)
    assert [check.alone is not None for check in found.layers if check.layers[0] in ("conv1", "fc7", "norm1")] == [
        True,
        False,
        True,
    ]
    assert len(found.predictions) == 6
    assert all(prediction.same_set for prediction in found.predictions)
    assert found.first_wrong is None


# In the others OpenCV's empty windows are not Caffe's: tests/test_golden.py.
HOLDING = [case for case in cases("layers", "forks") if not case.id.startswith("prior_box")]


@pytest.mark.parametrize("path", HOLDING)
def test_every_small_golden_set_holds(path):
    found = verify(load(path), path)
    assert found.layers
    assert found.passed, report.conclusion(found)


def edited(net, path, folder, old, new):
    """The golden network with its text changed."""
    text = (path / "net.prototxt").read_text()
    assert old in text
    (folder / "net.prototxt").write_text(text.replace(old, new))
    return loading.load(str(folder / "net.prototxt"), str(path / "net.caffemodel"))


def with_layer(net, name, change):
    weights = {layer: dict(arrays) for layer, arrays in net.weights.items()}
    weights[name] = change({key: array.copy() for key, array in weights[name].items()})
    return net.with_weights(weights)


def alexnet_with(seeded, folder, old, new):
    with open(bundled.alexnet_text()) as file:
        text = file.read()
    assert old in text
    (folder / "net.prototxt").write_text(text.replace(old, new))
    return loading.load(str(folder / "net.prototxt")).with_weights(seeded.weights)


SEEDED = GOLDEN / "alexnet"


def test_lrn_alpha_not_divided(seeded, tmp_path):
    found = verify(alexnet_with(seeded, tmp_path, "alpha: 0.0001", "alpha: 0.0005"), SEEDED)
    assert not found.passed
    assert found.first_wrong == "norm1"
    assert found.hint == "its alpha is not divided by local_size"


def test_colours_swapped(seeded):
    found = verify(with_layer(seeded, "conv1", lambda w: {**w, "kernel": w["kernel"][:, :, ::-1]}), SEEDED)
    assert not found.passed
    assert (found.first_wrong, found.hint) == ("conv1", "equal after swapping B and R")


def test_mean_in_the_wrong_order(seeded):
    right = golden.load(SEEDED)
    shift = np.float32([104, 117, 123]) - np.float32([123, 117, 104])
    wrong = replace(right, inputs={None: right.inputs[None] + shift[:, None, None]})
    found = verify(seeded, wrong)
    assert not found.passed
    assert found.first_wrong == "conv1"


def test_rows_not_reordered(seeded):
    found = verify(with_layer(seeded, "fc6", lambda w: {**w, "kernel": seeded.arrays["fc6"][0].T}), SEEDED)
    assert not found.passed
    assert (found.first_wrong, found.hint) == ("fc6", "equal after permuting its rows from C, H, W to H, W, C")


def test_groups_swapped(seeded):
    def swap(weights):
        return {**weights, "kernel": np.roll(weights["kernel"], 128, -1)}

    found = verify(with_layer(seeded, "conv2", swap), SEEDED)
    assert not found.passed
    assert (found.first_wrong, found.hint) == ("conv2", "equal after swapping its groups")


def test_k_dropped(tmp_path):
    path = GOLDEN / "layers" / "lrn_size3_k2"
    found = verify(edited(None, path, tmp_path, "k: 2", ""), path)
    assert not found.passed
    assert found.first_wrong == "norm"


def test_floor_pooling(tmp_path):
    path = GOLDEN / "formats" / "v2"
    text = (path / "net.prototxt").read_text().replace("pool: MAX", "pool: MAX round_mode: FLOOR")
    text = text[: text.index('layer { name: "fc3"')]
    (tmp_path / "net.prototxt").write_text(text)
    net = loading.load(str(tmp_path / "net.prototxt"), str(path / "net.caffemodel"))
    folder = tmp_path / "set"
    folder.mkdir()
    with np.load(GOLDEN / "formats" / "blobs.npz") as blobs:
        np.savez(folder / "blobs.npz", **{key: blobs[key] for key in blobs.files if key not in ("fc3", "prob")})
    found = verify(net, folder)
    assert not found.passed
    assert (found.first_wrong, found.hint) == ("pool1", "equal when extents round up (ceil pooling)")


def test_a_transposed_kernel_of_squeezenet(shared):
    folder = shared / "models" / "squeezenet_v1.0"
    net = loading.load(str(folder / "deploy.prototxt"), str(folder / "squeezenet_v1.0.caffemodel"))
    name = "fire4/conv1x1_1"

    def transpose(weights):
        shape = weights["kernel"].shape
        return {**weights, "kernel": net.arrays[name][0].reshape(shape)}

    found = verify(with_layer(net, name, transpose), folder)
    assert not found.passed
    assert (found.first_wrong, found.hint) == (name, "equal after transposing its kernel")


@pytest.mark.parametrize("name", ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"])
def test_one_weight_off_by_one_percent(name, seeded):
    def nudge(weights):
        flat = weights["kernel"].reshape(-1)
        flat[np.random.RandomState(len(name)).randint(flat.size)] *= np.float32(1.01)
        return weights

    changed = with_layer(seeded, name, nudge)
    digests = golden.weight_digests(changed)
    known = golden.load(SEEDED).weights
    assert [layer for layer in known if digests[layer] != known[layer]] == [name]
    if name in ("conv1", "fc8"):  # the whole way once for the first and the last
        found = verify(changed, SEEDED)
        assert not found.passed
        assert found.changed_weights == (name,)
        assert found.first_wrong == name


def test_squeezenet_on_photographs(shared):
    folder = shared / "models" / "squeezenet_v1.0"
    net = loading.load(str(folder / "deploy.prototxt"), str(folder / "squeezenet_v1.0.caffemodel"))
    found = verify(net, folder, images=str(shared / "images"))
    assert found.passed
    assert len(found.predictions) == 62
    assert sum(prediction.same_set for prediction in found.predictions) >= 60
    assert not found.missing


def test_published_predictions_without_photographs(seeded, tmp_path):
    found = verify(seeded, GOLDEN / "bvlc_alexnet")
    assert not found.passed  # nothing was compared
    assert len(found.missing) == 4
    assert "4 photographs not there (`images`)" in report.conclusion(found)
    with pytest.raises(
        GoldenError, match=r"4 of 4 photographs are not there: seagull.jpg, sealion.jpeg, llama.jpeg ..."
    ):
        verify(seeded, GOLDEN / "bvlc_alexnet", images=str(tmp_path))


def test_photographs_are_found_by_digest_under_any_name(seeded, shared, tmp_path):
    for path in ("seagull.jpg", "sealion.jpeg", "llama.jpeg", "zebra.jpeg"):
        shutil.copy(shared / "images" / path, tmp_path / f"renamed_{path}")
    found = verify(seeded, GOLDEN / "bvlc_alexnet", images=str(tmp_path))
    assert len(found.predictions) == 4
    assert not found.passed  # random weights know no seagull
    assert found.predictions[0].tolerance == 0.001


def test_sets_that_are_broken_or_of_another_network(seeded, tmp_path):
    net = load(GOLDEN / "layers" / "conv_basic")
    with pytest.raises(GoldenError, match="no such golden folder"):
        verify(net, tmp_path / "nothing")
    with pytest.raises(GoldenError, match=r"holds neither expected.json nor blobs.npz"):
        verify(net, tmp_path)
    with pytest.raises(GoldenError, match="golden set 'ip_nchw' is of another network: x are not in both"):
        verify(net, GOLDEN / "layers" / "ip_nchw")
    with pytest.raises(GoldenError, match="no golden set of the network 'conv_basic' comes with caffe2tf"):
        verify(net, against="golden")
    (tmp_path / "blobs.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(GoldenError, match=r"blobs\.npz: cannot be read"):
        verify(net, tmp_path)
    np.savez(tmp_path / "blobs.npz", data=np.array([object()], dtype=object))
    with pytest.raises(GoldenError, match=r"blobs\.npz: cannot be read: Object arrays"):
        verify(net, tmp_path)
    with np.load(GOLDEN / "layers" / "conv_basic" / "blobs.npz") as blobs:
        np.savez(tmp_path / "blobs.npz", version=2, **blobs)
    with pytest.raises(GoldenError, match="version 2; this caffe2tf reads 1"):
        verify(net, tmp_path)
    (tmp_path / "expected.json").write_text("{")
    with pytest.raises(GoldenError, match=r"expected\.json: cannot be read"):
        verify(net, tmp_path)
    text = loading.load(str(GOLDEN / "layers" / "conv_basic" / "net.prototxt"))
    with pytest.raises(GoldenError, match=r"has no weights to verify; give its \.caffemodel"):
        verify(text, GOLDEN / "layers" / "conv_basic")


def test_nan_is_named():
    path = GOLDEN / "layers" / "ip_chain"
    net = load(path)

    def spoil(weights):
        weights["bias"][0] = np.nan
        return weights

    with pytest.raises(GoldenError, match="layer 'fc7': its bias holds NaN or infinity"):
        verify(with_layer(net, "fc7", spoil), path)
    huge = with_layer(net, "fc6", lambda w: {**w, "kernel": w["kernel"] * np.float32(1e38)})
    found = verify(huge, path)
    assert not found.passed
    assert found.first_wrong == "fc6"


def test_alone_names_the_wrong_layer_and_chained_the_drift():
    path = GOLDEN / "layers" / "ip_of_ip_of_conv_nchw"
    net = load(path)
    found = verify(with_layer(net, "x", lambda w: {**w, "bias": w["bias"] + 1}), path)
    checks = {check.layers[0]: check for check in found.layers}
    assert checks["c"].passed
    assert not checks["x"].alone.within(1e-5)
    assert checks["y"].alone.within(1e-5)
    assert not checks["y"].chained.within(1e-5)
    assert found.first_wrong == "x"


def test_the_place_of_the_largest_difference():
    path = GOLDEN / "layers" / "conv_basic"
    net, given = load(path), golden.load(path)
    values = given.blobs["conv"].values.copy()
    values[1, 4, 2, 7] += 5
    spoiled = replace(given, blobs={**given.blobs, "conv": golden.Expected(values)})
    found = verify(net, spoiled)
    assert found.layers[0].chained.place == (1, 4, 2, 7)
    assert found.layers[0].chained.largest == pytest.approx(5, abs=1e-4)


def test_precisions(seeded):
    before = keras.config.dtype_policy().name
    path = GOLDEN / "layers" / "fire_module"
    found = verify(load(path), path, precision="mixed_float16")
    assert found.passed
    assert found.tolerance == device.TOLERANCES["mixed_float16"]
    assert 1e-5 < max(check.chained.l2 for check in found.layers) < found.tolerance
    assert keras.config.dtype_policy().name == before
    with pytest.raises(device.DeviceError, match="no precision 'int8'; takes float32, tf32, mixed_float16"):
        verify(load(path), path, precision="int8")


@pytest.mark.skipif(bool(device.gpus()), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there():
    path = GOLDEN / "layers" / "conv_basic"
    with pytest.raises(device.DeviceError, match=r"`device` gpu: Keras's .* backend sees no GPU here"):
        verify(load(path), path, device="gpu")
    with pytest.raises(device.DeviceError, match="tf32 needs a GPU"):
        verify(load(path), path, precision="tf32")
    with pytest.raises(device.DeviceError, match="no device 'tpu'; takes auto, cpu, gpu or gpu:N"):
        verify(load(path), path, device="tpu")


def test_tf32_is_as_it_was_afterwards():
    tf = pytest.importorskip("tensorflow")
    path = GOLDEN / "layers" / "conv_basic"
    for setting in (True, False):
        tf.config.experimental.enable_tensor_float_32_execution(setting)
        verify(load(path), path)
        assert tf.config.experimental.tensor_float_32_execution_enabled() is setting


def test_probabilities():
    scores = np.array([[1.0, 2.0, 3.0]])
    assert probabilities(scores).sum() == pytest.approx(1)
    shares = np.array([[0.25, 0.75]])
    np.testing.assert_array_equal(probabilities(shares), shares)
    assert best(np.array([0.1, 0.7, 0.2]), 2) == ((1, 0.7), (2, 0.2))


# ------------------------------------------------------------------------------------------------ the command


def test_command_prints_numbers(alexnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(alexnet, "bvlc_alexnet.caffemodel")
    result = run("verify")  # the one model here
    assert "PASS  14 of 14 blobs within 1e-05" in result.stdout
    assert "conv1 + relu1" in result.stdout
    data = json.loads(run("verify", "--json", "--report", "r.html").stdout)
    assert data["pass"] is True
    assert set(data) == {"pass", "device", "precision", "backend", "versions", "nets", "disputes"}
    assert set(data["nets"][0]["layers"][0]) == {
        "layer",
        "layers",
        "type",
        "blob",
        "shape",
        "alone",
        "chained",
        "tolerance",
        "pass",
    }
    assert data["nets"][0]["predictions"][0]["found"][0]["name"] == "banjo"
    page = (tmp_path / "r.html").read_text()
    assert "<script" not in page
    assert "http" not in page
    assert page.count("class=track") == 14
    assert "exists already" in run("verify", "--report", "r.html", code=1).stderr


def test_command_says_what_is_wrong(tmp_path):
    path = GOLDEN / "layers" / "lrn_nchw"
    (tmp_path / "net.prototxt").write_text((path / "net.prototxt").read_text().replace("alpha: 0.3", "alpha: 0.9"))
    args = ["verify", path / "net.caffemodel", "-p", tmp_path / "net.prototxt", "--golden", path]
    result = run(*args, code=1)
    assert "FAIL  0 of 1 blobs within 1e-05" in result.stdout
    assert "first wrong layer: x (its alpha is not divided by local_size)" in result.stdout
    assert json.loads(run(*args, "--json", code=1).stdout)["nets"][0]["first_wrong"] == "x"
    assert run(*args, "-q", code=1).output == ""


def test_command_takes_several_sets(tmp_path):
    path = GOLDEN / "layers" / "conv_basic"
    args = [
        "verify",
        path / "net.caffemodel",
        "-p",
        path / "net.prototxt",
        "--golden",
        path,
        "--golden",
        path,
        "--json",
    ]
    assert len(json.loads(run(*args).stdout)["nets"]) == 2


def test_command_without_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no model here; name one as MODEL" in run("verify", code=1).stderr
    for name in ("a.keras", "b.tflite"):
        (tmp_path / name).write_bytes(b"")
    assert "2 models here (a.keras, b.tflite); name one" in run("verify", code=1).stderr


@pytest.mark.skipif(bool(device.gpus()), reason="this machine has a GPU")
def test_command_without_a_gpu():
    path = GOLDEN / "layers" / "conv_basic"
    result = run(
        "verify", path / "net.caffemodel", "-p", path / "net.prototxt", "--golden", path, "--device", "gpu", code=1
    )
    assert "sees no GPU here" in result.stderr


def test_the_fast_demo_is_alexnet_alone_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("demo", "--fast")
    assert "PASS  14 of 14 blobs" in result.stdout
    assert "60,965,224 parameters" in result.stdout
    assert "SqueezeNet" not in result.stdout
    assert list(tmp_path.iterdir()) == []
