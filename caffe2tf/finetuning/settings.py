"""All that a run is made of, as data. Each field says once what it takes; the command line, `--stage` and TOML read it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from caffe2tf.errors import Caffe2TFError, NetError
from caffe2tf.finetuning import takes
from caffe2tf.finetuning.rates import Solver
from caffe2tf.images.said import SETTINGS
from caffe2tf.keras_model.device import PRECISIONS

AUGMENTS = ("mirror", "crop", "colour")
KEEP = ("keras", "npz", "report", "savedmodel", "h5", "last")
# How the learning rate falls: factors by the share of the epochs that is done.
SCHEDULES = {
    "constant": lambda done: 1.0,
    "step": lambda done: 0.1 ** int(3 * done),  # a tenth after each third
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "piecewise": lambda done: 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
}


_EPOCHS = 20
_HEAD_TIMES = {"adam": 50.0, "sgd": 10.0}


class RecipeError(Caffe2TFError):
    """A setting that is not known, or has a value that it does not take."""


def text_of(value: Any) -> Any:
    """A setting as a recipe's TOML and messages have it: what `convert` makes the same value of."""
    if isinstance(value, Mapping):
        shapes = ((name, ",".join(map(str, shape))) for name, shape in value.items())
        return ";".join(f"{name}={shape}" if name else shape for name, shape in shapes)
    if value and isinstance(value, tuple) and all(isinstance(part, str) for part in value):
        joined = ",".join(value)
        return (
            joined if tuple(takes.listed(joined)) == value else list(value)
        )  # names may hold commas, and begin with spaces
    if isinstance(value, tuple):
        sizes = bool(value) and all(isinstance(part, int) for part in value)
        return ("x" if sizes else ",").join(str(part).removesuffix(".0") for part in value)
    return value


def _option(
    default: Any, take: takes.Take, help: str, metavar: str | None = None, path: bool = False, heading: str = "Input"
) -> Any:
    """`heading`: what it stands under in the help of the command."""
    told = {"take": take, "help": help, "metavar": metavar or take.metavar, "path": path, "heading": heading}
    return field(default=default, metadata=told)


def _training(default: Any, take: takes.Take, help: str) -> Any:
    return _option(default, take, help, heading="Training")


def _said(name: str) -> Any:
    """A field for how pictures become input, as every command has it."""
    setting = SETTINGS[name]
    return _option(None, setting.take, setting.help, heading="Pictures")


# ------------------------------------------------------------------------------------------------ the fields


@dataclass(frozen=True)
class Stage:
    """One stretch of training. The defaults are found on five small sets (`python -m tests.bench.small_sets`), for all alike: Adam
    whose squares forget quickly, a rate that falls along a cosine, and enough steps where pictures are few."""

    layers: tuple[str, ...] | None = _training(
        None, takes.names, "Layers that learn: names, patterns like fire9/*, or all. Needed here or in every --stage."
    )
    epochs: int | None = _training(
        None,
        takes.number(int, 1),
        "How many times the training pictures are gone through.  [default: 20; of 50 steps at least where features are computed once]",
    )
    batch_size: int = _training(32, takes.number(int, 1), "How many pictures make one step, on all devices together.")
    lr: float = _training(
        1e-4, takes.number(float, 0, open_ends="least"), "Learning rate: how far a step changes the weights."
    )
    head_lr: float | None = _training(
        None,
        takes.number(float, 0),
        "How many times faster the head learns than the other layers.  [default: 50 with adam, 10 with sgd]",
    )
    schedule: str = _training(
        "cosine",
        takes.choice(*SCHEDULES),
        "How the learning rate falls: not at all; to a tenth after each third; along a cosine to 0; or to a tenth after half and a "
        "hundredth after three quarters.",
    )
    optimizer: str = _training(
        "adam", takes.choice("sgd", "adam"), "How weights follow their gradients: SGD with momentum, or Adam."
    )
    momentum: float = _training(
        0.9,
        takes.number(float, 0, 1, "most"),
        "Share of the last step that SGD takes along in the next; Adam takes none.",
    )
    weight_decay: float = _training(
        5e-4, takes.number(float, 0), "How strongly kernels are pulled towards 0, against learning by heart."
    )
    dropout: float | None = _training(
        None,
        takes.number(float, 0, 1, "most"),
        "Share of values that Dropout layers leave out in training, instead of what the network says.",
    )
    label_smoothing: float = _training(
        0.0,
        takes.number(float, 0, 1, "most"),
        "Share of the certainty taken from the right class and given to all, against overconfidence.",
    )
    clip: float | None = _training(
        None,
        takes.number(float, 0, open_ends="least"),
        "Largest norm of a step's gradients; larger ones are scaled down.",
    )
    order: str = _option(
        "random",
        takes.choice("random", "file"),
        "How the training pictures follow each other: anew by chance in every epoch, or as the files have them, as in Caffe.",
        heading="Pictures",
    )
    lr_mult: str = _training(
        "text",
        takes.choice("text", "off"),
        "Whether weights learn faster or slower, and decay, as the network text says by lr_mult and decay_mult.",
    )
    patience: int | None = _training(
        None, takes.number(int, 1), "Stop after so many epochs without a better validation accuracy or loss."
    )
    class_weights: str = _training(
        "off",
        takes.choice("off", "balanced"),
        "Whether pictures of rare classes count more, so that all classes count the same.",
    )
    augment: tuple[str, ...] = _option(
        (),
        takes.some(*AUGMENTS),
        "Vary the training pictures at random: mirrored, cropped elsewhere, in other colours.",
        heading="Pictures",
    )
    solver: Solver | None = None  # by which all of this is done otherwise

    @property
    def rounds(self) -> int:
        """How many epochs it has."""
        return self.epochs or _EPOCHS

    @property
    def head_times(self) -> float:
        """How many times faster the head learns."""
        return self.head_lr if self.head_lr is not None else _HEAD_TIMES[self.optimizer]

    @property
    def rule(self) -> Solver:
        """What its own settings say, in a solver's words."""
        if self.optimizer == "adam":
            said: dict[str, Any] = {"type": "Adam", "momentum": 0.9, "momentum2": 0.95, "delta": 1e-7}
        else:
            said = {"type": "SGD", "momentum": self.momentum}
        return Solver(
            **said, base_lr=self.lr, lr_policy="fixed", max_iter=1, weight_decay=self.weight_decay, clip=self.clip
        )

    def rate(self, epoch: float) -> float:
        """The learning rate of `epoch`, from 0."""
        return self.lr * SCHEDULES[self.schedule](epoch / self.rounds)


