"""Binance: spot, USD-M and COIN-M futures."""

import json

import hypothesis
import pytest
from venue_frames import Heard, assert_sound, close, noise

from tickplant.feed.venues.binance import GROUP, Binance, BinanceCoinm, BinanceUsdm
from tickplant.schema import Flag

NAN = float("nan")
LIST = {"symbols": [{"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": [
    {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"}, {"filterType": "LOT_SIZE",
    "stepSize": "0.00001000"}]}]}  # fmt: skip


def stream(kind, **data):
    return {"stream": f"btcusdt@{kind}", "data": {"s": "BTCUSDT", "E": 1_700_000_000_123, **data}}


def trade(t=10, **other):
    return stream(
        "trade",
        **{"e": "trade", "t": t, "p": "100.50", "q": "0.25", "T": 1_700_000_000_100, "m": True, **other},
    )


def ticker(**other):
    return stream("bookTicker", **{"u": 7, "b": "100.1", "B": "2", "a": "100.2", "A": "3", **other})


def depth(first, last, bids=(), asks=(), **other):
    return stream("depth@100ms", U=first, u=last, b=list(bids), a=list(asks), **other)


SNAPSHOT = {"lastUpdateId": 100, "bids": [["99.0", "1"], ["98.0", "2"]], "asks": [["101.0", "1"]]}
WHERE = "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"
ALL = [trade(), trade(11), ticker(), depth(101, 102, [["99.5", "1"]]), depth(103, 103, [], [["101",
    "0"]]), SNAPSHOT,
       stream("kline_1m", k={}), stream("markPrice@1s", p="1", i="2", r="0.0001"), {"result": None,
           "id": 1}, {"e": "serverShutdown", "E": 1}, {"error": {"code": 2, "msg": "no"}, "id": 1},
       {"e": "trade", "s": "BTCUSDT", "t": 12, "p": "0", "q": "0", "T": 1, "m": True, "X": "NA"},
       stream("rpiDepth@500ms", U=1, u=2, b=[], a=[]), stream("depth5", **SNAPSHOT)]  # fmt: skip


def test_a_trade_of_a_maker_who_bought_is_a_sale():
    heard = Heard(Binance()).answer("https://x/exchangeInfo", LIST)(trade(10), trade(11, m=False))
    assert heard.table("trade", "trade_id", "price", "size", "side", "action", "ts_event") == [
        (10, 100.5, 0.25, "S", "T", 1_700_000_000_100_000_000),
        (11, 100.5, 0.25, "B", "T", 1_700_000_000_100_000_000),
    ]
    assert heard.table("instrument", "symbol", "kind", "tick_size", "lot_size", "venue", "attributes") == [
        ("BTC-USDT", "spot", 0.01, 0.00001, "BINANCE", "BTCUSDT")
    ]


def test_trades_that_are_missing_and_those_that_come_twice_are_told():
    heard = Heard(Binance())(trade(10), trade(13), trade(13), trade(14))
    assert heard.events() == [("gap", 11, 12), ("duplicate", 13, 13)]
    assert [t for (t,) in heard.table("trade", "trade_id")] == [10, 13, 14]
    heard(trade(5_000_000_000_000), trade(15), trade(16))  # one wild number does not end the series
    assert [t for (t,) in heard.table("trade", "trade_id")][-2:] == [15, 16]


def test_the_best_prices_are_a_quote_and_an_empty_side_is_nan():
    heard = Heard(Binance())(ticker(), ticker(b="0.00000000", B="0.00000000"))
    rows = heard.table("quote", "venue_seq", "bid_price", "bid_size", "ask_price", "ask_size")
    assert rows[0] == (7, 100.1, 2.0, 100.2, 3.0)
    assert close(rows[1], (7, NAN, 0.0, 100.2, 3.0))


def test_changes_before_the_snapshot_that_overlap_it_and_after_it_make_the_book():
    heard = Heard(Binance())(
        depth(90, 95, [["1", "1"]]), depth(96, 101, [["99.0", "5"]]), depth(102, 102, [["98.0", "0"]])
    )
    heard.answer(WHERE, SNAPSHOT)
    heard(depth(103, 104, [["99.5", "1"]], [["101.0", "2"]]))
    assert heard.book("BTCUSDT") == [[(99.5, 1.0), (99.0, 5.0)], [(101.0, 2.0)]]
    assert heard.events() == []


