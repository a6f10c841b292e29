"""Changing the tables: an edit of the configuration, and the end of a date between."""

import copy
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from tests.counting_feed import published
from tests.fix_plant import closed, events, journaled, killed, rows_of, trades, until, wait_for
from tests.hdb_plant import check_stored
from tickplant import config, subscribe, wire
from tickplant.batch import TableChanged
from tickplant.clock import date_after
from tickplant.config import Config
from tickplant.eod import end_of_day
from tickplant.errors import NotRunning, SchemaError
from tickplant.tickerplant import TickerPlant


def edited(cfg: Config, edit) -> Config:
    content = copy.deepcopy(dict(cfg.content))
    edit(content["tables"])
    return Config(content, cfg.path)


def with_a_column(tables) -> None:
    tables["trade"]["columns"]["yield_pct"] = "f8"


def with_a_table_before(tables) -> None:
    old = dict(tables)
    tables.clear()
    tables["auction"] = {"columns": {"price": "f8"}}
    tables.update(old)


@pytest.mark.parametrize("edit", [with_a_column, with_a_table_before])
def test_after_a_sealed_date_the_next_begins_with_other_tables(site, plant, raw, edit):
    cfg, first = plant.config, plant.day.trading_date
    raw.send(raw.define(1, "A"), raw.trades(3, 1))
    raw.settle()
    session = plant.day.intake.session(1)
    plant.commit()
    plant.day.seal()
    closed(plant)
    again = site.ticker_plant(edited(cfg, edit))
    assert again.day.trading_date == date_after(first)
    assert again.day.intake.session(1) == session
    assert memoryview(bytes(again.day.intake.codes(1))).cast("I")[1] == 1
    assert len(rows_of(cfg, first, "trade")) == 3
    assert [h.kind for h, _ in journaled(again.config, again.day.trading_date)][:2] == [
        wire.SEGMENT,
        wire.STATE,
    ]


def test_claims_of_a_table_that_got_another_number_go_on(site, plant, raw):
    cfg = plant.config
    raw.send(raw.trades(3))
    raw.settle()
    plant.commit()
    plant.day.seal()
    closed(plant)
    again = site.ticker_plant(edited(cfg, with_a_table_before))
    number = again.config.schema["trade"].number
    assert number == cfg.schema["trade"].number + 1
    assert again.day.intake.counters(1)[number][0] == 3


def test_a_date_that_is_not_over_keeps_its_tables(site, plant, raw):
    cfg = plant.config
    raw.send(raw.trades(3))
    raw.settle()
    closed(plant)
    refused = TickerPlant(edited(cfg, with_a_column))
    with pytest.raises(SchemaError, match="eod --stop"):
        refused.open()
    for lock in refused._locks:
        lock.release()


def test_a_new_table_in_a_new_plant_is_an_edit_and_nothing_else(site):
    plant = site.ticker_plant(edited(site.configured(), with_a_table_before))
    assert plant.config.schema["auction"].number == 1
    assert Path(f"/dev/shm/tp.{site.name}.{plant.day.trading_date}.auction").exists()


def without_quotes(tables) -> None:
    tables["quote"] = False


def both(tables) -> None:
    with_a_table_before(tables)
    with_a_column(tables)


class Going:
    """A plant and its publisher in processes of their own, a feed in this one, and changes of tables."""

    def __init__(self, site):
        self.site, self.cfg = site, site.configured()
        self.published = 0
        self.closing = ExitStack()
        self.plant = site.run_ticker_plant()
        self.publisher = site.run("run", "publisher")
        self.feed = site.feed(self.cfg)
        self.code = self.feed.instrument("XTST", "A")
        self.local = wait_for(site.name, 30)
        self.first = self.local.trading_date

    @property
    def endpoint(self):
        return self.cfg.publisher.request

    def publish(self, count):
        rows = trades(self.cfg.schema["trade"], self.published, count, self.code)
        self.published += count
        self.feed.append("trade", rows)
        self.feed.flush()
        assert self.feed.drained(30)

    def stop(self):
        """The end of a date in good order, before the tables change."""
        self.feed.close()
        end_of_day(self.cfg, stop=True)
        assert self.plant.wait(30) == 0

    def change(self, edit):
        """The plant starts again, with other tables."""
        content = msgspec.toml.decode((self.site.folder / "plant.toml").read_bytes())
        edit(content["tables"])
        (self.site.folder / "plant.toml").write_bytes(msgspec.toml.encode(content))
        self.cfg = config.load(self.site.folder / "plant.toml")

    def start(self):
        self.plant = self.site.run_ticker_plant()
        self.feed = self.site.feed(self.cfg)
        self.code = self.feed.instrument("XTST", "A")


