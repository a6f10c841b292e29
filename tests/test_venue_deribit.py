"""Deribit."""

import json

import hypothesis
import pytest
from venue_frames import START, Heard, assert_sound, close, noise

from tickplant.feed.venues.deribit import GROUP, Deribit

NAN = float("nan")
MS = START // 1_000_000
PERP = {"instrument_name": "BTC-PERPETUAL", "kind": "future", "base_currency": "BTC", "quote_currency": "USD",
        "settlement_period": "perpetual", "expiration_timestamp": 32503708800000, "tick_size": 0.5,
        "min_trade_amount": 10,
        "contract_size": 10.0}  # fmt: skip
OPTION = {**PERP, "instrument_name": "BTC-24SEP21-40000-P", "kind": "option", "quote_currency": "BTC",
          "settlement_period": "month", "expiration_timestamp": 1632470400000, "strike": 40000.0,
          "option_type": "put"}  # fmt: skip
LIST = {"result": [
    PERP, OPTION, {**PERP, "instrument_name": "BTC-24SEP21", "settlement_period": "month",
        "expiration_timestamp": 1632470400000},
    {**OPTION, "instrument_name": "XRP_USDC-30JUN23-0d625-C", "base_currency": "XRP",
    "quote_currency": "USDC",
     "counter_currency": "USDC", "strike": 0.625, "option_type": "call",
     "expiration_timestamp": 1688112000000},
    {**PERP, "instrument_name": "BTC_USDC", "kind": "spot", "settlement_period": "",
    "quote_currency": "USDC"},
    {**PERP, "instrument_name": "BTC-FS-24SEP21_PERP", "kind": "future_combo"}]}  # fmt: skip
URL = "https://www.deribit.com/api/v2/public/get_instruments?currency=any&expired=false"


def known():
    return Heard(Deribit()).answer(URL, LIST)


def subscription(channel, data):
    return {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}


def book(kind, change_id, prev=None, bids=(), asks=()):
    data = {"type": kind, "timestamp": MS, "instrument_name": "BTC-PERPETUAL", "change_id": change_id,
        "bids": list(bids),
            "asks": list(asks)}  # fmt: skip
    return subscription("book.BTC-PERPETUAL.raw", data if prev is None else {**data, "prev_change_id": prev})


def trade(seq, **other):
    return {"trade_seq": seq, "trade_id": "48079573", "timestamp": MS, "tick_direction": 2,
        "price": 8950.5, "mark_price": 8948.9,
            "instrument_name": "BTC-PERPETUAL", "index_price": 8955.88, "direction": "sell",
            "amount": 10.0, **other}  # fmt: skip


def trades(*each):
    return subscription("trades.BTC-PERPETUAL.raw", list(each))


def ticker(kind="ticker", **other):
    return subscription(f"{kind}.BTC-PERPETUAL.raw", {
        "timestamp": MS, "state": "open", "mark_price": 100.5, "index_price": 101.5,
        "instrument_name": "BTC-PERPETUAL",
        "current_funding": 0.0001, "best_bid_price": 100.0, "best_bid_amount": 10.0, "best_ask_price": 101.0,
        "best_ask_amount": 20.0, **other})  # fmt: skip


def state(name="BTC-PERPETUAL", what="closed"):
    return subscription("instrument.state.any.any", {"timestamp": MS, "state": what, "instrument_name": name})


