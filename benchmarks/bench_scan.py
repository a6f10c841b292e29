"""A reader's arithmetic over a whole column of a table in shared memory, beside the same on a private array.

A table of so many trades is made as a ticker plant makes it; a process of its own attaches to it and takes
the mean of the prices, in turns with a copy of them that is its own. `attach` is from nothing to the first
column, in a process that has imported everything.

    python benchmarks/bench_scan.py [--rounds 7] [--rows 50000000]
"""

import time
from multiprocessing.connection import Connection

import harness
import numpy as np
from filled import fill

from tickplant import connect

GOAL, GOAL_ATTACH_MS = 0.95, 5.0


def read(connection: Connection, plant: str, rounds: int) -> None:
    """Child: rows per second of the mean in shared memory and in private memory; milliseconds to attach."""
    shared, private, attach = [], [], []
    own = connect(plant).table("trade")["price"].copy()
    for _ in range(1 + rounds):
        begin = time.perf_counter()
        prices = connect(plant).table("trade")["price"]
        attached = time.perf_counter()
        mean = prices.mean()
        middle = time.perf_counter()
        assert own.mean() == mean
        end = time.perf_counter()
        attach.append((attached - begin) * 1000)
        shared.append(len(prices) / (middle - attached))
        private.append(len(own) / (end - middle))
        del prices
    connection.send((shared[1:], private[1:], attach[1:]))


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 3, "rows": 2_000_000}, rounds=7, rows=50_000_000)
    with harness.Site() as site:
        rows = fill(site, arguments.rows).row
        reader = site.spawn(read, site.name, arguments.rounds)
        shared, private, attach = harness.hear(reader)
    what = f'table["price"].mean() over {rows / 1e6:g} M rows in another process; of a private array'
    harness.tell("scan", what, shared, private, "rows/s", GOAL)
    harness.tell("attach", "from connect to the column", attach, [], "ms", GOAL_ATTACH_MS, at_most=True,
                 absolute=True, digits=3)  # fmt: skip
    assert np.isfinite(shared).all()


if __name__ == "__main__":
    main()
