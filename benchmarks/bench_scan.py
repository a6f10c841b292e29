"""A reader's arithmetic over a whole column of a table in shared memory, beside the same on a private array.

A table of so many trades is made as a ticker plant makes it; a process of its own attaches to it and takes
the mean of the prices, in turns with a copy of them that is its own.
`scan_first` is of a mapping made just before, whose pages are not in the page table yet. `attach` is from
nothing to the first column, in a process that has imported everything.

    python benchmarks/bench_scan.py [--rounds 7] [--rows 50000000]
"""

import time
from multiprocessing.connection import Connection

import harness
import numpy as np
import numpy.typing as npt
from filled import fill

from tickplant import connect

GOAL, GOAL_ATTACH_MS = 0.95, 5.0


def read(connection: Connection, plant: str, rounds: int) -> None:
    """Child: rows per second of the mean in shared memory, in private memory, and of the first in a mapping;
    milliseconds to attach."""
    shared, private, first, attach = [], [], [], []
    kept = connect(plant).table("trade")["price"]
    own = kept.copy()
    for _ in range(1 + rounds):
        begin = time.perf_counter()
        prices = connect(plant).table("trade")["price"]
        attach.append((time.perf_counter() - begin) * 1000)
        first.append(rate(prices))
        shared.append(rate(kept))
        private.append(rate(own))
        del prices
    connection.send((shared[1:], private[1:], first[1:], attach[1:]))


def rate(prices: npt.NDArray[np.float64]) -> float:
    """Rows per second of their mean."""
    begin = time.perf_counter()
    assert np.isfinite(prices.mean())
    return len(prices) / (time.perf_counter() - begin)


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 3, "rows": 2_000_000}, rounds=7, rows=50_000_000)
    with harness.Site() as site:
        rows = fill(site, arguments.rows).row
        reader = site.spawn(read, site.name, arguments.rounds)
        shared, private, first, attach = harness.hear(reader)
    what = f'table["price"].mean() over {rows / 1e6:g} M rows in another process; of a private array'
    harness.tell("scan", what, shared, private, "rows/s", GOAL)
    harness.tell("scan_first", "the same, the first time that a process touches it", first, private, "rows/s")
    harness.tell("attach", "from connect to the column", attach, [], "ms", GOAL_ATTACH_MS, at_most=True,
                 absolute=True, digits=3)  # fmt: skip


if __name__ == "__main__":
    main()
