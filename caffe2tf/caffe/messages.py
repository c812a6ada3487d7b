"""What protobuf lets through in a message and Caffe does not, or only in C++: axes without end, names in any encoding."""

import os
from collections.abc import Iterator

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from caffe2tf.arrays.numbers import MAX_AXES
from caffe2tf.errors import ParseError


def decoded(data: bytes) -> tuple[str, str]:
    """(text, encoding) of the bytes of a name: UTF-8, else GB18030 (Chinese), else Latin-1, which any bytes are. The same
    bytes always give the same text, so that names in a network text and in a snapshot still meet."""
    for encoding in ("utf-8", "gb18030", "latin-1"):  # the last holds any bytes
        text = data.decode(encoding, "ignore")
        if text.encode(encoding) == data:
            break
    return text, encoding


def decode_names(message: Message, encodings: set[str]) -> None:
    """Makes strings of what protobuf leaves as bytes, since it is no UTF-8; adds their `encodings`."""
    for entry, value in message.ListFields():
        if entry.message_type is not None:
            for item in value if entry.is_repeated else (value,):
                decode_names(item, encodings)
        elif entry.type == entry.TYPE_STRING:
            for index, item in enumerate(value if entry.is_repeated else (value,)):
                if not isinstance(item, bytes):
                    continue
                text, encoding = decoded(item)
                encodings.add(encoding)
                if entry.is_repeated:
                    value[index] = text
                else:
                    setattr(message, entry.name, text)


def unknown_values(message: Message) -> Iterator[tuple[Message, int]]:
    """(message, field number) of every field in `message`, or in one within it, that the schema lacks or whose value it lacks:
    protobuf reads on without it."""
    skipped = UnknownFieldSet(message)
    for index in range(len(skipped)):
        yield message, skipped[index].field_number
    for entry, value in message.ListFields():
        if entry.message_type is not None:
            for item in value if entry.is_repeated else (value,):
                yield from unknown_values(item)


def check_axes(message: Message, path: str | os.PathLike[str]) -> None:
    """Raises ParseError for a shape of more axes than Caffe takes, wherever in `message` it stands."""
    for entry, value in message.ListFields():
        if entry.message_type is None:
            continue
        for item in value if entry.is_repeated else (value,):
            if item.DESCRIPTOR.name != "BlobShape":
                check_axes(item, path)
            elif len(item.dim) > MAX_AXES:
                raise ParseError(f"{path}: a shape of {len(item.dim)} axes; Caffe takes {MAX_AXES} at most")
