"""A remote reader's connections to a publisher: live rows, requests, and the newest heartbeat.

Three sockets, so that each can be bounded: SUB takes `queue_bytes` of live rows at most, libzmq's threads put
no more there while nobody reads; DEALER has the answers to what was asked; and a SUB that keeps only the last
message has the newest heartbeat, which tells at any time how far behind a reader is, and whether the plant is
alive, however much waits in the first.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import zmq

from tickplant import sockets, wire
from tickplant._core import framing
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns
from tickplant.errors import ConfigError, FrameError, NotRunning, RequestError, RowsGone
from tickplant.identity import Identity
from tickplant.keys import ClientKeys
from tickplant.keys import client as read_client
from tickplant.requests import NO_BEAT, TO_READER, Answer, Beat, Describe, Refused, Request, beat

PATIENCE_NS = 5 * SECOND_NS
RETRY_NS = SECOND_NS
MEND_NS = 100 * MILLISECOND_NS
BEATS_MISSED = 8
"""Heartbeats that may stay away before nothing is known any more."""
SILENCE_NS = 2 * SECOND_NS
"""And how long at least."""
DEAF_NS = 5 * SECOND_NS
"""How long nothing, not even a heartbeat, may come on a connection."""
ANSWERS_MAX = 64
A = TypeVar("A", bound=Answer)

KeySource = str | Path | tuple[str, str]
"""A reader's secret file, or its pair (public, secret)."""


