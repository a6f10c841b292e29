"""The tables of the history, derived from the declared ones.

In one PostgreSQL schema (`namespace`), so that several plants can share a database:

    <table>             partitioned by trading_date: trading_date, row, then the declared columns
    <table>_<yyyymmdd>  a date's rows, and their indexes (indexes.py)
    <table>_<yyyymmdd>_new  the same while the date is rebuilt (rebuild.py)
    <table>_view        the same to read: times as timestamptz, texts as text, venue and symbol
    <table>_corrected   of tables with trade_id and action: what stands when busts and corrections are done
    registry            id, venue, symbol of every instrument
    progress            per date: the journal position up to which its rows are in
    proof               per date, table and feed: the counts and checksums of the end of day
    verdict             per date: whether it is complete, and with how many declared gaps
    declared            what `<table>` was made from, to tell a changed declaration
    layout              one row: the version of all this, and whose it is

Columns are NOT NULL; times stay bigint nanoseconds (timestamptz holds only microseconds), texts
stay bytea of their exact width.
"""

import re
import zlib
from collections.abc import Mapping

from psycopg import sql

from tickplant.hdb import indexes
from tickplant.hdb.connection import Connection, HistoryForeign
from tickplant.hdb.copy import date_of
from tickplant.hdb.views import VERSION as VIEWS
from tickplant.hdb.views import views
from tickplant.schema import Column, Schema, Table

VERSION = 1
"""Of the layout; a database with a higher one was made by a newer tickplant."""
_TYPES = {
    "i1": "smallint",
    "i2": "smallint",
    "u1": "smallint",
    "u2": "integer",
    "i4": "integer",
    "u4": "bigint",
    "i8": "bigint",
    "f4": "real",
    "f8": "double precision",
}
_OWN_TABLES = {"registry", "progress", "proof", "verdict", "declared", "layout"}
_OWN_COLUMNS = {"trading_date", "row"}
_LOCK = 0x74706462  # "tpdb", the first key of this plant's advisory locks

_BASE = """
CREATE TABLE IF NOT EXISTS {s}.layout (version integer NOT NULL, plant text);
CREATE TABLE IF NOT EXISTS {s}.declared (
    table_name text, position integer, name text NOT NULL, type text NOT NULL,
    PRIMARY KEY (table_name, position), UNIQUE (table_name, name));
CREATE TABLE IF NOT EXISTS {s}.registry (
    id bigint PRIMARY KEY, venue text NOT NULL, symbol text NOT NULL, UNIQUE (venue, symbol));
CREATE TABLE IF NOT EXISTS {s}.progress (
    trading_date date PRIMARY KEY, position bigint NOT NULL, last_crc bigint NOT NULL,
    rows jsonb NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz);
CREATE TABLE IF NOT EXISTS {s}.proof (
    trading_date date, table_name text, feed integer,
    published numeric(20), journaled bigint, shared_memory bigint, postgres bigint,
    published_checksum numeric(20), journaled_checksum numeric(20),
    shared_memory_checksum numeric(20), postgres_checksum numeric(20),
    complete boolean NOT NULL, proven_at timestamptz NOT NULL DEFAULT now(),
    missing numeric(20) NOT NULL DEFAULT 0, missing_checksum numeric(20) NOT NULL DEFAULT 0,
    PRIMARY KEY (trading_date, table_name, feed));
CREATE TABLE IF NOT EXISTS {s}.verdict (
    trading_date date PRIMARY KEY, complete boolean NOT NULL, declared_gaps bigint NOT NULL,
    missing jsonb NOT NULL, out_of_order text[] NOT NULL,
    proven_at timestamptz NOT NULL DEFAULT now());
"""
# A history that an earlier tickplant made gains these.
_GAINED = (
    ("layout", "plant", "text"),
    ("layout", "views", "integer NOT NULL DEFAULT 0"),
    ("progress", "refused", "jsonb NOT NULL DEFAULT '{}'"),
    ("proof", "missing", "numeric(20) NOT NULL DEFAULT 0"),
    ("proof", "missing_checksum", "numeric(20) NOT NULL DEFAULT 0"),
)

# What feeds claim is u64, whatever they have really published.
_WIDENED = (("proof", "published"), ("proof", "missing"))

