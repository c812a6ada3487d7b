"""What a run needs to go on after a break: arrays and a note in one file, whole or not there."""

import json
import os
import zipfile

import numpy as np

from caffe2tf.errors import ParseError
from caffe2tf.finetune.recipe import FILE, text
from caffe2tf.formats import replacing, write_text

_NOTE = "note"  # no variable's name is bare of digits


class Checkpoint:
    """The folder `checkpoint/` of a run: its recipe, `last` (where it stands), `best-N` of stage N, `stage-N` (what N left).

    Without a folder (another worker's) nothing is written.
    """

    def __init__(self, folder):
        self.folder = folder and os.path.join(folder, "checkpoint")

    def begin(self, recipe):
        """Forgets an earlier run and notes the Recipe of this one, whose results the folder does not hold yet."""
        self.remove()
        if self.folder:
            os.makedirs(self.folder)
            write_text(os.path.join(self.folder, FILE), text(recipe, self.folder), force=True)

    def _path(self, name):
        return os.path.join(self.folder, f"{name}.npz")

    def save(self, name, arrays, note):
        """A list of arrays and a JSON-ready note, in place of what was there."""
        if not self.folder:
            return
        os.makedirs(self.folder, exist_ok=True)
        named = {str(index): array for index, array in enumerate(arrays)}
        named[_NOTE] = np.frombuffer(json.dumps(note).encode(), np.uint8)
        with replacing(self._path(name), force=True) as path, open(path, "wb") as file:
            np.savez(file, **named)

    def load(self, name):
        """(arrays, note), or None where nothing was saved. Raises ParseError for a file that is damaged."""
        if not self.folder or not os.path.exists(self._path(name)):
            return None
        try:
            with np.load(self._path(name), allow_pickle=False) as file:
                note = json.loads(bytes(file[_NOTE]))
                return [file[str(index)] for index in range(len(file.files) - 1)], note
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ParseError(
                f"{self._path(name)}: is damaged ({str(error).splitlines()[0]}); start anew with -f"
            ) from None

    def remove(self):
        """Takes away what a finished run does not need."""
        if self.folder and os.path.isdir(self.folder):
            for name in os.listdir(self.folder):
                os.remove(os.path.join(self.folder, name))
            os.rmdir(self.folder)
