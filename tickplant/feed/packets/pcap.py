"""UDP datagrams out of captures of packets, pcap or pcapng, and into them.

Read are classic pcap (draft-ietf-opsawg-pcap: both byte orders, microseconds or nanoseconds) and pcapng
(draft-ietf-opsawg-pcapng: any number of sections and interfaces, each with its own byte order, clock
resolution and link layer), plain, gzip or zstd. Written is classic pcap, little-endian, nanoseconds, raw
IP.

    file header   magic (4)  2 (2)  4 (2)  0 (4)  0 (4)  snap length (4)  link layer (4)
    record        seconds (4)  fraction (4)  bytes kept (4)  bytes on the wire (4)  frame

The containers are read here and not by dpkt, whose times are floats that lose nanoseconds (or Decimals,
which are slow), which gives all interfaces of a pcapng the first one's clock, and ends at a cut file as
if it were whole. What is read is walked in pieces of the file; the usual frame, Ethernet with IPv4 and
UDP, costs one struct for all its headers in a classic pcap, any other goes through `datagram`.
"""

import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from tickplant.clock import SECOND_NS
from tickplant.errors import CaptureError
from tickplant.feed.packets import datagram
from tickplant.feed.packets.datagram import Datagram, Endpoint, Ends
from tickplant.feed.source import Source

FRAME_MAX = 1 << 18
"""Bytes of a frame (libpcap's MAXIMUM_SNAPLEN); a longer record is damage."""
BLOCK_MAX = 1 << 24
"""Bytes of a pcapng block (libpcap's limit)."""
INTERFACES_MAX = 4096
ENDS_MAX = 4096
"""Pairs of endpoints that are kept as text."""
MAGIC = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}
"""Of classic pcap: nanoseconds in a unit of the fraction."""
NG_MAGIC, NG_ORDER = 0x0A0D0D0A, 0x1A2B3C4D
END_OF_OPTIONS, TSRESOL, TSOFFSET = 0, 9, 14
"""Codes of options of an interface (pcapng, section 4.2)."""
_USUAL = struct.Struct(">12xHBxH2xHxB2x12sH")
"""Ethernet, IPv4 without options, UDP: EtherType, version and header length, total length, fragment,
protocol, addresses and ports, UDP length."""


class Trouble(NamedTuple):
    """What was wrong with a capture, as a row of table `event` says it.

    `kind`: truncated (a frame was not kept whole; or the file ends inside a record), malformed (headers
    that contradict one another), damaged (the file). `first`, `last`: the packet's number in the
    capture, from 1; of the file's troubles: bytes.
    """

    kind: str
    ts_ns: int
    first: int
    last: int
    text: str
    of_file: bool = False
    """Not of one packet."""


class Container(ABC):
    """Walks over the records of a capture, piece by piece (pure)."""

    def __init__(self) -> None:
        self.packets = 0
        """Frames seen."""
        self.ignored: Counter[str] = Counter()
        """Frames that hold no whole datagram, by reason."""
        self.troubles: list[Trouble] = []
        """Since its user has emptied it."""
        self.broken = ""
        """Why nothing can be read any more."""
        self._ends: dict[bytes, Ends] = {}

    @abstractmethod
    def scan(self, data: bytes, out: list[Datagram]) -> int:
        """Add the datagrams of the whole records in `data` to `out`; how many bytes they were."""

    def _usual(self, flow: bytes) -> Ends:
        """The two ends of a flow that is new."""
        if len(self._ends) >= ENDS_MAX:
            self._ends.clear()
        ends = self._ends[flow] = datagram.ends_ipv4(flow)
        return ends

    def _frame(self, link: int, ts_ns: int, frame: bytes, wire: int, out: list[Datagram]) -> None:
        """A frame of which `wire` bytes were on the wire."""
        self.packets += 1
        number = self.packets
        if not -(1 << 62) < ts_ns < 1 << 62:
            self.troubles.append(Trouble("malformed", 0, number, number, f"a time of {ts_ns} ns"[:96]))
            return
        try:
            found = datagram.find(link, frame)
        except datagram.Malformed as e:
            cut = len(frame) < wire
            text = f"{len(frame)} of a frame's {wire} bytes were kept" if cut else str(e)
            kind = "truncated" if cut else "malformed"
            self.troubles.append(Trouble(kind, ts_ns, number, number, text))
            return
        if isinstance(found, str):
            self.ignored[found] += 1
            return
        (source, destination), start, stop = found
        out.append((ts_ns, source, destination, frame[start:stop]))


