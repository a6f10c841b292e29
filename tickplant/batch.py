"""What readers are handed: rows that know which rows they are, and notices of what is not among them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tickplant.frames import Frame, Names, no_column, to_pandas
from tickplant.schema import Rows, Table
from tickplant.shown import Shown, grid

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


@dataclass(frozen=True)
class Skipped:
    """Rows `first_row` to `last_row` of a table that a reader was not handed because it was behind."""

    table: str
    trading_date: int
    first_row: int
    last_row: int

    def __str__(self) -> str:
        rows = f"rows {self.first_row:,} to {self.last_row:,}"
        return f"skipped {rows} of {self.table} on {self.trading_date}"


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

    def __str__(self) -> str:
        lost = f"rows {self.first:,} to {self.last:,} of its session {self.session}"
        return f"feed {self.feed} lost {lost} on {self.trading_date}: {self.text}"


@dataclass(frozen=True)
class TableChanged:
    """From this trading date on a table is declared otherwise than before.

    `added` and `removed` are names of columns, `retyped` those of columns that have another type now.
    """

    table: str
    trading_date: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    retyped: tuple[str, ...]

    def __str__(self) -> str:
        parts = (("added", self.added), ("removed", self.removed), ("of another type", self.retyped))
        how = "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names)
        return f"table {self.table} has other columns from {self.trading_date} on: {how or 'another order'}"

    @classmethod
    def between(cls, before: Table, after: Table, trading_date: int) -> "TableChanged | None":
        """What has changed, if anything that a reader sees has."""
        old, new = ({c.name: c.type for c in table.columns} for table in (before, after))
        if list(old.items()) == list(new.items()):
            return None
        return cls(
            after.name,
            trading_date,
            tuple(name for name in new if name not in old),
            tuple(name for name in old if name not in new),
            tuple(name for name in new if name in old and old[name] != new[name]),
        )


@dataclass(frozen=True)
class Waiting:
    """Row `first_row` of a table was asked for, and there are only `rows` of the open date so far."""

    table: str
    trading_date: int
    first_row: int
    rows: int

    def __str__(self) -> str:
        there = f"there are {self.rows:,} so far on {self.trading_date}"
        return f"waiting for row {self.first_row:,} of {self.table}; {there}"


@dataclass(frozen=True)
class NotSeen:
    """The plant has not seen these instruments yet; their rows are waited for."""

    symbols: tuple[str, ...]

    def __str__(self) -> str:
        return f"waiting for instruments that the plant has not seen yet: {', '.join(self.symbols)}"


Notice = Skipped | Gap | TableChanged | Waiting | NotSeen
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

    @property
    def kept(self) -> tuple[Notice, ...]:
        """All of them, which stay."""
        return tuple(self._kept)

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
    names: Names | None = None
    """The plant's instruments, for those who are to see their names."""

    @classmethod
    def of(
        cls, rows: Rows, table: str, trading_date: int, first_row: int, names: Names | None = None
    ) -> "Batch":
        """These rows, without a copy, as a batch."""
        batch = rows.view(cls)
        batch.table, batch.trading_date, batch.first_row = table, trading_date, first_row
        batch.numbers, batch.names = None, names
        return batch

    def __array_finalize__(self, source: Any) -> None:
        self.table = getattr(source, "table", "")
        self.trading_date = getattr(source, "trading_date", 0)
        self.first_row = getattr(source, "first_row", 0)
        self.names = getattr(source, "names", None)
        self.numbers = None

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and key not in (self.dtype.names or (key,)):
            raise no_column(key, list(self.dtype.names or ()), f"table {self.table}")
        part = super().__getitem__(key)
        if isinstance(key, slice) and isinstance(part, Batch):
            start, _, step = key.indices(len(self))
            if self.numbers is None and step == 1:
                part.first_row = self.first_row + start
            else:
                part.numbers = self._numbers[key]
                part.first_row = int(part.numbers[0]) if len(part) else self.first_row
        return part

    def frame(self) -> Frame:
        """Its columns: copies, each in one piece."""
        names = self.dtype.names or ()
        return Frame({n: np.ascontiguousarray(np.asarray(self)[n]) for n in names}, self.names, self._title)

    def arrow(self) -> "pyarrow.Table":
        """As an Arrow table, text as text and instruments by name (frames.py)."""
        return self.frame().arrow()

    def pandas(self) -> "pandas.DataFrame":
        """As a pandas data frame; its index is the numbers of the rows."""
        return to_pandas(self.frame(), self.names, self._numbers)

    def polars(self) -> "polars.DataFrame":
        """As a Polars data frame."""
        return self.frame().polars()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)

    @property
    def _title(self) -> str:
        return f"table {self.table} of {self.trading_date}"

    def __repr__(self) -> str:
        if self.dtype.names is None or self.ndim != 1:
            return repr(np.asarray(self))
        plain = np.asarray(self)
        shown = Shown(len(self), self.dtype.names, lambda n, at: plain[n][at], self.first_row, self.numbers)
        said = [grid(self._title, shown, self.names), *(f"notice: {notice}" for notice in self.notices)]
        return "\n".join(said)

    def __str__(self) -> str:
        return repr(self) if self.dtype.names and self.ndim == 1 else str(np.asarray(self))

    @property
    def _numbers(self) -> npt.NDArray[np.int64]:
        return self.first_row + np.arange(len(self)) if self.numbers is None else self.numbers

    def only(self, keep: npt.NDArray[np.bool_]) -> "Batch":
        """The rows for which `keep` is true, with their numbers."""
        chosen = Batch.of(np.asarray(self)[keep], self.table, self.trading_date, self.first_row, self.names)
        chosen.numbers = self._numbers[keep]
        if len(chosen):
            chosen.first_row = int(chosen.numbers[0])
        chosen.passed_over = self.passed_over
        return chosen
