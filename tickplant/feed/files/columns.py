"""CSV and Parquet files whose columns are declared by a mapping, or recognized.

Recognized is a file whose header is that of a mapping that comes with tickplant, or, where those files have
no header, whose name, number of columns and first line are (see `columns_find`).

CSV may be plain, gzip, zstd, or in a zip or tar: its members are read one after the other. A symbol that is
in the name of a file is made upper case, or, where the mapping says so, what the venue's live feed calls it.
"""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import date as Date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tickplant.errors import CaptureError, SchemaError
from tickplant.feed.capture import Batch, Capture, Head
from tickplant.feed.files import columns_check, columns_find, columns_read, columns_time, names
from tickplant.feed.files import mapping as mappings
from tickplant.feed.files.columns_find import Part
from tickplant.feed.files.columns_fixed import fixed
from tickplant.feed.files.columns_order import Sorter
from tickplant.feed.files.columns_read import LINE
from tickplant.feed.files.columns_rows import Lines, RowMaker, needed
from tickplant.feed.sink import Sink

SYMBOL_MAX, VENUE_MAX = 48, 16
"""Bytes that table instrument has room for."""


class Columns(Capture):
    """A CSV or Parquet file, or an archive of some.

    `mapping` is the name of one that comes with tickplant, or a file with one; by default it is recognized.
    `venue` and `symbol` are those of all lines, `date` that from whose midnight times count, if need be.
    Raises CaptureError if the file can't be read, or a symbol or date that is needed is not to be had.
    """

    format = "columns"
    EVENT_UNITS = MappingProxyType({"malformed": "line", "truncated": "line", "damaged": "line"})

    @staticmethod
    def sniff(head: Head) -> bool:
        """Is it recognized by its content?"""
        return bool(columns_find.recognized(head))

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mapping: str = "",
        venue: str = "",
        symbol: str = "",
        date: Date | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        head = Head.of(self.path)
        if mapping:
            self._parts = columns_find.as_mapped(head, mappings.named(mapping))
        else:
            self._parts = columns_find.recognized(head)
        if not self._parts:
            raise CaptureError(f"{path} has not the columns of any known mapping; name one with --mapping")
        self.mapping = self._parts[0].mapping
        self._sink = Sink(venue or "")
        self._codes: dict[tuple[str, str], int] = {}
        self._readers = [PartReader(self, part, venue, symbol, date) for part in self._parts]

    def __iter__(self) -> Iterator[Batch]:
        """Batches of rows in the order to publish them in. Raises CaptureError if reading fails."""
        for reader in self._readers:
            yield from reader.batches()
            self.damaged = self.damaged or reader.damaged

    @property
    def sink(self) -> Sink:
        """Where definitions and events go."""
        return self._sink

    def code(self, venue: str, symbol: str, at_ns: int, more: dict[str, Any]) -> int:
        """The code of an instrument, defined, with `more` columns, when it is first met."""
        code = self._codes.get((venue, symbol))
        if code is None:
            code = len(self._codes) + 1
            try:
                self._sink.add(
                    "instrument", at_ns, at_ns, instrument=code, code=code, venue=venue, symbol=symbol, **more
                )
            except SchemaError as e:
                raise CaptureError(f"{self.path}: {e}") from None
            self._codes[venue, symbol] = code
        return code

    def count(self, decoded: Counter[str], ignored: Counter[str]) -> None:
        """Account for lines, by what tells them apart."""
        self.messages += decoded
        self.ignored += ignored


