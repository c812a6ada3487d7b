"""Layers of forks that move, choose or read values by their places, against their source's formula in float64 NumPy.

No recorded results of these forks exist but for those named; each formula is written from the source that it names.
"""

import numpy as np
import pytest

import caffe2tf
from caffe2tf import loading
from caffe2tf.errors import NetError
from tests.helpers import inputs, layer, make
from tests.oracles import close, run_layer

pytest.importorskip("keras")

RANDOM = np.random.RandomState(13)


def data(*shape):
    return RANDOM.randn(*shape).astype(np.float32)


# ------------------------------------------------------------ Transpose, Reverse, Division, Combination


@pytest.mark.parametrize(
    ("shape", "dim"), [((2, 3, 4, 5), (3, 0, 2, 1)), ((2, 3, 4), (1, 2, 0)), ((2, 3, 4, 5), (0, 1, 2, 3))]
)
def test_transpose(shape, dim, tmp_path):
    """transpose_layer.cpp of caffe_ocr: from_inds[dim[i]] is the place along axis i of the top."""
    x = data(*shape)
    params = "transpose_param { " + " ".join(f"dim: {d}" for d in dim) + " }"
    (found,) = run_layer(tmp_path, "Transpose", params, {"data": x})
    expected = np.empty([shape[d] for d in dim])
    for place in np.ndindex(*shape):
        expected[tuple(place[d] for d in dim)] = x[place]
    close(found, expected)


@pytest.mark.parametrize("dim", [(0, 1), (0, 1, 2, 2), (0, 1, 2, 4), (-1, 0, 1, 2)])
def test_transpose_refused(dim, tmp_path):
    params = "transpose_param { " + " ".join(f"dim: {d}" for d in dim) + " }"
    with pytest.raises(
        NetError, match=r"layer 'x' \(Transpose\): dim \[.*\] of a bottom with 4 axes; takes each axis once"
    ):
        loading.load(make(tmp_path, inputs(data=(2, 3, 4, 5)) + layer("Transpose", params))[0])


@pytest.mark.parametrize(("shape", "axis"), [((4, 2, 3), 0), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), 3)])
def test_reverse(shape, axis, tmp_path):
    """reverse_layer.cpp of caffe_ocr: copies front to back."""
    x = data(*shape)
    (found,) = run_layer(tmp_path, "Reverse", f"reverse_param {{ axis: {axis} }}" if axis else "", {"data": x})
    expected = np.empty(shape)
    for place in np.ndindex(*shape):
        turned = list(place)
        turned[axis] = shape[axis] - 1 - place[axis]
        expected[tuple(turned)] = x[place]
    close(found, expected)


@pytest.mark.parametrize(("axis", "why"), [(-1, "axis -1; takes 0 or more"), (4, "axis 4 of a bottom with 4 axes")])
def test_reverse_refused(axis, why, tmp_path):
    with pytest.raises(NetError, match=rf"layer 'x' \(Reverse\): {why}"):
        loading.load(
            make(tmp_path, inputs(data=(2, 3, 4, 5)) + layer("Reverse", f"reverse_param {{ axis: {axis} }}"))[0]
        )


PARTS = "xcoord: 0 xcoord: 3 xcoord: 1 ycoord: 0 ycoord: 1 ycoord: 2"


def test_division(tmp_path):
    """division_layer.cpp of ARL: xcoord counts columns, ycoord rows."""
    x = data(2, 3, 5, 7)
    params = f"division_param {{ width: 4 height: 3 {PARTS} }}"
    found = run_layer(tmp_path, "Division", params, {"data": x}, tops=["a", "b", "c"])
    for top, (v, w) in zip(found, [(0, 0), (1, 3), (2, 1)], strict=True):
        expected = np.empty((2, 3, 3, 4))
        for h in range(3):
            for i in range(4):
                expected[:, :, h, i] = x[:, :, v + h, w + i]
        close(top, expected)


def test_combination(tmp_path):
    """combination_layer.cpp of ARL: parts in turn, each over the ones before; the last ends the top; a gap stays 0."""
    parts = {"a": data(2, 3, 3, 4), "b": data(2, 3, 2, 2), "c": data(2, 3, 3, 4)}
    (found,) = run_layer(tmp_path, "Combination", f"combination_param {{ {PARTS} }}", parts)
    expected = np.zeros((2, 3, 5, 5))
    for part, (v, w) in zip(parts.values(), [(0, 0), (1, 3), (2, 1)], strict=True):
        for h in range(part.shape[2]):
            for i in range(part.shape[3]):
                expected[:, :, v + h, w + i] = part[:, :, h, i]
    close(found, expected)
    assert (found[:, :, 3:, 0] == 0).all()


@pytest.mark.parametrize(
    ("kind", "params", "why"),
    [
        ("Division", "division_param { xcoord: 0 ycoord: 0 }", "height 0 and width 0; both must be at least 1"),
        ("Division", "division_param { width: 2 height: 2 xcoord: 0 }", "1 xcoord and 0 ycoord for 1 parts"),
        ("Division", "division_param { width: 2 height: 2 xcoord: 4 ycoord: 0 }", "reaches past extents"),
        ("Combination", "combination_param { xcoord: 0 }", "1 xcoord and 0 ycoord for 1 parts"),
    ],
)
def test_parts_refused(kind, params, why, tmp_path):
    with pytest.raises(NetError, match=rf"layer 'x' \({kind}\): .*{why}"):
        loading.load(make(tmp_path, inputs(data=(2, 3, 5, 5)) + layer(kind, params))[0])


