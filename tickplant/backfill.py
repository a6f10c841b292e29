"""Captures of past days into their own trading dates: that is how a history begins.

    captures ─► rows by trading date ─► a journal of each date, made aside ─► in its place ─► the hdb

Each row goes into the trading date of its `ts_event`, as the plant's time zone and roll have it; a row
without one (an event, a definition) into that of the rows before it. Instruments get the plant's numbers,
from the ticker plant if it runs. Nothing is seen of a date before its journal is whole and sealed. A load
that was killed has put whole dates in place, or none, and is simply run again: what a capture of the same
name had brought is replaced, what others had brought stays.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant import identity, wire
from tickplant._core import framing
from tickplant.clock import as_int, now_ns
from tickplant.config import Config
from tickplant.control import Control
from tickplant.day import identity_in
from tickplant.draft import Draft, loaded
from tickplant.errors import CaptureError, ConfigError, TickplantError
from tickplant.feed.batch import conform
from tickplant.feed.formats import open_capture
from tickplant.instruments import Name, named
from tickplant.journal import JournalReader
from tickplant.lock import Lock
from tickplant.naming import Naming, naming, runs
from tickplant.registry import RegistryReader, text
from tickplant.schema import Rows

UNDATED_MAX = 1 << 20
"""Rows at the beginning of a capture that may wait for the first that has a time."""


class DateTaken(TickplantError):
    """A date that is to be loaded is there already, and did not come from captures."""


@dataclass
class Loaded:
    """What became of a load."""

    rows: dict[int, dict[str, int]] = field(default_factory=dict)
    """By trading date and table."""
    malformed: int = 0
    damaged: list[str] = field(default_factory=list)
    """Captures that end in damage; what is before it is in."""


def load(
    config: Config, feed: str, captures: Sequence[Path], *, replace: bool = False,
    show: Callable[[str], None] = lambda _: None, **options: Any,
) -> Loaded:  # fmt: skip
    """Put the journals of all dates of these captures in place; the hdb then has to load them.

    `feed`: of the configuration, whose number the rows bear; `options`: of the captures. Raises DateTaken or
    ConfigError for a date that can't be loaded into, CaptureError for what is no capture; nothing has changed
    then.
    """
    names = [path.name for path in captures]
    if len(set(names)) < len(names):
        raise ConfigError("two captures have the same name: their rows could not be told apart later")
    held = Lock(config.plant.data_dir / "load.lock", "`tickplant load` of this plant")
    try:
        with naming(config) as registry:
            loading = _Loading(config, config.feed(feed).id, names, replace, registry)
            try:
                for path in captures:
                    show(f"reading {path}")
                    loading.read(path, options)
                return loading.place()
            finally:
                loading.give_up()
    finally:
        held.release()


class _Loading:
    """One load: its drafts by date."""

    def __init__(self, config: Config, feed: int, names: list[str], replace: bool, registry: Naming) -> None:
        self.config, self.feed, self.names, self.replace = config, feed, names, replace
        self.registry = registry
        self.done = Loaded()
        self._token = identity.known(config.plant.data_dir) or identity_in(config.journal_dir)[0]
        self._open_date = open_date(config)
        self._drafts: dict[int, Draft] = {}
        self._now_ns = now_ns()

    def read(self, path: Path, options: dict[str, Any]) -> None:
        """Take a capture's rows."""
        source = open_capture(path, **options)
        capture = _Capture(self, path)
        for batch in source:
            for table, rows in batch:
                capture.take(table, rows)
        capture.end()
        self.done.malformed += source.malformed
        if source.damaged:
            self.done.damaged.append(str(path))

    def draft(self, date: int) -> Draft:
        """The date's journal that is made. Raises DateTaken or ConfigError if it may not be."""
        if date not in self._drafts:
            kept = self._check(date)
            self._drafts[date] = made = Draft(self.config, date, self.feed, self._token)
            for capture in kept:
                self._keep(made, capture)
        return self._drafts[date]

    def _check(self, date: int) -> list[dict[str, Any]]:
        """What other captures have brought to a date, and stays."""
        if date >= self._open_date:
            raise ConfigError(
                f"the capture has rows of {date}, and {self._open_date} is the plant's open date: only dates"
                ' that are over are loaded; the open one gets its rows from a feed: handler = "capture"'
            )
        if date == _newest_live(self.config):
            raise DateTaken(
                f"{date} is the newest date that the plant has journaled, and its next start goes on from"
                " there: it can't be replaced before another has begun"
            )
        folder = self.config.journal_dir / str(date)
        proof = self.config.plant.data_dir / "proofs" / f"{date}.json"
        if self.replace or not (folder.exists() or proof.exists()):
            return []
        there = loaded(folder)
        if there is None:
            what = "its journal is deleted, its rows are in PostgreSQL"
            if folder.exists():
                what = f"the plant has journaled it live: {folder}"
            raise DateTaken(
                f"{date} is there already: {what}; to have these captures in its place add --replace"
                " (its rows are gone then)"
            )
        others = [c for c in there["captures"] if c["name"] not in self.names]
        if others and there["feed"] != self.feed:
            names = ", ".join(capture["name"] for capture in others)
            raise DateTaken(
                f"{date} was loaded as feed number {there['feed']} from {names}:"
                " load these captures as the same feed (--feed), or add --replace"
            )
        return others

    def _keep(self, draft: Draft, capture: dict[str, Any]) -> None:
        """Take over what another capture has brought to the date."""
        names = RegistryReader(self.config.registry_dir)
        names.follow()
        every: list[Name] = [("", ""), *names.instruments.since(1)]
        draft.begin(capture["name"])
        reader = JournalReader(draft.place_at)
        try:
            while chunk := reader.read():
                for offset, size, kind, number, *_ in framing.index(chunk).tolist():
                    frame = memoryview(chunk)[offset : offset + size]
                    head = wire.header(frame)
                    if kind != wire.ROWS or (head.feed, head.session) != (self.feed, capture["session"]):
                        continue
                    table = draft.schema.numbered(number)
                    rows = table.rows(wire.payload(frame))
                    for instrument in np.unique(rows["instrument"]).tolist():
                        if instrument:
                            draft.name(instrument, *every[instrument])
                    draft.add(table, rows, int(rows["ts_plant"][0]))
        finally:
            reader.close()

    def place(self) -> Loaded:
        """Seal all, and put one after the other in its place."""
        for draft in self._drafts.values():
            draft.seal()
        for date, draft in sorted(self._drafts.items()):
            # A proof vouches for rows: without it the hdb takes the date up by itself.
            (self.config.plant.data_dir / "proofs" / f"{date}.json").unlink(missing_ok=True)
            draft.place()
            self.done.rows[date] = {name: rows for name, rows in draft.rows.items() if rows}
        self._drafts.clear()
        return self.done

    def give_up(self) -> None:
        """Leave nothing of what is not in place."""
        for draft in self._drafts.values():
            draft.give_up()


