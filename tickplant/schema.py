"""What a table is: one declaration, from which everything else is derived.

A table is declared once, in the configuration, as a name and typed columns. Every table begins with
the same six columns (`KEY_COLUMNS`), which the plant knows by position:

    offset  column      type  set by          meaning
         0  ts_event    i8    feed handler    the venue's time, ns UTC
         8  ts_recv     i8    feed handler    when the feed handler made the row, ns UTC
        16  ts_plant    i8    ticker plant    when the ticker plant took the row, ns UTC (0 before)
        24  instrument  u4    feed handler    the feed's own code; from the ticker plant on, the plant's
        28  feed        u2    ticker plant    the feed's number in the configuration (0: the plant)
        30  flags       u2    feed handler    bits of `Flag`
        32  ...               feed handler    the declared columns, in order, packed

A row is packed little-endian without holes. These bytes are the payload on the wire and in the
journal; a shared-memory table holds their transpose, and the PostgreSQL table the same values.
"""

import enum
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.errors import SchemaError

Rows = npt.NDArray[np.void]
"""A structured array of packed rows of one table."""

KEY_COLUMNS: dict[str, str] = {
    "ts_event": "i8",
    "ts_recv": "i8",
    "ts_plant": "i8",
    "instrument": "u4",
    "feed": "u2",
    "flags": "u2",
}
KEY_SIZE = 32

