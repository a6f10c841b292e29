"""Recordings of real venues, against the README beside them and books made again from raw JSON."""

import base64
import gzip
import io
import json
import math
import os
import pathlib
from collections import Counter

import numpy as np
import pytest
import zstandard
from venue_frames import assert_depth_is_the_books

from tickplant.feed.formats import open_capture
from tickplant.schema import Flag

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data")) / "crypto-ws"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no captures in {DATA}")


class Read:
    """A capture that was read: its account, its rows, its books as they were at the end."""

    def __init__(self, name):
        self.capture = open_capture(DATA / name)
        self.venue, taken, self.books = self.capture.decoder, {}, {}
        for batch in self.capture:
            self.books.update(self.venue.books)
            for table, rows in batch:
                taken.setdefault(table, []).append(rows)
        self.rows = {table: np.concatenate(parts) for table, parts in taken.items()}
        self.venue.books.update(self.books)

    def frames(self):
        """How many frames of each kind, over whatever channel."""
        kinds = self.capture.messages + self.capture.ignored
        return Counter({kind: n for kind, n in kinds.items() if not kind.startswith("GET ")})

    def book(self, native):
        levels = self.books[native].levels
        return [{p: s for p, s, _ in levels.top(half, 10**6)} for half in (0, 1)]

    def trades(self, flag=0, without=0):
        trades = self.rows["trade"]
        has = (trades["flags"] & flag) == flag
        sizes = trades["size"][has & ((trades["flags"] & without) == 0)]
        return len(sizes), round(math.fsum(sizes), 8)


@pytest.fixture(scope="module")
def read():
    """Each capture is read once."""
    have = {}
    return lambda name: have.get(name) or have.setdefault(name, Read(name))


def entries(name, kind="recv"):
    """(connection, JSON) of what a recording has of one kind."""
    stream = zstandard.ZstdDecompressor().stream_reader((DATA / name).open("rb"), read_across_frames=True)
    for line in io.TextIOWrapper(stream):
        entry = json.loads(line)
        if entry["t"] == kind:
            data = base64.b64decode(entry["b64"]) if "b64" in entry else entry["data"]
            yield entry["conn"], json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)


def applied(book, changes):
    """Levels set (price, size) in a half's dict, size 0 taking one away."""
    for price, size in changes:
        book.pop(float(price), None)
        if float(size):
            book[float(price)] = float(size)


