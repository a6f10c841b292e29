"""Each venue that has past trades over REST: what was missed while it was away comes late, once."""

import json

import pytest
from venue_frames import Heard

from tickplant.feed.symbols import spot
from tickplant.feed.venues import venues
from tickplant.schema import Flag

ISO = "2024-01-01T00:00:0{}.000000Z"


def wire(*message):
    return [json.dumps(m).encode() for m in message]


def bitfinex(n):
    return [17, "te", [n, 1_700_000_000_000 + n, -0.5, 100.5]]


def huobi(n):
    data = {"id": n, "ts": n, "amount": 0.5, "price": 100.5, "tradeId": n, "direction": "sell"}
    return {"ch": "market.btcusdt.trade.detail", "ts": n, "tick": {"id": n, "ts": n, "data": [data]}}


def independent(n):
    data = {
        "TradeGuid": f"{n:032x}",
        "TradeDate": ISO.format(n),
        "Price": 100.5,
        "Volume": 0.5,
        "Side": "Sell",
    }
    return {"Event": "Trade", "Channel": "ticker-xbt-aud", "Nonce": n, "Time": n, "Data": data}


LIVE = {
    "bitfinex": bitfinex,
    "bitflyer": lambda n: {"jsonrpc": "2.0", "method": "channelMessage", "params": {
        "channel": "lightning_executions_BTC_JPY", "message": [
            {"id": n, "side": "SELL", "price": 100.5, "size": 0.5, "exec_date": ISO.format(n)}]}},
    "bithumb": lambda n: {"type": "trade", "code": "KRW-BTC", "trade_price": 100.5, "trade_volume": 0.5,
                          "ask_bid": "ASK", "trade_timestamp": n, "sequential_id": n},
    "bitstamp": lambda n: {"event": "trade", "channel": "live_trades_btcusd", "data": {
        "id": n, "amount_str": "0.5", "price_str": "100.5", "type": 1, "microtimestamp": str(n)}},
    "bybit": lambda n: {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": n, "data": [
        {"T": n, "s": "BTCUSDT", "S": "Sell", "v": "0.5", "p": "100.5", "i": f"u-{n}", "seq": n}]},
    "gemini": lambda n: {"type": "trade", "symbol": "BTCUSD", "event_id": n, "timestamp": n,
                         "price": "100.5", "quantity": "0.5", "side": "sell"},
    "huobi": huobi,
    "independent-reserve": independent,
    "kraken-v2": lambda n: {"channel": "trade", "type": "update", "data": [
        {"symbol": "BTC/USD", "side": "sell", "price": 100.5, "qty": 0.5, "trade_id": n, "ord_type": "limit",
         "timestamp": ISO.format(n)}]},
    "okx": lambda n: {"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [
        {"instId": "BTC-USDT", "tradeId": str(n), "px": "100.5", "sz": "0.5", "side": "sell", "ts": str(n)}]},
    "upbit": lambda n: {"ty": "trade", "cd": "KRW-BTC", "ttms": n, "tp": 100.5, "tv": 0.5, "ab": "ASK",
                        "sid": n, "st": "REALTIME"},
}  # fmt: skip
"""A trade as it comes live: sold, 0.5 at 100.5."""

PAST = {
    "bitfinex": ("/v2/trades/tBTCUSD/hist", lambda ns: [bitfinex(n)[2] for n in ns]),
    "bitflyer": ("/getexecutions?product_code=BTC_JPY&", lambda ns: [
        LIVE["bitflyer"](n)["params"]["message"][0] for n in ns]),
    "bithumb": ("/v1/trades/ticks?market=KRW-BTC&", lambda ns: [
        {"market": "KRW-BTC", "timestamp": n, "trade_price": 100.5, "trade_volume": 0.5, "ask_bid": "ASK",
         "sequential_id": n} for n in ns]),
    "bitstamp": ("/transactions/btcusd/", lambda ns: [
        {"date": str(n), "tid": str(n), "price": "100.5", "amount": "0.5", "type": "1"} for n in ns]),
    "bybit": ("/recent-trade?category=spot&symbol=BTCUSDT&limit=60", lambda ns: {"result": {"list": [
        {"execId": f"u-{n}", "symbol": "BTCUSDT", "price": "100.5", "size": "0.5", "side": "Sell",
         "time": str(n), "seq": str(n)} for n in ns]}}),
    "gemini": ("/v1/trades/btcusd?", lambda ns: [
        {"timestamp": n, "timestampms": n, "tid": n, "price": "100.5", "amount": "0.5", "type": "sell",
         "exchange": "gemini"} for n in ns]),
    "huobi": ("/market/history/trade?symbol=btcusdt", lambda ns: {"status": "ok", "data": [
        {"id": n, "ts": n, "data": [{"id": n, "amount": 0.5, "price": 100.5, "ts": n, "trade-id": n,
                                     "direction": "sell"}]} for n in ns]}),
    "independent-reserve": ("/GetRecentTrades?primaryCurrencyCode=xbt&secondaryCurrencyCode=aud", lambda ns: {
        "Trades": [{"PrimaryCurrencyAmount": 0.5, "SecondaryCurrencyTradePrice": 100.5, "Taker": "Sell",
                    "TradeTimestampUtc": ISO.format(n), "TradeGuid": f"{n:032x}"} for n in ns]}),
    "kraken-v2": ("/Trades?pair=XBTUSD&", lambda ns: {"error": [], "result": {"last": "7", "XXBTZUSD": [
        ["100.5", "0.5", 1704067200.5 + n, "s", "l", "", n] for n in ns]}}),
    "okx": ("/history-trades?instId=BTC-USDT&type=1&after=", lambda ns: {"data": [
        LIVE["okx"](n)["data"][0] for n in ns]}),
    "upbit": ("/trades/ticks?market=KRW-BTC&", lambda ns: [
        {"market": "KRW-BTC", "timestamp": n, "trade_price": 100.5, "trade_volume": 0.5, "ask_bid": "ASK",
         "sequential_id": n} for n in ns]),
}  # fmt: skip
"""Where its past trades are asked for, and how they come."""


