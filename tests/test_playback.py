"""Captures that a feed publishes: each row once, whatever ended the feed before, however often it starts."""

import os
import signal
import subprocess
import sys

import itch_messages as itch
import pytest

from tests.fix_plant import rows_of, until
from tickplant.errors import CaptureError
from tickplant.feed import handlers
from tickplant.feed.resume import Published, identity, same

HEADER = "id,price,qty,quote_qty,time,is_buyer_maker\n"


def written(path, lines, first=1):
    """A capture with so many trades; the size of each is its number."""
    made = [f"{i},100.5,{i},1,{1735689600000 + i},true\n" for i in range(first, first + lines)]
    path.write_text(HEADER + "".join(made))
    return path


@pytest.fixture
def capture(tmp_path):
    return written(tmp_path / "BTCUSDT-trades-2025-01-01.csv", 1000)


def configured(site, path, tickerplant=None, **options):
    feed = {"id": 7, "handler": "capture", "options": {"path": str(path), **options}}
    return site.configured(feeds={"mine": feed}, tickerplant=tickerplant or {})


def published(cfg, plant):
    """Run the feed to its end, and the plant until it has all; the sizes of all trades of the day."""
    feed, run = handlers.prepare(cfg, "mine")
    feed.open()
    run()
    count = feed.rows_published
    if count:
        until(lambda: plant.day.intake.session(7) == (feed.session, count), turning=plant.turn)
    feed.close(0.0)
    plant.commit()
    return sizes(cfg, plant), count


def sizes(cfg, plant):
    return rows_of(cfg, plant.day.trading_date, "trade")["size"].tolist()


def test_a_capture_that_is_published_is_not_published_again(site, capture, caplog):
    cfg = configured(site, capture)
    plant = site.ticker_plant(cfg)
    assert published(cfg, plant) == ([float(i) for i in range(1, 1001)], 1001)
    with caplog.at_level("INFO"):
        again, count = published(cfg, plant)
    assert (len(again), count) == (1000, 0)
    assert "all of its 1,001 rows are published already" in caplog.text


def test_a_feed_that_is_stopped_goes_on_where_it_was(site, capture, monkeypatch):
    monkeypatch.setattr("tickplant.feed.files.columns_read.BLOCK", 2000)
    cfg = configured(site, capture)
    plant = site.ticker_plant(cfg)
    feed, run = handlers.prepare(cfg, "mine")
    feed.open()
    monkeypatch.setattr(feed, "beat", lambda: feed.rows_published > 300 and feed.stopping.set())
    run()
    before = feed.rows_published
    assert 300 < before < 1000
    until(lambda: plant.day.intake.session(7) == (feed.session, before), turning=plant.turn)
    feed.close(0.0)
    assert published(cfg, plant)[0] == [float(i) for i in range(1, 1001)]
    assert len(rows_of(cfg, plant.day.trading_date, "instrument")) == 2  # each session defines what it uses


def test_what_came_behind_the_end_of_a_capture_is_published(site, capture):
    cfg = configured(site, capture)
    plant = site.ticker_plant(cfg)
    published(cfg, plant)
    with capture.open("a") as file:
        file.write("1001,100.5,1001,1,1735689601001,true\n")
    assert published(cfg, plant)[0] == [float(i) for i in range(1, 1002)]


def test_another_capture_of_that_name_begins_anew_and_says_why(site, capture):
    cfg = configured(site, capture)
    plant = site.ticker_plant(cfg)
    published(cfg, plant)
    written(capture, 5, first=5000)
    assert published(cfg, plant)[0][1000:] == [5000.0, 5001.0, 5002.0, 5003.0, 5004.0]
    events = rows_of(cfg, plant.day.trading_date, "event")
    told = events[events["kind"] == b"anew"]["text"].tolist()
    assert len(told) == 1
    assert told[0].startswith(b"BTCUSDT-trades-2025-01-01.csv from its beginning: its ")


