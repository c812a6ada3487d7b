"""What comes with the package: the seeded AlexNet, the trained SqueezeNet, LeNet, photographs and digits, as their digests say."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from click.shell_completion import BashComplete
from PIL import Image

import caffe2tf
from caffe2tf import bundled, loading
from caffe2tf.caffe import read
from caffe2tf.cli.main import main
from caffe2tf.errors import Caffe2TFError
from caffe2tf.files import renames
from caffe2tf.finetuning import data
from caffe2tf.samples import networks as sample
from caffe2tf.samples import pictures, squeezenet
from caffe2tf.samples import sample as samples
from caffe2tf.samples.sample import SAMPLES
from caffe2tf.verification import golden
from tests.helpers import GOLDEN, run

SQUEEZENET = json.loads((GOLDEN / "squeezenet" / "expected.json").read_text())
# The file of DeepScale's network as Caffe saved it after Deep Compression's own decoder.
SHA256 = "c14f4959297b7b2a71d344bb1306623ed21bdbef088463660e02c87b98c5fc6b"


def test_alexnet_is_what_its_digests_say(alexnet):
    expected = json.loads((GOLDEN / "alexnet" / "expected.json").read_text())["weights_sha256"]
    net = loading.load(None, str(alexnet))
    found = {
        name: [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays] for name, arrays in net.arrays.items()
    }
    assert found == expected


def test_alexnets_encoding_is_that_of_the_published_file(alexnet):
    source = read.read_caffemodel(alexnet)
    assert source.encoding == "V1"
    assert [layer.type for layer in source.net.layers][:2] == [5, 4]  # DATA, CONVOLUTION
    assert source.net.layers[-1].name == "loss"
    assert all(blob.legacy for blobs in source.blobs.values() for blob in blobs)
    assert source.blobs["fc8"][0].shape == (1, 1, 1000, 4096)
    assert sum(part.nbytes for blobs in source.blobs.values() for b in blobs for part in b.parts) == sample.BYTES


def test_alexnet_is_its_deploy_text(alexnet):
    alone, text = loading.load(None, str(alexnet)), loading.load(bundled.alexnet_text())
    assert [(n.layer.name, n.layer.type, n.bottoms) for n in alone.nodes] == [
        (n.layer.name, n.layer.type, n.bottoms) for n in text.nodes
    ]
    assert alone.inputs == {"data": (1, 3, 227, 227)}


# ------------------------------------------------------------------------------------------------ squeezenet


def changed(net, weights):
    """`net` with some other weights, {layer: {name: array}}."""
    return net.with_weights({name: {**net.weights[name], **weights.get(name, {})} for name in net.weights})


def test_squeezenet_is_the_published_file_byte_for_byte(tmp_path):
    paths = caffe2tf.sample("squeezenet", tmp_path / "net.caffemodel")
    assert paths == [str(tmp_path / "net.caffemodel"), str(tmp_path / "net.prototxt")]
    model = (tmp_path / "net.caffemodel").read_bytes()
    assert hashlib.sha256(model).hexdigest() == SHA256 == SQUEEZENET["model"]["caffemodel_sha256"]
    assert len(model) == squeezenet.BYTES == SQUEEZENET["model"]["caffemodel_bytes"]
    assert (tmp_path / "net.prototxt").read_bytes() == (GOLDEN / "squeezenet" / "net.prototxt").read_bytes()


def test_squeezenet_is_one_file_with_and_without_its_text(tmp_path):
    model, text = caffe2tf.sample("squeezenet", tmp_path / "net.caffemodel")
    alone, both = caffe2tf.load(model), caffe2tf.load(model, text)
    assert caffe2tf.diff(alone, both)["same"]
    assert golden.weight_digests(both) == SQUEEZENET["weights_sha256"]
    assert alone.inputs == {"data": (1, 3, 227, 227)}


def test_squeezenet_comes_small_without_pickles_and_with_its_license():
    folder = GOLDEN / "squeezenet"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    with np.load(folder / "weights.npz", allow_pickle=False) as archive:
        assert {name: archive[name].dtype.str for name in archive.files} == {
            "network": "|u1",
            "books": "<f4",
            "codes": "|u1",
            "biases": "<f4",
        }
    assert "Redistribution and use in source and binary forms" in (folder / "LICENSE").read_text()


def test_damaged_weights_are_said_in_a_line(tmp_path, monkeypatch):
    shutil.copytree(GOLDEN / "squeezenet", tmp_path / "squeezenet")
    monkeypatch.setattr(bundled, "home", lambda: str(tmp_path))
    (tmp_path / "squeezenet" / "weights.npz").write_bytes(b"PK")
    with pytest.raises(Caffe2TFError, match=r"weights.npz: cannot be read \(.*\); install caffe2tf again"):
        squeezenet.caffemodel()
    np.savez(tmp_path / "squeezenet" / "weights.npz", network=np.zeros(0, np.uint8))
    with pytest.raises(Caffe2TFError, match="cannot be read"):
        squeezenet.caffemodel()


def test_the_set_of_squeezenet_is_chosen_by_its_weights(tmp_path):
    model, _ = caffe2tf.sample("squeezenet", tmp_path / "net.caffemodel")
    net = caffe2tf.load(model)
    assert golden.choose(net).name == "squeezenet"
    ends = {layer: {"bias": np.zeros_like(net.weights[layer]["bias"])} for layer in ("conv1", "conv_final")}
    other = changed(net, ends)
    with pytest.raises(golden.GoldenError, match="no golden set of the network 'FireNet'"):
        golden.choose(other)
    with pytest.raises(golden.GoldenError, match="no golden set"):
        golden.choose(caffe2tf.load(bundled.squeezenet_text()))


def test_squeezenet_verifies_on_real_photographs_without_a_download(tmp_path):
    pytest.importorskip("keras")
    model, _ = caffe2tf.sample("squeezenet", tmp_path / "net.caffemodel")
    net = caffe2tf.load(model)
    report = caffe2tf.verify(net)
    assert report.passed
    assert len(report.layers) == 38
    assert [(p.image, p.found[0][0], p.same_set) for p in report.predictions] == [
        ("china.jpg", 832, True),
        ("flower.jpg", 109, True),
        ("grace_hopper.jpg", 457, True),
    ]
    assert report.missing == ()
    scaled = changed(net, {"fire5/conv3x3_2": {"kernel": net.weights["fire5/conv3x3_2"]["kernel"] * 1.01}})
    assert caffe2tf.verify(scaled).first_wrong == "fire5/conv3x3_2"


# ------------------------------------------------------------------------------------------------ lenet


def test_lenet_is_a_snapshot_that_does_not_tell_its_size(tmp_path):
    model, text = caffe2tf.sample("lenet", tmp_path / "lenet.caffemodel")
    alone, both = caffe2tf.load(model), caffe2tf.load(model, text)
    assert alone.inputs == {"data": (1, 1, None, None)} or None in next(iter(alone.inputs.values()))
    assert both.inputs == {"data": (1, 1, 28, 28)}
    assert {name: [a.shape for a in arrays] for name, arrays in both.arrays.items()} == {
        "conv1": [(20, 1, 5, 5), (20,)],
        "conv2": [(50, 20, 5, 5), (50,)],
        "ip1": [(500, 800), (500,)],
        "ip2": [(10, 500), (10,)],
    }
    assert abs(both.arrays["ip1"][0]).max() == pytest.approx((3 / 800) ** 0.5, rel=1e-3)  # xavier's bound
    caffe2tf.sample("lenet", tmp_path / "again.caffemodel")
    assert (tmp_path / "again.caffemodel").read_bytes() == (tmp_path / "lenet.caffemodel").read_bytes()


# ------------------------------------------------------------------------------------------------ pictures


def test_photographs_are_those_that_caffe_saw(tmp_path, caplog):
    caplog.set_level("INFO", "caffe2tf")
    assert caffe2tf.sample("photographs", tmp_path / "photographs") == [str(tmp_path / "photographs")]
    for photo in SQUEEZENET["images"]:
        found = (tmp_path / "photographs" / photo["file"]).read_bytes()
        assert hashlib.sha256(found).hexdigest() == photo["sha256"]
    license = (tmp_path / "photographs" / "LICENSE.txt").read_text()
    assert all(photo["file"] in license for photo in SQUEEZENET["images"])
    assert not caplog.records


def test_a_photograph_of_another_version_is_written_and_left_out_by_verify(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "caffe2tf")
    real = bundled.photograph
    Image.new("RGB", (64, 64)).save(tmp_path / "other.jpg")
    monkeypatch.setattr(
        bundled, "photograph", lambda name: str(tmp_path / "other.jpg") if name == "flower.jpg" else real(name)
    )
    caffe2tf.sample("photographs", tmp_path / "photographs")
    assert (tmp_path / "photographs" / "flower.jpg").read_bytes() == (tmp_path / "other.jpg").read_bytes()
    (line,) = caplog.messages
    assert line.startswith("flower.jpg of scikit-learn ")
    assert "is not the picture for which Caffe's classes are recorded" in line
    known = golden.load(GOLDEN / "squeezenet").photographs
    assert [photo.file for photo in golden.at_hand(known)] == ["china.jpg", "grace_hopper.jpg"]


def test_a_photograph_that_is_missing_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "photograph", lambda name: str(tmp_path / name))
    result = run("sample", "photographs", tmp_path / "photographs", code=1)
    assert (
        "china.jpg: cannot be read (no such file or directory), but comes with scikit-learn; install that again"
        in result.stderr
    )
    assert not (tmp_path / "photographs").exists()
    assert golden.at_hand(golden.load(GOLDEN / "squeezenet").photographs) == {}


def test_digits_are_scikit_learns(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    caffe2tf.sample("digits", tmp_path / "digits")
    known = datasets.load_digits()
    found = data.read(str(tmp_path / "digits"))
    assert found.classes == tuple("0123456789")
    assert len(found) == 1797
    assert list(found.counts().values()) == np.bincount(known.target).tolist()
    for path, label in zip(found.sources, found.labels, strict=True):
        index = int(path[-8:-4])
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (8, 8))
            pixels = np.asarray(image)
        assert known.target[index] == label
        np.testing.assert_array_equal(np.rint(pixels * (16 / 255)), known.images[index])


def test_digits_that_cannot_be_read_are_said_in_a_line(tmp_path, monkeypatch):
    datasets = pytest.importorskip("sklearn.datasets")

    def missing():
        raise FileNotFoundError(2, "No such file or directory", "digits.csv.gz")

    monkeypatch.setattr(datasets, "load_digits", missing)
    with pytest.raises(pictures.SampleError, match=r"the digits of scikit-learn [\d.]+ cannot be read .*digits.csv.gz"):
        caffe2tf.sample("digits", tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ the command


def test_list_says_what_there_is_and_how_large(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = run("sample", "--list").stdout.splitlines()[1:]
    assert (
        [line.split()[0] for line in lines]
        == list(SAMPLES)
        == ["alexnet", "squeezenet", "lenet", "photographs", "digits"]
    )
    for name, one in SAMPLES.items():
        if name == "alexnet":
            continue  # its size is the values', which test_alexnets_encoding compares
        paths = caffe2tf.sample(name)
        assert paths[0] == one.place
        size = sum(
            path.stat().st_size for path in [tmp_path / paths[0], *(tmp_path / paths[0]).rglob("*")] if path.is_file()
        )
        assert size == pytest.approx(one.size, rel=0.02)


def test_no_name_and_a_file_alone_mean_alexnet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = []
    monkeypatch.setattr(sample, "write", lambda path, force, progress: written.append(path) or open(path, "w").close())
    assert "bvlc_alexnet.caffemodel  AlexNet" in run("sample").stdout
    assert "mine.caffemodel  AlexNet" in run("sample", "mine.caffemodel").stdout
    assert run("sample", "alexnet", "third.caffemodel", "-q").stdout == ""
    assert written == ["bvlc_alexnet.caffemodel", "mine.caffemodel", "third.caffemodel"]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("lenet.caffemodel", "lenet"),
        ("my.net/squeezenet_v1.0.caffemodel", "squeezenet"),
        ("squeezenet.caffemodel", "squeezenet"),
        ("digits/", "digits"),
        ("./photographs", "photographs"),
        ("net.caffemodel", "alexnet"),
    ],
)
def test_a_file_with_the_name_of_a_sample_means_that_one(file, name):
    assert samples.meant(file) == name


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["sqeezenet"], "no sample 'sqeezenet'; did you mean squeezenet? takes one of alexnet, squeezenet, lenet"),
        (["vgg"], "no sample 'vgg'; takes one of alexnet, squeezenet, lenet, photographs, digits"),
        (["lenet", "net.prototxt"], "net.prototxt: the network text gets that name; name the model, net.caffemodel"),
        (["lenet", "absent/net.caffemodel"], "absent/net.caffemodel: its folder does not exist; make it first"),
        (["lenet", "taken.caffemodel"], "taken.prototxt: exists already; -f/--force replaces it"),
        (["digits", "theirs"], "theirs: is a folder that caffe2tf did not write"),
        (["digits", "taken.prototxt"], "taken.prototxt: is a file, and the result is a folder; name another place"),
        (["squeezenet", "theirs"], "theirs: is a folder, and the result is a file; name another place"),
    ],
)
def test_bad_input_is_one_line(args, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.prototxt").write_text("mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "0.png").write_text("mine")
    result = run("sample", *args, code=1)
    assert result.stderr.startswith(f"caffe2tf: {why}")
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken.prototxt", "theirs"]


def test_what_is_there_is_replaced_with_force_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("sample", "photographs")
    (tmp_path / "photographs" / "china.jpg").write_bytes(b"")
    assert "photographs: exists already; -f/--force replaces it" in run("sample", "photographs", code=1).stderr
    run("sample", "photographs", "-f")
    assert (tmp_path / "photographs" / "china.jpg").stat().st_size > 100_000
    (tmp_path / "photographs" / "mine.jpg").write_bytes(b"mine")
    assert "holds mine.jpg, which caffe2tf did not write" in run("sample", "photographs", "-f", code=1).stderr
    assert (tmp_path / "photographs" / "mine.jpg").read_bytes() == b"mine"


def test_a_model_is_on_the_disk_when_it_is_named_and_digits_are_not_waited_for(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(renames, "flush", waited.append)
    caffe2tf.sample("digits", tmp_path / "digits")
    assert waited == []
    caffe2tf.sample("lenet", tmp_path / "lenet.caffemodel")
    assert len(waited) == 2


def test_shells_complete_names_of_samples():
    shell = BashComplete(main, {}, "caffe2tf", "_CAFFE2TF_COMPLETE")
    assert [item.value for item in shell.get_completions(["sample"], "")] == list(SAMPLES)
    assert [item.value for item in shell.get_completions(["sample"], "s")] == ["squeezenet"]
