"""Latest-value tables: the last row of every instrument, in place, in shared memory.

One object per table, `tp.<plant>.latest.<table>`, for all dates: a header (`segment.describe`) and a slot
per instrument. A slot is a latch (_core/latch.h) whose cell is: u64 row, u32 trading_date, u32 zero, and
the row as packed in the journal, padded to 8 bytes. A read is whole per instrument; a snapshot of all
is not one cut through time.
"""

import contextlib
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant import segment
from tickplant._core.columns import Columns
from tickplant._core.memory import Word
from tickplant._core.slots import Slots, latch_snapshot
from tickplant.errors import NotRunning, SegmentError, TableFull
from tickplant.schema import Rows, Schema, Table

MAGIC = b"tpLATST1"
SLOTS, STATE = 128, 256
"""Words of the header: slots that have memory (readers touch no other, which might have none to be had); and
REPLACED, once another object has taken the name."""
REPLACED = 1
_PREFIX = 16
_EXTENT_SLOTS = 4096
_FIRST = segment.HEADER_SIZE


def segment_name(plant: str, table: str) -> str:
    """The name of the shared-memory object of a table's latest values."""
    return f"tp.{plant}.latest.{table}"


def _sizes(table: Table) -> tuple[int, int]:
    cell = _PREFIX + -(-table.row_size // 8) * 8
    return cell, -(-(8 + 2 * cell) // 64) * 64


def cell_dtype(table: Table) -> np.dtype[np.void]:
    """What a slot's cell holds: `number` and `trading_date` of the row, and the `row`."""
    cell_size, _ = _sizes(table)
    return np.dtype(
        {
            "names": ["number", "trading_date", "row"],
            "formats": ["<u8", "<u4", table.dtype],
            "offsets": [0, 8, _PREFIX],
            "itemsize": cell_size,
        }
    )


class LatestTable:
    """The writer's side; memory for slots is taken as instruments come."""

    def __init__(self, plant: str, identity: str, table: Table, slots_max: int) -> None:
        cell, slot = _sizes(table)
        self._about = {
            "plant": plant,
            "identity": identity,
            "schema": Schema([table]).describe(),
            "cell_size": cell,
            "slot_size": slot,
            "slots_max": slots_max,
        }
        self.table, self.slots = table, 0
        self._name = segment_name(plant, table.name)
        self._cell, self._slot, self._slots_max, self._shown = cell, slot, slots_max, 0
        self.full: TableFull | None = None
        """Why there is no memory for more slots, as long as there is none."""
        self.segment = _reopen(self._name, self._about)
        self.reopened = self.segment is not None
        if self.segment:
            self.slots = min(Word(self.segment.map, SLOTS).load(), slots_max)
        else:
            with contextlib.suppress(TableFull):  # `ensure` tries again, and tells
                self.segment = self._create()

    def ensure(self, slots: int, columns: Columns) -> None:
        """Have memory for so many slots, at least, and let `columns` write to them.

        Raises TableFull, and remembers it, if there is not so much; the slots that there are are written to.
        """
        upto = min(-(-slots // _EXTENT_SLOTS) * _EXTENT_SLOTS, self._slots_max)
        if upto <= self._shown:
            return
        try:
            self._extend(upto)
            self.full = None
        except TableFull as e:
            self.full = e
            raise
        finally:
            if self.segment and self._shown < self.slots:
                self._shown = self.slots
                columns.attach_latest(
                    self.segment.map, segment.HEADER_SIZE, self._slot, self._cell, self.slots
                )

    def _create(self) -> segment.Segment:
        _retire(self._name)
        made = segment.create(self._name, segment.HEADER_SIZE + self._slot * self._slots_max)
        made.allocate(0, segment.HEADER_SIZE)
        segment.describe(made, MAGIC, self._about)
        return made

    def _extend(self, upto: int) -> None:
        self.segment = self.segment or self._create()
        if upto > self.slots:
            start = segment.HEADER_SIZE + self._slot * self.slots
            self.segment.allocate(start, self._slot * (upto - self.slots))
            self.slots = upto
            Word(self.segment.map, SLOTS, True).store(upto)


def _reopen(name: str, about: dict[str, Any]) -> segment.Segment | None:
    try:
        found = segment.attach(name, writable=True)
        same = segment.description(found, MAGIC) == about
    except (NotRunning, SegmentError):
        return None
    return found if same else None


def _retire(name: str) -> None:
    """Remove a table that is to be made anew, and tell those who have it mapped."""
    with contextlib.suppress(NotRunning, SegmentError):
        old = segment.attach(name, writable=True)
        segment.description(old, MAGIC)
        Word(old.map, STATE, True).store(REPLACED)
    segment.remove(name)


class SharedLatest:
    """The reader's side of a latest-value table."""

    def __init__(self, plant: str, name: str) -> None:
        """Raises NotRunning if the object is not there, SegmentError if it can't be trusted."""
        self.segment = segment.attach(segment_name(plant, name))
        self.segment.close()
        about = segment.description(self.segment, MAGIC)
        try:
            (self.table,) = Schema.read(about["schema"])
            self._cell, self._slot = int(about["cell_size"]), int(about["slot_size"])
            self._slots_max = int(about["slots_max"])
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise SegmentError(f"{self.segment.name} has a header that is not sound: {e}") from None
        room = (self.segment.size - segment.HEADER_SIZE) // max(self._slot, 1)
        if (self._cell, self._slot) != _sizes(self.table) or self._slots_max > room:
            raise SegmentError(f"{self.segment.name} has sizes that do not fit its schema")
        self._dtype = cell_dtype(self.table)
        self.state = Word(self.segment.map, STATE)
        """REPLACED once another object has taken the name, perhaps of other columns; 0 before."""
        self._slots = Slots(
            self.segment.map, _FIRST, self._slot, self._cell, self._slots_max,
            Word(self.segment.map, SLOTS), _PREFIX, self.table.dtype,
        )  # fmt: skip
        self.row = self._slots.row
        """row(instrument): the instrument's last row, or None."""

    def get(self, instrument: int) -> tuple[int, int, np.void] | None:
        """(trading date, row number, row) of the instrument's last row, or None."""
        cell = self._slots.cell(instrument)
        if cell is None:
            return None
        value = np.frombuffer(cell, self._dtype)[0]
        return int(value["trading_date"]), int(value["number"]), value["row"]

    def cells(self, first: int, upto: int) -> npt.NDArray[np.void]:
        """Cells (`cell_dtype`) of the instruments from `first` on, below `upto`, that have a row: a copy."""
        return self._copied(first, upto, self._dtype, 0)

    def snapshot(self, instruments: int) -> Rows:
        """Rows of all instruments below a number that have one."""
        return self._copied(0, instruments, self.table.dtype, _PREFIX)

    def _copied(self, first: int, upto: int, dtype: np.dtype[np.void], begin: int) -> npt.NDArray[np.void]:
        """Of each cell the part that begins there."""
        slots = max(0, min(upto, len(self._slots)) - first)
        out = np.empty(slots, dtype)
        if not slots:  # and where they would begin may be beyond the map
            return out
        start = _FIRST + self._slot * first
        count = latch_snapshot(
            self.segment.map, start, self._slot, self._cell, slots, out.view(np.uint8), begin, dtype.itemsize
        )
        return out[:count]