SCALARS = {"i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "u2": 2, "u4": 4, "f4": 4, "f8": 8}
"""Column types beside S1..S255 (bytes, NUL-padded). No u8: PostgreSQL has no unsigned 64 bits."""

TABLES_MAX = 255
NO_INSTRUMENT = 0
"""Code of rows that concern no instrument (a venue's session, an event of the plant)."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


class Flag(enum.IntFlag):
    """Bits of the column `flags`, the same for all venues."""

    SNAPSHOT = 1
    """Part of a state as of a moment, not a change."""
    LATE = 2
    """Came after its time: filled in, or from before a restart."""
    CORRECTION = 4
    """Takes back or amends an earlier row."""
    NON_PRINTABLE = 8
    """Not to be counted in volume (reported again in another trade)."""
    HIDDEN = 16
    """Concerns an order that was not displayed."""
    CROSS = 32
    """An auction or another cross."""
    SYNTHETIC = 64
    """Derived by the feed handler, not sent by the venue."""
    ORPHAN = 128
    """Refers to an order that the feed never saw."""
    STALE = 256
    """Of a book that is out of step with its venue, and empty until it is rebuilt."""
    PROVISIONAL = 512
    """A definition from an instrument's name alone: no list of its venue has it (yet)."""


@dataclass(frozen=True)
class Column:
    """One column: its name, type (`i8`, `f8`, `S4`, ...), and byte offset in the row."""

    name: str
    type: str
    offset: int

    @cached_property
    def size(self) -> int:
        """Width in bytes."""
        return SCALARS.get(self.type) or int(self.type[1:])


@dataclass(frozen=True)
class Table:
    """One declared table; `number` is its name on the wire (order of declaration, from 1)."""

    name: str
    number: int
    columns: tuple[Column, ...]
    max_rows: int = 1 << 28
    latest: bool = False
    defaults: tuple[tuple[str, bytes | int | float], ...] = field(default=(), compare=False)
    """What feeds that do not give a column publish in it; nothing that is stored depends on it."""

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """The packed little-endian structured dtype of a row."""
        return np.dtype([(c.name, "<" + c.type if c.type[0] != "S" else c.type) for c in self.columns])

    @cached_property
    def row_size(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize

    @cached_property
    def fingerprint(self) -> int:
        """32 bits that change with any change to the name, number or columns of the table."""
        text = f"{self.number}:{self.name}:" + ",".join(f"{c.name}={c.type}" for c in self.columns)
        return zlib.crc32(text.encode())

    def empty(self, count: int) -> Rows:
        """`count` rows of zeros to fill."""
        return np.zeros(count, self.dtype)

    def rows(self, data: bytes | bytearray | memoryview) -> Rows:
        """The rows in `data`, without a copy. Raises SchemaError unless it is whole rows."""
        if len(data) % self.row_size:
            raise SchemaError(
                f"{len(data)} bytes are not whole rows of {self.name} ({self.row_size} bytes each)"
            )
        return np.frombuffer(data, self.dtype)


class Schema:
    """The tables of a plant, by name and by number."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self.tables = tuple(tables)
        self._by_name = {t.name: t for t in self.tables}
        self._by_number = {t.number: t for t in self.tables}
        if not len(self._by_name) == len(self._by_number) == len(self.tables):
            raise SchemaError("two tables have the same name or number")

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Table:
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name)
            raise SchemaError(f"there is no table {name!r}; declared are {known}") from None

    def numbered(self, number: int) -> Table:
        """The table with this wire number. Raises SchemaError if there is none."""
        try:
            return self._by_number[number]
        except KeyError:
            raise SchemaError(f"there is no table number {number}") from None

    @cached_property
    def fingerprint(self) -> int:
        """32 bits that change with any change to the tables' names, numbers or columns."""
        return zlib.crc32(b"".join(t.fingerprint.to_bytes(4, "little") for t in self.tables))

    def describe(self) -> list[dict[str, Any]]:
        """Plain data that `Schema.read` turns back into this schema (kept in every journal)."""
        return [
            {"name": t.name, "number": t.number, "columns": [[c.name, c.type] for c in t.columns]}
            for t in self.tables
        ]

    @classmethod
    def read(cls, described: list[dict[str, Any]]) -> "Schema":
        """The inverse of `describe`. Raises SchemaError on anything that is not a schema."""
        try:
            return cls(
                Table(d["name"], _number(d), _columns(d["name"], dict(d["columns"]))) for d in described
            )
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise SchemaError(f"not a schema description: {e!r}") from None


def _number(described: Mapping[str, Any]) -> int:
    number = int(described["number"])
    _check_number(described["name"], number)
    return number


def _check_number(name: str, number: int) -> None:
    if not 1 <= number <= TABLES_MAX:
        raise SchemaError(f"table {name} would be number {number}; at most {TABLES_MAX} tables")


def declare(
    name: str,
    number: int,
    columns: Mapping[str, str],
    *,
    max_rows: int = 1 << 28,
    latest: bool = False,
    defaults: Mapping[str, str | int | float] | None = None,
) -> Table:
    """Make a table from its declaration: the columns that follow the key columns, in order.

    `defaults`: values of columns that feeds do not give. Raises SchemaError if a name, a type or a default
    can't be used.
    """
    if not _NAME.fullmatch(name):
        raise SchemaError(f"table name {name!r} must match {_NAME.pattern}")
    _check_number(name, number)
    if not 1 <= max_rows < 1 << 32:
        raise SchemaError(f"max_rows of table {name} is {max_rows}; must be from 1 to 2^32-1")
    taken = KEY_COLUMNS.keys() & columns.keys()
    if taken:
        raise SchemaError(f"table {name} declares {sorted(taken)}, which every table has by itself")
    made = _columns(name, {**KEY_COLUMNS, **columns})
    return Table(name, number, made, max_rows, latest, _defaults(name, columns, defaults or {}))


def _defaults(
    table: str, columns: Mapping[str, str], declared: Mapping[str, str | int | float]
) -> tuple[tuple[str, bytes | int | float], ...]:
    """Defaults as their columns hold them. Raises SchemaError for one that a column can't hold."""
    made: list[tuple[str, bytes | int | float]] = []
    for name, value in declared.items():
        if name not in columns:
            raise SchemaError(
                f"table {table} has a default for {name}, which it does not declare as a column"
            )
        plain = value.encode() if isinstance(value, str) else value
        kind = columns[name]
        try:
            held = np.array([plain]).astype("<" + kind if kind[0] != "S" else kind)[0]
            fits = bool(held == plain) and isinstance(plain, bytes) is (kind[0] == "S")
        except (ValueError, OverflowError, TypeError):
            fits = False
        if not fits:
            raise SchemaError(f"the default {value!r} of {table}.{name} does not fit its type {kind}")
        made.append((name, plain))
    return tuple(made)


def _columns(table: str, declared: Mapping[str, str]) -> tuple[Column, ...]:
    columns, offset = [], 0
    for name, kind in declared.items():
        if not _NAME.fullmatch(name):
            raise SchemaError(f"column name {table}.{name!r} must match {_NAME.pattern}")
        if kind not in SCALARS and not re.fullmatch(r"S([1-9]|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])", kind):
            raise SchemaError(
                f"column {table}.{name} has type {kind!r}; use one of {', '.join(SCALARS)} or S1..S255"
            )
        columns.append(Column(name, kind, offset))
        offset += columns[-1].size
    if [(c.name, c.type) for c in columns[: len(KEY_COLUMNS)]] != list(KEY_COLUMNS.items()):
        raise SchemaError(f"table {table} does not begin with {', '.join(KEY_COLUMNS)}")
    return tuple(columns)
