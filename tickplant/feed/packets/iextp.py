"""IEX-TP 1.x, IEX's transport: numbered messages in UDP segments (pure). All numbers are little-endian.

    segment header   0 version (1) = 1   1 reserved (1)   2 message protocol (2)   4 channel (4)
                     8 session (4)   12 payload length (2)   14 message count (2)   16 stream offset (8)
                     24 number of the first message (8)   32 send time (8, ns UTC)
    then             for each message its length (2) and its bytes

Message count 0 is a heartbeat: the number is that of the next message. Numbers begin with 1 in every
session.
"""

import struct
from typing import NamedTuple

HEADER = struct.Struct("<BxHIIHHqqq")
VERSION = 1
TOPS, DEEP, DEEP_PLUS = 0x8003, 0x8004, 0x8005
PROTOCOLS = {TOPS: "TOPS", DEEP: "DEEP", DEEP_PLUS: "DEEP+"}
SEQ_MAX = 1 << 62
_LENGTH = struct.Struct("<H")


class Segment(NamedTuple):
    """A segment: what is in its header, and its messages."""

    protocol: int
    channel: int
    session: int
    seq: int
    messages: list[bytes]
    sent_ns: int


def segment(payload: bytes) -> Segment:
    """The segment in a datagram. Raises ValueError if it is none of version 1, or not as long as it
    says."""
    if len(payload) < HEADER.size:
        raise ValueError(f"an IEX-TP segment of {len(payload)} bytes")
    version, protocol, channel, session, length, count, _, seq, sent_ns = HEADER.unpack_from(payload)
    if version != VERSION or not 0 <= seq < SEQ_MAX or HEADER.size + length != len(payload):
        raise ValueError(f"an IEX-TP segment of version {version}, {length} bytes in {len(payload)}")
    messages, at = [], HEADER.size
    for _ in range(count):
        if len(payload) - at < 2:
            raise ValueError(f"an IEX-TP segment ends before its {count} messages")
        (size,) = _LENGTH.unpack_from(payload, at)
        if not size or at + 2 + size > len(payload):
            raise ValueError(f"a message of {size} bytes at byte {at} of an IEX-TP segment")
        messages.append(payload[at + 2 : at + 2 + size])
        at += 2 + size
    if at != len(payload):
        raise ValueError(f"{len(payload) - at} bytes behind the {count} messages of an IEX-TP segment")
    return Segment(protocol, channel, session, seq, messages, sent_ns)