COUNTS = {
    "BINANCE.jsonl.zst": ({"depth": 177, "bookTicker": 84, "aggTrade": 2, "kline": 2}, (2, 235.0)),
    "COINBASE.jsonl.zst": (
        {"l2_data": 425, "ticker": 96, "market_trades": 41, "heartbeats": 14, "subscriptions": 5,
        "candles": 4},
        (256, 67.72723821),
    ),
    "OKX.jsonl.zst": ({"books": 290, "trades": 74, "tickers": 28, "response": 18}, (74, 138.48657495)),
    "BYBIT.jsonl.zst": (
        {"orderbook": 1246, "tickers": 484, "publicTrade": 69, "kline": 57, "response": 24}, (158,
        4977.894007)
    ),
    "DERIBIT.jsonl.zst": ({"ticker": 89, "book": 46, "response": 1}, None),
    "HUOBI.jsonl.zst": (
        {"depth.step0": 292, "trade.detail": 44, "response": 20, "ping": 6}, (73, 87763260.93048081)
    ),
    "BITFLYER.jsonl.zst": (
        {"lightning_board": 722, "lightning_ticker": 249, "lightning_executions": 72,
        "lightning_board_snapshot": 60},
        (162, 1104.37853134),
    ),
    "UPBIT.jsonl.zst": ({"trade": 304, "orderbook": 145}, (304, 667971.86169884)),
    "binance-spot_btcusdt_20240808.gz": (
        {"bookTicker": 28_040, "trade": 9_757, "depth": 3_451, "depth snapshot": 1}, (9_757, 212.03315)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_every_frame_is_accounted_for_and_trades_are_those_that_are_known(read, name):
    frames, trades = COUNTS[name]
    got = read(name)
    assert got.frames() == frames
    assert (got.capture.malformed, got.capture.damaged) == (0, False)
    assert ("trade" in got.rows) == (trades is not None)
    assert trades is None or got.trades() == trades


@pytest.mark.parametrize("name", COUNTS)
def test_nothing_is_missing_or_crossed_where_the_capture_misses_nothing(read, name):
    got = read(name)
    assert set(got.rows.get("event", {"kind": []})["kind"]) <= {b"unlisted"}
    assert all(book.live for book in got.books.values())
    assert_depth_is_the_books(HeardBooks(got), got.rows)


class HeardBooks:
    """What `assert_depth_is_the_books` asks of who heard the frames."""

    def __init__(self, got):
        self.venue, self._got = got.venue, got

    def book(self, native):
        return [list(half.items()) for half in self._got.book(native)]


def test_coinbase_trades_of_the_snapshot_are_marked_and_books_are_as_replayed(read):
    got = read("COINBASE.jsonl.zst")
    assert got.trades(flag=Flag.SNAPSHOT) == (200, 58.55204865)
    assert got.trades(without=Flag.SNAPSHOT) == (56, 9.17518956)
    books = {}
    for _, message in entries("COINBASE.jsonl.zst"):
        if message["channel"] == "l2_data":
            (event,) = message["events"]
            if event["type"] == "snapshot":
                books[event["product_id"]] = ({}, {})
            for level in event["updates"]:
                half = books[event["product_id"]][level["side"] != "bid"]
                applied(half, [(level["price_level"], level["new_quantity"])])
    assert {native: tuple(got.book(native)) for native in got.books} == books


def test_coinbase_sells_at_the_bid_and_buys_at_the_offer(read):
    """The venue tells the side of the maker; the last quote before a trade shows whose the other is."""
    got, at = read("COINBASE.jsonl.zst"), {}
    quotes = got.rows["quote"][np.argsort(got.rows["quote"]["ts_event"], kind="stable")]
    for q in quotes:
        at.setdefault(int(q["instrument"]), []).append(q)
    right = wrong = 0
    for t in got.rows["trade"][got.rows["trade"]["flags"] == 0]:
        before = [q for q in at[int(t["instrument"])] if q["ts_event"] < t["ts_event"]]
        if before and before[-1]["bid_price"] != before[-1]["ask_price"]:
            bought = t["price"] >= before[-1]["ask_price"]
            if bought or t["price"] <= before[-1]["bid_price"]:
                right, wrong = (
                    right + (t["side"] == (b"B" if bought else b"S")),
                    wrong + (t["side"] == (b"S" if bought else b"B")),
                )
    assert right > 5 * wrong


def test_okx_has_a_checksum_in_each_message_of_a_book_and_all_hold(read):
    got = read("OKX.jsonl.zst")
    sent = [m for _, m in entries("OKX.jsonl.zst") if m["arg"]["channel"] == "books" and "data" in m]
    assert got.venue.verified == sum(len(m["data"]) for m in sent) == 290
    books = {}
    for message in sent:
        book = books.setdefault(message["arg"]["instId"], ({}, {}))
        (data,) = message["data"]
        for half, side in enumerate(("bids", "asks")):
            if message["action"] == "snapshot":
                book[half].clear()
            applied(book[half], [level[:2] for level in data[side]])
    assert {native: tuple(got.book(native)) for native in got.books} == books


def test_bybit_books_are_as_replayed_and_instruments_of_both_categories(read):
    got, books = read("BYBIT.jsonl.zst"), {}
    category = {"BYBIT.ws.2": "linear", "BYBIT.ws.3": "spot"}
    for conn, message in entries("BYBIT.jsonl.zst"):
        if message.get("topic", "").startswith("orderbook"):
            data = message["data"]
            native = f"{category[conn]}/{data['s']}"
            if message["type"] == "snapshot":
                books[native] = ({}, {})
            applied(books[native][0], data["b"])
            applied(books[native][1], data["a"])
    assert {native: tuple(got.book(native)) for native in got.books} == books
    assert sorted(got.rows["instrument"]["symbol"].tolist()) == sorted(
        f"{c}-USDT{kind}".encode()
        for kind, coins in (("-PERP", ("BTC", "ETH", "SOL", "DOGE")), ("", ("BTC", "ETH")))
        for c in coins
    )
    assert set(got.rows["status"]["kind"].tolist()) == {b"funding"}


def test_deribit_books_are_as_replayed_and_their_best_is_the_tickers(read):
    got, books = read("DERIBIT.jsonl.zst"), {}
    for _, message in entries("DERIBIT.jsonl.zst"):
        params = message.get("params", {})
        if params.get("channel", "").startswith("book"):
            data = params["data"]
            book = books.setdefault(data["instrument_name"], ({}, {}))
            for half, side in enumerate(("bids", "asks")):
                applied(book[half], [(p, 0 if what == "delete" else s) for what, p, s in data[side]])
    assert {native: tuple(got.book(native)) for native in got.books} == books
    assert b"ETH-USD-20210730-2800-C" in got.rows["instrument"]["symbol"].tolist()
    assert set(got.rows["instrument"]["currency"].tolist()) == {b"BTC", b"ETH"}


def test_huobi_books_are_the_last_that_was_sent(read):
    got = read("HUOBI.jsonl.zst")
    last = {
        m["ch"].split(".")[1]: m["tick"] for _, m in entries("HUOBI.jsonl.zst") if "depth" in m.get("ch", "")
    }
    assert {n: tuple(got.book(n)) for n in got.books} == {
        n: (dict(map(tuple, tick["bids"])), dict(map(tuple, tick["asks"]))) for n, tick in last.items()
    }
    assert got.rows["trade"]["trade_id"].min() > 0


def test_bitflyer_boards_are_as_replayed_from_their_snapshots(read):
    got, books = read("BITFLYER.jsonl.zst"), {}
    for _, message in entries("BITFLYER.jsonl.zst"):
        channel, body = message["params"]["channel"], message["params"]["message"]
        native = channel.removeprefix("lightning_board_snapshot_").removeprefix("lightning_board_")
        if "board_snapshot" in channel:
            books[native] = ({}, {})
        if "board" in channel and native in books:
            for half, side in enumerate(("bids", "asks")):
                applied(books[native][half], [(level["price"], level["size"]) for level in body[side]])
    assert {native: tuple(got.book(native)) for native in got.books if native in books} == books
    assert (got.rows["trade"]["ts_event"] % 1000 != 0).any()  # seven decimals of a second


def test_upbit_books_have_fifteen_levels_of_each_side(read):
    got = read("UPBIT.jsonl.zst")
    assert {len(half) for native in got.books for half in got.book(native)} == {15}
    assert {s.decode().partition("-")[2] for s in got.rows["instrument"]["symbol"].tolist()} == {"BTC", "KRW"}


def test_binance_quotes_made_from_depth_meet_those_the_venue_sends(read):
    got = read("binance-spot_btcusdt_20240808.gz")
    assert round(float((got.rows["trade"]["price"] * got.rows["trade"]["size"]).sum()), 4) == 13_084_074.1124
    quotes = got.rows["quote"]
    made = (quotes["flags"] & Flag.SYNTHETIC) != 0
    sent = {int(q["venue_seq"]): q for q in quotes[~made]}
    both = [(q, sent[int(q["venue_seq"])]) for q in quotes[made] if int(q["venue_seq"]) in sent]
    assert len(both) > 500
    columns = ["bid_price", "bid_size", "ask_price", "ask_size"]
    same = sum(all(a[c] == b[c] for c in columns) for a, b in both)
    assert same == len(both)
