"""Captures of past days go into their own trading dates: exactly once, whatever is killed."""

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.fix_plant import closed, rows_of, until
from tests.hdb_plant import check_stored, drop
from tickplant import draft, local
from tickplant.backfill import DateTaken, load
from tickplant.clock import as_date
from tickplant.day import LOADED
from tickplant.errors import CaptureError, ConfigError
from tickplant.hdb.loader import connect
from tickplant.hdb.rebuild import rebuild_and_prove
from tickplant.repair import verify

MIDNIGHT_US = 1_762_041_600_000_000  # 2025-11-02T00:00Z
DAY_US = 86_400_000_000
HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


def trades(folder, name, begin_us, count, symbols=("BTCUSDT", "ETHUSDT"), step_us=1_000_000, price=100.0):
    """A file of trades as Tardis sells them."""
    lines = [
        f"binance,{symbols[i % len(symbols)]},{begin_us + i * step_us},{begin_us + i * step_us + 5},{i + 1},"
        f"{'buy' if i % 3 else 'sell'},{price + i / 100},{1 + i % 7}\n"
        for i in range(count)
    ]
    path = folder / name
    path.write_text(HEADER + "".join(lines))
    return path


@pytest.fixture
def days(site):
    """A capture that spans two trading dates: 60 rows of 20251101, 140 of 20251102."""
    return trades(site.folder, "binance_trades.csv", MIDNIGHT_US - 60_000_000, 200)


def prove(cfg, dates):
    """These dates are loaded and proven here, without a plant."""
    said = []
    for date in dates:
        with connect(cfg)[0] as history:
            history.init()
            *_, verdict = rebuild_and_prove(cfg, history, date)
            check_stored(cfg, history, date)
            said.append(verdict.summary())
    return said


def load_beside(loading, *captures, **options):
    """Load while the plant turns in this process."""
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(load, loading.cfg, "one", list(captures), **options)
        until(found.done, turning=loading.plant.turn)
        return found.result()


def test_rows_go_into_the_dates_of_their_times_and_are_proven(loading, days):
    done = load_beside(loading, days)
    assert {d: r["trade"] for d, r in done.rows.items()} == {20251101: 60, 20251102: 140}
    for date in done.rows:
        proof = loading.cfg.plant.data_dir / "proofs" / f"{date}.json"
        loading.until(proof.exists)
        assert json.loads(proof.read_text())["complete"]
        check_stored(loading.cfg, loading.loader.history, date)
        assert verify(loading.cfg.journal_dir / str(date)).sound
        names = {(r["venue"], r["symbol"]) for r in rows_of(loading.cfg, date, "instrument")}
        assert len(names) == 2, "a date's journal stands alone: its instruments are defined in it"
    loading.publish(10, 10)
    loading.until_loaded()
    check_stored(loading.cfg, loading.loader.history, loading.date)


def test_new_instruments_get_the_plants_next_numbers_and_its_readers_see_them(loading, days):
    before = len(loading.plant.registry.instruments)
    load_beside(loading, days)
    load_beside(loading, days)
    assert len(loading.plant.registry.instruments) == before + 2
    names = local.connect(loading.cfg).instruments
    used = {int(n) for n in np.unique(rows_of(loading.cfg, 20251102, "trade")["instrument"])}
    assert used == {before, before + 1}
    assert len({names[n] for n in used}) == 2


def test_local_readers_follow_a_loaded_date_like_any_other(loading, days):
    load_beside(loading, days)
    plant = local.connect(loading.cfg)
    batch = next(iter(plant.follow("trade", from_row=0, trading_date=20251102)))
    assert (batch.trading_date, batch.first_row) == (20251102, 0)
    assert batch["price"][:2].tolist() == [100.6, 100.61]


def test_loading_a_capture_again_replaces_it_and_keeps_what_others_brought(site, hdb_cfg_alone):
    cfg = hdb_cfg_alone
    first = trades(site.folder, "a.csv", MIDNIGHT_US, 50)
    second = trades(site.folder, "b.csv", MIDNIGHT_US + 100_000_000, 30, ("SOLUSDT",))
    load(cfg, "one", [first])
    load(cfg, "one", [second])
    assert len(rows_of(cfg, 20251102, "trade")) == 80
    kept = rows_of(cfg, 20251102, "trade")[:50].copy()
    assert prove(cfg, [20251102])[0].startswith("complete: 83 rows")
    load(cfg, "one", [trades(site.folder, "b.csv", MIDNIGHT_US + 100_000_000, 40, ("SOLUSDT",), price=7.0)])
    rows = rows_of(cfg, 20251102, "trade")
    assert len(rows) == 90
    assert rows[:50].tobytes() == kept.tobytes()
    assert not (cfg.plant.data_dir / "proofs" / "20251102.json").exists()
    assert prove(cfg, [20251102])[0].startswith("complete: 93 rows")
    load(cfg, "one", [first, second])
    assert len(rows_of(cfg, 20251102, "trade")) == 90


def test_what_the_plant_has_journaled_live_is_replaced_only_on_demand(site, loading):
    date = loading.roll()
    begins = loading.cfg.calendar.begins_ns(as_date(date)) // 1000
    day = trades(site.folder, "live.csv", begins, 5)
    with pytest.raises(DateTaken, match=f"{date} is there already: the plant has journaled it live"):
        load_beside(loading, day)
    assert load_beside(loading, day, replace=True).rows[date]["trade"] == 5


