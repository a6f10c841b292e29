"""A date loaded anew from its journal, whatever is there of it, in the place of what was there."""

import json
import shutil
import signal
import threading
from itertools import islice

import psycopg
import pytest
from psycopg import sql

from tests.fix_plant import closed, until
from tests.hdb_plant import check_stored
from tickplant.config import Config
from tickplant.errors import HistoryError
from tickplant.hdb.evidence import Evidence, gather
from tickplant.hdb.loader import connect
from tickplant.hdb.proof import Verdict, verify
from tickplant.hdb.rebuild import rebuild, rebuild_and_prove
from tickplant.registry import RegistryReader


@pytest.fixture
def date(loading):
    """A proven date; the hdb is not there any more."""
    date = loading.roll()
    assert loading.prove(date).complete
    loading.loader.history.close()
    return date


def ask(admin, loading, command, *values):
    name = sql.Identifier(loading.cfg.plant.name)
    return admin.execute(sql.SQL(command).format(s=name), values)


def rebuilt(loading, date) -> Verdict:
    history, _ = connect(loading.cfg)
    with history:
        *_, last = rebuild_and_prove(loading.cfg, history, date)
        check_stored(loading.cfg, history, date)
    assert isinstance(last, Verdict)
    return last


def tables_apart(admin, loading):
    ask = "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename LIKE '%%\\_new'"
    return admin.execute(ask, [loading.cfg.plant.name]).fetchone()[0]


@pytest.mark.parametrize(
    "damage",
    [
        "SELECT 1",
        "DELETE FROM {s}.trade WHERE mod(row, 3) = 1",
        "UPDATE {s}.trade SET price = 7, row = row + 1000000",
        "INSERT INTO {s}.trade SELECT trading_date, row + 1000000, ts_event, ts_recv, ts_plant, instrument,"
        " feed, flags, venue_seq, trade_id, price, size, side, action, condition FROM {s}.trade",
        "TRUNCATE {s}.trade; DELETE FROM {s}.progress; DELETE FROM {s}.proof",
        "DROP TABLE {s}.trade CASCADE; DELETE FROM {s}.declared WHERE table_name = 'trade'",
    ],
)
def test_whatever_was_there_a_rebuilt_date_is_complete(loading, date, pg_admin, damage):
    ask(pg_admin, loading, damage)
    if "DROP" in damage:
        with connect(loading.cfg)[0] as history:
            history.init()
    verdict = rebuilt(loading, date)
    assert verdict.summary() == "complete: 164 rows"
    done = ask(pg_admin, loading, "SELECT finished_at IS NOT NULL, position FROM {s}.progress").fetchall()
    assert done[0][0]
    assert len(done) == 1
    assert tables_apart(pg_admin, loading) == 0
    indexes = ask(
        pg_admin, loading, "SELECT count(*) FROM pg_indexes WHERE schemaname = %s AND tablename = %s",
        loading.cfg.plant.name, f"trade_{date}",
    )  # fmt: skip
    assert indexes.fetchone() == (4,)


def test_a_date_that_differed_is_complete_when_it_is_rebuilt(loading, date, pg_admin):
    ask(pg_admin, loading, "DELETE FROM {s}.trade WHERE row = 7")
    with connect(loading.cfg)[0] as history:
        registry = RegistryReader(loading.cfg.registry_dir)
        assert (
            verify(loading.cfg, history, registry, date).summary() == "DIFFERS in trade (164 rows journaled)"
        )
        stored = loading.cfg.plant.data_dir / "proofs" / f"{date}.json"
        assert not json.loads(stored.read_text())["complete"]
    assert rebuilt(loading, date).complete
    assert json.loads(stored.read_text())["complete"]


def test_readers_see_a_date_whole_all_the_while_it_is_rebuilt(loading, date, postgres):
    seen, stop = [], threading.Event()
    ask = sql.SQL("SELECT count(*) FROM {}.trade").format(sql.Identifier(loading.cfg.plant.name))

    def read():
        with psycopg.connect(postgres.dsn, autocommit=True) as reader:
            while not stop.is_set():
                seen.append(reader.execute(ask).fetchone()[0])

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(5):
            assert rebuilt(loading, date).complete
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 20
    assert set(seen) == {100}


def test_a_rebuilding_given_up_at_any_step_has_changed_nothing(loading, date, pg_admin):
    ask(pg_admin, loading, "DELETE FROM {s}.trade WHERE row = 7")
    steps = 0
    while True:
        history, _ = connect(loading.cfg)
        with history:
            rebuilding = rebuild(loading.cfg, history, date)
            done = list(islice(rebuilding, steps))
            rebuilding.close()
        rows = ask(pg_admin, loading, "SELECT count(*) FROM {s}.trade").fetchone()[0]
        if len(done) < steps:
            break
        assert rows == 99
        steps += 1
    assert rows == 100
    assert steps > 10
    assert rebuilt(loading, date).complete
    assert tables_apart(pg_admin, loading) == 0


