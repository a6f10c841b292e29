"""When the open date's partitions are summarized, analyzed and indexed: so that today is quick to ask, too.

It is decided by rows, and by the bytes of the journal that are not loaded yet. A summary reads what is new
once, statistics read a sample. The index by instrument makes COPY two to four times slower: a table gets it
once the loader has caught up with the journal. When the loader falls far behind with it, or begins far
behind, the index is dropped. A table that could not be kept up with so gets it again when the loader has
caught up and the table has doubled: a load that stays too high for the index has it built a few times a
date at most.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

SUMMARY_ROWS = 1 << 20
"""So many new rows are summarized; eight times as many while the loader is behind."""
SMALL_ROWS = 1 << 18
"""Up to so many rows a partition is read as a whole in no time."""
CAUGHT_UP_BYTES = 1 << 22
"""A loader so near the end of the journal has caught up."""
FAR_BYTES = 1 << 28
"""A loader that has fallen behind by so much more than when the index was built does not keep up with it."""


@dataclass
class Due:
    """What is to be done now, by table."""

    summary: list[str] = field(default_factory=list)
    statistics: list[str] = field(default_factory=list)
    index: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    """Tables whose index by instrument is dropped."""

    def __bool__(self) -> bool:
        return bool(self.summary or self.statistics or self.index or self.drop)


class Tending:
    """Of one date."""

    def __init__(self) -> None:
        self._summarized: dict[str, int] = defaultdict(int)
        self._analyzed: dict[str, int] = defaultdict(int)
        self._indexed: dict[str, bool] = {}
        """Whether a table has the index; not known of a table that an earlier loader may have indexed."""
        self._again: dict[str, int] = defaultdict(int)
        """With how many rows a table gets the index at the earliest."""
        self._drop_again: dict[str, int] = defaultdict(int)
        """With how many rows it is dropped again: a reader may have been in the way."""
        self._nearest: int | None = 0
        """How near the end of the journal the loader has been since an index was built; None: unknown."""

    def due(self, rows: Mapping[str, int], behind_bytes: int) -> Due:
        """What is due with so many rows by table; it counts as done then."""
        due = Due()
        caught_up = behind_bytes <= CAUGHT_UP_BYTES
        # What comes while an index is built is no sign that the loader can't keep up with it.
        self._nearest = behind_bytes if self._nearest is None else min(self._nearest, behind_bytes)
        far = behind_bytes - self._nearest >= FAR_BYTES
        step = SUMMARY_ROWS if caught_up else 8 * SUMMARY_ROWS
        for table, count in rows.items():
            if count < SMALL_ROWS:
                continue
            if count - self._summarized[table] >= step:
                due.summary.append(table)
                self._summarized[table] = count
            if count >= 2 * self._analyzed[table]:
                due.statistics.append(table)
                self._analyzed[table] = count
            if far and (self._indexed.get(table, True) or count >= self._drop_again[table]):
                self._drop(table, count, due)
            elif caught_up and not self._indexed.get(table) and count >= self._again[table]:
                due.index.append(table)
                self._indexed[table] = True
        if due.index:
            self._nearest = None
        return due

    def _drop(self, table: str, count: int, due: Due) -> None:
        if self._indexed.get(table):
            self._again[table] = 2 * count
        self._drop_again[table] = count + 8 * SUMMARY_ROWS
        self._indexed[table] = False
        due.drop.append(table)
