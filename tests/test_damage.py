"""What is wrong with one part of a file of arrays, each part in its turn: one line says which."""

import io
import json
import pickle
import struct
import zipfile

import h5py
import numpy as np
import pytest

from caffe2tf.arrays import numbers
from caffe2tf.errors import ParseError
from caffe2tf.formats import _pickle, h5, safetensors
from caffe2tf.verification import golden
from tests.helpers import GOLDEN, load

# ------------------------------------------------------------------------------------------------ .npy and .npz


def npy(header, data=b"", version=1):
    wide = "<H" if version == 1 else "<I"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(wide, len(header)) + header.encode() + data


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x93NUMPX" + bytes(9), "is no .npy"),
        (npy(GOOD, bytes(8), version=4), "is no .npy"),
        (npy(GOOD)[:9] + b"\xff", "its header claims"),
        (npy(GOOD.replace("False", "None"), bytes(8)), "is no .npy of one array"),
        (npy(GOOD.replace("<f4", "|O"), bytes(8)), "Object arrays"),
        (npy(GOOD.replace("<f4", "<c8"), bytes(16)), "values of type '<c8'"),
        (npy(GOOD.replace("(2,)", f"({'1,' * 33})"), bytes(4)), "is none of 32 axes"),
        (npy(GOOD.replace("(2,)", f"({'9' * 20},)"), bytes(4)), "is none of 32 axes"),
        (npy(GOOD, bytes(7)), r"claims 8 bytes of values for shape \(2,\), but holds 7"),
        (npy(GOOD.replace("(2,)", f"(0, {1 << 61})")), "which no array can have"),  # 2^63 bytes, but for the 0
    ],
)
def test_an_array_in_a_stream(data, why):
    with pytest.raises(ParseError, match=why):
        numbers.read_npy(io.BytesIO(data), len(data))


def test_the_largest_extents_that_an_array_can_have():
    data = npy(GOOD.replace("(2,)", f"(0, {(1 << 61) - 1})"))
    assert numbers.read_npy(io.BytesIO(data), len(data)).shape == (0, (1 << 61) - 1)


def test_what_a_file_unfolds_to_is_64_mib_and_32_times_its_size():
    numbers.check_claim((64 << 20) + 32 * 1000, 1000)
    with pytest.raises(ParseError, match="claims 67140865 bytes of values in a file of 1000 bytes; takes 32 times"):
        numbers.check_claim((64 << 20) + 32 * 1000 + 1, 1000)


def test_a_system_without_long_floats_says_so(monkeypatch):
    def lacking(text):
        raise TypeError(text)

    monkeypatch.setattr(numbers.np, "dtype", lacking)
    with pytest.raises(ParseError, match="holds values of type '<f16', which this system does not have"):
        numbers.plain_dtype("<f16")


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_version_and_order(version, order):
    known = np.arange(6, dtype=">i2").reshape(2, 3)
    header = f"{{'descr': '>i2', 'fortran_order': {order == 'F'}, 'shape': (2, 3), }}\n"
    data = npy(header, known.tobytes(order), version)
    found = numbers.read_npy(io.BytesIO(data), len(data))
    assert found.dtype == known.dtype
    np.testing.assert_array_equal(found, known)


