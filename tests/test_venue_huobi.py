"""HTX (Huobi) spot."""

import gzip
import json

import hypothesis
import hypothesis.strategies as st
import pytest
from venue_frames import START, Heard, assert_sound, close, noise

from tickplant.feed.venues import huobi
from tickplant.feed.venues.huobi import BOOK, GROUP, Huobi
from tickplant.schema import Flag

NAN = float("nan")
MS = START // 1_000_000
LIST = {
    "status": "ok",
    "data": [
        {
            "symbol": f"{base}usdt",
            "base-currency": base,
            "quote-currency": "usdt",
            "price-precision": 2,
            "amount-precision": 6,
        }
        for base in ("btc", "eth")
    ],
}
URL = "https://api.huobi.pro/v1/common/symbols"


def message(kind, tick, **other):
    return {"ch": f"market.btcusdt.{kind}", "ts": MS, "tick": tick, **other}


def trade(number=1, **other):
    return {
        "id": 10**30,
        "ts": MS,
        "tradeId": number,
        "amount": 0.5,
        "price": 100.25,
        "direction": "buy",
        **other,
    }


def trades(*each):
    return message("trade.detail", {"id": 77, "ts": MS, "data": list(each)})


def change(seq, prev, bids=(), asks=()):
    return message("mbp.400", {"seqNum": seq, "prevSeqNum": prev, "bids": list(bids), "asks": list(asks)})


def whole(seq, bids, asks):
    return {"id": "btcusdt", "rep": "market.btcusdt.mbp.400", "status": "ok", "ts": MS,
            "data": {"seqNum": seq, "bids": bids, "asks": asks}}  # fmt: skip


STEP = message(
    "depth.step0", {"bids": [[99.5, 1.0], [9.9e1, 2.0]], "asks": [[101, 3]], "version": 5, "ts": MS + 1}
)
BEST = message(
    "bbo",
    {
        "seqId": 9,
        "ask": 101.0,
        "askSize": 2.0,
        "bid": 99.0,
        "bidSize": 1.0,
        "quoteTime": MS,
        "symbol": "btcusdt",
    },
)
ALL = [STEP, BEST, trades(trade(2), trade(1)), change(11, 10, [[1.5, 1]], []), whole(10, [[1.0, 1]],
    [[2.0, 1]]),
       {"ping": 5}, {"id": "1", "status": "ok", "subbed": "x", "ts": 1}, message("kline.1min", {}),
       {"status": "error", "err-msg": "bad"}]  # fmt: skip


def test_trades_are_in_the_order_in_which_they_happened():
    heard = Heard(Huobi()).answer(URL, LIST)(trades(trade(2), trade(1, direction="sell")))
    assert heard.table("trade", "trade_id", "venue_seq", "price", "size", "side", "ts_event") == [
        (1, 77, 100.25, 0.5, "S", START), (2, 77, 100.25, 0.5, "B", START)]  # fmt: skip
    assert heard.table("instrument", "symbol", "tick_size", "lot_size") == [("BTC-USDT", 0.01, 1e-6)]


def test_frames_are_gzip_and_what_is_not_one_whole_is_refused(monkeypatch):
    frame = gzip.compress(json.dumps(trades(trade())).encode())
    heard = Heard(Huobi())(frame)
    assert heard.venue.account.messages == {"trade.detail": 1}
    heard(frame[:-1], frame + b"x", b"\x1f\x8b", frame[:20] + b"\0" + frame[21:])
    assert heard.venue.account.malformed == 4
    monkeypatch.setattr(huobi, "FRAME_MAX", 1000)
    heard(gzip.compress(b" " * 1001 + b"{}"))
    assert heard.venue.account.malformed == 5


def test_the_best_prices_are_a_quote():
    heard = Heard(Huobi())(
        BEST, message("bbo", {"ask": None, "askSize": 0.0, "bid": 99.0, "bidSize": 1.0, "quoteTime": MS})
    )
    one, two = heard.table("quote", "venue_seq", "bid_price", "bid_size", "ask_price", "ask_size")
    assert one == (9, 99.0, 1.0, 101.0, 2.0)
    assert close(two, (0, 99.0, 1.0, NAN, 0.0))


