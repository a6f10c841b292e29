"""Rows of a table by number, out of the journals: sparse indexes of where each table's rows lie."""

from bisect import bisect_left, bisect_right
from functools import cached_property
from pathlib import Path

from tickplant import wire
from tickplant._core import framing, runs
from tickplant.config import Config
from tickplant.control import Control
from tickplant.dates import trading_dates, where_gone
from tickplant.day import declared, read_seal
from tickplant.errors import JournalDamaged, JournalError, RequestError, RowsGone, TickplantError
from tickplant.journal import Frames, JournalReader
from tickplant.schema import Schema

INDEX_BYTES = 1 << 16
INDEXES_MAX = 16
INDEX_SLICE = 8
"""Chunks of an old journal that are indexed per request."""
SCAN_FACTOR = 4
"""How much more is read for an answer than it may be long."""
FINGERPRINTS_MAX = 1000
READERS_KEPT = 8
"""Readers of a journal that stay where an answer ended, for whoever asks on from there."""


class _UncheckedReader(JournalReader):
    """Reads for those who check the frames themselves. Part of a frame may follow the whole ones."""

    def _whole(self, data: bytes, bound: int | None) -> Frames:
        length, why = runs.walk(data)
        if not length:  # a frame that is longer, the end, or damage
            return super()._whole(data, bound)
        assert self.position is not None
        self.position += length
        self.last_crc = None
        return data[:length] if framing.CHECKS[why] == "not a frame" else data


class ReplayIndex:
    """Follows the journal of one trading date; knows where to begin reading for any row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reader = JournalReader(folder)
        self.rows: dict[int, int] = {}
        """Rows so far, by table number."""
        self.sealed = False
        self._places = runs.Places(INDEX_BYTES)
        self._rows: dict[int, list[int]] = {}
        self._positions: dict[int, list[int]] = {}
        self._kept: dict[tuple[int, int, bool], JournalReader] = {}
        """Readers by what comes next there: table, row, and whether they check."""

    @cached_property
    def schema(self) -> Schema:
        """The tables of the date. Raises JournalError if its journal does not say."""
        return declared(self.folder)

    def follow(self, bound: int | None = None) -> bytes:
        """Read on; the frames read."""
        chunk = self.reader.read(bound)
        if chunk:
            noted, ends, seals = self._places.note(chunk, (self.reader.position or 0) - len(chunk))
            for table, row, position in noted:
                self._positions.setdefault(table, []).append(position)
                self._rows.setdefault(table, []).append(row)
            self.rows.update(ends)
            for offset, size in seals:
                read_seal(wire.payload(memoryview(chunk)[offset : offset + size]))
                self.sealed = True
        return chunk

    def fetch(self, table: int, row: int, limit: int, check: bool = True) -> bytes | memoryview:
        """Frames of a table that hold rows from `row` on: `limit` bytes at most, but one at least.

        Without `check` they are as they lie in the journal, for who checks them. Raises JournalDamaged.
        """
        if row >= self.rows.get(table, 0):
            return b""
        reader = self._kept.pop((table, row, check), None) or self._reader(table, row, check)
        try:
            following, out = self._read(reader, table, row, limit)
        except BaseException:
            reader.close()
            raise
        self._keep((table, following, check), reader)
        return out[0] if len(out) == 1 else b"".join(out)

    def _keep(self, place: tuple[int, int, bool], reader: JournalReader) -> None:
        """Of several that end at one place the last is kept; every other is closed."""
        if before := self._kept.pop(place, None):
            before.close()
        self._kept[place] = reader
        if len(self._kept) > READERS_KEPT:
            self._kept.pop(next(iter(self._kept))).close()

    def _reader(self, table: int, row: int, check: bool) -> JournalReader:
        """One that begins near a row."""
        at = max(bisect_right(self._rows[table], row) - 1, 0)
        return (JournalReader if check else _UncheckedReader)(self.folder, self._positions[table][at])

    def _read(
        self, reader: JournalReader, table: int, row: int, limit: int
    ) -> tuple[int, list[bytes | memoryview]]:
        """The row after those found, and their frames. The reader is left where that row, if any, follows."""
        out: list[bytes | memoryview] = []
        positions = self._positions[table]
        size = scanned = 0
        while True:
            begin = reader.position or 0
            try:
                chunk = reader.read(self.reader.position, max(INDEX_BYTES * 4, limit))
            except JournalDamaged:
                if out:  # what comes before the damage can be had
                    break
                raise
            scanned += len(chunk)
            frames, row, over = runs.pick(chunk, table, row, limit - size, not out)
            if len(frames):
                out.append(frames)
                size += len(frames)
            if over >= 0:
                reader.position, reader.last_crc = begin + over, None
                break
            if not chunk or (out and (scanned > SCAN_FACTOR * limit or 4 * size >= 3 * limit)):
                break
            following = bisect_left(positions, reader.position or 0)
            # Frames that the index leaves out begin near one that it has; the next that it has may be far
            # away, in a table that has few rows.
            if (reader.position or 0) - positions[following - 1] >= INDEX_BYTES:
                if following == len(positions):
                    break
                reader.close()
                reader.position, reader.last_crc = positions[following], None
        return row, out

    def close(self) -> None:
        """Give the files back."""
        for reader in (self.reader, *self._kept.values()):
            reader.close()
        self._kept.clear()


class Dates:
    """The journals of a plant: the one that is followed live, and any other as it is asked for."""

    def __init__(self, config: Config, control: Control) -> None:
        """Index what the newest journal has."""
        self.config, self.control = config, control
        self.trading_date = int(control.date.load())
        self.day = self._index(self.trading_date)
        self._indexes: dict[int, ReplayIndex] = {}
        self._fingerprints: dict[int, int] = {}
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
        before = self._indexes.pop(trading_date, index)
        if before is not index:
            before.close()
        self._indexes[trading_date] = index
        while len(self._indexes) > INDEXES_MAX:
            self._indexes.pop(next(iter(self._indexes))).close()

    def after(self, date: int) -> int:
        """The trading date after a sealed one, its journal gone or not; 0 if it has not begun."""
        return min((d for d in trading_dates(self.config.plant.data_dir) if d > date), default=0)

    def fingerprint(self, date: int) -> int:
        """Of the tables of a date; 0 if that can't be told any more."""
        found = self._fingerprints.get(date, 0)
        if not found:
            try:
                found = declared(self.config.journal_dir / str(date)).fingerprint
            except (JournalError, OSError):
                return 0
            if len(self._fingerprints) >= FINGERPRINTS_MAX:
                self._fingerprints.clear()
            self._fingerprints[date] = found
        return found

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
