"""Whatever kind of numbers weights are kept in, the network holds native float32; what are no real numbers are refused."""

import struct
import zipfile

import numpy as np
import pytest

from caffe2tf import formats, loading
from caffe2tf.arrays import numbers as arrays
from caffe2tf.errors import Caffe2TFError, ParseError
from tests.helpers import GOLDEN, inputs, layer, load, make

CASE = GOLDEN / "layers" / "conv_basic"
TEXT = str(CASE / "net.prototxt")
KINDS = ["<f8", ">f8", "<f2", ">f4", "<i4", ">i2", "<u1"]


def whole(net):
    """Weights of whole numbers, which every kind of number holds."""
    return {
        name: {key: (np.arange(array.size) % 97).reshape(array.shape) for key, array in found.items()}
        for name, found in net.weights.items()
    }


def write(path, weights):
    """A file of `weights` as another program leaves it."""
    flat = {f"{name}/{key}": array for name, found in weights.items() for key, array in found.items()}
    if path.suffix == ".npz":
        np.savez(path, **flat)
    elif path.suffix == ".npy":
        np.save(path, np.array(weights, dtype=object), allow_pickle=True)
    elif path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        save_file({key: array.astype(array.dtype.newbyteorder("<")) for key, array in flat.items()}, path)
    else:
        import h5py

        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [name.encode() for name in weights]
            for name, found in weights.items():
                group = file.create_group(name)
                group.attrs["caffe_name"] = name
                group.attrs["weight_names"] = [f"{name}/{key}:0".encode() for key in found]
                for key, array in found.items():
                    group.create_dataset(f"{name}/{key}:0", data=array)


@pytest.mark.parametrize("suffix", ["npz", "npy", "h5", "safetensors"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_reader_gives_native_float32(suffix, kind, order, tmp_path):
    wanted = whole(load(CASE))
    path = tmp_path / f"x.{suffix}"
    order = "C" if suffix == "safetensors" else order  # it has one order
    write(path, {n: {k: np.asarray(a, kind, order=order) for k, a in found.items()} for n, found in wanted.items()})
    read = formats.module(suffix).load(str(path))
    net = loading.load(TEXT, str(path))
    formats.save(net, str(tmp_path / "again.npz"))
    again = loading.load(TEXT, str(tmp_path / "again.npz"))
    for name, found in wanted.items():
        for key, array in found.items():
            assert read[name][key].dtype == np.float32
            assert read[name][key].dtype.isnative
            assert read[name][key].flags.c_contiguous
            for given in (read[name][key], net.weights[name][key], again.weights[name][key]):
                np.testing.assert_array_equal(given, array)


@pytest.mark.parametrize("kind", KINDS)
def test_with_weights_and_save_take_any_numbers(kind, tmp_path):
    from dataclasses import replace

    net = load(CASE)
    wanted = whole(net)
    made = net.with_weights({n: {k: a.astype(kind) for k, a in found.items()} for n, found in wanted.items()})
    assert {array.dtype for found in made.arrays.values() for array in found} == {np.dtype(np.float32)}
    raw = replace(made, arrays={n: tuple(a.astype(kind) for a in found) for n, found in made.arrays.items()})
    for suffix in ("npz", "npy", "h5", "safetensors", "caffemodel"):
        formats.save(raw, str(tmp_path / f"x.{suffix}"))
        again = loading.load(TEXT, str(tmp_path / f"x.{suffix}"))
        for name, found in wanted.items():
            for key, array in found.items():
                np.testing.assert_array_equal(again.weights[name][key], array)
    lists = {n: {k: a.tolist() for k, a in found.items()} for n, found in wanted.items()}
    np.testing.assert_array_equal(net.with_weights(lists).weights["conv"]["kernel"], wanted["conv"]["kernel"])


@pytest.mark.parametrize("kind", ["c8", "?", "S3", "U3", "O", "M8[s]"])
def test_what_is_no_real_number_is_refused(kind, tmp_path):
    net = load(CASE)
    weights = whole(net)
    weights["conv"]["kernel"] = weights["conv"]["kernel"].astype("i8").astype(kind)
    with pytest.raises(Caffe2TFError, match=r"layer 'conv': kernel: holds values of type .* takes real numbers"):
        net.with_weights(weights)
    if kind != "O":
        np.savez(tmp_path / "x.npz", **{f"conv/{key}": array for key, array in weights["conv"].items()})
        with pytest.raises(ParseError) as caught:
            loading.load(TEXT, str(tmp_path / "x.npz"))
        assert "\n" not in str(caught.value)


def test_what_float32_cannot_hold_is_said(tmp_path):
    net = load(CASE)
    weights = {name: {key: array.astype("f8") for key, array in found.items()} for name, found in net.weights.items()}
    weights["conv"]["bias"][1] = 1e300
    with pytest.raises(ParseError, match=r"layer 'conv': bias: holds 1e\+300, which is more than float32 takes"):
        net.with_weights(weights)
    weights["conv"]["bias"][1] = np.inf  # is infinity in the file itself
    assert net.with_weights(weights).weights["conv"]["bias"][1] == np.inf
    text = inputs(data=(1, 2)) + layer("InnerProduct", "inner_product_param { num_output: 1 bias_term: false }")
    prototxt, model = make(tmp_path, text, {"x": [(1, 2)]})
    from caffe2tf.caffe.caffe_pb2 import NetParameter

    param = NetParameter.FromString((tmp_path / "net.caffemodel").read_bytes())
    blob = param.layer[-1].blobs[0]
    blob.ClearField("data")
    blob.double_data.extend([1.0, -1e39])
    (tmp_path / "net.caffemodel").write_bytes(param.SerializeToString())
    with pytest.raises(ParseError, match=r"holds -1e\+39, which is more than float32 takes"):
        loading.load(prototxt, model)


def test_bfloat16_of_safetensors(tmp_path):
    from safetensors.numpy import save_file

    wanted = whole(load(CASE))
    flat = {
        f"conv/{key}": (array.astype("<f4").view("<u4") >> 16).astype("<u2") for key, array in wanted["conv"].items()
    }
    save_file(flat, tmp_path / "x.safetensors")
    data = (tmp_path / "x.safetensors").read_bytes()
    header = data[8 : 8 + struct.unpack("<Q", data[:8])[0]]
    (tmp_path / "x.safetensors").write_bytes(
        struct.pack("<Q", len(header) + 2) + header.replace(b'"U16"', b'"BF16"') + data[8 + len(header) :]
    )
    np.testing.assert_array_equal(
        loading.load(TEXT, str(tmp_path / "x.safetensors")).weights["conv"]["bias"], wanted["conv"]["bias"]
    )


def test_npz_is_read_as_numpy_reads_it(tmp_path):
    given = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.eye(3, 4, dtype=">i2")), "c": np.bool_([1, 0]),
             "d": np.float32(3), "e": np.zeros((0, 3), "<f2")}  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **given)
        read = dict(arrays.read_npz(tmp_path / "x.npz"))
        with np.load(tmp_path / "x.npz") as known:
            assert set(read) == set(known.files)
            for key in known.files:
                np.testing.assert_array_equal(read[key], known[key])
                assert read[key].dtype == known[key].dtype
    with zipfile.ZipFile(tmp_path / "old.npz", "w") as archive:  # Python 2's NumPy
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L,), }\n"
        archive.writestr(
            "a.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + np.float32([1, 2]).tobytes()
        )
    np.testing.assert_array_equal(dict(arrays.read_npz(tmp_path / "old.npz"))["a"], [1, 2])