@pytest.fixture
def going(site):
    made = Going(site)
    yield made
    made.closing.close()
    for process in (made.plant, made.publisher):
        if process.poll() is None:
            killed(process)


def taken(batches, count):
    """Batches of a reader, until there are so many rows."""
    got = []

    def enough():
        batch = batches.next(0.2)
        if batch is not None:
            got.append(batch)
        return sum(map(len, got)) >= count

    until(enough)
    assert sum(map(len, got)) == count
    return got


def ids(batches):
    return [n for b in batches for n in b["trade_id"].tolist()]


def readers_of(going, kind, tables=("trade",)):
    """Readers that are connected before the change, from the first row of the first date on."""
    if kind == "local":
        return going.local.follow(tables[0], from_row=0)
    return joined(going, list(tables), trading_date=going.first)


def joined(going, tables, **options):
    """A subscription, once the publisher is there."""

    def join():
        try:
            return subscribe(going.endpoint, tables, **options)
        except NotRunning:
            return None

    return going.closing.enter_context(until(join))


@pytest.mark.parametrize("kind", ["local", "remote"])
@pytest.mark.parametrize("edit", [with_a_column, with_a_table_before, both])
def test_connected_readers_go_on_into_a_date_with_other_tables(going, kind, edit):
    going.publish(10)
    reader = readers_of(going, kind)
    assert ids(taken(reader, 10)) == list(range(10))
    going.publish(5)
    going.stop()
    going.change(edit)
    going.start()
    going.publish(20)
    got = taken(reader, 25)
    assert ids(got) == list(range(10, 35))
    assert [b.trading_date for b in got][-1] == date_after(going.first)
    new = next(b for b in got if b.trading_date != going.first)
    changed = [n for n in new.notices if isinstance(n, TableChanged)]
    if edit is with_a_table_before:
        assert changed == []
    else:
        (notice,) = changed
        assert (notice.table, notice.added, notice.removed) == ("trade", ("yield_pct",), ())
        assert new["yield_pct"].tolist() == [0.0] * len(new)
    assert [b.notices for b in got if b is not new] == [()] * (len(got) - 1)
    going.publish(7)  # and live
    assert ids(taken(reader, 7)) == list(range(35, 42))


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_a_reader_of_a_table_that_is_not_declared_any_more_is_told(going, kind):
    going.publish(3)
    reader = readers_of(going, kind, ("quote",))
    going.feed.quote(instrument=going.code, bid_price=1.0)
    going.feed.flush()
    assert going.feed.drained(30)
    assert len(taken(reader, 1)) == 1
    going.stop()
    going.change(without_quotes)
    going.start()
    with pytest.raises(SchemaError, match="table quote is not declared.*trade"):
        until(lambda: reader.next(0.2))


def test_a_reader_that_was_away_over_several_changes_reads_on_through_all(going):
    going.publish(4)
    reader = readers_of(going, "remote")
    for edit in (with_a_column, with_a_table_before):
        going.stop()
        going.change(edit)
        going.start()
        going.publish(3)
    got = taken(reader, 10)
    assert ids(got) == list(range(10))
    assert sorted({b.trading_date for b in got}) == [
        going.first, date_after(going.first), date_after(date_after(going.first)),
    ]  # fmt: skip
    late = joined(going, "trade", trading_date=going.first)
    assert ids(taken(late, 10)) == list(range(10))