def test_a_first_change_after_the_snapshot_may_overlap_it():
    heard = Heard(Binance()).answer(WHERE, SNAPSHOT)(depth(98, 103, [["99.5", "1"]]))
    assert heard.book("BTCUSDT")[0][0] == (99.5, 1.0)
    assert heard.events() == []


def test_a_hole_makes_the_book_stale_asks_once_and_the_answer_heals_it():
    venue = Binance()
    heard = Heard(venue).answer(WHERE, SNAPSHOT)(
        depth(101, 101), depth(103, 104, [["99.5", "1"]]), depth(105, 105)
    )
    assert heard.events() == [("gap", 102, 102)]
    assert [r.url for r in venue.requests] == [WHERE]
    assert heard.book("BTCUSDT") == [[], []]
    heard.answer(WHERE, {**SNAPSHOT, "lastUpdateId": 102})
    assert heard.book("BTCUSDT")[0] == [(99.5, 1.0), (99.0, 1.0), (98.0, 2.0)]
    heard.answer(WHERE, SNAPSHOT)  # late: the book is ahead of it
    assert venue.books["BTCUSDT"].seq == 105
    rows = heard.rows()
    assert rows["depth"]["flags"][0] == Flag.SNAPSHOT
    assert_sound(heard)


def test_a_snapshot_among_the_frames_is_of_the_only_book():
    heard = Heard(Binance())(depth(101, 101), SNAPSHOT)
    assert heard.venue.books["BTCUSDT"].live
    assert heard.venue.account.messages == {"depth": 1, "depth snapshot": 1}


def test_what_is_no_message_is_malformed_and_makes_books_stale():
    heard = Heard(Binance()).answer(WHERE, SNAPSHOT)(
        trade(p="1e"), b"", stream("unheard"), depth(101, 101, [["99", "-1"]])
    )
    assert heard.venue.account.malformed == 4
    assert [k for k, _, _ in heard.events()] == ["malformed", "gap", "malformed", "malformed", "malformed"]
    assert not heard.venue.books["BTCUSDT"].live


def test_connections_have_all_streams_of_what_is_wanted_in_groups():
    venue = Binance(channels=["trades", "book"])
    many = [{"symbol": f"C{i}USDT", "baseAsset": f"C{i}", "quoteAsset": "USDT"} for i in range(GROUP + 1)]
    venue.respond("https://x/exchangeInfo", json.dumps({"symbols": many}).encode(), 1)
    first, second = venue.connections()
    assert second.url == f"{venue.SOCKET}/stream?streams=c{GROUP}usdt@trade/c{GROUP}usdt@depth@100ms"
    venue.connected(second.name, 1)
    assert [r.url for r in venue.requests] == [f"{venue.REST}/depth?symbol=C{GROUP}USDT&limit=1000"]
    assert first.url.count("@") == 3 * GROUP


def test_a_lost_connection_concerns_only_its_own_books():
    venue = Binance()
    heard = Heard(venue).answer(WHERE, SNAPSHOT)(depth(101, 101), conn="a")
    venue.lost("b", 5, "why")
    assert venue.books["BTCUSDT"].live
    venue.lost("a", 5, "why")
    assert not venue.books["BTCUSDT"].live
    assert [k for k, _, _ in heard.events()] == ["disconnected", "disconnected", "gap"]


def test_futures_have_their_names_chains_and_funding():
    listed = [{**LIST["symbols"][0], "contractType": "PERPETUAL"},
              {**LIST["symbols"][0], "symbol": "BTCUSDT_240628",
              "contractType": "CURRENT_QUARTER"}]  # fmt: skip
    heard = Heard(BinanceUsdm()).answer("https://x/exchangeInfo", {"symbols": listed})
    assert [i.symbol for i in heard.venue.known.values()] == ["BTC-USDT-PERP", "BTC-USDT-20240628"]
    heard(
        stream("aggTrade", a=4, p="1.5", q="2", T=5, m=False),
        stream("markPrice@1s", p="10", i="11", r="0.0001"),
    )
    assert heard.table("status", "kind", "level_1", "level_2", "level_3") == [("funding", 10.0, 11.0, 0.0001)]
    assert heard.table("trade", "trade_id", "price", "side") == [(4, 1.5, "B")]
    heard.answer(WHERE, SNAPSHOT)(depth(95, 105, pu=90), depth(106, 109, pu=105), depth(111, 112, pu=110))
    assert heard.events() == [("gap", 110, 110)]
    coin = Heard(BinanceCoinm()).answer(
        "https://x/exchangeInfo",
        {"symbols": [{**listed[0], "symbol": "BTCUSD_PERP", "quoteAsset": "USD", "contractSize": 100}]},
    )
    assert [(i.symbol, i.multiplier) for i in coin.venue.known.values()] == [("BTC-USD-PERP", 100.0)]


