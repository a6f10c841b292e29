"""A day with many rows, as a killed ticker plant leaves it: journal, shared memory, control block."""

import os

import harness

from tickplant._core import framing
from tickplant.clock import as_int, now_ns
from tickplant.control import Control
from tickplant.day import Day
from tickplant.registry import RegistryWriter

ROWS_EACH, BATCH, FEED = 500, 200, 1
IDENTITY = "benchmark"


def fill(site: harness.Site, rows: int, instruments: int = harness.INSTRUMENTS) -> harness.Frames:
    """Make today's journal and tables with at least so many trades; what made them, to go on with."""
    plant, frames = site.config.plant, harness.Frames(site.config.schema, instruments)
    plant.data_dir.mkdir(parents=True)
    (plant.data_dir / "identity").write_text(IDENTITY)
    control = Control.create(site.name, site.config.schema, plant.data_dir)
    registry = RegistryWriter(site.config.registry_dir, site.name, IDENTITY)
    registry.open(site.config.tickerplant.instruments_max)
    day = Day(site.config, registry)
    day.open(as_int(site.config.calendar.date_at(now_ns())))
    day.intake.begin(FEED, frames.session, 0)
    day.define(FEED, site.config.schema["instrument"].rows(frames.definitions[framing.HEADER :]), now_ns())
    put(day, [frames.definitions])
    while frames.row < rows:
        put(day, frames.trades(BATCH, ROWS_EACH))
    day.journal.sync()
    control.announce(day.trading_date)
    control.own(os.getpid())
    day.grower.stop()
    day.journal.close()
    for table in day.tables:
        assert table.segment
        table.segment.close()
    return frames


def put(day: Day, messages: list[bytes]) -> None:
    """Messages of feed 1 into journal and tables."""
    taken = day.intake.take(messages, 0, now_ns(), True)
    assert taken == len(messages), day.intake.reason
    day.commit(sync=False)
    if day.checkpoint():
        day.journal.sync()
