"""Bithumb: messages as its documentation shows them, and hostile ones."""

import json

import pytest
from hypothesis import given
from venue_frames import JSON, Heard, assert_sound, bids_asks, events, feed, one_bent, rows

from tickplant.feed.venues.bithumb import Bithumb

URL = "https://api.bithumb.com/public/orderbook/BTC_KRW"
TRADE = {
    "type": "transaction",
    "content": {
        "list": [
            {
                "symbol": "BTC_KRW",
                "buySellGb": "1",
                "contPrice": "10579000",
                "contQty": "0.01",
                "contAmt": "105790.00",
                "contDtm": "2020-01-29 12:24:18.830039",
                "updn": "dn",
            },
            {
                "symbol": "BTC_KRW",
                "buySellGb": "2",
                "contPrice": "10580000",
                "contQty": "1.5",
                "contAmt": "15870000",
                "contDtm": "2020-01-29 00:00:00",
                "updn": "up",
            },
        ]
    },
}


def change(at, *levels):
    made = [
        {"symbol": "BTC_KRW", "orderType": t, "price": p, "quantity": q, "total": "1"} for t, p, q in levels
    ]
    return {"type": "orderbookdepth", "content": {"list": made, "datetime": str(at)}}


def snapshot(ms):
    data = {
        "timestamp": str(ms),
        "payment_currency": "KRW",
        "order_currency": "BTC",
        "bids": [
            {"quantity": "6.1189306", "price": "504000"},
            {"quantity": "10.35117828", "price": "503000"},
        ],
        "asks": [{"quantity": "2.67575", "price": "506000"}],
    }
    return json.dumps({"status": "0000", "data": data}).encode()


TICKER = {
    "type": "ticker",
    "content": {
        "tickType": "24H",
        "date": "20200129",
        "time": "121844",
        "openPrice": "2302",
        "closePrice": "2317",
        "symbol": "BTC_KRW",
    },
}
WHOLE = {
    "type": "orderbooksnapshot",
    "content": {
        "symbol": "BTC_KRW",
        "datetime": "1580268255000000",
        "asks": [["507000", "1"]],
        "bids": [["505000", "2"], ["504000", "3"]],
    },
}
CONNECTED = {"status": "0000", "resmsg": "Connected Successfully"}
ALL = [
    CONNECTED,
    TRADE,
    TICKER,
    change(1580268255000001, ("bid", "504000", "0"), ("ask", "505500", "2.5")),
    WHOLE,
    change(1580268255000009, ("bid", "503000", "1")),
]


def test_trades_are_of_seoul():
    sale, purchase = feed(Bithumb(), TRADE)["trade"]
    assert sale == {
        "ts_event": 1580268258830039000,
        "ts_recv": sale["ts_recv"],
        "instrument": 1,
        "price": 10579000.0,
        "size": 0.01,
        "side": "S",
        "action": "T",
    }
    assert (purchase["side"], purchase["ts_event"]) == ("B", 1580223600 * 10**9)


def test_changes_after_the_snapshot_are_applied():
    venue = Bithumb()
    feed(venue, change(1580268254999999, ("bid", "1", "1")), ALL[3])
    venue.respond(URL, snapshot(1580268255000), 7)
    assert bids_asks(venue, "BTC_KRW") == ([(503000.0, 10.35117828)], [(505500.0, 2.5), (506000.0, 2.67575)])
    got = feed(venue, WHOLE, ALL[5])
    assert got["depth"][0]["action"] == "R"
    assert bids_asks(venue, "BTC_KRW") == (
        [(505000.0, 2.0), (504000.0, 3.0), (503000.0, 1.0)],
        [(507000.0, 1.0)],
    )


def test_answers_are_status_and_tickers_ignored():
    venue = Bithumb()
    got = feed(venue, CONNECTED, {"status": "5100", "resmsg": "Invalid Filter Syntax"}, TICKER)
    assert [(s["kind"], s["value"]) for s in got["status"]] == [("system", "0000"), ("system", "5100")]
    assert events(got) == ["refused"]
    assert venue.account.ignored == {"statistics": 1}


