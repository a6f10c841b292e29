"""PostgreSQL alone: a binary COPY, and so a transaction, a message, into an ordinary table.

A reader sleeps in LISTEN, and is told the time of each row. Where the disk can't take a transaction a
millisecond, rows queue.
"""

import contextlib
from collections.abc import Iterator, Sequence

import harness
import psycopg

from peers import ends
from tickplant.hdb.copy import HEADER, TRAILER, encode
from tickplant.hdb.server import PostgresServer

PROMISE = "a transaction a message, fsync"
FAN_OUT = False
MESSAGES = {1: 200, 100: 200}
DATE = 20260101
TYPES = {"i8": "bigint", "u4": "bigint", "u2": "integer", "f8": "double precision"}


@contextlib.contextmanager
def serve(site: harness.Site) -> Iterator[str]:
    """The DSN of a server in the site's folder, with safe settings, and a table."""
    columns = [f"{c.name} {TYPES.get(c.type, 'bytea')}" for c in ends.trade().columns]
    with PostgresServer(site.folder / "postgres", site.folder / "socket") as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE TABLE trade (trading_date date, row bigint, {', '.join(columns)})")
        yield server.dsn


class Source(ends.Source):
    """Copies rows in, encoded as tickplant does it."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._connection = psycopg.connect(address)
        self._copied = 0

    def pour(self, made: Sequence[bytes]) -> None:
        for message in made:
            self._copy(message)
            self._connection.commit()

    def post(self, due: int) -> None:
        self._copy(self.single(due))
        self._connection.execute(f"NOTIFY trade, '{due}'")
        self._connection.commit()

    def _copy(self, message: bytes) -> None:
        rows = ends.trade().rows(message)
        with self._connection.cursor().copy("COPY trade FROM STDIN (FORMAT binary)") as copy:
            copy.write(HEADER + encode(ends.trade(), DATE, self._copied, rows) + TRAILER)
        self._copied += len(rows)


class Sink:
    """Told of each row, by its ts_event."""

    def __init__(self, address: str) -> None:
        self._connection = psycopg.connect(address, autocommit=True)
        self._connection.execute("LISTEN trade")

    def take(self) -> Sequence[bytes]:
        told = self._connection.notifies(timeout=1, stop_after=1)
        return [int(notice.payload).to_bytes(8, "little") for notice in told]

    def close(self) -> None:
        self._connection.close()
