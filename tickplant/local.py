"""Readers on the plant's own host: its tables as numpy arrays, without a copy and without a word to it.

plant = tickplant.connect("tp")
trades = plant.table("trade")
trades["price"][-10:].mean()
trades.rows("XNAS:AAPL", last=100)
for batch in trades.follow():
    ...
"""

import contextlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tickplant import registry, selection, table
from tickplant.batch import Batch, Gap, gaps_in
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.config import Config, load
from tickplant.control import Control
from tickplant.errors import NotRunning, SegmentError
from tickplant.follower import FOLLOW_ROWS, Follower
from tickplant.frames import Frame, no_column
from tickplant.instruments import Instruments
from tickplant.latest import SharedLatest
from tickplant.schema import Rows, Schema
from tickplant.selection import TradingDate

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


class Plant:
    """A plant on this host, seen through its shared memory."""

    def __init__(self, name: str) -> None:
        """Raises NotRunning if no ticker plant of this name has run since the host booted."""
        self.name = name
        self.control = Control.attach(name)
        self._instruments = Instruments()
        self._registry = table.SharedTable(name, 0, registry.TABLE.name)

    @property
    def schema(self) -> Schema:
        """The declared tables."""
        self.control.follow()
        return self.control.schema

    @property
    def trading_date(self) -> int:
        """The open trading date, yyyymmdd."""
        self.control.follow()
        return int(self.control.date.load())

    @property
    def state(self) -> str:
        """How the ticker plant is: `running`; `stalled`: alive, but it has not turned for two seconds;
        `dead`: its process is gone; `stopped` in good order."""
        self.control.follow()
        return self.control.state()

    @property
    def idle(self) -> float:
        """Seconds since the ticker plant's last turn."""
        self.control.follow()
        return self.control.idle_ns() / SECOND_NS

    @property
    def instruments(self) -> Instruments:
        """All instruments that the plant has seen, up to date at each access."""
        if self._registry.replaced:
            with contextlib.suppress(NotRunning):  # just being made: until then the names there were
                self._registry = table.SharedTable(self.name, 0, registry.TABLE.name)
                self._instruments = Instruments()
        known, there = len(self._instruments) - 1, len(self._registry)
        if there > known:
            registry.extend(self._instruments, self._registry.rows(known, there - known))
        return self._instruments

    def table(self, name: str, trading_date: TradingDate = None) -> "Table":
        """A table of the open trading date, or of another that is still in memory.

        Raises SchemaError if there is no such table, NotRunning if not of that date, RequestError for what is
        no date.
        """
        selection.table(name, self.schema)
        return Table(self, name, self._date(trading_date))

    def _date(self, asked: TradingDate) -> int:
        return selection.trading_date(asked) or self.trading_date

    def follow(
        self,
        name: str,
        from_row: int | None = 0,
        trading_date: TradingDate = None,
        max_rows: int = FOLLOW_ROWS,
    ) -> Follower:
        """As `Table.follow`, from a row of any trading date, in memory or not (None: the open one).

        Raises SchemaError for a table that is not declared, NotRunning for a date that has not begun,
        RowsGone for one whose rows are neither in shared memory nor in the journal, RequestError for what
        can't be.
        """
        selection.table(name, self.schema)
        return Follower(self.control, name, trading_date, from_row, max_rows, self._names)

    def _names(self) -> Instruments:
        return self.instruments

    def __repr__(self) -> str:
        """Its state, its date, and its tables with their rows."""
        lines = [f"plant {self.name} ({self.state}), trading date {self.trading_date}"]
        for declared in self.schema:
            try:
                rows = f"{len(self.table(declared.name)):,}"
            except (NotRunning, SegmentError):
                rows = "?"
            columns = ", ".join(c.name for c in declared.columns)
            lines.append(f"  {declared.name:12}{rows:>14} rows  {columns}")
        return "\n".join([*lines, f"  {len(self.instruments) - 1:,} instruments"])

    def gaps(self, trading_date: TradingDate = None) -> list[Gap]:
        """What feeds published on a date (None: the open one) and the plant could not get any more."""
        date = self._date(trading_date)
        events = table.SharedTable(self.name, date, "event")
        return gaps_in(events.rows(0, len(events)), date)

    def latest(self, name: str) -> "Latest":
        """The last row of every instrument in a table declared with latest = true.

        Raises SchemaError if there is no such table, NotRunning if it has no latest values.
        """
        selection.table(name, self.schema)
        return Latest(self, name)


