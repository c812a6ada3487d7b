"""The reference against Caffe's own results, and what judges the reference itself."""

import ast
import math
import subprocess
import sys
from types import GeneratorType

import numpy as np
import pytest

from caffe2tf import loading, reference
from caffe2tf.errors import NetError, WeightMismatch
from caffe2tf.layers import REGISTRY
from caffe2tf.reference.table import FLT_MAX, TABLE, Shared
from caffe2tf.verification import golden
from tests.helpers import GOLDEN, ROOT, cases, inputs, layer, load, make

EVERY = cases("layers") + cases("forks") + cases("formats")
RANDOM = [
    pytest.param(path, id=path.name)
    for path in sorted([*GOLDEN.glob("random/nets/*"), *GOLDEN.glob("random/findings/*")])
    if (path / "blobs.npz").exists()
]
RELATIVE = 1e-6  # what Caffe's float32 results differ by, as a share of a blob's norm
# Rounding inside one layer adds to what `float32_cost` counts, which is that of what layers write. Of 400 random
# networks the worst blob that misses 1e-6 differs by 3.8 times its cost.
TIMES_COST = 8


def expected_of(path):
    """(inputs, blobs) as Caffe has them."""
    found = golden.load(path if (path / "blobs.npz").exists() else path.parent)
    return found.inputs, {name: blob.values for name, blob in found.blobs.items()}


def run(path):
    """(network, inputs, Caffe's blobs, the reference's blobs)."""
    given, blobs = expected_of(path)
    net = load(path)
    given = {name: given[name] for name in net.inputs}
    return net, given, blobs, reference.compute(net, given)


def known(case, blob, expected, found):
    """`expected` and `found`, where a golden file says otherwise than Caffe does."""
    if (case, blob) == ("ip_after_flatten_relu_nchw", "data"):
        return np.maximum(expected, 0), found  # recorded before ReLU changed it through the storage of Flatten
    if blob == "det" and case.startswith("detection_output"):  # OpenCV's order: best first over all classes
        rows = [array[0, 0][np.lexsort(array[0, 0].T[::-1])] for array in (expected, found)]
        return rows[0], rows[1]
    if case.startswith("prior_box") and blob == "feat":
        # Kernel 5, stride 10: OpenCV writes 0 for a window that lies outside the bottom, Caffe -FLT_MAX.
        expected = expected.copy()
        expected[:, :, 3:], expected[..., 4:] = -FLT_MAX, -FLT_MAX
    return expected, found


@pytest.mark.parametrize("path", EVERY)
def test_every_blob(path):
    net, _, blobs, found = run(path)
    assert set(blobs) <= set(found) == set(net.blobs)
    for name, array in blobs.items():
        wanted, got = known(path.name, name, array, found[name])
        assert reference.distance(wanted, got) <= RELATIVE * np.linalg.norm(wanted.astype(np.float64)), name


@pytest.mark.parametrize("path", RANDOM)
def test_every_blob_of_random_networks(path):
    given, blobs = expected_of(path)
    text = next(path / name for name in ("net.prototxt", "deploy.prototxt") if (path / name).exists())
    net = loading.load(str(text), str(path / "net.caffemodel"))
    given = {name: given[name] for name in net.inputs}
    found, cost = reference.compute(net, given), reference.float32_cost(net, given)
    for name in blobs.keys() & net.blobs:  # what losses make is no blob of ours
        with np.errstate(over="ignore"):
            far = reference.distance(blobs[name], found[name].astype(np.float32))
        norm = np.linalg.norm(found[name][np.isfinite(found[name])])
        assert far <= RELATIVE * norm + TIMES_COST * cost[name], name


@pytest.mark.parametrize(
    ("folder", "text", "weights"),
    [
        ("lenet", "lenet.prototxt", "lenet_iter_10000.caffemodel"),
        ("squeezenet_v1.0", "deploy.prototxt", "squeezenet_v1.0.caffemodel"),
    ],
)
def test_trained_networks(folder, text, weights, shared):
    """The first picture; 26 layers of convolutions in float32 are apart by 1.2e-6 in SqueezeNet."""
    path = shared / "models" / folder
    net, known_blobs = loading.load(str(path / text), str(path / weights)), golden.load(path)
    ((blob, shape),) = net.inputs.items()
    data = known_blobs.inputs[None if None in known_blobs.inputs else blob][:1]
    found = reference.compute(net, {blob: data})
    assert data.shape[1:] == shape[1:]
    for name, expected in known_blobs.blobs.items():
        sampled = expected.sampled(found[name])
        far = reference.distance(expected.values[:1].reshape(sampled.shape), sampled)
        assert far <= 2e-6 * np.linalg.norm(sampled), name


