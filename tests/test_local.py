"""Readers on the same host: arrays, waiting, following, over rolls, and what is not there."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.fix_plant import rows_of, trades, until
from tickplant import Feed, connect, segment
from tickplant.batch import Waiting
from tickplant.clock import date_after
from tickplant.errors import ConfigError, NotRunning, RequestError, RowsGone, SchemaError
from tickplant.local import wait_for
from tickplant.table import segment_name


@pytest.fixture
def filled(plant, raw):
    """A plant with two instruments and 50 trades of them in turn."""
    raw.send(raw.define(1, "A"), raw.define(2, "B"))
    raw.settle()
    for n in range(10):
        raw.send(raw.trades(5, 1 + n % 2))
    raw.settle()
    return plant


@pytest.fixture
def local(filled):
    return connect(filled.config)


def test_columns_rows_and_journal_are_the_same(filled, local):
    table = local.table("trade")
    rows = rows_of(filled.config, filled.day.trading_date, "trade")
    assert len(table) == 50
    assert table.packed(0, 50).tobytes() == rows.tobytes()
    for name in rows.dtype.names:
        assert table[name].tobytes() == np.ascontiguousarray(rows[name]).tobytes()
    frame = table.frame()
    assert list(frame) == list(rows.dtype.names)
    assert {len(c) for c in frame.values()} == {50}
    expected = trades(filled.config.schema["trade"], 0, 50)
    assert table["price"].tobytes() == expected["price"].tobytes()


def test_nothing_can_be_written_through_a_reader(local):
    table = local.table("trade")
    for column in (table["price"], table.frame()["size"]):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            column.flags.writeable = True


def test_views_that_are_held_stay_what_they_were(filled, raw, local):
    table = local.table("trade")
    held = table["trade_id"]
    raw.send(raw.trades(5, 1))
    raw.settle()
    filled.roll(date_after(filled.day.trading_date))
    segment.remove(segment_name(filled.config.plant.name, table.trading_date, "trade"))
    assert held.tolist() == list(range(50))
    assert len(table) == 55
    assert table.sealed


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 51), (50, 1), (0, -1), (2**40, 1)])
def test_rows_beyond_what_is_there_are_refused(local, first, count):
    with pytest.raises(IndexError):
        local.table("trade").packed(first, count)


def test_the_last_rows_of_an_instrument(local):
    table = local.table("trade")
    for name, number, parity in (("XTST:A", 1, 0), ("XTST:B", 2, 1)):
        mine = [n for n in range(50) if n // 5 % 2 == parity]
        for last in (0, 1, 7, 25, 26, 10**9):
            batch = table.rows(name, last)
            assert batch["trade_id"].tolist() == mine[len(mine) - last if last < 25 else 0 :]
            assert batch.numbers.tolist() == batch["trade_id"].tolist()
            assert table.rows(number, last)["trade_id"].tolist() == batch["trade_id"].tolist()
    assert len(table.rows(0, 5)) == 0
    assert len(table.rows(99, 5)) == 0


def test_the_latest_values(local):
    latest = local.latest("trade")
    assert latest["XTST:A"]["trade_id"] == 44
    assert latest["XTST:B"]["trade_id"] == 49
    assert sorted(latest.snapshot()["trade_id"].tolist()) == [44, 49]
    with pytest.raises(KeyError):
        _ = local.latest("quote")["XTST:A"]
    assert len(local.latest("quote").snapshot()["instrument"]) == 0


def test_instruments_are_up_to_date_at_each_look(raw, local):
    assert list(local.instruments) == ["XTST:A", "XTST:B"]
    raw.send(raw.define(3, "C"))
    raw.settle()
    assert list(local.instruments) == ["XTST:A", "XTST:B", "XTST:C"]
    assert local.instruments[3] == "XTST:C"
    assert local.instruments.number("XTST:C") == 3


def test_what_is_not_there(filled, local):
    with pytest.raises(NotRunning):
        connect("no_such_plant")
    with pytest.raises(ConfigError):
        connect(str(filled.config.plant.data_dir / "none.toml"))
    with pytest.raises(NotRunning):
        wait_for("no_such_plant", 0.01)
    with pytest.raises(SchemaError):
        local.table("nonsense")
    with pytest.raises(SchemaError):
        local.latest("nonsense")
    with pytest.raises(NotRunning):
        local.latest("order")
    with pytest.raises(NotRunning):
        local.table("trade", 20010101)
    with pytest.raises(SchemaError):
        local.table("trade").rows("XTST:NONE")
    with pytest.raises(SchemaError):
        _ = local.latest("trade")["NONE"]
    with pytest.raises((KeyError, SchemaError)):
        _ = local.table("trade")["nonsense"]


def test_a_plant_is_found_by_name_and_by_file_and_says_how_it_is(filled):
    filled.turn()
    for how in (filled.config, filled.config.plant.name, str(filled.config.path)):
        found = connect(how)
        assert found.trading_date == filled.day.trading_date
        assert found.state == "running"
    assert wait_for(filled.config.plant.name, 0.01).state == "running"
    filled.close()
    assert found.state == "stopped"


def test_waiting_ends_with_rows_with_time_and_with_the_day(filled, raw, local):
    table = local.table("trade")
    assert table.wait(49) == 50
    assert table.wait(50, timeout=0.01) == 50
    woken = []
    for action in (
        lambda: raw.send(raw.trades(5, 1)),
        lambda: filled.roll(date_after(filled.day.trading_date)),
    ):
        waiting = threading.Thread(target=lambda: woken.append(table.wait(len(table))))
        waiting.start()
        action()
        raw.settle()
        until(lambda thread=waiting: not thread.is_alive(), turning=filled.turn)
    assert woken == [55, 55]


def following(table, count, **options):
    """Batches that follow gives until there are so many rows, read in a thread of its own."""
    got, done = [], threading.Event()

    def read():
        for batch in table.follow(**options):
            got.append(batch)
            if sum(len(b) for b in got) >= count:
                break
        done.set()

    threading.Thread(target=read, daemon=True).start()
    return got, done


def ids_of(got):
    return [i for b in got for i in b["trade_id"].tolist()]


def test_following_gives_every_row_of_every_date_in_order(filled, raw, local):
    dates = [filled.day.trading_date]
    got, done = following(local.table("trade"), 90, max_rows=7)
    late, late_done = following(local.table("trade"), 50, from_row=40)
    for _ in range(4):
        raw.send(raw.trades(5, 1), raw.trades(5, 2))
        raw.settle()
        filled.roll(date_after(dates[-1]))
        dates.append(filled.day.trading_date)
    until(lambda: done.is_set() and late_done.is_set(), turning=filled.turn)
    assert ids_of(got) == list(range(90))
    assert ids_of(late) == list(range(40, 90))
    assert max(len(b) for b in got) <= 7
    assert [d for d in dict.fromkeys(b.trading_date for b in got)] == dates[:4]
    for batch in got:
        start = batch.first_row + (
            0 if batch.trading_date == dates[0] else 60 + 10 * (dates.index(batch.trading_date) - 1)
        )
        assert batch["trade_id"][0] == start


def test_a_follower_that_was_away_over_several_rolls_misses_no_date(filled, raw, local):
    date = filled.day.trading_date
    table = local.table("trade")
    for _ in range(3):
        raw.send(raw.trades(5, 1))
        raw.settle()
        date = date_after(date)
        filled.roll(date)
    raw.send(raw.trades(5, 1))
    raw.settle()
    got, done = following(table, 20, from_row=50)
    until(done.is_set)
    assert ids_of(got) == list(range(50, 70))


def test_tables_of_a_date_before_are_there_as_long_as_they_are_kept(filled, raw, local):
    first = filled.day.trading_date
    filled.roll(date_after(first))
    assert local.trading_date == date_after(first)
    assert len(local.table("trade")) == 0
    assert len(local.table("trade", first)) == 50
    assert local.latest("trade")["XTST:B"]["trade_id"] == 49
    raw.send(raw.trades(5, 2))
    raw.settle()
    assert local.latest("trade")["XTST:B"]["trade_id"] == 54
    assert local.table("trade").rows("XTST:B", 9)["trade_id"].tolist() == [50, 51, 52, 53, 54]


def dropped(plant, date):
    """Have the plant do what it does when a date is proven: drop its tables."""
    proofs = plant.config.plant.data_dir / "proofs"
    proofs.mkdir(exist_ok=True)
    (proofs / f"{date}.json").write_text('{"complete": true}')
    plant.finished.tidy(plant.day.trading_date)
    with pytest.raises(NotRunning):
        connect(plant.config).table("trade", date)


def rolled(plant, raw, times):
    """Roll so often, with ten trades on each date; all dates, the open one last."""
    dates = [plant.day.trading_date]
    for _ in range(times):
        plant.roll(date_after(dates[-1]))
        dates.append(plant.day.trading_date)
        raw.send(raw.trades(5, 1), raw.trades(5, 2))
        raw.settle()
    return dates


def test_a_follower_that_slept_over_dates_that_were_dropped_reads_them_in_the_journal(filled, raw, local):
    follower = local.follow("trade")
    begun = follower.next(5.0)
    dates = rolled(filled, raw, 3)
    for date in dates[:-1]:
        dropped(filled, date)
    got = [begun]
    while sum(len(b) for b in got) < 80:
        got.append(follower.next(5.0))
    assert ids_of(got) == list(range(80))
    assert [*dict.fromkeys(b.trading_date for b in got)] == dates


@pytest.mark.parametrize("row", [0, 17, 50])
def test_who_comes_back_to_a_date_that_was_dropped_goes_on_in_its_journal(filled, raw, local, row):
    dates = rolled(filled, raw, 2)
    dropped(filled, dates[0])
    follower = local.follow("trade", row, dates[0], max_rows=3)
    got = []
    while sum(len(b) for b in got) < 70 - row:
        got.append(follower.next(5.0))
    assert ids_of(got) == list(range(row, 70))
    assert all(len(b) <= 3 for b in got)
    assert follower.next(0.01) is None


def test_a_date_whose_journal_is_gone_too_is_an_error_that_says_where_its_rows_are(filled, raw, local):
    follower = local.follow("trade")
    assert len(follower.next(5.0)) == 50
    dates = rolled(filled, raw, 2)
    dropped(filled, dates[1])
    shutil.rmtree(filled.config.journal_dir / str(dates[1]))
    where = f"{dates[1]}.*PostgreSQL: SELECT \\* FROM {filled.config.plant.name}.trade WHERE trading_date"
    with pytest.raises(RowsGone, match=where):
        until(lambda: follower.next(0.01))
    with pytest.raises(RowsGone, match=where):
        local.follow("trade", 0, dates[1])


def test_a_follower_that_can_not_see_the_journals_goes_on_if_no_date_was_between(
    filled, raw, local, monkeypatch
):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tickplant.follower.trading_dates", refuse)
    follower = local.follow("trade", 45)
    dates = rolled(filled, raw, 1)
    got = []
    while sum(len(b) for b in got) < 15:
        got.append(follower.next(5.0))
    assert ids_of(got) == list(range(45, 60))
    rolled(filled, raw, 2)
    with pytest.raises(RowsGone, match=f"{dates[1]} is over.*can't be told.*Permission denied"):
        until(lambda: follower.next(0.01))


def test_a_date_that_has_not_begun_can_not_be_followed(local):
    with pytest.raises(NotRunning):
        local.follow("trade", 0, 20991231)
    with pytest.raises(SchemaError):
        local.follow("nonsense")


def test_a_follower_gives_up_when_nothing_comes_in_time(local):
    follower = local.follow("trade", 50)
    assert follower.next(0.01) is None
    assert (follower.trading_date, follower.row) == (local.trading_date, 50)


def test_a_follower_of_a_table_without_rows_sleeps_until_some_come(filled, raw, local, monkeypatch):
    follower = local.follow("quote")
    monkeypatch.setattr(follower, "_wait_for_room", lambda: pytest.fail("it polls for the table"))
    assert follower.next(0.01) is None
    assert len(local.follow("trade").next(5.0)) == 50


def test_tables_batches_and_latest_values_become_data_frames(filled, local):
    table = local.table("trade")
    df = table.pandas()
    assert len(df) == 50
    assert len(df[df.side == "B"]) == 25
    assert set(df.instrument) == {"XTST:A", "XTST:B"}
    assert table.frame().pandas().equals(df)
    assert table.arrow().num_rows == table.polars().height == 50
    assert table.rows("XTST:A", last=2).pandas().trade_id.tolist() == [43, 44]
    latest = local.latest("trade")
    assert latest.pandas().set_index("instrument").trade_id.to_dict() == {"XTST:A": 44, "XTST:B": 49}
    assert latest.polars().height == latest.arrow().num_rows == 2
    batch = local.follow("trade").next(5)
    assert set(batch.pandas().instrument) == {"XTST:A", "XTST:B"}


def test_arrow_shows_shared_memory_itself_without_a_copy(local):
    table = local.table("trade")
    address = table.arrow()["price"].chunk(0).buffers()[1].address
    assert address == table["price"].ctypes.data


def test_what_a_reader_has_prints_itself_readably(filled, local):
    shown = repr(local)
    assert shown.startswith(f"plant {local.name} (running), trading date {filled.day.trading_date}")
    assert any(line.split()[:3] == ["trade", "50", "rows"] for line in shown.splitlines())
    assert "2 instruments" in shown
    table = repr(local.table("trade"))
    assert table.startswith(f"table trade of {filled.day.trading_date}: 50 rows")
    assert "XTST:B" in table
    assert "..." in table
    assert repr(local.latest("trade")).startswith("latest values of table trade: 2 rows")
    assert repr(local.instruments) == "Instruments: 2: XTST:A, XTST:B"
    assert repr(local.follow("trade")) == f"follower of table trade, at row 0 of {filled.day.trading_date}"
    said = repr(filled.config)
    assert said.startswith(
        f"configuration {filled.config.path}: plant {local.name}, tables instrument, event"
    )
    assert said.endswith("feeds one, two")


def test_a_wrong_name_says_which_there_are(filled, raw, local):
    table = local.table("trade")
    with pytest.raises(KeyError, match="no column 'pricee' in table trade of .*; did you mean price"):
        _ = table["pricee"]
    with pytest.raises(KeyError, match="did you mean price"):
        _ = table.frame()["pricee"]
    with pytest.raises(SchemaError, match="no table 'trad'; did you mean trade.*declared are instrument"):
        local.table("trad")
    raw.send(raw.define(3, "ACME"))
    raw.settle()
    with pytest.raises(SchemaError, match="'ACME' is a symbol without a venue; the plant has XTST:ACME"):
        table.rows("ACME")
    with pytest.raises(SchemaError, match="NONE:ACME; other venues have it: XTST:ACME"):
        table.rows("NONE:ACME")
    with pytest.raises(SchemaError, match="did you mean XTST:ACME"):
        table.rows("XTST:ACMEE")
    with pytest.raises(SchemaError, match="write VENUE:SYMBOL"):
        table.rows("nothing like it")


LOCAL_NONSENSE = [
    (lambda p: p.follow("trade", from_row="5"), "from_row is '5'; it has to be a whole number"),
    (lambda p: p.follow("trade", from_row=2**64), "from_row is 18446744073709551616"),
    (lambda p: p.follow("trade", from_row={"trade": 5}), "from_row is {'trade': 5}"),
    (lambda p: p.follow("trade", max_rows=0), "max_rows is 0"),
    (lambda p: p.follow("trade", trading_date="20260105"), "a trading date is a number yyyymmdd"),
    (lambda p: p.follow(["trade"]), "a table is asked for by its name"),
    (lambda p: p.table("trade", "2026-01-05"), "a trading date is a number yyyymmdd.*not '2026-01-05'"),
    (lambda p: p.table("trade", 20260231), "a trading date is a number yyyymmdd"),
    (lambda p: p.table(3), "a table is asked for by its name"),
    (lambda p: p.latest(b"trade"), "a table is asked for by its name"),
    (lambda p: p.gaps("today"), "a trading date is a number yyyymmdd"),
    (lambda p: p.table("trade").rows(-1), "instrument is -1; it has to be a whole number.*or VENUE:SYMBOL"),
    (lambda p: p.table("trade").rows(2**64), "instrument is 18446744073709551616"),
    (lambda p: p.table("trade").rows(1.5), "instrument is 1.5"),
    (lambda p: p.table("trade").rows("XTST:A", last=-1), "last is -1"),
    (lambda p: p.table("trade").rows("XTST:A", last="5"), "last is '5'"),
    (lambda p: p.table("trade").packed("0", 1), "first_row is '0'"),
    (lambda p: p.table("trade").packed(0, 2**64), "count is 18446744073709551616"),
    (lambda p: p.table("trade").wait("5"), "after_row is '5'"),
    (lambda p: p.table("trade").wait(-1), "after_row is -1"),
    (lambda p: p.table("trade").follow(from_row="x"), "from_row is 'x'"),
]


@pytest.mark.parametrize(("ask", "what"), LOCAL_NONSENSE)
def test_nonsense_is_refused_at_the_door_with_what_is_allowed(local, ask, what):
    with pytest.raises(RequestError, match=what):
        ask(local)


def test_a_follower_begins_so_many_rows_before_now(filled, raw, local):
    assert local.follow("trade", from_row=-3).next(5)["trade_id"].tolist() == [47, 48, 49]
    assert local.follow("trade", from_row=-1000).next(5)["trade_id"][0] == 0
    now = local.follow("trade", from_row=None)
    raw.send(raw.trades(2, 1))
    raw.settle()
    assert now.next(5)["trade_id"].tolist() == [50, 51]


def test_a_row_that_is_not_there_yet_is_waited_for_and_said(filled, raw, local, caplog):
    follower = local.follow("trade", from_row=52)
    assert follower.next(0.01) is None
    (notice,) = follower.notices
    assert notice == Waiting("trade", filled.day.trading_date, 52, 50)
    assert str(notice) in caplog.text
    raw.send(raw.trades(4, 1))
    raw.settle()
    batch = follower.next(5)
    assert batch["trade_id"].tolist() == [52, 53]
    assert batch.notices == (notice,)
    assert follower.notices == ()


def test_a_follower_of_a_plant_that_is_away_says_so_once_and_when_it_is_back(filled, raw, local, caplog):
    follower = local.follow("trade")
    assert len(follower.next(5)) == 50
    filled.control.own(0)  # as a ticker plant that has stopped
    assert follower.next(0.01) is follower.next(0.01) is None
    assert [r.message for r in caplog.records if "is stopped; trade waits at row 50" in r.message] == [
        caplog.records[-1].message
    ]
    filled.control.own(os.getpid())
    assert follower.next(0.01) is None
    assert "is running" in caplog.records[-1].message


def test_rows_of_another_plant_of_the_name_are_not_taken_for_those_that_follow(filled, local):
    follower = local.follow("trade")
    assert len(follower.next(5)) == 50
    follower._identity = "0" * 32  # the plant that was read so far
    with pytest.raises(
        RequestError, match="is another one now: .*not 00000000, whose rows of trade were read to row 50"
    ):
        follower._begin(follower.trading_date, follower.row)


WITHOUT_LEAVE = """
import os, sys
from tickplant import connect
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    connect(sys.argv[1])
except Exception as e:
    print(type(e).__name__, e)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_who_may_not_read_the_plant_is_told_so_and_not_that_it_does_not_run(filled):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LEAVE, filled.config.plant.name],
        cwd=Path(segment.__file__).parents[1], capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith("SegmentError can't open shared memory"), (done.stdout, done.stderr)
    assert "Permission denied; user root and group root may read it" in done.stdout
    assert "usermod -aG root" in done.stdout


def test_a_feed_prints_itself(site, filled):
    feed = Feed(filled.config, "two")
    assert repr(feed) == f"feed two (number 2) of plant {site.name}, not open"
    feed = site.feed(filled.config, "two")
    feed.trade(trade_id=1)
    feed.flush()
    assert repr(feed) == f"feed two (number 2) of plant {site.name}, 1 rows published"
