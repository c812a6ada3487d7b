"""The end of a run: the best network is judged, and all that is left of the run written."""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caffe2tf.files import replacing as files
from caffe2tf.finetuning import plan, recipe, results, sets, telling, training
from caffe2tf.net.net import Net
from caffe2tf.probabilities import probabilities

if TYPE_CHECKING:
    from caffe2tf.finetuning.run import Run


def write(
    run: "Run",
    out: str,
    nets: tuple[Net, Net],
    history: list[results.Row],
    scores: NDArray[np.float32],
    seconds: float,
) -> float:
    """Writes what `run` keeps of `nets`, (best, last), into the folder `out`, its results of before going when these are whole; returns
    the accuracy that the `scores` of the best mean for the last set, of test or validation."""
    row, staged = training.best_of(history), results.staging(out)
    settings = asdict(run.recipe) | {"best_stage": row["stage"], "best_epoch": row["epoch"], "head": run.head}
    settings |= {"files": [{"file": file, "sha256": digest} for file, digest in run.files]}
    settings |= {"device": run.placed.name, "seconds": round(seconds, 1), "preprocessing": asdict(run.how)}
    keep = results.kept(run.recipe.keep)
    with run.phase("writing models", len(keep - {"report"})) as step:
        best, last = (replace(plan.finished(net, run.head), preprocessing=run.how, labels=run.classes) for net in nets)
        results.models(staged, best, last, run.classes, settings, keep, step)
    files.write_text(os.path.join(staged, recipe.FILE), recipe.text(run.recipe, out), force=True)
    results.history(staged, history, row, keep)
    number = len(run.sets.parts) - 1
    judged = sets.NAMES[number]
    found = results.evaluation(staged, run.sets.shown(number), probabilities(scores), run.classes, judged, keep)
    if "report" in keep:
        title = f"{best.name or 'network'} on {len(run.classes)} classes, {judged} set"
        about = [*_rates(run, history), *telling.about(run.placed.name, seconds, run.files, out, keep)]
        results.page(staged, title, recipe.text(run.recipe, out), history, found, row, about)
    results.place(staged, out)
    where = f"epoch {row['epoch']}" + (f" of stage {row['stage']}" if len(run.recipe.stages) > 1 else "")
    run.say(f"{judged} accuracy {found['accuracy']:.4f} with the weights of {where}; results in {out}")
    return float(found["accuracy"])


def _rates(run: "Run", history: Sequence[results.Row]) -> list[tuple[str, str]]:
    """[(what, value)] for the page on the learning rates that were found, with which their stages begin."""
    first = {row["stage"]: row["lr"] for row in reversed(history)}
    found = [number for number, stage in enumerate(run.recipe.stages, 1) if stage.lr == "auto" and number in first]
    where = {number: f"of stage {number}, " if len(run.recipe.stages) > 1 else "" for number in found}
    return [("learning rate", f"{first[number]:g}, {where[number]}found by trying some") for number in found]
