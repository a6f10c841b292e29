"""Rows that PostgreSQL refuses are set apart; everything else goes in, and the next dates, too."""

import json

import numpy as np
import psycopg
import pytest
from psycopg import sql

from tests.fix_plant import rows_of
from tests.hdb_plant import check_stored
from tickplant import status, wire
from tickplant._core import framing
from tickplant.hdb import refused
from tickplant.hdb.store import History
from tickplant.journal import JournalReader
from tickplant.schema import Rows, Schema

DATE = 20261122


def forbid(admin: psycopg.Connection, namespace: str, table: str, condition: str) -> None:
    add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT sound CHECK ({}) NOT VALID")
    admin.execute(add.format(sql.Identifier(namespace, table), sql.SQL(condition)))


def allow(admin: psycopg.Connection, namespace: str, table: str) -> None:
    admin.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT sound").format(sql.Identifier(namespace, table)))


def kept(folder, schema: Schema) -> dict[str, list[tuple[int, bytes]]]:
    """(row number, row) of the rows in a folder, by table; the journal is sound."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    reader = JournalReader(folder)
    while chunk := reader.read():
        for offset, size, kind, *_ in framing.index(chunk).tolist():
            if kind == wire.ROWS:
                head, frame = wire.header(chunk, offset), memoryview(chunk)[offset : offset + size]
                table = schema.numbered(head.table)
                rows = table.rows(wire.payload(frame))
                numbered = [(head.row + i, row.tobytes()) for i, row in enumerate(rows)]
                found.setdefault(table.name, []).extend(numbered)
    reader.close()
    return found


def orders(history: History, prices: list[float]) -> Rows:
    rows = history.schema["order"].empty(len(prices))
    rows["price"] = prices
    return rows


def stored(history: History) -> list[tuple[int, float]]:
    return sorted(
        pair
        for numbers, rows in history.read_back(DATE, "order")
        for pair in zip(numbers.tolist(), rows["price"].tolist(), strict=True)
    )


@pytest.fixture
def sifting(history: History, tmp_path) -> History:
    """The same, with a folder for what is refused, and a date that is begun."""
    history.aside = tmp_path / "aside"
    history.load(DATE, {"order": orders(history, [1.0])}, 10, 1, expected=0)
    return history


CHECK = "price < 100"
DEFERRED = """
CREATE FUNCTION {s}.look() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN IF NEW.price >= 100 THEN RAISE EXCEPTION 'too dear'; END IF; RETURN NULL; END $body$;
CREATE CONSTRAINT TRIGGER looked AFTER INSERT ON {leaf} DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION {s}.look()
"""


@pytest.mark.parametrize("bad", [[3], [0, 1], [6], [0, 3, 4, 6], list(range(7))])
@pytest.mark.parametrize("how", ["check", "trigger at commit"])
def test_only_what_is_refused_is_set_apart_and_keeps_its_number(sifting, pg_admin, bad, how):
    name = sifting.namespace
    if how == "check":
        forbid(pg_admin, name, f"order_{DATE}", CHECK)
    else:
        leaf = sql.Identifier(name, f"order_{DATE}")
        pg_admin.execute(sql.SQL(DEFERRED).format(s=sql.Identifier(name), leaf=leaf))
    prices = [100.0 + i if i in bad else float(i) for i in range(7)]
    rows = orders(sifting, prices)
    after = sifting.load(DATE, {"order": rows}, 20, 2, expected=10)
    assert after == sifting.progress(DATE)
    assert after.rows == {"order": 8}
    assert after.refused["order"][0] == len(bad)
    assert stored(sifting) == [(0, 1.0)] + [(1 + i, p) for i, p in enumerate(prices) if i not in bad]
    sifting.load(DATE, {"order": orders(sifting, [5.0, 500.0])}, 30, 3, expected=20)
    assert sifting.progress(DATE).refused["order"][0] == len(bad) + 1
    sifting.close()
    there = kept(refused.folder(sifting.aside, DATE), sifting.schema)["order"]
    assert there[:-1] == [(1 + i, rows[i].tobytes()) for i in bad]
    assert there[-1][0] == 9


def test_an_operators_unique_index_and_a_column_that_is_too_narrow_refuse_rows_only(sifting, pg_admin):
    leaf = sql.Identifier(sifting.namespace, f"order_{DATE}")
    pg_admin.execute(sql.SQL("CREATE UNIQUE INDEX mine ON {} (price)").format(leaf))
    after = sifting.load(DATE, {"order": orders(sifting, [1.0, 2.0, 2.0])}, 20, 2, expected=10)
    assert after.refused == {"order": (2, 'duplicate key value violates unique constraint "mine"')}
    assert [p for _, p in stored(sifting)] == [1.0, 2.0]


def test_rows_that_are_there_twice_are_no_refused_rows(sifting, pg_admin):
    from tickplant.errors import HistoryError

    sifting.finish(DATE)
    progress = sql.SQL("UPDATE {} SET rows = '{{}}'").format(sql.Identifier(sifting.namespace, "progress"))
    pg_admin.execute(progress)
    with pytest.raises(HistoryError, match="rebuild the date"):
        sifting.load(DATE, {"order": orders(sifting, [2.0])}, 20, 2, expected=10)
    assert sifting.progress(DATE).refused == {}


def test_a_chunk_that_is_refused_whole_is_not_divided_for_ever(sifting, pg_admin, monkeypatch):
    forbid(pg_admin, sifting.namespace, f"order_{DATE}", CHECK)
    copies = []
    copy = History.copy_into
    monkeypatch.setattr(History, "copy_into", lambda *a: copies.append(1) or copy(*a))
    monkeypatch.setattr(refused, "HOPELESS", 8)
    after = sifting.load(DATE, {"order": orders(sifting, [100.0] * 20_000)}, 20, 2, expected=10)
    assert after.refused["order"][0] == 20_000
    assert len(copies) < 100
    sifting.close()
    there = kept(refused.folder(sifting.aside, DATE), sifting.schema)["order"]
    assert [n for n, _ in there] == list(range(1, 20_001))


def test_rows_kept_before_a_crash_are_not_kept_twice(sifting, pg_admin, monkeypatch):
    forbid(pg_admin, sifting.namespace, f"order_{DATE}", CHECK)
    rows = {"order": orders(sifting, [2.0, 200.0, 3.0, 300.0])}

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tickplant.hdb.store.more", crash)
        with pytest.raises(KeyboardInterrupt):
            sifting.load(DATE, rows, 20, 2, expected=10)
    sifting.close()
    assert sifting.progress(DATE).refused == {}
    sifting.load(DATE, rows, 20, 2, expected=10)
    sifting.close()
    there = kept(refused.folder(sifting.aside, DATE), sifting.schema)["order"]
    assert [n for n, _ in there] == [2, 4]


def test_without_a_folder_for_them_nothing_of_the_chunk_is_loaded(history, pg_admin):
    from tickplant.errors import HistoryError

    history.load(DATE, {"order": orders(history, [1.0])}, 10, 1, expected=0)
    forbid(pg_admin, history.namespace, f"order_{DATE}", CHECK)
    with pytest.raises(HistoryError, match='violates check constraint "sound"'):
        history.load(DATE, {"order": orders(history, [1.0, 200.0])}, 20, 1, expected=10)
    assert stored(history) == [(0, 1.0)]


@pytest.mark.parametrize("table", ["trade_{date}", "trade"])
def test_the_date_is_not_complete_says_where_the_rows_are_and_the_next_dates_go_on(loading, pg_admin, table):
    loading.until_loaded()
    cfg, name = loading.cfg, loading.cfg.plant.name
    forbid(pg_admin, name, table.format(date=loading.date), "row NOT IN (103, 105)")
    loading.publish(10, 10)
    loading.until_loaded()
    date = loading.date
    where = cfg.plant.data_dir / "aside" / f"refused-{date}"
    (problem,) = loading.loader.status()["problems"]
    assert f'PostgreSQL refused 2 rows of trade (new row for relation "trade_{date}" violates' in problem
    assert f"kept in {where}" in problem
    loading.roll()
    verdict = loading.prove(date)
    assert not verdict.complete
    assert verdict.wrong == ["trade"]
    assert "PostgreSQL refused 2 rows of trade (new row for relation" in verdict.summary()
    proof = json.loads((cfg.plant.data_dir / "proofs" / f"{date}.json").read_text())
    assert (proof["refused"]["trade"]["rows"], proof["refused_place"]) == (2, str(where))
    said = [p for p in status.look(cfg)["problems"] if f"trading date {date}" in p]
    assert len(said) == 1
    assert "lift what refuses the rows" in said[0]
    expected = rows_of(cfg, date, "trade")
    assert kept(where, cfg.schema)["trade"] == [(n, expected[n].tobytes()) for n in (103, 105)]
    numbers = np.concatenate([n for n, _ in loading.loader.history.read_back(date, "trade")])
    assert sorted(numbers.tolist()) == [n for n in range(len(expected)) if n not in (103, 105)]
    loading.publish(60, 10)
    loading.until_loaded()
    assert bool(loading.loader.status()["problems"]) == (table == "trade")
    mended(loading, pg_admin, table, date, where)


def mended(loading, pg_admin, table, date, where):
    """With the constraint lifted the date is complete, once it is rebuilt."""
    from tickplant.hdb import requests

    if table == "trade":
        requests.ask(loading.cfg, date)
        loading.until(lambda: not requests.is_waiting(loading.cfg, date))
        assert not loading.loader.verdict.complete
        assert len(kept(where, loading.cfg.schema)["trade"]) == 2
        allow(pg_admin, loading.cfg.plant.name, "trade")
    requests.ask(loading.cfg, date)
    loading.until(lambda: not requests.is_waiting(loading.cfg, date))
    assert loading.loader.verdict.complete
    assert not where.exists()
    check_stored(loading.cfg, loading.loader.history, date)
