"""Layer types of a user's own: files, entry points, Python layers, parameters that the schema lacks, and what goes wrong."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from google.protobuf import text_format

import caffe2tf
from caffe2tf.caffe import extra, wire
from caffe2tf.caffe.caffe_pb2 import LayerParameter, NetParameter
from caffe2tf.errors import Caffe2TFError, NetError, PluginError, UnsupportedLayer, UnsupportedParameter
from caffe2tf.layers import REGISTRY
from tests.helpers import ROOT, inputs, layer, pages, run

EXAMPLE = next(part for text in pages().values() for part in text.split("```python\n") if "class Gain" in part).split(
    "```"
)[0]
GAIN = layer("Gain", "gain_param { factor: 2.5 bias: true }", ["data"], ["g"], "gain")
UPPER = layer("Python", 'python_param { module: "my.ops" layer: "Upper" param_str: "0.5" }', ["g"], ["u"], "upper")
SMALL = inputs(data=(2, 3, 4, 5)) + GAIN + UPPER
BIAS = np.array([1.0, -2.0, 0.5])
DATA = np.random.RandomState(0).uniform(-1, 1, (2, 3, 4, 5)).astype(np.float32)
EXPECTED = np.maximum(2.5 * DATA + BIAS.reshape(1, 3, 1, 1), 0.5)


def make(folder, text, blobs=None):
    """helpers.make for a text with fields that the schema lacks, which its .caffemodel does not hold."""
    net = text_format.Parse(text, NetParameter(), allow_unknown_field=True)
    for item in net.layer:
        for blob in (blobs or {}).get(item.name, ()):
            proto = item.blobs.add()
            proto.shape.dim.extend(np.shape(blob))
            proto.data.extend(np.ravel(blob))
    (folder / "net.prototxt").write_text(text)
    (folder / "net.caffemodel").write_bytes(net.SerializeToString())
    return str(folder / "net.prototxt"), str(folder / "net.caffemodel")


@pytest.fixture(autouse=True)
def clean():
    """What a test loads is gone after it."""
    before = dict(REGISTRY), dict(extra.TAKEN)
    yield
    for table, kept in zip((REGISTRY, extra.TAKEN), before, strict=True):
        table.clear()
        table.update(kept)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_layers.py"
    path.write_text(EXAMPLE)
    return path


def write(tmp_path, code, name="plug.py"):
    (tmp_path / name).write_text("from caffe2tf.layers import Layer, Weight\n" + code)
    return tmp_path / name


def test_the_readmes_example(file, tmp_path):
    assert len(EXAMPLE.strip().splitlines()) <= 30
    files = make(tmp_path, SMALL, {"gain": [BIAS]})
    with pytest.raises(
        UnsupportedLayer, match=r"type 'Gain' is not supported\nlayer 'upper': type 'Python' of 'my.ops.Upper'"
    ):
        caffe2tf.load(*files)
    with caffe2tf.plugin(file) as loaded:
        assert loaded.types == ("Gain", "my.ops.Upper")
        net = caffe2tf.load(*files)
        found = caffe2tf.forward(net, {"data": DATA})["u"]
        np.testing.assert_allclose(found, EXPECTED, rtol=1e-6)
        assert not [note for note in net.notes if "gain_param" in note]
        assert net.layer("gain").p == {"factor": 2.5, "bias": True}
        assert list(net.weights["gain"]) == ["bias"]
    assert "Gain" not in REGISTRY
    assert not extra.TAKEN
    with pytest.raises(UnsupportedLayer, match="Gain"):
        caffe2tf.load(*files)


def test_every_command_takes_a_plugin(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = make(tmp_path, SMALL, {"gain": [BIAS]})
    assert "Gain" in run("convert", *files, code=1).stderr
    run("convert", *files, "--plugin", "my_layers.py", "-o", "net.keras", "-o", "cut.caffemodel")
    found = json.loads(run("inspect", "cut.caffemodel", "--plugin", file, "--json").stdout)["files"][0]
    assert [one["type"] for one in found["layers"]] == ["Input", "Gain", "Python"]
    assert run("inspect", "--diff", *["cut.caffemodel"] * 2, "--plugin", file).stdout.endswith("same network\n")
    run("visualize", "graph", *files, "--plugin", file)
    assert "Gain" not in REGISTRY  # once the command is done
    code = "import sys, keras, numpy as np; sys.modules['caffe2tf'] = None; x = np.load('x.npy'); "
    code += "np.save('y.npy', keras.models.load_model('net.keras')(x))"
    np.save("x.npy", DATA.transpose(0, 2, 3, 1))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load("y.npy").transpose(0, 3, 1, 2), EXPECTED, rtol=1e-6)


def test_a_module_that_is_imported_is_enough(file, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    import my_layers  # noqa: F401

    assert caffe2tf.load(*make(tmp_path, SMALL, {"gain": [BIAS]})).outputs == ["u"]
    del sys.modules["my_layers"]


def test_the_same_file_is_loaded_anew(file, tmp_path):
    caffe2tf.plugin(file)
    file.write_text(EXAMPLE.replace('"factor", 1.0', '"factor", 3.0'))
    caffe2tf.plugin(str(file))
    net = caffe2tf.load(make(tmp_path, inputs(data=(1, 2)) + layer("Gain", tops=["g"]))[0])
    np.testing.assert_allclose(caffe2tf.forward(net, {"data": [[1.0, 2.0]]})["g"], [[3.0, 6.0]])
    assert not list(tmp_path.glob("__pycache__"))


# ------------------------------------------------------------------------------------------------ entry points


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with two entry points, one for its module and one for a class, as an installer leaves it."""
    site = tmp_path / "site"
    (site / "acme").mkdir(parents=True)
    (site / "acme" / "__init__.py").write_text("raise SystemExit('loaded unasked')\n")
    (site / "acme_layers.py").write_text(EXAMPLE)
    info = site / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    points = "gain = acme_layers\nupper = acme_layers:Upper\nbroken = acme\n"
    (info / "entry_points.txt").write_text(f"[caffe2tf.layers]\n{points}")
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("acme_layers", None)


