"""Reading snapshots, network texts and mean images."""

import mmap

import numpy as np
import pytest

from caffe2tf.caffe import caffe_pb2, read
from caffe2tf.errors import ParseError
from tests.helpers import GOLDEN, cases

FORMATS = GOLDEN / "formats"
ENCODINGS = [case for case in cases("formats") if case.id != "raw_data_float16"]


@pytest.mark.parametrize("path", ENCODINGS)
def test_every_encoding_reads_to_the_same_arrays(path):
    expected = caffe_pb2.NetParameter.FromString((FORMATS / "v2" / "net.caffemodel").read_bytes())
    found = read.read_caffemodel(path / "net.caffemodel").blobs
    layers = [layer for layer in expected.layer if layer.blobs]
    assert list(found) == [layer.name for layer in layers]
    for layer in layers:
        for blob, proto in zip(found[layer.name], layer.blobs, strict=True):
            array = blob.array()
            assert array.dtype == np.float32
            assert array.ravel().tobytes() == np.array(proto.data, np.float32).tobytes()


@pytest.mark.parametrize(("name", "generation"), [("v0", "V0"), ("v1", "V1"), ("v2", "V2"), ("train_val", "V2")])
def test_generation(name, generation):
    assert read.read_caffemodel(FORMATS / name / "net.caffemodel").encoding == generation
    assert read.read_prototxt(FORMATS / name / "net.prototxt").encoding == generation


def test_half_precision_raw_data_is_widened():
    half = read.read_caffemodel(FORMATS / "raw_data_float16" / "net.caffemodel").blobs
    full = read.read_caffemodel(FORMATS / "v2" / "net.caffemodel").blobs
    for name, blobs in full.items():
        for blob, rounded in zip(blobs, half[name], strict=True):
            np.testing.assert_array_equal(rounded.array(), blob.array().astype(np.float16).astype(np.float32))


def test_packed_values_are_a_view_of_the_file():
    blob = read.read_caffemodel(FORMATS / "v2" / "net.caffemodel").blobs["conv1"][0]
    assert blob.array().base is not None
    assert not blob.array().flags.writeable


def test_scalar_blob_has_no_axes(tmp_path):
    net = caffe_pb2.NetParameter(name="n")
    net.layer.add(name="s", type="Scale").blobs.add(data=[2.5])
    (tmp_path / "n.caffemodel").write_bytes(net.SerializeToString())
    array = read.read_caffemodel(tmp_path / "n.caffemodel").blobs["s"][0].array()
    assert array.shape == ()
    assert array == 2.5


def test_mean_image():
    mean = read.read_mean(FORMATS / "mean.binaryproto")
    np.testing.assert_array_equal(mean, np.load(FORMATS / "mean.npy"))
    with pytest.raises(ParseError, match=r"mean image"):
        read.read_mean(FORMATS / "v2" / "net.prototxt")


def test_unknown_fields_are_named():
    warnings = read.read_caffemodel(FORMATS / "unknown_fields" / "net.caffemodel").warnings
    assert any("20001" in line and "'data'" in line for line in warnings)


def test_runs_of_unpacked_values_end_where_the_field_ends(tmp_path):
    # Values whose bytes look like the field's key, gradients in between, and two runs of values.
    key, other = bytes([5 << 3 | 5]), bytes([6 << 3 | 5])
    values = np.frombuffer(key * 4 + bytes(range(16)), "<f4")
    blob = b"".join(key + v.tobytes() for v in values[:3]) + other + b"abcd"
    blob += b"".join(key + v.tobytes() for v in values[3:]) + b"\x3a\x03\x0a\x01\x05"
    layer = b"\x0a\x01L\x12\x01T" + b"\x3a" + bytes([len(blob)]) + blob
    (tmp_path / "n.caffemodel").write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)
    array = read.read_caffemodel(tmp_path / "n.caffemodel").blobs["L"][0].array()
    np.testing.assert_array_equal(array, values)


GOOD = (FORMATS / "v2" / "net.caffemodel").read_bytes()


def huge(shape, values=4):
    blob = caffe_pb2.BlobProto(data=[0.0] * values)
    blob.shape.dim.extend(shape)
    net = caffe_pb2.NetParameter(name="n")
    net.layer.add(name="c", type="Convolution").blobs.add().CopyFrom(blob)
    return net.SerializeToString()


