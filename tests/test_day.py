"""Trading dates: what belongs to which, sealing and rolling, and starting again after any of it."""

import os
import threading
from datetime import datetime

import msgpack
import pytest

from tests.fix_plant import check_claims, crashed, events, journaled, rows_of
from tickplant import segment, wire
from tickplant.clock import TradingCalendar, as_int, date_after, now_ns
from tickplant.day import read_seal
from tickplant.errors import FrameError, JournalError, SchemaError
from tickplant.journal import segments
from tickplant.tickerplant import TickerPlant


def ids(cfg, date):
    return rows_of(cfg, date, "trade")["trade_id"].tolist()


def seal_of(cfg, date):
    head, payload = journaled(cfg, date)[-1]
    assert head.kind == wire.SEAL
    return read_seal(payload)


def test_rows_before_and_after_a_roll_are_in_their_dates_and_the_session_goes_on(plant, raw):
    cfg, first = plant.config, plant.day.trading_date
    raw.send(raw.define(1, "A"), raw.trades(3, 1))
    raw.settle()
    plant.roll(date_after(first))
    raw.send(raw.trades(4, 1))
    raw.settle()
    second = plant.day.trading_date
    assert second == date_after(first)
    assert ids(cfg, first) == [0, 1, 2]
    assert ids(cfg, second) == [3, 4, 5, 6]
    assert set(rows_of(cfg, second, "trade")["instrument"]) == {1}
    assert len(events(cfg, first, "session")) == 1
    assert events(cfg, second, "session") == []
    check_claims(plant)


def test_a_seal_has_rows_and_claims_of_its_date_alone(plant, raw):
    cfg, first = plant.config, plant.day.trading_date
    raw.send(raw.trades(3))
    raw.settle()
    plant.roll(date_after(first))
    raw.send(raw.trades(4), raw.trades(1))
    raw.settle()
    plant.roll(date_after(plant.day.trading_date))
    one, two = seal_of(cfg, first), seal_of(cfg, date_after(first))
    assert (one["rows"]["trade"], two["rows"]["trade"]) == (3, 5)
    assert one["claims"][1]["trade"][0] == 3
    assert two["claims"][1]["trade"][0] == 5
    assert one["claims"][0]["event"][0] == one["rows"]["event"]
    total = (one["claims"][1]["trade"][1] + two["claims"][1]["trade"][1]) % 2**64
    assert total == raw.sums["trade"]


def test_what_was_sent_during_a_roll_is_in_the_next_date(plant, raw):
    first = plant.day.trading_date
    raw.send(raw.trades(3))
    raw.settle()
    raw.send(raw.trades(2))
    plant.roll(date_after(first))
    raw.settle()
    assert ids(plant.config, first) == [0, 1, 2]
    assert ids(plant.config, plant.day.trading_date) == [3, 4]


def test_a_gap_over_a_roll_is_filled_into_the_next_date(plant, raw):
    first = plant.day.trading_date
    raw.send(raw.trades(1))
    raw.settle()
    raw.mute = True
    raw.trades(2)
    raw.send(raw.trades(2))
    raw.settle(lambda: raw.asked)
    plant.roll(date_after(first))
    raw.mute = False
    raw.answer(raw.asked[0])
    raw.settle()
    assert ids(plant.config, first) == [0]
    assert ids(plant.config, plant.day.trading_date) == [1, 2, 3, 4]
    check_claims(plant)


def test_what_the_old_date_had_is_acknowledged_after_the_roll(plant, raw):
    raw.send(raw.trades(3))
    raw.settle()
    plant.roll(date_after(plant.day.trading_date))
    raw.settle(lambda: (raw.session, 3) in raw.acknowledged)
    assert raw.acknowledged[-1] == (raw.session, 3)


@pytest.mark.parametrize("gentle", [True, False])
def test_a_restart_in_the_middle_of_the_day_goes_on_where_it_was(site, plant, raw, gentle):
    cfg, date = plant.config, plant.day.trading_date
    raw.send(raw.define(1, "A"), raw.define(2, "B"), raw.trades(3, 1), raw.trades(2, 2))
    raw.settle()
    (plant.close if gentle else lambda: crashed(plant))()
    again = site.ticker_plant(cfg)
    assert again.day.trading_date == date
    raw.plant = again
    raw.send(raw.trades(2, 2))
    raw.settle()
    assert ids(cfg, date) == list(range(7))
    assert rows_of(cfg, date, "trade")["instrument"].tolist() == [1] * 3 + [2] * 4
    check_claims(again)


