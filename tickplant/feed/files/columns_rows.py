"""Lines of a file to rows of tables, as a mapping declares it; whole columns at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.feed.files import columns_read
from tickplant.feed.files.books import LastBooks, layout
from tickplant.feed.files.mapping import Book, Mapping, RowRule, Source, width_of
from tickplant.feed.files.scaled import unscaled
from tickplant.feed.sink import shipped_schema
from tickplant.schema import KEY_COLUMNS, Flag, Rows

Values = npt.NDArray[Any]
Which = npt.NDArray[np.bool_]


@dataclass
class Lines:
    """Some lines of a file, as columns of those kinds in which they are used."""

    ts_event: npt.NDArray[np.int64]
    ts_recv: npt.NDArray[np.int64]
    values: dict[tuple[str, str], Values]
    """By column and kind; texts as numbers; of kind empty whether there is none."""
    texts: dict[str, list[str]]
    """The texts that those numbers of a column mean."""
    late: Which
    end: npt.NDArray[np.int64] | None = None
    """Of bars: when they end, where the file tells."""

    def __len__(self) -> int:
        return len(self.ts_event)

    def where(self, which: Any) -> "Lines":
        """Some of them."""
        values = {k: v[which] for k, v in self.values.items()}
        end = None if self.end is None else self.end[which]
        return Lines(self.ts_event[which], self.ts_recv[which], values, self.texts, self.late[which], end)

    def matching(self, choice: dict[str, list[str]]) -> Which:
        """For which of them each column has one of its texts."""
        out = np.ones(len(self), np.bool_)
        for column, wanted in choice.items():
            known = np.array([t in wanted for t in self.texts[column]] or [False], np.bool_)
            out &= known[self.values[column, "text"]]
        return out

    def of(self, rule: RowRule) -> Which:
        """Which of them give a row by this rule."""
        out = self.matching(rule.when)
        for column in rule.given:
            out &= ~self.values[column, "empty"]
        return out


def needed(mapping: Mapping, columns: list[str]) -> list[tuple[str, columns_read.Kind]]:
    """Columns, and in which kinds they are used (times aside)."""
    out: dict[tuple[str, columns_read.Kind], None] = {(c, "text"): None for c in sorted(mapping.texts())}
    for rule in mapping.rows:
        types = {c.name: c.type[0] for c in shipped_schema()[rule.table].columns}
        for name in rule.columns:
            source = rule.source(name)
            out |= {(c, "code"): None for c in source.columns}
            if source.column and not source.map and types[name] != "S":
                out[source.column, kind_of(source, types[name])] = None
    if mapping.book:
        orders = order_columns(mapping.book, mapping, columns)
        for column in book_columns(mapping.book, mapping, columns):
            out[column, _book_kind(mapping.book)] = None
        out |= {(column, "int"): None for column in orders}
    return list(out)


def _book_kind(book: Book) -> columns_read.Kind:
    return "scaled" if book.divisor == "auto" else "int" if book.divisor > 1 else "float"


def kind_of(source: Source, letter: str) -> columns_read.Kind:
    """In which kind a column is read that becomes a number of a table's column of such a type."""
    if source.divisor == "auto":
        return "scaled"
    return "int" if source.divisor > 1 or source.total or letter in "iu" else "float"


def book_columns(book: Book, mapping: Mapping, columns: list[str]) -> list[str]:
    """The columns of a book: price and size of each level, bids and then asks."""
    levels = book.levels or (len(columns) - len(mapping.header)) // len(mapping.repeat)
    names = ((book.bid_price, book.bid_size), (book.ask_price, book.ask_size))
    return [n.format(i + book.first) for pair in names for i in range(levels) for n in pair]


def order_columns(book: Book, mapping: Mapping, columns: list[str]) -> list[str]:
    """The columns with the number of orders of each level of a book, bids and then asks; none if not told."""
    levels = len(book_columns(book, mapping, columns)) // 4
    names = [n for n in (book.bid_orders, book.ask_orders) if n]
    return [n.format(i + book.first) for n in names for i in range(levels)]


