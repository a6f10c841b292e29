"""What feeds send in bench_scaling.py: any number of feeds, of instruments, and of tables."""

import itertools
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import harness
import numpy as np
import zmq

from tickplant import config, wire
from tickplant._core import framing, rowsums
from tickplant.clock import MILLISECOND_NS, now_ns
from tickplant.config import Config
from tickplant.registry import TABLE as REGISTRY
from tickplant.schema import Rows, Schema, Table
from tickplant.table import SharedTable

ROWS_EACH = 100
DEFINED_AT_ONCE = 1000
RHYTHM_NS = 20 * MILLISECOND_NS
PATIENCE_S = 300.0
"""Until a million instruments are defined."""


def name(feed: int) -> str:
    """The name of the feed with this number."""
    return harness.FEED if feed == 1 else f"{harness.FEED}{feed}"


class Load:
    """The frames of one feed's session, as `harness.Frames` of one table."""

    def __init__(self, schema: Schema, feed: int, instruments: int, tables: list[str]) -> None:
        self.feed, self.instruments = feed, instruments
        self.session, self.seq = now_ns(), 0
        self._tables = [schema[table] for table in tables]
        self._sent = {table.number: (0, 0) for table in schema}
        self._names = np.zeros(instruments + 1, np.uint64)
        self._random = np.random.default_rng(feed)
        self.rest = self._define(schema["instrument"])
        self.definitions = next(self.rest)

    def _define(self, table: Table) -> Iterator[bytes]:
        for first in range(1, self.instruments + 1, DEFINED_AT_ONCE):
            codes = np.arange(first, min(first + DEFINED_AT_ONCE, self.instruments + 1))
            rows = table.empty(len(codes))
            rows["code"] = rows["instrument"] = codes
            rows["venue"] = b"XBEN"
            rows["symbol"] = symbols = [f"S{n}".encode() for n in codes.tolist()]
            self._names[codes] = [rowsums.name_hash(b"XBEN:" + symbol) for symbol in symbols]
            yield self._seal(table, rows)

    def _seal(self, table: Table, rows: Rows) -> bytes:
        before, total = self._sent[table.number]
        total = (total + rowsums.row_sum(rows.view("u1"), table.row_size, self._names)) % (1 << 64)
        made: bytes = framing.seal(
            rows.view("u1"), wire.ROWS, table=table.number, feed=self.feed, session=self.session,
            seq=self.seq, feed_row=before, feed_sum=total, time_ns=now_ns(), count=len(rows),
            schema=table.fingerprint,
        )  # fmt: skip
        self._sent[table.number] = (before + len(rows), total)
        self.seq += len(rows)
        return made

    def frames(self, messages: int) -> Iterator[bytes]:
        """The next frames, to one table after the other."""
        for table in itertools.islice(itertools.cycle(self._tables), messages):
            rows = table.empty(ROWS_EACH)
            rows["ts_event"] = rows["ts_recv"] = now_ns()
            rows["instrument"] = self._random.integers(1, self.instruments + 1, ROWS_EACH)
            rows["price"] = self._random.integers(100, 50_000, ROWS_EACH) / 100
            rows["size"] = 100.0
            yield self._seal(table, rows)


def introduced(settings: Config, load: Load) -> zmq.Socket[bytes]:
    """The socket of a feed whose instruments the plant knows."""
    harness.introduce(settings, load, feed=name(load.feed))
    pub = harness.publisher(settings.tickerplant.ingress)
    for definitions in load.rest:
        pub.send(definitions)
    end = time.monotonic() + PATIENCE_S
    while len(SharedTable(settings.plant.name, 0, REGISTRY.name)) < load.instruments:
        if time.monotonic() > end:
            raise TimeoutError("the ticker plant does not define all instruments")
        time.sleep(0.05)
    return pub


def send(connection: Connection, path: str, feeds: int, instruments: int, tables: list[str]) -> None:
    """Child: on (messages, rhythm) make so many of each feed; when told, send them, at once or one after
    the other in `RHYTHM_NS`; say when it is done."""
    settings = config.load(path)
    loads = [Load(settings.schema, feed, instruments, tables) for feed in range(1, feeds + 1)]
    posts = [introduced(settings, load).send for load in loads]
    connection.send("ready")
    while True:
        messages, rhythm = connection.recv()
        turns = list(zip(*(load.frames(messages) for load in loads), strict=True))
        connection.send("ready")
        connection.recv()
        beats = harness.beats(messages, RHYTHM_NS) if rhythm else itertools.repeat(0)
        for frames, _ in zip(turns, beats, strict=False):
            for post, frame in zip(posts, frames, strict=True):
                post(frame)
        connection.send("sent")
