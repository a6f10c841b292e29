"""Rows per second that a feed handler in Python pushes one at a time, batched by the feed and published.

A handler calls `feed.trade` for each row, as decoders of slow venues do, while a plant as production
runs it takes what is published. The limit is the same loop that puts the values of each row into a
structured array made beforehand, and publishes nothing.

    python benchmarks/bench_push.py [--rounds 5] [--rows 200000]
"""

import time
from multiprocessing.connection import Connection

import harness

from tickplant import Feed, config
from tickplant.schema import Rows

GOAL, GOAL_RATE = 0.7, 500_000


def values(code: int, rows: int) -> list[tuple[int, int, float, float, bytes]]:
    """What a decoder has found of each row: ts_event, instrument, price, size, side."""
    return [
        (n * 1000, code, 100 + n % 500 / 4, float(1 + n % 99), b"BS"[n % 2 : n % 2 + 1]) for n in range(rows)
    ]


def push(connection: Connection, path: str) -> None:
    """Child: on a number push so many rows into the feed, and into an array; rates of both."""
    settings = config.load(path)
    with Feed(settings, harness.FEED) as feed:
        code = feed.instrument("XBEN", "S1")
        connection.send("ready")
        while True:
            made = values(code, connection.recv())
            array = settings.schema["trade"].empty(len(made))
            begin = time.perf_counter()
            published(feed, made)
            middle = time.perf_counter()
            encoded(array, made)
            end = time.perf_counter()
            feed.drained(harness.PATIENCE_S)
            connection.send((len(made) / (middle - begin), len(made) / (end - middle)))


def published(feed: Feed, made: list[tuple[int, int, float, float, bytes]]) -> None:
    """One call a row, as a handler does it."""
    trade = feed.trade
    for ts_event, code, price, size, side in made:
        trade(ts_event=ts_event, instrument=code, price=price, size=size, side=side)
    feed.flush()


def encoded(array: Rows, made: list[tuple[int, int, float, float, bytes]]) -> None:
    """The same values into the same columns of an array that is there."""
    part = array[["ts_event", "instrument", "price", "size", "side"]]
    for at, row in enumerate(made):
        part[at] = row


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 2, "rows": 50_000}, rounds=5, rows=200_000)
    ours, limit = [], []
    with harness.Site() as site:
        site.run_ticker_plant()
        pusher = site.spawn(push, str(site.path))
        harness.hear(pusher)
        for _ in range(1 + arguments.rounds):
            pusher.send(arguments.rows)
            rates = harness.hear(pusher)
            ours.append(rates[0])
            limit.append(rates[1])
    what = "rows pushed one at a time by a handler in Python; into an array, published nowhere"
    harness.tell("push", what, ours[1:], limit[1:], "rows/s", GOAL)
    harness.tell("push_rate", "the same", ours[1:], [], "rows/s", GOAL_RATE, absolute=True)


if __name__ == "__main__":
    main()
