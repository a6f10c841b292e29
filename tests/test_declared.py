"""Captures of packets with declared protocols: rows, accounts, gaps, hostile packets, real captures."""

import os
import pathlib
from collections import Counter

import numpy as np
import packet_files as packets
import pytest
from declared_protocol import (
    HEADER,
    PROTOCOL,
    SECOND,
    SENT,
    TEXT,
    add,
    beat,
    index,
    message,
    packet,
    quote,
    trade,
)
from hypothesis import given
from hypothesis import strategies as st
from packet_files import T0, A, B

from tickplant.errors import CaptureError, ConfigError
from tickplant.feed.capture import Head
from tickplant.feed.decode import decode
from tickplant.feed.formats import FORMATS, open_capture
from tickplant.feed.packets import protocol_instruments
from tickplant.feed.packets.declared import Declared, DeclaredFeeds, claimants
from tickplant.feed.packets.protocol_files import parse
from tickplant.schema import Flag

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
needs_captures = pytest.mark.skipif(not DATA.is_dir(), reason=f"no captures in {DATA}")


def decoded(*payloads, to=A):
    feeds = DeclaredFeeds(PROTOCOL)
    for i, payload in enumerate(payloads):
        feeds.packet(payload, T0 + i, to)
    feeds.finish("not in the capture")
    return feeds, dict(feeds.rows.take())


def rows_of(table, *messages):
    return decoded(packet(1, *messages))[1][table]


def events_in(rows):
    """Those that are not about decimals."""
    return [e for e in rows["event"][["kind", "first", "last"]].tolist() if e[0] != b"orphan"]


def symbols(rows, defined):
    names = dict(zip(defined["code"].tolist(), defined["symbol"].tolist(), strict=True))
    return [names[i].decode() for i in rows["instrument"].tolist()]


def test_quotes_have_no_price_where_a_side_is_empty():
    rows = rows_of("quote", quote(), quote(bid_size=0, ask=-5))
    columns = ["ts_event", "ts_recv", "venue_seq", "bid_price", "bid_size", "ask_price", "ask_size"]
    assert rows[columns].tolist()[0] == (SENT + 9, T0, 1, 1.0, 5, 1.01, 6)
    assert np.isnan(rows["bid_price"][1])
    assert rows[["venue_seq", "bid_size", "ask_price", "ask_size"]].tolist()[1] == (2, 0, -0.0005, 6)


def test_a_number_is_the_symbol_until_an_index_tells_it():
    first = packet(1, trade(number=7, price=5))
    feeds = DeclaredFeeds(PROTOCOL)
    feeds.packet(first, T0, A)
    before = dict(feeds.rows.take())
    feeds.packet(packet(2, trade(price=123_400), index(7, "XYZ", 2), trade(number=8)), T0, A)
    after = dict(feeds.rows.take())
    assert before["instrument"]["symbol"].tolist() == [b"7"]
    assert np.isnan(before["trade"]["price"]).all()
    assert before["event"][["kind", "first", "instrument"]].tolist() == [(b"orphan", 1, 1)]
    assert after["instrument"][["symbol", "lot_size", "currency", "kind"]].tolist()[0] == (
        b"XYZ", 100.0, b"USD", b"stock",
    )  # fmt: skip
    assert symbols(after["trade"], after["instrument"]) == ["XYZ", "8"]
    assert after["trade"]["price"].tolist()[0] == 1234.0
    assert np.isnan(after["trade"]["price"][1])


def test_values_are_mapped_scaled_and_chosen():
    rows = rows_of(
        "trade", index(7, "XYZ"), trade(), trade(side="2", of="p"), trade(side="9", kind=" "),
        trade(price=-1), trade(kind="X"), trade(kind="?"),
    )  # fmt: skip
    assert rows[["price", "size", "side", "action", "flags"]].tolist()[:3] == [
        (12.34, 1.5, b"B", b"T", 0),
        (12.34, 1.5, b"S", b"T", 0),
        (12.34, 1.5, b"", b"T", 0),
    ]
    assert np.isnan(rows["price"][3])
    assert rows[["flags", "side"]].tolist()[4] == (Flag.CROSS | Flag.HIDDEN, b"")
    assert len(rows) == 5