def test_the_open_date_is_refused_and_nothing_has_changed(site, loading):
    begins = loading.cfg.calendar.begins_ns(as_date(loading.date)) // 1000
    with pytest.raises(ConfigError, match="is the plant's open date"):
        load_beside(loading, trades(site.folder, "today.csv", begins - 60_000_000, 200))
    assert not list(loading.cfg.journal_dir.glob("*.load"))
    assert [p.name for p in loading.cfg.journal_dir.iterdir()] == [str(loading.date)]


def test_captures_that_can_not_be_told_apart_or_have_no_time_are_refused(site, hdb_cfg_alone):
    (site.folder / "x").mkdir()
    one = trades(site.folder, "a.csv", MIDNIGHT_US, 5)
    two = trades(site.folder / "x", "a.csv", MIDNIGHT_US, 5)
    with pytest.raises(ConfigError, match="the same name"):
        load(hdb_cfg_alone, "one", [one, two])
    junk = site.folder / "junk.bin"
    junk.write_bytes(b"\1\2\3" * 1000)
    with pytest.raises(CaptureError):
        load(hdb_cfg_alone, "one", [junk])
    assert not list(hdb_cfg_alone.journal_dir.glob("2025*"))


@pytest.mark.parametrize("step", ["seal", "exchange", "place"])
def test_a_load_killed_at_any_step_is_whole_or_not_there_and_is_run_again(site, hdb_cfg_alone, days, step):
    cfg = hdb_cfg_alone
    load(cfg, "one", [trades(site.folder, days.name, MIDNIGHT_US, 7)])
    where = {
        "seal": "draft.Draft.seal = lambda self: os.kill(os.getpid(), 9)",
        "exchange": "draft.exchange = lambda a, b: os.kill(os.getpid(), 9)",
        "place": "real = draft.Draft.place; draft.Draft.place = lambda s: (real(s), os.kill(os.getpid(), 9))",
    }[step]
    path = trades(site.folder, days.name, MIDNIGHT_US - 60_000_000, 200)
    code = (
        "import os; from pathlib import Path; from tickplant import backfill, config, draft; " + where +
        f"; backfill.load(config.load(Path({str(cfg.path)!r})), 'one', [Path({str(path)!r})])"
    )  # fmt: skip
    process = site.python("-c", code)
    assert process.wait(60) == -signal.SIGKILL
    there = {int(p.name) for p in cfg.journal_dir.iterdir() if p.name.isdigit()}
    rows = len(rows_of(cfg, 20251102, "trade"))
    assert rows == 7
    assert there == ({20251102} if step == "seal" else {20251101, 20251102})
    load(cfg, "one", [path])
    assert len(rows_of(cfg, 20251102, "trade")) == 140
    assert prove(cfg, [20251101, 20251102]) == ["complete: 62 rows", "complete: 142 rows"]
    assert not list(cfg.journal_dir.glob("*.load"))


def test_a_plant_that_starts_after_a_load_begins_today_and_not_from_the_past(site, hdb_cfg_alone, days):
    cfg = hdb_cfg_alone
    load(cfg, "one", [days])
    plant = site.ticker_plant(cfg)
    assert plant.day.trading_date > 20251102
    assert plant.day.intake.session(1) == (0, 0)
    feed = site.raw_feed(plant, 1)
    feed.send(feed.define(1, "S1"), feed.trades(3, 1))
    feed.settle()
    closed(plant)


def test_a_loaded_date_is_kept_for_as_many_days_as_if_it_were_of_that_day(site, loading, days):
    load_beside(loading, days)
    for date in (20251101, 20251102):
        loading.until((loading.cfg.plant.data_dir / "proofs" / f"{date}.json").exists)
    loading.plant.finished.tidy(loading.date)
    assert (loading.cfg.journal_dir / "20251102").exists()
    os.utime(loading.cfg.journal_dir / "20251102" / LOADED, (0, 0))
    loading.plant.finished.tidy(loading.date)
    assert not (loading.cfg.journal_dir / "20251102").exists()
    assert (loading.cfg.journal_dir / "20251101").exists()


def test_the_command_loads_beside_a_plant_and_its_hdb(site, loading, days):
    loading.turn()
    process = site.run("load", str(days), "--feed", "two")
    loading.until(lambda: process.poll() is not None)
    said = site.logs()
    assert process.returncode == 0, said
    assert "20251101: complete: 62 rows" in said
    assert "20251102: complete: 142 rows" in said
    again = site.run("load", str(days))
    assert again.wait(60) == 78
    assert "say with --feed whose number the rows bear" in site.logs()


def test_two_folders_exchange_their_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "one").touch()
    draft.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "one").exists()
    with pytest.raises(OSError, match="No such file"):
        draft.exchange(tmp_path / "a", tmp_path / "c")
    shutil.rmtree(tmp_path / "a")


@pytest.fixture
def hdb_cfg_alone(site, postgres, pg_admin):
    """A plant that does not run, with a history."""
    yield site.configured(hdb={"dsn": postgres.dsn, "chunk_ms": 0})
    drop(pg_admin, site.name)
