"""Rows that PostgreSQL refuses (a CHECK or a trigger of an operator, a value out of a column's range).

Everything else goes in. A refused row stays in the journal like any other, and besides:

    data_dir/aside/refused-<yyyymmdd>/   a journal of frames of such rows, each with their row number
    progress.refused                     per table how many they are, and why the last of them was

The date is not complete then. `tickplant hdb load` takes the rows from the journal once nothing refuses them.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg

from tickplant import wire
from tickplant._core import framing
from tickplant.hdb.connection import Connection
from tickplant.journal import JournalWriter
from tickplant.schema import Rows, Schema, Table

HOPELESS = 256
"""When so many rows of a chunk are refused and none was taken, what is refused is not divided any more."""
_KINDS = {"22", "23", "44", "P0"}
"""Classes of SQLSTATE: data exception, integrity constraint, check option, raised by a trigger."""
_NOT_NULL, _UNIQUE = "23502", "23505"
_SEGMENT_BYTES = 1 << 26

Refused = Mapping[str, tuple[int, str]]
"""How many rows of a table were refused, and why the last of them was."""


@dataclass(frozen=True)
class Run:
    """Rows of a chunk that follow each other, all refused."""

    first: int
    stop: int
    why: str


def is_refusal(error: psycopg.Error) -> bool:
    """Does PostgreSQL refuse a row, and not all that we do?"""
    state = error.sqlstate or ""
    if state == _NOT_NULL:  # of a column that is not declared: no row would fit
        return False
    if state == _UNIQUE and error.diag.constraint_name == f"{error.diag.table_name}_row":
        return False  # the row is there already: it is the history that is wrong
    return state[:2] in _KINDS


def sift(connection: Connection, rows: Rows, copy: Callable[[int, Rows], None]) -> list[Run]:
    """Copy rows, within a transaction, but for those that are refused; which those are.

    `copy`: takes the place of the first row, and rows. A piece that is refused is divided.
    """
    found: list[Run] = []
    taken = 0
    pieces = [(0, len(rows))] if len(rows) else []
    while pieces:
        start, stop = pieces.pop()
        try:
            with connection.transaction():
                copy(start, rows[start:stop])
            taken += stop - start
        except psycopg.Error as e:
            if not is_refusal(e):
                raise
            if stop - start == 1 or (not taken and len(found) >= HOPELESS):
                found.append(Run(start, stop, e.diag.message_primary or str(e)))
            else:
                middle = (start + stop) // 2
                pieces += [(middle, stop), (start, middle)]
    return found


def folder(aside: Path, trading_date: int, *, new: bool = False) -> Path:
    """Where the refused rows of a date lie; `new`: while the date is rebuilt."""
    return aside / f"refused-{trading_date}{'.new' if new else ''}"


class Kept:
    """The refused rows of one date, as files."""

    def __init__(self, where: Path, schema: Schema, trading_date: int) -> None:
        """Raises JournalError if what is there can't be gone on with."""
        self.where, self.trading_date = where, trading_date
        about = {"what": "refused by PostgreSQL", "schema": schema.describe(), "trading_date": trading_date}
        self._writer = JournalWriter(where, about, _SEGMENT_BYTES)
        self._next: dict[int, int] = {}
        for _, chunk in self._writer.recover():
            for offset, _, kind, *_ in framing.index(chunk).tolist():
                if kind == wire.ROWS:
                    head = wire.header(chunk, offset)
                    self._next[head.table] = head.row + head.count

    def keep(self, table: Table, first: int, rows: Rows, at_ns: int) -> None:
        """Have rows on disk, numbered from `first` on; those that an earlier try kept are left."""
        skipped = max(0, self._next.get(table.number, 0) - first)
        step = wire.MESSAGE_MAX // table.row_size
        for start in range(skipped, len(rows), step):
            piece = np.ascontiguousarray(rows[start : start + step])
            self._writer.append_frame(
                wire.ROWS, piece.tobytes(), table=table.number, trading_date=self.trading_date,
                row=first + start, time_ns=at_ns, count=len(piece), schema=table.fingerprint,
            )  # fmt: skip
            self._next[table.number] = first + start + len(piece)

    def sync(self) -> None:
        """They are on disk for certain."""
        self._writer.sync()

    def close(self) -> None:
        """Give the files back."""
        self._writer.close()


def forget(aside: Path | None, trading_date: int, *, new: bool = False) -> None:
    """A date is loaded anew, or rebuilt: what was refused of it before does not count any more."""
    if aside:
        shutil.rmtree(folder(aside, trading_date, new=new), ignore_errors=True)


def put(aside: Path | None, trading_date: int) -> None:
    """A date is rebuilt: what was refused of it then is what is refused of it."""
    forget(aside, trading_date)
    if aside and (new := folder(aside, trading_date, new=True)).exists():
        new.rename(folder(aside, trading_date))


def more(refused: Refused, table: str, runs: list[Run]) -> Refused:
    """The same with the refused rows of one more chunk."""
    if not runs:
        return refused
    count = sum(run.stop - run.first for run in runs)
    return {**refused, table: (refused.get(table, (0, ""))[0] + count, runs[-1].why)}


def said(refused: Refused, where: str) -> Iterator[str]:
    """A sentence for each table, for people."""
    for table, (count, why) in refused.items():
        rows = "1 row" if count == 1 else f"{count:,} rows"
        yield f"PostgreSQL refused {rows} of {table} ({why}), kept in {where}"
