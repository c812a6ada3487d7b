"""Weights that lie about what they are."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from caffe2tf import formats
from tests.helpers import GOLDEN, ROOT, load

CASE = GOLDEN / "layers" / "conv_basic"
HUGE = 1 << 32
# Reads a file of weights and prints what came of it, and the memory that it took above Python's own.
READER = """
import resource, sys
from caffe2tf import formats
from caffe2tf.errors import Caffe2TFError
kind = formats.module(sys.argv[1].rpartition(".")[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(sorted(kind.load(sys.argv[1])))
except Caffe2TFError as error:
    print("refused", error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def attempt(path):
    """(what is said, MiB taken) by a process of its own, which must end well, and soon."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said, taken = done.stdout.strip().split("\n")
    return said, int(taken)


def refused(path, why=""):
    said, taken = attempt(path)
    assert said.startswith(f"refused {path}: "), said
    assert why in said
    assert taken < 200


# ------------------------------------------------------------------------------------------------ .npy


def npy(path, pickled):
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(pickled)
    return path


def text(data):
    return b"X" + struct.pack("<I", len(data)) + data


def array(dtype=b"f4", shape=b"(K\x02t", data=b"C\x08abcdefgh", order=b"<", fortran=b"\x89"):
    """The opcodes of an array, its state whatever is given."""
    state = b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01" + shape
        + b"cnumpy\ndtype\n" + text(dtype) + b"\x89\x88\x87R" + state + fortran + data + b"tb"
    )  # fmt: skip


def weights(value):
    return b"\x80\x03}" + text(b"conv") + b"}" + text(b"weights") + value + b"ss."


def test_the_opcodes_above_are_an_array(tmp_path):
    read = formats.module("npy").load(npy(tmp_path / "x.npy", weights(array())))
    np.testing.assert_array_equal(read["conv"]["kernel"], np.frombuffer(b"abcdefgh", "<f4"))


LIES = {
    "objects made of addresses": (array(b"O8", order=b"|"), "holds an array of objects"),
    "objects in a list": (array(b"O8", b"(K\x02t", b"](K\x01K\x02e", b"|"), "holds an array of objects"),
    "more values than bytes": (array(shape=b"(J\xff\xff\xff\x7ft"), "values are not of that size"),
    "a negative extent": (array(shape=b"(J\xff\xff\xff\xfft"), "an array of shape"),
    "an extent that is no number": (array(shape=b"(Nt"), "an array of shape"),
    "axes without end": (array(shape=b"(" + b"K\x01" * 5000 + b"t"), "an array of shape"),
    "records": (array(b"V8"), "takes plain numbers"),
    "text": (array(b"U2"), "takes plain numbers"),
    "a datetime": (array(b"M8"), "takes plain numbers"),
    "complex numbers": (array(b"c8", b"(K\x01t"), "takes plain numbers"),
    "a type that is none": (array(b"(f4,(9999999,))f4"), "takes plain numbers"),
    "a string as state": (array(data=text(b"abc")), "values are not of that size"),
    "4 GB of bytes": (b"B\xff\xff\xff\xff", "bytes are asked for"),
    "8 EB of bytes": (b"\x8e" + b"\xff" * 7 + b"\x7f", "bytes are asked for"),
    "a memo of 64 GB": (b"K\x01r\xff\xff\xff\xffs0", ""),
    "a number of 2 GB": (b"\x8b\xff\xff\xff\x7f", "bytes are asked for"),
    "a name that runs": (b"cos\nsystem\n" + text(b"true") + b"\x85R", "os.system"),
    "an attribute of a class": (b"cnumpy\nndarray\n}" + text(b"__module__") + text(b"os") + b"sb", ""),
    "an array as a name": (b"}" + array() + b"K\x01s", ""),
}


@pytest.mark.parametrize("name", LIES)
def test_npy(name, tmp_path):
    value, why = LIES[name]
    refused(npy(tmp_path / "x.npy", weights(value)), why)


def test_an_array_of_objects_as_numpy_writes_it(tmp_path):
    inner = np.array([1, "two", None], dtype=object)
    refused(npy(tmp_path / "x.npy", pickle.dumps({"conv": {"weights": inner}}, 2)), "holds an array of objects")


def test_npy_of_a_huge_header(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x02\0" + struct.pack("<I", 0xFFFFFFF0) + b"{'descr': '|O', " * 10)
    refused(tmp_path / "x.npy")


# ------------------------------------------------------------------------------------------------ .npz


def header(shape, descr="<f4"):
    data = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(data)) + data


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (header("(1073741824,)") + bytes(8), "claims 4294967296 bytes of values"),
        (header("(99999999999999999999,)"), "its shape"),
        (header("(" + "2, " * 400 + ")"), "its shape"),
        (header("(" * 3000 + ")" * 3000), "is no .npy of one array"),
        (header("(2,)", "|O") + b"cos\nsystem\n.", "takes plain numbers"),
        (header("(2,)", "<U4") + bytes(32), "takes plain numbers"),
        (header("(2,)").replace(b"(2,)", b"eval"), "is no .npy of one array"),
        (b"\x93NUMPY\x01\0\xff\xff" + bytes(10), "is no .npy"),
        (b"hello", "is no .npy"),
        (b"", "is no .npy"),
    ],
)
def test_npz(member, why, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("conv/kernel.npy", member)
    refused(tmp_path / "x.npz", why)


def test_npz_that_unfolds_to_4_gigabytes(tmp_path):
    packed = zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED)
    with packed as archive, archive.open("conv/kernel.npy", "w", force_zip64=True) as file:
        file.write(header("(1073741824,)"))
        piece = bytes(1 << 26)
        for _ in range(8):
            file.write(piece)
    refused(tmp_path / "x.npz", "claims 536870")


def test_npz_whose_packed_member_claims_to_be_more_than_the_file(tmp_path):
    """Python takes the memory of such a claim before it reads."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("conv/kernel.npy", header("(1,)") + bytes(4))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    place = data.index(b"PK\x01\x02") + 20
    data[place : place + 4] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(data)
    refused(tmp_path / "x.npz", f"'conv/kernel.npy' claims 1073741824 bytes of a file of {len(data)}")


def test_npz_with_a_member_twice_and_one_that_is_packed_otherwise(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("conv/kernel.npy", header("(1,)") + bytes(4))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("conv/kernel.npy", header("(1,)") + bytes(4))
    refused(tmp_path / "x.npz", "holds 'conv/kernel' twice")
    with zipfile.ZipFile(tmp_path / "y.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("conv/kernel.npy", header("(1,)") + bytes(4))
    refused(tmp_path / "y.npz", "packed in a way that NumPy does not write")


def test_npz_encrypted_or_with_damaged_data(tmp_path):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conv/kernel.npy", header("(400,)") + np.arange(400, dtype="<f4").tobytes())
    data = bytearray(held.getvalue())
    data[60:80] = bytes(20)
    (tmp_path / "x.npz").write_bytes(data)
    refused(tmp_path / "x.npz")
    data = bytearray(held.getvalue())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "y.npz").write_bytes(data)
    refused(tmp_path / "y.npz", "is encrypted")


# ------------------------------------------------------------------------------------------------ .h5


def h5(path, fill):
    """A file as caffe2tf writes it, whose kernel is what `fill(group, name)` makes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        group = file.create_group("conv")
        group.attrs["caffe_name"] = "conv"
        group.attrs["weight_names"] = [b"conv/kernel:0"]
        fill(group.create_group("conv"), "kernel:0")
    return path


def test_h5_that_reads_other_files(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(range(64)))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.zeros(16, "f4")
    secret = str(tmp_path / "secret")

    def external(group, name):
        group.create_dataset(name, (16,), "f4", external=[(secret, 0, 64)])

    def linked(group, name):
        group[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")

    def soft(group, name):
        group.file["elsewhere"] = np.zeros(4, "f4")
        group[name] = h5py.SoftLink("/elsewhere")

    def virtual(group, name):
        layout = h5py.VirtualLayout((16,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (16,))
        group.create_virtual_dataset(name, layout)

    for fill, why in (
        (external, "lie in other files"),
        (linked, "is a link"),
        (soft, "is a link"),
        (virtual, "lie in other"),
    ):
        refused(h5(tmp_path / "x.h5", fill), why)


def test_h5_that_claims_what_it_does_not_hold(tmp_path):
    def chunked(group, name):
        group.create_dataset(name, (HUGE,), "f4", chunks=(1 << 20,), fillvalue=1)

    def late(group, name):
        group.create_dataset(name, (HUGE,), "f4")

    def packed(group, name):
        made = group.create_dataset(name, (1 << 28,), "f4", chunks=(1 << 24,), compression="gzip")
        chunk = zlib.compress(bytes(1 << 26), 9)
        for place in range(16):
            made.id.write_direct_chunk((place << 24,), chunk)

    def strings(group, name):
        group[name] = ["text"]

    def void(group, name):
        group[name] = h5py.Empty("f4")

    def group_only(group, name):
        group.create_group(name)

    for fill in (chunked, late, packed):
        refused(h5(tmp_path / "x.h5", fill), "claims")
    refused(h5(tmp_path / "x.h5", strings), "takes real numbers")
    refused(h5(tmp_path / "x.h5", void), "no data set with values")
    refused(h5(tmp_path / "x.h5", group_only), "no data set with values")


def test_h5_whose_names_lead_in_circles(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv"] * 2000
        group = file.create_group("conv")
        group["conv"] = group
        group.attrs["caffe_name"] = "conv"
        group.attrs["weight_names"] = ["/".join(["conv"] * 20 + ["kernel:0"]).encode()] * 100
        group["kernel:0"] = np.zeros(10000, "f4")
    refused(tmp_path / "x.h5", "hold more than the file")


# ------------------------------------------------------------------------------------------------ .safetensors


def safetensors(path, head, data=bytes(16)):
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)
    return path


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}, "does not lie at the bytes"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}, "does not lie at the bytes"),
        ({"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}, "has the shape"),
        ({"dtype": "BOOL", "shape": [16], "data_offsets": [0, 16]}, "holds values of type BOOL"),
        ({"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}, "'conv/kernel.shape[0]' is true"),
        ({"dtype": "F32", "shape": [4]}, "data_offsets"),
        ([1], ""),
        (None, ""),
    ],
)
def test_safetensors(entry, why, tmp_path):
    refused(safetensors(tmp_path / "x.safetensors", {"conv/kernel": entry}), why)


def test_safetensors_headers(tmp_path):
    for head in (b"[" * 100000, b"{}" * 9, b"[]", b"\xff\xfe"):
        refused(safetensors(tmp_path / "x.safetensors", head))
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    refused(tmp_path / "x.safetensors", "its header claims")


def test_mutants_are_read_or_refused(tmp_path):
    """Bytes changed at random: in one process, with a bound on its memory."""
    net, random = load(CASE), np.random.RandomState(0)
    code = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
import numpy as np
from caffe2tf import formats
from caffe2tf.errors import Caffe2TFError
kind, folder, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
random, path = np.random.RandomState(seed), f"{folder}/mutant.{kind}"
with open(f"{folder}/x.{kind}", "rb") as file:
    whole = file.read()
module = formats.module(kind)
head = min(len(whole), 4096)
for number in range(count):
    data = bytearray(whole)
    for _ in range(random.randint(1, 6)):
        place = random.randint(0, len(data) if random.random_sample() < 0.3 else head)
        data[place] = random.choice([0, 255, 127, 128, random.randint(0, 256)])
    if random.random_sample() < 0.1:
        del data[random.randint(0, len(data)) :]
    with open(path, "wb") as file:
        file.write(data)
    signal.alarm(10)
    try:
        module.load(path)
    except Caffe2TFError as error:
        assert "\\n" not in str(error), (number, str(error))
    signal.alarm(0)
"""
    for kind in ("npy", "npz", "h5", "safetensors"):
        formats.save(net, str(tmp_path / f"x.{kind}"))
        done = subprocess.run(
            [sys.executable, "-c", code, kind, str(tmp_path), str(random.randint(1 << 30)), "400"],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, (kind, done.returncode, done.stderr[-1500:])
