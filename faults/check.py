"""Every row of every store against what the feeds generated."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faults.site import Site
from faults.source import BATCH_MAX, INSTRUMENTS, RUN_SHIFT, TABLES, calls, rows, symbol
from tickplant._core import framing
from tickplant.hdb.loader import connect
from tickplant.hdb.store import History
from tickplant.journal import JournalReader
from tickplant.schema import Rows, Table


@dataclass
class Findings:
    """What was found wrong, in all stores together."""

    published: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    declared: int = 0
    """Rows that are missing, each in a gap that the plant has declared: they are not lost."""
    wrong: list[str] = field(default_factory=list)
    """Everything else, in words."""

    @property
    def good(self) -> bool:
        """Whether nothing was."""
        return not (self.lost or self.duplicated or self.out_of_order or self.wrong)


def journaled(folder: Path, table: Table) -> Rows:
    """All rows of a table in a date's journal."""
    reader = JournalReader(folder)
    data = b"".join(framing.payloads(chunk, table.number) for chunk in iter(reader.read, b""))
    reader.close()
    return table.rows(data)


def check(site: Site, dates: list[int]) -> Findings:
    """Compare all stores of these dates, oldest first, with one another and with the feeds."""
    found = Findings()
    history, _ = connect(site.config)
    try:
        for name in TABLES:
            table = site.config.schema[name]
            whole = []
            for date in dates:
                journal = journaled(site.config.journal_dir / str(date), table)
                whole.append(journal)
                stores = [("postgres", _in_order(found, history, date, table))]
                for kind in ("local", "remote"):
                    path = site.folder / f"{kind}-{name}" / str(date)
                    stores.append((kind, table.rows(path.read_bytes() if path.exists() else b"")))
                for store, there in stores:
                    _same(found, f"{store} {name} {date}", journal, there)
            _generated(found, site, table, np.concatenate(whole))
    finally:
        history.close()
    found.wrong += [text for witness in site.witness for text in witness()]
    return found


def _in_order(found: Findings, history: History, date: int, table: Table) -> Rows:
    """The rows of a table in PostgreSQL by their numbers, which are to be 0, 1, 2 ...: they lie anyhow."""
    parts = list(history.read_back(date, table.name))
    numbers = np.concatenate([np.empty(0, np.int64), *(n for n, _ in parts)])
    rows = np.concatenate([table.empty(0), *(r for _, r in parts)])
    order = np.argsort(numbers, kind="stable")
    if not np.array_equal(numbers[order], np.arange(len(numbers))):
        found.wrong.append(f"postgres {table.name} {date}: its rows are not numbered one by one")
    return rows[order]


def _same(found: Findings, what: str, expected: Rows, there: Rows) -> None:
    """A store has the very rows of the journal, in its order."""
    if expected.tobytes() == there.tobytes():
        return
    keys, others = _keys(expected), _keys(there)
    lost = int((~np.isin(keys, others)).sum())
    twice = len(others) - len(np.unique(others))
    found.lost += lost
    found.duplicated += twice
    if not lost and not twice:
        found.out_of_order += int((keys[: len(others)] != others[: len(keys)]).sum())
    found.wrong.append(f"{what}: {len(there):,} rows, not the {len(expected):,} of the journal")


def _keys(table_rows: Rows) -> npt.NDArray[np.int64]:
    keys: npt.NDArray[np.int64] = table_rows["venue_seq"] | table_rows["feed"].astype(np.int64) << 56
    return keys


def _generated(found: Findings, site: Site, table: Table, journal: Rows) -> None:
    """The journal has each feed's rows: all, once, in order, with the values that were published."""
    for name, feed in site.config.feeds.items():
        if feed.handler != "faults.source:run":
            continue  # nobody knows what it has published
        counts, gone = site.counts(name), declared(site, name, table)
        mine = journal[journal["feed"] == feed.id]
        run_of = mine["venue_seq"] >> RUN_SHIFT
        found.out_of_order += int((np.diff(run_of) < 0).sum())
        for run in range(1, counts.runs + 1):
            there = mine[run_of == run]
            claimed = counts.of(run, table.name)
            found.published += len(there)
            index = there["venue_seq"] & ((1 << RUN_SHIFT) - 1)
            unique = np.unique(index)
            upto = max(claimed, int(unique[-1]) + 1 if len(unique) else 0)
            missing, said = np.setdiff1d(np.arange(upto), unique), gone.get(run, np.empty(0, np.int64))
            found.lost += int((~np.isin(missing, said)).sum())
            found.declared += int(np.isin(missing, said).sum())
            if there_too := int(np.isin(unique, said).sum()):
                found.wrong.append(f"{name} {table.name} run {run}: {there_too} rows declared lost are there")
            found.duplicated += len(index) - len(unique)
            found.out_of_order += int((np.diff(index) < 0).sum())
            if upto > claimed + BATCH_MAX:
                found.wrong.append(
                    f"{name} {table.name} run {run}: {upto - claimed} rows more than published"
                )
            found.wrong += _values(site, table, name, run, there, index)


def declared(site: Site, feed: str, table: Table) -> dict[int, npt.NDArray[np.int64]]:
    """By run of a feed: the rows of a table that the plant has declared as lost."""
    made = calls(site.folder / f"{feed}.counts")
    made = made[made[:, 3] == TABLES.index(table.name)]
    gone: dict[int, list[npt.NDArray[np.int64]]] = defaultdict(list)
    for date in site.dates():
        events = journaled(site.config.journal_dir / str(date), site.config.schema["event"])
        mine = (
            (events["kind"] == b"gap")
            & (events["feed"] == 0)
            & (events["about"] == site.config.feed(feed).id)
        )
        for session, low, last in events[mine][["session", "first", "last"]].tolist():
            hit = made[(made[:, 0] == session) & (made[:, 1] <= last) & (made[:, 1] + made[:, 5] > low)]
            for _, seq, run, _, index, count in hit.tolist():
                begin, end = max(low, seq), min(last + 1, seq + count)
                gone[run].append(np.arange(index + begin - seq, index + end - seq))
    return {run: np.unique(np.concatenate(parts)) for run, parts in gone.items()}


def _values(
    site: Site, table: Table, feed: str, run: int, there: Rows, index: npt.NDArray[np.int64]
) -> list[str]:
    """The columns in which rows are not as generated; ts_plant and feed are the plant's to fill in."""
    if not len(there):
        return []
    number = site.config.feed(feed).id
    expected = rows(table, site.seed, number, run, 0, int(index.max()) + 1)[index]
    codes = np.array(
        [0] + [site.plant.instruments.number(symbol(feed, c)) for c in range(1, INSTRUMENTS + 1)]
    )
    expected["instrument"] = codes[expected["instrument"]]
    return [
        f"{feed} {table.name} run {run}: {column.name} is not what was published"
        for column in table.columns
        if column.name not in ("ts_plant", "feed")
        and expected[column.name].tobytes() != there[column.name].tobytes()
    ]
