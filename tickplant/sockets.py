"""ZeroMQ sockets as this plant uses them: limits, keep-alive, coming back, CURVE, and where it may listen.

CURVE is for TCP; ipc endpoints are protected by the modes of their files and stay plain.
"""

import contextlib
import ipaddress
import itertools
import logging
import random
import socket as tcp
import stat
import time
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import zmq
from zmq.utils.monitor import recv_monitor_message

from tickplant import wire
from tickplant.clock import MILLISECOND_NS, monotonic_ns
from tickplant.errors import ConfigError
from tickplant.keys import ClientKeys, ServerKeys

log = logging.getLogger(__name__)

_NUMBERS = itertools.count()

_POLLIN = int(zmq.POLLIN)  # an operation on its kind of enum takes as long as the question
PORT_PATIENCE_MS = 1000
MESSAGE_MAX = wire.MESSAGE_MAX + wire.HEADER_SIZE
KEEP_ALIVE = (
    (zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 2), (zmq.TCP_KEEPALIVE_INTVL, 1),
    (zmq.TCP_KEEPALIVE_CNT, 3),
)  # fmt: skip
MEND_NS = 500 * MILLISECOND_NS


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """The process's ZeroMQ context (one per process, never carried over a fork)."""
    return zmq.Context.instance()


def bind(
    socket: zmq.Socket[bytes], endpoint: str, *, plaintext: bool = False, keys: ServerKeys | None = None,
    message_max: int = MESSAGE_MAX, pings: bool = True,
) -> str:  # fmt: skip
    """Bind with our limits; the endpoint really bound (a port may be `*`).

    With `keys` a TCP endpoint is a CURVE server. Who sends a part longer than `message_max` bytes is cut off.
    Raises ConfigError if it can't be had, or is a TCP address
    that is not loopback and has neither keys nor leave to be `plaintext`.
    """
    check_exposure(endpoint, plaintext or keys is not None)
    configure(socket, message_max, pings)
    if keys and is_tcp(endpoint):
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, keys.domain.encode())
        # Without this libzmq lets every key in when nobody answers its questions about them.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
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


def connect(
    socket: zmq.Socket[bytes], endpoint: str, keys: ClientKeys | None = None, pings: bool = True
) -> None:
    """Connect with our limits; over TCP with `keys`, if any. Raises ConfigError for nonsense."""
    configure(socket, pings=pings)
    try:
        if keys and is_tcp(endpoint):
            socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    except zmq.ZMQError:
        raise ConfigError(
            f"keys that are none can't be used at {endpoint}: not Z85 of 32 bytes (tickplant keys list)"
        ) from None
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as e:
        raise ConfigError(f"can't connect to {endpoint!r}: {e.strerror}") from None


