"""What inspect says: receptive fields, preprocessing, pages, and what differs between two networks."""

import json

import numpy as np
import pytest

from caffe2tf import bundled
from caffe2tf.cli import terminal
from caffe2tf.inspection import summary as inspection
from tests.helpers import GOLDEN, inputs, layer, make, parameter, run

V1 = GOLDEN / "formats" / "v1" / "net.caffemodel"
CONV = "convolution_param {{ num_output: 2 kernel_size: {} stride: {} dilation: {} }}"


def fields(text, tmp_path):
    """{layer: (receptive_field, stride)} of a network text."""
    prototxt, _ = make(tmp_path, text)
    return {item["name"]: (item["receptive_field"], item["stride"]) for item in inspection.inspect(prototxt)["layers"]}


def test_receptive_fields_of_alexnet():
    shown = {item["name"]: item for item in inspection.inspect(bundled.alexnet_text())["layers"]}
    known = {
        "conv1": (11, 4),
        "pool1": (19, 8),
        "conv2": (51, 8),
        "pool2": (67, 16),
        "conv3": (99, 16),
        "pool5": (195, 32),
    }
    for name, (field, stride) in known.items():
        assert shown[name]["receptive_field"] == [field] * 2, name
        assert shown[name]["stride"] == [stride] * 2, name
    assert shown["fc6"]["receptive_field"] is shown["fc6"]["stride"] is None


def test_receptive_fields_of_dilation_deconvolution_and_joined_paths(tmp_path):
    text = inputs(data=(1, 3, 64, 64))
    text += layer("Convolution", CONV.format(3, 2, 2), tops=["a"], name="dilated")
    text += layer("Convolution", CONV.format(1, 2, 1), tops=["b"], name="small")
    text += layer("Crop", "crop_param { axis: 2 }", bottoms=["b", "a"], tops=["c"], name="crop")
    text += layer("Eltwise", bottoms=["c", "a"], tops=["d"], name="sum")
    text += layer("Deconvolution", CONV.format(4, 2, 1), bottoms=["d"], tops=["e"], name="up")
    text += layer(
        "Pooling", "pooling_param { kernel_h: 3 kernel_w: 1 stride: 1 }", bottoms=["e"], tops=["f"], name="pool"
    )
    text += layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", bottoms=["f"], tops=["g"], name="all")
    assert fields(text, tmp_path) == {
        "data": ([1, 1], [1, 1]),
        "dilated": ([5, 5], [2, 2]),
        "small": ([1, 1], [2, 2]),
        "crop": ([1, 1], [2, 2]),
        "sum": ([5, 5], [2, 2]),
        "up": ([7, 7], [1, 1]),
        "pool": ([9, 7], [1, 1]),
        "all": (None, None),
    }


@pytest.mark.parametrize(
    "path", sorted((GOLDEN / "layers").glob("*")) + sorted((GOLDEN / "forks").glob("*")), ids=lambda p: p.name
)
def test_a_receptive_field_has_every_spatial_axis_or_is_none(path):
    for item in inspection.inspect(path / "net.prototxt")["layers"]:
        if item["receptive_field"] is not None:
            assert len(item["receptive_field"]) == len(item["stride"]) == len(item["shapes"][0]) - 2


def test_preprocessing_and_its_source(tmp_path, alexnet):
    known = inspection.inspect(str(alexnet))["preprocessing"]
    assert known["mean"] == [104, 117, 123]
    assert known["source"].startswith("the snapshot's transform_param")
    assert "pictures become input as BGR, bilinear to 256 x 256" in run("inspect", alexnet).stdout
    prototxt, _ = make(tmp_path, inputs(data=(1, 5)) + layer("ReLU"))
    assert inspection.inspect(prototxt)["preprocessing"] is None


def test_piped_output_is_plain_with_shares_in_per_cent(alexnet):
    lines = run("inspect", alexnet).stdout.splitlines()
    assert lines[1].split()[-4:] == ["multiply-adds", "share", "field", "stride"]
    fc6 = next(line for line in lines if line.startswith("fc6"))
    assert fc6.split()[-4:] == ["37,752,832", "61.9%", "37,748,736", "5.2%"]
    assert "\x1b" not in "".join(lines)