class Table:
    """One table of one trading date."""

    def __init__(self, plant: Plant, name: str, trading_date: int) -> None:
        self.plant, self.name, self.trading_date = plant, name, trading_date
        self._shared = table.SharedTable(plant.name, trading_date, name)
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        """Rows that are there now."""
        return len(self._shared)

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        """All cells of a column so far: a read-only view, valid as long as you hold it.

        Raises NoColumn, a KeyError, which says which columns there are.
        """
        try:
            return self._shared.column(column, len(self))
        except KeyError:
            raise no_column(column, [c.name for c in self._shared.table.columns], self._title) from None

    def frame(self) -> Frame:
        """All columns at one row count: read-only views of equal length."""
        rows = len(self)
        columns = {c.name: self._shared.column(c.name, rows) for c in self._shared.table.columns}
        return Frame(columns, self.plant._names, self._title)

    def arrow(self) -> "pyarrow.Table":
        """All rows as an Arrow table, text as text and instruments by name (frames.py)."""
        return self.frame().arrow()

    def pandas(self) -> "pandas.DataFrame":
        """All rows as a pandas data frame."""
        return self.frame().pandas()

    def polars(self) -> "polars.DataFrame":
        """All rows as a Polars data frame."""
        return self.frame().polars()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)

    @property
    def _title(self) -> str:
        return f"table {self.name} of {self.trading_date}"

    def __repr__(self) -> str:
        return repr(self.frame())

    @property
    def sealed(self) -> bool:
        """Is the trading date over, so that no more rows come?"""
        return self._shared.sealed

    @property
    def behind(self) -> int:
        """Rows that the journal has and shared memory has no room for; they come when there is some."""
        return self._shared.behind

    @property
    def short(self) -> bool:
        """Is the trading date over, and rows beyond `max_rows` are only elsewhere?"""
        return self._shared.short

    @property
    def replaced(self) -> bool:
        """Was the table made anew? Take it from the plant again: the same rows, and those to come."""
        return self._shared.replaced

    def packed(self, first_row: int, count: int) -> Rows:
        """A copy of rows as a structured array. Raises IndexError beyond the rows there are."""
        first_row = selection.whole(first_row, "first_row", -selection.ROWS_MAX, selection.ROWS_MAX)
        count = selection.whole(count, "count", -selection.ROWS_MAX, selection.ROWS_MAX)
        if first_row < 0 or count < 0 or first_row + count > len(self):
            raise IndexError(f"rows {first_row} to {first_row + count} of {len(self)}")
        return self._shared.rows(first_row, count)

    def rows(self, instrument: str | int, last: int = 1) -> Batch:
        """The last rows of one instrument ("XNAS:AAPL" or its number), oldest first, without a scan.

        Raises SchemaError for an instrument that the plant has not seen, RequestError for what can't be.
        """
        number = (
            self._number(instrument)
            if isinstance(instrument, str)
            else selection.whole(instrument, "instrument", 0, (1 << 32) - 1, "or VENUE:SYMBOL")
        )
        last = selection.whole(last, "last", 0, selection.ROWS_MAX)
        numbers, out = self._shared.last_rows(number, last)
        first = int(numbers[0]) if len(numbers) else 0
        batch = Batch.of(out, self.name, self.trading_date, first, self.plant._names)
        batch.numbers = numbers
        return batch

    def _number(self, instrument: str) -> int:
        number = self._numbers.get(instrument)
        if number is None:  # once known it stays what it is
            number = self._numbers[instrument] = self.plant.instruments.number(instrument)
        return number

    def wait(self, after_row: int, timeout: float | None = None) -> int:
        """Sleep until there are more than `after_row` rows; how many there are then.

        Returns early when the timeout (seconds) is over or the trading date is.
        """
        after_row = selection.whole(after_row, "after_row", 0, selection.ROWS_MAX)
        end = None if timeout is None else monotonic_ns() + int(timeout * SECOND_NS)
        bell, committed = self.plant.control.bell, self._shared.committed
        while True:
            left = SECOND_NS if end is None else end - monotonic_ns()
            rows = bell.wait_above(committed, after_row, left)
            if rows > after_row or left <= 0 or self.sealed:
                return int(rows)

    def follow(self, from_row: int | None = 0, max_rows: int = FOLLOW_ROWS) -> Follower:
        """Batches of all rows from one on, without end; goes on with the next trading date.

        `from_row`: negative is so many before now, None now.

        What is not in shared memory any more comes from the journal; RowsGone is raised when it is neither.
        """
        names = self.plant._names
        return Follower(self.plant.control, self.name, self.trading_date, from_row, max_rows, names)


