"""IEX-TP segments, and TOPS, DEEP and DEEP+ messages to rows."""

import os
import pathlib
import struct

import numpy as np
import packet_files as packets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_files import T0, A, B

from tickplant.errors import CaptureError
from tickplant.feed.decode import decode
from tickplant.feed.formats import open_capture
from tickplant.feed.packets.iex import IexFeeds, IexTp
from tickplant.feed.packets.iex_rows import LAYOUTS
from tickplant.feed.packets.iextp import DEEP, DEEP_PLUS, HEADER, TOPS, segment
from tickplant.schema import Flag

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
IEX = DATA / "venue-packets" / "Iex"
needs_captures = pytest.mark.skipif(not IEX.is_dir(), reason=f"no captures in {IEX}")
LENGTHS = dict(S=10, D=31, H=22, I=18, O=18, P=19, E=18, Q=42, T=38, B=38, X=26, A=80, a=38, M=38, R=26, L=46)
"""Bytes of a message of each type, as the specifications say; 8 and 5 have 30."""
AT = T0 - 700


def message(kind, layout="", *fields, code=0, symbol=b"ZIEXT"):
    code = code if isinstance(code, int) else ord(code)
    return struct.pack("<cBq", kind.encode(), code, AT) + symbol.ljust(8) + struct.pack("<" + layout, *fields)


def tp(messages, seq, *, protocol=TOPS, session=7, channel=1, version=1):
    body = b"".join(len(m).to_bytes(2, "little") + m for m in messages)
    return HEADER.pack(version, protocol, channel, session, len(body), len(messages), 0, seq, T0) + body


def decoded(*payloads):
    feeds = IexFeeds("IEXG")
    for i, payload in enumerate(payloads):
        feeds.packet(payload, T0 + i, A)
    feeds.finish("not in the capture")
    return feeds, dict(feeds.rows.take())


def rows_of(table, *messages):
    return decoded(tp(messages, 1))[1][table]


def trade(kind="T", code=0, size=100, price=990_500, number=429_974):
    return message(kind, "Iqq", size, price, number, code=code)


def test_every_layout_is_as_long_as_specified():
    assert {k.decode(): v.itemsize for k, v in LAYOUTS.items()} == {**LENGTHS, "8": 30, "5": 30}


def test_quotes_have_no_price_where_a_side_is_empty():
    rows = rows_of(
        "quote", message("Q", "IqqI", 9700, 990_500, 990_700, 1000), message("Q", "IqqI", 0, 0, 1, 5)
    )
    assert rows[["bid_price", "bid_size", "ask_price", "ask_size"]].tolist()[0] == (99.05, 9700, 99.07, 1000)
    assert np.isnan(rows["bid_price"][1])
    assert rows[["bid_size", "ask_price", "ask_size"]].tolist()[1] == (0, 0.0001, 5)
    assert rows[["ts_event", "ts_recv", "venue_seq"]].tolist() == [(AT, T0, 1), (AT, T0, 2)]


def test_trades_and_breaks_have_their_conditions():
    rows = rows_of("trade", trade(), trade("T", 0x80 | 0x20), trade("T", 0x58), trade("B", 0x40))
    assert rows[["action", "condition", "flags", "side"]].tolist() == [
        (b"T", b"", 0, b""),
        (b"T", b"FI", 0, b""),
        (b"T", b"T8X", Flag.CROSS, b""),
        (b"X", b"T", Flag.CORRECTION, b""),
    ]
    assert set(rows[["trade_id", "price", "size"]].tolist()) == {(429_974, 99.05, 100.0)}


def test_price_levels_are_changed_or_gone():
    rows = rows_of(
        "depth", message("8", "Iq", 9700, 990_500), message("5", "Iq", 0, 990_600), message("8", "Iq", 1, 1)
    )
    assert rows[["side", "action", "price", "size"]].tolist() == [
        (b"B", b"C", 99.05, 9700.0),
        (b"S", b"D", 99.06, 0.0),
        (b"B", b"C", 0.0001, 1.0),
    ]


