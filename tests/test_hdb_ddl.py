"""The tables that a declaration becomes, and what happens when it changes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tickplant.errors import HistoryError
from tickplant.hdb import ddl
from tickplant.hdb.server import PostgresServer
from tickplant.hdb.store import History
from tickplant.schema import Schema, declare

Query = Callable[[str], list[tuple[Any, ...]]]
OLD = {"price": "f8", "side": "S1"}


@pytest.fixture
def query(pg_admin: psycopg.Connection, pg_namespace: str) -> Query:
    """Asks in the test's namespace."""
    path = sql.SQL("SET search_path = {}").format(sql.Identifier(pg_namespace))
    pg_admin.execute(path)
    return lambda text: pg_admin.execute(text.encode()).fetchall()


@pytest.fixture
def made(postgres: PostgresServer, pg_namespace: str) -> Callable[[Schema], History]:
    """Makes or brings up the tables of a schema."""

    def make(schema: Schema, namespace: str = pg_namespace) -> History:
        with History(postgres.dsn, schema, namespace) as history:
            history.init()
        return history

    return make


def one(columns: dict[str, str], name: str = "trade") -> Schema:
    return Schema([declare(name, 1, columns)])


def described(query: Query, table: str) -> list[tuple[Any, ...]]:
    return query(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        f" WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
    )


def test_a_table_has_its_columns_in_postgresqls_types(history: History, query: Query) -> None:
    columns = described(query, "everything")
    assert all(not_null for _, _, not_null in columns)
    assert {name: kind for name, kind, _ in columns} == {
        "trading_date": "date",
        "row": "bigint",
        "ts_event": "bigint",
        "ts_recv": "bigint",
        "ts_plant": "bigint",
        "instrument": "bigint",
        "feed": "integer",
        "flags": "integer",
        "c_i1": "smallint",
        "c_i2": "smallint",
        "c_i4": "integer",
        "c_i8": "bigint",
        "c_u1": "smallint",
        "c_u2": "integer",
        "c_u4": "bigint",
        "c_f4": "real",
        "c_f8": "double precision",
        "c_s1": "bytea",
        "c_s255": "bytea",
    }


def test_init_may_be_run_again_and_changes_nothing(history: History, query: Query) -> None:
    everything = "SELECT oid, relname, relfilenode FROM pg_class ORDER BY oid"
    before = query(everything)
    history.init()
    assert query(everything) == before


def test_several_may_init_at_once(
    postgres: PostgresServer, history_schema: Schema, pg_namespace: str, query: Query
) -> None:
    def init(_: int) -> None:
        with History(postgres.dsn, history_schema, pg_namespace) as history:
            history.init()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(init, range(6)))
    assert query("SELECT version FROM layout") == [(ddl.VERSION,)]


def test_a_namespace_may_have_any_name(
    postgres: PostgresServer, history_schema: Schema, pg_admin: psycopg.Connection
) -> None:
    hostile = """we"ird'; DROP TABLE {x} \\ -- ü"""
    with History(postgres.dsn, history_schema, hostile) as history:
        history.init()
        history.init()
        history.load(20261122, {"order": history_schema["order"].empty(2)}, 5, 0, expected=0)
        history.finish(20261122)
        assert history.counts(20261122)["order"] == {0: 2}
        history.drop(20261122)
    pg_admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(hostile)))


@pytest.mark.parametrize("namespace", ["", "x" * 64, "ü" * 32, "a%s", "a\0"])
def test_a_namespace_that_postgresql_would_not_keep_as_it_is_is_refused(
    history_schema: Schema, namespace: str
) -> None:
    with pytest.raises(HistoryError, match="must have 1 to 63 bytes"):
        History("", history_schema, namespace)


def test_two_plants_share_a_database(
    postgres: PostgresServer, history: History, history_schema: Schema
) -> None:
    with History(postgres.dsn, history_schema, history.namespace + "_b") as other:
        other.init()
        rows = history_schema["order"].empty(1)
        other.load(20261122, {"order": rows}, 5, 0, expected=0)
        history.load(20261122, {"order": rows}, 7, 0, expected=0)
        assert other.progress(20261122).position == 5
        assert history.progress(20261122).position == 7
        other.drop(20261122)
        assert history.counts(20261122)["order"] == {0: 1}