class RowMaker:
    """Makes rows of lines, and remembers what goes on from one block to the next."""

    def __init__(
        self,
        mapping: Mapping,
        columns: list[str],
        code: Callable[[str, str, int], int],
        symbol: str,
        venue: str,
        groups: dict[str, str],
    ) -> None:
        """`code(venue, symbol, at_ns)`; `symbol`, `venue`: of all lines, if given; `groups`: of the name."""
        self._mapping, self._columns, self._code, self._groups = mapping, columns, code, groups
        self._symbol, self._venue = symbol, venue
        self._books = LastBooks()
        self._snapshots: dict[int, tuple[int, int]] = {}
        """By rule and instrument: the time of the snapshot that its last line was part of."""
        sources = [rule.source(name) for rule in mapping.rows for name in rule.columns]
        self._totals: dict[str, dict[int, int]] = {s.column: {} for s in sources if s.total}
        """By column and instrument: a count of the day in its last line."""

    def make(self, lines: Lines) -> list[tuple[str, Rows]]:
        """The rows of these lines, by table."""
        codes = self._codes(lines)
        for column, last in self._totals.items():
            lines.values[column, "grown"] = _grown(lines.values[column, "int"], codes, last)
        made: dict[str, list[tuple[npt.NDArray[np.intp], Rows]]] = {}
        for rule in self._mapping.rows:
            which = np.flatnonzero(lines.of(rule))
            if len(which):
                rows = self._ruled(rule, lines.where(which), codes[which])
                if rule.snapshot:
                    which, rows = self._with_resets(lines, which, rows, lines.matching(rule.snapshot))
                made.setdefault(rule.table, []).append((which, rows))
        if self._mapping.book:
            which = np.flatnonzero(lines.matching(self._mapping.book.when))
            self._book(self._mapping.book, lines.where(which), which, codes[which], made)
        return [(table, _in_order(parts)) for table, parts in made.items()]

    def _codes(self, lines: Lines) -> npt.NDArray[np.uint32]:
        """The code of each line's instrument."""
        venues = self._named(lines, self._mapping.venue, self._venue)
        symbols = self._named(lines, self._mapping.symbol, self._symbol)
        both = venues[0] * len(symbols[1]) + symbols[0]
        different, first, where = np.unique(both, return_index=True, return_inverse=True)
        at_ns = lines.ts_event[first].tolist()
        found = [
            self._code(venues[1][n // len(symbols[1])], symbols[1][n % len(symbols[1])], at)
            for n, at in sorted(zip(different.tolist(), at_ns, strict=True))
        ]
        return np.array(found, np.uint32)[where]

    def _named(self, lines: Lines, source: Source, given: str) -> tuple[Values, list[str]]:
        if given or not source.column:
            return np.zeros(len(lines), np.int64), [given or str(source.value or "")]
        codes, texts = lines.values[source.column, "text"], lines.texts[source.column]
        if not source.number or "" not in texts:
            return codes, texts
        numbers = lines.texts[source.number]
        without = codes == texts.index("")
        codes = np.where(without, len(texts) + lines.values[source.number, "text"], codes)
        return codes, [*texts, *(f"#{n}" for n in numbers)]

    def _begun(self, table: str, lines: Lines, codes: npt.NDArray[np.uint32], flags: int) -> Rows:
        rows = shipped_schema()[table].empty(len(lines))
        for name in rows.dtype.names or ():
            if name not in KEY_COLUMNS and rows.dtype[name].kind == "f":
                rows[name] = np.nan
        rows["ts_event"], rows["ts_recv"], rows["instrument"] = lines.ts_event, lines.ts_recv, codes
        rows["flags"] = np.where(lines.late, flags | Flag.LATE, flags)
        return rows

    def _ruled(self, rule: RowRule, lines: Lines, codes: npt.NDArray[np.uint32]) -> Rows:
        flags = sum(Flag[name] for name in rule.flags)
        rows = self._begun(rule.table, lines, codes, flags)
        for name in rule.columns:
            source = rule.source(name)
            if source.name:
                source = _of_name(source, self._groups)
            rows[name] = values(source, lines, rows.dtype[name], self._mapping)
        if rule.table == "depth":
            snapshot = lines.matching(rule.snapshot) if rule.snapshot else np.zeros(len(lines), np.bool_)
            rows["flags"][snapshot] |= np.uint16(Flag.SNAPSHOT)
            if "action" not in rule.columns:
                rows["action"] = np.where(snapshot, b"A", b"C")
            rows["action"][rows["size"] == 0] = b"D"
        if rule.table == "bar":
            _timed(rows, lines)
            if "final" not in rule.columns:
                rows["final"] = 1
        if rule.table == "quote":
            for side in ("bid", "ask"):
                rows[f"{side}_price"][rows[f"{side}_size"] == 0] = np.nan
        return rows

    def _with_resets(
        self, lines: Lines, which: npt.NDArray[np.intp], rows: Rows, snapshot: Which
    ) -> tuple[npt.NDArray[np.intp], Rows]:
        """With a row R before the first of each snapshot: what is at one time, after lines that were none."""
        begins = []
        within = snapshot[which]
        for code in np.unique(rows["instrument"]).tolist():
            own = np.flatnonzero(rows["instrument"] == code)
            times, flags = rows["ts_event"][own], within[own].astype(np.int64)
            before = self._snapshots.get(code, (0, 0))
            was = np.append(before[0], flags[:-1])
            at = np.append(before[1], times[:-1])
            begins.append(own[(flags == 1) & ((was == 0) | (times != at))])
            self._snapshots[code] = (int(flags[-1]), int(times[-1]))
        first = np.sort(np.concatenate(begins))
        resets = rows[first].copy()
        for name, value in (("price", np.nan), ("size", np.nan), ("side", b""), ("action", b"R")):
            resets[name] = value
        resets["orders"] = resets["level"] = 0
        return np.insert(which, first, which[first]), np.insert(rows, first, resets)

    def _book(
        self, book: Book, lines: Lines, which: npt.NDArray[np.intp], codes: npt.NDArray[np.uint32],
        made: dict[str, list[tuple[npt.NDArray[np.intp], Rows]]],
    ) -> None:  # fmt: skip
        names = book_columns(book, self._mapping, self._columns)
        levels = len(names) // 4
        kind = _book_kind(book)
        books = np.zeros(len(lines), layout(levels))
        for i, name in enumerate(names):
            side, level = divmod(i // 2, levels)
            values = lines.values[name, kind]
            if i % 2:
                books["size"][:, side, level] = values
            else:
                price = unscaled(values, int(book.divisor)) if kind == "int" else values
                books["price"][:, side, level] = np.where(np.isin(values, book.missing), np.nan, price)
        books["price"][~(books["size"] > 0)] = np.nan
        books["size"][np.isnan(books["price"])] = 0
        for i, name in enumerate(order_columns(book, self._mapping, self._columns)):
            books["orders"][:, i // levels, i % levels] = lines.values[name, "int"]
        quotes = self._begun("quote", lines, codes, 0)
        for flag, choice in book.flags.items():
            quotes["flags"][lines.matching(choice)] |= np.uint16(Flag[flag])
        for side, short in enumerate(("bid", "ask")):
            quotes[f"{short}_price"] = books["price"][:, side, 0]
            quotes[f"{short}_size"] = books["size"][:, side, 0]
        cleared = lines.matching(book.cleared) if book.cleared else np.zeros(len(lines), np.bool_)
        depth, moved = self._books.changes(books, quotes, cleared)
        made.setdefault("depth", []).append((np.arange(len(depth)), depth))
        made.setdefault("quote", []).append((which[moved], quotes[moved]))


def _timed(rows: Rows, lines: Lines) -> None:
    """Bars that begin at the time of their lines: the time of their rows is that of their end."""
    rows["start"] = lines.ts_event
    if lines.end is not None:
        rows["interval_ns"] = lines.end - lines.ts_event
    rows["ts_event"] = lines.ts_event + rows["interval_ns"]


def _of_name(source: Source, groups: dict[str, str]) -> Source:
    """What the name of the file says, as a value that is always the same."""
    text = groups.get(source.name, "")
    return Source(value=source.map.get(text, source.otherwise) if source.map else text)


def _in_order(parts: list[tuple[npt.NDArray[np.intp], Rows]]) -> Rows:
    """Rows of one table of several rules, in the order of their lines."""
    if len(parts) == 1:
        return parts[0][1]
    rows = np.concatenate([rows for _, rows in parts])
    return rows[np.argsort(np.concatenate([which for which, _ in parts]), kind="stable")]


def _grown(values: Values, codes: npt.NDArray[np.uint32], last: dict[int, int]) -> Values:
    """By how much each value is above that of the instrument's line before; all of it where it is below.

    `last`: the last value of each instrument, which is brought up to date.
    """
    order = np.argsort(codes, kind="stable")
    own, now = codes[order], values[order]
    first = np.append(True, own[1:] != own[:-1])
    before = np.append(0, now[:-1])
    before[first] = [last.get(c, 0) for c in own[first].tolist()]
    ends = np.append(first[1:], True)
    last.update(zip(own[ends].tolist(), now[ends].tolist(), strict=True))
    out = np.empty(len(values), np.int64)
    out[order] = np.where(now >= before, now - before, now)
    return out


def values(source: Source, lines: Lines, dtype: np.dtype[Any], mapping: Mapping) -> Any:
    """The values of one column of a table."""
    if source.columns:
        joined = np.zeros(len(lines), np.int64)
        for column in source.columns:
            joined = joined * source.base ** width_of(mapping, column) + lines.values[column, "code"]
        return joined
    if not source.column:
        value = source.value
        return value.encode() if isinstance(value, str) else 0 if value is None else value
    if source.map or dtype.kind == "S":
        texts = lines.texts[source.column]
        other = "" if source.otherwise is None else source.otherwise
        chosen = [source.map.get(t, other if source.map else t) for t in texts] or [""]
        if dtype.kind == "S":
            return np.array([str(c).encode() for c in chosen], dtype)[lines.values[source.column, "text"]]
        numbers = np.array([c if isinstance(c, int | float) else np.nan for c in chosen], np.float64)
        return numbers[lines.values[source.column, "text"]]
    kind = "grown" if source.total else kind_of(source, dtype.kind)
    found = lines.values[source.column, kind]
    scaled = source.divisor != "auto" and source.divisor > 1
    return unscaled(found, int(source.divisor)) if scaled else found
