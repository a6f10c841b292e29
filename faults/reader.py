"""A subscriber that writes down every row that it is handed, and goes on there when started again.

    python -m faults.reader CONFIG FOLDER TABLE DATE [ENDPOINT [KEYS]]

Without ENDPOINT it reads shared memory. FOLDER has a file per trading date: the rows, packed, end to end; row
n of the table is at n * row size. It follows the plant from DATE on until it is told to stop.
"""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tickplant import config, local, service
from tickplant.batch import Batch
from tickplant.errors import NotRunning
from tickplant.schema import Table
from tickplant.subscriber import subscribe


class Recorder:
    """Appends batches to the files of their dates; a row that does not follow on is an error, not a gap."""

    def __init__(self, folder: Path, table: Table) -> None:
        self.folder, self.table = folder, table
        folder.mkdir(parents=True, exist_ok=True)

    def reached(self, date: int) -> tuple[int, int]:
        """The newest date of which there are rows (else this one), and how many."""
        dates = sorted(int(p.name) for p in self.folder.glob("[0-9]" * 8))
        newest = dates[-1] if dates else date
        path = self.folder / str(newest)
        have = path.stat().st_size // self.table.row_size if dates else 0
        if dates:
            with path.open("r+b") as file:
                file.truncate(have * self.table.row_size)
        return newest, have

    def take(self, batch: Batch) -> None:
        """Write a batch down."""
        with (self.folder / str(batch.trading_date)).open("ab") as file:
            have, rest = divmod(file.tell(), self.table.row_size)
            if have != batch.first_row or rest:
                raise SystemExit(
                    f"row {batch.first_row} of {batch.table} on {batch.trading_date} follows row {have - 1}"
                )
            file.write(batch.tobytes())


def _local(settings: config.Config, table: str, date: int, row: int) -> Iterator[Batch]:
    while True:
        plant = local.wait_for(settings.plant.name, 60.0)
        try:
            batches = plant.follow(table, row, date)
            break
        except NotRunning:  # its ticker plant is just beginning the date anew
            time.sleep(0.01)
    yield from batches


def _remote(endpoint: str, keys: str | None, table: str, date: int, row: int) -> Iterator[Batch]:
    while True:
        try:
            subscription = subscribe(endpoint, [table], from_row=row, trading_date=date, keys=keys)
            break
        except NotRunning:
            continue
    yield from subscription


def main() -> None:
    """Record until told to stop."""
    service.die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings, folder, name, date = config.load(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    recorder = Recorder(folder, settings.schema[name])
    date, row = recorder.reached(date)
    if len(sys.argv) > 5:
        batches = _remote(sys.argv[5], sys.argv[6] if len(sys.argv) > 6 else None, name, date, row)
    else:
        batches = _local(settings, name, date, row)
    for batch in batches:
        recorder.take(batch)


if __name__ == "__main__":
    main()