def test_decimals_are_of_the_message_where_it_tells_them():
    rows = rows_of("order", add(1), add(2, denominator="A"), add(3, denominator="C"))
    assert rows["price"].tolist()[:2] == [12.34, 123.4]
    assert np.isnan(rows["price"][2])


def test_an_order_gives_its_instrument_to_what_follows_it():
    made = [
        add(1, "ABC"), message("E", "QIQ", 1, 5, 76), add(2, "XYZ"),
        message("U", "QQI", 2, 3, 50), message("U", "QQI", 3, 4, 40),
        message("E", "QIQ", 4, 10, 77), message("D", "Q", 1), message("E", "QIQ", 1, 10, 78),
        message("E", "QIQ", 99, 1, 79),
    ]  # fmt: skip
    feeds = DeclaredFeeds(PROTOCOL)
    feeds.packet(packet(1, *made[:7]), T0, A)
    one = dict(feeds.rows.take())
    feeds.packet(packet(8, *made[7:]), T0, A)
    two = dict(feeds.rows.take())
    assert symbols(one["order"], one["instrument"]) == ["ABC", "ABC", "XYZ", "XYZ", "XYZ", "XYZ", "ABC"]
    assert one["order"]["action"].tolist() == [b"A", b"E", b"A", b"U", b"U", b"E", b"D"]
    assert one["order"]["ref_id"].tolist() == [0, 76, 0, 2, 3, 77, 0]
    assert not one["order"]["flags"].any()
    assert two["order"][["instrument", "flags"]].tolist() == [(0, Flag.ORPHAN)] * 2


def test_orders_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(protocol_instruments, "ORDERS_MAX", 2)
    feeds = DeclaredFeeds(PROTOCOL)
    for seq, made in enumerate([add(1), add(2), add(3), message("E", "QIQ", 1, 1, 1)], 1):
        feeds.packet(packet(seq, made), T0, A)
        rows = dict(feeds.rows.take())
        if seq == 3:
            assert b"more than 2 orders" in rows["event"]["text"][0]
    assert rows["order"]["flags"].tolist() == [Flag.ORPHAN]


def test_times_are_of_the_reference_until_messages_are_lost():
    second = message("T", "I", SECOND - 100)
    feeds, rows = decoded(
        packet(1, trade(ns=1), second, trade(ns=2)), packet(4, trade(ns=3)), packet(6, trade(ns=4))
    )
    old = SENT - 100 * 10**9
    assert rows["trade"]["ts_event"].tolist() == [SENT + 1, old + 2, old + 3, SENT + 4]
    assert feeds.rows.messages == {"Trade": 4, "Second": 1}


def test_a_message_is_of_the_longest_layout_that_fits():
    rows = rows_of("imbalance", message("B", "8sI", b"ABC", 5), message("B", "8sIc", b"ABC", 6, b"O"),
                   message("B", "8sIc3s", b"ABC", 7, b"C", b"new"))  # fmt: skip
    assert rows[["paired_size", "cross_type"]].tolist() == [(5, b""), (6, b"O"), (7, b"C")]


def test_a_gap_a_duplicate_and_a_heartbeat():
    feeds, rows = decoded(
        packet(1, trade(), trade()), packet(2, trade(), trade()), packet(1, trade()), beat(4),
        packet(6, trade()), packet(1, trade(), unit=2),
    )  # fmt: skip
    assert events_in(rows) == [(b"gap", 4, 5)]
    assert rows["trade"]["venue_seq"].tolist() == [1, 2, 3, 1, 6]
    assert +feeds.ignored == {"duplicate": 2, "heartbeat": 1}


def test_without_a_channel_each_address_is_one():
    text = TEXT.decode().replace('channel = ["unit"]\n', "")
    feeds = DeclaredFeeds(parse(text.encode()))
    for to in (A, B):
        feeds.packet(packet(1, trade()), T0, to)
    assert dict(feeds.rows.take())["trade"]["venue_seq"].tolist() == [1, 1]