def test_markets_are_listed_and_subscribed_to():
    venue = Bithumb(symbols=["BTC-KRW", "ETH-BTC"])
    (request,) = venue.begin()
    listed = [{"market": m} for m in ("KRW-BTC", "BTC-ETH", "KRW-ETH")] + [{"odd": 1}]
    venue.respond(request.url, json.dumps(listed).encode(), 1)
    (connection,) = venue.connections()
    assert connection.url == "wss://ws-api.bithumb.com/websocket/v1"
    (sent,) = map(json.loads, connection.send)
    assert sent[1:] == [
        {"type": t, "codes": ["KRW-BTC", "BTC-ETH"]} for t in ("trade", "orderbook", "ticker")
    ] + [{"format": "DEFAULT"}]


def test_lists_of_version_12_are_read():
    venue = Bithumb()
    data = {"status": "0000", "data": {"BTC": {"opening_price": "1"}, "date": "1622591001000"}}
    venue.respond("https://api.bithumb.com/public/ticker/ALL_KRW", json.dumps(data).encode(), 1)
    assert {n: i.symbol for n, i in venue.known.items()} == {"BTC_KRW": "BTC-KRW"}


def test_a_lost_connection_empties_the_book_and_a_snapshot_is_asked_for():
    venue = Bithumb()
    venue.respond(URL, snapshot(1), 7)
    rows(venue)
    venue.lost("ws", 8, "closed")
    assert events(rows(venue)) == ["disconnected", "gap"]
    assert [r.url for r in venue.requests] == [URL]


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "unheard of"},
        {},
        [],
        "",
        change("x", ("bid", "1", "1")),
        change(1, ("buy", "1", "1")),
        change(1, ("bid", "1", "-1")),
        change(2**63, ("bid", "1", "1")) | {"type": "transaction"},
        {"type": "transaction", "content": {"list": [TRADE["content"]["list"][0] | {"buySellGb": "3"}]}},
        {
            "type": "transaction",
            "content": {"list": [TRADE["content"]["list"][0] | {"contDtm": "yesterday"}]},
        },
    ],
)
def test_what_is_not_as_documented_is_malformed_and_nothing_else(bad):
    got = feed(Bithumb(), bad)
    assert events(got) == ["malformed"]
    assert not set(got) - {"event", "instrument"}


@given(any_json=JSON)
def test_any_json_is_accounted_for(any_json):
    assert_sound(Heard(Bithumb())(any_json))
    venue = Bithumb()
    venue.respond(URL, json.dumps(any_json).encode(), 1)
    assert venue.account.malformed == 1


@given(messages=one_bent(ALL))
def test_damaged_messages_make_no_wrong_rows(messages):
    assert_sound(Heard(Bithumb()).answer(URL, snapshot(1580268255000))(*messages))


def test_a_frame_of_several_books_is_applied_whole_or_not_at_all():
    venue = Bithumb()
    for pair in ("BTC_KRW", "ETH_KRW"):
        venue.respond(URL.replace("BTC_KRW", pair), snapshot(1_700_000_000_000), 7)
    rows(venue)
    both = change(1_700_000_000_000_001, ("bid", "504500", "1"), ("bid", "504600", "1"))
    both["content"]["list"][1]["symbol"] = "ETH_KRW"
    both["content"]["list"][1]["quantity"] = "-1"
    got = feed(venue, both)
    assert [d["action"] for d in got["depth"]] == ["R", "R"]
    assert events(got) == ["malformed", "gap", "gap"]


PRINT = {
    "type": "trade", "code": "KRW-BTC", "trade_price": 512300, "trade_volume": 2.25, "ask_bid": "BID",
    "trade_date": "2026-09-10", "trade_time": "09:00:32", "trade_timestamp": 1789000832000,
    "sequential_id": 17890008320421, "timestamp": 1789000832123, "stream_type": "REALTIME",
}  # fmt: skip
SHORT = {"ty": "trade", "cd": "KRW-BTC", "tp": 512400, "tv": 1, "ab": "ASK", "ttms": 1789000833000,
         "sid": 17890008330001, "st": "REALTIME"}  # fmt: skip
