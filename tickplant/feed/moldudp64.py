"""MoldUDP64 (Nasdaq, version 1.00): numbered messages in UDP packets (pure). All numbers are big-endian.

    downstream packet   session (10)  sequence number (8)  message count (2), then for each message
                        its length (2) and its bytes
    heartbeat           count 0: the sequence number is that of the next message
    end of session      count 0xFFFF: likewise, and there will be no more
    request packet      session (10)  first sequence number (8)  messages asked for (2)

The blocks of a packet, one after the other, are framed as messages in a BinaryFILE are. A packet whose
blocks are not as many as its count says is malformed and, unless the other line has it whole, its
messages are a gap.

Numbers begin with 1. Packets numbered 0 are from captures in which session and number were blanked
before they were published: nothing is known of their order, so each is taken as it comes, where that is
allowed.
"""

import struct
from collections import Counter, deque
from typing import NamedTuple

from tickplant._core.itch import blocks_end
from tickplant.feed.arbiter import HELD_MAX, WAIT_NS, Arbiter, Gap, Run

HEADER = struct.Struct(">10sQH")
END_OF_SESSION = 0xFFFF
REQUEST_MAX = 0xFFFE
SEQ_MAX = 1 << 62
SESSIONS_MAX = 16
"""Sessions that ended and whose packets are still told from those of a new one."""


class Packet(NamedTuple):
    """One downstream packet; `filled`: it was asked for again."""

    payload: bytes
    ts_ns: int
    filled: bool = False


class Session(NamedTuple):
    """Another session has begun; `old` is None for the first."""

    old: bytes | None
    new: bytes


class Refused(NamedTuple):
    """A packet that is not MoldUDP64."""

    text: str


Step = Run[Packet] | Gap | Session | Refused


def request(session: bytes, first: int, count: int) -> bytes:
    """A request packet for `count` messages from number `first`, at most 65,534."""
    return HEADER.pack(session, first, min(count, REQUEST_MAX))


def messages(run: Run[Packet]) -> bytes:
    """The blocks of a packet that are to be delivered, as they would be in a BinaryFILE."""
    payload = run.item.payload
    return payload[blocks_end(payload, HEADER.size, run.skip) if run.skip else HEADER.size :]


class Stream:
    """The messages of a MoldUDP64 channel, put in order from all its lines and re-requests."""

    def __init__(
        self, start: int | None = None, *, wait_ns: int = WAIT_NS, held_max: int = HELD_MAX,
        unnumbered: bool = False,
    ) -> None:  # fmt: skip
        """`start`: number of the first message that is wanted of the first session; None: of whichever
        comes first. Of every session that follows it is 1. `unnumbered`: packets numbered 0 are taken as
        they come, else they are malformed."""
        self.ignored: Counter[str] = Counter()
        """Packets and messages that say nothing: heartbeat, end of session, old session, duplicate,
        late."""
        self.session: bytes | None = None
        self.ended = False
        """The session has been said to be over."""
        self._wait_ns, self._held_max, self._unnumbered = wait_ns, held_max, unnumbered
        self._arbiter: Arbiter[Packet] = self._new(start)
        self._old: deque[bytes] = deque(maxlen=SESSIONS_MAX)

    @property
    def next(self) -> int | None:
        """Number of the next message."""
        return self._arbiter.next

    def packet(self, payload: bytes, ts_ns: int, filled: bool = False) -> list[Step]:
        """A packet that came at `ts_ns`; what is to be done now, in order."""
        if len(payload) < HEADER.size:
            return [Refused(f"a MoldUDP64 packet of {len(payload)} bytes")]
        session, seq, count = HEADER.unpack_from(payload)
        quiet = count in (0, END_OF_SESSION)
        if seq > SEQ_MAX or not (seq or quiet or self._unnumbered):
            return [Refused(f"a MoldUDP64 packet with sequence number {seq}")]
        if not quiet and blocks_end(payload, HEADER.size, count) != len(payload):
            return [Refused(f"a MoldUDP64 packet of {len(payload)} bytes is not {count} messages")]
        steps: list[Step] = []
        if session != self.session:
            if session in self._old:
                self.ignored["old session"] += 1 if quiet else count
                return []
            steps = self._begin(session)
        arbiter = self._arbiter
        if quiet:
            self.ended = self.ended or count == END_OF_SESSION
            self.ignored["end of session" if count else "heartbeat"] += 1
            return [*steps, *arbiter.heard(seq, ts_ns)]
        item = Packet(payload, ts_ns, filled)
        if arbiter.follows(seq, count) or not seq:
            steps.append(Run(seq, count, 0, item))
        else:
            steps += arbiter.offer(seq, count, item, ts_ns)
            self._count()
        return steps

    def tick(self, now_ns: int) -> list[Step]:
        """What is to be done because it is `now_ns`."""
        return [*self._arbiter.tick(now_ns)]

    def missing(self) -> tuple[int, int] | None:
        """The first and last message that are waited for; they can be asked for again."""
        return self._arbiter.missing()

    def finish(self, cause: str) -> list[Step]:
        """What is to be done because nothing more comes."""
        steps: list[Step] = [*self._arbiter.finish(cause)]
        self._count()
        return steps

    def _new(self, start: int | None) -> Arbiter[Packet]:
        return Arbiter(start, wait_ns=self._wait_ns, held_max=self._held_max)

    def _begin(self, session: bytes) -> list[Step]:
        old, steps = self.session, list[Step]()
        if old is not None:
            steps += self.finish("the session ended")
            self._old.append(old)
            self._arbiter = self._new(1)
        self.session, self.ended = session, False
        return [*steps, Session(old, session)]

    def _count(self) -> None:
        arbiter = self._arbiter
        for name in ("duplicates", "late"):
            if count := getattr(arbiter, name):
                self.ignored[name.removesuffix("s")] += count
                setattr(arbiter, name, 0)
