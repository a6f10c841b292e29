"""Seconds from the start of a ticker plant to the first new row that a reader sees, with its day in memory.

What kill -9 leaves: the journal, and shared memory with all of its rows. Then a ticker plant as production
runs it is started, and a feed's next rows are published to it. `limit` is the same with a day of no rows.
`cpu_seconds` counts the processors' time of the ticker plant alone, which tells more on a busy machine.

    python benchmarks/bench_reattach.py [--rounds 3] [--rows 50000000]
"""

import os
import signal
import statistics
import subprocess
import sys
import time

import harness
from filled import fill

from tickplant import local
from tickplant.control import Control

GOAL = 1.0
"""Seconds, whatever the size of the day."""
ROWS_EACH = 500


def reattach(site: harness.Site, frames: harness.Frames) -> tuple[float, float]:
    """Seconds, and seconds of processors, to the first new row; the ticker plant is killed again then."""
    with (site.folder / "tickerplant.log").open("ab") as said:
        began = time.perf_counter()
        plant = subprocess.Popen(
            [sys.executable, "-m", "tickplant", "-c", str(site.path), "run", "tickerplant"],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, env={**os.environ},
        )  # fmt: skip
    try:
        while Control.wait(site.name).pid.load() != plant.pid:
            if plant.poll() is not None:
                raise SystemExit((site.folder / "tickerplant.log").read_text())
            time.sleep(0.001)
        pub = harness.publisher(site.config.tickerplant.ingress)
        trades = local.connect(site.name).table("trade")
        before = len(trades)
        pub.send(frames.trades(1, ROWS_EACH)[0])
        while trades.wait(before, 1.0) == before:
            pass
        pub.close(linger=0)
        return time.perf_counter() - began, harness.processors(plant.pid)
    finally:
        plant.send_signal(signal.SIGKILL)
        plant.wait()


def measured(rows: int, rounds: int) -> tuple[list[float], list[float]]:
    """Rounds with a day of so many rows: seconds, and seconds of processors."""
    with harness.Site() as site:
        frames = fill(site, rows)
        seconds, processors = zip(*(reattach(site, frames) for _ in range(rounds)), strict=True)
        return list(seconds), list(processors)


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 1, "rows": 2_000_000}, rounds=5, rows=50_000_000)
    ours, cpu = measured(arguments.rows, arguments.rounds)
    limit, cpu_limit = measured(0, arguments.rounds)
    what = f"restart after kill -9 to the first row, a day of {arguments.rows / 1e6:g} M rows; of none"
    harness.tell(
        "reattach", what, ours, limit, "s", GOAL, at_most=True, absolute=True, digits=3, rows=arguments.rows,
        cpu_seconds=statistics.median(cpu), limit_cpu_seconds=statistics.median(cpu_limit),
    )  # fmt: skip


if __name__ == "__main__":
    main()