@pytest.mark.parametrize("venue", [Binance, BinanceUsdm])
@hypothesis.given(frames=noise(ALL))
def test_no_frame_whatever_makes_a_wrong_row(venue, frames):
    assert_sound(Heard(venue())(depth(101, 101), SNAPSHOT, *frames))


def test_two_holes_that_one_request_is_for_stay_gaps_if_its_answers_can_not_be_read():
    heard = Heard(Binance())(trade(10), trade(13), trade(16))
    (url,) = {r.url for r in heard.venue.requests}
    for _ in range(8):
        heard.answer(url, b"busy")
    gaps = [e for e in heard.events() if e[0] == "gap"]
    assert gaps == [("gap", 11, 12), ("gap", 14, 15)] * 2
    assert url not in heard.venue.holes


def test_a_list_whose_entry_has_no_type_of_contract_has_the_others_too():
    entry = {"baseAsset": "BTC", "quoteAsset": "USDT", "contractType": "PERPETUAL", "filters": []}
    listed = [{**entry, "symbol": "BTCUSDT"}, {**entry, "symbol": "BTCSTUSDT", "baseAsset": "BTCST",
              "contractType": ""}, {**entry, "symbol": "ETHUSDT", "baseAsset": "ETH"}]  # fmt: skip
    venue = Heard(BinanceUsdm()).answer("https://x/exchangeInfo", {"symbols": listed}).venue
    assert [i.symbol for i in venue.known.values()] == ["BTC-USDT-PERP", "BTCST-USDT-PERP", "ETH-USDT-PERP"]
    assert venue.malformed == 0


@pytest.mark.parametrize(
    ("venue", "native", "symbol"),
    [
        (BinanceUsdm, "BTCUSDT", "BTC-USDT-PERP"), (BinanceUsdm, "ETHUSDT_250328", "ETH-USDT-20250328"),
        (BinanceUsdm, "ETHBTC", "ETH-BTC-PERP"), (BinanceCoinm, "BTCUSD_PERP", "BTC-USD-PERP"),
        (BinanceCoinm, "BTCUSD_250328", "BTC-USD-20250328"), (Binance, "BTCBUSD", "BTC-BUSD"),
        (Binance, "BNBTUSD", "BNB-TUSD"), (Binance, "SOLBRL", "SOL-BRL"), (Binance, "WBTCBTC", "WBTC-BTC"),
    ],
)  # fmt: skip
def test_names_are_read_where_there_is_no_list(venue, native, symbol):
    assert venue().instrument(native).symbol == symbol


def raw(event, **data):
    """A message of a raw stream: the event alone."""
    return {"e": event, "E": 1_700_000_000_123, "s": "BTCUSDT", **data}


def futures_trade(t, price="100.5", size="2", **other):
    return stream("trade", e="trade", t=t, p=price, q=size, T=1_700_000_000_100, m=True, **other)


def test_a_message_of_a_futures_trade_that_is_none_makes_no_row_and_no_hole():
    heard = Heard(BinanceUsdm())(
        futures_trade(10, X="MARKET"), futures_trade(11, "0", "0", X="NA"), futures_trade(12, X="MARKET")
    )
    assert heard.table("trade", "trade_id", "price", "size", "condition") == [
        (10, 100.5, 2.0, ""), (12, 100.5, 2.0, "")
    ]  # fmt: skip
    assert heard.events() == []
    assert heard.venue.account.ignored == {"no trade": 1}


