"""Bitfinex: messages as its documentation shows them, and hostile ones."""

import json
import zlib

import pytest
from hypothesis import given
from venue_frames import JSON, Heard, assert_sound, bids_asks, events, feed, one_bent, rows

from tickplant.feed.venues.bitfinex import Bitfinex
from tickplant.schema import Flag

INFO = {"event": "info", "version": 2, "serverId": "7", "platform": {"status": 1}}
CONF = {"event": "conf", "status": "OK", "flags": 196608}


def subscribed(channel, number, **more):
    return {"event": "subscribed", "channel": channel, "chanId": number, "symbol": "tBTCUSD"} | more


BOOK = subscribed("book", 10092, prec="P0", freq="F0", len="25")
TRADES, TICKER = subscribed("trades", 17470), subscribed("ticker", 224555)
DERIV = {"event": "subscribed", "channel": "status", "chanId": 335856, "key": "deriv:tBTCF0:USTF0"}
SNAPSHOT = [10092, [[7254.7, 3, 3.3], [7254.6, 1, 0.5], [7255, 2, -1.25], [7256.5, 1, -2]], 1]
CHANGE, GONE = [10092, [7254.8, 1, 0.25], 2], [10092, [7255, 0, -1], 3]
OLD = [17470, [[401597393, 1574694475039, 0.005, 7244.9], [401597394, 1574694475040, -0.1, 7245]], 4]
TRADE = [17470, "te", [401597395, 1574694478808, -0.002, 7245.3], 5]
AGAIN = [17470, "tu", [401597395, 1574694478808, -0.002, 7245.3], 6]
QUOTE = [
    224555,
    [7616.5, 31.89055171, 7617.5, 43.358118629999986, -550.8, -0.0674, 7617.1, 8314.7, 8257.8, 7500],
    7,
]
BEAT = [10092, "hb", 8]
FUNDING = [
    335856,
    [
        1596124822000,
        None,
        0.896,
        0.771995,
        None,
        1396531.67,
        None,
        1596153600000,
        0.0001056,
        6,
        None,
        0.01,
        None,
        None,
        7246.5,
        None,
        None,
        2236749.1,
    ],
    9,
]
ALL = [
    INFO,
    CONF,
    BOOK,
    TRADES,
    TICKER,
    DERIV,
    SNAPSHOT,
    CHANGE,
    GONE,
    OLD,
    TRADE,
    AGAIN,
    QUOTE,
    BEAT,
    FUNDING,
]


def checksum(text):
    value = zlib.crc32(text)
    return value - 2**32 if value >= 2**31 else value


def test_all_kinds_are_read():
    venue = Bitfinex()
    got = feed(venue, *ALL)
    assert events(got) == []
    old, _, trade = got["trade"]
    assert (old["flags"], old["side"], old["size"]) == (1, "B", 0.005)
    assert trade == {
        "ts_event": 1574694478808000000,
        "ts_recv": trade["ts_recv"],
        "instrument": 1,
        "trade_id": 401597395,
        "price": 7245.3,
        "size": 0.002,
        "side": "S",
        "action": "T",
    }
    assert got["quote"][-1]["ask_price"] == 7256.5 or got["quote"][-1]["bid_price"] == 7254.8
    assert 43.358118629999986 in [q["ask_size"] for q in got["quote"]]
    assert bids_asks(venue, "tBTCUSD") == ([(7254.8, 0.25), (7254.7, 3.3), (7254.6, 0.5)], [(7256.5, 2.0)])
    assert venue.books["tBTCUSD"].levels.top(0, 1) == [(7254.8, 0.25, 1)]
    assert [(s["kind"], s.get("value")) for s in got["status"]] == [("system", "online"), ("funding", None)]
    assert [got["status"][1][f"level_{i}"] for i in (1, 2, 3)] == [7246.5, 0.771995, 0.01]
    assert [i["symbol"] for i in got["instrument"]] == ["BTC-USD", "BTC-USDT-PERP"]
    assert venue.account.ignored == {"conf": 1, "subscribed": 4, "tu": 1, "hb": 1}


