"""Deribit's multicast feed from a capture of packets; the messages' rows are told in `deribit_sbe_rows`.
All numbers are little-endian.

    packet    length of what follows this head (2)  channel (2)  sequence number (4), then messages
    message   SBE header (12: block length, template, schema, version, groups, variable texts)  body

The layouts are in deribit_sbe.xml. Packets of a channel are numbered one by one; the channel, not the
address, tells what they are of. The venue keeps the last 100,000 packets of a channel: a number that is
further back begins the numbers anew (a row of event of kind session). Source: the Multicast Developer
Guide.
"""

import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tickplant.feed.capture import Batch, Head
from tickplant.feed.packets.arbiter import Gap, Run
from tickplant.feed.packets.capture import PacketCapture, check_venue, every_payload
from tickplant.feed.packets.datagram import Endpoint
from tickplant.feed.packets.decoder import PacketDecoder
from tickplant.feed.packets.deribit_sbe_rows import DeribitRows
from tickplant.feed.packets.restarts import Told
from tickplant.feed.packets.sbe import COUNTED_HEADER, Schema, read_schema, walk
from tickplant.feed.packets.stream import Anew, Session, Stream

PACKET = struct.Struct("<HHI")
CHANNELS_MAX = 1024
HISTORY = 100_000
SCHEMA_NUMBER = 1
SCHEMA = Path(__file__).with_name("deribit_sbe.xml")


@cache
def schema() -> Schema:
    """The layouts."""
    return read_schema(SCHEMA)


class Packet(NamedTuple):
    """A packet and when it came."""

    payload: bytes
    ts_ns: int


class _Channel:
    """The packets of one channel, in order."""

    def __init__(self) -> None:
        self.stream: Stream[Packet] = Stream()
        self.sure = False
        """Nothing is missing right before the next packet."""


class DeribitFeeds(PacketDecoder[DeribitRows]):
    """Packets in, rows out (pure)."""

    def __init__(self, venue: str) -> None:
        super().__init__(DeribitRows(schema(), venue))
        self._channels: dict[int, _Channel] = {}

    def packet(self, payload: bytes, ts_ns: int, destination: Endpoint, line: Endpoint | None = None) -> None:
        """A packet that came at `ts_ns`, on whichever line."""
        self._ts_ns = ts_ns
        if len(payload) < PACKET.size:
            self.rows.refuse(f"a packet of {len(payload)} bytes", 0, ts_ns)
            return
        length, number, seq = PACKET.unpack_from(payload)
        if length != len(payload) - PACKET.size:
            text = f"a packet of {len(payload)} bytes that says {length} after its head"
            self.rows.refuse(text, seq, ts_ns)
            return
        channel = self._channels.get(number)
        if channel is None:
            if len(self._channels) >= CHANNELS_MAX:
                self.rows.refuse(f"channel {number} is more than {CHANNELS_MAX}", seq, ts_ns)
                return
            channel = self._channels[number] = _Channel()
        told, stream = Told(line or destination, 0, hash(payload)), channel.stream
        if stream.next is not None and seq + HISTORY < stream.next:
            self._do(number, channel, stream.anew(told))
        self._do(number, channel, stream.offer(None, seq, 1, Packet(payload, ts_ns), ts_ns, told))

    def finish(self, cause: str) -> None:
        """Nothing more comes."""
        for number, channel in self._channels.items():
            self._do(number, channel, channel.stream.finish(cause))

    def take(self) -> Batch:
        """The rows since the last time."""
        for channel in self._channels.values():
            self._pass_over(channel.stream)
        return super().take()

    def _began(self, number: int, channel: _Channel, step: Anew) -> None:
        self._say("session", f"channel {number}: packet {step}", step.seq, step.seq)
        self.rows.books.lost(number, self._ts_ns, "the channel began anew", all_of_it=True)
        channel.sure = False

    def _do(
        self, number: int, channel: _Channel, steps: Sequence[Run[Packet] | Gap | Session | Anew]
    ) -> None:
        for step in steps:
            if isinstance(step, Run):
                self._messages(number, channel, step.seq, step.item)
            elif isinstance(step, Anew):
                self._began(number, channel, step)
            elif isinstance(step, Gap):
                self._say("gap", f"channel {number}: {step.cause}", step.first, step.last)
                self._lost(number, channel, self._ts_ns, f"packets {step.first} to {step.last} are missing")

    def _lost(self, number: int, channel: _Channel, ts_ns: int, cause: str) -> None:
        channel.sure = False
        self.rows.books.lost(number, ts_ns, cause)

    def _messages(self, number: int, channel: _Channel, seq: int, packet: Packet) -> None:
        payload, ts_ns = packet
        at, end, rows = PACKET.size, len(payload), self.rows
        if at == end:
            self._ignored["empty packet"] += 1
        while at < end:
            try:
                if end - at < COUNTED_HEADER.size:
                    raise ValueError(f"{end - at} bytes at the end of a packet are no message")
                length, template, used, _, groups, texts = COUNTED_HEADER.unpack_from(payload, at)
                if used != SCHEMA_NUMBER:
                    raise ValueError(f"a message of schema {used}")
                whole = walk(payload, at + COUNTED_HEADER.size, length, groups, texts)
            except ValueError as e:  # where the next message begins can't be told
                rows.refuse(str(e), seq, ts_ns)
                self._lost(number, channel, ts_ns, f"packet {seq} could not be read")
                return
            refused = rows.malformed
            rows.message(template, whole, number, seq, ts_ns, sure=channel.sure)
            channel.sure = True
            if rows.malformed != refused:
                self._lost(number, channel, ts_ns, f"a message of packet {seq} could not be read")
            at = whole.end


class DeribitSbe(PacketCapture):
    """A capture of packets with Deribit's multicast feed. Messages are counted by name.

    `venue` stands in the instrument rows; `to` are the addresses (IP:PORT) of the lines to read, by default
    all. Copies of a packet are counted as ignored.
    """

    format = "deribit-sbe"

    @staticmethod
    def sniff(head: Head) -> bool:
        """Whether the first packets are whole messages of Deribit's schema."""
        return every_payload(head, is_deribit)

    def __init__(self, path: Path, *, venue: str = "DERIBIT", to: list[str] | None = None) -> None:
        check_venue(venue)
        super().__init__(path, to, DeribitFeeds(venue))


def is_deribit(payload: bytes) -> bool:
    """Whether a payload says its length, and is whole messages of templates that we know."""
    if len(payload) <= PACKET.size or PACKET.unpack_from(payload)[0] != len(payload) - PACKET.size:
        return False
    at = PACKET.size
    while len(payload) - at >= COUNTED_HEADER.size:
        length, template, used, version, groups, texts = COUNTED_HEADER.unpack_from(payload, at)
        known = schema().templates.get(template)
        if known is None or used != SCHEMA_NUMBER or not version or length < known.root.length:
            return False
        try:
            at = walk(payload, at + COUNTED_HEADER.size, length, groups, texts).end
        except ValueError:
            return False
    return at == len(payload)