# Text where the bytes are text, else escaped: a reader must never fail on what a venue has sent.
# Without backslash in the escaped form it is plain ASCII; what is left is looked at byte by byte.
_READABLE = """
CREATE OR REPLACE FUNCTION {s}.readable(field bytea) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT CASE
        WHEN position('\\' in encode(rtrim(field, '\\x00'), 'escape')) = 0
            THEN encode(rtrim(field, '\\x00'), 'escape')
        WHEN encode(rtrim(field, '\\x00'), 'hex') ~ {utf8}
            THEN convert_from(rtrim(field, '\\x00'), 'UTF8')
        ELSE encode(rtrim(field, '\\x00'), 'escape')
    END
$body$
"""
_UTF8 = (
    "^(?:0[1-9a-f]|[1-7].|(?:c[2-9a-f]|d.)T|e0[ab].T|e[1-9abcef]TT|ed[89].T|f0[9ab].TT|f[1-3]TTT|f48.TT)*$"
).replace("T", "[89ab].")

_NONE = "^$"  # a database of another encoding can't show all of UTF-8: what is not ASCII stays escaped


def lock_keys(purpose: str, namespace: str) -> tuple[int, int]:
    """Keys of an advisory lock: `tables` while they are made, `loader` for the one that loads."""
    return _LOCK, zlib.crc32(f"{purpose} {namespace}".encode()) - (1 << 31)


def leaf_name(table: str, trading_date: int) -> str:
    """The name of one date's partition."""
    return f"{table}_{trading_date}"


def new_name(table: str, trading_date: int) -> str:
    """The name of what is to take the place of that partition."""
    return f"{leaf_name(table, trading_date)}_new"


def check_names(schema: Schema, namespace: str) -> None:
    """Raises HistoryForeign if a table or column has a name that the history needs itself, or the
    namespace one that PostgreSQL would cut short or psycopg take for a parameter.
    """
    if not 1 <= len(namespace.encode()) <= 63 or "%" in namespace or "\0" in namespace:
        raise HistoryForeign(f"namespace {namespace!r} must have 1 to 63 bytes, none of them %")
    for table in schema:
        if table.name in _OWN_TABLES or re.search(r"(_view|_corrected|_\d{8}(_new)?)$", table.name):
            raise HistoryForeign(
                f"table name {table.name} is taken in PostgreSQL: rename it in the configuration"
            )
        for taken in _OWN_COLUMNS & {c.name for c in table.columns}:
            raise HistoryForeign(f"column {table.name}.{taken} exists in PostgreSQL by itself: rename yours")


def init(connection: Connection, schema: Schema, namespace: str, plant: str = "") -> None:
    """Make what is missing; may be run again, and by several at once.

    The names have passed `check_names`; `plant`: the identity of the plant whose history this is.
    Raises HistoryForeign if it is another plant's, or a stored table can't be brought to its
    declaration by adding columns.
    """
    with connection.transaction():
        lock_tables(connection, namespace)
        name = sql.Identifier(namespace)
        there = connection.execute("SELECT to_regnamespace(quote_ident(%s))", [namespace])
        if there.fetchone() == (None,):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        connection.execute(sql.SQL(_BASE).format(s=name))
        for gained in _GAINED:
            _gain(connection, namespace, *gained)
        for widened in _WIDENED:
            _widen(connection, namespace, *widened)
        _check_layout(connection, namespace, plant)
        texts = _UTF8 if connection.info.parameter_status("server_encoding") == "UTF8" else _NONE
        connection.execute(sql.SQL(_READABLE).format(s=name, utf8=sql.Literal(texts)))
        stored = declared(connection, namespace)
        for table in schema:
            _bring_up(connection, table, namespace, stored.get(table.name, {}))
        _renew_views(connection, namespace)


def _renew_views(connection: Connection, namespace: str) -> None:
    """Replace the views that an earlier tickplant made."""
    layout = sql.Identifier(namespace, "layout")
    row = connection.execute(sql.SQL("SELECT views FROM {}").format(layout)).fetchone()
    if row is None or row[0] >= VIEWS:
        return
    for table, columns in declared(connection, namespace).items():
        for view in views(table, columns, namespace):
            connection.execute(view)
    symbols = sql.SQL("CREATE INDEX IF NOT EXISTS registry_symbol ON {} (symbol)")
    connection.execute(symbols.format(sql.Identifier(namespace, "registry")))
    connection.execute(sql.SQL("UPDATE {} SET views = %s").format(layout), [VIEWS])


