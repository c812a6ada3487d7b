"""Layers that make, move and choose boxes, against float64 NumPy that each is written from the source it names."""

import re
import subprocess
import sys

import numpy as np
import pytest

from caffe2tf import loading, reference
from caffe2tf.errors import Caffe2TFError, NetError
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


# ------------------------------------------------------------------------------------------------ PriorBoxClustered


@pytest.mark.parametrize(
    ("params", "image", "step"),
    [
        ("", (30, 40), (10, 10)),
        ("img_h: 40", (40, 40), (40 / 3, 10)),
        ("img_w: 60 step: 8 step_h: 7", (30, 60), (7, 8)),
        ("step_h: 7 step_w: 5", (30, 40), (7, 5)),
    ],
)
def test_prior_box_clustered_sizes(params, image, step, tmp_path):
    """OpenVINO's prior_box_clustered.cpp: a width with its height, not cut to whole pixels as PriorBox's sizes are."""
    params = (
        f"prior_box_param {{ width: [6.75, 3] height: [2.5, 9] variance: [0.1, 0.2, 0.3, 0.4] offset: 0.25 {params} }}"
    )
    given = {"feature": np.zeros((1, 2, 3, 4)), "data": np.zeros((1, 3, 30, 40))}
    (found,) = same(run(tmp_path, "PriorBoxClustered", params, given))
    boxes = []
    for i in range(3):
        for j in range(4):
            y, x = (i + 0.25) * step[0], (j + 0.25) * step[1]
            for w, h in ((6.75, 2.5), (3, 9)):
                boxes += [
                    (x - w / 2) / image[1],
                    (y - h / 2) / image[0],
                    (x + w / 2) / image[1],
                    (y + h / 2) / image[0],
                ]
    close(found, np.array([[boxes, [0.1, 0.2, 0.3, 0.4] * 24]]))


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ("", "0 width and 0 height"),
        ("width: [1, 2] height: 3", "2 width and 1 height"),
        ("width: [1, -2] height: [3, 3]", "width 1, -2; takes values above 0"),
        ("width: 1 height: 3 step_h: 4", "step_h 4 and step_w 0; takes both"),
        ("width: 1 height: 3 min_size: 4", "min_size"),
    ],
)
def test_prior_box_clustered_refuses(params, why, tmp_path):
    text = inputs(data=(1, 3, 30, 40), feature=(1, 2, 3, 4))
    text += layer("PriorBoxClustered", f"prior_box_param {{ {params} }}", bottoms=["feature", "data"])
    with pytest.raises(Caffe2TFError, match=why):
        loading.load(make(tmp_path, text)[0])


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
    given["picture"] = RANDOM.rand(1, 3, 4, 5)  # a fourth bottom is there to be shown
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


@pytest.mark.slow
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


# ------------------------------------------------------------------------------------------------ proposals

NINE = [  # what py-faster-rcnn's generate_anchors.py says that it gives, counted from 1
    [-83, -39, 100, 56], [-175, -87, 192, 104], [-359, -183, 376, 200], [-55, -55, 72, 72], [-119, -119, 136, 136],
    [-247, -247, 264, 264], [-35, -79, 52, 96], [-79, -167, 96, 184], [-167, -343, 184, 360],
]  # fmt: skip


def proposals(anchors, stride, scores, offsets, info, smallest, before, after, threshold, zero=False):
    """(regions, scores): proposal_layer.py, bbox_transform.py, py_cpu_nms.py; `zero`: small boxes get the score 0."""
    count, (h, w) = len(anchors), scores.shape[2:]
    boxes, values = [], []
    for y, x, a in np.ndindex(h, w, count):
        x1, y1, x2, y2 = np.add(anchors[a], [x * stride, y * stride] * 2)
        dx, dy, dw, dh = offsets[0, 4 * a : 4 * a + 4, y, x].astype(np.float64)
        wide, high = x2 - x1 + 1, y2 - y1 + 1
        cx, cy = x1 + 0.5 * wide + dx * wide, y1 + 0.5 * high + dy * high
        wide, high = wide * np.exp(dw), high * np.exp(dh)
        box = np.array([cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2])
        box = np.clip(box, 0, [info[1] - 1, info[0] - 1] * 2)
        score = float(scores[0, count + a, y, x])
        if box[2] - box[0] + 1 < smallest * info[2] or box[3] - box[1] + 1 < smallest * info[-1]:
            if not zero:
                continue
            score = 0.0
        boxes.append(box)
        values.append(score)
    order = np.argsort(values, kind="stable")[::-1] if not zero else np.argsort(-np.array(values), kind="stable")
    kept = []
    for index in order[:before]:
        if threshold is None or all(iou(boxes[index], boxes[other], 1) <= threshold for other in kept):
            kept.append(index)
    kept = kept[:after]
    return np.array([[0, *boxes[k]] for k in kept]).reshape(-1, 5), np.array([values[k] for k in kept])


def rpn(count, h, w, spread=0.3):
    return RANDOM.rand(1, 2 * count, h, w), RANDOM.randn(1, 4 * count, h, w) * spread


def python(text, name="rpn.proposal_layer.ProposalLayer"):
    return f'python_param {{ module: "{name.rpartition(".")[0]}" layer: "ProposalLayer" param_str: "{text}" }}'


