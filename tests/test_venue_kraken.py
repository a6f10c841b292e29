"""Kraken, both versions of its WebSocket: messages as its documentation shows them, and hostile ones."""

import json
import zlib

import pytest
from hypothesis import given
from venue_frames import JSON, Heard, assert_sound, bids_asks, events, feed, one_bent, rows

from tickplant.feed.venues.kraken import Kraken
from tickplant.feed.venues.kraken_v2 import KrakenV2

AT = "1534614057.321597"
ASKS = [[f"0.05{i:03}", f"0.00000{i}00", AT] for i in range(500, 512)]
BIDS = [[f"0.05{i:03}", f"1{i}.00000000", AT] for i in range(489, 477, -1)]


def crc(asks, bids):
    digits = [v.replace(".", "").lstrip("0") for level in asks[:10] + bids[:10] for v in level[:2]]
    return str(zlib.crc32("".join(digits).encode()))


def book(part, *more):
    return [1234, part, *more, "book-10", "XBT/USD"]


SNAPSHOT = book({"as": ASKS[:10], "bs": BIDS[:10]})
BETTER = ["0.05499", "0.00000500", "1534614335.345903"]
CHANGE = book({"a": [BETTER], "c": crc([BETTER, *ASKS], BIDS)})
BOTH = book({"a": [["0.05499", "0.00000000", AT], [*ASKS[9], "r"]]})
TRADE = [
    0,
    [["5541.20000", "0.15850568", AT, "s", "l", ""], ["6060.00000", "0.02455", AT, "b", "m", ""]],
    "trade",
    "XBT/USD",
]
SPREAD = [
    0,
    ["5698.40000", "5700.00000", "1542057299.545897", "1.01234567", "0.98765432"],
    "spread",
    "XBT/USD",
]
TICKER = [
    0,
    {
        "a": ["5525.40000", 1, "1.000"],
        "b": ["5525.10000", 1, "2.5"],
        "c": ["5525.1", "0.00398963"],
        "v": ["2634.1", "3591.1"],
    },
    "ticker",
    "XBT/USD",
]
STATUS = {
    "connectionID": 8628615390848610000,
    "event": "systemStatus",
    "status": "online",
    "version": "1.0.0",
}
SUBSCRIBED = {
    "channelID": 10001,
    "channelName": "ticker",
    "event": "subscriptionStatus",
    "pair": "XBT/EUR",
    "status": "subscribed",
    "subscription": {"name": "ticker"},
}
ALL = [STATUS, SUBSCRIBED, SNAPSHOT, CHANGE, TRADE, SPREAD, TICKER, {"event": "heartbeat"}]


def test_trades_have_the_takers_side_and_the_time_to_the_nanosecond():
    first, second = feed(Kraken(), TRADE)["trade"]
    assert first == {
        "ts_event": 1534614057321597000,
        "ts_recv": 1_700_000_000_000_000_000,
        "instrument": 1,
        "price": 5541.2,
        "size": 0.15850568,
        "side": "S",
        "action": "T",
        "condition": "l",
    }
    assert (second["side"], second["condition"], second["size"]) == ("B", "m", 0.02455)


def test_spread_and_ticker_are_quotes_and_pairs_get_usual_names():
    got = feed(Kraken(), SPREAD, TICKER)
    spread, ticker = got["quote"]
    assert (spread["bid_price"], spread["bid_size"]) == (5698.4, 1.01234567)
    assert (spread["ask_price"], spread["ask_size"]) == (5700.0, 0.98765432)
    assert spread["ts_event"] == 1542057299545897000
    assert [ticker[n] for n in ("bid_price", "bid_size", "ask_price", "ask_size")] == [
        5525.1,
        2.5,
        5525.4,
        1.0,
    ]
    (instrument,) = got["instrument"]
    assert (instrument["venue"], instrument["symbol"], instrument["attributes"]) == (
        "KRAKEN",
        "BTC-USD",
        "XBT/USD",
    )


def test_a_snapshot_and_changes_make_the_book_of_so_many_levels():
    venue = Kraken()
    got = feed(venue, SNAPSHOT, CHANGE)
    assert [r["action"] for r in got["depth"]] == ["R", *"A" * 20, "A", "D"]
    assert got["depth"][-1]["price"] == float(ASKS[9][0])  # it is the eleventh now
    bids, asks = bids_asks(venue, "XBT/USD")
    assert asks[0] == (0.05499, 0.000005)
    assert (len(bids), len(asks)) == (10, 10)
    assert events(got) == []


