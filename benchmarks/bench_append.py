"""Rows per second into the shared-memory table: columns, index by instrument, and latest values.

`append_warm` writes staged frames over memory that has been written before; the limit is memcpy of the
same bytes to warm memory. `append_latest` is that with the latest value of every instrument, as the
ticker plant does it. `append_first_touch` pays for the memory, too (allocated, zeroed and mapped by the
kernel); its limit is a memcpy to memory just mapped.

    python benchmarks/bench_append.py [--rounds 11] [--rows-each 100]
"""

import ctypes
import mmap
import time
from collections.abc import Callable

import harness
import numpy as np

from tickplant._core import framing
from tickplant._core.intake import Intake
from tickplant.latest import LatestTable
from tickplant.table import AppendTable

GOAL = 0.5
ROWS = 1_000_000
EXTENT_ROWS = 1 << 18
INSTRUMENTS_MAX = 1 << 18
IDENTITY = "benchmark"


class Target:
    """The tables of one trading date and the intake that fills them with `frames`."""

    def __init__(self, site: harness.Site, latest: bool) -> None:
        self.site, self.date = site, 20260101
        schema = site.config.schema
        self.table = AppendTable(schema["trade"])
        self.intake = Intake([self.table.columns], schema["instrument"].number, 2, 1)
        if latest:
            self.latest = LatestTable(site.name, IDENTITY, schema["trade"], INSTRUMENTS_MAX)
            self.latest.ensure(harness.INSTRUMENTS + 1, self.table.columns)
        self.fresh()
        self.table.ensure(ROWS)

    def fresh(self) -> None:
        """Begin a table of which no memory is allocated."""
        self.date += 1
        self.intake.roll(self.date)
        self.table.open(self.site.name, IDENTITY, self.date, INSTRUMENTS_MAX, EXTENT_ROWS)

    def rewind(self) -> None:
        """Back to the first row; the memory stays."""
        self.table.columns.rewind(0)


def numbered(frames: list[bytes], schema: int, rows_each: int) -> list[bytes]:
    """The frames as the ticker plant journals them: with row numbers."""
    out = []
    for i, frame in enumerate(frames):
        payload = frame[framing.HEADER :]
        out.append(
            framing.seal(payload, 1, table=3, feed=1, row=i * rows_each, count=rows_each, schema=schema)
        )
    return out


def timed(run: Callable[[], object]) -> float:
    """Rows per second of what handles ROWS rows."""
    begin = time.perf_counter()
    run()
    return ROWS / (time.perf_counter() - begin)


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 1}, rounds=11, rows_each=100)
    rates: dict[str, list[float]] = {n: [] for n in ("warm", "latest", "first", "copy", "copy_first")}
    with harness.Site() as site:
        frames = harness.Frames(site.config.schema).trades(ROWS // arguments.rows_each, arguments.rows_each)
        trade = site.config.schema["trade"]
        staged = b"".join(numbered(frames, trade.fingerprint, arguments.rows_each))
        plain, full = Target(site, latest=False), Target(site, latest=True)
        source, warm = np.frombuffer(staged, np.uint8), np.zeros(len(staged), np.uint8)

        def first_touch() -> None:
            plain.table.ensure(ROWS)
            plain.intake.apply(staged)

        def copy_first_touch() -> None:
            with mmap.mmap(-1, len(staged)) as fresh:
                ctypes.memmove(ctypes.addressof(ctypes.c_char.from_buffer(fresh)), staged, len(staged))

        for _ in range(arguments.rounds):
            plain.fresh()
            rates["first"].append(timed(first_touch))
            rates["copy_first"].append(timed(copy_first_touch))
            plain.rewind()
            rates["warm"].append(timed(lambda: plain.intake.apply(staged)))
            rates["copy"].append(timed(lambda: np.copyto(warm, source)))
            full.rewind()
            rates["latest"].append(timed(lambda: full.intake.apply(staged)))
    bytes_each = len(staged) / ROWS
    for name, what, ours, limit, goal in (
        ("append_warm", "append to a table, warm; memcpy of the same bytes", "warm", "copy", GOAL),
        ("append_latest", "the same with latest values", "latest", "copy", None),
        ("append_first_touch", "the same, first touch; memcpy to fresh memory", "first", "copy_first", GOAL),
    ):
        harness.tell(name, what, rates[ours], rates[limit], "rows/s", goal, bytes_per_row=bytes_each)


if __name__ == "__main__":
    main()
