"""A date is rebuilt by the hdb that runs, when it is asked; and by itself when its journal is another one."""

import json
import shutil

import psycopg
import pytest
from psycopg import sql

from tests.fix_plant import until
from tests.hdb_plant import check_stored
from tickplant import repair
from tickplant.hdb import requests
from tickplant.hdb.evidence import sealed_at
from tickplant.journal import segments


def meddle(admin, loading):
    spoil = sql.SQL("DELETE FROM {}.trade WHERE row = 7").format(sql.Identifier(loading.cfg.plant.name))
    admin.execute(spoil)


def test_the_hdb_rebuilds_a_date_when_it_is_asked_and_loads_on(loading, pg_admin):
    date = loading.roll()
    assert loading.prove(date).complete
    meddle(pg_admin, loading)
    loading.publish(10, 10)
    requests.ask(loading.cfg, date)
    loading.until(lambda: not requests.is_waiting(loading.cfg, date))
    check_stored(loading.cfg, loading.loader.history, date)
    loading.publish(10, 10)
    loading.until_loaded()
    check_stored(loading.cfg, loading.loader.history, loading.date)


def test_the_command_has_the_running_hdb_do_it(loading, site, pg_admin):
    date = loading.roll()
    assert loading.prove(date).complete
    meddle(pg_admin, loading)
    done = site.run("hdb", "load", "--date", f"{date // 10000}-{date // 100 % 100:02}-{date % 100:02}")
    loading.until(lambda: done.poll() is not None)
    assert done.returncode == 0
    assert f"{date}: complete: 164 rows" in (site.folder / "log.0").read_text()
    check_stored(loading.cfg, loading.loader.history, date)


def test_a_request_that_comes_to_nothing_says_why_and_the_hdb_goes_on(loading, site):
    done = site.run("hdb", "load", "--date", "20200102")
    loading.until(lambda: done.poll() is not None)
    assert done.returncode == 69
    assert "there is no whole journal of 20200102" in (site.folder / "log.0").read_text()
    loading.until_loaded()
    assert loading.loader.waiting is None


def test_a_request_made_again_while_it_is_done_is_done_again(loading):
    date = loading.roll()
    first = requests.ask(loading.cfg, date)
    again = requests.ask(loading.cfg, date)
    requests.done(loading.cfg, date, first)
    assert requests.wanted(loading.cfg) == [(date, again)]
    requests.done(loading.cfg, date, again)
    assert requests.wanted(loading.cfg) == []


@pytest.mark.parametrize("away", [True, False])
def test_after_a_repair_of_the_open_date_the_hdb_begins_it_anew(site, loading, pg_admin, away):
    """The hdb may be stopped meanwhile, or run on: it has the old files open then."""
    loading.until_loaded()
    cfg, date = loading.cfg, loading.date
    if away:
        loading.loader.close()
    loading.plant.close()
    path = segments(cfg.journal_dir / str(date))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "repaired" in repair.repair(cfg.journal_dir / str(date), accept_loss=True)
    plant = site.ticker_plant(cfg)
    loading.plant = plant
    if away:
        loading.loader = type(loading.loader)(cfg)
        loading.loader.open()

    def turn():
        plant.turn()
        loading.loader.turn()

    until(
        lambda: (
            not loading.loader.waiting
            and loading.loader.history.progress(date).position == plant.day.journal.position
        ),
        turning=turn,
    )
    lost = sql.SQL("SELECT count(*) FROM {}.event_view WHERE kind = 'lost'").format(sql.Identifier(site.name))
    assert pg_admin.execute(lost).fetchone() == (1,)
    check_stored(cfg, loading.loader.history, date)


def test_a_sealed_date_whose_journal_is_another_is_rebuilt_by_itself(loading, pg_admin):
    date = loading.roll()
    assert loading.prove(date).complete
    folder = loading.cfg.journal_dir / str(date)
    ask = sql.SQL("UPDATE {}.progress SET last_crc = 7").format(sql.Identifier(loading.cfg.plant.name))
    pg_admin.execute(ask)
    meddle(pg_admin, loading)
    (loading.cfg.plant.data_dir / "proofs" / f"{date}.json").unlink()
    loading.until_loaded() if loading.loader._reader is None else loading.loader._drop_reader()
    loading.until(lambda: (loading.cfg.plant.data_dir / "proofs" / f"{date}.json").exists())
    assert sealed_at(folder)[1]
    check_stored(loading.cfg, loading.loader.history, date)


def test_a_journal_that_is_damaged_is_waited_for_and_says_what_to_type(loading):
    date = loading.roll()
    folder = loading.cfg.journal_dir / str(date)
    path = segments(folder)[0]
    good = path.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    path.write_bytes(bad)
    loading.until(lambda: loading.loader.waiting)
    assert "tickplant journal verify" in loading.loader.status()["waiting"]
    path.write_bytes(good)
    assert loading.prove(date).complete


def test_a_disk_without_room_for_the_proof_is_waited_for(loading, monkeypatch):
    from tickplant.hdb import proof

    real, full = proof._store, [True]

    def store(folder, verdict, evidence):
        if full:
            raise OSError(28, "No space left on device", str(folder))
        real(folder, verdict, evidence)

    monkeypatch.setattr(proof, "_store", store)
    date = loading.roll()
    loading.until(lambda: loading.loader.waiting)
    said = loading.loader.status()["waiting"]
    assert "proofs: No space left on device; make room there (df -h " in said
    full.clear()
    assert loading.prove(date).complete
    assert json.loads((loading.cfg.plant.data_dir / "proofs" / f"{date}.json").read_text())["complete"]


def test_a_lock_in_postgresql_is_told_with_its_holder_and_no_turn_takes_long(loading, postgres, pg_admin):
    loading.until_loaded()
    name = sql.Identifier(loading.cfg.plant.name, f"trade_{loading.date}")
    with psycopg.connect(postgres.dsn, application_name="an analyst") as other:
        other.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name))
        loading.publish(10, 10)
        loading.until(lambda: loading.loader.waiting)
        said = loading.loader.status()["waiting"]
        assert f"process {other.info.backend_pid} (user tickplant, an analyst, idle in transaction" in said
        assert f"pg_terminate_backend({other.info.backend_pid})" in said
    loading.until_loaded()
    check_stored(loading.cfg, loading.loader.history, loading.date)


def test_a_claim_beyond_bigint_does_not_stop_history(loading, pg_admin):
    date = loading.roll()
    verdict = loading.prove(date)
    record = verdict.records[0]
    history = loading.loader.history
    huge = type(record)(**{**vars(record), "published": (1 << 64) - 1, "missing": 1 << 63})
    history.store_proof([huge])
    assert history.proofs(date)[0].published == (1 << 64) - 1
    assert history.proofs(date)[0].missing == 1 << 63


def test_no_request_lies_there_when_all_is_done(loading):
    date = loading.roll()
    assert loading.prove(date).complete
    shutil.rmtree(requests.folder(loading.cfg), ignore_errors=True)
    assert requests.wanted(loading.cfg) == []
