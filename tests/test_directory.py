"""Instruments that nobody announced: they are defined from what is known, and again when the list comes."""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from venue_frames import START, Heard, dumped

from tickplant.feed.directory import Directory
from tickplant.feed.sink import Sink
from tickplant.feed.symbols import Instrument, ends, spot
from tickplant.feed.venue import Venue
from tickplant.feed.venues import venues
from tickplant.schema import Flag


class Market(Venue):
    """A venue whose names are base and quote in one word."""

    NAME, VENUE, CHANNELS = "market", "MARKET", ()
    QUOTES = ("BUSD", "USD", "USDT")

    def connections(self):
        return []

    def answer(self, url, data, ts_recv):
        entries = json.loads(data)
        self.enlist_all(
            entries, lambda e: (e["symbol"], spot(e["base"], e["quote"], float(e["tick"]))), ts_recv
        )
        return "instruments"

    def names(self, conn, data):
        return [json.loads(data)["s"]]

    def frame(self, conn, data, ts_recv):
        m = json.loads(data)
        changes = self.changes.halves(dumped(m["b"]), dumped(m["a"]))
        book = self.book(m["s"], ts_recv, conn)
        (book.snapshot if m.get("whole") else book.change)(changes, 0, ts_recv)
        return "book"


def whole(name, bid="1", ask="2"):
    return {"s": name, "whole": 1, "b": [[bid, "5"]], "a": [[ask, "7"]]}


def entry(name, base, quote, tick="0.5"):
    return {"symbol": name, "base": base, "quote": quote, "tick": tick}


@pytest.fixture
def heard():
    return Heard(Market())


def test_an_instrument_that_no_list_has_is_defined_from_its_name_and_says_so(heard):
    (row,) = heard(whole("ETHUSDT")).rows()["instrument"]
    said = row[["venue", "symbol", "kind", "base", "currency", "attributes"]].tolist()
    assert said == (b"MARKET", b"ETH-USDT", b"spot", b"ETH", b"USDT", b"ETHUSDT")
    assert row["flags"] == Flag.PROVISIONAL
    assert np.isnan([row["tick_size"], row["lot_size"]]).all()
    assert heard.table("event", "kind", "text", "instrument", "flags") == [
        ("unlisted", "ETHUSDT is in no list: ETH-USDT is what its name says", row["code"], Flag.PROVISIONAL)
    ]
    assert heard.book("ETHUSDT") == [[(1.0, 5.0)], [(2.0, 7.0)]]


@pytest.mark.parametrize(
    ("name", "why"),
    [("BTCBUSD", "BTC-BUSD or BTCB-USD?"), ("SOLBRL", "it ends with no quote that is known")],
)
def test_a_name_of_no_reading_or_of_two_is_not_guessed(heard, name, why):
    (row,) = heard(whole(name)).rows()["instrument"]
    said = row[["symbol", "kind", "base", "currency", "attributes"]].tolist()
    assert said == (name.encode(), b"", b"", b"", name.encode())
    assert np.isnan(row["multiplier"])
    ((_, text),) = heard.table("event", "kind", "text")
    assert text == f"{name} is in no list: it goes by its own name; {why}"


def test_the_list_defines_it_again_under_the_same_code_if_the_name_was_right(heard):
    heard(whole("ETHUSDT")).answer("list", [entry("ETHUSDT", "ETH", "USDT")])
    first, again = heard.rows()["instrument"]
    assert (first["code"], first["symbol"]) == (again["code"], again["symbol"])
    assert (again["flags"], again["tick_size"]) == (0, 0.5)
    assert [e for e in heard.events() if e[0] == "renamed"] == []
    heard.answer("list", [entry("ETHUSDT", "ETH", "USDT")])
    assert len(heard.rows()["instrument"]) == 2  # nothing new
    heard.answer("list", [entry("ETHUSDT", "ETH", "USDT", "0.25")])
    assert heard.table("instrument", "tick_size")[-1] == (0.25,)


