"""Upbit."""

import json

import hypothesis
import pytest
from venue_frames import START, Heard, assert_sound, noise

from tickplant.feed.venues.upbit import GROUP, Upbit
from tickplant.schema import Flag

MS = START // 1_000_000
URL = "https://api.upbit.com/v1/market/all"
LIST = [{"market": "KRW-BTC", "korean_name": "비트코인", "english_name": "Bitcoin"}, {"market": "BTC-ETH"}]


def trade(**other):
    return {"ty": "trade", "cd": "KRW-BTC", "tms": MS + 5, "ttms": MS, "tp": 127.0, "tv": 46.48838371,
        "ab": "BID", "pcp": 123.0,
            "sid": 1618678262000003, "st": "REALTIME", **other}  # fmt: skip


def orderbook(*units, **other):
    keys = ("ap", "bp", "as", "bs")
    return {
        "ty": "orderbook",
        "cd": "KRW-BTC",
        "tms": MS,
        "obu": [dict(zip(keys, u, strict=True)) for u in units],
        **other,
    }


def ticker(**other):
    return {"ty": "ticker", "cd": "KRW-BTC", "tms": MS, "ms": "ACTIVE", "its": False, **other}


ONE = orderbook((127.0, 126.0, 1.5, 2.5), (128.0, 125.0, 3.0, 4.0))
ALL = [
    ONE,
    orderbook((127.0, 126.0, 0.0, 2.0)),
    trade(),
    ticker(),
    {"status": "UP"},
    {"error": {"name": "NO", "message": "x"}},
]


def test_a_trade_and_one_of_the_snapshot():
    heard = Heard(Upbit()).answer(URL, LIST)(trade(ab="ASK", st="SNAPSHOT"), trade())
    assert heard.table("trade", "trade_id", "price", "size", "side", "flags", "ts_event") == [
        (1618678262000003, 127.0, 46.48838371, "S", Flag.SNAPSHOT, START),
        (1618678262000003, 127.0, 46.48838371, "B", 0, START),
    ]
    assert heard.table("instrument", "symbol", "attributes") == [("BTC-KRW", "KRW-BTC")]


def test_an_orderbook_is_whole_each_time_and_empty_levels_are_none():
    heard = Heard(Upbit())(ONE)
    assert heard.book("KRW-BTC") == [[(126.0, 2.5), (125.0, 4.0)], [(127.0, 1.5), (128.0, 3.0)]]
    heard(orderbook((127.0, 126.0, 0.0, 2.0), (0.0, 0.0, 0.0, 0.0)))
    assert heard.book("KRW-BTC") == [[(126.0, 2.0)], []]
    assert heard.table("quote", "bid_price", "bid_size")[-1] == (126.0, 2.0)


def test_after_a_message_that_is_none_the_next_orderbook_heals():
    heard = Heard(Upbit())(ONE, b"{", ONE)
    assert [k for k, _, _ in heard.events()] == ["malformed", "gap"]
    assert heard.venue.books["KRW-BTC"].live


def test_a_state_that_is_another_is_a_status():
    heard = Heard(Upbit())(ticker(), ticker(), ticker(its=True))
    assert heard.table("status", "kind", "value", "level_1") == [
        ("state", "ACTIVE", 0.0),
        ("state", "ACTIVE", 1.0),
    ]


def test_status_errors_and_unheard_types_are_accounted_for():
    heard = Heard(Upbit())(*ALL[-2:], {"ty": "unheard"}, {}, b"[]")
    assert heard.venue.account.ignored == {"status": 1}
    assert [k for k, _, _ in heard.events()] == ["refused", "malformed", "malformed", "malformed"]


@pytest.mark.parametrize(
    "bad", [{"tp": "x"}, {"tv": -1.0}, {"ab": "UP"}, {"ttms": 1 << 70}, {"sid": 1 << 70}, {"cd": "NO SUCH"}]
)
def test_a_bad_trade_is_no_row(bad):
    heard = Heard(Upbit())(trade(**bad))
    assert "trade" not in heard.rows()
    assert heard.venue.account.malformed == 1


def test_one_message_subscribes_to_all_of_a_group():
    venue = Upbit(symbols=["ETH-BTC"])
    (conn,) = Heard(venue).answer(URL, LIST).venue.connections()
    ticket, *asked, form = json.loads(conn.send[0])
    assert [(a["type"], a["codes"]) for a in asked] == [
        (t, ["BTC-ETH"]) for t in ("trade", "orderbook", "ticker")
    ]
    assert (set(ticket), form) == ({"ticket"}, {"format": "SIMPLE"})
    every = Upbit()
    every.known = {f"KRW-{i}": venue.known["KRW-BTC"] for i in range(GROUP + 1)}
    assert len(every.connections()) == 2


@hypothesis.given(frames=noise(ALL))
def test_no_frame_whatever_makes_a_wrong_row(frames):
    assert_sound(Heard(Upbit())(ONE, *frames))
