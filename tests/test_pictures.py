"""Models that take the picture itself: the same classes as `classify`, from the library, from files and from signatures."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import caffe2tf
from caffe2tf import bundled
from caffe2tf.errors import Caffe2TFError
from caffe2tf.images import decode as imaging
from caffe2tf.images import preprocess
from tests.helpers import inputs, layer, load_small, make, run

pytest.importorskip("keras")
import keras

from caffe2tf.keras_model import pictures

RANDOM = np.random.RandomState(0)
NAMES = [f"class {number}" for number in range(10)]


def rgb(path: str | Path) -> np.ndarray:
    """The picture at `path` as such a model takes it."""
    return np.ascontiguousarray(imaging.read_image(path)[None, :, :, ::-1])


def probabilities(seen: Any) -> np.ndarray:
    """Those of a Seen with every class, in the order of the classes."""
    return np.array([share for _, _, share in sorted(seen.top)])


@pytest.mark.parametrize("shape", [(3, 5), (64, 48), (500, 333), (1, 1), (2, 700), (256, 256), (1999, 301)])
@pytest.mark.parametrize("size", [(256, 256), (10, 400), (227, 227), (1, 1)])
def test_pictures_are_resized_as_classify_resizes_them(shape, size):
    images = RANDOM.randint(0, 256, (2, *shape, 3)).astype(np.uint8)
    found = keras.ops.convert_to_numpy(pictures.resized(keras.ops, keras.ops.convert_to_tensor(images), size))
    np.testing.assert_array_equal(found, [imaging.resize(image, *size) for image in images])


@pytest.mark.parametrize("said", [
    {},
    {"resize": (14, 16), "crop": (12, 12), "mean": (3.0, 1.5, 2.0), "scale": 0.5, "channels": "rgb"},
    {"resize": (14, 16), "crop": (12, 12), "mean": "mean.npy"},
])  # fmt: skip
def test_what_goes_into_the_network_is_equal_in_every_bit(said, here):
    np.save("mean.npy", RANDOM.uniform(0, 255, (3, 14, 16)).astype(np.float32))
    net = preprocess.changed(load_small(), **said)
    model = caffe2tf.to_keras(net, preprocessing=True)
    inner = keras.Model(model.input, model.get_layer("data").output)
    how, _ = preprocess.of(net)
    for height, width in ((9, 30), (14, 16), (12, 12)):
        image = RANDOM.randint(0, 256, (height, width, 3)).astype(np.uint8)
        found = keras.ops.convert_to_numpy(inner(image[None]))[0]
        np.testing.assert_array_equal(found, how.apply(image[:, :, ::-1]).transpose(1, 2, 0))


def test_a_grey_network_takes_the_grey_of_opencvs_decoders(tmp_path):
    text = inputs(data=(1, 1, 4, 6)) + layer("InnerProduct", "inner_product_param { num_output: 3 }")
    net = caffe2tf.load(*make(tmp_path, text, {"x": [(3, 24), (3,)]}))
    image = RANDOM.randint(0, 256, (4, 6, 3)).astype(np.uint8)
    path = tmp_path / "x.bmp"  # the rule of PNG is another
    Image.fromarray(image).save(path)
    (seen,) = caffe2tf.classify(net, [path], top=3)
    found = caffe2tf.to_keras(net, preprocessing=True)(image[None])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found)[0], probabilities(seen), atol=1e-6)


@pytest.mark.parametrize(("last", "sums"), [
    ("", "softmax inside"),
    (layer("Softmax", bottoms=["s"], tops=["p"], name="p"), "the network's own"),
    (layer("Softmax", "softmax_param { axis: 2 }", bottoms=["s"], tops=["p"], name="p"), "ones, of which Caffe's is none"),
    (layer("Softmax", bottoms=["s"], tops=["q"], name="q") + layer("Power", bottoms=["q"], tops=["p"], name="p"), "behind it"),
])  # fmt: skip
def test_probabilities_are_those_of_classify(last, sums, tmp_path):
    text = inputs(data=(1, 3, 4, 6))
    text += layer("Convolution", "convolution_param { num_output: 5 kernel_h: 4 kernel_w: 6 }", tops=["s"], name="s")
    net = caffe2tf.load(*make(tmp_path, text + last, {"s": [RANDOM.randn(5, 3, 4, 6) * 0.01, (5,)]}))
    image = RANDOM.randint(0, 256, (9, 8, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    (seen,) = caffe2tf.classify(net, [tmp_path / "x.png"], top=5)
    found = keras.ops.convert_to_numpy(caffe2tf.to_keras(net, preprocessing=True)(image[None]))
    assert found.shape == (1, 5)
    np.testing.assert_allclose(found[0], probabilities(seen), atol=1e-6)


@pytest.mark.parametrize(("text", "why"), [
    (inputs(data=(1, 9)) + layer("ReLU"), "has the inputs 'data' 1 x 9; `preprocessing` takes one picture"),
    (inputs(data=(1, 4, 3, 3)) + layer("ReLU"), "'data' 1 x 4 x 3 x 3"),
    (inputs(data=(1, 3, 4, 4), info=(1, 3)) + layer("ReLU"), "'data' 1 x 3 x 4 x 4, 'info' 1 x 3"),
    (inputs(data=(1, 3, 4, 4)) + layer("ReLU"), "'top' is 1 x 3 x 4 x 4; `preprocessing` takes an output with one value"),
    (inputs(data=(1, 3, 4, 4)) + layer("Slice", tops=["a", "b"], params="slice_param { slice_point: 1 }"),
     "has the outputs a, b"),
])  # fmt: skip
def test_what_takes_no_picture_is_refused_with_its_shape(text, why, tmp_path):
    net = caffe2tf.load(make(tmp_path, text)[0])
    with pytest.raises(Caffe2TFError, match=why.replace("(", "\\(")):
        caffe2tf.to_keras(net, preprocessing=True)
    with pytest.raises(Caffe2TFError, match=why.replace("(", "\\(")):
        caffe2tf.save(net, str(tmp_path / "x.keras"), preprocessing=True)
    assert not (tmp_path / "x.keras").exists()


def test_options_that_do_not_belong_together_are_refused(here):
    assert (
        "net.npz holds weights alone"
        in run("convert", "net.caffemodel", "--with-preprocessing", "-o", "net.npz", code=2).output
    )
    assert "--labels are of" in run("convert", "net.caffemodel", "--labels", "x.txt", "-o", "net.keras", code=2).output
    Path("two.txt").write_text("cat\ndog\n")
    said = run("convert", "net.caffemodel", "--with-preprocessing", "--labels", "two.txt", "-o", "net.keras", code=1)
    assert "2 labels for 10 classes of 'prob'" in said.output
    with pytest.raises(Caffe2TFError, match="holds weights alone"):
        caffe2tf.save(load_small(), "net.npz", preprocessing=True)
    with pytest.raises(Caffe2TFError, match="`labels` go into a model with `preprocessing`"):
        caffe2tf.save(load_small(), "net.keras", labels=NAMES)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with the small network as every whole model that takes pictures."""
    from tests.helpers import write_small_set

    folder = tmp_path_factory.mktemp("pictures")
    write_small_set(folder)
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in NAMES))
    outs = [part for name in ("net.keras", "net.onnx", "net.tflite", "net/") for part in ("-o", f"{folder}/{name}")]
    command = ["convert", folder / "net.caffemodel", folder / "net.prototxt", "--with-preprocessing"]
    said = run(*command, "--labels", folder / "names.txt", *outs).output
    assert said.count("read back, largest difference") == 4
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["net.keras", "net.onnx", "net.tflite", "net"])
def test_classify_runs_the_file_with_its_names(name, files):
    paths = sorted((files / "train").glob("*/0.png"))
    expected = caffe2tf.classify(caffe2tf.load(files / "net.prototxt", files / "net.caffemodel"), paths, top=10)
    for seen, wanted in zip(caffe2tf.classify(files / name, paths, top=10), expected, strict=True):
        np.testing.assert_allclose(probabilities(seen), probabilities(wanted), atol=1e-6)
        assert [named for _, named, _ in sorted(seen.top)] == NAMES
    if name == "net":  # beside the signatures of pictures it is the network
        assert caffe2tf.load(files / name).arrays
        return
    with pytest.raises(
        Caffe2TFError, match=f"{name}: takes pictures itself, which is more than its network does; only"
    ):
        caffe2tf.load(files / name)


