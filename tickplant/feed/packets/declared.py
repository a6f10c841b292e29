"""Captures of packets with a protocol that is declared in a file; what is declared is told in `protocol`.

`venue_seq` is the message's number, or its packet's where the venue numbers packets. A gap is a row of table
event: first and last are the numbers that are missing.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tickplant.errors import CaptureError, SchemaError
from tickplant.feed.capture import Head
from tickplant.feed.packets.arbiter import Gap, Run
from tickplant.feed.packets.capture import PacketCapture, first_payloads, payloads_until
from tickplant.feed.packets.datagram import Endpoint
from tickplant.feed.packets.decoder import PacketDecoder
from tickplant.feed.packets.protocol import Protocol
from tickplant.feed.packets.protocol_files import named, presets
from tickplant.feed.packets.protocol_packets import Found, Opened, Packets
from tickplant.feed.packets.protocol_rows import ProtocolRows, Reference
from tickplant.feed.packets.protocol_values import DECIMALS_MAX
from tickplant.feed.packets.restarts import Told
from tickplant.feed.packets.stream import Anew, Session, Stream

STREAMS_MAX = 1024
ENOUGH_BITS = 10.0
"""What a claim needs (`Packets.evidence`): one packet of other bytes in a thousand would be taken for it."""


class Item(NamedTuple):
    """The messages of a packet, when it came and was sent (0: not told)."""

    messages: list[Found]
    ts_ns: int
    sent_ns: int


class _Channel:
    """Messages that are numbered by themselves."""

    def __init__(self) -> None:
        self.stream: Stream[Item] = Stream()
        self.reference = Reference()
        self.reset: Opened | None = None
        """The packet that began its numbers anew last; another line brings it again."""


class DeclaredFeeds(PacketDecoder[ProtocolRows]):
    """Packets in, rows out (pure)."""

    def __init__(self, protocol: Protocol, venue: str = "") -> None:
        super().__init__(ProtocolRows(protocol, venue))
        self._packets = Packets(protocol)
        self._by_header = bool(protocol.packet.channel)
        self._by_message = protocol.packet.numbers == "messages"
        self._channels: dict[object, _Channel] = {}

    @property
    def ignored(self) -> Counter[str]:
        """Messages of types that say nothing, heartbeats, and messages that had been there already."""
        return sum((c.stream.ignored for c in self._channels.values()), super().ignored)

    def packet(self, payload: bytes, ts_ns: int, destination: Endpoint, line: Endpoint | None = None) -> None:
        """A datagram that came at `ts_ns`, sent to `destination`."""
        self._ts_ns = ts_ns
        try:
            opened = self._packets.open(payload, destination[1])
        except ValueError as e:
            self.rows.refuse(str(e), 0, ts_ns)
            return
        key = opened.channel if self._by_header else destination
        channel = self._channels.get(key)
        if channel is None:
            if len(self._channels) >= STREAMS_MAX:
                self.rows.refuse(f"a packet of a channel beyond {STREAMS_MAX}", opened.seq, ts_ns)
                return
            channel = self._channels[key] = _Channel()
        mark = hash(payload[self._packets.header_size :])
        self._of_channel(channel, opened, ts_ns, Told(line or destination, opened.sent_ns, mark))

    def finish(self, cause: str) -> None:
        """Nothing more comes."""
        for channel in self._channels.values():
            self._do(channel, channel.stream.finish(cause))

    def _of_channel(self, channel: _Channel, opened: Opened, ts_ns: int, told: Told) -> None:
        item = Item(opened.messages, ts_ns, opened.sent_ns)
        if opened.reset and opened != channel.reset:
            channel.reset = opened
            following = channel.stream.next
            if following is not None and (not opened.numbered or opened.seq < following):
                self._do(channel, channel.stream.anew(told))
        stream = channel.stream
        if opened.numbered:
            self._do(channel, stream.offer(opened.session, opened.seq, opened.size, item, ts_ns, told))
        elif opened.messages:
            self._deliver(channel, Run(opened.seq, opened.size, 0, item))
        else:
            stream.ignored["heartbeat"] += 1

    def _do(self, channel: _Channel, steps: Sequence[Run[Item] | Gap | Session | Anew]) -> None:
        for step in steps:
            if isinstance(step, Run):
                self._deliver(channel, step)
                continue
            if isinstance(step, Gap):
                self._say("gap", step.cause, step.first, step.last)
            elif isinstance(step, Anew):
                self._say("session", str(step), step.seq, step.seq)
            elif step.old is not None:
                self._say("session", f"session {step.new} follows {step.old}")
            channel.reference.ns = 0

    def _deliver(self, channel: _Channel, run: Run[Item]) -> None:
        messages, ts_ns, sent_ns = run.item
        for at in range(run.skip, len(messages)):
            seq = run.seq + at if self._by_message and run.seq else run.seq
            self.rows.message(messages[at], seq, ts_ns, sent_ns, channel.reference)


class Declared(PacketCapture):
    """A capture of packets with a declared protocol.

    `protocol` is the name of one that comes with tickplant, or a file; by default the one that the first
    packets are of. `venue` is the instruments', by default the protocol's; `instruments` a CSV file with
    columns id, symbol, decimals that says what numbers mean of which no message of the capture does; `to`
    the addresses (IP:PORT) of the lines to read, by default all. Of lines with + between them, A and B of a
    channel, each message is taken once. Raises ConfigError for a protocol that is wrong.
    """

    format = "declared"

    @staticmethod
    def sniff(head: Head) -> bool:
        """Whether the first packets are of one of the protocols that come with tickplant, and one only."""
        return len(claimants(head)) == 1

    def __init__(
        self, path: Path, *, protocol: str = "", venue: str = "", instruments: str = "",
        to: list[str] | None = None,
    ) -> None:  # fmt: skip
        if not (venue.isascii() and len(venue) <= 16):
            raise CaptureError(f"venue {venue!r} must be at most 16 ASCII characters")
        chosen = protocol or _only(path)
        decoder = DeclaredFeeds(named(chosen), venue)
        super().__init__(path, to, decoder)
        self.format = Path(chosen).stem
        if instruments:
            _tell(decoder.rows, Path(instruments))


@cache
def _shipped() -> dict[str, Packets]:
    return {name: Packets(protocol) for name, protocol in presets().items()}


def weighed(payloads: Iterable[bytes]) -> dict[str, float]:
    """The protocols that come with tickplant and that all of these packets may be of, each with the bits of
    evidence for it."""
    left = dict.fromkeys(_shipped(), 0.0)
    for payload in payloads:
        for name in list(left):
            bits = _shipped()[name].evidence(payload)
            if bits is None:
                del left[name]
            else:
                left[name] += bits
        if not left:
            break
    return left


def claiming(payloads: Sequence[bytes]) -> list[str]:
    """The protocols that come with tickplant and that all of these packets certainly are of; of heartbeats
    alone nothing is certain."""
    return [name for name, bits in weighed(payloads).items() if bits >= ENOUGH_BITS] if payloads else []


def claimants(head: Head) -> list[str]:
    """The protocols that the beginning of a capture certainly is of: of its first packets, or as many more as
    it takes until one tells."""
    first = first_payloads(head)
    found = claiming(first)
    if found or not first or not weighed(first):
        return found
    return claiming(_telling(head.path))


def _telling(path: Path) -> list[bytes]:
    """The packets of a capture up to the first by which a protocol is told."""
    sum_of = dict.fromkeys(_shipped(), 0.0)

    def tells(payload: bytes) -> bool:
        more = weighed([payload])
        for name in list(sum_of):
            sum_of[name] = sum_of[name] + more[name] if name in more else -1.0
        return max(sum_of.values()) >= ENOUGH_BITS or max(sum_of.values()) < 0

    return payloads_until(path, tells)


def nearest(head: Head) -> str:
    """What a capture that no protocol claims might be; empty: none of them."""
    first = first_payloads(head)
    names = weighed(first) if first else {}
    return (
        f"its first packets could be of {', '.join(names)}, but nothing in them is certain" if names else ""
    )


def _only(path: Path) -> str:
    """The protocol that a capture is of. Raises CaptureError if that is not certain."""
    found = claiming(_telling(path))
    if len(found) == 1:
        return found[0]
    raise CaptureError(f"{path} is not certainly of one protocol that comes with tickplant: name it with "
                       f"the option protocol, {', '.join(presets())}, or give a file")  # fmt: skip


def _tell(rows: ProtocolRows, path: Path) -> None:
    """What numbers of instruments mean, from a file. Raises CaptureError if it is wrong."""
    try:
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                decimals = int(line["decimals"]) if line.get("decimals") else None
                if not 0 <= (decimals or 0) <= DECIMALS_MAX:
                    raise ValueError(f"{decimals} decimals")
                rows.instruments.tell(int(line["id"]), line["symbol"], decimals)
    except OSError as e:
        raise CaptureError(f"can't read {path}: {e.strerror}") from None
    except (KeyError, ValueError, TypeError, SchemaError, csv.Error) as e:
        raise CaptureError(f"{path} is no CSV with columns id, symbol, decimals: {e}") from None
