"""The proof of a trading date: what feeds published is what is journaled, in shared memory and in PostgreSQL.

For each table and feed four counts and four checksums (_core/rowsum.h), each from its own source:

    published      the seal's claims: what each feed counted and summed itself, carried by its frames
    journaled      every frame of the date's journal, read and verified again
    shared memory  the columns, gathered back into rows
    postgres       the rows, read back with COPY

and for each table the ordered sum of the last three, which also proves the order. A date is complete when all
agree, but for what is published and declared to be lost (claims.py): then it is complete with so many
declared gaps. Shared memory that is gone (a reboot), or had no room for all rows, is said to be so and does
not count against the date.

A feed whose own counters are wrong makes a date differ, too, but it is told apart from a loss: its rows are
the same in all three places, and none is missing by seq, which the plant holds every feed to.
"""

import json
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tickplant import roster
from tickplant.clock import now_ns
from tickplant.config import Config
from tickplant.errors import ConfigError, HistoryError, NotRunning, SegmentError
from tickplant.hdb.evidence import Account, Evidence, Hashes, gather
from tickplant.hdb.records import Outcome, Proof
from tickplant.hdb.refused import Refused, folder, said
from tickplant.hdb.store import History
from tickplant.registry import RegistryReader
from tickplant.schema import Table
from tickplant.table import SharedTable

CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class Verdict:
    """What the proof of a date found."""

    trading_date: int
    records: list[Proof]
    out_of_order: list[str]
    """Tables whose rows are all there, but not in the same order everywhere."""
    gaps: int = 0
    """Declared gaps: rows that feeds published and nobody has any more."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Rows in them, by the name of the feed."""
    nameless: Mapping[str, int] = field(default_factory=dict)
    """Rows kept without the instrument that their feed gave them, for it was refused, by the feed's name."""
    false_claims: Mapping[str, list[str]] = field(default_factory=dict)
    """By the name of a feed: tables of which it claims something else than all places hold."""
    refused: Refused = field(default_factory=dict)
    """Rows that PostgreSQL refused, by table, and why."""
    refused_place: str = ""
    """Where those are kept."""
    removed: list[str] = field(default_factory=list)
    """Feeds with rows of this date that were taken out of the configuration since."""

    @property
    def complete(self) -> bool:
        """Is everything everywhere, but for the declared gaps?"""
        return not self.out_of_order and all(r.complete for r in self.records)

    @property
    def wrong(self) -> list[str]:
        """Tables that are not the same everywhere."""
        return sorted({r.table for r in self.records if not r.complete} | set(self.out_of_order))

    def summary(self) -> str:
        """One line for people."""
        if not self.removed:
            return self._found()
        feeds = f"feed{'s' if len(self.removed) > 1 else ''} {', '.join(self.removed)}"
        return f"{self._found()}; of them rows of {feeds}, not configured any more"

    def _found(self) -> str:
        rows = sum(r.journaled or 0 for r in self.records)
        gaps = f"{self.gaps} declared gap{'s' if self.gaps != 1 else ''}"
        lost = ", ".join(f"{name} {count:,}" for name, count in self.missing.items())
        if not self.complete:
            more = f"; {gaps}, rows missing: {lost}" if self.gaps else ""
            liars = [f"{name} in {', '.join(tables)}" for name, tables in self.false_claims.items()]
            if liars:
                more += "; the counters of a feed are wrong, its rows are the same everywhere: "
                more += "; ".join(liars)
            more += "".join(f"; {sentence}" for sentence in said(self.refused, self.refused_place))
            return f"DIFFERS in {', '.join(self.wrong)} ({rows:,} rows journaled{more})"
        if self.gaps:
            return f"complete with {gaps}: {rows:,} rows; rows missing: {lost}{self._without_instrument}"
        return f"complete: {rows:,} rows{self._without_instrument}"

    @property
    def _without_instrument(self) -> str:
        kept = ", ".join(f"{name} {count:,}" for name, count in self.nameless.items())
        return f"; rows kept without instrument: {kept}" if kept else ""


def verify(config: Config, history: History, registry: RegistryReader, trading_date: int) -> Verdict:
    """Prove a date again. Raises HistoryError if the hdb has not finished with it."""
    return _last(verifying(config, history, registry, trading_date))


def verifying(
    config: Config, history: History, registry: RegistryReader, trading_date: int
) -> Iterator[str | Verdict]:
    """The same step by step; the last that comes is the verdict."""
    proof = config.plant.data_dir / "proofs" / f"{trading_date}.json"
    if not proof.exists() and (config.journal_dir / str(trading_date)).exists():
        raise HistoryError(
            f"the hdb has not finished {trading_date} yet; see: tickplant status"
            " (it is sealed by tickplant eod, and then loaded and proven)"
        )
    yield (yield from proving(config, history, registry, trading_date))


def prove(config: Config, history: History, registry: RegistryReader, trading_date: int) -> Verdict:
    """Take all accounts of a sealed date, compare them, and store the proof.

    Raises HistoryError if the date is not sealed.
    """

    def steps() -> Iterator[str | Verdict]:
        yield (yield from proving(config, history, registry, trading_date))

    return _last(steps())


def _last(steps: Iterator[str | Verdict]) -> Verdict:
    for step in steps:
        if isinstance(step, Verdict):
            return step
    raise AssertionError("steps without a verdict")


