"""Rows that need no recording to be expected again, and the feed that publishes them.

Row `index` of table `table` in run `run` of a feed is a function of (seed, feed, run, table, index). A run is
one life of the feed's process. What a run has published is counted in a mapped file, which survives the kill
of the process: the count is raised when the call has returned, so a store holds at least as many rows, and
at most one batch more.

    file    i64 runs begun, then per run i64 rows of trade, i64 rows of quote

Beside it a log says which seqs of which session each call's rows have, so that what the plant declares as
lost can be told apart from what is.

    log     i64 session, seq, run, table, index, count of each call that has returned
"""

import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tickplant import Feed
from tickplant.schema import Rows, Table

TABLES = ("trade", "quote")
INSTRUMENTS = 200
RUNS_MAX = 4095
BATCH_MAX = 400
RUN_SHIFT = 40
"""A row's `venue_seq` is run << RUN_SHIFT | index."""
_PAUSE_S = 0.004
BURST = 10


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Uniform 64 bits from distinct ones (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = values * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def rows(table: Table, seed: int, feed: int, run: int, first: int, count: int) -> Rows:
    """Rows [first, first + count) of a run, with the feed's own instrument codes."""
    index = np.arange(first, first + count, dtype=np.uint64)
    key = np.uint64((seed * 1009 + feed * 31 + TABLES.index(table.name)) % (1 << 32))
    noise = _mix(_mix(index ^ (np.uint64(run) << np.uint64(RUN_SHIFT))) ^ key)
    out = table.empty(count)
    out["venue_seq"] = (run << RUN_SHIFT) + np.arange(first, first + count)
    out["ts_event"] = out["venue_seq"]
    out["ts_recv"] = (noise >> np.uint64(1)) | np.uint64(1)
    out["instrument"] = 1 + (noise >> np.uint64(40)) % np.uint64(INSTRUMENTS)
    if table.name == "trade":
        out["trade_id"] = noise.view(np.int64)
        out["price"] = (noise & np.uint64(0xFFFF)) / 100
        out["size"] = noise >> np.uint64(44)
        out["side"] = np.where(noise & np.uint64(1), b"B", b"S")
    else:
        out["bid_price"] = (noise & np.uint64(0xFFFF)) / 100
        out["ask_price"] = out["bid_price"] + 0.01
        out["bid_size"] = noise >> np.uint64(44)
        out["ask_size"] = noise >> np.uint64(50)
    return out


def symbol(feed: str, code: int) -> str:
    """The full name of the instrument that has this code with this feed."""
    return f"X{feed.upper()}:S{code}"


class Counts:
    """The mapped file of what a feed's runs have published."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 + RUNS_MAX * 8 * len(TABLES)))
        with path.open("r+b") as file:
            self._words = np.frombuffer(mmap.mmap(file.fileno(), 0), np.int64)

    @property
    def runs(self) -> int:
        """Runs begun so far."""
        return int(self._words[0])

    def begin(self) -> int:
        """Begin a run; its number, from 1."""
        if self.runs == RUNS_MAX:
            raise ValueError(f"more than {RUNS_MAX} runs of one feed")
        self._words[0] += 1
        return self.runs

    def of(self, run: int, table: str) -> int:
        """Rows of a run for which the call that published them has returned."""
        return int(self._words[self._at(run, table)])

    def add(self, run: int, table: str, count: int) -> None:
        """So many rows more are published."""
        self._words[self._at(run, table)] += count

    def _at(self, run: int, table: str) -> int:
        return 1 + (run - 1) * len(TABLES) + TABLES.index(table)


def calls(path: Path) -> npt.NDArray[np.int64]:
    """What the log of a feed with its counts at this path says, a row each: as told above."""
    log = _log(path)
    data = log.read_bytes() if log.exists() else b""
    return np.frombuffer(data[: len(data) // 48 * 48], np.int64).reshape(-1, 6)


def _log(path: Path) -> Path:
    return path.with_suffix(".log-of-calls")


def run(feed: Feed, path: str, seed: int, rate: float) -> None:
    """The feed handler: batches of trades and quotes in turn, until told to stop. `rate`: rows a second.

    As long as a file `burst` is there, BURST times as many.
    """
    counts, burst = Counts(Path(path)), Path(path).with_name("burst")
    log = os.open(_log(Path(path)), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    mine, random = counts.begin(), np.random.default_rng(seed)
    for code in range(1, INSTRUMENTS + 1):
        venue, name = symbol(feed.name, code).split(":")
        feed.instrument(venue, name)
    owed = 0.0
    while not feed.wait(_PAUSE_S):
        owed += rate * _PAUSE_S * (BURST if burst.exists() else 1)
        while owed > 0 and not feed.stopping.is_set():
            for name in TABLES:
                first, count = counts.of(mine, name), int(random.integers(1, BATCH_MAX))
                made = rows(feed.config.schema[name], seed, feed.number, mine, first, count)
                seq = feed.append(name, made)
                call = [feed.session, seq, mine, TABLES.index(name), first, count]
                os.write(log, np.array(call, np.int64).tobytes())
                counts.add(mine, name, count)
                owed -= count
