"""Append tables: the rows of one table and trading date as columns in shared memory.

One sparse object per table and date, `tp.<plant>.<yyyymmdd>.<table>`:

    header, 16 KiB         as in `segment.describe`; words: committed rows at 128, state at 256, rows that
                           have memory at 384, rows of the journal when the table was last behind it at 512
    head, u32 each         by instrument: its last row + 1
    prev, u32 each         by row: the row before of the same instrument, + 1
    columns                each contiguous, from a page boundary, reserved for max_rows

Reserved is not allocated: memory is taken in extents, ahead of the rows, by a thread of the writer. Where the
mount allows huge pages, prev and columns of a large table begin at multiples of one, and take whole ones once
they fill the first; the header says where everything is, so readers need not know. How
rows become visible, and how readers may rely on it, is told in _core/table.h.

Without room a table stays behind the journal, its rows in order and without a hole as ever, until `CatchUp`
brings it up. Not even its first page may have room: then there is an empty object of the name.
"""

import contextlib
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant import hugepages, segment
from tickplant._core.columns import Columns
from tickplant._core.memory import Word
from tickplant.clock import MILLISECOND_NS, monotonic_ns
from tickplant.errors import NotRunning, SegmentError, TableFull
from tickplant.schema import Column, Rows, Schema, Table

MAGIC = b"tpTABLE1"
COMMITTED, STATE, ALLOCATED, JOURNALED = 128, 256, 384, 512
LIVE, SEALED, SHORT, REPLACED = 1, 2, 3, 4
"""States: rows may come; all rows are here; no more will come although the journal has more (max_rows);
another object has taken the name, and goes on from the same rows."""
RETRY_NS = 250 * MILLISECOND_NS
"""After a refusal memory is not asked for again before this."""
_PAGE = 4096
_FIRST_EXTENT = 4096


def segment_name(plant: str, trading_date: int, table: str) -> str:
    """The name of the shared-memory object of a table."""
    return f"tp.{plant}.{trading_date:08d}.{table}"


