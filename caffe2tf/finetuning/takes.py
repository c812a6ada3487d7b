"""What the settings of finetune take: converters of a text, or of what TOML and Python hold for it."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from caffe2tf.net.net import parse_shapes


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


def takes(words: str, metavar: str | None = None, *known: str) -> Callable[[Callable[[Any], Any]], Take]:
    return lambda function: Take(function, words, metavar, known)


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


def choice(*known: str) -> Take:
    """A converter for one of `known`."""

    @takes(f"one of {', '.join(known)}", "|".join(known), *known)
    def take(given: Any) -> str:
        if given not in known:
            raise ValueError
        return str(given)

    return take


def split(given: Any) -> list[Any]:
    """What stands between the commas of a text, or in a sequence."""
    if isinstance(given, str):
        return [part.strip() for part in given.split(",")] if given else []
    if not isinstance(given, Sequence):
        raise ValueError
    return list(given)


def some(*known: str) -> Take:
    """A converter for some of `known`, with commas between or in a sequence: a tuple."""

    @takes(f"some of {', '.join(known)}", ",".join(known), *known)
    def take(given: Any) -> tuple[str, ...]:
        parts = tuple(split(given))
        if not set(parts) <= set(known):
            raise ValueError
        return parts

    return take


@takes("names with commas between", "NAME,...")
def names(given: Any) -> tuple[str, ...]:
    parts = tuple(split(given))
    if not parts or not all(isinstance(part, str) and part for part in parts):
        raise ValueError
    return parts


@takes("a text")
def text(given: Any) -> str:
    if not isinstance(given, str | int | float | os.PathLike) or isinstance(given, bool) or given == "":
        raise ValueError
    return str(given)


@takes("true or false")
def flag(given: Any) -> bool:
    if str(given).lower() not in ("true", "false"):
        raise ValueError
    return str(given).lower() == "true"


@takes("two or three shares that add up to 1", "SHARE,...")
def shares(given: Any) -> tuple[float, ...]:
    parts = tuple(float(part) for part in split(given))
    if not 2 <= len(parts) <= 3 or not min(parts) > 0 or not abs(sum(parts) - 1) <= 1e-6:
        raise ValueError
    return parts


@takes("227, 256x227 (height first) or none", "HxW")
def extents(given: Any) -> tuple[int, int] | Literal["none"]:
    if given == "none":
        return "none"
    parts = given.lower().split("x") if isinstance(given, str) else [given] if isinstance(given, int) else [*given]
    found = [int(part) for part in parts if isinstance(part, int) or part.isdecimal()]
    if not 1 <= len(found) == len(parts) <= 2 or not all(0 < extent <= 65536 for extent in found):
        raise ValueError
    return found[0], found[-1]


@takes("a number for each channel, a .npy or .binaryproto file, or none", "MEAN")
def mean(given: Any) -> tuple[float, ...] | str:
    if isinstance(given, str) and (given == "none" or given.endswith((".npy", ".binaryproto"))):
        return given
    values = tuple(float(part) for part in (split(given) if isinstance(given, str | Sequence) else [given]))
    if not values or not all(map(math.isfinite, values)):
        raise ValueError
    return values


@takes("N,C,H,W or NAME=N,C,H,W, whole numbers above 0")
def shapes(given: Any) -> Mapping[str | None, tuple[int, ...]] | None:
    if isinstance(given, Mapping):
        given = ";".join(f"{name or ''}={','.join(map(str, shape))}" for name, shape in given.items())
    return parse_shapes(given.split(";")) if given else None
