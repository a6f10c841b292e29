"""How the history is reached: by whom, where, and with which program."""

import contextlib
import os
import shutil
from pathlib import Path

from psycopg.conninfo import make_conninfo

from tickplant.config import Config
from tickplant.errors import HistoryError, NotRunning
from tickplant.hdb.binaries import find_binaries
from tickplant.hdb.connection import parse, place
from tickplant.hdb.readers import role_name
from tickplant.hdb.server import DATABASE, SOCKET, USER, sizes


def dsn(config: Config, *, read_only: bool = False) -> str:
    """What to connect with, as the plant's user or as the role that may only read.

    Raises HistoryForeign if the configuration's can't be parsed, NotRunning if the plant's own server does
    not run, HistoryError if another user may not reach it.
    """
    given = parse(config.hdb.dsn) if config.hdb.dsn else own(config)
    if read_only:
        given = {**given, "user": role_name(config.plant.name)}
        given.pop("password", None)  # the role has none of its own, or one that the plant does not know
    return make_conninfo("", **given)


def own(config: Config) -> dict[str, str]:
    """Host, port, user and database of the plant's own server."""
    folder = config.plant.run_dir / "pg"
    try:
        there = (folder / SOCKET).exists()
    except PermissionError:
        there = False
    if not there and folder.exists() and not os.access(folder, os.X_OK):
        raise HistoryError(
            f"{folder} is for the plant's user alone: run this as the one (sudo -u USER), or give the plant a"
            " PostgreSQL that others can reach: [hdb] dsn"
        )
    if not there:
        raise NotRunning(
            f"the plant's own PostgreSQL does not run (no socket in {folder}): it runs while the plant's hdb"
            f" does; start that: tickplant --config {config.path} run hdb"
        )
    return {"host": str(folder.absolute()), "port": "5432", "user": USER, "dbname": DATABASE}


def about(config: Config) -> str:
    """What server it is, for people."""
    if config.hdb.dsn:
        return f"{place(config.hdb.dsn)}, as configured; schema {config.plant.name}"
    data = config.plant.data_dir / "postgres"
    return (
        f"the plant's own PostgreSQL, its data in {data}, schema {config.plant.name}: it runs while the hdb"
        f" runs (systemctl start tickplant-hdb), takes {sizes(data)}; to change that: {data}/postgresql.conf"
    )


def path(config: Config) -> str:
    """The search path for psql: the plant's schema first."""
    name = config.plant.name.replace('"', '""').replace("\\", "\\\\").replace(" ", "\\ ")
    return f'"{name}",public'


def psql(config: Config) -> str:
    """The program. Raises HistoryError if there is none on this machine."""
    if found := shutil.which("psql"):
        return found
    beside: Path | None = None
    with contextlib.suppress(HistoryError):
        beside = find_binaries() / "psql"
    if beside and beside.exists():
        return str(beside)
    raise HistoryError(
        "there is no psql on this machine: apt install postgresql-client; programs connect with:"
        f" tickplant --config {config.path} hdb dsn"
    )