def test_a_conflating_reader_goes_on_with_the_newest_rows_of_the_next_date(going):
    going.publish(4)
    reader = joined(going, "trade", policy="conflate")
    until(lambda: (b := reader.next(0.2)) is not None and ids([b])[-1] == 3)
    going.stop()
    going.change(both)
    going.start()
    going.publish(3)
    until(lambda: (b := reader.next(0.2)) is not None and ids([b])[-1] == 6)


def test_a_publisher_that_starts_before_the_plant_after_a_change_serves_the_new_date(going):
    going.publish(4)
    going.stop()
    killed(going.publisher)
    going.change(both)
    going.publisher = going.site.run("run", "publisher")
    going.start()
    going.publish(3)

    columns = []

    def new_date():
        with joined(going, "trade") as reader:
            columns.append({c.name for c in reader.schema["trade"].columns})
            return reader.trading_date != going.first

    until(new_date)
    assert "yield_pct" in columns[-1]
    assert ids(taken(joined(going, "trade"), 3)) == [4, 5, 6]


def test_a_plants_object_goes_over_too(going):
    going.publish(4)
    latest, follower = going.local.latest("trade"), going.local.follow("trade")
    assert ids(taken(follower, 4)) == list(range(4))
    assert latest["XTST:A"]["trade_id"] == 3
    going.stop()
    going.change(both)
    going.start()
    going.publish(3)
    until(lambda: going.local.trading_date == date_after(going.first))
    assert going.local.state == "running"
    assert next(t.name for t in going.local.schema) == "auction"
    until(lambda: len(going.local.table("trade")) == 3)
    assert latest["XTST:A"]["trade_id"] == 6
    assert "yield_pct" in latest.snapshot()
    going.feed.instrument("XTST", "NEW")
    going.feed.flush()
    until(lambda: "XTST:NEW" in list(going.local.instruments))


def retyped(tables) -> None:
    tables["trade"]["columns"]["size"] = "f4"


def without_a_column(tables) -> None:
    del tables["trade"]["columns"]["side"]


def reordered(tables) -> None:
    columns = tables["trade"]["columns"]
    tables["trade"]["columns"] = dict(reversed(columns.items()))


CHANGES = [with_a_column, with_a_table_before, retyped, without_a_column, reordered]


@pytest.mark.parametrize("edit", CHANGES)
def test_what_feeds_publish_while_tables_change_is_all_there_by_the_names_of_its_columns(site, plant, edit):
    cfg, date = plant.config, plant.day.trading_date
    feed = site.feed(cfg)
    code = feed.instrument("XTST", "A")
    feed.append("trade", trades(cfg.schema["trade"], 0, 50, code))
    until(lambda: feed.drained(0.0), turning=plant.turn)
    plant.commit()
    plant.day.seal()
    closed(plant)
    feed.append("trade", trades(cfg.schema["trade"], 50, 50, code))  # the plant is away
    later = feed.instrument("XTST", "B")
    again = site.ticker_plant(edited(cfg, edit))
    feed.append("trade", trades(cfg.schema["trade"], 100, 50, later))  # and back, with other tables
    until(lambda: feed.drained(0.0), turning=again.turn)
    feed.append("trade", trades(cfg.schema["trade"], 150, 50, later))
    until(lambda: feed.drained(0.0), turning=again.turn)
    again.commit()
    rows = rows_of(again.config, again.day.trading_date, "trade")
    assert rows_of(cfg, date, "trade")["trade_id"].tolist() == list(range(50))
    assert rows["trade_id"].tolist() == list(range(50, 200))
    assert rows["price"].tolist() == [n * 0.25 + 1 for n in range(50, 200)]
    assert again.registry.instruments[int(rows["instrument"][-1])] == "XTST:B"
    assert events(again.config, again.day.trading_date, "gap") == []
    assert again.day.intake.claims(1)[again.config.schema["trade"].number][0] == 150


