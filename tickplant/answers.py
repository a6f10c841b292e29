"""What the publisher answers: requests of readers over ROUTER, within bounds that no reader can move.

    describe                      -> schema, trading date, rows, where to subscribe, which have latest values
    instruments from=N            -> names of the instruments from number N on
    replay date= table= row= bytes= [check=]  -> frames that hold the rows from `row` on; with `check` false
                                     as they lie in the journal, for who checks them and asks again without
    latest table= date= row= from= bytes=  -> cells (latest.py) of the instruments from number `from` on whose
                                     last row is at (date, row) or later; `next`: where to go on, 0 at the end

A request is answered at once, or dropped; nothing is kept for anybody. libzmq takes the peers in turn, so one
that asks without end has its share and no more. Of one that does not take its answers `answers_max` wait in
its queue; the next is dropped, and so are its requests, unread, for a while.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from tickplant import wire
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.config import Config
from tickplant.curve import Guard
from tickplant.errors import (
    FrameError,
    JournalError,
    MessageDamaged,
    NotRunning,
    RequestError,
    RowsGone,
    SegmentError,
)
from tickplant.latest import SharedLatest, cell_dtype
from tickplant.registry import RegistryReader
from tickplant.replay import Dates
from tickplant.sockets import context, readable

log = logging.getLogger(__name__)

NAMES_PER_REPLY = 10_000
REQUESTS_PER_TURN = 16
PART_MAX = 1 << 16
"""A longer part of a request cuts its connection: libzmq hands it to nobody who could answer."""
CLOGGED_NS = SECOND_NS
CLOGGED_MAX = 10_000


class Answers:
    """`open`, then `turn` again and again, then `close`."""

    def __init__(self, config: Config, dates: Dates, publish: str) -> None:
        """`publish`: where live rows are."""
        self.config, self.dates, self.publish = config, dates, publish
        self.settings = config.publisher
        self.registry = RegistryReader(config.registry_dir)
        self.requests = self.refused = self.dropped = 0
        self._clogged: dict[bytes, int] = {}
        self._spent = 0
        self._kinds: dict[str, Callable[[dict[str, Any]], Sequence[bytes | memoryview]]] = {
            "describe": self._describe,
            "instruments": self._instruments,
            "replay": self._replay,
            "latest": self._latest,
        }

    def open(self, guard: Guard) -> None:
        """Take the endpoint."""
        self.router = context().socket(zmq.ROUTER)
        self.router.setsockopt(zmq.RCVHWM, self.settings.requests_max)
        self.router.setsockopt(zmq.SNDHWM, self.settings.answers_max)
        self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # says so when it can't send, instead of dropping
        self.endpoint = guard.bind(self.router, self.settings.request, PART_MAX, pings=False)

    def turn(self) -> bool:
        """Answer some of the requests that are there: no more than live rows can wait for. Were there any?"""
        self._spent, before = 0, self.requests
        for _ in range(REQUESTS_PER_TURN):
            if self._spent > self.settings.turn_bytes_max or not readable(self.router):
                break
            peer, *parts = self.router.recv_multipart(zmq.DONTWAIT)
            self.requests += 1
            if self._clogged and self._is_clogged(peer):
                self.dropped += 1
                continue
            reply = self._reply(parts)
            self._spent += sum(len(part) for part in reply)
            try:
                self.router.send_multipart([peer, *reply], zmq.DONTWAIT)
            except zmq.Again:
                self.dropped += 1
                self._clog(peer)
            except zmq.ZMQError as e:
                if e.errno != zmq.EHOSTUNREACH:  # else: it has left
                    raise
        return self.requests > before

    def _is_clogged(self, peer: bytes) -> bool:
        until = self._clogged.get(peer, 0)
        if until and monotonic_ns() >= until:
            del self._clogged[peer]
            return False
        return bool(until)

    def _clog(self, peer: bytes) -> None:
        if len(self._clogged) >= CLOGGED_MAX:
            self._clogged.clear()
        self._clogged[peer] = monotonic_ns() + CLOGGED_NS

    def _reply(self, parts: list[bytes]) -> Sequence[bytes | memoryview]:
        try:
            return self._answer(parts)
        except (FrameError, RequestError, RowsGone, JournalError, SegmentError, NotRunning) as e:
            self.refused += 1
            return [
                wire.pack(
                    "error", text=str(e), gone=isinstance(e, RowsGone), again=isinstance(e, MessageDamaged)
                )
            ]

    def _answer(self, parts: list[bytes]) -> Sequence[bytes | memoryview]:
        size, most = sum(len(part) for part in parts), self.settings.request_bytes_max
        if size > most:
            raise RequestError(f"a request of {size:,} bytes; at most publisher.request_bytes_max = {most:,}")
        if len(parts) != 1:
            raise MessageDamaged(f"a request has one part, not {len(parts)}")
        message = wire.unpack(parts[0])
        kind = self._kinds.get(str(message.get("op")))
        if kind is None:
            raise RequestError(f"there is no request {message.get('op')!r}")
        return kind(message)

    def _describe(self, message: dict[str, Any]) -> list[bytes]:
        return [
            wire.pack(
                "plant", name=self.config.plant.name, schema=self.config.schema.describe(),
                trading_date=self.dates.trading_date, rows=self.dates.day.rows, publish=self.publish,
                latest=[t.number for t in self.config.schema if t.latest],
            )
        ]  # fmt: skip

    def _instruments(self, message: dict[str, Any]) -> list[bytes]:
        first = wire.field(message, "from", "int")
        self.registry.follow()
        names = self.registry.instruments.since(first)[:NAMES_PER_REPLY]
        return [wire.pack("instruments", names=names, **{"from": max(first, 1)})]

    def _limit(self, message: dict[str, Any]) -> int:
        asked: int = wire.field(message, "bytes", "int")
        return min(asked, self.settings.reply_bytes_max)

    def _replay(self, message: dict[str, Any]) -> list[bytes | memoryview]:
        date, table = wire.field(message, "date", "int"), wire.field(message, "table", "int")
        row, limit = wire.field(message, "row", "int"), self._limit(message)
        index, read = self.dates.of(date)
        self._spent += read
        frames = index.fetch(table, row, limit, message.get("check") is not False)
        head = wire.pack(
            "rows", date=date, table=table, row=row, end=index.rows.get(table, 0),
            next=self.dates.after(date) if index.sealed else 0,
        )  # fmt: skip
        return [head, frames]

    def _latest(self, message: dict[str, Any]) -> list[bytes]:
        number, first = wire.field(message, "table", "int"), wire.field(message, "from", "int")
        date, row = wire.field(message, "date", "int"), wire.field(message, "row", "int")
        known = {t.number: t for t in self.config.schema}
        table = known.get(number)
        if table is None or not table.latest:
            what = table.name if table else f"number {number}"
            raise RequestError(f"table {what} has no latest values; declare it with latest = true")
        slots = max(1, self._limit(message) // cell_dtype(table).itemsize)
        end = self.registry.follow()
        upto = min(first + slots, end)
        # Looked up anew each time: a ticker plant that starts may have made the table anew.
        cells = SharedLatest(self.config.plant.name, table.name).cells(first, upto)
        dates, numbers = cells["trading_date"], cells["number"]
        cells = cells[(dates > date) | ((dates == date) & (numbers >= row))]
        head = wire.pack(
            "latest", date=date, table=number, row=row, next=upto if upto < end else 0, **{"from": first}
        )
        return [head, cells.tobytes()]

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {
            "request": self.endpoint, "requests": self.requests, "refused": self.refused,
            "dropped": self.dropped,
        }  # fmt: skip

    def close(self) -> None:
        """Give the endpoint back."""
        self.router.close(linger=500)
