"""The live driver, against an exchange of real sockets: what it does on bad days, and what it records."""

import threading

import numpy as np
import pytest

from tests.exchange import SYMBOL, Exchange, OkxExchange
from tests.fix_plant import events, rows_of, until
from tickplant.errors import ConfigError
from tickplant.feed import budget, live
from tickplant.feed.formats import open_capture
from tickplant.feed.venues.binance import Binance
from tickplant.feed.venues.okx import Okx
from tickplant.schema import Flag


@pytest.fixture
def exchange():
    made = Exchange()
    yield made
    made.close()


class Running:
    """The live driver in a thread, its feed, and the plant that is turned meanwhile."""

    def __init__(self, site, plant, exchange, venue=None, **options):
        self.plant, self.cfg = plant, plant.config
        self.feed = site.feed(plant.config)
        self.venue = venue or Binance(["BTC-USDT"], ["trades", "book"])
        self.live = live.Live(self.feed, self.venue, endpoints=exchange.endpoints, **options)
        self.failed = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            self.live.run()
        except BaseException as e:
            self.failed.append(e)

    def until(self, condition):
        def turn():
            self.plant.turn()

        until(lambda: self.failed or condition(), turning=turn)
        assert not self.failed

    @property
    def book(self):
        return self.venue.books.get(SYMBOL)

    def in_step(self):
        return self.book is not None and self.book.live

    def rows(self, table):
        return rows_of(self.cfg, self.plant.day.trading_date, table)

    def end(self):
        """Stop; then all that was published is in the plant."""
        self.feed.stopping.set()
        until(lambda: not self._thread.is_alive(), turning=self.plant.turn)
        self.feed.flush()
        until(
            lambda: self.plant.day.intake.session(1) == (self.feed.session, self.feed._sender.seq),
            turning=self.plant.turn,
        )
        self.plant.commit()


@pytest.fixture
def start(site, plant, exchange, monkeypatch):
    monkeypatch.setattr(budget, "PAUSE_MIN_S", 0.02)
    made = []

    def started(**options):
        made.append(Running(site, plant, exchange, **options))
        return made[-1]

    yield started
    for one in made:
        one.end()


def check_book(running, exchange):
    """The book that the depth rows make is the exchange's."""
    rows = running.rows("depth")
    begin = np.flatnonzero(rows["action"] == b"R")[-1]
    book = {b"B": {}, b"S": {}}
    for row in rows[begin + 1 :]:
        half = book[bytes(row["side"])]
        if row["action"] == b"D":
            del half[float(row["price"])]
        else:
            half[float(row["price"])] = float(row["size"])
    assert book == {b"B": exchange.bids, b"S": exchange.asks}


def test_a_venue_is_asked_subscribed_to_and_heard(start, exchange):
    running = start()
    running.until(running.in_step)
    for _ in range(20):
        exchange.move()
        exchange.trade()
    running.until(lambda: running.book.seq == exchange.seq)
    running.end()
    assert "streams=btcusdt@trade/btcusdt@depth@100ms" in exchange.paths[0]
    trades, defined = running.rows("trade"), running.rows("instrument")
    assert trades["trade_id"].tolist() == list(range(1, 21))
    assert set(trades["price"]) == {100.5}
    assert defined[["venue", "symbol", "base", "currency", "tick_size"]].tolist() == [
        (b"BINANCE", b"BTC-USDT", b"BTC", b"USDT", 0.01)
    ]
    check_book(running, exchange)


def test_a_message_that_got_lost_makes_the_book_stale_until_it_is_rebuilt(start, exchange):
    running = start()
    running.until(running.in_step)
    exchange.move()
    running.until(lambda: running.book.seq == exchange.seq)
    exchange.move(hidden=True)
    exchange.move()
    running.until(lambda: running.book.gaps == 1)
    running.until(running.in_step)
    exchange.move()
    running.until(lambda: running.book.seq == exchange.seq)
    running.end()
    gaps = events(running.cfg, running.plant.day.trading_date, "gap")
    assert [(first, last) for *_, first, last in gaps] == [(exchange.seq - 2, exchange.seq - 2)]
    stale = running.rows("quote")
    stale = stale[stale["flags"] & Flag.STALE != 0]
    assert len(stale) == 1
    assert np.isnan(stale["bid_price"]).all()
    check_book(running, exchange)


def test_trades_that_got_lost_are_had_over_rest_and_marked_late(start, exchange):
    running = start()
    running.until(running.in_step)
    for n in range(20):
        exchange.trade(hidden=n in (5, 6, 11))
    running.until(lambda: len(running.rows("event")) and b"filled" in running.rows("event")["kind"])
    running.until(lambda: (running.rows("event")["kind"] == b"filled").sum() == 2)
    running.end()
    trades = running.rows("trade")
    assert sorted(trades["trade_id"].tolist()) == list(range(1, 21))
    assert trades["trade_id"][trades["flags"] & Flag.LATE != 0].tolist() == [6, 7, 12]
    gaps = events(running.cfg, running.plant.day.trading_date, "gap")
    assert [(first, last) for *_, first, last in gaps] == [(6, 7), (12, 12)]