def test_numbers_begin_anew_when_a_packet_says_so():
    again = packet(1, trade(), flag=12, sent=SENT + 1)
    second = message("T", "I", SECOND - 100)
    _, rows = decoded(packet(1, trade(), flag=12), packet(0, second), packet(2, trade()),
                      packet(3, trade()), again, again, packet(2, trade()))  # fmt: skip
    assert rows["trade"]["venue_seq"].tolist() == [1, 2, 3, 1, 2]
    assert rows["trade"]["ts_event"].tolist()[:3] == [
        SENT + 5,
        SENT - 100 * 10**9 + 5,
        SENT - 100 * 10**9 + 5,
    ]
    assert rows["trade"]["ts_event"].tolist()[3:] == [SENT + 5] * 2
    assert events_in(rows) == [(b"session", 0, 0)]


def test_numbers_that_begin_anew_without_a_word_are_found_out_and_copies_of_the_old_are_not_mixed_in():
    old = [packet(n, trade(price=n), sent=SENT + n) for n in range(500, 520)]
    new = [packet(n, trade(price=n), sent=SENT + 1000 + n) for n in range(1, 10)]
    feeds, rows = decoded(*old, *new[:3], *old[10:], *new[3:])
    assert rows["trade"]["venue_seq"].tolist() == [*range(500, 520), *range(1, 10)]
    assert events_in(rows) == [(b"session", 1, 1)]
    assert +feeds.ignored == {"old numbers": 10}


def test_packets_that_are_numbered_are_one_each():
    text = TEXT.decode().replace('seq = "seq"\n', 'seq = "seq"\nnumbers = "packets"\n')
    feeds = DeclaredFeeds(parse(text.encode()))
    for seq in (1, 2, 4):
        feeds.packet(packet(seq, trade(), trade()), T0, A)
    feeds.finish("not in the capture")
    rows = dict(feeds.rows.take())
    assert rows["trade"]["venue_seq"].tolist() == [1, 1, 2, 2, 4, 4]
    assert events_in(rows) == [(b"gap", 3, 3)]


def test_messages_that_are_not_numbered_are_taken_as_they_come():
    text = TEXT.decode() + 'unnumbered = { type = ["Z"] }\n'
    feeds = DeclaredFeeds(parse(text.encode()))
    for made in (packet(1, trade()), packet(1, message("Z")), packet(0, trade()), packet(2, trade())):
        feeds.packet(made, T0, A)
    feeds.finish("not in the capture")
    rows = dict(feeds.rows.take())
    assert rows["trade"]["venue_seq"].tolist() == [1, 0, 2]
    assert +feeds.ignored == {"Chatter": 1}
    assert set(rows["event"]["kind"].tolist()) == {b"orphan"}