@pytest.mark.parametrize(("x", "value"), [("INSURANCE_FUND", "INSURANCE"), ("ADL", "ADL")])
def test_what_is_taken_over_outside_the_book_is_no_trade_and_not_lost(x, value):
    heard = Heard(BinanceUsdm())(futures_trade(10), futures_trade(11, "90", "5", X=x), futures_trade(12))
    assert [t for (t,) in heard.table("trade", "trade_id")] == [10, 12]
    assert heard.table("status", "kind", "value", "level_1", "level_2", "venue_seq") == [
        ("takeover", value, 90.0, 5.0, 11)
    ]
    assert heard.events() == []


@pytest.mark.parametrize(("price", "size"), [("0", "1"), ("1", "0"), ("-1", "1")])
def test_half_a_trade_is_malformed(price, size):
    heard = Heard(Binance())(trade(10, p=price, q=size))
    assert heard.venue.account.malformed == 1
    assert heard.table("trade", "price") == []


def test_messages_of_raw_streams_are_those_of_combined_ones():
    alone = Heard(Binance()).answer(WHERE, SNAPSHOT)(
        raw("trade", t=1, p="100.5", q="0.01", T=5, m=True),
        raw("trade", t=5, p="100.5", q="0.01", T=5, m=True),
        raw("depthUpdate", U=101, u=102, b=[["99.5", "1"]], a=[]),
        {"u": 7, "s": "BTCUSDT", "b": "100.1", "B": "2", "a": "100.2", "A": "3"},
        raw("kline", k={}), raw("24hrTicker", c="1"),
    )  # fmt: skip
    assert alone.venue.account.messages == {
        "GET depth snapshot": 1, "trade": 2, "depth": 1, "bookTicker": 1
    }  # fmt: skip
    assert alone.venue.account.ignored == {"kline": 1, "ticker": 1}
    assert alone.events() == [("gap", 2, 4)]
    assert alone.book("BTCUSDT")[0][0] == (99.5, 1.0)
    assert [r for r in alone.table("quote", "bid_price", "flags") if r[1] == 0] == [(100.1, 0)]


def test_a_raw_stream_of_all_symbols_is_an_array():
    heard = Heard(BinanceUsdm())
    marks = [raw("markPriceUpdate", p="10", i="11", r="0.1"), raw("markPriceUpdate", s="ETHUSDT_250328",
             p="20", i="21", r="")]  # fmt: skip
    heard([{**m, "s": s} for m, s in zip(marks, ("BTCUSDT_250328", "ETHUSDT_250328"), strict=True)])
    heard({"stream": "!markPrice@arr@1s", "data": [{**marks[0], "s": "BTCUSDT_250328"}]})
    heard([raw("24hrMiniTicker"), raw("24hrMiniTicker")], {"stream": "!miniTicker@arr", "data": [{}]})
    assert [v for (v,) in heard.table("status", "level_1")] == [10.0, 20.0, 10.0]
    assert heard.venue.account.ignored == {"miniTicker": 2}


def test_what_the_other_futures_market_says_in_streams_of_all_symbols_is_left_out():
    quote = {"e": "bookTicker", "u": 1, "b": "1", "B": "1", "a": "2", "A": "1", "E": 5}
    heard = Heard(BinanceUsdm())(
        {"stream": "!bookTicker", "data": {**quote, "s": "BTCUSD_PERP", "st": 2}},
        {"stream": "!bookTicker", "data": {**quote, "s": "BTCUSDT_250328", "st": 1}},
    )
    assert heard.table("instrument", "attributes") == [("BTCUSDT_250328",)]
    assert heard.venue.account.ignored == {"other market": 1}


def test_errors_over_the_socket_and_a_shutdown_are_told():
    heard = Heard(Binance())(
        {"error": {"code": 2, "msg": "Invalid request"}, "id": 1},
        {"code": 3, "msg": "Invalid JSON"},
        {"e": "serverShutdown", "E": 1_790_000_000_000},
        {"stream": "", "data": {"e": "serverShutdown", "E": 1_790_000_000_000}},
    )
    assert heard.table("event", "kind", "text")[:2] == [
        ("refused", "ws: Invalid request (2)"), ("refused", "ws: Invalid JSON (3)")
    ]  # fmt: skip
    assert [k for k, _, _ in heard.events()] == ["refused", "refused", "shutdown", "shutdown"]
    assert heard.table("status", "kind", "value") == [("system", "shutdown")] * 2
    assert heard.venue.reconnects == {"ws"}
    assert heard.venue.account.messages == {"error": 2, "serverShutdown": 2}


