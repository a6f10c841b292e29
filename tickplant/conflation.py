"""How a conflating reader keeps the newest row of every instrument: the protocol without its sockets.

Live rows take the place of older ones of their instrument until somebody takes what is there. Rows that did
not come are not fetched: whose newest row was among them is asked of the plant's latest values (`want`, in
pages of instruments), and what is newer than what is here takes its place. Of an instrument no row is
handed out after a newer one, or twice.

It has a slot per instrument, however many rows come or are missed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tickplant import wire
from tickplant.schema import Rows, Table
from tickplant.sequencer import Want

Place = tuple[int, int]
"""(trading date, row)"""


@dataclass(frozen=True)
class Conflated:
    """The newest rows of the instruments that have new ones, of one date, by row number."""

    table: Table
    trading_date: int
    numbers: npt.NDArray[np.int64]
    rows: Rows
    passed_over: int


class TableConflation:
    """The newest rows of one table since they were last taken."""

    def __init__(self, table: Table, reached: Place, since: Place | None) -> None:
        """`reached`: before which place rows are known to exist; `since`: from which on they are wanted."""
        self.table = table
        self.reached = reached
        self.fetched = 0
        """Answers that were needed."""
        self._rows = table.empty(0)
        self._places = np.empty(0, [("date", "i8"), ("row", "i8")])
        self._new = np.empty(0, np.bool_)
        self._passed: dict[int, int] = {}
        self._missed: Place | None = since if since is not None and since < reached else None
        self._asking: Place | None = None
        self._page = 0
        self._due = False
        if self._missed and self._missed[0] == reached[0]:
            self._passed[reached[0]] = reached[1] - self._missed[1]

    @property
    def trading_date(self) -> int:
        """The date of the newest row known."""
        return self.reached[0]

    def on_frame(self, frame: bytes | memoryview, head: wire.Header) -> None:
        """A live frame."""
        if head.count * self.table.row_size != head.size:
            return
        self._reach(head.trading_date, head.row, head.row + head.count)
        rows = self.table.rows(memoryview(frame)[wire.HEADER_SIZE :])
        self._merge(rows, np.full(head.count, head.trading_date), head.row + np.arange(head.count))

    def on_heartbeat(self, trading_date: int, rows: int) -> None:
        """The publisher says how many rows have been sent before this."""
        self._reach(trading_date, rows, rows)

    def _reach(self, date: int, first: int, end: int) -> None:
        """Rows [first, end) are here; what lies between them and what was reached before is missed."""
        if (date, end) <= self.reached:
            return
        known = self.reached[1] if date == self.reached[0] else 0
        if date > self.reached[0] or first > known:  # how many rows the date before came to is not known
            self._missed = min(self._missed or self.reached, self.reached)
        self._passed[date] = self._passed.get(date, 0) + end - known
        self.reached = (date, end)

    def _merge(self, rows: Rows, dates: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> None:
        """Take rows in whose place is later than that of their instrument's newest; they come in order."""
        if not len(rows):
            return
        instruments = rows["instrument"].astype(np.int64)
        self._grow(int(instruments.max()) + 1)
        there = self._places[instruments]
        later = (dates > there["date"]) | ((dates == there["date"]) & (numbers > there["row"]))
        # Of an index that is there twice, numpy keeps the last value.
        chosen = instruments[later]
        self._rows[chosen] = rows[later]
        places = np.empty(len(chosen), self._places.dtype)
        places["date"], places["row"] = dates[later], numbers[later]
        self._places[chosen] = places
        self._new[chosen] = True

    def _grow(self, slots: int) -> None:
        have = len(self._new)
        if slots <= have:
            return
        room = max(slots, 2 * have, 1024)
        rows, places = self.table.empty(room), np.empty(room, self._places.dtype)
        rows[:have], places[:have] = self._rows, self._places
        places[have:] = (0, -1)
        self._rows, self._places = rows, places
        self._new = np.concatenate([self._new, np.zeros(room - have, np.bool_)])

    def want(self) -> Want | None:
        """The page of latest values to request now, if any."""
        if self._asking is None:
            if self._missed is None:
                return None
            self._asking, self._missed, self._page = self._missed, None, 0
        return Want(self.table, *self._asking, first=self._page)

    def on_latest(
        self, want: Want, rows: Rows, dates: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], page: int
    ) -> None:
        """The answer to `want`; `page`: the first instrument of the next one, 0 if there is none."""
        if want != self.want():
            return
        self.fetched += 1
        self._merge(rows, dates, numbers)
        self._page = page
        if not page:
            self._asking, self._due = None, True

    @property
    def due(self) -> bool:
        """Is what there is to be handed out? Rows may be missed again before what was missed is here."""
        return self._due or (self._asking is None and self._missed is None)

    def take(self) -> list[Conflated]:
        """What is new since the last time, oldest first, and how many rows it takes the place of."""
        self._due = False
        instruments = np.flatnonzero(self._new)
        if not len(instruments):
            return []
        self._new[instruments] = False
        order = np.argsort(self._places[instruments], order=("date", "row"))
        places, rows = self._places[instruments][order], self._rows[instruments][order]
        out = []
        for date in np.unique(places["date"]).tolist():
            mine = places["date"] == date
            passed = self._passed.pop(date, 0) - int(mine.sum())
            if date == self.reached[0] and passed < 0:
                self._passed[date] = passed  # latest values can be ahead of the rows sent
            numbers = places["row"][mine]
            out.append(Conflated(self.table, date, numbers, rows[mine], max(0, passed)))
        self._passed = {d: n for d, n in self._passed.items() if d == self.reached[0]}
        return out
