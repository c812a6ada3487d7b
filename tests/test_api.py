"""The Python API: `import caffe2tf` is light, and every public name is what it says, whatever was imported before."""

import ast
import dataclasses
import importlib
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import GOLDEN, ROOT, inputs, layer, load, make


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


def test_editors_see_every_name():
    import caffe2tf

    text = (ROOT / "caffe2tf" / "__init__.pyi").read_text()
    named = {alias.asname: node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) for alias in node.names}  # fmt: skip
    assert {*named, "__version__"} == set(caffe2tf.__all__)
    for name, home in named.items():
        assert getattr(importlib.import_module(home), name) is getattr(caffe2tf, name)


V1 = GOLDEN / "formats" / "v1"
TEXT, MODEL = V1 / "net.prototxt", V1 / "net.caffemodel"


def test_files_come_in_either_order_and_none_is_no_file(tmp_path):
    import caffe2tf

    whole = caffe2tf.load(str(TEXT), str(MODEL))
    kernel = whole.weights["conv1"]["kernel"]
    ways = [(MODEL, TEXT), (TEXT, MODEL), (None, MODEL), (MODEL,), (MODEL, None)]
    for net in [caffe2tf.load(*files) for files in ways] + [caffe2tf.load(prototxt=TEXT, model=MODEL)]:
        assert caffe2tf.diff(whole, net)["same"]
        np.testing.assert_array_equal(net.weights["conv1"]["kernel"], kernel)
    for files in [(TEXT,), (TEXT, None), (None, TEXT)]:
        assert not caffe2tf.load(*files).arrays
    caffe2tf.save(whole, tmp_path / "net.npz")
    assert caffe2tf.diff(whole, caffe2tf.load(tmp_path / "net.npz", TEXT))["same"]
    assert caffe2tf.load(TEXT, input_shape={"data": [4, 3, 19, 19]}).inputs == {"data": (4, 3, 19, 19)}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ((TEXT, TEXT), "net.prototxt: two network texts came; takes one network text and one model"),
        ((MODEL, MODEL), "net.caffemodel: two models came; takes one network text and one model"),
        ((TEXT, MODEL, MODEL), "3 files .* takes one network text, one model, or one of each"),
        ((), "neither a network text nor a .caffemodel is given"),
        (("nothing.caffemodel", TEXT), "nothing.caffemodel: no such file"),
    ],
)
def test_files_that_are_no_pair_are_one_line(files, why):
    import caffe2tf

    with pytest.raises(caffe2tf.Caffe2TFError, match=why):
        caffe2tf.load(*files)
    with pytest.raises(caffe2tf.Caffe2TFError, match="given beside `prototxt` or `model`"):
        caffe2tf.load(MODEL, prototxt=TEXT)


def test_a_text_under_a_models_name_is_told_by_its_suffix(tmp_path):
    import caffe2tf

    fake = tmp_path / "net.caffemodel"
    fake.write_text(TEXT.read_text())
    for files in [(fake, TEXT), (TEXT, fake)]:
        with pytest.raises(caffe2tf.Caffe2TFError, match=r"net.caffemodel: is text, expected a binary .caffemodel"):
            caffe2tf.load(*files)


def test_notes_of_loading_are_logged(caplog, tmp_path):
    import caffe2tf

    params = "inner_product_param { num_output: 2 bias_term: false }"
    text = inputs(data=(1, 9)) + layer("InnerProduct", params, tops=["a"], name="a")
    prototxt, model = make(tmp_path, text + layer("InnerProduct", params, bottoms=["a"], name="b"), {"a": [(2, 9)]})
    with caplog.at_level("INFO", logger="caffe2tf"):
        net = caffe2tf.load(prototxt, model)
    assert "the file has no kernel for it" in net.notes[0]
    assert [record.getMessage() for record in caplog.records] == list(net.notes)


def test_net_shows_itself():
    import caffe2tf

    net = caffe2tf.load(MODEL)
    assert repr(net) == "<Net formats: 9 layers, 1,315 parameters, data 2 x 3 x 19 x 19 -> prob 2 x 5>"
    lines = str(net).splitlines()
    assert len(lines) == 2 + len(net.nodes)
    assert lines[3].split() == [
        "conv1",
        "Convolution",
        "2",
        "x",
        "8",
        "x",
        "8",
        "x",
        "8",
        "kernel",
        "5",
        "x",
        "5",
        "x",
        "3",
        "x",
        "8,",
        "bias",
        "8",
        "608",
    ]
    assert "1,315 parameters, without weights" in repr(caffe2tf.load(TEXT))
    page = net._repr_html_()
    assert page.count("<tr>") == 1 + len(net.nodes)
    strange = caffe2tf.load(GOLDEN / "layers" / "conv_basic" / "net.prototxt")
    assert "<script>" not in dataclasses.replace(strange, name="<script>")._repr_html_()


def test_net_equals_itself_alone():
    import caffe2tf

    one, other = caffe2tf.load(MODEL), caffe2tf.load(MODEL)
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2


