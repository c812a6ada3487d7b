"""Pictures of networks: that what is drawn is what the network holds."""

import io
import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from caffe2tf import loading
from caffe2tf.drawing import graph, visualize
from caffe2tf.drawing import render as drawings
from caffe2tf.errors import Caffe2TFError
from caffe2tf.images import preprocess
from tests.helpers import GOLDEN, inputs, layer, make, run

CONV = "convolution_param {{ num_output: {} kernel_size: {} group: {} }}"


def convolution(folder, channels, kernel, group=1, **options):
    """A Net of one convolution `c` of `kernel` (out, in / group, h, w) over an 8 x 8 input."""
    text = inputs(data=(1, channels, 8, 8))
    text += layer("Convolution", CONV.format(len(kernel), kernel.shape[-1], group), tops=["c"], name="c")
    return loading.load(*make(folder, text, {"c": [kernel, np.zeros(len(kernel))]}), **options)


def caught(monkeypatch, name):
    """The arguments with which a function of drawings is called."""
    calls = []
    monkeypatch.setattr(drawings, name, lambda *args, **options: calls.append(args) or b"")
    return calls


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


# ------------------------------------------------------------------------------------------------ filters


def test_a_filter_that_looks_for_red_is_drawn_red(tmp_path):
    kernel = np.zeros((2, 3, 3, 3))
    kernel[0, 2] = 1  # Caffe's channels are B, G, R
    kernel[1, 0] = -0.5
    drawn = pixels(visualize.filters(convolution(tmp_path, 3, kernel), "c"))
    seen = {tuple(colour) for colour in drawn.reshape(-1, 3)}
    assert (255, 127, 127) in seen
    assert (127, 127, 63) in seen  # half of the largest value away from grey: one scale for all filters
    assert (127, 127, 255) not in seen


def test_a_network_that_takes_rgb_is_drawn_in_its_own_order(eye, tmp_path):
    net, picture = eye
    takes_rgb = preprocess.changed(net, channels="rgb")
    given, seen, _ = visualize.see(takes_rgb, "picture.png")
    assert seen.tolist() == picture.tolist()
    assert given["data"][0, 0, 0, 0] == 200 - 104
    kernel = np.zeros((1, 3, 3, 3))
    kernel[0, 0] = 1
    drawn = pixels(visualize.filters(preprocess.changed(convolution(tmp_path, 3, kernel), channels="rgb"), "c"))
    seen = {tuple(colour) for colour in drawn.reshape(-1, 3)}
    assert (255, 127, 127) in seen
    assert (127, 127, 255) not in seen


def test_gaps_between_tiles_are_empty():
    tiles = np.arange(3 * 2 * 2, dtype=float).reshape(3, 2, 2)
    sheet = drawings.mosaic(tiles, 2)
    assert sheet.shape == (5, 5)
    assert sheet[:2, :2].tolist() == tiles[0].tolist()
    assert sheet[:2, 3:].tolist() == tiles[1].tolist()
    assert sheet[3:, :2].tolist() == tiles[2].tolist()
    assert np.isnan(sheet[2]).all()
    assert np.isnan(sheet[3:, 3:]).all()
    assert drawings.mosaic(np.ones((6, 1, 1)), 3).shape == (2, 3)


def test_a_group_is_drawn_alone(tmp_path, monkeypatch):
    kernel = np.arange(4 * 2 * 9, dtype=float).reshape(4, 2, 3, 3)
    net, calls = convolution(tmp_path, 4, kernel, group=2), caught(monkeypatch, "filters")
    for group in (None, 1, 2):
        visualize.filters(net, "c", group)
    for (title, tiles, columns, labels, _), first in zip(calls, (0, 0, 2), strict=True):
        assert tiles.tolist() == kernel[first : first + 2].reshape(4, 3, 3).tolist()
        assert columns == 2
        assert f"group {first // 2 + 1} of 2: 2 output x 2 input channels, 3 x 3" in title
        assert labels == ("output channel of the group", "input channel of the group")
    with pytest.raises(visualize.VisualizeError, match="has 2 groups; `group` 3 is none of them"):
        visualize.filters(net, "c", 3)


def test_filters_of_one_channel_are_a_sheet(tmp_path, monkeypatch):
    kernel = np.arange(6 * 9, dtype=float).reshape(6, 1, 3, 3)
    net, calls = convolution(tmp_path, 6, kernel, group=6), caught(monkeypatch, "filters")
    visualize.filters(net, "c")
    assert calls[0][1].tolist() == kernel[:, 0].tolist()
    assert calls[0][0].endswith("6 filters of 3 x 3")


