"""The Python API: `import caffe2tf` is light, and every public name is what it says, whatever was imported before."""

import subprocess
import sys

import pytest

from tests.helpers import GOLDEN, load


def test_public_names_stay_functions():
    pytest.importorskip("keras")
    import caffe2tf.classification.classifier
    import caffe2tf.formats
    import caffe2tf.net.folding
    import caffe2tf.verification.verify

    path = GOLDEN / "layers" / "conv_bn_scale_relu"
    for _ in range(2):
        assert caffe2tf.verify(load(path), path).passed
        assert caffe2tf.fold(load(path))[1].layers == 2
    for name in caffe2tf.__all__:
        assert name == "__version__" or callable(getattr(caffe2tf, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        caffe2tf.nothing


def test_importing_loads_nothing_heavy():
    code = "import sys, caffe2tf; caffe2tf.load; sys.exit(str({'tensorflow', 'keras', 'h5py', 'PIL'} & set(sys.modules) or 0) != '0')"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_net_is_frozen():
    net = load(GOLDEN / "layers" / "conv_basic")
    with pytest.raises(AttributeError):
        net.name = "other"
    with pytest.raises(TypeError):
        net.arrays["conv"] = ()
