"""Values at the edges of what is taken: of settings, solvers, checkpoints, lists, old layers, blobs, golden sets."""

import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest
import requests

from caffe2tf import loading
from caffe2tf.caffe import caffe_pb2, legacy, read, solver
from caffe2tf.classification import lists
from caffe2tf.errors import NetError, ParseError
from caffe2tf.files import renames
from caffe2tf.finetuning import plan, takes, telling
from caffe2tf.finetuning.checkpoint import LAYOUT, Checkpoint
from caffe2tf.images import preprocess, said
from caffe2tf.samples import download
from caffe2tf.verification import golden, predictions
from caffe2tf.verification.sets import Expected, Golden, GoldenError
from tests.helpers import GOLDEN, inputs, layer, load, make, parameter

# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("take", "good", "bad"),
    [
        (takes.names, ["a", "a,b", ["a"]], ["", [], ["a", ""], [3], "a,,b", 3]),
        (takes.text, ["x", 3, 0.5], ["", True, None, ["x"]]),
        (takes.flag, ["true", False, "FALSE"], ["yes", 1, None]),
        (
            takes.shares,
            ["0.5,0.5", [0.8, 0.1, 0.1], (0.75, 0.25)],
            ["1", "0.5,0.6", "1,0", [0.25] * 4, "x,y", "1.5,-0.5"],
        ),
        (takes.cache, ["memory", "none", "disk:x"], ["disk:", "disk", 3]),
        (said._extents, ["none", "227", "256x227", 5, [4, 5]], ["", "0", "1x2x3", "a", "65537", "-1", [1.5, 2]]),
        (said._mean, ["none", "x.npy", "1,2,3", 7, (1, 2)], ["", "a", [], "nan", float("inf")]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_setting_takes(take, good, bad):
    for given in good:
        take(given)
    for given in bad:
        with pytest.raises((ValueError, TypeError, AttributeError)):  # what the caller takes for a refusal
            take(given)


@pytest.mark.parametrize(
    ("count", "told"),
    [(0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")],
)  # fmt: skip
def test_how_long_something_takes(count, told):
    assert telling.seconds(count) == told


# ------------------------------------------------------------------------------------------------ solvers

SOLVER = 'net: "x" base_lr: 0.1 max_iter: 9 lr_policy: "multistep" gamma: 0.5 stepvalue: 3 stepvalue: 3 momentum: 0.5 '


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SOLVER + 'solver_type: SGD type: "SGD"', "has both solver_type and type"),
        (SOLVER + 'train_net: "y"', "names several networks (net and train_net)"),
        (SOLVER.replace('net: "x"', "net_param {}"), "net_param holds the network itself; put it into a file"),
        (SOLVER.replace("stepvalue: 3 ", "stepvalue: 4 ", 1), "stepvalue [4, 3]; takes iterations in rising order"),
        (SOLVER + "train_state { level: 1 }", "train_state chooses layers by stage or level"),
        (SOLVER + 'train_state { stage: "a" }', "train_state chooses layers by stage or level"),
        (SOLVER + 'type: "AdaGrad"', "momentum 0.5 with AdaGrad; Caffe takes none there"),
        (SOLVER + 'regularization_type: "L3"', 'regularization_type "L3"; takes one of L2, L1'),
        (SOLVER.replace("gamma: 0.5 ", ""), 'lr_policy "multistep" without gamma'),
        (SOLVER.replace("momentum: 0.5", "momentum: 1"), "momentum 1; takes a number from 0 to below 1"),
    ],
)
def test_a_solver_that_caffe_refuses(text, why, tmp_path):
    (tmp_path / "s.prototxt").write_text(text)
    with pytest.raises(ParseError) as caught:
        solver.read_solver(tmp_path / "s.prototxt")
    assert str(caught.value).removeprefix(f"{tmp_path}/s.prototxt: ").startswith(why)


def test_a_solver_of_a_training_network_alone(tmp_path):
    (tmp_path / "s.prototxt").write_text(
        SOLVER.replace("net:", "train_net:") + "train_state { phase: TRAIN } solver_type: ADAM"
    )
    found = solver.read_solver(tmp_path / "s.prototxt")
    assert (found.net, found.type) == ("x", "Adam")


DATA = 'layer { name: "d" type: "Data" top: "x" data_param { batch_size: 7 } transform_param { scale: 2 } %s }'


@pytest.mark.parametrize(
    ("text", "batch", "scale"),
    [
        (DATA % "", 7, 2),
        (DATA % "include { phase: TEST }", None, 1),
        (DATA % "exclude { phase: TRAIN }", None, 1),
        (DATA % "exclude { phase: TEST }", 7, 2),
        (DATA % "include { stage: 'a' }", 7, 2),
        (DATA % "include { phase: TEST }" + DATA % "include { phase: TRAIN }", 7, 2),
        (inputs(data=(5, 2)), 5, 1),
        (inputs(data=(1, 2)), None, 1),
        ('layer { name: "i" type: "Input" top: "x" }' + DATA % "", 7, 2),
        (layer("ReLU"), None, 1),
    ],
)  # fmt: skip
def test_what_the_data_layer_of_the_training_says(text, batch, scale, tmp_path):
    (tmp_path / "net.prototxt").write_text(text)
    found = solver.training_input(tmp_path / "net.prototxt")
    assert (found.batch, found.transform.scale) == (batch, scale)


# ------------------------------------------------------------------------------------------------ checkpoints

PLACE = {"stage": 1, "epoch": 0, "step": 0, "loss": 0.0, "right": 0, "seen": 0}


def test_a_checkpoint_without_a_folder_keeps_nothing():
    keep = Checkpoint("")
    keep.save("last", [np.zeros(3)], {})
    assert keep.load("last") is None
    assert not keep.begun()
    keep.need(["last"])
    keep.remove()
    with keep.alone():
        pass


@pytest.mark.parametrize("arrays", [{"0": np.zeros(1)}, {"note": np.zeros(2, "u1"), "1": np.zeros(1)}])
def test_a_checkpoint_that_lacks_a_part(arrays, tmp_path):
    keep = Checkpoint(str(tmp_path))
    keep.save("last", [np.zeros(3)], {})
    np.savez(keep._path("last"), **arrays)
    with pytest.raises(ParseError, match=r"is damaged \(it lacks its note or an array\); start anew with -f"):
        keep.load("last")


def test_a_checkpoint_of_another_layout_is_not_gone_on_with(tmp_path):
    keep, note = Checkpoint(str(tmp_path)), {"place": PLACE, "history": [], "good_steps": 0}
    keep.save("last", [np.zeros(3)], note)
    with pytest.raises(ParseError, match="is of another version of caffe2tf, whose arrays mean something else"):
        keep.last()
    keep.save("last", [np.zeros(3)], {"layout": LAYOUT, **note})
    assert keep.last()[1]["place"] == PLACE


# ------------------------------------------------------------------------------------------------ lists


@pytest.mark.parametrize(
    ("head", "columns"),
    [("path,label", (0, 1)), ("label,file", (1, 0)), ("a.png,3", None), ("path,x", (0, 1)), ("x,path", (1, 0)), ("x,label", (0, 1)),
     ("label,x", (1, 0)), ("id,label,path", (2, 1))],
)  # fmt: skip
def test_which_columns_of_a_table_are_meant(head, columns):
    assert lists._columns("x.csv", head.split(",")) == columns


def test_a_line_is_cut_wherever_it_can_be():
    assert list(lists._cut("a b\tc d")) == [("a b", "c d"), ("a b\tc", "d"), ("a", "b\tc d")]
    assert list(lists._cut(" x ")) == []
    assert lists._table("x.csv", " \n,\n") == []


# ------------------------------------------------------------------------------------------------ old layers and blobs


def test_old_layers_that_caffe_does_not_have():
    def made(text):
        return legacy.layers(parameter(text).layers)

    for text, why in (
        ("layers { name: 'a' type: NONE }", "layer 'a' has the type NONE, which Caffe cannot run"),
        ("layers { name: 'a' }", "layer 'a' has no type"),
        ("layers { layer { name: 'a' type: 'warp' } }", "layer 'a' has the V0 type 'warp', which Caffe does not have"),
        ("layers { bottom: 'a' layer { name: 'p' type: 'padding' pad: 1 } }", r"'p' \(padding\): 1 bottoms and 0 tops; takes one"),
        ("layers { bottom: 'a' top: 'b' layer { name: 'p' type: 'padding' pad: 1 } } layers { bottom: 'b' top: 'c' layer { name: 'r' "
         "type: 'relu' } }", r"layer 'r' \(ReLU\) reads the padding layer 'p'; only Convolution and Pooling can"),
    ):  # fmt: skip
        with pytest.raises(NetError, match=why):
            made(text)
    (data,) = made(
        "layers { top: 'x' layer { name: 'd' type: 'data' scale: 0.5 meanfile: 'm' cropsize: 3 mirror: true } }"
    )
    told = data.transform_param
    assert (told.scale, told.mean_file, told.crop_size, told.mirror) == (0.5, "m", 3, True)
    (conv,) = made(
        "layers { bottom: 'x' top: 'y' type: CONVOLUTION blobs_lr: 2 weight_decay: 3 weight_decay: 4 param: 'k' }"
    )
    assert [(spec.lr_mult, spec.decay_mult, spec.name) for spec in conv.param] == [(2, 3, "k"), (1, 4, "")]


def test_blobs_and_means_of_another_form(tmp_path):
    def model(blob):
        net = caffe_pb2.NetParameter()
        net.layer.add(name="a", type="InnerProduct").blobs.append(blob)
        return net.SerializeToString()

    bad = caffe_pb2.BlobProto(raw_data=bytes(8), raw_data_type=caffe_pb2.INT8 if hasattr(caffe_pb2, "INT8") else 4)
    (tmp_path / "x").write_bytes(model(bad))
    with pytest.raises(ParseError, match=r"holds raw_data of type .*; FLOAT16, FLOAT and DOUBLE are read"):
        read.read_caffemodel(tmp_path / "x")
    (tmp_path / "x").write_bytes(caffe_pb2.NetParameter(input=["a"]).SerializeToString())
    with pytest.raises(ParseError, match=r"holds no layers, so it is not a \.caffemodel"):
        read.read_caffemodel(tmp_path / "x")
    for shape in ((1, 3, 4), (2, 3, 4, 4)):
        blob = caffe_pb2.BlobProto(data=[0.0] * int(np.prod(shape)))
        blob.shape.dim.extend(shape)
        (tmp_path / "x").write_bytes(blob.SerializeToString())
        with pytest.raises(ParseError, match=r"holds an array of shape .*, expected a mean image \(1, C, H, W\)"):
            read.read_mean(tmp_path / "x")


def test_a_mean_that_is_none():
    for mean in (np.zeros((3, 4)), np.zeros((2, 1, 1))):
        with pytest.raises(ParseError, match=r"a mean of shape \(.*\) for 3 channels"):
            preprocess.Preprocessing(mean=mean.astype(np.float32)).check(None)
    with pytest.raises(ParseError, match="crop 5 x 4 of a picture of 4 x 4"):
        preprocess.Preprocessing(crop=(5, 4)).check((4, 4))


# ------------------------------------------------------------------------------------------------ golden sets


def test_arrays_of_a_golden_set_that_do_not_belong_together():
    values, index, norm = np.zeros((2, 3)), np.array([0, 1, 5]), np.zeros(2)
    whole = np.zeros((2, 6), np.float32)
    assert Expected(values, index, norm).fits(whole)
    assert Expected(values).fits(np.zeros(1, np.float32))
    assert Expected(values, None, norm).fits(whole)
    for wrong, found in (
        (Expected(values, index, norm), np.zeros((3, 6), np.float32)),
        (Expected(values, index, norm), np.float32(1)),
        (Expected(values, index, np.zeros(3)), whole),
        (Expected(values, index[:2], norm), whole),
        (Expected(values, index.astype(float), norm), whole),
        (Expected(values, np.array([0, 1, 6]), norm), whole),
        (Expected(values, np.array([-1, 1, 2]), norm), whole),
        (Expected(values, index[None], norm), None),
        (Expected(np.float32(1), index), None),
    ):
        assert not wrong.fits(found)


def test_predictions_that_are_of_another_output():
    found = {"prob": np.full((1, 4), 0.25, np.float32)}
    assert predictions.generated(Golden("g", ""), found) == []
    with pytest.raises(GoldenError, match="golden set 'g': its output 'prob' is no blob that it holds"):
        predictions.generated(Golden("g", "", top5=((1,),)), found)
    blobs = {"prob": Expected(found["prob"])}
    for top in (((1,), (2,)), ((4,),), ((-1,),)):
        with pytest.raises(GoldenError, match="its predictions are not those of its output 'prob'"):
            predictions.generated(Golden("g", "", blobs=blobs, top5=top), found)
    (one,) = predictions.generated(Golden("g", "", blobs=blobs, top5=((3, 0),)), found)
    assert one.expected == ((3, 0.25), (0, 0.25))


def test_which_networks_know_nothing():
    assert not golden.knows_nothing(load(GOLDEN / "layers" / "conv_basic"))
    assert not golden.knows_nothing(load(GOLDEN / "layers" / "pool_ave_ceil"))
    with pytest.raises(GoldenError, match="no such golden folder"):
        golden.load("nothing/of/the/kind")


# ------------------------------------------------------------------------------------------------ files and addresses


def test_why_a_download_fails():
    answer = SimpleNamespace(status_code=404)
    assert download._reason(requests.exceptions.HTTPError(response=answer)) == "the server answers 404"
    assert download._reason(requests.exceptions.ReadTimeout()) == "no answer in 30 seconds"
    assert download._reason(requests.exceptions.ConnectionError()) == "no connection: offline, or the server is gone"
    assert download._reason(OSError(errno.ENOSPC, "No space")) == "No space"
    assert download._reason(requests.exceptions.InvalidURL()) == "InvalidURL"


@pytest.mark.parametrize("links", [True, False])
def test_a_system_that_cannot_rename_beside_what_is_there(links, tmp_path, monkeypatch):
    """Without renameat2 a link and an unlink, without links a look before."""

    def refuses(*given):
        raise OSError(errno.ENOTSUP, "no links")

    monkeypatch.setattr(renames, "_system_call", lambda: None)
    if not links:
        monkeypatch.setattr(os, "link", refuses)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("1")
    renames.rename_new(str(old), str(new))
    assert (old.exists(), new.read_text()) == (False, "1")
    old.write_text("2")
    with pytest.raises(FileExistsError):
        renames.rename_new(str(old), str(new))
    assert (old.read_text(), new.read_text()) == ("2", "1")
    assert not renames.exchange(str(old), str(new))


def test_heads_that_cannot_be_trained(tmp_path):
    text = (
        inputs(data=(1, 4))
        + layer("Bias", tops=["b"], name="b")
        + layer("Softmax", bottoms=["b"], tops=["prob"], name="p")
    )
    net = loading.load(*make(tmp_path, text, {"b": [(4,)]}))
    with pytest.raises(plan.PlanError, match="the head 'b' is of type Bias; takes InnerProduct or Convolution"):
        plan.with_head(net, 7)
    with pytest.raises(plan.PlanError, match="has no layer with weights"):
        plan.with_head(loading.load(make(tmp_path, inputs(data=(1, 4)) + layer("Softmax"))[0]), 7)
    text = inputs(data=(1, 4)) + layer("InnerProduct", "inner_product_param { num_output: 5 }", tops=["f"], name="f")
    text += layer("ReLU", bottoms=["f"], tops=["r"], name="r") + layer(
        "Softmax", bottoms=["r"], tops=["prob"], name="p"
    )
    net = loading.load(*make(tmp_path, text, {"f": [(5, 4), (5,)]}))
    made, head, fresh = plan.with_head(net, 7)
    assert (head, fresh, [node.layer.name for node in made.nodes]) == ("f", True, ["data", "f", "p"])
    assert not any(array.any() for array in made.arrays["f"])
    assert plan.with_head(net, 7, filled=True)[0].arrays["f"][0].any()
    assert plan.with_head(net, 5) == (net, "f", False)
    with pytest.raises(plan.PlanError, match=r"`dropout` 0.5: there is no Dropout layer above what is frozen"):
        plan.make(net, "f", ["all"], dropout=0.5)
