"""Microseconds from a feed handler's call until a local reader, asleep, has the row: one row per millisecond.

The way is the whole one: outbox, PUB, ticker plant, journal, shared memory, wakeup. The limit is what
ZeroMQ alone takes for a frame of that size in that rhythm: PUB to a SUB that sleeps in recv. Open loop:
times count from the moment at which a row was due, so a stall is seen by every row that it delays.

    python benchmarks/bench_latency.py [--rounds 21] [--rows 400]
"""

import argparse
from multiprocessing.connection import Connection

import harness
import numpy as np

from tickplant import Feed, config, connect, wire
from tickplant.clock import MILLISECOND_NS, monotonic_ns

GOAL = 1.5
INTERVAL_NS = MILLISECOND_NS
WARM_UP = 1
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}


def feed(connection: Connection, path: str) -> None:
    """Child: on a number publish so many rows, each with the time at which it was due as its ts_event."""
    settings = config.load(path)
    with Feed(settings, harness.FEED) as handler:
        code = handler.instrument("XBEN", "S1")
        handler.drained(harness.PATIENCE_S)
        connection.send("ready")
        while True:
            for due in harness.beats(connection.recv(), INTERVAL_NS):
                handler.row("trade", ts_event=due, instrument=code, price=187.32, size=100.0, side=b"B")
                handler.flush()


def read(connection: Connection, plant: str) -> None:
    """Child: on a number wait for so many rows more; the ns that each took, as bytes."""
    trades = connect(plant).table("trade")
    connection.send("ready")
    while True:
        upto = len(trades) + connection.recv()
        have, took = len(trades), []
        connection.send("reading")
        while have < upto:
            there = trades.wait(have)
            at = monotonic_ns()
            took += (at - trades["ts_event"][have:there]).tolist()
            have = there
        connection.send(took)


def publish(connection: Connection, path: str, endpoint: str) -> None:
    """Child: the same as `feed`, with nothing but a PUB."""
    frame = bytearray(harness.Frames(config.load(path).schema).trades(1, 1)[0])
    pub = harness.publisher(endpoint)
    connection.send("ready")
    while True:
        for due in harness.beats(connection.recv(), INTERVAL_NS):
            frame[wire.HEADER_SIZE : wire.HEADER_SIZE + 8] = due.to_bytes(8, "little")
            pub.send(frame)


def receive(connection: Connection, endpoint: str) -> None:
    """Child: the same as `read`, with nothing but a SUB."""
    sub = harness.subscriber(endpoint)
    connection.send("ready")
    while True:
        left, took = harness.in_use(sub, connection), []
        connection.send("reading")
        for _ in range(left):
            frame = sub.recv()
            at = monotonic_ns()
            took.append(at - int.from_bytes(frame[wire.HEADER_SIZE : wire.HEADER_SIZE + 8], "little"))
        connection.send(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--rows", type=int, default=400)
    arguments = parser.parse_args()
    ours: list[list[float]] = []
    limit: list[list[float]] = []
    with harness.Site() as site:
        site.run_ticker_plant()
        bare = harness.free_endpoint()
        ways = [
            (site.spawn(feed, str(site.path)), site.spawn(read, site.name), ours),
            (site.spawn(publish, str(site.path), bare), site.spawn(receive, bare), limit),
        ]
        for source, reader, _ in ways:
            harness.hear(reader), harness.hear(source)
        for _ in range(WARM_UP + arguments.rounds):
            for source, reader, took in ways:
                reader.send(arguments.rows)
                harness.hear(reader)
                source.send(arguments.rows)
                microseconds = np.array(harness.hear(reader)) / 1000
                took.append(np.percentile(microseconds, list(PERCENTILES.values())).tolist())
    for i, name in enumerate(PERCENTILES):
        harness.tell(
            f"latency_{name}", [t[i] for t in ours[WARM_UP:]], [t[i] for t in limit[WARM_UP:]], "us",
            GOAL if name == "p50" else None, at_most=True, digits=1, rows=arguments.rows,
        )  # fmt: skip


if __name__ == "__main__":
    main()
