"""Readers elsewhere: rows of the plant over ZeroMQ, gap-free, from any row of the day.

    for batch in tickplant.subscribe("tcp://plant:7013", tables=["trade"], from_row=0):
        print(batch.first_row, batch["price"].mean())

Joining without a hole: subscribe to the tables first and to heartbeats last, wait for a heartbeat (it
proves that the subscription is live and says from which row), request the rows below, then go on live.
What is requested comes in answers of bounded size, each asked for when the one before has been used, so
a slow reader slows nobody.
"""

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import zmq

from tickplant import sockets, wire
from tickplant._core import core
from tickplant.batch import Batch
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns
from tickplant.errors import ConfigError, FrameError, NotRunning, RequestError
from tickplant.instruments import Instruments, full_name, split_name
from tickplant.keys import ClientKeys
from tickplant.keys import client as read_client
from tickplant.schema import Schema
from tickplant.sequencer import Delivery, TableSequence

REPLY_BYTES = 1 << 20
PATIENCE_NS = 5 * SECOND_NS
RETRY_NS = SECOND_NS
DRAIN = 256
MEND_NS = 100 * MILLISECOND_NS
SILENCE_NS = 5 * SECOND_NS

KeySource = str | Path | tuple[str, str]
"""A reader's secret file, or its pair (public, secret)."""