@pytest.mark.parametrize("gentle", [True, False])
def test_a_restart_right_after_a_roll_goes_on_where_it_was(site, plant, raw, gentle):
    cfg, first = plant.config, plant.day.trading_date
    raw.send(raw.define(1, "A"), raw.trades(3, 1))
    raw.settle()
    plant.roll(date_after(first))
    (plant.close if gentle else lambda: crashed(plant))()
    again = site.ticker_plant(cfg)
    assert again.day.trading_date == date_after(first)
    raw.plant = again
    raw.send(raw.trades(2, 1))
    raw.settle()
    assert ids(cfg, date_after(first)) == [3, 4]
    assert rows_of(cfg, date_after(first), "trade")["instrument"].tolist() == [1, 1]
    assert events(cfg, date_after(first), "gap") == []
    check_claims(again)


def test_a_crash_right_after_a_seal_begins_the_next_date(site, plant, raw):
    cfg, first = plant.config, plant.day.trading_date
    raw.send(raw.define(1, "A"), raw.trades(3, 1))
    raw.settle()
    plant.day.seal()
    crashed(plant)
    again = site.ticker_plant(cfg)
    assert again.day.trading_date == date_after(first)
    raw.plant = again
    raw.send(raw.trades(2, 1))
    raw.settle()
    assert seal_of(cfg, first)["rows"]["trade"] == 3
    assert [h.kind for h, _ in journaled(cfg, first)].count(wire.SEAL) == 1
    assert ids(cfg, date_after(first)) == [3, 4]
    check_claims(again)


def cut(journal, how):
    """Leave of a date that has just begun what a crash at some point of its beginning leaves."""
    (journal / "durable").unlink(missing_ok=True)
    (path,) = segments(journal)
    data = path.read_bytes()
    first = wire.HEADER_SIZE + wire.header(data).size
    keep = {"nothing": 0, "part of its segment frame": first - 9, "its segment frame": first}
    if how == "no file":
        path.unlink()
    else:
        path.write_bytes(data[: keep.get(how, len(data) - 5)])


CUTS = ["no file", "nothing", "part of its segment frame", "its segment frame", "part of its state frame"]


@pytest.mark.parametrize("days_later", [0, 3])
@pytest.mark.parametrize("left", CUTS)
def test_a_roll_that_a_crash_cut_short_is_finished_and_no_row_comes_again(
    site, plant, raw, monkeypatch, left, days_later
):
    cfg, first = plant.config, plant.day.trading_date
    raw.send(raw.define(1, "A"), raw.trades(3, 1))
    raw.settle()
    plant.roll(date_after(first))
    crashed(plant)
    cut(cfg.journal_dir / str(date_after(first)), left)
    real = TradingCalendar.date_at
    later = days_later * 86_400_000_000_000
    monkeypatch.setattr(TradingCalendar, "date_at", lambda self, at: real(self, at + later))
    again = site.ticker_plant(cfg)
    raw.plant = again
    raw.say("hello", session=raw.session, seq=raw.seq)
    raw.send(raw.trades(2, 1))
    raw.settle()
    date = again.day.trading_date
    assert date == max(date_after(first), again.day.today(now_ns()))
    assert ids(cfg, first) == [0, 1, 2]
    assert ids(cfg, date) == [3, 4]
    assert rows_of(cfg, date, "trade")["instrument"].tolist() == [1, 1]
    assert events(cfg, date, "session") == []
    for path in cfg.journal_dir.iterdir():  # whoever goes from date to date gets to this one
        assert int(path.name) == date or journaled(cfg, int(path.name))[-1][0].kind == wire.SEAL
    check_claims(again)


@pytest.mark.parametrize("left", CUTS)
def test_the_first_date_of_all_may_be_cut_short_too(site, plant, raw, left):
    cfg, date = plant.config, plant.day.trading_date
    crashed(plant)
    cut(cfg.journal_dir / str(date), left)
    again = site.ticker_plant(cfg)
    raw.plant = again
    raw.send(raw.trades(2))
    raw.settle()
    assert ids(cfg, date) == [0, 1]
    check_claims(again)


def test_a_plant_that_was_down_over_two_rolls_seals_and_goes_on_today(site, cfg, monkeypatch):
    real = TradingCalendar.date_at
    day = 86_400_000_000_000
    monkeypatch.setattr(TradingCalendar, "date_at", lambda self, at: real(self, at - 2 * day))
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    raw.send(raw.define(1, "A"), raw.trades(3, 1))
    raw.settle()
    old = plant.day.trading_date
    crashed(plant)
    monkeypatch.undo()
    raw.trades(2, 1)
    again = site.ticker_plant(cfg)
    today = as_int(cfg.calendar.date_at(now_ns()))
    assert again.day.trading_date == today == date_after(date_after(old))
    raw.plant = again
    raw.send(raw.trades(2, 1))
    raw.settle()
    assert seal_of(cfg, old)["rows"]["trade"] == 3
    assert ids(cfg, old) == [0, 1, 2]
    assert ids(cfg, today) == [3, 4, 5, 6]
    assert again.day.newest() == today
    check_claims(again)


