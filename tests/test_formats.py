"""Every weight format: exact both ways, readable by others, whole or not there."""

import errno
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from caffe2tf import formats, loading
from caffe2tf.arrays import layout
from caffe2tf.errors import Caffe2TFError, OutputError, ParseError, WeightMismatch
from caffe2tf.formats import _files
from tests.helpers import GOLDEN, inputs, layer, load, make

# Between them every kind of weight.
NAMES = ["conv_group2", "deconv_group_pairs_nchw", "ip_nchw", "bn_scale_inplace", "scale_hw_nchw", "bias_learned",
         "prelu_shared", "embed", "lstm_static_input", "rnn_static_input", "parameter_scale"]  # fmt: skip
READABLE = ["h5", "npy", "npz", "safetensors"]


def golden(name):
    return load(GOLDEN / "layers" / name)


def same(found, expected):
    assert list(found) == list(expected)
    for name, arrays in expected.items():
        assert set(found[name]) == set(arrays)
        for key, array in arrays.items():
            assert found[name][key].shape == array.shape
            assert found[name][key].tobytes() == array.tobytes()


@pytest.mark.parametrize("kind", READABLE)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_reads_back_exactly(name, kind, tmp_path):
    net = golden(name)
    path = str(tmp_path / f"x.{kind}")
    formats.save(net, path)
    same(formats.module(kind).load(path), net.weights)
    again = loading.load(str(GOLDEN / "layers" / name / "net.prototxt"), path)
    same(again.weights, net.weights)


@pytest.mark.parametrize("name", ["v0", "v1", "train_val", "double_data", "raw_data_float16"])
def test_a_caffemodel_is_upgraded(name, tmp_path):
    from caffe2tf.caffe import read

    net = load(GOLDEN / "formats" / name)
    path = str(tmp_path / "new.caffemodel")
    formats.save(net, path)
    alone = loading.load(None, path)
    same(alone.weights, net.weights)
    assert alone.encoding == "V2"
    assert [node.layer.type for node in alone.nodes] == [node.layer.type for node in net.nodes]
    shapes = [blob.shape for blobs in read.read_caffemodel(path).blobs.values() for blob in blobs]
    assert shapes == [array.shape for arrays in net.arrays.values() for array in arrays]


def test_npy_is_what_users_of_bvlc_alexnet_npy_expect(tmp_path):
    net = golden("conv_bn_scale_relu")
    formats.save(net, str(tmp_path / "x.npy"))  # in dictionaries, for it has a BatchNorm
    for encoding in ("ASCII", "bytes", "latin1"):
        data = np.load(tmp_path / "x.npy", allow_pickle=True, encoding=encoding).item()
        assert {layer: sorted(item) for layer, item in data.items()} == {
            "conv": ["weights"],
            "bn": ["mean", "variance"],
            "scale": ["offset", "scale"],
        }
    np.testing.assert_array_equal(data["conv"]["weights"], net.weights["conv"]["kernel"])
    net = golden("conv_basic")
    formats.save(net, str(tmp_path / "y.npy"), layout="list")
    data = np.load(tmp_path / "y.npy", allow_pickle=True).item()
    assert isinstance(data["conv"], list)
    assert [array.ndim for array in data["conv"]] == [4, 1]
    same(formats.module("npy").load(tmp_path / "y.npy"), net.weights)
    assert data["conv"][0].flags.writeable
    with pytest.raises(OutputError, match="no layout 'tuple'; takes auto, dict, list"):
        formats.save(net, str(tmp_path / "z.npy"), layout="tuple")


def test_npy_is_loaded_by_the_loaders_that_people_have(tmp_path):
    """The tutorials' way, through the arrays of a layer, and caffe-tensorflow's, through their names."""
    net = golden("ip_chain")
    formats.save(net, str(tmp_path / "list.npy"))
    data = np.load(tmp_path / "list.npy", allow_pickle=True, encoding="bytes").item()
    for name, arrays in data.items():
        assert sorted(array.ndim for array in arrays) == [1, 2]
        weights, biases = arrays
        np.testing.assert_array_equal(weights, net.weights[name]["kernel"])
        np.testing.assert_array_equal(biases, net.weights[name]["bias"])
    formats.save(net, str(tmp_path / "dict.npy"), layout="dict")
    data = np.load(tmp_path / "dict.npy", allow_pickle=True, encoding="bytes").item()
    for name, arrays in data.items():
        assert {key: array.ndim for key, array in arrays.items()} == {"weights": 2, "biases": 1}
        np.testing.assert_array_equal(arrays["weights"], net.weights[name]["kernel"])
    # What a BatchNorm holds has no place in a list.
    assert formats.module("npy").layout_of(golden("conv_bn_scale_relu")) == "dict"


