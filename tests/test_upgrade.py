"""Networks of every age and phase become today's layers for inference."""

from types import SimpleNamespace

import pytest

from caffe2tf import loading
from caffe2tf.caffe import read
from caffe2tf.caffe.upgrade import UNKNOWN, upgrade
from caffe2tf.errors import NetError
from caffe2tf.net.reading import learned
from tests.helpers import GOLDEN, inputs, layer, parameter


def run(text, blobs=None, shapes=None):
    return upgrade(read.Source(parameter(text), blobs or {}), learned, shapes)


def wires(net):
    return [(item.name, item.type, list(item.bottom), list(item.top)) for item in net.layer]


@pytest.mark.parametrize("name", ["v0", "v1"])
@pytest.mark.parametrize("kind", ["prototxt", "caffemodel"])
def test_old_layers_become_todays(name, kind):
    reader = getattr(read, f"read_{kind}")
    old, _, _ = upgrade(reader(GOLDEN / "formats" / name / f"net.{kind}"), learned)
    new, _, _ = upgrade(read.read_prototxt(GOLDEN / "formats" / "v2" / "net.prototxt"), learned)
    assert wires(old) == wires(new)
    for a, b in zip(old.layer, new.layer, strict=True):
        for field in ("convolution_param", "lrn_param", "pooling_param", "inner_product_param", "input_param"):
            assert getattr(a, field) == getattr(b, field)


def test_v0_padding_moves_into_the_convolution():
    text = """input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
      layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
      layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 biasterm: false } bottom: "pad1" top: "c" }"""
    net, _, _ = run(text)
    assert wires(net)[1:] == [("c", "Convolution", ["data"], ["c"])]
    assert list(net.layer[1].convolution_param.pad) == [2]
    assert net.layer[1].convolution_param.bias_term is False


def test_v1_names_of_shared_parameters():
    net, _, _ = run(
        'layers { name: "c" type: CONVOLUTION bottom: "a" top: "b" param: "w" param: "" blobs_lr: 1 blobs_lr: 2 }'
    )
    assert [(spec.name, spec.lr_mult) for spec in net.layer[0].param] == [("w", 1), ("", 2)]


@pytest.mark.parametrize(
    "field", ["bn_param { bn_mode: INFERENCE }", "unpooling_param { kernel_size: 2 unpool_size: 14 }"]
)
def test_v1_parameters_of_forks_reach_todays_layer(field):
    net, _, _ = run(f'layers {{ name: "x" type: POOLING {field} }}')
    name = field.split()[0]
    assert getattr(net.layer[0], name) == getattr(parameter(f"layer {{ {field} }}").layer[0], name)


def test_unknown_v0_and_v1_types_are_refused():
    with pytest.raises(NetError, match="layer 'x' has the V0 type 'warp'"):
        run('layers { layer { name: "x" type: "warp" } }')
    with pytest.raises(NetError, match="layer 'x' has no type"):
        run('layers { name: "x" bottom: "a" }')


@pytest.mark.parametrize(
    "declared",
    [
        'input: "a" input: "b" input_dim: [1, 2, 3, 4, 5, 6, 7, 8]',
        'input: "a" input: "b" input_shape { dim: [1, 2, 3, 4] } input_shape { dim: [5, 6, 7, 8] }',
    ],
)
def test_legacy_inputs(declared):
    net, _, _ = run(declared)
    assert [(item.type, item.top[0], list(item.input_param.shape[0].dim)) for item in net.layer] == [
        ("Input", "a", [1, 2, 3, 4]),
        ("Input", "b", [5, 6, 7, 8]),
    ]
    with pytest.raises(NetError, match="3 input_dim for 1 inputs"):
        run('input: "a" input_dim: [1, 2, 3]')


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN }", False),
        ("exclude { phase: TEST }", False),
        ("exclude { phase: TRAIN }", True),
        ("include { phase: TRAIN } include { phase: TEST }", True),
        ('include { stage: "deploy" }', True),
        ('include { stage: "other" }', False),
        ('include { not_stage: "deploy" }', False),
        ("include { min_level: 1 }", False),
        ("include { min_level: 3 }", False),
        ("include { max_level: 1 }", True),
        ("exclude { min_level: 1 max_level: 2 }", True),
    ],
)
def test_phase_stage_and_level(rule, kept):
    """A text's own level has no effect: Caffe's tools set it to 0."""
    text = inputs(data=(1, 2)) + layer("ReLU", rule) + 'state { level: 2 stage: "deploy" }'
    net, _, _ = run(text)
    assert ("x" in [item.name for item in net.layer]) is kept
    assert not any(item.include or item.exclude for item in net.layer)  # what is written holds for every phase


def test_include_with_exclude_is_refused():
    with pytest.raises(NetError, match="both include and exclude"):
        run(layer("ReLU", "include { phase: TEST } exclude { phase: TRAIN }"))