class Latest:
    """The last row of every instrument."""

    def __init__(self, plant: Plant, name: str) -> None:
        self.plant, self.name = plant, name
        self._numbers: dict[str, int] = {}
        self._attach()

    def _attach(self) -> None:
        self._shared = SharedLatest(self.plant.name, self.name)
        self._row, self._state = self._shared.row, self._shared.state

    def _look(self) -> None:
        """Go over to the object that has taken this one's place."""
        with contextlib.suppress(NotRunning):  # just being made
            self._attach()

    def __getitem__(self, instrument: str) -> np.void:
        """The last row of "XNAS:AAPL". Raises KeyError if it has none."""
        number = self._numbers.get(instrument)
        if number is None:  # once known it stays what it is
            number = self._numbers[instrument] = self.plant.instruments.number(instrument)
        if self._state.load():
            self._look()
        row = self._row(number)
        if row is None:
            raise KeyError(f"no row of {instrument} yet")
        return row

    def arrow(self) -> "pyarrow.Table":
        """The snapshot as an Arrow table, text as text and instruments by name (frames.py)."""
        return self.snapshot().arrow()

    def pandas(self) -> "pandas.DataFrame":
        """The snapshot as a pandas data frame."""
        return self.snapshot().pandas()

    def polars(self) -> "polars.DataFrame":
        """The snapshot as a Polars data frame."""
        return self.snapshot().polars()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return repr(self.snapshot())

    def snapshot(self) -> Frame:
        """Columns of the last rows of all instruments that have one; each row whole, not one cut."""
        if self._state.load():
            self._look()
        rows = self._shared.snapshot(len(self.plant.instruments))
        title = f"latest values of table {self.name}"
        return Frame({n: rows[n] for n in rows.dtype.names or ()}, self.plant._names, title)


def connect(plant: Config | str) -> Plant:
    """A plant on this host, by configuration, path of a configuration, or name.

    Raises NotRunning if its ticker plant has not run since the host booted.
    """
    if isinstance(plant, Config):
        return Plant(plant.plant.name)
    if plant.endswith(".toml"):
        return Plant(load(plant).plant.name)
    return Plant(plant)


def wait_for(plant: str, timeout: float) -> Plant:
    """As `connect`, but give a ticker plant that is just starting some time."""
    end = monotonic_ns() + int(timeout * SECOND_NS)
    while True:
        try:
            found = Plant(plant)
            if found.trading_date and found.state == "running":
                return found
        except NotRunning:
            if monotonic_ns() > end:
                raise
        if monotonic_ns() > end:
            raise NotRunning(
                f"the ticker plant of {plant} did not come up in {timeout:g} s; see: tickplant status"
            )
        time.sleep(0.02)