def _layout(table: Table, instruments_max: int, page: int = _PAGE) -> dict[str, Any]:
    """Where everything is, from boundaries of pages of so many bytes."""

    def aligned(at: int) -> int:
        return -(-at // page) * page

    head = segment.HEADER_SIZE
    prev = aligned(head + 4 * instruments_max)
    at = aligned(prev + 4 * table.max_rows)
    offsets = []
    for column in table.columns:
        offsets.append(at)
        at = aligned(at + column.size * table.max_rows)
    return {"head": head, "prev": prev, "offsets": offsets, "size": at}


def _large(table: Table, extent_rows: int, page: int) -> bool:
    """Does an extent of a column fill a page of so many bytes?"""
    widest = max(4, *(column.size for column in table.columns))
    return 0 < page <= widest * min(extent_rows, table.max_rows)


class AppendTable:
    """The writer's side of a table; `columns` is what the intake writes through."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.columns = Columns(table.number, table.fingerprint, [(c.offset, c.size) for c in table.columns])
        self.full: TableFull | None = None
        """Why there is no memory for more rows, as long as there is none."""
        self.segment: segment.Segment | None = None
        """None as long as there is no room for the object itself."""
        self.expected = 0
        """Rows that will have come before memory for more can be had."""
        self._allocated = self._retry_ns = 0
        self._extending = threading.Lock()

    def open(
        self, plant: str, identity: str, trading_date: int, instruments_max: int, extent_rows: int
    ) -> bool:
        """Go on with this date's object if a writer of this identity left a sound one, else make it anew.

        Returns True if it was there. Rows committed in it stay; the journal brings the others. Where there is
        no room for it (`full`), `ensure` tries again.
        """
        self._name = segment_name(plant, trading_date, self.table.name)
        self._layouts = self._possible(instruments_max, extent_rows)
        self._layout = self._layouts[0]
        self._about: dict[str, Any] = {
            "plant": plant,
            "identity": identity,
            "trading_date": trading_date,
            "schema": Schema([self.table]).describe(),
            "max_rows": self.table.max_rows,
            "instruments_max": instruments_max,
        }
        self.columns.detach()
        with self._extending:  # the grower may still be busy with the date before
            self.segment, self.full, self._allocated = None, None, 0
            self.extent_rows = extent_rows
        try:
            return self._begin()
        except TableFull:
            return False

    def _possible(self, instruments_max: int, extent_rows: int) -> list[dict[str, Any]]:
        """The layouts that this table may be found in: the one to make it in first."""
        page, layouts = hugepages.size(), [_layout(self.table, instruments_max)]
        self._huge_page = page if hugepages.allowed(segment.SHM) else 0
        if _large(self.table, extent_rows, page):
            layouts.insert(0 if self._huge_page else 1, _layout(self.table, instruments_max, page))
        return layouts

    def _begin(self) -> bool:
        found = None
        for layout in self._layouts:
            if found := _reopen(self._name, self._about | layout):
                break
        self._layout = layout if found else self._layouts[0]
        made = found or self._create()
        self.committed = Word(made.map, COMMITTED, True)
        self._memory = Word(made.map, ALLOCATED, True)
        committed, allocated = self.committed.load(), self._memory.load()
        with self._extending:
            self.segment, self.full = made, None
            self._allocated = allocated if committed <= allocated <= self.table.max_rows else committed
        self.columns.attach(
            made.map, self._layout["offsets"], self.table.max_rows, COMMITTED, self._layout["prev"],
            self._layout["head"], self._about["instruments_max"], True,
        )  # fmt: skip
        self.columns.room = self._allocated
        self.columns.rewind(committed)
        return found is not None

    def _create(self) -> segment.Segment:
        retire(self._name)
        about = self._about | self._layout
        made = segment.create(self._name, about["size"])
        try:
            self._allocate(made, 0, 0, about["head"] + 4 * about["instruments_max"])
        except TableFull as e:  # the empty object stays: it tells readers that there is to be one
            made.close()
            raise self._refuse(e) from None
        segment.describe(made, MAGIC, about)
        Word(made.map, STATE, True).store(LIVE)
        return made

    def ensure(self, rows: int) -> None:
        """Have memory for so many rows, at least. Raises TableFull, and remembers it, if not."""
        if rows <= self.columns.room:
            return
        if self.segment is None:
            self._begin()
        try:
            if rows > self._allocated:  # else nobody who extends it beside is waited for
                self.extend(rows)
        finally:
            self.columns.room = self._allocated

    def extend(self, rows: int) -> None:
        """Allocate so that at least `rows` rows have memory (not yet used before `ensure`)."""
        with self._extending:
            if rows > self._allocated and self.segment and not self.segment.closed:
                self._extend(self.segment, rows)

    def extend_ahead(self) -> None:
        """Allocate one extent more than there is. May run in another thread; raises TableFull."""
        self.extend(self._allocated + 1)

    def _extend(self, to: segment.Segment, rows: int) -> None:
        have, most = self._allocated, self.table.max_rows
        extent = min(max(_FIRST_EXTENT, have), self.extent_rows)
        upto = min(max(rows, have + extent), most)
        sizes = [(self._layout["prev"], 4)]
        sizes += zip(self._layout["offsets"], (c.size for c in self.table.columns), strict=True)
        try:
            for offset, size in sizes if upto > have else ():
                self._allocate(to, offset, size * have, size * upto)
        except TableFull as e:
            raise self._refuse(e) from None
        self._allocated, self.full = upto, None
        self._memory.store(upto)
        if rows > most:
            raise self._refuse(
                TableFull(
                    f"table {self.table.name} has room for max_rows = {most:,} rows; raise "
                    f"tables.{self.table.name}.max_rows and restart the ticker plant, which makes the table "
                    "anew from the journal"
                )
            )

    def _allocate(self, to: segment.Segment, at: int, begin: int, end: int) -> None:
        """Take memory for bytes [begin, end) of what is at an offset: whole huge pages once there is one."""
        if not self._huge_page:
            to.allocate(at + begin, end - begin)
            return
        huge = end >= self._huge_page and self._in_huge_pages()
        if huge:
            end = -(-end // self._huge_page) * self._huge_page
        to.allocate(at + begin, end - begin, huge)

    def _in_huge_pages(self) -> bool:
        """Does everything of this object begin at a multiple of a huge page?"""
        at = self._layout
        return not any(place % self._huge_page for place in (at["prev"], *at["offsets"], at["size"]))

    def _refuse(self, why: TableFull) -> TableFull:
        self.full, self._retry_ns = why, monotonic_ns() + RETRY_NS
        return why

    @property
    def may_ask(self) -> bool:
        """Is it worth asking for memory: was there some the last time, or is that long enough ago?"""
        return self.full is None or monotonic_ns() >= self._retry_ns

    @property
    def behind(self) -> int:
        """Rows that have a number, and no room."""
        return max(0, self.columns.taken - self.columns.rows)

    @property
    def lacks(self) -> TableFull | None:
        """Why there is no memory where some is wanted."""
        return self.full if self.segment is None or self.behind or self._wants_more() else None

    @property
    def wants_more(self) -> bool:
        """Is less than half an extent, or than `expected`, allocated ahead, and may there be more?"""
        return self._wants_more() and self.may_ask

    def _wants_more(self) -> bool:
        extent = min(max(_FIRST_EXTENT, self._allocated), self.extent_rows)
        ahead, wanted = self._allocated - self.columns.taken, max(extent // 2, self.expected)
        return self.segment is not None and ahead < wanted and self._allocated < self.table.max_rows

    def tell_behind(self) -> None:
        """Let readers see how many rows the journal has."""
        if self.segment is not None and self.behind:
            Word(self.segment.map, JOURNALED, True).store(self.columns.taken)

    def seal(self) -> bool:
        """No more rows will be taken. Readers see it and can go on to the next date, unless rows that were
        taken are not here: False then. They stay until `CatchUp` brings them, or are told if nobody can."""
        if self.segment is None:
            return not self.behind
        self.tell_behind()
        if not self.behind or self.columns.taken > self.table.max_rows:
            state = SHORT if self.behind else SEALED
            Word(self.segment.map, STATE, True).store(state)
        with self._extending:
            self.segment.close()
        return not self.behind


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
                except (TableFull, SegmentError):
                    pass  # remembered in the table, or met again by `ensure`; the plant reports it
                finally:
                    self._wanted = None


def _reopen(name: str, about: dict[str, Any]) -> segment.Segment | None:
    try:
        found = segment.attach(name, writable=True)
        same = segment.description(found, MAGIC) == about and found.size == about["size"]
    except (NotRunning, SegmentError):
        return None
    if not same or Word(found.map, COMMITTED).load() > about["max_rows"]:
        return None
    Word(found.map, STATE, True).store(LIVE)
    return found


def retire(name: str) -> None:
    """Remove a table that is to be made anew, and tell those who have it mapped."""
    with contextlib.suppress(NotRunning, SegmentError):
        old = segment.attach(name, writable=True)
        segment.description(old, MAGIC)
        Word(old.map, STATE, True).store(REPLACED)
    segment.remove(name)


def waits(name: str) -> bool:
    """Is this a table of which rows are still to come, or to be made at all?"""
    try:
        found = segment.attach(name)
        segment.description(found, MAGIC)
        return bool(Word(found.map, STATE).load() == LIVE)
    except NotRunning:
        return segment.exists(name)
    except SegmentError:
        return False


class SharedTable:
    """The reader's side of a table: read-only, checked, without a copy."""

    def __init__(self, plant: str, trading_date: int, name: str) -> None:
        """Raises NotRunning if the object is not there, SegmentError if it can't be trusted."""
        self.segment = segment.attach(segment_name(plant, trading_date, name))
        self.segment.close()  # the mapping is enough
        about = segment.description(self.segment, MAGIC)
        try:
            (self.table,) = Schema.read(about["schema"])
            self.max_rows, self.identity = int(about["max_rows"]), str(about["identity"])
            self.columns = Columns(self.table.number, 0, [(c.offset, c.size) for c in self.table.columns])
            self.columns.attach(
                self.segment.map, about["offsets"], self.max_rows, COMMITTED, about["prev"],
                about["head"], about["instruments_max"], False,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise SegmentError(f"{self.segment.name} has a header that is not sound: {e}") from None
        self.trading_date = trading_date
        self.committed = Word(self.segment.map, COMMITTED)
        if self.committed.load() > self.max_rows:
            raise SegmentError(
                f"{self.segment.name} counts {self.committed.load()} rows, more than it can have"
            )
        self._state, self._journaled = (Word(self.segment.map, at) for at in (STATE, JOURNALED))
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
        """Will no more rows come, because these are all?"""
        return bool(self._state.load() == SEALED)

    @property
    def short(self) -> bool:
        """Will no more rows come, although the journal has more than there was room for (max_rows)?"""
        return bool(self._state.load() == SHORT)

    @property
    def replaced(self) -> bool:
        """Has another object taken the name, with the same rows and those to come?"""
        return bool(self._state.load() == REPLACED)

    @property
    def behind(self) -> int:
        """Rows that the journal has and shared memory had no room for, yet."""
        return max(0, int(self._journaled.load()) - len(self))

    def column(self, name: str, rows: int) -> npt.NDArray[Any]:
        """The first `rows` cells of a column; the caller has seen them committed."""
        return self._whole[name][:rows]

    def rows(self, first: int, count: int) -> Rows:
        """A copy of committed rows [first, first + count), packed as in the journal."""
        out = self.table.empty(count)
        self.columns.gather(first, count, out.view(np.uint8))
        return out

    def last_rows(self, instrument: int, last: int) -> tuple[npt.NDArray[np.int64], Rows]:
        """The last rows of an instrument and their numbers, oldest first, without a scan."""
        numbers: npt.NDArray[np.int64] = self.columns.last_rows(instrument, len(self), last)
        out = np.empty(len(numbers), self.table.dtype)
        self.columns.pick(numbers, out.view(np.uint8))
        return numbers, out
