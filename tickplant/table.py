"""Append tables: the rows of one table and trading date as columns in shared memory.

One sparse object per table and date, `tp.<plant>.<yyyymmdd>.<table>`:

    header, 16 KiB         as in `segment.describe`; words: committed rows at 128, state at 256
    head, u32 each         by instrument: its last row + 1
    prev, u32 each         by row: the row before of the same instrument, + 1
    columns                each contiguous, from a page boundary, reserved for max_rows

Reserved is not allocated: memory is taken in extents, ahead of the rows, by a thread of the writer. How
rows become visible, and how readers may rely on it, is told in _core/table.h.
"""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant import segment
from tickplant._core import core
from tickplant.errors import NotRunning, SegmentError, TableFull
from tickplant.schema import Column, Rows, Schema, Table

MAGIC = b"tpTABLE1"
COMMITTED, STATE = 128, 256
LIVE, SEALED = 1, 2
_PAGE = 4096
_FIRST_EXTENT = 4096


def segment_name(plant: str, trading_date: int, table: str) -> str:
    """The name of the shared-memory object of a table."""
    return f"tp.{plant}.{trading_date:08d}.{table}"


def _layout(table: Table, instruments_max: int) -> dict[str, Any]:
    def aligned(at: int) -> int:
        return -(-at // _PAGE) * _PAGE

    head = segment.HEADER_SIZE
    prev = aligned(head + 4 * instruments_max)
    at = aligned(prev + 4 * table.max_rows)
    offsets = []
    for column in table.columns:
        offsets.append(at)
        at = aligned(at + column.size * table.max_rows)
    return {"head": head, "prev": prev, "offsets": offsets, "size": at}


class AppendTable:
    """The writer's side of a table; `columns` is what the intake writes through."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.columns = core.Columns(
            table.number, table.fingerprint, [(c.offset, c.size) for c in table.columns]
        )
        self.full: TableFull | None = None
        self._allocated = 0
        self._extending = threading.Lock()

    def open(
        self, plant: str, identity: str, trading_date: int, instruments_max: int, extent_rows: int
    ) -> bool:
        """Go on with this date's object if a writer of this identity left a sound one, else make it anew.

        Returns True if it was there. Rows committed in it stay; the journal brings the others.
        """
        name = segment_name(plant, trading_date, self.table.name)
        layout = _layout(self.table, instruments_max)
        about = {
            "plant": plant,
            "identity": identity,
            "trading_date": trading_date,
            "schema": Schema([self.table]).describe(),
            "max_rows": self.table.max_rows,
            "instruments_max": instruments_max,
            **layout,
        }
        found = _reopen(name, about)
        with self._extending:  # the grower may still be busy with the date before
            self.segment = found or self._create(name, about)
            self.extent_rows, self._layout = extent_rows, layout
            self._allocated, self.full = 0, None
        self.columns.room = 0
        self.columns.attach(
            self.segment.map, layout["offsets"], self.table.max_rows, COMMITTED, layout["prev"],
            layout["head"], instruments_max, True,
        )  # fmt: skip
        self.committed = core.Word(self.segment.map, COMMITTED, True)
        committed = self.committed.load() if found else 0
        self.ensure(committed)
        self.columns.rewind(committed)
        return found is not None

    def _create(self, name: str, about: dict[str, Any]) -> segment.Segment:
        segment.remove(name)
        made = segment.create(name, about["size"])
        made.allocate(0, about["prev"])
        segment.describe(made, MAGIC, about)
        core.Word(made.map, STATE, True).store(LIVE)
        return made

    def ensure(self, rows: int) -> None:
        """Have memory for so many rows, at least. Raises TableFull, and remembers it, if not."""
        if rows <= self.columns.room:
            return
        if rows > self._allocated:
            self.extend(rows)
        self.columns.room = self._allocated

    def extend(self, rows: int) -> None:
        """Allocate so that at least `rows` rows have memory (not yet used before `ensure`)."""
        with self._extending:
            if rows > self._allocated and not self.segment.closed:
                self._allocated = self._extended(rows, self._allocated)

    def extend_ahead(self) -> None:
        """Allocate one extent more than there is. May run in another thread; raises TableFull."""
        self.extend(self._allocated + 1)

    def _extended(self, rows: int, have: int) -> int:
        if rows > self.table.max_rows:
            raise self._refuse(
                TableFull(
                    f"table {self.table.name} has room for max_rows = {self.table.max_rows:,} rows; "
                    f"raise tables.{self.table.name}.max_rows before the next trading date"
                )
            )
        extent = min(max(_FIRST_EXTENT, have), self.extent_rows)
        upto = min(max(rows, have + extent), self.table.max_rows)
        sizes = [(self._layout["prev"], 4)]
        sizes += zip(self._layout["offsets"], (c.size for c in self.table.columns), strict=True)
        try:
            for offset, size in sizes:
                self.segment.allocate(offset + size * have, size * (upto - have))
        except TableFull as e:
            raise self._refuse(e) from None
        return upto

    def _refuse(self, why: TableFull) -> TableFull:
        self.full = why
        return why

    @property
    def wants_more(self) -> bool:
        """Is less than half an extent allocated ahead of the rows?"""
        extent = min(max(_FIRST_EXTENT, self._allocated), self.extent_rows)
        ahead = self._allocated - self.columns.taken
        return ahead < extent // 2 and self._allocated < self.table.max_rows and not self.full

    def seal(self) -> None:
        """No more rows will come; readers see it and can go on to the next date."""
        core.Word(self.segment.map, STATE, True).store(SEALED)
        with self._extending:
            self.segment.close()


class Grower(threading.Thread):
    """Allocates extents ahead of the rows, so that the writer never waits for memory."""

    def __init__(self) -> None:
        super().__init__(name="grower", daemon=True)
        self._wanted: AppendTable | None = None
        self._wake = threading.Event()
        self._ended = False

    def stop(self) -> None:
        """End the thread."""
        self._ended = True
        self._wake.set()

    def look(self, tables: list[AppendTable]) -> None:
        """Have the first table that wants more extended, unless one is being extended."""
        if self._wanted is None:
            for table in tables:
                if table.wants_more:
                    self._wanted = table
                    self._wake.set()
                    return

    def run(self) -> None:
        while not self._ended:
            self._wake.wait()
            self._wake.clear()
            if self._wanted is not None:
                try:
                    self._wanted.extend_ahead()
                except TableFull:
                    pass  # remembered in the table; the plant reports it
                finally:
                    self._wanted = None


def _reopen(name: str, about: dict[str, Any]) -> segment.Segment | None:
    try:
        found = segment.attach(name, writable=True)
        same = segment.description(found, MAGIC) == about and found.size == about["size"]
    except (NotRunning, SegmentError):
        return None
    if not same or core.Word(found.map, COMMITTED).load() > about["max_rows"]:
        return None
    core.Word(found.map, STATE, True).store(LIVE)
    return found


class SharedTable:
    """The reader's side of a table: read-only, checked, without a copy."""

    def __init__(self, plant: str, trading_date: int, name: str) -> None:
        """Raises NotRunning if the object is not there, SegmentError if it can't be trusted."""
        self.segment = segment.attach(segment_name(plant, trading_date, name))
        self.segment.close()  # the mapping is enough
        about = segment.description(self.segment, MAGIC)
        try:
            (self.table,) = Schema.read(about["schema"])
            self.max_rows = int(about["max_rows"])
            self.columns = core.Columns(
                self.table.number, 0, [(c.offset, c.size) for c in self.table.columns]
            )
            self.columns.attach(
                self.segment.map, about["offsets"], self.max_rows, COMMITTED, about["prev"],
                about["head"], about["instruments_max"], False,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise SegmentError(f"{self.segment.name} has a header that is not sound: {e}") from None
        self.trading_date = trading_date
        self.committed = core.Word(self.segment.map, COMMITTED)
        if self.committed.load() > self.max_rows:
            raise SegmentError(
                f"{self.segment.name} counts {self.committed.load()} rows, more than it can have"
            )
        self._state = core.Word(self.segment.map, STATE)
        self._whole = {
            c.name: self._column(c, offset)
            for c, offset in zip(self.table.columns, about["offsets"], strict=True)
        }

    def _column(self, column: Column, offset: int) -> npt.NDArray[Any]:
        dtype = self.table.dtype[column.name]
        return np.frombuffer(self.segment.map, dtype, self.max_rows, offset)

    def __len__(self) -> int:
        return int(self.committed.load())

    @property
    def sealed(self) -> bool:
        """Will no more rows come?"""
        return bool(self._state.load() == SEALED)

    def column(self, name: str, rows: int) -> npt.NDArray[Any]:
        """The first `rows` cells of a column; the caller has seen them committed."""
        return self._whole[name][:rows]

    def rows(self, first: int, count: int) -> Rows:
        """A copy of committed rows [first, first + count), packed as in the journal."""
        out = self.table.empty(count)
        self.columns.gather(first, count, out.view(np.uint8))
        return out

    def last_rows(self, instrument: int, last: int) -> npt.NDArray[np.int64]:
        """Numbers of the last rows of an instrument, oldest first, without a scan."""
        numbers: npt.NDArray[np.int64] = self.columns.last_rows(instrument, len(self), last)
        return numbers