def test_another_name_is_another_instrument_and_the_book_goes_on_under_it(heard):
    heard(whole("BTCBUSD"), whole("ETHUSDT")).answer("list", [entry("BTCBUSD", "BTC", "BUSD")])
    heard({"s": "BTCBUSD", "b": [["1.5", "1"]], "a": []})
    names = heard.symbols()
    assert sorted(names.values()) == ["BTC-BUSD", "BTCBUSD", "ETH-USDT"]
    ((_, old, new),) = [e for e in heard.events() if e[0] == "renamed"]
    assert (names[old], names[new]) == ("BTCBUSD", "BTC-BUSD")
    made = {}
    for code, action, side, price, size in heard.table(
        "depth", "instrument", "action", "side", "price", "size"
    ):
        book = made.setdefault(names[code], {})
        if action == "R":
            book.clear()
        else:
            book[side, price] = size
    assert made == {
        "BTCBUSD": {},
        "BTC-BUSD": {("B", 1.0): 5.0, ("B", 1.5): 1.0, ("S", 2.0): 7.0},
        "ETH-USDT": {("B", 1.0): 5.0, ("S", 2.0): 7.0},
    }
    stale = [q for q in heard.rows()["quote"] if q["flags"] & Flag.STALE]
    assert [names[q["instrument"]] for q in stale] == ["BTCBUSD"]
    assert np.isnan(stale[0]["bid_price"])


def test_a_message_that_names_its_instrument_and_can_not_be_read_touches_no_other(heard):
    heard(whole("ETHUSDT"), whole("BTCUSDT"), {"s": "ETHUSDT", "b": [["x", "1"]], "a": []})
    books = heard.venue.books
    assert (books["ETHUSDT"].live, books["BTCUSDT"].live) == (False, True)
    assert [k for k, *_ in heard.events()] == ["malformed", "gap"]
    assert heard.table("event", "kind", "instrument")[-2:] == [("malformed", 1), ("gap", 1)]
    heard({"s": "a name with spaces", "b": [], "a": []})
    assert books["BTCUSDT"].live
    heard({"s": 7})  # which names none
    assert not books["BTCUSDT"].live


@pytest.mark.parametrize("odd", [{"symbol": "ODD"}, {}, 5, None, [], entry("ODD", "X", "USDT", "none")])
def test_an_entry_that_can_not_be_read_is_an_event_and_the_others_stand(heard, odd):
    before, behind = entry("ETHUSDT", "ETH", "USDT"), entry("BTCUSDT", "BTC", "USDT")
    heard.answer("list", [before, odd, behind])
    assert list(heard.venue.known) == ["ETHUSDT", "BTCUSDT"]
    ((kind, text),) = heard.table("event", "kind", "text")
    assert kind == "unlisted"
    assert "of the list can't be read" in text
    assert heard.venue.account.malformed == 0
    if isinstance(odd, dict) and odd:
        assert text.startswith("ODD ")
        assert heard.venue.wanted() == ["ETHUSDT", "BTCUSDT"]
        asked = Market(["ODD", "ETH-USDT"])
        Heard(asked).answer("list", [before, odd, behind])
        assert asked.wanted() == ["ETHUSDT", "ODD"]


def test_what_was_asked_for_or_heard_and_is_in_no_list_is_missing():
    heard = Heard(Market(["BTC-BUSD", "NEWUSDT"]))
    assert heard.venue.missing() == {"BTC-BUSD", "NEWUSDT"}
    assert heard.venue.wanted() == ["BTC-BUSD", "NEWUSDT"]  # without a list, taken for the venue's own names
    heard(whole("ETHUSDT")).answer("list", [entry("BTCBUSD", "BTC", "BUSD")])
    assert heard.venue.missing() == {"NEWUSDT", "ETHUSDT"}
    assert heard.venue.wanted() == ["BTCBUSD"]


def test_two_instruments_never_have_one_name(heard):
    heard.answer("list", [entry("XBTUSD", "XBT", "USD")])(whole("XBTUSD"), whole("BTCUSD"))
    assert sorted(heard.symbols().values()) == ["BTC-USD", "BTCUSD"]
    assert "ambiguous" in [k for k, *_ in heard.events()]


QUOTES = ("USDT", "USD", "BUSD", "BTC")


