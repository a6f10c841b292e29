"""Rows of a table by number, out of the journals: sparse indexes of where each table's rows lie."""

from bisect import bisect_left, bisect_right
from pathlib import Path

from tickplant import wire
from tickplant._core import core
from tickplant.config import Config
from tickplant.control import Control
from tickplant.dates import trading_dates, where_gone
from tickplant.day import read_seal
from tickplant.errors import RequestError, RowsGone, TickplantError
from tickplant.journal import JournalReader

INDEX_BYTES = 1 << 16
INDEXES_MAX = 16
INDEX_SLICE = 8
"""Chunks of an old journal that are indexed per request."""
SCAN_FACTOR = 4
"""How much more is read for an answer than it may be long."""


class ReplayIndex:
    """Follows the journal of one trading date; knows where to begin reading for any row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reader = JournalReader(folder)
        self.rows: dict[int, int] = {}
        """Rows so far, by table number."""
        self.sealed = False
        self._rows: dict[int, list[int]] = {}
        self._positions: dict[int, list[int]] = {}

    def follow(self, bound: int | None = None) -> bytes:
        """Read on; the frames read."""
        chunk = self.reader.read(bound)
        if chunk:
            start = (self.reader.position or 0) - len(chunk)
            for offset, size, kind, table, _, row, count in core.index(chunk).tolist():
                if kind == wire.ROWS:
                    self._remember(table, row, start + offset)
                    self.rows[table] = row + count
                elif kind == wire.SEAL:
                    read_seal(wire.payload(memoryview(chunk)[offset : offset + size]))
                    self.sealed = True
        return chunk

    def _remember(self, table: int, row: int, position: int) -> None:
        positions = self._positions.setdefault(table, [])
        if not positions or position - positions[-1] >= INDEX_BYTES:
            positions.append(position)
            self._rows.setdefault(table, []).append(row)

    def fetch(self, table: int, row: int, limit: int) -> bytes:
        """Frames of a table that hold rows from `row` on: `limit` bytes at most, but one at least."""
        if row >= self.rows.get(table, 0):
            return b""
        positions = self._positions[table]
        at = max(bisect_right(self._rows[table], row) - 1, 0)
        out: list[bytes] = []
        size = scanned = 0
        reader = JournalReader(self.folder, positions[at])
        try:
            while chunk := reader.read(self.reader.position, INDEX_BYTES * 4):
                scanned += len(chunk)
                for offset, length, kind, number, _, first, count in core.index(chunk).tolist():
                    if kind == wire.ROWS and number == table and first + count > row:
                        if out and size + length > limit:
                            return b"".join(out)
                        out.append(chunk[offset : offset + length])
                        size += length
                if out and scanned > SCAN_FACTOR * limit:
                    break
                following = bisect_left(positions, reader.position or 0)
                # Frames that the index leaves out begin near one that it has; the next that it has may be far
                # away, in a table that has few rows.
                if (reader.position or 0) - positions[following - 1] >= INDEX_BYTES:
                    if following == len(positions):
                        break
                    reader.close()
                    reader = JournalReader(self.folder, positions[following])
        finally:
            reader.close()
        return b"".join(out)

    def close(self) -> None:
        """Give the file back."""
        self.reader.close()


class Dates:
    """The journals of a plant: the one that is followed live, and any other as it is asked for."""

    def __init__(self, config: Config, control: Control) -> None:
        """Index what the newest journal has."""
        self.config, self.control = config, control
        self.trading_date = int(control.date.load())
        self.day = self._index(self.trading_date)
        self._indexes: dict[int, ReplayIndex] = {}
        while self.follow():
            pass

    def _index(self, trading_date: int) -> ReplayIndex:
        return ReplayIndex(self.config.journal_dir / str(trading_date))

    def _bound(self, trading_date: int) -> int | None:
        """How far a date's journal may be read: if it is open, what the plant has finished writing."""
        written = int(self.control.written.load())
        return written if self.control.date.load() == trading_date else None

    def follow(self) -> bytes:
        """Read the live journal on; the frames read."""
        return self.day.follow(self._bound(self.trading_date))

    @property
    def over(self) -> bool:
        """Is the live journal finished, and a later date open?"""
        return self.day.sealed and self.control.date.load() > self.trading_date

    def go_on(self) -> None:
        """Follow the next date."""
        self._keep(self.trading_date, self.day)
        self.trading_date = self.after(self.trading_date) or int(self.control.date.load())
        self._indexes.pop(self.trading_date, self.day).close()
        self.day = self._index(self.trading_date)

    def _keep(self, trading_date: int, index: ReplayIndex) -> None:
        """The newest asked for is the last to go: an index half made would have to be begun again."""
        self._indexes.pop(trading_date, None)
        self._indexes[trading_date] = index
        while len(self._indexes) > INDEXES_MAX:
            self._indexes.pop(next(iter(self._indexes))).close()

    def after(self, date: int) -> int:
        """The trading date after a sealed one, its journal gone or not; 0 if it has not begun."""
        return min((d for d in trading_dates(self.config.plant.data_dir) if d > date), default=0)

    def of(self, date: int) -> tuple[ReplayIndex, int]:
        """The index of a date, and the bytes read for it now.

        Raises RowsGone if its journal has been deleted, RequestError if there was none.
        """
        if date == self.trading_date:
            return self.day, 0
        if not (self.config.journal_dir / str(date)).is_dir():
            if date in self._indexes:
                self._indexes.pop(date).close()
            raise self._missing(date)
        index = self._indexes.get(date) or self._index(date)
        self._keep(date, index)
        # A slice at a time: live rows must not wait for an old date. Who asks is told what is known so
        # far, and asks again.
        read = 0
        for _ in range(INDEX_SLICE):
            if index.sealed or not (chunk := index.follow(self._bound(date))):
                break
            read += len(chunk)
        return index, read

    def _missing(self, date: int) -> TickplantError:
        dates = trading_dates(self.config.plant.data_dir)
        if date in dates:
            return RowsGone(where_gone(self.config.plant.name, date))
        known = f"{dates[0]} to {dates[-1]}" if dates else "none"
        return RequestError(f"there is no trading date {date}; there are: {known}")

    def close(self) -> None:
        """Give the files back."""
        for index in (self.day, *self._indexes.values()):
            index.close()
