"""Caffe's solvers: their update rules and rates as Caffe computes them, their files as Caffe takes or refuses them."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest

from caffe2tf import loading
from caffe2tf.caffe.solver import POLICIES, read_solver
from caffe2tf.errors import Caffe2TFError, ParseError
from caffe2tf.finetuning import plan, recipe
from caffe2tf.finetuning.rates import Solver
from caffe2tf.finetuning.settings import Stage
from caffe2tf.finetuning.walk import Walk
from tests.helpers import GOLDEN, inputs, layer, run

keras = pytest.importorskip("keras")
from caffe2tf.finetuning import optimizers  # noqa: E402
from caffe2tf.finetuning.optimizers import CaffeOptimizer  # noqa: E402

FOLDER = GOLDEN / "training"
NAMES = sorted(path.stem.removeprefix("solver_") for path in FOLDER.glob("solver_*.prototxt"))
UPDATES = 25  # reach past every step of the rates but the last
ROUNDED = 2e-6  # so many updates in float32 of weights up to 3
TEXT = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 10 net: "net.prototxt" '


def solver_of(name):
    return Solver.of(read_solver(FOLDER / f"solver_{name}.prototxt"))


def updated(solver, multiples=((1, 1), (2, 0)), optimizer=None):
    """The weights after every fifth of the updates with the gradients that Caffe had, (5, 16): kernel, then bias."""
    random = np.random.RandomState(16)
    starts = [random.randn(4, 3), random.randn(4)]
    if optimizer is None:
        optimizer = CaffeOptimizer(solver, [keras.Variable(start.astype(np.float32)) for start in starts], multiples)
    variables = optimizer._trainable_variables
    for variable, start in zip(variables, starts, strict=True):
        variable.assign(start)
    found = []
    for step in range(UPDATES):
        gradients = [keras.ops.convert_to_tensor(0.3 * random.randn(*shape), "float32") for shape in ((4, 3), (4,))]
        # Caffe's are of the sum over iter_size batches.
        gradients = [g / solver.iter_size for g in gradients]
        if isinstance(optimizer, CaffeOptimizer):
            gradients = optimizer.prepared(gradients, variables)
        optimizer.apply(gradients, variables)
        if step % 5 == 4:
            found.append(np.concatenate([v.numpy().ravel() for v in variables]))
    return np.array(found)


def far(name, found):
    with np.load(FOLDER / "updates.npz") as recorded:
        return np.abs(found - recorded[f"{name}/weights"][: UPDATES // 5]).max()


@pytest.mark.parametrize("name", NAMES)
def test_updates_are_caffes_by_tensorflows_kernels_and_by_operations_of_keras(name, monkeypatch):
    assert far(name, updated(solver_of(name))) < ROUNDED
    monkeypatch.setattr(optimizers, "_KERNELS", {})
    assert far(name, updated(solver_of(name))) < ROUNDED


@pytest.mark.parametrize(
    ("name", "changes", "multiples"),
    [
        ("sgd_fixed", {}, ((1, 1), (1, 0))),  # biases at the rate of kernels
        ("sgd_fixed", {}, ((1, 1), (2, 1))),  # biases that decay
        ("sgd_l1", {"l1": False}, ((1, 1), (2, 0))),
        ("sgd_clip", {"clip": None}, ((1, 1), (2, 0))),
        ("sgd_clip", {"iter_size": 2}, ((1, 1), (2, 0))),  # clipped after the mean of the batches
        ("rmsprop", {"rms_decay": 0.9}, ((1, 1), (2, 0))),  # Keras's default, for what is 0.98 here
        ("sgd_step", {"lr_policy": "fixed"}, ((1, 1), (2, 0))),
        ("nesterov", {"type": "SGD"}, ((1, 1), (2, 0))),
    ],
)
def test_what_a_naive_reading_computes_is_not_caffes(name, changes, multiples):
    solver = dataclasses.replace(solver_of(name), **changes)
    assert far(name, updated(solver, multiples)) > 100 * ROUNDED


class _RateOutside(CaffeOptimizer):
    """SGD as PyTorch has it: the history is of gradients, and the rate of the moment goes over all of it."""

    def _sgd(self, gradient, slots, rate):
        return rate * self._mean_of(gradient, slots)

    def _mean_of(self, gradient, slots):
        kept = self.solver.momentum * slots[0] + gradient
        self.assign(slots[0], kept)
        return kept

    def __init__(self, solver, variables):
        super().__init__(solver, variables, ((1, 1), (2, 0)))
        self.rule, self.kernel = self._sgd, None


def others(name, variables):
    """An optimizer that is often taken for Caffe's."""
    solver, optimizers = solver_of(name), keras.optimizers
    if name == "sgd_step":
        return _RateOutside(solver, variables)
    return {
        "rmsprop": lambda: optimizers.RMSprop(solver.base_lr, rho=solver.rms_decay, epsilon=solver.delta),
        "adagrad": lambda: optimizers.Adagrad(solver.base_lr),
        "adadelta": lambda: optimizers.Adadelta(solver.base_lr),
        "nesterov": lambda: optimizers.SGD(solver.base_lr, momentum=solver.momentum, nesterov=True, weight_decay=5e-4),
        "adam": lambda: optimizers.AdamW(solver.base_lr, weight_decay=5e-4),
    }[name]()


