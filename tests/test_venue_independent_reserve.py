"""Independent Reserve: messages as its documentation shows them, and hostile ones."""

import json

import pytest
from hypothesis import given
from venue_frames import JSON, Heard, assert_sound, bids_asks, events, feed, one_bent, rows

from tickplant.feed.venues.independent_reserve import IndependentReserve, short
from tickplant.schema import Flag

URL = "https://api.independentreserve.com/Public/GetAllOrders?primaryCurrencyCode={}&secondaryCurrencyCode={}"
GUIDS = [f"{i}0000000-3d3b-4c44-95be-f00bd4d81eb{i}" for i in range(8)]
MS = 1649023809209


def message(event, nonce, guid, side="LimitBid", *, at=MS, coin="eth", **data):
    data = {"OrderType": side, "OrderGuid": GUIDS[guid]} | data
    return {"Channel": f"orderbook-{coin}", "Nonce": nonce, "Data": data, "Time": at, "Event": event}


def new(nonce, guid, aud, volume, **more):
    return message("NewOrder", nonce, guid, Price={"aud": aud, "usd": aud / 2}, Volume=volume, **more)


def snapshot(bids, asks):
    sides = [[{"Guid": GUIDS[g], "Price": p, "Volume": v} for g, p, v in side] for side in (bids, asks)]
    return json.dumps(
        {
            "BuyOrders": sides[0],
            "SellOrders": sides[1],
            "PrimaryCurrencyCode": "Eth",
            "SecondaryCurrencyCode": "Aud",
            "CreatedTimestampUtc": "2022-04-03T22:10:09.2090000Z",
        }
    ).encode()


def ready(bids=((0, 100.0, 1.5), (1, 100.0, 0.5)), asks=((2, 101.0, 2),)):
    """With a book of ETH-AUD in step."""
    venue = IndependentReserve()
    venue.respond(URL.format("eth", "aud"), snapshot(bids, asks), 7)
    return venue


TRADE = {
    "Channel": "ticker-eth-aud",
    "Nonce": 20,
    "Time": 1571186976497,
    "Event": "Trade",
    "Data": {
        "TradeGuid": "6d1c2e90-592a-409c-a8d8-58b2d25e0b0b",
        "Pair": "eth-aud",
        "TradeDate": "2019-10-16T11:49:36.4971348+11:00",
        "Price": 4262.18,
        "Volume": 0.57,
        "BidGuid": GUIDS[0],
        "OfferGuid": GUIDS[1],
        "Side": "Buy",
    },
}
BEAT = {"Time": MS, "Event": "Heartbeat"}
SUBSCRIBED = {"Data": ["orderbook-eth"], "Time": MS, "Event": "Subscriptions"}
BOOK = snapshot(((0, 100.0, 1.5), (1, 100.0, 0.5)), ((2, 101.0, 2),))
ALL = [
    SUBSCRIBED,
    BEAT,
    new(1, 3, 99.5, 1),
    message("OrderChanged", 2, 0, Volume=0.25),
    message("OrderChanged", 3, 2, "LimitOffer", Volume=0),
    message("OrderCanceled", 4, 1),
    TRADE,
    new(5, 4, 102.5, 3, side="LimitOffer"),
    message("OrderCanceled", 6, 3),
]


def test_a_snapshots_orders_add_up_to_levels():
    venue = ready()
    got = rows(venue)
    begin, *orders = got["order"]
    assert (begin["action"], begin["flags"]) == ("R", 1)
    assert [(o["order_id"], o["price"], o["size"], o["side"], o["flags"]) for o in orders] == [
        (short(GUIDS[0]), 100.0, 1.5, "B", 1),
        (short(GUIDS[1]), 100.0, 0.5, "B", 1),
        (short(GUIDS[2]), 101.0, 2.0, "S", 1),
    ]
    assert venue.books["eth-aud"].levels.top(0, 5) == [(100.0, 2.0, 2)]
    assert bids_asks(venue, "eth-aud")[1] == [(101.0, 2.0)]


def test_orders_come_are_reduced_and_go():
    venue = ready()
    rows(venue)
    got = feed(venue, *ALL)
    assert events(got) == []
    assert [(o["action"], o.get("price"), o.get("size")) for o in got["order"]] == [
        ("A", 99.5, 1.0),
        ("X", 100.0, 0.25),
        ("X", 101.0, None),
        ("D", 100.0, None),
        ("A", 102.5, 3.0),
        ("D", 99.5, None),
    ]
    assert venue.books["eth-aud"].levels.top(0, 5) == [(100.0, 0.25, 1)]
    assert bids_asks(venue, "eth-aud")[1] == [(102.5, 3.0)]
    assert "eth-usd" in venue.books
    assert not venue.books["eth-usd"].live  # its own snapshot is missing
    (trade,) = got["trade"]
    assert (trade["price"], trade["size"], trade["side"], trade["venue_seq"]) == (4262.18, 0.57, "B", 20)
    assert trade["ts_event"] == 1571186976497134800
    assert 0 < trade["trade_id"] < 2**63


def test_changes_around_the_snapshot_are_applied_once():
    venue = IndependentReserve()
    feed(
        venue,
        new(1, 0, 100.0, 1.5, at=MS - 5000),
        new(2, 3, 99.0, 1, at=MS - 10),
        message("OrderCanceled", 3, 3, at=MS - 5),
        new(4, 4, 98.0, 1, at=MS - 3),
        new(5, 5, 97.0, 2, at=MS + 5),
        message("OrderCanceled", 6, 1, at=MS + 6),
    )
    whole = snapshot([(0, 100.0, 1.5), (1, 100.0, 0.5), (4, 98.0, 1)], [])
    venue.respond(URL.format("eth", "aud"), whole, 7)
    assert bids_asks(venue, "eth-aud") == ([(100.0, 1.5), (98.0, 1.0), (97.0, 2.0)], [])


