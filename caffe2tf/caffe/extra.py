"""Fields of a user's layer that the schema lacks: kept in the record as the text has them, through every copy of it.

They stand in an unknown field of the record, which Caffe skips, so that a .caffemodel of ours holds them too.
"""

from collections.abc import Iterable

from google.protobuf import text_format
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from caffe2tf.caffe import wire

NUMBER = 2**29 - 1  # the last that protobuf has, and no Caffe's
# {a user's type: (the fields that it takes, (message, name) each; those that it has numbers of, (message, number) each)}
TAKEN: dict[str, tuple[frozenset[tuple[str, str]], frozenset[tuple[str, int]]]] = {}


def takes(message: Message, name: str) -> bool:
    """Whether a user's layer takes the field `name`, which the schema lacks, of such a message."""
    kind = message.DESCRIPTOR.name.removeprefix("V1")
    return any((kind, name) in fields for fields, _ in TAKEN.values())


def reads(message: Message, number: int) -> bool:
    """Whether the field `number`, which the schema of `message` lacks, is read all the same."""
    return number == NUMBER or any((message.DESCRIPTOR.name, number) in known for _, known in TAKEN.values())


def keep(message: Message, text: str) -> None:
    """Adds a field, as text, to `message`."""
    message.MergeFromString(b"".join(wire.field(NUMBER, [text.encode("utf-8", "surrogateescape")])))


def texts(message: Message) -> list[str]:
    """The fields of `message` that `keep` added."""
    unknown = UnknownFieldSet(message)
    found = [unknown[index] for index in range(len(unknown))]
    return [bytes(one.data).decode("utf-8", "surrogateescape") for one in found if one.field_number == NUMBER]


def printed(message: Message, indent: int = 0) -> str:
    """`message` in protobuf's text format, with what `keep` added."""
    inner = [(field, value) for field, value in message.ListFields() if field.message_type and _holds(value)]
    if not inner and not texts(message):
        return text_format.MessageToString(message, indent=indent)
    rest, pad = type(message).FromString(message.SerializeToString()), " " * indent
    for field, _ in inner:
        rest.ClearField(field.name)
    lines = [text_format.MessageToString(rest, indent=indent)]
    for field, value in inner:
        items = value if field.is_repeated else (value,)
        lines += (f"{pad}{field.name} {{\n{printed(item, indent + 2)}{pad}}}\n" for item in items)
    lines += (f"{pad}{text.strip()}\n" for text in texts(message))
    return "".join(lines)


def _holds(value: Message | Iterable[Message]) -> bool:
    items = (value,) if isinstance(value, Message) else value
    return any(
        bool(texts(item)) or any(field.message_type and _holds(inner) for field, inner in item.ListFields())
        for item in items
    )
