"""The history in PostgreSQL: rows go in exactly once, and come back bit by bit.

A chunk's rows and the journal position that they reach are one transaction, which holds only if the
position before it is what the loader thinks. So after any crash, of either side, the loader reads
`progress` and goes on from there; nothing is missing and nothing is there twice. One loader at a
time: it holds an advisory lock for as long as its connection lives.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, field
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.copy import LibpqWriter
from psycopg.types.json import Jsonb

from tickplant.clock import SECOND_NS, as_int, monotonic_ns
from tickplant.errors import HistoryError
from tickplant.hdb import ddl
from tickplant.hdb.copy import HEADER, TRAILER, Decoder, Encoder, Numbers, date_of
from tickplant.schema import Rows, Schema

READ_ROWS = 1 << 16
"""Rows that `read_back` gives at a time."""
FLUSH_BYTES = 1 << 18
"""What may wait in libpq's buffer while loading: more makes libpq move it about."""

_GONE = {"57P01", "57P02", "57P03"}  # shutting down, crashed, not yet accepting; and class 08
_REMEDIES = {
    "3D000": "; make the database with `createdb`",
    "3F000": "; run `tickplant hdb init`",
    "42P01": "; run `tickplant hdb init`",
    "42703": "; the declaration has changed: run `tickplant hdb init`",
    "23502": "; the stored table has columns that are not declared: run `tickplant hdb init`",
    "23505": "; drop this date and load it again",
    "42501": "; grant the plant's user CREATE on the database, or make the schema as its owner",
    "53100": "; nothing of it is in: make room on PostgreSQL's disk and load on",
    "55P03": "; someone reads or changes the table: try again when they are done",
}
_COUNTS = ["published", "journaled", "shared_memory", "postgres"]
_CHECKSUMS = [f"{c}_checksum" for c in _COUNTS]
_PROOF_COLUMNS = ["trading_date", "table_name", "feed", *_COUNTS, *_CHECKSUMS, "complete"]


class HistoryLost(HistoryError):
    """PostgreSQL is not there, or went away; read `progress` once it is back, and go on."""


@dataclass(frozen=True)
class Progress:
    """How far a date is loaded."""

    position: int = 0
    """Journal position up to which rows are in."""
    last_crc: int = 0
    """Checksum of the journal's last frame before `position`, as given to `load`."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Rows that are in, by table; also the number of the next row."""


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


