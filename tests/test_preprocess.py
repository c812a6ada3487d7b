"""Pictures become what OpenCV's imread and resize give."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from caffe2tf import loading
from caffe2tf.errors import ParseError
from caffe2tf.images import decode as imaging
from caffe2tf.images import preprocess
from tests.helpers import GOLDEN, inputs, layer, load, make

cv2 = pytest.importorskip("cv2")
RANDOM = np.random.RandomState(0)


def smooth(h=90, w=120):
    small = RANDOM.randint(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("size", [(256, 256), (227, 227), (300, 900)])
def test_photographs_decode_and_resize_as_opencv(size, shared):
    photographs = sorted((shared / "images").iterdir())
    assert photographs
    for path in photographs:
        expected = cv2.imread(str(path))
        found = imaging.read_image(str(path))
        np.testing.assert_array_equal(found, expected)
        wanted = cv2.resize(expected, size[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(imaging.resize(found, *size), wanted)


@pytest.mark.parametrize("shape", [(3, 5), (64, 48), (500, 333), (1, 1), (2, 700)])
@pytest.mark.parametrize("size", [(256, 256), (10, 400), (1, 1)])
def test_resize_of_any_size_is_opencvs(shape, size):
    image = RANDOM.randint(0, 256, (*shape, 3), np.uint8)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(imaging.resize(image, *size), expected)


def test_nearest_is_pillows():
    image = smooth()
    expected = np.asarray(Image.fromarray(image).resize((227, 227), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(imaging.resize(image, 227, 227, "nearest_pillow"), expected)


def saved(folder, image, name, **options):
    path = folder / name
    image.save(path, **options)
    return str(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(smooth()), "x.jpg", exif=exif.tobytes())
    np.testing.assert_array_equal(imaging.read_image(path), cv2.imread(path))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16", "LA"])
def test_modes(mode, tmp_path):
    rgb = Image.fromarray(smooth())
    if mode == "CMYK":
        path = saved(tmp_path, rgb.convert("CMYK"), "x.jpg", quality=95)
    elif mode == "I;16":
        path = str(tmp_path / "x.png")
        cv2.imwrite(path, (smooth()[:, :, 0].astype(np.uint16) << 8) + 77)
    else:
        path = saved(tmp_path, rgb.convert(mode), "x.png")
    expected, found = cv2.imread(path), imaging.read_image(path)
    np.testing.assert_array_equal(found, expected)


WRITTEN = {"png": ("RGB", "RGBA", "P", "L", "LA", "1"), "jpg": ("RGB", "L", "CMYK"), "bmp": ("RGB", "RGBA", "P", "L"),
           "tif": ("RGB", "P", "L"), "gif": ("RGB", "P", "L"), "webp": ("RGB", "RGBA")}  # fmt: skip


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in WRITTEN.items() for mode in modes])
def test_grey_pictures_for_grey_networks(suffix, mode, tmp_path):
    """OpenCV's rule is another for each decoder."""
    exact = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path, Image.fromarray(smooth()).convert(mode), f"x.{suffix}", **exact)
    expected = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    if expected is None:  # OpenCV before 4.11 reads no GIF; this is how it does since
        assert suffix == "gif"
        expected = cv2.cvtColor(np.asarray(Image.open(path).convert("RGB")), cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(imaging.read_image(path, grey=True)[:, :, 0], expected)


def test_first_frame_of_a_gif(tmp_path):
    frames = [Image.fromarray(np.full((9, 7, 3), value, np.uint8)) for value in (10, 200)]
    path = saved(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])
    assert (imaging.read_image(path) == 10).all()


def test_what_is_no_picture_is_one_line(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(smooth()).save(whole, "JPEG")
    bad = {"text.jpg": b"hello", "empty.jpg": b"", "cut.jpg": whole.getvalue()[: len(whole.getvalue()) // 2]}
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ParseError) as caught:
            imaging.read_image(str(tmp_path / name))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ParseError, match="no such file"):
        imaging.read_image(str(tmp_path / "nothing.jpg"))


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = saved(tmp_path, Image.fromarray(smooth()), "x.png")
    with pytest.raises(ParseError, match="cannot be read"):
        imaging.read_image(path)


def test_apply_is_crop_minus_mean_times_scale():
    image = smooth(256, 256)
    how = preprocess.Preprocessing((256, 256), (227, 227), (104, 117, 123), 0.5)
    found = how.apply(image)
    expected = (image[14:241, 14:241].astype(np.float32) - [104, 117, 123]) * 0.5
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1))
    with pytest.raises(ParseError, match="crop 300 x 300 of a picture of 256 x 256"):
        preprocess.Preprocessing((256, 256), (300, 300)).apply(image)


def test_preprocessing_of_networks(tmp_path):
    how, source = preprocess.of(load(GOLDEN / "formats" / "train_val"))
    assert (how.crop, how.mean, source) == ((19, 19), (104, 117, 123), "the snapshot's transform_param")
    text = inputs(data=(1, 3, 227, 227)) + layer("ReLU")
    how, source = preprocess.of(loading.load(make(tmp_path, text)[0]))
    assert str(how) == "BGR, bilinear to 256 x 256, centre crop 227 x 227, minus (104, 117, 123)"
    assert source == "Caffe's ImageNet habit"
    how, _ = preprocess.of(loading.load(make(tmp_path, inputs(data=(1, 1, 28, 28)) + layer("ReLU"))[0]))
    assert str(how) == "grey, bilinear to 28 x 28"
    with pytest.raises(ParseError, match="has no image input"):
        preprocess.of(loading.load(make(tmp_path, inputs(data=(1, 9)) + layer("ReLU"))[0]))


