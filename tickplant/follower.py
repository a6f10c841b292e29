"""A local reader's way through the dates: every row of a table, in order, whatever was dropped meanwhile.

Rows come from shared memory. The tables of a date that is proven are dropped from there; who comes back
to one of them, or slept over it, reads its rows from the journal, and from that the dates that came after.
The same goes for rows of a date that is over, for which shared memory had no room; rows of the open date are
waited for. What is in neither any more is an error that says where it is, never a hole.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator

from tickplant import selection, wire
from tickplant._core import framing
from tickplant.batch import Batch, Notice, Notices, TableChanged, Waiting
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.control import Control
from tickplant.dates import trading_dates, where_gone
from tickplant.errors import NotRunning, RequestError, RowsGone, SchemaError
from tickplant.frames import Names
from tickplant.journal import JournalReader
from tickplant.schema import Schema, Table
from tickplant.selection import TradingDate
from tickplant.table import SharedTable, segment_name, waits

log = logging.getLogger(__name__)

FOLLOW_ROWS = 65_536
_PAUSE_S = 0.02


class Follower:
    """An endless iterator of batches of one table; `next` gives them one by one, and up when none comes.

    Where a date has other columns than the one before, the next batch's `notices` tell (`TableChanged`).
    """

    def __init__(
        self,
        control: Control,
        table: str,
        trading_date: TradingDate = None,
        from_row: int | None = 0,
        max_rows: int = FOLLOW_ROWS,
        names: Names | None = None,
    ) -> None:
        """`trading_date`: None is the open one; `from_row`: negative so many before now, None now;
        `names`: of the instruments, for batches.

        Raises NotRunning if the date has not begun, RowsGone if its rows can't be had here any more,
        RequestError for what can't be, SchemaError for a table that is not declared.
        """
        control.follow()
        self.control, self.table, self.names = control, table, names
        self.max_rows = selection.whole(max_rows, "max_rows", 1, selection.ROWS_MAX)
        row = selection.row(from_row)
        self._notices = Notices()
        self._identity = self._state = ""
        self.declared: Table | None = None
        """The table's columns on this date; None while that has none of its rows."""
        date = selection.trading_date(trading_date) or int(control.date.load())
        if date >= control.date.load():
            selection.table(table, control.schema)
        self._begin(date, row or 0)
        if row is None or row < 0:
            self._count_back(row)
        self._say_what_is_waited_for()

    def _count_back(self, row: int | None) -> None:
        """Begin so many rows before now."""
        if self._journal is not None:
            raise RequestError(
                f"trading date {self.trading_date} is not in memory; give the row to begin at, not {row}"
            )
        there = len(self._shared) if self._shared is not None else 0
        self.row = max(0, there + (row or 0))

    def _say_what_is_waited_for(self) -> None:
        """Rows that are not there yet may never come: say so."""
        there = len(self._shared) if self._shared is not None else 0
        if self._journal is None and self.row > there and self.trading_date == self.control.date.load():
            notice = Waiting(self.table, self.trading_date, self.row, there)
            log.warning("plant %s: %s", self.control.plant, notice)
            self._notices.add(notice)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What is to be said with the next batch, which may be long in coming."""
        return self._notices.kept

    def _begin(self, trading_date: int, row: int) -> None:
        shared, journal = None, None
        try:
            shared = SharedTable(self.control.plant, trading_date, self.table)
        except NotRunning:
            if trading_date < self.control.date.load():
                journal = _JournalTable(self.control, self.table, trading_date, row)
            elif not waits(segment_name(self.control.plant, trading_date, self.table)):
                raise
        if shared is not None:
            self._check(shared.identity)
        self.trading_date, self.row = trading_date, row
        self._shared: SharedTable | None = shared
        self._journal: _JournalTable | None = journal
        declared = shared.table if shared else journal.declared if journal else None
        if self.declared and declared:
            change = TableChanged.between(self.declared, declared, trading_date)
            if change:
                self._notices.add(change)
        self.declared = declared or self.declared

    def _check(self, identity: str) -> None:
        """Is it still the same plant? Its rows are others, though they have the same numbers."""
        before, self._identity = self._identity, identity
        if before and identity != before:
            raise RequestError(
                f"plant {self.control.plant} is another one now: {identity[:8]}, not {before[:8]}, whose "
                f"rows of {self.table} were read to row {self.row:,} of {self.trading_date}; follow it anew"
            )

    def _go_on(self) -> None:
        """Begin the next date. Raises SchemaError if that is the open one, and has no such table."""
        date = self._after()
        if date >= self.control.date.load() and self.table not in (schema := self.control.schema):
            raise SchemaError(
                f"table {self.table} is not declared on trading date {date}; its tables are: "
                f"{', '.join(t.name for t in schema)}; follow one of these"
            )
        self._begin(date, 0)

    def __repr__(self) -> str:
        return f"follower of table {self.table}, at row {self.row:,} of {self.trading_date}"

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self.next(1.0)
            if batch is not None:
                yield batch

    def next(self, timeout: float) -> Batch | None:
        """The next batch, or None if none came within `timeout` seconds.

        Raises RowsGone, and SchemaError once the open date has no such table any more.
        """
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
                batch.notices = self._notices.take()
                return batch
            if left <= 0:
                return None

    def _wait_for_room(self) -> None:
        """The open date's table has no room at all yet."""
        time.sleep(_PAUSE_S)
        self.control.follow()
        self._begin(self.trading_date, self.row)

    def _say_state(self) -> None:
        """Nothing comes: say in the log, once, if that is for want of a plant."""
        state = self.control.state()
        if state != self._state and (self._state or state != "running"):
            log.warning(
                "plant %s is %s; %s waits at row %d of %d (tickplant status)",
                self.control.plant, state, self.table, self.row, self.trading_date,
            )  # fmt: skip
        self._state = state

    def _from_memory(self, shared: SharedTable, patience_ns: int) -> Batch | None:
        # Before the count: a seal that comes after it changes nothing.
        sealed, short = shared.sealed, shared.short
        there = self.control.bell.wait_above(shared.committed, self.row, patience_ns)
        if there > self.row:
            rows = shared.rows(self.row, min(there - self.row, self.max_rows))
            return Batch.of(rows, self.table, self.trading_date, self.row, self.names)
        self.control.follow()
        self._say_state()
        if sealed and self.control.date.load() > self.trading_date:
            self._go_on()
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
            self.control.follow()
            self._go_on()
            return None
        assert self._journal.declared is not None
        rows = self._journal.declared.rows(payload)
        return Batch.of(rows, self.table, self.trading_date, self.row, self.names)

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
        self._sealed = name not in schema  # that date has no rows of it
        self.declared: Table | None = schema[name] if name in schema else None  # noqa: SIM401  (a Schema is no dict)
        if self.declared:
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
        assert self.declared is not None
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
        assert self.declared is not None
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
