"""CSV and Parquet files whose columns are declared by a mapping, or recognized.

Recognized is a file whose header is that of a mapping that comes with tickplant, or, where those files have
no header, whose name and number of columns are.

CSV may be plain, gzip, zstd, or in a zip. A symbol that is in the name of a file is made upper case.
"""

import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date as Date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tickplant.errors import CaptureError, SchemaError
from tickplant.feed.capture import Batch, Capture, Head
from tickplant.feed.files import columns_read, columns_time
from tickplant.feed.files import mapping as mappings
from tickplant.feed.files.columns_fixed import fixed
from tickplant.feed.files.columns_order import Sorter
from tickplant.feed.files.columns_rows import Lines, RowMaker, needed
from tickplant.feed.files.mapping import Mapping
from tickplant.feed.sink import Sink

SYMBOL_MAX, VENUE_MAX = 48, 16
"""Bytes that table instrument has room for."""
PARQUET, ZIP = b"PAR1", b"PK\x03\x04"


@dataclass(frozen=True)
class Found:
    """A file as a mapping reads it."""

    mapping: Mapping
    members: tuple[tuple[Path, str], ...]
    """The file, or the files side by side: path, and member if it is a zip."""
    name: str
    """The name that `file_name` matches."""
    parquet: bool = False


class Columns(Capture):
    """A CSV or Parquet file.

    `mapping` is the name of one that comes with tickplant, or a file with one; by default it is recognized.
    `venue` and `symbol` are those of all lines, `date` that from whose midnight times count, if need be.
    Raises CaptureError if the file can't be read, or a symbol or date that is needed is not to be had.
    """

    format = "columns"
    EVENT_UNITS = MappingProxyType({"malformed": "line", "truncated": "line", "damaged": "line"})

    @staticmethod
    def sniff(head: Head) -> bool:
        """Is it recognized by its content?"""
        return recognized(head) is not None

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
        head = _head(self.path)
        found = _located(head, mappings.named(mapping)) if mapping else recognized(head)
        if found is None:
            raise CaptureError(f"{path} has not the columns of any known mapping; name one with --mapping")
        self._found, self.mapping = found, found.mapping
        named = re.fullmatch(self.mapping.file_name, found.name)
        groups = named.groupdict() if named else {}
        self._date = date or (Date.fromisoformat(groups["date"]) if groups.get("date") else None)
        symbol = symbol or (groups.get("symbol") or "").upper()
        needs_date = "midnight" in {t.unit for t in (self.mapping.ts_event, self.mapping.ts_recv) if t}
        if needs_date and not self._date:
            raise CaptureError(f"{path} has times of a day, and its name does not tell which: give --date")
        if not (symbol or self.mapping.symbol.column or self.mapping.symbol.value):
            raise CaptureError(f"{path} does not tell whose data it has: give the option `symbol`")
        self._names = self._columns()
        self._sink = Sink(venue or "")
        self._codes: dict[tuple[str, str], int] = {}
        self._maker = RowMaker(self.mapping, self._names, self._code, symbol, venue)
        by = self.mapping.order_by or ("ts_recv" if self.mapping.ts_recv else "ts_event")
        self._sorter = Sorter(self.mapping.window_s, by == "ts_recv")
        self._account = columns_read.Account()
        self._lines = 0
        self._last_ns = 0

    def __iter__(self) -> Iterator[Batch]:
        """Batches of rows in the order to publish them in. Raises CaptureError if reading fails."""
        for table in self._tables():
            yield from self._batch(self._sorter.add(self._typed(table)))
        if (rest := self._sorter.rest()) is not None:
            yield from self._batch(rest)
        if self._account.damage:
            self.damaged = True
            kind = "truncated" if self._account.cut else "damaged"
            self._sink.event(kind, self._last_ns, self._account.damage, first=self._lines, last=self._lines)
            yield self._sink.take()

    def _columns(self) -> list[str]:
        """The names of all columns, files side by side included. Raises CaptureError if they do not fit."""
        if self._found.parquet:
            names = columns_read.parquet_names(self.path)
            if missing := set(self.mapping.header) - set(names):
                raise CaptureError(f"{self.path} lacks the columns {', '.join(sorted(missing))}")
            return names
        names = list(self.mapping.header)
        if self.mapping.repeat:
            counts = [len(_first(p, m).split(self.mapping.delimiter)) for p, m in self._found.members]
            names = self.mapping.named(sum(counts))
            if len(names) != sum(counts) or (len(counts) > 1 and counts[0] != len(self.mapping.header)):
                raise CaptureError(f"{self.path} has {sum(counts)} columns, which are not whole levels")
        return names

    def _tables(self) -> Iterator[Any]:
        if self._found.parquet:
            yield from columns_read.parquet_tables(self.path, self.mapping.header, self._account)
            return
        if self.mapping.widths:
            ((path, member),) = self._found.members
            parsed = fixed(self._names, self.mapping.widths, self._account)
            yield from columns_read.tables(columns_read.stream(path, member), False, self._account, parsed)
            return
        first = len(self.mapping.header) if len(self._found.members) > 1 else len(self._names)
        parts = (self._names[:first], self._names[first:])
        tables = [
            columns_read.csv_tables(
                columns_read.stream(path, member), names, self.mapping.has_header, self.mapping.delimiter,
                self._account,
            )
            for (path, member), names in zip(self._found.members, parts, strict=False)
        ]  # fmt: skip
        if len(tables) > 1:
            yield from columns_read.side_by_side(tables[0], tables[1], self._account)
        else:
            yield from tables[0]

    def _typed(self, table: Any) -> Lines:
        """A table's lines without those that have a value which is none; these are told of."""
        structure = self._account.malformed[:]
        self._account.malformed.clear()
        for text in structure:
            self._refuse(text, self._lines + len(table))
        event, bad = self._times(table, self.mapping.ts_event)
        recv = np.zeros(len(table), np.int64)
        whose = [(self.mapping.ts_event.column, bad)]
        if self.mapping.ts_recv:
            column = self.mapping.ts_recv.column
            recv, wrong = self._times(table, self.mapping.ts_recv)
            whose.append((column, wrong))
        values: dict[tuple[str, str], Any] = {}
        texts: dict[str, list[str]] = {}
        for column, kind in needed(self.mapping, self._names):
            if kind == "text":
                values[column, kind], texts[column] = columns_read.text(table[column])
            else:
                values[column, kind], wrong = columns_read.numbers(table[column], kind)
                whose.append((column, wrong))
        for column, room in (
            (self.mapping.symbol.column, SYMBOL_MAX),
            (self.mapping.venue.column, VENUE_MAX),
        ):
            if column:
                long = np.array([len(t.encode()) > room for t in texts[column]] or [False], np.bool_)
                whose.append((column, long[values[column, "text"]]))
        lines = Lines(event, recv, values, texts, np.zeros(len(table), np.bool_))
        refused = np.zeros(len(table), np.bool_)
        for column, wrong in whose:
            for at in np.flatnonzero(wrong & ~refused).tolist():
                self._refuse(f"column {column} is {table[column][at].as_py()!r}", self._lines + at + 1)
            refused |= wrong
        self._lines += len(table) + len(structure)
        return lines.where(~refused) if refused.any() else lines

    def _times(self, table: Any, rule: mappings.Time) -> tuple[columns_time.Times, columns_time.Bad]:
        if rule.date:
            return columns_time.clock(table[rule.column], table[rule.date], rule)
        return columns_time.times(table[rule.column], rule, self._date)

    def _refuse(self, text: str, line: int) -> None:
        self.malformed += 1
        self._sink.event("malformed", self._last_ns, text, first=line, last=line)

    def _batch(self, lines: Lines) -> Iterator[Batch]:
        """The rows of lines; counts these."""
        if len(lines):
            self._last_ns = max(self._last_ns, int(lines.ts_event.max()))
            self._count(lines)
        made = self._maker.make(lines) if len(lines) else []
        said = self._sink.take()
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
            used |= lines.matching(rule.when)
        for account, which in ((self.messages, used), (self.ignored, ~used)):
            if not kinds:
                account["line"] += int(which.sum())
                continue
            texts = lines.texts[kinds[0]]
            counts = np.bincount(lines.values[kinds[0], "text"][which], minlength=len(texts)).tolist()
            account.update(Counter({f"{kinds[0]} {t}": n for t, n in zip(texts, counts, strict=True) if n}))
        self.messages, self.ignored = +self.messages, +self.ignored

    def _code(self, venue: str, symbol: str, at_ns: int) -> int:
        code = self._codes.get((venue, symbol))
        if code is None:
            code = len(self._codes) + 1
            try:
                self._sink.add(
                    "instrument", at_ns, at_ns, instrument=code, code=code, venue=venue, symbol=symbol
                )
            except SchemaError as e:
                raise CaptureError(f"{self.path}: {e}") from None
            self._codes[venue, symbol] = code
        return code


