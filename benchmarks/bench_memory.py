"""Memory that a row takes in the ticker plant, and what each further reader takes beside the shared pages.

The plant's resident shared memory is counted before and after so many rows; the limit is the bytes of
the rows. A reader that has looked at all of it is counted by its private pages alone (smaps_rollup).

    python benchmarks/bench_memory.py [--rows 2000000]
"""

from multiprocessing.connection import Connection
from pathlib import Path

import flow
import harness

from tickplant import connect

GOAL, GOAL_READER_MB = 1.1, 30.0
ROWS_EACH = 1000


def resident(pid: int, field: str) -> int:
    """Bytes of a kind of memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def private(connection: Connection, plant: str) -> None:
    """Child: look at all prices; bytes of its private pages."""
    assert connect(plant).table("trade")["price"].mean() > 0
    pages = Path("/proc/self/smaps_rollup").read_text().splitlines()
    connection.send(sum(int(line.split()[1]) * 1024 for line in pages if line.startswith("Private_")))
    connection.recv()


def shared(site: harness.Site, rows: int) -> float:
    """Bytes of shared memory per row of a plant that takes so many."""
    plant = site.run_ticker_plant()
    sender = site.spawn(flow.send, str(site.path))
    watch = site.spawn(flow.read_local, site.name)
    harness.hear(sender), harness.hear(watch)
    pid = int(plant.control.pid.load())
    before = resident(pid, "RssShmem")
    sender.send((rows // ROWS_EACH, ROWS_EACH))
    harness.hear(sender)
    watch.send(rows)
    harness.hear(watch)
    sender.send("plant")
    harness.hear(sender), harness.hear(watch)
    return (resident(pid, "RssShmem") - before) / rows


def main() -> None:
    arguments = harness.options(__doc__, {"rows": 500_000, "readers": 1}, rows=10_000_000, readers=3)
    with harness.Site() as site:
        each = shared(site, arguments.rows)
        row = site.config.schema["trade"].row_size
        private_mb = [
            harness.hear(site.spawn(private, site.name, fresh=True)) / 1e6 for _ in range(arguments.readers)
        ]
    what = "resident shared memory per row of `trade` (an extent is taken ahead); bytes of the row"
    harness.tell("memory_row", what, [each], [row], "bytes", GOAL, at_most=True, digits=1)
    what, goal = "private memory of each further reader (Python and numpy included)", GOAL_READER_MB
    harness.tell("memory_reader", what, private_mb, [], "MB", goal, at_most=True, absolute=True, digits=1)


if __name__ == "__main__":
    main()
