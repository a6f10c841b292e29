"""The views of the history: what they show, and that PostgreSQL answers them without reading row by row."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tickplant.analytics.corrections import as_corrected
from tickplant.feed.sink import shipped_schema
from tickplant.hdb import indexes, views
from tickplant.hdb.server import PostgresServer
from tickplant.hdb.store import History
from tickplant.hdb.tending import Due
from tickplant.schema import Rows, Schema, declare

TRADE = shipped_schema()["trade"]
DAY = 1_795_300_000_000_000_000
ROWS = 60_000


@pytest.fixture
def trades(postgres: PostgresServer, pg_namespace: str) -> Iterator[History]:
    with History(postgres.dsn, Schema([TRADE]), pg_namespace) as history:
        history.init()
        history.register([(i, "XNAS", f"S{i}") for i in range(1, 401)])
        yield history


def day_of(count: int, amended: int, seed: int = 1) -> Rows:
    """Trades of 400 instruments, of which the last `amended` rows take back or amend earlier ones."""
    rng = np.random.default_rng(seed)
    rows = TRADE.empty(count)
    rows["ts_event"] = rows["ts_recv"] = rows["ts_plant"] = DAY + np.arange(count) * 1_000_000
    rows["instrument"] = rng.integers(1, 401, count)
    rows["feed"], rows["trade_id"], rows["action"] = 1, np.arange(1, count + 1), b"T"
    at = np.arange(count - amended, count)
    about = rng.integers(0, count - amended, amended)
    for name in ("instrument", "trade_id"):
        rows[name][at] = rows[name][about]
    rows["action"][at] = rng.choice(np.array([b"X", b"C"]), amended)
    return rows


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def plan_of(admin: psycopg.Connection, namespace: str, query: str) -> list[dict[str, Any]]:
    """The nodes of a plan, as it ran."""
    text = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) " + query).format(s=sql.Identifier(namespace))
    (found,) = admin.execute(text).fetchone() or ([],)
    made = json.loads(found) if isinstance(found, str) else found
    return list(nodes(made[0]["Plan"]))


def read(plan: list[dict[str, Any]], table: str) -> int:
    """Rows that a plan looked at in a table."""
    seen = 0
    for node in plan:
        if node.get("Relation Name", "").startswith(table) and node["Node Type"] != "Index Only Scan":
            more = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            seen += (node["Actual Rows"] + more) * node["Actual Loops"]
    return int(seen)


row = st.tuples(
    st.sampled_from([b"T", b"T", b"X", b"C", b"", b"XC"[:1]]), st.integers(0, 4), st.integers(0, 2),
    st.integers(1, 2),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(row, max_size=40), finished=st.booleans())
def test_what_stands_in_postgresql_is_what_stands_in_python(
    trades: History, pg_admin: psycopg.Connection, plan: list[tuple[Any, ...]], finished: bool
) -> None:
    rows = TRADE.empty(len(plan))
    for name, column in zip(
        ("action", "trade_id", "instrument", "feed"), zip(*plan, strict=True), strict=False
    ):
        rows[name] = column
    trades.drop(20261120)
    trades.load(20261120, {"trade": rows}, 1, 0, expected=0)
    if finished:
        trades.finish(20261120)
    ask = sql.SQL("SELECT row FROM {}.trade_corrected ORDER BY row").format(sql.Identifier(trades.namespace))
    assert [r for (r,) in pg_admin.execute(ask)] == np.flatnonzero(as_corrected(rows)).tolist()


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("amended", [0, 2_000])
def test_the_corrected_day_is_read_once_whatever_the_statistics_say(
    trades: History, pg_admin: psycopg.Connection, finished: bool, amended: int
) -> None:
    rows = day_of(ROWS, 2_000)
    cut = ROWS - 2_000 + amended
    trades.load(20261120, {"trade": rows[:cut]}, 1, 0, expected=0)
    if finished:
        trades.finish(20261120)
    else:
        list(trades.tending(20261120, Due(["trade"], ["trade"], [])))
    if cut < ROWS:  # amendments that no statistics know of
        trades.load(20261120, {"trade": rows[cut:]}, 2, 0, expected=1)
    day = "FROM {s}.trade_corrected WHERE trading_date = '2026-11-20'"
    plan = plan_of(pg_admin, trades.namespace, f"SELECT count(*), sum(price) {day}")
    kinds = {node["Node Type"] for node in plan}
    assert "Nested Loop" not in kinds, kinds
    assert read(plan, "trade_20261120") <= ROWS
    assert plan[0]["Actual Rows"] == 1
    (count,) = pg_admin.execute(
        sql.SQL("SELECT count(*) " + day).format(s=sql.Identifier(trades.namespace))
    ).fetchone() or (0,)
    assert count == int(as_corrected(rows).sum())
    first = plan_of(pg_admin, trades.namespace, f"SELECT * {day} LIMIT 100")
    assert read(first, "trade_20261120") < 1_000


def test_one_symbol_and_a_range_of_time_do_not_read_the_day(
    trades: History, pg_admin: psycopg.Connection
) -> None:
    trades.load(20261120, {"trade": day_of(ROWS, 200)}, 1, 0, expected=0)
    list(trades.tending(20261120, Due(["trade"], ["trade"], ["trade"])))
    for _ in ("open", "finished"):
        for view in ("trade_view", "trade_corrected"):
            day = f"FROM {{s}}.{view} WHERE trading_date = '2026-11-20'"
            plan = plan_of(pg_admin, trades.namespace, f"SELECT * {day} AND symbol = 'S7' ORDER BY ts_event")
            assert read(plan, "trade_20261120") < 1_000
            span = f"ts_event BETWEEN {DAY + 10**10} AND {DAY + 11 * 10**9}"
            plan = plan_of(pg_admin, trades.namespace, f"SELECT * {day} AND {span}")
            assert read(plan, "trade_20261120") < ROWS / 3
            at = "event_time >= '2026-11-21 22:26:50Z' AND event_time < '2026-11-21 22:26:51Z'"
            plan = plan_of(pg_admin, trades.namespace, f"SELECT * {day} AND {at}")
            assert 1_000 <= read(plan, "trade_20261120") < ROWS / 3
        trades.finish(20261120)


@pytest.mark.parametrize("kind", ["S1", "S2", "S8"])
def test_an_action_of_any_width_is_recognized(
    postgres: PostgresServer, pg_namespace: str, pg_admin: psycopg.Connection, kind: str
) -> None:
    table = declare("deal", 1, {"trade_id": "i8", "action": kind})
    with History(postgres.dsn, Schema([table]), pg_namespace) as history:
        history.init()
        rows = table.empty(5)
        rows["trade_id"], rows["action"] = [1, 2, 1, 2, 3], [b"T", b"T", b"X", b"C", b"T"]
        history.load(20261120, {"deal": rows}, 1, 0, expected=0)
        ask = sql.SQL("SELECT row FROM {}.deal_corrected ORDER BY row").format(sql.Identifier(pg_namespace))
        assert pg_admin.execute(ask).fetchall() == [(3,), (4,)]


def test_an_action_that_is_no_text_is_no_reason_for_a_corrected_view(
    postgres: PostgresServer, pg_namespace: str
) -> None:
    table = declare("deal", 1, {"trade_id": "i8", "action": "i1"})
    with History(postgres.dsn, Schema([table]), pg_namespace) as history:
        history.init()
        history.load(20261120, {"deal": table.empty(1)}, 1, 0, expected=0)


@given(st.integers(-(2**62), 2**62))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_time_is_shown_to_the_microsecond(pg_admin: psycopg.Connection, ns: int) -> None:
    shown = sql.SQL("SELECT extract(epoch FROM {}) * 1000000").format(views.shown_time(sql.Literal(ns)))
    (micros,) = pg_admin.execute(shown).fetchone() or (0,)
    whole = abs(ns) // 1000 * (1 if ns > 0 else -1)
    assert micros == (whole if ns else None)


def test_views_that_an_earlier_tickplant_made_are_replaced_once(
    trades: History, pg_admin: psycopg.Connection
) -> None:
    s = sql.Identifier(trades.namespace)
    old = (
        "CREATE OR REPLACE VIEW {s}.trade_corrected AS SELECT v.* FROM {s}.trade_view v"
        " WHERE v.action <> 'X'; UPDATE {s}.layout SET views = 0"
    )
    pg_admin.execute(sql.SQL(old).format(s=s))
    trades.close()
    trades.init()
    rows = day_of(100, 10)
    trades.load(20261120, {"trade": rows}, 1, 0, expected=0)
    ask = sql.SQL("SELECT count(*) FROM {s}.trade_corrected").format(s=s)
    assert pg_admin.execute(ask).fetchone() == (int(as_corrected(rows).sum()),)
    assert pg_admin.execute(sql.SQL("SELECT views FROM {s}.layout").format(s=s)).fetchone() == (
        views.VERSION,
    )


def test_the_index_of_an_open_date_is_there_before_its_rows(
    trades: History, pg_admin: psycopg.Connection
) -> None:
    trades.load(20261120, {"trade": TRADE.empty(1)}, 1, 0, expected=0)
    ask = "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND tablename = 'trade_20261120' ORDER BY 1"
    names = [n for (n,) in pg_admin.execute(ask, [trades.namespace])]
    assert names == ["trade_20261120_amended", "trade_20261120_time"]
    assert len(list(indexes.opening("s", "leaf", {"ts_event": "i8"}))) == 1
