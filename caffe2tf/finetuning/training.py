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

from caffe2tf import spent
from caffe2tf.errors import Caffe2TFError
from caffe2tf.finetuning.batches import Examples, dataset
from caffe2tf.finetuning.checkpoint import LAYOUT, Checkpoint
from caffe2tf.finetuning.placement import Placement
from caffe2tf.finetuning.results import Row
from caffe2tf.finetuning.rows import Held
from caffe2tf.finetuning.settings import Stage
from caffe2tf.finetuning.trainer import Trainer, TrainingError
from caffe2tf.finetuning.walk import Walk

READ_EVERY = 16  # steps, after which their losses are read: reading waits for the device
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
    """Where a run stands: `epoch` and `step` that come next, from 0, and sums over the `seen` examples of this epoch."""

    stage: int
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0


def train(
    trainer: Trainer,
    sets: tuple[Examples, Examples],
    key: tuple[int, int],
    keep: Checkpoint,
    place: Place | None,
    history: list[Row],
    report: Callable[[Row], object] = lambda row: None,
    steps: Steps = lambda epoch, count: contextlib.nullcontext(lambda done: None),
    callbacks: Sequence[Any] = (),
) -> None:
    """Trains by `trainer.stage` on `sets`, (training, validation) Examples, from `place` on (None: the start), and adds rows
    to `history`. `keep`, a Checkpoint, holds the weights with the best validation accuracy as `best-N`, N the stage.

    `key`: the numbers of seed and stage; `report` gets each row; `steps(epoch, count)` makes a progress context. Where the
    run stands is kept after every epoch. `callbacks`: keras.callbacks.Callback objects, which may end the stage by
    `model.stop_training`; their logs of a batch are empty, since its loss is read later. Raises NotFinite, and Stopped after Ctrl-C or SIGTERM.
    """
    training, validation = sets
    stage, placement = trainer.stage, trainer.placement
    place = place or Place(key[-1])
    walk = walk_of(stage, training)

    def save(place: Place) -> None:
        note = {"layout": LAYOUT, "place": vars(place), "history": history, "good_steps": trainer.good_steps}
        keep.save("last", trainer.values(), note)

    watching = _watching(trainer, callbacks, walk.rounds)
    with _interruptible() as asked:
        watching.on_train_begin()
        while place.epoch < walk.rounds:
            rate, largest = trainer.set_rate(place.epoch), 0.0
            told: list[Any] = []
            watching.on_epoch_begin(place.epoch)
            total, order = walk.steps(place.epoch), walk.order(place.epoch, key)
            left = dataset(training, walk.batch, placement.share, (*key, place.epoch), place.step, order)
            with steps(place.epoch + 1, total - place.step) as stepped, contextlib.closing(left):
                for batch in left:
                    watching.on_train_batch_begin(place.step)
                    with spent.on("run" if place.step else "trace"):
                        told.append(trainer.step(batch, training.held))
                    watching.on_train_batch_end(place.step)
                    place.step += 1
                    stepped(1)
                    due = len(told) == READ_EVERY or place.step == total
                    largest = _read(trainer, told, place, rate, training, key) if due else largest
                    if stage.solver and stage.solver.snapshot and _done(walk, place) % stage.solver.snapshot == 0:
                        _read(trainer, told, place, rate, training, key)
                        save(place)
                    # Several workers stop after the same step.
                    if (due or placement.workers == 1) and _all_asked(placement, asked):
                        _read(trainer, told, place, rate, training, key)
                        save(place)
                        raise Stopped(
                            f"stopped in stage {place.stage}, epoch {place.epoch + 1}, after step {place.step}",
                            asked.number,
                        )
            val_loss, val_accuracy = trainer.evaluate(validation)
            if not np.isfinite(val_loss):
                raise NotFinite(_not_finite(trainer, place, total - 1, rate, val_loss, largest, training, key))
            count = max(1, place.seen)
            row: Row = {"stage": place.stage, "epoch": place.epoch + 1, "loss": place.loss / count}
            row |= {"accuracy": place.right / count, "val_loss": val_loss, "val_accuracy": val_accuracy, "lr": rate}
            history.append(row)
            if best_of(history, place.stage) is row:
                keep.save(f"best-{place.stage}", trainer.values(trainer.model.variables), {"epoch": place.epoch + 1})
            logs = {key: row[key] for key in ("loss", "accuracy", "val_loss", "val_accuracy")}
            watching.on_epoch_end(place.epoch, logs | {"learning_rate": row["lr"]})
            # A stage that a callback or patience ended is over after a break too.
            over = trainer.model.stop_training or _waited(stage, history, row)
            place = Place(place.stage, walk.rounds if over else place.epoch + 1)
            save(place)
            report(row)
            if place.epoch < walk.rounds and _all_asked(placement, asked):
                raise Stopped(f"stopped in stage {place.stage}, after epoch {place.epoch}", asked.number)
        watching.on_train_end()


def walk_of(stage: Stage, examples: Examples) -> Walk:
    """The Walk of `stage` over its training Examples."""
    return Walk.of(stage, len(examples), examples.make is None)


def _watching(trainer: Trainer, callbacks: Sequence[Any], epochs: int) -> Any:
    import keras

    trainer.model.stop_training = False
    return keras.callbacks.CallbackList(list(callbacks), model=trainer.model, epochs=epochs)


def _done(walk: Walk, place: Place) -> int:
    """How many iterations are done."""
    return place.epoch * walk.each + place.step


def _read(
    trainer: Trainer, told: list[Any], place: Place, rate: float, examples: Examples, key: tuple[int, int]
) -> float:
    """Adds what the last steps saw, which they `told`, to `place`; the largest gradient of the last one. Raises NotFinite."""
    largest, before = 0.0, place.step - len(told)
    for index, (loss, right, largest, count, broken) in enumerate(trainer.seen(told)):
        if broken:
            raise NotFinite(_not_finite(trainer, place, before + index, rate, loss, largest, examples, key))
        if np.isfinite(loss):
            place.loss, place.right, place.seen = place.loss + loss * count, place.right + right, place.seen + count
    told.clear()
    return largest


def _not_finite(
    trainer: Trainer,
    place: Place,
    step: int,
    rate: float,
    loss: float,
    largest: float,
    examples: Examples,
    key: tuple[int, int],
) -> str:
    walk = walk_of(trainer.stage, examples)
    order = walk.order(place.epoch, key)
    again = dataset(examples, walk.batch, trainer.placement.share, (*key, place.epoch), step, order)
    batch = next(again)
    again.close()
    given = [Held(tensor)[batch[0]] for tensor in examples.held] or batch[:-2]
    reach = max((float(np.abs(np.asarray(values)).max()) for values in given), default=0.0)
    low, high = examples.span
    seen = f"pictures from {low:g} to {high:g}"
    if examples.usual and not np.allclose(examples.usual, examples.span, rtol=0.5):
        seen += f", and this net was trained on {examples.usual[0]:g} to {examples.usual[1]:g}"
    return (
        f"the loss is {loss} at epoch {place.epoch + 1}, step {step + 1}: learning rate {rate:g} "
        f"(head {rate * trainer.stage.head_times:g}), largest gradient {largest:.3g}, {seen}; inputs of the trained layers "
        f"reach {reach:.3g}. Try `lr` {rate / 10:g} or `clip` 1"
    )


def _waited(stage: Stage, history: Sequence[Row], row: Row) -> bool:
    """Whether `row`, the last of a stage, is as many epochs after the best as its patience allows."""
    best = best_of(history, row["stage"])
    return stage.patience is not None and row["epoch"] - best["epoch"] >= stage.patience


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