@pytest.mark.usefixtures("installed")
def test_an_installed_plugin_is_loaded_when_it_is_named_alone(tmp_path):
    files = make(tmp_path, SMALL, {"gain": [BIAS]})
    with pytest.raises(UnsupportedLayer):
        caffe2tf.load(*files)
    assert "acme_layers" not in sys.modules
    run("inspect", *files, "--plugin", "gain")
    assert "Gain" not in REGISTRY
    with caffe2tf.plugin("gain") as again:  # its module was imported before
        assert again.types == ("Gain", "my.ops.Upper")
        np.testing.assert_allclose(caffe2tf.forward(caffe2tf.load(*files), {"data": DATA})["u"], EXPECTED, rtol=1e-6)
    with caffe2tf.plugin("upper") as one:
        assert one.types == ("my.ops.Upper",)
    with pytest.raises(PluginError, match=r"acme/__init__.py:1: SystemExit: loaded unasked"):
        caffe2tf.plugin("broken")
    with pytest.raises(PluginError, match=r"^gains: is neither a Python file .*; installed are: broken, gain, upper$"):
        caffe2tf.plugin("gains")


# ------------------------------------------------------------------------------------------------ parameters

MANY = """
import enum

class Mode(enum.Enum):
    SUM = 0
    MAX = 1

INNER = {"depth": (1, int), "word": (2, str)}
class Many(Layer, type="Many", param="many_param", numbers={"many_param": (9001, {
    "ratio": (1, float), "exact": (2, float), "count": (3, int), "flag": (4, bool), "word": (5, str), "mode": (6, Mode),
    "sizes": (7, [int]), "scales": (8, [float]), "words": (9, [str]), "inner": (10, INNER), "inners": (11, [INNER])})}):
    def build(self, ctx, x):
        return x * self.p["ratio"]
"""
TEXT = """many_param { ratio: 2 exact: 0.1 count: -3 flag: true word: "a \\"b\\"\\n\\303\\244" mode: MAX sizes: [1, -2] sizes: 0x10
  scales: 0.5 scales: 1e3f words: 'x' inner { depth: 7 word: "w" } inners < depth: 1 >; inners { depth: 2 } }"""