# ------------------------------------------------------------ the table


def test_every_type_has_a_rule():
    assert set(TABLE) == set(REGISTRY)
    for kind, function in TABLE.items():
        assert function.__doc__, kind


def test_nothing_is_shared_with_the_layers():
    allowed = {"numpy", "numpy.typing", "math", "re", "itertools", "collections.abc", "dataclasses", "types", "typing"}
    allowed |= {"caffe2tf.errors", "caffe2tf.caffe.caffe_pb2", "caffe2tf.reference"}
    for path in (ROOT / "caffe2tf" / "reference").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                only_a_type = path.name == "__init__.py" and name == "caffe2tf.net.net"
                assert name in allowed or name.startswith("caffe2tf.reference.") or only_a_type, (path.name, name)
    code = (
        "import sys, caffe2tf.reference\n"
        "heavy = ('keras', 'tensorflow'), ('caffe2tf.layers', 'caffe2tf.net.net')\n"
        "print([m for m in sys.modules if m.split('.')[0] in heavy[0] or m in heavy[1]])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def first_case_of_each_type():
    """The first golden network of each type that holds what a layer of it makes."""
    found = {}
    for case in EVERY:
        path = case.values[0]
        recorded = expected_of(path)[1]
        for node in load(path).nodes:
            if any(name in recorded for name, _ in node.tops):
                found.setdefault(node.layer.type, path)
    return [pytest.param(kind, path, id=kind) for kind, path in sorted(found.items())]


@pytest.mark.parametrize(("kind", "path"), first_case_of_each_type())
def test_a_wrong_rule_is_seen(kind, path, monkeypatch):
    """The last stage of each top one part in 1000 too large: some golden blob says so."""
    right = TABLE[kind]

    def wrong(item, weights, *bottoms):
        tops = right(item, weights, *bottoms)
        if isinstance(tops, GeneratorType):
            *before, tops = tops
            yield from before
        tops = tops if isinstance(tops, (list, tuple)) else [tops]
        yield [1.001 * (bottoms[0].reshape(top.shape) if isinstance(top, Shared) else top) for top in tops]

    monkeypatch.setitem(TABLE, kind, wrong)
    with pytest.raises(AssertionError):
        test_every_blob(path)


# ------------------------------------------------------------ cost, bad input


def test_what_float32_costs(tmp_path):
    """Little where values are only passed on; as much as the terms where they cancel."""
    x = np.random.RandomState(0).rand(1, 64) + 1e4
    text = layer("TanH", bottoms=["small"], tops=["t"], name="t")
    text += layer("Reshape", "reshape_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } }", tops=["r"], name="r")
    text += layer("MVN", "mvn_param { normalize_variance: false }", bottoms=["r"], tops=["m"], name="m")
    arrays = {"data": x.astype(np.float32), "small": np.full((1, 3), 0.3, np.float32)}
    text = inputs(**{name: array.shape for name, array in arrays.items()}) + text
    net = loading.load(make(tmp_path, text)[0])
    found, cost = reference.compute(net, arrays), reference.float32_cost(net, arrays)
    share = {name: cost[name] / np.linalg.norm(found[name]) for name in found}
    assert 0 < share["t"] < 2**-22
    assert share["m"] > 1e-4
    assert cost == reference.float32_cost(net, arrays)


def test_distance_sees_shapes_and_what_is_no_number():
    x = np.array([1.0, np.nan, np.inf])
    assert reference.distance(x, np.array([4.0, np.nan, np.inf])) == 3
    for other in ([1.0, np.nan, -np.inf], [1.0, 0.0, np.inf], [1.0, np.nan]):
        assert math.isinf(reference.distance(x, np.array(other)))


def test_bad_input_is_named():
    net = load(GOLDEN / "layers" / "conv_basic")
    with pytest.raises(NetError, match=r"inputs \['dota'\]; the network takes \['data'\]"):
        reference.compute(net, {"dota": np.zeros((1, 3, 8, 8))})
    with pytest.raises(NetError, match="layer 'conv'"):
        reference.compute(net, {"data": np.zeros((1, 4, 8, 8))})
    text = loading.load(str(GOLDEN / "layers" / "conv_basic" / "net.prototxt"))
    with pytest.raises(WeightMismatch, match=r"layer 'conv': the network has no weights; give its .caffemodel"):
        reference.compute(text, {"data": np.zeros(text.inputs["data"])})


def test_other_input_shapes_are_taken():
    net = load(GOLDEN / "layers" / "pool_max_ceil")
    shape = (2, *net.inputs["data"][1:])
    assert reference.compute(net, {"data": np.zeros(shape)})[net.outputs[0]].shape[0] == 2