def proving(
    config: Config, history: History, registry: RegistryReader, trading_date: int
) -> Generator[str, None, Verdict]:
    """The same step by step, none of them long; each says what it is at."""
    registry.follow()
    names = registry.instruments.hashes
    found: list[Evidence] = []
    yield from gather(config, names, trading_date, found)
    evidence = found[0]
    history.declare(evidence.schema)
    records: list[Proof] = []
    disorder: list[str] = []
    for table in evidence.schema:
        in_journal, in_postgres = evidence.journaled[table.name], Account()
        in_memory = yield from _in_memory(config.plant.name, trading_date, table, names)
        for numbers, rows in history.read_back(trading_date, table.name):
            in_postgres.add(table, rows, names, numbers)
            yield f"reading {table.name} of {trading_date} back from PostgreSQL"
        orders = {a.ordered for a in (in_journal, in_memory, in_postgres) if a is not None}
        if len(orders) > 1:
            disorder.append(table.name)
        records += _compare(trading_date, table, evidence, in_memory, in_postgres)
    feeds = _feeds(config)
    nameless = {feeds.get(feed, str(feed)): rows for feed, rows in evidence.nameless.items()}
    missing = {feeds.get(feed, str(feed)): rows for feed, rows in evidence.missing_rows.items()}
    false = _false_claims(records, evidence, feeds)
    refused = history.progress(trading_date).refused
    place = str(folder(config.plant.data_dir / "aside", trading_date)) if refused else ""
    removed = sorted(_named(feeds, {r.feed for r in records} - {0, *(f.id for f in config.feeds.values())}))
    verdict = Verdict(
        trading_date, records, disorder, evidence.gaps, missing, nameless, false, refused, place, removed
    )
    history.store_proof(
        records, Outcome(trading_date, verdict.complete, evidence.gaps, evidence.missing_rows, disorder)
    )
    _store(config.plant.data_dir / "proofs", verdict, evidence)
    return verdict


def _feeds(config: Config) -> dict[int, str]:
    """Names of feeds by number, also of those that were taken out of the configuration."""
    try:
        known = roster.read(config.plant.data_dir)
    except ConfigError as e:
        raise HistoryError(str(e)) from e
    return known | {feed.id: name for name, feed in config.feeds.items()}


def _named(feeds: Mapping[int, str], numbers: set[int]) -> list[str]:
    return [feeds.get(number, str(number)) for number in numbers]


def _in_memory(
    plant: str, trading_date: int, table: Table, names: Hashes
) -> Generator[str, None, Account | None]:
    try:
        shared = SharedTable(plant, trading_date, table.name)
    except (NotRunning, SegmentError):
        return None
    if not shared.sealed:  # there was no room for all of it
        return None
    account, there = Account(), len(shared)
    for first, count in _chunks(there):
        account.add(table, shared.rows(first, count), names, first)
        yield f"reading {table.name} of {trading_date} in shared memory"
    return account


def _chunks(rows: int) -> Iterator[tuple[int, int]]:
    for first in range(0, rows, CHUNK_ROWS):
        yield first, min(CHUNK_ROWS, rows - first)


def _compare(
    trading_date: int, table: Table, evidence: Evidence, memory: Account | None, postgres: Account
) -> list[Proof]:
    journaled = evidence.journaled[table.name]
    feeds = {feed for name, feed in evidence.published if name == table.name}
    for account in (journaled, memory, postgres):
        if account is not None:
            feeds |= set(np.flatnonzero(account.counts).tolist())
    records = []
    for feed in sorted(feeds):
        rows, total = evidence.published.get((table.name, feed), (0, 0))
        gone, their_sum = evidence.missing.get((table.name, feed), (0, 0))
        near = memory.of(feed) if memory is not None else (None, None)
        there = (rows - gone, (total - their_sum) % (1 << 64))
        (_, _), (c2, s2), (c3, s3), (c4, s4) = ours = [there, journaled.of(feed), near, postgres.of(feed)]
        if rows or c2 or c3 or c4:
            same = len(set(ours) - {(None, None)}) == 1
            counts = (rows, c2, c3, c4, total, s2, s3, s4)
            records.append(Proof(trading_date, table.name, feed, *counts, same, gone, their_sum))
    return records


def _false_claims(records: list[Proof], evidence: Evidence, feeds: Mapping[int, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for r in records:
        near = (r.shared_memory, r.shared_memory_checksum)
        places = {(r.journaled, r.journaled_checksum), near, (r.postgres, r.postgres_checksum)}
        if not r.complete and len(places - {(None, None)}) == 1 and r.feed not in evidence.undeclared:
            found.setdefault(feeds.get(r.feed, str(r.feed)), []).append(r.table)
    return found


def _plain(verdict: Verdict, evidence: Evidence) -> dict[str, Any]:
    """As kept in proofs/<date>.json."""
    return {
        "trading_date": verdict.trading_date,
        "complete": verdict.complete,
        "summary": verdict.summary(),
        "declared_gaps": verdict.gaps,
        "missing": dict(verdict.missing),
        "wrong": verdict.wrong,
        "false_claims": dict(verdict.false_claims),
        "out_of_order": verdict.out_of_order,
        "refused": {table: {"rows": count, "why": why} for table, (count, why) in verdict.refused.items()},
        "refused_place": verdict.refused_place,
        "removed_feeds": verdict.removed,
        "records": [vars(r) for r in verdict.records],
        "missing_rows": evidence.missing_rows,
        "nameless_rows": evidence.nameless,
        "ordered": {table.name: evidence.journaled[table.name].ordered for table in evidence.schema},
        "schema": evidence.schema.describe(),
        "proven_at_ns": now_ns(),
    }


def _store(folder: Path, verdict: Verdict, evidence: Evidence) -> None:
    """Atomically: a proof is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{verdict.trading_date}.json"
    draft = path.with_suffix(f".{os.getpid()}.draft")  # two may prove a date at once
    with draft.open("w") as file:
        json.dump(_plain(verdict, evidence), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