@pytest.mark.parametrize("text", ["'feat_stride': 16", "{'feat_stride': 16}", "feat_stride: 16\\nscales: [8, 16, 32]"])
def test_proposals_in_python(text, tmp_path):
    """py-faster-rcnn's TEST: 300 of 6000, 0.7, 16; widths count both ends; the anchors are those it prints."""
    scores, offsets = rpn(9, 10, 14)
    info = np.array([[150.0, 220.0, 1.6]])
    given = {"scores": scores, "offsets": offsets, "info": info}
    found, judged = run(tmp_path, "Python", python(text), given, tops=("rois", "prob"))
    anchors = np.array(NINE) - 1.0
    rois, values = proposals(anchors, 16, scores, offsets, info[0], 16, 6000, 300, 0.7)
    for result in (found, judged):
        close(result[0], rois)
        close(result[1], values[:, None])
    edges, _ = proposals(anchors + [0, 0, 1, 1], 16, scores, offsets, info[0], 16, 6000, 300, 0.7)
    assert edges.shape != rois.shape or np.abs(edges - rois).max() > 0.1  # widths without the last pixel


@pytest.mark.slow
def test_proposals_stop_at_three_hundred(tmp_path):
    scores, offsets = rpn(2, 30, 40, 0.01)
    info = np.array([[480.0, 640.0, 1.0]])
    text = "{'feat_stride': 16,'scales': [1,2], 'ratios':[1,]}"
    (found,), (judged,) = run(tmp_path, "Python", python(text), {"s": scores, "o": offsets, "i": info})
    base = np.array([[0, 0, 15, 15], [-8, -8, 23, 23]])
    close(found, proposals(base, 16, scores, offsets, info[0], 16, 6000, 300, 0.7)[0])
    close(judged, found)
    assert len(found) == 300


def test_proposals_of_ssh_are_not_suppressed(tmp_path):
    scores, offsets = rpn(2, 20, 30)
    info = np.array([[160.0, 240.0, 1.0]])
    params = python("{'feat_stride': 8,'scales': [1,2], 'ratios':[1,]}", "SSH.layers.proposal_layer.ProposalLayer")
    found, judged = run(tmp_path, "Python", params, {"s": scores, "o": offsets, "i": info}, tops=("rois", "prob"))
    base = np.array([[0, 0, 15, 15], [-8, -8, 23, 23]])
    rois, values = proposals(base, 8, scores, offsets, info[0], 0, 1000, 1000, None)
    for result in (found, judged):
        close(result[0], rois)
        close(result[1], values[:, None])


def test_of_equal_proposals_the_later_comes_first(tmp_path):
    """argsort()[::-1] turns equal scores round."""
    scores, offsets = np.full((1, 2, 2, 2), 0.5), np.zeros((1, 4, 2, 2))
    params = python("{'feat_stride': 32, 'scales': [1], 'ratios': [1]}")
    (found,), (judged,) = run(tmp_path, "Python", params, {"s": scores, "o": offsets, "i": [[64, 64, 1]]})
    assert found[:, 1:3].tolist() == judged[:, 1:3].tolist() == [[32, 32], [0, 32], [32, 0], [0, 0]]


@pytest.mark.parametrize("kind", ["Python", "Proposal"])
def test_without_proposals(kind, tmp_path):
    """Boxes that are too small: none in Python; in C++ they stay, with the score 0."""
    params = python("{'feat_stride': 16, 'scales': [1], 'ratios': [1]}")
    if kind == "Proposal":
        params = "proposal_param { ratio: 1 scale: 1 }"
    given = {"s": np.full((1, 2, 1, 2), 0.5), "o": np.zeros((1, 4, 1, 2)), "i": [[16, 32, 9, 9]]}
    found, judged = run(tmp_path, kind, params, given, tops=("rois", "prob"))
    assert [len(top) for top in found] == [len(top) for top in judged] == ([0, 0] if kind == "Python" else [2, 2])
    assert not found[1].any()


def test_proposals_in_cpp(tmp_path):
    """PVANet, proposal_layer.cpp: its own numbers, a scale for each axis, anchors that round halves up."""
    params = """proposal_param { feat_stride: 8 base_size: 10 min_size: 9 ratio: [0.44444445, 1, 4] scale: [1, 3]
        pre_nms_topn: 150 post_nms_topn: 20 nms_thresh: 0.5 }"""
    scores, offsets = rpn(6, 7, 9)
    info = np.array([[60.0, 75.0, 1.5, 1.1]])
    found, judged = run(tmp_path, "Proposal", params, {"s": scores, "o": offsets, "i": info}, tops=("rois", "prob"))
    anchors = []
    for wide, high in ((15, 7), (10, 10), (5, 20)):  # 15 * 0.44 = 6.67, and 10 / 2 * 4
        for scale in (1, 3):
            half = np.array([wide * scale - 1, high * scale - 1]) / 2
            anchors.append([*(4.5 - half), *(4.5 + half)])
    h, w = info[0, 2:]
    rois, values = proposals(anchors, 8, scores, offsets, [60, 75, w, h], 9, 150, 20, 0.5, zero=True)
    for result in (found, judged):
        close(result[0], rois)
        close(result[1], values)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("'scales': [8]", "has no feat_stride"),
        ("{'feat_stride': 16, 'allowed_border': 0}", "takes numbers of feat_stride, base_size, ratios and scales"),
        ("__import__('os')", "takes numbers of feat_stride, base_size, ratios and scales"),
        ("'feat_stride': 16, 'scales': [8]", r"3 anchors take \(1, 6, h, w\), \(1, 12, h, w\)"),
        ("'feat_stride': 0", "must be above 0"),
    ],
)
def test_proposals_refuse(text, why, tmp_path):
    wires = inputs(s=(1, 18, 3, 4), o=(1, 36, 3, 4), i=(1, 3))
    with pytest.raises(NetError, match=why):
        loading.load(make(tmp_path, wires + layer("Python", python(text), bottoms=["s", "o", "i"]))[0])


