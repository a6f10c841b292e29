"""What readers are handed: rows that know which rows they are."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.schema import Rows


class Batch(np.ndarray[Any, np.dtype[np.void]]):
    """A structured array of rows of one table and date, with the numbers of its rows.

    `table`, `trading_date` (yyyymmdd) and `first_row` say which rows they are; they follow each other
    unless a filter took some out: then `numbers` is their row numbers, else it is None.
    """

    table: str
    trading_date: int
    first_row: int
    numbers: npt.NDArray[np.int64] | None

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
        return chosen
