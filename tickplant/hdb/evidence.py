"""What a trading date should be: what its feeds claim and its journal holds, or held when that was proven.

Counts and sums are those of _core/rowsum.h. A journal is deleted some days after its date is proven; what
was found then is in proofs/<date>.json, with all that is needed to compare the date with it again.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant import wire
from tickplant._core import framing, rowsums
from tickplant.config import Config
from tickplant.day import read_seal
from tickplant.errors import HistoryError
from tickplant.hdb.claims import Claims
from tickplant.journal import JournalReader, segments
from tickplant.schema import Rows, Schema, Table

FEEDS = 4096
_BIGINT_MAX = (1 << 63) - 1

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
        more = rowsums.row_sums(data, table.row_size, names, self.counts, self.sums, first, given)
        self.ordered = (self.ordered + more) % (1 << 64)

    def of(self, feed: int) -> tuple[int, int]:
        """(rows, sum) of a feed."""
        return int(self.counts[feed]), int(self.sums[feed])

    @property
    def rows(self) -> int:
        """Rows of all feeds."""
        return int(self.counts.sum())


@dataclass
class Evidence:
    """What is known of a date without its tables and PostgreSQL; (rows, sum) by (table's name, feed)."""

    schema: Schema
    """The tables as they were declared on the date."""
    published: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    missing: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    journaled: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))
    gaps: int = 0
    missing_rows: dict[int, int] = field(default_factory=dict)
    """Rows in declared gaps, by feed."""
    nameless: dict[int, int] = field(default_factory=dict)
    """Rows kept without the instrument that their feed gave them, by feed."""
    undeclared: set[int] = field(default_factory=set)
    """Feeds of which rows are missing, by seq, that are not declared."""


def gather(config: Config, names: Hashes, trading_date: int, found: list[Evidence]) -> Iterator[str]:
    """Add the evidence of a date to `found`, step by step: out of its journal, else of its proof.

    Raises HistoryError if it is not sealed, or there is neither.
    """
    folder = config.journal_dir / str(trading_date)
    proof = config.plant.data_dir / "proofs" / f"{trading_date}.json"
    if segments(folder):
        yield from _from_journal(config, names, folder, found)
    elif proof.exists():
        found.append(_from_proof(config, proof))
    else:
        raise HistoryError(f"{trading_date} has neither a journal nor a proof; see: tickplant journal ls")


def _from_journal(config: Config, names: Hashes, folder: Path, found: list[Evidence]) -> Iterator[str]:
    seal = journal_seal(folder)
    if seal is None:
        raise HistoryError(f"trading date {folder.name} is not sealed yet; run: tickplant eod")
    evidence = Evidence(journal_schema(config, folder))
    claims = Claims(evidence.schema, names)
    reader = JournalReader(folder, None, 0)
    rows_seen: dict[int, int] = defaultdict(int)
    try:
        while chunk := reader.read():
            for number in {int(n) for n in framing.index(chunk)[:, 3]} - {0}:
                table = evidence.schema.numbered(number)
                rows = table.rows(framing.payloads(chunk, number))
                evidence.journaled[table.name].add(table, rows, names, rows_seen[number])
                rows_seen[number] += len(rows)
            claims.follow(chunk)
            yield f"reading the journal of {folder.name}"
    finally:
        reader.close()
    for feed, by_table in seal["claims"].items():
        for name, (count, total) in by_table.items():
            # A feed's counter that goes back, or an older journal's, is no number that PostgreSQL has.
            evidence.published[name, int(feed)] = min(count, _BIGINT_MAX), total
            evidence.missing[name, int(feed)] = claims.missing(int(feed), evidence.schema[name].number)
    evidence.gaps, evidence.missing_rows = claims.gaps, claims.missing_rows
    evidence.undeclared, evidence.nameless = claims.undeclared, claims.nameless_rows
    found.append(evidence)


def _from_proof(config: Config, path: Path) -> Evidence:
    """Raises HistoryError if the file is not one of ours."""
    try:
        said = json.loads(path.read_text())
        evidence = Evidence(Schema.read(said["schema"]), gaps=said["declared_gaps"])
        evidence.missing_rows = {int(feed): rows for feed, rows in said["missing_rows"].items()}
        evidence.nameless = {int(feed): rows for feed, rows in said.get("nameless_rows", {}).items()}
        for record in said["records"]:
            table, feed = record["table"], record["feed"]
            evidence.published[table, feed] = record["published"], record["published_checksum"]
            evidence.missing[table, feed] = record["missing"], record["missing_checksum"]
            account = evidence.journaled[table]
            account.counts[feed], account.sums[feed] = record["journaled"], record["journaled_checksum"]
        for table, ordered in said["ordered"].items():
            evidence.journaled[table].ordered = ordered
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise HistoryError(
            f"the journal of {path.stem} is gone and its proof {path} can't be read: {e!r}"
        ) from e
    same = evidence.schema.describe() == config.schema.describe()
    evidence.schema = config.schema if same else evidence.schema
    return evidence


def journal_seal(folder: Path) -> dict[str, Any] | None:
    """What the seal at the end of a journal says; None if it is not sealed."""
    return sealed_at(folder)[0]


def sealed_at(folder: Path) -> tuple[dict[str, Any] | None, int]:
    """The seal, and the position behind it; (None, 0) if the journal is not sealed."""
    files = segments(folder)
    if not files:
        return None, 0
    reader = JournalReader(folder, int(files[-1].stem), None)
    seal, end = None, 0
    try:
        while chunk := reader.read():
            start = (reader.position or 0) - len(chunk)
            for offset, size, kind, *_ in framing.index(chunk).tolist():
                if kind == wire.SEAL:
                    seal = read_seal(wire.payload(memoryview(chunk)[offset : offset + size]))
                    end = start + offset + size
    finally:
        reader.close()
    return seal, end


def journal_schema(config: Config, folder: Path) -> Schema:
    """The tables as declared when a journal began; the configuration's own if they still are."""
    reader = JournalReader(folder)
    try:
        frames = reader.read()
    finally:
        reader.close()
    if not frames:
        return config.schema
    size = wire.HEADER_SIZE + wire.header(frames).size
    described = wire.small_map(wire.payload(frames[:size]))["schema"]
    return config.schema if described == config.schema.describe() else Schema.read(described)
