"""Protobuf's wire format against protobuf itself."""

import pytest
from google.protobuf.internal import decoder, encoder

from caffe2tf.caffe import wire

EDGES = [0, 1, 127, 128, 129, 16383, 16384, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]


@pytest.mark.parametrize("value", EDGES)
def test_a_varint_is_protobufs(value):
    data = encoder._VarintBytes(value)
    assert wire.encode(value) == data
    assert wire.varint(memoryview(b"x" + data + b"y"), 1, 2 + len(data)) == (value, 1 + len(data))
    assert decoder._DecodeVarint(data, 0) == (value, len(data))


def test_a_varint_ends_with_its_tenth_byte():
    nine = b"\x80" * 9
    assert wire.varint(memoryview(nine + b"\x01"), 0, 10) == (1 << 63, 10)
    for data, end in ((nine + b"\x80\x01", 11), (b"\x80", 1), (b"", 0)):
        with pytest.raises(wire.Damaged, match="a number at byte"):
            wire.varint(memoryview(data), 0, end)


def test_fields_of_every_kind():
    """Number, wire type, where the value begins and ends, where the field begins."""
    data = b"\x08\x96\x01" + b"\x15abcd" + b"\x19abcdefgh" + b"".join(wire.field(1000, [b"x" * 130, b"y"]))
    assert list(wire.fields(memoryview(data), 0, len(data))) == [
        (1, wire.VARINT, 1, 3, 0),
        (2, wire.FIXED32, 4, 8, 3),
        (3, wire.FIXED64, 9, 17, 8),
        (1000, wire.BYTES, 21, 152, 17),
    ]
    with pytest.raises(wire.Damaged, match="the field at byte 17 ends 1 bytes past the end"):
        list(wire.fields(memoryview(data), 0, len(data) - 1))
    for bad in (b"\x0b", b"\x0c", b"\x00\x01"):  # groups, and the number 0
        with pytest.raises(wire.Damaged, match="no field starts at byte 0"):
            list(wire.fields(memoryview(bad), 0, len(bad)))


@pytest.mark.parametrize("many", [1, 63, 64, 65, 320, 321, 1000])
def test_a_run_of_unpacked_values_is_one_item(many):
    """Of Caffe's fields of values (5, 6, 8 and 9), up to the first record that is another."""
    run, after = b"\x2dabcd" * many, b"\x35abcd"
    found = list(wire.fields_with_runs(memoryview(run + after + run), 0, 2 * len(run) + 5))
    assert found == [
        (5, wire.FIXED32, 1, len(run), 0),
        (6, wire.FIXED32, len(run) + 1, len(run) + 5, len(run)),
        (5, wire.FIXED32, len(run) + 6, 2 * len(run) + 5, len(run) + 5),
    ]
