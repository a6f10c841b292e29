"""What travels: frames of rows, and control messages.

The frame's layout is told in _core/frame.h; this module names its parts for Python. Control messages
(hello, fetch, acknowledge, request...) are small msgpack maps with a key `op`, and end in the CRC-32C of
that: a bit that was flipped on the way must not acknowledge rows that nobody has. A message that carries
frames has them, end to end, in a second part.
"""

import struct
from typing import Any, Literal, NamedTuple

import msgpack

from tickplant._core import framing
from tickplant.errors import FrameError, MessageDamaged

HEADER_SIZE: int = framing.HEADER
ROWS, HEARTBEAT, SEGMENT, STATE, SEAL, REGISTRY = range(1, 7)
KINDS = {
    ROWS: "rows",
    HEARTBEAT: "heartbeat",
    SEGMENT: "segment",
    STATE: "state",
    SEAL: "seal",
    REGISTRY: "registry",
}
MESSAGE_MAX = 1 << 24
"""Bytes of one message at most; sockets refuse longer ones."""
CONTROL_MAX = 1 << 20
"""Bytes of one control message at most."""
LIVE_MAX = (1 << 16) + 4096
"""Bytes of one live message of the publisher at most: frames of one table, end to end. A frame that is longer
is not sent live; readers fetch it."""

FEED = slice(18, 20)
"""Where a frame says whose it is; see `number`."""

_NUMBER = struct.Struct("<H")
_CRC = struct.Struct("<I")
_HEADER = struct.Struct("<HHIIIBBHIQQQQQqII")


class Header(NamedTuple):
    """The header of a frame; see _core/frame.h for the meaning of each field."""

    magic: int
    table: int
    size: int
    crc: int
    prev_crc: int
    kind: int
    version: int
    feed: int
    trading_date: int
    row: int
    session: int
    seq: int
    feed_row: int
    feed_sum: int
    time_ns: int
    count: int  # type: ignore[assignment]  # a tuple's method of that name is no loss here
    schema: int


def header(frame: bytes | memoryview, offset: int = 0) -> Header:
    """The header of the frame at `offset`. Raises FrameError if there are too few bytes for one."""
    try:
        return Header._make(_HEADER.unpack_from(frame, offset))
    except struct.error:
        raise FrameError(f"{len(frame) - offset} bytes are too few for a frame") from None


def split(blob: bytes | memoryview) -> list[memoryview]:
    """The valid frames that lie end to end in a message, up to the first that is not."""
    view, frames, at = memoryview(blob), [], 0
    while at < len(view) and not framing.check(view[at:]):
        size = HEADER_SIZE + header(view, at).size
        frames.append(view[at : at + size])
        at += size
    return frames


def number(feed: int) -> bytes:
    """A feed's number as a frame has it at FEED."""
    return _NUMBER.pack(feed)


def crc(frame: bytes | memoryview) -> int:
    """The checksum that a whole frame carries."""
    return int(_CRC.unpack_from(frame, framing.CRC_AT)[0])


def payload(frame: bytes | memoryview) -> memoryview:
    """What follows the header of a single frame. Raises FrameError unless the frame is valid."""
    verdict = framing.check(frame)
    if verdict:
        raise FrameError(f"not a valid frame: {framing.CHECKS[verdict]}")
    return memoryview(frame)[HEADER_SIZE : HEADER_SIZE + header(frame).size]


def topic(table: int) -> bytes:
    """The prefix by which a subscription chooses a table; 0 chooses frames that are not rows."""
    return struct.pack("<HH", 0x5054, table)


def pack(op: str, /, **fields: Any) -> bytes:
    """A control message."""
    return sealed(msgpack.packb({"op": op, **fields}))


def sealed(packed: bytes) -> bytes:
    """The msgpack of a control message with its checksum, as it travels."""
    return packed + _CRC.pack(framing.crc32c(packed))


def opened(message: bytes | memoryview) -> bytes | memoryview:
    """The inverse of `sealed`. Raises FrameError for what is too long, MessageDamaged for a wrong checksum:
    the sender can be asked to say it again."""
    if len(message) > CONTROL_MAX * 16:
        raise FrameError(f"a control message of {len(message):,} bytes is too long")
    packed, crc = message[: -_CRC.size], message[-_CRC.size :]
    if _CRC.pack(framing.crc32c(packed)) != crc:
        raise MessageDamaged(f"not a control message, or damaged on its way: {len(message):,} bytes")
    return packed


def unpack(message: bytes | memoryview) -> dict[Any, Any]:
    """The fields of a control message. Raises FrameError on anything else, of which MessageDamaged
    if the sender can be asked to say it again."""
    return small_map(opened(message))


def small_map(packed: bytes | memoryview) -> dict[Any, Any]:
    """A msgpack map, such as the payload of a frame that is not rows. Raises FrameError on anything else."""
    if len(packed) > CONTROL_MAX * 16:
        raise FrameError(f"a control message of {len(packed):,} bytes is too long")
    try:
        fields = msgpack.unpackb(packed, strict_map_key=False)
    except Exception as e:  # msgpack raises several unrelated kinds
        raise FrameError(f"not a map: {e!r}") from None
    if not isinstance(fields, dict):
        raise FrameError(f"not a map: a {type(fields).__name__}")
    return fields


Kind = Literal["int", "str", "bytes", "list", "dict"]
_TYPES: dict[str, type] = {"int": int, "str": str, "bytes": bytes, "list": list, "dict": dict}


def field(message: dict[str, Any], name: str, kind: Kind) -> Any:
    """A field of a control message. Raises FrameError if it is missing or of another type."""
    value: Any = message.get(name)
    if not isinstance(value, _TYPES[kind]) or isinstance(value, bool):
        raise FrameError(f"field {name!r} of message {message.get('op')!r} is not a {kind}")
    if isinstance(value, int) and not 0 <= value < 1 << 64:
        raise FrameError(f"field {name!r} of message {message.get('op')!r} is out of range: {value}")
    return value
