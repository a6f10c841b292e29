"""What a row costs the ticker plant as everything grows: ns of processors per row, of all its threads.

Messages have 100 rows. `rows`: already in the day; `instruments`: rows are of them at random; `tables` (of
few columns, so that a hundred can be declared) and `feeds`: messages come to and from them in turns; all of
these are sent at once. `readers`: local followers, all asleep when a message comes, so one comes every 20 ms,
and a row bears a hundredth of a turn's cost. Of each kind all sizes take turns; the limit is the smallest.

    python benchmarks/bench_scaling.py [--rounds 7] [--kinds rows readers ...] [--rows 1000000 ...]
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import harness
import msgspec
import scaling_day
import scaling_load
import scaling_readers

from tickplant import config
from tickplant.clock import SECOND_NS
from tickplant.local import Plant, Table

WARM_UP = 1
INSTRUMENTS, INSTRUMENTS_MAX = 500, 1 << 21
PATIENCE_S = 60.0
SETTLE_S = 0.02
"""Until the kernel has counted what a thread used that runs no more."""
SIZES = {
    "rows": [1_000_000, 10_000_000, 50_000_000, 500_000_000],
    "instruments": [10, 1_000, 100_000, 1_000_000],
    "tables": [1, 10, 100],
    "feeds": [1, 8, 64],
    "readers": [0, 4, 16, 64, 256],
}
COLUMNS = {"price": "f8", "size": "f8"}
"""Of each of many tables."""
WHAT = {
    "rows": "{} rows in the day already",
    "instruments": "{} instruments",
    "tables": "{} tables",
    "feeds": "{} feeds",
    "readers": "{} local readers asleep, a message every 20 ms",
}


@dataclass
class Case:
    """One plant of some size."""

    pid: int
    tables: list[Table]
    sender: Connection
    feeds: int
    rhythm: bool
    simulated: bool = False

    def measure(self, messages: int) -> float:
        """ns of processors per row, of so many messages in all."""
        each = max(1, messages // self.feeds)
        rows = each * self.feeds * scaling_load.ROWS_EACH
        self.sender.send((each, self.rhythm))
        harness.hear(self.sender)
        upto, begin = self._rows() + rows, harness.processors(self.pid)
        self.sender.send("go")
        harness.hear(self.sender)
        self._wait(upto)
        time.sleep(SETTLE_S)
        return (harness.processors(self.pid) - begin) * SECOND_NS / rows

    def _rows(self) -> int:
        return sum(map(len, self.tables))

    def _wait(self, upto: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while self._rows() < upto:
            time.sleep(0.001)
            if time.monotonic() > end:
                raise TimeoutError(f"{self._rows():,} of {upto:,} rows came")


def table_names(kind: str, size: int) -> list[str]:
    """The tables that rows go to, in turns."""
    return [f"narrow{n}" for n in range(size)] if kind == "tables" else ["trade"]


def changes(kind: str, size: int) -> dict[str, dict[str, Any]]:
    """What the configuration of a plant of this size has other than the shipped one."""
    feeds = size if kind == "feeds" else 1
    changed = {"feeds": {scaling_load.name(n): {"id": n, "handler": "none"} for n in range(1, feeds + 1)}}
    trade = msgspec.toml.decode(config.shipped().read_bytes())["tables"]["trade"]
    if kind == "rows":
        changed["tables"] = {"trade": trade | {"max_rows": max(SIZES["rows"]) * 2}}
    if kind == "tables":
        narrow = {"latest": True, "columns": COLUMNS}
        changed["tables"] = {name: narrow for name in table_names(kind, size)}
    if kind == "instruments":
        changed["tickerplant"] = {"instruments_max": INSTRUMENTS_MAX}
        changed["limits"] = {"feed_instruments": INSTRUMENTS_MAX}
    return changed


@contextlib.contextmanager
def case(kind: str, size: int) -> Iterator[Case]:
    """A plant of this size with all that belongs to it, ready to be measured."""
    sizes = {"feeds": 1, "instruments": INSTRUMENTS} | {kind: size}
    names = table_names(kind, size)
    with harness.Site(**changes(kind, size)) as site:
        simulated = kind == "rows" and not scaling_day.write(site, size)
        plant: Plant = site.run_ticker_plant()
        load = (sizes["feeds"], sizes["instruments"], names)
        sender = site.spawn(scaling_load.send, str(site.path), *load)
        harness.hear(sender, scaling_load.PATIENCE_S)
        tables = [plant.table(name) for name in names]
        if kind == "readers" and size:
            crowd = site.spawn(scaling_readers.crowd, site.name, size)  # ends when this is dropped
            harness.hear(crowd)
        yield Case(plant.control.pid.load(), tables, sender, sizes["feeds"], kind == "readers", simulated)


def scale(kind: str, sizes: list[int], rounds: int, messages: int) -> None:
    """The results of one kind."""
    with contextlib.ExitStack() as stack:
        cases = {size: stack.enter_context(case(kind, size)) for size in sizes}
        costs: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(WARM_UP + rounds):
            for size, one in cases.items():
                costs[size].append(one.measure(messages))
        for size in sizes:
            what = f"a row, {WHAT[kind].format(f'{size:,}')}; {min(sizes):,}"
            more = {"simulated": True} if cases[size].simulated else {}
            limit = costs[min(sizes)][WARM_UP:]
            harness.tell(
                f"scaling_{kind}_{size}", what, costs[size][WARM_UP:], limit, "ns", at_most=True, digits=1,
                **more,
            )  # fmt: skip


def main() -> None:
    quick = {"rounds": 1, "messages": 1000, "kinds": ["rows"], "rows": [1_000_000, 500_000_000]}
    arguments = harness.options(__doc__, quick, rounds=7, kinds=list(SIZES), messages=4000, beats=50, **SIZES)
    for kind in arguments.kinds:
        messages = arguments.beats if kind == "readers" else arguments.messages
        scale(kind, getattr(arguments, kind), arguments.rounds, messages)


if __name__ == "__main__":
    main()
