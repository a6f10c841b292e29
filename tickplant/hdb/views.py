"""Views of the history: each table to be read by people, and trades as they were corrected."""

from collections.abc import Iterator, Mapping

from psycopg import sql


def views(table: str, columns: Mapping[str, str], namespace: str) -> Iterator[sql.Composed]:
    """Statements that make a table's views, or bring them up to its columns (types by name, in order)."""
    yield _view(table, columns, namespace)
    if {"trade_id", "action"} <= columns.keys():
        yield _corrected(table, namespace)


def _view(table: str, columns: Mapping[str, str], namespace: str) -> sql.Composed:
    """Columns in the order of the stored table: a view can be extended only at its end."""
    shown: list[sql.Composable] = [sql.SQL("t.trading_date"), sql.SQL("t.row")]
    shown += [sql.SQL("r." + name) for name in ("venue", "symbol") if name not in columns]
    for name, kind in columns.items():
        shown += _shown(name, kind, columns, namespace)
    make = sql.SQL(
        "CREATE OR REPLACE VIEW {view} AS SELECT {shown} FROM {table} t"
        " LEFT JOIN {registry} r ON r.id = t.instrument"
    )
    return make.format(
        view=sql.Identifier(namespace, f"{table}_view"),
        shown=sql.SQL(", ").join(shown),
        table=sql.Identifier(namespace, table),
        registry=sql.Identifier(namespace, "registry"),
    )


def _shown(name: str, kind: str, columns: Mapping[str, str], namespace: str) -> Iterator[sql.Composed]:
    column = sql.Identifier("t", name)
    at = name.removeprefix("ts_") + "_time"
    if kind[0] == "S":
        readable = sql.Identifier(namespace, "readable")
        yield sql.SQL("{}({}) AS {}").format(readable, column, sql.Identifier(name))
        return
    if name.startswith("ts_") and kind == "i8" and at not in columns:
        # In integers: a float of seconds has no microseconds left. Zero is no time.
        time = "'epoch'::timestamptz + nullif({}, 0) / 1000 * interval '1 microsecond' AS {}"
        yield sql.SQL(time).format(column, sql.Identifier(at))
    yield sql.SQL("{}").format(column)


def _corrected(table: str, namespace: str) -> sql.Composed:
    """One row for each trade that stands: busted ones are left out, corrected ones are as last corrected.

    A bust (X) or correction (C) is about the earlier row of its date, feed and instrument with its trade_id.
    """
    make = sql.SQL(
        "CREATE OR REPLACE VIEW {view} AS SELECT v.* FROM {shown} v WHERE v.action <> 'X'"
        " AND (v.trade_id = 0 OR NOT EXISTS (SELECT FROM {table} c WHERE c.trading_date = v.trading_date"
        " AND c.instrument = v.instrument AND c.feed = v.feed AND c.trade_id = v.trade_id AND c.row > v.row"
        " AND c.action IN ('X', 'C')))"
    )
    return make.format(
        view=sql.Identifier(namespace, f"{table}_corrected"),
        shown=sql.Identifier(namespace, f"{table}_view"),
        table=sql.Identifier(namespace, table),
    )