def test_a_python_layer_that_nobody_knows_is_named(tmp_path):
    wires = inputs(data=(1, 2)) + layer("Python", python("1", "my.layers.ProposalLayer"))
    with pytest.raises(Caffe2TFError, match=re.escape("type 'Python' of 'my.layers.ProposalLayer' is not supported")):
        loading.load(make(tmp_path, wires)[0])


# ------------------------------------------------------------------------------------------------ pooling of regions

REGIONS = np.array(
    [[1, 5.3, 3.2, 50.7, 41.1], [0, 0, 0, 63, 47], [1, 20.5, 10.5, 21.4, 12.3], [0, 40, 30, 99, 80], [0, 30, 20, 9, 9]]
)


def half_away(x):
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


@pytest.mark.parametrize("pad", [0, 0.25])
def test_roi_pooling_of_wider_regions(pad, tmp_path):
    """MS-CNN, roi_pooling_layer.cpp: each side moves out by pad_ratio times (x2 - x1 + 1) before it is scaled and rounded."""
    x, bins, scale = RANDOM.randn(2, 3, 6, 8), (4, 2), 0.125
    params = f"roi_pooling_param {{ pooled_h: {bins[0]} pooled_w: {bins[1]} spatial_scale: {scale} pad_ratio: {pad} }}"
    (found,), (judged,) = run(tmp_path, "ROIPooling", params, {"data": x, "rois": REGIONS[:, :, None, None]})
    expected = np.zeros((len(REGIONS), 3, *bins))
    for r, (image, x1, y1, x2, y2) in enumerate(REGIONS):
        spans = []
        for low, high, count, extent in ((y1, y2, bins[0], 6), (x1, x2, bins[1], 8)):
            out = (high - low + 1) * pad
            start, end = half_away((low - out) * scale), half_away((high + out) * scale)
            size = max(end - start + 1, 1) / count
            edges = [(np.floor(i * size) + start, np.ceil((i + 1) * size) + start) for i in range(count)]
            spans.append([slice(*np.clip(edge, 0, extent).astype(int)) for edge in edges])
        for i, j in np.ndindex(*bins):
            part = x[int(image), :, spans[0][i], spans[1][j]]
            expected[r, :, i, j] = part.max((1, 2)) if part.size else 0
    close(found, expected)
    close(judged, expected)


@pytest.mark.parametrize("scale", [0.0625, 0.11])
def test_psroi_pooling(scale, tmp_path):
    """R-FCN, psroi_pooling_layer.cu: pixels are rounded before they are scaled, and the end lies behind the last."""
    k, dim, h, w = 3, 2, 6, 8
    x = RANDOM.randn(2, dim * k * k, h, w)
    params = f"psroi_pooling_param {{ spatial_scale: {scale} output_dim: {dim} group_size: {k} }}"
    (found,), (judged,) = run(tmp_path, "PSROIPooling", params, {"data": x, "rois": REGIONS})

    def pooled(ends):
        expected = np.zeros((len(REGIONS), dim, k, k))
        for r, roi in enumerate(REGIONS):
            (x1, y1), (x2, y2) = ends(roi[1:3], roi[3:])
            for d, i, j in np.ndindex(dim, k, k):
                high, wide = max(y2 - y1, 0.1) / k, max(x2 - x1, 0.1) / k
                rows = np.clip([np.floor(y1 + i * high), np.ceil(y1 + (i + 1) * high)], 0, h).astype(int)
                columns = np.clip([np.floor(x1 + j * wide), np.ceil(x1 + (j + 1) * wide)], 0, w).astype(int)
                part = x[int(roi[0]), (d * k + i) * k + j, slice(*rows), slice(*columns)]
                expected[r, d, i, j] = part.mean() if part.size else 0
        return expected

    factor = float(np.float32(scale))
    expected = pooled(lambda first, last: (half_away(first) * factor, (half_away(last) + 1) * factor))
    close(found, expected)
    close(judged, expected)
    assert np.abs(pooled(lambda a, b: (half_away(a * factor), half_away(b * factor))) - expected).max() > 0.1
    assert np.abs(pooled(lambda a, b: (a * factor, b * factor)) - expected).max() > 0.1


