"""What a capture of market data is to the plant: batches of rows, and an account of every message.

A capture format is a module below `tickplant.feed` that subclasses `Capture` with a pure decoder inside, and
a line in `formats`. Handlers, `tickplant decode` and the demo all read captures through this interface.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tickplant.errors import CaptureError
from tickplant.feed.source import GZIP_MAGIC, Inflated, exactly, is_zstd
from tickplant.schema import Rows

HEAD = 4096
"""Bytes of a file by which its format is told."""
Batch = list[tuple[str, Rows]]
"""(table, rows) in the order in which they are to be published. `instrument` in the rows is the
capture's own code; a code is defined by a row of table `instrument` before its first use."""


@dataclass(frozen=True)
class Head:
    """How a file begins: as it lies there, and what that inflates to if it is gzip or zstd."""

    path: Path
    raw: bytes
    plain: bytes

    @staticmethod
    def of(path: Path) -> "Head":
        """How this file begins. Raises CaptureError if it can't be read."""
        try:
            with path.open("rb") as file:
                raw = file.read(HEAD)
        except OSError as e:
            raise CaptureError(f"can't read {path}: {e.strerror}") from None
        if not (raw.startswith(GZIP_MAGIC) or is_zstd(raw)):
            return Head(path, raw, raw)
        with Inflated(path) as file:
            return Head(path, raw, exactly(file, HEAD))


class Capture(ABC):
    """One capture, read once from start to end by iterating over its batches.

    While and after it is read every message is in one of three accounts: `messages` counts those decoded, by
    type, `ignored` those of types that are declared to say nothing for any table, `malformed` those that
    could not be decoded (each of them, and damage of the file, is a row of table `event` as well).
    """

    format: str
    EVENT_UNITS: ClassVar[Mapping[str, str]] = {}
    """By kind of event: what its `first` and `last` count (`byte`, `line`, `order`); kinds that are not here
    have the venue's own numbers."""

    @staticmethod
    @abstractmethod
    def sniff(head: Head) -> bool:
        """Is a file that begins so a capture of this format?"""

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self.malformed = 0
        self.damaged = False
        """The capture ended in damage: cut off, or a broken container."""
        self.at_ns = 0
        """When what was read last was received, where the capture tells; ns UTC."""

    @property
    def total(self) -> int:
        """Messages seen so far: decoded, ignored, malformed."""
        return self.messages.total() + self.ignored.total() + self.malformed

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]: ...