class Subscription:
    """An endless iterator of batches; see `subscribe`."""

    def __init__(
        self,
        endpoint: str,
        tables: Sequence[str],
        symbols: Sequence[str] | None = None,
        from_row: int | Mapping[str, int] | None = 0,
        *,
        server_key: str | None = None,
        keys: KeySource | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._keys = None if keys is None else _own_keys(keys, server_key)
        self.symbols = None if symbols is None else {full_name(*split_name(s)) for s in symbols}
        self.instruments = Instruments()
        """Names of the instruments by number; complete for every row handed out."""
        self.gaps_filled = 0
        self._asked: dict[int, tuple[int, int, int]] = {}
        self._asking_ns: dict[int, int] = {}
        self._ready: deque[Delivery] = deque()
        self._mend_ns = self._heard_ns = 0
        self._requests = self._requesting()
        self._sub = sockets.context().socket(zmq.SUB)
        self._pushed: sockets.Connection | None = None
        try:
            self._join(tables, from_row)
        except BaseException:
            self.close()
            raise

    def _join(self, tables: Sequence[str], from_row: int | Mapping[str, int] | None) -> None:
        about = self._ask("plant", "describe")
        self.schema = Schema.read(wire.field(about, "schema", "list"))
        self.trading_date = wire.field(about, "trading_date", "int")
        self._sequences = {
            (t := self.schema[name]).number: TableSequence(t, self.trading_date, 0) for name in tables
        }
        self._subscribe(_resolve(self.endpoint, wire.field(about, "publish", "str")))
        self._begin(from_row)

    def _requesting(self) -> sockets.Connection:
        dealer = sockets.context().socket(zmq.DEALER)
        # What waited for a publisher that is away would all be answered at once when it is back.
        dealer.setsockopt(zmq.IMMEDIATE, 1)
        return sockets.Connection(dealer, self.endpoint, self._keys)

    def _ask(self, expected: str, op: str, **fields: Any) -> dict[str, Any]:
        """A request whose answer is waited for; asked again after a silence (it may be asked twice).

        Raises NotRunning if there is no answer in time.
        """
        end, dealer = monotonic_ns() + PATIENCE_NS, self._requests.socket
        while (left := end - monotonic_ns()) > 0:
            self._requests.mend()
            if not dealer.poll(min(left, MEND_NS) // 1_000_000, zmq.POLLOUT):
                continue
            self._tell(wire.pack(op, **fields))
            while dealer.poll(min(left, RETRY_NS) // 1_000_000):
                try:
                    message = wire.unpack(dealer.recv_multipart()[0])
                except FrameError:
                    break  # damaged on its way
                if message.get("op") == "error" and not message.get("again"):
                    raise RequestError(f"{self.endpoint} refused {op}: {message.get('text')}")
                if message.get("op") == expected:
                    return message
        raise NotRunning(
            f"no publisher answers at {self.endpoint}; is it running (tickplant status), is this its request "
            "endpoint, and does it accept the keys given, if it wants any (tickplant keys list)?"
        )

    def _tell(self, message: bytes) -> None:
        """Send, or not if there is no connection."""
        with contextlib.suppress(zmq.Again):
            self._requests.socket.send(message, zmq.DONTWAIT)

    def _subscribe(self, endpoint: str) -> None:
        self._sub.setsockopt(zmq.RCVHWM, 100_000)
        self._pushed = sockets.Connection(self._sub, endpoint, self._keys)
        for number in self._sequences:
            self._sub.setsockopt(zmq.SUBSCRIBE, wire.topic(number))
        self._sub.setsockopt(zmq.SUBSCRIBE, wire.topic(0))

    def _begin(self, from_row: int | Mapping[str, int] | None) -> None:
        """Wait for the first heartbeat: from here on nothing can be missed unseen."""
        end = monotonic_ns() + PATIENCE_NS
        while (left := end - monotonic_ns()) > 0:
            if not self._sub.poll(left // 1_000_000):
                break
            frame = self._sub.recv()
            if not core.check(frame) and wire.header(frame).kind == wire.HEARTBEAT:
                rows, self._heard_ns = wire.small_map(wire.payload(frame)), monotonic_ns()
                for number, sequence in self._sequences.items():
                    there = int(rows.get(number, 0))
                    sequence.trading_date = wire.header(frame).trading_date
                    wanted = from_row.get(sequence.table.name) if isinstance(from_row, Mapping) else from_row
                    sequence.expected = there if wanted is None else wanted
                    if sequence.expected < 0:
                        sequence.expected = max(0, there + sequence.expected)
                    sequence.end = max(there, sequence.expected)
                return
        raise NotRunning(f"the publisher of {self.endpoint} sends no heartbeat")

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self.next(1.0)
            if batch is not None:
                yield batch

    def next(self, timeout: float) -> Batch | None:
        """The next batch, or None if none came within `timeout` seconds."""
        end = monotonic_ns() + int(timeout * SECOND_NS)
        while True:
            while self._ready:
                try:
                    batch = self._batch(self._ready[0])
                except NotRunning:  # names can't be had at the moment
                    return None
                self._ready.popleft()
                if len(batch):
                    return batch
            left = end - monotonic_ns()
            if left <= 0:
                return None
            self._request()
            self._hear(min(left, RETRY_NS) // 1_000_000 + 1)

    def _hear(self, timeout_ms: int) -> None:
        poller = zmq.Poller()
        poller.register(self._sub, zmq.POLLIN)
        poller.register(self._requests.socket, zmq.POLLIN)
        ready = dict(poller.poll(timeout_ms))
        self._tend(self._sub in ready)
        if self._requests.socket in ready:
            with contextlib.suppress(FrameError):  # damaged on its way: asked for again
                self._answered(self._requests.socket.recv_multipart())
        if self._sub in ready:
            for _ in range(DRAIN):
                try:
                    self._live(self._sub.recv(zmq.DONTWAIT))
                except zmq.Again:
                    break

    def _tend(self, heard: bool) -> None:
        """See to it that the connections live; heartbeats are missed if the subscription was damaged."""
        at = monotonic_ns()
        if heard:
            self._heard_ns = at
        if at >= self._mend_ns and self._pushed:
            self._mend_ns = at + MEND_NS
            self._requests.mend()
            self._pushed.mend()
            if at - self._heard_ns >= SILENCE_NS:
                self._heard_ns = at
                self._pushed.renew()

    def _live(self, frame: bytes) -> None:
        if core.check(frame):
            return  # not a frame: what it should have been is missed, and requested
        head = wire.header(frame)
        if head.kind == wire.HEARTBEAT:
            rows = wire.small_map(wire.payload(frame))
            for number, sequence in self._sequences.items():
                sequence.on_heartbeat(head.trading_date, int(rows.get(number, 0)))
        elif head.kind == wire.ROWS and head.table in self._sequences:
            sequence = self._sequences[head.table]
            if head.schema == sequence.table.fingerprint:
                self._ready += sequence.on_frame(frame, head)

    def _request(self) -> None:
        """Ask for what is missing: per table one request at a time, again after a silence."""
        now = monotonic_ns()
        for number, sequence in self._sequences.items():
            self._ready += sequence.advance()
            want = sequence.want()
            if want is None:
                continue
            asked = (want.trading_date, number, want.row)
            if self._asked.get(number) == asked and now - self._asking_ns[number] < RETRY_NS:
                continue
            self._asked[number], self._asking_ns[number] = asked, now
            self._tell(
                wire.pack("replay", date=want.trading_date, table=number, row=want.row, bytes=REPLY_BYTES)
            )

    def _answered(self, parts: list[bytes]) -> None:
        message = wire.unpack(parts[0])
        if message.get("op") == "error" and not message.get("again"):
            raise RequestError(f"{self.endpoint}: {message.get('text')}")
        if message.get("op") != "rows" or len(parts) != 2:
            return  # the late answer to a question that was given up
        asked = tuple(wire.field(message, name, "int") for name in ("date", "table", "row"))
        number = asked[1]
        if self._asked.get(number) != asked:
            return
        frames = _split(parts[1])
        end, after = wire.field(message, "end", "int"), wire.field(message, "next", "int")
        self.gaps_filled += 1
        sequence = self._sequences[number]
        self._ready += sequence.on_answer(frames, asked[0], end, after)
        if frames or after or sequence.over:
            del self._asked[number]  # else there is nothing yet: not again at once

    def _batch(self, delivery: Delivery) -> Batch:
        rows = delivery.table.rows(delivery.payload)
        batch = Batch.of(rows, delivery.table.name, delivery.trading_date, delivery.first_row)
        highest = int(rows["instrument"].max()) if len(rows) else 0
        if highest >= len(self.instruments):
            self._learn(highest)
        if self.symbols is None:
            return batch
        wanted = [self.instruments.number(s) for s in self.symbols if s in self.instruments]
        return batch.only(np.isin(rows["instrument"], wanted))

    def _learn(self, number: int) -> None:
        """Have the names of all instruments up to a number."""
        held, self._requests = self._requests, self._requesting()
        try:
            while number >= len(self.instruments):
                first = len(self.instruments)
                names = wire.field(
                    self._ask("instruments", "instruments", **{"from": first}), "names", "list"
                )
                if not names:
                    raise FrameError(f"{self.endpoint} sent rows of an instrument {number} it can't name")
                for venue, symbol in names:
                    self.instruments.add(venue, symbol)
        finally:
            self._requests.close()
            self._requests = held

    def past(self, trading_date: int) -> bool:
        """Has every row of this trading date, in all tables, been handed out?"""
        return not self._ready and all(s.trading_date > trading_date for s in self._sequences.values())

    def close(self) -> None:
        """Leave the plant's publisher."""
        if self._pushed:
            self._pushed.close()
        self._sub.close()
        self._requests.close()


def subscribe(
    endpoint: str,
    tables: Sequence[str],
    symbols: Sequence[str] | None = None,
    from_row: int | Mapping[str, int] | None = 0,
    *,
    server_key: str | None = None,
    keys: KeySource | None = None,
) -> Subscription:
    """Rows of a plant on any host, as an endless iterator of `Batch`es without a gap.

    `endpoint` is the publisher's request endpoint; `symbols` (VENUE:SYMBOL) leaves only the rows of these
    instruments; `from_row` is the first row wanted, for all tables or by table; negative: so many
    before now; None: now. Of a plant with CURVE, `keys` is this reader's file NAME.key_secret, or its pair
    (public, secret), and `server_key` the plant's public key, which the file tells if it is not given.
    Raises NotRunning if no publisher answers or it does not accept the keys, SchemaError for a table that it
    does not have, ConfigError for keys that are none.
    """
    return Subscription(endpoint, tables, symbols, from_row, server_key=server_key, keys=keys)


def _own_keys(keys: KeySource, server_key: str | None) -> ClientKeys:
    if not isinstance(keys, tuple):
        try:
            return read_client(Path(keys), server_key)
        except OSError as e:
            raise ConfigError(f"can't read the keys {keys}: {e.strerror}") from None
    if not server_key:
        raise ConfigError("keys were given as a pair, without the plant's public key; give server_key")
    return ClientKeys(keys[0].encode(), keys[1].encode(), server_key.encode())


def _split(blob: bytes) -> list[bytes]:
    """The frames of an answer; ends at the first that is not valid, which is asked for again."""
    frames, at = [], 0
    while at < len(blob) and not core.check(memoryview(blob)[at:]):
        size = wire.HEADER_SIZE + wire.header(blob, at).size
        frames.append(blob[at : at + size])
        at += size
    return frames


def _resolve(asked: str, told: str) -> str:
    """Where to subscribe: the port the publisher told, on the host that we reached it by."""
    if told.startswith("tcp://") and asked.startswith("tcp://"):
        return f"tcp://{urlsplit(asked).hostname}:{urlsplit(told).port}"
    return told