@pytest.mark.parametrize("pad", [0, 0.25])
def test_roi_align(pad, tmp_path):
    """MS-CNN, roi_align_layer.cpp: values at the corners of the bins, one more than bins, half a place to the left."""
    x, scale = RANDOM.randn(2, 3, 6, 8), 0.125
    params = f"roi_pooling_param {{ pooled_h: 3 pooled_w: 2 spatial_scale: {scale} pad_ratio: {pad} }}"
    (found,), (judged,) = run(tmp_path, "ROIAlign", params, {"data": x, "rois": REGIONS})
    assert loading.load(tmp_path / "net.prototxt").blobs["top"] == (len(REGIONS), 3, 4, 3)

    def aligned(half):
        expected = np.zeros((len(REGIONS), 3, 4, 3))
        for r, (image, x1, y1, x2, y2) in enumerate(REGIONS):
            out_w, out_h = (x2 - x1 + 1) * pad, (y2 - y1 + 1) * pad
            left, top = (x1 - out_w) * scale - half, (y1 - out_h) * scale - half
            right, bottom = (x2 + out_w) * scale - half, (y2 + out_h) * scale - half
            if right <= left or bottom <= top:
                continue
            for i, j in np.ndindex(4, 3):
                v, u = top + i * (bottom - top) / 3, left + j * (right - left) / 2
                if v < -0.5 or v > 5.5 or u < -0.5 or u > 7.5:
                    continue
                for row in range(6):
                    for column in range(8):  # the tent function, with the map's edge continued
                        share = max(0, 1 - abs(np.clip(v, 0, 5) - row)) * max(0, 1 - abs(np.clip(u, 0, 7) - column))
                        expected[r, :, i, j] += share * x[int(image), :, row, column]
        return expected

    close(found, aligned(0.5))
    close(judged, aligned(0.5))
    assert np.abs(aligned(0) - aligned(0.5)).max() > 0.1


@pytest.mark.parametrize(
    ("kind", "params", "why"),
    [
        (
            "PSROIPooling",
            "psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }",
            "9 channels for output_dim 2",
        ),
        ("PSROIPooling", "", "9 channels for output_dim 0"),
        ("ROIAlign", "roi_pooling_param { pooled_h: 3 }", "both must be at least 1"),
    ],
)
def test_pooling_of_regions_refuses(kind, params, why, tmp_path):
    wires = inputs(data=(1, 9, 4, 4), rois=(2, 5))
    with pytest.raises(NetError, match=why):
        loading.load(make(tmp_path, wires + layer(kind, params, bottoms=["data", "rois"]))[0])


# ------------------------------------------------------------------------------------------------ MS-CNN, Cascade R-CNN

# The rules of caffe2tf.reference are the oracle here, box by box as in the C++; by hand, what a naive reading gets wrong.

MOVES = "bbox_reg_param { bbox_mean: [0.1, 0, -0.1, 0] bbox_std: [0.1, 0.2, 0.3, 0.4] }"


def same(result):
    for found, judged in zip(*result, strict=True):
        close(found, judged)
    return result[0]


@pytest.mark.parametrize("kind", ["IOU", "IOMU", "IOFU"])
def test_box_group_output(kind, tmp_path):
    """Cascade R-CNN, box_group_output_layer.cpp: two images, two maps, groups of three and two fields."""
    params = f"""box_group_output_param {{ fg_thr: 0.2 iou_thr: 0.4 nms_type: "{kind}" field_whr: 3 field_xyr: 1.5
        max_nms_num: 60 max_post_nms_num: 17 min_size: 6
        box_group_param {{ field_w: [20, 30, 12] field_h: [15, 12, 30] stride: 8 }}
        box_group_param {{ field_w: [40, 25] field_h: [30, 60] stride: 16 }} }} {MOVES}"""
    given = {"p": RANDOM.rand(6, 2, 5, 7), "b": RANDOM.randn(6, 4, 5, 7) * 3}
    given |= {"q": RANDOM.rand(4, 2, 3, 4), "c": RANDOM.randn(4, 4, 3, 4) * 3}
    regions, scored = same(run(tmp_path, "BoxGroupOutput", params, given, tops=("rois", "scored")))
    assert regions.shape[1:] == (5, 1, 1)
    assert scored.shape[1:] == (6, 1, 1)
    assert sorted(set(regions[:, 0, 0, 0])) == [0, 1]
    assert scored.min() >= 0


def test_box_group_output_counts_pixels(tmp_path):
    """Far sides end a pixel before near side plus width, and are cut at the extent, not a pixel before it."""
    params = "box_group_output_param { min_size: 1 box_group_param { field_w: 8 field_h: 40 stride: 16 } }"
    given = {"p": np.array([[[[0.25]], [[0.75]]]]), "b": np.zeros((1, 4, 1, 1))}
    regions, scored = same(run(tmp_path, "BoxGroupOutput", params, given, tops=("rois", "scored")))
    assert regions.ravel().tolist() == [0, 4, 0, 11, 16]
    assert scored.ravel().tolist() == [0, 4, 0, 11, 16, 0.75]


@pytest.mark.parametrize("kind", ["BoxGroupOutput", "BoxOutput"])
def test_no_box_gives_one_region(kind, tmp_path):
    params = """box_group_output_param { fg_thr: 2 box_group_param { field_w: 8 field_h: 8 stride: 16 } }
        box_output_param { fg_thr: 2 field_w: 8 field_h: 8 downsample_rate: 16 }"""
    given = {"p": np.zeros((1, 2, 2, 2)), "b": np.zeros((1, 4, 2, 2))}
    if kind == "BoxOutput":
        given = {"x": np.zeros((1, 6, 2, 2))}
    regions, scored = same(run(tmp_path, kind, params, given, tops=("rois", "scored")))
    assert regions.ravel().tolist() == [0, 1, 1, 10, 10]
    assert scored.ravel().tolist() == [0] * 6


