"""Protobuf's wire format, read and written without copying values: https://protobuf.dev/programming-guides/encoding/."""

from collections.abc import Iterator, Sequence

import numpy as np
from google.protobuf.message import Message

from caffe2tf.arrays.layout import Array

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Field = tuple[int, int, int, int, int]  # number, wire type, start and end of the value, start of the field


class Damaged(Exception):
    """What is wrong with the bytes; the reader of the file says which file."""


def varint(buffer: memoryview, at: int, end: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = shift = 0
    while at < end and shift < 70:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Damaged(f"truncated or damaged: a number at byte {at} does not end")


def fields(buffer: memoryview, at: int, end: int) -> Iterator[Field]:
    """Yields (field number, wire type, start and end of the value, start of the field)."""
    while at < end:
        begin = at
        key, at = varint(buffer, at, end)
        wire, start = key & 7, at
        if wire == BYTES:
            length, start = varint(buffer, at, end)
            at = start + length
        elif wire == FIXED32:
            at += 4
        elif wire == FIXED64:
            at += 8
        elif wire == VARINT:
            _, at = varint(buffer, at, end)
        else:
            raise Damaged(f"is not a .caffemodel: no field starts at byte {begin}")
        if not key >> 3:
            raise Damaged(f"is not a .caffemodel: no field starts at byte {begin}")
        if at > end:
            raise Damaged(f"truncated or damaged: the field at byte {begin} ends {at - end} bytes past the end")
        yield key >> 3, wire, start, at, begin


def fields_with_runs(buffer: memoryview, start: int, end: int) -> Iterator[Field]:
    """Like fields, but a run of unpacked values of one field comes as one item, its bytes uncut."""
    at = start
    while at < end:
        item = next(fields(buffer, at, end))
        number, wire, first, last, begin = item
        if number in (5, 6, 8, 9) and wire in (FIXED32, FIXED64):
            # Each value has its own one-byte key: the run ends at the first record that starts with another byte.
            size, window, key = last - begin, 64, buffer[begin]
            while True:
                count = min(window, (end - begin) // size)
                keys = np.frombuffer(buffer[begin : begin + count * size], np.uint8)[::size]
                others = np.flatnonzero(keys != key)
                if others.size or count < window:
                    break
                window *= 4
            last = begin + size * int(others[0] if others.size else count)
            item = number, wire, first, last, begin
        at = last
        yield item


def encode(value: int) -> bytes:
    """`value` as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, parts: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """The parts of a message, a list of bytes, as a field of another."""
    return [encode(number << 3 | BYTES), encode(sum(map(len, parts))), *parts]


def blob(header: Message, array: Array) -> list[bytes | memoryview]:
    """The parts of a BlobProto: `header` with its shape, and the values of `array` as packed floats."""
    values = np.ascontiguousarray(array, "<f4").data.cast("B")
    return [header.SerializeToString(), *field(5, [values])]
