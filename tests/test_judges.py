"""OpenCV and the reference as judges: what is right passes, what is wrong is named, what cannot be judged is said."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import caffe2tf
from caffe2tf import loading
from caffe2tf.reference.table import TABLE
from caffe2tf.verification import exact, feeding, golden, judges, otherwise
from caffe2tf.verification import report as reports
from caffe2tf.verification.sets import GoldenError, JudgeAbsent, JudgeError
from tests.helpers import GOLDEN, ROOT, cases, inputs, layer, load, make, run, write_small_set

pytest.importorskip("keras")
pytest.importorskip("cv2")
from caffe2tf.verification.verify import hearing, verify

LAYERS, FINDINGS = GOLDEN / "layers", GOLDEN / "random" / "findings"


def files(path):
    """The text and the .caffemodel of a golden folder."""
    text = next(path / name for name in ("net.prototxt", "deploy.prototxt") if (path / name).exists())
    return [text, path / "net.caffemodel"]


def judged(path, against="opencv"):
    return verify(load(path), against=against, original=files(path))


def with_weights(net, name, change):
    weights = {key: {k: array.copy() for k, array in arrays.items()} for key, arrays in net.weights.items()}
    weights[name] = change(weights[name])
    return net.with_weights(weights)


def all_but_slow(names, *quick):
    """Parameters of which the default suite tries the quick ones alone: each starts OpenCV once or more."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A network of a few layers, its folder with net.prototxt and net.caffemodel."""
    folder = tmp_path_factory.mktemp("small")
    write_small_set(folder)
    return folder


# ------------------------------------------------------------ what is right passes


FORKS = [case.id for case in cases("forks")]


@pytest.mark.parametrize("name", all_but_slow(FORKS, "shuffle_channel", "depthwise", "proposal"))
def test_opencv_agrees_on_every_fork(name):
    path = GOLDEN / "forks" / name
    found = judged(path)
    assert found.judge.name == "opencv"
    assert found.passed, reports.conclusion(found)
    assert all(check.chained.l2 <= 1e-4 and check.alone.l2 <= 1e-4 for check in found.layers)
    assert set(found.unjudged) == ({"feat"} if path.name.startswith("prior_box") else set())


def test_users_own_files_are_read(small):
    text, weights = small / "net.prototxt", small / "net.caffemodel"
    found = verify(loading.load(text, weights), against="opencv", original=[weights, text])
    assert found.judge.read == "net.prototxt and net.caffemodel"
    assert found.judge.who.startswith("OpenCV 4.")
    assert re.fullmatch(r"'data' 1 x 3 x 12 x 12: noise from -123 to 151 \(seed 0\)", found.judge.fed)
    assert (found.judged, found.total) == (8, 8)
    assert "8 of 8 layers judged" in reports.conclusion(found)
    alone = verify(loading.load(text, weights), against="opencv")
    assert alone.judge.read == "the network itself"
    assert alone.passed
    assert "`original` names" in alone.notes[0]


def test_judges_by_default_where_no_golden_set_fits(small):
    net = loading.load(small / "net.prototxt", small / "net.caffemodel")
    assert caffe2tf.verify(net).judge.name == "opencv"
    judge = caffe2tf.verify(net, against="reference").judge
    assert (judge.name, judge.read) == ("reference", "the network itself")
    with pytest.raises(
        GoldenError, match=r"no golden set of the network .* docker run .* bvlc/caffe:cpu python record.py"
    ):
        verify(net, against="golden")
    with pytest.raises(GoldenError, match="`golden` and `against` are both given"):
        verify(net, LAYERS / "conv_basic", against="opencv")


def test_inputs_are_the_same_at_every_run_and_pictures_where_there_are_some(small):
    net = loading.load(small / "net.prototxt", small / "net.caffemodel")
    first, second = feeding.inputs(net)[0], feeding.inputs(net)[0]
    assert np.array_equal(first["data"], second["data"])
    assert first["data"].min() < -100
    given, said = feeding.inputs(net, small / "train" / "red")
    assert given["data"].shape == (feeding.PICTURES, 3, 12, 12)
    assert f"8 pictures of {small}" in said
    with pytest.raises(GoldenError, match="holds no pictures"):
        feeding.inputs(net, small / "train")
    with pytest.raises(GoldenError, match="no such file"):
        feeding.inputs(net, small / "nothing")


