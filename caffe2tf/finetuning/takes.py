"""What the settings of finetune take: converters of a text, or of what TOML and Python hold for it; those of images.said too."""

import os
from collections.abc import Mapping
from typing import Any, Literal

from caffe2tf.images.said import Take as Take
from caffe2tf.images.said import choice as choice
from caffe2tf.images.said import listed as listed
from caffe2tf.images.said import number as number
from caffe2tf.images.said import takes as takes
from caffe2tf.net.net import parse_shapes


def some(*known: str) -> Take:
    """A converter for some of `known`, with commas between or in a sequence: a tuple."""

    @takes(f"some of {', '.join(known)}", ",".join(known), *known)
    def take(given: Any) -> tuple[str, ...]:
        parts = tuple(listed(given))
        if not set(parts) <= set(known):
            raise ValueError
        return parts

    return take


@takes("names with commas between", "NAME,...")
def names(given: Any) -> tuple[str, ...]:
    parts = tuple(listed(given))
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
    parts = tuple(float(part) for part in listed(given))
    if not 2 <= len(parts) <= 3 or not min(parts) > 0 or not abs(sum(parts) - 1) <= 1e-6:
        raise ValueError
    return parts


@takes("a number above 0, or auto", "X|auto", "auto")
def rate(given: Any) -> float | Literal["auto"]:
    return "auto" if given == "auto" else float(number(float, 0, open_ends="least")(given))


@takes("memory, disk:DIR or none", "memory|disk:DIR|none")
def cache(given: Any) -> str:
    if given not in ("memory", "none") and not (isinstance(given, str) and given.startswith("disk:") and given[5:]):
        raise ValueError
    return str(given)


@takes("N,C,H,W or NAME=N,C,H,W, whole numbers above 0")
def shapes(given: Any) -> Mapping[str | None, tuple[int, ...]] | None:
    if isinstance(given, Mapping):
        given = ";".join(f"{name or ''}={','.join(map(str, shape))}" for name, shape in given.items())
    return parse_shapes(given.split(";")) if given else None