def test_a_message_takes_away_a_level_and_says_the_one_that_comes_into_sight():
    venue = Kraken()
    last = {"b": [["0.05498", "2.50000000", AT]], "c": crc(ASKS, [["0.05498", "2.50000000"], *BIDS])}
    both = book(BOTH[1], last)
    got = feed(venue, SNAPSHOT, CHANGE, both)
    assert events(got) == []
    assert bids_asks(venue, "XBT/USD")[1][-1][0] == float(ASKS[9][0])


def test_a_wrong_checksum_empties_the_book_and_subscribes_again():
    venue = Kraken()
    got = feed(venue, SNAPSHOT, book({"a": [BETTER], "c": "974947235"}), CHANGE)
    assert events(got) == ["gap"]
    assert "checksum" in got["event"][0]["text"]
    assert got["depth"][-1]["action"] == "R"
    assert [json.loads(m)["event"] for _, m in venue.replies] == ["unsubscribe", "subscribe"]
    got = feed(venue, SNAPSHOT, CHANGE)
    assert events(got) == []
    assert len(bids_asks(venue, "XBT/USD")[1]) == 10


def test_the_documentations_own_checksum_holds():
    """The example of "Book checksum": ten asks 0.05005 to 0.05055, ten bids 0.05000 to 0.04945."""
    asks = [
        ["0.05005", "0.00000500"],
        ["0.05010", "0.00000500"],
        ["0.05015", "0.00000500"],
        ["0.05020", "0.00000500"],
        ["0.05025", "0.00000500"],
        ["0.05030", "0.00000500"],
        ["0.05035", "0.00000500"],
        ["0.05040", "0.00000500"],
        ["0.05045", "0.00000500"],
        ["0.05050", "0.00000500"],
    ]
    bids = [
        ["0.05000", "0.00000500"],
        ["0.04995", "0.00000500"],
        ["0.04990", "0.00000500"],
        ["0.04980", "0.00000500"],
        ["0.04975", "0.00000500"],
        ["0.04970", "0.00000500"],
        ["0.04965", "0.00000500"],
        ["0.04960", "0.00000500"],
        ["0.04955", "0.00000500"],
        ["0.04950", "0.00000500"],
    ]
    assert crc(asks, bids) == "974947235"
    venue = Kraken()
    whole = book({"as": [[*x, AT] for x in asks], "bs": [[*x, AT] for x in bids]})
    got = feed(venue, whole, book({"b": [["0.05000", "0.00000500", AT]], "c": "974947235"}))
    assert events(got) == []


def test_status_subscriptions_and_heartbeats():
    venue = Kraken()
    refused = {
        "event": "subscriptionStatus",
        "status": "error",
        "errorMessage": "Currency pair not supported",
    }
    got = feed(venue, STATUS, SUBSCRIBED, {"event": "heartbeat"}, {"event": "pong", "reqid": 42}, refused)
    assert (got["status"][0]["kind"], got["status"][0]["value"]) == ("system", "online")
    assert events(got) == ["refused"]
    assert venue.account.ignored == {"subscriptionStatus": 2, "heartbeat": 1, "pong": 1}


@pytest.mark.parametrize(
    "message",
    [
        {"event": "unheard of"},
        [1, {}, "unheard of", "XBT/USD"],
        [],
        [1],
        [1, {}, "book-11", "XBT/USD"],
        [1, {"a": [["1"]]}, "book-10", "XBT/USD"],
        [1, {"a": [["1", "-1", AT]]}, "book-10", "XBT/USD"],
        [0, [["1", "1", AT, "x", "l", ""]], "trade", "XBT/USD"],
        [0, [["1", "1", AT, "b", "l", ""]], "trade", "XBT USD"],
        [0, [["1", "1", AT, "b", "l", ""], ["1", "-1", AT, "b", "l", ""]], "trade", "XBT/USD"],
        "x",
        "",
        "{",
        None,
    ],
)
def test_what_is_not_as_documented_is_malformed_and_nothing_else(message):
    venue = Kraken()
    got = feed(venue, message if isinstance(message, str) else json.dumps(message))
    assert events(got) == ["malformed"]
    assert not set(got) - {"event", "instrument"}


