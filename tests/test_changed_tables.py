"""Changing the tables: an edit of the configuration, and the end of a date between."""

import copy
from pathlib import Path

import pytest

from tests.fix_plant import closed, journaled, rows_of
from tickplant import wire
from tickplant.clock import date_after
from tickplant.config import Config
from tickplant.errors import SchemaError
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
