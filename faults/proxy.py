"""The network of a site: every TCP connection goes through a proxy that can do to it what networks do.

A link listens at 127.0.0.2 where a process of the plant listens at 127.0.0.1, and brings what it is sent from
the one side to the other. It understands ZMTP (RFC 37) as far as where a message begins and ends, so that
whole messages can be left out and a message can be cut in its middle; with CURVE, too, whose frames are
framed alike. One thread serves all links; `Weather` says how they are at the moment.
"""

import contextlib
import random
import selectors
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass, field

from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns

NEAR, FAR = "127.0.0.1", "127.0.0.2"
_CHUNK = 1 << 16
_HELD_MAX = 1 << 20
"""Bytes of a flow under way at most; more is not read, as in a network whose buffers are full."""
_GREETING = 64
_MORE, _LONG, _COMMAND = 1, 2, 4
_TICK_NS = 50 * MILLISECOND_NS


@dataclass(frozen=True)
class Weather:
    """How a link is. The default is fine."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    rate: float = 0.0
    """Bytes a second in each direction; 0: as many as there are."""
    stopped: bool = False
    """Nothing moves; it does when this is over."""
    hole: bool = False
    """Everything is taken and nothing delivered, and a connection that was in use now stays dead."""
    drop: float = 0.0
    """Probability with which a message is left out."""
    down: bool = False
    """Nobody listens."""


FINE = Weather()


class Framing:
    """Where the messages of one direction of a connection begin and end."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = _GREETING
        """Bytes until the next frame's head."""
        self._more = False
        self.in_rows = False
        """In a message, not in the greeting or a command."""

    def pieces(self, data: bytes) -> list[tuple[bytes, bool, int]]:
        """`data` cut at the borders of frames: bytes, does a message begin here, bytes of the frame to come.

        A head that is not whole yet is kept until it is.
        """
        out, at = [], 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                out.append((piece, False, self._left))
                at += len(piece)
                continue
            self._head += data[at : at + 1]
            at += 1
            size = 9 if self._head[0] & _LONG else 2
            if len(self._head) == size:
                head, self._head = bytes(self._head), bytearray()
                self._left = int.from_bytes(head[1:], "big")
                self.in_rows = not head[0] & _COMMAND
                begins = self.in_rows and not self._more
                if self.in_rows:
                    self._more = bool(head[0] & _MORE)
                out.append((head, begins, self._left))
        return out


@dataclass
class Flow:
    """One direction of a connection."""

    source: socket.socket
    sink: socket.socket
    may_drop: bool
    framing: Framing = field(default_factory=Framing)
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    """When it is due, and what."""
    held: int = 0
    tokens: float = 0.0
    filled_ns: int = 0
    dropping: bool = False
    ended: bool = False
    """The source has no more."""


@dataclass
class Connection:
    """A connection through a link: two sockets, two flows."""

    link: "Link"
    flows: tuple[Flow, Flow]
    dead: bool = False
    cut: str = ""
    """`half`: it ends in the middle of the next message; `now`: that has begun; `done`."""


class Link:
    """One endpoint. `drops` says which of its flows may lack messages: "up" is towards the plant."""

    def __init__(self, name: str, port: int, drops: tuple[str, ...]) -> None:
        self.name, self.port, self.drops = name, port, drops
        self.weather, self.until_ns = FINE, 0
        self.flips = 0
        """Bits that are still to be flipped."""
        self.connections: list[Connection] = []
        self.dropped = self.flipped = 0
        self.listener: socket.socket | None = None


