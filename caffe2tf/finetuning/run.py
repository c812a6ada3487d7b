"""`caffe2tf finetune` from data to results."""

import contextlib
import gc
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.errors import OutputError
from caffe2tf.files import digests
from caffe2tf.finetuning import (
    checkpoint,
    data,
    finishing,
    heads,
    inputs,
    memory,
    plan,
    results,
    sets,
    solving,
    sweep,
    telling,
    trainer,
    training,
    warnings,
)
from caffe2tf.finetuning import tensorboard as board
from caffe2tf.finetuning.batches import Examples
from caffe2tf.finetuning.checkpoint import Checkpoint
from caffe2tf.finetuning.placement import Placement, watched
from caffe2tf.finetuning.settings import Recipe, RecipeError, Stage
from caffe2tf.images import preprocess
from caffe2tf.keras_model import device as devices
from caffe2tf.net import net as nets
from caffe2tf.net.net import Net

_LOG = logging.getLogger("caffe2tf")
_Step = Callable[[int], object]
_Sets = tuple[Examples, Examples]  # training and validation


class Run:
    """One run of `recipe` on the devices of `placed`: its network and its pictures, checked, nothing written yet.

    `say` gets lines for the user, the logger "caffe2tf" where nobody asks for them; `bar(what, total)` makes a progress
    context. Raises Caffe2TFError.
    """

    def __init__(
        self,
        run: Recipe,
        placed: Placement,
        say: Callable[[str], object] = _LOG.info,
        bar: Callable[[str, int], AbstractContextManager[_Step]] | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self.recipe, self.placed, self.say, self.callbacks = run, placed, say, callbacks
        self.bar = bar or (lambda what, total: contextlib.nullcontext(lambda done: None))
        self.phase = telling.phases(self.bar, say)
        results.check_models(results.kept(run.keep))
        net = inputs.network(run)
        self.files = [(file, digests.digest(file)) for file in net.files]
        self.how, source = preprocess.of(net)
        usual = preprocess.of(replace(net, preprocessing=None))[0].span
        self.usual = None if inputs.starts_afresh(run) else usual
        parts = inputs.parts(run)
        self.classes = parts[0].classes
        self.net, self.head, fresh = plan.with_head(net, len(self.classes), run.head, run.seed, run.solver is not None)
        plans = [self.plan_of(self.net, stage) for stage in run.stages]
        if fresh and self.head not in plans[0].trained:
            outputs = net.layer(self.head).tops()[0][1]
            raise plan.PlanError(
                f"the head '{self.head}' gives {outputs} classes, the data has {len(self.classes)}: name it in `layers`"
            )
        if self.how.crop is None and any("crop" in stage.augment and stage.solver is None for stage in run.stages):
            raise RecipeError(f"`augment` crop: pictures are not cropped ({self.how}); say a larger `resize`")
        for work, stage in zip(plans, run.stages, strict=True):
            if stage.lr == "auto" and (why := sets.uncached(run, work, stage)):
                raise RecipeError(
                    f"`lr` auto tries rates on features that are computed once, and here none are: {why}; name a rate"
                )
        if run.solver is not None and run.stages[0].solver is not None:
            solving.tell(run.solver, run.stages[0].solver, self.say)
        self._tell(parts, fresh, source)
        self.sets = sets.Sets(run, parts, self.how, placed, say, self.phase)
        staged = list(zip(plans, run.stages, strict=True))
        with watched(placed):
            self.sets.check([sets.is_cached(run, *one) for one in staged])
        self._tell_memory(staged)

    def plan_of(self, net: Net, stage: Stage) -> plan.Plan:
        """What of `net` trains in `stage`."""
        heeding, as_said = stage.lr_mult == "text", stage.solver is not None
        return plan.make(net, self.head, stage.layers or (), stage.dropout, heeding, as_said)

    def _tell(self, parts: Sequence[data.Pictures | None], fresh: bool, source: str) -> None:
        afresh = inputs.starts_afresh(self.recipe)
        there = {name: part for name, part in zip(sets.NAMES, parts, strict=True) if part is not None}
        for line in (
            *telling.start(self.net, self.head, fresh, afresh, f"pictures become input as {self.how} ({source})"),
            *(part.note for part in there.values() if part.note),
            *telling.counts({name: part.counts() for name, part in there.items()}),
        ):
            self.say(line)
        for name, part in there.items():
            inputs.check_classes(name, part)
        if self.placed.chief:
            for line in warnings.of(there, all(stage.balanced for stage in self.recipe.stages)):
                self.say(line)

    def _tell_memory(self, plans: Sequence[tuple[plan.Plan, Stage]]) -> None:
        self.say(telling.memory(memory.peak(plans, self.sets), memory.there()))

    # -------------------------------------------------------------- training

    def train(self, out: str, force: bool = False, resume: bool = False) -> float | None:
        """Trains and writes results into the folder `out`; returns the accuracy on the test set, or on the validation set where
        there is none; None on a worker that writes nothing."""
        if self.placed.chief:
            results.check_folder(out, force, resume)
            results.make_folder(out)
        self.sets.folder = os.path.join(out, checkpoint.FOLDER, checkpoint.CACHE)
        keep = Checkpoint(out if self.placed.chief else None)
        with keep.alone():
            return self._train_alone(out, keep, resume)

    def _train_alone(self, out: str, keep: Checkpoint, resume: bool) -> float | None:
        try:
            with watched(self.placed):
                return self._train(out, keep, resume)
        except OutputError as error:
            if keep.begun():
                raise OutputError(f"{error}; what was there stays, and `resume` goes on from it") from None
            raise

    def _train(self, out: str, keep: Checkpoint, resume: bool) -> float | None:
        begun, placed = time.monotonic(), self.placed
        if placed.chief:
            results.check_folder(out, True)  # another run may have ended in it meanwhile
            if not self.recipe.no_tensorboard:
                results.note_board(out)
        if not resume:
            keep.begin(self.recipe)
        kept = keep.last() if resume else None
        note = json.loads(placed.spread_text(json.dumps(kept[1] if kept else None)))
        place = training.Place(**note["place"]) if note else None
        history: list[results.Row] = note["history"] if note else []
        if place:
            keep.need([f"stage-{number}" for number in range(1, place.stage)])
            keep.need({f"best-{row['stage']}" for row in history if row["stage"] == place.stage})
        if resume:
            self.say(f"goes on in stage {place.stage}, epoch {place.epoch + 1}" if place else "goes on from the start")
        best, last, failed = self._stages(out, keep, kept and kept[0], place, note, history)
        gc.collect()  # what the stages learned with, which holds itself in circles, before the results take their memory
        accuracy, row = None, training.best_of(history)
        judged = len(self.sets.parts) - 1
        with devices.computing_in("float32"):  # whatever it was trained in
            scores = self.sets.scores(self.plan_of(best, self.recipe.stages[row["stage"] - 1]), judged)
            if placed.chief:
                accuracy = finishing.write(self, out, (best, last), history, scores, time.monotonic() - begun)
        if placed.chief:
            keep.remove()
        else:
            self.sets.remove()
        placed.barrier()
        if failed:
            raise trainer.TrainingError(f"{failed}; the results in {out} are those of the epochs before")
        return accuracy

    def _stages(
        self,
        out: str,
        keep: Checkpoint,
        arrays: Sequence[NDArray[Any]] | None,
        place: training.Place | None,
        note: Any,
        history: list[results.Row],
    ) -> tuple[Net, Net, training.NotFinite | None]:
        """(the best network, the last where it is kept, why the training broke) after all stages from `place` on, whose state is in `arrays`."""
        net = best = last = self.net
        failed: training.NotFinite | None = None
        log = os.path.join(out, results.BOARD) if self.placed.chief and not self.recipe.no_tensorboard else None
        with board.open(log, len(history), self.say) as watch:
            for number, stage in enumerate(self.recipe.stages, 1):
                work = self.plan_of(net, stage)
                if place and number < place.stage:
                    net = last = self._stage_of(keep, number, net)
                else:
                    work, given = self.sets.examples(work, stage, self.usual)
                    spread = heads.spread(work, stage, given[0], self.placed)
                    weights = heads.weights(stage, given[0], work.classes)
                    learner = trainer.Trainer(work, stage, self.placed, self.recipe.seed + number, spread, weights)
                    if stage.lr == "auto":
                        learner.stage = replace(stage, lr=self._rate(learner, number, given, keep, place is not None))
                    if place:
                        learner.restore(arrays)
                        learner.good_steps = note["good_steps"]
                    watch.stage(learner, number, self.sets.shown(0), self.classes)
                    try:
                        self._stage(learner, number, given, keep, place, history, watch)
                    except training.NotFinite as error:
                        if not history:
                            raise
                        failed = error
                    place = None
                    if not any(row["stage"] == number for row in history):
                        break
                    # Weights that are read are let go as soon as they are set: they may be most of the memory.
                    if "last" in results.kept(self.recipe.keep):
                        if failed:
                            learner.restore(_arrays(keep.load("last")))
                        last = plan.merged(net, learner.net())
                    learner.go_back(_arrays(keep.load(f"best-{number}")))
                    net = plan.merged(net, learner.net())
                    self._keep_stage(keep, number, net)
                if training.best_of(history)["stage"] == number:
                    best = net
                if failed:
                    break
        return best, last, failed

    def _rate(self, learner: trainer.Trainer, number: int, given: _Sets, keep: Checkpoint, known: bool) -> float:
        """The learning rate that a sweep finds for the stage `number`, or found before the break of a run that goes on in it."""
        kept = keep.load(f"rate-{number}", {"rate": float}) if known else None
        note = json.loads(self.placed.spread_text(json.dumps(kept and kept[1])))
        if note:
            return float(note["rate"])
        rate = sweep.best(learner, given, (self.recipe.seed, number), self.say, self.phase)
        keep.save(f"rate-{number}", [], {"rate": rate})
        return rate

    def _stage(
        self,
        learner: trainer.Trainer,
        number: int,
        given: _Sets,
        keep: Checkpoint,
        place: training.Place | None,
        history: list[results.Row],
        watch: board.Board,
    ) -> None:
        self.say(telling.stage(number, len(self.recipe.stages), learner.plan.trained, learner.placement.name))
        walk = training.walk_of(learner.stage, given[0])
        clock = telling.Clock(walk.rounds)

        def report(row: results.Row) -> None:
            self.say(f"{telling.epoch(walk.told(row['epoch']), row)}  {clock(row['epoch'])}")
            watch.epoch(row, learner)

        def steps(epoch: int, count: int) -> AbstractContextManager[_Step]:
            return self.bar(f"epoch {epoch}", count)

        training.train(learner, given, (self.recipe.seed, number), keep, place, history, report, steps, self.callbacks)

    def _changed(self, number: int) -> list[str]:
        """The layers that stages up to `number` train, and the head."""
        names = {self.head}
        for stage in self.recipe.stages[:number]:
            names.update(self.plan_of(self.net, stage).trained)
        return sorted(names)

    def _keep_stage(self, keep: Checkpoint, number: int, net: Net) -> None:
        arrays = [array for name in self._changed(number) for array in net.arrays[name]]
        keep.save(f"stage-{number}", arrays, {})

    def _stage_of(self, keep: Checkpoint, number: int, net: Net) -> Net:
        names = self._changed(number)
        shapes = [(name, array) for name in names for array in net.arrays[name]]
        found = keep.load(f"stage-{number}")
        arrays: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        for index, (name, blank) in enumerate(shapes):
            arrays[name].append(self.placed.spread(found[0][index] if found else blank))
        return nets.rebuild(net, net.param, {**net.arrays, **{name: tuple(a) for name, a in arrays.items()}})


def _arrays(kept: tuple[list[NDArray[Any]], Any] | None) -> list[NDArray[Any]] | None:
    """Those of what a Checkpoint holds."""
    return kept and kept[0]
