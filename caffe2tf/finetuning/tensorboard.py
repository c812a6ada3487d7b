"""TensorBoard's log: the graph, scalars, histograms of weights and gradients, pictures."""

import contextlib
import glob
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.finetuning.results import Row
from caffe2tf.finetuning.trainer import Trainer

_PICTURES, _HISTOGRAMS = 6, 20  # of a stage


class Board:
    """Writes into `folder`, on from the epoch `epochs`; without a folder it does nothing."""

    def __init__(self, folder: str | None, epochs: int) -> None:
        self.writer: Any = None
        self.epochs = epochs
        if folder:
            import tensorflow as tf

            self.writer = tf.summary.create_file_writer(folder)

    def stage(
        self,
        trainer: Trainer,
        number: int,
        pictures: tuple[NDArray[np.uint8], NDArray[np.integer[Any]]],
        classes: Sequence[str],
    ) -> None:
        """The graph of what trains, and the first pictures of the training set."""
        if not self.writer:
            return
        import tensorflow as tf

        model = trainer.model
        specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
        run = tf.function(lambda *xs: model(list(xs) if len(xs) > 1 else xs[0], training=False), autograph=False)
        images, labels = pictures
        with self.writer.as_default(step=number):
            tf.summary.graph(run.get_concrete_function(*specs).graph)
            if number == 1:
                for place in np.linspace(0, len(images) - 1, min(_PICTURES, len(images))).astype(int):
                    shown = np.ascontiguousarray(images[place][None, :, :, ::-1])
                    tf.summary.image(f"training pictures/{classes[labels[place]]} {place}", shown)

    def epoch(self, row: Row, trainer: Trainer) -> None:
        """The numbers of a row of the history, and now and then histograms."""
        if not self.writer:
            return
        import tensorflow as tf

        self.epochs += 1
        with self.writer.as_default(step=self.epochs):
            for name in ("loss", "accuracy", "val_loss", "val_accuracy", "lr"):
                tf.summary.scalar(name, row[name])
            if (row["epoch"] - 1) % (1 + trainer.stage.epochs // _HISTOGRAMS) == 0:
                for name, values in trainer.histograms().items():
                    tf.summary.histogram(name, values)


@contextlib.contextmanager
def open(folder: str | None, epochs: int = 0) -> Iterator[Board]:
    """A Board for the block; from epoch 0 on the logs that an earlier run wrote go."""
    if folder and not epochs:
        for path in glob.glob(os.path.join(glob.escape(folder), "events.out.tfevents.*")):
            os.remove(path)
    board = Board(folder, epochs)
    try:
        yield board
    finally:
        if board.writer:
            board.writer.close()
