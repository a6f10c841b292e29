"""bitFlyer Lightning."""

import json

import hypothesis
import pytest
from venue_frames import START, Heard, assert_sound, close, noise

from tickplant.feed.venues.bitflyer import Bitflyer
from tickplant.schema import Flag

NAN = float("nan")
AT, AT_NS = "2023-11-14T22:13:20.1234567Z", START + 123_456_700
URL = "https://api.bitflyer.com/v1/getmarkets"
LIST = [{"product_code": c, "market_type": k} for c, k in
        (("BTC_JPY", "Spot"), ("FX_BTC_JPY", "FX"), ("BTCJPY24DEC2021", "Futures"))]  # fmt: skip


def message(channel, body, product="BTC_JPY"):
    return {
        "jsonrpc": "2.0",
        "method": "channelMessage",
        "params": {"channel": f"lightning_{channel}_{product}", "message": body},
    }


def execution(**other):
    return {"id": 39361, "side": "SELL", "price": 35100.0, "size": 0.01, "exec_date": AT,
        "buy_child_order_acceptance_id": "JRF",
            **other}  # fmt: skip


def board(kind, bids, asks):
    def levels(each):
        return [{"price": p, "size": s} for p, s in each]

    return message(kind, {"mid_price": 1.0, "bids": levels(bids), "asks": levels(asks)})


def ticker(**other):
    return message("ticker", {"product_code": "BTC_JPY", "state": "RUNNING", "timestamp": AT,
        "tick_id": 3579, "best_bid": 30000.0,
                              "best_ask": 36640.0, "best_bid_size": 0.1, "best_ask_size": 5.0,
                              "ltp": 31690.0, **other})  # fmt: skip


SNAPSHOT = board("board_snapshot", [(99.0, 1.0), (98.0, 2.0)], [(101.0, 3.0)])
ALL = [SNAPSHOT, board("board", [(99.0, 0.0)], [(100.5, 1.0)]), message("executions", [execution(),
    execution(side="")]), ticker(),
       {"jsonrpc": "2.0", "id": 1, "result": True}, {"jsonrpc": "2.0", "id": 1,
       "error": {"message": "no"}}]  # fmt: skip


def test_several_executions_of_a_message_are_trades_and_an_auction_has_no_side():
    heard = Heard(Bitflyer())(
        message("executions", [execution(), execution(id=39362, side="BUY"), execution(id=39363, side="")])
    )
    assert heard.table("trade", "trade_id", "price", "size", "side", "ts_event") == [
        (39361, 35100.0, 0.01, "S", AT_NS), (39362, 35100.0, 0.01, "B", AT_NS), (39363, 35100.0, 0.01, "",
        AT_NS)]  # fmt: skip


def test_the_ticker_is_a_quote_and_a_state_that_is_another_a_status():
    heard = Heard(Bitflyer())(
        ticker(), ticker(best_bid=0.0, best_bid_size=0.0), ticker(state="CIRCUIT BREAK")
    )
    rows = heard.table("quote", "venue_seq", "bid_price", "bid_size", "ask_price", "ask_size")
    assert rows[0] == (3579, 30000.0, 0.1, 36640.0, 5.0)
    assert close(rows[1], (3579, NAN, 0.0, 36640.0, 5.0))
    assert heard.table("status", "kind", "value", "ts_event") == [
        ("state", "RUNNING", AT_NS), ("state", "CIRCUIT BREA", AT_NS)]  # fmt: skip


def test_a_board_before_its_snapshot_is_nothing_and_after_it_a_change():
    heard = Heard(Bitflyer())(ALL[1], SNAPSHOT, ALL[1])
    assert heard.book("BTC_JPY") == [[(98.0, 2.0)], [(100.5, 1.0), (101.0, 3.0)]]
    rows = heard.table("depth", "action", "side", "price", "flags", "ts_event")
    assert rows[0][0::3] == ("R", Flag.SNAPSHOT)
    assert rows[-2:] == [("D", "B", 99.0, 0, 0), ("A", "S", 100.5, 0, 0)]


def test_market_orders_that_wait_for_an_auction_are_no_levels():
    heard = Heard(Bitflyer())(
        board("board_snapshot", [(0.0, 5.0), (99.0, 1.0)], [(0.0, 5.0)]), board("board", [], [(0.0, 4.0)])
    )
    assert heard.book("BTC_JPY") == [[(99.0, 1.0)], []]
    assert heard.events() == []


def test_a_message_that_is_none_makes_the_book_stale_and_asks_for_its_snapshot():
    heard = Heard(Bitflyer())(SNAPSHOT, board("board", [(99.0, -1.0)], []))
    assert [k for k, _, _ in heard.events()] == ["malformed", "gap"]
    asked = [(conn, json.loads(m)) for conn, m in heard.venue.replies]
    assert [(c, m["method"], m["params"]["channel"]) for c, m in asked] == [
        ("ws", verb, "lightning_board_snapshot_BTC_JPY") for verb in ("unsubscribe",
        "subscribe")]  # fmt: skip


def test_names_of_spot_fx_and_futures():
    venue = Heard(Bitflyer()).answer(URL, LIST).venue
    assert {n: i.symbol for n, i in venue.known.items()} == {
        "BTC_JPY": "BTC-JPY", "FX_BTC_JPY": "BTC-JPY-PERP",
        "BTCJPY24DEC2021": "BTC-JPY-20211224"}  # fmt: skip
    for bad in ("", "BTC", "BTC_", "BTCJPY99DEC2021", "BTCJPY24FOO2021", "A_B_C"):
        with pytest.raises(ValueError, match="."):
            venue.instrument(bad)


@pytest.mark.parametrize(
    "bad", [{"price": "x"}, {"size": -1.0}, {"side": "UP"}, {"exec_date": "now"}, {"id": 1 << 70}]
)
def test_one_bad_execution_of_a_message_leaves_none(bad):
    heard = Heard(Bitflyer())(message("executions", [execution(), execution(**bad)]))
    assert "trade" not in heard.rows()
    assert heard.venue.account.malformed == 1


def test_answers_and_refusals_are_accounted_for():
    heard = Heard(Bitflyer())(*ALL[-2:], message("unheard", {}), {"method": "channelMessage"}, {})
    assert heard.venue.account.ignored == {"response": 1}
    assert [k for k, _, _ in heard.events()] == ["refused", "malformed", "malformed", "malformed"]


def test_subscriptions_are_to_what_is_wanted():
    venue = Bitflyer(symbols=["BTC-JPY"], channels=["book", "quotes", "status"])
    (conn,) = Heard(venue).answer(URL, LIST).venue.connections()
    assert [json.loads(m)["params"]["channel"] for m in conn.send] == [
        "lightning_board_snapshot_BTC_JPY", "lightning_board_BTC_JPY",
        "lightning_ticker_BTC_JPY"]  # fmt: skip
    assert len(venue.begin()) == 3


@hypothesis.given(frames=noise(ALL))
def test_no_frame_whatever_makes_a_wrong_row(frames):
    assert_sound(Heard(Bitflyer())(SNAPSHOT, *frames))
