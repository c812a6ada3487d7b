"""What a run needs to go on after a break: arrays and a note in one file, whole or not there."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.arrays import numbers
from caffe2tf.errors import OutputError, ParseError, guarded
from caffe2tf.files import records
from caffe2tf.files.renames import held
from caffe2tf.files.replacing import replacing, write_bytes, write_text
from caffe2tf.finetuning.recipe import FILE, text
from caffe2tf.finetuning.settings import Recipe

_ROW = {"stage": int, "epoch": int, **dict.fromkeys(("loss", "accuracy", "val_loss", "val_accuracy", "lr"), float)}
_PLACE = {"stage": int, "epoch": int, "step": int, "loss": float, "right": int, "seen": int}
# What `last` notes, as training.train writes it.
LAST = {"?layout": int, "place": _PLACE, "history": [_ROW], "good_steps": int}
LAYOUT = 2  # of the arrays in `last`: SGD's histories are what is added to the weights; without a number, what is taken from them
FOLDER = "checkpoint"
MARKER = "caffe2tf.json"  # by which a folder is known as ours
RESULTS = "results"  # in it: results that do not stand in their place yet
CACHE = "cache"  # in it: features that memory has no room for
_NOTE = "note"  # no variable's name is bare of digits
_SAVED = "saved"  # an empty file: there is a `last`
_LOCK = "running"  # by which a run keeps others out
_OURS = re.compile(rf"(last|(best|stage|rate)-\d+)\.npz|{re.escape(FILE)}|{_SAVED}|\..+\.\d+\.(part|old)\d+.*")


def ours(folder: str) -> bool:
    """Whether `checkpoint/` in `folder` is of a run of ours: so also one that was killed before it put anything there."""
    place = os.path.join(folder, FOLDER)
    if any(os.path.isfile(os.path.join(place, name)) for name in (MARKER, FILE)):
        return True
    return os.path.isdir(place) and all(name == _LOCK or _OURS.fullmatch(name) for name in os.listdir(place))


class Checkpoint:
    """The folder `checkpoint/` of a run: its recipe, `last` (where it stands), `best-N` of stage N, `stage-N` (what N left),
    `rate-N` (the learning rate found for it), `results/`, the staging place of what the run leaves, and `cache/`, what it computes once.

    Without a folder (another worker's) nothing is written.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = os.path.join(folder, FOLDER) if folder else ""

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other runs out of the folder until the end of the block. Raises OutputError where one is in it."""
        if not self.folder:
            yield
            return
        os.makedirs(self.folder, exist_ok=True)
        try:
            with held(os.path.join(self.folder, _LOCK)) as alone:
                if not alone:
                    raise OutputError(
                        f"{os.path.dirname(self.folder)}: another run writes into it; wait for it, or name another folder with `out`"
                    )
                yield
        finally:
            if os.path.isdir(self.folder) and not os.listdir(self.folder):
                os.rmdir(self.folder)

    def begin(self, recipe: Recipe) -> None:
        """Forgets an earlier run and notes the Recipe of this one, whose results the folder does not hold yet."""
        self.remove()
        if self.folder:
            os.makedirs(self.folder, exist_ok=True)
            write_text(os.path.join(self.folder, MARKER), '{"written_by": "caffe2tf finetune"}\n', force=True)
            write_text(os.path.join(self.folder, FILE), text(recipe, self.folder), force=True)

    def begun(self) -> bool:
        """Whether there is a run to go on with."""
        return os.path.exists(os.path.join(self.folder, FILE)) if self.folder else False

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, f"{name}.npz")

    def save(self, name: str, arrays: Sequence[Any], note: Any) -> None:
        """A list of arrays, or of what NumPy makes arrays of, and a JSON-ready note, in place of what was there."""
        if not self.folder:
            return
        os.makedirs(self.folder, exist_ok=True)
        named: dict[str, Any] = {str(index): array for index, array in enumerate(arrays)}
        named[_NOTE] = np.frombuffer(json.dumps(note).encode(), np.uint8)
        with replacing(self._path(name), force=True) as path, open(path, "wb") as file:
            np.savez(file, **named)
        saved = os.path.join(self.folder, _SAVED)
        if name == "last" and not os.path.exists(saved):
            write_bytes(saved, b"", force=True)

    def load(self, name: str, form: records.Form = dict) -> tuple[list[NDArray[Any]], Any] | None:
        """(arrays, note of `form`); None without a folder, and for a `last` that no run has saved yet. Raises ParseError for a file
        that is damaged, and for one that was there or must be: going on without it would be another training."""
        if not self.folder:
            return None
        path = self._path(name)
        if not os.path.exists(path):
            if name == "last" and not os.path.exists(os.path.join(self.folder, _SAVED)):
                return None
            self.need([name])
        try:
            with guarded(path):
                found = dict(numbers.read_npz(path))
            if _NOTE not in found or set(found) - {_NOTE} != {str(index) for index in range(len(found) - 1)}:
                raise ParseError("it lacks its note or an array")
            note = records.parsed(bytes(found.pop(_NOTE)), form)
            return [found[str(index)] for index in range(len(found))], note
        except ParseError as error:
            raise ParseError(f"{path}: is damaged ({error}); start anew with -f") from None

    def last(self) -> tuple[list[NDArray[Any]], Any] | None:
        """`load` of `last`. Raises ParseError also for one whose arrays mean something else here."""
        found = self.load("last", LAST)
        if found and found[1].get("layout") != LAYOUT:
            raise ParseError(
                f"{self._path('last')}: is of another version of caffe2tf, whose arrays mean something else; go on with that version, or "
                "start anew with -f"
            )
        return found

    def need(self, names: Iterable[str]) -> None:
        """Raises ParseError where one of `names` is gone: now rather than after hours."""
        for name in names if self.folder else ():
            if not os.path.exists(self._path(name)):
                raise ParseError(
                    f"{self._path(name)}: is gone, and the run cannot go on without it; start anew with -f"
                )

    def remove(self) -> None:
        """Takes away what a finished run does not need; what is not ours stays. The recipe goes first: without it there is
        nothing to go on with, whenever this is stopped. The marker goes last."""
        if not self.folder or not os.path.isdir(self.folder):
            return
        for name in (RESULTS, CACHE):
            shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)
        for name in sorted(os.listdir(self.folder), key=lambda name: (name != FILE, name == MARKER)):
            if name == MARKER or _OURS.fullmatch(name):
                os.remove(os.path.join(self.folder, name))