@dataclass(frozen=True)
class Recipe:
    """A run: what is trained on what, and how pictures become input. Paths are as seen from the working folder."""

    model: str | None = _option(None, takes.text, "The network.", path=True)
    prototxt: str | None = _option(None, takes.text, "Its text.", path=True)
    input_shape: Mapping[str | None, tuple[int, ...]] | None = _option(
        None, takes.shapes, "Shape of its input, N,C,H,W."
    )
    solver: str | None = _option(
        None, takes.text, "A Caffe solver to train by; its network and all layers, unless said otherwise.", "FILE", True
    )
    outputs: tuple[str, ...] | None = _option(None, takes.names, "The blobs that it is cut to.")
    head: str | None = _option(
        None, takes.text, "The layer that gives the classes.  [default: the last with weights]", "NAME"
    )
    data: str | None = _option(
        None,
        takes.text,
        "Pictures to learn from: a list file, a folder for each class, or TFRecords.  [default: train.txt or train/]",
        "PATH",
        True,
    )
    val: str | None = _option(None, takes.text, "Pictures to choose the best epoch by, as --data.", "PATH", True)
    test: str | None = _option(None, takes.text, "Pictures for the figures at the end, as --data.", "PATH", True)
    split: tuple[float, ...] = _option(
        (0.8, 0.2), takes.shares, "Shares of --data to learn from, to choose by and, if a third is given, to test on."
    )
    labels_from_names: bool = _option(False, takes.flag, "A picture's class is its file name up to the first dot.")
    labels: str | None = _option(
        None, takes.text, "Names of the classes 0, 1, 2, ..., one a line; they go into the models.", "FILE", True
    )
    strict: bool = _option(False, takes.flag, "Stop at a picture that cannot be read, instead of leaving it out.")
    resize: tuple[int, int] | Literal["none"] | None = _said("resize")
    crop: tuple[int, int] | Literal["none"] | None = _said("crop")
    mean: tuple[float, ...] | str | None = _said("mean")
    scale: float | None = _said("scale")
    channels: str | None = _said("channels")
    cache: str | None = _training(
        None,
        takes.cache,
        "Where features and decoded pictures are kept: in memory, in a folder for later runs too, or nowhere.  [default: by size]",
    )
    precision: str = _option(
        "float32",
        takes.choice(*PRECISIONS),
        "The numbers that it computes with; less exact ones are faster on a GPU.",
        heading="Running",
    )
    seed: int = _training(
        0, takes.number(int, 0, 2**31), "Start of all that is random: the same seed gives the same run."
    )
    keep: tuple[str, ...] = _option(
        ("keras", "npz", "report"),
        takes.some(*KEEP, "all"),
        "What is left in --out: best.keras, best.npz with deploy.prototxt, the page and its pictures; best_saved_model/, best.h5, and "
        "last.npz, the weights of the last epoch.",
        heading="Output",
    )
    no_tensorboard: bool = _option(False, takes.flag, "Write no log for TensorBoard.", heading="Output")
    stages: tuple[Stage, ...] = ()


OPTIONS = {f.name: f for kind in (Recipe, Stage) for f in fields(kind) if f.metadata}
STAGE_KEYS = tuple(f.name for f in fields(Stage) if f.metadata)


def convert(key: str, value: Any, where: str) -> Any:
    """`value`, a text or what TOML and Python hold for it, as the field `key` takes it. Raises RecipeError."""
    take = OPTIONS[key].metadata["take"]
    try:
        if isinstance(value, bool) and take is not takes.flag:
            raise ValueError
        return take(value)
    except (TypeError, ValueError, OverflowError, AttributeError, NetError):
        raise RecipeError(f"{where}: '{value}'; takes {take.words}") from None
