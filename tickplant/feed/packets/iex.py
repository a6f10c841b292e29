"""IEX TOPS, DEEP and DEEP+ over IEX-TP, from a capture of packets; the messages' rows are told in
`iex_rows`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tickplant.feed.capture import Head
from tickplant.feed.packets.arbiter import Gap, Run
from tickplant.feed.packets.capture import PacketCapture, check_venue, every_payload
from tickplant.feed.packets.datagram import Endpoint
from tickplant.feed.packets.decoder import PacketDecoder
from tickplant.feed.packets.iex_rows import IexRows
from tickplant.feed.packets.iextp import HEADER, PROTOCOLS, segment
from tickplant.feed.packets.restarts import Told
from tickplant.feed.packets.stream import Anew, Session, Stream

STREAMS_MAX = 256


class Packet(NamedTuple):
    """The messages of a segment, and when it came."""

    messages: list[bytes]
    ts_ns: int


class IexFeeds(PacketDecoder[IexRows]):
    """Segments in, rows out (pure). Each protocol's channel is a stream of its own."""

    def __init__(self, venue: str) -> None:
        super().__init__(IexRows(venue))
        self._streams: dict[tuple[int, int], Stream[Packet]] = {}

    @property
    def ignored(self) -> Counter[str]:
        """Heartbeats, and messages that had been there already."""
        return sum((s.ignored for s in self._streams.values()), super().ignored)

    def packet(self, payload: bytes, ts_ns: int, destination: Endpoint, line: Endpoint | None = None) -> None:
        """A datagram that came at `ts_ns`, on whichever line."""
        self._ts_ns = ts_ns
        try:
            found = segment(payload)
        except ValueError as e:
            self.rows.refuse(str(e), 0, ts_ns)
            return
        key = (found.protocol, found.channel)
        stream = self._streams.get(key)
        if stream is None:
            if found.protocol not in PROTOCOLS or len(self._streams) >= STREAMS_MAX:
                text = f"an IEX-TP segment of protocol {found.protocol:#x}, channel {found.channel}"
                self.rows.refuse(text, found.seq, ts_ns)
                return
            stream = self._streams[key] = Stream()
        item = Packet(found.messages, ts_ns)
        told = Told(line or destination, found.sent_ns)  # within a session numbers begin anew by time only
        self._do(stream.offer(found.session, found.seq, len(found.messages), item, ts_ns, told))

    def finish(self, cause: str) -> None:
        """Nothing more comes."""
        for stream in self._streams.values():
            self._do(stream.finish(cause))

    def _do(self, steps: Sequence[Run[Packet] | Gap | Session | Anew]) -> None:
        for step in steps:
            if isinstance(step, Run):
                messages, ts_ns = step.item
                for at in range(step.skip, len(messages)):
                    self.rows.message(messages[at], step.seq + at, ts_ns)
            elif isinstance(step, Gap):
                self._say("gap", step.cause, step.first, step.last)
            elif isinstance(step, Anew):
                self._say("session", f"message {step}", step.seq, step.seq)
            elif step.old is not None:
                self._say("session", f"session {step.new} follows {step.old}")


class IexTp(PacketCapture):
    """A capture of packets with IEX TOPS, DEEP or DEEP+ over IEX-TP.

    `venue` is the MIC in the instrument rows; `to` the addresses (IP:PORT) of the lines to read, by
    default all.
    """

    format = "iex-tp"

    @staticmethod
    def sniff(head: Head) -> bool:
        """Whether the first packets are IEX-TP with a protocol that we know."""
        return every_payload(head, is_iextp)

    def __init__(self, path: Path, *, venue: str = "IEXG", to: list[str] | None = None) -> None:
        check_venue(venue)
        super().__init__(path, to, IexFeeds(venue))


def is_iextp(payload: bytes) -> bool:
    """Whether a payload has the header of an IEX-TP segment with a protocol that we know."""
    if len(payload) < HEADER.size:
        return False
    version, protocol, _, _, length, *_ = HEADER.unpack_from(payload)
    return version == 1 and protocol in PROTOCOLS and HEADER.size + length == len(payload)