class Proxy:
    """All links of a site, from `start` to `close`. Its methods may be called from any thread."""

    def __init__(self, seed: int, links: list[Link]) -> None:
        self.links = {link.name: link for link in links}
        self._random = random.Random(f"{seed} network")
        self._lock = threading.RLock()
        self._ended = False
        self._selector = selectors.DefaultSelector()
        for link in links:
            self._listen(link)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def close(self) -> None:
        """End all connections, and listen no more."""
        with self._lock:
            self._ended = True
        self._thread.join()
        for link in self.links.values():
            for connection in [*link.connections]:
                self._end(connection, reset=True)
            self._deafen(link)
        self._selector.close()

    def worsen(self, name: str, weather: Weather, seconds: float) -> None:
        """Have a link be so for some time."""
        with self._lock:
            link = self.links[name]
            link.weather, link.until_ns = weather, monotonic_ns() + int(seconds * SECOND_NS)
            if weather.down:
                for connection in [*link.connections]:
                    self._end(connection, reset=True)
                self._deafen(link)

    def cut(self, name: str, *, reset: bool, all_of_them: bool) -> int:
        """End a connection of a link, or all; how many."""
        with self._lock:
            connections = [*self.links[name].connections]
            if connections and not all_of_them:
                connections = [self._random.choice(connections)]
            for connection in connections:
                self._end(connection, reset=reset)
            return len(connections)

    def halve(self, name: str) -> int:
        """End each connection of a link in the middle of the next message; how many there are."""
        with self._lock:
            connections = self.links[name].connections
            for connection in connections:
                connection.cut = "half"
            return len(connections)

    def flip(self, name: str, bits: int) -> None:
        """Flip a bit in each of the next pieces that come over a link."""
        with self._lock:
            self.links[name].flips += bits

    # What the thread does, under the lock.

    def _run(self) -> None:
        while not self._ended:
            with self._lock:
                wait = self._turn()
            events = self._selector.select(wait / SECOND_NS)
            with self._lock:
                for key, _ in events:
                    self._ready(key)

    def _ready(self, key: selectors.SelectorKey) -> None:
        if isinstance(key.data, Link):
            self._accept(key.data)
        else:
            connection, flow = key.data
            if connection in connection.link.connections:  # not ended by an event before
                self._read(connection, flow)

    def _turn(self) -> int:
        """Heal what is over, and send what is due; how long to sleep, in ns."""
        now = monotonic_ns()
        soonest = now + _TICK_NS
        for link in self.links.values():
            if link.weather is not FINE and now >= link.until_ns:
                link.weather = FINE
                if link.listener is None:
                    self._listen(link)
            for connection in [*link.connections]:
                for flow in connection.flows:
                    soonest = min(soonest, self._write(connection, flow, now))
                if connection in link.connections:
                    self._interest(connection)
        return max(0, soonest - now)

    def _listen(self, link: Link) -> None:
        link.listener = socket.socket()
        link.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        link.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)
        link.listener.bind((FAR, link.port))
        link.listener.listen()
        link.listener.setblocking(False)
        self._selector.register(link.listener, selectors.EVENT_READ, link)

    def _deafen(self, link: Link) -> None:
        if link.listener is not None:
            self._selector.unregister(link.listener)
            link.listener.close()
            link.listener = None

    def _accept(self, link: Link) -> None:
        assert link.listener is not None
        try:
            near, _ = link.listener.accept()
        except OSError:
            return
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)
        far.settimeout(1.0)
        try:
            far.connect((NEAR, link.port))
        except OSError:
            _close(far, reset=True)
            _close(near, reset=True)
            return
        for one in (near, far):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flows = (Flow(near, far, "up" in link.drops), Flow(far, near, "down" in link.drops))
        connection = Connection(link, flows)
        link.connections.append(connection)
        for flow in flows:
            self._selector.register(flow.source, selectors.EVENT_READ, (connection, flow))

    def _interest(self, connection: Connection) -> None:
        """Read what there is room for."""
        for flow in connection.flows:
            wanted = not flow.ended and (
                connection.dead
                or connection.link.weather.hole
                or (flow.held < _HELD_MAX and not connection.link.weather.stopped)
            )
            known = flow.source in self._selector.get_map()
            if wanted and not known:
                self._selector.register(flow.source, selectors.EVENT_READ, (connection, flow))
            elif known and not wanted:
                self._selector.unregister(flow.source)

    def _read(self, connection: Connection, flow: Flow) -> None:
        try:
            data = flow.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._end(connection, reset=True)
            return
        weather = connection.link.weather
        if not data:
            flow.ended = True
            self._selector.unregister(flow.source)
            if connection.dead:
                self._end(connection, reset=True)
            return
        connection.dead = connection.dead or weather.hole
        if connection.dead:
            return
        pieces = self._passed(connection, flow, data)
        delay = weather.delay_s + self._random.random() * weather.jitter_s
        due = monotonic_ns() + int(delay * SECOND_NS) if delay else 0
        if flow.waiting:
            due = max(due, flow.waiting[-1][0])
        if pieces:
            flow.waiting.append((due, pieces))
            flow.held += len(pieces)
        self._write(connection, flow, monotonic_ns())

    def _passed(self, connection: Connection, flow: Flow, data: bytes) -> bytes:
        """What of these bytes goes on: messages left out, bits flipped, the rest of a cut one missing."""
        link, kept = connection.link, []
        for piece, begins, to_come in flow.framing.pieces(data):
            if begins:
                flow.dropping = flow.may_drop and self._random.random() < link.weather.drop
                link.dropped += flow.dropping
            if flow.dropping and flow.framing.in_rows:
                continue
            if connection.cut == "half" and begins and to_come > 1:
                kept.append(piece)
                connection.cut = "now"
            elif connection.cut == "now":
                kept.append(piece[: max(1, len(piece) // 2)])
                connection.cut = "done"
                flow.ended = True
                break
            else:
                kept.append(piece)
        whole = b"".join(kept)
        if link.flips and len(whole) > 1:
            link.flips -= 1
            link.flipped += 1
            changed = bytearray(whole)
            changed[self._random.randrange(len(changed))] ^= 1 << self._random.randrange(8)
            whole = bytes(changed)
        return whole

    def _write(self, connection: Connection, flow: Flow, now: int) -> int:
        """Send what is due; when to look again."""
        weather = connection.link.weather
        if weather.stopped or connection.dead or connection not in connection.link.connections:
            return now + _TICK_NS
        if weather.rate:
            since = min(now - flow.filled_ns, _TICK_NS)
            flow.tokens, flow.filled_ns = min(flow.tokens, _CHUNK) + since * weather.rate / SECOND_NS, now
        while flow.waiting:
            due, data = flow.waiting[0]
            if due > now:
                return due
            most = len(data) if not weather.rate else int(flow.tokens)
            if most < 1:
                return now + 5 * MILLISECOND_NS
            try:
                sent = flow.sink.send(data[:most])
            except BlockingIOError:
                return now + 5 * MILLISECOND_NS
            except OSError:
                self._end(connection, reset=True)
                return now + _TICK_NS
            flow.tokens -= sent
            flow.held -= sent
            flow.waiting.popleft()
            if sent < len(data):
                flow.waiting.appendleft((due, data[sent:]))
        if flow.ended:
            self._end(connection, reset=False)
        return now + _TICK_NS

    def _end(self, connection: Connection, *, reset: bool) -> None:
        if connection not in connection.link.connections:
            return
        connection.link.connections.remove(connection)
        for flow in connection.flows:
            if flow.source in self._selector.get_map():
                self._selector.unregister(flow.source)
            _close(flow.source, reset=reset)


def _close(one: socket.socket, *, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()


def endpoint(near: str) -> str:
    """Where the proxy listens for an endpoint of the plant."""
    return near.replace(NEAR, FAR)


def link(name: str, near: str, drops: tuple[str, ...] = ()) -> Link:
    """The link to an endpoint."""
    return Link(name, int(near.rpartition(":")[2]), drops)
