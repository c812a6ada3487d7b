"""All that a run is made of, as data. Each field says once what it takes; the command line, `--stage` and TOML read it."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from caffe2tf.errors import Caffe2TFError, NetError
from caffe2tf.keras_model.device import PRECISIONS
from caffe2tf.net.net import parse_shapes

AUGMENTS = ("mirror", "crop", "colour")
KEEP = ("keras", "npz", "report", "savedmodel", "h5", "last")
# How the learning rate falls: factors by the share of the epochs that is done.
SCHEDULES = {
    "constant": lambda done: 1.0,
    "step": lambda done: 0.1 ** int(3 * done),  # a tenth after each third
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "piecewise": lambda done: 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
}


class RecipeError(Caffe2TFError):
    """A setting that is not known, or has a value that it does not take."""


# ------------------------------------------------------------------------------------------------ what a value is


@dataclass(frozen=True)
class _Take:
    """Makes a value of a text or of what TOML and Python hold for it; raises ValueError or TypeError for another. `words` say
    what it takes, `metavar` how the help calls it, `names` what there is to choose from."""

    function: Callable[[Any], Any]
    words: str
    metavar: str | None
    names: tuple[str, ...] = ()

    def __call__(self, value: Any) -> Any:
        return self.function(value)


def _takes(words: str, metavar: str | None = None, *names: str) -> Callable[[Callable[[Any], Any]], _Take]:
    return lambda function: _Take(function, words, metavar, names)


def _number(
    kind: type[int] | type[float], least: float | None, most: float | None = None, open_ends: str = ""
) -> _Take:
    """A converter for `kind` within bounds; an end named in `open_ends` ("least", "most") is itself outside."""
    words = "a whole number" if kind is int else "a number"
    words += f" {'above' if 'least' in open_ends else 'from'} {least:g}" if least is not None else ""
    words += f" {'below' if 'most' in open_ends else 'to'} {most:g}" if most is not None else ""

    @_takes(words, "N" if kind is int else "X")
    def take(given: Any) -> int | float:
        value = kind(given)
        if isinstance(given, float) and value != given:
            raise ValueError
        low = least is None or (value > least if "least" in open_ends else value >= least)
        high = most is None or (value < most if "most" in open_ends else value <= most)
        if not (low and high and abs(value) < float("inf")):
            raise ValueError
        return value

    return take


def _choice(*names: str) -> _Take:
    """A converter for one of `names`."""

    @_takes(f"one of {', '.join(names)}", "|".join(names), *names)
    def take(given: Any) -> str:
        if given not in names:
            raise ValueError
        return str(given)

    return take


def _parts(given: Any) -> list[Any]:
    """What stands between the commas of a text, or in a sequence."""
    if isinstance(given, str):
        return [part.strip() for part in given.split(",")] if given else []
    if not isinstance(given, Sequence):
        raise ValueError
    return list(given)


def _some(*names: str) -> _Take:
    """A converter for some of `names`, with commas between or in a sequence: a tuple."""

    @_takes(f"some of {', '.join(names)}", ",".join(names), *names)
    def take(given: Any) -> tuple[str, ...]:
        parts = tuple(_parts(given))
        if not set(parts) <= set(names):
            raise ValueError
        return parts

    return take


@_takes("names with commas between", "NAME,...")
def _names(given: Any) -> tuple[str, ...]:
    parts = tuple(_parts(given))
    if not parts or not all(isinstance(part, str) and part for part in parts):
        raise ValueError
    return parts


@_takes("a text")
def _text(given: Any) -> str:
    if not isinstance(given, str | int | float | os.PathLike) or isinstance(given, bool) or given == "":
        raise ValueError
    return str(given)


@_takes("true or false")
def _flag(given: Any) -> bool:
    if str(given).lower() not in ("true", "false"):
        raise ValueError
    return str(given).lower() == "true"


@_takes("two or three shares that add up to 1", "SHARE,...")
def _shares(given: Any) -> tuple[float, ...]:
    parts = tuple(float(part) for part in _parts(given))
    if not 2 <= len(parts) <= 3 or not min(parts) > 0 or not abs(sum(parts) - 1) <= 1e-6:
        raise ValueError
    return parts


@_takes("227, 256x227 (height first) or none", "HxW")
def _extents(given: Any) -> tuple[int, int] | Literal["none"]:
    if given == "none":
        return "none"
    parts = given.lower().split("x") if isinstance(given, str) else [given] if isinstance(given, int) else [*given]
    extents = [int(part) for part in parts if isinstance(part, int) or part.isdecimal()]
    if not 1 <= len(extents) == len(parts) <= 2 or not all(0 < extent <= 65536 for extent in extents):
        raise ValueError
    return extents[0], extents[-1]


@_takes("a number for each channel, a .npy or .binaryproto file, or none", "MEAN")
def _mean(given: Any) -> tuple[float, ...] | str:
    if isinstance(given, str) and (given == "none" or given.endswith((".npy", ".binaryproto"))):
        return given
    values = tuple(float(part) for part in (_parts(given) if isinstance(given, str | Sequence) else [given]))
    if not values or not all(map(math.isfinite, values)):
        raise ValueError
    return values


@_takes("N,C,H,W or NAME=N,C,H,W, whole numbers above 0")
def _shapes(given: Any) -> Mapping[str | None, tuple[int, ...]] | None:
    if isinstance(given, Mapping):
        given = ";".join(f"{name or ''}={','.join(map(str, shape))}" for name, shape in given.items())
    return parse_shapes(given.split(";")) if given else None


def text_of(value: Any) -> Any:
    """A setting as a recipe's TOML and messages have it: what `convert` makes the same value of."""
    if isinstance(value, Mapping):
        shapes = ((name, ",".join(map(str, shape))) for name, shape in value.items())
        return ";".join(f"{name}={shape}" if name else shape for name, shape in shapes)
    if isinstance(value, tuple):
        sizes = bool(value) and all(isinstance(part, int) for part in value)
        return ("x" if sizes else ",").join(str(part).removesuffix(".0") for part in value)
    return value


