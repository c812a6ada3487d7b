"""`--lr auto`: a head's learning rate, found by trying some."""

import csv
import re
from contextlib import nullcontext

import numpy as np
import pytest

import caffe2tf
from tests.helpers import SMALL, load_small, run

pytest.importorskip("tensorflow")
import keras

from caffe2tf.finetuning import batches, plan, sweep, trainer
from caffe2tf.finetuning.placement import placed
from caffe2tf.finetuning.settings import Stage

STAGE = Stage(optimizer="sgd", head_lr=1.0, weight_decay=0.0)
FOUND = re.compile(r"learning rate (\S+): the lowest of the validation losses after (\d+) steps \((.*)\)")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """What is tried is tried in few steps."""
    monkeypatch.setattr(sweep, "STEPS", 40)


def examples(seed, count, spread=1.0):
    """Examples of three classes that lie apart by their first values, (count, features)."""
    net, head, _ = plan.with_head(load_small(), 3)
    work = plan.make(net, head, [head])
    extents = work.top.inputs[work.frontier[0]][1:]
    labels = np.arange(count) % 3
    values = np.random.RandomState(seed).randn(count, *extents).astype(np.float32)
    values[:, :3] += 2 * np.eye(3, dtype=np.float32)[labels].reshape(count, 3, *[1] * (len(extents) - 1))
    if len(extents) == 3:
        values = values.transpose(0, 2, 3, 1)
    return work, batches.Examples([values * spread], labels.astype(np.int32))


def swept(stage, spread=1.0):
    """(the rate that is found, what is said, the state before, the learner)."""
    said = []
    with placed("cpu") as place:
        work, training_set = examples(0, 48, spread)
        _, validation = examples(1, 24, spread)
        learner = trainer.Trainer(work, stage, place, 0)
        before = [np.array(np.asarray(value)) for value in learner.values()]
        sets = training_set, validation
        rate = sweep.best(learner, sets, (0, 1), said.append, lambda what, total: nullcontext(lambda done: None))
    return rate, said, before, learner


def test_the_rate_with_the_lowest_validation_loss_is_found_and_nothing_else_changes(here):
    rate, (line,), before, learner = swept(STAGE)
    _, steps, tried = FOUND.fullmatch(line).groups()
    losses = {float(part.split()[0]): float(part.split()[1]) for part in tried.split(", ")}
    assert (tuple(losses), int(steps)) == (sweep.RATES, sweep.STEPS)
    assert rate == min(losses, key=losses.get)
    assert losses[rate] < losses[min(losses)]
    for one, other in zip(before, learner.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert learner.good_steps == 0
    assert learner.stage is STAGE
    assert swept(STAGE)[:2] == (rate, [line])


def test_rates_that_end_in_what_is_not_finite_are_left_out(here):
    rate, (line,), _, _ = swept(STAGE, spread=1e20)
    assert 0 < line.count(" inf") < len(sweep.RATES)
    assert rate < max(sweep.RATES)
    with pytest.raises(
        trainer.TrainingError, match="no learning rate of those that `lr` auto tries gives a finite loss"
    ):
        swept(STAGE, spread=3e38)


def test_a_run_says_and_keeps_the_rate(here):
    result = run("finetune", *SMALL, "--layers", "fc8", "--lr", "auto", "--epochs", "2", "--schedule", "step")
    found = float(FOUND.search(result.stderr)[1])
    with open("finetuned/history.csv") as file:
        assert [float(row["lr"]) for row in csv.DictReader(file)] == pytest.approx([found, found * 0.1])
    assert f"<dt>learning rate<dd>{found:g}, found by trying some" in (here / "finetuned/report.html").read_text()
    assert 'lr = "auto"' in (here / "finetuned/recipe.toml").read_text()


class Breaks(keras.callbacks.Callback):
    """Ends the run like a crash, after its first epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_rate(here, monkeypatch):
    given = {"prototxt": "net.prototxt", "layers": "fc8", "data": "train", "lr": "auto", "epochs": 2, "keep": "npz"}
    caffe2tf.finetune("net.caffemodel", out="whole", **given)
    with pytest.raises(KeyboardInterrupt):
        caffe2tf.finetune("net.caffemodel", out="broken", callbacks=[Breaks()], **given)
    monkeypatch.setattr(sweep, "best", lambda *given: pytest.fail("tried again"))
    caffe2tf.finetune(out="broken", resume=True)
    assert (here / "broken/history.csv").read_text() == (here / "whole/history.csv").read_text()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--layers", "all"], "the first layers train"),
        (["--layers", "fc8", "--augment", "mirror"], "augmentation changes them"),
        (["--layers", "fc8", "--cache", "none"], "--cache none"),
    ],
)
def test_what_is_computed_anew_at_every_step_is_no_place_to_try_rates(options, why, here):
    result = run("finetune", *SMALL, *options, "--lr", "auto", code=1)
    assert result.stderr.splitlines()[-1] == (
        f"caffe2tf: --lr auto tries rates on features that are computed once, and here none are: {why}; name a rate"
    )
    assert not (here / "finetuned").exists()


def test_a_solver_says_its_rate_itself(here):
    (here / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1')
    result = run("finetune", "--solver", "solver.prototxt", "--lr", "auto", code=1)
    assert "--lr beside --solver: solver.prototxt says it; leave one of them out" in result.stderr


@pytest.mark.parametrize("lr", ["Auto", "0", "-1", "nan", "x"])
def test_other_rates_are_refused(lr, here):
    result = run("finetune", *SMALL, "--layers", "fc8", "--lr", lr, code=2)
    assert f"'{lr}'; takes a number above 0, or auto" in result.stderr