@pytest.mark.slow
@pytest.mark.parametrize("judge", judges.NAMES)
@pytest.mark.parametrize("path", cases("layers", "forks"))
def test_every_golden_network(path, judge):
    """Where OpenCV can judge nothing of it, the reference does, and says why."""
    found = judged(path, judge)
    assert found.passed, reports.conclusion(found)
    assert found.judge.name == judge or found.notes


# ------------------------------------------------------------ what is wrong is named


def nudged(weights):
    flat = weights["kernel"].reshape(-1)
    flat[np.abs(flat).argmax()] *= np.float32(1.01)
    return weights


def transposed(weights):
    """Caffe's values as if they lay in Keras's order."""
    kernel = weights["kernel"]
    return {**weights, "kernel": kernel.transpose(3, 2, 0, 1).reshape(kernel.shape)}


def swapped(weights):
    return {**weights, "kernel": weights["kernel"][:, :, ::-1]}


@pytest.mark.parametrize("judge", judges.NAMES)
@pytest.mark.parametrize("name", all_but_slow(["conv1", "fc7", "fc8"], "fc7"))
def test_one_weight_off_by_one_percent(judge, name, small):
    original = [small / "net.prototxt", small / "net.caffemodel"]
    found = verify(with_weights(loading.load(*original), name, nudged), against=judge, original=original)
    assert not found.passed
    assert (found.changed_weights, found.first_wrong) == ((name,), name)


@pytest.mark.parametrize("judge", judges.NAMES)
@pytest.mark.parametrize(
    ("change", "hint"), [(transposed, "equal after transposing its kernel"), (swapped, "equal after swapping B and R")]
)
def test_a_kernel_in_the_wrong_order(judge, change, hint, small, monkeypatch):
    """By what the layer computes, apart from the digests of its weights."""
    original = [small / "net.prototxt", small / "net.caffemodel"]
    monkeypatch.setattr(golden, "weight_digests", lambda net: {})
    monkeypatch.setattr(exact, "weight_digests", lambda net: {})
    monkeypatch.setattr("caffe2tf.verification.opencv._Run._weights", lambda run, tried: {})
    found = verify(with_weights(loading.load(*original), "conv1", change), against=judge, original=original)
    assert not found.passed
    assert not found.changed_weights
    assert (found.first_wrong, found.hint) == ("conv1", hint)
    assert all(check.alone.within(check.tolerance) for check in found.layers if "conv1" not in check.layers)


def test_an_original_of_another_network(small):
    net = load(LAYERS / "conv_basic")
    with pytest.raises(GoldenError, match="is the original of another network: conv, conv1, fc7, fc8 differ"):
        verify(net, against="opencv", original=[small / "net.prototxt", small / "net.caffemodel"])
    with pytest.raises(GoldenError, match=r"`original` takes a \.caffemodel"):
        verify(net, against="opencv", original=small / "net.prototxt")
    with pytest.raises(GoldenError, match=r"`original`: .*no such file"):
        verify(net, against="opencv", original=small / "nothing.caffemodel")


# ------------------------------------------------------------ what cannot be judged is said


def middle(folder):
    """(network, files): OpenCV has no layer for the second of four."""
    text = inputs(data=(2, 3, 6, 5))
    text += layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", tops=["c"], name="c")
    text += layer("Threshold", "threshold_param { threshold: 0.1 }", bottoms=["c"], tops=["t"], name="t")
    text += layer("InnerProduct", "inner_product_param { num_output: 5 }", bottoms=["t"], tops=["f"], name="f")
    text += layer("ReLU", bottoms=["f"], tops=["f"], name="r")
    original = make(folder, text, {"c": [(4, 3, 3, 3), (4,)], "f": [(5, 48), (5,)]})
    return loading.load(*original), original


