"""Networks, pictures, labels and SavedModels that lie about what they are, and names that act on a terminal."""

import json
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from caffe2tf import formats, loading
from caffe2tf.caffe import wire
from caffe2tf.caffe.caffe_pb2 import BlobProto, LayerParameter
from caffe2tf.cli import terminal
from caffe2tf.errors import Caffe2TFError, NetError, ParseError, escaped
from caffe2tf.images import decode as imaging
from tests.helpers import GOLDEN, inputs, is_model, layer, load, make, run

CASE = GOLDEN / "layers" / "conv_basic"

# ------------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize("count", [33, 2_000_000])
def test_a_shape_of_more_axes_than_caffe_takes(count, tmp_path):
    dims = wire.field(1, [bytes([0xFF, 0x7F]) * count])
    blob = b"".join(wire.field(7, wire.field(7, dims)))
    layer_bytes = LayerParameter(name="x", type="InnerProduct").SerializeToString() + blob
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"".join(wire.field(100, [layer_bytes])))
    with pytest.raises(ParseError, match=f"has {count} axes; Caffe takes 32 at most"):
        loading.load(None, str(path))
    text = inputs(data=(1, 3)) + layer("Reshape", "reshape_param { shape { " + "dim: 1 " * 33 + "} }")
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(ParseError, match="a shape of 33 axes; Caffe takes 32 at most"):
        loading.load(str(tmp_path / "net.prototxt"))


def test_a_blob_of_more_values_than_caffe_takes(tmp_path):
    blob = BlobProto(shape={"dim": [1 << 16, 1 << 16]}).SerializeToString()
    data = LayerParameter(name="x", type="InnerProduct").SerializeToString() + b"".join(wire.field(7, [blob]))
    (tmp_path / "net.caffemodel").write_bytes(b"".join(wire.field(100, [data])))
    with pytest.raises(ParseError, match="more values than Caffe takes"):
        loading.load(None, str(tmp_path / "net.caffemodel"))


@pytest.mark.parametrize("count", [2, 3000])
def test_what_reads_a_data_layer_may_be_a_chain_or_a_circle(count, tmp_path):
    text = 'layer { name: "d" type: "Data" top: "t0" top: "label" }' + "".join(
        layer("Dropout", bottoms=[f"t{i}"], tops=[f"t{i + 1 if i + 1 < count or count > 2 else 0}"], name=f"l{i}")
        for i in range(count)
    )
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(NetError, match=r"nothing tells its shape|is already made by another layer"):
        loading.load(str(tmp_path / "net.prototxt"))


CONV = "convolution_param { num_output: 2 kernel_size: 1 }"
BLOBS = [(2, 2, 1, 1), (2,)]


@pytest.mark.parametrize(
    ("encoding", "comment", "name"),
    [
        ("gb18030", "# 网络", "卷积"),
        ("latin-1", "# dernière couche, caffé é è", "couche_é"),
        ("utf-8", "# 网络", "卷积"),
    ],
)
def test_names_and_comments_in_other_encodings(encoding, comment, name, tmp_path):
    """The text and the snapshot, each in that encoding, still meet by name."""
    text = comment + "\n" + inputs(data=(1, 2, 3, 3)) + layer("Convolution", CONV, name="conv0")
    prototxt, model = make(
        tmp_path, inputs(data=(1, 2, 3, 3)) + layer("Convolution", CONV, name="conv0"), {"conv0": BLOBS}
    )
    raw = name.encode(encoding)
    known = loading.load(prototxt, model).weights["conv0"]["kernel"]
    data = (tmp_path / "net.caffemodel").read_bytes()
    start = data.index(b"\x0a\x05conv0")
    # The layer's field and its length come before its name: both are written anew.
    first = data.rindex(b"\xa2\x06", 0, start)
    length, body = wire.varint(data, first + 2, len(data))
    whole = data[body : body + length].replace(b"\x0a\x05conv0", b"\x0a" + bytes([len(raw)]) + raw)
    (tmp_path / "net.caffemodel").write_bytes(data[:first] + b"".join(wire.field(100, [whole])) + data[body + length :])
    (tmp_path / "net.prototxt").write_bytes(text.encode(encoding).replace(b"conv0", raw))
    net = loading.load(prototxt, model)
    np.testing.assert_array_equal(net.weights[name]["kernel"], known)
    assert loading.load(None, model).layer(name)
    notes = [note for note in net.notes if "names that are not UTF-8 are read as" in note]
    assert len(notes) == (0 if encoding == "utf-8" else 2)
    assert run("inspect", prototxt).exit_code == 0
    for kind in ("npz", "npy", "h5", "safetensors", "caffemodel"):
        formats.save(net, str(tmp_path / f"x.{kind}"))
        np.testing.assert_array_equal(
            loading.load(prototxt, str(tmp_path / f"x.{kind}")).weights[name]["kernel"], known
        )


