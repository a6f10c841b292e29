"""Tables that had no room are brought to where the journal is, once there is some.

The journal has every row. So a table that was refused memory needs only the journal again, from where it was
refused: rows that are there are skipped, the others follow on. A slice at a time, between the turns of the
ticker plant, so that live rows go first; live rows of a table that is behind come by this way, too.
"""

from collections.abc import Sequence
from pathlib import Path

from tickplant import wire
from tickplant._core import framing
from tickplant._core.intake import Intake
from tickplant.clock import monotonic_ns
from tickplant.errors import TableFull
from tickplant.journal import JournalReader
from tickplant.latest import LatestTable
from tickplant.schema import Schema
from tickplant.table import RETRY_NS, AppendTable

SLICE = 1 << 20


class CatchUp:
    """The tables of one trading date: `behind` says that rows were refused, `turn` brings them."""

    def __init__(
        self, folder: Path, tables: Sequence[AppendTable], intake: Intake,
        latest: Sequence[LatestTable] = (),
    ) -> None:  # fmt: skip
        self.folder, self.tables, self.intake, self.latest = folder, tables, intake, latest
        self._columns = {t.table.number: t.columns for t in tables}
        self._reader: JournalReader | None = None
        self._slice = b""
        """Read, and waiting for room."""
        self._retry_ns = 0

    def behind(self, position: int) -> None:
        """Rows from this position of the journal on may have been refused."""
        if self._reader is None:
            self._reader = JournalReader(self.folder, position)

    @property
    def pending(self) -> bool:
        """May rows be missing?"""
        return self._reader is not None

    def turn(self, instruments: int = 0, bound: int | None = None) -> bool:
        """Bring a slice of what is missing up to a position of the journal, if there is room; whether it was
        brought. `instruments`: how many have latest values."""
        if self._reader is None or (now := monotonic_ns()) < self._retry_ns:
            return False
        self._slice = self._slice or self._reader.read(bound, SLICE)
        try:
            self._make_room(instruments)
        except TableFull:  # remembered where it was refused
            self._retry_ns = now + RETRY_NS
            return False
        if self._slice:
            self.intake.apply(self._slice, again=True)
            self._slice = b""
            return True
        self._reader.close()
        self._reader = None
        return False

    def _make_room(self, instruments: int) -> None:
        """Have room for the slice, but for what is beyond max_rows. Raises TableFull."""
        frames = framing.index(self._slice)
        frames = frames[frames[:, 2] == wire.ROWS]
        for table in self.tables:
            mine = frames[frames[:, 3] == table.table.number]
            rows = int((mine[:, 5] + mine[:, 6]).max()) if len(mine) else 0
            table.columns.taken = max(table.columns.taken, rows)
            rows = max(1, min(rows, table.table.max_rows))  # none, and the object itself has room
            if rows > table.columns.room:
                table.ensure(rows)
        for latest in self.latest:
            latest.ensure(instruments, self._columns[latest.table.number])


def of_date(
    folder: Path, plant: str, identity: str, trading_date: int, schema: Schema, instruments_max: int,
    extent_rows: int,
) -> CatchUp:  # fmt: skip
    """Bring up the tables of a date that is over, from its whole journal; seal them when it is done."""
    tables = [AppendTable(t) for t in schema]
    for table in tables:
        table.open(plant, identity, trading_date, instruments_max, extent_rows)
    intake = Intake([t.columns for t in tables], 0, 1, 1)
    made = CatchUp(folder, tables, intake)
    made.behind(0)
    return made
