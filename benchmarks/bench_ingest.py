"""Rows per second from a feed's socket until they are journaled and visible in shared memory.

A sender pours frames made beforehand, with nothing dropped, into a ticker plant as production runs it
(journal, group commit, tables, latest values). The limit is ZeroMQ itself: a process that only receives the
same frames from the same sender; where a message has many rows, it writes each to a file on the same disk.
From the first send until the last row is committed, or received.

    python benchmarks/bench_ingest.py [--rounds 5] [--rows-each 1 10 100 1000]
"""

import os
import time
from multiprocessing.connection import Connection

import harness

from tickplant import config
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.local import Table

MESSAGES = {1: 60_000, 10: 40_000, 100: 12_000, 1000: 1_500}
"""By rows per message: enough for some tenths of a second."""
GOALS = {1: 1.0, 100: 0.9, 1000: 0.9}
WRITES = 100
"""Rows in a message from which on the limit writes them, too."""
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


def receive(connection: Connection, endpoint: str, file: str) -> None:
    """Child: on a number receive so many messages, and write each to `file`, if there is one."""
    sub = harness.subscriber(endpoint)
    connection.send("bound")
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if file else 0
    while True:
        left = harness.in_use(sub, connection)
        if fd:
            for _ in range(left):
                os.write(fd, sub.recv())
        else:
            for _ in range(left):
                sub.recv()
        connection.send(monotonic_ns())


def committed(trades: Table, rows: int) -> int:
    """When so many rows were there."""
    end = time.monotonic() + harness.PATIENCE_S
    while len(trades) < rows:
        time.sleep(0.0005)  # not `wait`: the plant would spend its time waking us
        if time.monotonic() > end:
            raise TimeoutError(f"{len(trades):,} of {rows:,} rows came")
    return monotonic_ns()


def case(rows_each: int, rounds: int, share: int, durability: str) -> None:
    messages = MESSAGES[rows_each] // share
    rows = messages * rows_each
    bare = harness.free_endpoint()
    ours: list[float] = []
    limit: list[float] = []
    with harness.Site(tickerplant={"durability": durability}) as site:
        trades = site.run_ticker_plant().table("trade")
        receiver = site.spawn(receive, bare, str(site.folder / "bare") if rows_each >= WRITES else "")
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
    limited = "a bare SUB loop" + (" that writes each to the same disk" if rows_each >= WRITES else "")
    harness.tell(
        f"ingest_{rows_each}", f"ingest, {rows_each} rows a message; {limited}", ours[WARM_UP:],
        limit[WARM_UP:], "rows/s", GOALS.get(rows_each), durability=durability,
    )  # fmt: skip


def main() -> None:
    quick = {"rounds": 1, "rows_each": [1, 100], "share": 3}
    arguments = harness.options(
        __doc__, quick, rounds=5, rows_each=list(MESSAGES), share=1, durability="group"
    )
    for rows_each in arguments.rows_each:
        case(rows_each, arguments.rounds, arguments.share, arguments.durability)


if __name__ == "__main__":
    main()
