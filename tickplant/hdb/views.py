"""Views of the history: each table to be read by people, and trades as they were corrected.

Both are made so that PostgreSQL can use the indexes of a partition (indexes.py): what is asked of a view by
date, time, venue or symbol goes down to the partition. The corrected view never compares row with row: busts
and corrections are few and have an index of their own; they are grouped by trade and hashed.
"""

from collections.abc import Iterator, Mapping

from psycopg import sql

VERSION = 1
"""Of the views; a history that has those of a lower one is given these."""


def views(table: str, columns: Mapping[str, str], namespace: str) -> Iterator[sql.Composed]:
    """Statements that make a table's views, or bring them up to its columns (types by name, in order)."""
    yield _view(table, columns, namespace)
    if has_corrections(columns):
        yield _corrected(table, columns, namespace)


def has_corrections(columns: Mapping[str, str]) -> bool:
    """Whether rows of a table with these columns (types by name) can take back or amend earlier ones."""
    return "trade_id" in columns and columns.get("action", "")[:1] == "S"


def is_amending(column: sql.Composable, kind: str) -> sql.Composed:
    """The condition that a row's `action` is X or C: the same in the view and in the index for it.

    On purpose not on the bare column: PostgreSQL then takes its default estimate (1 % of the rows) in place
    of statistics, in which a few rows of millions do not appear. It would take that there are none otherwise,
    and may join row by row.
    """
    both = [sql.Literal(_exact(action, kind)) for action in (b"X", b"C")]
    return sql.SQL("substr({}, 1) = ANY (ARRAY[{}])").format(column, sql.SQL(", ").join(both))


def shown_time(column: sql.Composable) -> sql.Composed:
    """A column of nanoseconds as timestamptz, NULL for 0: immutable, so that an index can be on it."""
    # In integers: a float of seconds has no microseconds left. Zero is no time.
    return sql.SQL(
        "('1970-01-01'::timestamp + nullif({}, 0) / 1000 * interval '1 microsecond')"
        " AT TIME ZONE interval '0'"
    ).format(column)


def _exact(text: bytes, kind: str) -> bytes:
    """A text as a column of this type stores it."""
    return text.ljust(int(kind[1:]), b"\0")


def _view(table: str, columns: Mapping[str, str], namespace: str) -> sql.Composed:
    """Columns in the order of the stored table: a view can be extended only at its end."""
    make = sql.SQL(
        "CREATE OR REPLACE VIEW {view} AS SELECT {shown} FROM {table} t"
        " LEFT JOIN {registry} r ON r.id = t.instrument"
    )
    return make.format(view=sql.Identifier(namespace, f"{table}_view"), **_sources(table, columns, namespace))


def _sources(table: str, columns: Mapping[str, str], namespace: str) -> dict[str, sql.Composable]:
    shown: list[sql.Composable] = [sql.SQL("t.trading_date"), sql.SQL("t.row")]
    shown += [sql.SQL("r." + name) for name in ("venue", "symbol") if name not in columns]
    for name, kind in columns.items():
        shown += _shown(name, kind, columns, namespace)
    return {
        "shown": sql.SQL(", ").join(shown),
        "table": sql.Identifier(namespace, table),
        "registry": sql.Identifier(namespace, "registry"),
    }


def _shown(name: str, kind: str, columns: Mapping[str, str], namespace: str) -> Iterator[sql.Composed]:
    column = sql.Identifier("t", name)
    at = name.removeprefix("ts_") + "_time"
    if kind[0] == "S":
        readable = sql.Identifier(namespace, "readable")
        yield sql.SQL("{}({}) AS {}").format(readable, column, sql.Identifier(name))
        return
    if name.startswith("ts_") and kind == "i8" and at not in columns:
        yield sql.SQL("{} AS {}").format(shown_time(column), sql.Identifier(at))
    yield sql.SQL("{}").format(column)


def _corrected(table: str, columns: Mapping[str, str], namespace: str) -> sql.Composed:
    """One row for each trade that stands: busted ones are left out, corrected ones are as last corrected.

    A bust (X) or correction (C) is about the earlier rows of its date, feed and instrument with its trade_id
    (other than 0).
    """
    make = sql.SQL(
        "CREATE OR REPLACE VIEW {view} AS SELECT {shown} FROM {table} t"
        " LEFT JOIN {registry} r ON r.id = t.instrument"
        " LEFT JOIN (SELECT c.trading_date, c.feed, c.instrument, c.trade_id, max(c.row) AS row"
        " FROM {table} c WHERE {amending} AND c.trade_id <> 0"
        " GROUP BY c.trading_date, c.feed, c.instrument, c.trade_id) last"
        " ON last.trading_date = t.trading_date AND last.feed = t.feed"
        " AND last.instrument = t.instrument AND last.trade_id = t.trade_id"
        " WHERE t.action <> {bust} AND (last.row IS NULL OR last.row <= t.row)"
    )
    kind = columns["action"]
    return make.format(
        view=sql.Identifier(namespace, f"{table}_corrected"),
        amending=is_amending(sql.SQL("c.action"), kind),
        bust=sql.Literal(_exact(b"X", kind)),
        **_sources(table, columns, namespace),
    )
