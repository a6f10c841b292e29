"""Bybit v5: spot, linear, inverse."""

import json

import hypothesis
import pytest
from venue_frames import START, Heard, assert_sound, close, noise

from tickplant.feed.venues.bybit import ARGS, GROUP, Bybit

NAN = float("nan")
MS = START // 1_000_000
PERP = {"symbol": "BTCUSDT", "contractType": "LinearPerpetual", "baseCoin": "BTC", "quoteCoin": "USDT",
    "deliveryTime": "0",
        "priceFilter": {"tickSize": "0.10"}, "lotSizeFilter": {"qtyStep": "0.001"}}  # fmt: skip
LINEAR = [PERP, {**PERP, "symbol": "BTC-29DEC23", "contractType": "LinearFutures", "quoteCoin": "USDC",
                 "deliveryTime": "1703836800000"}]  # fmt: skip
SPOT = [{"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "priceFilter": {"tickSize": "0.01"},
         "lotSizeFilter": {"basePrecision": "0.000001"}}]  # fmt: skip
INVERSE = [{**PERP, "symbol": "BTCUSD", "contractType": "InversePerpetual", "quoteCoin": "USD"}]
URL = "https://api.bybit.com/v5/market/instruments-info?category=linear"


def known():
    heard = Heard(Bybit(), "bybit.linear.0")
    for category, listed in (("linear", LINEAR), ("spot", SPOT), ("inverse", INVERSE)):
        heard.answer(URL, {"result": {"category": category, "list": listed, "nextPageCursor": ""}})
    return heard


def book(kind, u, bids, asks, depth=200):
    return {"topic": f"orderbook.{depth}.BTCUSDT", "type": kind, "ts": MS, "cts": MS,
            "data": {"s": "BTCUSDT", "b": bids, "a": asks, "u": u, "seq": 99}}  # fmt: skip


def trade(**other):
    return {"T": MS, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "16578.50",
        "i": "20f43950-d8dd-5b31-9112-a178eb6023af",
            "BT": False, "seq": 178, **other}  # fmt: skip