def test_captures_that_take_turns_are_each_published_once(site, tmp_path):
    paths = [written(tmp_path / f"{name}-trades-2025-01-01.csv", 10, first) for name, first in
             (("BTCUSDT", 1), ("ETHUSDT", 101))]  # fmt: skip
    plant = site.ticker_plant(configured(site, paths[0]))
    for path in (paths[0], paths[1], paths[0], paths[1]):
        got = published(configured(site, path), plant)[0]
    assert got == [*map(float, range(1, 11)), *map(float, range(101, 111))]


def test_a_capture_is_published_again_if_that_is_asked_for(site, capture):
    cfg = configured(site, capture, again=True)
    plant = site.ticker_plant(cfg)
    for times in (1, 2):
        assert len(published(cfg, plant)[0]) == 1000 * times


def test_rows_of_several_tables_go_on_in_their_order(site, tmp_path):
    path = tmp_path / "12302019.itch"
    path.write_bytes(itch.file(itch.one_of_each() * 20))
    cfg = configured(site, path)
    plant = site.ticker_plant(cfg)
    published(cfg, plant)
    tables = ("trade", "order", "quote", "status", "event")
    before = {t: len(rows_of(cfg, plant.day.trading_date, t)) for t in tables}
    assert published(cfg, plant)[1] == 0
    assert {t: len(rows_of(cfg, plant.day.trading_date, t)) for t in tables} == before


RUN = """
import sys
from tickplant import config
from tickplant.feed import handlers, outbox
real, left = outbox.Outbox.append, [int(sys.argv[2])]
def append(self, *arguments):
    import os, signal
    if left[0] == 0 and sys.argv[3] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, *arguments)
    if left[0] == 0 and sys.argv[3] == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
outbox.Outbox.append = append
from pathlib import Path
from tickplant.feed.files import columns_read
columns_read.BLOCK = 3000
feed, run = handlers.prepare(config.load(Path(sys.argv[1])), "mine")
with feed:
    run()
    feed.drained(30)
"""


@pytest.mark.parametrize(("moment", "followed"), [("before", True), ("after", True), ("before", False)])
def test_a_feed_that_is_killed_again_and_again_publishes_each_row_once(site, capture, moment, followed):
    cfg = configured(site, capture, tickerplant={"follow_outboxes": followed})
    plant = site.ticker_plant(cfg)
    killed = 0
    for frames in range(40):
        run = [sys.executable, "-c", RUN, str(cfg.path), str(frames % 4), moment]
        feed = subprocess.Popen(run, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        until(lambda feed=feed: feed.poll() is not None, turning=plant.turn)
        if feed.returncode == 0:
            break
        assert feed.returncode == -signal.SIGKILL
        killed += 1
    assert killed > 5
    assert feed.returncode == 0
    until(lambda: len(sizes(cfg, plant)) >= 1000 and not plant.turn(), turning=plant.turn)
    plant.commit()
    assert sizes(cfg, plant) == [float(i) for i in range(1, 1001)]
    events = rows_of(cfg, plant.day.trading_date, "event")
    assert b"gap" not in events["kind"].tolist()


def test_a_damaged_note_is_told_and_the_capture_begins_anew(tmp_path, capture):
    (tmp_path / "capture").write_bytes(b"\xc1")
    known = Published(tmp_path, (0, 0))
    assert known.rows(identity(capture, {})) == 0
    assert "can't be read" in known.anew


def test_rows_behind_those_of_something_else_can_not_be_told(tmp_path, capture):
    this = identity(capture, {})
    Published(tmp_path, (0, 0)).begin(this, 10, 0, 2)
    assert [Published(tmp_path, (10, seq)).rows(this) for seq in (0, 2, 3, 500)] == [0, 0, 1, 498]
    assert Published(tmp_path, (9, 77)).rows(this) == 0
    other = Published(tmp_path, (11, 5))
    assert (other.rows(this), other.anew) == (0, "something else was published through this outbox since")


def test_a_capture_is_known_by_its_bytes_and_its_options(tmp_path, capture):
    one = identity(capture, {"venue": "X"})
    assert same(one, identity(capture, {"venue": "X"}))
    assert not same(one, identity(capture, {"venue": "Y"}))
    assert not same({}, one)
    with pytest.raises(CaptureError, match="can't read"):
        identity(tmp_path / "none", {})
