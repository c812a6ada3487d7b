"""Parts of what holds arrays: heaps in .h5, objects in .npy, heads of .safetensors, folders of finetune."""

import io
import json
import struct
from dataclasses import replace

import h5py
import numpy as np
import pytest

from caffe2tf import formats, loading
from caffe2tf.errors import ParseError
from caffe2tf.formats import _note, _reload, _trained, h5
from caffe2tf.images import notes, preprocess
from caffe2tf.keras_model.pictures import Pictures
from tests.helpers import GOLDEN, layer, load, make

CASE = GOLDEN / "layers" / "conv_basic"


# ------------------------------------------------------------------------------------------------ heaps of .h5


def heap(whole, *objects):
    """A global heap as HDF5's file format has it: its size, then (index, bytes held) of each object, 0 for what is free."""
    body = b"".join(
        struct.pack("<H6xQ", index, held) + bytes((-(-held // 8) * 8) if index else max(0, held - 16))
        for index, held in objects
    )
    return b"GCOL\x01\0\0\0" + struct.pack("<Q", whole) + body


def check(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    h5._check_heaps(str(tmp_path / "x"), len(data))


def test_heaps_that_are_full_or_end_in_free_space(tmp_path):
    check(tmp_path, b"")
    check(tmp_path, b"before" + heap(48, (1, 16)))
    check(tmp_path, heap(48, (1, 9)))  # rounded up to 8
    check(tmp_path, heap(80, (1, 16), (0, 32)))
    check(tmp_path, heap(64, (1, 16)) + bytes(16 - 8) + struct.pack("<Q", 16))  # 16 bytes of free space
    check(tmp_path, heap(40, (1, 8)) + heap(32, (0, 16)))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (heap(48, (1, 17)), "the heap at byte 0 does not hold what it claims"),
        (heap(48, (1, 16))[:-1], "the heap at byte 0 claims 48 bytes"),
        (heap(64, (0, 15)) + bytes(48), "the heap at byte 0 does not hold what it claims"),
        (heap(64, (0, 0)) + bytes(48), "the heap at byte 0 does not hold what it claims"),
        (heap(32, (0, 16)) + heap(1 << 40), "the heap at byte 32 claims 1099511627776 bytes"),
    ],
)
def test_heaps_that_would_be_searched_without_end(data, why, tmp_path):
    with pytest.raises(ParseError, match=why):
        check(tmp_path, data)


@pytest.mark.parametrize("piece", [1, 3, 4, 5, 6, 7, 100])
def test_heaps_are_found_wherever_they_begin(piece, monkeypatch):
    monkeypatch.setattr(h5, "_PIECE", piece)
    data = b"GCOL\x01GCOLGCOL\x01xxGCO" + b"GCOL\x01"
    assert list(h5._heaps(io.BytesIO(data))) == [0, 9, 19]


def test_what_is_not_there_and_what_leads_elsewhere(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/b"] = np.ones(2)
        file["soft"], file["other"] = h5py.SoftLink("/a/b"), h5py.ExternalLink("y.h5", "/b")
        assert h5._inside(file, "a/b").shape == (2,)
        for path in ("a//b", "/a", ".", "a/./b", "", "a/b/c"):
            with pytest.raises(ParseError, match=f"is damaged: '{path}' is not there"):
                h5._inside(file, path)
        for path in ("soft", "other", "a/none"):
            with pytest.raises(ParseError, match=f"'{path}' is a link to another place"):
                h5._inside(file, path)


# ------------------------------------------------------------------------------------------------ others


def test_a_safetensors_says_who_wrote_it_and_begins_at_a_multiple_of_8(tmp_path):
    from safetensors import safe_open

    path = tmp_path / "x.safetensors"
    formats.save(load(CASE), path)
    with safe_open(path, "np") as file:
        assert file.metadata() == {"format": "caffe2tf", "layout": "keras"}
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] % 8 == 0


def test_a_folder_of_finetune_without_its_model(tmp_path):
    said = json.loads(notes.to_json(load(CASE)))["preprocessing"]
    (tmp_path / "settings.json").write_text(json.dumps({"preprocessing": said}))
    (tmp_path / "labels.txt").write_text("cat\n\ndog\n")
    with pytest.raises(
        ParseError, match=r"holds neither best\.keras nor best\.npz with deploy\.prototxt, so there is no"
    ):
        _trained.found(str(tmp_path))
    (tmp_path / "best.npz").write_bytes(b"")  # without a text
    with pytest.raises(ParseError, match="so there is no model in it"):
        _trained.found(str(tmp_path))
    (tmp_path / "deploy.prototxt").write_bytes(b"")
    made = _trained.found(str(tmp_path))
    assert (made.weights, made.labels) == (str(tmp_path / "best.npz"), ("cat", "dog"))
    assert _trained.found(str(tmp_path / "best.npz")).weights == str(tmp_path / "best.npz")
    (tmp_path / "last.h5").write_bytes(b"")
    known = _trained.found(str(tmp_path / "last.h5"), str(tmp_path / "deploy.prototxt"))
    assert (known.weights, known.text) == (str(tmp_path / "last.h5"), str(tmp_path / "deploy.prototxt"))
    for other in ("first.npz", "best.caffemodel", "best.keras"):
        assert _trained.found(str(tmp_path / other)) is None
    assert _trained.found(str(tmp_path / "best.npz"), "other.prototxt") is None
    assert _trained.found(str(tmp_path.parent)) is None
    (tmp_path / "best.npz").unlink()
    (tmp_path / "best.keras").write_bytes(b"")
    assert _trained.found(str(tmp_path)).weights is None
    (tmp_path / "labels.txt").write_bytes(b"\xff")
    with pytest.raises(ParseError, match=r"labels\.txt: cannot be read as labels"):
        _trained.found(str(tmp_path))
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ParseError, match=r"settings\.json: is not what finetune writes"):
        _trained.found(str(tmp_path))


def test_formats_say_which_of_them_load_tensorflow():
    assert {name for name in formats.names() if formats.talks(name)} == {
        "ckpt",
        "keras",
        "onnx",
        "savedmodel",
        "tflite",
    }


def test_a_note_is_the_network_again(tmp_path):
    """Its text, labels, name, chosen blobs and how pictures become its input."""
    data = 'layer { name: "d" type: "Data" top: "data" transform_param { crop_size: 3 scale: 0.25 mean_value: 7 } }'
    text = (
        f'name: "small" {data}'
        + layer("ReLU", tops=["r"], name="r")
        + layer("Bias", bottoms=["r"], tops=["b"], name="b")
    )
    text += layer("TanH", bottoms=["b"], tops=["t"], name="t")
    net = loading.load(*make(tmp_path, text, {"b": [(3,)]}), outputs=["b"], input_shape={"data": (1, 3, 3, 3)})
    net = replace(net, labels=("cat", "dog"))
    for made in (net, preprocess.changed(net, scale=0.5, mean=(1, 2, 3))):
        noted = json.loads(_note.of(made))
        assert set(noted) == {"preprocessing", "source", "name", "prototxt", "labels", "outputs"}
        again = _note.network(noted, "x.keras")
        assert (again.name, again.labels, again.outputs) == ("small", ("cat", "dog"), ["b"])
        assert [node.layer.type for node in again.nodes] == [node.layer.type for node in net.nodes]
        assert preprocess.of(again)[0] == preprocess.of(made)[0]
        assert not again.arrays
        assert again.inputs == {"data": (1, 3, 3, 3)}
    assert set(json.loads(_note.of(replace(net, labels=(), chosen=())))) == {
        "preprocessing",
        "source",
        "name",
        "prototxt",
    }
    given = Pictures(preprocess.of(net)[0], ("cat", "dog", "bird"))
    assert json.loads(_note.of(net, given=given))["labels"] == ["cat", "dog", "bird"]
    assert "prototxt" not in json.loads(_note.of(net, given=given))
    (example,) = _reload.example(net, given)
    assert (example.dtype, example.ndim, example.shape[3]) == (np.uint8, 4, 3)
    assert example.shape[1:3] not in ((3, 3), example.shape[2:0:-1])
    with pytest.raises(ParseError, match=r"x\.keras: does not hold its network text"):
        _note.network({"preprocessing": {}}, "x.keras")