@pytest.fixture(params=sorted(PAST))
def heard(request):
    made = Heard(venues()[request.param](), conn="spot")
    if request.param == "kraken-v2":
        made.venue.rest_names["BTC/USD"] = "XBTUSD"
    if request.param == "bybit":
        made.venue.known["spot/BTCUSDT"] = spot("BTC", "USDT")
    if request.param == "bitfinex":
        made({"event": "subscribed", "channel": "trades", "chanId": 17, "symbol": "tBTCUSD"})
    made.live, made.past = LIVE[request.param], PAST[request.param]
    return made


def again(heard):
    """The connection is lost, and stands again."""
    heard.venue.lost("spot", 1_700_000_000_000_000_000, "a bad day")
    heard.venue.connected("spot", 1_700_000_000_000_000_000)
    if heard.venue.NAME == "bitfinex":
        heard({"event": "subscribed", "channel": "trades", "chanId": 17, "symbol": "tBTCUSD"})


def rows(heard):
    return heard.table("trade", "trade_id", "price", "size", "side", "flags")


def test_every_venue_that_says_so_is_tested():
    told = {n for n, v in venues().items() for c in v.CHANNELS if c.name == "trades" and "missed" in c.rest}
    assert told == {*PAST, "binance", "binance-coinm", "binance-usdm", "coinbase", "deribit"}


def test_what_was_missed_comes_late_and_once(heard):
    heard(heard.live(1), heard.live(2))
    again(heard)
    heard(heard.live(6))
    (request,) = [r for r in heard.venue.requests if heard.past[0] in r.url]
    heard.answer(request.url, heard.past[1]([7, 6, 5, 3, 2, 1]))
    got = rows(heard)
    assert len(got) == 5
    assert {row[1:4] for row in got} == {(100.5, 0.5, "S")}
    assert [row[4] for row in got] == [0, 0, 0, Flag.LATE, Flag.LATE]
    kinds = [e[0] for e in heard.events()]
    assert kinds.count("gap") == 1
    assert kinds[-1] == "filled"
    heard(heard.live(7))
    assert [r for r in heard.venue.requests if heard.past[0] in r.url] == [request]


def test_late_rows_are_those_that_would_have_come_live(heard):
    heard(heard.live(1), heard.live(2), heard.live(3))
    live = heard.table("trade", "trade_id", "price", "size", "side", "action", "instrument")[1]
    other = Heard(type(heard.venue)(), conn="spot")
    past = other.venue.past("spot/BTCUSDT", json.dumps(heard.past[1]([2])).encode())
    (t,) = past
    assert (t.values["trade_id"], t.values["price"], t.values["size"], t.values["side"]) == live[:4]


def test_an_answer_that_does_not_reach_back_leaves_a_gap(heard):
    heard(heard.live(1))
    again(heard)
    heard(heard.live(9))
    (request,) = [r for r in heard.venue.requests if heard.past[0] in r.url]
    page = heard.venue.holes.waiting(request.url)[0][1]
    answers = [8, 7]
    if page.limit:  # as many as the answer may have, of which the oldest is not old enough
        answers = [8, *([7] * (page.limit - 1))]
    heard.answer(request.url, heard.past[1](answers))
    if page.goes:
        (more,) = [r for r in heard.venue.requests if heard.past[0] in r.url and r is not request]
        heard.answer(more.url, heard.past[1]([6] * page.limit))
    gaps = [e for e in heard.events() if e[0] == "gap"]
    assert len(rows(heard)) >= 3
    assert len(gaps) == (1 if page.goes else 2)


def test_without_a_loss_nothing_is_asked_for(heard):
    heard(heard.live(1), heard.live(2), heard.live(3))
    assert [r for r in heard.venue.requests if heard.past[0] in r.url] == []
    assert heard.events() == []


def test_answers_that_can_not_be_read_are_asked_for_again_and_then_it_stays_a_gap(heard):
    heard(heard.live(1))
    again(heard)
    heard(heard.live(5))
    (request,) = [r for r in heard.venue.requests if heard.past[0] in r.url]
    pauses = []
    while request.url in heard.venue.holes:
        heard.venue.requests.clear()
        heard.answer(request.url, b'{"error": "rate limit"')
        pauses += [r.after_s for r in heard.venue.requests if r.url == request.url]
    assert pauses == [1, 2, 4, 8, 16, 32, 60]
    kinds = [e[0] for e in heard.events()]
    assert kinds.count("malformed") == 8
    assert kinds[-2:] == ["unanswered", "gap"]