def test_weights_are_read_only_in_every_layout():
    import caffe2tf

    net = caffe2tf.load(MODEL)
    changed = net.with_weights(
        {name: {key: array.copy() for key, array in w.items()} for name, w in net.weights.items()}
    )
    for one in (net, changed, caffe2tf.fold(load(GOLDEN / "layers" / "conv_bn_scale_relu"))[0]):
        for name in one.arrays:
            for array in (*one.arrays[name], *one.weights[name].values()):
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 0


def test_subnet_computes_what_the_whole_computes():
    pytest.importorskip("keras")
    import caffe2tf

    net = caffe2tf.load(MODEL)
    data = np.random.RandomState(0).uniform(-1, 1, (2, 3, 19, 19)).astype(np.float32)
    blobs = caffe2tf.forward(net, {"data": data})
    above = net.subnet("pool1", "prob")
    assert list(above.arrays) == ["conv2", "fc3"]
    found = caffe2tf.forward(above, {"pool1": blobs["pool1"]})["prob"]
    np.testing.assert_allclose(found, blobs["prob"], rtol=1e-6)
    below = net.subnet("data", ["pool1", "conv1"])
    assert below.inputs == net.inputs
    assert set(below.blobs) == {"data", "conv1", "norm1", "pool1"}
    np.testing.assert_allclose(caffe2tf.forward(below, {"data": data})["pool1"], blobs["pool1"], rtol=1e-6)
    with pytest.raises(caffe2tf.Caffe2TFError, match="no blob 'pool2'; nearest: pool1"):
        net.subnet("data", "pool2")


def test_everything_the_commands_do_is_one_call(tmp_path):
    pytest.importorskip("keras")
    from PIL import Image

    import caffe2tf

    picture = tmp_path / "cat.png"
    Image.new("RGB", (19, 19), (10, 20, 30)).save(picture)
    net = caffe2tf.load(MODEL)
    assert caffe2tf.inspect(net)["parameters"] == caffe2tf.inspect(TEXT, MODEL)["parameters"] == 1315
    (seen,) = caffe2tf.classify(net, picture, top=2)
    assert len(seen.top) == 2
    (again,) = caffe2tf.classify(str(MODEL), [picture], top=2)
    assert again == seen
    assert caffe2tf.visualize(net, "filters", layers="conv1").startswith(b"\x89PNG")
    assert caffe2tf.visualize(MODEL, "graph").startswith((b"<?xml", b"<svg"))
    assert caffe2tf.visualize(net, "activations", image=picture, layers=["pool1"]).startswith(b"\x89PNG")
    with pytest.raises(caffe2tf.Caffe2TFError, match="all needs a picture; give `image`"):
        caffe2tf.visualize(net, "all")
    with pytest.raises(caffe2tf.Caffe2TFError, match="no download 'vgg'"):
        caffe2tf.download("vgg", tmp_path)


def test_finetune_takes_values(tmp_path, monkeypatch):
    pytest.importorskip("keras")
    import caffe2tf
    from caffe2tf.finetuning import recipe
    from caffe2tf.finetuning.settings import RecipeError

    monkeypatch.chdir(tmp_path)
    values = {"layers": ["fc3"], "split": (0.5, 0.5), "augment": ("mirror",), "resize": (20, 24), "mean": (1, 2.5, 3)}
    made = recipe.of({**values, "input_shape": {None: (1, 3, 19, 19)}})
    assert made.stages[0].layers == ("fc3",)
    assert (made.split, made.resize, made.mean) == ((0.5, 0.5), (20, 24), (1.0, 2.5, 3.0))
    (tmp_path / "recipe.toml").write_text(recipe.text(made, str(tmp_path)))
    assert recipe.read(str(tmp_path / "recipe.toml")) == made
    typed = recipe.of({"layers": "fc3", "split": "0.5,0.5", "augment": "mirror", "resize": "20x24", "mean": "1,2.5,3",
                       "input_shape": "1,3,19,19"})  # fmt: skip
    assert typed == made
    for wrong, why in [
        ({"epochs": 0}, "epochs: '0'; takes a whole number from 1"),
        ({"epoch": 3}, "unknown key 'epoch'; nearest: epochs"),
        ({"resize": (0, 3)}, "takes 227, 256x227"),
        ({"recipe": "x.toml", "epochs": 3}, "`recipe` says all settings"),
        ({"resume": True, "force": True}, "`resume` goes on with what `force` would replace"),
    ]:
        with pytest.raises(RecipeError, match=why):
            caffe2tf.finetune(MODEL, **{"data": "train", "layers": "fc3", **wrong} if "recipe" not in wrong else wrong)


def test_a_shape_may_stand_third(tmp_path):
    """As in 0.1.0: load(text, model, shapes)."""
    import caffe2tf

    text = make(tmp_path, inputs(data=(1, 2)) + layer("ReLU"))[0]
    assert caffe2tf.load(text, None, {"data": (4, 2)}).inputs == {"data": (4, 2)}
    with pytest.raises(caffe2tf.Caffe2TFError, match=r"`input_shape` is \[4\]; takes \{input: shape in"):
        caffe2tf.load(text, None, [4])
