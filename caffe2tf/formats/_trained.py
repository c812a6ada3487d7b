"""A folder that `finetune` left, as the model that is in it."""

import io
import os
from dataclasses import dataclass

from caffe2tf.arrays.numbers import reason
from caffe2tf.errors import ParseError
from caffe2tf.files import records
from caffe2tf.images import preprocess

SETTINGS, LABELS, TEXT, WEIGHTS, MODEL = "settings.json", "labels.txt", "deploy.prototxt", "best.npz", "best.keras"


@dataclass(frozen=True)
class Trained:
    """`model`: best.keras, where it is not there the path alone; `text` and `weights`: deploy.prototxt and the weights, `weights` None
    where they are not there; how pictures become input, and the names of the classes."""

    model: str
    text: str
    weights: str | None
    preprocessing: preprocess.Preprocessing
    labels: tuple[str, ...]


def found(path: str, prototxt: str | None = None) -> Trained | None:
    """What is in the folder `path` of finetune's results, or beside the weights `path` of such a folder where no other text is
    named; None for anything else. Raises ParseError for a folder that is damaged or holds no model."""
    inside = os.path.isdir(path)
    folder = path if inside else os.path.dirname(path)
    settings = os.path.join(folder, SETTINGS)
    if not os.path.exists(settings) or (not inside and not _is_weights(path, prototxt)):
        return None
    how, labels = _preprocessing(settings), tuple(label_names(os.path.join(folder, LABELS)))
    best = os.path.join(folder, WEIGHTS) if inside else path
    weights = best if os.path.exists(best) and os.path.exists(os.path.join(folder, TEXT)) else None
    model = os.path.join(folder, MODEL)
    if weights is None and not os.path.exists(model):
        raise ParseError(f"{folder}: holds neither {MODEL} nor {WEIGHTS} with {TEXT}, so there is no model in it")
    return Trained(model, os.path.join(folder, TEXT), weights, how, labels)


def _is_weights(path: str, prototxt: str | None) -> bool:
    folder, name = os.path.split(path)
    text = os.path.join(folder, TEXT)
    ours = os.path.splitext(name)[0] in ("best", "last") and not name.endswith((".keras", ".caffemodel"))
    return ours and os.path.exists(text) and (prototxt is None or os.path.abspath(prototxt) == os.path.abspath(text))


def _preprocessing(path: str) -> preprocess.Preprocessing:
    try:
        found = records.parsed(records.whole(path), {"preprocessing": dict})
        return preprocess.made_of(found["preprocessing"], path)
    except OSError as error:
        raise ParseError(f"{path}: cannot be read: {reason(error)}") from None
    except ParseError as error:
        raise ParseError(f"{path}: is not what finetune writes: {error}") from None


def label_names(path: str | os.PathLike[str]) -> list[str]:
    """The class names in the file at `path`, one in a line. Raises ParseError."""
    try:
        lines = io.TextIOWrapper(io.BytesIO(records.whole(path)), encoding="utf-8")
        return [line.rstrip("\n") for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise ParseError(f"{path}: cannot be read as labels: {reason(error)}") from None
