"""Where the tests find their data, and how they make networks of their own."""

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from google.protobuf import text_format

from caffe2tf import loading
from caffe2tf.caffe import caffe_pb2
from caffe2tf.cli.main import main

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "golden"
SHARED = Path(os.environ.get("CAFFE2TF_SHARED", ROOT.parent / "shared"))

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def cases(kind):
    """The golden folders of a kind, as pytest parameters."""
    return [pytest.param(path, id=path.name) for path in sorted((GOLDEN / kind).iterdir()) if path.is_dir()]


def load(path, **options):
    return loading.load(str(path / "net.prototxt"), str(path / "net.caffemodel"), **options)


@pytest.fixture
def shared():
    """The folder of trained models and photographs, which are not part of the project."""
    if not (SHARED / "models").is_dir():
        pytest.skip(f"no trained models in {SHARED} (CAFFE2TF_SHARED names their folder)")
    return SHARED


@pytest.fixture(scope="session")
def alexnet(tmp_path_factory):
    """The seeded AlexNet as a .caffemodel."""
    from caffe2tf.samples import networks as sample

    path = tmp_path_factory.mktemp("alexnet") / "bvlc_alexnet.caffemodel"
    sample.write(path)
    return path


def run(*args, code=0):
    """Runs a command of ours and returns click's result; its exit code must be `code`."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def parameter(text):
    """A NetParameter from its text."""
    return text_format.Parse(text, caffe_pb2.NetParameter())


def layer(kind, params="", bottoms=("data",), tops=("top",), name="x"):
    wires = " ".join([*(f'bottom: "{b}"' for b in bottoms), *(f'top: "{t}"' for t in tops)])
    return f'layer {{ name: "{name}" type: "{kind}" {wires} {params} }}'


def inputs(**shapes):
    return "\n".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {n}" for n in shape)
        + " } } }"
        for name, shape in shapes.items()
    )


def make(folder, text, blobs=None, seed=0):
    """Writes `text` and a .caffemodel with blobs {layer: [shape or array, ...]}; returns (prototxt, caffemodel)."""
    random = np.random.RandomState(seed)
    net = parameter(text)
    for item in net.layer:
        for blob in (blobs or {}).get(item.name, ()):
            array = blob if isinstance(blob, np.ndarray) else random.uniform(-1, 1, blob)
            proto = item.blobs.add()
            proto.shape.dim.extend(array.shape)
            proto.data.extend(np.asarray(array, np.float32).ravel())
    prototxt, caffemodel = Path(folder) / "net.prototxt", Path(folder) / "net.caffemodel"
    prototxt.write_text(text)
    caffemodel.write_bytes(net.SerializeToString())
    return str(prototxt), str(caffemodel)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the network and the pictures of `small_set`, to work in."""
    from tests import small_set

    small_set.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
