"""The proof of a trading date: what feeds published is what is journaled, in shared memory and in PostgreSQL.

For each table and feed four counts and four checksums (_core/rowsum.h), each from its own source:

    published      the seal's claims: what each feed counted and summed itself, carried by its frames
    journaled      every frame of the date's journal, read and verified again
    shared memory  the columns, gathered back into rows
    postgres       the rows, read back with COPY

and for each table the ordered sum of the last three, which also proves the order. A date is complete when all
agree. Shared memory that is gone (a reboot), or had no room for all rows, is said to be so and does not count
against the date.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant import wire
from tickplant._core import core
from tickplant.clock import now_ns
from tickplant.config import Config
from tickplant.day import read_seal
from tickplant.errors import HistoryError, NotRunning, SegmentError
from tickplant.hdb.store import History, Proof
from tickplant.journal import JournalReader, segments
from tickplant.registry import RegistryReader
from tickplant.schema import Rows, Table
from tickplant.table import SharedTable

FEEDS = 4096
CHUNK_ROWS = 65_536
_SEAL_BYTES = 1 << 22

Hashes = npt.NDArray[np.uint64]


@dataclass
class Account:
    """Rows and sums per feed of one table in one place, and the ordered sum."""

    counts: Hashes = field(default_factory=lambda: np.zeros(FEEDS, np.uint64))
    sums: Hashes = field(default_factory=lambda: np.zeros(FEEDS, np.uint64))
    ordered: int = 0

    def add(self, table: Table, rows: Rows, names: Hashes, numbers: Any) -> None:
        """Count rows in; `numbers`: their row numbers, or that of the first."""
        data = np.ascontiguousarray(rows).view(np.uint8).reshape(-1)
        first, given = (numbers, None) if isinstance(numbers, int) else (0, numbers)
        more = core.row_sums(data, table.row_size, names, self.counts, self.sums, first, given)
        self.ordered = (self.ordered + more) % (1 << 64)

    def of(self, feed: int) -> tuple[int, int]:
        """(rows, sum) of a feed."""
        return int(self.counts[feed]), int(self.sums[feed])

    @property
    def rows(self) -> int:
        """Rows of all feeds."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class Verdict:
    """What the proof of a date found."""

    trading_date: int
    records: list[Proof]
    out_of_order: list[str]
    """Tables whose rows are all there, but not in the same order everywhere."""

    @property
    def complete(self) -> bool:
        """Is everything everywhere?"""
        return not self.out_of_order and all(r.complete for r in self.records)

    def summary(self) -> str:
        """One line for people."""
        rows = sum(r.journaled or 0 for r in self.records)
        if self.complete:
            return f"complete: {rows:,} rows"
        wrong = sorted({r.table for r in self.records if not r.complete} | set(self.out_of_order))
        return f"DIFFERS in {', '.join(wrong)} ({rows:,} rows journaled)"

    def plain(self) -> dict[str, Any]:
        """As kept in proofs/<date>.json."""
        return {
            "trading_date": self.trading_date,
            "complete": self.complete,
            "out_of_order": self.out_of_order,
            "records": [vars(r) for r in self.records],
            "proven_at_ns": now_ns(),
        }


def journal_seal(folder: Path) -> dict[str, Any] | None:
    """What the seal at the end of a journal says; None if it is not sealed."""
    files = segments(folder)
    if not files:
        return None
    reader = JournalReader(folder, int(files[-1].stem), None)
    seal = None
    try:
        while chunk := reader.read():
            for offset, size, kind, *_ in core.index(chunk).tolist():
                if kind == wire.SEAL:
                    seal = read_seal(wire.payload(memoryview(chunk)[offset : offset + size]))
    finally:
        reader.close()
    return seal


def prove(config: Config, history: History, registry: RegistryReader, trading_date: int) -> Verdict:
    """Take all accounts of a sealed date, compare them, and store the proof.

    Raises HistoryError if the date is not sealed.
    """
    folder = config.journal_dir / str(trading_date)
    seal = journal_seal(folder)
    if seal is None:
        raise HistoryError(f"trading date {trading_date} is not sealed yet; run: tickplant eod")
    registry.follow()
    names = registry.instruments.hashes
    journaled = _journaled(config, folder, names)
    records: list[Proof] = []
    disorder: list[str] = []
    for table in config.schema:
        in_journal = journaled[table.name]
        in_memory = _in_memory(config.plant.name, trading_date, table, names)
        in_postgres = Account()
        for numbers, rows in history.read_back(trading_date, table.name):
            in_postgres.add(table, rows, names, numbers)
        orders = {a.ordered for a in (in_journal, in_memory, in_postgres) if a is not None}
        if len(orders) > 1:
            disorder.append(table.name)
        records += _compare(trading_date, table, seal, in_journal, in_memory, in_postgres)
    verdict = Verdict(trading_date, records, disorder)
    history.store_proof(records)
    _store(config.plant.data_dir / "proofs", verdict)
    return verdict


def _journaled(config: Config, folder: Path, names: Hashes) -> dict[str, Account]:
    accounts: dict[str, Account] = defaultdict(Account)
    reader = JournalReader(folder, None, 0)
    rows_seen: dict[int, int] = defaultdict(int)
    try:
        while chunk := reader.read():
            for number in {int(n) for n in core.index(chunk)[:, 3]} - {0}:
                table = config.schema.numbered(number)
                rows = table.rows(core.payloads(chunk, number))
                accounts[table.name].add(table, rows, names, rows_seen[number])
                rows_seen[number] += len(rows)
    finally:
        reader.close()
    return accounts


def _in_memory(plant: str, trading_date: int, table: Table, names: Hashes) -> Account | None:
    try:
        shared = SharedTable(plant, trading_date, table.name)
    except (NotRunning, SegmentError):
        return None
    if not shared.sealed:  # there was no room for all of it
        return None
    account, there = Account(), len(shared)
    for first, count in _chunks(there):
        account.add(table, shared.rows(first, count), names, first)
    return account


def _chunks(rows: int) -> Iterator[tuple[int, int]]:
    for first in range(0, rows, CHUNK_ROWS):
        yield first, min(CHUNK_ROWS, rows - first)


def _compare(
    trading_date: int, table: Table, seal: dict[str, Any], journaled: Account,
    memory: Account | None, postgres: Account,
) -> list[Proof]:  # fmt: skip
    claims = {int(f): c[table.name] for f, c in seal["claims"].items() if table.name in c}
    feeds = set(claims)
    for account in (journaled, memory, postgres):
        if account is not None:
            feeds |= set(np.flatnonzero(account.counts).tolist())
    records = []
    for feed in sorted(feeds):
        rows, total = claims.get(feed, (0, 0))
        near = memory.of(feed) if memory is not None else (None, None)
        ours = [(rows, total), journaled.of(feed), near, postgres.of(feed)]
        (c1, s1), (c2, s2), (c3, s3), (c4, s4) = ours
        if c1 or c2 or c3 or c4:
            same = len(set(ours) - {(None, None)}) == 1
            records.append(Proof(trading_date, table.name, feed, c1, c2, c3, c4, s1, s2, s3, s4, same))
    return records


def _store(folder: Path, verdict: Verdict) -> None:
    """Atomically: a proof is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{verdict.trading_date}.json"
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        json.dump(verdict.plain(), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
