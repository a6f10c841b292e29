"""Feeds and their numbers: one that is taken out stays known, and none takes another's number."""

import copy
import json

import pytest

from tests.fix_plant import closed, rows_of
from tickplant import roster, status
from tickplant.config import Config
from tickplant.errors import ConfigError
from tickplant.hdb.evidence import journal_seal
from tickplant.hdb.loader import Loader
from tickplant.hdb.proof import prove
from tickplant.tickerplant import TickerPlant


def with_feeds(cfg: Config, **feeds: int) -> Config:
    content = copy.deepcopy(dict(cfg.content))
    content["feeds"] = {name: {"id": number, "handler": "none"} for name, number in feeds.items()}
    return Config(content, cfg.path)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_feed_is_taken_out_and_the_date_keeps_its_rows_and_claims(site, cfg, sealed):
    plant = site.ticker_plant(cfg)
    one, two = site.raw_feed(plant, 1), site.raw_feed(plant, 2)
    for feed in (one, two):
        feed.send(feed.define(1, f"S{feed.number}"), feed.trades(3, 1))
        feed.settle()
    date = plant.day.trading_date
    plant.commit()
    if sealed:
        plant.day.seal()
    closed(plant)
    fewer = with_feeds(cfg, one=1)
    again = site.ticker_plant(fewer)
    assert set(again.ingress.feeds) == {1}
    again.commit()
    if not sealed:
        assert again.day.trading_date == date
        again.day.seal()
    claims = journal_seal(cfg.journal_dir / str(date))["claims"]
    assert claims[2]["trade"][0] == claims[1]["trade"][0] == 3
    assert len(rows_of(cfg, date, "trade")) == 6
    closed(again)


def test_a_feed_that_comes_back_goes_on_where_it_was(site, cfg):
    plant = site.ticker_plant(cfg)
    two = site.raw_feed(plant, 2)
    two.send(two.trades(3))
    two.settle()
    closed(plant)
    closed(site.ticker_plant(with_feeds(cfg, one=1)))
    again = site.ticker_plant(cfg)
    assert again.day.intake.session(2) == (two.session, 3)


@pytest.mark.parametrize("feeds", [{"one": 2, "two": 1}, {"one": 1, "other": 2}, {"one": 3}])
def test_numbers_are_not_exchanged_nor_given_to_another(site, cfg, feeds):
    closed(site.ticker_plant(cfg))
    refused = TickerPlant(with_feeds(cfg, **feeds))
    with pytest.raises(ConfigError, match=r"rows of feed .* bear"):
        refused.open()
    for lock in refused._locks:
        lock.release()


def test_a_new_feed_takes_a_new_number(site, cfg):
    closed(site.ticker_plant(cfg))
    closed(site.ticker_plant(with_feeds(cfg, one=1, three=3)))
    assert roster.read(cfg.plant.data_dir) == {1: "one", 2: "two", 3: "three"}


def test_a_date_with_rows_of_a_removed_feed_is_complete_and_names_it(loading, site):
    loading.until_loaded()
    loading.loader.close()
    closed(loading.plant)
    fewer = with_feeds(loading.cfg, one=1)
    loading.plant, loading.cfg = site.ticker_plant(fewer), fewer
    loading.feeds = loading.feeds[:1]
    loading.loader = Loader(fewer)
    loading.loader.open()
    date = loading.roll()
    verdict = loading.prove(date)
    assert verdict.complete
    assert {r.feed for r in verdict.records} >= {1, 2}
    named = "; of them rows of feed two, not configured any more"
    assert verdict.summary().endswith(named)
    assert loading.prove_again(date).summary().endswith(named)
    seen = status.look(fewer)
    assert seen["proofs"][-1]["summary"].endswith(named)
    assert seen["removed_feeds"] == ["two"]
    proof = json.loads((fewer.plant.data_dir / "proofs" / f"{date}.json").read_text())
    assert proof["removed_feeds"] == ["two"]


def test_rows_missing_of_a_removed_feed_are_told_by_its_name(loading, site):
    two = loading.feeds[1]
    two.seq += 5  # rows that it has not any more
    two.send(two.trades(1, 2))
    two.settle()
    loading.until_loaded()
    date = loading.roll()
    before = loading.prove(date)
    fewer = with_feeds(loading.cfg, one=1)
    after = prove(fewer, loading.loader.history, loading.loader.registry, date)
    assert after.missing.keys() == before.missing.keys() == {"two"}
    assert list(after.missing.values()) == list(before.missing.values())


def test_a_roster_that_cannot_be_read_keeps_the_proof_waiting(loading):
    path = loading.cfg.plant.data_dir / roster.NAME
    good = path.read_text()
    path.write_text("{")
    date = loading.roll()
    loading.until(lambda: loading.loader.waiting)
    assert "feeds.json can't be read" in loading.loader.status()["waiting"]
    path.write_text(good)
    assert loading.prove(date).complete
