"""What the captures of packets have in common: datagrams of chosen lines in, an account of every
frame."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from tickplant.errors import CaptureError
from tickplant.feed.capture import Batch, Capture, Head
from tickplant.feed.packets.datagram import Datagram, Endpoint
from tickplant.feed.packets.pcap import PcapReader, Trouble, beginning
from tickplant.feed.sink import Sink

LOOKED_MAX = 4096
"""Packets among which one is looked for that tells the protocol: what comes first may be heartbeats."""


class Decoder(Protocol):
    """Packets in, rows out; `decoder` has what most are made of."""

    @property
    def messages(self) -> Counter[str]:
        """Messages decoded, by type."""

    @property
    def ignored(self) -> Counter[str]:
        """What says nothing for any table, or had been there already."""

    @property
    def malformed(self) -> int:
        """Messages and packets that could not be decoded."""

    def packet(self, payload: bytes, ts_ns: int, destination: Endpoint, line: Endpoint | None = None) -> None:
        """A datagram that came at `ts_ns` to `destination`, of the line `line` if that is another: lines that
        are one channel have one destination."""

    def finish(self, cause: str) -> None:
        """Nothing more comes; `cause` is why what is missing now will not come."""

    def take(self) -> Batch:
        """The rows since the last time."""


class PacketCapture(Capture):
    """A capture of UDP datagrams, which a venue's decoder turns into rows.

    Beside the venue's messages are accounted for: in `ignored` frames that hold no UDP datagram,
    fragments, and datagrams to addresses that are not read; in `malformed` frames that were not kept
    whole.
    """

    EVENT_UNITS = MappingProxyType({"damaged": "byte"})

    def __init__(self, path: Path, to: list[str] | None, decoder: Decoder) -> None:
        """`to`: addresses IP:PORT whose datagrams are read; None: all. Those with + between them, lines A and
        B of a channel, are taken for the first of them."""
        super().__init__()
        self.path = path
        lines = [[endpoint(one) for one in line.split("+")] for line in to or ()]
        self._to = None if to is None else {one: line[0] for line in lines for one in line}
        self._events = Sink("")
        self._elsewhere = self._troubles = 0
        self._reader, self._decoder = PcapReader(path), decoder

    def __iter__(self) -> Iterator[Batch]:
        """Batches of rows. Raises CaptureError if the file can't be read."""
        for block in self._reader.blocks():
            self._block(block)
            yield from self._rows()
        self._decoder.finish("not in the capture")
        yield from self._rows()

    def _block(self, block: list[Datagram]) -> None:
        packet, to = self._decoder.packet, self._to
        if to is None:
            for ts_ns, _, destination, payload in block:
                packet(payload, ts_ns, destination)
            return
        for ts_ns, _, destination, payload in block:
            line = to.get(destination)
            if line is None:
                self._elsewhere += 1
            else:
                packet(payload, ts_ns, line, destination)

    def _rows(self) -> Iterator[Batch]:
        for trouble in self._reader.troubles:
            self._trouble(trouble)
        self._reader.troubles.clear()
        self.damaged = self._reader.damaged
        batches = [self._decoder.take(), self._events.take()]
        self._account()
        yield from filter(None, batches)

    def _account(self) -> None:
        decoder = self._decoder
        self.messages = decoder.messages
        self.ignored = decoder.ignored + self._reader.ignored
        if self._elsewhere:
            self.ignored["other address"] = self._elsewhere
        self.malformed = decoder.malformed + self._troubles

    def _trouble(self, trouble: Trouble) -> None:
        kind, ts_ns, first, last, text, of_file = trouble
        self._events.event(kind, ts_ns, text, first=first, last=last, ts_event=ts_ns)
        self._troubles += not of_file


def check_venue(venue: str) -> None:
    """Raise CaptureError unless it can be a venue in rows of instruments."""
    if not (venue.isascii() and 0 < len(venue) <= 16):
        raise CaptureError(f"venue {venue!r} must be 1 to 16 ASCII characters")


def endpoint(text: str) -> Endpoint:
    """The address and port in IP:PORT. Raises CaptureError if it is not of that form."""
    address, _, port = text.rpartition(":")
    if not address or not port.isdecimal():
        raise CaptureError(f"{text!r} is not of the form IP:PORT")
    return address.strip("[]"), int(port)


def first_payloads(head: Head) -> list[bytes]:
    """The payloads of the datagrams at the beginning of a capture, or of the first one if it comes later;
    none if it is no capture of packets."""
    found = beginning(head.plain)
    if found is None or found:
        return [payload for _, _, _, payload in found or ()]
    return payloads_until(head.path, lambda payload: True)


def payloads_until(path: Path, tells: Callable[[bytes], bool]) -> list[bytes]:
    """The payloads of a capture up to the first one that tells what it is, or of its beginning."""
    payloads: list[bytes] = []
    reader = PcapReader(path, 1 << 16)
    for block in reader.blocks():
        for _, _, _, payload in block:
            payloads.append(payload)
            if tells(payload) or len(payloads) == LOOKED_MAX:
                return payloads
        if reader.packets >= LOOKED_MAX:
            break
    return payloads


def every_payload(head: Head, is_of: Callable[[bytes], bool]) -> bool:
    """Whether a file begins as a capture of packets, all of which are of some kind."""
    found = first_payloads(head)
    return bool(found) and all(map(is_of, found))


def describe(head: Head) -> str:
    """What the first datagram of a capture of packets is, when no format knows it; empty: no such
    capture."""
    found = beginning(head.plain)
    if found is None:
        return ""
    if not found:
        return "a capture of packets that does not begin with a UDP datagram"
    _, _, (address, port), payload = found[0]
    what = f"{len(payload)} bytes to {address}:{port}, {payload[:16].hex()}..."
    return (
        f"a capture of packets, but its first UDP payload was not recognised ({what}); "
        "if you know what it is: --protocol NAME, or the option protocol"
    )
