"""All that a run is made of, as data. Each field says once what it takes; the command line, `--stage` and TOML read it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from caffe2tf.errors import Caffe2TFError
from caffe2tf.keras_model.device import PRECISIONS

AUGMENTS = ("mirror", "crop", "colour")
# How the learning rate falls: factors by the share of the epochs that is done.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "step": lambda done: 0.1 ** int(3 * done),  # a tenth after each third
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "piecewise": lambda done: 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
}


class RecipeError(Caffe2TFError):
    """A setting that is not known, or has a value that it does not take."""


# ------------------------------------------------------------------------------------------------ what a value is


@dataclass(frozen=True)
class Taker:
    """What a setting takes: `take` makes its value of a text or a TOML value, or raises ValueError; `words` says what it
    takes, `metavar` how the command line names that."""

    take: Callable[[Any], Any]
    words: str
    metavar: str | None = None


def _number(
    kind: type[int] | type[float], least: float | None, most: float | None = None, open_ends: str = ""
) -> Taker:
    """A converter for `kind` within bounds; an end named in `open_ends` ("least", "most") is itself outside."""
    words = {int: "a whole number", float: "a number"}[kind]
    words += f" {'above' if 'least' in open_ends else 'from'} {least:g}" if least is not None else ""
    words += f" {'below' if 'most' in open_ends else 'to'} {most:g}" if most is not None else ""

    def take(text: Any) -> float:
        value = kind(text)
        if isinstance(text, float) and value != text:
            raise ValueError
        low = least is None or (value > least if "least" in open_ends else value >= least)
        high = most is None or (value < most if "most" in open_ends else value <= most)
        if not (low and high and abs(value) < float("inf")):
            raise ValueError
        return value

    return Taker(take, words, "N" if kind is int else "X")


def _choice(*names: str, several: bool = False) -> Taker:
    """A converter for one of `names`, or for some of them with commas between."""

    def take(text: Any) -> str:
        parts = str(text).split(",") if several and text else [str(text)]
        if not (several and text == "") and not set(parts) <= set(names):
            raise ValueError
        return ",".join(parts) if text else ""

    return Taker(take, f"{'some' if several else 'one'} of {', '.join(names)}")


def _take_text(text: Any) -> str:
    if not isinstance(text, (str, int, float)) or isinstance(text, bool) or text == "":
        raise ValueError
    return str(text)


def _take_flag(value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError
    return str(value).lower() == "true"


def _take_shares(text: Any) -> str:
    parts = [float(part) for part in str(text).split(",")]
    if not 2 <= len(parts) <= 3 or not min(parts) > 0 or not abs(sum(parts) - 1) <= 1e-6:
        raise ValueError
    return str(text)


_text = Taker(_take_text, "a text")
_flag = Taker(_take_flag, "true or false")
_shares = Taker(_take_shares, "two or three shares that add up to 1")


def _option(default: Any, take: Taker, help: str, metavar: str | None = None, path: bool = False) -> Any:
    return field(
        default=default, metadata={"take": take, "help": help, "metavar": metavar or take.metavar, "path": path}
    )


# ------------------------------------------------------------------------------------------------ the fields


@dataclass(frozen=True)
class Stage:
    """One stretch of training. Caffe's habits: SGD with momentum 0.9, weight decay 5e-4 on kernels, a head that learns ten
    times as fast."""

    layers: str = _option(
        None, _text, "What trains: names, globs, or all; needed here or in every --stage.", "NAME,..."
    )
    epochs: int = _option(20, _number(int, 1), "Passes over the training set.")
    batch_size: int = _option(32, _number(int, 1), "Pictures in a step, on all devices together.")
    lr: float = _option(1e-4, _number(float, 0, open_ends="least"), "Learning rate.")
    head_lr: float = _option(10.0, _number(float, 0), "How many times faster the head learns.")
    schedule: str = _option(
        "constant",
        _choice(*SCHEDULES),
        "How the rate falls: step to a tenth after each third, piecewise to a tenth after half and a hundredth after three quarters.",
        "|".join(SCHEDULES),
    )
    optimizer: str = _option("sgd", _choice("sgd", "adam"), "SGD with momentum, or Adam.", "sgd|adam")
    momentum: float = _option(0.9, _number(float, 0, 1, "most"), "Of SGD.")
    weight_decay: float = _option(5e-4, _number(float, 0), "Of kernels, as in Caffe: added to their gradients.")
    dropout: float | None = _option(
        None, _number(float, 0, 1, "most"), "Ratio of the Dropout layers above what is frozen, in training only."
    )
    label_smoothing: float = _option(0.0, _number(float, 0, 1, "most"), "Share of the label that goes to all classes.")
    clip: float | None = _option(None, _number(float, 0, open_ends="least"), "Largest norm of the gradients.")
    augment: str = _option("", _choice(*AUGMENTS, several=True), "Chance in training.", ",".join(AUGMENTS))

    def rate(self, epoch: int) -> float:
        """The learning rate of `epoch`, from 0."""
        return self.lr * SCHEDULES[self.schedule](epoch / self.epochs)


@dataclass(frozen=True)
class Recipe:
    """A run: what is trained on what, and how pictures become input. Paths are as seen from the working folder."""

    model: str = _option(None, _text, "The network.", path=True)
    prototxt: str | None = _option(None, _text, "Its text.", path=True)
    input_shape: str | None = _option(None, _text, "Shape of its input, N,C,H,W.")
    head: str | None = _option(
        None, _text, "The layer that gives the classes.  [default: the last with weights]", "NAME"
    )
    data: str | None = _option(
        None, _text, "List file, folder per class, or TFRecords.  [default: train.txt or train/]", "PATH", True
    )
    val: str | None = _option(None, _text, "Validation set, as --data.", "PATH", True)
    test: str | None = _option(None, _text, "Test set, as --data.", "PATH", True)
    split: str = _option("0.8,0.2", _shares, "Shares of training, validation, test.", "SHARE,...")
    labels_from_names: bool = _option(False, _flag, "The class is the file name up to the first dot.")
    strict: bool = _option(False, _flag, "Stop at a picture that cannot be read.")
    resize: str | None = _option(None, _text, "Size of the pictures: 256, 256x227 (height first) or none.", "HxW")
    crop: str | None = _option(None, _text, "Size of the crop, in the same way.", "HxW")
    mean: str | None = _option(None, _text, "Subtracted: B,G,R, a .npy, a .binaryproto, or none.", "MEAN")
    scale: float | None = _option(None, _number(float, None), "Factor after the mean.")
    channels: str | None = _option(None, _choice("bgr", "rgb", "grey"), "Of the input.", "bgr|rgb|grey")
    precision: str = _option("float32", _choice(*PRECISIONS), "What it computes in.", "|".join(PRECISIONS))
    seed: int = _option(0, _number(int, 0, 2**31), "Of split, fillers, order and chance; runs repeat by it.")
    stages: tuple[Stage, ...] = ()


OPTIONS = {f.name: f for f in (*fields(Recipe), *fields(Stage)) if f.metadata}
STAGE_KEYS = tuple(f.name for f in fields(Stage))


def convert(key: str, value: Any, where: str) -> Any:
    """`value`, a text or a TOML value, as the field `key` takes it. Raises RecipeError."""
    taker: Taker = OPTIONS[key].metadata["take"]
    try:
        if isinstance(value, bool) and taker is not _flag:
            raise ValueError
        return taker.take(value)
    except (TypeError, ValueError, OverflowError):
        raise RecipeError(f"{where}: '{value}'; takes {taker.words}") from None
