"""The registry: the plant's instruments, numbered for ever, in a journal of their own.

Its frames hold rows of the table `registry` (this module's, not the configuration's): the key columns, with
`instrument` the number given, and venue and symbol. The ticker plant appends, and shows the rows in
shared memory as the table of trading date 0; others follow the journal.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tickplant import wire
from tickplant._core import framing
from tickplant._core.intake import Intake
from tickplant.errors import JournalDamaged, SchemaError, TableFull
from tickplant.instruments import Instruments, Name, full_name
from tickplant.journal import JournalReader, JournalWriter
from tickplant.schema import Rows, declare
from tickplant.table import AppendTable

TABLE = declare("registry", 255, {"venue": "S16", "symbol": "S48"}, max_rows=1 << 24)
_SEGMENT_BYTES = 1 << 26


def text(value: bytes) -> str:
    """A name as it stands in a row; bytes that are not UTF-8 stay visible."""
    return value.decode("utf-8", "backslashreplace")


def _fits(name: Name) -> bool:
    """Does a row of the registry hold the whole name, so that it is the same when read again?"""
    return all(
        text(part.encode()[: column.size]) == part and not part.endswith("\0")
        for part, column in zip(name, TABLE.columns[-2:], strict=True)
    )


def extend(instruments: Instruments, rows: Rows) -> None:
    """Add the rows of a registry journal. Raises JournalDamaged if numbers are missing."""
    known = len(instruments)
    for number, venue, symbol in zip(
        rows["instrument"].tolist(), rows["venue"].tolist(), rows["symbol"].tolist(), strict=True
    ):
        if number >= known and instruments.add(text(venue), text(symbol)) != number:
            raise JournalDamaged(f"registry: instrument {number} comes out of turn")


class RegistryWriter:
    """The ticker plant's side: gives numbers, and has them on disk before anyone sees them."""

    def __init__(self, folder: Path, plant: str, identity: str) -> None:
        self.instruments = Instruments()
        self.plant, self.identity = plant, identity
        about = {"plant": plant, "what": "registry"}
        self._journal = JournalWriter(folder, about, _SEGMENT_BYTES)
        self._table = AppendTable(TABLE)
        self._intake = Intake([self._table.columns], 0, 1, 1)
        self._intake.add_feed(0)

    def open(self, instruments_max: int) -> None:
        """Read the journal and show it in shared memory."""
        self.instruments_max = instruments_max
        self._table.open(self.plant, self.identity, 0, 1, 1 << 16)
        for _, chunk in self._journal.recover():
            extend(self.instruments, TABLE.rows(framing.payloads(chunk, TABLE.number)))
            self._show(chunk)

    def _show(self, frames: bytes | memoryview) -> None:
        self._table.columns.taken = len(self.instruments) - 1
        with contextlib.suppress(
            TableFull
        ):  # remembered in the table: names stay behind, and are brought later
            self._table.ensure(len(self.instruments) - 1)
        self._intake.apply(frames)

    @property
    def full(self) -> TableFull | None:
        """Why readers don't see the newest names, if they do not."""
        return self._table.full if self._table.behind else None

    def catch_up(self) -> None:
        """Show the names that there was no room for, if there is now."""
        if self._table.behind and self._table.may_ask:
            reader = JournalReader(self._journal.folder)
            for chunk in iter(reader.read, b""):
                self._show(chunk)
            reader.close()

    def add(self, names: Sequence[Name], now_ns: int) -> list[int]:
        """Numbers of instruments, new ones where they have none.

        Raises SchemaError, with nothing added, if a name is longer than a row holds or there would be
        more than instruments_max.
        """
        unfit = next((n for n in names if not _fits(n)), None)
        if unfit is not None:
            raise SchemaError(f"{full_name(*unfit)!r} is too long for an instrument, or is not text")
        first = len(self.instruments)
        new = {n for n in names if self.instruments.find(*n) is None}
        if first + len(new) > self.instruments_max:
            raise SchemaError(
                f"{len(new)} instruments more than tickerplant.instruments_max = "
                f"{self.instruments_max}; raise it and restart the ticker plant"
            )
        numbers = [self.instruments.add(*n) for n in names]
        fresh = self.instruments.since(first)
        if fresh:
            rows = TABLE.empty(len(fresh))
            rows["ts_plant"] = now_ns
            rows["instrument"] = np.arange(first, first + len(fresh))
            rows["venue"] = [v.encode() for v, _ in fresh]
            rows["symbol"] = [s.encode() for _, s in fresh]
            frame = framing.seal(
                rows.view(np.uint8), wire.ROWS, table=TABLE.number, row=first - 1, time_ns=now_ns,
                count=len(fresh), schema=TABLE.fingerprint, prev_crc=self._journal.last_crc,
            )  # fmt: skip
            self._journal.append(frame, wire.header(frame).crc)
            self._journal.sync()
            self._show(frame)
        return numbers


class RegistryReader:
    """Anyone's side: `instruments`, brought up to date by `follow`."""

    def __init__(self, folder: Path) -> None:
        self.instruments = Instruments()
        self._journal = JournalReader(folder)

    def follow(self) -> int:
        """Read what has been added; returns how many instrument numbers there are."""
        while chunk := self._journal.read():
            extend(self.instruments, TABLE.rows(framing.payloads(chunk, TABLE.number)))
        return len(self.instruments)