def test_trades_of_an_hour_away_are_had_page_by_page_each_once(site, plant, monkeypatch):
    monkeypatch.setattr(budget, "PAUSE_MIN_S", 0.02)
    exchange = OkxExchange()
    running = Running(site, plant, exchange, Okx(["BTC-USDT"], ["trades"]))
    try:
        running.until(lambda: exchange.clients)
        for _ in range(5):
            exchange.trade()
        running.until(lambda: running.venue.trades.knows("trades", "BTC-USDT"))
        running.until(lambda: len(running.rows("trade")) == 5)
        exchange.cut()
        for _ in range(250):
            exchange.trade(hidden=True)
        running.until(lambda: exchange.came == 2 and exchange.clients)
        exchange.trade()
        running.until(lambda: len(running.rows("trade")) == 256)
    finally:
        running.end()
        exchange.close()
    trades = running.rows("trade")
    assert sorted(trades["trade_id"].tolist()) == list(range(1, 257))
    late = trades["trade_id"][trades["flags"] & Flag.LATE != 0]
    assert sorted(late.tolist()) == list(range(6, 256))
    date = running.plant.day.trading_date
    assert [(first, last) for *_, first, last in events(running.cfg, date, "gap")] == [(6, 255)]
    filled = [(first, last) for *_, first, last in events(running.cfg, date, "filled")]
    assert filled == [(156, 255), (56, 155), (6, 55)]


def test_a_connection_that_is_cut_comes_back_and_the_book_is_rebuilt(start, exchange):
    running = start()
    running.until(running.in_step)
    exchange.cut()
    running.until(lambda: exchange.came == 2 and running.in_step())
    exchange.move()
    running.until(lambda: running.book.seq == exchange.seq)
    running.end()
    assert len(events(running.cfg, running.plant.day.trading_date, "disconnected")) == 1
    check_book(running, exchange)


def test_a_silent_connection_is_made_anew(start, exchange, monkeypatch):
    silent = Binance.connections

    def connections(self):
        return [type(c)(c.name, c.url, silence_s=0.2) for c in silent(self)]

    monkeypatch.setattr(Binance, "connections", connections)
    running = start()
    running.until(lambda: exchange.came >= 3)
    running.end()
    said = running.rows("event")
    assert any(b"silent for 0 s" in t for t in said["text"][said["kind"] == b"disconnected"])


def test_rest_that_refuses_is_asked_again(start, exchange):
    exchange.broken = 3
    running = start()
    running.until(running.in_step)
    running.end()
    assert exchange.broken == 0
    check_book(running, exchange)


def test_a_list_of_instruments_that_can_not_be_read_is_asked_for_again_before_anything_is_connected_to(
    start, exchange, monkeypatch
):
    monkeypatch.setattr(exchange, "garbled", 1)
    running = start()
    running.until(running.in_step)
    running.end()
    assert exchange.garbled == 0
    check_book(running, exchange)


def test_bytes_that_are_no_message_cost_a_rebuild_and_nothing_else(start, exchange):
    running = start()
    running.until(running.in_step)
    exchange.say('{"stream": "btcusdt@depth@100ms", "data": {"e": "depthUpdate", "b": 7}}')
    exchange.say("\x00")
    running.until(lambda: running.venue.account.malformed == 2)
    running.until(running.in_step)
    exchange.move()
    running.until(lambda: running.book.seq == exchange.seq)
    running.end()
    assert len(events(running.cfg, running.plant.day.trading_date, "malformed")) == 2
    check_book(running, exchange)


def test_a_recording_decodes_to_the_very_rows_that_were_published(start, exchange, tmp_path):
    path = tmp_path / "day.jsonl.zst"
    running = start(record=path)
    running.until(running.in_step)
    for n in range(30):
        exchange.move(hidden=n == 10)
        exchange.trade()
        if n == 20:
            exchange.cut()
    running.until(lambda: exchange.came == 2 and running.in_step())
    running.end()
    published = {t.name: running.rows(t.name) for t in running.cfg.schema}
    decoded = {}
    for batch in open_capture(path):
        for table, rows in batch:
            decoded.setdefault(table, []).append(rows)
    assert {t for t, r in published.items() if len(r)} >= {"trade", "depth", "quote", "instrument"}
    for table, parts in decoded.items():
        rows, mine = np.concatenate(parts), published[table]
        mine = mine[mine["feed"] == 1]
        for column in set(rows.dtype.names) - {"ts_plant", "feed", "instrument"}:
            assert rows[column].tobytes() == mine[column].tobytes(), (table, column)


def test_a_recording_that_is_there_is_not_written_over(site, plant, exchange, tmp_path):
    path = tmp_path / "day.jsonl.zst"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="another path"):
        live.Live(site.feed(plant.config), Binance(["BTC-USDT"]), record=path)
    assert path.read_text() == "mine"


def test_a_folder_to_record_to_is_made_and_each_start_has_a_file_of_its_own(tmp_path):
    folder = tmp_path / "var" / "captures"
    made = [live._recording(Binance, str(folder)) for _ in range(2)]
    assert {m.parent for m in made} == {folder}
    assert len(set(made)) == 2
    assert all(m.name.startswith("binance-") and m.name.endswith(".jsonl.zst") for m in made)
    assert live._recording(Binance, f"{tmp_path}/").parent == tmp_path
    one = tmp_path / "new" / "day.jsonl.zst"
    assert live._recording(Binance, str(one)) == one
    one.write_text("mine")
    beside = live._recording(Binance, str(one))
    assert (beside.parent, beside.name.startswith("day-")) == (one.parent, True)
    assert not beside.exists()
    (tmp_path / "old").write_text("a recording that was made where a folder was meant")
    assert live._recording(Binance, str(tmp_path / "old")).name.startswith("old-")
    with pytest.raises(ConfigError, match="can't record to"):
        live._recording(Binance, str(tmp_path / "old" / "below"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "symbols is missing"),
        ({"symbols": ["BTC-USDT"], "source": "tape"}, "must be live or file"),
        ({"symbols": ["BTC-USDT"], "channels": ["gossip"]}, "binance has trades, quotes, book"),
    ],
)
def test_options_that_can_not_be_meant_are_refused(site, plant, options, words):
    with pytest.raises(ConfigError, match=words):
        live.handler(Binance)(site.feed(plant.config), **options)