def test_npy_holds_no_name_that_old_numpy_lacks(tmp_path):
    formats.save(golden("conv_basic"), str(tmp_path / "x.npy"))
    data = (tmp_path / "x.npy").read_bytes()
    assert b"numpy._core" not in data
    assert b"\x80\x03" in data


def test_files_of_other_writers_are_read(tmp_path):
    weights = golden("conv_basic").weights["conv"]
    both = {"weights": weights["kernel"], "biases": weights["bias"]}
    for protocol in (2, 4):
        with open(tmp_path / "x.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
            pickle.dump(np.array({"conv": both}, dtype=object), file, protocol)
        same(formats.module("npy").load(tmp_path / "x.npy"), {"conv": weights})


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/caffe2tf-was-here",)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (Evil(), "posix.system; only arrays"),
        ({"conv": {"weights": Evil()}}, "posix.system; only arrays"),
        ([1, 2], "holds a list, expected a dictionary"),
        ({"conv": "text"}, "layer 'conv' is neither"),
        ({"conv": [1, 2]}, "layer 'conv' is neither"),
    ],
)
def test_a_pickle_gets_no_further_than_arrays(data, why, tmp_path):
    with open(tmp_path / "x.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(data, file, 2)
    with pytest.raises(ParseError) as caught:
        formats.module("npy").load(tmp_path / "x.npy")
    assert why in str(caught.value)
    assert not os.path.exists("/tmp/caffe2tf-was-here")


@pytest.mark.parametrize("kind", READABLE)
def test_damaged_weights_are_one_clear_line(kind, tmp_path):
    path = tmp_path / f"x.{kind}"
    formats.save(golden("conv_basic"), str(path))
    whole = path.read_bytes()
    for data in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(ParseError) as caught:
            formats.module(kind).load(str(path))
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_npz_and_safetensors_share_keys_and_hold_no_pickle(tmp_path):
    from safetensors.numpy import load_file

    net = golden("fire_module")
    formats.save(net, str(tmp_path / "x.npz"))
    formats.save(net, str(tmp_path / "x.safetensors"))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        tensors = load_file(tmp_path / "x.safetensors")
        assert set(archive.files) == set(tensors)
        assert "e1/kernel" in tensors
        for key in archive.files:
            np.testing.assert_array_equal(archive[key], tensors[key])


def test_layer_names_with_slashes(tmp_path):
    conv = "convolution_param { num_output: 2 kernel_size: 1 }"
    text = (
        inputs(data=(1, 2, 3, 3))
        + layer("Convolution", conv, tops=["y"], name="a/b")
        + layer("Convolution", conv, name="a_b")
    )
    blobs = [(2, 2, 1, 1), (2,)]
    net = loading.load(*make(tmp_path, text, {"a/b": blobs, "a_b": blobs}))
    for kind in READABLE:
        formats.save(net, str(tmp_path / f"x.{kind}"))
        same(formats.module(kind).load(str(tmp_path / f"x.{kind}")), net.weights)


def test_h5_is_loaded_by_plain_keras(tmp_path):
    keras = pytest.importorskip("keras")
    net = golden("ip_after_concat_conv")
    formats.save(net, str(tmp_path / "x.h5"))
    image = keras.Input((8, 8, 3))
    c1 = keras.layers.Conv2D(4, 3, padding="same", name="c1")(image)
    c2 = keras.layers.Conv2D(2, 1, name="c2")(image)
    flat = keras.layers.Flatten()(keras.layers.Concatenate()([c1, c2]))
    model = keras.Model(image, keras.layers.Dense(5, name="fc")(flat))
    model.load_weights(str(tmp_path / "x.h5"), by_name=True)
    with np.load(GOLDEN / "layers" / "ip_after_concat_conv" / "blobs.npz") as blobs:
        found = np.asarray(model(np.moveaxis(blobs["data"], 1, -1)))
        np.testing.assert_allclose(found, blobs["fc"], rtol=1e-4, atol=1e-5)


def test_checkpoint_is_read_by_tensorflow_two_and_one(tmp_path):
    tf = pytest.importorskip("tensorflow")
    net = golden("conv_bn_scale_relu")
    prefix = str(tmp_path / "x.ckpt")
    formats.save(net, prefix)
    reader = tf.train.load_checkpoint(prefix)
    for name, arrays in net.weights.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(reader.get_tensor(f"{name}/{_files.TENSORFLOW_NAMES[key]}"), array)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        kernel = tf.compat.v1.get_variable("conv/weights", net.weights["conv"]["kernel"].shape)
        tf.compat.v1.train.Saver([kernel]).restore(session, prefix)
        np.testing.assert_array_equal(session.run(kernel), net.weights["conv"]["kernel"])
    with pytest.raises(OutputError, match="exists already"):
        formats.save(net, prefix, force=False)
    formats.save(golden("conv_basic"), prefix)
    assert tf.train.load_checkpoint(prefix).has_tensor("conv/biases")
    assert {name for name in os.listdir(tmp_path) if not name.startswith("x.ckpt.")} <= {"checkpoint"}


@pytest.mark.parametrize("kind", [*READABLE, "caffemodel"])
def test_a_full_disk_leaves_the_old_file(kind, tmp_path, monkeypatch):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(b"old")
    module = formats.module(kind)

    def full(net, temporary, progress=None):
        with open(temporary, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save", full)
    with pytest.raises(OutputError, match="cannot be written: the disk is full"):
        formats.save(golden("conv_basic"), str(path))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_a_failed_rename_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    path.write_bytes(b"old")

    def replace(old, new):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError, match="cannot be written: input/output error"):
        formats.save(golden("conv_basic"), str(path))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_an_error_of_a_writing_thread_is_not_lost():
    moved = layout.Moved(np.zeros(4, np.float32))
    with pytest.raises(OSError) as caught:
        _files.write_places("/dev/full", [(moved, 0)])
    assert caught.value.errno in (errno.ENOSPC, errno.ESPIPE)


def test_targets_that_cannot_be_written(tmp_path):
    net = golden("conv_basic")
    with pytest.raises(OutputError, match="its folder does not exist"):
        formats.save(net, str(tmp_path / "no" / "x.npz"))
    with pytest.raises(OutputError, match=r"no format has the suffix '.npzz'; did you mean .npz\?"):
        formats.save(net, str(tmp_path / "x.npzz"))
    with pytest.raises(OutputError, match="no format 'pth'; takes one of"):
        formats.save(net, str(tmp_path / "x"), to="pth")
    with pytest.raises(OutputError, match="cannot be written: the network has no weights"):
        formats.save(loading.load(str(GOLDEN / "layers" / "conv_basic" / "net.prototxt")), str(tmp_path / "x.npz"))


def test_weights_of_another_network_are_refused(tmp_path):
    formats.save(golden("conv_basic"), str(tmp_path / "x.npz"))
    other = str(GOLDEN / "layers" / "conv_group2" / "net.prototxt")
    with pytest.raises(WeightMismatch, match=r"layer 'conv' \(Convolution\): weights .* the layer wants"):
        loading.load(other, str(tmp_path / "x.npz"))
    with pytest.raises(Caffe2TFError, match="holds weights but no network"):
        loading.load(None, str(tmp_path / "x.npz"))


@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 5, 6), (64, 16, 3, 3), (1, 1, 1, 4), (200, 300), (40, 50, 60)])
def test_moved_arrays_are_numpys(shape, tmp_path):
    import itertools

    source = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for axes in itertools.permutations(range(len(shape))):
        view = source.transpose(axes)
        expected = np.ascontiguousarray(view)
        np.testing.assert_array_equal(layout.contiguous(view), expected)
        path = tmp_path / "raw"
        path.write_bytes(b"head")
        _files.write_places(path, [(layout.Moved(view), 4)])
        assert path.read_bytes() == b"head" + expected.tobytes()


def test_large_arrays_are_moved_in_stripes(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "_SLAB", 1 << 12)
    monkeypatch.setattr(layout, "_TILE", 1 << 8)
    source = np.random.RandomState(0).rand(96, 32, 6, 6).astype(np.float32)
    for view in (source.transpose(2, 3, 1, 0), source.reshape(96, -1).T, source.transpose(1, 0, 3, 2)):
        expected = np.ascontiguousarray(view)
        np.testing.assert_array_equal(layout.contiguous(view), expected)
        (tmp_path / "raw").write_bytes(b"")
        _files.write_places(tmp_path / "raw", [(layout.Moved(view), 0)])
        assert (tmp_path / "raw").read_bytes() == expected.tobytes()


def test_reading_needs_no_tensorflow():
    code = (
        "import sys, caffe2tf, caffe2tf.formats.npy, caffe2tf.formats.npz, caffe2tf.formats.caffemodel;"
        "caffe2tf.load; bad = {'tensorflow', 'keras', 'h5py', 'matplotlib', 'rich'} & set(sys.modules); sys.exit(repr(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