def test_a_stream_that_ends_before_its_claim():
    data = npy(GOOD, bytes(4))
    with pytest.raises(ParseError, match="ends after 4 of 8 bytes"):
        numbers.read_npy(io.BytesIO(data), len(data) + 4)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda archive: archive.writestr("a.npy", npy(GOOD, bytes(8))), "holds 'a' twice"),
        (lambda archive: archive.writestr("b", npy(GOOD, bytes(8)), zipfile.ZIP_LZMA), "packed in a way"),
        (lambda archive: archive.writestr("b", b"text"), r"is no .npy \('b'\)"),
        (lambda archive: archive.writestr("b", bytes(70 << 20), zipfile.ZIP_DEFLATED), "claims .* takes 32 times"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_of_arrays(change, why, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", npy(GOOD, bytes(8)))
        change(archive)
    with pytest.raises(ParseError, match=why):
        list(numbers.read_npz(tmp_path / "x.npz"))


def test_an_encrypted_member_and_no_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", npy(GOOD, bytes(8)))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.npz").write_bytes(data)
    for name, why in (("x.npz", "'a' is encrypted"), ("y.npz", "no such file"), ("", "is no file")):
        with pytest.raises(ParseError, match=why):
            list(numbers.read_npz(tmp_path / name))


@pytest.mark.parametrize("values", [np.array([1e39]), np.array([True]), np.array([1j]), np.array(["a"])])
def test_values_that_float32_does_not_take(values):
    with pytest.raises(ParseError, match=r"^here: holds "):
        numbers.float32(values, "here")


# ------------------------------------------------------------------------------------------------ pickles


class Made:
    """Pickles as a call of numpy's or of another function, with a state."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


RECONSTRUCT = np.zeros(0).__reduce__()[0]  # of whichever module NumPy has it in
START = (RECONSTRUCT, (np.ndarray, (0,), b"b"))
FLOATS = np.dtype("<f4")


def of_state(*state):
    return Made(*START, state)


def of_dtype(*state):
    return of_state(1, (1,), Made(np.dtype, ("f4", False, True), state), False, bytes(4))


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (Made(*START, 3), "an array without its state"),
        (of_state(1, (1,), "f4", False, bytes(4)), "an array without a dtype"),
        (of_state(1, (-1,), FLOATS, False, bytes(4)), r"an array of shape \(-1,\)"),
        (of_state(1, (2,), FLOATS, False, bytes(4)), "whose values are not of that size"),
        (of_state(1, (2,), np.dtype("O"), False, [1, 2]), "an array of objects"),
        (of_dtype(3, "?", None, None, None, -1, -1, 0), "a dtype without byte order"),
        (of_dtype(3, "<", None, ("a",), None, -1, -1, 0), "arrays of records"),
        (
            of_state(1, (1,), Made(np.dtype, (3,), (3, "<", None, None, None)), False, bytes(4)),
            "a dtype without a code",
        ),
    ],
)
def test_a_pickled_array(item, why):
    data = pickle.dumps(item, 2)
    with pytest.raises(ParseError, match=why):
        _pickle.load(io.BytesIO(data), len(data))


@pytest.mark.parametrize("code", ["O8", "O4", "O"])
def test_what_an_array_of_one_object_holds(code):
    """As NumPy's of 64 and of 32 bits write it."""
    kind = Made(np.dtype, (code, False, True), (3, "|", None, None, None, -1, -1, 63))
    data = pickle.dumps(of_state(1, (), kind, False, [{"a": 3}]), 2)
    assert _pickle.load(io.BytesIO(data), len(data)) == {"a": 3}


@pytest.mark.parametrize(
    "item",
    [
        Made(print, ("was here",)),
        Made(RECONSTRUCT, (np.matrix, (0,), b"b")),
        Made(RECONSTRUCT, (np.dtype, (0,), b"b")),
    ],
)
def test_a_pickle_of_anything_else(item, capsys):
    data = pickle.dumps(item, 2)
    with pytest.raises(pickle.UnpicklingError):
        _pickle.load(io.BytesIO(data), len(data))
    assert "was here" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ HDF5 and safetensors


def group_is_a_link(file):
    del file["x"]
    file["x"] = h5py.SoftLink("/elsewhere")


def group_is_values(file):
    del file["x"]
    file["x"] = np.zeros(3)


def weight_is_a_group(file):
    del file["x/x/bias:0"]
    file.create_group("x/x/bias:0")


def weight_is_text(file):
    del file["x/x/bias:0"]
    file["x/x/bias:0"] = [b"text"]


def weight_is_elsewhere(file):
    del file["x/x/bias:0"]
    file.create_dataset("x/x/bias:0", (2,), "f4", external=[("other", 0, 8)])


def weight_claims_more(file):
    del file["x/x/bias:0"]
    file.create_dataset("x/x/bias:0", (1 << 30,), "f4", chunks=(1 << 20,))


def names_claim_more(file):
    file["x"].attrs["weight_names"] = np.zeros((3, 3), "S4")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (group_is_a_link, "'x' is a link to another place"),
        (group_is_values, "is not an .h5 that caffe2tf wrote"),
        (weight_is_a_group, "is no data set with values"),
        (weight_is_text, "takes real numbers"),
        (weight_is_elsewhere, "lie in other files"),
        (weight_claims_more, "claims 4294967296 bytes of values and holds 0"),
        (names_claim_more, "'weight_names' claims more than the file holds"),
    ],
)
def test_a_part_of_an_h5(change, why, tmp_path):
    path = str(tmp_path / "x.h5")
    net = load(GOLDEN / "layers" / "conv_basic")
    (name,) = net.arrays
    h5.save(net, path)
    with h5py.File(path, "a") as file:
        file.move(name, "x")
        file["x"].move(name, "x")
        file.attrs["layer_names"] = np.array([b"x"])
        file["x"].attrs["weight_names"] = np.array([b"x/kernel:0", b"x/bias:0"])
    assert sorted(h5.load(path)[name]) == ["bias", "kernel"]
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(ParseError, match=rf"x\.h5: .*{why}"):
        h5.load(path)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (
            {"a/b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
            r"'a/b' of shape \[2\] does not lie at the bytes 0 to 4",
        ),
        ({"a/b": {"dtype": "F4", "shape": [2], "data_offsets": [0, 8]}}, "'a/b' holds values of type F4"),
        ({"a/b": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 8]}}, "does not lie at the bytes 0 to 8"),
        ({"a/b": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}, "does not lie at the bytes 0 to 12"),
        ({"a/b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "does not lie at the bytes 4 to 8"),
        ({"a/b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "its tensors end at byte 4 of 8"),
        ({"a/b": {"dtype": "F32", "shape": [1] * 33, "data_offsets": [0, 4]}}, "has the shape"),
        ({"a/b": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}, r"has the shape \[-1, -1\]"),
        ([], "its header is no JSON object"),
    ],
)
def test_the_head_of_a_safetensors(head, why, tmp_path):
    text = json.dumps(head).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(ParseError, match=rf"x\.safetensors: .*{why}"):
        safetensors.load(str(tmp_path / "x.safetensors"))


# ------------------------------------------------------------------------------------------------ golden sets

PICTURES = {"bgr": np.zeros((1, 4, 4, 3), np.uint8), "value/a": np.zeros(3, np.float32)}


@pytest.mark.parametrize(
    ("arrays", "expected", "why"),
    [
        ({}, None, "so it is no golden set"),
        ({"a": np.zeros(3), "version": np.array(99)}, None, "version 99"),
        ({"a": np.zeros(3), "version": np.zeros(2)}, None, "its version is no whole number"),
        ({"a": np.array([True])}, None, "'a' holds values of type bool"),
        ({"value/a": np.zeros(3)}, None, "holds no images, expected 'bgr'"),
        ({**PICTURES, "bgr": np.zeros((4, 4, 3), np.uint8)}, None, "holds no images, expected 'bgr'"),
        (PICTURES, {"preprocessing": {"mean_bgr": [1, 2], "resize": [4, 4]}}, "a mean of 2 channels for images of 3"),
        ({**PICTURES, "index/a": np.zeros(2, np.int64)}, None, "values, places and norms of 'a' do not belong together"),
        ({"a": np.zeros(3)}, {"version": 99}, "version 99"),
        ({"a": np.zeros(3)}, {"images": [{"file": "x.png", "sha256": "0"}]}, "'x.png' lacks its predictions"),
        ({"a": np.zeros(3)},
         {"images": [{"file": "x.png", "sha256": "0", "top1": [1, 0.5], "preprocessing": {"resize": [4, 4], "crop": "some"}}]},
         "crop 'some'; takes HxW"),
        ({"a": np.zeros(3)},
         {"images": [{"file": "x.png", "sha256": "0", "top1": [1, 0.5],
                      "preprocessing": {"resize": [4, 4], "resize_method": "cubic"}}]},
         "resize_method 'cubic'; takes one of"),
    ],
)  # fmt: skip
def test_a_part_of_a_golden_set(arrays, expected, why, tmp_path):
    if arrays:
        np.savez(tmp_path / "blobs.npz", **arrays)
    if expected is not None:
        (tmp_path / "expected.json").write_text(json.dumps(expected))
    with pytest.raises(golden.GoldenError, match=why):
        golden.load(tmp_path)
