"""An instrument's book as a venue's snapshots and changes make it: in step, or stale until it is again.

    WAITING ──snapshot──► LIVE ──gap, checksum, disconnection──► WAITING

While it waits, changes are kept, bounded, and those that come after the snapshot are applied to it. Out
of step it is emptied, which is a row R of table depth and an empty quote, both with Flag.STALE; where the
venue tells single orders, a row R of table order as well: all orders of the instrument are gone. Why is a
row of table event; and `wanted` asks whoever runs the decoder for another snapshot, and does so again,
bounded, if none comes.
"""

import enum
from collections import deque
from collections.abc import Callable

from tickplant._core.changes import ASK, BID, Changes
from tickplant._core.levels import Levels
from tickplant.feed.sink import Sink
from tickplant.schema import Flag

KEPT_MAX = 10_000
KEPT_LEVELS_MAX = 200_000
"""Changes, and levels in them, kept while a snapshot is waited for (5 MB);

Beyond it the oldest go, and the snapshot shows whether they matter.
"""
ASKS_MAX = 8
PAUSE_NS, UNREADABLE_NS, PAUSE_MAX_NS = 10_000_000_000, 1_000_000_000, 300_000_000_000
"""A snapshot that does not come is asked for again so many times: after PAUSE_NS with changes but without it,
or at a message that could not be read and UNREADABLE_NS, each time twice as long."""
STANDS_NS = 60_000_000_000
"""A book that was in step for so long is asked for anew as if it had never failed."""
SEEN_MAX, AGAIN_MAX = 64, 16
"""Changes by whose numbers one that comes twice is known, and how many may do so in a row:

more are numbers that begin again.
"""
JOIN_NS = 10_000_000_000
"""So long after a snapshot changes may come that it has already."""
GIVEN_UP_NS = 1_800_000_000_000
"""A book that was given up is asked for once more after so long."""


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


def _overlaps(seq: int, first: int, last: int, prev: int) -> bool:
    return prev == seq or prev < seq < last


def _chains(seq: int, first: int, last: int, prev: int) -> bool:
    return prev == seq  # numbers may start again, if the one before is named all the same


def _is_later(seq: int, first: int, last: int, prev: int) -> bool:
    return last >= seq  # of two at one time both are applied: they set sizes


def _any(seq: int, first: int, last: int, prev: int) -> bool:
    return True


