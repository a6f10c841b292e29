"""Trades as corrected: against a walk over the rows one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tickplant
from tickplant.analytics.corrections import as_corrected
from tickplant.feed.sink import shipped_schema
from tickplant.hdb.store import History
from tickplant.schema import Schema

TRADE = shipped_schema()["trade"]
one_or_two = st.integers(1, 2)
row = st.tuples(st.sampled_from([b"T", b"T", b"X", b"C"]), st.integers(0, 4), one_or_two, one_or_two)
rows_of = st.lists(row, max_size=40)


def made(plan):
    rows = TRADE.empty(len(plan))
    for name, column in zip(
        ("action", "trade_id", "instrument", "feed"), zip(*plan, strict=True), strict=False
    ):
        rows[name] = column
    return rows


def walked(plan):
    """Indices that stand: each row takes the place of those before it that it is about."""
    standing = []
    for i, (action, number, *key) in enumerate(plan):
        if number and action in (b"X", b"C"):
            standing = [j for j in standing if plan[j][1:] != (number, *key)]
        if action != b"X":
            standing.append(i)
    return standing


@given(rows_of)
def test_what_stands_is_what_a_walk_leaves_standing(plan):
    assert np.flatnonzero(as_corrected(made(plan))).tolist() == walked(plan)


@given(rows_of)
def test_columns_will_do_as_well_as_rows(plan):
    rows = made(plan)
    columns = {name: rows[name] for name in rows.dtype.names}
    assert (as_corrected(columns) == tickplant.as_corrected(rows)).all()


def test_postgresql_says_the_same_of_what_stands(postgres, pg_namespace, pg_admin):
    rng = np.random.default_rng(1)
    schema = Schema([TRADE])
    with History(postgres.dsn, schema, pg_namespace) as history:
        history.init()
        for date in (20261120, 20261121):  # the same ids on another date are other trades
            rows = TRADE.empty(300)
            rows["action"] = rng.choice([b"T", b"T", b"T", b"X", b"C"], 300)
            rows["trade_id"] = rng.integers(0, 60, 300)
            rows["instrument"], rows["feed"] = rng.integers(1, 3, 300), rng.integers(1, 3, 300)
            history.load(date, {"trade": rows}, 1, 0, expected=0)
            ask = f'SELECT row FROM "{pg_namespace}".trade_corrected WHERE trading_date = %s ORDER BY row'
            found = [r for (r,) in pg_admin.execute(ask.encode(), [str(date)])]
            assert found == np.flatnonzero(as_corrected(rows)).tolist()
            assert len(found) < (rows["action"] != b"X").sum()