@pytest.mark.slow
def test_the_keras_file_is_of_stock_layers_and_takes_any_size(files):
    with zipfile.ZipFile(files / "net.keras") as archive:
        assert b"caffe2tf" not in archive.read("config.json")
        assert archive.read("labels.txt").decode().splitlines() == NAMES
    model = keras.models.load_model(files / "net.keras")
    net = caffe2tf.load(files / "net.prototxt", files / "net.caffemodel")
    path = files / "large.png"
    Image.fromarray(RANDOM.randint(0, 256, (61, 33, 3)).astype(np.uint8)).save(path)
    (seen,) = caffe2tf.classify(net, [path], top=10)
    np.testing.assert_allclose(model.predict(rgb(path), verbose=0)[0], probabilities(seen), atol=1e-6)


def as_served(folder: Path, signature: str, given: np.ndarray) -> dict[str, np.ndarray]:
    """What a server computes, which loads a SavedModel as TensorFlow 1 did."""
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        wires = graph.signature_def[signature]
        (feed,) = wires.inputs.values()
        return session.run({key: wire.name for key, wire in wires.outputs.items()}, {feed.name: given})


@pytest.mark.slow
def test_the_signatures_give_what_classify_says(files):
    paths = sorted((files / "train").glob("*/1.png"))
    expected = caffe2tf.classify(caffe2tf.load(files / "net.prototxt", files / "net.caffemodel"), paths)
    encoded = np.array([path.read_bytes() for path in paths], object)
    images = np.concatenate([rgb(path) for path in paths])
    how, _ = preprocess.of(caffe2tf.load(files / "net.prototxt", files / "net.caffemodel"))
    for signature, given in (("classify_bytes", encoded), ("classify_images", images)):
        found = as_served(files / "net", signature, given)
        for index, seen in enumerate(expected):
            assert found["classes"][index].tolist() == [number for number, _, _ in seen.top]
            assert [name.decode() for name in found["names"][index]] == [NAMES[n] for n in found["classes"][index]]
            np.testing.assert_allclose(found["scores"][index], [share for _, _, share in seen.top], atol=1e-6)
    prepared = np.stack([how.load(path).transpose(1, 2, 0) for path in paths])
    shares = as_served(files / "net", "serving_default", prepared)["prob"]
    assert shares.argmax(1).tolist() == [seen.top[0][0] for seen in expected]
    assert (files / "net" / "assets" / "labels.txt").read_text().splitlines() == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("what", ["text", "nothing", "half"])