SNAPSHOT = book("snapshot", 100, None, [["new", 99.5, 10.0], ["new", 99.0, 20.0]], [["new", 101.0, 5.0]])
TEST = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
ALL = [SNAPSHOT, book("change", 105, 100, [["delete", 99.5, 0.0]], [["change", 101.0, 6.0]]),
    trades(trade(5), trade(6)),
       ticker(), ticker("quote"), state(), TEST, {"jsonrpc": "2.0", "id": 1, "result": ["a"]},
       {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no"}}]  # fmt: skip


def test_names_of_all_kinds_and_combinations_are_left_out():
    assert {n: i.symbol for n, i in known().venue.known.items()} == {
        "BTC-PERPETUAL": "BTC-USD-PERP", "BTC-24SEP21-40000-P": "BTC-USD-20210924-40000-P",
        "BTC-24SEP21": "BTC-USD-20210924",
        "XRP_USDC-30JUN23-0d625-C": "XRP-USDC-20230630-0.625-C", "BTC_USDC": "BTC-USDC"}  # fmt: skip
    option = known().venue.known["BTC-24SEP21-40000-P"].definition("x")
    assert (option["currency"], option["multiplier"], option["lot_size"]) == ("BTC", 10.0, 10.0)


def test_trades_have_numbers_without_holes():
    heard = known()(
        trades(trade(7), trade(6, direction="buy", trade_id="ETH-34066", liquidation="T")),
        trades(trade(10)),
        trades(trade(10)),
    )
    assert heard.table("trade", "venue_seq", "trade_id", "price", "size", "side", "condition",
        "ts_event") == [
        (6, 34066, 8950.5, 10.0, "B", "LIQ", START), (7, 48079573, 8950.5, 10.0, "S", "", START),
        (10, 48079573, 8950.5, 10.0, "S", "", START)]  # fmt: skip
    assert heard.events() == [("gap", 8, 9), ("duplicate", 10, 10)]


def test_the_ticker_is_a_quote_and_a_status_and_the_quote_only_a_quote():
    heard = known()(
        ticker(), ticker("quote"), ticker(best_bid_price=None, best_bid_amount=0.0, current_funding=None)
    )
    rows = heard.table("quote", "bid_price", "bid_size", "ask_price", "ask_size", "ts_event")
    assert rows[:2] == [(100.0, 10.0, 101.0, 20.0, START)] * 2
    assert close(rows[2], (NAN, 0.0, 101.0, 20.0, START))
    status = heard.table("status", "kind", "value", "level_1", "level_2", "level_3")
    assert status[0] == ("funding", "open", 100.5, 101.5, 0.0001)
    assert close(status[1], ("mark", "open", 100.5, 101.5, NAN))


def test_snapshot_changes_and_a_hole_in_the_chain():
    heard = known()(SNAPSHOT, ALL[1], book("change", 110, 105, [["new", 98.0, 1.0]]))
    assert heard.book("BTC-PERPETUAL") == [[(99.0, 20.0), (98.0, 1.0)], [(101.0, 6.0)]]
    heard(book("change", 120, 115))
    assert heard.events() == [("gap", 111, 115)]
    asked = [(conn, json.loads(m)) for conn, m in heard.venue.replies]
    assert [(c, m["method"], m["params"]) for c, m in asked] == [
        ("ws", f"public/{verb}", {"channels": ["book.BTC-PERPETUAL.100ms"]}) for verb in ("unsubscribe",
        "subscribe")]  # fmt: skip
    heard(SNAPSHOT, book("change", 101, 100))
    assert heard.venue.books["BTC-PERPETUAL"].seq == 101


def test_a_heartbeat_that_asks_is_answered_over_its_connection():
    heard = known()(TEST, {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "heartbeat"}})
    ((conn, reply),) = heard.venue.pongs
    assert (conn, json.loads(reply)["method"]) == ("ws", "public/test")
    assert heard.venue.account.ignored == {"heartbeat": 2}


def test_states_are_status_and_what_is_new_is_looked_up():
    heard = known()(state(), state("BTC-1JAN30", "created"), state("BTC-2JAN30", "terminated"))
    said = heard.symbols()
    assert [(said[code], value) for code, value in heard.table("status", "instrument", "value")] == [
        ("BTC-USD-PERP", "closed"), ("BTC-USD-20300101", "created"), ("BTC-USD-20300102", "terminated")
    ]  # fmt: skip
    assert [r.url.partition("?")[2] for r in heard.venue.requests] == ["instrument_name=BTC-1JAN30"]
    heard.answer(
        URL.replace("get_instruments", "get_instrument"),
        {"result": {**PERP, "instrument_name": "NEW-PERPETUAL"}},
    )
    assert "NEW-PERPETUAL" in heard.venue.known


@pytest.mark.parametrize("bad", [{"price": "x"}, {"amount": -1.0}, {"direction": "up"},
{"timestamp": 1 << 70},
                                 {"trade_id": "x"}, {"instrument_name": "NO SUCH"},
                                 {"trade_seq": 1 << 70}])  # fmt: skip
def test_one_bad_trade_of_a_message_leaves_none(bad):
    heard = known()(SNAPSHOT, trades(trade(5), trade(6, **bad)))
    assert "trade" not in heard.rows()
    heard(trades(trade(5), trade(6)))
    assert heard.table("trade", "venue_seq") == [(5,), (6,)]
    assert [k for k, _, _ in heard.events()] == ["malformed", "gap"]


def test_what_is_refused_or_unheard_is_told():
    heard = known()(ALL[-1], subscription("unheard.X", {}), {"method": "subscription"}, {}, b"5")
    assert [k for k, _, _ in heard.events()] == [
        "refused",
        "malformed",
        "malformed",
        "malformed",
        "malformed",
    ]


def test_subscriptions_are_to_what_is_wanted():
    venue = Deribit(symbols=["BTC-USD-PERP"], channels=["trades", "book", "status"])
    Heard(venue).answer(URL, LIST)
    (conn,) = venue.connections()
    first, second = (json.loads(m) for m in conn.send)
    assert (first["method"], second["method"]) == ("public/set_heartbeat", "public/subscribe")
    assert second["params"]["channels"] == [
        "trades.BTC-PERPETUAL.100ms",
        "book.BTC-PERPETUAL.100ms",
        "instrument.state.any.any",
    ]
    every = Deribit()
    every.known = {f"X{i}": venue.known["BTC_USDC"] for i in range(GROUP + 1)}
    assert len(every.connections()) == 2


@hypothesis.given(frames=noise(ALL))
def test_no_frame_whatever_makes_a_wrong_row(frames):
    assert_sound(known()(SNAPSHOT, *frames))


@pytest.mark.parametrize("amount", [0.0, 7.0])
def test_a_level_that_is_deleted_goes_whatever_its_amount_is(amount):
    gone = book(
        "change", 105, 100, [["delete", 99.5, amount], ["change", 99.0, 3.0]], [["delete", 101.0, amount]]
    )
    spaced = json.dumps(gone, indent=1).encode()
    for message in (gone, spaced):
        heard = known()(SNAPSHOT, message)
        assert heard.book("BTC-PERPETUAL") == [[(99.0, 3.0)], []]
