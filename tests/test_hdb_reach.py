"""How the history is reached: DSNs that tell no password, roles, psql; other encodings."""

import psycopg
import pytest
from psycopg import sql

from tests.hdb_plant import Loading
from tickplant.hdb.binaries import find_binaries
from tickplant.hdb.connection import HistoryForeign, connect, parse, place
from tickplant.hdb.server import PostgresServer, sizes
from tickplant.hdb.store import History
from tickplant.schema import Schema, declare


@pytest.mark.parametrize(
    "dsn",
    [
        "host=localhost password=my topsecret dbname=x",
        "host=localhost password='topsecret",
        "postgresql://u:top@secret@127.0.0.1/x",
        "postgresql://u:to/topsecret@127.0.0.1/x",
        "postgresql://u:topsecret@127.0.0.1/x?nix=1",
        "postgresql://u:%zztopsecret@127.0.0.1/x",
        "topsecret",
    ],
)
def test_a_dsn_that_can_not_be_parsed_is_not_shown(dsn: str) -> None:
    for use in (parse, place, lambda text: connect(text, 0.1)):
        with pytest.raises(HistoryForeign, match=r"\[hdb\] dsn can't be parsed") as told:
            use(dsn)
        assert "secret" not in str(told.value)
        assert told.value.__suppress_context__


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(Exception, match="no connection") as told:
        connect("host=no-topsecret-host.invalid password=topsecret user=u dbname=x", 0.1)
    assert "topsecret" not in str(told.value)


def test_readers_have_a_role_that_sees_all_there_will_be_and_changes_nothing(
    postgres: PostgresServer, history: History
) -> None:
    rows = history.schema["order"].empty(3)
    history.load(20261122, {"order": rows}, 1, 0, expected=0)
    history.close()
    new = Schema([*history.schema, declare("later", 3, {"x": "f8"})])
    with History(postgres.dsn, new, history.namespace) as again:
        again.init()
        again.load(20261123, {"later": new["later"].empty(2)}, 1, 0, expected=0)
    dsn = postgres.dsn.replace("user=tickplant", f"user={history.namespace}_read")
    with psycopg.connect(dsn, autocommit=True) as reader:
        s = sql.Identifier(history.namespace)
        for table, count in (("order", 3), ("order_view", 3), ("later", 2), ("later_view", 2), ("proof", 0)):
            ask = sql.SQL("SELECT count(*) FROM {}.{}").format(s, sql.Identifier(table))
            assert reader.execute(ask).fetchone() == (count,)
        reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(sql.SQL("DELETE FROM {}.progress").format(s))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP", "WIN1252"])
def test_a_database_of_any_encoding_takes_every_symbol(
    postgres: PostgresServer, pg_admin: psycopg.Connection, history_schema: Schema, encoding: str
) -> None:
    name = f"db_{encoding.lower()}"
    make = sql.SQL("CREATE DATABASE {} ENCODING {} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    pg_admin.execute(make.format(sql.Identifier(name), sql.Literal(encoding)))
    try:
        dsn = postgres.dsn.replace("dbname=tickplant", f"dbname={name}")
        with History(dsn, history_schema, "tp") as history:
            history.init()
            names = [(1, "BINANCE", "币安人生USDT"), (2, "XNAS", "AAPL"), (3, "X", "é")]
            history.register(names)
            history.register(names)
            rows = history_schema["order"].empty(2)
            rows["instrument"], rows["note"] = [1, 3], ["币安".encode(), b"plain"]
            history.load(20261122, {"order": rows}, 1, 0, expected=0)
            history.finish(20261122)
            ((_, back),) = history.read_back(20261122, "order")
            assert back.tobytes() == rows.tobytes()
        with psycopg.connect(dsn, client_encoding="UTF8") as reader:
            shown = reader.execute("SELECT symbol, note FROM tp.order_view ORDER BY row").fetchall()
            assert len(shown) == 2
            assert shown[1][1] == "plain"
            assert len({symbol for symbol, _ in shown}) == 2
    finally:
        pg_admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_psql_and_programs_reach_the_plants_own_server(site) -> None:
    cfg = site.configured(hdb={"chunk_ms": 0, "throwaway": True})
    early = site.run("hdb", "dsn")
    assert early.wait(30) == 69
    assert "does not run" in (site.folder / "log.0").read_text()
    loading = Loading(site, cfg)
    loading.publish(30, 20)
    loading.until_loaded()

    def said(*command: str) -> str:
        started = site.run(*command)
        assert started.wait(60) == 0
        return (site.folder / f"log.{len(list(site.folder.glob('log.*'))) - 1}").read_text()

    dsn = said("hdb", "dsn", "--read-only").strip().splitlines()[-1]
    with psycopg.connect(dsn) as reader:
        ask = sql.SQL("SELECT count(*) FROM {}.trade_view").format(sql.Identifier(cfg.plant.name))
        assert reader.execute(ask).fetchone() == (60,)
        assert reader.info.user == f"{cfg.plant.name}_read"
    assert "of memory for its buffers" in said("hdb", "dsn", "--about")
    if (find_binaries() / "psql").exists():
        assert "|60|" in said("hdb", "psql", "-A", "-t", "-c", "SELECT '', count(*), '' FROM trade_view")
    loading.close()


def test_a_server_of_the_plants_own_is_sized_to_the_machine(pg_folder) -> None:
    server = PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True)
    with server, psycopg.connect(server.dsn) as connection:
        ask = "SELECT setting::bigint FROM pg_settings WHERE name = %s"
        (pages,) = connection.execute(ask, ["shared_buffers"]).fetchone() or (0,)
        (megabytes,) = connection.execute(ask, ["max_wal_size"]).fetchone() or (0,)
        buffers, wal = pages * 8192, megabytes << 20
    assert (64 << 20) <= buffers <= (512 << 20)
    assert (256 << 20) <= wal <= (2 << 30)
    assert f"{buffers >> 20}MB" in sizes(server.data_dir)
