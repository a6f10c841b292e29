"""A local reader's way through the dates: every row of a table, in order, whatever was dropped meanwhile.

Rows come from shared memory. The tables of a date that is proven are dropped from there; who comes back
to one of them, or slept over it, reads its rows from the journal, and from that the dates that came after.
The same goes for rows of a date that is over, for which shared memory had no room; rows of the open date are
waited for. What is in neither any more is an error that says where it is, never a hole.
"""

import time
from collections import deque
from collections.abc import Iterator

from tickplant import wire
from tickplant._core import framing
from tickplant.batch import Batch
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.control import Control
from tickplant.dates import trading_dates, where_gone
from tickplant.errors import NotRunning, RowsGone
from tickplant.journal import JournalReader
from tickplant.schema import Schema, Table
from tickplant.table import SharedTable, segment_name, waits

FOLLOW_ROWS = 65_536
_PAUSE_S = 0.02


class Follower:
    """An endless iterator of batches of one table; `next` gives them one by one, and up when none comes."""

    def __init__(
        self, control: Control, table: str, trading_date: int, from_row: int = 0, max_rows: int = FOLLOW_ROWS
    ) -> None:
        """Raises NotRunning if the date has not begun, RowsGone if its rows can't be had here any more."""
        self.control, self.table, self.max_rows = control, table, max_rows
        self._begin(trading_date, from_row)

    def _begin(self, trading_date: int, row: int) -> None:
        self.trading_date, self.row = trading_date, row
        self._shared: SharedTable | None = None
        self._journal: _JournalTable | None = None
        try:
            self._shared = SharedTable(self.control.plant, trading_date, self.table)
        except NotRunning:
            if trading_date >= self.control.date.load():
                if waits(segment_name(self.control.plant, trading_date, self.table)):
                    return
                raise
            self._journal = _JournalTable(self.control, self.table, trading_date, row)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self.next(1.0)
            if batch is not None:
                yield batch

    def next(self, timeout: float) -> Batch | None:
        """The next batch, or None if none came within `timeout` seconds. Raises RowsGone."""
        end = monotonic_ns() + int(timeout * SECOND_NS)
        while True:
            left = max(0, end - monotonic_ns())
            if self._journal:
                batch = self._from_journal()
            elif self._shared is not None:  # a table without rows is one, too
                batch = self._from_memory(self._shared, min(left, SECOND_NS))
            else:
                self._wait_for_room()
                batch = None
            if batch is not None:
                self.row += len(batch)
                return batch
            if left <= 0:
                return None

    def _wait_for_room(self) -> None:
        """The open date's table has no room at all yet."""
        time.sleep(_PAUSE_S)
        self._begin(self.trading_date, self.row)

    def _from_memory(self, shared: SharedTable, patience_ns: int) -> Batch | None:
        # Before the count: a seal that comes after it changes nothing.
        sealed, short = shared.sealed, shared.short
        there = self.control.bell.wait_above(shared.committed, self.row, patience_ns)
        if there > self.row:
            rows = shared.rows(self.row, min(there - self.row, self.max_rows))
            return Batch.of(rows, self.table, self.trading_date, self.row)
        if sealed and self.control.date.load() > self.trading_date:
            self._begin(self._after(), 0)
        elif short:
            self._journal = _JournalTable(self.control, self.table, self.trading_date, self.row)
        elif shared.replaced:
            self._begin(self.trading_date, self.row)
        return None

    def _from_journal(self) -> Batch | None:
        assert self._journal is not None
        payload = self._journal.next(self.max_rows)
        if payload is None:
            self._journal.close()
            self._begin(self._after(), 0)
            return None
        rows = self._journal.declared.rows(payload)
        return Batch.of(rows, self.table, self.trading_date, self.row)

    def _after(self) -> int:
        """The trading date after this one, which is over. Raises RowsGone if that can't be told."""
        now = int(self.control.date.load())
        folder = self.control.data_dir
        try:
            return min((d for d in trading_dates(folder) if d > self.trading_date), default=now)
        except OSError as e:
            if self.control.previous.load() == self.trading_date:
                return now
            raise RowsGone(
                f"trading date {self.trading_date} is over and {now} is open, but what was between can't be "
                f"told: {folder}/journal can't be read here ({e.strerror}); what is proven is in PostgreSQL, "
                f"schema {self.control.plant}"
            ) from None


class _JournalTable:
    """The rows of a table in the journal of a date that is over."""

    def __init__(self, control: Control, name: str, date: int, row: int) -> None:
        self._plant, self._name, self._date = control.plant, name, date
        self._folder = control.data_dir / "journal" / str(date)
        self._reader = JournalReader(self._folder)
        self._row = row
        self._frames: deque[bytes] = deque()
        first = self._read()
        size = wire.HEADER_SIZE + wire.header(first).size
        schema = Schema.read(wire.small_map(wire.payload(first[:size]))["schema"])
        self._sealed = name not in schema  # declared since: that date has no rows of it
        if name in schema:
            self.declared: Table = schema[name]
            self._sort(first)

    def _read(self) -> bytes:
        try:
            chunk = self._reader.read()
        except OSError as e:
            raise self._gone(e) from None
        if not chunk:
            raise self._gone(None)
        return chunk

    def _gone(self, why: OSError | None) -> RowsGone:
        text = where_gone(self._plant, self._date, self._name)
        if why is not None:
            text = (
                f"{self._folder} can't be read here ({why.strerror}); when proven, {text.partition('; ')[2]}"
            )
        return RowsGone(
            f"the tables of trading date {self._date} are not in shared memory any more, and {text}"
        )

    def _sort(self, chunk: bytes) -> None:
        for offset, size, kind, table, _, row, count in framing.index(chunk).tolist():
            if kind == wire.ROWS and table == self.declared.number and row + count > self._row:
                self._frames.append(chunk[offset : offset + size])
            self._sealed = self._sealed or kind == wire.SEAL

    def next(self, most: int) -> memoryview | None:
        """Packed rows that follow on, `most` at most; None at the end. Raises RowsGone."""
        while not self._frames:
            if self._sealed:
                return None
            self._sort(self._read())
        frame = self._frames[0]
        head = wire.header(frame)
        skip = self._row - head.row
        count = min(head.count - skip, most)
        self._row += count
        if self._row == head.row + head.count:
            self._frames.popleft()
        start = wire.HEADER_SIZE + skip * self.declared.row_size
        return memoryview(frame)[start : start + count * self.declared.row_size]

    def close(self) -> None:
        """Give the file back."""
        self._reader.close()
