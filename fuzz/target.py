"""What a fuzz target is, and what must hold of any rows it gives."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

ROWS_MAX = 1 << 20
ROWS_PER_BYTE = 4096
"""Bytes of rows that an input may give at most: so many, and so many more for each of its own."""


@dataclass(frozen=True)
class Target:
    """A decoder: `run` raises what only a defect raises. `corpus` gives sound inputs to begin with."""

    run: Callable[[bytes], None]
    corpus: Callable[[], list[bytes]]


def joined(pieces: Iterable[bytes]) -> bytes:
    """Several pieces as one input; the inverse of `pieces`."""
    return b"".join(len(p).to_bytes(2, "big") + p for p in pieces)


def pieces(data: bytes) -> list[bytes]:
    """An input as pieces: each has two bytes of length before it, and the last is what is there."""
    found, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : end])
        at = end
    return found


def check(batches: Iterable[Sequence[tuple[str, Any]]], size: int, malformed: int) -> None:
    """Rows of an input of `size` bytes are bounded, and what is malformed is told of."""
    room, told = ROWS_MAX + ROWS_PER_BYTE * size, 0
    for batch in batches:
        for table, rows in batch:
            room -= rows.nbytes
            if table == "event":
                told += len(rows)
    if room < 0:
        raise AssertionError(f"{-room} bytes of rows too many for {size} bytes")
    if told < malformed:
        raise AssertionError(f"{malformed} malformed, of which {told} rows of event tell")