def test_a_terminal_gets_bars_where_they_fit(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    columns, rows = ["layer", ">share"], [["conv1", 0.5], ["total", ""]]
    for width, drawn in (("40", True), ("10", False)):
        monkeypatch.setenv("COLUMNS", width)
        terminal.table(columns, rows, spare=["share"])
        out = capsys.readouterr().out
        assert ("████" in out) == drawn
        assert "conv1" in out


def test_a_page_of_several_files(tmp_path, alexnet):
    page = tmp_path / "page.html"
    run("inspect", V1, alexnet, "--html", page)
    text = page.read_text()
    assert "60,965,224 parameters" in text
    assert "http" not in text
    assert "195" in text
    assert "exists already" in run("inspect", V1, "--html", page, code=1).stderr
    run("inspect", V1, "--html", page, "-f")
    assert "60,965,224" not in page.read_text()


def test_names_in_a_page_are_text(tmp_path):
    prototxt, _ = make(tmp_path, inputs(data=(1, 2)) + layer("ReLU", name="<script>"))
    run("inspect", prototxt, "--html", tmp_path / "page.html")
    assert "<script>" not in (tmp_path / "page.html").read_text()


# ------------------------------------------------------------------------------------------------ --diff

NET = inputs(data=(1, 3, 8, 8)) + layer(
    "Convolution",
    "convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: 'xavier' } }",
    tops=["c"],
    name="c",
)


def pair(tmp_path, second, blobs):
    """Two .caffemodel files: NET, and `second` with `blobs` of its convolution."""
    found = []
    for name, text, arrays in (("a", NET, [np.ones((2, 3, 3, 3)), np.zeros(2)]), ("b", second, blobs)):
        (tmp_path / name).mkdir()
        found.append(
            make(tmp_path / name, text, {item.name: arrays for item in parameter(text).layer if item.name == "c"})[1]
        )
    return found


def test_the_same_network_in_two_formats(tmp_path, alexnet):
    run("convert", alexnet, "-o", tmp_path / "x.npz", "-q")
    result = run("inspect", "--diff", alexnet, tmp_path / "x.npz")
    assert result.stdout.splitlines()[-1] == "same network"
    assert "conv1  kernel  equal" in result.stdout
    assert run("inspect", "--diff", alexnet, tmp_path / "x.npz", "-q").output == ""


def test_a_changed_value_has_its_size_and_its_place(tmp_path):
    kernel = np.ones((2, 3, 3, 3))
    kernel[1, 2, 0, 1] = 3
    files = pair(tmp_path, NET, [kernel, np.zeros(2)])
    found = json.loads(run("inspect", "--diff", *files, "--json", code=1).stdout)
    assert not found["same"]
    (conv,) = found["layers"]
    assert conv["weights"]["bias"] == {"equal": True}
    expected = {"equal": False, "largest": 2.0, "relative": 2.0, "place": [0, 1, 2, 1], "changed": 1, "values": 54}
    assert conv["weights"]["kernel"] == expected
    plain = run("inspect", "--diff", *files, code=1).stdout
    assert "1 of 54 values, largest 2 (relative 2) at 0x1x2x1" in plain


def test_a_value_that_is_not_finite_differs(tmp_path):
    files = pair(tmp_path, NET, [np.ones((2, 3, 3, 3)), np.array([0, np.nan])])
    assert "largest infinite" in run("inspect", "--diff", *files, code=1).stdout
    assert "same network" in run("inspect", "--diff", files[1], files[1]).stdout


@pytest.mark.parametrize(
    ("old", "new", "blobs", "said"),
    [
        ("num_output: 2", "num_output: 2 pad: 1", None, "pad     not set  ->  1"),
        ("num_output: 2", "num_output: 4", [np.ones((4, 3, 3, 3)), np.zeros(4)], "3 x 3 x 3 x 2  ->  3 x 3 x 3 x 4"),
        ("dim: 8 dim: 8", "dim: 9 dim: 8", None, "3 x 8 x 8  ->  3 x 9 x 8"),
        ('name: "c"', 'name: "d"', None, "only in"),
        ("Convolution", "Deconvolution", [np.ones((3, 2, 3, 3)), np.zeros(2)], "Convolution  ->  Deconvolution"),
    ],
)  # fmt: skip
def test_what_differs_is_named(old, new, blobs, said, tmp_path):
    second = NET.replace(old, new)
    assert second != NET
    blobs = blobs or [np.ones((2, 3, 3, 3)), np.zeros(2)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = make(tmp_path / "a", NET, {"c": [np.ones((2, 3, 3, 3)), np.zeros(2)]})[1]
    other = make(tmp_path / "b", second, {"c": blobs, "d": blobs})[1]
    result = run("inspect", "--diff", first, other, code=1)
    assert said in result.stdout
    assert result.stdout.splitlines()[-1] == "they differ"


def test_training_parameters_and_the_batch_are_no_difference(tmp_path):
    second = NET.replace("xavier", "gaussian").replace("dim: 1 dim: 3", "dim: 7 dim: 3")
    files = pair(tmp_path, second, [np.ones((2, 3, 3, 3)), np.zeros(2)])
    assert "same network" in run("inspect", "--diff", *files).stdout


def test_wrong_usage_and_files_that_are_no_models(tmp_path):
    assert "--diff compares two files, 1 given" in run("inspect", "--diff", V1, code=2).stderr
    assert "--diff compares two files, 3 given" in run("inspect", "--diff", V1, V1, V1, code=2).stderr
    assert "--html is of what is in a file" in run("inspect", "--diff", V1, V1, "--html", "x.html", code=2).stderr
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    for args in (["inspect", tmp_path / "photo.jpg"], ["inspect", "--diff", V1, tmp_path / "photo.jpg"]):
        lines = run(*args, code=1).stderr.splitlines()
        assert len(lines) == 1
        assert "is not a .caffemodel" in lines[0]
