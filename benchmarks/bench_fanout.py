"""Rows per second to four readers over the network, from a feed's first send until the last reader has
all.

The way is feed, ticker plant, journal, publisher, readers; the limit is a PUB that sends the same
frames straight to four SUBs that do nothing with them.

    python benchmarks/bench_fanout.py [--rounds 5] [--rows-each 100]
"""

from multiprocessing.connection import Connection

import flow
import harness

from tickplant.clock import SECOND_NS

GOAL = 0.9
READERS = 4


def rate(sender: Connection, target: str, readers: list[Connection], expect: int, rows: int) -> float:
    """Rows per second until each reader had what it expects."""
    for reader in readers:
        reader.send(expect)
    for reader in readers:
        harness.hear(reader)
    if target == "bare":
        harness.settle()
    sender.send(target)
    begin = harness.hear(sender)
    return rows * SECOND_NS / (max(harness.hear(reader) for reader in readers) - begin)


def main() -> None:
    arguments = harness.options(
        __doc__, {"rounds": 1, "rows": 100_000}, rounds=5, rows=400_000, rows_each=100
    )
    rows = arguments.rows
    messages = arguments.rows // arguments.rows_each
    bare = harness.free_endpoint()
    ours, limit = [], []
    with harness.Site() as site:
        site.run_ticker_plant()
        endpoint = site.run_publisher()
        sender = site.spawn(flow.send, str(site.path), bare)
        harness.hear(sender)
        near = [site.spawn(flow.read_remote, endpoint) for _ in range(READERS)]
        plain = [site.spawn(flow.read_bare, bare) for _ in range(READERS)]
        for _ in range(1 + arguments.rounds):
            sender.send((messages, arguments.rows_each))
            harness.hear(sender)
            ours.append(rate(sender, "plant", near, rows, rows))
            limit.append(rate(sender, "bare", plain, messages, rows))
            sender.send("enough")
    what = f"feed, plant, publisher to {READERS} remote readers; a bare PUB to {READERS} SUBs"
    harness.tell("fanout", what, ours[1:], limit[1:], "rows/s", GOAL)


if __name__ == "__main__":
    main()
