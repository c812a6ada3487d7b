"""The loop: epochs of steps that cannot end in NaN without saying why, and that a break does not undo."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

from caffe2tf.errors import Caffe2TFError
from caffe2tf.finetuning.batches import Examples, dataset
from caffe2tf.finetuning.checkpoint import Checkpoint
from caffe2tf.finetuning.placement import Placement
from caffe2tf.finetuning.results import Row
from caffe2tf.finetuning.trainer import Trainer, TrainingError
from caffe2tf.finetuning.walk import Walk

Steps = Callable[[int, int], AbstractContextManager[Callable[[int], object]]]


class NotFinite(TrainingError):
    """A loss or a gradient that is not finite, with what was seen."""


class Stopped(Caffe2TFError):
    """The user stopped it, by the signal `number`; what is there was saved."""

    def __init__(self, told: str, number: int = signal.SIGINT) -> None:
        super().__init__(told)
        self.number = number


class _Asked(threading.Event):
    """Whether somebody asked to stop, and by which signal."""

    number: int = signal.SIGINT


@dataclass
class Place:
    """Where a run stands: `epoch` and `step` that come next, from 0, and sums over the steps of this epoch."""

    stage: int
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    right: int = 0


def train(
    trainer: Trainer,
    sets: tuple[Examples, Examples],
    key: tuple[int, int],
    keep: Checkpoint,
    place: Place | None,
    history: list[Row],
    report: Callable[[Row], object] = lambda row: None,
    steps: Steps = lambda epoch, count: contextlib.nullcontext(lambda done: None),
) -> None:
    """Trains by `trainer.stage` on `sets`, (training, validation) Examples, from `place` on (None: the start), and adds rows
    to `history`. `keep`, a Checkpoint, holds the weights with the best validation accuracy as `best-N`, N the stage.

    `key`: the numbers of seed and stage; `report` gets each row; `steps(epoch, count)` makes a progress context. Where the
    run stands is kept after every epoch. Raises NotFinite, and Stopped after Ctrl-C or SIGTERM.
    """
    training, validation = sets
    stage, placement = trainer.stage, trainer.placement
    place = place or Place(key[-1])
    walk = Walk.of(stage, len(training))

    def save(place: Place) -> None:
        keep.save(
            "last", trainer.values(), {"place": vars(place), "history": history, "good_steps": trainer.good_steps}
        )

    with _interruptible() as asked:
        while place.epoch < walk.rounds:
            rate, largest = trainer.set_rate(place.epoch), 0.0
            batch: Sequence[Any] = ()
            count, order = walk.examples(place.epoch), walk.order(place.epoch, key)
            left = dataset(training, walk.batch, placement.share, (*key, place.epoch), place.step, order)
            with steps(place.epoch + 1, walk.steps(place.epoch) - place.step) as stepped:
                for batch in left:
                    loss, right, largest = trainer.step(batch, training.held)
                    place.step += 1
                    if not np.isfinite(loss) or not np.isfinite(largest):
                        raise NotFinite(_not_finite(trainer, place, rate, loss, largest, training, batch))
                    size = min(walk.batch, count - (place.step - 1) * walk.batch)
                    place.loss, place.right = place.loss + loss * size, place.right + right
                    stepped(1)
                    if stage.solver and stage.solver.snapshot and _done(walk, place) % stage.solver.snapshot == 0:
                        save(place)
                    if _all_asked(placement, asked):
                        save(place)
                        raise Stopped(
                            f"stopped in stage {place.stage}, epoch {place.epoch + 1}, after step {place.step}",
                            asked.number,
                        )
            val_loss, val_accuracy = trainer.evaluate(validation)
            if not np.isfinite(val_loss):
                raise NotFinite(_not_finite(trainer, place, rate, val_loss, largest, training, batch))
            row: Row = {"stage": place.stage, "epoch": place.epoch + 1, "loss": place.loss / count}
            row |= {"accuracy": place.right / count, "val_loss": val_loss, "val_accuracy": val_accuracy, "lr": rate}
            history.append(row)
            if best_of(history, place.stage) is row:
                weights = [v.value.numpy() for v in trainer.model.variables]
                keep.save(f"best-{place.stage}", weights, {"epoch": place.epoch + 1})
            place = Place(place.stage, place.epoch + 1)
            save(place)
            report(row)
            if stage.patience and row["epoch"] - best_of(history, place.stage)["epoch"] >= stage.patience:
                return
            if place.epoch < walk.rounds and _all_asked(placement, asked):
                raise Stopped(f"stopped in stage {place.stage}, after epoch {place.epoch}", asked.number)


def _done(walk: Walk, place: Place) -> int:
    """How many iterations are done."""
    return place.epoch * walk.each + place.step


def _not_finite(
    trainer: Trainer,
    place: Place,
    rate: float,
    loss: float,
    largest: float,
    examples: Examples,
    batch: Sequence[Any],
) -> str:
    given = [array[batch[0].numpy()] for array in examples.arrays] if examples.held else batch[:-2]
    reach = max((float(np.abs(np.asarray(values)).max()) for values in given), default=0.0)
    low, high = examples.span
    seen = f"pictures from {low:g} to {high:g}"
    if examples.usual and not np.allclose(examples.usual, examples.span, rtol=0.5):
        seen += f", and this net was trained on {examples.usual[0]:g} to {examples.usual[1]:g}"
    return (
        f"the loss is {loss} at epoch {place.epoch + 1}, step {place.step}: learning rate {rate:g} "
        f"(head {rate * trainer.stage.head_times:g}), largest gradient {largest:.3g}, {seen}; inputs of the trained layers "
        f"reach {reach:.3g}. Try `lr` {rate / 10:g} or `clip` 1"
    )


def best_of(history: Sequence[Row], stage: int | None = None) -> Row:
    """The row with the highest validation accuracy, of equals that with the lowest loss, of one stage or of all: where pictures are
    few many epochs are equal, and the first of them has learned little."""
    rows = [row for row in history if stage in (None, row["stage"])]
    return max(rows, key=lambda row: (row["val_accuracy"], -row["val_loss"]))


def _all_asked(placement: Placement, asked: threading.Event) -> bool:
    """Whether Ctrl-C was pressed, on any worker: they stop after the same step."""
    if placement.workers == 1:
        return asked.is_set()
    return bool(placement.total(np.array([asked.is_set()], np.int32))[0])


@contextlib.contextmanager
def _interruptible() -> Iterator[_Asked]:
    """An Event that the first Ctrl-C or SIGTERM sets; the second ends the process as ever."""
    asked = _Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def first(number: int, frame: FrameType | None) -> None:
        asked.number = number
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, first)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
