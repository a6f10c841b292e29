"""The hdb's process: every journaled row in PostgreSQL exactly once, whoever is killed or away."""

import copy
import json
import os
import signal

import psycopg
import pytest

from tests.fix_plant import closed, killed, until
from tests.hdb_plant import Loading, check_stored, drop
from tickplant.config import Config
from tickplant.errors import AlreadyRunning
from tickplant.hdb import loader, store
from tickplant.hdb.connection import HistoryForeign, HistoryLost
from tickplant.hdb.loader import Loader
from tickplant.hdb.server import PostgresServer
from tickplant.hdb.store import History


@pytest.fixture
def hdb_cfg(site, postgres, pg_admin):
    """A plant whose history is in the session's PostgreSQL, in small transactions."""
    yield site.configured(hdb={"dsn": postgres.dsn, "chunk_ms": 0, "chunk_rows": 500})
    drop(pg_admin, site.name)


@pytest.fixture
def loading(site, hdb_cfg):
    made = Loading(site, hdb_cfg)
    yield made
    made.close()


def kill_server(server: PostgresServer) -> None:
    """kill -9 of the postmaster, and its children are gone."""
    assert server.pid is not None
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        asked = connection.execute("SELECT pid FROM pg_stat_activity").fetchall()
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for (pid,) in asked))


def test_rows_of_several_feeds_and_tables_are_loaded_while_they_come(loading):
    for _ in range(4):
        loading.publish(300, 200)
        loading.until_loaded()
    assert check_stored(loading.cfg, loading.loader.history, loading.date) == 4 * 2 * 500 + 2 + 2


def test_a_finished_date_is_proven_and_the_next_one_taken_up(loading):
    loading.publish(30, 20)
    first = loading.roll()
    loading.publish(3, 2)
    loading.until(lambda: loading.loader.verdict)
    assert loading.loader.verdict.complete
    loading.until_loaded()
    second = loading.roll()
    loading.until(lambda: loading.loader.verdict.trading_date == second)
    for date, trades in ((first, 60), (second, 6)):
        proof = json.loads((loading.cfg.plant.data_dir / "proofs" / f"{date}.json").read_text())
        assert proof["complete"]
        records = [r for r in proof["records"] if r["table"] == "trade"]
        assert sum(r["postgres"] for r in records) == trades
        check_stored(loading.cfg, loading.loader.history, date)


def test_at_the_end_of_the_day_means_not_before_it(site, hdb_cfg, postgres):
    loading = Loading(site, site.configured(hdb={"dsn": postgres.dsn, "mode": "end-of-day"}))
    loading.publish(30, 20)
    for _ in range(20):
        loading.turn()
    assert loading.loader.history.progress(loading.date).position == 0
    date = loading.roll()
    loading.until(lambda: loading.loader.verdict)
    assert loading.loader.verdict.complete
    assert check_stored(loading.cfg, loading.loader.history, date) == 2 * 50 + 2 + 2
    loading.close()


def test_only_what_is_durable_is_loaded(loading, monkeypatch):
    loading.publish(10, 10)
    loading.until_loaded()
    monkeypatch.setattr(loading.plant._syncer, "want", lambda day: None)
    loading.publish(30, 20)
    durable = loading.plant.control.durable.load()
    for _ in range(10):
        loading.turn()
    assert loading.plant.control.durable.load() == durable < loading.plant.day.journal.position
    assert loading.loader.history.progress(loading.date).position == durable
    loading.plant.day.journal.sync()
    loading.until_loaded()
    check_stored(loading.cfg, loading.loader.history, loading.date)


def test_an_hdb_killed_again_and_again_loads_every_row_once(site, hdb_cfg, postgres):
    loading = Loading(site, hdb_cfg)
    loading.close()  # processes of their own do it here
    with History(postgres.dsn, hdb_cfg.schema, site.name) as history:
        for step in range(3):
            process = site.run("run", "hdb")
            before = history.progress(loading.date).position

            def something_was_loaded(before=before):
                loading.publish(200, 100)
                return history.progress(loading.date).position > before

            until(something_was_loaded, turning=loading.plant.turn)
            killed(process) if step < 2 else None
        date = loading.roll()
        proof = hdb_cfg.plant.data_dir / "proofs" / f"{date}.json"
        until(proof.exists, turning=loading.plant.turn)
        assert json.loads(proof.read_text())["complete"]
        check_stored(hdb_cfg, history, date)