def test_a_missing_number_is_a_gap_of_the_coins_books_only():
    venue = ready()
    venue.respond(URL.format("bch", "aud"), snapshot([(6, 5.0, 1)], []), 7)
    rows(venue)
    got = feed(venue, new(1, 3, 99.0, 1), new(4, 4, 98.0, 1))
    assert events(got) == ["gap", "gap"]
    assert (got["event"][0]["first"], got["event"][0]["last"]) == (2, 3)
    assert venue.books["bch-aud"].live
    assert not venue.books["eth-aud"].live
    assert venue.requests[-1].url == URL.format("eth", "aud")


def test_a_number_that_came_already_is_a_duplicate():
    venue = ready()
    rows(venue)
    got = feed(venue, new(1, 3, 99.0, 1), new(1, 3, 99.0, 1), new(0, 4, 98.0, 1))
    assert events(got) == ["duplicate", "duplicate"]
    assert len(got["order"]) == 1


def test_an_order_that_was_never_seen_is_an_orphan():
    venue = ready()
    rows(venue)
    (order,) = feed(venue, message("OrderCanceled", 1, 7))["order"]
    assert (order["action"], order["flags"], "price" in order) == ("D", 128, False)


def test_decimals_add_up_exactly():
    venue = ready(bids=[(i, 1.1, 0.1) for i in range(3)], asks=[])
    assert venue.books["eth-aud"].levels.top(0, 1) == [(1.1, 0.3, 3)]
    feed(venue, *(message("OrderCanceled", i, i) for i in range(3)))
    assert venue.books["eth-aud"].levels.count(0) == 0


def test_instruments_are_each_coin_in_each_currency():
    venue = IndependentReserve(symbols=["BTC-AUD", "ETH-NZD"])
    for request, names in zip(venue.begin(), (["Xbt", "Eth"], ["Aud", "Nzd"]), strict=True):
        venue.respond(request.url, json.dumps(names).encode(), 1)
    (connection,) = venue.connections()
    assert json.loads(connection.send[0]) == {
        "Event": "Subscribe",
        "Data": ["ticker-xbt-aud", "ticker-eth-nzd", "orderbook-xbt", "orderbook-eth"],
    }
    venue.connected("ws", 1)
    assert [r.url for r in venue.requests] == [URL.format("xbt", "aud"), URL.format("eth", "nzd")]
    feed(venue, new(1, 3, 99.0, 1))
    assert venue.books == {}  # in none of the currencies wanted


def test_what_goes_before_the_first_snapshot_is_not_left_behind():
    venue = IndependentReserve()
    for request, names in zip(venue.begin(), (["Eth"], ["Aud"]), strict=True):
        venue.respond(request.url, json.dumps(names).encode(), 1)
    feed(venue, message("OrderCanceled", 1, 0, at=MS + 1))
    venue.respond(URL.format("eth", "aud"), snapshot([(0, 100.0, 1.5)], []), 7)
    assert bids_asks(venue, "eth-aud") == ([], [])


def test_a_lost_connection_leaves_no_book():
    venue = ready()
    rows(venue)
    venue.lost("ws", 1, "closed")
    assert events(rows(venue)) == ["disconnected", "gap"]
    assert events(feed(venue, new(50, 3, 99.0, 1))) == []  # numbers are not held against the ones before


@pytest.mark.parametrize(
    "bad",
    [
        {"Event": "unheard of"},
        new(1, 3, 99.0, -1),
        new(-1, 3, 99.0, 1),
        new(1, 3, 99.0, 1, side="Limit"),
        message("NewOrder", 1, 3, OrderGuid="x", Price={"aud": 1}, Volume=1),
        message("OrderChanged", 1, 3),
        message("NewOrder", 1, 3, Price={"aud": "NaN"}, Volume=1),
        TRADE | {"Channel": "orderbook-eth"},
        [],
        "",
        message("NewOrder", 1, 3, Price={"": 1}, Volume=1),
        new(1, 3, 99.0, 1, at=-1),
        new(1, 3, 99.0, 1, coin=""),
    ],
)
def test_what_is_not_as_documented_is_malformed_and_nothing_else(bad):
    got = feed(IndependentReserve(), bad)
    assert events(got) == ["malformed"]
    assert not set(got) - {"event", "instrument"}


@given(any_json=JSON)
def test_any_json_is_accounted_for(any_json):
    assert_sound(Heard(IndependentReserve())(any_json))
    venue = IndependentReserve()
    venue.respond(URL.format("eth", "aud"), json.dumps(any_json).encode(), 1)
    assert venue.account.malformed == 1


@given(messages=one_bent(ALL))
def test_damaged_messages_make_no_wrong_rows(messages):
    url = URL.format("eth", "aud")
    assert_sound(Heard(IndependentReserve()).answer(url, BOOK)(*messages))


def test_orders_are_said_to_be_gone_where_the_book_is_out_of_step_and_before_a_snapshot():
    venue = ready()
    rows(venue)
    got = feed(venue, new(1, 3, 99.5, 1), new(5, 4, 99.25, 1))
    assert [(o["action"], o.get("flags", 0)) for o in got["order"]] == [("A", 0), ("R", Flag.STALE)]
    again = ready()
    venue.respond(URL.format("eth", "aud"), snapshot([(0, 100.0, 1.5)], []), 7)
    assert again.books["eth-aud"].by_order
    assert [o["action"] for o in rows(venue)["order"]][:2] == ["R", "A"]
