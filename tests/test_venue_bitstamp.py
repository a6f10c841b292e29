"""Bitstamp: messages as its documentation shows them, and hostile ones."""

import json

import pytest
from hypothesis import given
from venue_frames import JSON, Heard, assert_sound, bids_asks, events, feed, one_bent, rows

from tickplant.feed.venues.bitstamp import Bitstamp
from tickplant.schema import Flag

URL = "https://www.bitstamp.net/api/v2/order_book/btcusd"


def diff(at, bids=(), asks=()):
    data = {"timestamp": "1643643584", "microtimestamp": str(at), "bids": list(bids), "asks": list(asks)}
    return {"event": "data", "channel": "diff_order_book_btcusd", "data": data}


def snapshot(at):
    return json.dumps(diff(at, [["100.5", "1.5"], ["100.4", "2"]], [["101", "3"]])["data"]).encode()


TRADE = {
    "event": "trade",
    "channel": "live_trades_btcusd",
    "data": {
        "id": 216000477,
        "timestamp": "1641343699",
        "amount": 0.0792,
        "amount_str": "0.07920000",
        "price": 3805.44,
        "price_str": "3805.44",
        "type": 1,
        "microtimestamp": "1641343699596000",
        "buy_order_id": 1443875737346049,
        "sell_order_id": 1443875731320832,
    },
}
ORDER = {
    "event": "order_created",
    "channel": "live_orders_btcusd",
    "data": {
        "id": 1443875737346049,
        "id_str": "1443875737346049",
        "order_type": 0,
        "datetime": "1641343699",
        "microtimestamp": "1641343699595000",
        "amount": 0.5,
        "amount_str": "0.50000000",
        "price": 3805,
        "price_str": "3805.00",
    },
}
SUBSCRIBED = {"event": "bts:subscription_succeeded", "channel": "live_trades_btcusd", "data": {}}
RECONNECT = {"event": "bts:request_reconnect", "channel": "", "data": ""}
PAIRS = [
    {
        "trading": "Enabled",
        "base_decimals": 8,
        "url_symbol": "btcusd",
        "name": "BTC/USD",
        "instant_and_market_orders": "Enabled",
        "minimum_order": "20.0 USD",
        "counter_decimals": 2,
    },
    {
        "trading": "Disabled",
        "base_decimals": 8,
        "url_symbol": "ethusd",
        "name": "ETH/USD",
        "counter_decimals": 2,
    },
]
ALL = [SUBSCRIBED, diff(5, [["100.6", "1"]]), diff(11, [["100.5", "0"]], [["100.9", "7.25"]]), TRADE, ORDER]


def test_trades_and_orders_are_read():
    got = feed(Bitstamp(), TRADE, ORDER)
    (trade,), (order,) = got["trade"], got["order"]
    assert trade == {
        "ts_event": 1641343699596000000,
        "ts_recv": trade["ts_recv"],
        "instrument": 1,
        "trade_id": 216000477,
        "price": 3805.44,
        "size": 0.0792,
        "side": "S",
        "action": "T",
    }
    assert (order["order_id"], order["action"], order["side"], order["size"]) == (
        1443875737346049,
        "A",
        "B",
        0.5,
    )
    assert got["instrument"][0]["symbol"] == "BTC-USD"


def test_changes_before_the_snapshot_are_left_out_and_later_ones_applied():
    venue = Bitstamp()
    assert "depth" not in feed(venue, diff(5, [["99", "1"]]), diff(11, [["100.5", "0"]], [["100.9", "7.25"]]))
    venue.respond(URL, snapshot(10), 7)
    got = rows(venue)
    assert [(r["action"], r.get("price")) for r in got["depth"]] == [
        ("R", None),
        ("A", 100.5),
        ("A", 100.4),
        ("A", 101.0),
        ("D", 100.5),
        ("A", 100.9),
    ]
    assert (got["depth"][-1]["venue_seq"], got["depth"][-1]["ts_event"]) == (11, 11_000)
    feed(venue, diff(11, [["98", "1"]]), diff(12, [["96", "1"]]))
    assert bids_asks(venue, "btcusd") == (
        [(100.4, 2.0), (98.0, 1.0), (96.0, 1.0)],
        [(100.9, 7.25), (101.0, 3.0)],
    )