def test_todays_rows_are_in_the_table_and_indexed_by_time_alone_until_the_day_is_finished(
    history: History, query: Query
) -> None:
    history.load(20261122, {"order": history.schema["order"].empty(3)}, 1, 0, expected=0)
    assert query('SELECT count(*) FROM "order"') == [(3,)]
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'order_20261122' ORDER BY 1"
    ((time,),) = query(indexes)
    assert "USING brin (ts_event, ts_recv, ts_plant, (" in time
    history.finish(20261122)
    history.finish(20261122)
    found = [definition.partition("USING ")[2] for (definition,) in query(indexes)]
    assert sorted(found)[1:] == ['btree ("row")', "btree (instrument, ts_event)"]
    assert query("SELECT finished_at IS NOT NULL FROM progress") == [(True,)]


def test_a_day_without_rows_can_be_finished(history: History) -> None:
    history.finish(20261122)
    assert history.counts(20261122) == {"order": {}, "everything": {}}


def test_a_row_that_is_there_twice_does_not_pass_the_end_of_day(
    history: History, query: Query, pg_admin: psycopg.Connection
) -> None:
    history.load(20261122, {"order": history.schema["order"].empty(3)}, 1, 0, expected=0)
    pg_admin.execute('INSERT INTO "order" SELECT * FROM "order" t WHERE t.row = 1')
    with pytest.raises(HistoryError, match="tickplant hdb load --date"):
        history.finish(20261122)


def test_rows_of_a_date_are_read_from_its_partition_alone(history: History, query: Query) -> None:
    for date in (20261121, 20261122):
        history.load(date, {"order": history.schema["order"].empty(3)}, 1, 0, expected=0)
    plan = query("""EXPLAIN SELECT * FROM "order" WHERE trading_date = '2026-11-22'""")
    assert "order_20261122" in str(plan)
    assert "order_20261121" not in str(plan)


def test_a_new_column_is_added_with_zeros_in_the_rows_that_are_there(
    made: Callable[[Schema], History], query: Query
) -> None:
    old = made(one(OLD))
    rows = old.schema["trade"].empty(2)
    rows["price"], rows["side"] = 1.5, b"B"
    old.load(20261121, {"trade": rows}, 1, 0, expected=0)
    old.close()
    new = made(one({"fee": "f4", **OLD, "note": "S3"}))
    more = new.schema["trade"].empty(1)
    more["price"], more["fee"], more["note"] = 2.5, 0.5, b"abc"
    new.load(20261121, {"trade": more}, 2, 0, expected=1)
    new.load(20261122, {"trade": more}, 1, 0, expected=0)
    ((_, back),) = new.read_back(20261121, "trade")
    assert back["price"].tolist() == [1.5, 1.5, 2.5]
    assert back["fee"].tolist() == [0, 0, 0.5]
    assert back["note"].tolist() == [b"", b"", b"abc"]
    assert query("SELECT note, fee, side, price FROM trade_view ORDER BY price") == [
        *[("", 0, "B", 1.5)] * 2,
        *[("abc", 0.5, "", 2.5)] * 2,
    ]
    new.close()


def test_a_new_column_has_no_default_for_rows_to_come(made: Callable[[Schema], History]) -> None:
    old = made(one(OLD))
    with old:
        old.load(20261121, {"trade": old.schema["trade"].empty(1)}, 1, 0, expected=0)
        made(one({**OLD, "fee": "f4"}))
        for date, position in ((20261121, 1), (20261122, 0)):
            rows = {"trade": old.schema["trade"].empty(1)}
            with pytest.raises(HistoryError, match="columns that are not declared"):
                old.load(date, rows, 2, 0, expected=position)


def test_a_new_table_is_made_also_for_a_date_that_has_begun(
    made: Callable[[Schema], History],
) -> None:
    with made(one(OLD)) as old:
        old.load(20261122, {"trade": old.schema["trade"].empty(1)}, 1, 0, expected=0)
    with made(Schema([*old.schema, declare("bar", 2, {"close": "f8"})])) as new:
        after = new.load(20261122, {"bar": new.schema["bar"].empty(1)}, 2, 0, expected=1)
        assert after.rows == {"trade": 1, "bar": 1}