# ------------------------------------------------------------ CTCGreedyDecoder, ScaleRoute


def scores(classes, count):
    """(T, 2, count) with the given classes of two items on top."""
    x = RANDOM.rand(len(classes[0]), 2, count)
    for n, item in enumerate(classes):
        for t, c in enumerate(item):
            x[t, n, c] = 2 + RANDOM.rand()
    return x


SEQUENCES = [[0, 2, 2, 0, 2, 1, 1], [3, 3, 0, 0, 0, 1, 3]]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("", [[2, 2, 1], [3, 1, 3]]),
        ("ctc_merge_repeated: false", [[2, 2, 2, 1, 1], [3, 3, 1, 3]]),
        ("blank_index: 2", [[0, 0, 1], [3, 0, 1, 3]]),
        ("blank_index: -1", [[0, 2, 0, 2, 1], [0, 1]]),
    ],
)
def test_ctc_greedy_decoder(params, expected, tmp_path):
    """ctc_decoder_layer.cpp of caffe_ocr: merges before it drops blanks, fills up with -1."""
    (found,) = run_layer(
        tmp_path, "CTCGreedyDecoder", f"ctc_decoder_param {{ {params} }}", {"data": scores(SEQUENCES, 4)}
    )
    assert found.shape == (2, 7, 1, 1)
    assert found[:, :, 0, 0].tolist() == [row + [-1] * (7 - len(row)) for row in expected]


def test_ctc_greedy_decoder_takes_the_first_of_equal_scores(tmp_path):
    (found,) = run_layer(tmp_path, "CTCGreedyDecoder", "", {"data": np.array([[[0.0, 1, 1]], [[-0.0, 0, -1]]])})
    assert found.ravel().tolist() == [1, -1]


def test_ctc_blank_outside_is_refused(tmp_path):
    text = inputs(data=(5, 2, 4)) + layer("CTCGreedyDecoder", "ctc_decoder_param { blank_index: 4 }")
    with pytest.raises(NetError, match=r"layer 'x' \(CTCGreedyDecoder\): blank_index 4 of 4 classes"):
        loading.load(make(tmp_path, text)[0])


# Boxes of scales 10, 40, 0 (it ends before it starts), 20 and 100; both ends count, so 0 to 9 is of 10.
BOXES = [[0, 0, 0, 9, 9], [0, 5, 5, 84, 24], [0, 9, 9, 3, 20], [0, 0, 10, 9, 49], [0, 0, 0, 99, 99]]


@pytest.mark.parametrize(
    ("params", "chosen"),
    [
        ("low_scale: 20", [1, 3, 4]),
        ("high_scale: 20", [0, 2]),
        ("low_scale: 10 high_scale: 40", [0, 3]),
        ("low_scale: 41 high_scale: 99", [4]),  # the middle is 63.7: 100 is nearer by its logarithm, 40 in pixels
        ("low_scale: 200", [4]),
        ("", [0, 1, 2, 3, 4]),
    ],
)
def test_scale_route(params, chosen, tmp_path):
    """scale_route_layer.cpp of Cascade R-CNN."""
    boxes, others = np.array(BOXES, np.float32), data(5, 2, 3, 4)
    given = {"boxes": boxes, "more": others}
    found = run_layer(tmp_path, "ScaleRoute", f"scale_route_param {{ {params} }}", given, tops=["a", "b"])
    close(found[0], boxes[chosen])
    close(found[1], others[chosen])


def test_scale_route_goes_into_a_network(tmp_path):
    """What follows takes as many items as there are."""
    text = inputs(boxes=(5, 5), data=(1, 2, 30, 40))
    text += layer("ScaleRoute", "scale_route_param { low_scale: 20 }", bottoms=["boxes"], tops=["some"], name="route")
    params = "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.25 }"
    text += layer("ROIPooling", params, bottoms=["data", "some"], tops=["pool"], name="pool")
    net = loading.load(make(tmp_path, text)[0])
    given = {"boxes": np.array(BOXES, np.float32), "data": data(1, 2, 30, 40)}
    assert caffe2tf.forward(net, given)["pool"].shape == (3, 2, 2, 3)


@pytest.mark.parametrize(
    ("shapes", "params", "why"),
    [
        ({"a": (5, 4)}, "", r"takes boxes \(R, 5\)"),
        ({"a": (5, 5), "b": (4, 5)}, "", "R items of each other"),
        ({"a": (5, 5)}, "low_scale: 0", "takes 0 < low_scale"),
        ({"a": (5, 5)}, "low_scale: 3 high_scale: 2", "takes 0 < low_scale"),
    ],
)
def test_scale_route_refused(shapes, params, why, tmp_path):
    tops = [f"{name}_top" for name in shapes]
    text = inputs(**shapes) + layer("ScaleRoute", f"scale_route_param {{ {params} }}", bottoms=list(shapes), tops=tops)
    with pytest.raises(NetError, match=rf"layer 'x' \(ScaleRoute\): .*{why}"):
        loading.load(make(tmp_path, text)[0])