@pytest.mark.parametrize("name", ["sgd_step", "rmsprop", "adagrad", "adadelta", "nesterov", "adam"])
def test_optimizers_of_the_same_name_are_not_caffes(name):
    """Even for the kernel alone, whose multiples are 1."""
    variables = [keras.Variable(np.zeros(shape, np.float32)) for shape in ((4, 3), (4,))]
    optimizer = others(name, variables)
    optimizer.build(variables)
    found = updated(solver_of(name), optimizer=optimizer)
    with np.load(FOLDER / "updates.npz") as recorded:
        assert np.abs(found - recorded[f"{name}/weights"][: UPDATES // 5])[:, :12].max() > 10 * ROUNDED


def test_rates_are_caffes():
    """Values of Caffe 1.0 at iterations 1, 8, 21, 42 of each lr_policy."""
    for name, wanted in json.loads((FOLDER / "rates.json").read_text()).items():
        solver = solver_of(name)
        found = [solver.rate(iteration) for iteration in (1, 8, 21, 42)]
        np.testing.assert_allclose(found, wanted, rtol=2e-6, err_msg=name)
    assert {solver_of(name).lr_policy for name in NAMES} == set(POLICIES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nesterov", "sgd_iter_size"])
def test_sixty_iterations_follow_caffe(name, shared):
    from tests.bench import solvers

    loss, weight = solvers.follow(name, shared)
    assert loss < 1e-4
    assert weight < 1e-3


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('lr_policy: "fixed" max_iter: 10', "says no base_lr"),
        ("base_lr: 0.1 max_iter: 10", "says no lr_policy"),
        ('base_lr: 0.1 lr_policy: "fixed"', "says no max_iter"),
        (f'{TEXT} type: "Foo"', 'type "Foo"; takes one of SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam'),
        ('base_lr: 0.1 lr_policy: "cosine" max_iter: 10', 'lr_policy "cosine"; takes one of fixed, step, exp'),
        (f'{TEXT} regularization_type: "L3"', 'regularization_type "L3"; takes one of L2, L1'),
        (f"{TEXT} learning_rate: 3", ":1: unknown field 'learning_rate' in SolverParameter; Caffe's solvers have none"),
        (f"{TEXT} momentum: fast", ":1: "),
        (f"{TEXT} momentum: 1.5", "momentum 1.5; takes a number from 0 to below 1"),
        (f"{TEXT} momentum: nan", "momentum nan; takes"),
        (f'{TEXT} type: "RMSProp" momentum: 0.9', "momentum 0.9 with RMSProp; Caffe takes none there"),
        (f'{TEXT} solver_type: ADAM type: "SGD"', "has both solver_type and type"),
        (f'{TEXT} train_net: "other"', "names several networks"),
        (f"{TEXT} iter_size: 0", "iter_size 0; takes a number from 1"),
        ('base_lr: 0.1 lr_policy: "step" gamma: 0.1 max_iter: 10', 'lr_policy "step" without stepsize; it takes gamma'),
        ('base_lr: 0.1 lr_policy: "step" stepsize: 3 max_iter: 10', 'lr_policy "step" without gamma'),
        ('base_lr: 0.1 lr_policy: "exp" max_iter: 10', 'lr_policy "exp" without gamma'),
        ('base_lr: 0.1 lr_policy: "inv" gamma: 1 max_iter: 10', 'lr_policy "inv" without power'),
        ('base_lr: 0.1 lr_policy: "multistep" gamma: 1 max_iter: 10', 'lr_policy "multistep" without stepvalue'),
        ('base_lr: 0.1 lr_policy: "poly" max_iter: 10', 'lr_policy "poly" without power'),
        ('base_lr: 0.1 lr_policy: "sigmoid" gamma: 1 max_iter: 10', 'lr_policy "sigmoid" without stepsize'),
        (f'{TEXT} train_state {{ stage: "a" }}', "train_state chooses layers"),
        ('layer { name: "a" type: "ReLU" }', "is a network text, expected a solver"),
        ("\0\1", "is binary, expected a solver text"),
    ],
)
def test_a_bad_solver_is_one_line(text, why, tmp_path):
    (tmp_path / "s.prototxt").write_text(text)
    with pytest.raises(ParseError) as caught:
        read_solver(tmp_path / "s.prototxt")
    assert why in str(caught.value)
    assert "s.prototxt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_older_solver_says_its_type_by_a_number(tmp_path):
    (tmp_path / "s.prototxt").write_text(f"{TEXT} solver_type: ADAGRAD")
    assert read_solver(tmp_path / "s.prototxt").type == "AdaGrad"


# ------------------------------------------------------------------------------------------------ runs


def test_examples_come_as_caffes_data_layers_give_them():
    """Batches of one size, the next pass beginning inside one; a round is test_interval."""
    solver = Solver("SGD", 0.1, "fixed", max_iter=7, iter_size=2, test_interval=3)
    walk = Walk.of(Stage(batch_size=2, order="file", solver=solver), 5)
    assert (walk.rounds, [walk.steps(n) for n in range(3)], walk.batch) == (3, [3, 3, 1], 4)
    found = np.concatenate([walk.order(n, (0,)) for n in range(3)])
    assert found.tolist() == (np.arange(28) % 5).tolist()
    chance = Walk.of(Stage(batch_size=2, solver=solver), 5)
    found = np.concatenate([chance.order(n, (0,)) for n in range(3)])
    assert [sorted(found[start : start + 5]) for start in range(0, 25, 5)] == [list(range(5))] * 5
    assert len({tuple(found[start : start + 5]) for start in range(0, 25, 5)}) > 1
    plain = Walk.of(Stage(batch_size=2, epochs=4), 5)
    assert (plain.rounds, plain.steps(0), plain.examples(0)) == (4, 3, 5)


@pytest.fixture
def solver(here):
    """A function that writes `solver.prototxt` with `more` in it, for a training text of the small network."""
    data_layer = (
        'layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } '
        "transform_param { mirror: true crop_size: 12 mean_value: 100 mean_value: 110 mean_value: 120 scale: 0.5 } "
        "data_param { batch_size: 6 } }\n"
    )
    text = (here / "net.prototxt").read_text().replace(inputs(data=(1, 3, 12, 12)), data_layer)
    text = text.replace(layer("Softmax", bottoms=["s"], tops=["prob"], name="prob"), "")
    text += layer("SoftmaxWithLoss", bottoms=["s", "label"], tops=["loss"], name="loss")
    (here / "train_val.prototxt").write_text(text)

    def write(more=""):
        (here / "solver.prototxt").write_text(
            'net: "train_val.prototxt" base_lr: 0.01 lr_policy: "step" gamma: 0.5 stepsize: 4 max_iter: 10 '
            f"momentum: 0.9 weight_decay: 0.001 {more}"
        )
        return here

    return write


SIZE = ("--resize", "12", "--crop", "none")
KEPT = (*SIZE, "--keep", "npz,last")


@pytest.mark.slow
def test_a_run_by_a_solver(solver):
    here = solver("test_interval: 4 display: 1")
    result = run("finetune", "--solver", "solver.prototxt", "net.caffemodel", *SIZE)
    assert "solver.prototxt: SGD, 10 iterations, lr_policy step" in result.stderr
    assert "display have no part here" in result.stderr
    assert "trains conv1, fc7, fc8 on cpu" in result.stderr
    assert "minus (100, 110, 120)" in result.stderr
    with open("finetuned/history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.01, 0.005, 0.0025])
    kept = recipe.read("finetuned/recipe.toml")
    assert (kept.stages[0].batch_size, kept.stages[0].augment) == (6, ("mirror", "crop"))
    assert "epoch   3 (iteration 10)" in result.stdout
    first = (here / "finetuned" / "best.npz").read_bytes()
    run("finetune", "--recipe", "finetuned/recipe.toml", "--out", "again", "-q")
    assert (here / "again" / "best.npz").read_bytes() == first


@pytest.mark.slow
def test_a_solver_is_stopped_and_resumed_to_the_same_weights(solver, monkeypatch):
    """Its histories, its rates and the place inside a round go on."""
    from caffe2tf.finetuning import trainer

    here = solver("test_interval: 4 snapshot: 3")
    run("finetune", "--solver", "solver.prototxt", "net.caffemodel", *KEPT, "-q", "--out", "whole")
    taken, step = [], trainer.Trainer.step

    def broken(self, *given):
        if len(taken) == 6:
            raise KeyboardInterrupt
        taken.append(1)
        return step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", broken)
        run("finetune", "--solver", "solver.prototxt", "net.caffemodel", *KEPT, "-q", code=130)
    result = run("finetune", "--solver", "solver.prototxt", "net.caffemodel", *KEPT, "--resume")
    assert "goes on in stage 1, epoch 2" in result.stderr
    for name in ("best.npz", "last.npz", "history.csv"):
        assert (here / "finetuned" / name).read_bytes() == (here / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--lr", "1"], "--lr beside --solver: solver.prototxt says it"),
        (["--stage", "layers=fc8", "--stage", "layers=all"], "2 stages beside --solver"),
        (["net.prototxt"], "no data layer of the network says a batch_size; give --batch-size"),
    ],
)
def test_what_does_not_go_with_a_solver_is_one_line(args, why, solver):
    solver()
    result = run("finetune", "--solver", "solver.prototxt", "net.caffemodel", *args, code=1)
    assert why in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_solver_without_its_network_is_one_line(solver):
    here = solver()
    (here / "train_val.prototxt").unlink()
    why = "its net train_val.prototxt is neither in this folder nor beside it"
    assert why in run("finetune", "--solver", "solver.prototxt", code=1).stderr


@pytest.mark.slow
def test_a_solver_alone_starts_from_the_fillers(solver):
    text = solver() / "train_val.prototxt"
    text.write_text(re.sub(r"(num_output: \d+)", r'\1 weight_filler { type: "xavier" }', text.read_text()))
    result = run("finetune", "--solver", "solver.prototxt", *SIZE, "--batch-size", "4")
    assert "10 iterations" in result.stderr
    with open("finetuned/history.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]  # 24 pictures are 6 iterations


# ------------------------------------------------------------------------------------------------ lr_mult


def spoken(here, **specs):
    """The small network whose layers say `param`s: {layer: [(lr_mult, decay_mult), ...]}."""
    text = (here / "net.prototxt").read_text()
    for name, pairs in specs.items():
        params = " ".join(f"param {{ lr_mult: {rate} decay_mult: {decay} }}" for rate, decay in pairs)
        text = text.replace(f'name: "{name}"', f'name: "{name}" {params}')
    (here / "net.prototxt").write_text(text)
    return loading.load("net.prototxt", "net.caffemodel")


def learned(net, layers, **settings):
    """{(layer, weight): (times the rate, times the decay)} of a stage."""
    from caffe2tf.finetuning.multiples import multiples
    from caffe2tf.keras_model.model import build

    changed, head, _ = plan.with_head(net, 3)
    stage = Stage(layers=layers, **settings)
    work = plan.make(changed, head, layers, None, stage.lr_mult == "text")
    _, bindings = build(work.top, [work.logits])
    found = multiples(work, stage, bindings)
    return {(name, one.weight): found[id(one.variable)] for name in work.trained for one in bindings[name]}


def test_lr_mult_of_the_text_counts_without_a_solver(here):
    net = spoken(here, fc7=[(1, 1), (2, 0)], fc8=[(3, 0.5)], conv1=[(0, 0), (0, 0)])
    found = learned(net, ("all",))
    assert found == {
        ("fc7", "kernel"): (1, 1),
        ("fc7", "bias"): (2, 0),
        ("fc8", "kernel"): (150, 0.5),  # fifty times for the head
        ("fc8", "bias"): (50, 1),
    }
    off = learned(net, ("all",), lr_mult="off")
    assert off["conv1", "kernel"] == off["fc7", "kernel"] == (1, 1)
    assert off["fc7", "bias"] == (1, 0)
    with pytest.raises(Caffe2TFError, match="layer 'conv1' has lr_mult 0 in the network text; `lr_mult` off lets"):
        learned(net, ("conv1", "fc8"))
    solver = Solver("SGD", 0.1, "fixed", max_iter=1)
    assert learned(net, ("all",), head_lr=1.0, solver=solver)["fc8", "bias"] == (1, 1)


@pytest.mark.slow
def test_what_does_not_learn_stays_bit_for_bit(here):
    before = spoken(here, fc7=[(0, 0), (1, 0)])
    run(
        "finetune",
        "net.prototxt",
        "net.caffemodel",
        "--layers",
        "fc7,fc8",
        "--epochs",
        "4",
        "--lr",
        "0.01",
        "--keep",
        "npz,last",
        "-q",
    )
    after = loading.load("finetuned/deploy.prototxt", "finetuned/last.npz")
    assert after.weights["fc7"]["kernel"].tobytes() == before.weights["fc7"]["kernel"].tobytes()
    assert after.weights["fc7"]["bias"].tobytes() != before.weights["fc7"]["bias"].tobytes()
