"""Packets of a declared protocol: their header, and the messages in them (pure)."""

import math
from typing import NamedTuple

from tickplant.clock import SECOND_NS
from tickplant.feed.packets.protocol import PORT, Message, Protocol, Raw, raw_type
from tickplant.feed.packets.protocol_fields import Field, Fields

_SINCE_NS, _UNTIL_NS = 946_684_800_000_000_000, 4_102_444_800_000_000_000
"""2000 and 2100: no packet was sent outside."""
_DAY_NS = 86_400 * SECOND_NS
_TEXT_BITS = math.log2(256 / 96)
"""What a byte tells that is a printed character: so many bits it would be another by chance."""
_SIZE_BITS = 6.0
"""What a message tells that is as long as its type is declared: lengths by chance are below some hundred."""
SEQ_MAX = 1 << 62


class Layout:
    """Messages of one type in one layout."""

    def __init__(self, protocol: Protocol, message: Message) -> None:
        self.message, self.fields = message, protocol.layout(message)
        self.length = message.size or self.fields.size
        """Bytes of a message, at least."""
        self.resets, self.unnumbered = (
            _among(protocol.message_header(), choice) for choice in (message.resets, message.unnumbered)
        )
        self.ignored = message.ignored
        self.open = not (message.fields or message.size)
        """Its length is not declared."""
        self._bounds = _bounds(protocol, self.fields)
        self.tail = self.fields.place(message.tail) if message.tail else -1

    def plausible(self, data: bytes) -> bool:
        """Whether a message is as long as is declared, its characters are some, and its time can be one."""
        return self.exact(data) and all(map(self._can_be, self.fields, self._values(data)))

    def _values(self, data: bytes) -> tuple[Raw, ...]:
        return self.fields.struct.unpack_from(data)

    def _can_be(self, field: Field, value: Raw) -> bool:
        if field.kind == "c":
            return all(32 <= byte < 127 or not byte for byte in bytes(value))
        low, high = self._bounds.get(field.name, (None, None))
        if low is None or high is None:
            return True
        number = value if isinstance(value, int) else int.from_bytes(value, self.fields.order)
        return number == 0 or low <= number < high

    def evidence(self, type_bits: float) -> float:
        """Bits that a plausible message tells; its type, which is known, tells `type_bits`. A type of one
        byte whose length is not declared tells nothing."""
        if self.open:
            return type_bits if type_bits > 8 else 0.0
        bits = _SIZE_BITS + type_bits
        for field in self.fields:
            if field.kind == "c":
                bits += field.width * _TEXT_BITS
            elif field.name in self._bounds:
                low, high = self._bounds[field.name]
                bits += max(0.0, 8 * field.width - math.log2(high - low))
        return bits

    def exact(self, data: bytes) -> bool:
        """Whether a message is as long as is declared."""
        tail = self.fields.struct.unpack_from(data)[self.tail] if self.tail >= 0 else 0
        return self.open or len(data) - self.length - int(tail) in (0, *self.message.more)


class Found(NamedTuple):
    """A message: its layout (None: its type is not known, or not in this size), type, and bytes."""

    layout: Layout | None
    type: Raw
    data: bytes


class Opened(NamedTuple):
    """What is in a packet. `numbered`: it has a place in its channel's numbers; `size`: how many of them;
    `sent_ns`: 0 if the header does not tell."""

    session: tuple[Raw, ...]
    channel: tuple[Raw, ...]
    seq: int
    size: int
    numbered: bool
    reset: bool
    sent_ns: int
    messages: list[Found]