def test_a_postgresql_killed_while_it_loads_loses_and_doubles_nothing(site, pg_folder):
    with PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True) as server:
        loading = Loading(site, site.configured(hdb={"dsn": server.dsn, "chunk_ms": 0, "chunk_rows": 100}))
        for _ in range(2):
            loading.publish(1000, 100)
            loading.turn()
            kill_server(server)
            loading.publish(1000, 100)
            loading.until(lambda: loading.loader.waiting)
            assert "PostgreSQL at" in loading.loader.status()["waiting"]
            server.start()
            loading.until_loaded()
        assert check_stored(loading.cfg, loading.loader.history, loading.date) == 8 * 1100 + 2 + 2
        loading.close()


def test_while_postgresql_is_away_the_hdb_goes_on_turning_and_catches_up(
    site, pg_folder, caplog, monkeypatch
):
    server = PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True)
    server.start()
    loading = Loading(site, site.configured(hdb={"dsn": server.dsn, "chunk_ms": 0}))
    loading.publish(30, 20)
    loading.until_loaded()
    server.stop()
    loading.publish(30, 20)
    tries = []
    connect = store.connect
    monkeypatch.setattr(store, "connect", lambda *a: tries.append(1) or connect(*a))
    loading.until(lambda: len(tries) >= 2)
    said = caplog.text.count("trying again")
    loading.until(lambda: len(tries) >= 4)
    assert "systemctl start postgresql" in loading.loader.status()["waiting"]
    assert caplog.text.count("trying again") == said == 2  # it went away; there is no connection
    server.start()
    loading.until_loaded()
    assert loading.loader.status()["waiting"] is None
    assert check_stored(loading.cfg, loading.loader.history, loading.date) == 4 * 50 + 2 + 2
    loading.close()
    server.stop()


def test_a_server_of_the_plants_own_is_started_again_when_it_dies(site):
    cfg = site.configured(hdb={"chunk_ms": 0, "throwaway": True})
    loading = Loading(site, cfg)
    loading.publish(30, 20)
    loading.until_loaded()
    kill_server(loading.loader.server)
    loading.publish(30, 20)
    loading.until(lambda: loading.loader.waiting)
    loading.until_loaded()
    check_stored(cfg, loading.loader.history, loading.date)
    loading.close()


def test_a_server_of_the_plants_own_may_fail_to_start_again_for_a_while(site, monkeypatch):
    cfg = site.configured(hdb={"chunk_ms": 0, "throwaway": True})
    loading, failures = Loading(site, cfg), iter(range(2))
    loading.publish(30, 20)
    loading.until_loaded()
    start = loading.loader.server.start

    def refuse(patience):
        if next(failures, None) is not None:
            raise HistoryLost("PostgreSQL did not start")
        start(patience)

    monkeypatch.setattr(loading.loader.server, "start", refuse)
    kill_server(loading.loader.server)
    loading.publish(30, 20)
    loading.until(lambda: loading.loader.waiting == "PostgreSQL did not start")
    loading.until_loaded()
    check_stored(cfg, loading.loader.history, loading.date)
    loading.close()


def test_a_server_of_the_plants_own_that_dies_while_the_hdb_starts_is_started_again(site, monkeypatch):
    cfg = site.configured(hdb={"chunk_ms": 0, "throwaway": True})
    init, deaths = History.init, iter(range(2))

    def die_first(history):
        if next(deaths, None) is not None:
            raise HistoryLost("the connection broke")
        init(history)

    monkeypatch.setattr(History, "init", die_first)
    loading = Loading(site, cfg)
    loading.publish(30, 20)
    loading.until_loaded()
    assert next(deaths, None) is None
    check_stored(cfg, loading.loader.history, loading.date)
    loading.close()


