"""Layers that make, move and choose boxes, against float64 NumPy that each is written from the source it names."""

import subprocess
import sys

import numpy as np
import pytest

from caffe2tf import loading, reference
from caffe2tf.errors import NetError
from tests.helpers import ROOT, inputs, layer, make

pytest.importorskip("keras")
from caffe2tf.keras_model import model

RANDOM = np.random.RandomState(13)


def run(folder, kind, params, given, tops=("top",)):
    """All tops of one layer, and the same by the reference; `given` maps input blobs to arrays, in the order of the bottoms."""
    arrays = {name: np.asarray(value, np.float32) for name, value in given.items()}
    text = inputs(**{name: array.shape for name, array in arrays.items()})
    net = loading.load(make(folder, text + layer(kind, params, bottoms=list(given), tops=tops))[0])
    found, judged = model.forward(net, arrays), reference.compute(net, arrays)
    return [found[top] for top in tops], [judged[top] for top in tops]


def close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max(initial=0))


def area(box, pixel):
    return (box[2] - box[0] + pixel) * (box[3] - box[1] + pixel)


def iou(a, b, pixel=0):
    w, h = min(a[2], b[2]) - max(a[0], b[0]) + pixel, min(a[3], b[3]) - max(a[1], b[1]) + pixel
    shared = max(w, 0) * max(h, 0)
    return shared / (area(a, pixel) + area(b, pixel) - shared)


def some_boxes(count, low=0.15, more=0.3):
    start = RANDOM.rand(count, 2) * 0.5
    return np.concatenate([start, start + low + RANDOM.rand(count, 2) * more], 1)


# ------------------------------------------------------------------------------------------------ DetectionOutput


def detections(prior, offsets, scores, threshold, eta=1.0, keep=None, decode=None):
    """{(label, score): box} of one image: Liu et al., SSD, bbox_util.cpp. `offsets` (priors, classes, 4)."""
    picked = []
    for label in range(1, scores.shape[1]):
        kept, limit = [], threshold
        for p in np.argsort(-scores[:, label], kind="stable"):
            box = decode(prior[p], offsets[p, label])
            if all(iou(box, other) <= limit for other, _ in kept):
                kept.append((box, scores[p, label]))
                limit *= eta if eta < 1 and limit > 0.5 else 1
        picked += [[0, label, score, *box] for box, score in kept]
    return np.array(sorted(picked, key=lambda row: -row[2])[:keep])


def corner_size(prior, offset):
    w, h = prior[2] - prior[0], prior[3] - prior[1]
    return prior + 0.1 * offset * (w, h, w, h)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("eta", [1.0, 0.9])
def test_detection_output_of_every_kind(eta, share, tmp_path):
    """CORNER_SIZE, boxes of each class, a threshold that sinks, and as many candidates as there are."""
    priors, classes = 60, 4
    prior, scores = some_boxes(priors), RANDOM.rand(priors, classes)
    offsets = RANDOM.randn(priors, 1 if share else classes, 4) * 0.5
    params = f"""detection_output_param {{ num_classes: {classes} code_type: CORNER_SIZE keep_top_k: -1
        share_location: {str(share).lower()} nms_param {{ nms_threshold: 0.75 top_k: -1 eta: {eta} }} }}"""
    variance = np.full(priors * 4, 0.1)
    given = {
        "loc": offsets.reshape(1, -1),
        "conf": scores.reshape(1, -1),
        "prior": np.stack([prior.ravel(), variance])[None],
    }
    (found,), (judged,) = run(tmp_path, "DetectionOutput", params, given)
    every = np.broadcast_to(offsets, (priors, classes, 4))
    expected = detections(prior, every, scores, 0.75, eta, decode=corner_size)
    close(found[0, 0], expected)
    close(judged[0, 0][np.argsort(-judged[0, 0, :, 2], kind="stable")], expected)
    other = detections(prior, every, scores, 0.75, 1.9 - eta, decode=corner_size)
    assert len(other) != len(expected)


def test_equal_scores_stay_in_the_order_of_the_priors(tmp_path):
    """bbox_util.cpp sorts stably: of two boxes of one score that overlap the first stays."""
    prior = np.array([[0, 0, 0.5, 0.5], [0.01, 0, 0.51, 0.5], [0.6, 0.6, 0.9, 0.9], [0.6, 0.6, 0.91, 0.9]])
    params = """detection_output_param { num_classes: 2 code_type: CORNER keep_top_k: 4
        nms_param { nms_threshold: 0.5 top_k: -1 } }"""
    given = {"loc": np.zeros((1, 16)), "conf": np.full((1, 8), 0.5)}
    given["prior"] = np.stack([prior.ravel(), np.ones(16)])[None]
    (found,), (judged,) = run(tmp_path, "DetectionOutput", params, given)
    close(found[0, 0, :, 3:], prior[[0, 2]])
    close(judged, found)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ("nms_param { eta: 0 }", "eta 0.0; takes above 0, up to 1"),
        ("share_location: false", r"\(1, 16\) and \(1, 8\) for 4 priors of 2 classes"),
        ("background_label_id: 0 num_classes: 1", "leaves no class beside the background"),
    ],
)
def test_detection_output_refuses(params, why, tmp_path):
    classes = "" if "num_classes" in params else "num_classes: 2"
    conf = 4 if not classes else 8
    text = inputs(loc=(1, 16), conf=(1, conf), prior=(1, 2, 16))
    text += layer(
        "DetectionOutput", f"detection_output_param {{ {classes} {params} }}", bottoms=["loc", "conf", "prior"]
    )
    with pytest.raises(NetError, match=why):
        loading.load(make(tmp_path, text)[0])


def twenty_thousand(count):
    """A text of DetectionOutput with `count` priors, all of them candidates."""
    text = inputs(loc=(1, count * 4), conf=(1, count * 2), prior=(1, 2, count * 4))
    params = "detection_output_param { num_classes: 2 keep_top_k: 50 nms_param { nms_threshold: 0.45 top_k: -1 } }"
    return text + layer("DetectionOutput", params, bottoms=["loc", "conf", "prior"])


def test_the_graph_does_not_grow_with_the_boxes(tmp_path):
    """One operation for all steps: as many operations for 50 priors as for 20,000."""
    sizes = [len(model.to_keras(loading.load(make(tmp_path, twenty_thousand(n))[0])).operations) for n in (50, 20_000)]
    assert sizes[0] == sizes[1] < 100


def test_twenty_thousand_candidates_need_little_memory(tmp_path):
    """Every pair of them in one array would be 1.6 GB; the process is given 1 GB more than it has before the run."""
    make(tmp_path, twenty_thousand(20_000))
    code = f"""
import resource
import numpy as np
from caffe2tf import loading
from caffe2tf.keras_model import model
random = np.random.RandomState(3)
def given(n):
    start = random.rand(n, 2) * 0.9
    prior = np.concatenate([start, start + 0.02 + random.rand(n, 2) * 0.05], 1)
    return {{"loc": random.randn(1, n * 4) * 0.01, "conf": random.rand(1, n * 2),
             "prior": np.stack([prior.ravel(), np.full(n * 4, 0.1)])[None]}}
net = loading.load({str(tmp_path / "net.prototxt")!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = model.forward(net, given(20_000))["top"][0, 0]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert rows.shape == (50, 7) and (np.diff(rows[:, 2]) <= 0).all()
print((after - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 1024
