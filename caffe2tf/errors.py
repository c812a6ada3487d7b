"""Every error that bad input can cause; each message is one line: where, what came, what is allowed."""

from collections.abc import Mapping


class Caffe2TFError(Exception):
    """Base of all errors that caffe2tf raises on purpose. `str(error)` is fit for a user."""


class ParseError(Caffe2TFError):
    """A file is not what it was given as, is damaged, or is not valid Caffe text."""


class NetError(Caffe2TFError):
    """The layers do not make a network: wiring, shapes, duplicate names."""


class ShapeNeeded(NetError):
    """The network is whole, but for the shape of an input that nothing tells. `likely` {input: shape in Caffe's axis order}
    is a shape that fits its layers, empty where none was found."""

    def __init__(self, why: str, likely: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(why)
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
