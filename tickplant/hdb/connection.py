"""Connections to PostgreSQL, and what is said when there is none or it refuses.

Whatever PostgreSQL says becomes a HistoryError with fact, place and remedy. Most of it passes: the server
comes back, room is made, a password is set right; the loader waits and tries again. What can't pass by
waiting, because what is there is another's or of another make, is HistoryForeign and ends the hdb.
"""

import codecs
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.errors import HistoryError

LOCK_S = 2.0
"""How long a statement waits for a lock: longer would hold up whoever reads the table after it, and us."""
SERVER_MIN = 140_000
"""PostgreSQL 14: the views trim bytea."""
CONNECT_MAX_S = 10

Connection = psycopg.Connection[tuple[Any, ...]]

# A peer that has vanished is noticed within a minute, not after the hours that TCP would wait.
_DEFAULTS = {
    "keepalives_idle": "20", "keepalives_interval": "5", "keepalives_count": "4",
    "tcp_user_timeout": "40000", "application_name": "tickplant hdb",
}  # fmt: skip
_GONE = {"57P01", "57P02", "57P03"}  # shutting down, crashed, not yet accepting; and class 08
_REMEDIES = {
    "25006": "; is it a standby? set [hdb] dsn to the primary, or:"
    " psql -c 'ALTER SYSTEM RESET default_transaction_read_only' -c 'SELECT pg_reload_conf()'",
    "3D000": "; make the database with `createdb`",
    "3F000": "; run `tickplant hdb init`",
    "42P01": "; run `tickplant hdb init`",
    "42703": "; the declaration has changed: run `tickplant hdb init`",
    "23502": "; the stored table has columns that are not declared: run `tickplant hdb init`",
    "23505": "; rebuild the date: `tickplant hdb load --date YYYYMMDD`",
    "42501": "; grant the plant's user CREATE on the database, or make the schema as its owner",
    "53100": "; nothing of it is in: make room on PostgreSQL's disk (`df -h`)",
    "53300": "; raise max_connections, or end connections that nobody needs",
    "58030": "; see PostgreSQL's log, and `dmesg` for its disk",
}
_NOT_LET_IN = ("authentication", "does not exist", "pg_hba", "no password", "permission denied for database")


class HistoryLost(HistoryError):
    """PostgreSQL is not there, or went away; read `progress` once it is back, and go on."""


class HistoryForeign(HistoryError):
    """What PostgreSQL holds is another's or of another make: no waiting makes it ours."""

    exit_code = 78


class HistoryLocked(HistoryError):
    """Somebody holds a lock that is needed; the message says who."""


def parse(dsn: str) -> dict[str, Any]:
    """The parts of a DSN. Raises HistoryForeign if it can't be parsed, and never shows any of its text."""
    rest = dsn.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    try:
        if authority.count("@") > 1 or "@" in rest[len(authority) :].partition("?")[0]:
            raise psycopg.ProgrammingError
        return dict(conninfo_to_dict(dsn))
    except psycopg.Error:
        raise HistoryForeign(
            "[hdb] dsn can't be parsed (it is not shown, for it may hold a password): write"
            " postgresql://user:password@host:5432/database, with @ / : ? # % in the password as %40 %2F %3A"
            " %3F %23 %25; or host=... user=... dbname=..., with values that hold spaces in '...'"
        ) from None


def connect(dsn: str, patience: float) -> Connection:
    """A new connection. Raises HistoryLost if there is none for `patience` seconds."""
    deadline = monotonic_ns() + int(patience * SECOND_NS)
    given = parse(dsn)
    wait = max(2, min(CONNECT_MAX_S, math.ceil(patience)))
    settings = make_conninfo("", **{**_DEFAULTS, "connect_timeout": wait, **given})
    secret = str(given.get("password") or "")
    while True:
        try:
            connection = _session(settings)
            break
        except psycopg.OperationalError as e:
            fact = f"no connection to {place(dsn)}: {_first_line(e)}"
            fact = fact.replace(secret, "***") if secret else fact
            if any(word in str(e) for word in _NOT_LET_IN):
                remedy = "correct [hdb] dsn and restart the hdb, or let the user in"
                raise HistoryError(f"{fact}; {remedy} (ALTER ROLE, pg_hba.conf)") from e
            if monotonic_ns() > deadline:
                start = "start it (systemctl start postgresql)"
                raise HistoryLost(f"{fact}; {start}, or set [hdb] dsn to where it is") from e
        time.sleep(0.05)
    version = connection.info.server_version
    if version < SERVER_MIN:
        connection.close()
        raise HistoryError(
            f"{place(dsn)} is version {version // 10_000}; the history needs {SERVER_MIN // 10_000} or newer"
        )
    return connection


