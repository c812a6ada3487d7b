"""What a run does where nobody tunes it: enough steps, units of the features, patience, weights of classes, warnings."""

import csv

import numpy as np
import pytest
from PIL import Image

from tests.helpers import SMALL, load_small, run

pytest.importorskip("tensorflow")
from caffe2tf.finetuning import batches, data, heads, plan, trainer, warnings
from caffe2tf.finetuning.placement import placed
from caffe2tf.finetuning.rates import Solver
from caffe2tf.finetuning.settings import Stage
from caffe2tf.finetuning.walk import Walk

STILL = "1e-30"  # a rate by which no loss changes


def head_and_features(count, labels, size=1.0):
    """(the plan of a new head on the small network, Examples of `count` random features of `size`)."""
    net, head, _ = plan.with_head(load_small(), 3)
    work = plan.make(net, head, [head])
    shape = (count, *net_shape(work))
    values = np.random.RandomState(0).randn(*shape).astype(np.float32) * size
    return work, batches.Examples([values], np.asarray(labels, np.int32))


def net_shape(work):
    from caffe2tf.keras_model import model as models

    return models.to_keras(work.top, [work.logits]).input_shape[1:]


# ------------------------------------------------------------------------------------------------ steps


def test_few_pictures_get_as_many_steps_as_many_where_steps_are_cheap():
    few, many = Walk.of(Stage(), 40), Walk.of(Stage(), 4000)
    assert (few.rounds, few.steps(0), few.examples(0)) == (20, 50, 1600)
    assert (many.rounds, many.steps(0), many.examples(0)) == (20, 125, 4000)
    assert Walk.of(Stage(epochs=3), 40).steps(0) == 2  # as said
    assert Walk.of(Stage(), 40, cheap=False).steps(0) == 2  # pictures through a whole network


@pytest.mark.parametrize("size", [0.01, 1000.0])
def test_features_of_any_size_have_their_unit(size, here):
    work, examples = head_and_features(64, np.arange(64) % 3, size)
    with placed("cpu") as place:
        found = heads.spread(work, Stage(), examples, place)
        assert heads.spread(work, Stage(optimizer="sgd"), examples, place) == 1.0
    assert found == pytest.approx(np.sqrt(examples.arrays[0].var(0).mean()), rel=1e-4)


def test_a_head_learns_alike_from_features_of_any_size(here):
    losses = []
    for size in (1.0, 1000.0):
        work, examples = head_and_features(64, np.arange(64) % 3, size)
        with placed("cpu") as place:
            stage = Stage(lr=1e-2, weight_decay=0.0)
            learner = trainer.Trainer(work, stage, place, 0, heads.spread(work, stage, examples, place))
            learner.restore([np.zeros(v.shape, v.dtype) if "kernel" in v.path else v.numpy() for v in learner.state])
            for batch in batches.dataset(examples, 32):
                learner.step(batch)
            losses.append(learner.evaluate(examples)[0])
    assert losses[0] != pytest.approx(np.log(3), rel=1e-3)  # it has learned
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


# ------------------------------------------------------------------------------------------------ patience


def test_patience_ends_a_stage_and_the_next_begins(here):
    stages = ["--stage", f"layers=fc8 epochs=9 patience=2 lr={STILL}", "--stage", "layers=fc8 epochs=1"]
    result = run("finetune", *SMALL, *stages, "--keep", "npz")
    with open("finetuned/history.csv") as file:
        found = [(row["stage"], row["epoch"]) for row in csv.DictReader(file)]
    assert found == [("1", "1"), ("1", "2"), ("1", "3"), ("2", "1")]
    assert "warning: 6 validation pictures are few: one more that is right is 16.7 points" in result.stderr


# ------------------------------------------------------------------------------------------------ weights of classes


def test_balanced_classes_count_the_same(here):
    labels = [0] * 7 + [1] * 3 + [2] * 2
    work, examples = head_and_features(12, labels)
    examples.arrays[0][:] = 1.0  # so that by the labels alone, a head that starts from 0 learns its bias
    solver = Solver("SGD", 0.1, "fixed", 1)
    assert heads.weights(Stage(class_weights="off"), examples, 3) is None
    assert heads.weights(Stage(solver=solver), examples, 3) is None
    balanced = heads.weights(Stage(), examples, 3)
    np.testing.assert_array_equal(heads.weights(Stage(solver=solver, class_weights="balanced"), examples, 3), balanced)
    np.testing.assert_allclose(balanced, [12 / 21, 12 / 9, 12 / 6], rtol=1e-6)
    assert balanced[labels].mean() == pytest.approx(1)
    steps = []
    for weights in (None, balanced):
        with placed("cpu") as place:
            learner = trainer.Trainer(work, Stage(optimizer="sgd"), place, 0, 1.0, weights)
            learner.restore(
                [np.zeros(v.shape, v.dtype) if v.path.startswith("fc8") else v.numpy() for v in learner.state]
            )
            for batch in batches.dataset(examples, 12):
                learner.step(batch)
            (bias,) = (g.numpy() for g in learner.gradients if g.shape == (3,))
        steps.append(bias)
    np.testing.assert_allclose(steps[0], 1 / 3 - np.array([7, 3, 2]) / 12, atol=1e-6)
    np.testing.assert_allclose(steps[1], 0, atol=1e-6)


# ------------------------------------------------------------------------------------------------ warnings


def pictures(sources, labels, classes=("cat", "dog")):
    return data.Pictures(tuple(sources), np.array(labels, np.int32), classes)


@pytest.fixture
def records(tmp_path):
    """A function that gives `count` Records, the `first` of them and those behind it, each of other bytes."""
    path = tmp_path / "x.tfrecord"
    path.write_bytes(b"".join(f"record {number:04}".encode() for number in range(100)))
    return lambda count, first=0: [data.Record(str(path), 11 * number, 11) for number in range(first, first + count)]


def test_what_needs_no_warning_gets_none(records):
    assert (
        warnings.of(
            {"training": pictures(records(19), [0] * 10 + [1] * 9), "test": pictures(records(30, 50), [0, 1] * 15)},
            True,
        )
        == []
    )


def test_lopsided_classes_are_told(records):
    parts = {"training": pictures(records(11), [0] * 10 + [1]), "validation": pictures(records(30, 50), [0, 1] * 15)}
    what = "warning: class 'cat' has 10 training pictures and 'dog' 1; "
    assert warnings.of(parts, False) == [what + "`class_weights` balanced lets them count the same"]
    assert warnings.of(parts, True) == [what + "they count the same; `class_weights` off lets pictures count the same"]


def test_pictures_in_two_sets_are_told_whatever_their_name(tmp_path, records):
    def written(name, colour):
        Image.new("RGB", (8, 8), colour).save(tmp_path / name)
        return str(tmp_path / name)

    training = pictures([written("a.bmp", "red"), written("b.bmp", "blue")], [0, 1])
    others = [written(f"{n}.bmp", (n, 0, 0)) for n in range(28)]
    twice = [written("other name.bmp", "blue"), str(tmp_path / "not there.bmp"), *others]
    (line,) = warnings.of({"training": training, "validation": pictures(twice, [0, 1] * 15)}, True)
    assert line.startswith("warning: 1 validation pictures are among the training pictures too")
    assert line.endswith(twice[0])
    (line,) = warnings.of(
        {"training": pictures(records(4), [0, 1] * 2), "test": pictures(records(30, 3), [0, 1] * 15)}, True
    )
    assert "1 test pictures are among the training pictures too" in line
    assert line.endswith("x.tfrecord (record at byte 33)")