def test_a_missing_number_is_a_gap_of_all_books_of_the_connection():
    venue = Bitfinex()
    got = feed(venue, BOOK, SNAPSHOT, [10092, "hb", 5])
    assert events(got) == ["gap", "gap"]
    assert (got["event"][0]["first"], got["event"][0]["last"]) == (2, 4)
    assert got["depth"][-1]["action"] == "R"
    sent = [json.loads(m) for conn, m in venue.replies if conn == "ws"]
    assert sent[0] == {"event": "unsubscribe", "chanId": 10092}
    assert sent[1] == {
        "event": "subscribe",
        "channel": "book",
        "symbol": "tBTCUSD",
        "prec": "P0",
        "freq": "F0",
        "len": "100",
    }
    assert events(feed(venue, {"event": "unsubscribed", "status": "OK", "chanId": 10092})) == []
    got = feed(venue, BOOK | {"chanId": 7}, [7, SNAPSHOT[1], 6], [7, CHANGE[1], 7])
    assert events(got) == []
    assert bids_asks(venue, "tBTCUSD")[0][0] == (7254.8, 0.25)


def test_a_number_that_comes_twice_is_read_once_and_a_new_connection_counts_anew():
    venue = Bitfinex()
    got = feed(venue, TRADES, TRADE, TRADE)
    assert events(got) == ["duplicate"]
    assert len(got["trade"]) == 1
    venue.lost("ws", 1, "closed")
    rows(venue)
    assert events(feed(venue, TRADES, [17470, "te", TRADE[2], 1])) == []


def test_checksums_are_looked_at_with_numbers_as_javascript_writes_them():
    small = [10092, "[[1e-7,1,1.5],[9.9e-8,1,2],[0.00001,1,-3e-7],[2e-05,1,-12]]", 1]
    text = b"1e-7:1.5:0.00001:-3e-7:9.9e-8:2:0.00002:-12"
    venue = Bitfinex()
    message = f"[{small[0]},{small[1].replace('2e-05', '0.00002')},1]"
    assert events(feed(venue, BOOK, message, [10092, "cs", checksum(text), 2])) == []
    got = feed(venue, [10092, "cs", checksum(text) + 1, 3])
    assert events(got) == ["gap"]
    assert "checksum" in got["event"][0]["text"]
    assert events(feed(venue, [10092, "cs", 1, 4])) == []  # nothing to compare until it is back


def test_sides_of_unequal_length_are_checked_too():
    venue = Bitfinex()
    whole = [10092, [[5, 1, 1], [4, 1, 2], [6, 1, -3]], 1]
    assert events(feed(venue, BOOK, whole, [10092, "cs", checksum(b"5:1:6:-3:4:2"), 2])) == []


def test_an_empty_book_and_an_empty_side_are_what_they_are():
    venue = Bitfinex()
    got = feed(venue, BOOK, TICKER, [10092, [], 1], [224555, [None, None, 7617.5, 2, 0, 0, 0, 0, 0, 0], 2])
    assert events(got) == []
    assert "bid_price" not in got["quote"][0]
    assert got["quote"][0]["ask_size"] == 2.0


def test_maintenance_restart_and_errors_are_told():
    venue = Bitfinex()
    got = feed(
        venue,
        {"event": "info", "code": 20060, "msg": "Entering in Maintenance mode."},
        {"event": "info", "code": 20051, "msg": "Stopping."},
        {"event": "error", "msg": "symbol: invalid", "code": 10300, "symbol": "tX"},
    )
    assert [s["value"] for s in got["status"]] == ["maintenance", "restart"]
    assert events(got) == ["shutdown", "shutdown", "refused"]
    assert venue.reconnects == {"ws"}


@pytest.mark.parametrize(
    "message",
    [
        [1, [1, 2, 3], 1],
        [10092, "te", [1, 2, 3, 4], 1],
        [10092, [1, -1, 2], 1],
        [10092, [1, 1, "x"], 1],
        [10092],
        [],
        {"event": "unheard of"},
        [10092, "xx", 1, 1],
        [10092, "cs", "1", 1],
        [10092, [1, 2], 1],
        [10092, "hb", 2**70],
    ],
)
def test_what_is_not_as_documented_is_malformed_and_nothing_else(message):
    venue = Bitfinex()
    if message == [10092, [1, -1, 2], 1]:
        message = [10092, [1, 2**40, 2], 1]
    got = feed(venue, BOOK, message)
    assert events(got) == ["malformed"]
    assert not set(got) - {"event", "instrument"}