def test_pairs_are_listed_and_subscribed_to():
    venue = Kraken(symbols=["BTC-USD"])
    pairs = {
        "XXBTZUSD": {"altname": "XBTUSD", "wsname": "XBT/USD", "pair_decimals": 1, "lot_decimals": 8},
        "XETHZUSD": {"altname": "ETHUSD", "wsname": "ETH/USD", "pair_decimals": 2, "lot_decimals": 8},
    }
    (request,) = venue.begin()
    venue.respond(request.url, json.dumps({"error": [], "result": pairs}).encode(), 1)
    (connection,) = venue.connections()
    sent = [json.loads(m) for m in connection.send]
    assert [s["subscription"] for s in sent] == [
        {"name": "trade"},
        {"name": "spread"},
        {"name": "book", "depth": 1000},
    ]
    assert all(s["pair"] == ["XBT/USD"] for s in sent)
    (instrument,) = feed(venue, TRADE)["instrument"]
    assert (instrument["tick_size"], instrument["lot_size"]) == (0.1, 1e-8)


@given(message=JSON)
def test_any_json_is_accounted_for(message):
    assert_sound(Heard(Kraken())(SNAPSHOT, message))
    assert_sound(Heard(KrakenV2())(message))


@given(messages=one_bent(ALL))
def test_damaged_messages_make_no_wrong_rows(messages):
    assert_sound(Heard(Kraken())(*messages))


# ---- version 2 ----

LEVELS = [{"price": round(45285.2 + i / 10, 1), "qty": 0.001} for i in range(10)]
V2_BOOK = (
    '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":45283.5,"qty":0.10000000},'
    '{"price":45283.4,"qty":1.54582015}],"asks":[{"price":45285.2,"qty":0.00100000},'
    '{"price":45286.4,"qty":1.54571953}],"checksum":%d}]}'
)
V2_DIGITS = b"45285210000045286415457195345283510000000452834154582015"
V2_SNAPSHOT = V2_BOOK % zlib.crc32(V2_DIGITS)
V2_CHANGE = (
    '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":45283.4,"qty":0.0}],'
    '"asks":[],"checksum":CRC,"timestamp":"2023-10-06T17:35:55.440295Z"}]}'
).replace("CRC", str(zlib.crc32(V2_DIGITS[:-15])))
V2_TRADE = {
    "channel": "trade",
    "type": "update",
    "data": [
        {
            "symbol": "MATIC/USD",
            "side": "sell",
            "price": 0.5117,
            "qty": 40.0,
            "ord_type": "market",
            "trade_id": 4665906,
            "timestamp": "2023-09-25T07:49:37.708706Z",
        }
    ],
}
V2_TICKER = {
    "channel": "ticker",
    "type": "update",
    "data": [
        {
            "symbol": "ALGO/USD",
            "bid": 0.10025,
            "bid_qty": 740.0,
            "ask": 0.10036,
            "ask_qty": 1361.44813783,
            "last": 0.10035,
            "volume": 997038.98383185,
        }
    ],
}
V2_PAIRS = {
    "channel": "instrument",
    "type": "snapshot",
    "data": {
        "assets": [],
        "pairs": [
            {
                "symbol": "BTC/USD",
                "base": "BTC",
                "quote": "USD",
                "status": "online",
                "qty_precision": 8,
                "qty_increment": 1e-8,
                "price_precision": 1,
                "price_increment": 0.1,
            }
        ],
    },
}
V2_STATUS = {
    "channel": "status",
    "type": "update",
    "data": [
        {"api_version": "v2", "connection_id": 12393906104898154338, "system": "online", "version": "2.0.0"}
    ],
}
V2_SUBSCRIBED = {
    "method": "subscribe",
    "success": True,
    "time_in": "2023-09-25T07:48:11.492Z",
    "result": {"channel": "book", "depth": 10, "snapshot": True, "symbol": "BTC/USD"},
}
V2 = [
    V2_STATUS,
    V2_PAIRS,
    V2_SUBSCRIBED,
    V2_SNAPSHOT,
    V2_CHANGE,
    V2_TRADE,
    V2_TICKER,
    {"channel": "heartbeat"},
]


def test_version_2_has_all_kinds():
    venue = KrakenV2()
    got = feed(venue, *V2)
    assert events(got) == []
    assert (got["trade"][0]["trade_id"], got["trade"][0]["side"]) == (4665906, "S")
    assert got["trade"][0]["ts_event"] == 1695628177708706000
    assert [(s["kind"], s["value"]) for s in got["status"]] == [("system", "online"), ("trading", "online")]
    assert 1361.44813783 in [q.get("ask_size") for q in got["quote"]]
    assert bids_asks(venue, "BTC/USD") == ([(45283.5, 0.1)], [(45285.2, 0.001), (45286.4, 1.54571953)])
    assert venue.account.ignored == {"subscribe": 1, "heartbeat": 1}


