"""The two ends of bench_wake.py on the plant's side: a committer, and a reader that spins or sleeps.

The committer does what the ticker plant does last with rows that are journaled and written: it stores the
committed count of the table, and rings the bell. No row is written.
"""

from multiprocessing.connection import Connection

import wake_pace

from tickplant import config, connect
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.control import Control
from tickplant.registry import RegistryWriter
from tickplant.table import AppendTable, SharedTable

DATE, TABLE, IDENTITY = 20260101, "trade", "benchmark"
SPINS = (1 << 32) - 1


def commit(connection: Connection, path: str) -> None:
    """Child: make the plant's words and a table; then, on (count, interval, asleep), commit so many."""
    wake_pace.settle(committer=True)
    settings = config.load(path)
    plant, limits = settings.plant, settings.tickerplant
    control = Control.create(plant.name, settings.schema, plant.data_dir)
    RegistryWriter(settings.registry_dir, plant.name, IDENTITY).open(limits.instruments_max)
    table = AppendTable(settings.schema[TABLE])
    table.open(plant.name, IDENTITY, DATE, limits.instruments_max, limits.extent_rows)
    control.announce(DATE)
    committed, ring = table.committed, control.bell.ring
    connection.send("ready")
    while True:
        count, interval, _ = connection.recv()
        first = committed.load() + 1
        start = wake_pace.start(interval)
        connection.send(start)
        for n in range(count):
            wake_pace.until(start + n * interval)
            committed.store(first + n)
            ring()


def read(connection: Connection, plant: str) -> None:
    """Child: on (count, asleep) see so many rows come; send when which were seen.

    Asleep, by `Table.wait`; else by the wait that is below it, told to spin.
    """
    wake_pace.settle(committer=False)
    table, words = connect(plant).table(TABLE, DATE), SharedTable(plant, DATE, TABLE).committed
    bell = Control.attach(plant).bell

    def spin(have: int) -> int:
        return bell.wait_above(words, have, SECOND_NS, SPINS)

    connection.send("ready")
    while True:
        count, asleep = connection.recv()
        first, seen = len(table), []
        have, wait = first, table.wait if asleep else spin
        connection.send("reading")
        while have < first + count:
            have = wait(have)
            seen.append((have - first, monotonic_ns()))
        connection.send(seen)