HOSTILE = {
    "short": packet(1)[:10],
    "size": packet(1, trade(), size=99),
    "count too high": packet(1, trade(), count=2),
    "count too low": packet(1, trade(), trade(), count=1),
    "cut": packet(1, trade()[:-1], size=HEADER.size + len(trade()) - 1),
    "no header of a message": packet(1, b"\0\0"),
    "message of no bytes": packet(1, b"\0\0P"),
    "beat with messages": packet(1, trade(), flag=1),
    "number": packet(1, trade())[:5] + b"\xff" * 4 + packet(1, trade())[9:10],
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_packet_that_is_wrong_is_an_event(payload):
    feeds, rows = decoded(payload)
    assert rows["event"]["kind"].tolist() == [b"malformed"]
    assert (feeds.rows.malformed, feeds.rows.messages.total()) == (1, 0)


def test_messages_of_unknown_type_or_too_short_are_events_and_the_rest_is_read():
    feeds, rows = decoded(packet(1, message("?", "I", 1), trade(), message("P", "I", 1), message("Z")))
    events = rows["event"][rows["event"]["kind"] == b"malformed"]
    assert events[["first", "text"]].tolist() == [
        (1, b"a message of type b'?' and 7 bytes"), (3, b"a message of type b'P' and 7 bytes"),
    ]  # fmt: skip
    assert rows["trade"]["venue_seq"].tolist() == [2]
    assert (feeds.rows.malformed, feeds.rows.messages, +feeds.ignored) == (2, {"Trade": 1}, {"Chatter": 1})


KINDS = "TIQPpAUEDBZ?"


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.binary(max_size=48)), max_size=8), st.integers(0, 2))
def test_any_bytes_in_messages_are_accounted_for(made, cut):
    messages = [len(b + k.encode()).to_bytes(2, "big") + k.encode() + b for k, b in made]
    payload = packet(1, *messages)
    feeds, rows = decoded(payload[: len(payload) - cut])
    if cut and made:
        assert feeds.rows.malformed == 1
    elif not cut:
        counted = feeds.rows.messages.total() + feeds.rows.ignored.total() + feeds.rows.malformed
        assert counted == len(made)
    codes = set(rows.get("instrument", np.zeros(0, [("code", "u4")]))["code"].tolist()) | {0}
    assert all(set(r["instrument"].tolist()) <= codes for r in rows.values())


@given(st.binary(max_size=80))
def test_any_packet_ends_in_an_account(payload):
    feeds, _ = decoded(payload)
    assert feeds.rows.malformed + feeds.rows.messages.total() + feeds.ignored.total() >= 1


prices = st.integers(-(1 << 63), (1 << 63) - 1)


@given(prices, st.integers(0, (1 << 32) - 1), st.integers(0, 15))
def test_prices_are_the_nearest_to_their_decimals(price, qty, places):
    rows = rows_of("trade", index(7, "XYZ", places), trade(price=price, qty=qty))
    wanted = np.nan if price == -1 else price / 10**places
    assert rows[["price", "size"]].tolist()[0] == (pytest.approx(wanted, rel=0, abs=0, nan_ok=True), qty / 10)


def capture(path, *payloads, to=A):
    frames = [(T0 + i, packets.ethernet(packets.ipv4(p, to))) for i, p in enumerate(payloads)]
    path.write_bytes(packets.classic(frames))
    return path


def test_a_protocol_of_ones_own_is_given_by_its_file(tmp_path):
    own = tmp_path / "acme.toml"
    own.write_bytes(TEXT)
    path = capture(tmp_path / "day.pcap", packet(1, index(7, "XYZ"), trade()), beat(3), b"nonsense")
    found = decode(path, protocol=str(own), venue="XACX")
    assert found["format"] == "acme"
    assert (found["messages"], found["malformed"]) == ({"Index": 1, "Trade": 1}, 1)
    assert found["ignored"] == {"heartbeat": 1}
    assert found["tables"]["trade"]["notional_sum"] == pytest.approx(12.34 * 1.5)
    (instruments,) = [r for b in open_capture(path, protocol=str(own)) for t, r in b if t == "instrument"]
    assert instruments["venue"].tolist() == [b"XACM"]


def test_what_numbers_mean_can_be_told_by_a_file(tmp_path):
    own, known = tmp_path / "acme.toml", tmp_path / "known.csv"
    own.write_bytes(TEXT)
    known.write_text("id,symbol,decimals\n7,XYZ,3\n8,ABC,\n")
    path = capture(tmp_path / "day.pcap", packet(1, trade()))
    rows = {t: r for b in open_capture(path, protocol=str(own), instruments=str(known)) for t, r in b}
    assert rows["trade"]["price"].tolist() == [123.4]
    assert symbols(rows["trade"], rows["instrument"]) == ["XYZ"]
    for wrong in ("id,symbol\nx,Y\n", "number,name\n1,2\n", "id,symbol,decimals\n1,X,99\n"):
        known.write_text(wrong)
        with pytest.raises(CaptureError, match="no CSV"):
            open_capture(path, protocol=str(own), instruments=str(known))
    with pytest.raises(CaptureError, match="can't read"):
        open_capture(path, protocol=str(own), instruments=str(tmp_path / "none.csv"))


