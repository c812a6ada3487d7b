"""What a user may say of how pictures become input: `resize`, `crop`, `mean`, `scale` and `channels`, for every command, recipe and
call that takes them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from caffe2tf.errors import Caffe2TFError


@dataclass(frozen=True)
class Take:
    """Makes a value of a text or of what TOML and Python hold for it; raises ValueError or TypeError for another. `words` say
    what it takes, `metavar` how the help calls it, `names` what there is to choose from."""

    function: Callable[[Any], Any]
    words: str
    metavar: str | None
    names: tuple[str, ...] = ()

    def __call__(self, value: Any) -> Any:
        return self.function(value)


def takes(words: str, metavar: str | None = None, *names: str) -> Callable[[Callable[[Any], Any]], Take]:
    """Makes a Take of the function that it decorates."""
    return lambda function: Take(function, words, metavar, names)


def number(kind: type[int] | type[float], least: float | None, most: float | None = None, open_ends: str = "") -> Take:
    """A converter for `kind` within bounds; an end named in `open_ends` ("least", "most") is itself outside."""
    words = "a whole number" if kind is int else "a number"
    words += f" {'above' if 'least' in open_ends else 'from'} {least:g}" if least is not None else ""
    words += f" {'below' if 'most' in open_ends else 'to'} {most:g}" if most is not None else ""

    @takes(words, "N" if kind is int else "X")
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


def choice(*names: str) -> Take:
    """A converter for one of `names`."""

    @takes(f"one of {', '.join(names)}", "|".join(names), *names)
    def take(given: Any) -> str:
        if given not in names:
            raise ValueError
        return str(given)

    return take


def listed(given: Any) -> list[Any]:
    """What stands between the commas of a text, or in a sequence."""
    if isinstance(given, str):
        return [part.strip() for part in given.split(",")] if given else []
    if not isinstance(given, Sequence):
        raise ValueError
    return list(given)


@takes("227, 256x227 (height first) or none", "HxW")
def _extents(given: Any) -> tuple[int, int] | Literal["none"]:
    if given == "none":
        return "none"
    found = given.lower().split("x") if isinstance(given, str) else [given] if isinstance(given, int) else [*given]
    extents = [int(part) for part in found if isinstance(part, int) or part.isdecimal()]
    if not 1 <= len(extents) == len(found) <= 2 or not all(0 < extent <= 65536 for extent in extents):
        raise ValueError
    return extents[0], extents[-1]


@takes("a number for each channel, a .npy or .binaryproto file, or none", "MEAN")
def _mean(given: Any) -> tuple[float, ...] | str:
    if isinstance(given, str) and (given == "none" or given.endswith((".npy", ".binaryproto"))):
        return given
    values = tuple(float(part) for part in (listed(given) if isinstance(given, str | Sequence) else [given]))
    if not values or not all(map(math.isfinite, values)):
        raise ValueError
    return values


@dataclass(frozen=True)
class Setting:
    """One of SETTINGS: what it takes, and its help."""

    take: Take
    help: str


SETTINGS: Mapping[str, Setting] = {
    "resize": Setting(_extents, "Size that pictures are brought to: 256, 256x227 (height first) or none."),
    "crop": Setting(_extents, "Size of the part that is cut out of them, in the same way."),
    "mean": Setting(_mean, "What is subtracted from every pixel: B,G,R, a .npy or .binaryproto file, or none."),
    "scale": Setting(number(float, None), "What pixels are multiplied with, after the mean."),
    "channels": Setting(choice("bgr", "rgb", "grey"), "Order of the colours that the network takes."),
}


def convert(name: str, value: Any) -> Any:
    """`value`, a text or what Python holds for it, as the setting `name` takes it; None stays. Raises Caffe2TFError."""
    take = SETTINGS[name].take
    try:
        if isinstance(value, bool):
            raise ValueError
        return None if value is None else take(value)
    except (TypeError, ValueError, OverflowError, AttributeError):
        raise Caffe2TFError(f"`{name}`: '{value}'; takes {take.words}") from None