def test_what_is_at_hand_when_the_hdb_ends_is_loaded(site, hdb_cfg, postgres):
    loading = Loading(site, site.configured(hdb={"dsn": postgres.dsn, "chunk_ms": 3_600_000}))
    loading.publish(30, 20)
    loading.until(lambda: loading.loader._rows >= 104)
    assert loading.loader.history.progress(loading.date).position == 0
    loading.close()
    with History(postgres.dsn, hdb_cfg.schema, site.name) as history:
        assert history.progress(loading.date).rows["trade"] == 60


def test_the_status_says_how_far_the_hdb_is(loading):
    loading.publish(30, 20)
    loading.until_loaded()
    said = loading.loader.status()
    assert (said["trading_date"], said["behind_bytes"], said["waiting"]) == (loading.date, 0, None)
    assert said["loaded_bytes"] == loading.plant.day.journal.durable


def test_a_second_hdb_of_one_plant_is_refused(loading, site):
    with pytest.raises(AlreadyRunning, match=r"another hdb .* holds .*hdb\.lock"):
        Loader(loading.cfg)
    process = site.run("run", "hdb")
    assert process.wait(30) == AlreadyRunning.exit_code
    loading.publish(30, 20)
    loading.until_loaded()
    assert check_stored(loading.cfg, loading.loader.history, loading.date) == 2 * 50 + 2 + 2


def test_while_another_loads_into_the_same_tables_the_hdb_waits(loading, postgres):
    with History(postgres.dsn, loading.cfg.schema, loading.cfg.plant.name) as other:
        other.drop(20200101)  # it has become the one that loads
        loading.publish(30, 20)
        loading.loader.history.lock_patience = 0.1
        loading.until(lambda: loading.loader.waiting)
        assert "another hdb is loading" in loading.loader.waiting
    loading.until_loaded()
    assert check_stored(loading.cfg, loading.loader.history, loading.date) == 2 * 50 + 2 + 2


def spoilt(loading, cfg, admin, spoil, mend, words):
    """Turn a loader while PostgreSQL refuses; it waits, says why, and goes on when that is mended."""
    loading.publish(30, 20)
    loading.until_loaded()
    spoil()
    loading.publish(30, 20)
    loading.until(lambda: words in (loading.loader.waiting or ""))
    date = loading.roll()
    for _ in range(3):
        loading.turn()
    mend()
    loading.until(lambda: loading.loader.verdict)
    assert loading.loader.verdict.complete
    assert loading.loader.verdict.trading_date == date
    assert check_stored(cfg, loading.loader.history, date) == 4 * 50 + 2 + 2


def test_a_server_that_does_not_let_itself_be_written_is_waited_for(loading, pg_admin):
    def refuse(on):
        value = "on" if on else "off"
        pg_admin.execute(f"ALTER ROLE tickplant SET default_transaction_read_only = {value}")
        pg_admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tickplant hdb'"
        )

    try:
        spoilt(loading, loading.cfg, pg_admin, lambda: refuse(True), lambda: refuse(False), "pg_reload_conf")
    finally:
        pg_admin.execute("SET default_transaction_read_only = off")
        pg_admin.execute("ALTER ROLE tickplant RESET default_transaction_read_only")
    assert loading.loader.status()["waiting"] is None


def test_tables_that_somebody_dropped_are_made_and_filled_again(loading, pg_admin):
    def dropped():
        drop(pg_admin, loading.cfg.plant.name)

    spoilt(loading, loading.cfg, pg_admin, dropped, lambda: None, "run `tickplant hdb init`")


def test_a_hdb_begins_although_postgresql_is_not_there(site, pg_folder):
    server = PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True)
    loading = Loading(site, site.configured(hdb={"dsn": server.dsn, "chunk_ms": 0}))
    loading.publish(30, 20)
    date = loading.roll()
    assert "no connection" in loading.loader.status()["waiting"]
    assert loading.loader.status()["waiting_since_ns"] > 0
    server.start()
    loading.until(lambda: loading.loader.verdict)
    assert loading.loader.verdict.complete
    assert check_stored(loading.cfg, loading.loader.history, date) == 2 * 50 + 2 + 2
    loading.close()
    server.stop()


