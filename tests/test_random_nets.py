"""Networks by chance: whatever a legal net computes, every way through the package gives the same."""

from collections import Counter

import numpy as np
import pytest

from tests.helpers import ROOT
from tests.random_nets import FEATURES, make
from tests.random_nets.checks import check
from tests.random_nets.comparing import differing, distance, shaken
from tests.random_nets.shapes import infer
from tests.random_nets.shrinking import shrink

COUNT, BLOCK, FEW = 500, 20, 100
# What is not followed: batch statistics that Caffe writes into blobs that another BatchNorm shares; what is not finite in LRN on
# TensorFlow, in ReLU (-inf) and in ArgMax of several, whose docstrings say so.
LATER = frozenset(("shared_statistics", "nan"))


@pytest.mark.parametrize(
    "first", [*range(0, FEW, BLOCK), *(pytest.param(n, marks=pytest.mark.slow) for n in range(FEW, COUNT, BLOCK))]
)
def test_every_way_gives_the_same(first):
    for seed in range(first, first + BLOCK):
        sample = make(seed, FEATURES - LATER)
        if problems := check(sample):
            small = shrink(sample, problems[0].also, {})
            pytest.fail(f"seed {seed}, {problems[0].check}: {problems[0].words}\n{small.text}")


def test_a_seed_is_one_net_everywhere():
    once, again = make(3), make(3)
    assert once.text == again.text
    assert once.snapshot() == again.snapshot()
    assert all(np.array_equal(once.inputs[name], again.inputs[name]) for name in once.inputs)
    assert make(4).text != once.text


def test_nets_are_legal_and_of_every_type():
    seen = Counter()
    for seed in range(1500):
        sample = make(seed)
        names = [layer.name for layer in sample.kept if sample.weights.get(layer.name)]
        assert len(names) == len(set(names)), seed
        seen.update(layer.type for layer in sample.kept)
    from caffe2tf.layers import REGISTRY

    # What needs another layer's boxes, masks or regions, and forks that no Caffe beside a random net has, is held against
    # its source alone.
    alone = "".join(path.read_text() for path in (ROOT / "tests").glob("test_forks*.py"))
    assert not [kind for kind in set(REGISTRY) - set(seen) if f'"{kind}"' not in alone]


def _pool(kernel, stride, pad):
    from caffe2tf.caffe.caffe_pb2 import LayerParameter

    param = {"kernel_size": kernel, "stride": stride, "pad": pad}
    return infer(LayerParameter(type="Pooling", top=["y"], pooling_param=param), [(1, 1, 5, 5)])[0][0][2:]


def test_extents_of_pooling_round_up_and_start_inside():
    assert _pool(2, 2, 0) == (3, 3)
    assert _pool(2, 3, 1) == (2, 2)


def test_rounding_is_told_from_a_fault():
    def run(sample):
        x = sample.inputs["data"].astype(np.float64)
        for layer in sample.kept:
            for array in sample.weights.get(layer.name, []):
                x = x * array
        return {"data": x - x.mean()}

    from caffe2tf.caffe.caffe_pb2 import NetParameter
    from tests.random_nets.sample import Sample

    net = NetParameter(input=["data"])
    net.layer.add(name="a", type="Power", bottom=["data"], top=["data"])
    sample = Sample(0, net, {}, {"data": np.full(8, 1e3, np.float32) + np.arange(8, dtype=np.float32) / 8})
    right = run(sample)
    assert not np.array_equal(shaken(sample, 0, right).weights["shaken 1"][0], np.ones(8, np.float32))
    rounded = {"data": right["data"] + 1e-4 * np.arange(8)}
    assert distance(right["data"], rounded["data"]) > 1e-4
    assert not differing(sample, right, rounded, run)
    assert differing(sample, right, {"data": right["data"] * 2}, run)


def test_a_fault_is_found_and_shrunk_to_its_layer(monkeypatch):
    from caffe2tf.layers.activation import ELU

    right = ELU.build

    def wrong(self, keras, x):
        if not np.all([n == 1 for n in self.bottoms[0]]) and self.p.alpha < 0:
            raise RuntimeError("a fault")
        return right(self, keras, x)

    monkeypatch.setattr(ELU, "build", wrong)
    for seed in range(2000):
        sample = make(seed, FEATURES - LATER)
        if any(layer.type == "ELU" and layer.elu_param.alpha < 0 for layer in sample.kept) and check(sample):
            break
    small = shrink(sample, lambda other: any("a fault" in problem.words for problem in check(other)), {})
    assert [layer.type for layer in small.net.layer] == ["ELU"]
    (array,) = small.inputs.values()
    assert array.size == 2


def test_channels_shuffle_in_whole_groups():
    from caffe2tf.caffe.caffe_pb2 import LayerParameter
    from tests.random_nets.legal import Illegal

    shuffle = LayerParameter(type="ShuffleChannel", top=["y"], shuffle_channel_param={"group": 5})
    assert infer(shuffle, [(3, 5, 1, 1)]) == ([(3, 5, 1, 1)], [])
    with pytest.raises(Illegal, match="groups"):
        infer(shuffle, [(3, 8, 1, 1)])
