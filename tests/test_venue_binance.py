"""Binance: spot, USD-M and COIN-M futures."""

import json

import hypothesis
import pytest
from venue_frames import Heard, assert_sound, close, noise

from tickplant.feed.venues.binance import GROUP, Binance, BinanceCoinm, BinanceUsdm
from tickplant.schema import Flag

NAN = float("nan")
LIST = {"symbols": [{"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": [
    {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"}, {"filterType": "LOT_SIZE",
    "stepSize": "0.00001000"}]}]}  # fmt: skip


def stream(kind, **data):
    return {"stream": f"btcusdt@{kind}", "data": {"s": "BTCUSDT", "E": 1_700_000_000_123, **data}}


def trade(t=10, **other):
    return stream(
        "trade",
        **{"e": "trade", "t": t, "p": "100.50", "q": "0.25", "T": 1_700_000_000_100, "m": True, **other},
    )


def ticker(**other):
    return stream("bookTicker", **{"u": 7, "b": "100.1", "B": "2", "a": "100.2", "A": "3", **other})


def depth(first, last, bids=(), asks=(), **other):
    return stream("depth@100ms", U=first, u=last, b=list(bids), a=list(asks), **other)


SNAPSHOT = {"lastUpdateId": 100, "bids": [["99.0", "1"], ["98.0", "2"]], "asks": [["101.0", "1"]]}
WHERE = "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"
ALL = [trade(), trade(11), ticker(), depth(101, 102, [["99.5", "1"]]), depth(103, 103, [], [["101",
    "0"]]), SNAPSHOT,
       stream("kline_1m", k={}), stream("markPrice@1s", p="1", i="2", r="0.0001"), {"result": None,
           "id": 1}]  # fmt: skip


def test_a_trade_of_a_maker_who_bought_is_a_sale():
    heard = Heard(Binance()).answer("https://x/exchangeInfo", LIST)(trade(10), trade(11, m=False))
    assert heard.table("trade", "trade_id", "price", "size", "side", "action", "ts_event") == [
        (10, 100.5, 0.25, "S", "T", 1_700_000_000_100_000_000),
        (11, 100.5, 0.25, "B", "T", 1_700_000_000_100_000_000),
    ]
    assert heard.table("instrument", "symbol", "kind", "tick_size", "lot_size", "venue", "attributes") == [
        ("BTC-USDT", "spot", 0.01, 0.00001, "BINANCE", "BTCUSDT")
    ]


def test_trades_that_are_missing_and_those_that_come_twice_are_told():
    heard = Heard(Binance())(trade(10), trade(13), trade(13), trade(14))
    assert heard.events() == [("gap", 11, 12), ("duplicate", 13, 13)]
    assert [t for (t,) in heard.table("trade", "trade_id")] == [10, 13, 14]
    heard(trade(5_000_000_000_000), trade(15), trade(16))  # one wild number does not end the series
    assert [t for (t,) in heard.table("trade", "trade_id")][-2:] == [15, 16]


def test_the_best_prices_are_a_quote_and_an_empty_side_is_nan():
    heard = Heard(Binance())(ticker(), ticker(b="0.00000000", B="0.00000000"))
    rows = heard.table("quote", "venue_seq", "bid_price", "bid_size", "ask_price", "ask_size")
    assert rows[0] == (7, 100.1, 2.0, 100.2, 3.0)
    assert close(rows[1], (7, NAN, 0.0, 100.2, 3.0))


def test_changes_before_the_snapshot_that_overlap_it_and_after_it_make_the_book():
    heard = Heard(Binance())(
        depth(90, 95, [["1", "1"]]), depth(96, 101, [["99.0", "5"]]), depth(102, 102, [["98.0", "0"]])
    )
    heard.answer(WHERE, SNAPSHOT)
    heard(depth(103, 104, [["99.5", "1"]], [["101.0", "2"]]))
    assert heard.book("BTCUSDT") == [[(99.5, 1.0), (99.0, 5.0)], [(101.0, 2.0)]]
    assert heard.events() == []


def test_a_first_change_after_the_snapshot_may_overlap_it():
    heard = Heard(Binance()).answer(WHERE, SNAPSHOT)(depth(98, 103, [["99.5", "1"]]))
    assert heard.book("BTCUSDT")[0][0] == (99.5, 1.0)
    assert heard.events() == []


def test_a_hole_makes_the_book_stale_asks_once_and_the_answer_heals_it():
    venue = Binance()
    heard = Heard(venue).answer(WHERE, SNAPSHOT)(
        depth(101, 101), depth(103, 104, [["99.5", "1"]]), depth(105, 105)
    )
    assert heard.events() == [("gap", 102, 102)]
    assert [r.url for r in venue.requests] == [WHERE]
    assert heard.book("BTCUSDT") == [[], []]
    heard.answer(WHERE, {**SNAPSHOT, "lastUpdateId": 102})
    assert heard.book("BTCUSDT")[0] == [(99.5, 1.0), (99.0, 1.0), (98.0, 2.0)]
    heard.answer(WHERE, SNAPSHOT)  # late: the book is ahead of it
    assert venue.books["BTCUSDT"].seq == 105
    rows = heard.rows()
    assert rows["depth"]["flags"][0] == Flag.SNAPSHOT
    assert_sound(heard)


