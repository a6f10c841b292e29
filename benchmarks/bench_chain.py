"""Messages per second of the whole chain: ITCH file, decoder, feed, ticker plant, a reader that has every
row.

The day of bench_itch.py is written to a file; a feed handler decodes and publishes it as `tickplant
demo` does, a local reader sees the rows of all its tables. From the start of the decoding until the
reader has the last row. The limit is the same decoding with the rows dropped.

    python benchmarks/bench_chain.py [--rounds 5] [--messages 1000000]
"""

import time
from multiprocessing.connection import Connection
from pathlib import Path

import harness
from bench_itch import day

from tickplant import Feed, config, connect
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.feed.formats import open_capture

GOAL_RATE = 3_000_000
TABLES = ("order", "trade", "quote")


def publish(connection: Connection, path: str, capture: str) -> None:
    """Child: on a word decode the file into a feed; when that began, and how many rows each table got."""
    settings = config.load(path)
    with Feed(settings, harness.FEED, paced=True) as feed:
        connection.send("ready")
        while True:
            connection.recv()
            begin, counts = monotonic_ns(), dict.fromkeys(TABLES, 0)
            for batch in open_capture(Path(capture)):
                for table, rows in batch:
                    feed.append(table, rows)
                    if table in counts:
                        counts[table] += len(rows)
            connection.send((begin, counts))


def read(connection: Connection, plant: str) -> None:
    """Child: on numbers of rows wait until each table has so many more; when that was."""
    tables = {name: connect(plant).table(name) for name in TABLES}
    have = {name: len(table) for name, table in tables.items()}
    connection.send("ready")
    while True:
        for name, count in connection.recv().items():
            have[name] += count
            while tables[name].wait(have[name] - 1) < have[name]:
                pass
        connection.send(monotonic_ns())


def decode(path: Path) -> float:
    """Seconds of decoding alone."""
    begin = time.perf_counter()
    for _ in open_capture(path):
        pass
    return time.perf_counter() - begin


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 1, "messages": 200_000}, rounds=5, messages=1_000_000)
    ours, limit = [], []
    with harness.Site() as site:
        capture = site.folder / "day.itch"
        capture.write_bytes(day(arguments.messages))
        site.run_ticker_plant()
        source = site.spawn(publish, str(site.path), str(capture))
        reader = site.spawn(read, site.name)
        harness.hear(source), harness.hear(reader)
        for _ in range(1 + arguments.rounds):
            limit.append(arguments.messages / decode(capture))
            source.send("go")
            begin, counts = harness.hear(source)
            reader.send(counts)
            ours.append(arguments.messages * SECOND_NS / (harness.hear(reader) - begin))
    what = "ITCH file to a reader that has all rows; decoding alone"
    harness.tell("chain", what, ours[1:], limit[1:], "messages/s")
    harness.tell("chain_rate", "the same", ours[1:], [], "messages/s", GOAL_RATE, absolute=True)


if __name__ == "__main__":
    main()