class Packets:
    """Opens packets of one protocol."""

    def __init__(self, protocol: Protocol) -> None:
        self.layouts: dict[Raw, list[Layout]] = {}
        """By type, the longest first."""
        for message in protocol.messages:
            layout = Layout(protocol, message)
            for text in message.types:
                self.layouts.setdefault(raw_type(protocol, text), []).append(layout)
        for layouts in self.layouts.values():
            layouts.sort(key=lambda known: -known.length)
        self._unnumbered = any(message.unnumbered for message in protocol.messages)
        self._resetting = any(message.resets for message in protocol.messages)
        self._packet, self._header = protocol.packet, protocol.header()
        packet, fields = self._packet, self._header
        self._size, self._count, self._seq = (
            fields.place(name) if name else -1 for name in (packet.size, packet.count, packet.seq)
        )
        self._session = [fields.place(name) for name in packet.session]
        self._channel = [-1 if name == PORT else fields.place(name) for name in packet.channel]
        self._constant = _among(fields, {k: [v] for k, v in packet.constant.items()})
        self._beat, self._reset = _among(fields, packet.beat), _among(fields, packet.reset)
        clocks = packet.time.parts() if packet.time else []
        self._time = [(fields.place(name), unit) for name, unit in clocks]
        self._message(protocol)
        of_message = protocol.message_header()
        widths = [8 * fields[name].width for name in packet.constant]
        widths += [8 * of_message[name].width for name in protocol.message.constant]
        self._header_bits = sum(widths) + (_SIZE_BITS if packet.size else 0.0)
        type_bits = 8 * sum(of_message[name].width for name in protocol.message.type)
        self._type_bits = max(0.0, type_bits - math.log2(len(self.layouts) or 1))

    def _message(self, protocol: Protocol) -> None:
        head, fields = protocol.message, protocol.message_header()
        self._head = fields
        first, *others = (fields.place(name) for name in head.type)
        self._types = first, others
        self._length = fields.place(head.size) if head.size else -1
        self._adds, self._exact = head.size_adds, head.exact
        self._fixed = _among(fields, {k: [v] for k, v in head.constant.items()})

    @property
    def header_size(self) -> int:
        """Bytes before the messages of a packet."""
        return self._header.size

    def open(self, payload: bytes, port: int = 0) -> Opened:
        """A packet that was sent to `port`. Raises ValueError if it is none of this protocol's, not as long
        as it says, or its messages are not."""
        header, beat = self._values(payload)
        if self._size >= 0 and header[self._size] != len(payload):
            raise ValueError(f"a packet of {header[self._size]!r} bytes in {len(payload)}")
        if self._constant and any(header[place] not in values for place, values in self._constant):
            raise ValueError("a packet with another header")
        seq = int(header[self._seq]) if self._seq >= 0 else 0
        if not 0 <= seq < SEQ_MAX:
            raise ValueError(f"a packet with number {seq}")
        count = int(header[self._count]) if self._count >= 0 and not beat else None
        at = len(payload) if beat else self._header.size
        found = self._walk(payload, at, count)
        size = 1 if self._packet.numbers == "packets" and found else len(found)
        some = not found or any(
            f.layout is None or not self._like(f.data, f.layout.unnumbered) for f in found
        )
        return Opened(
            tuple(header[p] for p in self._session),
            tuple(port if p < 0 else header[p] for p in self._channel),
            seq, size, bool(self._seq >= 0 and some and (seq or not found)),
            self._resets(header, found),
            self._sent(header), found,
        )  # fmt: skip

    def _sent(self, header: tuple[Raw, ...]) -> int:
        """When a packet was sent; 0 if it does not tell, or a time that none can be."""
        sent_ns = sum(int(header[p]) * unit for p, unit in self._time)
        return sent_ns if 0 <= sent_ns < _UNTIL_NS else 0

    def _resets(self, header: tuple[Raw, ...], found: list[Found]) -> bool:
        if self._reset and all(header[p] in values for p, values in self._reset):
            return True
        if not self._resetting:
            return False
        return any(f.layout is not None and self._like(f.data, f.layout.resets) for f in found)

    def _is_unnumbered(self, found: Found) -> bool:
        return found.layout is not None and self._like(found.data, found.layout.unnumbered)

    def _like(self, message: bytes, wanted: list[tuple[int, frozenset[Raw]]]) -> bool:
        """Whether a message's header is like this; nothing is like no condition."""
        if not wanted:
            return False
        values = self._head.struct.unpack_from(message)
        return all(values[place] in chosen for place, chosen in wanted)

    def claims(self, payload: bytes) -> int | None:
        """How many messages a packet has, if it certainly is of this protocol: all of its messages are
        known and plausible, and it was sent in this century; else None."""
        try:
            opened = self.open(payload)
        except ValueError:
            return None
        if self._time and not _SINCE_NS < opened.sent_ns < _UNTIL_NS:
            return None
        sure = all(f.layout is not None and f.layout.plausible(f.data) for f in opened.messages)
        return len(opened.messages) if sure else None

    def evidence(self, payload: bytes) -> float | None:
        """Bits by which a packet tells that it is of this protocol: of 2^bits other packets one would
        be taken for it. 0 of a heartbeat; None if it is not of this protocol."""
        if not (claimed := self.claims(payload)):
            return None if claimed is None else 0.0
        found = self.open(payload).messages
        return self._header_bits + sum(f.layout.evidence(self._type_bits) for f in found if f.layout)

    def _values(self, payload: bytes) -> tuple[tuple[Raw, ...], bool]:
        """The header's, and whether it is a heartbeat's."""
        header = self._header
        short = len(payload) == self._packet.beat_size
        if len(payload) < header.size and not short:
            raise ValueError(f"a packet of {len(payload)} bytes")
        values = header.struct.unpack_from(payload if not short else payload.ljust(header.size, b"\0"))
        beat = bool(self._beat) and all(values[p] in wanted for p, wanted in self._beat)
        if beat and len(payload) != (self._packet.beat_size or header.size):
            raise ValueError(f"a heartbeat of {len(payload)} bytes")
        if short and not beat and len(payload) < header.size:
            raise ValueError(f"a packet of {len(payload)} bytes")
        return values, beat

    def _walk(self, payload: bytes, at: int, count: int | None) -> list[Found]:
        found: list[Found] = []
        end, least, unpack = len(payload), self._head.size, self._head.struct.unpack_from
        first, others, length, adds, known = *self._types, self._length, self._adds, self.layouts
        while at < end if count is None else len(found) < count:
            if end - at < least:
                raise ValueError(f"{end - at} bytes at the end of a packet are no message")
            values = unpack(payload, at)
            if self._fixed and any(values[place] not in wanted for place, wanted in self._fixed):
                raise ValueError(f"a message with another header at byte {at}")
            kind: Raw = values[first]
            if others:
                kind = b"".join([values[first], *[values[place] for place in others]])
            layouts = known.get(kind)
            size = values[length] + adds if length >= 0 else _declared(layouts, kind, payload, at)
            if size < least or size > end - at:
                raise ValueError(f"a message of {size} bytes in {end - at}")
            data = payload[at : at + size]
            found.append(Found(self._layout(layouts, data), kind, data))
            at += size
        pads = self._packet.pads
        if at != end and (count is None or end - at >= pads or end % pads):
            raise ValueError(f"{end - at} bytes behind the {len(found)} messages of a packet")
        return found

    def _layout(self, layouts: list[Layout] | None, data: bytes) -> Layout | None:
        """The longest one that a message fits."""
        for layout in layouts or ():
            if layout.length <= len(data) and (not self._exact or layout.exact(data)):
                return layout
        return None


def _declared(layouts: list[Layout] | None, kind: Raw, payload: bytes, at: int) -> int:
    """How long a message is by its declaration. Raises ValueError if it has none, or ends before."""
    if not layouts:
        raise ValueError(f"a message of type {kind!r} at byte {at}, whose size is not known")
    layout = layouts[0]
    if layout.tail < 0 or len(payload) - at < layout.fields.size:
        return layout.length
    return layout.length + int(layout.fields.struct.unpack_from(payload, at)[layout.tail])


def _among(fields: Fields, wanted: dict[str, list[str | int]]) -> list[tuple[int, frozenset[Raw]]]:
    return [(fields.place(n), frozenset(fields[n].raw(v) for v in values)) for n, values in wanted.items()]


def _bounds(protocol: Protocol, fields: Fields) -> dict[str, tuple[int, int]]:
    """Between what the largest unit of a message's time must be."""
    for clock in protocol.time:
        parts = clock.parts()
        if all(name in fields for name, _ in parts):
            name, unit = parts[0]
            low, high = {
                "epoch": (_SINCE_NS, _UNTIL_NS),
                "midnight": (0, _DAY_NS),
                "second": (0, SECOND_NS),
            }[clock.since]
            return {name: (low // unit, high // unit)}
    return {}
