"""Frames and captures of packets for tests, byte by byte as specified."""

import ipaddress
import struct

A = ("233.54.12.111", 26477)
B = ("233.49.196.111", 26477)
FROM = ("10.0.0.1", 5000)
T0 = 1_700_000_000_000_000_123


def udp(payload, to=A, source=FROM, *, length=None):
    size = len(payload) + 8 if length is None else length
    return struct.pack(">HHHH", source[1], to[1], size, 0) + payload


def ipv4(payload, to=A, source=FROM, *, options=b"", fragment=0, protocol=17, length=None, total=None):
    body = udp(payload, to, source, length=length)
    size = 20 + len(options) + len(body) if total is None else total
    addresses = ipaddress.ip_address(source[0]).packed + ipaddress.ip_address(to[0]).packed
    head = struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, 0, size, 7, fragment, 9, protocol, 0)
    return head + addresses + options + body


def ipv6(payload, to=("ff0e::1", 9), source=("fe80::2", 8), *, extensions=(), end=17):
    """`extensions`: (type, body behind its first byte) of each extension header."""
    chain = [*[kind for kind, _ in extensions], end]
    body = b"".join(bytes([chain[i + 1]]) + e for i, (_, e) in enumerate(extensions))
    body += udp(payload, to, source)
    addresses = ipaddress.ip_address(source[0]).packed + ipaddress.ip_address(to[0]).packed
    return struct.pack(">IHBB", 6 << 28, len(body), chain[0], 64) + addresses + body


def ethernet(packet, *tags, kind=0x0800):
    """`tags`: EtherTypes of VLAN tags, from the outside in."""
    out = bytes(12)
    for tag in tags:
        out += struct.pack(">HH", tag, 100)
    return out + struct.pack(">H", kind) + packet


def classic(frames, *, order="<", nano=True, link=1):
    """`frames`: (ts_ns, frame) or (ts_ns, frame, bytes on the wire)."""
    unit = 1 if nano else 1000
    out = struct.pack(order + "IHHIIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    for ts, frame, *wire in frames:
        seconds, rest = divmod(ts, 10**9)
        out += struct.pack(order + "IIII", seconds, rest // unit, len(frame), *(wire or [len(frame)])) + frame
    return out


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def section(order="<"):
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order="<", link=1, resolution=None, offset=None):
    options = b""
    if resolution is not None:
        options += struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset is not None:
        options += struct.pack(order + "HHq", 14, 8, offset)
    return block(1, struct.pack(order + "HHI", link, 0, 0) + options, order)


def enhanced(frame, time, order="<", number=0, wire=None):
    sizes = (len(frame), len(frame) if wire is None else wire)
    return block(
        6, struct.pack(order + "IIIII", number, time >> 32, time & 0xFFFFFFFF, *sizes) + frame, order
    )


def mold(messages, seq, session=b"20231114A ", count=None):
    blocks = b"".join(len(m).to_bytes(2, "big") + m for m in messages)
    return struct.pack(">10sQH", session, seq, len(messages) if count is None else count) + blocks