class Classic(Container):
    """Records of a classic pcap; `head` is the 24 bytes of its header."""

    def __init__(self, head: bytes) -> None:
        super().__init__()
        order = "<" if int.from_bytes(head[:4], "little") in MAGIC else ">"
        magic, link = struct.unpack(order + "I16xI", head[:24])
        self._scale = MAGIC[magic]
        self._link = link & 0xFFFF
        self._record = struct.Struct(order + "IIII")
        self._skip = 24

    def scan(self, data: bytes, out: list[Datagram]) -> int:
        at, size, self._skip = self._skip, len(data), 0
        record, usual, known, scale = self._record.unpack_from, _USUAL.unpack_from, self._ends, self._scale
        ethernet = self._link == datagram.ETHERNET
        while size - at >= 16:
            seconds, fraction, kept, wire = record(data, at)
            if kept > FRAME_MAX:
                self.broken = f"a record of {kept} bytes"
                break
            start = at + 16
            at = start + kept
            if at > size:
                return start - 16
            if ethernet and kept >= 42:
                kind, version, total, fragment, protocol, flow, length = usual(data, start)
                if (
                    kind == 0x0800 and version == 0x45 and protocol == 17 and not fragment & 0x3FFF
                    and 8 <= length <= total - 20 and length + 34 <= kept
                ):  # fmt: skip
                    self.packets += 1
                    source, destination = known.get(flow) or self._usual(flow)
                    payload = data[start + 42 : start + 34 + length]
                    out.append((seconds * SECOND_NS + fraction * scale, source, destination, payload))
                    continue
            ts_ns = seconds * SECOND_NS + fraction * scale
            self._frame(self._link, ts_ns, data[start:at], wire, out)
        return at


class Interface(NamedTuple):
    """Of a pcapng: its link layer, units of its clock in a second, where that begins (s)."""

    link: int
    units: int
    offset: int