VALUES = {
    "ratio": 2.0,
    "exact": 0.1,
    "count": -3,
    "flag": True,
    "word": 'a "b"\nä',
    "sizes": [1, -2, 16],
    "scales": [0.5, 1000.0],
    "words": ["x"],
    "inner": {"depth": 7, "word": "w"},
    "inners": [{"depth": 1}, {"depth": 2}],
}


def field(number, kind, value):
    """One field as bytes; "varint", "float", "double" or bytes."""
    if kind == "varint":
        return wire.encode(number << 3) + wire.encode(value % 2**64)
    if kind in ("float", "double"):
        code, size = ("<f", wire.FIXED32) if kind == "float" else ("<d", wire.FIXED64)
        return wire.encode(number << 3 | size) + struct.pack(code, value)
    return b"".join(wire.field(number, [value]))


BYTES = b"".join(
    [
        *(field(1, "float", 2.0), field(2, "double", 0.1), field(3, "varint", -3), field(4, "varint", 1)),
        *(field(5, "bytes", 'a "b"\nä'.encode()), field(6, "varint", 1), field(7, "varint", 1)),
        field(7, "bytes", wire.encode(2**64 - 2) + wire.encode(16)),  # packed
        *(field(8, "bytes", struct.pack("<2f", 0.5, 1000)), field(9, "bytes", b"x")),
        field(10, "bytes", field(1, "varint", 7) + field(2, "bytes", b"w")),
        *(field(11, "bytes", field(1, "varint", 1)), field(11, "bytes", field(1, "varint", 2))),
    ]
)


def snapshot(tmp_path, kind, data):
    """A .caffemodel whose layer holds fields that the schema lacks."""
    net = NetParameter()
    net.layer.add(name="data", type="Input", top=["data"]).input_param.shape.add().dim.extend((1, 2))
    one = LayerParameter(name="x", type=kind, bottom=["data"], top=["top"])
    one.MergeFromString(data)
    net.layer.append(one)
    path = tmp_path / "unknown.caffemodel"
    path.write_bytes(net.SerializeToString())
    return path


def test_parameters_are_a_dictionary_from_texts_and_from_snapshots(tmp_path):
    plug = caffe2tf.plugin(write(tmp_path, MANY))
    mode = next(iter(plug._kinds)).numbers["many_param"][1]["mode"][1]
    expected = VALUES | {"mode": mode.MAX}
    text = make(tmp_path, inputs(data=(1, 2)) + layer("Many", TEXT))[0]
    binary = snapshot(tmp_path, "Many", field(9001, "bytes", BYTES))
    for file in (text, binary):
        net = caffe2tf.load(file)
        assert net.layer("x").p == expected
        assert not net.notes
        assert caffe2tf.forward(net, {"data": [[1, 2]]})["top"].tolist() == [[2.0, 4.0]]
        (tmp_path / "again.prototxt").write_text(net.text())
        caffe2tf.save(net, str(tmp_path / "again.caffemodel"), force=True)
        for again in ("again.prototxt", "again.caffemodel"):
            assert caffe2tf.load(tmp_path / again).layer("x").p == expected
            assert caffe2tf.diff(net, tmp_path / again)["same"]
        assert net.cut("top").layer("x").p == net.reshape({"data": (3, 2)}).layer("x").p == expected
    (tmp_path / "again.prototxt").write_text(net.text().replace("ratio: 2", "ratio: 3"))
    assert caffe2tf.diff(net, tmp_path / "again.prototxt")["layers"][0]["differs"] == {"ratio": ["2.0", "3.0"]}


def test_without_numbers_a_text_says_what_it_says(tmp_path):
    caffe2tf.plugin(
        write(
            tmp_path,
            'class Plain(Layer, type="Plain", param="plain_param", fields="a b c d"):\n    works_in_place = True',
        )
    )
    text = layer("Plain", 'plain_param { a: 1 b: 2.0 b: FOO c { d: "x" } d: -inf # { "\n }')
    assert caffe2tf.load(make(tmp_path, inputs(data=(1, 2)) + text)[0]).layer("x").p == {
        "a": 1,
        "b": [2.0, "FOO"],
        "c": {"d": "x"},
        "d": -np.inf,
    }
    assert caffe2tf.load(make(tmp_path, inputs(data=(1, 2)) + layer("Plain"))[0]).layer("x").p == {}
    with pytest.raises(UnsupportedParameter, match="plain_param sets 'e', which is not computed; takes a b c d"):
        caffe2tf.load(make(tmp_path, inputs(data=(1, 2)) + layer("Plain", "plain_param { e: 1 }"))[0])
    with pytest.raises(NetError, match="plain_param is 3; takes one"):
        caffe2tf.load(make(tmp_path, inputs(data=(1, 2)) + layer("Plain", "plain_param: 3"))[0])


