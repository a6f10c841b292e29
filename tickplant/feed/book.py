"""An instrument's book as a venue's snapshots and changes make it: in step, or stale until it is again.

    WAITING ──snapshot──► LIVE ──gap, checksum, disconnection──► WAITING

While it waits, changes are kept, bounded, and those that come after the snapshot are applied to it. Out
of step it is emptied, which is a row R of table depth and an empty quote, both with Flag.STALE; why is
a row of table event; and `wanted` asks whoever runs the decoder for another snapshot.
"""

import enum
from collections import deque
from collections.abc import Callable

from tickplant._core.levels import Changes, Levels
from tickplant.feed.sink import Sink
from tickplant.schema import Flag

KEPT_MAX = 10_000
"""Changes kept while a snapshot is waited for;

Beyond it the oldest go, and the snapshot shows whether they matter.
"""


class Rule(enum.Enum):
    """How it is told that a change is missing."""

    NONE = "none"
    """The venue numbers nothing; a checksum may tell."""
    STEP = "each change begins one above the last"
    CHAIN = "each change names the one before"
    LATER = "each change tells its time"
    """Numbers are times: what the snapshot has is told, what is missing is not."""


class Book:
    """One instrument's levels. Numbers are the venue's own."""

    def __init__(self, levels: Levels, sink: Sink, code: int, name: str, rule: Rule) -> None:
        """`code`, `name`: of the instrument, in rows and in words."""
        self.levels, self.sink, self.code, self.name, self.rule = levels, sink, code, name, rule
        self.live = False
        self.seq = 0
        """Number of the last change, or of the snapshot."""
        self.wanted: Callable[[], None] = lambda: None
        """Called when a snapshot is needed."""
        self.gaps = 0
        self._kept: deque[tuple[Changes, int, int, int, int, int]] = deque(maxlen=KEPT_MAX)
        self._crossed = False

    def snapshot(self, changes: Changes, ts_event: int, ts_recv: int, seq: int = 0) -> None:
        """All levels as of number `seq`. Changes that were kept and come after it are applied."""
        self.levels.load(changes, ts_event, ts_recv, seq, Flag.SNAPSHOT)
        self.live, self.seq, self._crossed = True, seq, False
        kept, self._kept = self._kept, deque(maxlen=KEPT_MAX)
        first = True
        for each in kept:
            if self.live and not self._had(each[4]):
                self._apply(*each, joins=first)
                first = False

    def change(
        self, changes: Changes, ts_event: int, ts_recv: int, *, first: int = 0, last: int = 0, prev: int = 0
    ) -> None:
        """Levels that changed. `first`, `last`:

        The numbers it covers; `prev`: the one before (Rule.CHAIN).
        """
        if not self.live:
            if self.rule is not Rule.NONE:
                self._kept.append((changes.copy(), ts_event, ts_recv, first, last, prev))
            return
        if self._had(last):
            return  # the snapshot has it already, or it came twice
        self._apply(changes, ts_event, ts_recv, first, last, prev, joins=False)

    def _apply(
        self, changes: Changes, ts_event: int, ts_recv: int, first: int, last: int, prev: int, *, joins: bool
    ) -> None:
        if not self._follows(first, prev, joins):
            begins = prev + 1 if self.rule is Rule.CHAIN else first
            self.gap(
                ts_recv, f"{self.rule.value}: {begins} does not follow {self.seq}", self.seq + 1, begins - 1
            )
            self._kept.append((changes.copy(), ts_event, ts_recv, first, last, prev))
            return
        self.levels.change(changes, ts_event, ts_recv, last)
        self.seq = last
        if self.levels.crossed != self._crossed:
            self._crossed = not self._crossed
            if self._crossed:
                self.sink.event("crossed", ts_recv, f"best bid of {self.name} not below its best offer",
                                first=last, last=last, instrument=self.code, ts_event=ts_event)  # fmt: skip

    def _had(self, last: int) -> bool:
        """Is a change in the book already? Of two at the same time, both are applied: they set sizes."""
        if self.rule is Rule.LATER:
            return last < self.seq
        return self.rule is not Rule.NONE and last <= self.seq

    def _follows(self, first: int, prev: int, joins: bool) -> bool:
        """Is nothing missing before a change? The first after a snapshot may overlap it."""
        if self.rule is Rule.STEP:
            return first <= self.seq + 1 if joins else first == self.seq + 1
        if self.rule is Rule.CHAIN:
            return prev <= self.seq if joins else prev == self.seq
        return True

    def gap(self, ts_recv: int, cause: str, first: int = 0, last: int = 0) -> None:
        """It is out of step: empty it, say so and why, and ask for a snapshot.

        Nothing if it waits already.
        """
        if not self.live:
            return
        self.live = False
        self.gaps += 1
        self.levels.reset(0, ts_recv, self.seq, Flag.STALE)
        self.sink.event("gap", ts_recv, f"book of {self.name}: {cause}", first=first, last=max(first, last),
                        instrument=self.code)  # fmt: skip
        self.wanted()