def test_a_time_that_goes_back_is_a_loss():
    venue = Bitstamp()
    venue.respond(URL, snapshot(10), 7)
    got = feed(venue, diff(9, [["97", "1"]]), diff(11, [["98", "1"]]), diff(10, [["97", "1"]]))
    assert events(got) == ["gap"]
    assert not venue.books["btcusd"].live
    assert [r.url for r in venue.requests] == [URL]


def test_two_changes_at_the_same_time_are_both_applied():
    venue = Bitstamp()
    venue.respond(URL, snapshot(10), 7)
    feed(venue, diff(12, [["98", "1"]]), diff(12, [["97", "1"]]))
    assert [p for p, _ in bids_asks(venue, "btcusd")[0]] == [100.5, 100.4, 98.0, 97.0]


def test_a_lost_connection_empties_the_book_and_a_snapshot_is_asked_for():
    venue = Bitstamp()
    venue.respond(URL, snapshot(10), 7)
    venue.lost("ws", 8, "closed")
    assert [r.url for r in venue.requests] == [URL]
    assert events(rows(venue)) == ["disconnected", "gap"]
    venue.respond(URL, snapshot(20), 9)
    assert bids_asks(venue, "btcusd")[0][0] == (100.5, 1.5)


def test_the_venue_may_ask_for_another_connection():
    venue = Bitstamp()
    refused = {
        "event": "bts:error",
        "channel": "",
        "data": {"code": None, "message": "Bad subscription string."},
    }
    assert events(feed(venue, RECONNECT, refused)) == ["reconnect", "refused"]
    assert venue.reconnects == {"ws"}


def test_pairs_are_listed_and_subscribed_to():
    venue = Bitstamp(symbols=["BTC-USD"])
    (request,) = venue.begin()
    venue.respond(request.url, json.dumps(PAIRS).encode(), 1)
    got = rows(venue)
    assert [(s["kind"], s["value"]) for s in got["status"]] == [("trading", "Enabled")]
    assert (got["instrument"][0]["tick_size"], got["instrument"][0]["lot_size"]) == (0.01, 1e-8)
    (connection,) = venue.connections()
    assert [json.loads(m)["data"]["channel"] for m in connection.send] == [
        "live_trades_btcusd",
        "diff_order_book_btcusd",
        "live_orders_btcusd",
    ]
    venue.connected("ws", 1)
    assert [r.url for r in venue.requests] == [URL]


@pytest.mark.parametrize(
    "message",
    [
        {"event": "unheard of"},
        {"event": "data", "channel": "order_book_btcusd", "data": {}},
        diff("x"),
        diff(5, [["1"]]),
        TRADE | {"channel": "live_trades"},
        TRADE | {"data": TRADE["data"] | {"type": 2}},
        diff(2**63),
        TRADE | {"data": TRADE["data"] | {"amount_str": "-1"}},
        [],
        "",
        {},
        TRADE | {"channel": "diff_order_book_btcusd"},
    ],
)
def test_what_is_not_as_documented_is_malformed_and_nothing_else(message):
    venue = Bitstamp()
    venue.respond(URL, snapshot(1), 7)
    rows(venue)
    got = feed(venue, message)
    assert events(got)[0] == "malformed"
    assert not set(got) - {"event", "instrument", "depth", "quote"}
    assert [r["action"] for r in got["depth"]] == ["R"]


@given(message=JSON)
def test_any_json_is_accounted_for(message):
    assert_sound(Heard(Bitstamp())(message))
    venue = Bitstamp()
    venue.respond(URL, json.dumps(message).encode(), 1)
    assert venue.account.malformed == 1


@given(messages=one_bent(ALL))
def test_damaged_messages_make_no_wrong_rows(messages):
    assert_sound(Heard(Bitstamp()).answer(URL, snapshot(10))(*messages))


def test_orders_that_were_told_are_said_to_be_unknown_after_a_loss():
    venue = Bitstamp()
    feed(venue, ORDER)
    venue.lost("ws", 7, "a bad day")
    (row,) = rows(venue)["order"]
    assert (row["action"], row["flags"], row["instrument"]) == ("R", Flag.STALE, 1)
    venue.lost("ws", 8, "another")
    assert "order" not in rows(venue)