def test_the_clock_rolls_the_day(site, cfg, monkeypatch):
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    raw.send(raw.trades(3))
    raw.settle()
    first = plant.day.trading_date
    midnight = cfg.calendar.next_roll_ns(now_ns())
    monkeypatch.setattr("tickplant.tickerplant.now_ns", lambda: midnight - 1)
    raw.send(raw.trades(1))
    raw.settle()
    assert plant.day.trading_date == first
    monkeypatch.setattr("tickplant.tickerplant.now_ns", lambda: midnight)
    raw.settle(lambda: plant.day.trading_date == date_after(first))
    raw.send(raw.trades(1))
    raw.settle()
    for _ in range(3):
        plant.turn()
    assert plant.day.trading_date == date_after(first)
    assert ids(cfg, first) == [0, 1, 2, 3]
    assert ids(cfg, date_after(first)) == [4]


def test_the_clock_does_not_roll_a_day_that_the_operator_has_ended(site, cfg, monkeypatch):
    plant = site.ticker_plant(cfg)
    tomorrow = date_after(plant.day.trading_date)
    midnight = cfg.calendar.next_roll_ns(now_ns())
    plant.roll(tomorrow)
    monkeypatch.setattr("tickplant.tickerplant.now_ns", lambda: midnight)
    plant._housekeep_ns = 0
    plant.turn()
    assert plant.day.trading_date == tomorrow


def test_a_clock_that_goes_back_does_not_take_the_day_back(site, cfg, monkeypatch):
    plant = site.ticker_plant(cfg)
    date = plant.day.trading_date
    plant.close()
    real = TradingCalendar.date_at
    monkeypatch.setattr(TradingCalendar, "date_at", lambda s, at: real(s, at - 10**15))
    assert site.ticker_plant(cfg).day.trading_date == date


def test_another_schema_has_to_wait_for_the_next_day(site, plant, cfg):
    date = plant.day.trading_date
    plant.close()
    tables = dict(cfg.content["tables"])
    tables["more"] = {"columns": {"x": "i8"}}
    changed = site.configured(tables=tables)
    refused = TickerPlant(changed)
    with pytest.raises(SchemaError, match=str(date)):
        refused.open()
    for lock in refused._locks:
        lock.release()
    again = site.ticker_plant(site.configured())
    again.roll(date_after(date))
    assert again.day.trading_date == date_after(date)


def test_shared_memory_that_the_journal_does_not_know_is_made_anew(site, plant, raw):
    cfg, date = plant.config, plant.day.trading_date
    raw.send(raw.trades(3))
    raw.settle()
    crashed(plant)
    for path in (cfg.journal_dir / str(date)).iterdir():
        path.unlink()
    again = site.ticker_plant(cfg)
    raw.plant = again
    raw.send(raw.beat())
    raw.settle()
    assert ids(cfg, date) == [0, 1, 2]
    check_claims(again)


def test_shared_memory_that_was_lost_is_made_from_the_journal(site, plant, raw):
    cfg = plant.config
    raw.send(raw.define(1, "A"), raw.trades(3, 1))
    raw.settle()
    crashed(plant)
    for name in segment.names(f"tp.{cfg.plant.name}."):
        segment.remove(name)
    again = site.ticker_plant(cfg)
    assert list(again.registry.instruments) == ["XTST:A"]
    check_claims(again)


def test_a_torn_tail_is_cut_and_told(site, plant, raw):
    cfg, date = plant.config, plant.day.trading_date
    raw.send(raw.trades(3))
    raw.settle()
    crashed(plant)
    last = segments(cfg.journal_dir / str(date))[-1]
    whole = last.stat().st_size
    with last.open("ab") as file:
        file.write(raw.trades(2)[:-1])
    again = site.ticker_plant(cfg)
    raw.plant = again
    raw.send(raw.beat())
    raw.settle()
    rows = rows_of(cfg, date, "event")
    (told,) = rows[rows["kind"] == b"torn"]["text"].tolist()
    assert b"bytes of a torn tail" in told
    assert (last.parent / f"{last.stem}.{whole}.torn").exists()
    assert ids(cfg, date) == list(range(5))
    check_claims(again)


def test_segments_of_the_journal_are_one_journal(site):
    cfg = site.configured(tickerplant={"segment_bytes": 1 << 17})
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    for _ in range(60):
        raw.send(raw.trades(100))
        raw.settle()
    crashed(plant)
    again = site.ticker_plant(cfg)
    assert len(segments(cfg.journal_dir / str(again.day.trading_date))) > 3
    assert ids(cfg, again.day.trading_date) == list(range(6000))
    check_claims(again)


