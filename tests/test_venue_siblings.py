"""What holds of every venue: one book an instrument, no trade of nothing, and notices are told."""

import json

import pytest
from venue_frames import Heard, assert_sound

from tickplant.feed.venues import venues

LEVEL = [["99", "1"]], [["101", "1"]]
FAR = [["1", "1"]], [["2", "1"]]


def bybit(depth, levels, u=5):
    data = {"s": "BTCUSDT", "b": levels[0], "a": levels[1], "u": u}
    if depth == "rpi":
        data |= {"b": [[p, s, "9"] for p, s in levels[0]], "a": [[p, s, "9"] for p, s in levels[1]]}
    return [{"topic": f"orderbook.{depth}.BTCUSDT", "type": "snapshot", "ts": 5, "data": data}]


def kraken(depth, levels):
    bids, asks = ([[f"{p}.0", f"{s}.0", "1.0"] for p, s in half] for half in levels)
    return [[7, {"bs": bids, "as": asks}, f"book-{depth}", "XBT/USD"]]


def kraken_v2(depth, levels):
    said = {"method": "subscribe", "success": True,
            "result": {"channel": "book", "symbol": "BTC/USD", "depth": depth}}  # fmt: skip
    bids, asks = ([{"price": float(p), "qty": float(s)} for p, s in half] for half in levels)
    data = [{"symbol": "BTC/USD", "bids": bids, "asks": asks, "timestamp": "2024-01-01T00:00:00.0Z"}]
    return [said, {"channel": "book", "type": "snapshot", "data": data}]


def huobi(kind, levels):
    bids, asks = ([[float(p), float(s)] for p, s in half] for half in levels)
    tick = {"bids": bids, "asks": asks, "ts": 5, "version": 5, "seqNum": 5}
    if kind.startswith("mbp.") and "refresh" not in kind:
        return [{"rep": f"market.btcusdt.{kind}", "status": "ok", "ts": 5, "data": tick}]
    return [{"ch": f"market.btcusdt.{kind}", "ts": 5, "tick": tick}]


