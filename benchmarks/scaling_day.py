"""A day that has many rows already, in the journal and in shared memory, for bench_scaling.py.

Rows for which there is memory are there. Of more, memory and journal have only some: the table's words say
that all are there, its extents are holes that nobody touches, and the checkpoint, from which a ticker plant
that starts goes on, has their count. What the ticker plant then does for a row is the same.
"""

import os

import harness

from tickplant._core import framing
from tickplant._core.memory import Word
from tickplant.clock import as_int, now_ns
from tickplant.day import Day
from tickplant.registry import RegistryWriter
from tickplant.schema import Table
from tickplant.table import ALLOCATED, AppendTable

ROWS_EACH, BATCH, FEED = 500, 200, 1
IDENTITY = "benchmark"
PRETENDED_FROM = 1_000_000
"""So many rows are real in any case: enough journal for a checkpoint."""
SHARE = 4
"""Rows take no more than this part of the memory that is free."""


def fits(table: Table, rows: int) -> bool:
    """Is there memory for so many rows to be real?"""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return rows * (table.row_size + 4) < free // SHARE


def write(site: harness.Site, rows: int) -> bool:
    """Leave today's journal and tables with so many trades, as a killed ticker plant does; are all real?"""
    site.config.plant.data_dir.mkdir(parents=True)
    (site.config.plant.data_dir / "identity").write_text(IDENTITY)
    registry = RegistryWriter(site.config.registry_dir, site.name, IDENTITY)
    registry.open(site.config.tickerplant.instruments_max)
    day = Day(site.config, registry)
    day.open(as_int(site.config.calendar.date_at(now_ns())))
    trade = next(t for t in day.tables if t.table.name == "trade")
    real = fits(trade.table, rows)
    _fill(day, harness.Frames(site.config.schema), rows if real else PRETENDED_FROM)
    if not real:
        _pretend(trade, rows)
    if day.checkpoint():
        day.journal.sync()
        day.checkpoint()
    day.grower.stop()
    day.journal.close()
    for table in day.tables:
        assert table.segment
        table.segment.close()
    return real


def _fill(day: Day, frames: harness.Frames, rows: int) -> None:
    day.intake.begin(FEED, frames.session, 0)
    day.define(FEED, day.definitions.rows(frames.definitions[framing.HEADER :]), now_ns())
    messages = [frames.definitions]
    for _ in range(rows // (ROWS_EACH * BATCH) + 1):
        taken = day.intake.take(messages, 0, now_ns(), True)
        assert taken == len(messages), day.intake.reason
        day.commit(sync=False)
        messages = frames.trades(BATCH, ROWS_EACH)
    day.intake.take(messages, 0, now_ns(), True)
    day.commit(sync=False)


def _pretend(table: AppendTable, rows: int) -> None:
    """Have the table say that it has so many rows."""
    assert table.segment
    Word(table.segment.map, ALLOCATED, True).store(rows)
    table.committed.store(rows)
    table.columns.rewind(rows)
    table.columns.taken = rows