def test_a_layer_that_opencv_lacks_is_not_judged_and_the_rest_is(tmp_path):
    net, original = middle(tmp_path)
    found = verify(net, against="opencv", original=original)
    assert found.passed
    assert found.unjudged == {"t": "OpenCV has no layer Threshold"}
    assert [check.layers for check in found.layers] == [("c",), ("f", "r")]
    assert "3 of 4 layers judged" in reports.conclusion(found)
    assert found.judge.read == "net.caffemodel, the text as caffe2tf reads it"
    wrong = verify(with_weights(net, "f", nudged), against="opencv", original=original)
    assert (wrong.passed, wrong.first_wrong) == (False, "f")


@pytest.mark.slow
def test_a_layer_that_opencv_refuses_is_found(tmp_path):
    """A message that names no layer; an in-place layer behind it takes the blob along."""
    text = inputs(data=(1, 4, 6, 5))
    text += layer("ReLU", tops=["a"], name="a")
    text += layer("Tile", "tile_param { axis: 1 tiles: 2 }", bottoms=["a"], tops=["t"], name="t")
    text += layer("TanH", bottoms=["t"], tops=["t"], name="h") + layer("Sigmoid", bottoms=["t"], tops=["s"], name="s")
    text += layer("Threshold", bottoms=["s"], tops=["s"], name="e")
    net = loading.load(make(tmp_path, text)[0])
    found = verify(net, against="opencv")
    assert found.passed
    assert found.unjudged["t"].startswith("OpenCV refuses it: ")
    assert found.unjudged["s"] == "its blob is changed by 'e', which is not judged"
    assert [check.layers for check in found.layers] == [("a",), ("t", "h")]


def test_blobs_in_one_memory_are_followed():
    """A layer in place on what Flatten shares: OpenCV keeps them apart, Caffe does not."""
    path = LAYERS / "ip_after_flatten_relu_nchw"
    assert any(node.echoes for node in load(path).nodes)
    found = judged(path)
    assert found.passed
    assert found.judge.name == "opencv"


def test_the_reference_judges_where_opencv_can_judge_nothing():
    found = judged(LAYERS / "argmax")
    assert found.passed
    assert found.judge.name == "reference"
    assert found.notes == ("no layer of 'argmax' can be judged by OpenCV: OpenCV has no layer ArgMax",)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wrong_layer_twice_in_caffemodel", "wrong_shared_weights_differ"])
def test_weights_of_which_opencv_takes_others_come_from_us(name):
    """OpenCV takes the first layer of a name, Caffe the last."""
    found = judged(FINDINGS / name)
    assert found.passed
    assert found.judge.name == "opencv"
    assert found.judge.read == "the network as caffe2tf reads it"


def test_another_text_than_the_original_is_seen(tmp_path):
    path = LAYERS / "conv_pad_stride"
    text = (path / "net.prototxt").read_text()
    relu = layer("ReLU", bottoms=["conv"], tops=["conv"], name="r")
    (tmp_path / "net.prototxt").write_text(text + relu)
    net = loading.load(tmp_path / "net.prototxt", path / "net.caffemodel")
    for judge in judges.NAMES:
        found = verify(net, against=judge, original=files(path))
        assert not found.passed


KNOWN = {
    "lrn_size3_k2": "takes k for 1",
    "log_base10": "leaves base",
    "concat_of_items": "takes concat_dim for 1",
    "mvn_eps": "adds eps",
    "ip_transpose": "leaves transpose out",
    "deconv_dilation_nchw": "leaves dilation out",
    "scale_batch_equal_extents": "scales from axis 1 on",
    "swish": "takes beta for 1",
    "wrong_pool_pad_one_axis_max": "clips the windows of one axis",
    "wrong_batchnorm_phase_train": "computes phase TEST",
    "inplace_lrn_across": "reads the bottom before",
    "wrong_scale_of_constant_with_bias": "leaves the bias out",
    "prior_box": "gives 0 for a window",
    "lrn_default_alpha": "has another alpha",
    "pool_by_chance": "draws nothing",
    "softmax_of_one_axis": "takes n values for n x 1",
    "net_21_00677": "adds even a small eps",
    "net_11_00190": "leaves pad_h without pad_w out",
    "proposal_min_size": "leaves min_size out",
}