def test_orders_of_deep_plus():
    found = [
        message("a", "qIq", 5, 100, 990_500, code="8"),
        message("a", "qIq", 6, 200, 990_600, code="5"),
        message("M", "qIq", 5, 50, 990_400),
        message("L", "qIqq", 6, 20, 990_600, 77, code=0x80),
        message("R", "q", 5),
    ]
    _, rows = decoded(tp(found, 1, protocol=DEEP_PLUS))
    assert rows["order"][["action", "side", "order_id", "ref_id", "size"]].tolist()[:4] == [
        (b"A", b"B", 5, 0, 100), (b"A", b"S", 6, 0, 200), (b"U", b"", 5, 5, 50), (b"E", b"", 6, 77, 20),
    ]  # fmt: skip
    assert rows["order"]["price"][:4].tolist() == [99.05, 99.06, 99.04, 99.06]
    assert rows["order"][["action", "order_id"]].tolist()[4] == (b"D", 5)
    assert np.isnan(rows["order"]["size"][4])
    assert rows["trade"][["trade_id", "size", "condition"]].tolist() == [(77, 20.0, b"F")]


def test_a_directory_defines_and_states_are_status():
    found = [
        struct.pack("<cBq", b"S", ord("O"), AT),
        message("D", "IqB", 100, 990_500, 1, code=0xA0),
        message("H", "4s", b"NA", code="T"),
        message("I", code="A"),
        message("O", code="N"),
        message("P", "c", b"N", code=1),
        message("E", code="O"),
        message("X", "q", 990_500, code="Q"),
    ]
    _, rows = decoded(tp(found, 1, protocol=DEEP))
    assert rows["instrument"][["symbol", "venue", "kind", "lot_size", "attributes"]].tolist() == [
        (b"ZIEXT", b"IEXG", b"etf", 100.0, b"TE1")
    ]
    assert rows["status"][["kind", "value", "reason", "instrument"]].tolist() == [
        (b"session", b"O", b"", 0), (b"trading", b"T", b"NA", 1), (b"retail", b"A", b"", 1),
        (b"operational", b"N", b"", 1), (b"regsho", b"1", b"N", 1), (b"security", b"O", b"", 1),
        (b"official", b"Q", b"", 1),
    ]  # fmt: skip
    assert rows["status"]["level_1"][-1] == 99.05


def test_auctions_are_imbalances_and_collars():
    auction = message("A", "IqqIcBIqqqq", 100, 990_500, 0, 50, b"B", 2, 1_700_000_500, 5, 990_000, 980_000,
                      1_000_000, code="O")  # fmt: skip
    _, rows = decoded(tp([auction], 1))
    (row,) = rows["imbalance"]
    assert row[["reference_price", "far_price", "paired_size", "imbalance_size"]].item() == (
        99.05,
        0.0005,
        100,
        50,
    )
    assert np.isnan(row["near_price"])
    assert row[["side", "cross_type"]].item() == (b"B", b"O")
    names = ["kind", "value", "reason", "level_1", "level_2", "level_3"]
    assert rows["status"][names].tolist() == [(b"collar", b"2", b"1700000500", 99.0, 98.0, 100.0)]


def test_lines_gaps_heartbeats_and_sessions():
    one, two, three = (tp([trade(number=n)], n) for n in (1, 2, 5))
    other = tp([trade(number=9)], 1, session=8)
    feeds, rows = decoded(one, two, two, three, tp([], 7), other, one, tp([trade()], 1, channel=2))
    assert rows["trade"]["venue_seq"].tolist() == [1, 2, 5, 1, 1]
    assert rows["event"][["kind", "first", "last"]].tolist() == [
        (b"gap", 3, 4),
        (b"gap", 6, 6),
        (b"session", 0, 0),
    ]
    assert +feeds.ignored == {"duplicate": 1, "heartbeat": 1, "old session": 1}


