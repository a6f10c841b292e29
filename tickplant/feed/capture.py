"""What a capture of market data is to the plant: batches of rows, and an account of every message.

A capture format is one module below `tickplant.feed` that subclasses `Capture` with a pure decoder
inside. Handlers, `tickplant decode` and the demo all read captures through this interface.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator

from tickplant.schema import Rows

Batch = list[tuple[str, Rows]]
"""(table, rows) in the order in which they are to be published. `instrument` in the rows is the
capture's own code; a code is defined by a row of table `instrument` before its first use."""


class Capture(ABC):
    """One capture, read once from start to end by iterating over its batches.

    While and after it is read: `messages` counts the messages seen by type, `malformed` those that
    could not be decoded (each of them, and damage of the file, is a row of table `event` as well).
    """

    format: str

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.malformed = 0
        self.damaged = False
        """The capture ended in damage: cut off, or a broken container."""

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]: ...