@pytest.mark.parametrize("moves", ["", MOVES])
def test_box_output(moves, tmp_path):
    """MS-CNN, box_output_layer.cpp: two images, two maps, three classes; a score is a lead over the background."""
    params = f"""box_output_param {{ fg_thr: -0.5 iou_thr: 0.3 nms_type: "IOU" field_w: [20, 40] field_h: [30, 25]
        downsample_rate: [8, 16] field_whr: 2 field_xyr: 2 max_nms_num: 50 max_post_nms_num: 12 min_size: 5 }} {moves}"""
    given = {"x": RANDOM.randn(2, 7, 6, 8), "y": RANDOM.randn(2, 7, 3, 4)}
    regions, _ = same(run(tmp_path, "BoxOutput", params, given, tops=("rois", "scored")))
    assert sorted(set(regions[:, 0, 0, 0])) == [0, 1]


def test_box_output_takes_the_later_of_equals(tmp_path):
    """It sorts pairs of score and number downwards; its boxes end where left and width say."""
    params = "box_output_param { field_w: 20 field_h: 20 downsample_rate: 4 min_size: 1 iou_thr: 0.1 }"
    x = np.zeros((1, 6, 1, 3))
    x[:, 1] = 1
    (regions,) = same(run(tmp_path, "BoxOutput", params, {"x": x}))
    assert regions.ravel().tolist() == [0, 0, 0, 12, 4]


@pytest.mark.parametrize("kind", ["BoxGroupOutput", "BoxOutput"])
def test_boxes_of_equal_extents(kind, tmp_path):
    """As many images, fields, rows, columns and boxes: Keras takes a sum along any of them for a bias of the channels."""
    each = "field_w: [20, 30, 12] field_h: [15, 12, 30]"
    params = f"""box_group_output_param {{ max_nms_num: 3 min_size: 2 box_group_param {{ {each} stride: 8 }} }}
        box_output_param {{ fg_thr: -9 max_nms_num: 3 min_size: 2 field_w: 20 field_h: 15 downsample_rate: 8 }}"""
    given = {"p": RANDOM.rand(9, 2, 3, 3), "b": RANDOM.randn(9, 4, 3, 3)}
    if kind == "BoxOutput":
        given = {"x": RANDOM.randn(3, 6, 3, 3)}
    same(run(tmp_path, kind, params, given, tops=("rois", "scored")))


@pytest.mark.parametrize("kind", ["ROIPooling", "PSROIPooling", "ROIAlign"])
@pytest.mark.parametrize("count", [1, 3])
def test_regions_of_equal_extents(count, kind, tmp_path):
    params = "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.11 pad_ratio: 0.1 }"
    if kind == "PSROIPooling":
        params = "psroi_pooling_param { spatial_scale: 0.11 output_dim: 3 group_size: 3 }"
    rois = np.array([[0, 1.3, 2.2, 19.6, 17.1], [2, 3, 0, 26, 20], [1, 9.7, 4.1, 30.3, 12.9]])[:count]
    same(run(tmp_path, kind, params, {"data": RANDOM.randn(3, 27, 3, 3), "rois": rois}))


def test_decode_bbox(tmp_path):
    """Cascade R-CNN, decode_bbox_layer.cpp: of eight offsets the last four, in extents that count first and last pixel."""
    offsets, rois = RANDOM.randn(5, 8), np.concatenate([[[1], [0], [0], [0], [1]], some_boxes(5) * 50], 1)
    (found,) = same(run(tmp_path, "DecodeBBox", MOVES, {"x": offsets, "rois": rois[:, :, None, None]}))
    mean, std = [0.1, 0, -0.1, 0], [0.1, 0.2, 0.3, 0.4]
    for row, offset, (image, x1, y1, x2, y2) in zip(found[:, :, 0, 0], offsets, rois, strict=True):
        dx, dy, dw, dh = offset[4:] * std + mean
        w, h = (x2 - x1 + 1) * np.exp(dw), (y2 - y1 + 1) * np.exp(dh)
        x, y = (x1 + x2) / 2 + dx * (x2 - x1 + 1), (y1 + y2) / 2 + dy * (y2 - y1 + 1)
        close(row, np.array([image, x - (w - 1) / 2, y - (h - 1) / 2, x + (w - 1) / 2, y + (h - 1) / 2]))


