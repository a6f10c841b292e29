"""What readers are handed: rows that know which rows they are, and notices of what is not among them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.schema import Rows


@dataclass(frozen=True)
class Skipped:
    """Rows `first_row` to `last_row` of a table that a reader was not handed because it was behind."""

    table: str
    trading_date: int
    first_row: int
    last_row: int


@dataclass(frozen=True)
class Gap:
    """Rows that a feed published and that the plant could not get any more: lost to everybody.

    `first` to `last` are numbers in the feed's session, over all its tables; `text` says why.
    """

    trading_date: int
    feed: int
    session: int
    first: int
    last: int
    text: str


Notice = Skipped | Gap
NOTICES_MAX = 1000


class Notices:
    """What the next batch is to tell, in bounded room: when it does not come, holes in one table and date
    become one, and gaps are left out (a subscription has them in `gaps`)."""

    def __init__(self) -> None:
        self._kept: list[Notice] = []

    def add(self, notice: Notice) -> None:
        """Keep it for the next batch."""
        if len(self._kept) < NOTICES_MAX:
            self._kept.append(notice)
        elif isinstance(notice, Skipped):
            place = (notice.table, notice.trading_date)
            for at, last in enumerate(self._kept):
                if isinstance(last, Skipped) and (last.table, last.trading_date) == place:
                    self._kept[at] = replace(last, last_row=notice.last_row)
                    return
            self._kept.append(notice)

    def take(self) -> tuple[Notice, ...]:
        """All of them, which are told now."""
        taken, self._kept = tuple(self._kept), []
        return taken


def gaps_in(events: Rows, trading_date: int) -> list[Gap]:
    """The gaps that rows of table `event` declare."""
    found = events[events["kind"] == b"gap"]
    return [
        Gap(trading_date, about, session, first, last, text.decode("utf-8", "backslashreplace"))
        for about, session, first, last, text in found[["about", "session", "first", "last", "text"]].tolist()
    ]


class Batch(np.ndarray[Any, np.dtype[np.void]]):
    """A structured array of rows of one table and date, with the numbers of its rows.

    `table`, `trading_date` (yyyymmdd) and `first_row` say which rows they are; they follow each other
    unless a filter took some out: then `numbers` is their row numbers, else it is None. `notices` tells what
    came before the first of them: rows skipped, gaps declared. `passed_over` counts the rows of a conflating
    reader that newer ones took the place of.
    """

    table: str
    trading_date: int
    first_row: int
    numbers: npt.NDArray[np.int64] | None
    notices: tuple[Notice, ...] = ()
    passed_over: int = 0

    @classmethod
    def of(cls, rows: Rows, table: str, trading_date: int, first_row: int) -> "Batch":
        """These rows, without a copy, as a batch."""
        batch = rows.view(cls)
        batch.table, batch.trading_date, batch.first_row = table, trading_date, first_row
        batch.numbers = None
        return batch

    def __array_finalize__(self, source: Any) -> None:
        self.table = getattr(source, "table", "")
        self.trading_date = getattr(source, "trading_date", 0)
        self.first_row = getattr(source, "first_row", 0)
        self.numbers = None

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(key, slice) and isinstance(part, Batch):
            start, _, step = key.indices(len(self))
            if self.numbers is None and step == 1:
                part.first_row = self.first_row + start
            else:
                part.numbers = self._numbers[key]
                part.first_row = int(part.numbers[0]) if len(part) else self.first_row
        return part

    @property
    def _numbers(self) -> npt.NDArray[np.int64]:
        return self.first_row + np.arange(len(self)) if self.numbers is None else self.numbers

    def only(self, keep: npt.NDArray[np.bool_]) -> "Batch":
        """The rows for which `keep` is true, with their numbers."""
        chosen = Batch.of(np.asarray(self)[keep], self.table, self.trading_date, self.first_row)
        chosen.numbers = self._numbers[keep]
        if len(chosen):
            chosen.first_row = int(chosen.numbers[0])
        chosen.passed_over = self.passed_over
        return chosen
