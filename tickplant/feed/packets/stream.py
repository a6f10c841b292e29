"""Numbered messages whose numbers begin with 1 in every session, from several lines (pure: no sockets,
no clock)."""

from collections import Counter, deque
from collections.abc import Hashable
from typing import Generic, NamedTuple

from tickplant.feed.packets.arbiter import HELD_MAX, WAIT_NS, Arbiter, Gap, Run, T

SESSIONS_MAX = 16
"""Sessions that ended and whose packets are still told from those of a new one."""


class Session(NamedTuple):
    """Another session has begun; `old` is None for the first."""

    old: Hashable
    new: Hashable


class Stream(Generic[T]):
    """The messages of one channel, put in order from all its lines and re-requests, session by
    session."""

    def __init__(self, start: int | None = None, *, wait_ns: int = WAIT_NS, held_max: int = HELD_MAX) -> None:
        """`start`: number of the first message that is wanted of the first session; None: of whichever
        comes first. Of every session that follows it is 1."""
        self.ignored: Counter[str] = Counter()
        """Packets and messages that say nothing: heartbeat, old session, duplicate, late, before the
        first."""
        self.session: Hashable = None
        self._wait_ns, self._held_max = wait_ns, held_max
        self._arbiter: Arbiter[T] = self._new(start)
        self._old: deque[Hashable] = deque(maxlen=SESSIONS_MAX)

    @property
    def next(self) -> int | None:
        """Number of the next message."""
        return self._arbiter.next

    def offer(
        self, session: Hashable, seq: int, size: int, item: T, ts_ns: int
    ) -> list[Run[T] | Gap | Session]:
        """A packet with `size` messages from number `seq` on, none: a heartbeat; what is to be done, in
        order."""
        steps: list[Run[T] | Gap | Session] = []
        if session != self.session:
            if session in self._old:
                self.ignored["old session"] += size or 1
                return []
            steps = self._begin(session)
        arbiter = self._arbiter
        if not size:
            self.ignored["heartbeat"] += 1
            steps += arbiter.heard(seq, ts_ns)
        elif arbiter.follows(seq, size):
            steps.append(Run(seq, size, 0, item))
        else:
            steps += arbiter.offer(seq, size, item, ts_ns)
            self._count()
        return steps

    def tick(self, now_ns: int) -> list[Run[T] | Gap | Session]:
        """What is to be done because it is `now_ns`."""
        return [*self._arbiter.tick(now_ns)]

    def missing(self) -> tuple[int, int] | None:
        """The first and last message that are waited for; they can be asked for again."""
        return self._arbiter.missing()

    def finish(self, cause: str) -> list[Run[T] | Gap | Session]:
        """What is to be done because nothing more comes."""
        steps = [*self._arbiter.finish(cause)]
        self._count()
        return [*steps]

    def _new(self, start: int | None) -> Arbiter[T]:
        return Arbiter(start, wait_ns=self._wait_ns, held_max=self._held_max)

    def _begin(self, session: Hashable) -> list[Run[T] | Gap | Session]:
        old = self.session
        steps: list[Run[T] | Gap | Session] = []
        if old is not None:
            steps += self.finish("the session ended")
            self._old.append(old)
            self._arbiter = self._new(1)
        self.session = session
        return [*steps, Session(old, session)]

    def _count(self) -> None:
        arbiter = self._arbiter
        self.ignored["duplicate"] += arbiter.duplicates
        self.ignored["late"] += arbiter.late
        self.ignored["before the first"] += arbiter.early
        arbiter.duplicates = arbiter.late = arbiter.early = 0