ORDERBOOK = {
    "type": "orderbook", "code": "KRW-BTC", "total_ask_size": 450.3, "total_bid_size": 63.3,
    "orderbook_units": [{"ask_price": 512400, "bid_price": 512300, "ask_size": 1.5, "bid_size": 0.25},
                        {"ask_price": 512500, "bid_price": 512200, "ask_size": 2, "bid_size": 4}],
    "timestamp": 1789000832123, "level": 1, "stream_type": "SNAPSHOT",
}  # fmt: skip
STATE = {"type": "ticker", "code": "KRW-BTC", "trade_price": 1, "market_state": "ACTIVE",
         "is_trading_suspended": False, "timestamp": 1789000832123}  # fmt: skip
PRESENT = [PRINT, SHORT, ORDERBOOK, STATE, {"status": "UP"}, {"error": {"name": "x", "message": "y"}}]


def test_trades_of_the_present_api_with_long_and_short_names():
    heard = Heard(Bithumb())(PRINT, SHORT)
    assert heard.table("trade", "trade_id", "price", "size", "side", "ts_event") == [
        (17890008320421, 512300.0, 2.25, "B", 1789000832000000000),
        (17890008330001, 512400.0, 1.0, "S", 1789000833000000000),
    ]
    assert heard.table("instrument", "symbol", "attributes") == [("BTC-KRW", "KRW-BTC")]
    heard({**PRINT, "stream_type": "SNAPSHOT"})  # repeated when subscribed to anew
    assert len(heard.table("trade", "price")) == 2


def test_each_orderbook_is_the_whole_book():
    heard = Heard(Bithumb())(ORDERBOOK)
    assert heard.book("KRW-BTC") == [[(512300.0, 0.25), (512200.0, 4.0)], [(512400.0, 1.5), (512500.0, 2.0)]]
    heard({"ty": "orderbook", "cd": "KRW-BTC", "tms": 1789000832124, "lv": 1,
           "obu": [{"ap": 512600, "bp": 512500, "as": 1, "bs": 2}]})  # fmt: skip
    assert heard.book("KRW-BTC") == [[(512500.0, 2.0)], [(512600.0, 1.0)]]
    assert heard.events() == []
    assert_sound(heard)


def test_a_book_of_wider_prices_never_replaces_the_finest():
    heard = Heard(Bithumb())({**ORDERBOOK, "level": 10000}, ORDERBOOK, {**ORDERBOOK, "level": 10000,
                             "orderbook_units": []})  # fmt: skip
    assert heard.book("KRW-BTC")[0][0] == (512300.0, 0.25)
    assert [k for k, _, _ in heard.events()] == ["gap", "other_book"]
    assert heard.venue.account.ignored == {"other book": 1}


def test_the_state_of_a_market_is_told_when_it_is_another():
    heard = Heard(Bithumb())(STATE, STATE, {**STATE, "is_trading_suspended": True})
    assert heard.table("status", "kind", "value", "level_1") == [
        ("state", "ACTIVE", 0.0), ("state", "ACTIVE", 1.0)
    ]  # fmt: skip


def test_errors_and_pongs_of_the_present_api_are_accounted_for():
    heard = Heard(Bithumb())(*PRESENT[4:])
    assert [k for k, _, _ in heard.events()] == ["refused"]
    assert heard.venue.account.ignored == {"pong": 1}


def test_trades_that_were_missed_are_asked_for_by_number():
    heard = Heard(Bithumb())(PRINT)
    heard.venue.lost("ws", 5, "why")
    heard({**PRINT, "sequential_id": 17890008320500})
    (url,) = {r.url for r in heard.venue.requests}
    assert url == "https://api.bithumb.com/v1/trades/ticks?market=KRW-BTC&count=500&cursor=17890008320500"
    heard.answer(url, [{"timestamp": 1789000832100, "trade_price": 5, "trade_volume": 1, "ask_bid": "ASK",
                        "sequential_id": n} for n in (17890008320450, 17890008320421)])  # fmt: skip
    assert [t for (t,) in heard.table("trade", "trade_id")] == [
        17890008320421, 17890008320500, 17890008320450
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [{"trade_price": 0}, {"trade_volume": 0}, {"ask_bid": "X"}, {"code": ""}])
def test_what_can_be_no_trade_is_malformed(wrong):
    heard = Heard(Bithumb())({**PRINT, **wrong})
    assert heard.venue.malformed == 1
    assert heard.table("trade", "price") == []


@given(messages=one_bent(PRESENT))
def test_damaged_messages_of_the_present_api_make_no_wrong_rows(messages):
    assert_sound(Heard(Bithumb())(*messages))
