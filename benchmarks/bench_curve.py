"""What CURVE costs: rows per second from a feed's socket until they are visible, beside those in plaintext.

Two ticker plants as production runs them, one with keys, take the same frames from one sender in turn; from
the first send until the last row is committed.

    python benchmarks/bench_curve.py [--rounds 5] [--rows-each 1 10 100 1000]
"""

import time
from multiprocessing.connection import Connection

import harness
from bench_ingest import MESSAGES, committed

from tickplant import config
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.curve import feed_keys
from tickplant.keys import FEEDS, Keys

WARM_UP = 1


def send(connection: Connection, *paths: str) -> None:
    """Child: on (messages, rows each) make frames; then send them to the plant of each number that comes."""
    plants = [config.load(path) for path in paths]
    frames = harness.Frames(plants[0].schema)
    keys = [feed_keys(plant, harness.FEED) for plant in plants]
    for plant, own in zip(plants, keys, strict=True):
        harness.introduce(plant, frames, own)
    posts = [harness.publisher(p.tickerplant.ingress, own).send for p, own in zip(plants, keys, strict=True)]
    while True:
        made = frames.trades(*connection.recv())
        connection.send("ready")
        for _ in plants:
            post = posts[connection.recv()]
            connection.send(monotonic_ns())
            for frame in made:
                post(frame)


def case(rows_each: int, rounds: int, share: int) -> None:
    messages = MESSAGES[rows_each] // share
    rows = messages * rows_each
    rates: tuple[list[float], list[float]] = [], []
    with harness.Site() as plain, harness.Site(security={"curve": True}) as keyed:
        Keys(keyed.config.keys_dir).new(harness.FEED, FEEDS)
        tables = [site.run_ticker_plant().table("trade") for site in (plain, keyed)]
        sender = plain.spawn(send, str(plain.path), str(keyed.path))
        for _ in range(WARM_UP + rounds):
            sender.send((messages, rows_each))
            harness.hear(sender)
            for number, trades in enumerate(tables):
                upto = len(trades) + rows
                sender.send(number)
                begin = harness.hear(sender)
                rates[number].append(rows * SECOND_NS / (committed(trades, upto) - begin))
                time.sleep(0.1)  # what the plant does afterwards is not the other's time
    what = f"ingest with CURVE, {rows_each} rows a message; in plaintext"
    harness.tell(f"curve_{rows_each}", what, rates[1][WARM_UP:], rates[0][WARM_UP:], "rows/s", rows=rows)


def main() -> None:
    quick = {"rounds": 1, "rows_each": [100], "share": 6}
    arguments = harness.options(__doc__, quick, rounds=5, rows_each=list(MESSAGES), share=1)
    for rows_each in arguments.rows_each:
        case(rows_each, arguments.rounds, arguments.share)


if __name__ == "__main__":
    main()
