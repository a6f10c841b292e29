"""Numbered messages of one channel, from several lines, and its restarts (pure: no sockets, no clock).

Numbers begin with 1 in every session. Where the protocol has no sessions, or a venue begins anew within one,
`restarts` finds it out."""

from collections import Counter, deque
from collections.abc import Hashable
from typing import Generic, NamedTuple

from tickplant.feed.packets.arbiter import HELD_MAX, WAIT_NS, Arbiter, Gap, Run, T
from tickplant.feed.packets.restarts import LEAST, NOTHING, Restarts, Told, Verdict

SESSIONS_MAX = 16
"""Sessions that ended and whose packets are still told from those of a new one."""
NEAR_ONE = 64
"""Numbers that begin anew begin with 1, if the first that comes is not above this; else anywhere."""


class Session(NamedTuple):
    """Another session has begun; `old` is None for the first."""

    old: Hashable
    new: Hashable


class Anew(NamedTuple):
    """The numbers began anew: `seq` follows `last`; 0: the next one is not known yet."""

    last: int
    seq: int

    def __str__(self) -> str:
        began = "the numbers begin anew"
        return f"{self.seq} follows {self.last}: {began}" if self.seq else began


class _Kept(NamedTuple, Generic[T]):
    """A packet that may be of a restart."""

    seq: int
    size: int
    item: T
    ts_ns: int
    told: Told