@pytest.mark.parametrize("frame", [b"{}", b"[]", b'{"id":1}', b'{"stream":"x@y","data":{}}', b'{"e":"new"}'])
def test_what_is_no_answer_and_no_event_is_malformed(frame):
    assert Heard(Binance())(frame).venue.account.malformed == 1


def test_another_kind_of_book_never_replaces_the_one_that_is_followed():
    other = [
        stream("depth5@100ms", lastUpdateId=999, bids=[["1", "1"]], asks=[["2", "1"]]),
        stream("depth20", e="depthUpdate", U=1, u=999, pu=0, b=[["1", "1"]], a=[]),
        stream("rpiDepth@500ms", e="depthUpdate", U=500, u=501, pu=499, b=[["1", "1"]], a=[]),
    ]
    heard = Heard(Binance()).answer(WHERE, SNAPSHOT)(depth(101, 101), *other, *other)
    heard(depth(102, 102, [["99.5", "1"]]))
    assert heard.book("BTCUSDT") == [[(99.5, 1.0), (99.0, 1.0), (98.0, 2.0)], [(101.0, 1.0)]]
    assert [k for k, _, _ in heard.events()] == ["other_book"] * 3
    assert heard.venue.account.ignored == {"other book": 6}
    assert_sound(heard)


def test_a_book_of_few_levels_is_followed_until_there_is_one_of_all():
    heard = Heard(Binance())(stream("depth5@100ms", **SNAPSHOT), stream("depth5", **SNAPSHOT))
    assert heard.book("BTCUSDT") == [[(99.0, 1.0), (98.0, 2.0)], [(101.0, 1.0)]]
    heard(depth(101, 101, [["99.5", "1"]]))
    assert heard.book("BTCUSDT") == [[], []]
    assert heard.events() == [("gap", 0, 0)]
    heard.answer(WHERE, SNAPSHOT)(stream("depth5", **SNAPSHOT))
    assert heard.book("BTCUSDT")[0][0] == (99.5, 1.0)
    assert_sound(heard)


def test_of_which_book_a_raw_stream_is_its_address_says():
    heard = Heard(BinanceUsdm()).answer(WHERE, SNAPSHOT)
    heard.venue.urls.update(
        rpi="wss://x/public/ws/btcusdt@rpiDepth@500ms", few="wss://x/ws/btcusdt@depth10@100ms",
    )  # fmt: skip
    change = raw("depthUpdate", U=1, u=2, pu=0, b=[["1", "1"]], a=[])
    heard(change, conn="rpi")
    heard(change, {"lastUpdateId": 9, "bids": [["1", "1"]], "asks": []}, conn="few")
    assert heard.venue.account.ignored == {"other book": 3}
    assert heard.book("BTCUSDT")[0] == [(99.0, 1.0), (98.0, 2.0)]


def test_times_in_microseconds_are_told_by_their_size():
    heard = Heard(Binance())(
        trade(10, T=1_700_000_000_100_123), ticker(E=1_700_000_000_100_456), trade(11, T=1_700_000_000_100)
    )
    assert [t for (t,) in heard.table("trade", "ts_event")] == [1_700_000_000_100_123_000,
                                                                1_700_000_000_100_000_000]  # fmt: skip
    assert heard.table("quote", "ts_event") == [(1_700_000_000_100_456_000,)]


