"""What the publisher answers: requests of readers (requests.py) over ROUTER, within bounds that no reader can
move.

A request is answered at once, or dropped; nothing is kept for anybody. libzmq takes the peers in turn, so one
that asks without end has its share and no more. Of one that does not take its answers `answers_max` wait in
its queue; the next is dropped, and so are its requests, unread, for a while.

A request that is not sound is refused with the reason. Whatever else goes wrong with one costs its sender an
error, and the publisher a line of its log: never the process.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.config import Config
from tickplant.curve import Guard
from tickplant.errors import MessageDamaged, RequestError, RowsGone, TickplantError
from tickplant.latest import SharedLatest, cell_dtype
from tickplant.refusals import now_and_then
from tickplant.registry import RegistryReader
from tickplant.replay import Dates
from tickplant.requests import (
    TEXT_MAX,
    TO_PUBLISHER,
    About,
    Describe,
    LatestFrom,
    Names,
    NamesFrom,
    Newest,
    Refused,
    Replay,
    Replayed,
)
from tickplant.sockets import context, readable

log = logging.getLogger(__name__)

NAMES_PER_REPLY = 10_000
REQUESTS_PER_TURN = 16
PART_MAX = 1 << 16
"""A longer part of a request cuts its connection: libzmq hands it to nobody who could answer."""
CLOGGED_NS = SECOND_NS
CLOGGED_MAX = 10_000

Reply = Sequence[bytes | memoryview]


class Answers:
    """`open`, then `turn` again and again, then `close`."""

    def __init__(self, config: Config, dates: Dates, identity: str, publish: str) -> None:
        """`identity`: of the plant; `publish`: where live rows are."""
        self.config, self.dates, self.identity, self.publish = config, dates, identity, publish
        self.settings = config.publisher
        self.registry = RegistryReader(config.registry_dir)
        self.requests = self.refused = self.failed = self.dropped = 0
        self._clogged: dict[bytes, int] = {}
        self._spent = 0
        self._kinds: dict[type, Callable[[Any], Reply]] = {
            Describe: self._describe,
            NamesFrom: self._names,
            Replay: self._replay,
            LatestFrom: self._latest,
        }
        self.look_at_tables()

    def look_at_tables(self) -> None:
        """Take note of the tables that the plant has now."""
        control = self.dates.control
        latest = control.latest
        self._latest_tables = {t.number: t.name for t in control.schema if t.name in latest}
        self._tables = {t.number: t.name for t in control.schema}

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
            reply = self.reply(parts)
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

    def reply(self, parts: list[bytes]) -> Reply:
        """The parts of the answer to a request, whatever it is."""
        try:
            return self._answer(parts)
        except TickplantError as e:
            self.refused += 1
            gone, again = isinstance(e, RowsGone), isinstance(e, MessageDamaged)
            return [Refused(text=str(e)[:TEXT_MAX], gone=gone, again=again).packed()]
        except Exception as e:
            self.failed += 1
            if now_and_then(self.failed):
                log.exception("request number %d could not be answered: %r", self.requests, parts)
            text = f"the publisher failed to answer this ({type(e).__name__}: {e}); see its log"
            return [Refused(text=text[:TEXT_MAX]).packed()]

    def _answer(self, parts: list[bytes]) -> Reply:
        size, most = sum(len(part) for part in parts), self.settings.request_bytes_max
        if size > most:
            raise RequestError(f"a request of {size:,} bytes; at most publisher.request_bytes_max = {most:,}")
        if len(parts) != 1:
            raise MessageDamaged(f"a request has one part, not {len(parts)}")
        message = TO_PUBLISHER.read(parts[0])
        return self._kinds[type(message)](message)

    def _describe(self, asked: Describe) -> Reply:
        index, read = self.dates.of(asked.date or self.dates.trading_date)
        self._spent += read
        about = About(
            name=self.config.plant.name, identity=self.identity, trading_date=self.dates.trading_date,
            rows=self.dates.day.rows, publish=self.publish, date=asked.date or self.dates.trading_date,
            schema=index.schema.describe(), fingerprint=index.schema.fingerprint,
            latest=list(self._latest_tables),
        )  # fmt: skip
        return [about.packed()]

    def _names(self, asked: NamesFrom) -> Reply:
        self.registry.follow()
        names = self.registry.instruments.since(asked.first)[:NAMES_PER_REPLY]
        return [Names(identity=self.identity, first=max(asked.first, 1), names=names).packed()]

    def _limit(self, asked: Replay | LatestFrom) -> int:
        return min(asked.bytes, self.settings.reply_bytes_max)

    def _replay(self, asked: Replay) -> Reply:
        index, read = self.dates.of(asked.date)
        self._spent += read
        frames = index.fetch(asked.table, asked.row, self._limit(asked), asked.check)
        after = self.dates.after(asked.date) if index.sealed else 0
        head = Replayed(
            identity=self.identity, date=asked.date, table=asked.table, row=asked.row,
            end=index.rows.get(asked.table, 0), next=after,
            next_schema=self.dates.fingerprint(after) if after else 0,
        )  # fmt: skip
        return [head.packed(), frames]

    def _latest(self, asked: LatestFrom) -> Reply:
        name = self._latest_tables.get(asked.table)
        if name is None:
            what = self._tables.get(asked.table, f"number {asked.table}")
            raise RequestError(f"table {what} has no latest values; declare it with latest = true")
        # Looked up anew each time: a ticker plant that starts may have made the table anew.
        shared = SharedLatest(self.config.plant.name, name)
        slots = max(1, self._limit(asked) // cell_dtype(shared.table).itemsize)
        end = self.registry.follow()
        upto = min(asked.first + slots, end)
        cells = shared.cells(asked.first, upto)
        dates, numbers = cells["trading_date"], cells["number"]
        cells = cells[(dates > asked.date) | ((dates == asked.date) & (numbers >= asked.row))]
        head = Newest(
            identity=self.identity, date=asked.date, table=asked.table, row=asked.row, first=asked.first,
            next=upto if upto < end else 0, schema=shared.table.fingerprint,
        )  # fmt: skip
        return [head.packed(), cells.tobytes()]

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {
            "request": self.endpoint, "requests": self.requests, "refused": self.refused,
            "failed": self.failed, "dropped": self.dropped,
        }  # fmt: skip

    def close(self) -> None:
        """Give the endpoint back."""
        self.router.close(linger=500)
