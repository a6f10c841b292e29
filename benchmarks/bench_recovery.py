"""Rows per second from a journal to the tables of a trading date, after the shared memory was lost.

A cold start as the ticker plant does it: every frame read and checked, memory allocated, columns, index and
latest values made. The limit is reading and checking the same file alone. The file is in the page cache.
`ours_per_cpu_second` counts the processors' time alone, which tells more on a busy machine.

    python benchmarks/bench_recovery.py [--rounds 5] [--rows 5000000]
"""

import statistics
import time

import harness

from tickplant import control
from tickplant._core import framing
from tickplant.clock import now_ns
from tickplant.day import Day
from tickplant.journal import JournalReader
from tickplant.registry import RegistryWriter

GOAL = 0.5
GOAL_RATE = 10_000_000
ROWS_EACH = 100
BATCH = 200
DATE = 20260105
IDENTITY = "benchmark"
FEED = 1


def begin(site: harness.Site) -> Day:
    """A day of that plant, not yet open."""
    registry = RegistryWriter(site.config.registry_dir, site.name, IDENTITY)
    registry.open(site.config.tickerplant.instruments_max)
    return Day(site.config, registry)


def write(site: harness.Site, rows: int) -> None:
    """The journal of a date with so many trades."""
    frames = harness.Frames(site.config.schema)
    day = begin(site)
    day.open(DATE)
    day.intake.begin(FEED, frames.session, 0)
    instrument = site.config.schema["instrument"]
    day.define(FEED, instrument.rows(frames.definitions[framing.HEADER :]), now_ns())
    messages = [frames.definitions]
    for _ in range(rows // (ROWS_EACH * BATCH)):
        taken = day.intake.take(messages, 0, now_ns(), True)
        assert taken == len(messages), day.intake.reason
        day.commit(sync=False)
        messages = frames.trades(BATCH, ROWS_EACH)
    day.intake.take(messages, 0, now_ns())
    day.commit(sync=False)
    day.journal.close()


def recover(site: harness.Site, rows: int) -> tuple[float, float]:
    """Seconds, and seconds of processors, of a cold recovery."""
    control.remove_all(site.name)
    day = begin(site)
    start, used = time.perf_counter(), time.process_time()
    day.open(DATE)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    trades = next(t for t in day.tables if t.table.name == "trade")
    assert trades.committed.load() == rows
    day.journal.close()
    for table in day.tables:
        table.segment.close()
    return seconds, used


def read(site: harness.Site) -> float:
    """Seconds of reading and checking the journal."""
    reader = JournalReader(site.config.journal_dir / str(DATE))
    start = time.perf_counter()
    while reader.read():
        pass
    seconds = time.perf_counter() - start
    reader.close()
    return seconds


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 1, "rows": 1_000_000}, rounds=5, rows=5_000_000)
    rows = arguments.rows // (ROWS_EACH * BATCH) * ROWS_EACH * BATCH
    ours, limit, used = [], [], []
    with harness.Site() as site:
        write(site, rows)
        for _ in range(arguments.rounds):
            limit.append(rows / read(site))
            seconds, processors = recover(site, rows)
            ours.append(rows / seconds)
            used.append(rows / processors)
    what = "rebuild from the journal, shared memory lost; reading and checking the file"
    per_cpu_second = round(statistics.median(used))
    harness.tell("recovery", what, ours, limit, "rows/s", GOAL, ours_per_cpu_second=per_cpu_second)
    harness.tell("recovery_rate", "the same", ours, [], "rows/s", GOAL_RATE, absolute=True)


if __name__ == "__main__":
    main()