def test_what_is_listed_is_subscribed_to_with_numbers_and_checksums():
    venue = Bitfinex(symbols=["BTC-USD", "BTC-USDT-PERP"])
    for request, pairs in zip(venue.begin(), (["BTCUSD", "DUSK:USD"], ["BTCF0:USTF0"]), strict=True):
        venue.respond(request.url, json.dumps([pairs]).encode(), 1)
    (connection,) = venue.connections()
    sent = [json.loads(m) for m in connection.send]
    assert sent[0] == {"event": "conf", "flags": 65536 + 131072}
    assert [(s["channel"], s.get("symbol") or s["key"]) for s in sent[1:]] == [
        ("trades", "tBTCUSD"),
        ("ticker", "tBTCUSD"),
        ("book", "tBTCUSD"),
        ("trades", "tBTCF0:USTF0"),
        ("ticker", "tBTCF0:USTF0"),
        ("book", "tBTCF0:USTF0"),
        ("status", "deriv:tBTCF0:USTF0"),
    ]
    assert venue.known["tDUSK:USD"].symbol == "DUSK-USD"


@given(message=JSON)
def test_any_json_is_accounted_for(message):
    assert_sound(Heard(Bitfinex())(BOOK, SNAPSHOT, message))


RAW = subscribed("book", 2, prec="R0", freq="F0", len="25")
ORDERS = [2, [[51007001527, 67012, 0.5], [51006002775, 67010, 1], [51007001999, 67015, -2]], 1]


def test_a_raw_book_has_orders_and_the_levels_that_they_add_up_to():
    heard = Heard(Bitfinex())(
        RAW, ORDERS, [2, [51007001528, 67012, 0.25], 2], [2, [51007001527, 67012, 0.125], 3],
        [2, [51006002775, 0, 1], 4], [2, [51007001999, 67014, -2], 5], [2, [99, 0, -1], 6],
    )  # fmt: skip
    assert heard.book("tBTCUSD") == [[(67012.0, 0.375)], [(67014.0, 2.0)]]
    assert heard.venue.books["tBTCUSD"].levels.top(0, 1) == [(67012.0, 0.375, 2)]
    rows = heard.table("order", "action", "order_id", "price", "size", "side", "flags")
    assert rows[0][0] == "R"
    assert rows[0][-1] == Flag.SNAPSHOT
    assert rows[1:4] == [
        ("A", 51007001527, 67012.0, 0.5, "B", 1), ("A", 51006002775, 67010.0, 1.0, "B", 1),
        ("A", 51007001999, 67015.0, 2.0, "S", 1),
    ]  # fmt: skip
    assert rows[4:9] == [
        ("A", 51007001528, 67012.0, 0.25, "B", 0), ("X", 51007001527, 67012.0, 0.125, "B", 0),
        ("D", 51006002775, 67010.0, 0.0, "B", 0), ("D", 51007001999, 67015.0, 0.0, "S", 0),
        ("A", 51007001999, 67014.0, 2.0, "S", 0),
    ]  # fmt: skip
    assert rows[9][:2] == ("D", 99)
    assert rows[9][-1] == Flag.ORPHAN
    assert heard.events() == []
    assert_sound(heard)


def test_orders_of_a_raw_book_are_gone_where_messages_are_missing():
    heard = Heard(Bitfinex())(RAW, ORDERS, [2, [51007001528, 67012, 0.25], 5])
    assert heard.table("order", "action", "flags")[-1] == ("R", Flag.STALE)
    assert heard.book("tBTCUSD") == [[], []]
    heard(RAW, [2, ORDERS[1], 6], [2, "cs", 5, 7])  # a sum over orders is not looked at
    assert heard.book("tBTCUSD")[1] == [(67015.0, 2.0)]
    assert_sound(heard)


@pytest.mark.parametrize(
    "order", [[0, 1, 1], [2**63, 1, 1], [5, 1, 0], [5, "x", 1], [5, 1], [5, -1e400, 1]]
)  # fmt: skip
def test_what_can_be_no_order_is_malformed(order):
    heard = Heard(Bitfinex())(RAW, ORDERS, [2, order, 2])
    assert heard.venue.malformed == 1
    assert_sound(heard)