def test_members_that_a_message_of_the_schema_lacks(tmp_path):
    code = """
class Leaky(Layer, type="Leaky", param="relu_param", fields="negative_slope top", numbers={"relu_param": {"top": (99, float)}}):
    def build(self, ctx, x):
        return ctx.ops.minimum(ctx.ops.maximum(x, x * self.p.negative_slope), self.extra["top"])
"""
    caffe2tf.plugin(write(tmp_path, code))
    text = inputs(data=(1, 2)) + layer("Leaky", "relu_param { negative_slope: 0.5 top: 3 }")
    data = field(123, "bytes", field(1, "float", 0.5) + field(99, "float", 3.0))
    for file in (make(tmp_path, text)[0], snapshot(tmp_path, "Leaky", data)):
        net = caffe2tf.load(file)
        assert not net.notes
        assert caffe2tf.forward(net, {"data": [[-2, 9]]})["top"].tolist() == [[-1.0, 3.0]]
        (tmp_path / "again.prototxt").write_text(net.text())
        assert caffe2tf.load(tmp_path / "again.prototxt").layer("x").extra == {"top": 3.0}
    relu = inputs(data=(1, 2)) + layer("ReLU", "relu_param { top: 3 other: 1 }")
    assert len(caffe2tf.load(make(tmp_path, relu)[0]).notes) == 1  # what no plugin takes is told as ever


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ratio: FOO", "ratio is 'FOO'; takes a number"),
        ("mode: MIN", "mode is 'MIN'; takes one of SUM, MAX"),
        ("count: 1.5", "count is 1.5; takes a whole number"),
        ("sizes: x", "sizes is 'x'; takes a whole number"),
        ("inner: 3", r"inner is 3; takes a \{ block \}"),
        ("inner { depth: true }", "inner.depth is True; takes a whole number"),
        (f"count: {'9' * 5000}", "count is '9"),
    ],
)
def test_values_of_another_kind_are_refused(text, why, tmp_path):
    caffe2tf.plugin(write(tmp_path, MANY))
    with pytest.raises(NetError, match=why) as caught:
        caffe2tf.load(make(tmp_path, inputs(data=(1, 2)) + layer("Many", f"many_param {{ {text} }}"))[0])
    assert str(caught.value).startswith("layer 'x' (Many): ")


@pytest.mark.parametrize(
    "data",
    [
        field(1, "varint", 3),
        field(3, "float", 3),
        field(8, "bytes", b"abc"),
        field(7, "bytes", b"\xff"),
        field(10, "varint", 1),
        field(6, "varint", 7),
    ],
)
def test_numbers_of_another_kind_are_refused(data, tmp_path):
    caffe2tf.plugin(write(tmp_path, MANY))
    with pytest.raises(NetError, match=r"^layer 'x' \(Many\): "):
        caffe2tf.load(snapshot(tmp_path, "Many", field(9001, "bytes", data)))


def test_weights_and_cuts(file, tmp_path):
    caffe2tf.plugin(file)
    files = make(tmp_path, SMALL, {"gain": [BIAS]})
    net = caffe2tf.load(*files, outputs="g")
    assert net.arrays["gain"][0].tolist() == BIAS.tolist()
    model = caffe2tf.to_keras(net)
    assert caffe2tf.from_keras(model, net).arrays["gain"][0].tolist() == BIAS.tolist()
    caffe2tf.save(net, str(tmp_path / "net.npz"))
    assert caffe2tf.load(files[0], tmp_path / "net.npz", outputs="g").weights["gain"]["bias"].shape == (3,)
    with pytest.raises(Caffe2TFError, match=r"layer 'gain' \(Gain\): bias has shape \(4,\)"):
        caffe2tf.load(*make(tmp_path, SMALL, {"gain": [np.zeros(4)]}))


