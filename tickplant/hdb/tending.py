"""When the open date's partitions are summarized, analyzed and indexed: so that today is quick to ask, too.

It is decided by rows alone. A summary reads what is new once, statistics read a sample. The index by
instrument halves the speed of COPY; so a table gets it once the loader has caught up with the journal, and a
loader that has a day to catch up with is not held up by it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

SUMMARY_ROWS = 1 << 20
"""So many new rows are summarized; eight times as many while the loader is behind."""
SMALL_ROWS = 1 << 18
"""Up to so many rows a partition is read as a whole in no time."""


@dataclass
class Due:
    """What is to be done now, by table."""

    summary: list[str] = field(default_factory=list)
    statistics: list[str] = field(default_factory=list)
    index: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.summary or self.statistics or self.index)


class Tending:
    """Of one date."""

    def __init__(self) -> None:
        self._summarized: dict[str, int] = defaultdict(int)
        self._analyzed: dict[str, int] = defaultdict(int)
        self._indexed: set[str] = set()

    def due(self, rows: Mapping[str, int], *, caught_up: bool) -> Due:
        """What is due with so many rows by table; it counts as done then."""
        due = Due()
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
            if caught_up and table not in self._indexed:
                due.index.append(table)
                self._indexed.add(table)
        return due