SNAPSHOT = """
  layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
          transform_param { crop_size: 11 mean_value: 1 mean_value: 2 mean_value: 3 } data_param { batch_size: 64 } }
  layer { name: "label_data_1_split" type: "Split" bottom: "label" top: "label_data_1_split_0" top: "label_data_1_split_1" }
  layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }
  layer { name: "c_c_0_split" type: "Split" bottom: "c" top: "c_c_0_split_0" top: "c_c_0_split_1" }
  layer { name: "half" type: "Power" bottom: "label_data_1_split_1" top: "half" power_param { scale: 0.5 } }
  layer { name: "box" type: "InnerProduct" bottom: "c_c_0_split_0" top: "box" inner_product_param { num_output: 4 } }
  layer { name: "class" type: "InnerProduct" bottom: "c_c_0_split_1" top: "class" inner_product_param { num_output: 9 } }
  layer { name: "l1" type: "SoftmaxWithLoss" bottom: "class" bottom: "label_data_1_split_0" top: "l1" }
  layer { name: "l2" type: "EuclideanLoss" bottom: "box" bottom: "half" top: "l2" }
  layer { name: "acc" type: "Accuracy" bottom: "class" bottom: "label_data_1_split_0" top: "acc" include { phase: TEST } }
"""


def test_training_snapshot_becomes_its_inference():
    net, transforms, notes = run(SNAPSHOT)
    assert wires(net) == [
        ("data", "Input", [], ["data"]),
        ("c", "Convolution", ["data"], ["c"]),
        ("box", "InnerProduct", ["c"], ["box"]),
        ("class", "InnerProduct", ["c"], ["class"]),
        ("prob", "Softmax", ["class"], ["prob"]),
    ]
    assert list(net.layer[0].input_param.shape[0].dim) == [1, 3, 11, 11]
    assert list(transforms["data"].mean_value) == [1, 2, 3]
    assert any("'half' (Power) has no part in inference" in note for note in notes)


@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "BN", "Normalize", "Convolution"])
def test_what_a_loss_is_computed_from_stays_whatever_layer_learned_it(kind):
    text = layer("Data", bottoms=[], tops=["data", "label"], name="data")
    text += layer(kind, bottoms=["data"], tops=["c"], name="c")
    text += layer("EuclideanLoss", bottoms=["c", "label"], tops=["loss"], name="loss")
    net, _, _ = run(text)
    assert wires(net) == [("data", "Input", [], ["data"]), ("c", kind, ["data"], ["c"])]


def test_the_name_prob_is_taken_only_where_it_is_free():
    net, _, _ = run(SNAPSHOT.replace('"box"', '"prob"'))
    assert ("l1", "Softmax", ["class"], ["l1"]) in wires(net)


def test_one_of_many_losses_is_prob():
    net, _, _ = run(SNAPSHOT.replace("EuclideanLoss", "SigmoidCrossEntropyLoss"))
    assert ("prob", "Sigmoid", ["box"], ["prob"]) in wires(net)
    assert ("l1", "Softmax", ["class"], ["l1"]) in wires(net)


def test_a_loss_beside_its_own_softmax_is_dropped():
    net, _, _ = run(SNAPSHOT + layer("Softmax", bottoms=["class"], tops=["p"], name="p"))
    assert [item.type for item in net.layer].count("Softmax") == 1


def test_splits_of_the_user_stay():
    text = inputs(data=(1, 2)) + layer("Split", tops=["a", "b"], name="my_split")
    assert "my_split" in [item.name for item in run(text)[0].layer]


def test_unused_explicit_input_stays_and_silenced_layers_go():
    text = inputs(data=(1, 2), label=(1,)) + layer("InnerProduct", "inner_product_param { num_output: 2 }", tops=["y"])
    net, _, _ = run(text + layer("Silence", bottoms=["y"], tops=[], name="s"))
    assert [item.name for item in net.layer] == ["data", "label"]


@pytest.mark.parametrize(
    ("data", "dims"),
    [
        ('type: "MemoryData" memory_data_param { batch_size: 2 channels: 5 height: 7 width: 9 }', [1, 5, 7, 9]),
        ('type: "ImageData" image_data_param { new_height: 8 new_width: 6 is_color: false }', [1, 1, 8, 6]),
        ('type: "Data" data_param { crop_size: 10 } transform_param { force_color: true }', [1, 3, 10, 10]),
        ('type: "Data" transform_param { crop_size: 4 force_gray: true }', [1, 1, 4, 4]),
        ('type: "AnnotatedData" transform_param { resize_param { height: 30 width: 20 } }', [1, UNKNOWN, 30, 20]),
        ('type: "Python"', [1, UNKNOWN, UNKNOWN, UNKNOWN]),
    ],
)
def test_shapes_of_data_layers(data, dims):
    net, _, _ = run(f'layer {{ name: "d" top: "data" {data} }}' + layer("ReLU"))
    assert list(net.layer[0].input_param.shape[0].dim) == dims


def weights(*shape):
    return [SimpleNamespace(shape=shape)]


CONVOLUTION = layer("Convolution", "convolution_param { group: 2 }", ["b"], ["c"], "conv")
FULL = layer("InnerProduct", "inner_product_param { num_output: 10 }", ["b"], ["c"], "fc")