def recognized(head: Head) -> Found | None:
    """The mapping that a file is recognized to have; the one that reads more of it goes before."""
    known = sorted(mappings.presets().values(), key=lambda m: -len(m.files))
    for mapping in known:
        found = _located(head, mapping)
        if found and _fits(head, found):
            return found
    return None


def _fits(head: Head, found: Found) -> bool:
    mapping = found.mapping
    if found.parquet:
        return set(columns_read.parquet_names(head.path)) == set(mapping.header)
    path, member = found.members[0]
    first = (
        head.plain.partition(b"\n")[0] if path == head.path and not member else _first(path, member).encode()
    )
    if mapping.widths:
        return _has_widths(mapping, first, found.name)
    names = first.decode("utf-8", "replace").strip("\r\n\ufeff").split(mapping.delimiter)
    if mapping.has_header:
        return names == mapping.header
    return bool(re.fullmatch(mapping.file_name, found.name)) and len(names) == len(mapping.header)


def _has_widths(mapping: Mapping, first: bytes, name: str) -> bool:
    """Is a file's first line as long as the columns of a mapping, and are its times and numbers such?"""
    line = first.rstrip(b"\r\n")
    if len(line) != sum(mapping.widths) or not re.fullmatch(mapping.file_name or ".*", name):
        return False
    account = columns_read.Account()
    table = fixed(mapping.header, mapping.widths, account)(line)
    rule = mapping.ts_event
    if not rule.date or columns_time.clock(table[rule.column], table[rule.date], rule)[1].any():
        return False
    wanted = [(c, k) for c, k in needed(mapping, mapping.header) if k != "text"]
    return not any(columns_read.numbers(table[column], kind)[1].any() for column, kind in wanted)