def test_closing_a_journal_waits_for_the_sync_that_is_on(plant, raw, monkeypatch):
    raw.send(raw.trades(3))
    raw.settle()
    journal = plant.day.journal
    entered, go_on, failed = threading.Event(), threading.Event(), []
    real = os.fdatasync

    def slow(fd):
        if threading.current_thread().name == "slow":
            entered.set()
            go_on.wait()
        real(fd)

    def sync():
        try:
            journal.sync()
        except (OSError, JournalError) as e:
            failed.append(e)

    monkeypatch.setattr("tickplant.journal.os.fdatasync", slow)
    syncing = threading.Thread(target=sync, name="slow")
    closing = threading.Thread(target=journal.close)
    syncing.start()
    entered.wait()
    closing.start()
    closing.join(0.05)
    go_on.set()
    syncing.join()
    closing.join()
    assert failed == []
    assert journal.durable == journal.position


@pytest.mark.parametrize("wrong", [{}, {"rows": {}}, {"rows": [], "claims": {}}])
def test_a_seal_that_says_nothing_is_refused(wrong):
    with pytest.raises(FrameError):
        read_seal(msgpack.packb(wrong))


@pytest.mark.parametrize(("zone", "roll", "instants"), [
    ("Europe/Berlin", "02:30", {"2027-03-27T01:30Z": 20270327, "2027-03-28T01:30Z": 20270328}),  # left out
    ("Europe/Berlin", "02:30", {"2027-10-31T00:30Z": 20271031, "2027-11-01T01:30Z": 20271101}),  # twice
    ("America/New_York", "17:00", {"2027-03-13T22:00Z": 20270314, "2027-03-14T21:00Z": 20270315}),
    ("America/New_York", "17:00", {"2027-11-06T21:00Z": 20271107, "2027-11-07T22:00Z": 20271108}),
])  # fmt: skip
def test_over_a_change_of_the_hour_each_date_begins_once_and_when_it_should(
    site, monkeypatch, zone, roll, instants
):
    (_, first), (_, second) = begins = [
        (int(datetime.fromisoformat(at).timestamp()) * 1_000_000_000, date) for at, date in instants.items()
    ]
    step, now = 600_000_000_000, [begins[0][0] - 3_600_000_000_000]
    monkeypatch.setattr("tickplant.tickerplant.now_ns", lambda: now[0])
    plant = site.ticker_plant(site.configured(plant={"timezone": zone, "roll": roll}))
    raw = site.raw_feed(plant)
    begun = {plant.day.trading_date: now[0]}
    while now[0] < begins[1][0] + 3_600_000_000_000:
        now[0] += step
        plant._housekeep_ns = 0
        raw.send(raw.trades(1))
        raw.settle()
        begun.setdefault(plant.day.trading_date, now[0])
    assert [*begun][1:] == [first, second]
    assert [(at, date) for date, at in begun.items()][1:] == begins
    for date in begun:
        stamped = rows_of(plant.config, date, "trade")["ts_plant"]
        assert {as_int(plant.config.calendar.date_at(int(at))) for at in stamped} == {date}


@pytest.mark.parametrize("hours", [-1, -25, -73])
def test_a_clock_that_is_set_back_over_the_roll_opens_no_date_again(site, cfg, monkeypatch, hours):
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    first, midnight = plant.day.trading_date, cfg.calendar.next_roll_ns(now_ns())
    now = [midnight + 1]
    monkeypatch.setattr("tickplant.tickerplant.now_ns", lambda: now[0])
    raw.send(raw.trades(2))
    raw.settle(lambda: plant.day.trading_date == date_after(first))
    raw.settle()
    now[0] += hours * 3_600_000_000_000
    raw.send(raw.trades(3))
    raw.settle()
    for _ in range(3):
        plant._housekeep_ns = 0
        plant.turn()
    assert plant.day.trading_date == date_after(first)
    plant.close()
    again = raw.plant = site.ticker_plant(cfg)
    assert again.day.trading_date == date_after(first)
    now[0] = cfg.calendar.next_roll_ns(midnight)
    again._housekeep_ns = 0
    raw.send(raw.trades(1))
    raw.settle(lambda: again.day.trading_date == date_after(date_after(first)))
    raw.settle()
    dates = sorted(int(p.name) for p in cfg.journal_dir.iterdir())
    assert dates == [first, date_after(first), date_after(date_after(first))]
    assert [n for d in dates for n in ids(cfg, d)] == list(range(6))
    check_claims(again)