# ------------------------------------------------------------------------------------------------ terminals

NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.\x7f"


@pytest.mark.parametrize("terminal_there", [False, True])
def test_names_cannot_act_on_the_terminal(terminal_there, tmp_path, monkeypatch, capsys):
    acting = {"\x07", "\x9b", "\u202e", "\x7f"} | (set() if terminal_there else {"\x1b"})  # colours are escapes too
    if terminal_there:
        monkeypatch.setenv("FORCE_COLOR", "1")
    written = "".join(f"\\{byte:03o}" for byte in NASTY.encode())
    good = inputs(data=(1, 2, 3, 3)) + layer("Convolution", CONV, name=written)
    (tmp_path / "good.prototxt").write_text(good)
    (tmp_path / "bad.prototxt").write_text(good + layer(written, bottoms=["top"], tops=["y"]))
    for args, code in (
        (["inspect", "good.prototxt"], 0),
        (["inspect", "bad.prototxt"], 1),
        (["inspect", "--diff", "good.prototxt", "good.prototxt"], 0),
        (["convert", "good.prototxt", "-o", f"{NASTY}/x.npz"], 1),
        (["convert", "bad.prototxt", "-o", "x.keras"], 1),
    ):
        monkeypatch.chdir(tmp_path)
        said = run(*args, code=code).output
        assert not acting & set(said), args
        assert "\x1b]0;" not in said
    terminal.bars(NASTY, [(NASTY, 0.5)])
    terminal.table(["name"], [[f"two\nlines {NASTY}"]], NASTY)
    printed = capsys.readouterr().out
    assert not acting & set(printed)
    assert "two\\nlines" in printed
    assert escaped("umlaut ü, 卷积, \n", "\n") == "umlaut ü, 卷积, \n"


# ------------------------------------------------------------------------------------------------ pictures

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(caffe2tf-was-here) (w) file closefile\n"


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_an_eps_under_another_name_starts_nothing(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    def start(*args, **options):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", start)
    (tmp_path / "x.jpg").write_bytes(EPS)
    with pytest.raises(ParseError, match=r"x\.jpg: is not a picture that can be read"):
        imaging.read_image(str(tmp_path / "x.jpg"))


@pytest.mark.parametrize(("width", "height"), [(13000, 13000), (89_478_486, 1), (1 << 30, 1 << 30)])
def test_a_picture_that_claims_memory_is_refused_before_it_is_taken(width, height, tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda *args: pytest.fail("it was decoded"))
    (tmp_path / "x.png").write_bytes(png(width, height))
    with pytest.raises(ParseError, match="pixels"):
        imaging.read_image(str(tmp_path / "x.png"))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "jpg", "tif", "bmp"])
def test_damaged_pictures_are_unreadable_and_no_more(suffix, tmp_path):
    """Bytes changed at random: a picture, or one line."""
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, (24, 24, 3)).astype(np.uint8)
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    more = {"save_all": True, "append_images": frames[1:]} if suffix in ("gif", "webp", "tif") else {}
    frames[0].save(tmp_path / f"x.{suffix}", **more)
    whole, path = (tmp_path / f"x.{suffix}").read_bytes(), tmp_path / f"y.{suffix}"
    said = []
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(random.randint(1, 8)):
            data[random.randint(0, min(len(data), 200))] = random.randint(0, 256)
        path.write_bytes(data)
        try:
            assert imaging.read_image(str(path)).dtype == np.uint8
        except ParseError as error:
            said.append(str(error))
    assert said
    assert not any("\n" in line for line in said)


