"""Gemini: messages as its documentation shows them, and hostile ones."""

import json

import pytest
from hypothesis import given
from venue_frames import JSON, Heard, assert_sound, bids_asks, events, feed, one_bent, rows

from tickplant.feed.venues.gemini import Gemini

OLD = {
    "type": "trade",
    "symbol": "BTCUSD",
    "event_id": 169841458,
    "timestamp": 1560976400428,
    "price": "9122.04",
    "quantity": "0.0073173",
    "side": "sell",
    "tid": 2840140800042677,
}
SNAPSHOT = {
    "type": "l2_updates",
    "symbol": "BTCUSD",
    "auction_events": [],
    "trades": [OLD],
    "changes": [["buy", "9122.04", "0.00121425"], ["buy", "9122.00", "1"], ["sell", "9122.07", "0.98942292"]],
}
CHANGE = {
    "type": "l2_updates",
    "symbol": "BTCUSD",
    "changes": [["buy", "9122.04", "0"], ["sell", "9122.06", "2"]],
}
TRADE = OLD | {"event_id": 3575573053, "timestamp": 1560976400999, "side": "buy", "tid": 2840140800042678}
AUCTION = {
    "type": "auction_result",
    "symbol": "BTCUSD",
    "time_ms": 1486501200000,
    "result": "success",
    "highest_bid_price": "1",
    "lowest_ask_price": "2",
    "collar_price": "1.5",
    "auction_price": "9122.05",
    "auction_quantity": "12.5",
}
BEAT = {"type": "heartbeat", "timestamp": 1547742998508}
DETAILS = {
    "symbol": "BTCUSD",
    "base_currency": "BTC",
    "quote_currency": "USD",
    "tick_size": 1e-8,
    "quote_increment": 0.01,
    "min_order_size": "0.00001",
    "status": "open",
    "wrap_enabled": False,
    "product_type": "spot",
}
PERP = DETAILS | {
    "symbol": "BTCGUSDPERP",
    "quote_currency": "GUSD",
    "product_type": "swap",
    "status": "limit_only",
}
ALL = [SNAPSHOT, CHANGE, TRADE, AUCTION, BEAT, CHANGE]


def test_a_snapshot_with_trades_and_its_changes():
    venue = Gemini()
    got = feed(venue, SNAPSHOT, CHANGE, TRADE)
    assert events(got) == []
    old, new = got["trade"]
    assert (old["flags"], old["side"], old["trade_id"], old["venue_seq"]) == (
        1,
        "S",
        2840140800042677,
        169841458,
    )
    assert ("flags" in new, new["side"], new["ts_event"]) == (False, "B", 1560976400999000000)
    assert bids_asks(venue, "BTCUSD") == ([(9122.0, 1.0)], [(9122.06, 2.0), (9122.07, 0.98942292)])


def test_changes_before_a_snapshot_say_nothing_and_another_snapshot_begins_anew():
    venue = Gemini()
    assert "depth" not in feed(venue, CHANGE)
    feed(venue, SNAPSHOT, CHANGE, SNAPSHOT | {"trades": []})
    assert bids_asks(venue, "BTCUSD")[0] == [(9122.04, 0.00121425), (9122.0, 1.0)]


def test_an_auctions_result_is_a_trade_of_its_kind():
    got = feed(Gemini(), AUCTION, AUCTION | {"result": "failure"})
    assert [(t["price"], t["size"], t["flags"]) for t in got["trade"]] == [(9122.05, 12.5, 32)]


def test_heartbeats_are_ignored():
    venue = Gemini()
    assert feed(venue, BEAT, {"type": "candles"}) == {}
    assert venue.account.ignored == {"heartbeat": 1, "candles": 1}


def test_symbols_are_asked_for_one_by_one_and_subscribed_to():
    venue = Gemini()
    (request,) = venue.begin()
    venue.respond(request.url, b'["btcusd","btcgusdperp"]', 1)
    urls = [r.url for r in venue.requests]
    assert urls == [f"https://api.gemini.com/v1/symbols/details/{n}" for n in ("btcusd", "btcgusdperp")]
    for url, details in zip(urls, (DETAILS, PERP), strict=True):
        venue.respond(url, json.dumps(details).encode(), 2)
    got = rows(venue)
    assert [(i["symbol"], i["kind"], i["tick_size"], i["lot_size"]) for i in got["instrument"]] == [
        ("BTC-USD", "spot", 0.01, 1e-8),
        ("BTC-GUSD-PERP", "perp", 0.01, 1e-8),
    ]
    assert [s["value"] for s in got["status"]] == ["open", "limit_only"]
    (connection,) = venue.connections()
    assert json.loads(connection.send[0])["subscriptions"] == [
        {"name": "l2", "symbols": ["BTCUSD", "BTCGUSDPERP"]}
    ]


def test_an_unreadable_message_takes_the_book_out_of_step_and_subscribes_again():
    venue = Gemini()
    got = feed(venue, SNAPSHOT, "{")
    assert events(got) == ["malformed", "gap"]
    assert [json.loads(m)["type"] for _, m in venue.replies] == ["unsubscribe", "subscribe"]


def test_a_perpetual_is_told_by_its_name_where_it_is_not_listed():
    venue = Gemini()
    assert [venue.instrument(n).symbol for n in ("SOLUSDCPERP", "ETHSGD", "BTCEUR")] == [
        "SOL-USDC-PERP",
        "ETH-SGD",
        "BTC-EUR",
    ]
    with pytest.raises(ValueError, match="ETH-GUSD or ETHG-USD"):
        venue.instrument("ETHGUSD")


@pytest.mark.parametrize(
    "message",
    [
        {"type": "unheard of"},
        CHANGE | {"changes": [["up", "1", "1"]]},
        CHANGE | {"changes": [["buy", "1"]]},
        CHANGE | {"changes": [["buy", "1", "-1"]]},
        TRADE | {"price": "x"},
        TRADE | {"symbol": "NO SUCH"},
        SNAPSHOT | {"trades": [OLD, OLD | {"quantity": "-1"}]},
        [],
        "",
        None,
        TRADE | {"timestamp": "1"},
    ],
)
def test_what_is_not_as_documented_is_malformed_and_nothing_else(message):
    got = feed(Gemini(), message if isinstance(message, str) else json.dumps(message))
    assert events(got) == ["malformed"]
    assert not set(got) - {"event", "instrument"}


@given(message=JSON)
def test_any_json_is_accounted_for(message):
    assert_sound(Heard(Gemini())(SNAPSHOT, message))


@given(messages=one_bent(ALL))
def test_damaged_messages_make_no_wrong_rows(messages):
    assert_sound(Heard(Gemini())(*messages))


def test_details_are_asked_for_of_what_is_wanted_and_of_what_its_name_does_not_tell():
    venue = Gemini(["BTC-USD"])
    venue.respond(f"{venue.REST}/symbols", b'["btcusd", "ethusd", "odd"]', 1)
    assert [r.url.rpartition("/")[2] for r in venue.requests] == ["btcusd", "odd"]