def test_tries_become_rarer_and_are_frequent_again_afterwards(loading, monkeypatch):
    pauses = []
    now = loader.monotonic_ns

    def refused():
        raise HistoryLost("not there")

    monkeypatch.setattr(loading.loader, "_turn", refused)
    for _ in range(8):
        loading.loader._retry_ns = 0
        began = now()
        loading.loader.turn()
        pauses.append((loading.loader._retry_ns - began) / 1e9)
    assert [round(p, 1) for p in pauses] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    monkeypatch.undo()
    loading.loader._retry_ns = 0
    loading.publish(3, 2)
    loading.until_loaded()
    assert loading.loader._pause_ns == 0


def test_the_history_of_another_plant_ends_the_hdb_and_is_not_touched(loading, site, pg_admin):
    loading.publish(30, 20)
    loading.until_loaded()
    loading.close()
    (loading.cfg.plant.data_dir / "identity").write_text("another")
    loading.loader = Loader(loading.cfg)
    with pytest.raises(HistoryForeign, match="the history of another plant .*ALTER SCHEMA") as e:
        loading.loader.open()
    assert e.value.exit_code == 78
    loading.loader.close()
    process = site.run("run", "hdb")
    assert process.wait(30) == 78
    said = json.loads((loading.cfg.status_dir / "hdb.json").read_text())
    assert said["state"] == "failed"
    assert "another plant" in said["error"]
    rows = pg_admin.execute(f"SELECT count(*) FROM {loading.cfg.plant.name}.trade").fetchone()
    assert rows == (60,)


def test_a_date_is_finished_in_steps_that_say_what_they_are_at(loading):
    loading.publish(300, 200)
    loading.roll()
    loading.until(lambda: loading.loader.doing)
    steps = []

    def step():
        steps.append(loading.loader.doing)
        loading.loader.turn()

    until(lambda: loading.loader.verdict, turning=step)
    said = " ".join(s or "" for s in steps)
    assert f"indexing trade_{loading.loader.trading_date}" in said
    assert "reading the journal" in said
    assert "reading quote of" in said
    assert "back from PostgreSQL" in said
    assert "in shared memory" in said
    assert loading.loader.status()["doing"] is None


def test_a_sealed_date_is_proven_after_the_plant_and_then_the_hdb_were_stopped(site, hdb_cfg):
    loading = Loading(site, hdb_cfg)
    loading.publish(30, 20)
    loading.plant.commit()
    loading.plant.day.seal()
    closed(loading.plant)
    until(lambda: loading.loader._steps, turning=loading.loader.turn)  # all is loaded, the seal too
    loading.loader.close()
    loading.loader = Loader(hdb_cfg)
    loading.loader.open()
    assert loading.prove(loading.plant.day.trading_date).complete
    loading.close()


def test_a_date_with_earlier_tables_is_loaded_when_postgresql_is_back(site, pg_folder):
    server = PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True)
    loading = Loading(site, site.configured(hdb={"dsn": server.dsn, "chunk_ms": 0}))
    loading.publish(30, 20)
    date = loading.date
    loading.plant.commit()
    loading.plant.day.seal()
    closed(loading.plant)
    loading.close()
    content = copy.deepcopy(dict(loading.cfg.content))
    content["tables"]["trade"]["columns"]["fee"] = "f8"
    content["tables"] = {"auction": {"columns": {"price": "f8"}}} | content["tables"]
    cfg = Config(content, loading.cfg.path)
    plant = site.ticker_plant(cfg)
    later = Loader(cfg)
    later.open()
    server.start()
    until(lambda: later.verdict, turning=lambda: (plant.turn(), later.turn()))
    assert (later.verdict.trading_date, later.verdict.complete) == (date, True)
    assert next(r for r in later.verdict.records if (r.table, r.feed) == ("trade", 2)).postgres == 30
    later.close()
    server.stop()
