"""Microseconds from a feed handler's call until a local reader, asleep, has the row: one row per
millisecond.

The way is the whole one: outbox, PUB, ticker plant, journal, shared memory, wakeup; durability is
`group`. The limit is what ZeroMQ alone takes for a frame of that size in that rhythm: PUB to a SUB that
sleeps in recv. Open loop: times count from the moment at which a row was due, so a stall is seen by
every row that it delays. `burst` is the same at ten rows per millisecond, beside the quiet figure.

    python benchmarks/bench_latency.py [--rounds 11] [--rows 1000]
"""

from multiprocessing.connection import Connection

import harness
import numpy as np

from tickplant import Feed, config, connect, wire
from tickplant.clock import MILLISECOND_NS, monotonic_ns

GOALS = {"p50": 1.15, "p99": 1.3}
GOAL_BURST = 5.0
QUIET_NS, BURST_NS = MILLISECOND_NS, MILLISECOND_NS // 10
WARM_UP = 1


def feed(connection: Connection, path: str) -> None:
    """Child: on (rows, interval) publish rows, each with the time at which it was due as its ts_event."""
    settings = config.load(path)
    with Feed(settings, harness.FEED) as handler:
        code = handler.instrument("XBEN", "S1")
        handler.drained(harness.PATIENCE_S)
        connection.send("ready")
        while True:
            for due in harness.beats(*connection.recv()):
                handler.row("trade", ts_event=due, instrument=code, price=187.32, size=100.0, side=b"B")
                handler.flush()


def read(connection: Connection, plant: str) -> None:
    """Child: on a number wait for so many rows more; the ns that each took."""
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
        for due in harness.beats(*connection.recv()):
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


def once(source: Connection, reader: Connection, rows: int, interval_ns: int) -> list[float]:
    """Microseconds that each of so many rows took."""
    reader.send(rows)
    harness.hear(reader)
    source.send((rows, interval_ns))
    took: list[float] = (np.array(harness.hear(reader)) / 1000).tolist()
    return took


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 1, "rows": 300}, rounds=11, rows=1000)
    kinds = ("quiet", "bare", "burst")
    took: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    with harness.Site(tickerplant={"durability": "group"}) as site:
        site.run_ticker_plant()
        bare = harness.free_endpoint()
        ours = site.spawn(feed, str(site.path)), site.spawn(read, site.name)
        limit = site.spawn(publish, str(site.path), bare), site.spawn(receive, bare)
        for connection in (*reversed(ours), *reversed(limit)):
            harness.hear(connection)
        for _ in range(WARM_UP + arguments.rounds):
            took["quiet"].append(once(*ours, arguments.rows, QUIET_NS))
            took["bare"].append(once(*limit, arguments.rows, QUIET_NS))
            took["burst"].append(once(*ours, arguments.rows, BURST_NS))
    rounds = {kind: [harness.percentiles(t) for t in took[kind][WARM_UP:]] for kind in kinds}
    pooled = {kind: np.concatenate(took[kind][WARM_UP:]).tolist() for kind in kinds}
    whole = {kind: harness.percentiles(pooled[kind]) for kind in kinds}
    for name in harness.PERCENTILES:
        values = {kind: [p[name] for p in rounds[kind]] for kind in kinds}
        more = (
            {"percentiles": {"1 row per ms": whole["quiet"], "bare PUB to SUB": whole["bare"]}}
            if name == "p50"
            else {}
        )
        what = f"feed to a sleeping local reader, 1 row per ms, {name}; bare PUB to SUB"
        harness.tell(f"latency_{name}", what, values["quiet"], values["bare"], "us", GOALS.get(name),
                     at_most=True, digits=1, **more)  # fmt: skip
    values = {kind: [p["p99"] for p in rounds[kind]] for kind in kinds}
    harness.tell("latency_burst_p99", "the same, 10 rows per ms, p99; the quiet figure", values["burst"],
                 values["quiet"], "us", GOAL_BURST, at_most=True, digits=1,
                 percentiles={"10 rows per ms": whole["burst"]},
                 histograms={kind: harness.histogram(pooled[kind]) for kind in kinds})  # fmt: skip


if __name__ == "__main__":
    main()