def deribit(channel, levels):
    name = "BTC-PERPETUAL"
    bids, asks = ([["new", float(p), float(s)] for p, s in half] for half in levels)
    data = {"instrument_name": name, "timestamp": 5, "change_id": 5, "bids": bids, "asks": asks}
    if channel.count(".") > 1:
        data |= {"bids": [b[1:] for b in bids], "asks": [a[1:] for a in asks]}
    else:
        data["type"] = "snapshot"
    channel = f"book.{name}.{channel}"
    return [{"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}]


def bitstamp(name, levels):
    data = {"microtimestamp": "5", "bids": levels[0], "asks": levels[1]}
    return [{"event": "data", "channel": f"{name}_btcusd", "data": data}]


def upbit(lv, levels):
    (bid, bid_size), (ask, ask_size) = levels[0][0], levels[1][0]
    unit = {"bp": float(bid), "bs": float(bid_size), "ap": float(ask), "as": float(ask_size)}
    return [{"ty": "orderbook", "cd": "KRW-BTC", "tms": 5, "obu": [unit], "lv": lv}]


BOOKS = [
    ("bybit", "spot/BTCUSDT", bybit, 200, [50, "rpi"]), ("kraken", "XBT/USD", kraken, 1000, [10, 100]),
    ("kraken-v2", "BTC/USD", kraken_v2, 1000, [10, 500]),
    ("huobi", "btcusdt", huobi, "mbp.400", ["mbp.5", "mbp.refresh.20", "depth.step0", "depth.step3"]),
    ("huobi", "btcusdt", huobi, "depth.step0", ["depth.step1"]),
    ("deribit", "BTC-PERPETUAL", deribit, "raw", ["100ms", "agg2", "none.20.100ms", "5.10.100ms"]),
    ("deribit", "BTC-PERPETUAL", deribit, "none.20.100ms", ["none.10.100ms", "10.20.100ms"]),
    ("upbit", "KRW-BTC", upbit, 0, [10000.0]),
]  # fmt: skip
CASES = [(*case[:4], other) for case in BOOKS for other in case[4]]


@pytest.mark.parametrize(("name", "native", "message", "best", "other"), CASES)
def test_another_book_never_replaces_the_best_one(name, native, message, best, other):
    heard = Heard(venues()[name](), conn="spot")
    heard(*message(best, LEVEL), conn="spot")
    heard(*message(other, FAR), conn="spot2")
    assert heard.book(native) == [[(99.0, 1.0)], [(101.0, 1.0)]]
    assert heard.venue.account.ignored["other book"] == 1
    assert [k for k, _, _ in heard.events()] == ["other_book"]
    assert_sound(heard)


@pytest.mark.parametrize(("name", "native", "message", "best", "other"), CASES)
def test_the_best_book_takes_the_place_of_another(name, native, message, best, other):
    heard = Heard(venues()[name](), conn="spot")
    heard(*message(other, FAR), conn="spot2")
    assert heard.book(native) == [[(1.0, 1.0)], [(2.0, 1.0)]]
    heard(*message(best, LEVEL), conn="spot")
    assert heard.book(native) == [[(99.0, 1.0)], [(101.0, 1.0)]]
    assert [k for k, _, _ in heard.events()] == ["gap"]
    assert_sound(heard)


def test_levels_each_time_of_bitstamp_are_a_book_until_its_changes_come():
    heard = Heard(venues()["bitstamp"]())(*bitstamp("order_book", FAR), *bitstamp("detail_order_book", FAR))
    assert heard.book("btcusd") == [[(1.0, 1.0)], [(2.0, 1.0)]]
    heard(*bitstamp("diff_order_book", LEVEL), *bitstamp("order_book", FAR))
    assert heard.book("btcusd") == [[], []]
    assert heard.venue.account.ignored == {"detail_order_book": 1, "other book": 1}
    assert_sound(heard)


def executions(price, size):
    made = {"id": 1, "side": "SELL", "price": price, "size": size, "exec_date": "2024-01-01T00:00:01Z"}
    params = {"channel": "lightning_executions_BTC_JPY", "message": [made]}
    return {"jsonrpc": "2.0", "method": "channelMessage", "params": params}


TRADES = {
    "bitflyer": executions,
    "bitstamp": lambda p, s: {"event": "trade", "channel": "live_trades_btcusd", "data": {
        "id": 1, "amount_str": str(s), "price_str": str(p), "type": 1, "microtimestamp": "5"}},
    "bybit": lambda p, s: {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 5, "data": [
        {"T": 5, "s": "BTCUSDT", "S": "Sell", "v": str(s), "p": str(p), "i": "u", "seq": 5}]},
    "deribit": lambda p, s: {"jsonrpc": "2.0", "method": "subscription", "params": {
        "channel": "trades.BTC-PERPETUAL.raw", "data": [
            {"instrument_name": "BTC-PERPETUAL", "trade_seq": 1, "trade_id": "1", "timestamp": 5,
             "price": p, "amount": s, "direction": "buy"}]}},
    "gemini": lambda p, s: {"type": "trade", "symbol": "BTCUSD", "event_id": 1, "timestamp": 5,
                            "price": str(p), "quantity": str(s), "side": "sell"},
    "huobi": lambda p, s: {"ch": "market.btcusdt.trade.detail", "ts": 5, "tick": {"id": 1, "ts": 5, "data": [
        {"id": 1, "ts": 5, "amount": s, "price": p, "tradeId": 1, "direction": "sell"}]}},
    "independent-reserve": lambda p, s: {
        "Event": "Trade", "Channel": "ticker-xbt-aud", "Nonce": 1, "Time": 5, "Data": {
            "TradeGuid": f"{5:032x}", "TradeDate": "2024-01-01T00:00:00Z", "Price": p, "Volume": s,
            "Side": "Sell"}},
    "kraken": lambda p, s: [5, [[str(p), str(s), "1.5", "s", "l", ""]], "trade", "XBT/USD"],
    "kraken-v2": lambda p, s: {"channel": "trade", "type": "update", "data": [
        {"symbol": "BTC/USD", "side": "sell", "price": p, "qty": s, "trade_id": 1, "ord_type": "limit",
         "timestamp": "2024-01-01T00:00:00Z"}]},
    "upbit": lambda p, s: {"ty": "trade", "cd": "KRW-BTC", "ttms": 5, "tp": p, "tv": s, "ab": "ASK",
                           "sid": 1, "st": "REALTIME"},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(TRADES))
def test_a_trade_of_nothing_or_for_nothing_is_malformed(name):
    for price, size, rows in ((100.5, 0.5, 1), (0, 0.5, 0), (100.5, 0, 0)):
        heard = Heard(venues()[name](), conn="spot")(TRADES[name](price, size))
        assert heard.venue.malformed == 1 - rows, (price, size)
        assert len(heard.table("trade", "price")) == rows


def test_notices_and_errors_are_told():
    heard = Heard(venues()["gemini"]())({"result": "error", "reason": "InvalidJson", "message": "no"})
    assert heard.table("event", "kind", "text") == [("refused", "ws: no")]
    system = {
        "topic": "system.status",
        "ts": 5,
        "data": [{"id": "1", "title": "Upgrade", "state": "ongoing"}],
    }
    assert Heard(venues()["bybit"]())(system).table("status", "kind", "value") == [("system", "ongoing")]
    locked = {
        "method": "subscription",
        "params": {"channel": "platform_state", "data": {"maintenance": True}},
    }
    assert Heard(venues()["deribit"]())(json.dumps(locked).encode()).table("status", "kind", "value") == [
        ("system", "maintenance")
    ]


@pytest.mark.parametrize(("name", "where"), [("bitflyer", "exec_date"), ("kraken-v2", "timestamp")])
def test_a_time_that_is_not_set_is_no_time(name, where):
    text = json.dumps(TRADES[name](100.5, 0.5))
    for said in ("2024-01-01T00:00:01Z", "2024-01-01T00:00:00Z"):
        text = text.replace(said, "0001-01-01T00:00:00Z")
    heard = Heard(venues()[name]())(text.encode())
    assert where in text
    assert heard.table("trade", "ts_event") == [(0,)]
