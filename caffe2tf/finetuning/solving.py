"""A Recipe's stage from a Caffe solver and the text of the network that it trains."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from caffe2tf.caffe.read import is_text
from caffe2tf.caffe.solver import read_solver, training_input
from caffe2tf.errors import guarded
from caffe2tf.finetuning.rates import Solver
from caffe2tf.finetuning.settings import RecipeError, Stage

# What the solver says itself, and so nothing beside it.
SAID = ("epochs", "lr", "head_lr", "schedule", "optimizer", "momentum", "weight_decay", "clip", "lr_mult")
# What a solver says of printing, of its own files and of the machine.
_IDLE = ("test_iter", "display", "average_loss", "snapshot_prefix", "snapshot_format", "debug_info", "random_seed")


def network(path: str) -> str:
    """The network text that the solver `path` names, as Caffe finds it, from this folder, else beside the solver. Raises
    ParseError and RecipeError."""
    with guarded(path):
        said = read_solver(path)
    if not said.net:
        raise RecipeError(f"{path}: names no network; say `net` there, or give the text beside it")
    for place in (said.net, os.path.join(os.path.dirname(path), said.net)):
        if os.path.isfile(place):
            return place
    raise RecipeError(f"{path}: its net {said.net} is neither in this folder nor beside it; give the text beside it")


def stage(run: Mapping[str, Any], common: Mapping[str, Any]) -> tuple[Stage, dict[str, Any]]:
    """(the Stage that the solver of a Recipe makes, what the training text says of its pictures as fields of a Recipe).

    `run`, `common`: the fields of Recipe and of Stage that were said. Raises ParseError for the files, RecipeError for what
    only one of solver and settings can say, and for a batch size that nothing says.
    """
    path = run["solver"]
    for key in SAID:
        if key in common:
            raise RecipeError(f"`{key}` beside `solver`: {path} says it; leave one of them out")
    with guarded(path):
        solver = Solver.of(read_solver(path))
    text = run.get("prototxt") or run.get("model")
    said: dict[str, Any] = {}
    pictures: dict[str, Any] = {}
    if text is not None and is_text(text):
        with guarded(text):
            given = training_input(text)
        transform = given.transform
        if given.batch:
            said["batch_size"] = given.batch
        flags = {"mirror": transform.mirror, "crop": bool(transform.crop_size)}
        said["augment"] = tuple(name for name, on in flags.items() if on)
        pictures = _pictures(transform.mean_file, text)
    stated = {"layers": ("all",), **said, **common}
    if "batch_size" not in stated:
        raise RecipeError(f"{path}: no data layer of the network says a batch_size; give `batch_size`")
    made = Stage(
        **stated,
        lr=solver.base_lr,
        head_lr=1.0,
        optimizer=solver.type.lower(),
        momentum=solver.momentum,
        weight_decay=solver.weight_decay,
        clip=solver.clip,
        solver=solver,
    )
    return made, pictures


def _pictures(mean_file: str, text: str) -> dict[str, Any]:
    """The mean image that the training text names, where it is there: from this folder, else beside the text."""
    for place in (mean_file, os.path.join(os.path.dirname(text), mean_file)):
        if mean_file.endswith(".binaryproto") and os.path.isfile(place):
            return {"mean": place}
    return {}


def tell(path: str, solver: Solver, say: Callable[[str], object]) -> None:
    """Says how the solver `path` is followed, and what of it has no part here."""
    limits = f", each of {solver.iter_size} batches" if solver.iter_size > 1 else ""
    say(f"{path}: {solver.type}, {solver.max_iter} iterations{limits}, lr_policy {solver.lr_policy}")
    with guarded(path):
        said = read_solver(path)
    idle = [name for name in _IDLE if (said.test_iter if name == "test_iter" else said.HasField(name))]
    if idle:
        say(f"{path}: {', '.join(idle)} have no part here: validation is by all of its pictures, results go to `out`")
