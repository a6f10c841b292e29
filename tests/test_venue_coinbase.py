"""Coinbase Advanced Trade."""

import itertools
import json

import hypothesis
import pytest
from venue_frames import START, Heard, assert_sound, close, noise

from tickplant.feed.venues.coinbase import GROUP, Coinbase
from tickplant.schema import Flag

NAN = float("nan")
AT = "2023-11-14T22:13:20.000000001Z"
LIST = {"products": [
    {"product_id": "BTC-USD", "base_currency_id": "BTC", "quote_currency_id": "USD",
    "price_increment": "0.01",
     "base_increment": "0.00000001", "product_type": "SPOT"},
    {"product_id": "BTC-PERP-INTX", "base_currency_id": "", "quote_currency_id": "USDC",
    "price_increment": "0.1",
     "base_increment": "0.0001", "future_product_details": {"contract_root_unit": "BTC", "contract_size": "1",
     "contract_expiry_type": "PERPETUAL"}},
    {"product_id": "BIT-28JUL23-CDE", "base_currency_id": "", "quote_currency_id": "USD",
    "price_increment": "5",
     "base_increment": "1", "future_product_details": {"contract_root_unit": "BTC", "contract_size": "0.01",
     "contract_expiry_type": "EXPIRING", "contract_expiry": "2023-07-28T15:00:00Z"}}]}  # fmt: skip
URL = "https://api.coinbase.com/api/v3/brokerage/market/products"


def frame(seq, channel, *events):
    return {"channel": channel, "client_id": "", "timestamp": AT, "sequence_num": seq, "events": list(events)}


def trades(seq, *ids, kind="update", **other):
    made = [{"product_id": "BTC-USD", "trade_id": str(i), "price": "100.25", "size": "0.5", "side": "BUY",
             "time": "2023-11-14T22:13:19.5Z", **other} for i in ids]  # fmt: skip
    return frame(seq, "market_trades", {"type": kind, "trades": made})


def levels(seq, *updates, kind="update", product="BTC-USD"):
    made = [
        {"side": s, "event_time": "2023-11-14T22:13:19Z", "price_level": p, "new_quantity": q}
        for s, p, q in updates
    ]
    return frame(seq, "l2_data", {"type": kind, "product_id": product, "updates": made})


def ticker(seq, **other):
    return frame(seq, "ticker", {"type": "update", "tickers": [
        {"type": "ticker", "product_id": "BTC-USD", "price": "1", "best_bid": "99",
        "best_bid_quantity": "1.5",
         "best_ask": "101", "best_ask_quantity": "2", **other}]})  # fmt: skip


def status(seq, product="BTC-USD"):
    return frame(
        seq,
        "status",
        {"type": "snapshot", "products": [{"id": product, "status": "online", "status_message": "fine"}]},
    )


BOOK = [("bid", "99", "1"), ("bid", "98", "2"), ("offer", "101", "3")]
SNAPSHOT = levels(0, *BOOK, kind="snapshot")
ALL = [SNAPSHOT, levels(1, ("bid", "99", "0"), ("offer", "100.5", "1")), trades(2, 12, 11), trades(3, 11,
    10, kind="snapshot"),
       ticker(4), status(5), frame(6, "heartbeats", {"heartbeat_counter": 1}), frame(7, "candles"),
           frame(8, "subscriptions"),
       {"type": "error", "message": "no"}]  # fmt: skip


def test_the_side_of_a_trade_is_the_makers_and_the_newest_comes_first():
    heard = Heard(Coinbase()).answer(URL, LIST)(trades(0, 12, 11), trades(1, 13, side="SELL"))
    assert heard.table("trade", "trade_id", "price", "size", "side", "ts_event", "flags") == [
        (11, 100.25, 0.5, "S", START - 500_000_000, 0),
        (12, 100.25, 0.5, "S", START - 500_000_000, 0),
        (13, 100.25, 0.5, "B", START - 500_000_000, 0),
    ]
    assert heard.table("instrument", "symbol", "tick_size", "currency") == [("BTC-USD", 0.01, "USD")]


def test_trades_of_a_snapshot_are_marked_and_after_a_reconnection_only_new_ones_are_rows():
    heard = Heard(Coinbase())(trades(0, 11, 10, kind="snapshot"), trades(1, 12))
    heard.venue.connected("ws", START)
    heard(trades(0, 14, 13, 12, 11, kind="snapshot"), trades(1, 15))
    rows = heard.table("trade", "trade_id", "flags")
    assert rows == [
        (10, Flag.SNAPSHOT),
        (11, Flag.SNAPSHOT),
        (12, 0),
        (13, Flag.LATE),
        (14, Flag.LATE),
        (15, 0),
    ]
    assert heard.events() == []
    heard.venue.connected("ws", START)
    heard(trades(0, 18, kind="snapshot"))
    assert heard.events() == [("gap", 16, 17)]


