"""What judges feed a network: values that every layer can take."""

import numpy as np
import pytest
from PIL import Image

from caffe2tf import loading, reference
from caffe2tf.verification import feeding, golden
from tests.helpers import GOLDEN, inputs, layer, load, make

# Of an input: (golden case, its place among the network's inputs, a rule that its values keep).
RULES = {
    "lstm": (-1, lambda a: not a[0].any() and set(a.ravel()) <= {0, 1}),
    "embed": (0, lambda a: (a == a.round()).all() and a.min() >= 0 and a.max() > 1),
    "filter": (-1, lambda a: set(a.ravel()) == {0, 1}),
    "batch_reindex": (-1, lambda a: (a == a.round()).all() and a.min() >= 0),
}


@pytest.mark.parametrize("name", RULES)
def test_noise_that_is_no_picture(name):
    place, rule = RULES[name]
    given, said = feeding.inputs(load(GOLDEN / "layers" / name))
    assert rule(list(given.values())[place]), said


@pytest.mark.parametrize("name", ["roi_pooling", "psroi_pooling"])
def test_regions_lie_in_their_picture(name):
    net = load(GOLDEN / "forks" / name)
    given, _ = feeding.inputs(net)
    node = next(node for node in net.nodes if len(node.bottoms) == 2)
    _, _, height, width = node.layer.bottoms[0]
    scale = node.layer.p.spatial_scale or 1
    item, x1, y1, x2, y2 = given[node.bottoms[1][0]].reshape(-1, 5).T
    assert set(item) <= set(range(node.layer.bottoms[0][0]))
    assert ((x1 >= 0) & (x1 <= x2) & (x2 <= round(width / scale))).all()
    assert ((y1 >= 0) & (y1 <= y2) & (y2 <= round(height / scale))).all()


def test_priors_are_boxes():
    net = load(GOLDEN / "forks" / "detection_output")
    given, said = feeding.inputs(net)
    boxes, variances = given[list(net.inputs)[-1]].reshape(2, -1)
    boxes = boxes.reshape(-1, 4)
    assert (boxes[:, :2] < boxes[:, 2:]).all(), said
    np.testing.assert_allclose(variances, 0.1)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("forks/*")), ids=lambda path: path.name)
def test_the_reference_computes_finite_values_of_what_forks_are_fed(path):
    net = load(path)
    given, _ = feeding.inputs(net)
    for blob, values in reference.compute(net, given).items():
        assert np.isfinite(values).all(), blob


def test_a_network_of_many_items_is_fed_few_where_it_takes_that(tmp_path):
    text = inputs(data=(10, 3, 4, 4)) + layer("ReLU")
    net = loading.load(make(tmp_path, text)[0])
    assert feeding.inputs(net)[0]["data"].shape == (feeding.ITEMS, 3, 4, 4)
    fixed = layer("Reshape", "reshape_param { shape { dim: 5 dim: 96 } }")
    net = loading.load(make(tmp_path, inputs(data=(10, 3, 4, 4)) + fixed)[0])
    assert feeding.inputs(net)[0]["data"].shape == (10, 3, 4, 4)


def test_pictures_for_what_takes_none(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    net = loading.load(make(tmp_path, inputs(data=(1, 7)) + layer("ReLU"))[0])
    with pytest.raises(golden.GoldenError):
        feeding.inputs(net, tmp_path / "x.png")


def test_an_open_shape_is_asked_for(tmp_path):
    net = loading.load(make(tmp_path, inputs(data=(1, 3, 4, 4)) + layer("ReLU"))[0])
    net = net.reshape({"data": (1, 3, None, None)})
    with pytest.raises(golden.GoldenError, match="open; say it with `input_shape`"):
        feeding.inputs(net)