def test_a_snapshot_among_the_frames_is_of_the_only_book():
    heard = Heard(Binance())(depth(101, 101), SNAPSHOT)
    assert heard.venue.books["BTCUSDT"].live
    assert heard.venue.account.messages == {"depth": 1, "depth snapshot": 1}


def test_what_is_no_message_is_malformed_and_makes_books_stale():
    heard = Heard(Binance()).answer(WHERE, SNAPSHOT)(
        trade(p="1e"), b"", stream("unheard"), depth(101, 101, [["99", "-1"]])
    )
    assert heard.venue.account.malformed == 4
    assert [k for k, _, _ in heard.events()] == ["malformed", "gap", "malformed", "malformed", "malformed"]
    assert not heard.venue.books["BTCUSDT"].live


def test_connections_have_all_streams_of_what_is_wanted_in_groups():
    venue = Binance(channels=["trades", "book"])
    many = [{"symbol": f"C{i}USDT", "baseAsset": f"C{i}", "quoteAsset": "USDT"} for i in range(GROUP + 1)]
    venue.respond("https://x/exchangeInfo", json.dumps({"symbols": many}).encode(), 1)
    first, second = venue.connections()
    assert second.url == f"{venue.SOCKET}?streams=c{GROUP}usdt@trade/c{GROUP}usdt@depth@100ms"
    venue.connected(second.name, 1)
    assert [r.url for r in venue.requests] == [f"{venue.REST}/depth?symbol=C{GROUP}USDT&limit=1000"]
    assert first.url.count("@") == 3 * GROUP


def test_a_lost_connection_concerns_only_its_own_books():
    venue = Binance()
    heard = Heard(venue).answer(WHERE, SNAPSHOT)(depth(101, 101), conn="a")
    venue.lost("b", 5, "why")
    assert venue.books["BTCUSDT"].live
    venue.lost("a", 5, "why")
    assert not venue.books["BTCUSDT"].live
    assert [k for k, _, _ in heard.events()] == ["disconnected", "disconnected", "gap"]


def test_futures_have_their_names_chains_and_funding():
    listed = [{**LIST["symbols"][0], "contractType": "PERPETUAL"},
              {**LIST["symbols"][0], "symbol": "BTCUSDT_240628",
              "contractType": "CURRENT_QUARTER"}]  # fmt: skip
    heard = Heard(BinanceUsdm()).answer("https://x/exchangeInfo", {"symbols": listed})
    assert [i.symbol for i in heard.venue.known.values()] == ["BTC-USDT-PERP", "BTC-USDT-20240628"]
    heard(
        stream("aggTrade", a=4, p="1.5", q="2", T=5, m=False),
        stream("markPrice@1s", p="10", i="11", r="0.0001"),
    )
    assert heard.table("status", "kind", "level_1", "level_2", "level_3") == [("funding", 10.0, 11.0, 0.0001)]
    assert heard.table("trade", "trade_id", "price", "side") == [(4, 1.5, "B")]
    heard.answer(WHERE, SNAPSHOT)(depth(95, 105, pu=90), depth(106, 109, pu=105), depth(111, 112, pu=110))
    assert heard.events() == [("gap", 110, 110)]
    coin = Heard(BinanceCoinm()).answer(
        "https://x/exchangeInfo",
        {"symbols": [{**listed[0], "symbol": "BTCUSD_PERP", "quoteAsset": "USD", "contractSize": 100}]},
    )
    assert [(i.symbol, i.multiplier) for i in coin.venue.known.values()] == [("BTC-USD-PERP", 100.0)]


@pytest.mark.parametrize("venue", [Binance, BinanceUsdm])
@hypothesis.given(frames=noise(ALL))
def test_no_frame_whatever_makes_a_wrong_row(venue, frames):
    assert_sound(Heard(venue())(depth(101, 101), SNAPSHOT, *frames))


def test_two_holes_that_one_request_is_for_stay_gaps_if_its_answers_can_not_be_read():
    heard = Heard(Binance())(trade(10), trade(13), trade(16))
    (url,) = {r.url for r in heard.venue.requests}
    for _ in range(8):
        heard.answer(url, b"busy")
    gaps = [e for e in heard.events() if e[0] == "gap"]
    assert gaps == [("gap", 11, 12), ("gap", 14, 15)] * 2
    assert url not in heard.venue.holes