def test_decode_bbox_notes_the_truth(tmp_path):
    """What is given to leave boxes out by in training is not read, and that is said."""
    offsets, rois = RANDOM.randn(5, 8), np.concatenate([np.zeros((5, 1)), some_boxes(5) * 50], 1)
    given = {"x": offsets, "rois": rois[:, :, None, None]}
    (alone,) = same(run(tmp_path, "DecodeBBox", MOVES, given))
    (found,) = same(run(tmp_path, "DecodeBBox", MOVES, {**given, "truth": RANDOM.rand(3, 5)}))
    np.testing.assert_array_equal(found, alone)
    assert any("'truth' is for training" in note for note in loading.load(str(tmp_path / "net.prototxt")).notes)


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("most", [0, 9])
def test_frcnn_output(most, aware, tmp_path):
    """Cascade R-CNN, frcnn_output_layer.cpp: class by class behind a row of -1, at most the best of all."""
    params = f"""frcnn_output_param {{ conf_thr: 0.1 iou_thr: 0.3 nms_type: "IOU" max_det_num: {most} }}
        bbox_reg_param {{ cls_aware: {str(aware).lower()} bbox_mean: [0, 0, 0, 0] bbox_std: [0.1, 0.1, 0.2, 0.2] }}"""
    rois = np.concatenate([np.zeros((20, 1)), some_boxes(20) * 60, RANDOM.rand(20, 1)], 1)
    given = {
        "prob": RANDOM.dirichlet([1] * 4, 20),
        "x": RANDOM.randn(20, 16 if aware else 8),
        "rois": rois[..., None, None],
    }
    (rows,) = same(run(tmp_path, "FrcnnOutput", params, {**given, "size": np.array([[40.0, 55.0]])}))
    assert rows[0].ravel().tolist() == [0, *[-1] * 6]
    assert (np.diff(rows[1:, 5, 0, 0]) >= 0).all()
    assert len(rows) == 10 if most else len(rows) > 10


def test_stages_behind_one_another(tmp_path):
    """The count of regions that a layer leaves goes through those behind it, down to the detections."""
    box = "box_output_param { fg_thr: 0.3 field_w: 24 field_h: 24 downsample_rate: 8 min_size: 1 iou_thr: 0.5 }"
    text = inputs(x=(1, 7, 6, 8), map=(1, 3, 6, 8), size=(1, 2)) + layer("BoxOutput", box, ["x"], ["rois"], "rois")
    pool = "roi_pooling_param { pooled_h: 1 pooled_w: 1 spatial_scale: 0.125 pad_ratio: 0.2 }"
    text += layer("ROIPooling", pool, ["map", "rois"], ["pooled"], "pool")
    text += layer("InnerProduct", "inner_product_param { num_output: 8 }", ["pooled"], ["offsets"], "offsets")
    text += layer("DecodeBBox", MOVES, ["offsets", "rois"], ["moved"], "moved")
    text += layer("InnerProduct", "inner_product_param { num_output: 3 }", ["pooled"], ["scores"], "scores")
    text += layer("Softmax", "", ["scores"], ["prob"], "prob")
    final = 'frcnn_output_param { iou_thr: 0.4 save_output_param { output_format: "VOC" } } bbox_reg_param { cls_aware: false }'
    text += layer("FrcnnOutput", final, ["prob", "offsets", "moved", "size"], ["det"], "det")
    net = loading.load(*make(tmp_path, text, {"offsets": [(8, 3), (8,)], "scores": [(3, 3), (3,)]}))
    given = {"x": RANDOM.randn(1, 7, 6, 8), "map": RANDOM.rand(1, 3, 6, 8), "size": [[48, 64]]}
    given = {name: np.asarray(value, np.float32) for name, value in given.items()}
    found, judged = model.forward(net, given), reference.compute(net, given)
    for blob in ("rois", "pooled", "moved", "det"):
        close(found[blob], judged[blob])
    assert 1 < len(found["rois"]) < 48


@pytest.mark.parametrize(
    ("kind", "params", "shapes", "why"),
    [
        ("BoxGroupOutput", "", [(2, 2, 3, 3), (2, 4, 3, 3)], "0 box_group_param for 2 bottoms"),
        (
            "BoxGroupOutput",
            "box_group_output_param { box_group_param { field_w: [1, 2] field_h: [1, 2] stride: 8 } }",
            [(3, 2, 3, 3), (3, 4, 3, 3)],
            "for 2 fields and 1 images",
        ),
        ("BoxOutput", "box_output_param { field_w: 3 }", [(1, 6, 3, 3)], r"\[1, 0, 0\] field_w"),
        ("DecodeBBox", "bbox_reg_param { bbox_mean: 1 bbox_std: 1 }", [(2, 8), (2, 5)], "takes four of each"),
        ("DecodeBBox", "phase: TRAIN", [(2, 8), (2, 5)], "phase TRAIN leaves boxes out"),
        ("FrcnnOutput", "", [(2, 3), (2, 8), (2, 5), (1, 2)], r"\(R, 12\)"),
    ],
)
def test_boxes_refuse(kind, params, shapes, why, tmp_path):
    wires = inputs(**{f"b{index}": shape for index, shape in enumerate(shapes)})
    bottoms = [f"b{index}" for index in range(len(shapes))]
    with pytest.raises(NetError, match=why):
        loading.load(make(tmp_path, wires + layer(kind, params, bottoms=bottoms))[0])


# ------------------------------------------------------------------------------------------------ YOLO