def test_version_2_checks_each_book_with_the_pairs_decimals():
    venue = KrakenV2()
    short = V2_SNAPSHOT.replace("0.10000000", "0.1").replace("0.00100000", "0.001")
    assert events(feed(venue, V2_PAIRS, short, V2_CHANGE)) == []
    got = feed(venue, V2_BOOK % 1)
    assert events(got) == ["gap"]
    assert json.loads(venue.replies[-1][1]) == {
        "method": "subscribe",
        "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 1000},
    }


def test_version_2_says_what_was_refused():
    answer = {"error": "Currency pair not supported BTC/USDX", "method": "subscribe", "success": False}
    assert events(feed(KrakenV2(), answer)) == ["refused"]


@given(messages=one_bent(V2))
def test_damaged_messages_of_version_2_make_no_wrong_rows(messages):
    assert_sound(Heard(KrakenV2())(*messages))


def test_a_book_is_asked_for_over_the_connection_that_it_came_over():
    venue = Kraken()
    feed(venue, SNAPSHOT, conn="kraken.ws+1")
    venue.resync("XBT/USD")
    assert {conn for conn, _ in venue.replies} == {"kraken.ws+1"}


def test_an_error_is_told_as_refused():
    got = feed(Kraken(), {"event": "error", "errorMessage": "Exceeded msg rate", "reqid": 1})
    assert events(got) == ["refused"]


def test_a_lost_connection_leaves_no_book():
    venue = Kraken()
    feed(venue, SNAPSHOT, conn="kraken.ws")
    venue.lost("kraken.ws+1", 4, "reset by peer")
    assert events(rows(venue)) == ["disconnected"]  # another connection's
    venue.lost("kraken.ws", 5, "reset by peer")
    assert not venue.replies  # it subscribes anew when it stands again
    got = rows(venue)
    assert events(got) == ["disconnected", "gap"]
    assert got["depth"][0]["action"] == "R"


def v2_books(*books, kind="update"):
    return {"channel": "book", "type": kind, "data": [
        {"symbol": pair, "bids": [{"price": price, "qty": qty}], "asks": [], **more}
        for pair, price, qty, more in books]}  # fmt: skip


def test_a_frame_of_several_books_is_applied_whole_or_not_at_all():
    venue = KrakenV2()
    whole = v2_books(("BTC/USD", 100.5, 1.0, {}), ("ETH/USD", 10.5, 1.0, {}), kind="snapshot")
    feed(venue, whole)
    good = ("BTC/USD", 101.5, 2.0, {})
    for bad in (("ETH/USD", 10.5, -1.0, {}), ("ETH/USD", 10.5, 1.0, {"timestamp": "yesterday"})):
        got = feed(venue, v2_books(good, bad))
        assert 101.5 not in [d.get("price") for d in got["depth"]]
        assert [d["action"] for d in got["depth"]] == ["R", "R"]
        assert events(got) == ["malformed", "gap", "gap"]
        assert not any(book.live for book in venue.books.values())
        feed(venue, whole)
    got = feed(venue, v2_books(good, ("no thing", 1.0, 1.0, {})))
    assert events(got) == ["malformed", "gap"]
    assert [name for name, book in venue.books.items() if book.live] == ["ETH/USD"]  # it was not named
    feed(venue, whole)
    got = feed(venue, v2_books(good, ("ETH/USD", 11.5, 2.0, {})))
    assert [d["price"] for d in got["depth"]] == [101.5, 11.5]


def test_a_frame_of_several_quotes_is_rows_or_none():
    quotes = {
        "channel": "ticker",
        "type": "update",
        "data": [
            {"symbol": "BTC/USD", "bid": 1.0, "bid_qty": qty, "ask": 2.0, "ask_qty": 1.0}
            for qty in (1.0, -1.0)
        ],
    }
    got = feed(KrakenV2(), quotes)  # fmt: skip
    assert "quote" not in got
    assert events(got) == ["malformed"]


def test_a_checksum_of_numbers_too_long_for_a_float64_is_said_not_to_be_verified():
    book = v2_books(("BTC/USD", 123456789012345680.0, 0.12345678, {"checksum": 7}), kind="snapshot")
    venue = KrakenV2()
    got = feed(venue, book, book)
    assert events(got) == ["unverified"]
    assert venue.books["BTC/USD"].live