def _located(head: Head, mapping: Mapping) -> Found | None:
    """The file, or the files side by side, that a mapping reads; None if they are not there."""
    if head.raw.startswith(PARQUET):
        return Found(mapping, ((head.path, ""),), head.path.name, parquet=True)
    if not head.raw.startswith(ZIP):
        if not mapping.files:
            return Found(mapping, ((head.path, ""),), head.path.name)
        own = next((f for f in mapping.files if f in head.path.name), None)
        paths = [head.path.with_name(head.path.name.replace(own, f)) for f in mapping.files] if own else []
        if not paths or not all(p.is_file() for p in paths):
            return None
        return Found(mapping, tuple((p, "") for p in paths), paths[0].name)
    try:
        with zipfile.ZipFile(head.path) as file:
            names = [
                n
                for n in file.namelist()
                if n.lower().endswith((".csv", ".txt")) and "readme" not in n.lower()
            ]
    except (OSError, zipfile.BadZipFile):
        return None
    for first in names:
        others = [first.replace(mapping.files[0], f) for f in mapping.files] if mapping.files else [first]
        if all(n in names for n in others) and len(set(others)) == max(1, len(mapping.files)):
            return Found(mapping, tuple((head.path, n) for n in others), Path(first).name)
    return None


def _first(path: Path, member: str) -> str:
    """The first line of a file."""
    with columns_read.stream(path, member) as source:
        data = source.read(1 << 16) or b""
    return data.partition(b"\n")[0].decode("utf-8", "replace").rstrip("\r")


def _head(path: Path) -> Head:
    try:
        with path.open("rb") as file:
            raw = file.read(4)
    except OSError as e:
        raise CaptureError(f"can't read {path}: {e.strerror}") from None
    plain = b"" if raw in (PARQUET, ZIP) else _first(path, "").encode() + b"\n"
    return Head(path, raw, plain)