def test_find_images(tmp_path):
    for name in ("b.jpg", "a.png", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    names = [path.rsplit("/", 1)[1] for path in imaging.find_images([str(tmp_path)])]
    assert names == ["a.png", "b.jpg"]
    assert len(imaging.find_images([str(tmp_path / "*.jpg"), str(tmp_path / "c.txt")])) == 2
    with pytest.raises(ParseError, match="holds no pictures"):
        imaging.find_images([str(tmp_path / "empty")])
    with pytest.raises(ParseError, match="no such file or folder"):
        imaging.find_images([str(tmp_path / "*.bmp")])


# ------------------------------------------------------------------------------------------------ what the user says


def small_net(folder, channels=3):
    return loading.load(*make(folder, inputs(data=(1, channels, 4, 6)) + layer("ReLU")))


def test_settings_change_how_pictures_become_input(tmp_path):
    net = small_net(tmp_path)
    image = RANDOM.randint(0, 256, (8, 10, 3)).astype(np.uint8)
    plain = image.astype(np.float32).transpose(2, 0, 1)[:, 2:6, 2:8]

    def applied(**said):
        how, source = preprocess.of(preprocess.changed(net, resize=(8, 10), **said))
        assert source == "as said"
        return how.apply(image)

    means = np.float32([1, 2, 3])[:, None, None]
    np.testing.assert_array_equal(applied(mean="none"), plain)
    np.testing.assert_array_equal(applied(mean=(1, 2, 3)), plain - means)
    # The factor comes after the mean (data_transformer.cpp), and the mean is in the order of the input.
    np.testing.assert_array_equal(applied(mean=(1, 2, 3), scale=0.5), (plain - means) * np.float32(0.5))
    np.testing.assert_array_equal(applied(mean=(1, 2, 3), channels="rgb"), plain[::-1] - means)
    assert preprocess.changed(net) is net
    np.testing.assert_array_equal(
        preprocess.of(preprocess.changed(net, mean="none"))[0].apply(image),
        imaging.resize(image, 4, 6).transpose(2, 0, 1),
    )


def test_a_mean_image_is_cropped_as_the_picture_is(tmp_path):
    net, image = small_net(tmp_path), RANDOM.randint(0, 256, (8, 10, 3)).astype(np.uint8)
    mean = RANDOM.uniform(0, 255, (3, 8, 10)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    how, _ = preprocess.of(preprocess.changed(net, resize=(8, 10), mean=str(tmp_path / "mean.npy")))
    wanted = (image.transpose(2, 0, 1) - mean)[:, 2:6, 2:8]
    np.testing.assert_allclose(how.apply(image), wanted, atol=1e-5)
    np.testing.assert_allclose(how.apply(image, (0, 3)), (image.transpose(2, 0, 1) - mean)[:, :4, 3:9], atol=1e-5)
    from caffe2tf.caffe.caffe_pb2 import BlobProto

    blob = BlobProto(num=1, channels=3, height=8, width=10, data=mean.ravel())
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    again, _ = preprocess.of(preprocess.changed(net, resize=(8, 10), mean=str(tmp_path / "mean.binaryproto")))
    np.testing.assert_array_equal(again.apply(image), how.apply(image))


@pytest.mark.parametrize(("said", "why"), [
    ({"crop": (5, 5)}, "`resize` and `crop` give 5x5; the network takes 4x6"),
    ({"resize": (3, 3), "crop": (4, 6)}, "crop 4 x 6 of a picture of 3 x 3"),
    ({"resize": "none"}, "`resize` and `crop` give pictures of any size; the network takes 4x6"),
    ({"mean": (1.5, 2.0)}, "`mean` 1.5,2; takes 3 numbers"),
    ({"mean": (math.nan,)}, "`mean` nan; takes 3 numbers"),
    ({"mean": "nothing.npy"}, "nothing.npy: no such file"),
    ({"mean": "text.npy"}, "text.npy: is no array of numbers"),
    ({"mean": "object.npy"}, "object.npy: is no array of numbers"),
    ({"mean": "wide.npy"}, "a mean image of \\(9, 9\\) for a picture of \\(4, 6\\)"),
    ({"mean": "empty.npy"}, "holds an array of \\(3, 1000, 0\\); takes"),
    ({"mean": "two.npy"}, "holds an array of \\(2, 4, 6\\); takes \\(3\\) or \\(3, H, W\\)"),
    ({"channels": "grey"}, "`channels` grey: the network's input has 3 channels"),
])  # fmt: skip
def test_settings_that_do_not_fit_are_one_line(said, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.npy").write_text("hello")
    np.save("object.npy", np.array([{}], object), allow_pickle=True)
    np.save("wide.npy", np.zeros((3, 9, 9)))
    np.save("empty.npy", np.zeros((3, 1000, 0)))
    np.save("two.npy", np.zeros((2, 4, 6)))
    with pytest.raises(ParseError, match=why):
        preprocess.changed(small_net(tmp_path), **said)
