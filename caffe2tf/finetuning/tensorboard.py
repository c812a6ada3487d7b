"""TensorBoard's log: the graph, scalars, histograms of weights and gradients, pictures."""

import contextlib
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.files.renames import reason
from caffe2tf.finetuning.results import Row
from caffe2tf.finetuning.rows import Rows
from caffe2tf.finetuning.trainer import Trainer
from caffe2tf.keras_model import device as devices
from caffe2tf.keras_model.types import KerasModel

_PICTURES, _HISTOGRAMS = 6, 20  # of a stage
_SETS = {"training": "", "validation": "val_"}  # and what their columns in the history begin with
_BUCKETS = 30  # of a histogram, TensorFlow's own number


class Board:
    """Writes into `folder`, on from the epoch `epochs`; without a folder it does nothing. Where the log cannot be written, `say` gets
    a line once, and the training goes on without."""

    def __init__(self, folder: str | None, epochs: int, say: Callable[[str], object]) -> None:
        self.writer: Any = None
        self.sets: dict[str, Any] = {}  # a log for each set: what has one name in two logs is one chart
        self.epochs, self.say = epochs, say
        if folder:
            import tensorflow as tf

            self.writer = tf.summary.create_file_writer(folder)
            self.sets = {name: tf.summary.create_file_writer(os.path.join(folder, name)) for name in _SETS}

    @contextlib.contextmanager
    def _writing(self, step: int) -> Iterator[None]:
        """What is written in the block goes into the log, and to the disk at its end."""
        import tensorflow as tf

        try:
            with self.writer.as_default(step=step):
                yield
            for writer in (self.writer, *self.sets.values()):
                writer.flush()
        except tf.errors.OpError as error:
            self.close()
            self.say(f"the log for TensorBoard ends here: {reason(error)}")

    def close(self) -> None:
        """What was written is on the disk after every epoch: what fails now was said then."""
        if self.writer:
            import tensorflow as tf

            writers, self.writer, self.sets = (self.writer, *self.sets.values()), None, {}
            for writer in writers:
                with contextlib.suppress(tf.errors.OpError):
                    writer.close()

    def stage(
        self,
        trainer: Trainer,
        number: int,
        pictures: tuple[Rows, NDArray[np.integer[Any]], NDArray[np.bool_]],
        classes: Sequence[str],
    ) -> None:
        """The graph of what trains, and some of (the training pictures, their labels, which may be shown)."""
        if not self.writer:
            return
        import tensorflow as tf

        images, labels, here = pictures
        with self._writing(number):
            if devices.backend() == "tensorflow":  # the log's graph is TensorFlow's
                tf.summary.graph(_graph(trainer.model))
            if number == 1:
                known = np.flatnonzero(here)
                for place in known[np.linspace(0, len(known) - 1, min(_PICTURES, len(known))).astype(int)]:
                    shown = np.ascontiguousarray(images[place][None, :, :, ::-1])
                    tf.summary.image(f"training pictures/{classes[labels[place]]} {place}", shown)

    def epoch(self, row: Row, trainer: Trainer) -> None:
        """The numbers of a row of the history, and now and then histograms."""
        if not self.writer:
            return
        import tensorflow as tf

        self.epochs += 1
        with self._writing(self.epochs):
            tf.summary.scalar("lr", row["lr"])
            for name, prefix in _SETS.items():
                with self.sets[name].as_default(step=self.epochs):
                    for what in ("loss", "accuracy"):
                        tf.summary.scalar(what, row[f"{prefix}{what}"])
            if (row["epoch"] - 1) % (1 + trainer.stage.rounds // _HISTOGRAMS) == 0:
                for name, values in trainer.histograms():
                    _write_histogram(name, values, self.epochs)


def _graph(model: KerasModel) -> Any:
    import tensorflow as tf

    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
    run = tf.function(lambda *xs: model(list(xs) if len(xs) > 1 else xs[0], training=False), autograph=False)
    return run.get_concrete_function(*specs).graph


def _write_histogram(name: str, values: NDArray[Any], step: int) -> None:
    """What `tf.summary.histogram` writes, rows of left edge, right edge and count: made here by NumPy, block by block, where
    TensorFlow takes a float64 for every value and bucket, 14.5 GB for AlexNet's fc6."""
    import tensorflow as tf
    from tensorboard.plugins.histogram import metadata

    flat = values.ravel()
    if flat.size and not np.isfinite([flat.min(), flat.max()]).all():  # gradients that overflowed, in half precision
        flat = flat[np.isfinite(flat)]
    least, most = (float(flat.min()), float(flat.max())) if flat.size else (0.0, 0.0)
    if least == most:  # as TensorFlow does it: all in the last bucket, which has no width
        rows = np.full((_BUCKETS, 3), (least, most, 0.0))
        rows[-1, 2] = flat.size
    else:
        counts, edges = np.histogram(flat, _BUCKETS, (least, most))
        rows = np.stack([edges[:-1], edges[1:], counts], axis=1)
    about = metadata.create_summary_metadata(display_name=None, description=None)
    tf.summary.write(name, tf.constant(rows, tf.float64), step, about)


@contextlib.contextmanager
def open(folder: str | None, epochs: int = 0, say: Callable[[str], object] = lambda line: None) -> Iterator[Board]:
    """A Board for the block; from epoch 0 on the logs that an earlier run wrote go."""
    if folder and not epochs:
        for part in ("", *_SETS):
            for path in glob.glob(os.path.join(glob.escape(folder), part, "events.out.tfevents.*")):
                os.remove(path)
    board = Board(folder, epochs, say)
    try:
        yield board
    finally:
        board.close()