def trades(*each):
    return {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": MS, "data": list(each)}


def ticker(kind, **data):
    return {
        "topic": "tickers.BTCUSDT",
        "type": kind,
        "ts": MS,
        "cs": 7,
        "data": {"symbol": "BTCUSDT", **data},
    }


WHOLE = ticker("snapshot", bid1Price="99", bid1Size="1", ask1Price="101", ask1Size="2", markPrice="100",
    indexPrice="100.5",
               fundingRate="0.0001", nextFundingTime="1")  # fmt: skip
SNAPSHOT = book("snapshot", 100, [["99", "1"], ["98", "2"]], [["101", "1"]])
ALL = [SNAPSHOT, book("delta", 101, [["99", "0"]], []), book("snapshot", 1, [["1", "1"]], [], 1),
       book("delta", 2, [["2", "1"]], [["3", "1"]], 1), trades(trade(), trade(i="5")), WHOLE,
           ticker("delta", bid1Size="5"),
       {"topic": "kline.1.BTCUSDT", "type": "snapshot", "data": []}, {"success": True, "op": "subscribe",
       "ret_msg": ""},
       {"success": False, "op": "subscribe", "ret_msg": "no"}]  # fmt: skip


def test_a_name_stands_for_what_the_connection_is_for():
    heard = known()(trades(trade()))(
        trades(trade(i="2280000001739247417", S="Sell", BT=True)), conn="bybit.spot.0"
    )
    heard.venue.urls["BYBIT.ws.9"] = "wss://stream.bybit.com/v5/public/inverse"
    heard(trades(trade(s="BTCUSD", RPI=True)), conn="BYBIT.ws.9")
    symbols = heard.symbols()
    rows = heard.table(
        "trade", "instrument", "trade_id", "price", "size", "side", "condition", "venue_seq", "ts_event"
    )
    assert [(symbols[r[0]], *r[1:]) for r in rows] == [
        ("BTC-USDT-PERP", 0, 16578.5, 0.001, "B", "", 178, START),
        ("BTC-USDT", 2280000001739247417, 16578.5, 0.001, "S", "BT", 178, START),
        ("BTC-USD-PERP", 0, 16578.5, 0.001, "B", "RPI", 178, START),
    ]
    heard(trades(trade()), conn="somewhere")
    assert [k for k, _, _ in heard.events()] == ["malformed"]


def test_instruments_of_each_category_and_the_next_page_is_asked_for():
    venue = known().venue
    assert {n: (i.symbol, i.tick_size, i.lot_size) for n, i in venue.known.items()} == {
        "linear/BTCUSDT": ("BTC-USDT-PERP", 0.1, 0.001), "linear/BTC-29DEC23": ("BTC-USDC-20231229", 0.1,
        0.001),
        "spot/BTCUSDT": ("BTC-USDT", 0.01, 0.000001), "inverse/BTCUSD": ("BTC-USD-PERP", 0.1,
        0.001)}  # fmt: skip
    assert not venue.requests
    page = {"result": {"category": "linear", "list": LINEAR, "nextPageCursor": "next%3D1"}}
    Heard(venue).answer(URL, page)
    assert [r.url for r in venue.requests] == [
        f"{venue.REST}/instruments-info?category=linear&limit=1000&cursor=next%3D1"
    ]
    assert len(venue.begin()) == 3


def test_tickers_are_merged_and_only_what_a_message_says_is_a_row():
    heard = known()(
        WHOLE,
        ticker("delta", ask1Size="0", ask1Price=""),
        ticker("delta", markPrice="99.5"),
        ticker("delta", volume24h="1"),
    )
    quotes = heard.table("quote", "bid_price", "bid_size", "ask_price", "ask_size", "venue_seq")
    assert quotes[0] == (99.0, 1.0, 101.0, 2.0, 7)
    assert close(quotes[1], (99.0, 1.0, NAN, 0.0, 7))
    assert len(quotes) == 2
    assert heard.table("status", "kind", "level_1", "level_2", "level_3") == [
        ("funding", 100.0, 100.5, 0.0001), ("funding", 99.5, 100.5, 0.0001)]  # fmt: skip


def test_a_change_of_a_ticker_that_was_never_whole_or_before_a_reconnection_is_no_quote():
    heard = known()(ticker("delta", bid1Size="5"))
    assert "quote" not in heard.rows()
    heard(WHOLE)
    heard.venue.connected("bybit.linear.0", START)
    heard(ticker("delta", bid1Size="5"))
    assert len(heard.table("quote", "bid_size")) == 1


def test_the_top_of_the_book_is_a_quote_and_no_depth():
    heard = known()(book("snapshot", 1, [["99", "1"]], [["101", "2"]], 1), book("delta", 2, [["99", "0"],
        ["98", "3"]], [], 1),
                    book("delta", 3, [["98", "0"]], [], 1))  # fmt: skip
    rows = heard.table("quote", "venue_seq", "bid_price", "bid_size", "ask_price", "ask_size")
    assert rows[:2] == [(1, 99.0, 1.0, 101.0, 2.0), (2, 98.0, 3.0, 101.0, 2.0)]
    assert close(rows[2], (3, NAN, 0.0, 101.0, 2.0))
    assert "depth" not in heard.rows()


def test_snapshot_changes_gap_and_a_restart_of_the_service():
    heard = known()(SNAPSHOT, book("delta", 101, [["99", "0"]], [["100.5", "3"]]))
    assert heard.book("linear/BTCUSDT") == [[(98.0, 2.0)], [(100.5, 3.0), (101.0, 1.0)]]
    heard(book("delta", 104, [], []))
    assert heard.events() == [("gap", 102, 103)]
    asked = [(conn, json.loads(m)) for conn, m in heard.venue.replies]
    assert asked == [
        ("bybit.linear.0", {"op": op, "args": ["orderbook.200.BTCUSDT"]})
        for op in ("unsubscribe", "subscribe")
    ]
    heard(book("snapshot", 1, [["97", "1"]], []), book("delta", 2, [["96", "1"]], []))
    assert heard.book("linear/BTCUSDT") == [[(97.0, 1.0), (96.0, 1.0)], []]
    assert len(heard.events()) == 1


def test_the_books_of_one_name_in_two_categories_are_two():
    heard = known()(SNAPSHOT)(book("snapshot", 5, [["1", "1"]], []), conn="bybit.spot.0")
    assert heard.book("linear/BTCUSDT")[0][0] == (99.0, 1.0)
    assert heard.book("spot/BTCUSDT")[0][0] == (1.0, 1.0)
    heard.venue.lost("bybit.spot.0", START, "why")
    assert heard.venue.books["linear/BTCUSDT"].live


def test_answers_klines_and_refusals_are_accounted_for():
    heard = known()(
        *ALL[-3:],
        {"op": "pong"},
        {"topic": "unheard.X", "type": "snapshot"},
        {"topic": "tickers.X", "type": "?"},
        {},
    )
    assert heard.venue.account.ignored == {"kline": 1, "response": 2}
    assert [k for k, _, _ in heard.events()] == ["refused", "malformed", "malformed", "malformed"]


@pytest.mark.parametrize(
    "bad", [{"p": "x"}, {"v": "-1"}, {"S": "Hold"}, {"T": 1 << 70}, {"s": "NO SUCH"}, {"seq": 1 << 70}]
)
def test_one_bad_trade_of_a_message_leaves_none(bad):
    heard = known()(trades(trade(), trade(**bad)))
    assert "trade" not in heard.rows()
    assert heard.venue.account.malformed == 1


def test_subscriptions_are_by_category_in_groups():
    venue = known().venue
    made = {c.name: c for c in venue.connections()}
    assert set(made) == {"bybit.spot.0", "bybit.linear.0", "bybit.inverse.0"}
    topics = [t for m in made["bybit.spot.0"].send for t in json.loads(m)["args"]]
    assert topics == ["publicTrade.BTCUSDT", "orderbook.1.BTCUSDT", "orderbook.200.BTCUSDT"]
    assert "tickers.BTCUSDT" in "".join(made["bybit.linear.0"].send)
    assert made["bybit.spot.0"].url.endswith("/spot")
    venue.known |= {f"spot/C{i}": venue.known["spot/BTCUSDT"] for i in range(GROUP)}
    more = [c for c in venue.connections() if c.name.startswith("bybit.spot")]
    assert len(more) == 2
    assert max(len(json.loads(m)["args"]) for m in more[0].send) == ARGS


@hypothesis.given(frames=noise(ALL))
def test_no_frame_whatever_makes_a_wrong_row(frames):
    assert_sound(known()(SNAPSHOT, *frames))