def _option(default: Any, take: _Take, help: str, metavar: str | None = None, path: bool = False) -> Any:
    return field(
        default=default,
        metadata={"take": take, "help": help, "metavar": metavar or take.metavar, "path": path},
    )


# ------------------------------------------------------------------------------------------------ the fields


@dataclass(frozen=True)
class Stage:
    """One stretch of training. Caffe's habits: SGD with momentum 0.9, weight decay 5e-4 on kernels, a head that learns ten
    times as fast."""

    layers: tuple[str, ...] | None = _option(
        None, _names, "Layers that learn: names, patterns like fire9/*, or all. Needed here or in every --stage."
    )
    epochs: int = _option(20, _number(int, 1), "How many times the training pictures are gone through.")
    batch_size: int = _option(32, _number(int, 1), "How many pictures make one step, on all devices together.")
    lr: float = _option(
        1e-4, _number(float, 0, open_ends="least"), "Learning rate: how far a step changes the weights."
    )
    head_lr: float = _option(10.0, _number(float, 0), "How many times faster the head learns than the other layers.")
    schedule: str = _option(
        "constant",
        _choice(*SCHEDULES),
        "How the learning rate falls: not at all; to a tenth after each third; along a cosine to 0; or to a tenth after half and a "
        "hundredth after three quarters.",
    )
    optimizer: str = _option(
        "sgd", _choice("sgd", "adam"), "How weights follow their gradients: SGD with momentum, or Adam."
    )
    momentum: float = _option(
        0.9, _number(float, 0, 1, "most"), "Share of the last step that SGD takes along in the next; Adam takes none."
    )
    weight_decay: float = _option(
        5e-4, _number(float, 0), "How strongly kernels are pulled towards 0, against learning by heart."
    )
    dropout: float | None = _option(
        None,
        _number(float, 0, 1, "most"),
        "Share of values that Dropout layers leave out in training, instead of what the network says.",
    )
    label_smoothing: float = _option(
        0.0,
        _number(float, 0, 1, "most"),
        "Share of the certainty taken from the right class and given to all, against overconfidence.",
    )
    clip: float | None = _option(
        None, _number(float, 0, open_ends="least"), "Largest norm of a step's gradients; larger ones are scaled down."
    )
    augment: tuple[str, ...] = _option(
        (), _some(*AUGMENTS), "Vary the training pictures at random: mirrored, cropped elsewhere, in other colours."
    )

    def rate(self, epoch: float) -> float:
        """The learning rate of `epoch`, from 0."""
        return self.lr * SCHEDULES[self.schedule](epoch / self.epochs)


