"""Dates that are over: dropped from memory when they are proven, and not before their tables are whole."""

import json

from tests.fix_plant import crashed, rows_of, until
from tickplant import segment
from tickplant._core.memory import Word
from tickplant.clock import date_after
from tickplant.table import LIVE, STATE, SharedTable, segment_name, waits


def test_tidying_drops_what_is_proven_and_nothing_else(site):
    cfg = site.configured(tickerplant={"keep_days": 2})
    plant = site.ticker_plant(cfg)
    dates = [plant.day.trading_date]
    for _ in range(4):
        plant.roll(date_after(dates[-1]))
        dates.append(plant.day.trading_date)
    proofs = cfg.plant.data_dir / "proofs"
    proofs.mkdir()
    for date, complete in zip(dates, (True, False, True, True, True), strict=True):
        (proofs / f"{date}.json").write_text(json.dumps({"complete": complete}))
    for name, text in (
        ("notes.json", "{}"),
        ("00000000.json", "{"),
        ("20010101.json", "[]"),
        ("20010102.json", "7"),
    ):
        (proofs / name).write_text(text)
    plant.finished.tidy(plant.day.trading_date)
    there = [segment.names(segment_name(site.name, d, "trade")) != [] for d in dates]
    assert there == [False, True, False, False, True]
    kept = [(cfg.journal_dir / str(d)).is_dir() for d in dates]
    assert kept == [False, True, True, True, True]


def test_tables_of_an_earlier_date_that_lack_rows_are_brought_up_after_a_restart(site, plant, raw):
    cfg, first = plant.config, plant.day.trading_date
    raw.send(raw.define(1, "A"), raw.trades(300, 1))
    raw.settle()
    plant.roll(date_after(first))
    crashed(plant)
    name = segment_name(cfg.plant.name, first, "trade")
    memory = segment.attach(name, writable=True).map  # as a writer leaves it who had no room for the rest
    Word(memory, 128, True).store(100)
    Word(memory, STATE, True).store(LIVE)
    (segment.SHM / segment_name(cfg.plant.name, first, "quote")).unlink()
    segment.create(segment_name(cfg.plant.name, first, "quote"), 1 << 20)
    (cfg.plant.data_dir / "proofs").mkdir()
    (cfg.plant.data_dir / "proofs" / f"{first}.json").write_text(json.dumps({"complete": True}))
    assert waits(name)
    again = site.ticker_plant(cfg)
    again.finished.tidy(again.day.trading_date)
    assert segment.names(name)
    until(lambda: not again.finished._late, turning=again.turn)
    trades, quotes = (SharedTable(cfg.plant.name, first, t) for t in ("trade", "quote"))
    assert trades.sealed
    assert quotes.sealed
    assert trades.rows(0, 300).tobytes() == rows_of(cfg, first, "trade").tobytes()
    again.finished.tidy(again.day.trading_date)
    assert not segment.names(name)
