"""Datagrams from several multicast lines, as they come.

A line is an address and a port. The socket is bound to the group's address, so that it gets that group
only, and joins the group on one interface. An address that is no multicast group is bound as it is (a
unicast line).
"""

import contextlib
import ipaddress
import select
import socket
import struct
from types import TracebackType

from tickplant.clock import now_ns
from tickplant.errors import CaptureError, ConfigError
from tickplant.feed.packets.datagram import Datagram, Endpoint

DATAGRAM_MAX = 65_535
TURN_MAX = 256
"""Datagrams of one line that are read before the others have their turn."""


class Receiver:
    """Sockets of lines. Raises CaptureError if a line can't be received, ConfigError if it is no
    address."""

    def __init__(self, lines: list[Endpoint], interface: str = "", receive_bytes: int = 0) -> None:
        """`interface`: its name or its IPv4 address, empty: as the system routes. `receive_bytes`: how
        much the system is to keep for each line (SO_RCVBUF; it gives no more than net.core.rmem_max)."""
        self._poll = select.poll()
        self._sockets: dict[int, tuple[socket.socket, Endpoint]] = {}
        try:
            for line in lines:
                self.add(_joined(line, interface, receive_bytes))
        except BaseException:
            self.close()
            raise

    def add(self, receiver: socket.socket) -> None:
        """Read from this socket, too, and close it at the end."""
        receiver.setblocking(False)
        self._sockets[receiver.fileno()] = (receiver, receiver.getsockname()[:2])
        self._poll.register(receiver, select.POLLIN)

    @property
    def lines(self) -> list[Endpoint]:
        """Where datagrams are received, with the ports that the system chose for 0."""
        return [line for _, line in self._sockets.values()]

    def receive(self, timeout_s: float) -> list[Datagram]:
        """What has come, waiting up to `timeout_s` if nothing has; the destination is the line's
        address."""
        got: list[Datagram] = []
        for number, _ in self._poll.poll(timeout_s * 1000):
            receiver, line = self._sockets[number]
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                for _ in range(TURN_MAX):
                    payload, source = receiver.recvfrom(DATAGRAM_MAX)
                    got.append((now_ns(), source[:2], line, payload))
        return got

    def close(self) -> None:
        """Leave the groups."""
        for receiver, _ in self._sockets.values():
            receiver.close()
        self._sockets.clear()

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _joined(line: Endpoint, interface: str, receive_bytes: int) -> socket.socket:
    try:
        address = ipaddress.ip_address(line[0])
    except ValueError:
        raise ConfigError(f"{line[0]!r} is not an IP address") from None
    receiver = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_bytes:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        receiver.bind(line)
        if address.is_multicast and address.version == 4:
            group = address.packed + _local(interface)
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        elif address.is_multicast:
            index = struct.pack("@I", socket.if_nametoindex(interface) if interface else 0)
            receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, address.packed + index)
    except (OSError, OverflowError) as e:
        receiver.close()
        on = f" on {interface}" if interface else ""
        raise CaptureError(f"can't receive {line[0]}:{line[1]}{on}: {e}") from None
    return receiver


def _local(interface: str) -> bytes:
    """The local part of an ip_mreqn (ip(7)): an address of the interface, or its index."""
    try:
        return struct.pack("@4si", ipaddress.IPv4Address(interface or "0.0.0.0").packed, 0)
    except ValueError:
        return struct.pack("@4si", bytes(4), socket.if_nametoindex(interface))
