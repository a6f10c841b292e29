"""The plant beside what a user might pick instead: rows in, the way of one row, and rows to several readers.

`ingest`: from the first send until all rows are as safe as each promises, or with one that keeps nothing
until a reader has them; 1 and 100 rows a message, each message by itself: where that takes a transaction, it
has one. `latency`: one row a millisecond, from when it was due until one reader, asleep, has it. `fan_out`:
100 rows a message, until the last of some readers has all. Ours is a ticker plant with group commit, frames
made beforehand, a feed handler for the single rows, and followers. All take the same rows, and take turns;
peers are not measured at what they can't do, and one that fails is told.

    python benchmarks/bench_peers.py [--rounds 5] [--readers 4] [--peers redis nats ...]
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import ModuleType
from typing import TypeVar

import harness
from peers import plant, processes

from tickplant.clock import SECOND_NS

PEERS = ["redis", "nats", "iceoryx2", "zenoh", "arcticdb", "duckdb", "postgres"]
WARM_UP = 1
OURS = "peers.plant"
T = TypeVar("T")


@dataclass
class Way:
    """Ours, or a peer: its module, where it is, and its source's process; `sinks` are everybody's."""

    module: ModuleType
    address: str
    source: Connection
    sinks: list[Connection]

    def messages(self, rows_each: int) -> int:
        """How many messages make a round."""
        return getattr(self.module, "MESSAGES", plant.MESSAGES)[rows_each]

    def ingest(self, rows_each: int) -> float:
        """Rows a second until they are safe."""
        if not getattr(self.module, "STORES", True):
            return self.fan_out(rows_each, 1)
        messages = self.messages(rows_each)
        self._prepare(messages, rows_each)
        self.source.send(("pour",))
        begin, end = processes.hear(self.source)
        return messages * rows_each * SECOND_NS / (end - begin)

    def fan_out(self, rows_each: int, readers: int) -> float:
        """Rows a second until so many readers have all."""
        messages = self.messages(rows_each)
        self._prepare(messages, rows_each)
        self._read("count", messages * rows_each, readers)
        self.source.send(("pour",))
        begin, _ = processes.hear(self.source)
        end = max(processes.hear(sink) for sink in self.sinks[:readers])
        return messages * rows_each * SECOND_NS / (end - begin)

    def latency(self, rows: int) -> list[float]:
        """us that each of so many rows took."""
        self._read("time", rows, 1)
        self.source.send(("beat", rows))
        return [ns / 1000 for ns in processes.hear(self.sinks[0])]

    def _prepare(self, messages: int, rows_each: int) -> None:
        self.source.send(("prepare", messages, rows_each))
        processes.hear(self.source)

    def _read(self, what: str, rows: int, readers: int) -> None:
        for sink in self.sinks[:readers]:
            sink.send((what, self.module.__name__, self.address, rows))
        for sink in self.sinks[:readers]:
            processes.hear(sink)


@contextlib.contextmanager
def way(site: harness.Site, module: ModuleType, address: str, sinks: list[Connection]) -> Iterator[Way]:
    """A way, while its source's process runs."""
    source = site.spawn(processes.source, module.__name__, address)
    try:
        processes.hear(source)
        yield Way(module, address, source, sinks)
    finally:
        source.close()


def in_turns(rounds: int, measure: Callable[[Way], T], *ways: Way) -> list[list[T]]:
    """What each way measured in each round but the first."""
    taken = [[measure(way) for way in ways] for _ in range(WARM_UP + rounds)]
    return [list(column) for column in zip(*taken[WARM_UP:], strict=True)]


def compare_ingest(name: str, rounds: int, rows_each: int, ours: Way, peer: Way) -> None:
    rates = in_turns(rounds, lambda way: way.ingest(rows_each), ours, peer)
    what = f"ingest, {rows_each} rows a message; {name}: {peer.module.PROMISE}"
    harness.tell(f"peer_{name}_ingest_{rows_each}", what, *rates, "rows/s")


def compare_latency(name: str, rounds: int, rows: int, ours: Way, peer: Way) -> None:
    took = in_turns(rounds, lambda way: way.latency(rows), ours, peer)
    pooled = {
        whose: harness.percentiles([us for round_ in rounds_ for us in round_])
        for whose, rounds_ in zip(("ours", "limit"), took, strict=True)
    }
    for percentile in ("p50", "p99"):
        each = [[harness.percentiles(us)[percentile] for us in rounds_] for rounds_ in took]
        what = f"a row to one reader asleep, {percentile}; {name}"
        more = {"percentiles": pooled} if percentile == "p50" else {}
        harness.tell(f"peer_{name}_latency_{percentile}", what, *each, "us", at_most=True, digits=1, **more)


def compare_fan_out(name: str, rounds: int, ours: Way, peer: Way) -> None:
    readers = len(ours.sinks)
    rates = in_turns(rounds, lambda way: way.fan_out(100, readers), ours, peer)
    what = f"to {readers} readers, 100 rows a message; {name}"
    harness.tell(f"peer_{name}_fan_out", what, *rates, "rows/s")


def meet(site: harness.Site, name: str, ours: Way, rounds: int, latency_rows: int) -> None:
    """Run a peer beside ours. Raises whatever makes it impossible."""
    module = importlib.import_module(f"peers.{name}")
    with module.serve(site) as address, way(site, module, address, ours.sinks) as peer:
        for rows_each in plant.MESSAGES:
            compare_ingest(name, rounds, rows_each, ours, peer)
        if hasattr(module, "Sink"):
            compare_latency(name, rounds, latency_rows, ours, peer)
            if getattr(module, "FAN_OUT", True):
                compare_fan_out(name, rounds, ours, peer)


def main() -> None:
    quick = {"rounds": 1, "latency_rows": 100, "readers": 2, "peers": ["redis"]}
    arguments = harness.options(__doc__, quick, rounds=5, latency_rows=400, readers=4, peers=PEERS)
    single = {plant.SINGLE: {"id": 2, "handler": "none"}}
    with harness.Site(feeds=single) as site:
        site.run_ticker_plant()
        sinks = [site.spawn(processes.sink) for _ in range(arguments.readers)]
        with way(site, importlib.import_module(OURS), str(site.path), sinks) as ours:
            for name in arguments.peers:
                try:
                    meet(site, name, ours, arguments.rounds, arguments.latency_rows)
                except Exception as e:  # whatever it is: the others are measured all the same
                    harness.fail(f"peer_{name}", f"{type(e).__name__}: {e}")
                    ours.sinks[:] = [site.spawn(processes.sink) for _ in sinks]


if __name__ == "__main__":
    main()
