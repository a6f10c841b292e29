"""A private PostgreSQL server for the whole session, and a history of its own for each test."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tickplant.hdb.server import PostgresServer
from tickplant.hdb.store import History
from tickplant.schema import SCALARS, Schema, declare


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server. Its folder is made outside pytest's: a socket's path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="tickplant-pg-"))
    try:
        with PostgresServer(folder / "data", folder / "socket", throwaway=True) as server:
            yield server
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def pg_folder() -> Iterator[Path]:
    """A folder with a short path, for a server of the test's own."""
    made = Path(tempfile.mkdtemp(prefix="tickplant-pg-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def pg_admin(postgres: PostgresServer) -> Iterator[psycopg.Connection]:
    """A connection to look and meddle with."""
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def pg_namespace(pg_admin: psycopg.Connection) -> Iterator[str]:
    """A PostgreSQL schema's name for one test; whatever is in it goes afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    pg_admin.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


@pytest.fixture
def history_schema() -> Schema:
    """Two tables, one with every type; `order` is a word of SQL."""
    every = {f"c_{kind}": kind for kind in SCALARS}
    return Schema(
        [
            declare("order", 1, {"price": "f8", "side": "S1", "note": "S12"}),
            declare("everything", 2, every | {"c_s1": "S1", "c_s255": "S255"}),
        ]
    )


@pytest.fixture
def history(postgres: PostgresServer, history_schema: Schema, pg_namespace: str) -> Iterator[History]:
    """A history with its tables made."""
    with History(postgres.dsn, history_schema, pg_namespace, patience=20, lock_patience=0.2) as made:
        made.init()
        yield made