FOLLOWS = {Rule.NONE: _any, Rule.STEP: _steps, Rule.CHAIN: _chains, Rule.LATER: _is_later}
"""Is nothing missing between number `seq` and a change, and it new?"""
JOINS = FOLLOWS | {Rule.CHAIN: _overlaps}
"""The same of the first change after a snapshot, which may have some of it."""


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
        self.by_order = False
        """Are its orders rows, too?"""
        self.levels_max = 0
        """Levels that are kept of each side; 0: all."""
        self.given_up = False
        """Was it asked for in vain so often that it is not any more, until its connection stands anew?"""
        self._asks = self._asked_ns = self._stands_ns = 0
        self._joined = False
        """Has a change followed the snapshot, so that each number is above the last from now on?"""
        self._seen: deque[tuple[int, int]] = deque(maxlen=SEEN_MAX)
        self._again = 0
        self._unverified = False
        self._kept: deque[tuple[Changes, int, int, int, int, int]] = deque()
        self._kept_levels = 0
        self._crossed = False

    def follow(self, rule: Rule) -> None:
        """How a missing change is told from now on."""
        self.rule, self._follows, self._joins = rule, FOLLOWS[rule], JOINS[rule]

    def snapshot(
        self, changes: Changes, ts_event: int, ts_recv: int, seq: int = 0, *, in_order: bool = False
    ) -> None:
        """All levels as of number `seq`. Changes that were kept and come after it are applied.

        `in_order`: it has its place among the changes, so that what came before it is in it, whatever
        the numbers are: a venue may begin to count anew with it.
        """
        crossed = self.levels.load(changes, ts_event, ts_recv, seq, Flag.SNAPSHOT)
        self.live, self.seq, self._crossed = True, seq, False
        self._joined, self._again = in_order, 0
        self._asked_ns, self._stands_ns = 0, ts_recv
        if crossed:
            self._tell_crossed(ts_event, ts_recv)
        kept, self._kept, self._kept_levels = self._kept, deque(), 0
        if kept:
            self._stands_ns = max(ts_recv, kept[-1][2])
        for changes, at, came, first, last, prev in () if in_order else kept:
            self.change(changes, at, came, first=first, last=last, prev=prev)

    def change(
        self, changes: Changes, ts_event: int, ts_recv: int, *, first: int = 0, last: int = 0, prev: int = 0
    ) -> None:
        """Levels that changed. `first`, `last`:

        The numbers it covers; `prev`: the one before (Rule.CHAIN).
        """
        if not self.live:
            self._remind(ts_recv, PAUSE_NS)
            self._keep(changes, ts_event, ts_recv, first, last, prev)
        elif (self._follows if self._joined else self._joins)(self.seq, first, last, prev):
            crossed = self.levels.change(changes, ts_event, ts_recv, last)
            self.seq, self._joined, self._again = last, True, 0
            self._seen.append((last, prev))
            if crossed is not self._crossed:
                self._tell_crossed(ts_event, ts_recv)
        elif last > self.seq:  # else the snapshot has it already, or it came twice
            begins = prev + 1 if self.rule is Rule.CHAIN else first
            cause = f"{self.rule.value}: {begins} does not follow {self.seq}"
            self.gap(ts_recv, cause, self.seq + 1, begins - 1)
            self._keep(changes, ts_event, ts_recv, first, last, prev)
        elif self._went_back(last, prev, ts_recv):
            self.gap(ts_recv, f"{self.rule.value}: {last} comes behind {self.seq}", last, last)
            self._keep(changes, ts_event, ts_recv, first, last, prev)

    def waits_for(self, seq: int) -> bool:
        """Does it wait for a snapshot, and are the changes that it keeps around this number?"""
        return not self.live and bool(self._kept) and self._kept[0][3] - 1 <= seq <= self._kept[-1][4]

    def _went_back(self, last: int, prev: int, ts_recv: int) -> bool:
        """Is a change of a number that is not above the last more than one that came twice?

        Before a first change has followed the snapshot, the snapshot may have it already: for some seconds.
        """
        if not self._joined:
            self._seen.append((last, prev))
            return ts_recv - self._stands_ns > JOIN_NS
        self._again += 1
        return (last, prev) not in self._seen or self._again > AGAIN_MAX

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

        If it waits already, only what is asked for may be asked for again: it may be what was lost.
        """
        if not self.live:
            self._remind(ts_recv, UNREADABLE_NS)
            return
        if ts_recv - self._stands_ns >= STANDS_NS:
            self.renew()
        self.live = False
        self.gaps += 1
        self.levels.reset(0, ts_recv, self.seq, Flag.STALE)
        if self.by_order:
            self.sink.add("order", 0, ts_recv, instrument=self.code, venue_seq=self.seq, action="R",
                          flags=int(Flag.STALE))  # fmt: skip
        self.sink.event("gap", ts_recv, f"book of {self.name}: {cause}", first=first, last=max(first, last),
                        instrument=self.code)  # fmt: skip
        self._ask(ts_recv)

    def move(self, levels: Levels, code: int, ts_recv: int) -> None:
        """Its instrument has another code from now on: nothing is left under the old one.

        `levels`: empty ones, of the new code; they get what is in the book.
        """
        if self.by_order:  # of its orders, only a snapshot can make rows again
            self.gap(ts_recv, "its instrument has another name")
        old, self.levels, self.code = self.levels, levels, code
        if not self.live:
            return
        changes = Changes()
        for half in (BID, ASK):
            most = old.count(half)
            texts, tops = old.texts(half, most), old.top(half, most)
            for (price, size), (_, _, orders) in zip(texts, tops, strict=True):
                changes.add(half, price, size, orders)
        old.reset(0, ts_recv, self.seq, Flag.STALE)
        levels.load(changes, 0, ts_recv, self.seq, Flag.SNAPSHOT)

    def verified(self, holds: bool | None, told: int, ts_recv: int) -> None:
        """It was compared with the venue's checksum; None: which could not be made: an event, once."""
        if holds is False and self.live:
            self.gap(ts_recv, f"its checksum is not {told}", self.seq, self.seq)
        elif holds is None and not self._unverified:
            text = f"book of {self.name}: a number has more digits than a float64 keeps for its checksum"
            self.sink.event("unverified", ts_recv, text, instrument=self.code)
        self._unverified = holds is None

    def renew(self) -> None:
        """It stood for long, or its connection is made anew: what was asked for before does not count."""
        self._asks, self.given_up = 0, False

    def is_given_up(self, ts_recv: int) -> bool:
        """Was it given up, and has it not stood for long since?"""
        return self.given_up and not (self.live and ts_recv - self._stands_ns >= STANDS_NS)

    def _ask(self, ts_recv: int) -> None:
        """Ask for a snapshot, or give up: it was asked for so often, and never stood."""
        if self._asks < (1 if self.given_up else ASKS_MAX):
            self._asks, self._asked_ns = self._asks + 1, ts_recv
            self.wanted()
        elif not self.given_up:
            self.given_up, self._asked_ns = True, ts_recv
            text = f"book of {self.name}: asked for {self._asks} times, never in step; not asked for any more"
            self.sink.event("unanswered", ts_recv, text, instrument=self.code)

    def _remind(self, ts_recv: int, pause_ns: int) -> None:
        """It waits for a snapshot; has it for so long that another one is asked for?"""
        if not self._asked_ns:  # the first one is asked for with the subscription
            self._asked_ns = ts_recv
        elif self.given_up:
            if ts_recv - self._asked_ns > GIVEN_UP_NS:
                self._asks = 0
                self._ask(ts_recv)
        elif ts_recv - self._asked_ns > min(pause_ns << self._asks, PAUSE_MAX_NS):
            self._ask(ts_recv)
