"""A table at its declared end: nothing is lost, and everyone is told what to raise."""

import threading

import pytest

from tests.fix_plant import crashed, rows_of, until
from tickplant.clock import date_after
from tickplant.local import connect
from tickplant.table import SharedTable


def limited(site, rows):
    """The configuration with so many trades at most in shared memory."""
    tables = site.configured().content["tables"]
    return site.configured(tables={"trade": tables["trade"] | {"max_rows": rows}})


@pytest.fixture
def full(site):
    """A plant that has 8,000 trades in its journal and room for 5,000 of them, and its feed."""
    plant = site.ticker_plant(limited(site, 5000))
    raw = site.raw_feed(plant)
    raw.send(raw.define(1, "A"))
    for _ in range(80):
        raw.send(raw.trades(100, 1))
    raw.settle()
    return plant, raw


def test_a_table_at_its_declared_end_keeps_nothing_from_the_journal_and_the_latest_values(full):
    plant, _ = full
    local = connect(plant.config.plant.name)
    assert len(rows_of(plant.config, plant.day.trading_date, "trade")) == 8000
    assert len(local.table("trade")) == 5000
    until(lambda: local.table("trade").behind == 3000, turning=plant.turn)
    assert local.latest("trade")["XTST:A"]["trade_id"] == 7999
    said = plant.status()["degraded"]
    assert "trade (3,000 rows)" in said
    assert "raise tables.trade.max_rows and restart the ticker plant" in said


def test_after_the_roll_readers_get_the_rows_beyond_from_the_journal_and_the_next_date_has_room(full):
    plant, raw = full
    first = plant.day.trading_date
    follower = iter(connect(plant.config.plant.name).table("trade").follow())
    got = next(follower)["trade_id"].tolist()
    assert len(got) == 5000
    plant.roll(date_after(first))
    shared = SharedTable(plant.config.plant.name, first, "trade")
    assert (shared.short, shared.sealed, shared.behind) == (True, False, 3000)
    raw.send(raw.trades(100, 1))
    raw.settle()
    while len(got) < 8100:
        batch = next(follower)
        assert batch.trading_date == (first if len(got) < 8000 else date_after(first))
        got += batch["trade_id"].tolist()
    assert got == list(range(8100))
    assert not plant.finished._late
    assert plant.status()["degraded"] is None


def test_a_higher_end_and_a_restart_bring_the_rows_also_to_readers_that_are_there(site, full):
    plant, raw = full
    got = []
    follower = iter(connect(site.name).table("trade").follow())
    got += next(follower)["trade_id"].tolist()
    crashed(plant)
    again = raw.plant = site.ticker_plant(limited(site, 20_000))
    raw.send(raw.trades(100, 1))
    raw.settle()
    turning = threading.Event()

    def read():
        while len(got) < 8100:
            got.extend(next(follower)["trade_id"].tolist())
        turning.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    until(turning.is_set, turning=again.turn)
    assert got == list(range(8100))
    assert again.status()["degraded"] is None