def test_a_depth_is_a_whole_book_each_time():
    heard = Heard(Huobi())(
        STEP, message("depth.step0", {"bids": [[99.5, 1.0]], "asks": [], "version": 6, "ts": MS})
    )
    assert heard.book("btcusdt") == [[(99.5, 1.0)], []]
    rows = heard.table("depth", "action", "venue_seq", "flags", "ts_event")
    assert [r[0] for r in rows] == list("RAAARA")
    assert rows[0] == ("R", 5, Flag.SNAPSHOT, START + 1_000_000)


def test_changes_are_kept_until_the_answer_and_then_chained():
    venue = Huobi()
    heard = Heard(venue, "huobi.feed.0")(change(11, 10, [[98.0, 1.0]]), change(12, 11, [[99.0, 0.0]]))
    heard(whole(11, [[99.0, 1.0], [97.5, 2.0]], [[101.0, 1.0]]))
    assert heard.book("btcusdt") == [[(97.5, 2.0)], [(101.0, 1.0)]]
    heard(whole(11, [], []))  # an answer that comes late
    assert venue.books["btcusdt"].seq == 12
    heard(change(15, 14, [[99.0, 0.0]]))
    assert heard.events() == [("gap", 13, 14)]
    assert [(c, json.loads(m)) for c, m in venue.replies] == [
        ("huobi.feed.0", {"req": f"market.btcusdt.{BOOK}", "id": "btcusdt"})]  # fmt: skip
    heard(whole(14, [[98.0, 1.0]], []))
    assert (venue.books["btcusdt"].live, venue.books["btcusdt"].seq) == (True, 15)


def test_pings_are_answered_over_their_connection():
    heard = Heard(Huobi(), "huobi.ws.0")(gzip.compress(b'{"ping": 1618678073643}'))
    assert list(heard.venue.pongs) == [("huobi.ws.0", '{"pong":1618678073643}')]
    assert heard.venue.account.ignored == {"ping": 1}


def test_what_is_ignored_refused_and_unheard_is_accounted_for():
    heard = Heard(Huobi())(*ALL[6:], message("unheard", {}), {"ch": "market.btcusdt"}, {"ch": "a.b.c.d"}, {})
    assert heard.venue.account.ignored == {"response": 1, "kline": 1}
    assert [k for k, _, _ in heard.events()] == ["refused"] + ["malformed"] * 4


@pytest.mark.parametrize(
    "bad", [{"price": "x"}, {"amount": -1.0}, {"direction": "up"}, {"ts": 1 << 70}, {"tradeId": 1 << 70}]
)
def test_one_bad_trade_of_a_message_leaves_none(bad):
    heard = Heard(Huobi())(trades(trade(2), trade(1, **bad)))
    assert "trade" not in heard.rows()
    assert heard.venue.account.malformed == 1


def test_books_are_on_a_connection_of_their_own_and_asked_for_when_it_stands():
    venue = Huobi(symbols=["BTC-USDT"])
    Heard(venue).answer(URL, LIST)
    plain, feed = venue.connections()
    assert [json.loads(m)["sub"] for m in plain.send] == ["market.btcusdt.trade.detail", "market.btcusdt.bbo"]
    assert [json.loads(m)["sub"] for m in feed.send] == [f"market.btcusdt.{BOOK}"]
    assert (plain.url, feed.url) == (venue.SOCKET, venue.FEED)
    venue.connected(plain.name, 1)
    assert not venue.replies
    venue.connected(feed.name, 1)
    assert [(c, json.loads(m)["req"]) for c, m in venue.replies] == [(feed.name, f"market.btcusdt.{BOOK}")]
    every = Huobi(channels=["trades"])
    every.known = {f"x{i}": venue.known["btcusdt"] for i in range(GROUP + 1)}
    assert len(every.connections()) == 2


@hypothesis.given(frames=noise(ALL), packed=st.booleans())
def test_no_frame_whatever_makes_a_wrong_row(frames, packed):
    frames = [gzip.compress(f, 1) if packed else f for f in frames]
    assert_sound(Heard(Huobi())(STEP, *frames))
