"""Which indexes a date's partition has, while the date is open and when it is finished.

<leaf>_time        BRIN on the times, as nanoseconds and as the view shows them: time ranges. From the start:
                   it costs a loader nothing; what is new in it is summarized now and then
<leaf>_amended     the busts and corrections of a table of trades: few rows, no cost. From the start
<leaf>_instrument  btree on (instrument, ts_event): one symbol. It makes COPY two to four times slower, so the
                   open date has it while the loader keeps up with the journal (tending.py), any other date
                   when it is finished
<leaf>_row         unique, on the row number: when the date is finished
"""

from collections.abc import Iterator, Mapping

from psycopg import sql

from tickplant.hdb.views import has_corrections, is_amending, shown_time

PAGES_PER_RANGE = 64
"""Of BRIN: half a megabyte of rows is read for a range that begins in it."""


def opening(namespace: str, leaf_name: str, columns: Mapping[str, str]) -> Iterator[sql.Composed]:
    """The indexes that a partition has from the start; harmless if they are there.

    `columns`: types by name.
    """
    leaf = sql.Identifier(namespace, leaf_name)
    times = [sql.Identifier(name) for name, kind in columns.items() if name[:3] == "ts_" and kind == "i8"]
    shown = [sql.SQL("({})").format(shown_time(time)) for time in times]
    brin = "CREATE INDEX IF NOT EXISTS {} ON {} USING brin ({}) WITH (pages_per_range = {})"
    yield sql.SQL(brin).format(
        sql.Identifier(f"{leaf_name}_time"), leaf, sql.SQL(", ").join([*times, *shown]),
        sql.Literal(PAGES_PER_RANGE),
    )  # fmt: skip
    if has_corrections(columns):
        amended = (
            "CREATE INDEX IF NOT EXISTS {} ON {} (trading_date, feed, instrument, trade_id, row) WHERE {}"
        )
        yield sql.SQL(amended).format(
            sql.Identifier(f"{leaf_name}_amended"), leaf,
            is_amending(sql.Identifier("action"), columns["action"]),
        )  # fmt: skip


def by_instrument(namespace: str, leaf_name: str) -> sql.Composed:
    """The index for the rows of one instrument."""
    index = sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} (instrument, ts_event)")
    return index.format(sql.Identifier(f"{leaf_name}_instrument"), sql.Identifier(namespace, leaf_name))


def drop_by_instrument(namespace: str, leaf_name: str) -> sql.Composed:
    """Take that index away, if it is there."""
    name = sql.Identifier(namespace, f"{leaf_name}_instrument")
    return sql.SQL("DROP INDEX IF EXISTS {}").format(name)


def summarizing(namespace: str, leaf_name: str) -> sql.Composed:
    """Bring what is new in a partition that grows into its BRIN index."""
    index = sql.Identifier(namespace, f"{leaf_name}_time").as_string(None)
    return sql.SQL("SELECT brin_summarize_new_values(to_regclass({}))").format(sql.Literal(index))


def analyzing(namespace: str, leaf_name: str) -> sql.Composed:
    """Bring the statistics of a partition up to date."""
    return sql.SQL("ANALYZE {}").format(sql.Identifier(namespace, leaf_name))


def finishing(namespace: str, leaf_name: str, columns: Mapping[str, str]) -> Iterator[sql.Composed]:
    """Index a partition, freeze and analyze it; harmless if that is done.

    Not for a transaction: each statement holds by itself.
    """
    leaf = sql.Identifier(namespace, leaf_name)
    unique = sql.SQL("CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} (row)")
    yield unique.format(sql.Identifier(f"{leaf_name}_row"), leaf)
    yield by_instrument(namespace, leaf_name)
    yield from opening(namespace, leaf_name, columns)
    # Nothing changes here any more: frozen once, never looked after again. It summarizes BRIN, too.
    yield sql.SQL("VACUUM (FREEZE, ANALYZE) {}").format(leaf)
