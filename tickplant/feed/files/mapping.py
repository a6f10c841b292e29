"""How the columns of a file become rows of tables, declared in a TOML file; some come with tickplant.

    what = "trades of some vendor"      for people
    documented = "https://..."          where the publisher says so
    header = ["time", "px", "qty"]      the file's columns; one whose header has just these is recognized
    headers = [["time", "price = px", "qty"]]    other headers of such files; `theirs = ours` for other names
    optional = ["note"]                 columns that a header may have besides, or lack
    shapes = [["time", "px"]]           the columns in order of files without a header, if not `header`
    folder = "futures/um"               what the path of a file without a header must have in it
    widths = [12, 6, 8]                 instead of a delimiter: the characters of each column; a file is
                                        recognized if its first line is as long, and has times and numbers
    has_header = true                   the first line of a CSV file has their names; "either": some files
                                        have one. Without one a file is recognized by its name, its number
                                        of columns and the times and numbers of its first line
    repeat = ["px_{}", "qty_{}"]        columns that follow, again and again, numbered from 1
    file_name = '(?P<symbol>\\w+)_.*'    what the name of a file must match whole to be recognized
    files = ["_message_", "_orderbook_"]    in the names of files side by side, line for line, in a zip
                                        or a folder; `header` is of the first, `repeat` of the second
    delimiter = ","
    venue = { value = "XNAS" }          or { column = "exchange" }
    symbol = { column = "symbol" }      or { value = "AMZN" }; of a file without that column it is a group
                                        `symbol` of file_name, and the venue a group `venue`
    symbol = { column = "symbol", number = "id" }    where there is none: # and this column
    symbol = { value = "", names = "binance" }       the symbol is that of the live feed: BTC-USDT for BTCUSDT
    order_by = "ts_event"               the time by which lines are in order; ts_recv where it is given
    window_s = 0                        lines are sorted within so many seconds (inf: the whole file);
                                        those that come later still are flagged LATE

    [ts_event]                          and [ts_recv]
    column = "time"
    unit = "us"                         s, ms, us, ns: integers or decimals since 1970 UTC; iso: ISO
                                        8601, UTC if it has no offset; midnight: seconds since midnight
                                        of `date` (a group of file_name, or an option) in `timezone`;
                                        clock: HHMMSS and digits of a second, of the day in a column;
                                        compact: YYYYMMDD HHMMSS and digits of a second;
                                        auto: each value says by its magnitude whether it is s, ms, us or ns
                                        (to the year 5138, from 1973 on), or is of ISO 8601
    timezone = "America/New_York"
    date = "day"                        clock: the column with the day, YYYYMMDD

    [end]                               the end of a bar, of which ts_event is the beginning
    column = "close_time"
    unit = "ms"
    plus = 1                            the end is so many units later

    [[rows]]                            each line gives a row for each of these whose `when` fits
    table = "trade"
    when = { type = ["4", "5"] }        column: texts, one of which it must be
    given = ["bid"]                     a row only where none of these columns is empty
    flags = ["HIDDEN"]
    snapshot = { kind = ["snap"] }      depth: lines of a whole book (SNAPSHOT; R before the first of it)
    [rows.columns]
    price = "px"                        a column as it is, or
    size = { column = "qty", divisor = 100 }
    size = { column = "qty", divisor = "auto" }      integers are divided by 1e9, decimals are as they are
    side = { column = "maker", map = { true = "S", false = "B" } }
    side = { column = "taker", map = { b = "B", s = "S" }, else = "" }    else: of texts that are not there
    size = { column = "qty", zero = true }    0 is a size, and not one that was never told
    interval_ns = { name = "interval", map = { 1m = 60000000000 } }    a group of file_name
    action = { value = "T" }
    size = { column = "volume", total = true }    what a count of the day has grown by since the
                                        instrument's line before (all of it where it falls)
    order_id = { columns = ["no", "broker"], base = 62 }    one number of texts of 0-9, A-Z, a-z

    [book]                              whole books, one a line: depth by difference, quote when it moves
    levels = 5                          0: as many as `repeat` has
    first = 0                           the number of the first level, which goes for {} in
    bid_price = "bids[{}].price"        and bid_size, ask_price, ask_size; bid_orders and ask_orders, if told
    divisor = 10000
    missing = [9999999999, -9999999999] prices that say that there is no level
    when = { kind = ["book"] }          lines that have one; default all
    cleared = { action = ["R"] }        lines with which the book begins anew
    flags = { CROSS = { kind = ["auction"] } }    of the lines of these texts

A line is malformed if a value of it can't be one: text for a number, a text that a map lacks, more text than
a column has room for, a time that is empty or 0, and what a row of its table needs (see `columns_check`).

A row of bar has the beginning in `start`, and in ts_event the end: that of [end], else `interval_ns` later.

A column `size` of depth that is 0 makes the action D; else it is that of the mapping, or A in a snapshot and
C (the level is so now, whether or not it was there) otherwise.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from tickplant.errors import ConfigError
from tickplant.feed.files import names
from tickplant.feed.sink import shipped_schema
from tickplant.schema import KEY_COLUMNS, Flag

PRESETS = Path(__file__).parent / "mappings"
Scalar = str | int | float


class _Part(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class Source(_Part, frozen=True, kw_only=True):
    """Where a value comes from: a column of the file, or always the same."""

    column: str = ""
    value: Scalar | None = None
    map: dict[str, Scalar] = {}
    otherwise: Scalar | None = msgspec.field(default=None, name="else")
    divisor: int | Literal["auto"] = 1
    zero: bool = False
    name: str = ""
    number: str = ""
    names: str = ""
    total: bool = False
    columns: list[str] = []
    base: Literal[0, 62] = 0

    @property
    def used(self) -> list[str]:
        """The columns that it is made of."""
        return self.columns or [c for c in (self.column, self.number) if c]


class Time(_Part, frozen=True, kw_only=True):
    """A column with times."""

    column: str
    unit: Literal["s", "ms", "us", "ns", "iso", "midnight", "clock", "compact", "auto"]
    timezone: str = "UTC"
    date: str = ""
    plus: int = 0


class RowRule(_Part, frozen=True, kw_only=True):
    """Rows of one table."""

    table: str
    columns: dict[str, Source | str]
    when: dict[str, list[str]] = {}
    given: list[str] = []
    flags: list[str] = []
    snapshot: dict[str, list[str]] = {}

    def source(self, name: str) -> Source:
        """Where a column of the table comes from."""
        given = self.columns[name]
        return Source(column=given) if isinstance(given, str) else given


class Book(_Part, frozen=True, kw_only=True):
    """Whole books, one a line."""

    bid_price: str
    bid_size: str
    ask_price: str
    ask_size: str
    bid_orders: str = ""
    ask_orders: str = ""
    levels: int = 0
    first: int = 0
    divisor: int | Literal["auto"] = 1
    missing: list[float] = []
    when: dict[str, list[str]] = {}
    cleared: dict[str, list[str]] = {}
    flags: dict[str, dict[str, list[str]]] = {}


class Mapping(_Part, frozen=True, kw_only=True):
    """One mapping; see the module."""

    what: str
    header: list[str]
    ts_event: Time
    symbol: Source
    venue: Source
    ts_recv: Time | None = None
    end: Time | None = None
    documented: str = ""
    has_header: bool | Literal["either"] = True
    headers: list[list[str]] = []
    optional: list[str] = []
    shapes: list[list[str]] = []
    folder: str = ""
    repeat: list[str] = []
    file_name: str = ""
    files: list[str] = []
    delimiter: str = ","
    widths: list[int] = []
    order_by: Literal["ts_event", "ts_recv", ""] = ""
    window_s: float = 0.0
    rows: list[RowRule] = []
    book: Book | None = None

    def named(self, columns: int) -> list[str]:
        """The names of so many columns of the file."""
        names, number = list(self.header), 1
        while self.repeat and len(names) < columns:
            names += [name.format(number) for name in self.repeat]
            number += 1
        return names

    def columns_of(self, names: list[str]) -> list[str] | None:
        """What this mapping calls the columns of a header; None if the header is none of such files."""
        found, optional = set(names), set(self.optional)
        for header in (self.header, *self.headers):
            ours = dict(_renamed(name) for name in header)
            fits = ours.keys() - optional <= found and found - ours.keys() <= optional
            if fits and len(found) == len(names):
                return [ours.get(name, name) for name in names]
        return None

    @property
    def headerless(self) -> list[list[str]]:
        """The columns, in order, that files without a header may have."""
        if self.has_header is True:
            return []
        return self.shapes or [self.header]

    @property
    def times(self) -> list[Time]:
        """Where its times are."""
        return [t for t in (self.ts_event, self.ts_recv, self.end) if t]

    @property
    def all_columns(self) -> set[str]:
        """What it calls all columns that its files can have."""
        known = {*self.named(len(self.header) + 100 * len(self.repeat)), *self.optional}
        known |= {_renamed(n)[1] for header in self.headers for n in header}
        return known | {n for shape in self.shapes for n in shape}

    def texts(self) -> set[str]:
        """Columns that are read as text."""
        chosen = [rule.when | rule.snapshot for rule in self.rows]
        chosen += [self.book.when, self.book.cleared, *self.book.flags.values()] if self.book else []
        sources = [rule.source(name) for rule in self.rows for name in rule.columns]
        used = {column for choice in chosen for column in choice}
        used |= {s.column for s in sources if s.map} | {*self.symbol.used, *self.venue.used}
        for rule in self.rows:
            types = {c.name: c.type for c in shipped_schema()[rule.table].columns}
            used |= {rule.source(n).column for n in rule.columns if types[n][0] == "S"}
        return used - {""}


@cache
def presets() -> dict[str, Mapping]:
    """The mappings that come with tickplant, by name."""
    return {path.stem: read(path) for path in sorted(PRESETS.glob("*.toml"))}


def named(name: str) -> Mapping:
    """The mapping of this name, or in this file. Raises ConfigError if there is none, or it is wrong."""
    known = presets().get(name)
    if known:
        return known
    if not Path(name).is_file():
        raise ConfigError(f"no mapping {name!r}, and no such file; there are {', '.join(presets())}")
    return read(Path(name))


def read(path: Path) -> Mapping:
    """A mapping from its file. Raises ConfigError if it is wrong."""
    try:
        mapping = msgspec.toml.decode(path.read_bytes(), type=Mapping)
        _check(mapping)
    except OSError as e:
        raise ConfigError(f"can't read the mapping {path}: {e.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, ConfigError, re.error) as e:
        raise ConfigError(f"mapping {path}: {e}") from None
    return mapping


def _renamed(name: str) -> tuple[str, str]:
    """`theirs = ours` of a header as the two names."""
    theirs, equals, ours = name.partition(" = ")
    return (theirs.strip(), ours.strip()) if equals else (name, name)


def _check(mapping: Mapping) -> None:
    groups = re.compile(mapping.file_name).groupindex
    re.compile(mapping.folder)
    if not mapping.rows and not mapping.book:
        raise ConfigError("it gives no rows")
    if len(mapping.delimiter) != 1:
        raise ConfigError(f"delimiter {mapping.delimiter!r} is not one character")
    if mapping.widths and (len(mapping.widths) != len(mapping.header) or min(mapping.widths) < 1):
        raise ConfigError(f"{len(mapping.header)} columns have {len(mapping.widths)} widths, all from 1 on")
    if mapping.widths and (mapping.repeat or mapping.files or mapping.has_header):
        raise ConfigError("with widths there is no repeat, no files, and has_header = false")
    if mapping.shapes and (mapping.has_header is True or mapping.repeat):
        raise ConfigError('shapes are for has_header = false or "either", and not with repeat')
    for source in (mapping.symbol, mapping.venue):
        if source.names:
            names.check(source.names)
    for rule in mapping.rows:
        if rule.table not in shipped_schema():
            raise ConfigError(f"there is no table {rule.table!r}")
        declared = {c.name for c in shipped_schema()[rule.table].columns} - KEY_COLUMNS.keys()
        if wrong := rule.columns.keys() - declared:
            raise ConfigError(f"table {rule.table} has no column {', '.join(sorted(wrong))}")
        _check_flags(rule.flags)
        _know(mapping, {*rule.when, *rule.snapshot, *rule.given})
        _know(mapping, {c for n in rule.columns for c in rule.source(n).used})
        for name in rule.columns:
            _check_source(mapping, rule.source(name), f"{rule.table}.{name}")
            if (group := rule.source(name).name) and group not in groups:
                raise ConfigError(f"{rule.table}.{name}: file_name has no group {group}")
    if mapping.book:
        _check_flags(mapping.book.flags)
        _know(
            mapping,
            {*mapping.book.when, *mapping.book.cleared, *(c for f in mapping.book.flags.values() for c in f)},
        )
    for time in mapping.times:
        if (time.unit == "clock") != bool(time.date):
            raise ConfigError(f"{time.column}: unit clock needs `date`, and only it")
    _know(mapping, {*mapping.symbol.used, *mapping.venue.used, *(t.column for t in mapping.times)})
    _know(mapping, {t.date for t in mapping.times})


def _check_flags(flags: Iterable[str]) -> None:
    if wrong := set(flags) - set(Flag.__members__):
        raise ConfigError(f"there is no flag {', '.join(sorted(wrong))}")


def _check_source(mapping: Mapping, source: Source, name: str) -> None:
    if source.divisor != "auto" and source.divisor < 1:
        raise ConfigError(f"the divisor of {name} is not positive")
    if bool(source.base) != bool(source.columns):
        raise ConfigError(f"{name}: `columns` and `base` go together")
    if source.columns and not mapping.widths:
        raise ConfigError(f"{name}: `base` needs a file with widths")
    if source.columns and sum(width_of(mapping, c) for c in source.columns) > 10:
        raise ConfigError(f"{name} has more than 10 characters, which are more than 63 bits")


def width_of(mapping: Mapping, column: str) -> int:
    """The characters of a column of a file with widths."""
    return mapping.widths[mapping.header.index(column)]


def _know(mapping: Mapping, used: set[str]) -> None:
    if wrong := used - mapping.all_columns - {""}:
        raise ConfigError(f"the file has no column {', '.join(sorted(wrong))}")