class Connection:
    """A socket that connects, and comes back whatever has ended its connection.

    libzmq by itself does so after an interruption. It never does after its key was refused, nor after a peer
    sent what is not ZMTP, for which a flipped bit suffices: without this such a socket would be deaf and dumb
    until its process is started again.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], endpoint: str, keys: ClientKeys | None = None, pings: bool = True
    ) -> None:
        """Raises ConfigError for nonsense. `pings`: see `configure`."""
        self.socket, self.endpoint = socket, endpoint
        self.refused = False
        """The last that was heard of the other side is that our key is not accepted there."""
        self._given_up_ns = 0
        address = f"inproc://connection-{next(_NUMBERS)}"
        self._events: zmq.Socket[bytes] = context().socket(zmq.PAIR)
        # What tells the events waits for room, and libzmq's only thread with it.
        self._events.setsockopt(zmq.RCVHWM, 0)
        socket.monitor(
            address,
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CONNECT_RETRIED,
        )
        self._events.connect(address)
        try:
            connect(socket, endpoint, keys, pings)
        except ConfigError:
            self.close()
            raise

    def mend(self) -> None:
        """Connect again if libzmq has given it up. Call it now and then, where the socket may be used."""
        while readable(self._events):
            self._hear(int(recv_monitor_message(self._events)["event"]))
        at = monotonic_ns()
        if self._given_up_ns and at - self._given_up_ns >= MEND_NS:
            self.renew()

    def renew(self) -> None:
        """Connect anew, whatever there is."""
        self._given_up_ns = 0
        with contextlib.suppress(zmq.ZMQError):
            self.socket.disconnect(self.endpoint)
        self.socket.connect(self.endpoint)

    def move(self, endpoint: str) -> None:
        """Connect to another endpoint instead."""
        with contextlib.suppress(zmq.ZMQError):
            self.socket.disconnect(self.endpoint)
        self.endpoint = endpoint
        self.renew()

    def _hear(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            if not self.refused:
                log.warning("%s does not accept our key (there: tickplant keys list)", self.endpoint)
            self.refused = True
        elif event == zmq.EVENT_DISCONNECTED:  # and if libzmq goes on, it says so at once
            self._given_up_ns = monotonic_ns()
        else:
            self.refused = self.refused and event != zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._given_up_ns = 0

    def close(self, linger_ms: int = 0) -> None:
        """Close the socket; again does nothing."""
        if self.socket.closed:
            return
        self.socket.monitor(None, 0)
        self._events.close(linger=0)
        self.socket.close(linger=linger_ms)


def cut(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """End every connection of a bound socket; who may come back does so by itself.

    `endpoint` is what `bind` returned. Raises ConfigError if somebody else took it meanwhile.
    """
    socket.unbind(endpoint)
    for _ in range(PORT_PATIENCE_MS):
        try:
            socket.bind(endpoint)
            if endpoint.startswith("ipc://"):
                Path(endpoint[6:]).chmod(0o660)
            return
        except zmq.ZMQError as e:
            why = e.strerror
            time.sleep(0.001)  # the port is given back by a thread of libzmq
    raise ConfigError(f"can't listen on {endpoint} any more: {why}")


def restore(socket: zmq.Socket[bytes], endpoint: str) -> bool:
    """Bind an ipc endpoint again if somebody removed its file, with its folder or not; was that so?

    Raises ConfigError if it can't be.
    """
    if not endpoint.startswith("ipc://") or (path := Path(endpoint[6:])).exists():
        return False
    log.warning("%s was removed; it is made again", path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"{path} was removed, and can't be made again: {e.strerror}") from None
    cut(socket, endpoint)
    return True


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on, and that the system gives to no other connection."""
    system = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    while True:
        port = random.randrange(10_000, max(20_000, int(system)))
        with tcp.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


def is_tcp(endpoint: str) -> bool:
    """Is it for the network, and so for CURVE?"""
    return endpoint.startswith("tcp://")


def is_keyed(socket: zmq.Socket[bytes]) -> bool:
    """Has every message of this socket the name of a key?"""
    return int(socket.getsockopt(zmq.MECHANISM)) == zmq.CURVE


def key_name(frame: zmq.Frame) -> str:
    """The name of the key over whose connection a message came; empty if there was none."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def address(frame: zmq.Frame) -> str:
    """Where a message came from, as far as that is known."""
    try:
        return str(frame.get("Peer-Address")) or "unknown"
    except zmq.ZMQError:
        return "unknown"


def configure(socket: zmq.Socket[bytes], message_max: int = MESSAGE_MAX, pings: bool = True) -> None:
    """Limits and keep-alive of every socket.

    Without `pings` only the system's keep-alive notices a peer that is gone. Sockets whose high-water mark
    can stop the reading of a connection must have none: when a connection ends that is not being read, the
    next ping of libzmq 4.3.5 finds it ended and aborts the process (stream_engine_base.cpp, !_io_error).
    """
    if int(socket.getsockopt(zmq.MAXMSGSIZE)) < 0:  # whoever made it did not say
        socket.setsockopt(zmq.MAXMSGSIZE, message_max)
    socket.setsockopt(zmq.LINGER, 0)
    if pings:
        socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
    else:
        for option, value in KEEP_ALIVE:
            socket.setsockopt(option, value)
    # libzmq's own would be 30 s, and minutes, in which a network that is well again is not noticed.
    socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, 5000)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)


@cache
def library() -> str:
    """The path of the libzmq that this process has loaded. Raises ConfigError if that can't be told."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.partition("/")[2]
        if path.rpartition("/")[2].startswith("libzmq"):
            return f"/{path}"
    raise ConfigError(
        "this pyzmq has no shared libzmq; run: pip install --force-reinstall --only-binary :all: pyzmq"
    )


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Is there a message to receive right now?"""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & _POLLIN)


def check_exposure(endpoint: str, plaintext: bool) -> None:
    """Refuse to offer plaintext TCP beyond this host unless told to. Raises ConfigError."""
    if not is_tcp(endpoint) or plaintext:
        return
    host = urlsplit(endpoint).hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise ConfigError(
            f"{endpoint} would offer plaintext to the network; bind a loopback address, "
            "or set security.curve = true (tickplant keys new), or security.allow_plaintext = true"
        )