@pytest.mark.parametrize(
    ("readers", "blobs", "dims"),
    [
        (layer("Convolution", tops=["b"], name="conv"), {"conv": (8, 5, 3, 3)}, [1, 5, UNKNOWN, UNKNOWN]),
        (layer("LRN", tops=["b"], name="n") + CONVOLUTION, {"conv": (8, 5, 3, 3)}, [1, 10, UNKNOWN, UNKNOWN]),
        (layer("Dropout", tops=["b"], name="n") + CONVOLUTION, {"conv": (8, 5, 3, 3)}, [1, 10, UNKNOWN, UNKNOWN]),
        (layer("ReLU", tops=["b"], name="n") + CONVOLUTION, {"conv": (8, 5, 3, 3)}, [1, UNKNOWN, UNKNOWN, UNKNOWN]),
        (layer("BatchNorm", tops=["b"], name="bn"), {"bn": (7,)}, [1, 7, UNKNOWN, UNKNOWN]),
        (layer("PReLU", tops=["b"], name="act"), {"act": (1, 6)}, [1, 6, UNKNOWN, UNKNOWN]),
        (layer("InnerProduct", "inner_product_param { num_output: 10 }", name="fc"), {"fc": (10, 48)}, [1, 48]),
        # The length is that of another blob, and the channels are another reader's.
        (layer("Pooling", tops=["b"], name="p") + FULL, {"fc": (10, 48)}, [1, UNKNOWN, UNKNOWN, UNKNOWN]),
        (
            layer("Pooling", tops=["b"], name="p") + FULL + layer("Scale", name="s"),
            {"fc": (10, 48), "s": (4,)},
            [1, 4, UNKNOWN, UNKNOWN],
        ),
    ],
)
def test_what_the_first_readers_weights_tell_of_a_data_layer(readers, blobs, dims):
    net, _, _ = run(
        'layer { name: "d" type: "Data" top: "data" }' + readers, {k: weights(*v) for k, v in blobs.items()}
    )
    assert list(net.layer[0].input_param.shape[0].dim) == dims


def test_the_mean_tells_the_channels_where_no_weights_do():
    """The mean's, even behind a pooling whose reader knows none."""
    text = 'layer { name: "d" type: "Data" top: "data" transform_param { mean_value: [1, 2, 3, 4] } }'
    net, _, _ = run(text + layer("Pooling", tops=["b"], name="p") + FULL, {"fc": weights(10, 48)})
    assert list(net.layer[0].input_param.shape[0].dim) == [1, 4, UNKNOWN, UNKNOWN]


@pytest.mark.parametrize("top", ["data", "b"])
@pytest.mark.parametrize(("mean", "channels"), [("mean_value: [1, 2, 3, 4]", 4), ("", 5)])
def test_behind_a_layer_without_weights_the_mean_goes_first(top, mean, channels):
    """Whether it works in place, or nothing reads what it makes."""
    text = f'layer {{ name: "d" type: "Data" top: "data" transform_param {{ {mean} }} }}'
    text += layer("Dropout", tops=[top], name="n") + layer("Convolution", tops=["c"], name="conv")
    net, _, _ = run(text, {"conv": weights(8, 5, 3, 3)})
    assert list(net.layer[0].input_param.shape[0].dim) == [1, channels, UNKNOWN, UNKNOWN]


def test_input_shape_wins():
    text = inputs(a=(1, 2), b=(3, 4))
    net, _, _ = run(text, shapes={"b": (5, 6)})
    assert [list(item.input_param.shape[0].dim) for item in net.layer] == [[1, 2], [5, 6]]
    with pytest.raises(NetError, match="names 'c'; the inputs are a, b"):
        run(text, shapes={"c": (1,)})
    with pytest.raises(NetError, match="without a name, but the inputs are a, b"):
        run(text, shapes={None: (1,)})


def test_a_shape_for_data_that_nothing_reads_is_noted():
    text = 'layer { name: "d" type: "Data" top: "data" data_param { batch_size: 2 } }' + inputs(x=(1, 2))
    net, _, notes = run(text + layer("ReLU", bottoms=["x"]), shapes={"data": (1, 3)})
    assert [list(item.top) for item in net.layer] == [["x"], ["top"]]
    assert "the shape given for 'data' has no effect: no layer that stays reads it" in notes
    with pytest.raises(NetError, match="`input_shape` names 'other'; the inputs are x"):
        run(text + layer("ReLU", bottoms=["x"]), shapes={"other": (1, 3)})


def test_a_data_layer_may_give_the_label_first(tmp_path):
    """As MTCNN's do: what learns from a loss on its second blob is no label."""
    text = """
        layer { name: "d" type: "HDF5Data" top: "label" top: "data" hdf5_data_param { source: "x" batch_size: 1 } }
        layer { name: "box" type: "InnerProduct" bottom: "data" top: "box" inner_product_param { num_output: 4 } }
        layer { name: "loss" type: "EuclideanLoss" bottom: "box" bottom: "label" top: "loss" }
    """
    (tmp_path / "net.prototxt").write_text(text)
    net = loading.load(str(tmp_path / "net.prototxt"), input_shape={"data": (1, 3)})
    assert net.outputs == ["box"]
    assert list(net.inputs) == ["data"]
