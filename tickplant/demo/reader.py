"""The demo's two subscribers: they follow every table, count and sum, and measure how late rows are.

    python -m tickplant.demo.reader CONFIG DATE [ENDPOINT]

Without an endpoint it reads shared memory, with one it is a remote subscriber.

Says how far it is in the plant's status folder; ends when the trading date is over and it has all of it.
"""

import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant import config, local, service
from tickplant.batch import Batch
from tickplant.clock import now_ns
from tickplant.follower import FOLLOW_ROWS
from tickplant.hdb.evidence import Account
from tickplant.instruments import Instruments
from tickplant.schema import Schema
from tickplant.subscriber import subscribe

BUCKETS_PER_OCTAVE = 16


class Latencies:
    """A log-bucketed histogram of nanoseconds: 16 buckets per factor of two."""

    def __init__(self) -> None:
        self._counts = np.zeros(64 * BUCKETS_PER_OCTAVE, np.int64)

    def add(self, late_ns: npt.NDArray[np.int64]) -> None:
        """Count values in."""
        late = np.maximum(late_ns, 1).astype(np.float64)
        np.add.at(self._counts, (np.log2(late) * BUCKETS_PER_OCTAVE).astype(np.int64), 1)

    def percentile_us(self, p: float) -> float | None:
        """The value below which a share p of all lies, in microseconds."""
        total = int(self._counts.sum())
        if not total:
            return None
        at = int(np.searchsorted(np.cumsum(self._counts), p * total))
        return float(round(2 ** ((at + 0.5) / BUCKETS_PER_OCTAVE) / 1000, 1))


class Tally:
    """What one reader has seen of a trading date."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.accounts = {t.name: Account() for t in schema}
        self.latencies = Latencies()
        self._began_ns = now_ns()

    def take(self, batch: Batch, instruments: Instruments) -> None:
        """Count a batch in; its newest row tells how late it is, if it is not one of a recording."""
        newest = batch["ts_recv"][-1:]
        self.latencies.add(now_ns() - newest[newest >= self._began_ns])
        table = self.schema[batch.table]
        self.accounts[batch.table].add(table, batch, instruments.hashes, batch.first_row)

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {
            "rows": {name: a.rows for name, a in self.accounts.items()},
            "sums": {name: f"{int(a.sums.sum()):016x}" for name, a in self.accounts.items()},
            "latency_us": {f"p{p}": self.latencies.percentile_us(p / 100) for p in (50, 99)},
        }


def local_batches(plant: local.Plant, trading_date: int) -> Iterator[Batch | None]:
    """All rows of all tables of a date as they come; None now and then."""
    tables = {t.name: plant.table(t.name, trading_date) for t in plant.schema}
    rows = dict.fromkeys(tables, 0)
    while tables:
        seen = plant.control.written.load()
        for name, table in list(tables.items()):
            sealed, there = table.sealed, len(table)
            while rows[name] < there:
                count = min(there - rows[name], FOLLOW_ROWS)
                yield Batch.of(table.packed(rows[name], count), name, trading_date, rows[name])
                rows[name] += count
            if sealed:
                del tables[name]
        yield None
        plant.control.bell.wait_above(plant.control.written, seen, 100_000_000)


def remote_batches(
    endpoint: str, schema: Schema, trading_date: int
) -> Iterator[tuple[Batch | None, Instruments]]:
    """The same over the network."""
    subscription = subscribe(endpoint, [t.name for t in schema], from_row=0)
    while not subscription.past(trading_date):
        yield subscription.next(0.1), subscription.instruments


def main() -> None:
    """Follow one trading date to its end."""
    service.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C in a terminal reaches every process
    settings, date = config.load(sys.argv[1]), int(sys.argv[2])
    endpoint = sys.argv[3] if len(sys.argv) > 3 else None
    tally = Tally(settings.schema)
    kind = "remote" if endpoint else "local"
    pulse = service.Pulse(f"reader-{kind}", settings.status_dir, tally.status)
    if endpoint is None:
        plant = local.connect(settings)
        for batch in local_batches(plant, date):
            if batch is not None:
                tally.take(batch, plant.instruments)
            pulse.beat()
    else:
        for found, instruments in remote_batches(endpoint, settings.schema, date):
            if found is not None and found.trading_date == date:
                tally.take(found, instruments)
            pulse.beat()
    pulse.write("finished")


if __name__ == "__main__":
    main()
