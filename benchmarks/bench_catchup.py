"""Rows per second of a late joiner: a day from its first row over the network, then live.

A publisher gives a reader so many rows that lie in the journal, by replay, and the reader goes on live. The
limit sends the bytes of the same journal over a bare TCP connection, and a reader that only receives them.

    python benchmarks/bench_catchup.py [--rounds 5] [--rows 10000000]
"""

import contextlib
import socket
import time
from multiprocessing.connection import Connection
from pathlib import Path

import harness
from filled import fill

from tickplant import subscribe

GOAL = 0.7
CHUNK = 1 << 20


def read(connection: Connection, endpoint: str) -> None:
    """Child: on a number read the day from its first row until there were so many; seconds, and rows live."""
    while True:
        upto = connection.recv()
        begin, rows = time.perf_counter(), 0
        with contextlib.closing(subscribe(endpoint, ["trade"])) as subscription:
            while rows < upto:
                batch = subscription.next(1.0)
                rows += 0 if batch is None else len(batch)
            connection.send(time.perf_counter() - begin)
            connection.recv()  # a row is published now
            while (batch := subscription.next(1.0)) is None:
                pass
            connection.send(batch.first_row)


def serve(connection: Connection, folder: str) -> None:
    """Child: give the bytes of a journal to whoever connects, again and again."""
    files = sorted(Path(folder).glob("*.tpj"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection.send(server.getsockname()[1])
        while True:
            peer, _ = server.accept()
            with peer:
                for file in files:
                    with file.open("rb") as source:
                        while chunk := source.read(CHUNK):
                            peer.sendall(chunk)


def bare(port: int) -> float:
    """Seconds of receiving all of it."""
    buffer = bytearray(CHUNK)
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as peer:
        while peer.recv_into(buffer):
            pass
    return time.perf_counter() - begin


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 1, "rows": 500_000}, rounds=5, rows=10_000_000)
    ours, limit = [], []
    with harness.Site() as site:
        frames = fill(site, arguments.rows)
        plant = site.run_ticker_plant()
        rows = len(plant.table("trade"))
        reader = site.spawn(read, site.run_publisher())
        server = site.spawn(serve, str(site.config.journal_dir / str(plant.trading_date)))
        port = harness.hear(server)
        pub = harness.publisher(site.config.tickerplant.ingress)
        for _ in range(1 + arguments.rounds):
            limit.append(rows / bare(port))
            reader.send(rows)
            ours.append(rows / harness.hear(reader))
            reader.send("go")
            pub.send(frames.trades(1, 1)[0])
            assert harness.hear(reader) == rows, "the first row that came live is not the next"
            rows += 1
        pub.close(linger=0)
    what = f"late joiner: {arguments.rows / 1e6:g} M rows over the network; the journal's bytes over bare TCP"
    harness.tell("catchup", what, ours[1:], limit[1:], "rows/s", GOAL)


if __name__ == "__main__":
    main()
