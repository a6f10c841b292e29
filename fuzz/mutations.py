"""Mutations of inputs by a seed, for where there is no atheris."""

import random
from collections.abc import Iterator

ODD = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"-1",
    b"1e999",
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"\n",
    b"\0\0\0\0",
    b"\xff" * 8,
)


def mutations(corpus: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """So many inputs, each one of the corpus with a few changes."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(corpus))
        for _ in range(chance.choice((1, 1, 2, 4))):
            _change(data, corpus, chance)
        yield bytes(data)


def _change(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.choice((1, 2, 4, 8, 30)))
    match chance.randrange(6):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1:
            data[at:end] = chance.choice(ODD)
        case 2:
            del data[at:end]
        case 3:
            data[at:at] = data[at:end]
        case 4:
            other = chance.choice(corpus)
            begin = chance.randrange(len(other) + 1)
            data[at:] = other[begin:]
        case _:
            data[at:end] = chance.randbytes(end - at)