class History:
    """The tables of one plant, in the PostgreSQL schema `namespace`. For one thread.

    Connects when first used, and again after `HistoryLost`. `patience` is for how many seconds it
    tries to connect, `lock_patience` for how many it waits while another loader holds the lock
    (a moment after a crash, the server may not yet know that the old one is dead).
    Raises HistoryError if the schema or `namespace` has a name that can't be used.
    """

    def __init__(
        self,
        dsn: str,
        schema: Schema,
        namespace: str = "tickplant",
        *,
        patience: float = 30.0,
        lock_patience: float = 5.0,
    ) -> None:
        ddl.check_names(schema, namespace)
        self.schema = schema
        self.namespace = namespace
        self.patience = patience
        self.lock_patience = lock_patience
        self._dsn = dsn
        self._connection: ddl.Connection | None = None
        self._loading = False
        self._opened: set[int] = set()
        self._encoders: dict[str, Encoder] = {}

    def close(self) -> None:
        """Disconnect, which also lets another load."""
        connection, self._connection = self._connection, None
        self._loading = False
        self._opened.clear()
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def init(self) -> None:
        """Make the tables, or add what the declaration has gained; may be run again and again.

        Raises HistoryError if the declaration has changed in another way.
        """
        with self._connected("make the tables") as connection:
            ddl.init(connection, self.schema, self.namespace)

    def progress(self, trading_date: int) -> Progress:
        """How far the date (yyyymmdd) is loaded; all zeros if it was not begun."""
        ask = self._sql("SELECT position, last_crc, rows FROM {} WHERE trading_date = %s")
        with self._connected("read the progress") as connection:
            row = connection.execute(ask, [date_of(trading_date)]).fetchone()
        return Progress(*row) if row else Progress()

    def load(
        self,
        trading_date: int,
        chunks: Mapping[str, Rows],
        position: int,
        last_crc: int,
        *,
        expected: int,
    ) -> Progress:
        """Add rows by table and move the date's position from `expected` to `position`; or neither.

        Raises HistoryError if the position is not `expected` or another is loading, HistoryLost if
        the connection broke: whether the rows are in, `progress` tells.
        """
        with self._connected(f"load rows of {trading_date}") as connection:
            self._become_loader(connection)
            if trading_date not in self._opened:
                ddl.open_date(connection, self.schema, self.namespace, trading_date)
                self._opened.add(trading_date)
            with connection.transaction():
                rows = self._expect(connection, trading_date, expected)
                for name, chunk in chunks.items():
                    first = rows.get(name, 0)
                    self._copy(connection, trading_date, name, first, chunk)
                    rows[name] = first + len(chunk)
                move = self._sql(
                    "UPDATE {} SET position = %s, last_crc = %s, rows = %s, updated_at = now()"
                    " WHERE trading_date = %s AND position = %s"
                )
                day = date_of(trading_date)
                connection.execute(move, [position, last_crc, Jsonb(rows), day, expected])
        return Progress(position, last_crc, rows)

    def register(self, instruments: Iterable[tuple[int, str, str]]) -> None:
        """Store (id, venue, symbol) of instruments; those that are there already are left.

        Raises HistoryError if one is there as another instrument.
        """
        columns = [list(c) for c in zip(*instruments, strict=True)] or [[], [], []]
        given = "unnest(%s::bigint[], %s::text[], %s::text[]) AS given (id, venue, symbol)"
        add = "INSERT INTO {} SELECT id, venue, symbol FROM " + given + " ON CONFLICT DO NOTHING"
        # An instrument that isn't there now met another with its id, or itself under another id.
        clash = (
            "SELECT given.id, given.venue, given.symbol FROM " + given + " WHERE NOT EXISTS (SELECT"
            " FROM {} r WHERE r.id = given.id AND r.venue = given.venue"
            " AND r.symbol = given.symbol) LIMIT 1"
        )
        with self._connected("store instruments") as connection, connection.transaction():
            connection.execute(self._sql(add, "registry"), columns)
            row = connection.execute(self._sql(clash, "registry"), columns).fetchone()
            if row:
                raise HistoryError(
                    f"instrument {row[0]} is {row[2]} on {row[1]} here and another in"
                    f" {self.namespace}.registry: two plants use one namespace, or the plant's"
                    " registry was lost"
                )

    def finish(self, trading_date: int) -> None:
        """Index, freeze and analyze a date that is loaded; may be run again."""
        with self._connected(f"finish {trading_date}") as connection:
            ddl.open_date(connection, self.schema, self.namespace, trading_date)
            ddl.finish_date(connection, self.schema, self.namespace, trading_date)

    def counts(self, trading_date: int) -> dict[str, dict[int, int]]:
        """Rows that are really there, counted, by table and feed."""
        found: dict[str, dict[int, int]] = {}
        with self._connected(f"count the rows of {trading_date}") as connection:
            for table in self.schema:
                ask = "SELECT feed, count(*) FROM {} WHERE trading_date = %s GROUP BY feed"
                rows = connection.execute(self._sql(ask, table.name), [date_of(trading_date)])
                found[table.name] = dict(rows.fetchall())
        return found

    def read_back(self, trading_date: int, table: str) -> Iterator[tuple[Numbers, Rows]]:
        """Row numbers and rows of a date, as they are stored, in no order; empty if there are none.

        Reads on a connection of its own, as of the moment of the first chunk. Raises HistoryError
        if what is stored can't be rows of the table.
        """
        decoder = Decoder(self.schema[table])
        names = ["trading_date", "row", *(c.name for c in decoder.table.columns)]
        leaf = sql.Identifier(self.namespace, ddl.leaf_name(table, trading_date))
        ask = sql.SQL("COPY {} ({}) TO STDOUT (FORMAT binary)")
        ask_columns = ask.format(leaf, sql.SQL(", ").join(map(sql.Identifier, names)))
        with closing(self._connect()) as connection, self._explained(f"read {table}", connection):
            if not ddl.exists(connection, leaf):
                return
            with connection.cursor() as cursor, cursor.copy(ask_columns) as copy:
                tuples: list[Any] = []
                for one in copy:
                    tuples.append(one)
                    if len(tuples) == READ_ROWS:
                        yield decoder.feed(b"".join(tuples))
                        tuples.clear()
            numbers, rows = decoder.feed(b"".join(tuples))
            decoder.close()
            if len(rows):
                yield numbers, rows

    def store_proof(self, records: Iterable[Proof]) -> None:
        """Store what an end of day found, in place of what an earlier one did; all or nothing."""
        names = [*_PROOF_COLUMNS, "proven_at"]
        put = self._sql(
            "INSERT INTO {} ("
            + ", ".join(names)
            + ") VALUES ("
            + "%s, " * len(_PROOF_COLUMNS)
            + "now()) ON CONFLICT (trading_date, table_name, feed) DO UPDATE SET "
            + ", ".join(f"{n} = excluded.{n}" for n in names[3:]),
            "proof",
        )
        with self._connected("store the proof") as connection, connection.transaction():
            for record in records:
                day, *rest = astuple(record)
                connection.execute(put, [date_of(day), *rest])

    def proofs(self, trading_date: int | None = None) -> list[Proof]:
        """Stored proofs, of one date or of all, by date, table and feed."""
        ask = "SELECT " + ", ".join(_PROOF_COLUMNS) + " FROM {} WHERE trading_date = %s OR %s"
        order = " ORDER BY trading_date, table_name, feed"
        day = None if trading_date is None else date_of(trading_date)
        with self._connected("read the proofs") as connection:
            found = connection.execute(self._sql(ask + order, "proof"), [day, day is None])
            return [_proof(row) for row in found]

    def drop(self, trading_date: int) -> None:
        """Take a date's rows, progress and proof away, to load it again; all or nothing.

        Raises HistoryError while another is loading.
        """
        with self._connected(f"drop {trading_date}") as connection:
            self._become_loader(connection)
            self._opened.discard(trading_date)
            ddl.drop_date(connection, self.namespace, trading_date)

    def _sql(self, text: Any, table: str = "progress") -> sql.Composed:
        return sql.SQL(text).format(sql.Identifier(self.namespace, table))

    def _become_loader(self, connection: ddl.Connection) -> None:
        if self._loading:
            return
        keys = ddl.lock_keys("loader", self.namespace)
        try:
            with connection.transaction():
                limit = max(1, int(self.lock_patience * 1000))
                connection.execute(f"SET LOCAL lock_timeout = {limit}".encode())
                connection.execute("SELECT pg_advisory_lock(%s, %s)", keys)
        except psycopg.errors.LockNotAvailable:
            raise HistoryError(
                f"another hdb is loading into {self.namespace}: stop it, or give this plant's"
                " history a namespace of its own"
            ) from None
        self._loading = True

    def _expect(self, connection: ddl.Connection, trading_date: int, expected: int) -> dict[str, int]:
        """The rows by table at position `expected`, which can't change until the commit."""
        ask = self._sql("SELECT position, rows FROM {} WHERE trading_date = %s FOR UPDATE")
        row = connection.execute(ask, [date_of(trading_date)]).fetchone()
        if row is None or row[0] != expected:
            self._opened.discard(trading_date)
            raise HistoryError(
                f"{trading_date} is loaded up to {row and row[0]}, not {expected}: another hdb has"
                " loaded or dropped it; read the progress again"
            )
        return dict(row[1])

    def _copy(self, connection: ddl.Connection, trading_date: int, name: str, first: int, rows: Rows) -> None:
        if name not in self._encoders:
            self._encoders[name] = Encoder(self.schema[name])
        encoder = self._encoders[name]
        columns = ["trading_date", "row", *(c.name for c in encoder.table.columns)]
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            sql.Identifier(self.namespace, ddl.leaf_name(name, trading_date)),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
        )
        with connection.cursor() as cursor:
            writer = LibpqWriter(cursor, flush_threshold=FLUSH_BYTES)
            with cursor.copy(statement, writer=writer) as copy:
                copy.write(HEADER)
                for block in encoder.blocks(trading_date, first, rows):
                    copy.write(block)
                copy.write(TRAILER)

    def _connect(self) -> ddl.Connection:
        """A new connection. Raises HistoryLost if there is none for `patience` seconds."""
        deadline = monotonic_ns() + int(self.patience * SECOND_NS)
        while True:
            try:
                connection = psycopg.connect(
                    self._dsn, autocommit=True, connect_timeout=10, application_name="tickplant hdb"
                )
                break
            except psycopg.OperationalError as e:
                fact = f"no connection to {_place(self._dsn)}: {_first_line(e)}"
                if any(word in str(e) for word in ("authentication", "does not exist", "pg_hba")):
                    raise HistoryError(f"{fact}; correct [hdb] dsn or let the user in") from e
                if monotonic_ns() > deadline:
                    raise HistoryLost(f"{fact}; start it, or set [hdb] dsn to where it is") from e
            time.sleep(0.05)
        version = connection.info.server_version
        if version < ddl.SERVER_MIN:
            connection.close()
            raise HistoryError(
                f"PostgreSQL at {_place(self._dsn)} is version {version // 10_000}; the history"
                f" needs {ddl.SERVER_MIN // 10_000} or newer"
            )
        return connection

    @contextmanager
    def _connected(self, purpose: str) -> Iterator[ddl.Connection]:
        """The connection, made if there is none; closed if it broke."""
        if self._connection is None:
            self._connection = self._connect()
        try:
            with self._explained(purpose, self._connection):
                yield self._connection
        except HistoryLost:
            self.close()
            raise

    @contextmanager
    def _explained(self, purpose: str, connection: ddl.Connection) -> Iterator[None]:
        """Turns what PostgreSQL says into HistoryError: fact, place, remedy."""
        try:
            yield
        except psycopg.Error as e:
            fact = f"could not {purpose} in {_place(self._dsn)}: {_first_line(e)}"
            state = e.sqlstate or ""
            if connection.closed or state in _GONE or state[:2] == "08":
                raise HistoryLost(fact) from e
            self._opened.clear()
            raise HistoryError(fact + _REMEDIES.get(state, "")) from e


def _place(dsn: str) -> str:
    """Where a dsn points to, without its password."""
    parts = conninfo_to_dict(dsn)
    return f"PostgreSQL at {parts.get('host', 'localhost')}, database {parts.get('dbname')}"


def _first_line(e: psycopg.Error) -> str:
    return e.diag.message_primary or str(e).strip().partition("\n")[0]


def _proof(row: tuple[Any, ...]) -> Proof:
    values = [None if v is None else int(v) for v in row[3:11]]
    found = dict(zip([*_COUNTS, *_CHECKSUMS], values, strict=True))
    return Proof(as_int(row[0]), row[1], row[2], complete=row[11], **found)
