"""Values that a field does not take: which of them matter, and how they are told."""

from typing import NamedTuple

from google.protobuf.message import Message

# What is said there has no part in inference: a value that no Caffe knows, or a fork's, is skipped with a warning.
_IDLE_FIELDS = ("engine", "normalization", "variance_norm", "lr_mult", "decay_mult", "resize_param")
_IDLE_MESSAGES = (
    *("AccuracyParameter", "DataParameter", "HDF5DataParameter", "ImageDataParameter", "LossParameter"),
    *("ResizeParameter", "SaveOutputParameter", "WindowDataParameter"),
)


class Fault(NamedTuple):
    """A value that its field does not take: the name of the layer it stands in (None outside of any), and a line for the user."""

    layer: str | None
    line: str


def told_wrong(message: Message, number: int) -> str | None:
    """The field `number` of `message` whose value matters, None for one that the schema lacks or that has no part in inference."""
    field = message.DESCRIPTOR.fields_by_number.get(number)
    return None if field is None or is_idle(message, field.name) else field.name


def is_idle(message: Message | None, name: str) -> bool:
    """Whether what field `name` of `message` says has no part in inference."""
    return message is not None and (name in _IDLE_FIELDS or message.DESCRIPTOR.name in _IDLE_MESSAGES)
