"""What a peer has to be able to do, and the rows that all have to take.

A module of a peer has

    PROMISE             what is said of rows that have been poured
    serve(site)         a context manager: its address, while its server, if it needs one, runs
    Source(address)     where rows go in: a subclass of `Source`
    Sink(address)       where they come out, if a reader can sleep until rows come: as `Sink`
    STORES              False: the source is not told that rows are anywhere; they are once a sink has them
    FAN_OUT             False: a sink tells when rows came, but does not get them
    MESSAGES            {rows each: messages} of a round, if fewer than ours suffice

A message is packed rows of `trade`, the same bytes for all.
"""

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import harness
import numpy as np

from tickplant import config
from tickplant.clock import now_ns
from tickplant.schema import Table


@cache
def trade() -> Table:
    """The table whose rows all have to take."""
    return config.load(config.shipped()).schema["trade"]


class Source:
    """Where rows go in."""

    def __init__(self) -> None:
        self._row, self._single = 0, b""
        self._random = np.random.default_rng(1)

    def prepare(self, messages: int, rows_each: int) -> list[bytes]:
        """The next messages."""
        rows = trade().empty(messages * rows_each)
        number = np.arange(self._row, self._row + len(rows))
        self._row += len(rows)
        rows["ts_event"] = rows["ts_recv"] = now_ns() + number
        rows["venue_seq"] = rows["trade_id"] = number
        rows["instrument"] = self._random.integers(1, harness.INSTRUMENTS + 1, len(rows))
        rows["price"] = self._random.integers(100, 50_000, len(rows)) / 100
        rows["size"] = self._random.integers(1, 1_000, len(rows))
        rows["side"], rows["action"] = b"B", b"T"
        return [rows[at : at + rows_each].tobytes() for at in range(0, len(rows), rows_each)]

    def pour(self, made: Sequence[bytes]) -> None:
        """Send messages one after the other; return when they are as safe as the peer promises."""
        raise NotImplementedError

    def post(self, due: int) -> None:
        """Send one row, with the time at which it was due as its ts_event."""
        self.pour([self.single(due)])

    def close(self) -> None:
        """Give back what would complain else."""

    def single(self, due: int) -> bytes:
        """A message of one row with this ts_event."""
        self._single = self._single or self.prepare(1, 1)[0]
        return due.to_bytes(8, "little") + self._single[8:]


class Sink(Protocol):
    """Where rows come out; from when it is made on."""

    def take(self) -> Sequence[bytes | memoryview]:
        """Sleep until there are messages; none came if it took a second."""
        ...

    def close(self) -> None: ...
