"""How a remote reader keeps its rows gap-free: the protocol without its sockets.

For each table it knows the trading date and the next row it expects. Frames come live and as answers to
requests; a frame that follows on is delivered, one that is behind is dropped, one that is ahead is kept
(bounded) while the rows between are requested. A heartbeat that is ahead shows a lost tail. Anything of a
later date means that this one is over: what is missing of it, and which date comes next, is requested
before that one begins at row 0.

Rows come out in order, each once, whatever is lost, repeated or late on the way in. A reader that would
rather leave rows out than be late (`skip_behind`) is told in their place which they were.
"""

from collections import deque
from dataclasses import dataclass, field
from functools import cached_property

from tickplant import wire
from tickplant._core import runs
from tickplant.batch import Skipped
from tickplant.schema import Table

HELD_BYTES_MAX = 1 << 25
"""Of frames that are ahead; those that do not fit are requested again when it is their turn."""
NO_ROW = 1 << 62
"""To ask from this row on brings no rows, only how many there are."""


@dataclass(frozen=True)
class Delivery:
    """Rows to hand on: `payload` holds packed rows from `first_row` on."""

    table: Table
    trading_date: int
    first_row: int
    payload: bytes | memoryview
    highest: int | None = None
    """The highest instrument among them, if it is known."""


@dataclass(frozen=True)
class Want:
    """Rows to request: those of a table and date from `row` on; with `first`, the latest of each instrument
    from this number on instead."""

    table: Table
    trading_date: int
    row: int
    first: int | None = None


Item = Delivery | Skipped


