"""The publisher: the only process that talks to readers on the network, itself a reader of the journal.

It follows the journal and sends every frame as it stands there over PUB, and twice a second what the next
row of every table is (a heartbeat: it shows a subscriber the tail it may have missed). Over ROUTER it
answers, one request at a time and never more than the bytes that the request allows:

    describe                      -> schema, trading date, rows, where to subscribe
    instruments from=N            -> names of the instruments from number N on
    replay date= table= row= bytes=  -> frames that hold the rows from `row` on

The plant does not know how many readers there are, nor whether there is a publisher.
"""

import logging
from collections.abc import Callable
from typing import Any

import msgpack
import zmq

from tickplant import wire
from tickplant._core import core
from tickplant.clock import MILLISECOND_NS, monotonic_ns, now_ns
from tickplant.config import Config
from tickplant.control import Control
from tickplant.curve import Guard
from tickplant.errors import FrameError, JournalError, MessageDamaged, RequestError, TickplantError
from tickplant.keys import READERS
from tickplant.registry import RegistryReader
from tickplant.replay import ReplayIndex
from tickplant.sockets import context, readable

log = logging.getLogger(__name__)

TURN_NS = 5 * MILLISECOND_NS
REPLY_BYTES = 1 << 22
NAMES_PER_REPLY = 10_000
REQUESTS_PER_TURN = 16
INDEXES_MAX = 4
INDEX_SLICE = 8
"""Chunks of an old journal that are indexed per request."""