class _Capture:
    """One capture: its codes as the plant's numbers, its rows to their dates."""

    def __init__(self, loading: _Loading, path: Path) -> None:
        self.loading, self.path = loading, path
        self.schema = loading.config.schema
        self._numbers: npt.NDArray[np.uint32] = np.zeros(1024, np.uint32)
        self._names: dict[int, Name] = {}
        self._definitions: dict[int, Rows] = {}
        self._date = 0
        self._undated: list[tuple[str, Rows]] = []
        self._begun: set[int] = set()

    def take(self, table: str, rows: Rows) -> None:
        """Rows as the capture gives them."""
        declared = self.schema[table]
        rows = conform(declared, rows, self.loading._now_ns).copy()
        if table == "instrument":
            rows = self._define(rows)
        else:
            rows["instrument"] = self._numbers[np.minimum(rows["instrument"], len(self._numbers) - 1)]
        at = rows["ts_event"]
        dated = at[at != 0]
        if not self._date and not len(dated):
            self._undated.append((table, rows))
            if sum(len(r) for _, r in self._undated) > UNDATED_MAX:
                raise self._timeless()
            return
        for date, part in self._by_date(rows):
            waiting, self._undated = self._undated, []
            for earlier, held in waiting:
                self._put(date, earlier, held)
            self._put(date, table, part)

    def end(self) -> None:
        """All has been taken. Raises CaptureError if none of it had a time."""
        if self._undated:
            raise self._timeless()

    def _timeless(self) -> CaptureError:
        return CaptureError(f"{self.path}: no row has a time (ts_event), so its trading date is not known")

    def _by_date(self, rows: Rows) -> Iterator[tuple[int, Rows]]:
        """Rows by trading date; one without a time belongs with the row before it."""
        calendar = self.loading.config.calendar
        at = rows["ts_event"].copy()
        last = np.maximum.accumulate(np.where(at != 0, np.arange(len(at)), -1))
        first = int(at[at != 0][0]) if at.any() else 0
        if not first:
            yield self._date, rows
            return
        at = np.where(last >= 0, at[last], first)
        low, high = int(at.min()), int(at.max())
        begins, dates = [], [as_int(calendar.date_at(low))]
        edge = calendar.next_roll_ns(low)
        while edge <= high:
            begins.append(edge)
            dates.append(as_int(calendar.date_at(edge)))
            edge = calendar.next_roll_ns(edge)
        which = np.searchsorted(np.array(begins, np.int64), at, side="right")
        for k in np.unique(which).tolist():
            self._date = dates[k]
            yield dates[k], rows[which == k] if len(dates) > 1 else rows
        self._date = dates[int(which[-1])]

    def _put(self, date: int, table: str, rows: Rows) -> None:
        draft = self.loading.draft(date)
        if date not in self._begun:
            draft.begin(self.path.name)
            self._begun.add(date)
        used = np.unique(rows["instrument"]).tolist()
        for number in used:
            if number:
                draft.name(number, *self._names[number])
        if table != "instrument":
            lacking = [self._definitions[n] for n in used if n and n not in draft.known]
            if lacking:
                draft.add(self.schema["instrument"], np.concatenate(lacking), self.loading._now_ns)
        draft.add(self.schema[table], rows, self.loading._now_ns)

    def _define(self, rows: Rows) -> Rows:
        """Know the capture's codes; its definitions with the plant's numbers."""
        codes = rows["code"].tolist()
        names = [named(v, s) for v, s in rows[["venue", "symbol"]].tolist()]
        numbers = self.loading.registry.numbers(names)
        most = max(codes, default=0)
        if most >= len(self._numbers):
            grown = np.zeros(2 * most + 2, np.uint32)
            grown[: len(self._numbers)] = self._numbers
            self._numbers = grown
        rows["code"] = rows["instrument"] = numbers
        for i, (code, number) in enumerate(zip(codes, numbers, strict=True)):
            self._numbers[code] = number
            self._names[number] = (text(names[i][0].encode()), text(names[i][1].encode()))
            self._definitions[number] = rows[i : i + 1].copy()
        return rows


def open_date(config: Config) -> int:
    """The date that is not over: the ticker plant's open one; while none runs, today."""
    if runs(config):
        return int(Control.attach(config.plant.name).date.load())
    return as_int(config.calendar.date_at(now_ns()))


def _newest_live(config: Config) -> int:
    """The newest date that the plant itself has journaled: its next start goes on from that one; or 0."""
    folders = [p for p in config.journal_dir.glob("[0-9]" * 8) if p.is_dir() and loaded(p) is None]
    return max((int(p.name) for p in folders), default=0)
