"""Small random networks, each with every blob as real Caffe 1.0 computed it, and what Caffe refuses."""

import numpy as np
import pytest

import caffe2tf
from tests.helpers import GOLDEN, assert_same

FOLDERS = sorted(
    path.parent for kind in ("findings", "nets") for path in (GOLDEN / "random" / kind).glob("*/deploy.prototxt")
)
REFUSED = [folder for folder in FOLDERS if (folder / "why.txt").exists()]
COMPUTED = [folder for folder in FOLDERS if folder not in REFUSED]
SEEN_ONLY_IN_A_RUN = ("caffe_refuses_reindex_large", "caffe_refuses_reindex_negative")
# A loss has no part in inference.
DROPPED = {"verify_refused_loss": {"loss"}}


def named(folders):
    return pytest.mark.parametrize("folder", folders, ids=[folder.name for folder in folders])


def given(net, blobs):
    return {name: blobs.get(f"in:{name}", blobs.get(name)) for name in net.inputs}


def test_all_are_there():
    assert len(REFUSED) == 13
    assert len(COMPUTED) == 59 - 13 + 120


@named(COMPUTED)
def test_every_blob_is_caffes(folder):
    blobs = dict(np.load(folder / "blobs.npz"))
    net = caffe2tf.load(folder / "deploy.prototxt", folder / "net.caffemodel")
    found = caffe2tf.forward(net, given(net, blobs))
    expected = {name for name in blobs if not name.startswith("in:")} - DROPPED.get(folder.name, set())
    assert expected <= set(found)
    for name in expected:
        assert_same(name, found[name], blobs[name])


@named([folder for folder in COMPUTED if "findings" in folder.parts])
def test_verify_agrees_and_folding_changes_nothing(folder):
    blobs = dict(np.load(folder / "blobs.npz"))
    net = caffe2tf.load(folder / "deploy.prototxt", folder / "net.caffemodel")
    report = caffe2tf.verify(net, folder)
    assert report.passed
    assert report.first_wrong is None
    assert set(report.left_out) == DROPPED.get(folder.name, set())
    folded, _ = caffe2tf.fold(net)
    before, after = (caffe2tf.forward(one, given(net, blobs)) for one in (net, folded))
    for name in net.outputs:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-5)


@named(REFUSED)
def test_what_caffe_refuses_is_refused(folder):
    if folder.name not in SEEN_ONLY_IN_A_RUN:
        with pytest.raises(caffe2tf.Caffe2TFError) as caught:
            caffe2tf.load(folder / "deploy.prototxt")
    else:
        net = caffe2tf.load(folder / "deploy.prototxt")
        with pytest.raises(caffe2tf.Caffe2TFError) as caught:
            caffe2tf.forward(net, {name: np.zeros(shape) for name, shape in net.inputs.items()})
    assert "\n" not in str(caught.value)