def test_a_table_that_is_declared_no_more_is_kept(made: Callable[[Schema], History], query: Query) -> None:
    made(one(OLD))
    made(one(OLD, "quote"))
    assert query("SELECT count(*) FROM trade") == [(0,)]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"price": "f8"}, "column side is S1 there and gone here"),
        ({"price": "f4", "side": "S1"}, "column price is f8 there and f4 here"),
        ({"price": "f8", "side": "S2"}, "column side is S1 there and S2 here"),
        ({"side": "i1"}, "price is f8 there and gone here, column side is S1 there and i1 here"),
    ],
)
def test_a_column_taken_away_or_of_another_type_is_refused_and_nothing_changes(
    made: Callable[[Schema], History], query: Query, changed: dict[str, str], says: str
) -> None:
    made(one(OLD))
    before = described(query, "trade")
    with pytest.raises(HistoryError, match=says):
        made(Schema([declare("bar", 1, {}), declare("trade", 2, {**changed, "fee": "f8"})]))
    assert described(query, "trade") == before
    assert query("SELECT to_regclass('bar')") == [(None,)]


@pytest.mark.parametrize("name", ["registry", "progress", "trade_view", "trade_20261122"])
def test_a_table_name_that_the_history_needs_itself_is_refused(
    made: Callable[[Schema], History], name: str
) -> None:
    with pytest.raises(HistoryError, match=f"{name} is taken"):
        made(one(OLD, name))


@pytest.mark.parametrize("column", ["row", "trading_date"])
def test_a_column_name_that_the_history_needs_itself_is_refused(
    made: Callable[[Schema], History], column: str
) -> None:
    with pytest.raises(HistoryError, match=f"column trade.{column} exists"):
        made(one({column: "i8"}))


def test_a_layout_of_a_newer_tickplant_is_left_alone(
    history: History, pg_admin: psycopg.Connection, query: Query
) -> None:
    pg_admin.execute("UPDATE layout SET version = 99")
    with pytest.raises(HistoryError, match="has layout 99, this tickplant makes 1"):
        history.init()


def test_the_view_shows_times_texts_and_names(history: History, query: Query) -> None:
    rows = history.schema["order"].empty(4)
    rows["instrument"] = [1, 2, 3, 1]
    rows["ts_event"] = [1_795_341_234_567_891_234, 1_000, 0, 999]
    rows["price"] = [1.5, float("nan"), -0.0, 1e300]
    rows["note"] = ["币安人生".encode(), b"a\\b", b"\xff\xfe", b"x\x00y"]
    history.register([(1, "BINANCE", "币安人生USDT"), (2, "XNAS", "AAPL")])
    history.load(20261122, {"order": rows}, 1, 0, expected=0)
    shown = query("SELECT venue, symbol, event_time, ts_event, note FROM order_view t ORDER BY row")
    assert shown == [
        (
            "BINANCE",
            "币安人生USDT",
            datetime(2026, 11, 22, 9, 53, 54, 567891, UTC),
            1_795_341_234_567_891_234,
            "币安人生",
        ),
        ("XNAS", "AAPL", datetime(1970, 1, 1, 0, 0, 0, 1, UTC), 1_000, "a\\b"),
        (None, None, None, 0, r"\377\376"),
        ("BINANCE", "币安人生USDT", datetime(1970, 1, 1, tzinfo=UTC), 999, r"x\000y"),
    ]
    assert str(query("SELECT price FROM order_view t ORDER BY row")) == (
        "[(1.5,), (nan,), (-0.0,), (1e+300,)]"
    )


def test_a_text_is_readable_exactly_if_it_is_utf8(history: History, query: Query) -> None:
    texts = [bytes([a, b]) for a in range(256) for b in range(256)]
    texts += [bytes([a, b, 0x80]) for a in range(0xC0, 256) for b in range(256)]
    texts += [bytes([a, b, 0x80, 0xBF]) for a in range(0xE0, 256) for b in range(256)]
    many = ", ".join(f"('\\x{text.hex()}'::bytea)" for text in texts)
    for field, shown in query(f"SELECT b, readable(b) FROM (VALUES {many}) AS v (b)"):
        text = field.rstrip(b"\0")
        try:
            expected = text.decode() if b"\0" not in text else None
        except UnicodeDecodeError:
            expected = None
        if expected is None:
            assert shown.isascii()
            assert "\\" in shown
        else:
            assert shown == expected


def test_a_table_with_names_of_its_own_shows_those(made: Callable[[Schema], History], query: Query) -> None:
    with made(one({"venue": "S4", "symbol": "S8", "event_time": "i8"}, "instrument")) as history:
        rows = history.schema["instrument"].empty(1)
        rows["venue"], rows["symbol"], rows["event_time"] = b"XNAS", b"AAPL", 7
        history.load(20261122, {"instrument": rows}, 1, 0, expected=0)
    found = query("SELECT venue, symbol, event_time FROM instrument_view")
    assert found == [("XNAS", "AAPL", 7)]