def test_lines_of_one_channel_are_read_once(tmp_path):
    own, path = tmp_path / "acme.toml", tmp_path / "day.pcap"
    own.write_bytes(TEXT.replace(b'channel = ["unit"]\n', b""))
    sent = [(1, A), (1, B), (3, A), (2, B), (3, B), (4, B)]
    frames = [
        (T0 + i, packets.ethernet(packets.ipv4(packet(s, quote()), to))) for i, (s, to) in enumerate(sent)
    ]
    path.write_bytes(packets.classic(frames))
    line_a, line_b = (f"{address}:{port}" for address, port in (A, B))
    one = decode(path, protocol=str(own), to=[f"{line_a}+{line_b}"])
    assert (one["messages"], one["ignored"], one["events"]) == ({"Quote": 4}, {"duplicate": 2}, [])
    only = decode(path, protocol=str(own), to=[line_a])
    assert (only["messages"], only["ignored"]) == ({"Quote": 2}, {"other address": 4})
    assert [(e["kind"], e["first"], e["last"]) for e in only["events"]] == [("gap", 2, 2)]
    both = decode(path, protocol=str(own), to=[line_a, line_b])
    assert both["messages"] == {"Quote": 6}


def test_what_no_shipped_protocol_is_is_not_claimed(tmp_path):
    path = capture(tmp_path / "day.pcap", packet(1, trade()))
    with pytest.raises(CaptureError, match="not recognised"):
        open_capture(path)
    with pytest.raises(CaptureError, match="not certainly"):
        Declared(path)
    with pytest.raises(ConfigError, match="no protocol"):
        open_capture(path, protocol="acme")


def events_of(found, *but):
    return {k: v for k, v in found["event_kinds"].items() if k not in but}


@needs_captures
def test_the_nyse_capture_has_every_packet_in_an_account():
    path = DATA / "nyse-xdp" / "nyse_imbalances_xdp_first6000.pcap.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = decode(path)
    assert found["format"] == "nyse-xdp"
    assert found["messages"] == {"Symbol Index Mapping": 221, "Security Status": 662, "Imbalance": 5116}
    assert (found["ignored"], found["malformed"], found["total"]) == ({"Sequence Number Reset": 1}, 0, 6000)
    assert {t: a["rows"] for t, a in found["tables"].items()} == {
        "instrument": 221, "status": 662, "imbalance": 5116,
    }  # fmt: skip


@needs_captures
def test_the_ice_capture_has_every_message_in_an_account(tmp_path):
    path = DATA / "ice-impact" / "ice_impact_v1.1.24.pcap.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = decode(path)
    assert found["messages"] == {
        "Pre-Open Price Indicator": 691, "Market State Change": 691, "Add or Modify Order": 15_061,
        "Trade": 7, "Market Statistics": 3, "Open Price": 1,
    }  # fmt: skip
    assert found["ignored"] == {"Message Bundle Marker": 4, "heartbeat": 2}
    assert events_of(found, "orphan") == {}
    assert found["tables"]["order"]["rows"] == 15_061
    known = tmp_path / "known.csv"
    known.write_text("id,symbol,decimals\n220846,BRN,2\n")
    rows = [r for b in open_capture(path, instruments=str(known)) for t, r in b if t == "order"]
    assert Counter(np.concatenate(rows)["action"].tolist()) == {b"A": 15_046, b"U": 15}


CAPTURES = sorted(p for p in DATA.glob("**/*") if p.suffix in (".pcap", ".gz", ".pcapng"))


@pytest.mark.parametrize("path", CAPTURES, ids=[str(p.relative_to(DATA)) for p in CAPTURES])
def test_no_two_formats_claim_a_capture(path):
    head = Head.of(path)
    claimed = [f.what for f in FORMATS if f.load().sniff(head)]
    assert len(claimed) <= 1
    assert len(claimants(head)) <= 1