def test_only_filters_on_the_picture_itself_are_colours(tmp_path, monkeypatch):
    conv = "convolution_param { num_output: 3 kernel_size: 3 }"
    text = inputs(data=(1, 3, 9, 9)) + layer("Power", "power_param { shift: 1 }", tops=["p"], name="p")
    text += layer("Convolution", conv, bottoms=["p"], tops=["a"], name="a")
    text += layer("Convolution", conv, bottoms=["a"], tops=["b"], name="b")
    net = loading.load(*make(tmp_path, text, {name: [(3, 3, 3, 3), (3,)] for name in "ab"}))
    colours, tables = caught(monkeypatch, "colour_filters"), caught(monkeypatch, "filters")
    visualize.filters(net, "a")
    assert (len(colours), len(tables)) == (1, 0)
    visualize.filters(net, "b")
    assert (len(colours), len(tables)) == (1, 1)


def test_a_table_that_is_too_large_says_what_it_leaves_out(tmp_path, monkeypatch):
    monkeypatch.setattr(visualize, "_MOST", 8)
    net, calls = convolution(tmp_path, 4, np.ones((5, 4, 3, 3))), caught(monkeypatch, "filters")
    visualize.filters(net, "c")
    assert "the first 2 of 5 output x the first 2 of 4 input channels" in calls[0][0]
    monkeypatch.setattr(visualize, "_MOST", 4000)
    visualize.filters(net, "c", shown=3)
    assert "the first 3 of 5 output x the first 3 of 4 input channels" in calls[1][0]
    assert (calls[1][1].shape[0], calls[1][2]) == (9, 3)
    assert calls[0][1].shape == (4, 3, 3)


def test_outliers_are_marked_on_the_scale():
    values = np.ones(10_000)
    assert drawings._limit(values) == (1.0, "neither")
    values[0] = 100
    assert drawings._limit(values) == (1.0, "max")
    assert drawings._limit(np.zeros(10)) == (1.0, "neither")


# ------------------------------------------------------------------------------------------------ the graph


def boxes(folder, text):
    net = loading.load(make(folder, text)[0])
    return {box.layers[0]: box for box in graph.boxes(net, lambda nodes: [node.layer.name for node in nodes])}


def branching():
    text = inputs(data=(1, 4, 8, 8)) + layer("ReLU", tops=["a"], name="a")
    text += layer("ReLU", bottoms=["a"], tops=["a"], name="in_place") + layer(
        "ReLU", bottoms=["a"], tops=["b"], name="b"
    )
    text += layer("TanH", bottoms=["b"], tops=["c"], name="c") + layer("TanH", bottoms=["a"], tops=["d"], name="d")
    return text + layer("Eltwise", bottoms=["a", "c", "d"], tops=["sum"], name="sum")


def test_rows_and_boxes(tmp_path):
    found = boxes(tmp_path, branching())
    assert {name: box.row for name, box in found.items()} == {"data": 0, "a": 1, "b": 2, "d": 2, "c": 3, "sum": 4}
    assert found["a"].layers == ("a", "in_place")
    assert found["sum"].kind == "arithmetic"
    assert [box.layers[0] for box in found["sum"].above] == ["a", "c", "d"]


def test_boxes_do_not_overlap_and_edges_pass_beside_them(tmp_path):
    found = boxes(tmp_path, branching())
    for box in found.values():
        box.width = 2.0
    rows = graph.arrange(list(found.values()), 0.5)
    for row in rows:
        for left, right in itertools.pairwise(row):
            assert right.x - left.x >= (left.width + right.width) / 2 + 0.5 - 1e-9
    assert [len(row) for row in rows] == [1, 1, 3, 3, 1]  # a -> sum passes two rows, d -> sum one
    step, seen = next(box for box in found["a"].below if not box.layers), 0
    while not step.layers:
        step, seen = step.below[0], seen + 1
    assert (step, seen) == (found["sum"], 2)