def test_a_python_layer_sets_nothing_that_is_not_computed(tmp_path):
    caffe2tf.plugin(
        write(tmp_path, 'class Same(Layer, type="my.ops.Same"):\n    def build(self, ctx, x):\n        return x + 0')
    )
    text = layer("Python", 'python_param { module: "my.ops" layer: "Same" param_str: "1" }')
    with pytest.raises(UnsupportedParameter, match="python_param sets 'param_str', which is not computed; takes none"):
        caffe2tf.load(make(tmp_path, inputs(data=(1, 2)) + text)[0])
    assert caffe2tf.load(make(tmp_path, inputs(data=(1, 2)) + text.replace('param_str: "1"', ""))[0]).outputs == ["top"]


# ------------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import absent_module\n", r"plug.py:2: ModuleNotFoundError: No module named 'absent_module'"),
        ("x = (\n", r"plug.py:2: SyntaxError: "),
        ("\n\nx = 1 / 0\n", r"plug.py:4: ZeroDivisionError: "),
        ('\nclass Mine(Layer, type="ReLU"): pass\n', r"plug.py:3: TypeError: the type 'ReLU' is already that of ReLU"),
        ("x = 1\n", r"plug.py: adds no layer type; takes a subclass of"),
        ("import sys; sys.exit(3)\n", r"plug.py:2: SystemExit: 3"),
        ('class A(Layer, type="A"): pass\nclass B(Layer, type="B", colour=1): pass\n', r"plug.py:3: TypeError: "),
        ("import json\njson.loads('{')\n", r"plug.py:3: JSONDecodeError: "),
    ],
)
def test_a_file_that_is_no_plugin_is_one_line(code, why, tmp_path):
    path = write(tmp_path, code)
    before = dict(REGISTRY)
    with pytest.raises(PluginError, match=why) as caught:
        caffe2tf.plugin(path)
    assert "\n" not in str(caught.value)
    assert before == REGISTRY  # nothing of it stays
    told = run("inspect", make(tmp_path, SMALL)[0], "--plugin", path, code=1).stderr
    assert told.startswith("caffe2tf: ")
    assert told.count("\n") == 1


def test_no_file_is_one_line(tmp_path):
    told = run("inspect", "net.prototxt", "--plugin", tmp_path / "no.py", code=1).stderr
    assert told == f"caffe2tf: {tmp_path}/no.py: no such file or directory; --plugin takes a Python file\n"
    with pytest.raises(PluginError, match="is a directory"):
        caffe2tf.plugin(f"{tmp_path}/")


METHODS = """
class Odd(Layer, type="Odd"):
    {}
"""


@pytest.mark.parametrize(
    ("method", "why"),
    [
        (
            "def tops(self): return [(1, 3)]",
            r"plug.py:5: layer 'x' \(Odd\): build gives a tensor of shape \(any, 2\), tops says \(1, 3\)",
        ),
        ("def tops(self): return 3", r"plug.py:4: layer 'x' \(Odd\): tops gives 3; takes a list of 1 shapes"),
        ("def tops(self): return [(1.5,)]", r"plug.py:4: layer 'x' \(Odd\): tops gives \[\(1.5,\)\]"),
        ("def tops(self): return [(1, 2)] * 2", r"plug.py:4: .*takes a list of 1 shapes"),
        (
            "def tops(self): return self.nothing",
            r"plug.py:4: layer 'x' \(Odd\): AttributeError: 'Odd' object has no attribute",
        ),
        ("def blobs(self): return 1 / 0", r"plug.py:4: layer 'x' \(Odd\): ZeroDivisionError"),
        ("def __init__(self, proto, bottoms): raise KeyError('a')", r"plug.py:4: layer 'x' \(Odd\): KeyError: 'a'"),
        ("def build(self, ctx, x): return x[:, :, 0]", r"plug.py:4: layer 'x' \(Odd\): "),
        ("def build(self, ctx, x): return [x, x]", r"plug.py:4: layer 'x' \(Odd\): build gives 2 tensors, tops says 1"),
        ("def build(self, ctx, x): pass", r"plug.py:4: layer 'x' \(Odd\): build gives NoneType, tops says \(1, 2\)"),
        ("def build(self, ctx, x): return ctx.ops.nothing(x)", r"plug.py:4: layer 'x' \(Odd\): AttributeError"),
        ("def build(self, ctx, x): self.fail('is no good')", r"^layer 'x' \(Odd\): is no good$"),
    ],
)
def test_a_class_that_does_other_than_it_says_is_one_line(method, why, tmp_path):
    code = METHODS.format(method) + ("" if "def build" in method else "    def build(self, ctx, x): return x + 0\n")
    caffe2tf.plugin(write(tmp_path, code))
    with pytest.raises(Caffe2TFError, match=why) as caught:
        caffe2tf.to_keras(caffe2tf.load(make(tmp_path, inputs(data=(1, 2)) + layer("Odd"))[0]))
    assert "\n" not in str(caught.value)