def test_reorg_in_reverse(tmp_path):
    """reorg_cpu with `forward`: channel (a s + b) C / s^2 + k to place (a, b) of each square of channel k."""
    x = RANDOM.randn(2, 12, 3, 5).astype(np.float32)
    (spread,) = same(run(tmp_path, "Reorg", "reorg_param { stride: 2 reverse: true }", {"data": x}))
    expected = np.zeros((2, 3, 6, 10), np.float32)
    for k, a, b in np.ndindex(3, 2, 2):
        expected[:, k, a::2, b::2] = x[:, (a * 2 + b) * 3 + k]
    np.testing.assert_array_equal(spread, expected)


def test_reorg_is_no_space_to_depth(tmp_path):
    """darknet's: the first channel of the top comes from every second value of the bottom's first two rows and more."""
    x = np.arange(4 * 2 * 4, dtype=np.float32).reshape(1, 4, 2, 4)
    (folded,) = same(run(tmp_path, "Reorg", "reorg_param { stride: 2 }", {"data": x}))
    assert folded[0, :5].ravel().tolist() == [0, 2, 4, 6, 16, 18, 20, 22, 1, 3]


def grid(x, boxes, anchors, score):
    """[(score, label, box)] of a bottom of YOLO; `anchors` (boxes, 2) in parts of the picture."""
    n, _, h, w = x.shape
    found, x = [], x.reshape(n, boxes, -1, h, w).astype(np.float64)
    for image, k, i, j in np.ndindex(n, boxes, h, w):
        tx, ty, tw, th, there, *classes = x[image, k, :, i, j]
        centre = np.array([(j + 1 / (1 + np.exp(-tx))) / w, (i + 1 / (1 + np.exp(-ty))) / h])
        half = np.exp([tw, th]) * anchors[k] / 2
        for label, value in enumerate(score(np.array(classes))):
            found.append((value / (1 + np.exp(-there)), label + 1, np.concatenate([centre - half, centre + half])))
    return found


def best_of(found, least, threshold):
    kept = []
    for one in sorted(found, key=lambda item: -item[0]):
        if one[0] > least and all(iou(one[2], other[2]) < threshold for other in kept):
            kept.append(one)
    return np.array([[0, label, score, *box] for score, label, box in kept])[None, None]


def test_yolov3_detection_output(tmp_path):
    """MobileNet-YOLO, yolov3_detection_output_layer.cpp: two maps, a Sigmoid for each class, suppression over all classes."""
    params = """yolov3_detection_output_param { num_classes: 3 num_box: 2 confidence_threshold: 0.45 nms_threshold: 0.4
        biases: [10, 14, 23, 27, 37, 58, 81, 82] anchors_scale: [16, 8] mask_group_num: 2 mask: [2, 3, 0, 1] gaussian_box: false }"""
    given = {"x": RANDOM.randn(1, 16, 4, 5), "y": RANDOM.randn(1, 16, 8, 10)}
    (found,) = same(run(tmp_path, "Yolov3DetectionOutput", params, given))
    sizes = np.array([[10, 14], [23, 27], [37, 58], [81, 82]]) / (80, 64)
    boxes = grid(given["x"], 2, sizes[2:], lambda v: 1 / (1 + np.exp(-v)))
    boxes += grid(given["y"], 2, sizes[:2], lambda v: 1 / (1 + np.exp(-v)))
    expected = best_of(boxes, 0.45, 0.4)
    close(found, expected)
    assert len(expected[0, 0]) > 10


def test_yolo_detection_output(tmp_path):
    """MobileNet-YOLO, yolo_detection_output_layer.cpp: a Softmax over the classes, anchors in places of the map."""
    params = """yolo_detection_output_param { side: 13 coords: 4 num_classes: 3 num_box: 2 confidence_threshold: 0.25
        nms_threshold: 0.45 biases: [0.5, 0.9, 1.4, 2] label_map_file: "voc.prototxt" }"""
    x = RANDOM.randn(2, 16, 4, 4)
    (found,) = same(run(tmp_path, "YoloDetectionOutput", params, {"x": x}))
    boxes = grid(x, 2, np.array([[0.5, 0.9], [1.4, 2]]) / 4, lambda v: np.exp(v) / np.exp(v).sum())
    close(found, best_of(boxes, 0.25, 0.45))


