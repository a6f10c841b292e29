"""Real processes, killed under load: afterwards every row is there, once, and everyone agrees on it."""

import random
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.fix_plant import admin, check_claims, events, killed, rows_of, trades, until
from tickplant import wire
from tickplant.clock import date_after, now_ns
from tickplant.journal import segments
from tickplant.local import wait_for

NAMES = ["A", "B", "C"]


class Load:
    """A feed that publishes trades, numbered on, from a thread of its own."""

    def __init__(self, feed, seed=0):
        self.feed, self.published = feed, 0
        self.codes = np.array([feed.instrument("XTST", s) for s in NAMES])
        self._random, self._stop = random.Random(seed), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.01):
            self.publish(self._random.randint(1, 400))

    def publish(self, count):
        rows = trades(self.feed.config.schema["trade"], self.published, count)
        rows["instrument"] = self.codes[rows["trade_id"] % 3]
        self.feed.append("trade", rows)
        self.published += count

    def more(self, rows):
        """Wait until so many more have been published."""
        upto = self.published + rows
        until(lambda: self.published >= upto)

    def end(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def load(site, cfg):
    made = []

    def start(seed=0):
        made.append(Load(site.feed(cfg), seed))
        return made[-1]

    yield start
    for one in made:
        one.end()


def dates_of(cfg):
    return sorted(int(p.name) for p in cfg.journal_dir.iterdir())


def check_everything(site, cfg, load):
    """All dates together hold exactly what was published, as it was; and the books balance."""
    load.end()
    assert load.feed.drained(30)
    site.processes[-1].terminate()
    assert site.processes[-1].wait() == 0, site.logs()
    parts = [rows_of(cfg, date, "trade") for date in dates_of(cfg)]
    rows = np.concatenate(parts)
    expected = trades(cfg.schema["trade"], 0, load.published)
    for name in ("trade_id", "ts_event", "price", "size", "side"):
        assert rows[name].tobytes() == expected[name].tobytes()
    plant = site.ticker_plant(cfg)
    names = np.array([plant.registry.instruments[n] for n in range(len(plant.registry.instruments))])
    assert (names[rows["instrument"]] == np.array([f"XTST:{s}" for s in NAMES])[rows["trade_id"] % 3]).all()
    assert all(events(cfg, date, "gap") == [] for date in dates_of(cfg))
    check_claims(plant)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_plant_killed_again_and_again_under_load_loses_and_repeats_nothing(site, cfg, load, seed):
    rng = random.Random(seed)
    process = site.run_ticker_plant()
    busy = load(seed)
    reader = wait_for(cfg.plant.name, 10).table("trade")
    before = 0
    for _ in range(4):
        until(lambda before=before: len(reader) > before)
        busy.more(rng.randint(1, 10_000))
        killed(process)
        before = len(reader)  # the mapping that the reader has goes on growing
        process = site.run_ticker_plant()
    until(lambda: len(reader) > before)
    busy.end()
    until(lambda: len(reader) == busy.published)
    assert reader["trade_id"].tobytes() == np.arange(busy.published).tobytes()
    last = reader.rows("XTST:B", 5)["trade_id"].tolist()
    assert last == [n for n in range(busy.published - 20, busy.published) if n % 3 == 1][-5:]
    check_everything(site, cfg, busy)


def eod(cfg):
    asking = admin(cfg, wire.pack("eod"))
    try:
        until(lambda: asking.poll(0))
        return wire.unpack(asking.recv())
    finally:
        asking.close(linger=0)


@pytest.mark.parametrize("seed", [3, 4])
def test_crashes_around_rolls_lose_and_repeat_nothing(site, cfg, load, seed):
    rng = random.Random(seed)
    process = site.run_ticker_plant()
    busy = load(seed)
    asking = []
    for _ in range(6):
        busy.more(rng.randint(1, 5_000))
        if rng.random() < 0.6:
            asking.append(admin(cfg, wire.pack("eod")))  # whether it is answered or not
            busy.more(rng.choice([1, 50, 3000]))
        killed(process)
        process = site.run_ticker_plant()
    for one in asking:
        one.close(linger=0)
    answer = eod(cfg)
    assert answer["trading_date"] == date_after(answer["sealed"])
    assert len(dates_of(cfg)) > 1
    check_everything(site, cfg, busy)


def test_a_feed_may_begin_before_the_plant_and_after_it_is_gone(site, cfg, load):
    busy = load()
    busy.more(3000)
    process = site.run_ticker_plant()
    busy.more(3000)
    killed(process)
    busy.more(3000)
    site.run_ticker_plant()
    check_everything(site, cfg, busy)


def test_the_clock_rolls_a_plant_under_load(site, load):
    at = datetime.now(UTC) + timedelta(seconds=3)
    cfg = site.configured(plant={"roll": at.strftime("%H:%M:%S")})
    roll_ns = cfg.calendar.next_roll_ns(now_ns())
    assert roll_ns - now_ns() < 10_000_000_000
    site.run_ticker_plant()
    local = wait_for(cfg.plant.name, 10)
    first = local.trading_date
    busy = Load(site.feed(cfg))
    try:
        until(lambda: local.trading_date != first)
        busy.more(2000)
        assert local.trading_date == date_after(first)
        check_everything(site, cfg, busy)
    finally:
        busy.end()
    before, after = (rows_of(cfg, d, "trade")["ts_plant"] for d in dates_of(cfg))
    assert len(before)
    assert before.max() < after.min()
    assert after.min() >= roll_ns
    assert before.max() < roll_ns


def test_a_torn_tail_after_a_crash_is_told_in_an_event_row(site, cfg, load):
    process = site.run_ticker_plant()
    busy = load()
    busy.more(2000)
    killed(process)
    (date,) = dates_of(cfg)
    with segments(cfg.journal_dir / str(date))[-1].open("ab") as file:
        file.write(b"PT" + bytes(150))
    site.run_ticker_plant()
    check_everything(site, cfg, busy)
    rows = rows_of(cfg, date, "event")
    assert (rows["kind"] == b"torn").sum() == 1


def test_a_second_process_is_refused_and_the_first_goes_on(site, cfg, load):
    site.run_ticker_plant()
    busy = load()
    for _ in range(2):
        second = site.run("run", "tickerplant")
        assert second.wait(30) == 69
        assert "another ticker plant" in site.logs()
        busy.more(1000)
    site.processes.append(site.processes.pop(0))
    check_everything(site, cfg, busy)


def test_a_crash_while_recovering_is_recovered_from(site, cfg, load):
    process = site.run_ticker_plant()
    busy = load()
    busy.more(10_000)
    killed(process)
    for pause in (0.2, 0.3, 0.4):  # somewhere in its start
        process = site.run("run", "tickerplant")
        time.sleep(pause)
        killed(process)
    site.run_ticker_plant()
    busy.more(100)
    check_everything(site, cfg, busy)