def open_date(
    connection: Connection, schema: Schema, namespace: str, trading_date: int, *, earlier: bool = False
) -> None:
    """Make and attach the date's partitions and its `progress`; harmless if they are there.

    `earlier`: `schema` is how the tables were declared on that date, and columns may have come since.
    """
    day = date_of(trading_date)
    with connection.transaction():
        lock_tables(connection, namespace)
        stored = declared(connection, namespace) if earlier else {}
        for table in schema:
            name = leaf_name(table.name, trading_date)
            new = not exists(connection, sql.Identifier(namespace, name))
            if new:
                make_leaf(connection, namespace, table.name, name)
            fill_leaf(connection, table, namespace, name, stored.get(table.name, {}))
            if new:
                for index in indexes.opening(namespace, name, {c.name: c.type for c in table.columns}):
                    connection.execute(index)
                attach_leaf(connection, namespace, table.name, name, trading_date)
        begin = sql.SQL("INSERT INTO {} VALUES (%s, 0, 0, '{{}}') ON CONFLICT DO NOTHING")
        connection.execute(begin.format(sql.Identifier(namespace, "progress")), [day])


def make_leaf(connection: Connection, namespace: str, table: str, name: str) -> None:
    """Make a partition of a table apart: readers of the table are not in the way."""
    leaf, parent = sql.Identifier(namespace, name), sql.Identifier(namespace, table)
    # With the CHECKs that an operator has given the table: no other partition could be attached.
    make = sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING CONSTRAINTS)")
    connection.execute(make.format(leaf, parent))


def fill_leaf(
    connection: Connection, table: Table, namespace: str, name: str, stored: Mapping[str, str]
) -> None:
    """Have columns that a date did not have yet (`table` is as on that date) be zero in its partition."""
    leaf = sql.Identifier(namespace, name)
    for column in stored.keys() - {c.name for c in table.columns}:
        fill = sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {}")
        zero = _zero(Column(column, stored[column], 0))
        connection.execute(fill.format(leaf, sql.Identifier(column), zero))


def attach_leaf(connection: Connection, namespace: str, table: str, name: str, trading_date: int) -> None:
    """Show a partition to the readers of the table."""
    attach = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})").format(
        sql.Identifier(namespace, table), sql.Identifier(namespace, name), sql.Literal(date_of(trading_date))
    )
    connection.execute(attach)


def drop_date(connection: Connection, namespace: str, trading_date: int) -> None:
    """Take away the date's partitions, progress and proof, all at once.

    The proof goes too: it vouches for rows that are then no longer there.
    """
    with connection.transaction():
        lock_tables(connection, namespace)
        for table in declared(connection, namespace):
            drop_leaf(connection, namespace, leaf_name(table, trading_date))
        forget_date(connection, namespace, trading_date)


def replace_date(connection: Connection, schema: Schema, namespace: str, trading_date: int) -> None:
    """Put the new tables in the place of the date's partitions; progress and proof are not theirs."""
    for name in declared(connection, namespace):
        drop_leaf(connection, namespace, leaf_name(name, trading_date))
    for table in schema:
        old, new = leaf_name(table.name, trading_date), new_name(table.name, trading_date)
        rename = sql.SQL("ALTER TABLE {} RENAME TO {}")
        connection.execute(rename.format(sql.Identifier(namespace, new), sql.Identifier(old)))
        ask = "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND tablename = %s"
        for (index,) in connection.execute(ask, [namespace, old]).fetchall():
            rename = sql.SQL("ALTER INDEX {} RENAME TO {}")
            there = sql.Identifier(namespace, index)
            connection.execute(rename.format(there, sql.Identifier(old + index.removeprefix(new))))
        attach_leaf(connection, namespace, table.name, old, trading_date)
    forget_date(connection, namespace, trading_date)


def drop_leaf(connection: Connection, namespace: str, name: str) -> None:
    """Take a partition away, if it is there."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(namespace, name)))


def forget_date(connection: Connection, namespace: str, trading_date: int) -> None:
    """Take a date's progress and proof away."""
    for table in ("progress", "proof", "verdict"):
        forget = sql.SQL("DELETE FROM {} WHERE trading_date = %s")
        connection.execute(forget.format(sql.Identifier(namespace, table)), [date_of(trading_date)])


def lock_tables(connection: Connection, namespace: str) -> None:
    """One at a time makes or drops tables, until the end of its transaction."""
    # For connection.LOCK_S at most: a waiting ALTER or DROP keeps every new reader waiting with it.
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", lock_keys("tables", namespace))


def exists(connection: Connection, name: sql.Identifier) -> bool:
    """Whether there is a table of this name."""
    found = connection.execute("SELECT to_regclass(%s)", [name.as_string(connection)]).fetchone()
    return found is not None and found[0] is not None


def _gain(connection: Connection, namespace: str, table: str, column: str, kind: str) -> None:
    ask = "SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"
    name = sql.Identifier(namespace, table)
    if connection.execute(ask, [name.as_string(connection), column]).fetchone() is None:
        add = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}")
        connection.execute(add.format(name, sql.Identifier(column), sql.SQL(kind)))