def test_whatever_pillow_raises_is_one_pictures_matter(tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.gif")
    for error in (
        IndexError("index out of range"),
        struct.error("unpack"),
        KeyError(3),
        RuntimeError(""),
        AttributeError("a"),
    ):

        def fail(*args, error=error):
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(Image.Image, "convert", fail)
            with pytest.raises(ParseError, match=r"x\.gif: cannot be read: "):
                imaging.read_image(str(tmp_path / "x.gif"))


def test_a_label_of_300_million_takes_no_memory(tmp_path):
    from caffe2tf.classification import labels as truth
    from caffe2tf.finetuning import data

    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    for label in ("300000000", "9" * 18, "9" * 5000):
        (tmp_path / "list.txt").write_text(f"a.png 0\nb.png {label}\n")
        assert data.read(str(tmp_path / "list.txt")).classes == ("0", label)  # two classes, not all that lie between
        with pytest.raises(truth.LabelError, match="is no class of the model"):
            truth.numbers([label], ("a", "b"))


# ------------------------------------------------------------------------------------------------ SavedModels


def test_a_saved_model_of_others_runs_only_when_trusted(tmp_path, monkeypatch):
    tf = pytest.importorskip("tensorflow")
    monkeypatch.chdir(tmp_path)

    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 3), tf.float32, name="image")])
        def serve(self, image):
            tf.io.write_file("written", "by the model")
            return {"prob": tf.nn.softmax(tf.reduce_mean(image, (1, 2)))}

    evil = Evil()
    tf.saved_model.save(evil, "evil", signatures={"serving_default": evil.serve})
    Image.new("RGB", (4, 4)).save("x.png")
    refused = run("classify", "evil", "x.png", "-q", code=1).stderr
    assert refused.startswith("caffe2tf: evil: was not written by caffe2tf")
    assert "--trust" in refused
    assert refused.count("\n") == 1
    os.makedirs("evil/assets.extra")
    shutil.copy(CASE / "net.prototxt", "evil/assets.extra/caffe2tf.json")  # the marker, copied
    assert (
        "holds the operation WriteFile, which caffe2tf does not write"
        in run("classify", "evil", "x.png", "-q", code=1).stderr
    )
    assert not os.path.exists("written")
    (tmp_path / "evil" / "assets.extra" / "caffe2tf.json").write_text(json.dumps({}))
    run("classify", "evil", "x.png", "-q", "--trust")
    assert os.path.exists("written")


def our_own(folder, case=CASE):
    """A SavedModel of ours in `folder`, and its message to be changed."""
    run("convert", case / "net.caffemodel", "-p", case / "net.prototxt", "-q", "-o", f"{folder}/")
    return saved_model(folder)


def saved_model(folder):
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())


def entered(graph):
    """A function that running the model enters."""
    wanted = set(graph.object_graph_def.concrete_functions)
    return next(f for f in graph.graph_def.library.function if f.signature.name in wanted)


def saver(graph):
    return next(f for f in graph.graph_def.library.function if "traced_save" in f.signature.name)


def stores(graph):
    entered(graph).node_def.add(name="evil", op="SaveV2")


def calls_what_stores(graph):
    node = entered(graph).node_def.add(name="evil", op="PartitionedCall")
    node.attr["f"].func.name = saver(graph).signature.name


def calls_in_a_list(graph):
    node = entered(graph).node_def.add(name="evil", op="If")
    node.attr["branches"].list.func.add(name=saver(graph).signature.name)


def enters_what_stores(graph):
    name = saver(graph).signature.name
    graph.object_graph_def.concrete_functions[name].canonicalized_input_signature.SetInParent()


def calls_by_name(graph):
    entered(graph).node_def.add(name="evil", op=saver(graph).signature.name)


def restores_by_itself(graph):
    graph.object_graph_def.nodes[0].saveable_objects["x"].restore_function = 1


def has_a_saver(graph):
    graph.object_graph_def.nodes[0].registered_saver = "theirs"


def has_an_asset(graph):
    graph.object_graph_def.nodes.add().asset.asset_file_def_index = 0


def has_a_table(graph):
    graph.object_graph_def.nodes.add().resource.device = "cpu"


def has_an_object_of_theirs(graph):
    graph.object_graph_def.nodes.add().user_object.identifier = "theirs"


def has_a_gradient(graph):
    graph.graph_def.library.gradient.add(function_name="a", gradient_func="b")


def has_another_signature(graph):
    graph.signature_def["other"].method_name = "x"


def is_of_tensorflow_1(graph):
    graph.ClearField("object_graph_def")


def reads(graph):
    graph.graph_def.node.add(name="evil", op="ReadFile")


def calls_python(graph):
    entered(graph).node_def.add(name="evil", op="PyFuncStateless")


LYING = {
    stores: "the operation SaveV2 in what it computes",
    calls_what_stores: "in what it computes",
    calls_in_a_list: "in what it computes",
    enters_what_stores: "in what it computes",
    calls_by_name: "the operation __inference__traced_save_",
    restores_by_itself: "an object that saves itself",
    has_a_saver: "an object that saves itself",
    has_an_asset: "an object of the kind asset",
    has_a_table: "an object of the kind resource",
    has_an_object_of_theirs: "an object of the kind theirs",
    has_a_gradient: "gradients of its own",
    has_another_signature: "the signatures __saved_model_init_op, other, serving_default",
    is_of_tensorflow_1: "a graph of TensorFlow 1",
    reads: "the operation ReadFile",
    calls_python: "the operation PyFuncStateless",
}