def test_the_ticker_is_a_quote():
    heard = Heard(Coinbase())(ticker(0), ticker(1, best_bid="", best_bid_quantity=""))
    one, two = heard.table("quote", "bid_price", "bid_size", "ask_price", "ask_size", "ts_event")
    assert one == (99.0, 1.5, 101.0, 2.0, START + 1)
    assert close(two, (NAN, 0.0, 101.0, 2.0, START + 1))


def test_a_snapshot_and_updates_make_the_book():
    heard = Heard(Coinbase())(
        SNAPSHOT, levels(1, ("bid", "99", "0"), ("offer", "100.5", "1"), ("bid", "97", "4"))
    )
    assert heard.book("BTC-USD") == [[(98.0, 2.0), (97.0, 4.0)], [(100.5, 1.0), (101.0, 3.0)]]
    assert set(heard.table("depth", "venue_seq", "ts_event")) == {(0, START - 10**9), (1, START - 10**9)}
    assert heard.events() == []


@pytest.mark.parametrize("spaces", [False, True])
def test_levels_are_read_whichever_way_sides_are_mixed_and_written(spaces):
    mixed = [("offer", "101", "3"), ("bid", "99", "1"), ("offer", "102", "4"), ("bid", "98", "2")]
    for order in itertools.permutations(mixed):
        frame = levels(0, *order, kind="snapshot")
        heard = Heard(Coinbase())(json.dumps(frame).encode() if spaces else frame)
        assert heard.book("BTC-USD") == [[(99.0, 1.0), (98.0, 2.0)], [(101.0, 3.0), (102.0, 4.0)]]
    for one in (mixed[:1], mixed[1:2], []):
        heard = Heard(Coinbase())(levels(0, *one, kind="snapshot"))
        assert sum(map(len, heard.book("BTC-USD"))) == len(one)


@pytest.mark.parametrize("side", ["BID", "", None, 5, "bid\\"])
def test_a_level_of_no_side_is_none(side):
    for at in (0, 1, 2, 3):
        updates = [*BOOK[:at], (side, "97", "1"), *BOOK[at:]]
        heard = Heard(Coinbase())(levels(0, *updates, kind="snapshot"))
        assert heard.venue.account.malformed == 1
        assert "depth" not in heard.rows()


def test_a_hole_in_the_numbers_of_a_connection_concerns_all_its_books_and_no_others():
    heard = Heard(Coinbase())(SNAPSHOT, levels(1, *BOOK, kind="snapshot", product="ETH-USD"))
    heard(levels(0, *BOOK, kind="snapshot", product="SOL-USD"), conn="other")
    heard(trades(4, 10))
    assert heard.events() == [("gap", 2, 3)] * 3
    assert [b.live for b in heard.venue.books.values()] == [False, False, True]
    asked = [(conn, json.loads(m)) for conn, m in heard.venue.replies]
    assert [(c, m["type"], m["channel"], m["product_ids"]) for c, m in asked] == [
        ("ws", verb, "level2", [name])
        for name in ("BTC-USD", "ETH-USD")
        for verb in ("unsubscribe", "subscribe")
    ]
    heard(levels(5, ("bid", "1", "1")), levels(6, *BOOK, kind="snapshot"), levels(7, ("bid", "99", "0")))
    assert heard.book("BTC-USD")[0] == [(98.0, 2.0)]
    assert len(heard.events()) == 3


def test_a_connection_that_stands_again_counts_from_its_own_beginning():
    heard = Heard(Coinbase())(SNAPSHOT, levels(1, ("bid", "99", "0")))
    heard.venue.lost("ws", START, "reset")
    heard.venue.connected("ws", START)
    heard(SNAPSHOT, levels(1, ("bid", "98", "0")))
    assert [k for k, _, _ in heard.events()] == ["disconnected", "gap"]
    assert heard.book("BTC-USD")[0] == [(99.0, 1.0)]


def test_a_product_that_is_listed_has_its_status():
    heard = Heard(Coinbase()).answer(URL, LIST)(status(0), status(1, "NEW-USD"))
    assert heard.table("status", "kind", "value", "reason") == [("status", "online", "fine")]


def test_names_of_spot_perpetuals_and_futures():
    venue = Heard(Coinbase()).answer(URL, LIST).venue
    assert {n: i.symbol for n, i in venue.known.items()} == {
        "BTC-USD": "BTC-USD", "BTC-PERP-INTX": "BTC-USDC-PERP",
        "BIT-28JUL23-CDE": "BTC-USD-20230728"}  # fmt: skip
    assert venue.known["BIT-28JUL23-CDE"].multiplier == 0.01