def region(x, anchors, picture, stride, thresh, nms, specific):
    """(boxes, probabilities) of MSRCCS/Caffe's RegionOutput; `anchors` (boxes, 2) in places, `picture` (height, width)."""
    rows, columns = x.shape[2:]
    h, w = (int(own) or cells * stride for own, cells in zip(picture, (rows, columns), strict=True))
    net = np.array([columns, rows]) * stride
    by_width = net[0] / w < net[1] / h
    inner = np.array([net[0], h * net[0] // w] if by_width else [w * net[1] // h, net[1]])
    boxes, probs = [], []
    for k, i, j in np.ndindex(len(anchors), rows, columns):
        v = x[0].reshape(len(anchors), -1, rows, columns)[k, :, i, j].astype(np.float64)
        centre = (np.array([j, i]) + 1 / (1 + np.exp(-v[:2]))) * stride - (net - inner) / 2
        boxes.append([*centre / inner * (w, h), *np.exp(v[2:4]) * anchors[k] * stride / inner * (w, h)])
        score = np.exp(v[5:]) / np.exp(v[5:]).sum() / (1 + np.exp(-v[4]))
        probs.append([*np.where(score > thresh, score, 0), score.max()])
    boxes, probs = np.array(boxes), np.array(probs)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    for label in range(probs.shape[1]) if nms > 0 else ():
        if specific == (label < probs.shape[1] - 1):
            kept = []
            for one in np.argsort(-probs[:, label], kind="stable"):
                if all(iou(corners[one], corners[other]) <= nms for other in kept):
                    kept.append(one)
                elif specific:
                    probs[one, label] = 0
                else:
                    probs[one] = 0
    return boxes[None], probs[None]


@pytest.mark.parametrize("picture", [(48, 40), (31, 90), (0, 0)])
@pytest.mark.parametrize(("specific", "nms"), [(True, 0.3), (False, 0.3), (True, 0)])
def test_region_output(specific, nms, picture, tmp_path):
    """The picture lies in the middle of the input; the last column is neither cut by thresh nor, class by class, suppressed."""
    params = f"""region_output_param {{ classes: 3 thresh: 0.3 nms: {nms} feat_stride: 16 biases: [1.2, 0.9, 2.5, 3.1]
        class_specific_nms: {str(specific).lower()} hier_thresh: 0.5 }}"""
    x, size = RANDOM.randn(1, 16, 4, 5), np.array([picture])
    found = same(run(tmp_path, "RegionOutput", params, {"x": x, "size": size}, tops=("boxes", "probs")))
    wanted = region(x.astype(np.float32), np.array([[1.2, 0.9], [2.5, 3.1]]), picture, 16, 0.3, nms, specific)
    for one, other in zip(found, wanted, strict=True):
        close(one, other)
    least = found[1][0, :, -1].min()
    assert least == 0 if not specific else 0 < least < 0.3
    assert (found[1][0, :, :-1] > 0).any()


def test_region_output_of_equal_extents(tmp_path):
    """As many anchors, rows, columns and classes: Keras takes a sum along any of them for a bias of the channels."""
    params = "region_output_param { classes: 3 thresh: 0.1 biases: [1, 2, 3, 1, 2, 2] }"
    x = RANDOM.randn(1, 24, 3, 3)
    found = same(run(tmp_path, "RegionOutput", params, {"x": x, "size": [[70.0, 90.0, 1.5]]}, tops=("boxes", "probs")))
    wanted = region(x.astype(np.float32), np.array([[1, 2], [3, 1], [2, 2]]), (70, 90), 32, 0.1, 0.45, True)
    for one, other in zip(found, wanted, strict=True):
        close(one, other)


@pytest.mark.parametrize(
    ("params", "shapes", "why"),
    [
        ("", [(1, 24, 3, 3), (1, 2)], "20 classes, 0 biases, coords 4"),
        ("region_output_param { biases: [1, 1] coords: 5 }", [(1, 26, 3, 3), (1, 2)], "coords 5"),
        ("region_output_param { biases: [1, 1] classes: 2 }", [(2, 7, 3, 3), (1, 2)], r"take \(1, 7, h, w\)"),
        ("region_output_param { biases: [1, 1] classes: 2 }", [(1, 7, 3, 3), (1, 1)], "and two values"),
        ('region_output_param { biases: [1, 1] classes: 2 tree: "9k" }', [(1, 7, 3, 3), (1, 2)], "tree"),
    ],
)
def test_region_output_refuses(params, shapes, why, tmp_path):
    text = inputs(x=shapes[0], size=shapes[1]) + layer("RegionOutput", params, bottoms=["x", "size"], tops=["b", "p"])
    with pytest.raises(Caffe2TFError, match=why):
        loading.load(make(tmp_path, text)[0])


@pytest.mark.parametrize("kind", ["Yolov3DetectionOutput", "YoloDetectionOutput"])
def test_yolo_without_detections(kind, tmp_path):
    params = """yolov3_detection_output_param { num_classes: 1 num_box: 1 biases: [1, 1] anchors_scale: 8 mask_group_num: 1 mask: 0 }
        yolo_detection_output_param { num_classes: 1 num_box: 1 biases: [1, 1] }"""
    (found,) = same(run(tmp_path, kind, params, {"x": np.full((2, 6, 2, 2), -9.0)}))
    assert found[0, 0].tolist() == [[0, *[-1] * 6], [1, *[-1] * 6]]


@pytest.mark.parametrize(
    ("kind", "params", "why"),
    [
        ("Reorg", "reorg_param { stride: 3 }", r"stride 3 of a bottom of shape \(1, 16, 4, 4\)"),
        ("Reorg", "", "stride 0"),
        ("YoloDetectionOutput", "", r"5 boxes of 20 classes take \(N, 125, h, w\)"),
        (
            "YoloDetectionOutput",
            "yolo_detection_output_param { num_classes: 3 num_box: 2 biases: 1 }",
            "1 biases and coords 4",
        ),
        (
            "Yolov3DetectionOutput",
            "yolov3_detection_output_param { num_classes: 3 num_box: 2 biases: [1, 1] mask_group_num: 1 mask: [0, 1] anchors_scale: 8 }",
            r"mask \[0, 1\] of 1 anchors",
        ),
    ],
)
def test_yolo_refuses(kind, params, why, tmp_path):
    with pytest.raises(NetError, match=why):
        loading.load(make(tmp_path, inputs(data=(1, 16, 4, 4)) + layer(kind, params))[0])