BAD = {
    "empty": (b"", "is empty"),
    "truncated": (GOOD[: len(GOOD) // 2], "truncated"),
    "truncated in a number": (GOOD + b"\xff\xff", "truncated"),
    "length past the end": (GOOD + b"\xa2\x06\xff\xff\xff\x7f", "past the end"),
    "text": ((FORMATS / "v2" / "net.prototxt").read_bytes(), "is text, expected a binary .caffemodel"),
    "error page": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "is HDF5"),
    "zip": (b"PK\x03\x04" + bytes(64), "is a zip"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(64), "is not a .caffemodel"),
    "zeros": (bytes(512), "is not a .caffemodel"),
    "other message": (caffe_pb2.LayerParameter(type="conv", bottom=["a"]).SerializeToString(), "not a .caffemodel"),
    "shape of other size": (huge([5, 5]), "25 values, but holds 4"),
    "shape that overflows": (huge([2**31 - 1] * 3), "more values than Caffe takes"),
    "extent beyond Caffe's": (huge([2**40]), "extent 1099511627776"),
    "negative extent": (huge([-4]), "extent -4"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_snapshot_is_one_clear_line(what, tmp_path):
    data, why = BAD[what]
    path = tmp_path / "x.caffemodel"
    path.write_bytes(data)
    with pytest.raises(ParseError) as caught:
        read.read_caffemodel(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert why in message
    assert "\n" not in message


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "x.caffemodel"
    whole = read.read_caffemodel(FORMATS / "v2" / "net.caffemodel")
    edges = set()
    for end in range(1, len(GOOD), 7):
        path.write_bytes(GOOD[:end])
        try:
            part = read.read_caffemodel(path)
        except ParseError:
            continue
        edges.add(end)  # cut between two layers: whatever is there is whole
        assert len(part.net.layer) < len(whole.net.layer)
    assert len(edges) < 12


def test_no_memory_for_what_a_file_only_claims(tmp_path):
    import tracemalloc

    path = tmp_path / "x.caffemodel"
    path.write_bytes(GOOD + b"\xa2\x06\xff\xff\xff\xff\x0f")
    tracemalloc.start()
    with pytest.raises(ParseError):
        read.read_caffemodel(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("missing", None, "no such file"),
        ("binary", GOOD, "is binary, expected a network text"),
        ("solver", b'net: "train_val.prototxt"\nbase_lr: 0.01\nlr_policy: "step"\n', "is a solver"),
        ("no layers", b'name: "n"\n', "holds no layers"),
        ("web page", b"<html></html>", "is a web page"),
    ],
)
def test_bad_text_is_one_clear_line(name, data, why, tmp_path):
    path = tmp_path / "x.prototxt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ParseError) as caught:
        read.read_prototxt(path)
    assert why in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_folder_instead_of_file(tmp_path):
    with pytest.raises(ParseError, match="is a folder"):
        read.read_caffemodel(tmp_path)


def test_a_blob_without_values_has_its_shape():
    assert read.Blob((0, 3), ()).array().shape == (0, 3)
    one, two = np.float32([1, 2]), np.float64([3, 4])
    np.testing.assert_array_equal(read.Blob((2, 2), (one, two)).array(), [[1, 2], [3, 4]])


def test_the_phase_of_a_training_is_forgotten_where_every_layer_has_it(tmp_path):
    """Caffe notes TRAIN on each layer of a snapshot; one that a text gave stands among others."""
    for phases, kept in (
        ("TRAIN TRAIN", []),
        ("TRAIN TEST", ["TRAIN", "TEST"]),
        ("TRAIN ", []),
        (" ", ["", ""]),
    ):
        net = caffe_pb2.NetParameter()
        for name, phase in zip("ab", phases.split(" "), strict=True):
            item = net.layer.add(name=name, type="Dropout", bottom=["x"], top=[name])
            if phase:
                item.phase = caffe_pb2.Phase.Value(phase)
        (tmp_path / "x.caffemodel").write_bytes(net.SerializeToString())
        found = read.read_caffemodel(tmp_path / "x.caffemodel").net.layer
        told = [caffe_pb2.Phase.Name(item.phase) if item.HasField("phase") else "" for item in found]
        assert told == (kept or ["", ""])


def test_an_array_knows_the_file_that_it_is_a_view_of():
    blobs = read.read_caffemodel(FORMATS / "v2" / "net.caffemodel").blobs
    for array in (blob.array() for several in blobs.values() for blob in several):
        assert isinstance(read._map_of(array), mmap.mmap)
        assert read._map_of(array.copy()) is None