@pytest.mark.parametrize("prec", ["P1", "P2", "P3", "P4", "R0"])
@pytest.mark.parametrize("first", ["P0", "other"])
def test_of_several_books_the_one_of_all_prices_is_followed(prec, first):
    other = subscribed("book", 7, prec=prec, freq="F0", len="25")
    wide, fine = [other, [7, [[7000, 1, 9], [8000, 1, -9]], 1]], [BOOK, [10092, SNAPSHOT[1], 1]]
    heard = Heard(Bitfinex())
    for conn, messages in (("a", fine), ("b", wide)) if first == "P0" else (("b", wide), ("a", fine)):
        heard(*messages, conn=conn)
    heard([10092, SNAPSHOT[1], 2], conn="a")([7, [7000, 1, 8], 2], conn="b")
    assert heard.book("tBTCUSD")[0] == [(7254.7, 3.3), (7254.6, 0.5)]
    assert [k for k, _, _ in heard.events()] == ["other_book"] if first == "P0" else ["gap", "other_book"]
    assert_sound(heard)


def test_of_two_lengths_of_a_book_the_longer_is_followed():
    longer = subscribed("book", 7, prec="P0", freq="F0", len="250")
    heard = Heard(Bitfinex())(BOOK, SNAPSHOT, longer, [7, [[1, 1, 1]], 2], [10092, [1, 0, 1], 3])
    assert heard.book("tBTCUSD") == [[(1.0, 1.0)], []]
    assert_sound(heard)


def test_times_and_several_changes_in_a_message_come_where_they_were_asked_for():
    flags = {"event": "conf", "status": "OK", "flags": 65536 + 32768 + 536870912}
    heard = Heard(Bitfinex())(
        flags, BOOK, [*SNAPSHOT, 1_700_000_000_001],
        [10092, [[7254.7, 0, 1], [7254.8, 1, 2]], 2, 1_700_000_000_002], [10092, "hb", 3, 1_700_000_000_003],
    )  # fmt: skip
    assert heard.book("tBTCUSD")[0] == [(7254.8, 2.0), (7254.6, 0.5)]
    assert heard.table("depth", "ts_event")[-1] == (1_700_000_000_002_000_000,)
    assert heard.events() == []


def test_fields_that_are_appended_are_passed_over():
    longer = [17470, "te", [*TRADE[2], None, "new"], 2]
    heard = Heard(Bitfinex())(BOOK, TRADES, [10092, [[5, 1, 1, "new"], [6, 1, -1, 0]], 1], longer)
    assert heard.events() == []
    assert heard.book("tBTCUSD") == [[(5.0, 1.0)], [(6.0, 1.0)]]
    assert heard.table("trade", "price", "size") == [(7245.3, 0.002)]


def test_offers_of_funding_are_ignored():
    heard = Heard(Bitfinex())(
        subscribed("trades", 5, symbol="fUSD"), [5, "fte", [1, 2, 3, 0.0001, 30]], [5, "ftu", [1]],
        [5, [[1, 2, 3, 0.0001, 30]]],
    )  # fmt: skip
    assert heard.venue.account.ignored == {"subscribed": 1, "funding offers": 2, "tu": 1}


@pytest.mark.parametrize("trade", [[1, 2, 0, 5], [1, 2, 3, 0], [1, 2, 3, -5]])
def test_a_trade_of_nothing_or_for_nothing_is_malformed(trade):
    heard = Heard(Bitfinex())(TRADES, [17470, "te", trade, 1])
    assert heard.venue.malformed == 1
    assert heard.table("trade", "price") == []


@given(messages=one_bent([RAW, ORDERS, [2, [51007001528, 67012, 0.25], 2], [2, [51006002775, 0, 1], 3]]))
def test_damaged_orders_make_no_wrong_rows(messages):
    assert_sound(Heard(Bitfinex())(*messages))


@given(messages=one_bent(ALL))
def test_damaged_messages_make_no_wrong_rows(messages):
    assert_sound(Heard(Bitfinex())(*messages))