def _session(settings: str) -> Connection:
    """A connection with the settings of ours. A server that ends meanwhile has not let us in either."""
    connection = psycopg.connect(settings, autocommit=True)
    try:
        connection.execute(f"SET lock_timeout = {int(LOCK_S * 1000)}".encode())
        connection.execute("SET client_encoding = 'UTF8'")
    except psycopg.OperationalError:
        connection.close()
        raise
    return connection


def storable(connection: Connection, text: str) -> str:
    """A text as the database can store it: what its encoding lacks is escaped."""
    encoding = connection.info.parameter_status("server_encoding") or "UTF8"
    if encoding in ("UTF8", "SQL_ASCII"):
        return text
    try:
        codec = codecs.lookup(encoding).name
    except LookupError:
        codec = "ascii"
    return text.encode(codec, "backslashreplace").decode(codec)


@contextmanager
def said(purpose: str, dsn: str, connection: Connection) -> Iterator[None]:
    """Turns what PostgreSQL says into HistoryError: fact, place, remedy."""
    watch = Watch(dsn, connection)
    try:
        with watch:
            yield
    except psycopg.errors.LockNotAvailable as e:
        who = watch.blocked_by or "someone"
        raise HistoryLocked(
            f"could not {purpose} in {place(dsn)}: {who} holds a lock; it is tried again"
        ) from e
    except psycopg.Error as e:
        fact = f"could not {purpose} in {place(dsn)}: {_first_line(e)}"
        state = e.sqlstate or ""
        if connection.closed or state in _GONE or state[:2] == "08":
            raise HistoryLost(f"{fact}; it is tried again, see PostgreSQL's log if it stays so") from e
        raise HistoryError(fact + _REMEDIES.get(state, "; see PostgreSQL's log")) from e


class Watch:
    """Finds out who blocks a connection that has been at it for a while: only while it waits can one ask."""

    LOOK_S = 0.5
    ASK = (
        "SELECT a.pid, a.usename, a.application_name, a.state, left(a.query, 80)"
        " FROM unnest(pg_blocking_pids(%s)) AS by (pid) JOIN pg_stat_activity a ON a.pid = by.pid LIMIT 3"
    )

    def __init__(self, dsn: str, connection: Connection) -> None:
        self.dsn, self.connection = dsn, connection
        self.blocked_by = ""
        """Who holds the lock, and how to end that; empty: nobody, as far as is known."""

    def __enter__(self) -> None:
        self._timer = threading.Timer(self.LOOK_S, self._look)
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        try:
            pid = self.connection.info.backend_pid
            with psycopg.connect(self.dsn, autocommit=True, connect_timeout=2) as other:
                found = other.execute(self.ASK, [pid]).fetchall()
        except psycopg.Error:
            return
        self.blocked_by = ", ".join(
            f"process {pid} (user {user}, {name or 'no application name'}, {state}: {query!r}; to end it:"
            f" SELECT pg_terminate_backend({pid}))"
            for pid, user, name, state, query in found
        )


def place(dsn: str) -> str:
    """Where a dsn points to, without its password."""
    parts = parse(dsn)
    return f"PostgreSQL at {parts.get('host', 'localhost')}, database {parts.get('dbname')}"


def _first_line(e: psycopg.Error) -> str:
    return e.diag.message_primary or str(e).strip().partition("\n")[0]
