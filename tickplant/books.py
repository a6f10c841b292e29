"""An instrument's book of a plant on this host, from its rows in shared memory, up to date when it is asked.

The rows of one instrument are found without a scan, from the last one back to where its book began: the last
R row of table depth, or its first row of table order.
"""

import numpy as np

from tickplant.analytics.book import Book, DepthBook, Level, OrderBook
from tickplant.errors import NotRunning, SchemaError
from tickplant.local import Plant, Table

_FIRST = 1024


class LiveBook:
    """The book of one instrument. It goes on into the next trading date."""

    def __init__(self, plant: Plant, instrument: str) -> None:
        """`instrument`: "KRAKEN:BTC-USD". Raises SchemaError if the plant has none of this name."""
        self.plant, self.instrument = plant, instrument
        self._number = plant.instruments.number(instrument)
        self._begin()

    def _begin(self) -> None:
        self.trading_date = self.plant.trading_date
        self._seen = -1
        self._book: Book | None = None
        self._table: Table | None = None

    def refresh(self) -> bool:
        """Take the rows that have come; whether there were any."""
        if self.plant.trading_date != self.trading_date:
            self._begin()
        if self._book is None:
            self._choose()
        if self._book is None or self._table is None:
            return False
        rows = self._since(self._table)
        self._book.apply(rows)
        return len(rows) > 0

    def _choose(self) -> None:
        """Levels if the venue gives them, else orders."""
        for name, kind in (("depth", DepthBook), ("order", OrderBook)):
            try:
                table = self.plant.table(name, self.trading_date)
            except (SchemaError, NotRunning):
                continue
            if len(table.rows(self._number, last=1)):
                self._table, self._book = table, kind()
                return

    def _since(self, table: Table) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """The instrument's rows after the last that was seen; of the first ones, those that matter."""
        wanted = _FIRST
        while True:
            rows = table.rows(self._number, last=wanted)
            new = np.flatnonzero(rows.numbers > self._seen) if rows.numbers is not None else np.arange(0)
            fresh = rows[new]
            enough = len(rows) < wanted or len(new) < len(rows)
            if enough or (table.name == "depth" and (fresh["action"] == b"R").any()):
                if len(new) and rows.numbers is not None:
                    self._seen = int(rows.numbers[-1])
                return np.asarray(fresh)
            wanted *= 4

    @property
    def stale(self) -> bool:
        """Is there no book, or one that is out of step with its venue?"""
        return self._book is None or self._book.stale

    @property
    def ts_event(self) -> int:
        """The venue's time of the last row, ns UTC."""
        return self._book.ts_event if self._book else 0

    def levels(self, side: str, most: int = 10) -> list[Level]:
        """(price, size, orders) of the best levels of a side (B, S), best first."""
        return self._book.levels(side, most) if self._book else []
