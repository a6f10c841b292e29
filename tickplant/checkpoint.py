"""Checkpoints: where feeds and tables stood at a position of a date's journal.

A ticker plant that finds its shared memory again reads only what came after, however large the day.

A file `checkpoint` beside the segments: u32 crc32c of what follows, then msgpack. It is replaced whole, and
only once the journal is durable up to its position. It means nothing without the tables: where they are gone,
or lack rows, the journal is read from its start. Else what is below it is not read when the ticker plant
starts; the proof of the date reads every byte again.
"""

import contextlib
import os
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack

from tickplant._core import framing
from tickplant.journal import begins, durable_position, segments

NAME = "checkpoint"
_CRC = struct.Struct("<I")


@dataclass(frozen=True)
class Checkpoint:
    """`taken`: rows by table number; `feeds`: by number what `Day` knows of each."""

    position: int
    last_crc: int
    schema: list[Any]
    taken: dict[int, int]
    feeds: dict[int, dict[str, Any]]

    def write(self, folder: Path) -> None:
        """Replace the checkpoint of a journal. A disk that refuses leaves the one before."""
        packed = msgpack.packb(asdict(self))
        draft = folder / f"{NAME}.draft"
        with contextlib.suppress(OSError):
            draft.write_bytes(_CRC.pack(framing.crc32c(packed)) + packed)
            os.replace(draft, folder / NAME)


def read(folder: Path) -> Checkpoint | None:
    """The checkpoint of a journal, if there is one that the journal bears out."""
    try:
        data = (folder / NAME).read_bytes()
        files = segments(folder)
        size = begins(files[-1]) + files[-1].stat().st_size if files else 0
    except OSError:
        return None
    packed = data[_CRC.size :]
    if len(data) <= _CRC.size or _CRC.pack(framing.crc32c(packed)) != data[: _CRC.size]:
        return None
    found = Checkpoint(**msgpack.unpackb(packed, strict_map_key=False))
    return found if found.position <= min(size, durable_position(folder)) else None


def remove(folder: Path) -> None:
    """Have none, so that one that is not used now is not used later, when other bytes have its position."""
    with contextlib.suppress(FileNotFoundError):
        (folder / NAME).unlink()
