"""Rebuilds a date in PostgreSQL from its journal, whatever is there of it.

The rows go into tables apart (`<table>_<yyyymmdd>_new`), are indexed there, and take the place of the date's
partitions in one transaction, together with its progress: who reads the date meanwhile has it as it was, or
as it is then. Killed before that, nothing has changed, and the next try begins anew.
"""

from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tickplant._core import framing
from tickplant.config import Config
from tickplant.errors import HistoryError
from tickplant.hdb import ddl
from tickplant.hdb.connection import Connection, HistoryLocked
from tickplant.hdb.copy import date_of
from tickplant.hdb.evidence import journal_schema, sealed_at
from tickplant.hdb.proof import Verdict, proving
from tickplant.hdb.refused import Refused, forget, is_refusal, more
from tickplant.hdb.store import History, Progress
from tickplant.journal import JournalReader, begins, segments
from tickplant.registry import RegistryReader


class NotRebuilt(HistoryError):
    """A date has no journal from which it could be rebuilt."""


TRIES = 30
"""Times to try to take the old partitions' place: who reads them keeps us waiting, and then others, too."""


def rebuild(config: Config, history: History, trading_date: int) -> Iterator[str]:
    """Load a sealed date anew, step by step; each step says what it is at.

    Raises NotRebuilt if the date has no whole journal or is not sealed, HistoryError if another loads.
    """
    folder = config.journal_dir / str(trading_date)
    end = _whole(folder, trading_date)
    history.declare(journal_schema(config, folder))
    names = RegistryReader(config.registry_dir)
    names.follow()
    history.register((i, v, s) for i, (v, s) in enumerate(names.instruments.since(1), 1))
    with history.loading(f"rebuild {trading_date}") as connection:
        _make(history, connection, trading_date)
        rows: dict[str, int] = {}
        refused: Refused = {}
        forget(history.aside, trading_date, new=True)
        reader = JournalReader(folder, None, 0)
        try:
            while chunk := reader.read(end):
                refused = _copy(history, connection, trading_date, rows, refused, chunk)
                yield f"{(reader.position or 0) / end:4.0%} of the journal loaded"
        finally:
            reader.close()
        for table in history.schema:
            yield from history.finishing_leaf(connection, table, ddl.new_name(table.name, trading_date))
        yield f"{sum(rows.values()):,} rows loaded; putting them in place"
        reached = Progress(end, reader.last_crc or 0, rows, refused)
        yield from _replace(history, connection, trading_date, reached)


def rebuild_and_prove(config: Config, history: History, trading_date: int) -> Iterator[str | Verdict]:
    """The same, then the proof of the date; the last that comes is its verdict."""
    yield from rebuild(config, history, trading_date)
    yield (yield from proving(config, history, RegistryReader(config.registry_dir), trading_date))


def _whole(folder: Path, trading_date: int) -> int:
    """The position behind the seal of a journal that is there from its first byte."""
    files = segments(folder)
    if not files or begins(files[0]):
        raise NotRebuilt(
            f"there is no whole journal of {trading_date} at {folder}; see: tickplant journal ls"
        )
    end = sealed_at(folder)[1]
    if not end:
        raise NotRebuilt(f"trading date {trading_date} is not sealed yet; run: tickplant eod")
    return end


def _make(history: History, connection: Connection, trading_date: int) -> None:
    """Empty tables apart; what an earlier try left is dropped."""
    with connection.transaction():
        ddl.lock_tables(connection, history.namespace)
        stored = ddl.declared(connection, history.namespace)
        for table in history.schema:
            name = ddl.new_name(table.name, trading_date)
            ddl.drop_leaf(connection, history.namespace, name)
            ddl.make_leaf(connection, history.namespace, table.name, name)
            ddl.fill_leaf(connection, table, history.namespace, name, stored.get(table.name, {}))


def _copy(
    history: History, connection: Connection, trading_date: int, rows: dict[str, int], refused: Refused,
    chunk: bytes,
) -> Refused:  # fmt: skip
    """Copy the rows of a chunk, and count them in; what is refused by now."""
    for number in {int(n) for n in framing.index(chunk)[:, 3]} - {0}:
        table = history.schema.numbered(number)
        new = table.rows(framing.payloads(chunk, number))
        first = rows.get(table.name, 0)
        leaf = ddl.new_name(table.name, trading_date)
        try:
            history.copy_into(connection, leaf, trading_date, table.name, first, new)
        except psycopg.Error as e:
            if history.aside is None or not is_refusal(e):
                raise
            with connection.transaction():
                runs = history.copy_sifted(connection, leaf, trading_date, table.name, first, new)
            refused = more(refused, table.name, runs)
        rows[table.name] = first + len(new)
    return refused


def _replace(history: History, connection: Connection, trading_date: int, reached: Progress) -> Iterator[str]:
    """Take the old partitions' place, all at once."""
    for left in reversed(range(TRIES)):
        try:
            with history.explained(f"put {trading_date} in place", connection), connection.transaction():
                ddl.lock_tables(connection, history.namespace)
                ddl.replace_date(connection, history.schema, history.namespace, trading_date)
                about = [date_of(trading_date), reached.position, reached.last_crc]
                about += [Jsonb(reached.rows), Jsonb(reached.refused)]
                connection.execute(_progress(history.namespace), about)
            history.put_kept(trading_date)
            return
        except HistoryLocked as e:
            if not left:
                raise
            yield f"waiting for those who read the date: {e}"


def _progress(namespace: str) -> sql.Composed:
    put = (
        "INSERT INTO {} (trading_date, position, last_crc, rows, refused, finished_at)"
        " VALUES (%s, %s, %s, %s, %s, now())"
    )
    return sql.SQL(put).format(sql.Identifier(namespace, "progress"))