@hypothesis.given(st.text("ABTCUSD", min_size=1, max_size=10))
def test_a_name_is_read_only_if_it_can_be_read_in_one_way(name):
    readings = [(name[: -len(q)], q) for q in QUOTES if name.endswith(q) and name != q]
    if len(readings) == 1:
        assert ends(name, QUOTES) == readings[0]
    else:
        with pytest.raises(ValueError, match=r"no quote|or"):
            ends(name, QUOTES)


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from("ABCDEF"), st.booleans(), st.sampled_from("xyz")), max_size=30)
)
def test_whatever_comes_when_names_and_codes_are_one_to_one(steps):
    sink = Sink("V")
    directory = Directory(sink, lambda name: spot(name, "USD"), lambda *_: None)
    for native, lists, base in steps:
        if lists:
            directory.enlist(native, Instrument(base, "USD"), 1)
        directory.code(native, 1)
    codes = {}
    for table, rows in sink.take():
        if table == "instrument":
            for row in rows:
                assert codes.setdefault(row["code"], row["symbol"]) == row["symbol"]
    assert len(set(codes.values())) == len(codes)
    assert set(directory.codes.values()) <= set(codes)
    assert len(set(directory.codes.values())) == len(directory.codes)


FORMS = [
    ("deribit", "BTC-5MAR27-90000-P", "BTC-USD-20270305-90000-P"),
    ("deribit", "BTC-PERPETUAL", "BTC-USD-PERP"),
    ("deribit", "ETH-30JUL21", "ETH-USD-20210730"),
    ("deribit", "XRP_USDC-30AUG24-0d5-C", "XRP-USDC-20240830-0.5-C"),
    ("deribit", "SOL_USDC-PERPETUAL", "SOL-USDC-PERP"),
    ("deribit", "ETH_BTC", "ETH-BTC"),
    ("deribit", "BTC-FS-27DEC24_PERP", "BTC-FS-27DEC24_PERP"),
    ("deribit", "BTC-31FEB27", "BTC-31FEB27"),
    ("bybit", "linear/BTCUSDT", "BTC-USDT-PERP"),
    ("bybit", "linear/BTCPERP", "BTC-USDC-PERP"),
    ("bybit", "linear/BTC-27JUN25", "BTC-USDC-20250627"),
    ("bybit", "linear/BTCUSDT-27JUN25", "BTC-USDT-20250627"),
    ("bybit", "inverse/BTCUSD", "BTC-USD-PERP"),
    ("bybit", "inverse/BTCUSDM24", "BTC-USD-20240628"),
    ("bybit", "spot/BTCUSDT", "BTC-USDT"),
    ("bybit", "spot/BTCXYZ", "spot/BTCXYZ"),
    ("huobi", "btcusdt", "BTC-USDT"),
    ("huobi", "solbrl", "solbrl"),
    ("gemini", "BTCUSD", "BTC-USD"),
    ("gemini", "BTCGUSD", "BTCGUSD"),
    ("gemini", "BTCGUSDPERP", "BTC-GUSD-PERP"),
    ("bitstamp", "btceur", "BTC-EUR"),
    ("independent-reserve", "xbt-aud", "BTC-AUD"),
    ("kraken", "XBT/USD", "BTC-USD"),
    ("kraken-v2", "BTC/USD", "BTC-USD"),
    ("kraken-v2", "odd", "odd"),
    ("upbit", "KRW-BTC", "BTC-KRW"),
    ("bitflyer", "FX_BTC_JPY", "BTC-JPY-PERP"),
    ("bitflyer", "BTCJPY28JUN2024", "BTC-JPY-20240628"),
    ("bitflyer", "ODD", "ODD"),
]


@pytest.mark.parametrize(("venue", "native", "symbol"), FORMS)
def test_names_are_read_by_the_forms_that_each_venue_has(venue, native, symbol):
    made = venues()[venue]()
    code = made.code(native, START)
    rows = dict(made.take())
    assert rows["instrument"][["code", "symbol", "flags"]].tolist() == [
        (code, symbol.encode(), int(Flag.PROVISIONAL))
    ]
    assert rows["event"]["kind"].tolist() == [b"unlisted"]
