"""The ticker plant: alone, acknowledging what is durable, serving its operator, tidying what is proven."""

import json
import os

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fix_plant import admin, check_claims, crashed, events, rows_of, sealed, until
from tests.test_ingress import SAME_PLANT
from tickplant import segment, wire
from tickplant.clock import date_after
from tickplant.control import Control
from tickplant.errors import AlreadyRunning, ConfigError, JournalError
from tickplant.journal import durable_position, segments
from tickplant.tickerplant import TickerPlant


def asked(plant, *parts):
    """The answer of a running ticker plant to an operator."""
    socket = admin(plant.config, *parts)
    until(lambda: socket.poll(0), turning=plant.turn)
    answer = wire.unpack(socket.recv())
    socket.close(linger=0)
    return answer


def test_a_second_ticker_plant_is_refused_and_takes_nothing(site, cfg, plant, raw):
    elsewhere = site.configured(plant={"data_dir": str(site.folder / "other")})
    other_name = site.configured(plant={"name": "other" + site.name})
    for _ in range(2):
        for config in (cfg, elsewhere, other_name):
            with pytest.raises(AlreadyRunning):
                TickerPlant(config)
    assert not segment.names(f"tp.other{site.name}.c")
    raw.send(raw.trades(3))
    raw.settle()
    assert plant.day.intake.session(1) == (raw.session, 3)
    plant.close()
    site.ticker_plant(cfg)
    (segment.SHM / f"tp.other{site.name}.lock").unlink(missing_ok=True)


def test_acknowledged_is_only_what_is_on_disk(plant, raw, monkeypatch):
    monkeypatch.setattr(plant._syncer, "want", lambda day: None)
    raw.send(raw.trades(3))
    raw.settle()
    for _ in range(5):
        plant._housekeep_ns = 0
        plant.turn()
    assert plant._marks[-1][1][1] == (raw.session, 3)
    assert plant.ingress.feeds[1].acknowledged == (0, 0)
    assert plant.control.durable.load() < plant.control.written.load()
    plant.day.journal.sync()
    raw.settle(lambda: raw.acknowledged)
    assert raw.acknowledged == [(raw.session, 3)]
    assert plant.control.durable.load() == plant.control.written.load()


@pytest.mark.parametrize("durability", ["none", "group", "always"])
def test_rows_are_acknowledged_whatever_the_durability(site, durability):
    plant = site.ticker_plant(site.configured(tickerplant={"durability": durability}))
    raw = site.raw_feed(plant)
    raw.send(raw.trades(3))
    raw.settle(lambda: raw.acknowledged and raw.acknowledged[-1] == (raw.session, 3))
    if durability == "always":
        assert plant.day.journal.durable == plant.day.journal.position


@pytest.mark.parametrize(
    ("durability", "acknowledged", "left"), [("none", True, 0), ("group", False, 0), ("always", True, 3)]
)
@pytest.mark.parametrize("end", ["killed", "power cut"])
def test_each_durability_keeps_what_the_readme_says(site, monkeypatch, durability, acknowledged, left, end):
    """The worst that the power may do: nothing of what is not synced is there. `group` has not synced yet."""
    cfg = site.configured(tickerplant={"durability": durability})
    plant = site.ticker_plant(cfg)
    monkeypatch.setattr(plant._syncer, "want", lambda journal: None)
    raw = site.raw_feed(plant)
    raw.send(raw.trades(3))
    raw.settle()
    assert next(t for t in plant.day.tables if t.table.name == "trade").committed.load() == 3
    for _ in range(5):
        plant._housekeep_ns = 0
        plant.turn()
    if acknowledged:
        raw.settle(lambda: raw.acknowledged)
    assert raw.acknowledged == [(raw.session, 3)] * acknowledged
    date, folder = plant.day.trading_date, plant.day.journal.folder
    crashed(plant)
    if end == "power cut":
        os.truncate(segments(folder)[-1], durable_position(folder))
    site.ticker_plant(cfg)
    assert len(rows_of(cfg, date, "trade")) == (3 if end == "killed" else left)


def test_a_feed_that_says_hello_is_told_again(plant, raw):
    raw.send(raw.trades(3))
    raw.settle(lambda: raw.acknowledged)
    raw.acknowledged.clear()
    raw.say("hello", session=raw.session, seq=raw.seq)
    raw.settle(lambda: raw.acknowledged)
    assert raw.acknowledged == [(raw.session, 3)]


def test_a_disk_that_can_not_sync_ends_the_plant(plant, raw, monkeypatch):
    def broken(fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("tickplant.journal.os.fdatasync", broken)
    raw.send(raw.trades(3))
    with pytest.raises(JournalError, match="Input/output"):
        raw.settle(lambda: False)


def test_the_operator_can_end_the_day(plant, raw):
    raw.send(raw.trades(3))
    raw.settle()
    today = plant.day.trading_date
    answer = asked(plant, wire.pack("eod"))
    assert answer == {"op": "rolled", "sealed": today, "trading_date": date_after(today)}
    assert plant.control.date.load() == date_after(today)
    assert len(rows_of(plant.config, today, "trade")) == 3
    assert asked(plant, wire.pack("eod"))["trading_date"] == date_after(date_after(today))


@pytest.mark.parametrize(
    "parts", [[b""], [b"x"], [wire.pack("stop")], [sealed(msgpack.packb([1]))], [b"a", b"b", b"c"]]
)
def test_what_is_no_command_gets_an_error(plant, raw, parts):
    assert asked(plant, *parts)["op"] == "error"
    raw.send(raw.trades(1))
    raw.settle()


@SAME_PLANT
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=3))
def test_random_commands_are_survived(plant, parts):
    assert asked(plant, *parts)["op"] == "error"


def test_a_disk_that_fails_at_the_end_of_the_day_ends_the_plant(plant, monkeypatch):
    def full(*_, **__):
        raise JournalError("full")

    monkeypatch.setattr(plant.day, "seal", full)
    socket = admin(plant.config, wire.pack("eod"))
    with pytest.raises(JournalError, match="full"):
        until(lambda: False, turning=plant.turn)
    socket.close(linger=0)


def test_a_plant_that_stops_says_so_and_what_it_took_is_on_disk(cfg, plant, raw):
    seen = Control.attach(cfg.plant.name)
    plant.turn()
    assert seen.pid.load() == os.getpid()
    assert seen.state() == "running"
    raw.send(raw.trades(3))
    raw.settle()
    plant.close()
    assert seen.state() == "stopped"
    assert seen.durable.load() == seen.written.load() == plant.day.journal.durable


def test_events_of_the_plant_are_rows_like_any_other(plant, raw):
    text = "ä" * 200
    plant.report("test", about=1, session=2**64 - 1, first=2**64 - 1, last=5, text=text)
    raw.send(raw.trades(1))
    raw.settle()
    big = 2**63 - 1
    assert events(plant.config, plant.day.trading_date, "test") == [(1, big, big, 5)]
    check_claims(plant)


def test_endpoints_that_can_not_be_had_are_refused(site):
    cfg = site.configured(tickerplant={"ingress": "tcp://192.0.2.1:7010"})
    plant = TickerPlant(cfg)
    with pytest.raises(ConfigError, match="plaintext"):
        plant.open()
    crashed(plant)


def test_the_status_counts_rows_and_feeds(plant, raw):
    raw.send(raw.trades(3))
    raw.settle()
    status = plant.status()
    assert status["rows"]["trade"] == 3
    assert status["feeds"]["one"]["next_seq"] == 3
    assert status["feeds"]["one"]["connected"]
    assert not status["feeds"]["two"]["connected"]
    json.dumps(status)