def _widen(connection: Connection, namespace: str, table: str, column: str) -> None:
    """Make a bigint column, as an earlier tickplant has it, hold every u64."""
    name = sql.Identifier(namespace, table)
    ask = (
        "SELECT atttypid = 'bigint'::regtype FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attname = %s"
    )
    if connection.execute(ask, [name.as_string(connection), column]).fetchone() == (True,):
        wide = sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE numeric(20)")
        connection.execute(wide.format(name, sql.Identifier(column)))


def _check_layout(connection: Connection, namespace: str, plant: str) -> None:
    """Note the version and whose history this is, or see that they are ours."""
    layout = sql.Identifier(namespace, "layout")
    row = connection.execute(sql.SQL("SELECT version, plant FROM {}").format(layout)).fetchone()
    if row is None:
        connection.execute(
            sql.SQL("INSERT INTO {} (version, plant) VALUES (%s, nullif(%s, ''))").format(layout),
            [VERSION, plant],
        )
    elif row[0] != VERSION:
        raise HistoryForeign(
            f"schema {namespace} has layout {row[0]}, this tickplant makes {VERSION}:"
            " use the tickplant that made it"
        )
    elif plant and row[1] is None:
        connection.execute(sql.SQL("UPDATE {} SET plant = %s").format(layout), [plant])
    elif plant and row[1] != plant:
        raise HistoryForeign(
            f"schema {namespace} in PostgreSQL is the history of another plant ({row[1]}; this is"
            f" {plant}), or this plant's data_dir was made anew: give this plant another name, or"
            f""" move it aside: psql -c 'ALTER SCHEMA "{namespace}" RENAME TO "{namespace}_old"'"""
        )


def declared(connection: Connection, namespace: str) -> dict[str, dict[str, str]]:
    """Column types by name, in the order of the stored table, by table."""
    ask = sql.SQL("SELECT table_name, name, type FROM {} ORDER BY table_name, position")
    stored: dict[str, dict[str, str]] = {}
    for table, name, kind in connection.execute(ask.format(sql.Identifier(namespace, "declared"))):
        stored.setdefault(table, {})[name] = kind
    return stored


def _bring_up(connection: Connection, table: Table, namespace: str, stored: Mapping[str, str]) -> None:
    """Make the table, or add its new columns; `stored` is what it was made from."""
    _check_kept(table, namespace, stored)
    added = [c for c in table.columns if c.name not in stored]
    if not added:
        return
    name = sql.Identifier(namespace, table.name)
    if not stored:
        columns: list[sql.Composable] = [
            sql.SQL("trading_date date NOT NULL"),
            sql.SQL("row bigint NOT NULL"),
        ]
        columns += [_definition(c) for c in added]
        make = sql.SQL("CREATE TABLE {} ({}) PARTITION BY LIST (trading_date)")
        connection.execute(make.format(name, sql.SQL(", ").join(columns)))
    for c in added if stored else ():
        # The default fills the rows that are there, without rewriting them; new rows must bring
        # the column.
        add = sql.SQL("ALTER TABLE {t} ADD COLUMN {d} DEFAULT {zero}").format(
            t=name, d=_definition(c), zero=_zero(c)
        )
        plain = sql.SQL("ALTER TABLE {t} ALTER COLUMN {c} DROP DEFAULT").format(
            t=name, c=sql.Identifier(c.name)
        )
        connection.execute(add)
        connection.execute(plain)
    keep = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s)").format(sql.Identifier(namespace, "declared"))
    for position, c in enumerate(added, len(stored)):
        connection.execute(keep, [table.name, position, c.name, c.type])
    in_order = {**stored, **{c.name: c.type for c in added}}
    for view in views(table.name, in_order, namespace):
        connection.execute(view)


def _check_kept(table: Table, namespace: str, stored: Mapping[str, str]) -> None:
    now = {c.name: c.type for c in table.columns}
    differs = [
        f"{name} is {kind} there and {now.get(name, 'gone')} here"
        for name, kind in stored.items()
        if now.get(name) != kind
    ]
    if differs:
        raise HistoryForeign(
            f"table {namespace}.{table.name} was made from another declaration: column"
            f" {', column '.join(differs)}. Only new columns can be added: declare the old ones"
            " again, or declare the changed table under a new name"
        )


def _definition(column: Column) -> sql.Composed:
    kind = _TYPES.get(column.type, "bytea")
    return sql.SQL("{} {} NOT NULL").format(sql.Identifier(column.name), sql.SQL(kind))


def _zero(column: Column) -> sql.Literal:
    return sql.Literal(bytes(column.size) if column.type[0] == "S" else 0)