def known_case(name, folder):
    """(network, its files) that shows a row of otherwise.TABLE."""
    if name == "lrn_default_alpha":
        original = make(folder, inputs(data=(1, 4, 3, 2)) + layer("LRN", "lrn_param { beta: 2 }"))
    elif name == "concat_of_items":
        text = layer("Concat", "concat_param { concat_dim: 0 }", bottoms=["data", "more"])
        original = make(folder, inputs(data=(2, 3, 4), more=(2, 3, 4)) + text)
    elif name == "pool_by_chance":
        text = layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }")
        original = make(folder, inputs(data=(1, 2, 4, 4)) + text)
    elif name == "softmax_of_one_axis":
        original = make(folder, inputs(data=(4,)) + layer("Softmax", "softmax_param { axis: -1 }"))
    elif name == "proposal_min_size":
        text = (GOLDEN / "forks" / "proposal" / "net.prototxt").read_text()
        original = make(folder, text.replace("min_size: 1", "min_size: 16"))
    elif name.startswith("net_"):
        original = files(GOLDEN / "random" / "nets" / name)
    else:
        original = files(next(p for p in (LAYERS / name, FINDINGS / name, GOLDEN / "forks" / name) if p.exists()))
    return loading.load(*original), original


@pytest.mark.parametrize("name", all_but_slow(KNOWN, "lrn_default_alpha", "net_21_00677"))
def test_what_opencv_computes_otherwise_is_known(name, tmp_path, monkeypatch):
    """Its row is needed: without it the judge says WRONG or nothing; with it the layer is not judged, for this reason."""
    net, original = known_case(name, tmp_path)
    found = verify(net, against="opencv", original=original)
    assert found.passed
    assert KNOWN[name] in " ".join([*found.unjudged.values(), *found.notes])
    monkeypatch.setattr(otherwise, "TABLE", ())
    assert not (verify(net, against="opencv", original=original).passed and name != "pool_by_chance")


def test_every_row_of_the_table_has_a_case():
    assert len(otherwise.TABLE) == len(KNOWN)
    for row in otherwise.TABLE:
        assert any(words in row.does for words in KNOWN.values()), row.does
        assert row.decides


