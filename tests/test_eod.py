"""Ending a trading date: once, however often and by however many it is asked for."""

import threading

import pytest

from tickplant.cli.dates import TRADING_DATE
from tickplant.clock import date_after
from tickplant.control import Control
from tickplant.eod import end_of_day, open_date
from tickplant.errors import NotRunning, TickplantError


@pytest.fixture
def live(site, cfg):
    """A plant that runs in a process of its own."""
    site.run_ticker_plant()
    return cfg


def test_of_many_that_end_a_date_at_once_one_ends_it(live):
    date, answers = open_date(live)[0], []
    asking = [threading.Thread(target=lambda: answers.append(end_of_day(live, date=date))) for _ in range(8)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    expected = {"op": "rolled", "sealed": date, "trading_date": date_after(date)}
    assert answers == [expected] * 8
    assert open_date(live)[0] == date_after(date)
    assert sorted(p.name for p in live.journal_dir.glob("2*")) == [str(date), str(date_after(date))]


def test_a_date_that_is_ended_stays_as_it_is(live):
    date = open_date(live)[0]
    assert end_of_day(live)["sealed"] == date
    sealed = {p: p.read_bytes() for p in (live.journal_dir / str(date)).glob("*.tpj")}
    for _ in range(3):
        assert end_of_day(live, date=date)["trading_date"] == date_after(date)
    assert {p: p.read_bytes() for p in (live.journal_dir / str(date)).glob("*.tpj")} == sealed


def test_without_a_date_the_one_that_is_open_ends(live):
    date = open_date(live)[0]
    assert [end_of_day(live)["sealed"] for _ in range(2)] == [date, date_after(date)]


def test_a_date_rolled_early_is_known_to_be_yet_to_come(live):
    date, early = open_date(live)
    assert not early
    end_of_day(live)
    assert open_date(live) == (date_after(date), True)


def test_a_date_that_has_not_begun_can_not_be_ended(live):
    date = open_date(live)[0]
    with pytest.raises(TickplantError, match=f"{date_after(date)} has not begun, {date} is open"):
        end_of_day(live, date=date_after(date))
    assert Control.attach(live.plant.name).date.load() == date


def test_a_plant_that_has_stopped_ends_no_date(live, site):
    assert end_of_day(live, stop=True)["trading_date"] == 0
    assert site.processes[0].wait(30) == 0
    with pytest.raises(NotRunning, match="stopped; see: tickplant status"):
        end_of_day(live, stop=True)


@pytest.mark.parametrize("date", [20200102, 20260101])
def test_a_date_that_never_was_is_refused_with_the_one_that_is_open(live, date):
    now = open_date(live)[0]
    with pytest.raises(TickplantError, match=f"{date} was never a trading date .* eod --date {now}"):
        end_of_day(live, date=date)
    assert open_date(live)[0] == now


@pytest.mark.parametrize("text", ["99", "20261301", "2026-1-1", "today", "٢٠٢٦١٢٠١", "20261201x", ""])
def test_what_is_no_date_is_a_wrong_use_of_every_command(site, cfg, text):
    for command in (["eod", "--date", text], ["hdb", "load", "--date", text], ["hdb", "verify", text]):
        process = site.run(*command)
        assert process.wait(60) == 2, site.logs()
    assert (
        site.logs().count("write it as 20261201 or 2026-12-01") + site.logs().count("there is no date") == 3
    )


@pytest.mark.parametrize("text", ["20261201", "2026-12-01"])
def test_a_date_is_read_in_both_ways_of_writing_it(text):
    assert TRADING_DATE.convert(text, None, None) == 20261201