class Link:
    """Connections to one publisher. `newest` is its last heartbeat, and the trading date that is about."""

    def __init__(
        self, endpoint: str, keys: KeySource | None, server_key: str | None, queue_bytes: int
    ) -> None:
        """Raises ConfigError for keys that are none."""
        self.endpoint = endpoint
        self.keys = None if keys is None else _own_keys(keys, server_key)
        self.newest: tuple[int, Beat] = (0, NO_BEAT)
        self.plant = Identity("")
        """Once it is known; answers of another are refused."""
        self._topics: set[bytes] = set()
        self._heard_ns = self._asked_ns = self._live_ns = self._pulse_ns = self._mend_ns = 0
        self._requests = self._requesting()
        self.dealer = self._requests.socket
        self.sub = sockets.context().socket(zmq.SUB)
        self.sub.setsockopt(zmq.RCVHWM, max(2, queue_bytes // wire.LIVE_MAX))
        self.pulse = sockets.context().socket(zmq.SUB)
        self.pulse.setsockopt(zmq.CONFLATE, 1)
        self._pushed: list[sockets.Connection] = []

    def _requesting(self) -> sockets.Connection:
        dealer = sockets.context().socket(zmq.DEALER)
        dealer.setsockopt(zmq.RCVHWM, ANSWERS_MAX)
        # What waited for a publisher that is away would all be answered at once when it is back.
        dealer.setsockopt(zmq.IMMEDIATE, 1)
        return sockets.Connection(dealer, self.endpoint, self.keys)

    def ask(self, request: Request, kind: type[A]) -> A:
        """A request whose answer, of this kind, is waited for; asked again after a silence (it may be asked
        twice).

        Raises NotRunning if there is no answer in time, RequestError or RowsGone if it is refused.
        """
        requests = self._requesting()
        try:
            end, dealer = monotonic_ns() + PATIENCE_NS, requests.socket
            while (left := end - monotonic_ns()) > 0:
                requests.mend()
                if not dealer.poll(min(left, MEND_NS) // 1_000_000, zmq.POLLOUT):
                    continue
                _send(dealer, request.packed())
                while dealer.poll(min(left, RETRY_NS) // 1_000_000):
                    message = self.answer(dealer.recv_multipart()[0])
                    if message is None:
                        break  # damaged on its way
                    if isinstance(message, kind):
                        return message
        finally:
            requests.close()
        raise NotRunning(
            f"no publisher answers at {self.endpoint}; is it running (tickplant status), is this its request "
            "endpoint, and does it accept the keys given, if it wants any (tickplant keys list)?"
        )

    def answer(self, said: bytes) -> Answer | None:
        """What the first part of an answer says; None if it, or the request, was damaged on its way.

        Raises RequestError or RowsGone for a refusal, and for an answer of another plant.
        """
        try:
            message = TO_READER.read(said)
        except FrameError:
            return None
        if isinstance(message, Refused):
            if message.again:
                return None
            kind = RowsGone if message.gone else RequestError
            raise kind(f"{self.endpoint} refused: {message.text}")
        self._check(message.identity)
        return message

    def _check(self, theirs: str) -> None:
        """Is it still the same plant? Raises RequestError."""
        if self.plant.token and theirs and theirs != self.plant.token:
            raise RequestError(
                f"{self.endpoint} is the publisher of another plant now ({theirs[:8]}), not of {self.plant}, "
                "whose rows were read so far; subscribe anew to read that one's"
            )

    def tell(self, request: Request) -> None:
        """Send a request whose answer comes to `dealer`, or not if there is no connection."""
        _send(self.dealer, request.packed())

    def subscribe(self, publish: str, tables: Iterable[int]) -> None:
        """Have live rows of these tables from where the publisher says they are, and heartbeats last: the
        first one proves that nothing can be missed unseen any more."""
        there = _resolve(self.endpoint, publish)
        for socket in (self.sub, self.pulse):
            self._pushed.append(sockets.Connection(socket, there, self.keys, pings=socket is not self.sub))
        self.choose(tables)
        for socket in (self.sub, self.pulse):
            socket.setsockopt(zmq.SUBSCRIBE, wire.topic(0))
        self._heard_ns = self._live_ns = self._pulse_ns = monotonic_ns()

    def choose(self, tables: Iterable[int]) -> None:
        """Have live rows of these tables, and of no others."""
        topics = {wire.topic(number) for number in tables}
        for topic in topics - self._topics:
            self.sub.setsockopt(zmq.SUBSCRIBE, topic)
        for topic in self._topics - topics:
            self.sub.setsockopt(zmq.UNSUBSCRIBE, topic)
        self._topics = topics

    def look(self) -> None:
        """Take note of the newest heartbeat, and see to it that the connections live.

        Raises RequestError if it is another plant's.
        """
        now = monotonic_ns()
        while True:
            try:
                frame = self.pulse.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            if (said := beat_of(frame)) is not None:
                self._check(said[1].identity)
                self.newest = said
                self._heard_ns = self._pulse_ns = now
        if now >= self._mend_ns:
            self._mend_ns = now + MEND_NS
            self._mend(now)

    def tend(self) -> None:
        """See to it that the connections live, now and then."""
        if monotonic_ns() >= self._mend_ns:
            self.look()

    def _mend(self, now: int) -> None:
        """Mend what libzmq gave up. A connection on which not even heartbeats come is made anew: it may be
        dead, its subscription may have been damaged, or the publisher came back elsewhere."""
        for connection in (self._requests, *self._pushed):
            connection.mend()
        if not self._pushed:
            return
        if now - self._live_ns >= DEAF_NS and not sockets.readable(self.sub):
            self._live_ns = now
            self._pushed[0].renew()
        if now - self._pulse_ns >= DEAF_NS:
            self._pulse_ns = now
            self._pushed[1].renew()
        if now - self._heard_ns > SILENCE_NS and now - self._asked_ns > RETRY_NS:
            self._asked_ns = now
            self.tell(Describe())

    def heard(self) -> None:
        """Something has come with the live rows."""
        self._live_ns = monotonic_ns()

    def moved(self, publish: str) -> None:
        """The publisher has said where live rows are: connect there, if it is elsewhere than before."""
        there = _resolve(self.endpoint, publish)
        for connection in self._pushed:
            if connection.endpoint != there:
                connection.move(there)

    @property
    def state(self) -> str:
        """What the newest heartbeat says of the ticker plant; `unknown` if none came for long, or it does not
        say."""
        self.look()
        said = self.newest[1]
        patience = max(SILENCE_NS, BEATS_MISSED * said.beat_ms * MILLISECOND_NS)
        return "unknown" if monotonic_ns() - self._heard_ns > patience else said.plant

    @property
    def idle_ns(self) -> int | None:
        """How long ago the ticker plant turned, as far as is known; None if it never was."""
        self.look()
        moved = self.newest[1].moved_ms
        if moved is None:
            return None
        return moved * MILLISECOND_NS + monotonic_ns() - self._heard_ns

    def close(self) -> None:
        """Leave the publisher."""
        for connection in (*self._pushed, self._requests):
            connection.close()
        self.sub.close()
        self.pulse.close()


def beat_of(frame: bytes | memoryview) -> tuple[int, Beat] | None:
    """The trading date and content of a heartbeat; None for anything else."""
    if framing.check(frame) or (head := wire.header(frame)).kind != wire.HEARTBEAT:
        return None
    try:
        return head.trading_date, beat(wire.payload(frame))
    except FrameError:
        return None


def _send(dealer: zmq.Socket[bytes], message: bytes) -> None:
    """Send, or not: who was refused has no connection any more, and to send would wait for ever."""
    with contextlib.suppress(zmq.Again):
        dealer.send(message, zmq.DONTWAIT)


def _resolve(asked: str, told: str) -> str:
    """Where to subscribe: the port the publisher told, on the host that we reached it by."""
    if told.startswith("tcp://") and asked.startswith("tcp://"):
        return f"tcp://{urlsplit(asked).hostname}:{urlsplit(told).port}"
    return told


def _own_keys(keys: KeySource, server_key: str | None) -> ClientKeys:
    if not isinstance(keys, tuple):
        try:
            return read_client(Path(keys), server_key)
        except OSError as e:
            raise ConfigError(f"can't read the keys {keys}: {e.strerror}") from None
    if not server_key:
        raise ConfigError("keys were given as a pair, without the plant's public key; give server_key")
    return ClientKeys(keys[0].encode(), keys[1].encode(), server_key.encode())