class Publisher:
    """`open`, then `turn` again and again, then `close`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.settings = config.publisher
        self.frames_sent = self.requests = self.refused = 0
        self._beat_ns = 0
        self._indexes: dict[int, ReplayIndex] = {}
        self._answers: dict[str, Callable[[dict[str, Any]], list[bytes]]] = {
            "describe": self._describe,
            "instruments": self._instruments,
            "replay": self._replay,
        }

    def open(self) -> None:
        """Index what the newest journal has, take the endpoints. Raises NotRunning without a plant."""
        self.control = Control.wait(self.config.plant.name)
        self.registry = RegistryReader(self.config.registry_dir)
        self.trading_date = int(self.control.date.load())
        self.day = self._index(self.trading_date)
        while self.day.follow(self._bound(self.trading_date)):
            pass
        self.guard = Guard(self.config, READERS)
        self.pub = context().socket(zmq.PUB)
        self.pub.setsockopt(zmq.SNDHWM, 10_000)
        self.endpoint = self.guard.bind(self.pub, self.settings.publish)
        self.router = context().socket(zmq.ROUTER)
        self.router.setsockopt(zmq.SNDHWM, 100)
        self.request_endpoint = self.guard.bind(self.router, self.settings.request)

    def _index(self, trading_date: int) -> ReplayIndex:
        return ReplayIndex(self.config.journal_dir / str(trading_date))

    def _bound(self, trading_date: int) -> int | None:
        """How far a date's journal may be read: if it is open, what the plant has finished writing."""
        written = int(self.control.written.load())
        return written if self.control.date.load() == trading_date else None

    def turn(self) -> bool:
        """One turn; True if there were rows to send."""
        position = self.day.reader.position or 0
        self.control.bell.wait_above(self.control.written, position, TURN_NS)
        chunk = self.day.follow(self._bound(self.trading_date))
        if chunk:
            self._send(chunk)
        elif self.day.sealed and self.control.date.load() > self.trading_date:
            self._next_date()
        self._serve()
        at = monotonic_ns()
        if at - self._beat_ns >= self.settings.heartbeat_ms * MILLISECOND_NS:
            self._beat_ns = at
            self._beat()
            self.guard.look()
        return bool(chunk)

    def _send(self, chunk: bytes) -> None:
        view, send = memoryview(chunk), self.pub.send
        for offset, size, kind, *_ in core.index(chunk).tolist():
            if kind in (wire.ROWS, wire.SEAL):
                send(view[offset : offset + size])
                self.frames_sent += 1

    def _next_date(self) -> None:
        self._beat()
        self._keep(self.trading_date, self.day)
        self.trading_date = self._next(self.trading_date) or int(self.control.date.load())
        self._indexes.pop(self.trading_date, self.day).close()
        self.day = self._index(self.trading_date)

    def _keep(self, trading_date: int, index: ReplayIndex) -> None:
        self._indexes[trading_date] = index
        while len(self._indexes) > INDEXES_MAX:
            self._indexes.pop(next(iter(self._indexes))).close()

    def _beat(self) -> None:
        payload = msgpack.packb(self.day.rows)
        self.pub.send(core.seal(payload, wire.HEARTBEAT, trading_date=self.trading_date, time_ns=now_ns()))

    def _serve(self) -> None:
        for _ in range(REQUESTS_PER_TURN):
            if not readable(self.router):
                return
            peer, *parts = self.router.recv_multipart(zmq.DONTWAIT)
            self.requests += 1
            try:
                if len(parts) != 1:
                    raise MessageDamaged(f"a request has one part, not {len(parts)}")
                message = wire.unpack(parts[0])
                answer = self._answers.get(str(message.get("op")))
                if answer is None:
                    raise RequestError(f"there is no request {message.get('op')!r}")
                reply = answer(message)
            except (FrameError, RequestError, JournalError) as e:
                self.refused += 1
                reply = [wire.pack("error", text=str(e), again=isinstance(e, MessageDamaged))]
            try:
                self.router.send_multipart([peer, *reply], zmq.DONTWAIT)
            except zmq.Again:
                self.refused += 1

    def _describe(self, message: dict[str, Any]) -> list[bytes]:
        return [
            wire.pack(
                "plant", name=self.config.plant.name, schema=self.config.schema.describe(),
                trading_date=self.trading_date, rows=self.day.rows, publish=self.endpoint,
            )
        ]  # fmt: skip

    def _instruments(self, message: dict[str, Any]) -> list[bytes]:
        first = wire.field(message, "from", "int")
        self.registry.follow()
        names = self.registry.instruments.since(first)[:NAMES_PER_REPLY]
        return [wire.pack("instruments", names=names, **{"from": max(first, 1)})]

    def _replay(self, message: dict[str, Any]) -> list[bytes]:
        date, table = wire.field(message, "date", "int"), wire.field(message, "table", "int")
        row, limit = wire.field(message, "row", "int"), wire.field(message, "bytes", "int")
        index = self._of(date)
        frames = index.fetch(table, row, min(limit, REPLY_BYTES))
        head = wire.pack(
            "rows", date=date, table=table, row=row, end=index.rows.get(table, 0),
            next=self._next(date) if index.sealed else 0,
        )  # fmt: skip
        return [head, frames]

    def _next(self, date: int) -> int:
        """The trading date after a sealed one; 0 if it has not begun."""
        dates = [int(p.name) for p in self.config.journal_dir.glob("[0-9]" * 8)]
        return min((d for d in dates if d > date), default=0)

    def _of(self, date: int) -> ReplayIndex:
        if date == self.trading_date:
            return self.day
        if date not in self._indexes:
            if not (self.config.journal_dir / str(date)).is_dir():
                raise RequestError(f"there is no journal of trading date {date}")
            self._keep(date, self._index(date))
        index = self._indexes[date]
        # A slice at a time: live rows must not wait for an old date. Who asks is told what is known so
        # far, and asks again.
        for _ in range(INDEX_SLICE):
            if index.sealed or not index.follow(self._bound(date)):
                break
        return index

    def status(self) -> dict[str, Any]:
        """How the publisher is, for the status file."""
        written = int(self.control.written.load())
        position = self.day.reader.position or 0
        same = self.control.date.load() == self.trading_date
        return {
            "trading_date": self.trading_date,
            "publish": self.endpoint,
            "request": self.request_endpoint,
            "frames_sent": self.frames_sent,
            "behind_bytes": written - position if same else None,
            "requests": self.requests,
            "refused": self.refused,
        }

    def close(self) -> None:
        """Give the endpoints back."""
        try:
            self._beat()
        except (TickplantError, zmq.ZMQError) as e:
            log.warning("no last heartbeat: %s", e)
        self.pub.close(linger=500)
        self.router.close(linger=500)
        self.guard.close()
