"""CME MDP 3.0 from a capture of packets; the messages' rows are told in `cme_rows`. All numbers are
little-endian.

    packet    sequence number (4)  sending time (8, ns UTC), then messages
    message   size (2, itself included)  SBE header (8: block length, template, schema, version)  body

A channel's feed has two lines, A and B; packets with the same number are the same. Lines are of one feed
if the last part of their address and the last three digits of their port are the same, as CME assigns
them (224.0.31.1:14310 and 224.0.32.1:15310). Numbers begin anew with a snapshot loop, with a week, and
after a failover (`restarts`): a row of event of kind session.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tickplant.errors import CaptureError
from tickplant.feed.capture import Batch, Head
from tickplant.feed.packets.arbiter import Gap, Run
from tickplant.feed.packets.capture import PacketCapture, first_payloads
from tickplant.feed.packets.cme_rows import CmeRows
from tickplant.feed.packets.datagram import Endpoint
from tickplant.feed.packets.decoder import PacketDecoder
from tickplant.feed.packets.restarts import Told
from tickplant.feed.packets.sbe import Schema, read_schema
from tickplant.feed.packets.stream import Anew, Session, Stream

PACKET = struct.Struct("<IQ")
MESSAGE = struct.Struct("<HHHHH")
CHANNELS_MAX = 1024
SCHEMA_NUMBER, VERSION_MAX = 1, 64
_SINCE_NS, _UNTIL_NS = 946_684_800_000_000_000, 4_102_444_800_000_000_000
"""2000 and 2100: a sending time outside is none."""


class Packet(NamedTuple):
    """A packet and when it came."""

    payload: bytes
    ts_ns: int


class CmeFeeds(PacketDecoder[CmeRows]):
    """Packets in, rows out (pure)."""

    def __init__(self, schema: Schema, venue: str) -> None:
        super().__init__(CmeRows(schema, venue))
        self._feeds: dict[tuple[str, int], Stream[Packet]] = {}
        self._lines: dict[Endpoint, Stream[Packet]] = {}

    def packet(self, payload: bytes, ts_ns: int, destination: Endpoint, line: Endpoint | None = None) -> None:
        """A packet that came at `ts_ns`."""
        self._ts_ns = ts_ns
        if len(payload) < PACKET.size:
            self.rows.refuse(f"a packet of {len(payload)} bytes", 0, ts_ns)
            return
        seq, sent_ns = PACKET.unpack_from(payload)
        feed = self._lines.get(destination) or self._feed(destination)
        told = Told(line or destination, sent_ns, hash(payload))
        self._do(feed.offer(None, seq, 1, Packet(payload, ts_ns), ts_ns, told))

    def finish(self, cause: str) -> None:
        """Nothing more comes."""
        for feed in self._feeds.values():
            self._do(feed.finish(cause))

    def take(self) -> Batch:
        """The rows since the last time."""
        for feed in self._feeds.values():
            self._pass_over(feed)
        return super().take()

    def _feed(self, line: Endpoint) -> Stream[Packet]:
        key = (line[0].rpartition(".")[2], line[1] % 1000)
        if len(self._lines) >= CHANNELS_MAX:
            raise CaptureError(f"packets to more than {CHANNELS_MAX} addresses; give those to read with `to`")
        feed = self._lines[line] = self._feeds.setdefault(key, Stream())
        return feed

    def _do(self, steps: Sequence[Run[Packet] | Gap | Session | Anew]) -> None:
        for step in steps:
            if isinstance(step, Run):
                self._messages(step.seq, step.item)
            elif isinstance(step, Gap):
                self._say("gap", step.cause, step.first, step.last)
            elif isinstance(step, Anew):
                self._say("session", f"packet {step}", step.seq, step.seq)

    def _messages(self, seq: int, packet: Packet) -> None:
        payload, ts_ns = packet
        at, end = PACKET.size, len(payload)
        while at < end:
            if end - at < MESSAGE.size:
                self.rows.refuse(f"{end - at} bytes at the end of a packet are no message", seq, ts_ns)
                return
            size, length, template, _, _ = MESSAGE.unpack_from(payload, at)
            if size < MESSAGE.size or size > end - at:
                self.rows.refuse(f"a message of {size} bytes in {end - at}", seq, ts_ns)
                return
            self.rows.message(template, length, payload[at + MESSAGE.size : at + size], seq, ts_ns)
            at += size


class CmeMdp3(PacketCapture):
    """A capture of packets with CME MDP 3.0. Messages are counted by name.

    `schema` is the XML that CME publishes (templates_FixBinary.xml); `venue` the MIC of the instruments;
    `to` the addresses (IP:PORT) of the lines to read, by default all. Copies of a packet are counted as
    ignored. Raises CaptureError without a schema.
    """

    format = "cme-mdp3"

    @staticmethod
    def sniff(head: Head) -> bool:
        """Whether the first packets are whole SBE messages after a number and a time."""
        found = [p for p in first_payloads(head) if len(p) > PACKET.size]
        return bool(found) and all(map(is_cme, found))

    def __init__(
        self, path: Path, *, schema: str | None = None, venue: str = "XCME", to: list[str] | None = None
    ) -> None:
        if schema is None:
            raise CaptureError(
                f"{path} is CME MDP 3.0, which needs CME's SBE schema (templates_FixBinary.xml): "
                "give it with --schema FILE, or the option schema"
            )
        super().__init__(path, to, CmeFeeds(read_schema(schema), venue))


def is_cme(payload: bytes) -> bool:
    """Whether a payload is a number, a time of this century, and whole messages of CME's schema."""
    if (
        len(payload) < PACKET.size + MESSAGE.size
        or not _SINCE_NS < PACKET.unpack_from(payload)[1] < _UNTIL_NS
    ):
        return False
    at = PACKET.size
    while len(payload) - at >= MESSAGE.size:
        size, length, template, schema, version = MESSAGE.unpack_from(payload, at)
        if schema != SCHEMA_NUMBER or version >= VERSION_MAX or not template or length > size - MESSAGE.size:
            return False
        at += size
    return at == len(payload)