class Blocks(Container):
    """Blocks of a pcapng."""

    def __init__(self) -> None:
        super().__init__()
        self._order = "<"
        self._interfaces: list[Interface] = []

    def scan(self, data: bytes, out: list[Datagram]) -> int:
        at, size = 0, len(data)
        while size - at >= 12 and not self.broken:
            kind, length = struct.unpack_from(self._order + "II", data, at)
            if kind == NG_MAGIC:
                little = int.from_bytes(data[at + 8 : at + 12], "little") == NG_ORDER
                self._order = "<" if little else ">"
                kind, length = struct.unpack_from(self._order + "II", data, at)
            if length < 12 or length % 4 or length > BLOCK_MAX:
                self.broken = f"a block of {length} bytes"
            elif at + length > size:
                break
            elif data[at + 4 : at + 8] != data[at + length - 4 : at + length]:
                self.broken = "a block with two different lengths"
            else:
                try:
                    self._block(kind, data[at + 8 : at + length - 4], out)
                except struct.error:
                    self.broken = f"a block of type {kind} and {length} bytes"
                else:
                    at += length
        return at

    def _block(self, kind: int, body: bytes, out: list[Datagram]) -> None:
        if kind == 6:  # Enhanced Packet Block
            number, high, low, kept, wire = struct.unpack_from(self._order + "IIIII", body)
            self._packet(number, high << 32 | low, body[20 : 20 + kept], kept, wire, out)
        elif kind == 2:  # Packet Block, obsolete
            number, _, high, low, kept, wire = struct.unpack_from(self._order + "HHIIII", body)
            self._packet(number, high << 32 | low, body[20 : 20 + kept], kept, wire, out)
        elif kind == 3:  # Simple Packet Block: it has no time
            self.packets += 1
            self.ignored["packet without a time"] += 1
        elif kind == 1:
            self._interface(body)
        elif kind == NG_MAGIC:
            (order,) = struct.unpack_from(self._order + "I", body)
            if order != NG_ORDER:
                self.broken = "a section of unknown byte order"
            self._interfaces.clear()

    def _packet(
        self, number: int, time: int, frame: bytes, kept: int, wire: int, out: list[Datagram]
    ) -> None:
        if number >= len(self._interfaces) or kept != len(frame) or kept > FRAME_MAX:
            self.broken = f"a packet of {kept} bytes from interface {number}"
            return
        link, units, offset = self._interfaces[number]
        self._frame(link, time * SECOND_NS // units + offset * SECOND_NS, frame, wire, out)

    def _interface(self, body: bytes) -> None:
        (link,) = struct.unpack_from(self._order + "H", body)
        options = self._options(body[8:])
        if self.broken:
            return
        units, offset = 1_000_000, 0
        if TSRESOL in options:
            (value,) = struct.unpack("B", options[TSRESOL])
            units = 2 ** (value & 127) if value & 128 else 10**value
        if TSOFFSET in options:
            (offset,) = struct.unpack(self._order + "q", options[TSOFFSET])
        if len(self._interfaces) == INTERFACES_MAX:
            self.broken = f"more than {INTERFACES_MAX} interfaces"
        self._interfaces.append(Interface(link, units, offset))

    def _options(self, body: bytes) -> dict[int, bytes]:
        """The options at the end of a block, by their code. One that says more bytes than there are is
        damage: the clock of the interface would be a guess."""
        found: dict[int, bytes] = {}
        at = 0
        while len(body) - at >= 4:
            code, size = struct.unpack_from(self._order + "HH", body, at)
            if code == END_OF_OPTIONS:
                break
            if size > len(body) - at - 4:
                self.broken = f"an option of {size} bytes in {len(body) - at - 4}"
                break
            found[code] = body[at + 4 : at + 4 + size]
            at += 4 + size + -size % 4
        return found


def container(head: bytes) -> Container | None:
    """What walks over a capture that begins so (24 bytes or more); None if it is no capture of
    packets."""
    if len(head) >= 12 and int.from_bytes(head[:4], "big") == NG_MAGIC:
        return Blocks() if NG_ORDER.to_bytes(4, "big") in (head[8:12], head[11:7:-1]) else None
    magics = (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    return Classic(head) if len(head) >= 24 and any(m in MAGIC for m in magics) else None


def beginning(head: bytes) -> list[Datagram] | None:
    """The datagrams at the beginning of a file, by which its format is told; None: no capture of
    packets."""
    reader = container(head)
    found: list[Datagram] = []
    if reader is not None:
        reader.scan(head, found)
    return None if reader is None else found


class PcapReader:
    """The UDP datagrams of a capture, read once from start to end.

    Iterate over it for (ts_ns, source, destination, payload), or over `blocks()` for lists of them, one
    for each `piece` bytes of the file. Frames without a whole UDP datagram are counted in `ignored` by
    reason; what is wrong goes to `troubles`, which whoever reads takes, block by block. Raises
    CaptureError if the file can't be read or is no capture of packets.
    """

    def __init__(self, path: Path, piece: int = 1 << 18) -> None:
        self.path, self._piece = path, piece
        self.damaged = False
        """The file ended in damage."""
        self.packets = 0
        self.ignored: Counter[str] = Counter()
        self.troubles: list[Trouble] = []

    def __iter__(self) -> Iterator[Datagram]:
        for block in self.blocks():
            yield from block

    def blocks(self) -> Iterator[list[Datagram]]:
        """The datagrams in lists; one more, which may be empty, when the file is at its end."""
        try:
            file = self.path.open("rb")
        except OSError as e:
            raise CaptureError(f"can't read {self.path}: {e.strerror}") from None
        with file:
            source = Source(file, self._piece)
            yield from self._blocks(source)
        if source.error:
            raise CaptureError(f"can't read {self.path}: {source.error}")

    def _blocks(self, source: Source) -> Iterator[list[Datagram]]:
        rest, offset, last = b"", 0, 0
        reader: Container | None = None
        for piece in source:
            data = rest + piece
            if reader is None and len(data) >= 28:
                reader = container(data)
                if reader is None:
                    break
                self.ignored, self.troubles = reader.ignored, reader.troubles
            if reader is None:
                rest = data
                continue
            out: list[Datagram] = []
            used = reader.scan(data, out)
            rest, offset, self.packets = data[used:], offset + used, reader.packets
            last = out[-1][0] if out else last
            if reader.broken:
                break
            yield out
        if reader is None:
            reader = container(rest)
            if reader is None:
                raise CaptureError(f"{self.path} is no capture of packets (pcap or pcapng)")
            self.troubles, rest = reader.troubles, rest[24 if isinstance(reader, Classic) else 0 :]
        self._end(source, reader, rest, offset, last)
        yield []

    def _end(self, source: Source, reader: Container, rest: bytes, offset: int, last: int) -> None:
        end = offset + len(rest)
        if reader.broken:
            self.troubles.append(Trouble("damaged", last, offset, offset, reader.broken, True))
        elif source.damage:
            self.troubles.append(Trouble("damaged", last, end, end, source.damage, True))
        elif rest:
            text = "the file ends inside a record"
            self.troubles.append(Trouble("truncated", last, offset, end - 1, text, True))
        self.damaged = bool(reader.broken or source.damage or rest)


class PcapWriter:
    """A new capture of datagrams. Raises CaptureError if there is a file of that name, or it can't be
    written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("xb")
            self._file.write(struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, FRAME_MAX, datagram.RAW))
        except OSError as e:
            raise CaptureError(f"can't record to {path}: {e.strerror}") from None

    def write(self, ts_ns: int, source: Endpoint, destination: Endpoint, payload: bytes) -> None:
        """Add a datagram. Raises CaptureError if the file can't be written, ValueError as
        `datagram.wrap`."""
        frame = datagram.wrap(source, destination, payload)
        seconds, fraction = divmod(ts_ns, SECOND_NS)
        try:
            self._file.write(struct.pack("<IIII", seconds, fraction, len(frame), len(frame)) + frame)
        except OSError as e:
            raise CaptureError(f"can't record to {self.path}: {e.strerror}") from None

    def flush(self) -> None:
        """Give what was added to the system. Raises CaptureError if it does not take it."""
        try:
            self._file.flush()
        except OSError as e:
            raise CaptureError(f"can't record to {self.path}: {e.strerror}") from None

    def close(self) -> None:
        """The last of it. Raises CaptureError if it can't be written."""
        try:
            self._file.close()
        except OSError as e:
            raise CaptureError(f"can't record to {self.path}: {e.strerror}") from None

    def __enter__(self) -> "PcapWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