def test_usd_m_streams_are_below_two_addresses_and_coin_m_below_one():
    listed = {**LIST["symbols"][0], "contractType": "PERPETUAL"}
    venue = Heard(BinanceUsdm()).answer("https://x/exchangeInfo", {"symbols": [listed]}).venue
    assert {c.name: c.url for c in venue.connections()} == {
        "binance-usdm.ws.market.0": "wss://fstream.binance.com/market/stream?streams="
                                    "btcusdt@aggTrade/btcusdt@markPrice@1s/!contractInfo",
        "binance-usdm.ws.public.0": "wss://fstream.binance.com/public/stream?streams="
                                    "btcusdt@bookTicker/btcusdt@depth@100ms",
    }  # fmt: skip
    venue.connected("binance-usdm.ws.market.0", 1)
    assert not venue.requests
    venue.connected("binance-usdm.ws.public.0", 1)
    assert [r.url for r in venue.requests] == [
        "https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    ]
    coin = Heard(BinanceCoinm()).answer("https://x/exchangeInfo", {"symbols": [{**listed, "symbol": "B"}]})
    assert [c.url.partition("?")[0] for c in coin.venue.connections()] == ["wss://dstream.binance.com/stream"]


def test_a_contract_whose_state_changes_is_a_status():
    heard = Heard(BinanceUsdm()).answer(
        "https://x/exchangeInfo", {"symbols": [{**LIST["symbols"][0], "contractType": "PERPETUAL"}]}
    )(
        {"stream": "!contractInfo", "data": raw("contractInfo", ct="PERPETUAL", cs="SETTLING")},
        stream("blockTrade", t=3, p="100", q="5", T=5),
    )
    assert heard.table("status", "kind", "value") == [("state", "SETTLING")]
    assert heard.table("trade", "trade_id", "price", "condition") == [(3, 100.0, "BLOCK")]


def test_states_of_contracts_that_are_not_wanted_are_passed_over():
    heard = Heard(BinanceUsdm(symbols=["BTC-USDT-PERP"], channels=["status"])).answer(
        "https://x/exchangeInfo", {"symbols": [{**LIST["symbols"][0], "contractType": "PERPETUAL"}]}
    )
    heard(
        {"stream": "!contractInfo", "data": raw("contractInfo", s="ETHUSDT", cs="TRADING")},
        {"stream": "!contractInfo", "data": raw("contractInfo", cs="TRADING")},
    )
    assert heard.table("status", "value") == [("TRADING",)]
    (conn,) = heard.venue.connections()
    assert conn.url == "wss://fstream.binance.com/market/stream?streams=!contractInfo"


def test_of_which_book_a_raw_stream_is_its_subscription_says():
    few = {"lastUpdateId": 999, "bids": [["1", "1"]], "asks": [["2", "1"]]}
    heard = Heard(Binance()).answer(WHERE, SNAPSHOT)(raw("depthUpdate", U=101, u=101, b=[], a=[]))
    heard.venue.sent("ws", '{"method":"SUBSCRIBE","params":["btcusdt@depth","btcusdt@depth5@100ms"],"id":1}')
    heard.venue.sent("ws", "no json")
    heard(few, raw("depthUpdate", U=102, u=102, b=[["98.5", "1"]], a=[]), few)
    assert [p for p, _ in heard.book("BTCUSDT")[0]] == [99.0, 98.5, 98.0]
    assert [k for k, _, _ in heard.events()] == ["other_book"]
    heard.venue.sent("ws", '{"method":"UNSUBSCRIBE","params":["btcusdt@depth5@100ms"],"id":2}')
    heard(few, few)  # of nobody: the book is in step
    assert [k for k, _, _ in heard.events()] == ["other_book", "unassigned"]
    assert heard.venue.account.ignored == {"other book": 2, "nameless snapshot": 2}


def test_a_raw_book_of_few_levels_alone_is_followed():
    heard = Heard(Binance())
    heard.venue.sent("ws", '{"method":"SUBSCRIBE","params":["btcusdt@depth5"],"id":1}')
    heard(SNAPSHOT)
    assert heard.book("BTCUSDT") == [[(99.0, 1.0), (98.0, 2.0)], [(101.0, 1.0)]]


def test_snapshots_are_asked_for_what_a_connection_is_for():
    listed = [{**LIST["symbols"][0], "symbol": f"{c}USDT", "baseAsset": c} for c in ("BTC", "ETH")]
    venue = Heard(Binance()).answer("https://x/exchangeInfo", {"symbols": listed}).venue
    (conn,) = venue.connections()
    assert conn.natives == ["BTCUSDT", "ETHUSDT"]
    venue.natives["binance.ws.0+1"] = ["ETHUSDT"]  # listed later
    venue.connected("binance.ws.0+1", 1)
    assert [r.url for r in venue.requests] == [WHERE.replace("BTC", "ETH")]