def test_the_graph_names_layers_shapes_and_parameters(alexnet, tmp_path):
    run("visualize", "graph", alexnet, "-o", tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    ElementTree.fromstring(text)
    for words in (
        "conv2 + relu2",
        "Convolution + ReLU",
        "256 x 27 x 27 · 307,456 parameters",
        "fc7 + relu7 + drop7",
        "prob",
    ):
        assert words in text, words
    run("visualize", "graph", alexnet, "-o", tmp_path / "y.svg")
    assert (tmp_path / "y.svg").read_bytes() == (tmp_path / "x.svg").read_bytes()
    run("visualize", "graph", GOLDEN / "alexnet" / "deploy.prototxt", "-o", tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").size[1] > 1000


# ------------------------------------------------------------------------------------------------ activations


@pytest.fixture
def eye(tmp_path, monkeypatch):
    """A network whose three maps are the channels of its input, and a picture that is red at the left, blue at the right."""
    pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    text = inputs(data=(1, 3, 8, 8)) + layer("Convolution", CONV.format(3, 1, 1), tops=["c"], name="c")
    text += layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", bottoms=["c"], tops=["g"], name="g")
    make(tmp_path, text, {"c": [np.eye(3).reshape(3, 3, 1, 1), np.zeros(3)]})
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4, 0], picture[:, 4:, 2] = 200, 200
    Image.fromarray(picture).save("picture.png")
    return loading.load("net.prototxt", "net.caffemodel"), picture


def test_the_picture_is_shown_as_the_network_sees_it(eye):
    net, picture = eye
    given, seen, how = visualize.see(net, "picture.png")
    assert seen.tolist() == picture.tolist()
    assert given["data"][0, 2, 0, 0] == 200 - 123
    assert "minus (104, 117, 123)" in how


def test_drawing_leaves_the_backend_of_matplotlib_alone():
    code = (
        "import sys, matplotlib; matplotlib.use('svg')\n"
        "from caffe2tf.drawing import plots, render\n"
        "assert matplotlib.get_backend() == 'svg' and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_maps_are_the_blobs_in_the_order_of_channels(eye, monkeypatch):
    net, _ = eye
    calls = caught(monkeypatch, "activations")
    visualize.activations(net, "picture.png", ["c", "g"])
    (_, _, maps, _) = calls[0]
    (first, tiles), (second, vector) = maps
    assert first.startswith("c (Convolution)  3 x 8 x 8, channels row by row, -123 to 96")
    assert tiles[0].tolist() == [[-104] * 4 + [96] * 4] * 8
    assert second.startswith("g (Pooling)  3 x 1 x 1, largest -4 at 0")
    np.testing.assert_allclose(vector, [-4, -117, -23], rtol=1e-5)


def test_one_page_of_everything(eye):
    result = run("visualize", "all", "net.caffemodel", "picture.png", "-p", "net.prototxt")
    assert result.stdout.startswith("net-picture.html  ")
    with open("net-picture.html", encoding="utf-8") as file:
        text = file.read()
    assert "Top classes (softmax of the scores)" in text
    for heading in ("First filters", "c (Convolution)", "g (Pooling)", "The network"):
        assert f"<h2>{heading}" in text
    sources = re.findall(r"src='([^']{5})", text)
    assert len(sources) == 5
    assert set(sources) == {"data:"}
    net = loading.load("net.prototxt", "net.caffemodel")
    steps = []
    visualize.everything(net, "picture.png", steps.append)
    assert sum(steps) == visualize.steps(net)


@pytest.mark.parametrize(
    "layers",
    [
        layer("Pooling", "pooling_param { kernel_size: 2 }", tops=["a"], name="a")
        + layer("ReLU", tops=["b"], name="b"),
        layer("InnerProduct", "inner_product_param { num_output: 1 }", tops=["score"], name="score"),
    ],
    ids=["two outputs", "one score"],
)
def test_a_page_without_classes_has_no_list_of_them(layers, tmp_path):
    pytest.importorskip("keras")
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    net = loading.load(*make(tmp_path, inputs(data=(1, 3, 4, 4)) + layers, {"score": [(1, 48), (1,)]}))
    steps = []
    page = visualize.everything(net, str(tmp_path / "x.png"), steps.append)
    assert "Top classes" not in page
    assert "First filters" not in page
    assert "<h2>The network" in page
    assert sum(steps) == visualize.steps(net)


def test_squeezenet_sees_a_sea_lion(shared, tmp_path):
    pytest.importorskip("keras")
    net = loading.load(None, str(shared / "models" / "squeezenet_v1.0" / "squeezenet_v1.0.caffemodel"))
    page = visualize.everything(net, str(shared / "images" / "sealion.jpeg"))
    assert page.index("sea lion") < page.index("ice bear")
    assert page.count("<h2>") == 1 + 1 + 30 + 1


# ------------------------------------------------------------------------------------------------ commands


def test_files_get_names_and_are_not_replaced(eye):
    model = ["net.caffemodel", "-p", "net.prototxt"]
    assert run("visualize", "filters", *model, "c").stdout.startswith("net-c.png  ")
    assert run("visualize", "graph", *model).stdout.startswith("net-graph.svg  ")
    assert run("visualize", "activations", "net.caffemodel", "picture.png", "c", "-p", "net.prototxt").exit_code == 0
    assert Image.open("net-picture.png").format == "PNG"
    assert "net-c.png: exists already" in run("visualize", "filters", *model, "c", code=1).stderr
    assert run("visualize", "filters", *model, "c", "-f", "-q").output == ""
    run("visualize", "filters", *model, "c", "-o", "x.pdf", "-q")
    with open("x.pdf", "rb") as file:
        assert file.read(5) == b"%PDF-"


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["filters", "MODEL", "cc"], "no layer 'cc'; nearest: c"),
        (["filters", "MODEL", "g"], "layer 'g' (Pooling) has no filters of two axes; those that have: c"),
        (["filters", "MODEL", "c", "--group", "2"], "has 1 groups; --group 2 is none of them"),
        (
            ["filters", "MODEL", "c", "-o", "x.gif"],
            "x.gif: no picture has the suffix '.gif'; takes one of .png, .svg, .pdf",
        ),
        (["filters", "net.prototxt", "c"], "the network has no weights; give its .caffemodel"),
        (["activations", "MODEL", "net.prototxt", "c"], "net.prototxt: is not a picture that can be read"),
        (["activations", "MODEL", "none.png", "c"], "none.png: cannot be read: no such file or directory"),
        (["activations", "MODEL", "picture.png", "h"], "no layer 'h'"),
        (["activations", "MODEL", "picture.png", "c", "-o", "picture.png"], "picture.png: is the file that is read"),
        (["graph", "picture.png"], "is not a .caffemodel"),
        (["all", "MODEL", "picture.png", "-o", "no/x.html"], "its folder does not exist"),
    ],
)
def test_what_goes_wrong_is_one_line(args, why, eye):
    text = ["-p", "net.prototxt"] if "MODEL" in args else []
    result = run("visualize", *("net.caffemodel" if arg == "MODEL" else arg for arg in args), *text, code=1)
    assert why in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_values_that_are_not_finite_are_refused(tmp_path):
    kernel = np.ones((2, 3, 3, 3))
    kernel[0, 0, 0, 0] = np.nan
    with pytest.raises(visualize.VisualizeError, match="kernel holds NaN or infinity"):
        visualize.filters(convolution(tmp_path, 3, kernel), "c")


