"""The sound parts of a journal that may be damaged: runs of frames that follow one another.

What follows the last write is a torn tail. Anything else that is not a frame is damage: behind it the next
frame that has the magic and a right checksum is looked for, and what is there is used.
"""

import mmap
from pathlib import Path

from tickplant import wire
from tickplant._core import framing
from tickplant.journal import begins, segments

Run = tuple[int, int]
"""Positions of its first byte and behind its last."""

_WINDOW = 1 << 20
_MAGIC = b"TP"


def runs(folder: Path) -> list[Run]:
    """The runs of sound frames of a journal, in order; within one the chain is whole."""
    found: list[Run] = []
    for path in segments(folder):
        if path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                data = memoryview(mapped)
                try:
                    found += [(begins(path) + a, begins(path) + b) for a, b in _runs(data)]
                finally:
                    data.release()
    return found


def _runs(data: memoryview) -> list[Run]:
    found, at = [], 0
    while (at := _next_frame(data, at)) < len(data):
        with data[at:] as rest:
            length = framing.scan(rest, wire.header(rest).prev_crc)[0]
        found.append((at, at + length))
        at += length
    return found


def _next_frame(data: memoryview, at: int) -> int:
    """Where the next valid frame begins at or after an offset; the end of the data if there is none."""
    while at + wire.HEADER_SIZE <= len(data):
        with data[at:] as rest:
            if framing.check(rest) == 0:
                return at
        at = _next_magic(data, at + 1)
    return len(data)


def _next_magic(data: memoryview, at: int) -> int:
    for start in range(at, len(data), _WINDOW):
        found = bytes(data[start : start + _WINDOW + 1]).find(_MAGIC)
        if found >= 0:
            return start + found
    return len(data)
