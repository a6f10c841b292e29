"""One stream of numbered messages out of packets from several lines (pure: no sockets, no clock).

Venues send each packet on two multicast lines, A and B, and number the messages in it (MoldUDP64,
IEX-TP) or the packets themselves (CME: each is one message here). The first copy of a message is taken,
whichever line it is from. What is ahead of the next message waits, bounded, for the other line or for a
re-request to bring what is missing; when it has waited long enough, or too much waits, what is missing
is a gap for good.
"""

import heapq
from collections import deque
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

WAIT_NS = 100_000_000
HELD_MAX = 4096
"""Packets that wait behind a gap."""
GAPS_MAX = 64
"""Gaps that are remembered, to tell messages that come too late from duplicates."""


class Run(NamedTuple, Generic[T]):
    """A packet of `size` messages in its turn: deliver it without its first `skip`, which were there
    before."""

    seq: int
    size: int
    skip: int
    item: T


class Gap(NamedTuple):
    """Messages that never came: numbers `first` to `last`."""

    first: int
    last: int
    cause: str


class Arbiter(Generic[T]):
    """Puts the packets of one session in order."""

    def __init__(self, start: int | None = None, *, wait_ns: int = WAIT_NS, held_max: int = HELD_MAX) -> None:
        """`start`: number of the first message; None: of whichever comes first.

        A gap is waited for `wait_ns` since the packet behind it came or the last one before it, as told
        by the times that the methods are given.
        """
        self.next = start
        """Number of the next message in order; None: any."""
        self.duplicates = 0
        """Messages that had been there already."""
        self.late = 0
        """Messages of a gap that came after it was declared."""
        self.early = 0
        """Messages from before the first one that came."""
        self._wait_ns, self._held_max = wait_ns, held_max
        self._held: dict[int, tuple[int, T, int]] = {}
        self._order: list[int] = []
        self._first = start
        self._known = 0
        """Numbers below it exist: a heartbeat said so at `_known_ns`."""
        self._known_ns = 0
        self._moved_ns = 0
        self._gaps: deque[Gap] = deque(maxlen=GAPS_MAX)

    def follows(self, seq: int, count: int) -> bool:
        """Take a packet that is the next one, while none waits: the usual case. False: `offer` it."""
        if seq == self.next and not self._held:
            self.next = seq + count
            return True
        return False

    def offer(self, seq: int, count: int, item: T, now_ns: int) -> list[Run[T] | Gap]:
        """A packet with messages `seq` to `seq + count - 1`; what is to be delivered now, in order."""
        if self.next is None:
            self.next = self._first = seq
        if seq > self.next:
            return self._hold(seq, count, item, now_ns)
        if seq + count <= self.next:
            self._again(seq, count)
            return []
        self._moved_ns = now_ns
        return [self._run(seq, count, item), *self._released()]

    def heard(self, following: int, now_ns: int) -> list[Run[T] | Gap]:
        """A heartbeat, or the end of the session: the next message will be number `following`."""
        if self.next is None:
            self.next = self._first = following
        if following > max(self.next, self._known):
            if self._known <= self.next:
                self._known_ns = now_ns
            self._known = following
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> list[Run[T] | Gap]:
        """What is to be delivered because it is `now_ns`: gaps that were waited for long enough."""
        steps: list[Run[T] | Gap] = []
        while (since := self._since()) is not None and now_ns - since >= self._wait_ns:
            steps += self._give_up(f"not on any line within {self._wait_ns / 1e6:g} ms")
        return steps

    def missing(self) -> tuple[int, int] | None:
        """The first and last number of what has to come next, if something behind it is there."""
        end = self._order[0] if self._order else self._known
        return None if self.next is None or end <= self.next else (self.next, end - 1)

    def gave_up(self, seq: int) -> bool:
        """Whether a message is in a gap that was told."""
        return any(gap.first <= seq <= gap.last for gap in self._gaps)

    def finish(self, cause: str) -> list[Run[T] | Gap]:
        """What is to be delivered because nothing more comes."""
        steps: list[Run[T] | Gap] = []
        while self.missing():
            steps += self._give_up(cause)
        return steps

    def _hold(self, seq: int, count: int, item: T, now_ns: int) -> list[Run[T] | Gap]:
        there = self._held.get(seq)
        if there is None:
            heapq.heappush(self._order, seq)
        elif there[0] >= count:
            self.duplicates += count
            return self.tick(now_ns)
        else:
            self.duplicates += there[0]
        self._held[seq] = (count, item, there[2] if there else now_ns)
        if len(self._held) > self._held_max:
            return self._give_up(f"{self._held_max} packets wait behind it")
        return self.tick(now_ns)

    def _since(self) -> int | None:
        """Since when the next message is waited for."""
        if not self.missing():
            return None
        came = self._held[self._order[0]][2] if self._order else self._known_ns
        return max(came, self._moved_ns)

    def _give_up(self, cause: str) -> list[Run[T] | Gap]:
        first, last = self.missing() or (0, -1)
        gap = Gap(first, last, cause)
        self._gaps.append(gap)
        self.next = last + 1
        return [gap, *self._released()]

    def _released(self) -> list[Run[T] | Gap]:
        """The packets that waited for those before them, which are there now."""
        steps: list[Run[T] | Gap] = []
        while self._order and self.next is not None and self._order[0] <= self.next:
            seq = heapq.heappop(self._order)
            count, item, _ = self._held.pop(seq)
            if seq + count <= self.next:
                self._again(seq, count)
            else:
                steps.append(self._run(seq, count, item))
        return steps

    def _run(self, seq: int, count: int, item: T) -> Run[T]:
        skip = (self.next or seq) - seq
        if skip:
            self._again(seq, skip)
        self.next = seq + count
        return Run(seq, count, skip, item)

    def _again(self, seq: int, count: int) -> None:
        late = sum(max(0, min(seq + count - 1, g.last) - max(seq, g.first) + 1) for g in self._gaps)
        early = max(0, min(seq + count, self._first or 0) - seq)
        self.late += late
        self.early += early
        self.duplicates += count - late - early
