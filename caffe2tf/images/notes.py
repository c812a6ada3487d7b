"""What goes along with a saved model: how pictures become its input, and what a detector's output is."""

import json
import os
import zipfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from caffe2tf.arrays.numbers import ZIP_ERRORS, reason, unzipped
from caffe2tf.errors import ParseError
from caffe2tf.files import records
from caffe2tf.images import boxes
from caffe2tf.images.preprocess import FILE, Preprocessing, of

if TYPE_CHECKING:
    from caffe2tf.net.net import Net

_FORM = {"?preprocessing": (None, dict), "?source": str, "?name": str, "?labels": [str], "?prototxt": str}
_FORM |= {"?outputs": [str], "?weights_sha256": {str: [str]}, "?boxes": boxes.FORM}
_FORM["?weights"] = {str: (None, {"constant": str, "order": [int]}, {"values": str})}


def to_json(net: "Net", rest: Preprocessing | None = None) -> str:
    """What goes along with a saved model: {"preprocessing": ..., "source": ...}, of a detector also {"boxes": ...}, or {} without an
    input of pictures; `rest`: what is left to do before a model that does its preprocessing itself."""
    try:
        how, source = (rest, "the model does the rest itself") if rest else of(net)
    except ParseError:
        return "{}"
    if how.channels not in (1, 3):
        return "{}"
    found = boxes.detector(net)
    return json.dumps({"preprocessing": asdict(how), "source": source} | ({"boxes": found} if found else {}))


def noted_in(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `to_json` left in a saved model: in a zip archive (.keras, .tflite) under FILE, or as the file at `path`
    itself; {} where there is none. Raises ParseError where it is damaged."""
    try:
        if zipfile.is_zipfile(path):
            with unzipped(path) as archive:
                if FILE not in archive.namelist():
                    return {}
                text = archive.read(FILE)
        elif os.path.basename(path) != FILE or not os.path.exists(path):
            return {}
        else:
            with open(path, "rb") as file:
                text = file.read()
    except (ParseError, *ZIP_ERRORS) as error:
        raise ParseError(f"{path}: its {FILE} cannot be read: {reason(error)}") from None
    return noted(text, path)


def noted(text: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `to_json` made, of the file at `path`. Raises ParseError where it is damaged."""
    try:
        return dict(records.parsed(text, _FORM))
    except ParseError as error:
        raise ParseError(f"{path}: its {FILE} cannot be read: {reason(error)}") from None