@dataclass(frozen=True)
class Recipe:
    """A run: what is trained on what, and how pictures become input. Paths are as seen from the working folder."""

    model: str | None = _option(None, _text, "The network.", path=True)
    prototxt: str | None = _option(None, _text, "Its text.", path=True)
    input_shape: Mapping[str | None, tuple[int, ...]] | None = _option(None, _shapes, "Shape of its input, N,C,H,W.")
    outputs: tuple[str, ...] | None = _option(None, _names, "The blobs that it is cut to.")
    head: str | None = _option(
        None, _text, "The layer that gives the classes.  [default: the last with weights]", "NAME"
    )
    data: str | None = _option(
        None,
        _text,
        "Pictures to learn from: a list file, a folder for each class, or TFRecords.  [default: train.txt or train/]",
        "PATH",
        True,
    )
    val: str | None = _option(None, _text, "Pictures to choose the best epoch by, as --data.", "PATH", True)
    test: str | None = _option(None, _text, "Pictures for the figures at the end, as --data.", "PATH", True)
    split: tuple[float, ...] = _option(
        (0.8, 0.2), _shares, "Shares of --data to learn from, to choose by and, if a third is given, to test on."
    )
    labels_from_names: bool = _option(False, _flag, "A picture's class is its file name up to the first dot.")
    labels: str | None = _option(
        None, _text, "Names of the classes 0, 1, 2, ..., one a line; they go into the models.", "FILE", True
    )
    strict: bool = _option(False, _flag, "Stop at a picture that cannot be read, instead of leaving it out.")
    resize: tuple[int, int] | Literal["none"] | None = _option(
        None, _extents, "Size that pictures are brought to: 256, 256x227 (height first) or none."
    )
    crop: tuple[int, int] | Literal["none"] | None = _option(
        None, _extents, "Size of the part that is cut out of them, in the same way."
    )
    mean: tuple[float, ...] | str | None = _option(
        None, _mean, "What is subtracted from every pixel: B,G,R, a .npy or .binaryproto file, or none."
    )
    scale: float | None = _option(None, _number(float, None), "What pixels are multiplied with, after the mean.")
    channels: str | None = _option(None, _choice("bgr", "rgb", "grey"), "Order of the colours that the network takes.")
    precision: str = _option(
        "float32", _choice(*PRECISIONS), "The numbers that it computes with; less exact ones are faster on a GPU."
    )
    seed: int = _option(0, _number(int, 0, 2**31), "Start of all that is random: the same seed gives the same run.")
    keep: tuple[str, ...] = _option(
        ("keras", "npz", "report"),
        _some(*KEEP, "all"),
        "What is left in --out: best.keras, best.npz with deploy.prototxt, the page and its pictures; best_saved_model/, best.h5, and "
        "last.npz, the weights of the last epoch.",
    )
    no_tensorboard: bool = _option(False, _flag, "Write no log for TensorBoard.")
    stages: tuple[Stage, ...] = ()


OPTIONS = {f.name: f for kind in (Recipe, Stage) for f in fields(kind) if f.metadata}
STAGE_KEYS = tuple(f.name for f in fields(Stage))


def convert(key: str, value: Any, where: str) -> Any:
    """`value`, a text or what TOML and Python hold for it, as the field `key` takes it. Raises RecipeError."""
    take = OPTIONS[key].metadata["take"]
    try:
        if isinstance(value, bool) and take is not _flag:
            raise ValueError
        return take(value)
    except (TypeError, ValueError, OverflowError, AttributeError, NetError):
        raise RecipeError(f"{where}: '{value}'; takes {take.words}") from None
