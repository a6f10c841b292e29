"""The role that may only read a plant's history: `<plant>_read`, with SELECT on all there is and will be.

Everybody who may connect as it sees all tables and views of the plant's schema and changes nothing. It has no
password: who comes through the plant's own socket needs none, and on a server of others its administrator
sets one (ALTER ROLE ... PASSWORD) or names who may become it (GRANT).
"""

import logging

import psycopg
from psycopg import sql

from tickplant.hdb.connection import Connection
from tickplant.hdb.ddl import lock_tables

log = logging.getLogger(__name__)


def role_name(plant: str) -> str:
    """The name of a plant's role for readers."""
    return f"{plant}_read"


def admit(connection: Connection, namespace: str) -> None:
    """Have the role, and what it may do; where the plant's user may make no roles, say how it is made."""
    with connection.transaction():
        lock_tables(connection, namespace)  # two that grant the same at once refuse one another
        _admit(connection, namespace)


def _admit(connection: Connection, namespace: str) -> None:
    role = sql.Identifier(role_name(namespace))
    there = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role_name(namespace)]).fetchone()
    if there is None:
        try:
            with connection.transaction():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
                settings = "ALTER ROLE {} SET default_transaction_read_only = on"
                connection.execute(sql.SQL(settings).format(role))
        except psycopg.errors.DuplicateObject:
            pass  # another was faster
        except psycopg.errors.InsufficientPrivilege:
            log.info(
                'readers have no role of their own: as an administrator: CREATE ROLE "%s" LOGIN',
                role_name(namespace),
            )
            return
    given = (
        "GRANT USAGE ON SCHEMA {s} TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA {s} TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {s} GRANT SELECT ON TABLES TO {role}",
    )
    may = connection.execute(
        "SELECT has_schema_privilege(%s, n.oid, 'USAGE') FROM pg_namespace n WHERE nspname = %s",
        [role_name(namespace), namespace],
    ).fetchone()
    if may == (True,):
        return  # what is made since is given by the default privileges
    for statement in given:
        connection.execute(sql.SQL(statement).format(s=sql.Identifier(namespace), role=role))