@dataclass
class TableSequence:
    """The rows of one table: where they are, and what is being asked for."""

    table: Table
    trading_date: int
    expected: int
    held: deque[tuple[int, int, bytes]] = field(default_factory=deque)
    """(trading date, first row, frame), as they came"""
    end: int = 0
    """Rows of the date that are known to exist."""
    over: bool = False
    """A later date has been seen; this one is to be finished first."""
    closed: bool = False
    """An answer said that `end` is final, and what the next date is."""
    next_date: int = 0
    next_schema: int = 0
    """The fingerprint of the tables of the next date; 0 if it is not known."""
    schema: int = 0
    """That of this date's tables. To a date with other tables the reader goes over with all its tables."""
    skip_behind: int | None = None
    """Leave rows out when there are more than so many still to come."""
    held_bytes: int = 0
    _newest: tuple[int, int] = (0, 0)
    _skipping: bool = False

    @property
    def behind(self) -> int:
        """Rows known to exist that have not been delivered, of this date and of the newest."""
        date, rows = self._newest
        there = max(self.end, rows) if date == self.trading_date else self.end
        return max(0, there - self.expected) + (rows if date > self.trading_date else 0)

    @cached_property
    def run(self) -> runs.Run:
        """Takes rows of the table that follow on out of frames; see `following` and `on_rows`."""
        return runs.Run(self.table.number, self.table.row_size, self.table.fingerprint)

    @property
    def following(self) -> tuple[int, int]:
        """Date and number of the row that follows on; date 0 while none is wanted."""
        return (0 if self._skipping else self.trading_date), self.expected

    def on_rows(self, payload: memoryview, highest: int, following: int) -> list[Item]:
        """Rows that follow on, out of valid frames, and the number of the row after them."""
        delivery = Delivery(self.table, self.trading_date, self.expected, payload, highest)
        self.expected = following
        self.end = max(self.end, following)
        return [delivery, *self.release()]

    def on_newest(self, trading_date: int, rows: int) -> None:
        """What there is by now, however much of it is still on its way here: nothing to ask for yet."""
        self._newest = max(self._newest, (trading_date, rows))
        self.over = self.over or trading_date > self.trading_date

    def on_frame(self, frame: bytes | memoryview, head: wire.Header) -> list[Item]:
        """A live frame."""
        if head.trading_date < self.trading_date:
            return []
        if self._skipping and head.trading_date == self.trading_date:
            self.end = max(self.end, head.row + head.count)  # one of those that are left out
            return []
        if head.trading_date > self.trading_date:
            self.over = True
        elif head.row <= self.expected:
            return self._deliver(frame, head) + self.release()
        else:
            self.end = max(self.end, head.row)
        if self.held_bytes + len(frame) <= HELD_BYTES_MAX:
            self.held_bytes += len(frame)
            self.held.append((head.trading_date, head.row, bytes(frame)))
        return []

    def _deliver(self, frame: bytes | memoryview, head: wire.Header) -> list[Item]:
        skip = self.expected - head.row
        if skip >= head.count or head.count * self.table.row_size != head.size:
            return []
        payload = memoryview(frame)[wire.HEADER_SIZE + skip * self.table.row_size :]
        delivery = Delivery(self.table, self.trading_date, self.expected, payload)
        self.expected += head.count - skip
        self.end = max(self.end, self.expected)
        return [delivery]

    def release(self) -> list[Item]:
        """What was held and now follows on."""
        out: list[Item] = []
        while self.held and not self._skipping:
            date, row, frame = self.held[0]
            if (date, row) > (self.trading_date, self.expected):
                break
            self.held.popleft()
            self.held_bytes -= len(frame)
            if date == self.trading_date:
                out += self._deliver(frame, wire.header(frame))
        return out

    def on_heartbeat(self, trading_date: int, rows: int) -> None:
        """The publisher says how many rows the table has."""
        if trading_date == self.trading_date:
            self.end = max(self.end, rows)
        elif trading_date > self.trading_date:
            self.over = True

    def on_answer(
        self, frames: bytes | memoryview, date: int, end: int, next_date: int, next_schema: int = 0
    ) -> tuple[list[Item], int]:
        """Frames of a date that were requested, end to end; `end`: rows of the date there are; `next_date`:
        the date after it, 0 while it is open, and the fingerprint of its tables. Also how many bytes of the
        frames are valid."""
        if date != self.trading_date:
            return [], len(frames)
        out: list[Item] = []
        self.run.aim(*self.following)
        valid = self.run.take(frames)
        if (taken := self.run.rows()) is not None:
            out += self.on_rows(*taken, self.run.next)
        for frame in wire.split(memoryview(frames)[valid:]):
            valid += len(frame)
            head = wire.header(frame)
            if head.trading_date == self.trading_date and head.row <= self.expected:
                out += self._deliver(frame, head)
        self.end = max(self.end, end)
        self.closed, self.next_date, self.next_schema = next_date > 0, next_date, next_schema
        return out + self.release(), valid

    @property
    def complete(self) -> bool:
        """Is every row of a date that is over handed out?"""
        return self.closed and self.expected >= self.end

    @property
    def turned(self) -> bool:
        """Is it complete, and has the next date other tables?"""
        return self.complete and 0 not in (self.schema, self.next_schema) and self.schema != self.next_schema

    def advance(self) -> list[Item]:
        """Leave out what is too much; go on to the next date if this one is complete and another is known,
        whose tables are the same."""
        out = self._skip()
        if not self.complete or self.turned:
            return out
        self.trading_date, self.next_date = self.next_date, 0
        self.expected = self.end = 0
        self.closed = False
        later = [self._newest[0], *(date for date, _, _ in self.held)]
        self.over = any(date > self.trading_date for date in later)
        self._skipping = self._too_far
        return out + self.release()

    @property
    def _too_far(self) -> bool:
        return self.skip_behind is not None and self.behind > self.skip_behind

    def _skip(self) -> list[Item]:
        """Go on behind all rows there are, if they are too many; of a date that is over it is asked first how
        many it came to."""
        self._skipping = self._skipping or self._too_far
        if not self._skipping or (self.over and not self.closed):
            return []
        self._skipping = False
        if self._newest[0] == self.trading_date:
            self.end = max(self.end, self._newest[1])
        if self.end <= self.expected:
            return []
        hole = Skipped(self.table.name, self.trading_date, self.expected, self.end - 1)
        self.expected = self.end
        return [hole, *self.release()]

    def want(self) -> Want | None:
        """What to request now, if anything."""
        if self._skipping:
            return Want(self.table, self.trading_date, NO_ROW)
        if self.expected < self.end or (self.over and not self.closed):
            return Want(self.table, self.trading_date, self.expected)
        return None