class PartReader:
    """One file of columns, read once from start to end."""

    def __init__(self, capture: Columns, part: Part, venue: str, symbol: str, date: Date | None) -> None:
        """`venue`, `symbol`: of all lines, if given. Raises CaptureError if it lacks a symbol or a date."""
        self._capture, self._part, self.mapping = capture, part, part.mapping
        self._names, groups = list(part.columns.values()), part.groups
        self._date = date or _date(groups.get("date", ""), part)
        if self.mapping.symbol.column not in self._names:
            symbol = symbol or groups.get("symbol", "").upper()
        if self.mapping.venue.column not in self._names:
            venue = venue or groups.get("venue", "")
        self._given = {"symbol": symbol, "venue": venue}
        where = f"{capture.path}: {part.name}" if len(part.entries[0][1]) else str(capture.path)
        if not self._date and "midnight" in {t.unit for t in self.mapping.times}:
            raise CaptureError(
                f"{where} has times of a day, and its name does not tell which day: give --date YYYY-MM-DD"
            )
        if not (symbol or {*self.mapping.symbol.used} & {*self._names} or self.mapping.symbol.value):
            raise CaptureError(f"{where} does not tell whose data it has: give the option `symbol`")
        if part.parquet:
            used = {**part.columns}
            times = {
                theirs for theirs, ours in used.items() if ours in {t.column for t in self.mapping.times}
            }
            columns_read.check_types(capture.path, used, times)
        self._maker = RowMaker(self.mapping, self._names, self._code, symbol, venue, groups)
        by = self.mapping.order_by or ("ts_recv" if self.mapping.ts_recv else "ts_event")
        self._sorter = Sorter(self.mapping.window_s, by == "ts_recv")
        self._account = columns_read.Account()
        self._last_ns = 0
        self.damaged = False

    def batches(self) -> Iterator[Batch]:
        """Batches of rows in the order to publish them in. Raises CaptureError if reading fails."""
        for table in self._tables():
            yield from self._batch(self._sorter.add(self._typed(table)))
        for line, text in self._account.malformed:
            self._refuse(text, line)
        if (rest := self._sorter.rest()) is not None:
            yield from self._batch(rest)
        if self._account.damage:
            self.damaged = True
            kind, line = "truncated" if self._account.cut else "damaged", self._account.lines
            self._capture.sink.event(kind, self._last_ns, self._account.damage, first=line, last=line)
        if left := self._capture.sink.take():
            yield left

    def _tables(self) -> Iterator[Any]:
        part, account = self._part, self._account
        if part.parquet:
            yield from columns_read.parquet_tables(self._capture.path, part.columns, account)
            return
        if self.mapping.widths:
            parsed = fixed(self._names, self.mapping.widths, account)
            yield from columns_read.tables(columns_read.stream(*part.entries[0]), False, account, parsed)
            return
        first = len(self.mapping.header) if len(part.entries) > 1 else len(self._names)
        parts = (self._names[:first], self._names[first:])
        tables = [
            columns_read.csv_tables(
                columns_read.stream(*entry), names, part.header, self.mapping.delimiter,
                account if number == 0 else columns_read.Account(account.malformed),
            )
            for number, (entry, names) in enumerate(zip(part.entries, parts, strict=False))
        ]  # fmt: skip
        if len(tables) > 1:
            yield from columns_read.side_by_side(tables[0], tables[1], account)
        else:
            yield from tables[0]

    def _typed(self, table: Any) -> Lines:
        """A table's lines without those that have a value which is none; these are told of."""
        for line, text in self._account.malformed:
            self._refuse(text, line)
        self._account.malformed.clear()
        whose = []
        times: list[Any] = []
        for rule in (self.mapping.ts_event, self.mapping.ts_recv, self.mapping.end):
            if rule is None:
                times.append(None)
                continue
            found, bad = columns_time.read(table, rule, self._date)
            times.append(found)
            whose.append((rule.column, bad if rule is self.mapping.ts_recv else bad | (found == 0)))
        event, recv, end = times
        lines = Lines(event, np.zeros(len(table), np.int64) if recv is None else recv, {}, {},
                      np.zeros(len(table), np.bool_), end)  # fmt: skip
        whose += self._values(table, lines)
        refused = np.zeros(len(table), np.bool_)
        for checked in (whose, columns_check.wrong(self.mapping, lines)):
            for column, wrong in checked:
                for at in np.flatnonzero(wrong & ~refused).tolist():
                    said = table[column][at].as_py() if column in table.column_names else None
                    self._refuse(f"column {column} is {said!r}", table[LINE][at].as_py())
                refused |= wrong
        return lines.where(~refused) if refused.any() else lines

    def _values(self, table: Any, lines: Lines) -> list[tuple[str, Any]]:
        """Read the columns that are used; those with values that are none, and which."""
        whose: list[tuple[str, Any]] = []
        for column, kind in needed(self.mapping, self._names):
            if column not in table.column_names:  # a file may lack it
                lines.values[column, kind] = _nothing(kind, len(table))
                lines.texts[column] = [""]
            elif kind == "text":
                lines.values[column, kind], lines.texts[column] = columns_read.text(table[column])
            else:
                lines.values[column, kind], wrong = columns_read.numbers(table[column], kind)
                whose.append((column, wrong))
        for column in {c for rule in self.mapping.rows for c in rule.given}:
            there = column in table.column_names
            lines.values[column, "empty"] = (
                columns_read.empty(table[column]) if there else np.ones(len(table), np.bool_)
            )
        for what, room in (("symbol", SYMBOL_MAX), ("venue", VENUE_MAX)):
            source = self.mapping.symbol if what == "symbol" else self.mapping.venue
            if source.column and not source.number and not self._given[what]:
                fits = [0 < len(t.encode()) <= room for t in lines.texts[source.column]] or [True]
                whose.append((source.column, ~np.array(fits)[lines.values[source.column, "text"]]))
        return whose

    def _refuse(self, text: str, line: int) -> None:
        self._capture.malformed += 1
        if len(self._part.entries[0][1]):
            text = f"{self._part.name}: {text}"
        self._capture.sink.event("malformed", self._last_ns, text, first=line, last=line)

    def _batch(self, lines: Lines) -> Iterator[Batch]:
        """The rows of lines; counts these."""
        if len(lines):
            self._last_ns = max(self._last_ns, int(lines.ts_event.max()))
            self._count(lines)
        made = self._maker.make(lines) if len(lines) else []
        said = self._capture.sink.take()
        batch = [(t, r) for t, r in said if t == "instrument"]
        batch += [(t, r) for t, r in made if len(r)]
        batch += [(t, r) for t, r in said if t != "instrument"]
        if batch:
            yield batch

    def _count(self, lines: Lines) -> None:
        """Each line by what tells lines apart in this mapping; ignored are those that no rule is for."""
        book = self.mapping.book
        used = lines.matching(book.when) if book else np.zeros(len(lines), np.bool_)
        kinds = [c for rule in self.mapping.rows for c in (*rule.when, *rule.snapshot)]
        for rule in self.mapping.rows:
            used |= lines.of(rule)
        accounts = (Counter[str](), Counter[str]())
        for account, which in zip(accounts, (used, ~used), strict=True):
            if not kinds:
                account["line"] += int(which.sum())
                continue
            texts = lines.texts[kinds[0]]
            counts = np.bincount(lines.values[kinds[0], "text"][which], minlength=len(texts)).tolist()
            account.update(Counter({f"{kinds[0]} {t}": n for t, n in zip(texts, counts, strict=True) if n}))
        self._capture.count(*accounts)

    def _code(self, venue: str, symbol: str, at_ns: int) -> int:
        style = self.mapping.symbol.names
        name, more = names.symbol(style, symbol)
        return self._capture.code(names.venue(self.mapping.venue.names, venue), name, at_ns, more)


def _nothing(kind: str, count: int) -> Any:
    """The values of a column that a file lacks."""
    return np.full(count, np.nan) if kind in ("float", "scaled") else np.zeros(count, np.int64)


def _date(text: str, part: Part) -> Date | None:
    """The date in a file's name. Raises CaptureError if it is none."""
    try:
        return Date.fromisoformat(text) if text else None
    except ValueError:
        raise CaptureError(f"the name of {part.name} has {text}, which is no date; give --date") from None
