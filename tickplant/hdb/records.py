"""Proofs in PostgreSQL: what the end of a date found, per table and feed, and what it came to.

The one proof of a date takes the place of an earlier one whole, so what is there is always of one reading.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from tickplant.clock import as_int
from tickplant.hdb import ddl
from tickplant.hdb.connection import Connection
from tickplant.hdb.copy import date_of

_COUNTS = ["published", "journaled", "shared_memory", "postgres"]
_CHECKSUMS = [f"{c}_checksum" for c in _COUNTS]
_COLUMNS = ["trading_date", "table_name", "feed", *_COUNTS, *_CHECKSUMS, "complete"]
_COLUMNS += ["missing", "missing_checksum"]


@dataclass(frozen=True)
class Proof:
    """What the end of day found for one table and feed: counts of rows, and checksums of them."""

    trading_date: int
    table: str
    feed: int
    published: int | None
    journaled: int | None
    shared_memory: int | None
    postgres: int | None
    published_checksum: int | None
    journaled_checksum: int | None
    shared_memory_checksum: int | None
    postgres_checksum: int | None
    complete: bool
    missing: int = 0
    """Of the published rows, those that are declared to be lost."""
    missing_checksum: int = 0


@dataclass(frozen=True)
class Outcome:
    """What the end of day came to, for the whole date."""

    trading_date: int
    complete: bool
    declared_gaps: int
    missing: Mapping[int, int]
    """Rows in the declared gaps, by feed."""
    out_of_order: Sequence[str]


def store_proof(
    connection: Connection, namespace: str, records: Sequence[Proof], outcome: Outcome | None
) -> None:
    """Store records and outcome in place of earlier ones of their dates; all or nothing."""
    names = ", ".join([*_COLUMNS, "proven_at"])
    put = _sql(f"INSERT INTO {{}} ({names}) VALUES ({'%s, ' * len(_COLUMNS)}now())", namespace, "proof")
    dates = {r.trading_date for r in records} | ({outcome.trading_date} if outcome else set())
    with connection.transaction():
        one_at_a_time = "SELECT pg_advisory_xact_lock(%s, %s)"
        connection.execute(one_at_a_time, ddl.lock_keys("proof", namespace))
        for date in dates:
            forget = _sql("DELETE FROM {} WHERE trading_date = %s", namespace, "proof")
            connection.execute(forget, [date_of(date)])
        for record in records:
            day, *rest = astuple(record)
            connection.execute(put, [date_of(day), *rest])
        if outcome:
            _store_outcome(connection, namespace, outcome)


def _store_outcome(connection: Connection, namespace: str, outcome: Outcome) -> None:
    day = date_of(outcome.trading_date)
    missing = Jsonb({str(feed): rows for feed, rows in outcome.missing.items()})
    about = [day, outcome.complete, outcome.declared_gaps, missing, list(outcome.out_of_order)]
    connection.execute(_sql("DELETE FROM {} WHERE trading_date = %s", namespace, "verdict"), [day])
    connection.execute(_sql("INSERT INTO {} VALUES (%s, %s, %s, %s, %s, now())", namespace, "verdict"), about)


def read_proofs(connection: Connection, namespace: str, trading_date: int | None) -> list[Proof]:
    """Stored records, of one date or of all, by date, table and feed."""
    ask = f"SELECT {', '.join(_COLUMNS)} FROM {{}} WHERE trading_date = %s OR %s"
    order = " ORDER BY trading_date, table_name, feed"
    day = None if trading_date is None else date_of(trading_date)
    found = connection.execute(_sql(ask + order, namespace, "proof"), [day, day is None])
    return [_proof(row) for row in found]


def read_outcome(connection: Connection, namespace: str, trading_date: int) -> Outcome | None:
    """What a date came to; None if it is not proven."""
    ask = "SELECT complete, declared_gaps, missing, out_of_order FROM {} WHERE trading_date = %s"
    row = connection.execute(_sql(ask, namespace, "verdict"), [date_of(trading_date)]).fetchone()
    if row is None:
        return None
    return Outcome(trading_date, row[0], row[1], {int(f): n for f, n in row[2].items()}, row[3])


def _sql(text: Any, namespace: str, table: str) -> sql.Composed:
    return sql.SQL(text).format(sql.Identifier(namespace, table))


def _proof(row: tuple[Any, ...]) -> Proof:
    values = [None if v is None else int(v) for v in row[3:11]]
    found: dict[str, Any] = dict(zip([*_COUNTS, *_CHECKSUMS], values, strict=True))
    found |= {"missing": int(row[12]), "missing_checksum": int(row[13])}
    return Proof(as_int(row[0]), row[1], row[2], complete=row[11], **found)