def test_nothing_loads_a_plugin_unasked(file, tmp_path, monkeypatch):
    """Not the shell that completes, not --help."""
    monkeypatch.chdir(tmp_path)
    file.write_text("open('ran', 'w').close()\n")
    run("inspect", "--plugin", file, "--help")
    words = ["caffe2tf", "inspect", "--plugin", "my_layers.py", "--js"]
    asked = {
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": "4",
        "_CAFFE2TF_COMPLETE": "bash_complete",
        "PYTHONPATH": str(ROOT),
    }
    code = "from caffe2tf.cli.main import main; main(prog_name='caffe2tf')"
    done = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True, cwd=tmp_path)
    assert "--json" in done.stdout
    assert not (tmp_path / "ran").exists()


def test_without_a_plugin_nothing_is_kept_of_unknown_fields(tmp_path):
    files = make(tmp_path, inputs(data=(1, 2)) + layer("ReLU", "gain_param { factor: 1 }"))
    net = caffe2tf.load(files[0])
    assert ["unknown field 'gain_param'" in note for note in net.notes] == [True]
    assert "gain" not in net.text()


def test_the_reference_judges_what_needs_no_plugin(file, tmp_path):
    from caffe2tf import reference

    caffe2tf.plugin(file)
    text = layer("AbsVal", "", ["data"], ["a"], "abs") + layer("ReLU", "", ["u"], ["u"], "relu")
    text += layer("Power", "", ["u"], ["behind"], "behind")
    net = caffe2tf.load(*make(tmp_path, SMALL + text, {"gain": [BIAS]}))
    assert set(reference.compute(net, {"data": DATA})) == {"data", "a"}
    assert set(reference.float32_cost(net, {"data": DATA})) == {"data", "a"}


def test_layers_of_a_text_of_2013(file, tmp_path):
    caffe2tf.plugin(file)
    text = 'input: "data" input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 1 '
    text += 'layers { name: "x" type: GAIN bottom: "data" top: "top" gain_param { factor: 4 } }'
    (tmp_path / "v1.prototxt").write_text(text)
    net = caffe2tf.load(tmp_path / "v1.prototxt")
    assert net.layer("x").p == {"factor": 4.0}
    assert not net.notes


@pytest.mark.slow
def test_finetune_trains_through_a_plugin(here, file):
    text = (here / "net.prototxt").read_text()
    gain = layer("Gain", "gain_param { factor: 2.5 }", ["h"], ["g"], "gain")
    head = 'layer { name: "fc8"'
    assert head in text
    text = text.replace(head, f"{gain}\n{head}").replace('bottom: "h" top: "s"', 'bottom: "g" top: "s"')
    (here / "net.prototxt").write_text(text)
    words = ["--layers", "fc8", "--data", "train", "--epochs", "1", "-q"]
    run("finetune", "net.caffemodel", "net.prototxt", "--plugin", file, *words)
    with caffe2tf.plugin(file):
        net = caffe2tf.load("finetuned/deploy.prototxt", "finetuned/best.npz")
    assert net.layer("gain").p == {"factor": 2.5}
    told = run("finetune", "--recipe", "finetuned/recipe.toml", "--out", "again", "-q", code=1).stderr
    assert "type 'Gain' is not supported" in told
    run("finetune", "--recipe", "finetuned/recipe.toml", "--out", "again", "-q", "--plugin", file)