@pytest.mark.parametrize(
    ("name", "fed", "unjudged"),
    [
        ("net_31_00335", "noise", {}),  # the third top of a Slice, in memory that OpenCV takes again
        pytest.param(  # Sigmoid of log(-x)
            "net_31_00525", "noise", {"L5": "its bottoms leave the range of float32"}, marks=pytest.mark.slow
        ),
        pytest.param(
            "net_31_00292",
            "0, the one item that a Filter lets through at least, for 'L35'",
            {},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_random_networks_that_opencv_has_a_way_with(name, fed, unjudged):
    found = judged(GOLDEN / "random" / "nets" / name)
    assert found.passed, reports.conclusion(found)
    assert found.judge.name == "opencv"
    assert fed in found.judge.fed
    assert unjudged.items() <= found.unjudged.items()


# ------------------------------------------------------------ OpenCV as it may be


def fake(folder, monkeypatch, code):
    """Puts a `cv2` of ours before the real one, in the judge's process too."""
    (folder / "fake").mkdir()
    (folder / "fake" / "cv2.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder / "fake"))


FAKE = "__version__ = {version!r}\nclass error(Exception): pass\nclass dnn:\n    def readNetFromCaffe(*files): {does}\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('no libGL')", "OpenCV cannot be imported: no libGL"),
        (FAKE.format(version="5.0.0", does="pass"), "OpenCV 5.0.0 reads no Caffe files"),
    ],
)
def test_opencv_absent_or_too_new(code, said, tmp_path, small, monkeypatch):
    fake(tmp_path, monkeypatch, code)
    net = loading.load(small / "net.prototxt", small / "net.caffemodel")
    with pytest.raises(JudgeAbsent, match=re.escape(said) + r"; install .* pip install 'caffe2tf\[opencv\]'$"):
        verify(net, against="opencv")
    found = verify(net)
    assert found.passed
    assert found.judge.name == "reference"
    assert said in found.notes[-1]


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("__import__('os').abort()", "it ends itself with signal 6"),
        pytest.param("raise error('no layer suits it')", "no layer suits it", marks=pytest.mark.slow),
        pytest.param(  # while the result is written
            "raise error(setattr(__import__('json'), 'dump', lambda *given: __import__('os').abort()))",
            "it ends itself with signal 6",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_opencv_that_crashes_or_refuses(does, said, tmp_path, small, monkeypatch):
    fake(tmp_path, monkeypatch, FAKE.format(version="4.8.0", does=does))
    found = verify(loading.load(small / "net.prototxt", small / "net.caffemodel"), against="opencv")
    assert found.judge.name == "reference"
    assert found.passed
    assert said in found.notes[-1]
    assert "\n" not in found.notes[-1]


# ------------------------------------------------------------ the reference


def test_what_takes_too_long_is_refused_before_it_starts(small, monkeypatch):
    net = loading.load(small / "net.prototxt", small / "net.caffemodel")
    monkeypatch.setattr(exact, "LONGEST", 0.0)
    monkeypatch.setattr(exact.reference, "compute", lambda *given: pytest.fail("it started"))
    with pytest.raises(
        JudgeError, match=r"would take about \d+ s for inputs of 1 x 3 x 12 x 12; give a smaller `input_shape`"
    ):
        verify(net, against="reference")
    monkeypatch.undo()
    monkeypatch.setattr(exact, "LONGEST", 0.0)
    assert verify(net, against="reference", yes=True).passed


def test_what_takes_too_long_is_refused_where_it_stands_in_too(small, monkeypatch):
    def absent(*given):
        raise JudgeAbsent("there is no OpenCV")

    monkeypatch.setattr(judges.opencv, "record", absent)
    monkeypatch.setattr(exact, "LONGEST", 0.0)
    net = loading.load(small / "net.prototxt", small / "net.caffemodel")
    with pytest.raises(JudgeError, match=r"there is no OpenCV.*would take about \d+ s"):
        verify(net)
    assert verify(net, yes=True).judge.name == "reference"


def test_the_estimate_grows_with_the_input():
    from caffe2tf import bundled

    net = loading.load(bundled.alexnet_text())
    one = exact.seconds(net, {"data": np.zeros((1, 3, 227, 227), np.float32)})
    ten = exact.seconds(net, {"data": np.zeros((10, 3, 227, 227), np.float32)})
    assert 1 < one < exact.LONGEST
    assert 8 * one < ten < 10.1 * one


def test_values_beyond_float32_are_not_judged_behind_them(tmp_path):
    text = inputs(data=(1, 3, 4, 4)) + layer("Exp", "exp_param { scale: 0.5 }", tops=["e"], name="e")
    text += layer("LRN", "lrn_param { alpha: 1 }", bottoms=["e"], tops=["n"], name="n")
    found = verify(loading.load(make(tmp_path, text)[0]), against="reference")
    assert found.passed
    assert found.unjudged == {"n": "its bottoms leave the range of float32"}


def test_a_blob_without_a_finite_value_is_compared(tmp_path):
    text = inputs(data=(1, 3, 4, 4)) + layer("Exp", "exp_param { shift: 1000 }", tops=["e"], name="e")
    found = verify(loading.load(make(tmp_path, text)[0]), against="reference")
    assert found.passed
    assert found.judged == 1


def test_a_type_that_the_reference_lacks_is_not_judged(small, monkeypatch):
    monkeypatch.delitem(TABLE, "Softmax")
    net = loading.load(small / "net.prototxt", small / "net.caffemodel")
    found = verify(net, against="reference")
    assert found.passed
    assert found.unjudged == {"prob": "the reference has no rule for it, or for what it reads"}
    assert (found.judged, found.total) == (7, 8)


# ------------------------------------------------------------ the judges disagree


def alone(net, original):
    found = hearing(net, ["opencv", "reference"], original=original)
    assert [report.judge.name for report in found.reports] == ["opencv", "reference"]
    return {dispute.layers[0]: dispute.alone for dispute in found.disputes}, found


def test_nobody_stands_alone_where_all_agree(small):
    original = [small / "net.prototxt", small / "net.caffemodel"]
    who, found = alone(loading.load(*original), original)
    assert found.passed
    assert set(who.values()) == {None}
    assert reports.settled(found.disputes) == "all agree on 5 of 5 blobs"


def test_we_stand_alone(small):
    original = [small / "net.prototxt", small / "net.caffemodel"]
    who, found = alone(with_weights(loading.load(*original), "fc7", transposed_rows), original)
    assert who == {"conv1": None, "pool": None, "fc7": "caffe2tf", "fc8": "caffe2tf", "prob": "caffe2tf"}
    assert "first at fc7 + relu7 + drop7, where caffe2tf stands alone" in reports.settled(found.disputes)


def transposed_rows(weights):
    return {**weights, "kernel": weights["kernel"][::-1]}


@pytest.mark.slow
def test_opencv_stands_alone(monkeypatch):
    monkeypatch.setattr(otherwise, "TABLE", ())
    path = LAYERS / "lrn_size3_k2"
    who, _ = alone(load(path), files(path))
    assert who == {"norm": "opencv"}


@pytest.mark.slow
def test_the_reference_stands_alone(small, monkeypatch):
    right = TABLE["Softmax"]
    monkeypatch.setitem(TABLE, "Softmax", lambda item, weights, *bottoms: 2 * right(item, weights, *bottoms))
    original = [small / "net.prototxt", small / "net.caffemodel"]
    who, _ = alone(loading.load(*original), original)
    assert who["prob"] == "reference"


@pytest.mark.slow
def test_what_opencv_lacks_comes_from_the_reference_where_both_are_asked(tmp_path):
    """Our wrong layer, which OpenCV lacks, does not make OpenCV agree with us behind it."""
    net, original = middle(tmp_path)
    (tmp_path / "other").mkdir()
    text = Path(original[0]).read_text().replace("threshold: 0.1", "threshold: 40")
    (tmp_path / "other" / "net.prototxt").write_text(text)
    wrong = loading.load(tmp_path / "other" / "net.prototxt", original[1])
    who, _ = alone(wrong, original)
    assert who == {"c": None, "f": "caffe2tf"}
    assert net.param != wrong.param


# ------------------------------------------------------------ the command


@pytest.fixture
def typed(small, tmp_path, monkeypatch):
    for name in ("net.prototxt", "net.caffemodel"):
        shutil.copy(small / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return "verify", "net.caffemodel", "net.prototxt"


def test_command_says_who_judged_what(typed):
    printed = run(*typed).stdout
    assert "against OpenCV 4." in printed
    assert "read: net.prototxt and net.caffemodel\nfed:  'data' 1 x 3 x 12 x 12: noise" in printed
    assert "PASS  5 of 5 blobs within 0.0001" in printed
    assert "8 of 8 layers judged" in printed


def test_command_of_two_judges(typed):
    printed = run(*typed, "--against", "opencv", "--against", "reference", "--report", "page.html").stdout
    assert re.search(r"caffe2tf - opencv +caffe2tf - reference +opencv - reference +alone", printed)
    assert printed.endswith("all agree on 5 of 5 blobs\n")
    page = Path("page.html").read_text()
    assert "Who differs from whom" in page
    assert "all agree on 5 of 5 blobs" in page
    data = json.loads(run(*typed, "--against", "opencv", "--against", "reference", "--json").stdout)
    assert data["pass"] is True
    assert [net["judge"]["name"] for net in data["nets"]] == ["opencv", "reference"]
    assert [(net["judged"], net["of"], net["unjudged"], net["notes"]) for net in data["nets"]] == [(8, 8, [], [])] * 2
    assert data["disputes"][0]["layers"] == ["conv1", "relu1"]
    assert [(one["one"], one["other"]) for one in data["disputes"][0]["apart"]] == [
        ("caffe2tf", "opencv"),
        ("caffe2tf", "reference"),
        ("opencv", "reference"),
    ]


@pytest.mark.slow
def test_command_on_a_converted_file(typed):
    run("convert", "net.caffemodel", "net.prototxt", "-o", "net.npz")
    good = ("verify", "net.npz", "net.prototxt", "--original", "net.caffemodel", "--original", "net.prototxt")
    assert "read: net.prototxt and net.caffemodel" in run(*good).stdout
    net = with_weights(loading.load("net.prototxt", "net.npz"), "conv1", swapped)
    caffe2tf.save(net, "wrong.npz")
    printed = run("verify", "wrong.npz", *good[2:], code=1).stdout
    assert "weights changed in conv1" in printed
    assert "first wrong layer: conv1 (equal after swapping B and R)" in printed


@pytest.mark.slow
def test_command_lists_what_was_not_judged(tmp_path, monkeypatch):
    middle(tmp_path)
    monkeypatch.chdir(tmp_path)
    printed = run("verify", "net.prototxt", "net.caffemodel", "--report", "page.html").stdout
    assert re.search(r"not judged +why\nt +OpenCV has no layer Threshold\n", printed)
    assert "OpenCV has no layer Threshold" in Path("page.html").read_text()


def test_command_refuses_in_one_line(typed, monkeypatch):
    other = run(*typed, "--against", LAYERS / "ip_nchw", code=1)
    assert other.stderr == "caffe2tf: golden set 'ip_nchw' is of another network: x are not in both\n"
    assert "--against" in run(*typed, "--against", "golden", code=1).stderr
    monkeypatch.setattr(exact, "LONGEST", 0.0)
    assert "--input-shape, or -y/--yes to wait" in run(*typed, "--against", "reference", code=1).stderr


def test_open_input_shapes_are_asked_for(tmp_path):
    text = 'layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "x" } }'
    text += layer("Convolution", "convolution_param { num_output: 2 kernel_size: 1 }", name="c")
    net = loading.load(make(tmp_path, text, {"c": [(2, 3, 1, 1), (2,)]})[1])
    assert net.unknown_size
    with pytest.raises(GoldenError, match=r"leaves the shape of 'data' .* open; say it with `input_shape`"):
        verify(net, against="opencv")


def test_record_script_prints_the_file():
    assert run("record-script").stdout == (ROOT / "golden" / "record.py").read_text()


# ------------------------------------------------------------ trained networks, and the large one


@pytest.mark.slow
@pytest.mark.parametrize("judge", judges.NAMES)
def test_alexnet(alexnet, judge):
    net = loading.load(alexnet)
    found = verify(net, against=judge, original=alexnet)
    assert found.passed
    assert all(check.chained.l2 <= 1e-5 for check in found.layers)
    assert (found.judged, found.total) == (23, 23)
    for name in net.weights:
        digests = replace(golden.load(GOLDEN / "alexnet"), blobs={})
        changed = golden.weight_digests(with_weights(net, name, nudged))
        assert [layer for layer in digests.weights if changed[layer] != list(digests.weights[layer])] == [name]
    wrong = verify(with_weights(net, "conv3", transposed), against=judge, original=alexnet)
    assert (wrong.passed, wrong.first_wrong) == (False, "conv3")


TRAINED = {
    "squeezenet_v1.0": ("squeezenet_v1.0/deploy.prototxt", "squeezenet_v1.0/squeezenet_v1.0.caffemodel"),
    "lenet": ("lenet/lenet.prototxt", "lenet/lenet_iter_10000.caffemodel"),
    "det1": ("mtcnn/det1.prototxt", "mtcnn/det1.caffemodel"),
    "det2": ("mtcnn/det2.prototxt", "mtcnn/det2.caffemodel"),
    "det3": ("mtcnn/det3.prototxt", "mtcnn/det3.caffemodel"),
}


@pytest.mark.slow
@pytest.mark.parametrize("judge", judges.NAMES)
@pytest.mark.parametrize("name", TRAINED)
def test_trained_networks(name, judge, shared):
    original = [shared / "models" / file for file in TRAINED[name]]
    net = loading.load(*original)
    found = verify(net, against=judge, original=original)
    assert found.passed, reports.conclusion(found)
    assert not found.unjudged
    assert all(check.chained.l2 <= 1e-4 for check in found.layers)
    for layer_name in list(net.weights)[:: max(1, len(net.weights) // 3)]:
        if "kernel" in net.weights[layer_name]:
            wrong = verify(with_weights(net, layer_name, nudged), against=judge, original=original)
            assert (wrong.passed, wrong.first_wrong) == (False, layer_name)
