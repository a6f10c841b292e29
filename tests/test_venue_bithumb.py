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
    assert venue.account.ignored == {"ticker": 1}


def test_markets_are_listed_and_subscribed_to():
    venue = Bithumb(symbols=["BTC-KRW", "ETH-BTC"])
    for request, base in zip(venue.begin(), ("BTC", "ETH"), strict=True):
        data = {"status": "0000", "data": {base: {"opening_price": "1"}, "date": "1622591001000"}}
        venue.respond(request.url, json.dumps(data).encode(), 1)
    (connection,) = venue.connections()
    assert [json.loads(m) for m in connection.send] == [
        {"type": t, "symbols": ["BTC_KRW", "ETH_BTC"]} for t in ("transaction", "orderbookdepth")
    ]
    venue.connected("ws", 1)
    assert venue.requests[0].url == URL


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
