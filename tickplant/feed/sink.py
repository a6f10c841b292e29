"""Where decoders put the rows they make: packed buffers, one per table, taken as a batch.

A decoder knows no feed and no plant; it adds rows to a sink, and whoever runs the decoder takes them from it.
Rows have the shape of the shipped configuration's tables; a plant that declares its tables otherwise gets
these matched by column names when they are published.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np

from tickplant.config import Config, shipped
from tickplant.feed.batch import RowBatch
from tickplant.feed.capture import Batch
from tickplant.schema import Rows, Schema

ROOM = 4096
"""Rows of a table in one piece of a batch."""
TEXT_MAX = 96


@cache
def shipped_schema() -> Schema:
    """The tables as the shipped configuration declares them."""
    path = shipped()
    return Config(msgspec.toml.decode(path.read_bytes()), path).schema


class Sink:
    """Rows of one venue, until they are taken."""

    def __init__(self, venue: str) -> None:
        """`venue`: of the instruments that are defined here."""
        self.venue = venue
        self.codes: dict[str, int] = {}
        """By symbol: the codes given by `define`."""
        self._batches: dict[str, RowBatch] = {}
        self._trials: dict[str, RowBatch] = {}
        self._full: dict[str, list[Rows]] = {}

    def define(self, symbol: str, ts_event: int, ts_recv: int, **definition: Any) -> int:
        """The code of an instrument; a row of table `instrument`, with these further columns, says so.

        An instrument that is known keeps its code, and is defined again. Raises SchemaError for a
        symbol or a value that does not fit.
        """
        code = self.codes.get(symbol) or len(self.codes) + 1
        self.add("instrument", ts_event, ts_recv, instrument=code, code=code, venue=self.venue, symbol=symbol,
                 **definition)  # fmt: skip
        self.codes[symbol] = code
        return code

    def code(self, symbol: str, ts_recv: int, **definition: Any) -> int:
        """The code of an instrument, defined now if it was not before."""
        return self.codes.get(symbol) or self.define(symbol, ts_recv, ts_recv, **definition)

    def add(self, table: str, ts_event: int, ts_recv: int, **values: Any) -> None:
        """Add a row. Columns not given are NaN for floats, else zero.

        Raises SchemaError for a column that the table lacks, or a value that does not fit: nothing is added.
        """
        batch = self._batches.get(table)
        if batch is None:
            batch = self._batches[table] = RowBatch(shipped_schema()[table], ROOM)
        elif len(batch) == ROOM:
            self._full.setdefault(table, []).append(_rows(batch))
        values["ts_event"] = ts_event
        batch.add(ts_recv, values)

    def check(self, table: str, ts_recv: int, rows: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Would these rows be taken? Raises SchemaError if not."""
        trial = self._trials.get(table)
        if trial is None:
            trial = self._trials[table] = RowBatch(shipped_schema()[table], ROOM)
        for ts_event, values in rows:
            if len(trial) == ROOM:
                trial.packed.clear()
            trial.add(ts_recv, {**values, "ts_event": ts_event})
        trial.packed.clear()

    def add_all(self, table: str, ts_recv: int, rows: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Add rows, each (ts_event, columns), of one message: all of them or, with SchemaError, none."""
        if len(rows) > 1:
            self.check(table, ts_recv, rows)
        for ts_event, values in rows:
            self.add(table, ts_event, ts_recv, **values)

    def event(
        self, kind: str, ts_recv: int, text: str, *, first: int = 0, last: int = 0, instrument: int = 0,
        ts_event: int = 0, flags: int = 0,
    ) -> None:  # fmt: skip
        """Add a row of table `event`: what was lost, refused or damaged, the range concerned, and why."""
        short = text.encode("ascii", "replace")[:TEXT_MAX]
        self.add("event", ts_event, ts_recv, kind=kind, first=first, last=last, text=short,
                 instrument=instrument, flags=flags)  # fmt: skip

    def take(self) -> Batch:
        """All rows since the last time, definitions first. Rows of a table are in the order of `add`."""
        taken: dict[str, list[Rows]] = {"instrument": [], **self._full}
        for table, batch in self._batches.items():
            if len(batch):
                taken.setdefault(table, []).append(_rows(batch))
        self._full = {}
        return [(t, p[0] if len(p) == 1 else np.concatenate(p)) for t, p in taken.items() if p]


def _rows(batch: RowBatch) -> Rows:
    """A batch's rows, copied; it is empty then."""
    rows = np.frombuffer(bytes(batch.packed), batch.table.dtype)
    batch.packed.clear()
    return rows