def test_a_date_that_is_not_sealed_or_not_there_is_not_rebuilt(loading, date):
    with connect(loading.cfg)[0] as history:
        with pytest.raises(HistoryError, match="not sealed yet; run: tickplant eod"):
            list(rebuild(loading.cfg, history, loading.date))
        with pytest.raises(HistoryError, match="no whole journal of 20200102"):
            list(rebuild(loading.cfg, history, 20200102))


def test_the_command_rebuilds_by_itself_when_no_hdb_runs(loading, date, site, pg_admin):
    ask(pg_admin, loading, "DELETE FROM {s}.trade WHERE row = 7")
    loading.loader.close()
    done = site.run("hdb", "load", "--date", str(date))
    assert done.wait(60) == 0
    assert f"{date}: complete: 164 rows" in (site.folder / "log.0").read_text()
    with connect(loading.cfg)[0] as history:
        check_stored(loading.cfg, history, date)
    loading.loader = type(loading.loader)(loading.cfg)
    loading.loader.open()


def test_a_rebuilding_killed_leaves_the_date_as_it_was_and_the_next_one_succeeds(
    loading, date, site, pg_admin
):
    loading.loader.close()
    with psycopg.connect(loading.cfg.hdb.dsn) as reader:  # who keeps it from taking the place
        reader.execute(sql.SQL("SELECT count(*) FROM {}.trade").format(sql.Identifier(site.name)))
        process = site.run("hdb", "load", "--date", str(date))
        until(lambda: tables_apart(pg_admin, loading) > 0)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        until(lambda: pg_admin.execute(waiting).fetchone()[0])
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert reader.execute(
            sql.SQL("SELECT count(*) FROM {}.trade").format(sql.Identifier(site.name))
        ).fetchone() == (100,)
    loading.loader = type(loading.loader)(loading.cfg)
    loading.loader.open()
    loading.loader.history.close()
    assert rebuilt(loading, date).complete
    assert tables_apart(pg_admin, loading) == 0


def test_a_date_with_earlier_tables_is_rebuilt_and_proven_with_them(loading, date, pg_admin):
    closed(loading.plant)
    content = dict(loading.cfg.content)
    content["tables"] = dict(content["tables"])
    trade = dict(content["tables"]["trade"])
    trade["columns"] = {"fee": "f8"} | trade["columns"]
    content["tables"] = {"auction": {"columns": {"price": "f8"}}} | content["tables"] | {"trade": trade}
    cfg = Config(content, loading.cfg.path)
    loading.cfg = cfg
    with connect(cfg)[0] as history:
        history.init()
        *_, verdict = rebuild_and_prove(cfg, history, date)
        assert verdict.complete
        assert verdict.summary() == "complete: 164 rows"
    fees = ask(pg_admin, loading, "SELECT count(*), sum(fee), sum(price) > 0 FROM {s}.trade").fetchone()
    assert fees == (100, 0.0, True)


def test_a_date_whose_journal_is_deleted_is_proven_by_its_proof(loading, date, pg_admin):
    loading.plant.finished.tidy(loading.plant.day.trading_date)  # its tables go, too
    shutil.rmtree(loading.cfg.journal_dir / str(date))
    registry = RegistryReader(loading.cfg.registry_dir)
    with connect(loading.cfg)[0] as history:
        assert verify(loading.cfg, history, registry, date).summary() == "complete: 164 rows"
        assert verify(loading.cfg, history, registry, date).complete
        ask(pg_admin, loading, "UPDATE {s}.trade SET row = row + 1000")
        assert verify(loading.cfg, history, registry, date).out_of_order == ["trade"]
        ask(pg_admin, loading, "UPDATE {s}.trade SET row = row - 1000")
        ask(pg_admin, loading, "UPDATE {s}.quote SET bid_size = 1 WHERE row = 7")
        assert verify(loading.cfg, history, registry, date).wrong == ["quote"]
        with pytest.raises(HistoryError, match="no whole journal"):
            list(rebuild(loading.cfg, history, date))
        with pytest.raises(HistoryError, match="has neither a journal nor a proof"):
            verify(loading.cfg, history, registry, 20200102)
    found: list[Evidence] = []
    (loading.cfg.plant.data_dir / "proofs" / f"{date}.json").write_text("{}")
    with pytest.raises(HistoryError, match="can't be read"):
        list(gather(loading.cfg, registry.instruments.hashes, date, found))


def test_a_date_the_hdb_has_not_finished_is_not_verified(loading, pg_admin):
    date = loading.roll()
    with (
        connect(loading.cfg)[0] as history,
        pytest.raises(HistoryError, match="has not finished .* yet; see: tickplant status"),
    ):
        verify(loading.cfg, history, RegistryReader(loading.cfg.registry_dir), date)
    assert loading.prove(date).complete
