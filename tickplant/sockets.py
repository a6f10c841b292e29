"""ZeroMQ sockets as this plant uses them: limits, keep-alive, and where it may listen."""

import ipaddress
import stat
from pathlib import Path
from urllib.parse import urlsplit

import zmq

from tickplant import wire
from tickplant.errors import ConfigError


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """The process's ZeroMQ context (one per process, never carried over a fork)."""
    return zmq.Context.instance()


def bind(socket: zmq.Socket[bytes], endpoint: str, *, plaintext: bool = False) -> str:
    """Bind with our limits; the endpoint really bound (a port may be `*`).

    Raises ConfigError if it can't be had, or is a TCP address that is not loopback and `plaintext`
    was not allowed.
    """
    check_exposure(endpoint, plaintext)
    configure(socket)
    path = Path(endpoint[6:]) if endpoint.startswith("ipc://") else None
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(str(path)) > 107:
            raise ConfigError(f"the socket path {path} is longer than 107 bytes; choose a shorter run_dir")
        if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
            raise ConfigError(f"{path} is in the way: it is not a socket")
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as e:
        raise ConfigError(f"can't listen on {endpoint}: {e.strerror}") from None
    if path:
        path.chmod(0o660)
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect with our limits. Raises ConfigError if the endpoint makes no sense."""
    configure(socket)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as e:
        raise ConfigError(f"can't connect to {endpoint!r}: {e.strerror}") from None


def configure(socket: zmq.Socket[bytes]) -> None:
    """Limits and keep-alive of every socket."""
    socket.setsockopt(zmq.MAXMSGSIZE, wire.MESSAGE_MAX + wire.HEADER_SIZE)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Is there a message to receive right now?"""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def check_exposure(endpoint: str, plaintext: bool) -> None:
    """Refuse to offer plaintext TCP beyond this host unless told to. Raises ConfigError."""
    if not endpoint.startswith("tcp://") or plaintext:
        return
    host = urlsplit(endpoint).hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise ConfigError(
            f"{endpoint} would offer plaintext to the network; bind a loopback address, "
            "or set publisher.allow_plaintext = true"
        )
