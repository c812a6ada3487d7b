"""golden/record.py, against a stand-in for pycaffe: what it writes is a golden set that verify reads."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from caffe2tf.verification import golden
from tests.helpers import GOLDEN, ROOT, load

STAND_IN = """
import collections, numpy as np
TEST = 1
def set_mode_cpu(): pass
class Blob:
    def __init__(self, data): self.data = data
    def reshape(self, *shape): self.data = np.zeros(shape, np.float32)
class Net:
    def __init__(self, text, weights, phase):
        self.known = np.load(KNOWN)
        self.blobs = collections.OrderedDict((n, Blob(np.zeros_like(self.known[n]))) for n in ("data", "conv"))
        self.blobs["data_split_0"] = Blob(self.known["data"])
        self.inputs = ["data"]
    def reshape(self): pass
    def forward(self):
        self.blobs["conv"].data = self.known["conv"]
        self.blobs["data"].data = self.known["data"]
"""


def test_what_is_recorded_verifies(tmp_path):
    pytest.importorskip("keras")
    from caffe2tf.verification.verify import verify

    path = GOLDEN / "layers" / "conv_basic"
    (tmp_path / "caffe.py").write_text(STAND_IN.replace("KNOWN", repr(str(path / "blobs.npz"))))
    command = [
        sys.executable,
        ROOT / "golden" / "record.py",
        path / "net.prototxt",
        path / "net.caffemodel",
        tmp_path / "set",
    ]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(tmp_path)})
    with np.load(tmp_path / "set" / "blobs.npz") as blobs:
        assert sorted(blobs.files) == ["conv", "data", "in:data", "version"]
        assert blobs["version"] == 1
    known = golden.load(tmp_path / "set")
    with np.load(path / "blobs.npz") as blobs:
        known = replace(known, inputs={"data": blobs["data"]})
    assert verify(load(path), known).passed
    again = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)})
    assert again.returncode == 1
    assert "exists already; name a new folder" in again.stderr


def test_it_is_valid_python_2_and_needs_nothing_of_ours():
    text = (ROOT / "golden" / "record.py").read_text()
    assert "import caffe2tf" not in text
    assert 'f"' not in text
    assert "from __future__ import print_function" in text
