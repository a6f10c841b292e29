"""Rows per second from a feed's socket until they are journaled and visible in shared memory.

A sender pours frames made beforehand, with nothing dropped, into a ticker plant as production runs it
(journal, group commit, tables, latest values). The limit is ZeroMQ itself: a process that only receives the
same frames from the same sender. From the first send until the last row is committed, or received.

    python benchmarks/bench_ingest.py [--rounds 5] [--rows-each 1 10 100 1000]
"""

import argparse
import time
from multiprocessing.connection import Connection

import harness

from tickplant import config
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.local import Table

MESSAGES = {1: 60_000, 10: 40_000, 100: 12_000, 1000: 1_500}
"""By rows per message: enough for some tenths of a second."""
GOALS = {1: 0.6, 100: 0.5}
WARM_UP = 1


def send(connection: Connection, path: str, bare: str) -> None:
    """Child: on ("plant" or "bare", messages, rows each) make frames; then, when told, send them."""
    settings = config.load(path)
    frames = harness.Frames(settings.schema)
    harness.introduce(settings, frames)
    targets = {
        "plant": harness.publisher(settings.tickerplant.ingress),
        "bare": harness.publisher(bare),
    }
    made: list[bytes] = []
    while True:
        target, messages, rows_each = connection.recv()
        if target == "plant":  # whose turn is first; the other gets the same frames
            made = frames.trades(messages, rows_each)
        connection.send("ready")
        connection.recv()
        post = targets[target].send
        connection.send(monotonic_ns())
        for frame in made:
            post(frame)


def receive(connection: Connection, endpoint: str) -> None:
    """Child: on a number receive so many messages, and tell when the last was there."""
    sub = harness.subscriber(endpoint)
    connection.send("bound")
    while True:
        left = harness.in_use(sub, connection)
        while left:
            sub.recv()
            left -= 1
        connection.send(monotonic_ns())


def committed(trades: Table, rows: int) -> int:
    """When so many rows were there."""
    end = time.monotonic() + harness.PATIENCE_S
    while len(trades) < rows:
        time.sleep(0.0005)  # not `wait`: the plant would spend its time waking us
        if time.monotonic() > end:
            raise TimeoutError(f"{len(trades):,} of {rows:,} rows came")
    return monotonic_ns()


def case(rows_each: int, rounds: int, durability: str) -> None:
    messages, rows = MESSAGES[rows_each], MESSAGES[rows_each] * rows_each
    bare = harness.free_endpoint()
    ours: list[float] = []
    limit: list[float] = []
    with harness.Site(tickerplant={"durability": durability}) as site:
        trades = site.run_ticker_plant().table("trade")
        receiver = site.spawn(receive, bare)
        harness.hear(receiver)
        sender = site.spawn(send, str(site.path), bare)
        for _ in range(WARM_UP + rounds):
            for target, rates in (("plant", ours), ("bare", limit)):
                sender.send((target, messages, rows_each))
                harness.hear(sender)
                upto = len(trades) + rows
                if target == "bare":
                    receiver.send(messages)
                sender.send("go")
                begin = harness.hear(sender)
                end = committed(trades, upto) if target == "plant" else harness.hear(receiver)
                rates.append(rows * SECOND_NS / (end - begin))
    harness.tell(
        f"ingest_{rows_each}", ours[WARM_UP:], limit[WARM_UP:], "rows/s", GOALS.get(rows_each),
        rows=rows, durability=durability,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows-each", type=int, nargs="+", choices=list(MESSAGES), default=list(MESSAGES))
    parser.add_argument("--durability", choices=["none", "group", "always"], default="group")
    arguments = parser.parse_args()
    for rows_each in arguments.rows_each:
        case(rows_each, arguments.rounds, arguments.durability)


if __name__ == "__main__":
    main()
