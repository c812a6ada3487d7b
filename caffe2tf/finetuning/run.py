"""`caffe2tf finetune` from data to results."""

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf import words
from caffe2tf.errors import OutputError
from caffe2tf.files import replacing as files
from caffe2tf.finetuning import batches, data, heads, inputs, memory, plan, recipe, results, trainer, training
from caffe2tf.finetuning import tensorboard as board
from caffe2tf.finetuning.batches import Examples
from caffe2tf.finetuning.checkpoint import LAST, Checkpoint
from caffe2tf.finetuning.placement import Placement
from caffe2tf.finetuning.settings import Recipe, RecipeError, Stage
from caffe2tf.finetuning.solving import tell as tell_solver
from caffe2tf.finetuning.walk import Walk
from caffe2tf.finetuning.warnings import tell as tell_sets
from caffe2tf.images import preprocess
from caffe2tf.keras_model import device as devices
from caffe2tf.net import net as nets
from caffe2tf.net.net import Net
from caffe2tf.probabilities import probabilities

_LOG = logging.getLogger("caffe2tf")
_Step = Callable[[int], object]
_Set = tuple[NDArray[np.uint8], NDArray[np.int32]]  # pictures and labels
_Sets = tuple[Examples, Examples]  # training and validation


class Run:
    """One run of `recipe`: its network and its pictures, read and checked, nothing written yet.

    `say` gets lines for the user, the logger "caffe2tf" where nobody asks for them; `bar(what, total)` makes a progress
    context. Raises Caffe2TFError.
    """

    def __init__(
        self,
        run: Recipe,
        say: Callable[[str], object] = _LOG.info,
        bar: Callable[[str, int], AbstractContextManager[_Step]] | None = None,
    ) -> None:
        self.recipe, self.say = run, say
        self.bar = bar or (lambda what, total: contextlib.nullcontext(lambda done: None))
        net = inputs.network(run)
        self.how, source = preprocess.of(net)
        usual = preprocess.of(replace(net, preprocessing=None))[0].span
        self.usual = None if inputs.starts_afresh(run) else usual
        sets = inputs.parts(run)
        self.classes = sets[0].classes
        self.net, self.head, fresh = plan.with_head(net, len(self.classes), run.head, run.seed, run.solver is not None)
        plans = [self._plan(self.net, stage) for stage in run.stages]
        if fresh and self.head not in plans[0].trained:
            outputs = net.layer(self.head).tops()[0][1]
            raise plan.PlanError(
                f"the head '{self.head}' gives {outputs} classes, the data has {len(self.classes)}: name it in `layers`"
            )
        if self.how.crop is None and any("crop" in stage.augment and stage.solver is None for stage in run.stages):
            raise RecipeError(f"`augment` crop: pictures are not cropped ({self.how}); say a larger `resize`")
        if run.solver is not None and run.stages[0].solver is not None:
            tell_solver(run.solver, run.stages[0].solver, self.say)
        self._tell(sets, fresh, source)
        self._tell_memory(list(zip(plans, run.stages, strict=True)), [len(part) for part in sets if part])
        self.training, self.validation = self._decode("training", sets[0]), self._decode("validation", sets[1])
        self.test = self._decode("test", sets[2]) if sets[2] else None
        self.cache: tuple[Any, list[list[NDArray[np.float32]]]] | None = None

    def _plan(self, net: Net, stage: Stage) -> plan.Plan:
        return plan.make(net, self.head, stage.layers or (), stage.dropout, stage.lr_mult == "text")

    def _tell(self, sets: Sequence[data.Pictures | None], fresh: bool, source: str) -> None:
        how = f"pictures become input as {self.how} ({source})"
        self.say(f"the head '{self.head}' {'starts fresh' if fresh else 'keeps its weights'}; {how}")
        tell_sets(sets, self.say)

    def _tell_memory(self, plans: Sequence[tuple[plan.Plan, Stage]], counts: Sequence[int]) -> None:
        picture = math.prod(self.how.resize or ()) * self.how.channels
        needed, there = memory.peak(plans, counts, picture), memory.there()
        more = f"; this machine has {words.size(there)} and may end it" if there is not None and needed > there else ""
        self.say(f"takes {words.size(needed)} of memory at most{more}")

    def _decode(self, name: str, part: data.Pictures) -> _Set:
        """(uint8 pictures, labels) of one set."""
        with self.bar(f"reading {name} pictures", len(part)) as step:
            images, kept, bad = data.decode(part, self.how, self.recipe.strict, step)
        for line in bad:
            self.say(f"skipped: {line}")
        if bad:
            self.say(f"{len(bad)} of {len(part)} {name} pictures cannot be read and are skipped")
            inputs.check_classes(name, kept)
        return images, kept.labels

    def _examples(self, work: plan.Plan, stage: Stage, placed: Placement) -> tuple[plan.Plan, _Sets]:
        """(the Plan, training and validation Examples): of features where nothing below changes, else of pictures."""
        if work.base is None or stage.augment:
            why = "augmentation changes them" if stage.augment else "the first layers train"
            self.say(f"frozen features are not cached: {why}")
            training = batches.pictures(*self.training, self.how, stage.augment, self.usual)
            return work.uncached(), (training, batches.pictures(*self.validation, self.how, (), self.usual))
        # Arrays that no stage trained are the same objects.
        key = self._key(work)
        if self.cache is None or self.cache[0] != key:
            self.cache = None  # before the next takes its memory
            stores: list[list[NDArray[np.float32]]] = []
            for name, (images, _) in (("training", self.training), ("validation", self.validation)):
                with self.bar(f"features of the {name} set", len(images)) as step:
                    stores.append(trainer.features(work.base, work.frontier, images, self.how, step))
            self.cache = key, stores
        self.say(f"frozen features up to {', '.join(work.frontier)} are computed once")
        training, validation = (
            Examples(store, labels, None, self.how.span, self.usual)
            for store, (_, labels) in zip(self.cache[1], (self.training, self.validation), strict=True)
        )
        return work, (training.hold(), validation.hold()) if placed.share[0] == 1 else (training, validation)

    def _key(self, work: plan.Plan) -> Any:
        """By which cached features are known: of another network's layers they would be others."""
        arrays = work.base.arrays.values() if work.base else ()
        return work.frontier, [id(array) for layer in arrays for array in layer]

    # -------------------------------------------------------------- training

    def train(self, out: str, placed: Placement, force: bool = False, resume: bool = False) -> float | None:
        """Trains on the devices of `placed` and writes results into the folder `out`; returns the accuracy on the test
        set, or on the validation set where there is none; None on a worker that writes nothing."""
        if placed.chief:
            results.check_folder(out, force, resume)
            results.make_folder(out)
        keep = Checkpoint(out if placed.chief else None)
        with keep.alone():
            return self._train_alone(out, placed, keep, force, resume)

    def _train_alone(self, out: str, placed: Placement, keep: Checkpoint, force: bool, resume: bool) -> float | None:
        try:
            return self._train(out, placed, keep, force, resume)
        except OutputError as error:
            if keep.begun():
                raise OutputError(f"{error}; what was there stays, and `resume` goes on from it") from None
            raise
        except Exception as error:
            # TensorFlow's own errors, whose class cannot be named before it is loaded.
            if placed.workers > 1 and type(error).__module__.startswith("tensorflow."):
                why = f"a worker is gone ({type(error).__name__}), see what it said; `resume`, on all of them, goes on"
                raise trainer.TrainingError(why) from None
            raise

    def _train(self, out: str, placed: Placement, keep: Checkpoint, force: bool, resume: bool) -> float | None:
        begun = time.monotonic()
        if placed.chief:
            results.check_folder(out, True)  # another run may have ended in it meanwhile
            results.note_board(out)
        if not resume:
            keep.begin(self.recipe)
        kept = keep.load("last", LAST) if resume else None
        note = json.loads(placed.spread_text(json.dumps(kept[1] if kept else None)))
        place = training.Place(**note["place"]) if note else None
        history: list[results.Row] = note["history"] if note else []
        if place:
            keep.need([f"stage-{number}" for number in range(1, place.stage)])
            keep.need({f"best-{row['stage']}" for row in history if row["stage"] == place.stage})
        if resume:
            self.say(f"goes on in stage {place.stage}, epoch {place.epoch + 1}" if place else "goes on from the start")
        net = best = last = self.net
        failed: training.NotFinite | None = None
        log = os.path.join(out, results.BOARD) if placed.chief else None
        with board.open(log, len(history), self.say) as watch:
            for number, stage in enumerate(self.recipe.stages, 1):
                work = self._plan(net, stage)
                if place and number < place.stage:
                    net = last = self._stage_of(keep, number, net, placed)
                else:
                    work, sets = self._examples(work, stage, placed)
                    spread, weights = heads.spread(work, sets[0], placed), heads.weights(stage, sets[0], work.classes)
                    learner = trainer.Trainer(work, stage, placed, self.recipe.seed + number, spread, weights)
                    if place:
                        learner.restore(kept and kept[0])
                        learner.good_steps = note["good_steps"]
                    watch.stage(learner, number, self.training, self.classes)
                    try:
                        self._stage(learner, number, sets, keep, place, history, watch)
                    except training.NotFinite as error:
                        if not history:
                            raise
                        failed = error
                    place = None
                    if not any(row["stage"] == number for row in history):
                        break
                    if failed:
                        before = keep.load("last")
                        learner.restore(before and before[0])
                    last = plan.merged(net, learner.net())
                    found = keep.load(f"best-{number}")
                    learner.go_back(found and found[0])
                    net = plan.merged(net, learner.net())
                    self._keep_stage(keep, number, net)
                if training.best_of(history)["stage"] == number:
                    best = net
                if failed:
                    break
        accuracy = None
        if placed.chief:
            with devices.computing_in("float32"):  # whatever it was trained in
                accuracy = self._write(out, best, last, history, placed, time.monotonic() - begun)
            keep.remove()
        placed.barrier()
        if failed:
            raise trainer.TrainingError(f"{failed}; the results in {out} are those of the epochs before")
        return accuracy

    def _stage(
        self,
        learner: trainer.Trainer,
        number: int,
        sets: _Sets,
        keep: Checkpoint,
        place: training.Place | None,
        history: list[results.Row],
        watch: board.Board,
    ) -> None:
        stages = f"stage {number} of {len(self.recipe.stages)}: " if len(self.recipe.stages) > 1 else ""
        names = learner.plan.trained
        what = ", ".join(names) if len(names) <= 8 else f"{len(names)} layers, {names[0]} to {names[-1]},"
        self.say(f"{stages}trains {what} on {learner.placement.name}")

        walk = Walk.of(learner.stage, len(sets[0]))

        def report(row: results.Row) -> None:
            self.say(
                f"{walk.told(row['epoch'])}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
                f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}  lr {row['lr']:.3g}"
            )
            watch.epoch(row, learner)

        def steps(epoch: int, count: int) -> AbstractContextManager[_Step]:
            return self.bar(f"epoch {epoch}", count)

        training.train(learner, sets, (self.recipe.seed, number), keep, place, history, report, steps)

    def _changed(self, number: int) -> list[str]:
        """The layers that stages up to `number` train, and the head."""
        names = {self.head}
        for stage in self.recipe.stages[:number]:
            names.update(self._plan(self.net, stage).trained)
        return sorted(names)

    def _keep_stage(self, keep: Checkpoint, number: int, net: Net) -> None:
        arrays = [array for name in self._changed(number) for array in net.arrays[name]]
        keep.save(f"stage-{number}", arrays, {})

    def _stage_of(self, keep: Checkpoint, number: int, net: Net, placed: Placement) -> Net:
        names = self._changed(number)
        shapes = [(name, array) for name in names for array in net.arrays[name]]
        found = keep.load(f"stage-{number}")
        arrays: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        for index, (name, blank) in enumerate(shapes):
            arrays[name].append(placed.spread(found[0][index] if found else blank))
        return nets.rebuild(net, net.param, {**net.arrays, **{name: tuple(a) for name, a in arrays.items()}})

    # -------------------------------------------------------------- results

    def _write(
        self, out: str, best: Net, last: Net, history: list[results.Row], placed: Placement, seconds: float
    ) -> float:
        row, staged = training.best_of(history), results.staging(out)
        settings = asdict(self.recipe) | {"best_stage": row["stage"], "best_epoch": row["epoch"], "head": self.head}
        settings |= {"device": placed.name, "seconds": round(seconds, 1), "preprocessing": asdict(self.how)}
        best, last = replace(best, preprocessing=self.how), replace(last, preprocessing=self.how)
        results.models(staged, best, last, self.classes, settings)
        files.write_text(os.path.join(staged, recipe.FILE), recipe.text(self.recipe, out), force=True)
        results.history(staged, history)
        images, labels = self.test or self.validation
        judged = "test" if self.test else "validation"
        with self.bar(f"the {judged} set", len(images)) as step:
            scores = self._plan(best, self.recipe.stages[row["stage"] - 1])
            if judged == "validation" and scores.base and self.cache and self.cache[0] == self._key(scores):
                output = trainer.outputs(scores.top, scores.logits, self.cache[1][1])
            else:
                output = trainer.features(scores.net, [scores.logits], images, self.how, step)[0]
        found = results.evaluation(staged, images, labels, probabilities(output.reshape(len(output), -1)), self.classes)
        title = f"{best.name or 'network'} on {len(self.classes)} classes, {judged} set"
        results.page(staged, title, recipe.text(self.recipe, out), history, found, row)
        results.place(staged, out)
        where = f"epoch {row['epoch']}" + (f" of stage {row['stage']}" if len(self.recipe.stages) > 1 else "")
        self.say(f"{judged} accuracy {found['accuracy']:.4f} with the weights of {where}; results in {out}")
        return float(found["accuracy"])
