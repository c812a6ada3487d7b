"""Every error that bad input can cause; each message is one line: where, what came, what is allowed.

The texts are made safe where an error is made, whatever names they quote; `guarded` is the last word on what no reader
foresaw.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping

NAME = 200  # characters of a name that a message or a table shows
_LINE = 2000  # and of a line
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONG = re.compile(rf"\S{{{NAME + 1},}}|'[^']{{{NAME + 1},}}'")


def escaped(text: str, keep: str = "") -> str:
    """`text` with control characters as escapes, those of `keep` aside: a name in a file may hold what moves the cursor,
    sets a terminal's title or turns the direction of writing. Halves of characters (surrogates), which no output takes, too."""
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def short(text: str, most: int = NAME) -> str:
    """`text`, without its middle where it is longer than `most` characters."""
    head = (most - 5) * 2 // 3
    return text if len(text) <= most else f"{text[:head]} ... {text[head + 5 - most :]}"


def clean(text: str) -> str:
    """One line for a user: control characters escaped, names and the line itself cut in the middle where they have no end."""
    line = escaped(text)
    return short(_LONG.sub(_cut, line) if len(line) > NAME else line, _LINE)


def _cut(match: re.Match[str]) -> str:
    text = match[0]
    quoted = len(text) > 1 and text[0] == text[-1] == "'"
    return f"'{short(text[1:-1])}'" if quoted else short(text)


class Caffe2TFError(Exception):
    """Base of all errors that caffe2tf raises on purpose. `str(error)` is fit for a user: every argument is one line of it,
    cleaned."""

    def __init__(self, *lines: object) -> None:
        super().__init__(*(clean(str(line)) for line in lines))

    def __str__(self) -> str:
        return "\n".join(self.args)


class ParseError(Caffe2TFError):
    """A file is not what it was given as, is damaged, or is not valid Caffe text."""


class NetError(Caffe2TFError):
    """The layers do not make a network: wiring, shapes, duplicate names."""


class ShapeNeeded(NetError):
    """The network is whole, but for the shape of an input that nothing tells. `likely` {input: shape in Caffe's axis order}
    is a shape that fits its layers, empty where none was found."""

    def __init__(self, why: str, likely: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(*why.split("\n"))
        self.likely: dict[str | None, tuple[int, ...]] = {name: likely[name] for name in likely}


class UnsupportedLayer(Caffe2TFError):
    """The network has layer types or parameters that caffe2tf does not compute; one line for each, and one for the
    `outputs` that need none of them, where there are some."""

    outputs: tuple[str, ...] = ()


class UnsupportedParameter(UnsupportedLayer):
    """The types are known, but a parameter that a layer sets is not computed."""


class WeightMismatch(Caffe2TFError):
    """The weights do not belong to the network: missing, extra, or of another shape."""


class OutputError(Caffe2TFError):
    """A result cannot be written: the target exists, its folder does not, or the disk is full."""


class PluginError(Caffe2TFError):
    """A layer class of a user's own cannot be loaded, or does other than it says; the message names its file and line."""


class Unforeseen(Caffe2TFError):
    """What no reader foresaw came up: a file that lies in a new way, or a mistake of caffe2tf's. `__cause__` is the error."""


class NotEnoughMemory(Caffe2TFError):
    """What is to be read or computed needs more memory than there is."""


def internal(error: BaseException) -> str:
    """The type of `error` and the place in caffe2tf that it came from, as "TypeError in upgrade.py:35"."""
    home, at, trace = os.path.dirname(os.path.abspath(__file__)), "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not at or file.startswith(home):
            at = f" in {os.path.basename(file)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{at}"


@contextlib.contextmanager
def guarded(*files: object) -> Iterator[None]:
    """The edge of the library: an error in the block that no reader of `files` (None is none) foresaw becomes Unforeseen, one
    that wants memory NotEnoughMemory. What a caller gave in a wrong type is to be seen before the block."""
    where = " and ".join(str(file) for file in files if file is not None)
    where = f"{where}: " if where else "an input: "
    try:
        yield
    except Caffe2TFError:
        raise
    except MemoryError as error:
        raise NotEnoughMemory(f"{where}needs more memory than there is") from error
    except Exception as error:
        raise Unforeseen(f"{where}damaged or not what it claims (internal: {internal(error)})") from error