def test_rows_of_a_declaration_that_the_plant_never_had_stay_with_their_feed(site, plant):
    cfg = plant.config
    feed = site.feed(edited(cfg, with_a_column))  # changed before the plant was
    table = feed.config.schema["trade"]
    feed.append("trade", trades(table, 0, 20))
    until(lambda: feed.status()["waiting"], turning=plant.turn)
    assert "declared otherwise" in feed.status()["waiting"]
    assert feed._outbox.waiting_bytes
    plant.commit()
    plant.day.seal()
    closed(plant)
    again = site.ticker_plant(feed.config)
    until(lambda: feed.drained(0.0), turning=again.turn)
    rows = rows_of(feed.config, again.day.trading_date, "trade")
    assert rows["trade_id"].tolist() == list(range(20))
    assert events(feed.config, again.day.trading_date, "gap") == []


class Counting:
    """A plant and a feed that goes on publishing, in processes of their own."""

    def __init__(self, site):
        self.site, self.note = site, site.folder / "count"
        options = {"path": str(self.note)}
        feeds = {"one": {"id": 1, "handler": "tests.counting_feed:run", "options": options}}
        self.cfg = site.configured(feeds=feeds)
        self.plant, self.feed = site.run_ticker_plant(), site.run("run", "feed", "one")

    def more(self):
        """The feed publishes some more."""
        had = published(self.note)
        until(lambda: published(self.note) > had + 1000)

    def stop(self):
        """The documented way: the date ends, and the ticker plant with it, while the feed goes on."""
        end_of_day(self.cfg, stop=True)
        assert self.plant.wait(60) == 0

    def change(self, edit):
        content = msgspec.toml.decode(self.cfg.path.read_bytes())
        edit(content["tables"])
        self.cfg.path.write_bytes(msgspec.toml.encode(content))
        self.cfg = config.load(self.cfg.path)

    def stop_feed(self):
        self.feed.terminate()
        assert self.feed.wait(60) == 0


@pytest.mark.parametrize("edit", [with_a_column, reordered, retyped, both])
def test_each_row_of_a_feed_that_runs_over_a_change_of_tables_is_there_once(site, edit):
    going = Counting(site)
    before, first = going.cfg, wait_for(site.name, 30).trading_date
    going.more()
    going.stop()
    going.more()  # the plant is away
    going.change(edit)
    going.plant = site.run_ticker_plant()
    going.more()  # the feed still has the former tables
    going.stop_feed()
    going.feed = site.run("run", "feed", "one")
    going.more()
    going.stop_feed()
    going.stop()
    dates = [(before, first), (going.cfg, date_after(first))]
    parts = [rows_of(cfg, date, "trade") for cfg, date in dates]
    assert all(len(part) for part in parts)
    for column, right in (("trade_id", int), ("price", lambda n: n * 0.25 + 1)):
        there = [value for part in parts for value in part[column].tolist()]
        assert there == [right(n) for n in range(published(going.note))]
    assert [gap for cfg, date in dates for gap in events(cfg, date, "gap")] == []


@pytest.mark.parametrize("edit", [with_a_column, with_a_table_before])
def test_an_hdb_that_runs_on_makes_the_new_tables_and_loads_them(loading, site, edit):
    first = loading.date
    for feed in loading.feeds:
        feed.close()
    loading.plant.commit()
    loading.plant.day.seal()
    closed(loading.plant)
    loading.cfg = edited(loading.cfg, edit)
    loading.plant = site.ticker_plant(loading.cfg)
    loading.feeds = [site.raw_feed(loading.plant, number) for number in (1, 2)]
    second = loading.date
    assert second != first
    for number, feed in enumerate(loading.feeds, 1):
        feed.send(feed.define(number, f"S{number}"))
    loading.publish(7, 5)
    loading.until(lambda: loading.loader.verdict)
    assert loading.loader.verdict.complete
    loading.until_loaded()
    check_stored(loading.cfg, loading.loader.history, second)
