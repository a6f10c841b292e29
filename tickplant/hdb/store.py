"""The history in PostgreSQL: rows go in exactly once, and come back bit by bit.

A chunk's rows and the journal position that they reach are one transaction, which holds only if the
position before it is what the loader thinks. So after any crash, of either side, the loader reads
`progress` and goes on from there; nothing is missing and nothing is there twice. One loader at a
time: it holds an advisory lock for as long as its connection lives.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.copy import LibpqWriter
from psycopg.types.json import Jsonb

from tickplant.clock import now_ns
from tickplant.errors import HistoryError
from tickplant.hdb import ddl, indexes, readers
from tickplant.hdb.connection import (
    Connection,
    HistoryForeign,
    HistoryLocked,
    HistoryLost,
    connect,
    said,
    storable,
)
from tickplant.hdb.copy import HEADER, TRAILER, Decoder, Encoder, Numbers, date_of
from tickplant.hdb.records import Outcome, Proof, read_outcome, read_proofs, store_proof
from tickplant.hdb.refused import Kept, Refused, Run, folder, forget, is_refusal, more, put, sift
from tickplant.hdb.tending import Due
from tickplant.schema import Rows, Schema, Table

log = logging.getLogger(__name__)

READ_ROWS = 1 << 16
"""Rows that `read_back` gives at a time."""
FLUSH_BYTES = 1 << 18
"""What may wait in libpq's buffer while loading: more makes libpq move it about."""

STEP_S = 0.2
"""A long statement is one step in so many seconds."""

Copy = Callable[[Connection, str, int, str, int, Rows], list[Run]]
"""Copies rows into a partition: connection, partition, date, table, number of the first row, rows."""


@dataclass(frozen=True)
class Progress:
    """How far a date is loaded."""

    position: int = 0
    """Journal position up to which rows are in."""
    last_crc: int = 0
    """Checksum of the journal's last frame before `position`, as given to `load`."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Rows that are in or refused, by table; also the number of the next row."""
    refused: Refused = field(default_factory=dict)
    """Rows that PostgreSQL refused, by table, and why."""


