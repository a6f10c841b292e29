"""OKX."""

import json
import zlib

import hypothesis
import pytest
from venue_frames import START, Heard, assert_sound, close, noise

from tickplant.feed.venues.okx import Okx
from tickplant.schema import Flag

NAN = float("nan")
TS = str(START // 1_000_000)


def listed(inst, kind, **other):
    return {
        "instId": inst,
        "instType": kind,
        "tickSz": "0.1",
        "lotSz": "1",
        "ctVal": "",
        "ctMult": "",
        "settleCcy": "",
        **other,
    }


LIST = {"code": "0", "data": [
    listed("BTC-USDT", "SPOT"), listed("BTC-USD-SWAP", "SWAP", ctVal="100", ctMult="1", settleCcy="BTC"),
    listed("BTC-USD-220527", "FUTURES", ctVal="100", ctMult="1"),
    listed("BTC-USD-220514-22000-C", "OPTION", ctVal="1", ctMult="0.1", settleCcy="BTC")]}  # fmt: skip
URL = "https://www.okx.com/api/v5/public/instruments?instType=SPOT"


def message(channel, *data, inst="BTC-USDT", **other):
    return {"arg": {"channel": channel, "instId": inst}, **other, "data": list(data)}


def book(action, bids, asks, channel="books", **other):
    data = {
        "bids": [[p, q, "0", "1"] for p, q in bids],
        "asks": [[p, q, "0", "2"] for p, q in asks],
        "ts": TS,
        **other,
    }
    return message(channel, data, action=action)


def crc(text):
    value = zlib.crc32(text.encode())
    return value - (1 << 32) if value >= 1 << 31 else value


def trade(**other):
    return {
        "instId": "BTC-USDT",
        "tradeId": "242720720",
        "px": "42219.9",
        "sz": "0.12",
        "side": "sell",
        "ts": TS,
        **other,
    }


TICKER = {
    "instId": "BTC-USDT",
    "askPx": "101",
    "askSz": "2",
    "bidPx": "99",
    "bidSz": "1",
    "ts": TS,
    "last": "1",
}
SNAPSHOT = book("snapshot", [("99.0", "1"), ("98", "2.50")], [("101.00", "3")], seqId=10, prevSeqId=-1,
                checksum=crc("99.0:1:101.00:3:98:2.50"))  # fmt: skip
ALL = [SNAPSHOT, book("update", [("99.0", "0")], [], seqId=15, prevSeqId=10), message("trades", trade(),
    trade(tradeId="2")),
       message("tickers", TICKER), message("bbo-tbt", {"bids": [["1", "2", "0", "1"]], "asks": [],
           "ts": TS, "seqId": 3}),
       message("mark-price", {"instId": "BTC-USD-SWAP", "markPx": "100", "ts": TS}, inst="BTC-USD-SWAP"),
       message("funding-rate", {"instId": "BTC-USD-SWAP", "fundingRate": "0.0001", "ts": TS},
           inst="BTC-USD-SWAP"),
       message("instruments", {"instId": "BTC-USDT", "state": "suspend"}),
       book("", [("1", "1")], [("2", "1")], channel="books5"),
       book("snapshot", [("1", "1")], [("2", "1")], channel="books-elp", seqId=5, prevSeqId=-1),
       message("trades-all", trade()), {"event": "notice", "code": "64008", "msg": "soon"},
       {"event": "subscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}}, {"event": "error",
       "msg": "x", "code": "1"}]  # fmt: skip


def test_trades_and_quotes():
    heard = Heard(Okx()).answer(URL, LIST)(
        message("trades", trade(), trade(tradeId="5", side="buy")), message("tickers", TICKER)
    )
    assert heard.table("trade", "trade_id", "price", "size", "side", "ts_event") == [
        (242720720, 42219.9, 0.12, "S", START), (5, 42219.9, 0.12, "B", START)]  # fmt: skip
    heard(ALL[4])
    one, two = heard.table("quote", "venue_seq", "bid_price", "bid_size", "ask_price", "ask_size")
    assert one == (0, 99.0, 1.0, 101.0, 2.0)
    assert close(two, (3, 1.0, 2.0, NAN, 0.0))


def test_all_kinds_of_instruments_have_their_names():
    known = Heard(Okx()).answer(URL, LIST).venue.known
    assert {n: (i.symbol, i.kind, i.multiplier) for n, i in known.items()} == {
        "BTC-USDT": ("BTC-USDT", "spot", 1.0),
        "BTC-USD-SWAP": ("BTC-USD-PERP", "perp", 100.0),
        "BTC-USD-220527": ("BTC-USD-20220527", "future", 100.0),
        "BTC-USD-220514-22000-C": ("BTC-USD-20220514-22000-C", "option", 0.1),
    }
    option = known["BTC-USD-220514-22000-C"].definition("x")
    assert (option["currency"], option["base"], option["tick_size"]) == ("BTC", "BTC", 0.1)
    for bad in ("BTC", "BTC-", "BTC-USD-2205", "BTC-USD-220514-1-X", "A-B-C-D-E-F"):
        with pytest.raises(ValueError, match="."):
            Okx().instrument(bad)


def test_checksums_are_verified_over_the_text_of_both_sides():
    after = crc("98:2.50:101.00:3:102:1")  # one bid less: what is left of the offers follows
    heard = Heard(Okx())(
        SNAPSHOT, book("update", [("99.0", "0")], [("102", "1")], seqId=15, prevSeqId=10, checksum=after)
    )
    assert heard.venue.verified == 2
    assert heard.events() == []
    assert heard.table("depth", "action", "side", "price", "size", "orders", "level")[-2:] == [
        ("D", "B", 99.0, 0.0, 0, 0), ("A", "S", 102.0, 1.0, 2, 1)]  # fmt: skip
    heard(book("update", [("97", "1")], [], seqId=16, prevSeqId=15, checksum=after))
    assert heard.events() == [("gap", 16, 16)]
    assert heard.book("BTC-USDT") == [[], []]
    assert [json.loads(m)["op"] for _, m in heard.venue.replies] == ["unsubscribe", "subscribe"]
    heard(SNAPSHOT)
    assert heard.venue.books["BTC-USDT"].live


def test_only_the_best_25_of_each_side_are_in_the_checksum():
    bids, asks = [(f"{100 - i}", "1") for i in range(40)], [(f"{101 + i}", "2") for i in range(40)]
    text = ":".join(f"{100 - i}:1:{101 + i}:2" for i in range(25))
    heard = Heard(Okx())(book("snapshot", bids, asks, checksum=crc(text)))
    assert (heard.venue.verified, heard.events()) == (1, [])


def test_a_hole_in_the_chain_is_a_gap_and_an_idle_message_is_none():
    heard = Heard(Okx())(
        SNAPSHOT,
        book("update", [], [], seqId=10, prevSeqId=10),
        book("update", [], [], seqId=15, prevSeqId=10),
    )
    assert heard.events() == []
    heard(book("update", [("1", "1")], [], seqId=20, prevSeqId=17))
    assert heard.events() == [("gap", 16, 17)]
    heard(book("snapshot", [("99", "1")], [], seqId=18, prevSeqId=-1))
    heard(book("update", [("98", "1")], [], seqId=21, prevSeqId=18))
    assert (heard.venue.books["BTC-USDT"].seq, len(heard.events())) == (21, 1)


def test_numbers_that_begin_anew_below_are_followed_as_the_venue_says():
    heard = Heard(Okx())(SNAPSHOT, book("update", [("1", "1")], [], seqId=3, prevSeqId=10),
                         book("update", [("2", "1")], [], seqId=4, prevSeqId=3))  # fmt: skip
    assert heard.events() == []
    assert heard.book("BTC-USDT")[0][-2:] == [(2.0, 1.0), (1.0, 1.0)]


def test_without_numbers_the_checksum_tells_alone():
    heard = Heard(Okx())(book("snapshot", [("99", "1")], []), book("update", [("98", "1")], [],
        checksum=crc("99:1:98:1")),
                         book("update", [("97", "1")], [], checksum=5))  # fmt: skip
    assert [k for k, _, _ in heard.events()] == ["gap"]
    assert heard.venue.verified == 1


def test_five_levels_come_whole_each_time():
    heard = Heard(Okx())(ALL[8], book("", [("1.5", "1")], [("2", "1")], channel="books5"))
    assert heard.book("BTC-USDT") == [[(1.5, 1.0)], [(2.0, 1.0)]]
    assert heard.table("depth", "flags")[0] == (Flag.SNAPSHOT,)


def test_marks_funding_and_states_are_status():
    heard = Heard(Okx()).answer(URL, LIST)(*ALL[5:8])
    rows = heard.table("status", "kind", "value", "level_1", "level_3")
    assert close(rows[0], ("mark", "", 100.0, NAN))
    assert close(rows[1], ("funding", "", NAN, 0.0001))
    assert rows[2][:2] == ("state", "suspend")


def test_answers_pongs_and_errors_are_accounted_for():
    heard = Heard(Okx())(
        b"pong", ALL[-2], ALL[-1], {"arg": {"channel": "unheard"}, "data": []}, b"ping", {"data": []}
    )
    assert heard.venue.account.ignored == {"pong": 1, "response": 1}
    assert [k for k, _, _ in heard.events()] == ["refused", "malformed", "malformed", "malformed"]


def test_one_bad_trade_of_a_message_leaves_none():
    heard = Heard(Okx())(
        message("trades", trade(), trade(tradeId="x")), message("trades", trade(), trade(ts="9" * 30))
    )
    assert heard.venue.account.malformed == 2
    assert "trade" not in heard.rows()


def test_subscriptions_are_to_what_is_wanted():
    venue = Okx(symbols=["BTC-USD-PERP", "BTC-USDT"])
    Heard(venue).answer(URL, LIST)
    (conn,) = venue.connections()
    args = [
        (a["channel"], a.get("instId") or a.get("instType")) for m in conn.send for a in json.loads(m)["args"]
    ]
    both = ("BTC-USDT", "BTC-USD-SWAP")
    assert args == [(c, n) for c in ("trades", "bbo-tbt", "books") for n in both] + [
        ("mark-price", "BTC-USD-SWAP"), ("funding-rate", "BTC-USD-SWAP")] + [
        ("instruments", k) for k in ("SPOT", "SWAP", "FUTURES", "OPTION")] + [("status", None)]  # fmt: skip
    assert conn.ping == "ping"
    assert len(venue.begin()) == 5


@hypothesis.given(frames=noise(ALL))
def test_no_frame_whatever_makes_a_wrong_row(frames):
    assert_sound(Heard(Okx())(SNAPSHOT, *frames))


NOTICE = {"event": "notice", "code": "64008", "msg": "The connection will soon be closed."}


def test_a_notice_that_the_connection_is_closed_makes_it_anew():
    heard = Heard(Okx())(NOTICE, {"event": "notice", "code": "1", "msg": "other"})
    assert [k for k, _, _ in heard.events()] == ["shutdown", "shutdown"]
    assert heard.table("status", "kind", "value", "reason") == [("system", "notice", "64008"),
                                                                ("system", "notice", "1")]  # fmt: skip
    assert heard.venue.reconnects == {"ws"}


def test_maintenance_is_a_status_and_too_many_connections_are_a_refusal():
    heard = Heard(Okx())(
        {"arg": {"channel": "status"}, "data": [{"title": "Upgrade", "state": "ongoing", "ts": TS}]},
        {"event": "channel-conn-count-error", "channel": "orders", "connCount": "20"},
        {"event": "channel-conn-count", "channel": "orders", "connCount": "2"}, {"event": "unheard"},
    )  # fmt: skip
    assert heard.table("status", "kind", "value", "ts_event") == [("system", "ongoing", START)]
    assert [k for k, _, _ in heard.events()] == ["refused", "malformed"]


@pytest.mark.parametrize("channel", ["books5", "books50-l2-tbt", "books-elp"])
def test_another_book_never_replaces_the_one_that_is_followed(channel):
    heard = Heard(Okx())(
        SNAPSHOT, book("snapshot", [("1", "1")], [("2", "1")], channel=channel, seqId=99, prevSeqId=-1),
        book("update", [("98.5", "1")], [], seqId=12, prevSeqId=10),
    )  # fmt: skip
    assert heard.book("BTC-USDT") == [[(99.0, 1.0), (98.5, 1.0), (98.0, 2.5)], [(101.0, 3.0)]]
    assert [k for k, _, _ in heard.events()] == ["other_book"]
    assert heard.venue.account.ignored == {"other book": 1}
    assert_sound(heard)


def test_a_deeper_book_takes_the_place_of_a_few_levels():
    heard = Heard(Okx())(ALL[8], SNAPSHOT, ALL[8])
    assert heard.book("BTC-USDT") == [[(99.0, 1.0), (98.0, 2.5)], [(101.0, 3.0)]]
    assert [k for k, _, _ in heard.events()] == ["gap", "other_book"]
    assert_sound(heard)


def test_trades_of_a_second_channel_are_not_counted_twice():
    heard = Heard(Okx())(
        message("trades", trade(tradeId="7", count="2")), message("trades-all", trade(tradeId="6")),
        message("trades-all", trade(tradeId="7")),
        message("option-trades", trade(instId="BTC-USD-250328-90000-C", tradeId="1", optType="C")),
    )  # fmt: skip
    assert heard.table("trade", "trade_id") == [(7,), (1,)]
    assert heard.venue.account.ignored == {"other trades": 2}


def test_an_instrument_that_is_listed_later_is_known_from_then_on():
    heard = Heard(Okx())(
        {"arg": {"channel": "instruments", "instType": "SWAP"}, "data": [
            listed("NEW-USDT-SWAP", "SWAP", ctVal="10", ctMult="1", state="live")]})  # fmt: skip
    assert heard.table("instrument", "symbol", "multiplier", "flags") == [("NEW-USDT-PERP", 10.0, 0)]
    assert heard.table("status", "kind", "value") == [("state", "live")]


@pytest.mark.parametrize("wrong", [{"px": "0"}, {"sz": "0"}, {"px": "-1"}, {"px": ""}])
def test_a_trade_of_nothing_or_for_nothing_is_malformed(wrong):
    heard = Heard(Okx())(message("trades", trade(**wrong)))
    assert heard.venue.account.malformed == 1
    assert heard.table("trade", "price") == []


def test_a_message_that_can_not_be_read_concerns_the_book_that_it_names():
    heard = Heard(Okx())(SNAPSHOT, message("trades", {}, inst="ETH-USDT"))
    assert heard.venue.books["BTC-USDT"].live
    heard(book("update", [("x", "1")], [], seqId=15, prevSeqId=10))
    assert not heard.venue.books["BTC-USDT"].live


def test_channels_that_say_nothing_for_a_table_are_ignored_by_their_names():
    heard = Heard(Okx())(
        message("candle1m", ["1"]), message("index-candle1D", []), message("price-limit", {})
    )
    assert heard.venue.account.ignored == {"candles": 2, "price-limit": 1}
