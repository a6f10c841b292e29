"""Rows of a table by number, out of a journal: a sparse index of where each table's rows lie."""

from bisect import bisect_right
from pathlib import Path

from tickplant import wire
from tickplant._core import core
from tickplant.day import read_seal
from tickplant.journal import JournalReader

INDEX_BYTES = 1 << 16


class ReplayIndex:
    """Follows the journal of one trading date; knows where to begin reading for any row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reader = JournalReader(folder)
        self.rows: dict[int, int] = {}
        """Rows so far, by table number."""
        self.sealed = False
        self._rows: dict[int, list[int]] = {}
        self._positions: dict[int, list[int]] = {}

    def follow(self, bound: int | None = None) -> bytes:
        """Read on; the frames read."""
        chunk = self.reader.read(bound)
        if chunk:
            start = (self.reader.position or 0) - len(chunk)
            for offset, size, kind, table, _, row, count in core.index(chunk).tolist():
                if kind == wire.ROWS:
                    self._remember(table, row, start + offset)
                    self.rows[table] = row + count
                elif kind == wire.SEAL:
                    read_seal(wire.payload(memoryview(chunk)[offset : offset + size]))
                    self.sealed = True
        return chunk

    def _remember(self, table: int, row: int, position: int) -> None:
        positions = self._positions.setdefault(table, [])
        if not positions or position - positions[-1] >= INDEX_BYTES:
            positions.append(position)
            self._rows.setdefault(table, []).append(row)

    def fetch(self, table: int, row: int, limit: int) -> bytes:
        """Frames of a table that hold rows from `row` on: `limit` bytes at most, but one at least."""
        if row >= self.rows.get(table, 0):
            return b""
        at = bisect_right(self._rows[table], row) - 1
        reader = JournalReader(self.folder, self._positions[table][max(at, 0)])
        out: list[bytes] = []
        size = 0
        try:
            while chunk := reader.read(self.reader.position, INDEX_BYTES * 4):
                for offset, length, kind, number, _, first, count in core.index(chunk).tolist():
                    if kind == wire.ROWS and number == table and first + count > row:
                        if out and size + length > limit:
                            return b"".join(out)
                        out.append(chunk[offset : offset + length])
                        size += length
        finally:
            reader.close()
        return b"".join(out)

    def close(self) -> None:
        """Give the file back."""
        self.reader.close()
