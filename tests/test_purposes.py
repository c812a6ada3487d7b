"""What serves training in Caffe and its forks is an input, goes, or gives its bottom on."""

import pytest

from caffe2tf import loading
from caffe2tf.caffe import purposes
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers import REGISTRY
from tests.helpers import inputs, layer, make

CONV = "convolution_param { num_output: 4 kernel_size: 3 }"
TRAIN = "include { phase: TRAIN }"
DATA = inputs(data=(1, 3, 8, 8))


def load(folder, *parts, **options):
    return loading.load(make(folder, "\n".join(parts))[0], **options)


def wires(net):
    return [(node.layer.name, node.layer.type, [b for b, _ in node.bottoms]) for node in net.nodes]


def test_no_type_that_is_computed_is_taken_for_one_of_training():
    for kind, row in REGISTRY.items():
        if kind not in purposes.SINKS:
            full = LayerParameter(type=kind, bottom=["a", "b"][: row.bottom_count[1]], top=["t"])
            assert not purposes.is_sink(full), kind
            assert not purposes.draws(full), kind
            assert not purposes.is_data(LayerParameter(type=kind, top=["t"])), kind


@pytest.mark.parametrize(
    "kind", ["ImageGtData", "EvalData", "BoxData", "VideoData", "DenseImageData", "HandReader", "WebcamInput"]
)
def test_a_forks_data_layer_is_an_input(tmp_path, kind):
    data = layer(kind, "transform_param { crop_size: 8 mean_value: [1, 2, 3] }", bottoms=[], tops=["data", "gt_boxes"])
    net = load(tmp_path, data, layer("Convolution", CONV, name="c"))
    assert net.inputs == {"data": (1, 3, 8, 8)}
    assert any(f"({kind}) is an input at inference" in note for note in net.notes)


@pytest.mark.parametrize(
    "kind",
    [
        "BboxAccuracy",
        "DetectionGroupAccuracy",
        "EvalDetection",
        "SegEvaluate",
        "FocalLoss",
        "EuclideanLoss6",
        "AnchorTarget",
    ],
)
def test_what_measures_goes_and_what_is_made_of_it(tmp_path, kind):
    label = inputs(label=(1, 4, 6, 6))
    net = load(
        tmp_path,
        DATA + label,
        layer("Convolution", CONV, tops=["c"], name="c"),
        layer(kind, bottoms=["c", "label"], tops=["m", "n"], name="m"),
        layer("Eltwise", bottoms=["m", "n"], tops=["sum"], name="sum"),
    )
    assert net.outputs == ["label", "c"]
    assert [node.layer.name for node in net.nodes] == ["data", "label", "c"]


def test_a_decoder_beside_labels_is_an_accuracy(tmp_path):
    """ctc_decoder_layer.cpp of the OCR forks: with a second bottom its top is no sequence."""
    scores = inputs(scores=(5, 2, 4))
    label = layer("MemoryData", bottoms=[], tops=["label"], name="label")
    measured = layer("CTCGreedyDecoder", bottoms=["scores", "label"], tops=["accuracy"], name="measured")
    decoded = layer("CTCGreedyDecoder", bottoms=["scores"], tops=["result"], name="decoded")
    net = load(tmp_path, scores, label, measured, decoded)
    assert wires(net) == [("scores", "Input", []), ("decoded", "CTCGreedyDecoder", ["scores"])]


def test_a_layer_without_tops_goes_whatever_its_type(tmp_path):
    conv = layer("Convolution", CONV, tops=["c"], name="c")
    net = load(tmp_path, DATA, conv, layer("Printer", bottoms=["c"], tops=[], name="p"))
    assert wires(net) == [("data", "Input", []), ("c", "Convolution", ["data"])]
    assert any("'p' (Printer) has no part in inference" in note for note in net.notes)


