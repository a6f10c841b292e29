"""What a reader asks for, checked at the door: tables, symbols, rows, dates, limits.

It is the same for readers on the plant's host and elsewhere.

Each function gives what was asked for in the form that readers work with, or raises RequestError that says
what is allowed; for a table that is not declared SchemaError, which says which are.
"""

import datetime
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tickplant.errors import RequestError, SchemaError
from tickplant.instruments import Instruments, full_name, split_name
from tickplant.schema import Schema, Table
from tickplant.shown import NEAR, nearest

ROWS_MAX = 1 << 62
"""No row number is so high."""
FromRow = int | Mapping[str, int | None] | None
TradingDate = int | datetime.date | None


def tables(asked: str | Sequence[str], schema: Schema) -> list[Table]:
    """The tables asked for, one by its name or several. Raises RequestError, SchemaError."""
    names = [asked] if isinstance(asked, str) else _listed(asked, "tables")
    if not names:
        raise RequestError(f"no table was asked for; there are: {', '.join(t.name for t in schema)}")
    return [table(name, schema) for name in dict.fromkeys(names)]


def table(name: object, schema: Schema) -> Table:
    """A table by its name. Raises RequestError for what is no name, SchemaError if it is not declared."""
    if not isinstance(name, str):
        raise RequestError(f"a table is asked for by its name, not by {_shown(name)}")
    if name not in schema:
        known = [t.name for t in schema]
        raise SchemaError(
            f"there is no table {name!r}; {nearest(name, known)}declared are {', '.join(known)}"
        )
    return schema[name]


def symbols(asked: str | Iterable[str] | None) -> set[str] | None:
    """Names VENUE:SYMBOL, None for all instruments. Raises RequestError, SchemaError."""
    if asked is None:
        return None
    names = [asked] if isinstance(asked, str) else _listed(asked, "symbols")
    if not names:
        raise RequestError("no symbol was asked for; leave symbols out (None) to have all instruments")
    for name in names:
        if not isinstance(name, str):
            raise RequestError(f"a symbol is written VENUE:SYMBOL, not {_shown(name)}")
    return {full_name(*split_name(name)) for name in names}


def unknown(wanted: set[str], instruments: Instruments) -> list[str]:
    """Those of the names that the plant has not seen."""
    return sorted(name for name in wanted if name not in instruments)


def not_seen(missing: Sequence[str], instruments: Instruments) -> str:
    """What to tell who asks for instruments that the plant has not seen."""
    near = nearest(missing[0], instruments)
    more = f" and {len(missing) - NEAR} more" if len(missing) > NEAR else ""
    return f"the plant has not seen the instrument {', '.join(missing[:NEAR])}{more}; {near}".rstrip("; ")


def from_row(asked: FromRow, names: Iterable[str]) -> dict[str, int | None]:
    """By table the first row wanted: negative so many before now, None now. Raises RequestError."""
    names = list(names)
    if not isinstance(asked, Mapping):
        return dict.fromkeys(names, row(asked))
    strange = [name for name in asked if name not in names]
    if strange:
        raise RequestError(
            f"from_row names {_shown(strange[0])}, which is none of the tables asked for: {', '.join(names)}"
        )
    return {name: row(asked.get(name)) for name in names}


def row(asked: object, what: str = "from_row") -> int | None:
    """A row number, None for now. Raises RequestError."""
    if asked is None:
        return None
    return whole(asked, what, 1 - ROWS_MAX, ROWS_MAX - 1, "or None for now")


def whole(asked: object, what: str, least: int, most: int, also: str = "") -> int:
    """A whole number within limits. Raises RequestError."""
    try:
        if isinstance(asked, bool):
            raise TypeError
        number = operator.index(asked)  # type: ignore[arg-type]
    except TypeError:
        raise RequestError(_allowed(what, asked, least, most, also)) from None
    if not least <= number <= most:
        raise RequestError(_allowed(what, asked, least, most, also))
    return number


def trading_date(asked: object) -> int | None:
    """A trading date as the number yyyymmdd, None for the open one. Raises RequestError."""
    if asked is None or (isinstance(asked, int) and not isinstance(asked, bool) and asked == 0):
        return None
    try:
        if isinstance(asked, datetime.date):
            return asked.year * 10_000 + asked.month * 100 + asked.day
        number = operator.index(asked) if not isinstance(asked, bool) else -1  # type: ignore[arg-type]
        datetime.date(number // 10_000, number // 100 % 100, number % 100)
    except (TypeError, ValueError, OverflowError):
        raise RequestError(
            f"a trading date is a number yyyymmdd, such as 20260105, or a datetime.date, not {_shown(asked)}"
        ) from None
    return number


def _allowed(what: str, asked: object, least: int, most: int, also: str) -> str:
    allowed = f"a whole number from {least:,} to {most:,}"
    return f"{what} is {_shown(asked)}; it has to be {allowed}{' ' + also if also else ''}"


def _listed(asked: object, what: str) -> list[Any]:
    if isinstance(asked, bytes) or not isinstance(asked, Iterable):
        raise RequestError(f"{what} are a name or a list of names, not {_shown(asked)}")
    return list(asked)


def _shown(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."