def test_segments_cut_otherwise_on_the_other_line_give_each_message_once():
    found = [trade(number=n) for n in range(1, 5)]
    feeds, rows = decoded(tp(found[:2], 1), tp(found[1:3], 2), tp(found, 1))
    assert rows["trade"][["venue_seq", "trade_id"]].tolist() == [(n, n) for n in range(1, 5)]
    assert feeds.rows.messages["T"] == 4


def test_messages_that_were_extended_are_read_as_far_as_they_are_known():
    assert rows_of("trade", trade() + b"more")["size"].tolist() == [100.0]


@pytest.mark.parametrize("payload", [
    b"", bytes(39), tp([trade()], 1)[:-1], tp([trade()], 1) + b"x", tp([trade()], 1, version=2),
    tp([trade()], -1), tp([b""], 1), HEADER.pack(1, TOPS, 1, 1, 0, 1, 0, 1, 0),
    HEADER.pack(1, TOPS, 1, 1, 5, 1, 0, 1, 0) + b"\x09\0abc",
    HEADER.pack(1, TOPS, 1, 1, 3, 0, 0, 1, 0) + b"abc",
    tp([trade()], 1, protocol=0x9999),
])  # fmt: skip
def test_segments_that_are_none_are_malformed(payload):
    feeds, rows = decoded(payload)
    assert feeds.rows.malformed == 1
    assert rows["event"]["kind"].tolist() == [b"malformed"]


def test_messages_that_are_unknown_or_too_short_are_malformed_alone():
    feeds, rows = decoded(tp([message("?"), trade()[:-1], trade()], 4))
    assert (feeds.rows.malformed, feeds.rows.messages) == (2, {"T": 1})
    assert rows["event"][["first", "last"]].tolist() == [(4, 4), (5, 5)]
    assert rows["trade"]["venue_seq"].tolist() == [6]


def test_a_capture_is_told_by_its_protocol(tmp_path):
    path = tmp_path / "iex.pcap"
    frames = [(T0, packets.ethernet(packets.ipv4(tp([trade()], 1), to=to))) for to in (A, B)]
    path.write_bytes(packets.classic(frames))
    assert isinstance(open_capture(path), IexTp)
    found = decode(path)
    assert (found["format"], found["messages"], found["ignored"]) == ("iex-tp", {"T": 1}, {"duplicate": 1})
    with pytest.raises(CaptureError, match="venue"):
        open_capture(path, venue="")
    path.write_bytes(
        packets.classic([(T0, packets.ethernet(packets.ipv4(tp([trade()], 1, protocol=0x8002))))])
    )
    with pytest.raises(CaptureError, match="not recognised"):
        open_capture(path)


@given(st.lists(st.binary(min_size=1, max_size=90), max_size=8), st.integers(0, 2**40))
def test_segments_are_taken_apart_as_they_were_put_together(messages, seq):
    found = segment(tp(messages, seq))
    assert (found.messages, found.seq, found.session, found.protocol) == (messages, seq, 7, TOPS)


@given(st.lists(st.tuples(st.sampled_from([*LAYOUTS, b"?"]), st.binary(max_size=90)), max_size=8))
def test_no_message_makes_the_decoder_fail_and_each_is_accounted_for(found):
    feeds, _ = decoded(tp([kind + body for kind, body in found], 1))
    assert feeds.rows.messages.total() + feeds.rows.malformed == len(found)


@needs_captures
def test_real_packets_are_all_decoded():
    seen = set()
    for path in sorted(IEX.glob("*/*.pcap")):
        found = decode(path)
        assert (found["format"], found["malformed"], found["damaged"]) == ("iex-tp", 0, False)
        seen |= set(found["messages"])
    assert seen == {*LENGTHS, "8", "5"}
