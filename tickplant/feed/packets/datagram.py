"""UDP datagrams in the frames of a capture: link layer, VLAN tags, IPv4 or IPv6, UDP (pure).

Link layers by their number in the registry of tcpdump.org (LINKTYPE_): Ethernet 1 with any VLAN tags
(IEEE 802.1Q, 802.1ad), raw IP 101, 228 and 229, BSD loopback 0 and 108, Linux cooked 113 (SLL) and 276
(SLL2). IPv4: RFC 791; IPv6 and its extension headers: RFC 8200; UDP: RFC 768. Checksums are not looked
at: a network card fills them in after a capture has seen the frame.
"""

import ipaddress
import struct

Endpoint = tuple[str, int]
"""An address, as text, and a port."""
Datagram = tuple[int, Endpoint, Endpoint, bytes]
"""(ts_ns, source, destination, payload); ts_ns: when it was captured, ns UTC."""
Ends = tuple[Endpoint, Endpoint]

ETHERNET, RAW = 1, 101
_IP_OF_LINK = {12: 0, 14: 0, RAW: 0, 228: 0, 229: 0, 0: 4, 108: 4}
"""Bytes before the IP header, where the header's own version says which IP it is."""
_TYPE_OF_LINK = {ETHERNET: (12, 14), 113: (14, 16), 276: (0, 20)}
"""Where the EtherType is, and where what it tells begins."""
_VLAN = {0x8100, 0x88A8, 0x9100}
_IPV4, _IPV6 = 0x0800, 0x86DD
_OPTIONS = {0, 43, 60}
"""IPv6 extension headers that are passed over: hop-by-hop, routing, destination options."""
_FRAGMENT, _UDP = 44, 17
_PORTS = struct.Struct(">HHH")

NOT_UDP, FRAGMENT, UNKNOWN_LINK = "not UDP", "fragment", "unknown link layer"
"""Why a frame is passed over."""


class Malformed(ValueError):
    """A frame that ends before its headers say, or whose lengths contradict one another."""


def find(link: int, frame: bytes) -> tuple[Ends, int, int] | str:
    """Where the payload of the UDP datagram in a frame is: (ends, start, stop); or why there is none.

    Raises Malformed if the headers do not fit the frame, which is the case if it was cut off.
    """
    try:
        at, kind = _network(link, frame)
        if kind == _IPV4:
            return _ipv4(frame, at)
        if kind == _IPV6:
            return _ipv6(frame, at)
    except (struct.error, IndexError):
        raise Malformed(f"a frame of {len(frame)} bytes ends inside its headers") from None
    return NOT_UDP if kind else UNKNOWN_LINK


def _network(link: int, frame: bytes) -> tuple[int, int]:
    """Where the network layer's header begins, and its EtherType (0: the link layer is not known)."""
    if link in _IP_OF_LINK:
        at = _IP_OF_LINK[link]
        return at, {4: _IPV4, 6: _IPV6}.get(frame[at] >> 4, 1)
    if link not in _TYPE_OF_LINK:
        return 0, 0
    where, at = _TYPE_OF_LINK[link]
    kind = _u16(frame, where)
    while kind in _VLAN:
        kind = _u16(frame, at + 2)
        at += 4
    return at, kind


def _ipv4(frame: bytes, at: int) -> tuple[Ends, int, int] | str:
    header, total = (frame[at] & 15) * 4, _u16(frame, at + 2)
    if frame[at] >> 4 != 4 or header < 20 or total < header:
        raise Malformed("an IPv4 header that contradicts itself")
    if _u16(frame, at + 6) & 0x3FFF:
        return FRAGMENT
    if frame[at + 9] != _UDP:
        return NOT_UDP
    return _udp(frame, at + header, at + total, frame[at + 12 : at + 16], frame[at + 16 : at + 20])


def _ipv6(frame: bytes, at: int) -> tuple[Ends, int, int] | str:
    if frame[at] >> 4 != 6:
        raise Malformed("an IPv6 header of another version")
    source, destination = frame[at + 8 : at + 24], frame[at + 24 : at + 40]
    end, following = at + 40 + _u16(frame, at + 4), frame[at + 6]
    at += 40
    while following != _UDP:
        if following == _FRAGMENT:
            if _u16(frame, at + 2) & 0xFFF9:
                return FRAGMENT
            size = 8
        elif following in _OPTIONS:
            size = frame[at + 1] * 8 + 8
        else:
            return NOT_UDP
        following = frame[at]
        at += size
    return _udp(frame, at, end, source, destination)


def _udp(frame: bytes, at: int, end: int, source: bytes, destination: bytes) -> tuple[Ends, int, int]:
    from_port, to_port, length = _PORTS.unpack_from(frame, at)
    stop = at + length
    if length < 8 or stop > end:
        raise Malformed(f"a UDP length of {length} in {end - at} bytes")
    if stop > len(frame):
        raise Malformed(f"a datagram of {length} bytes of which {len(frame) - at} are there")
    return ((_text(source), from_port), (_text(destination), to_port)), at + 8, stop


def ends_ipv4(flow: bytes) -> Ends:
    """The two ends of a datagram, of the 12 bytes of IPv4 addresses and UDP ports."""
    return (
        (_text(flow[:4]), int.from_bytes(flow[8:10], "big")),
        (_text(flow[4:8]), int.from_bytes(flow[10:12], "big")),
    )


def wrap(source: Endpoint, destination: Endpoint, payload: bytes) -> bytes:
    """A raw IP packet (link layer RAW) with such a datagram. Raises ValueError if it has no room or the
    addresses are not of one version."""
    one, two = ipaddress.ip_address(source[0]), ipaddress.ip_address(destination[0])
    if one.version != two.version or len(payload) > 65_507:
        raise ValueError(f"no datagram of {len(payload)} bytes from {one} to {two}")
    length = len(payload) + 8
    udp = struct.pack(">HHHH", source[1], destination[1], length, 0)
    if one.version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, length + 20, 0, 0, 64, _UDP, 0) + one.packed + two.packed
        head = head[:10] + _checksum(head).to_bytes(2, "big") + head[12:]
        return head + udp + payload
    pseudo = one.packed + two.packed + struct.pack(">II", length, _UDP) + udp + payload
    check = _checksum(pseudo) or 0xFFFF
    head = struct.pack(">IHBB", 6 << 28, length, _UDP, 64) + one.packed + two.packed
    return head + udp[:6] + check.to_bytes(2, "big") + payload


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    return 0xFFFF - (int.from_bytes(data + b"\0" * (len(data) % 2), "big") % 0xFFFF)


def _u16(frame: bytes, at: int) -> int:
    return frame[at] << 8 | frame[at + 1]


def _text(address: bytes) -> str:
    if len(address) == 4:
        return ".".join(map(str, address))
    return str(ipaddress.IPv6Address(address))
