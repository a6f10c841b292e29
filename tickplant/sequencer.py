"""How a remote reader keeps its rows gap-free: the protocol without its sockets.

For each table it knows the trading date and the next row it expects. Frames come live and as answers to
requests; a frame that follows on is delivered, one that is behind is dropped, one that is ahead is kept
(bounded) while the rows between are requested. A heartbeat that is ahead shows a lost tail. Anything of a
later date means that this one is over: what is missing of it, and which date comes next, is requested
before that one begins at row 0.

Rows come out in order, each once, whatever is lost, repeated or late on the way in.
"""

from collections import deque
from dataclasses import dataclass, field

from tickplant import wire
from tickplant.schema import Table

HELD_FRAMES_MAX = 10_000


@dataclass(frozen=True)
class Delivery:
    """Rows to hand on: `payload` holds packed rows from `first_row` on."""

    table: Table
    trading_date: int
    first_row: int
    payload: bytes | memoryview


@dataclass(frozen=True)
class Want:
    """Rows to request: those of a table and date from `row` on."""

    table: Table
    trading_date: int
    row: int


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

    def on_frame(self, frame: bytes, head: wire.Header) -> list[Delivery]:
        """A live frame."""
        if head.trading_date < self.trading_date:
            return []
        if head.trading_date > self.trading_date:
            self.over = True
        elif head.row <= self.expected:
            return self._deliver(frame, head) + self.release()
        else:
            self.end = max(self.end, head.row)
        if len(self.held) < HELD_FRAMES_MAX:
            self.held.append((head.trading_date, head.row, frame))
        return []

    def _deliver(self, frame: bytes, head: wire.Header) -> list[Delivery]:
        skip = self.expected - head.row
        if skip >= head.count or head.count * self.table.row_size != head.size:
            return []
        payload = memoryview(frame)[wire.HEADER_SIZE + skip * self.table.row_size :]
        delivery = Delivery(self.table, self.trading_date, self.expected, payload)
        self.expected += head.count - skip
        self.end = max(self.end, self.expected)
        return [delivery]

    def release(self) -> list[Delivery]:
        """What was held and now follows on."""
        out: list[Delivery] = []
        while self.held:
            date, row, frame = self.held[0]
            if (date, row) > (self.trading_date, self.expected):
                break
            self.held.popleft()
            if date == self.trading_date:
                out += self._deliver(frame, wire.header(frame))
        return out

    def on_heartbeat(self, trading_date: int, rows: int) -> None:
        """The publisher says how many rows the table has."""
        if trading_date == self.trading_date:
            self.end = max(self.end, rows)
        elif trading_date > self.trading_date:
            self.over = True

    def on_answer(self, frames: list[bytes], date: int, end: int, next_date: int) -> list[Delivery]:
        """Frames of a date that were requested; `end`: rows of the date there are; `next_date`: the
        date after it, 0 while it is open."""
        if date != self.trading_date:
            return []
        out: list[Delivery] = []
        for frame in frames:
            head = wire.header(frame)
            if head.trading_date == self.trading_date and head.row <= self.expected:
                out += self._deliver(frame, head)
        self.end = max(self.end, end)
        self.closed, self.next_date = next_date > 0, next_date
        return out + self.release()

    def advance(self) -> list[Delivery]:
        """Go on to the next date if this one is complete and another is known."""
        if not (self.closed and self.expected >= self.end):
            return []
        self.trading_date, self.next_date = self.next_date, 0
        self.expected = self.end = 0
        self.closed = False
        self.over = any(date > self.trading_date for date, _, _ in self.held)
        return self.release()

    def want(self) -> Want | None:
        """What to request now, if anything."""
        if self.expected < self.end or (self.over and not self.closed):
            return Want(self.table, self.trading_date, self.expected)
        return None
