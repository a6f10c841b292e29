"""HSVF of the Montréal Exchange (TMX, SOLA), from a capture of packets; the messages' rows are told in
`hsvf_rows`.

A datagram holds messages, each between STX (2) and ETX (3). All of them are numbered, on each line by itself,
from the Start of Day on, which begins the numbers anew.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tickplant.feed.capture import Head
from tickplant.feed.packets import hsvf_types as types
from tickplant.feed.packets.arbiter import Gap, Run
from tickplant.feed.packets.capture import PacketCapture, check_venue, every_payload
from tickplant.feed.packets.datagram import Endpoint
from tickplant.feed.packets.decoder import PacketDecoder
from tickplant.feed.packets.hsvf_rows import HsvfRows
from tickplant.feed.packets.restarts import Told
from tickplant.feed.packets.stream import Anew, Session, Stream

STREAMS_MAX = 256
STX, ETX = b"\2", b"\3"
START_OF_DAY = b"SD"
_TIME = slice(12, types.HEADER)
_NUMBERED = re.compile(rb"\d{10}[^\2\3]*")
_KNOWN = re.compile(rb"\d{10}([A-Z][A-Z ])20\d\d[01]\d[0-3]\d[0-2]\d[0-5]\d[0-5]\d{7}([^\0-\x1f]*)")


class Packet(NamedTuple):
    """Messages whose numbers follow one another, and when they came."""

    messages: list[bytes]
    ts_ns: int


class _Line:
    """The messages of one line."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stream: Stream[Packet] = Stream()
        self.time = b""
        """The latest time in the header of a message."""


class HsvfFeeds(PacketDecoder[HsvfRows]):
    """Datagrams in, rows out (pure)."""

    def __init__(self, venue: str) -> None:
        super().__init__(HsvfRows(venue))
        self._lines: dict[Endpoint, _Line] = {}

    @property
    def ignored(self) -> Counter[str]:
        """Messages of types that are not decoded, and messages that had been there already."""
        return sum((line.stream.ignored for line in self._lines.values()), super().ignored)

    def packet(self, payload: bytes, ts_ns: int, destination: Endpoint, line: Endpoint | None = None) -> None:
        """A datagram that came at `ts_ns`, of the line with this address."""
        self._ts_ns = ts_ns
        try:
            found = messages(payload)
        except ValueError as e:
            self.rows.refuse(str(e), 0, ts_ns)
            return
        channel = self._lines.get(destination)
        if channel is None:
            if len(self._lines) >= STREAMS_MAX:
                self.rows.refuse(f"a packet of a line beyond {STREAMS_MAX}", 0, ts_ns)
                return
            channel = self._lines[destination] = _Line(len(self._lines))
        for seq, run in _runs(found):
            time = run[-1][_TIME]
            told = Told(line or destination, int(time) if time.isdigit() else 0, hash(tuple(run)))
            if run[0][10:12] == START_OF_DAY:
                self._start(channel, run[0][_TIME], seq, told)
            channel.time = max(channel.time, time) if time.isdigit() else channel.time
            self._do(channel, channel.stream.offer(None, seq, len(run), Packet(run, ts_ns), ts_ns, told))

    def finish(self, cause: str) -> None:
        """Nothing more comes."""
        for line in self._lines.values():
            self._do(line, line.stream.finish(cause))

    def _start(self, line: _Line, time: bytes, seq: int, told: Told) -> None:
        """A Start of Day: another one, unless it is a copy that comes after what followed it."""
        following = line.stream.next
        if following is None or seq >= following or time <= line.time:
            return
        self._do(line, line.stream.anew(told))

    def _do(self, line: _Line, steps: Sequence[Run[Packet] | Gap | Session | Anew]) -> None:
        for step in steps:
            if isinstance(step, Run):
                run, ts_ns = step.item
                for at in range(step.skip, len(run)):
                    self.rows.message(run[at], step.seq + at, line.number, ts_ns)
            elif isinstance(step, Gap):
                self._say("gap", step.cause, step.first, step.last)
                self.rows.lost(line.number, step.last, self._ts_ns)
            elif isinstance(step, Anew):
                self._say("session", str(step), step.seq, step.seq)
                self.rows.lost(line.number, 0, self._ts_ns)


class Hsvf(PacketCapture):
    """A capture of packets with the Montréal Exchange's HSVF.

    `venue` is the MIC in the instrument rows; `to` the addresses (IP:PORT) of the lines to read, by
    default all. Of lines with + between them, A and B of a channel, each message is taken once.
    """

    format = "hsvf"

    @staticmethod
    def sniff(head: Head) -> bool:
        """Whether the first packets hold messages of HSVF and nothing else."""
        return every_payload(head, is_hsvf)

    def __init__(self, path: Path, *, venue: str = "XMOD", to: list[str] | None = None) -> None:
        check_venue(venue)
        super().__init__(path, to, HsvfFeeds(venue))


def messages(payload: bytes) -> list[bytes]:
    """The messages in a datagram, without what encloses them. Raises ValueError if there is anything else in
    it, or a message without a number."""
    if not (payload.startswith(STX) and payload.endswith(ETX)):
        raise ValueError(f"a packet of {len(payload)} bytes that does not begin with STX and end with ETX")
    found = payload[1:-1].split(ETX + STX)
    for message in found:
        if not _NUMBERED.fullmatch(message):
            raise ValueError(f"a message that does not begin with its number: {message[:16]!r}")
    return found


def is_hsvf(payload: bytes) -> bool:
    """Whether a payload has only messages of known types, as long as they must be, with a time, and of the
    Montréal Exchange."""
    try:
        found = messages(payload)
    except ValueError:
        return False
    return all(map(_is_known, found))


def _is_known(message: bytes) -> bool:
    found = _KNOWN.fullmatch(message)
    if found is None:
        return False
    kind, body = found.groups()
    if kind in types.DECODED and types.layout(kind, len(message)) is None:
        return False
    known = kind in types.DECODED or kind in types.IGNORED
    return known and (kind in types.NO_EXCHANGE or body[:1] == bytes([types.EXCHANGE]))


def _runs(found: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Messages whose numbers follow one another, and the first one's number."""
    numbers = [int(message[:10]) for message in found]
    begin = 0
    for at in range(1, len(found) + 1):
        if at == len(found) or numbers[at] != numbers[at - 1] + 1:
            yield numbers[begin], found[begin:at]
            begin = at