class Stream(Generic[T]):
    """The messages of one channel, put in order from all its lines and re-requests, session by
    session."""

    def __init__(self, start: int | None = None, *, wait_ns: int = WAIT_NS, held_max: int = HELD_MAX) -> None:
        """`start`: number of the first message that is wanted of the first session; None: of whichever
        comes first. Of every session that follows it is 1."""
        self.ignored: Counter[str] = Counter()
        """Packets and messages that say nothing: heartbeat, old session, old numbers (from before a restart),
        duplicate, late, before the first."""
        self.session: Hashable = None
        self._wait_ns, self._held_max = wait_ns, held_max
        self._arbiter: Arbiter[T] = self._new(start)
        self._restarts = Restarts()
        self._kept: list[_Kept[T]] = []
        self._old: deque[Hashable] = deque(maxlen=SESSIONS_MAX)

    @property
    def next(self) -> int | None:
        """Number of the next message."""
        return self._arbiter.next

    def offer(
        self, session: Hashable, seq: int, size: int, item: T, ts_ns: int, told: Told = NOTHING
    ) -> list[Run[T] | Gap | Session | Anew]:
        """A packet with `size` messages from number `seq` on, none: a heartbeat; what is to be done, in
        order."""
        arbiter = self._arbiter
        if (
            size and seq == arbiter.next and session == self.session
            and self._restarts.usual(seq, size, told) and arbiter.follows(seq, size)
        ):  # fmt: skip
            return [Run(seq, size, 0, item)]
        steps: list[Run[T] | Gap | Session | Anew] = []
        if session != self.session:
            if session in self._old:
                self.ignored["old session"] += size or 1
                return []
            steps = self._begin(session)
        if not size:
            return [*steps, *self._heartbeat(seq, ts_ns, told)]
        return [*steps, *self._judged(_Kept(seq, size, item, ts_ns, told))]

    def anew(self, told: Told = NOTHING) -> list[Run[T] | Gap | Session | Anew]:
        """The protocol says that the numbers begin anew, in the packet of which is `told`."""
        steps = self._anew([], told.sent_ns)
        self._restarts.join(0, 0, told._replace(mark=None))
        return steps

    def tick(self, now_ns: int) -> list[Run[T] | Gap | Session | Anew]:
        """What is to be done because it is `now_ns`."""
        return [*self._arbiter.tick(now_ns)]

    def missing(self) -> tuple[int, int] | None:
        """The first and last message that are waited for; they can be asked for again."""
        return self._arbiter.missing()

    def finish(self, cause: str) -> list[Run[T] | Gap | Session | Anew]:
        """What is to be done because nothing more comes."""
        steps: list[Run[T] | Gap | Session | Anew] = []
        lines = Counter(kept.told.line for kept in self._kept)
        if lines and max(lines.values()) >= LEAST:
            steps += self._anew(self._kept, 0)
        steps += self._released()
        return [*steps, *self._end(cause)]

    def _judged(self, packet: _Kept[T]) -> list[Run[T] | Gap | Session | Anew]:
        seq, size, item, ts_ns, told = packet
        arbiter = self._arbiter
        gave_up = arbiter.gave_up(seq)
        verdict = self._restarts.judge(seq, size, told, arbiter.next, gave_up)
        if verdict is Verdict.OLD:
            self.ignored["old numbers"] += size
            lost = self._restarts.lost(seq, size)
            return [Gap(*lost, "came after the numbers had begun anew")] if lost else []
        if verdict is Verdict.KEEP:
            self._kept.append(packet)
            return []
        if verdict is Verdict.ANEW:
            later = self._restarts.is_later(told)
            return self._anew([*self._kept, packet], told.sent_ns if later else 0)
        steps: list[Run[T] | Gap | Session | Anew] = []
        if self._kept and seq >= (arbiter.next or 0):
            steps += self._released(told.line)
        steps += arbiter.offer(seq, size, item, ts_ns)
        self._count()
        return steps

    def _heartbeat(self, seq: int, ts_ns: int, told: Told) -> list[Run[T] | Gap | Session | Anew]:
        self.ignored["heartbeat"] += 1
        following = self._arbiter.next
        if following is not None and self._restarts.is_old(seq, 0, told, following):
            return []
        return [*self._arbiter.heard(seq, ts_ns)]

    def _anew(self, packets: list[_Kept[T]], sent_ns: int) -> list[Run[T] | Gap | Session | Anew]:
        self._kept = []
        steps = self._end("the numbers began anew")
        following = self._arbiter.next
        self._restarts.begin(following, sent_ns)
        first = min((packet.seq for packet in packets), default=0)
        self._arbiter = self._new(1 if packets and first <= NEAR_ONE else None)
        steps.append(Anew((following or 1) - 1, first))
        for packet in packets:
            self._restarts.join(packet.seq, packet.size, packet.told)
            steps += self._arbiter.offer(packet.seq, packet.size, packet.item, packet.ts_ns)
        self._count()
        return steps

    def _released(self, line: Hashable = None) -> list[Run[T] | Gap | Session | Anew]:
        """Packets that were kept (on one line, or all) are no restart: they are copies, late or early."""
        steps: list[Run[T] | Gap | Session | Anew] = []
        for packet in self._kept:
            if line is None or packet.told.line == line:
                steps += self._arbiter.offer(packet.seq, packet.size, packet.item, packet.ts_ns)
        self._kept = [packet for packet in self._kept if line is not None and packet.told.line != line]
        self._count()
        return steps

    def _end(self, cause: str) -> list[Run[T] | Gap | Session | Anew]:
        steps = [*self._arbiter.finish(cause)]
        self._count()
        return [*steps]

    def _new(self, start: int | None) -> Arbiter[T]:
        return Arbiter(start, wait_ns=self._wait_ns, held_max=self._held_max)

    def _begin(self, session: Hashable) -> list[Run[T] | Gap | Session | Anew]:
        old = self.session
        steps: list[Run[T] | Gap | Session | Anew] = []
        if old is not None:
            steps += self.finish("the session ended")
            self._old.append(old)
            self._arbiter = self._new(1)
            self._restarts = Restarts()
        self.session = session
        return [*steps, Session(old, session)]

    def _count(self) -> None:
        arbiter = self._arbiter
        self.ignored["duplicate"] += arbiter.duplicates
        self.ignored["late"] += arbiter.late
        self.ignored["before the first"] += arbiter.early
        arbiter.duplicates = arbiter.late = arbiter.early = 0
