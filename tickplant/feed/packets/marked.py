"""Rows that decoders of columns make, table by table and message type by message type, back in order.

Messages of one type are decoded together, so their rows come in another order than the messages. Each
message has a mark, its place among the messages of the batch; a table's rows are put in the order of
their marks.
"""

import numpy as np
import numpy.typing as npt

from tickplant.feed.capture import Batch
from tickplant.feed.sink import shipped_schema
from tickplant.schema import Rows

Marks = npt.NDArray[np.int64]


class MarkedRows:
    """Rows of a batch, until they are taken."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[Marks, Rows]]] = {}

    def new(self, table: str, marks: Marks) -> Rows:
        """Rows to fill, one for each mark: floats are NaN, the rest is zero. `marks` are in order."""
        rows = shipped_schema()[table].empty(len(marks))
        for column in shipped_schema()[table].columns:
            if column.type[0] == "f":
                rows[column.name] = np.nan
        if len(marks):
            self._rows.setdefault(table, []).append((marks, rows))
        return rows

    def parts(self, table: str) -> list[tuple[Marks, Rows]]:
        """A table's rows as they were made, with their marks; what is written to them stays."""
        return self._rows.get(table, [])

    def add(self, table: str, parts: list[tuple[Marks, Rows]]) -> None:
        """More rows of a table, with their marks."""
        parts = [part for part in parts if len(part[1])]
        if parts:
            self._rows.setdefault(table, []).extend(parts)

    def take(self) -> Batch:
        """All rows since the last time. Those with one mark are in the order in which they were made."""
        batch: Batch = []
        for table, parts in self._rows.items():
            marks = np.concatenate([m for m, _ in parts])
            batch.append((table, np.concatenate([r for _, r in parts])[np.argsort(marks, kind="stable")]))
        self._rows = {}
        return batch
