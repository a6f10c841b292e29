"""Microseconds of what a reader asks of one instrument: its last rows, its last value, and all last values.

The table has so many trades of 500 instruments (their latest values are there, too). `latest` is beside a
lookup in a dict of as many; the snapshot of 10,000 instruments is beside one copy of the same bytes.

    python benchmarks/bench_point.py [--rounds 7] [--rows 50000000]
"""

import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import harness
import numpy as np
from filled import fill

from tickplant import connect

LAST = 100
GOAL_LAST_US, GOAL_LATEST_US, GOAL_SNAPSHOT = 50.0, 1.0, 3.0
INSTRUMENTS = 10_000


def each(run: Callable[[str], object], names: list[str]) -> float:
    """Microseconds of a call, over all names."""
    begin = time.perf_counter()
    for name in names:
        run(name)
    return (time.perf_counter() - begin) / len(names) * 1e6


def read(connection: Connection, plant: str, rounds: int) -> None:
    """Child: microseconds of each kind, round by round."""
    plant_ = connect(plant)
    trades, latest = plant_.table("trade"), plant_.latest("trade")
    names = [f"XBEN:S{n}" for n in range(1, harness.INSTRUMENTS + 1)]
    known = {name: latest[name] for name in names}
    took: dict[str, list[float]] = {n: [] for n in ("last", "latest", "dict", "snapshot", "memcpy")}
    for _ in range(1 + rounds):
        took["last"].append(each(lambda name: trades.rows(name, last=LAST), names))
        took["latest"].append(each(latest.__getitem__, names))
        took["dict"].append(each(known.__getitem__, names))
        begin = time.perf_counter()
        got = latest.snapshot()
        took["snapshot"].append((time.perf_counter() - begin) * 1e6)
        source = np.ones(sum(c.nbytes for c in got.values()), np.uint8)
        begin = time.perf_counter()
        source.copy()  # to fresh memory, as a snapshot is
        took["memcpy"].append((time.perf_counter() - begin) * 1e6)
    connection.send({name: values[1:] for name, values in took.items()})


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 3, "rows": 1_000_000}, rounds=7, rows=50_000_000)
    with harness.Site() as site:
        rows = fill(site, arguments.rows).row
        took = harness.hear(site.spawn(read, site.name, arguments.rounds))
    with harness.Site() as site:
        fill(site, INSTRUMENTS * 10, INSTRUMENTS)
        wide = harness.hear(site.spawn(read, site.name, arguments.rounds))
    what = f'rows("...", last={LAST}) in {rows / 1e6:g} M rows'
    harness.tell(
        "rows_last", what, took["last"], [], "us", GOAL_LAST_US, at_most=True, absolute=True, digits=2
    )
    harness.tell("latest", 'latest("trade")["..."]; a dict', took["latest"], took["dict"], "us",
                 GOAL_LATEST_US, at_most=True, absolute=True, digits=3)  # fmt: skip
    harness.tell("latest_snapshot", f"snapshot of {INSTRUMENTS:,} instruments; the bytes copied once",
                 wide["snapshot"], wide["memcpy"], "us", GOAL_SNAPSHOT, at_most=True, digits=1)  # fmt: skip


if __name__ == "__main__":
    main()
