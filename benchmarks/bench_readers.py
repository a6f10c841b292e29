"""What readers cost the ticker plant: its processors' time per row with none, and with so many.

Rows flow at full speed, 100 in a message. Local readers sleep on the plant's bell and read shared
memory; remote ones subscribe to a publisher of their own plant. All are processes; what they use
themselves is not counted. The limit is the same plant without readers, in turns.

    python benchmarks/bench_readers.py [--rounds 5] [--readers 1 4 16]
"""

from multiprocessing.connection import Connection

import flow
import harness

GOAL = 1.05
MESSAGES, ROWS_EACH = 3000, 100


def cost(pid: int, sender: Connection, readers: list[Connection]) -> float:
    """Nanoseconds of processors per row of process `pid`, while rows flow to these readers."""
    rows = MESSAGES * ROWS_EACH
    sender.send((MESSAGES, ROWS_EACH))
    harness.hear(sender)
    for reader in readers:
        reader.send(rows)
    for reader in readers:
        harness.hear(reader)
    before = harness.processors(pid)
    sender.send("plant")
    harness.hear(sender)
    for reader in readers:
        harness.hear(reader)
    sender.send("enough")
    return (harness.processors(pid) - before) / rows * 1e9


def measure(kind: str, readers_max: int, counts: list[int], rounds: int) -> None:
    """Readers of one kind, so many of them at a time."""
    with harness.Site() as site:
        plant = site.run_ticker_plant()
        pid = int(plant.control.pid.load())
        sender = site.spawn(flow.send, str(site.path))
        harness.hear(sender)
        if kind == "local":
            readers = [site.spawn(flow.read_local, site.name) for _ in range(readers_max)]
            for reader in readers:
                harness.hear(reader)
        else:
            endpoint = site.run_publisher()
            readers = [site.spawn(flow.read_remote, endpoint) for _ in range(readers_max)]
        watch = site.spawn(flow.read_local, site.name)  # tells when all is there if nobody else reads
        harness.hear(watch)
        took: dict[int, list[float]] = {count: [] for count in (0, *counts)}
        for _ in range(1 + rounds):
            for count, costs in took.items():
                costs.append(cost(pid, sender, [watch, *readers[:count]]))
    for count, costs in took.items():
        what = f"processors of the ticker plant per row, {count} {kind} readers; none"
        goal = GOAL if count else None
        harness.tell(
            f"readers_{kind}_{count}", what, costs[1:], took[0][1:], "ns", goal, at_most=True, digits=1
        )


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 1, "readers": [2]}, rounds=5, readers=[1, 4, 16])
    for kind in ("local", "remote"):
        measure(kind, max(arguments.readers), arguments.readers, arguments.rounds)


if __name__ == "__main__":
    main()