def test_pythons_layers_of_training_by_the_name_of_their_class(tmp_path):
    def python(name, bottoms, tops):
        return layer("Python", f'python_param {{ module: "m" layer: "{name}" }}', bottoms, tops, name)

    net = load(
        tmp_path,
        DATA,
        layer("Convolution", CONV, tops=["c"], name="c"),
        python("AnchorTargetLayer", ["c"], ["rpn_labels"]),
        python("SpatialDropoutLayer", ["c"], ["d"]),
        python("RBoxLossLayer", ["d"], ["loss"]),
        layer("ReLU", bottoms=["d"], tops=["r"], name="r"),
    )
    assert [(name, kind) for name, kind, _ in wires(net)] == [
        ("data", "Input"), ("c", "Convolution"), ("SpatialDropoutLayer", "Dropout"), ("r", "ReLU")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "goes"),
    [("StrangeTargetLayer", True), ("PixelMSELayer", True), ("PixelMSE2Layer", False), ("ProposalTargetLayer", False)],
)
def test_what_makes_targets_goes_and_what_draws_them_stays(name, goes):
    one = LayerParameter(type="Python", bottom=["a"], top=["b"], python_param={"module": "m", "layer": name})
    assert purposes.is_sink(one) is goes
    assert not purposes.is_sink(LayerParameter(type=name.removesuffix("Layer"), bottom=["a"], top=["b"]))


def test_samples_of_boxes_are_the_boxes(tmp_path):
    """Of a text of the training phase alone: what draws samples gives all of them, and their labels are not read."""
    net = load(
        tmp_path,
        inputs(boxes=(2, 5)),
        layer("BoxData", TRAIN, bottoms=[], tops=["gt"], name="gt"),
        layer("ProposalTarget", TRAIN, ["boxes", "gt"], ["rois", "labels", "match"], "t"),
        layer("Concat", bottoms=["rois", "match"], tops=["out"], name="cat"),
        layer("SmoothL1Loss", TRAIN, ["out", "labels"], ["loss"], "l"),
    )
    assert wires(net) == [
        ("boxes", "Input", []), ("t", "Dropout", ["boxes"]), ("cat", "Concat", ["rois"])
    ]  # fmt: skip
    assert any("'t' (ProposalTarget) gives on 'boxes' at inference" in note for note in net.notes)


def test_samples_that_are_chosen_and_joined_leave_their_labels(tmp_path):
    """Cascade R-CNN over a pyramid, its text of training: samples by scale, their labels joined for the next stage."""
    net = load(
        tmp_path,
        inputs(boxes=(2, 5), offsets=(2, 8)),
        layer("BoxData", TRAIN, bottoms=[], tops=["gt"], name="gt"),
        layer("ProposalTarget", TRAIN, ["boxes", "gt"], ["rois", "labels", "match"], "t"),
        layer("ScaleRoute", "", ["rois", "labels", "match"], ["small", "small_labels", "small_match"], "s"),
        layer("Concat", bottoms=["small_match", "match"], tops=["truth"], name="cat"),
        layer("DecodeBBox", "", ["offsets", "small", "truth"], ["moved"], "d"),
        layer("SmoothL1Loss", TRAIN, ["moved", "small_labels"], ["loss"], "l"),
    )
    assert wires(net) == [
        ("boxes", "Input", []), ("offsets", "Input", []), ("t", "Dropout", ["boxes"]), ("s", "ScaleRoute", ["rois"]),
        ("d", "DecodeBBox", ["offsets", "small"]),
    ]  # fmt: skip
    assert net.blobs["small"] == (2, 5)


def test_what_mixes_an_output_with_a_label_for_a_loss_goes(tmp_path):
    data = layer("Python", bottoms=[], tops=["data", "mask"], name="d")
    net = load(
        tmp_path,
        data,
        layer("Convolution", CONV, tops=["c"], name="c"),
        layer("Eltwise", bottoms=["c", "mask"], tops=["masked"], name="masked"),
        layer("L1Loss", bottoms=["masked", "mask"], tops=["loss"], name="loss"),
        input_shape={"data": (1, 3, 8, 8)},
    )
    assert net.inputs == {"data": (1, 3, 8, 8)}
    assert net.outputs == ["c"]


def test_dummy_data_by_chance_is_an_input_in_either_phase(tmp_path):
    def dummy(filler, rules=""):
        return layer(
            "DummyData", f"dummy_data_param {{ shape {{ dim: [1, 3, 8, 8] }} {filler} }} {rules}", [], ["data"]
        )

    chance = 'data_filler { type: "gaussian" }'
    assert load(tmp_path, dummy(chance), layer("ReLU", name="r")).inputs == {"data": (1, 3, 8, 8)}
    twice = load(tmp_path, dummy(chance, TRAIN), dummy(chance, "include { phase: TEST }"), layer("ReLU", name="r"))
    assert twice.inputs == {"data": (1, 3, 8, 8)}
    train = load(tmp_path, dummy(chance, TRAIN), layer("ReLU", name="r"))
    assert train.inputs == {"data": (1, 3, 8, 8)}
    assert load(tmp_path, dummy(""), layer("ReLU", name="r")).inputs == {}