def test_a_saved_model_that_was_changed_is_refused(tmp_path):
    """Whatever it could do when it is loaded or run, before it is loaded."""
    pytest.importorskip("tensorflow")
    from caffe2tf.formats import savedmodel

    folder = tmp_path / "ours"
    whole = our_own(folder).SerializeToString()
    for change, why in LYING.items():
        model = saved_model(folder)
        change(model.meta_graphs[0])
        (folder / "saved_model.pb").write_bytes(model.SerializeToString())
        with pytest.raises(ParseError, match="which caffe2tf does not write") as told:
            savedmodel.runner(str(folder))
        assert str(told.value).startswith(f"{folder}: holds ")
        assert why in str(told.value)
        (folder / "saved_model.pb").write_bytes(whole)
    (folder / "saved_model.pb").write_bytes(whole * 2)  # protobuf merges them
    with pytest.raises(ParseError, match="holds 2 graphs"):
        savedmodel.runner(str(folder))
    (folder / "saved_model.pb").write_bytes(whole)
    (folder / "assets.extra" / "lib.so").write_bytes(b"x")
    with pytest.raises(ParseError, match=r"holds assets\.extra/lib\.so, which"):
        savedmodel.runner(str(folder))
    (folder / "assets.extra" / "lib.so").unlink()
    savedmodel.runner(str(folder))


def test_what_a_saved_model_may_hold_only_computes():
    """As TensorFlow registers it: no state but the variables, nothing that reads or writes files, or runs Python."""
    pytest.importorskip("tensorflow")
    from tensorflow.python.framework import op_def_registry

    from caffe2tf.formats import _allowed

    known = {name: op_def_registry.get(name) for name in _allowed.COMPUTING}
    assert {name for name, op in known.items() if op is None} <= {"Inv"}
    stateful = {name for name, op in known.items() if op and op.is_stateful}
    assert stateful == {"ReadVariableOp", "StatefulPartitionedCall", "While", "If", "Case"}
    acting = (
        "File",
        "PyFunc",
        "Dataset",
        "Read",
        "Write",
        "Save",
        "Restore",
        "Summary",
        "Print",
        "Decode",
        "Encode",
        "Rpc",
    )
    assert not {name for name in known if any(word in name for word in acting)} - {
        "ReadVariableOp",
        "DecodeJpeg",
    }  # from memory


OWN = [path for kind in ("layers", "forks") for path in sorted((GOLDEN / kind).iterdir()) if path.is_dir()]


@pytest.mark.parametrize("number", range(0, len(OWN), 60))
def test_our_own_saved_model_needs_no_trust(number, tmp_path):
    check_own(OWN[number], tmp_path)


@pytest.mark.slow
def test_no_saved_model_of_ours_needs_trust(tmp_path):
    for case in OWN:
        check_own(case, tmp_path / case.name)


def check_own(case, folder):
    pytest.importorskip("tensorflow")
    from caffe2tf.formats import savedmodel

    net = load(case)
    if is_model(net):
        formats.save(net, f"{folder}/")
        savedmodel._refuse_strangers(str(folder))


# ------------------------------------------------------------------------------------------------ drawings


def test_a_drawing_that_would_not_end_is_refused(tmp_path):
    text = inputs(data=(1, 2)) + "".join(
        layer("Eltwise", bottoms=[f"t{i - 1}" if i else "data", "data"], tops=[f"t{i}"], name=f"l{i}")
        for i in range(400)
    )
    (tmp_path / "net.prototxt").write_text(text)
    said = run("visualize", "graph", tmp_path / "net.prototxt", "-o", tmp_path / "x.svg", code=1).stderr
    assert "takes 10000 at most" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "x.svg").exists()


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="a device without end")
def test_a_device_without_end_is_no_file(tmp_path):
    from caffe2tf.classification import classifier
    from caffe2tf.classification import labels as labelling
    from caffe2tf.finetuning import recipe
    from caffe2tf.verification import golden

    (tmp_path / "expected.json").symlink_to("/dev/zero")
    (tmp_path / "mean.npy").symlink_to("/dev/zero")
    for suffix in ("caffemodel", "prototxt", "npz", "npy", "h5", "safetensors", "txt", "toml"):
        (tmp_path / f"x.{suffix}").symlink_to("/dev/zero")
    weights = [
        lambda s=s: formats.module(s).load(str(tmp_path / f"x.{s}")) for s in ("npz", "npy", "h5", "safetensors")
    ]
    for call in (
        *weights,
        lambda: loading.load(tmp_path / "x.caffemodel"),
        lambda: loading.load(tmp_path / "x.prototxt"),
        lambda: classifier.label_names(tmp_path / "x.txt"),
        lambda: labelling.listed(tmp_path / "x.txt"),
        lambda: recipe.read(tmp_path / "x.toml"),
        lambda: golden.load(tmp_path),
    ):
        with pytest.raises(Caffe2TFError) as told:
            call()
        assert type(told.value).__name__ not in ("NotEnoughMemory", "Unforeseen")