class History:
    """The tables of one plant, in the PostgreSQL schema `namespace`. For one thread.

    Connects when first used, and again after `HistoryLost`. `patience` is for how many seconds it
    tries to connect, `lock_patience` for how many it waits while another loader holds the lock
    (a moment after a crash, the server may not yet know that the old one is dead). `plant`: the
    plant's identity; the tables of another are refused (empty: of any). `aside`: the folder for rows that
    PostgreSQL refuses; None: then nothing of their chunk is loaded.
    Raises HistoryForeign if the schema or `namespace` has a name that can't be used.
    """

    def __init__(
        self,
        dsn: str,
        schema: Schema,
        namespace: str = "tickplant",
        *,
        patience: float = 30.0,
        lock_patience: float = 5.0,
        plant: str = "",
        aside: Path | None = None,
    ) -> None:
        ddl.check_names(schema, namespace)
        self.schema = self._declared = schema
        self.plant = plant
        self.namespace = namespace
        self.patience = patience
        self.lock_patience = lock_patience
        self.dsn = dsn
        self.aside = aside
        self._kept: Kept | None = None
        self._connection: Connection | None = None
        self._loading = False
        self._opened: set[int] = set()
        self._encoders: dict[str, Encoder] = {}

    def close(self) -> None:
        """Disconnect, which also lets another load."""
        connection, self._connection = self._connection, None
        self._loading = False
        self._opened.clear()
        self._release()
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

        Raises HistoryForeign if they are another plant's or the declaration has changed in another way.
        """
        with self._connected("make the tables") as connection:
            ddl.init(connection, self._declared, self.namespace, self.plant)
            readers.admit(connection, self.namespace)

    def declare(self, schema: Schema) -> None:
        """Load and read with the tables as they were declared on a date."""
        if schema is not self.schema:
            self.schema = schema
            self._encoders.clear()
            self._opened.clear()

    def become(self, schema: Schema) -> None:
        """The tables are declared so from now on; `init` makes what is missing of them.

        Raises HistoryForeign if one has a name that can't be used.
        """
        ddl.check_names(schema, self.namespace)
        self._declared = schema
        self.declare(schema)

    def progress(self, trading_date: int) -> Progress:
        """How far the date (yyyymmdd) is loaded; all zeros if it was not begun."""
        ask = self._sql("SELECT position, last_crc, rows, refused FROM {} WHERE trading_date = %s")
        with self._connected("read the progress") as connection:
            row = connection.execute(ask, [date_of(trading_date)]).fetchone()
        return Progress(row[0], row[1], row[2], _refused(row[3])) if row else Progress()

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

        Rows that PostgreSQL refuses are set aside; they keep their numbers.
        Raises HistoryError if the position is not `expected` or another is loading, HistoryLost if
        the connection broke: whether the rows are in, `progress` tells.
        """
        with self.loading(f"load rows of {trading_date}") as connection:
            if trading_date not in self._opened:
                self._open_date(connection, trading_date)
                self._opened.add(trading_date)
            goal = Progress(position, last_crc)
            try:
                return self._add(connection, trading_date, chunks, goal, expected, self._copy_all)
            except psycopg.Error as e:
                if self.aside is None or not is_refusal(e):
                    raise
            return self._add(connection, trading_date, chunks, goal, expected, self.copy_sifted)

    def _add(
        self, connection: Connection, trading_date: int, chunks: Mapping[str, Rows], goal: Progress,
        expected: int, copy: Copy,
    ) -> Progress:  # fmt: skip
        """Copy rows and move the date's position, in one transaction."""
        with connection.transaction():
            before = self._expect(connection, trading_date, expected)
            rows, refused = dict(before.rows), before.refused
            for name, chunk in chunks.items():
                first = rows.get(name, 0)
                leaf = ddl.leaf_name(name, trading_date)
                runs = copy(connection, leaf, trading_date, name, first, chunk)
                refused = more(refused, name, runs)
                rows[name] = first + len(chunk)
            move = self._sql(
                "UPDATE {} SET position = %s, last_crc = %s, rows = %s, refused = %s, updated_at = now()"
                " WHERE trading_date = %s AND position = %s"
            )
            about = [goal.position, goal.last_crc, Jsonb(rows), Jsonb(refused)]
            connection.execute(move, [*about, date_of(trading_date), expected])
        return Progress(goal.position, goal.last_crc, rows, refused)

    def register(self, instruments: Iterable[tuple[int, str, str]]) -> None:
        """Store (id, venue, symbol) of instruments; those that are there already are left.

        Raises HistoryForeign if one is there as another instrument.
        """
        named = list(instruments)
        given = "unnest(%s::bigint[], %s::text[], %s::text[]) AS given (id, venue, symbol)"
        add = "INSERT INTO {} SELECT id, venue, symbol FROM " + given + " ON CONFLICT DO NOTHING"
        # An instrument that isn't there now met another with its id, or itself under another id.
        clash = (
            "SELECT given.id, given.venue, given.symbol FROM " + given + " WHERE NOT EXISTS (SELECT"
            " FROM {} r WHERE r.id = given.id AND r.venue = given.venue"
            " AND r.symbol = given.symbol) LIMIT 1"
        )
        with self._connected("store instruments") as connection, connection.transaction():
            venues = [storable(connection, venue) for _, venue, _ in named]
            symbols = [storable(connection, symbol) for _, _, symbol in named]
            columns = [[number for number, _, _ in named], venues, symbols]
            connection.execute(self._sql(add, "registry"), columns)
            row = connection.execute(self._sql(clash, "registry"), columns).fetchone()
            if row:
                raise HistoryForeign(
                    f"instrument {row[0]} is {row[2]} on {row[1]} here and another in"
                    f" {self.namespace}.registry: two plants use one namespace, or the plant's"
                    " registry was lost"
                )

    def finish(self, trading_date: int) -> None:
        """Index, freeze and analyze a date that is loaded; may be run again."""
        for _ in self.finishing(trading_date):
            pass

    def finishing(self, trading_date: int) -> Iterator[str]:
        """The same step by step, however long PostgreSQL takes; each step says what it is at."""
        with self._connected(f"finish {trading_date}") as connection:
            self._open_date(connection, trading_date)
            for table in self.schema:
                yield from self.finishing_leaf(connection, table, ddl.leaf_name(table.name, trading_date))
            done = self._sql("UPDATE {} SET finished_at = now() WHERE trading_date = %s")
            connection.execute(done, [date_of(trading_date)])

    def finishing_leaf(self, connection: Connection, table: Table, name: str) -> Iterator[str]:
        """Index, freeze and analyze one partition of a table."""
        columns = {c.name: c.type for c in table.columns}
        for statement in indexes.finishing(self.namespace, name, columns):
            for _ in _beside(connection, statement):
                yield f"indexing {name}"

    def tending(self, trading_date: int, due: Due) -> Iterator[str]:
        """Keep an open date quick to ask, step by step; each step says what it is at."""
        steps = [
            ("summarizing", indexes.summarizing, due.summary),
            ("analyzing", indexes.analyzing, due.statistics),
        ]
        steps.append(("indexing", indexes.by_instrument, due.index))
        with self.loading(f"index the open date {trading_date}") as connection:
            for table in due.drop:
                yield from self._unindexing(connection, ddl.leaf_name(table, trading_date))
            for doing, statement, tables in steps:
                for leaf in [ddl.leaf_name(table, trading_date) for table in tables]:
                    for _ in _beside(connection, statement(self.namespace, leaf)):
                        yield f"{doing} {leaf}"

    def _unindexing(self, connection: Connection, leaf: str) -> Iterator[str]:
        """Drop the index by instrument, unless a reader is in the way: then loading goes on with it."""
        doing = f"dropping the index by instrument of {leaf}"
        try:
            with self.explained(f"drop the index by instrument of {leaf}", connection):
                for _ in _beside(connection, indexes.drop_by_instrument(self.namespace, leaf)):
                    yield doing
        except HistoryLocked as e:
            log.warning("%s; rows are loaded meanwhile", e)

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
        connection = connect(self.dsn, self.patience)
        with closing(connection), self.explained(f"read {table}", connection):
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

    def store_proof(self, records: Iterable[Proof], outcome: Outcome | None = None) -> None:
        """Store what an end of day found, in place of what an earlier one did; all or nothing."""
        with self._connected("store the proof") as connection:
            store_proof(connection, self.namespace, list(records), outcome)

    def proofs(self, trading_date: int | None = None) -> list[Proof]:
        """Stored proofs, of one date or of all, by date, table and feed."""
        with self._connected("read the proofs") as connection:
            return read_proofs(connection, self.namespace, trading_date)

    def outcome(self, trading_date: int) -> Outcome | None:
        """What is stored of the end of a date, if it is proven."""
        with self._connected("read the verdict") as connection:
            return read_outcome(connection, self.namespace, trading_date)

    def drop(self, trading_date: int) -> None:
        """Take a date's rows, progress and proof away, to load it again; all or nothing.

        Raises HistoryError while another is loading.
        """
        with self.loading(f"drop {trading_date}") as connection:
            self._opened.discard(trading_date)
            ddl.drop_date(connection, self.namespace, trading_date)
        self._release()
        forget(self.aside, trading_date)

    def _sql(self, text: Any, table: str = "progress") -> sql.Composed:
        return sql.SQL(text).format(sql.Identifier(self.namespace, table))

    def _open_date(self, connection: Connection, trading_date: int) -> None:
        earlier = self.schema is not self._declared
        ddl.open_date(connection, self.schema, self.namespace, trading_date, earlier=earlier)

    @contextmanager
    def loading(self, purpose: str) -> Iterator[Connection]:
        """The connection, as the one that loads. Raises HistoryError if that is another."""
        with self._connected(purpose) as connection:
            self._become_loader(connection)
            yield connection

    def _become_loader(self, connection: Connection) -> None:
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

    def _expect(self, connection: Connection, trading_date: int, expected: int) -> Progress:
        """The progress at position `expected`, which can't change until the commit."""
        ask = self._sql("SELECT position, last_crc, rows, refused FROM {} WHERE trading_date = %s FOR UPDATE")
        row = connection.execute(ask, [date_of(trading_date)]).fetchone()
        if row is None or row[0] != expected:
            self._opened.discard(trading_date)
            raise HistoryError(
                f"{trading_date} is loaded up to {row and row[0]}, not {expected}: another hdb has"
                " loaded or dropped it; read the progress again"
            )
        return Progress(row[0], row[1], row[2], _refused(row[3]))

    def copy_into(
        self, connection: Connection, leaf: str, trading_date: int, name: str, first: int, rows: Rows
    ) -> None:
        """Copy rows of table `name` into a partition, numbered from `first` on."""
        if name not in self._encoders:
            self._encoders[name] = Encoder(self.schema[name])
        encoder = self._encoders[name]
        columns = ["trading_date", "row", *(c.name for c in encoder.table.columns)]
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            sql.Identifier(self.namespace, leaf),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
        )
        with connection.cursor() as cursor:
            writer = LibpqWriter(cursor, flush_threshold=FLUSH_BYTES)
            with cursor.copy(statement, writer=writer) as copy:
                copy.write(HEADER)
                for block in encoder.blocks(trading_date, first, rows):
                    copy.write(block)
                copy.write(TRAILER)

    def _copy_all(
        self, connection: Connection, leaf: str, trading_date: int, name: str, first: int, rows: Rows
    ) -> list[Run]:
        self.copy_into(connection, leaf, trading_date, name, first, rows)
        return []

    def copy_sifted(
        self, connection: Connection, leaf: str, trading_date: int, name: str, first: int, rows: Rows
    ) -> list[Run]:
        """The same within a transaction, but for the rows that are refused: those are on disk then."""
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

        def copy(start: int, piece: Rows) -> None:
            self.copy_into(connection, leaf, trading_date, name, first + start, piece)

        runs = sift(connection, rows, copy)
        if runs:
            kept = self._keeping(trading_date, leaf)
            for run in runs:
                kept.keep(self.schema[name], first + run.first, rows[run.first : run.stop], now_ns())
            kept.sync()
        return runs

    def _keeping(self, trading_date: int, leaf: str) -> Kept:
        """The files for the refused rows of a partition of a date."""
        assert self.aside is not None
        new = leaf == ddl.new_name(leaf.rpartition(f"_{trading_date}")[0], trading_date)
        where = folder(self.aside, trading_date, new=new)
        if self._kept is None or self._kept.where != where:
            self._release()
            self._kept = Kept(where, self.schema, trading_date)
        return self._kept

    def put_kept(self, trading_date: int) -> None:
        """The files of a date that was rebuilt take the place of those there were."""
        self._release()
        put(self.aside, trading_date)

    def _release(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    @contextmanager
    def _connected(self, purpose: str) -> Iterator[Connection]:
        """The connection, made if there is none; closed if it broke."""
        if self._connection is None:
            self._connection = connect(self.dsn, self.patience)
        try:
            with self.explained(purpose, self._connection):
                yield self._connection
        except HistoryLost:
            self.close()
            raise

    @contextmanager
    def explained(self, purpose: str, connection: Connection) -> Iterator[None]:
        """Turns what PostgreSQL says into HistoryError."""
        try:
            with said(purpose, self.dsn, connection):
                yield
        except HistoryError:
            self._opened.clear()
            raise


def _refused(stored: Mapping[str, Any]) -> Refused:
    return {table: (int(count), str(why)) for table, (count, why) in stored.items()}


def _beside(connection: Connection, statement: sql.Composed) -> Iterator[None]:
    """Run a long statement in a thread: a step every so often, and one when it is done."""
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(connection.execute, statement)
        try:
            while wait([done], STEP_S).not_done:
                yield
        finally:
            if not done.done():  # nobody asks for the rest
                connection.cancel_safe()
        done.result()
    yield