def test_a_message_of_which_one_trade_is_bad_makes_no_row():
    bad = trades(1, 12, 11)
    bad["events"][0]["trades"][0]["price"] = "12,5"
    heard = Heard(Coinbase())(trades(0, 10), bad, trades(2, 10**30, 11))
    assert heard.venue.account.malformed == 2
    assert [t for (t,) in heard.table("trade", "trade_id")] == [10]
    heard(trades(3, 11))
    assert [t for (t,) in heard.table("trade", "trade_id")] == [10, 11]
    assert [k for k, _, _ in heard.events()] == ["malformed", "malformed"]


def test_what_is_refused_or_no_message_is_told():
    heard = Heard(Coinbase())(
        SNAPSHOT, {"type": "error", "message": "authentication failure"}, frame(1, "unheard"), b"[]", b"{}"
    )
    assert [k for k, _, _ in heard.events()] == ["refused", "malformed", "gap", "malformed", "malformed"]


def test_subscriptions_are_to_what_is_wanted_and_heartbeats():
    venue = Coinbase(symbols=["BTC-USD"], channels=["trades", "book"])
    Heard(venue).answer(URL, LIST)
    (conn,) = venue.connections()
    sent = [json.loads(m) for m in conn.send]
    assert [(m["channel"], m["product_ids"]) for m in sent] == [
        ("market_trades", ["BTC-USD"]), ("level2", ["BTC-USD"]), ("heartbeats", [])]  # fmt: skip
    many = Coinbase()
    many.known = {f"C{i}-USD": venue.known["BTC-USD"] for i in range(GROUP + 1)}
    assert len(many.connections()) == 2
    assert [r.url for r in venue.begin()] == [URL]


def test_a_book_of_a_hundred_thousand_levels_loads_in_one_message():
    n = 50_000
    updates = [("bid", f"{i}.01", "1") for i in range(n)] + [("offer", f"{n + i}.01", "2") for i in range(n)]
    heard = Heard(Coinbase())(levels(0, *updates, kind="snapshot"))
    bids, asks = heard.book("BTC-USD")
    assert (len(bids), len(asks), bids[0], asks[0]) == (n, n, (n - 1 + 0.01, 1.0), (n + 0.01, 2.0))


@pytest.mark.parametrize("no_time", ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", ""])
def test_levels_without_a_time_are_as_of_their_message(no_time):
    message = levels(0, *BOOK, kind="snapshot")
    for update in message["events"][0]["updates"]:
        update["event_time"] = no_time
    heard = Heard(Coinbase())(message, levels(1, ("bid", "98", "1")))
    assert heard.venue.malformed == 0
    times = [at for (at,) in heard.table("depth", "ts_event")]
    assert set(times[:-1]) == {1_700_000_000_000_000_001}
    assert times[-1] == 1_699_999_999_000_000_000


def test_a_trade_without_a_time_is_as_of_its_message():
    heard = Heard(Coinbase())(trades(0, 10, time="0001-01-01T00:00:00Z"))
    assert heard.table("trade", "ts_event") == [(1_700_000_000_000_000_001,)]


@pytest.mark.parametrize("wrong", [{"price": "0"}, {"size": "0"}, {"price": "-5"}, {"price": ""}])
def test_a_trade_of_nothing_or_for_nothing_is_malformed(wrong):
    heard = Heard(Coinbase())(trades(0, 10, **wrong))
    assert heard.venue.malformed == 1
    assert heard.table("trade", "price") == []


def test_an_entry_of_the_list_that_can_not_be_read_leaves_the_others():
    products = [LIST["products"][0], {"product_id": "ODD-USD"}, *LIST["products"][1:]]
    venue = Heard(Coinbase()).answer(URL, {"products": products}).venue
    assert list(venue.known) == ["BTC-USD", "BTC-PERP-INTX", "BIT-28JUL23-CDE"]
    assert venue.instrument("ETH-PERP-INTX").symbol == "ETH-USDC-PERP"


def test_a_book_message_that_can_not_be_read_concerns_its_own_product():
    heard = Heard(Coinbase())(SNAPSHOT, levels(1, *BOOK, kind="snapshot", product="ETH-USD"))
    heard(levels(2, ("bid", "x", "1"), product="ETH-USD"))
    assert [b.live for b in heard.venue.books.values()] == [True, False]


@hypothesis.given(frames=noise(ALL))
def test_no_frame_whatever_makes_a_wrong_row(frames):
    assert_sound(Heard(Coinbase())(SNAPSHOT, *frames))
