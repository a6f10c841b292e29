"""A ticker plant and an hdb in one process, turned together, and what PostgreSQL has in the end."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from tests.fix_plant import RawFeed, Site, rows_of, until
from tickplant.clock import date_after
from tickplant.config import Config
from tickplant.hdb.loader import Loader
from tickplant.hdb.proof import Verdict, prove
from tickplant.hdb.server import PostgresServer
from tickplant.hdb.store import History
from tickplant.schema import Rows


class Loading:
    """A ticker plant with two scripted feeds, and the loader that follows it."""

    def __init__(self, site: Site, cfg: Config) -> None:
        self.cfg = cfg
        self.plant = site.ticker_plant(cfg)
        self.feeds = [site.raw_feed(self.plant, number) for number in (1, 2)]
        for number, feed in enumerate(self.feeds, 1):
            feed.send(feed.define(number, f"S{number}"))
        self.loader = Loader(cfg)
        self.loader.open()

    @property
    def date(self) -> int:
        return self.plant.day.trading_date

    def turn(self) -> None:
        self.plant.turn()
        for feed in self.feeds:
            feed.serve()
        self.loader.turn()

    def publish(self, trades: int, quotes: int) -> None:
        """Both feeds publish rows of two tables, and the plant takes them."""
        for number, feed in enumerate(self.feeds, 1):
            feed.send(feed.trades(trades, number), feed.make("quote", quote_rows(feed, quotes, number)))
            feed.settle()

    def until(self, condition: Callable[[], Any]) -> None:
        until(condition, turning=self.turn)

    def until_loaded(self) -> None:
        """All that is journaled is in PostgreSQL."""
        self.until(self.is_loaded)

    def is_loaded(self) -> bool:
        if self.loader.waiting:
            return False
        return self.loader.history.progress(self.date).position == self.plant.day.journal.position

    def roll(self) -> int:
        """End the date; which it was."""
        date = self.date
        self.plant.roll(date_after(date))
        return date

    def prove(self, date: int) -> Verdict:
        """Have the loader finish a date, and leave its tables in memory: the plant does not turn."""
        until(lambda: self.loader.verdict is not None, turning=self.loader.turn)
        assert self.loader.verdict is not None
        assert self.loader.verdict.trading_date == date
        return self.loader.verdict

    def prove_again(self, date: int) -> Verdict:
        return prove(self.cfg, self.loader.history, self.loader.registry, date)

    def close(self) -> None:
        self.loader.close()


def quote_rows(feed: RawFeed, count: int, code: int) -> Rows:
    """Quotes of an instrument, all different."""
    rows = feed.schema["quote"].empty(count)
    rows["instrument"], rows["venue_seq"] = code, np.arange(count) + feed.seq
    rows["bid_price"], rows["ask_price"] = np.arange(count) + 0.5, np.nan
    return rows


def check_stored(cfg: Config, history: History, date: int) -> int:
    """PostgreSQL has every journaled row under its number, once, bit by bit; how many those are."""
    total = 0
    for table in cfg.schema:
        expected = rows_of(cfg, date, table.name)
        parts = list(history.read_back(date, table.name))
        numbers = np.concatenate([n for n, _ in parts]) if parts else np.empty(0, np.int64)
        rows = np.concatenate([r for _, r in parts]) if parts else table.empty(0)
        order = np.argsort(numbers, kind="stable")
        assert numbers[order].tolist() == list(range(len(expected))), table.name
        assert rows[order].tobytes() == expected.tobytes(), table.name
        total += len(rows)
    return total


def drop(admin: psycopg.Connection, namespace: str) -> None:
    admin.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(namespace)))


@pytest.fixture
def loading(site: Site, postgres: PostgresServer, pg_admin: psycopg.Connection) -> Iterator[Loading]:
    """Such a plant, its hdb in the session's PostgreSQL, with rows of both feeds."""
    made = Loading(site, site.configured(hdb={"dsn": postgres.dsn, "chunk_ms": 0}))
    made.publish(50, 30)
    yield made
    made.close()
    drop(pg_admin, site.name)
