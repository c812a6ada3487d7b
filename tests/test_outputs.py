"""A network cut to some of its blobs: `--outputs`, `load(..., outputs=...)`, `Net.cut`."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import caffe2tf
from caffe2tf.errors import NetError, UnsupportedLayer, WeightMismatch
from caffe2tf.verification import golden as goldens
from tests.helpers import GOLDEN, inputs, layer, make, run

CONV = "convolution_param {{ num_output: {} kernel_size: 3 pad: 1 }}"
ONE = "convolution_param {{ num_output: {} kernel_size: 1 }}"
TAIL = ("Magic", "", ["rpn_cls_prob_reshape", "rpn_bbox_pred", "im_info"], ["rois"], "proposal")


def rpn(tail: tuple = TAIL, image: str = inputs(data=(1, 3, 8, 9)), info: str = inputs(im_info=(1, 3))) -> str:
    """A small region proposal network, whose layer `tail` is not supported, and a head behind it."""
    text = image + info
    text += layer("Convolution", CONV.format(4), ["data"], ["conv1"], "conv1")
    text += layer("ReLU", "", ["conv1"], ["conv1"], "relu1")
    text += layer("Convolution", CONV.format(5), ["conv1"], ["rpn"], "rpn_conv")
    text += layer("ReLU", "", ["rpn"], ["rpn"], "rpn_relu")
    text += layer("Convolution", ONE.format(6), ["rpn"], ["rpn_cls_score"], "rpn_cls_score")
    text += layer("Convolution", ONE.format(12), ["rpn"], ["rpn_bbox_pred"], "rpn_bbox_pred")
    shape = "reshape_param {{ shape {{ dim: 0 dim: {} dim: -1 dim: 0 }} }}"
    text += layer("Reshape", shape.format(2), ["rpn_cls_score"], ["score2"], "score2")
    text += layer("Softmax", "", ["score2"], ["rpn_cls_prob"], "rpn_cls_prob")
    text += layer("Reshape", shape.format(6), ["rpn_cls_prob"], ["rpn_cls_prob_reshape"], "reshape6")
    text += layer(*tail)
    text += layer(
        "ROIPooling",
        "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 1 }",
        ["conv1", "rois"],
        ["roi_pool"],
        "roi_pool",
    )
    return text + layer("InnerProduct", "inner_product_param { num_output: 7 }", ["roi_pool"], ["fc"], "fc")


WEIGHTS = {
    "conv1": [(4, 3, 3, 3), (4,)],
    "rpn_conv": [(5, 4, 3, 3), (5,)],
    "rpn_cls_score": [(6, 5, 1, 1), (6,)],
    "rpn_bbox_pred": [(12, 5, 1, 1), (12,)],
    "fc": [(7, 16), (7,)],
}
ENDS = ["rpn_cls_prob_reshape", "rpn_bbox_pred"]
DATA = {"data": np.random.RandomState(3).uniform(-1, 1, (1, 3, 8, 9))}


@pytest.fixture
def files(tmp_path):
    return make(tmp_path, rpn(), WEIGHTS)


@pytest.fixture
def whole(tmp_path):
    """The same network, with an Eltwise in the place of what is not supported."""
    (tmp_path / "whole").mkdir()
    text = rpn(("Eltwise", "", ["im_info", "im_info"], ["rois"], "proposal")).replace('["im_info"]', "")
    text = text.replace("dim: 1 dim: 3 }", "dim: 1 dim: 5 }")
    return caffe2tf.load(*make(tmp_path / "whole", text, WEIGHTS))


def test_the_refusal_says_what_is_still_to_be_had(files):
    with pytest.raises(UnsupportedLayer) as caught:
        caffe2tf.load(*files)
    assert caught.value.outputs == ("rpn_bbox_pred", "rpn_cls_prob_reshape")
    lines = str(caught.value).splitlines()
    assert lines == [
        "layer 'proposal': type 'Magic' is not supported",
        "still to be had with `outputs` rpn_bbox_pred,rpn_cls_prob_reshape",
    ]
    told = run("convert", *files, code=1).stderr
    assert "caffe2tf: still to be had with --outputs rpn_bbox_pred,rpn_cls_prob_reshape\n" in told
    told = run("inspect", *files, code=1).stdout
    assert told.endswith("still to be had with --outputs rpn_bbox_pred,rpn_cls_prob_reshape\n")
    found = json.loads(run("inspect", *files, "--json", code=1).stdout)["files"][0]
    assert found["unsupported"] == lines[:1]
    assert found["possible_outputs"] == ["rpn_bbox_pred", "rpn_cls_prob_reshape"]


def test_what_is_kept_is_equal_to_the_whole_network(files, whole):
    net = caffe2tf.load(*files, outputs=ENDS)
    assert net.outputs == ENDS
    assert list(net.inputs) == ["data"]
    assert set(net.arrays) == set(WEIGHTS) - {"fc"}
    assert not any("proposal" in note or "left out" in note for note in net.notes)
    expected = caffe2tf.forward(whole, {**DATA, "im_info": np.zeros((1, 5))})
    found = caffe2tf.forward(net, DATA)
    assert set(found) == set(expected) - {"im_info", "rois", "roi_pool", "fc"}
    for blob, value in found.items():
        np.testing.assert_array_equal(value, expected[blob])
    cut = whole.cut(ENDS)
    assert (cut.outputs, list(cut.inputs), set(cut.arrays)) == (ENDS, ["data"], set(net.arrays))
    assert cut.text() == net.text()
    model = caffe2tf.to_keras(whole, ENDS)
    assert [list(one.shape)[1:] for one in model.outputs] == [[8, 9, 6], [8, 9, 12]]
    assert len(model.inputs) == 1


def test_a_blob_that_others_read_can_be_an_output_and_what_nobody_asked_for_is_none(files, tmp_path):
    net = caffe2tf.load(*files, outputs=["conv1", "rpn_bbox_pred", "conv1"])
    assert net.outputs == ["conv1", "rpn_bbox_pred"]
    assert [one.name for one in caffe2tf.to_keras(net).outputs]
    assert caffe2tf.from_keras(caffe2tf.to_keras(net), net).outputs == net.outputs
    text = inputs(data=(1, 4, 2, 2)) + layer("Slice", "", ["data"], ["a", "b"], "slice")
    net = caffe2tf.load(make(tmp_path, text)[0], outputs="a")
    assert net.outputs == ["a"]
    assert not isinstance(caffe2tf.to_keras(net).output, list)


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5", "safetensors", "caffemodel"])
def test_files_hold_the_kept_part_alone(suffix, files, tmp_path):
    out = tmp_path / f"cut.{suffix}"
    run("convert", *files, "--outputs", ",".join(ENDS), "-o", out)
    kept = set(WEIGHTS) - {"fc"}
    if suffix == "caffemodel":
        net = caffe2tf.load(out)  # nothing in it but the kept part
        assert (net.outputs, list(net.inputs)) == (ENDS[::-1], ["data"])
    else:
        net = caffe2tf.load(files[0], out, outputs=ENDS)
    assert set(net.arrays) == kept
    expected = caffe2tf.load(*files, outputs=ENDS)
    for name in kept:
        for one, other in zip(net.arrays[name], expected.arrays[name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_weights_of_a_whole_network_are_cut_too(whole, tmp_path):
    caffe2tf.save(whole, str(tmp_path / "whole.npz"))
    text = tmp_path / "whole" / "net.prototxt"
    assert set(caffe2tf.load(text, tmp_path / "whole.npz", outputs="rpn").arrays) == {"conv1", "rpn_conv"}


@pytest.mark.slow
def test_whole_models_hold_the_kept_part_alone(files, tmp_path):
    import keras
    import tensorflow as tf

    outs = [tmp_path / "cut.keras", tmp_path / "cut.tflite", f"{tmp_path}/cut/"]
    run("convert", *files, "--outputs", ",".join(ENDS), *(word for out in outs for word in ("-o", out)))
    expected = caffe2tf.forward(caffe2tf.load(*files, outputs=ENDS), DATA)
    given = DATA["data"].transpose(0, 2, 3, 1).astype(np.float32)
    found = keras.models.load_model(outs[0])(given)
    for blob, value in zip(ENDS, found, strict=True):
        np.testing.assert_allclose(value.numpy().transpose(0, 3, 1, 2), expected[blob], rtol=1e-5, atol=1e-6)
    signature = tf.saved_model.load(outs[2]).signatures["serving_default"]
    assert set(signature.structured_outputs) == set(ENDS)
    assert len(tf.lite.Interpreter(model_path=str(outs[1])).get_output_details()) == 2


def test_names_that_are_not_there_are_refused_in_one_line(files):
    with pytest.raises(NetError, match=r"^no blobs 'rpn_cls_scores', 'zzzz'; nearest: rpn_cls_score, .*$"):
        caffe2tf.load(*files, outputs=["rpn_cls_scores", "conv1", "zzzz"])
    with pytest.raises(NetError, match=r"^no blob 'conv'; nearest: conv1"):
        caffe2tf.load(*files, outputs="conv")
    told = run("convert", *files, "--outputs", "rpn_cls_scores", code=1).stderr
    assert told.startswith("caffe2tf: no blob 'rpn_cls_scores'; nearest: rpn_cls_score")
    assert told.count("\n") == 1
    assert "names of blobs" in run("convert", *files, "--outputs", "a,,b", code=2).stderr
    for none in ([], 3, "", [""], ["conv1", 3], [b"conv1"]):
        with pytest.raises(caffe2tf.Caffe2TFError, match="takes names of blobs"):
            caffe2tf.load(*files, outputs=none)


def test_an_output_that_needs_the_layer_is_refused(files):
    with pytest.raises(UnsupportedLayer, match="'Magic'") as caught:
        caffe2tf.load(*files, outputs=["fc"])
    assert caught.value.outputs == ("rpn_bbox_pred", "rpn_cls_prob_reshape")


def test_shapes_are_asked_of_the_inputs_that_stay_alone(tmp_path):
    nothing = 'layer {{ name: "{0}" type: "Input" top: "{0}" }}'
    prototxt = make(tmp_path, rpn(image=nothing.format("data"), info=nothing.format("im_info")))[0]
    net = caffe2tf.load(prototxt, input_shape={None: (1, 3, 8, 9)}, outputs=ENDS)
    assert net.inputs == {"data": (1, 3, 8, 9)}
    net = caffe2tf.load(prototxt, input_shape={"data": (1, 3, 8, 9), "im_info": (1, 3)}, outputs=ENDS)
    assert "the shape given for 'im_info' has no effect: no layer that stays reads it" in net.notes
    run("inspect", prototxt, "--input-shape", "1,3,8,9", "--outputs", ",".join(ENDS))


def test_an_input_layer_keeps_the_tops_that_are_read(tmp_path):
    text = (
        'layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 1 dim: 2 } shape { dim: 1 dim: 3 } } }'
        + layer("ReLU", "", ["b"], ["c"], "relu")
        + layer("Magic", "", ["a"], ["d"], "magic")
    )
    net = caffe2tf.load(make(tmp_path, text)[0], outputs=["c"])
    assert net.inputs == {"b": (1, 3)}


# ------------------------------------------------------------------------------------------------ versions of a blob


def chain(*layers: str) -> str:
    return inputs(data=(1, 2, 3, 4)) + "".join(layers)


def test_a_blob_is_meant_as_the_last_layer_leaves_it(tmp_path):
    text = chain(
        layer("Power", "power_param { shift: -0.5 }", ["data"], ["x"], "power"),
        layer("ReLU", "", ["x"], ["x"], "relu"),
        layer("Magic", "", ["x"], ["y"], "magic"),
    )
    net = caffe2tf.load(make(tmp_path, text)[0], outputs="x")
    given = np.linspace(-1, 1, 24).reshape(1, 2, 3, 4)
    np.testing.assert_allclose(caffe2tf.forward(net, {"data": given})["x"], np.maximum(given - 0.5, 0), atol=1e-6)


def test_what_is_changed_through_shared_memory_is_meant_too(tmp_path):
    text = chain(
        layer("Power", "power_param { shift: -0.5 }", ["data"], ["x"], "power"),
        layer("Flatten", "", ["x"], ["flat"], "flatten"),
        layer("ReLU", "", ["flat"], ["flat"], "relu"),
        layer("AbsVal", "", ["x"], ["after"], "after"),
    )
    whole = caffe2tf.load(make(tmp_path, text)[0])
    given = {"data": np.linspace(-1, 1, 24).reshape(1, 2, 3, 4)}
    expected = caffe2tf.forward(whole, given)
    assert (expected["x"] >= 0).all()
    for blob in ("x", "after"):
        found = caffe2tf.forward(caffe2tf.load(tmp_path / "net.prototxt", outputs=blob), given)
        np.testing.assert_array_equal(found[blob], expected[blob])


def test_a_blob_that_an_unsupported_layer_changes_in_place_is_meant_before_it(tmp_path):
    text = chain(
        layer("Power", "power_param { shift: -0.5 }", ["data"], ["x"], "power"),
        layer("Magic", "", ["x"], ["x"], "magic"),
        layer("ReLU", "", ["x"], ["x"], "relu"),
    )
    prototxt = make(tmp_path, text)[0]
    with pytest.raises(UnsupportedLayer) as caught:
        caffe2tf.load(prototxt)
    assert caught.value.outputs == ("x",)
    net = caffe2tf.load(prototxt, outputs="x")
    assert [node.layer.name for node in net.nodes] == ["data", "power"]
    assert [note for note in net.notes if "before layer 'magic' (Magic)" in note]


def test_phases_and_losses_come_before_the_cut(tmp_path):
    text = (
        inputs(data=(1, 2), label=(1,))
        + layer("Magic", "include { phase: TRAIN }", ["data"], ["x"], "train")
        + layer("ReLU", "include { phase: TEST }", ["data"], ["x"], "test")
        + layer("SoftmaxWithLoss", "", ["x", "label"], ["loss"], "loss")
        + layer("Silence", "", ["x"], [], "quiet").replace("top", "top")
    )
    prototxt = make(tmp_path, text)[0]
    net = caffe2tf.load(prototxt, outputs=["prob"])
    assert [node.layer.type for node in net.nodes] == ["Input", "ReLU", "Softmax"]
    with pytest.raises(NetError, match="no blob 'loss'"):
        caffe2tf.load(prototxt, outputs=["loss"])


# ------------------------------------------------------------------------------------------------ weights


def shared(first: str = "w", other: str = "w") -> str:
    product = 'inner_product_param {{ num_output: 3 }} param {{ name: "{}" }} param {{ name: "b" }}'
    return inputs(a=(1, 2), b=(1, 2)) + "".join(
        layer("InnerProduct", product.format(name), [bottom], [top], top)
        for bottom, top, name in (("a", "one", first), ("b", "two", other))
    )


@pytest.mark.parametrize("stored", [["one"], ["one", "two"], ["two", "one"], ["two"]])
def test_shared_parameters_are_those_of_the_whole_network(stored, tmp_path):
    """Also where the layer that has them in the file is left out."""
    net = caffe2tf.caffe.caffe_pb2.NetParameter()
    random = np.random.RandomState(0)
    for name in stored:
        item = net.layer.add(name=name, type="InnerProduct")
        for extents in ((3, 2), (3,)):
            blob = item.blobs.add()
            blob.shape.dim.extend(extents)
            blob.data.extend(random.uniform(-1, 1, extents).ravel())
    (tmp_path / "net.caffemodel").write_bytes(net.SerializeToString())
    (tmp_path / "net.prototxt").write_text(shared())
    files = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    whole = caffe2tf.load(*files)
    for name in ("one", "two"):
        cut = caffe2tf.load(*files, outputs=name)
        for found, expected in zip(cut.arrays[name], whole.arrays[name], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_layer_whose_other_parameters_no_file_has_is_refused(tmp_path):
    text = shared().replace('param { name: "b" }', "param { lr_mult: 1 }")
    prototxt, model = make(tmp_path, text, {"one": [(3, 2), (3,)]})
    with pytest.raises(WeightMismatch, match=r"layer 'two' .*shares parameters with a layer that `outputs` leaves out"):
        caffe2tf.load(prototxt, model, outputs="two")


def test_of_two_layers_of_a_name_the_first_has_the_weights(tmp_path):
    product = "inner_product_param { num_output: 2 }"
    text = inputs(a=(1, 2)) + layer("InnerProduct", product, ["a"], ["x"], "ip")
    files = make(tmp_path, text, {"ip": [(2, 2), (2,)]})
    (tmp_path / "net.prototxt").write_text(text + layer("InnerProduct", product, ["a"], ["y"], "ip"))
    assert not caffe2tf.load(*files).arrays["ip_1"][0].any()
    assert caffe2tf.load(*files, outputs="x").arrays["ip"][0].any()
    with pytest.raises(WeightMismatch):  # the file has none for the second
        caffe2tf.load(*files, outputs="y")


def test_folding_keeps_what_was_asked_for(tmp_path):
    text = chain(
        layer("Convolution", ONE.format(3), ["data"], ["c"], "conv"),
        layer("BatchNorm", "", ["c"], ["n"], "norm"),
        layer("Scale", "", ["n"], ["s"], "scale"),
    )
    weights = {"conv": [(3, 2, 1, 1), (3,)], "norm": [np.ones(3), np.ones(3), np.ones(1)], "scale": [(3,)]}
    files = make(tmp_path, text, weights)
    for outputs, names in ((["c", "s"], "conv norm scale"), (["n", "s"], "conv scale"), (["s"], "conv")):
        net = caffe2tf.load(*files, outputs=outputs)
        folded, _ = caffe2tf.fold(net)
        assert [node.layer.name for node in folded.nodes][1:] == names.split()
        given = {"data": np.random.RandomState(0).uniform(-1, 1, (1, 2, 3, 4))}
        expected, found = caffe2tf.forward(net, given), caffe2tf.forward(folded, given)
        for blob in outputs:
            np.testing.assert_allclose(found[blob], expected[blob], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------ the commands


def test_every_command_that_loads_a_network_takes_outputs():
    for words in (
        ["convert"],
        ["inspect"],
        ["verify"],
        ["classify"],
        ["finetune"],
        *(["visualize", w] for w in ("all", "graph")),
    ):
        assert "--outputs BLOB,..." in run(*words, "--help").stdout, words


def test_verify_of_a_part(tmp_path):
    golden = GOLDEN / "layers" / "ip_chain"
    files = [golden / "net.prototxt", golden / "net.caffemodel"]
    blob = caffe2tf.load(*files).nodes[1].tops[0][0]
    told = run("verify", *files, "--golden", golden, "--outputs", blob).stdout
    assert "PASS" in told
    assert told.count(" ok") == 1
    whole = caffe2tf.load(*files)
    known = dataclasses.replace(goldens.load(golden), weights=goldens.weight_digests(whole))
    assert caffe2tf.verify(whole.cut(blob), known).passed  # of a layer that is gone no weight is missed
    lacking = dataclasses.replace(known, weights={**known.weights, "absent": []})
    assert caffe2tf.verify(whole, lacking).changed_weights == ("absent",)


def test_graph_and_classify_of_a_part(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("visualize", "graph", *files, "--outputs", "rpn", "-o", "part.svg")
    drawn = (tmp_path / "part.svg").read_text()
    assert "rpn_conv" in drawn
    assert "proposal" not in drawn
    Image.new("RGB", (8, 8)).save("x.png")
    (tmp_path / "net.keras").write_bytes(b"PK")
    told = run("classify", "net.keras", "x.png", "--outputs", "prob", code=1).stderr
    assert "is a whole model, which cannot be cut; --outputs is for" in told


@pytest.mark.slow
def test_finetune_places_its_head_on_the_part(here):
    """Of a network with a second branch, which is not supported, behind the head that is to be replaced."""
    import keras

    text = (here / "net.prototxt").read_text()
    (here / "net.prototxt").write_text(text + layer("Magic", "", ["h"], ["magic"], "magic"))
    words = ["--layers", "fc8", "--data", "train", "--epochs", "1", "--input-shape", "1,3,12,12", "-q"]
    told = run("finetune", "net.caffemodel", "net.prototxt", *words, code=1).stderr
    assert "type 'Magic' is not supported" in told
    run("finetune", "net.caffemodel", "net.prototxt", "--outputs", "prob", *words)
    assert 'outputs = "prob"' in (here / "finetuned" / "recipe.toml").read_text()
    assert "magic" not in (here / "finetuned" / "deploy.prototxt").read_text()
    assert keras.models.load_model("finetuned/best.keras").output.shape == (None, 3)
    run("finetune", "--recipe", "finetuned/recipe.toml", "--out", "again", "-q")
    told = run("finetune", "net.caffemodel", "net.prototxt", "--outputs", "p", "--out", "p", *words, code=1).stderr
    assert told.startswith("caffe2tf: the output 'p' is of layer 'pool'")


def test_what_is_at_fault_is_not_offered(tmp_path):
    text = chain(
        layer("Power", "", ["data"], ["fine"], "fine"),
        layer("LRN", "lrn_param { local_size: 4 }", ["data"], ["even"], "lrn"),
        layer("Power", "", ["even"], ["behind"], "behind"),
        layer("Power", "", ["nowhere"], ["lacks"], "lacks"),
        layer("Magic", "", ["fine"], ["top"], "magic"),
    )
    with pytest.raises(UnsupportedLayer) as caught:
        caffe2tf.load(make(tmp_path, text)[0])
    assert caught.value.outputs == ("fine",)
    assert str(caught.value).count("\n") == 3
