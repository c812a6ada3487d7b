"""Bytes changed by chance: what damage, a bad download or an editor does, and what an attacker tries first."""

import random
import struct

_EDGES = [0, 1, 2, 16, 127, 128, 255, 256, 1 << 15, (1 << 16) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32]
_EDGES += [(1 << 63) - 1, 1 << 63, (1 << 64) - 1]
_BYTES = [0, 1, 9, 10, 32, 34, 39, 47, 92, 123, 125, 127, 128, 192, 255]
_WORDS = [
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\x1b[2J",
    b"-1",
    b"99999999999",
    b"1e999",
    b"nan",
    b"\n",
    b"\0" * 8,
]


def mutant(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """`data` with one to eight changes, most of them near its beginning, where what is told of the rest stands."""
    made = bytearray(data)
    for _ in range(min(8, 1 + int(chance.expovariate(1.2)))):
        _change(made, others, chance)
    return bytes(made)


def _place(made: bytearray, chance: random.Random) -> int:
    end = len(made) if chance.random() < 0.5 else min(len(made), 512)
    return chance.randrange(end + 1)


def _change(made: bytearray, others: list[bytes], chance: random.Random) -> None:
    way, at = chance.randrange(11), _place(made, chance)
    length = min(1 << chance.randrange(8), len(made) - at)
    if way == 0 and at < len(made):
        made[at] ^= 1 << chance.randrange(8)
    elif way == 1 and at < len(made):
        made[at] = chance.choice(_BYTES)
    elif way == 2 and at < len(made):
        made[at] = chance.randrange(256)
    elif way == 3:
        del made[at : at + length]
    elif way == 4:
        made[at:at] = made[at : at + length] * chance.choice([1, 1, 2, 20])
    elif way == 5:
        made[at:at] = chance.randbytes(length)
    elif way == 6:
        width = chance.choice(["<H", "<I", "<Q", ">I", ">Q"])
        value = struct.pack(width, chance.choice(_EDGES) & ((1 << 8 * struct.calcsize(width)) - 1))
        made[at : at + len(value)] = value
    elif way == 7:
        made[at:at] = chance.choice(_WORDS)
    elif way == 8 and chance.random() < 0.3:
        del made[at:]
    elif way == 9 and others:
        other = chance.choice(others)
        start = chance.randrange(len(other) + 1)
        made[at : at + length] = other[start : start + length]
    elif way == 10:
        other = _place(made, chance)
        made[at : at + length], made[other : other + length] = made[other : other + length], made[at : at + length]
