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
from collections.abc import Hashable
from typing import NamedTuple

from tickplant._core.itch import blocks_end
from tickplant.feed.packets.arbiter import HELD_MAX, WAIT_NS, Gap, Run
from tickplant.feed.packets.restarts import NOTHING, Told
from tickplant.feed.packets.stream import Anew, Session, Stream

HEADER = struct.Struct(">10sQH")
END_OF_SESSION = 0xFFFF
REQUEST_MAX = 0xFFFE
SEQ_MAX = 1 << 62


class Packet(NamedTuple):
    """One downstream packet; `filled`: it was asked for again."""

    payload: bytes
    ts_ns: int
    filled: bool = False


class Refused(NamedTuple):
    """A packet that is not MoldUDP64."""

    text: str


Step = Run[Packet] | Gap | Session | Anew | Refused


def request(session: bytes, first: int, count: int) -> bytes:
    """A request packet for `count` messages from number `first`, at most 65,534."""
    return HEADER.pack(session, first, min(count, REQUEST_MAX))


def messages(run: Run[Packet]) -> bytes:
    """The blocks of a packet that are to be delivered, as they would be in a BinaryFILE."""
    payload = run.item.payload
    return payload[blocks_end(payload, HEADER.size, run.skip) if run.skip else HEADER.size :]


class MoldStream(Stream[Packet]):
    """The messages of a MoldUDP64 channel, put in order from all its lines and re-requests."""

    def __init__(
        self, start: int | None = None, *, wait_ns: int = WAIT_NS, held_max: int = HELD_MAX,
        unnumbered: bool = False,
    ) -> None:  # fmt: skip
        """As of Stream. `unnumbered`: packets numbered 0 are taken as they come, else they are
        malformed."""
        super().__init__(start, wait_ns=wait_ns, held_max=held_max)
        self.ended: bytes | None = None
        """The session that was said to be over."""
        self._unnumbered = unnumbered

    def packet(self, payload: bytes, ts_ns: int, filled: bool = False, line: Hashable = None) -> list[Step]:
        """A packet that came at `ts_ns` on a line; what is to be done now, in order."""
        if len(payload) < HEADER.size:
            return [Refused(f"a MoldUDP64 packet of {len(payload)} bytes")]
        session, seq, count = HEADER.unpack_from(payload)
        if count == END_OF_SESSION:
            self.ended, count = session, 0
        if seq > SEQ_MAX or not (seq or self._unnumbered or not count):
            return [Refused(f"a MoldUDP64 packet with sequence number {seq}")]
        if count and blocks_end(payload, HEADER.size, count) != len(payload):
            return [Refused(f"a MoldUDP64 packet of {len(payload)} bytes is not {count} messages")]
        item = Packet(payload, ts_ns, filled)
        if seq or not count:
            told = NOTHING if filled else Told(line, 0, hash(payload))
            return [*self.offer(session, seq, count, item, ts_ns, told)]
        steps: list[Step] = [] if session == self.session else [*self._begin(session)]
        return [*steps, Run(seq, count, 0, item)]