def test_a_picture_that_cannot_be_decoded_is_an_error_of_the_operation(what, files):
    import tensorflow as tf

    whole = io.BytesIO()
    Image.fromarray(RANDOM.randint(0, 256, (40, 40, 3)).astype(np.uint8)).save(whole, "JPEG")
    data = {"text": b"hello", "nothing": b"", "half": whole.getvalue()[: len(whole.getvalue()) // 2]}[what]
    served = tf.saved_model.load(str(files / "net"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Unknown image file|Input is empty|Invalid JPEG"):
        served.signatures["classify_bytes"](bytes=tf.constant([whole.getvalue(), data]))


@pytest.mark.slow
def test_a_size_goes_not_with_a_model_that_resizes(files):
    with pytest.raises(Caffe2TFError, match="resizes pictures itself"):
        caffe2tf.classify(files / "net.keras", [files / "train/red/0.png"], input_shape={None: (1, 3, 20, 20)})
    with pytest.raises(Caffe2TFError, match="prepares pictures itself; `mean` has no part in it"):
        caffe2tf.classify(files / "net.keras", [files / "train/red/0.png"], mean="none")


def compare(model: Any, served: Any, net: Any, paths: list[str]) -> None:
    """That top classes are equal and probabilities within 1e-4, from pixels and from the file's bytes."""
    import tensorflow as tf

    for path, seen in zip(paths, caffe2tf.classify(net, paths, top=1000), strict=True):
        wanted = probabilities(seen)
        found = keras.ops.convert_to_numpy(model(rgb(path)))[0]
        assert np.abs(found - wanted).max() <= 1e-4, path
        assert found.argmax() == wanted.argmax(), path
        best = served.signatures["classify_bytes"](bytes=tf.constant([Path(path).read_bytes()]))
        assert best["classes"].numpy()[0, 0] == wanted.argmax(), path
        assert np.abs(best["scores"].numpy()[0] - np.sort(wanted)[:-6:-1]).max() <= 1e-4, path


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory):
    """The trained SqueezeNet, (Net, its .keras of pictures, its SavedModel), both read back."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("squeezenet")
    caffe2tf.sample("squeezenet", folder / "net.caffemodel")
    net = caffe2tf.load(folder / "net.caffemodel")
    caffe2tf.save(net, folder / "net.keras", preprocessing=True)
    caffe2tf.save(net, f"{folder}/net/", preprocessing=True)
    return net, keras.models.load_model(folder / "net.keras"), tf.saved_model.load(str(folder / "net"))


@pytest.mark.slow
def test_three_photographs_have_the_classes_of_classify(squeezenet):
    net, model, served = squeezenet
    compare(model, served, net, [bundled.photograph(name) for name in bundled.PHOTOGRAPHS])


def test_all_photographs_have_the_classes_of_classify(squeezenet, shared):
    net, model, served = squeezenet
    paths = sorted(str(path) for path in (shared / "images").iterdir())
    assert len(paths) >= 62
    compare(model, served, net, paths)