def test_what_cannot_be_drawn_is_refused(eye, tmp_path):
    net, _ = eye
    with pytest.raises(visualize.VisualizeError, match="filters of 2 layers; takes filters of one"):
        visualize.visualize(net, "filters", layers=["c", "g"])
    kernel = np.full((3, 3, 1, 1), 1e30)
    text = inputs(data=(1, 3, 8, 8)) + layer("Convolution", CONV.format(3, 1, 1), tops=["c"], name="c")
    text += layer("Power", "power_param { power: 2 }", bottoms=["c"], tops=["p"], name="p")
    net = loading.load(*make(tmp_path, text, {"c": [kernel, np.zeros(3)]}))
    with pytest.raises(visualize.VisualizeError, match=r"p \(Power\): holds NaN or infinity, 192 of 192 values"):
        visualize.activations(net, "picture.png", ["p"])


def test_a_network_without_one_picture_is_refused(tmp_path):
    pytest.importorskip("keras")
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    for shapes, why in [
        ({"data": (1, 3, 8, 8), "other": (1, 3, 8, 8)}, "has the inputs data, other; a picture is only one"),
        ({"data": (1, 5, 8, 8)}, "has 5 channels; a picture has 1 or 3"),
        ({"data": (1, 5)}, "has no image input"),
    ]:
        prototxt, _ = make(tmp_path, inputs(**shapes) + layer("ReLU", tops=["r"], name="r"))
        with pytest.raises(Caffe2TFError, match=why):
            visualize.see(loading.load(prototxt), str(tmp_path / "x.png"))


def test_help_of_every_part_has_an_example():
    from caffe2tf.cli.main import main

    for name in main.commands["visualize"].commands:
        text = run("visualize", name, "--help").stdout
        assert f"caffe2tf visualize {name} " in text
