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
KEPT_LEVELS_MAX = 200_000
"""Changes, and levels in them, kept while a snapshot is waited for (5 MB);

Beyond it the oldest go, and the snapshot shows whether they matter.
"""


class Rule(enum.Enum):
    """How it is told that a change is missing."""

    NONE = "none"
    """The venue numbers nothing; a checksum may tell."""
    STEP = "each change begins one above the last"
    CHAIN = "each change names the one before"
    LATER = "each change is later than the last"
    """The numbers are times: what the snapshot has is told by them, a hole is not."""


def _steps(seq: int, first: int, last: int, prev: int) -> bool:
    return first <= seq + 1 and last > seq


def _chains(seq: int, first: int, last: int, prev: int) -> bool:
    return (
        prev == seq or prev < seq < last
    )  # numbers may start again, if the one before is named all the same


def _is_later(seq: int, first: int, last: int, prev: int) -> bool:
    return last >= seq  # of two at one time both are applied: they set sizes


def _any(seq: int, first: int, last: int, prev: int) -> bool:
    return True


FOLLOWS = {Rule.NONE: _any, Rule.STEP: _steps, Rule.CHAIN: _chains, Rule.LATER: _is_later}
"""Is nothing missing between number `seq` and a change, and it new? It may overlap what a snapshot has."""


class Book:
    """One instrument's levels. Numbers are the venue's own."""

    def __init__(self, levels: Levels, sink: Sink, code: int, name: str, rule: Rule, conn: str = "") -> None:
        """`code`, `name`: of the instrument, in rows and in words; `conn`: what its changes come over."""
        self.levels, self.sink, self.code, self.name = levels, sink, code, name
        self.follow(rule)
        self.conn = conn
        self.live = False
        self.seq = 0
        """Number of the last change, or of the snapshot."""
        self.wanted: Callable[[], None] = lambda: None
        """Called when a snapshot is needed."""
        self.gaps = 0
        self._kept: deque[tuple[Changes, int, int, int, int, int]] = deque()
        self._kept_levels = 0
        self._crossed = False

    def follow(self, rule: Rule) -> None:
        """How a missing change is told from now on."""
        self.rule, self._follows = rule, FOLLOWS[rule]

    def snapshot(
        self, changes: Changes, ts_event: int, ts_recv: int, seq: int = 0, *, in_order: bool = False
    ) -> None:
        """All levels as of number `seq`. Changes that were kept and come after it are applied.

        `in_order`: it has its place among the changes, so that what came before it is in it, whatever
        the numbers are: a venue may begin to count anew with it.
        """
        crossed = self.levels.load(changes, ts_event, ts_recv, seq, Flag.SNAPSHOT)
        self.live, self.seq, self._crossed = True, seq, False
        if crossed:
            self._tell_crossed(ts_event, ts_recv)
        kept, self._kept, self._kept_levels = self._kept, deque(), 0
        for changes, at, came, first, last, prev in () if in_order else kept:
            self.change(changes, at, came, first=first, last=last, prev=prev)

    def change(
        self, changes: Changes, ts_event: int, ts_recv: int, *, first: int = 0, last: int = 0, prev: int = 0
    ) -> None:
        """Levels that changed. `first`, `last`:

        The numbers it covers; `prev`: the one before (Rule.CHAIN).
        """
        if not self.live:
            self._keep(changes, ts_event, ts_recv, first, last, prev)
        elif self._follows(self.seq, first, last, prev):
            crossed = self.levels.change(changes, ts_event, ts_recv, last)
            self.seq = last
            if crossed is not self._crossed:
                self._tell_crossed(ts_event, ts_recv)
        elif last > self.seq:  # else the snapshot has it already, or it came twice
            begins = prev + 1 if self.rule is Rule.CHAIN else first
            cause = f"{self.rule.value}: {begins} does not follow {self.seq}"
            self.gap(ts_recv, cause, self.seq + 1, begins - 1)
            self._keep(changes, ts_event, ts_recv, first, last, prev)

    def _keep(self, changes: Changes, *numbers: int) -> None:
        if self.rule is Rule.NONE:
            return  # nothing would tell whether the snapshot has them
        ts_event, ts_recv, first, last, prev = numbers
        self._kept.append((changes.copy(), ts_event, ts_recv, first, last, prev))
        self._kept_levels += len(changes)
        while len(self._kept) > KEPT_MAX or self._kept_levels > KEPT_LEVELS_MAX:
            self._kept_levels -= len(self._kept.popleft()[0])

    def _tell_crossed(self, ts_event: int, ts_recv: int) -> None:
        self._crossed = not self._crossed
        if self._crossed:
            self.sink.event("crossed", ts_recv, f"best bid of {self.name} not below its best offer",
                            first=self.seq, last=self.seq, instrument=self.code,
                            ts_event=ts_event)  # fmt: skip

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
