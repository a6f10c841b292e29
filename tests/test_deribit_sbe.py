"""Deribit's multicast feed: messages of its schema to rows, books by their change numbers, channels, and a
real capture."""

import os
import pathlib
import struct

import numpy as np
import packet_files as packets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_files import T0

from tickplant.errors import CaptureError
from tickplant.feed.decode import decode
from tickplant.feed.formats import open_capture
from tickplant.feed.packets.deribit_sbe import HISTORY, DeribitFeeds, DeribitSbe, is_deribit, schema
from tickplant.schema import Flag

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
CAPTURE = DATA / "deribit-sbe" / "deribit_sbe_v1_6_first3000.pcapng.gz"
needs_captures = pytest.mark.skipif(not CAPTURE.is_file(), reason=f"no {CAPTURE}")
LINE = ("239.111.111.3", 6100)
MS = T0 // 1_000_000
AT = MS * 1_000_000
NAN = float("nan")
JUNE = 1_719_561_600_000
BUY, SELL = 0, 1
ASK, BID = 0, 1
CREATED, CHANGED, DELETED = 0, 1, 2


def message(template, root, *groups, texts=(), version=2, used=1):
    body = root + b"".join(groups) + b"".join(bytes([len(t)]) + t for t in texts)
    return struct.pack("<6H", len(root), template, used, version, len(groups), len(texts)) + body


def group(size, *entries):
    return struct.pack("<4H", size, len(entries), 0, 0) + b"".join(entries)


def instrument(
    number, name, *, state=1, kind=0, right=0, period=0, base=b"BTC", priced=b"USD", counter=b"USD",
    expires=32_503_708_800_000, strike=NAN,
):  # fmt: skip
    coins = b"".join(c.ljust(8, b"\0") for c in (base, priced, counter, b"BTC", b"USD"))
    head = struct.pack("<IBBBBBBH", number, state, kind, 1, right, 0, period, 1)
    return message(1000, head + coins + struct.pack("<QQ9d", MS, expires, strike, 10, 5, 0.5, *[NAN] * 5),
                   texts=[name])  # fmt: skip


def book(number, prev, last, *levels, is_last=1):
    root = struct.pack("<IQQQB", number, MS, prev, last, is_last)
    return message(1001, root, group(18, *(struct.pack("<BBdd", *each) for each in levels)))


def snapshot(number, last, *levels, is_last=1):
    root = struct.pack("<IQQBB", number, MS, last, 1, is_last)
    return message(1004, root, group(17, *(struct.pack("<Bdd", *each) for each in levels)))


def trade(seq, way=BUY, price=100.5, size=2.0, *, liquidation=0, block=0):
    return struct.pack(
        "<BddQddQQBBdQQ", way, price, size, MS, 1, 1, seq, 70 + seq, 0, liquidation, NAN, block, 0
    )


def trades(number, *entries):
    return message(1002, struct.pack("<I", number), group(83, *entries))


def ticker(number, *, state=1, interest=7.0, mark=100.0, bid=(99.5, 1), ask=(100.5, 2), funding=NAN):
    values = [interest, 1, 2, 3, 101.0, mark, *bid, *ask, funding, NAN, NAN, NAN, NAN]
    return message(1003, struct.pack("<IBQ15d", number, state, MS, *values))


def packet(seq, *messages, channel=3):
    body = b"".join(messages)
    return struct.pack("<HHI", len(body), channel, seq) + body


def decoded(*payloads):
    feeds = DeribitFeeds("DERIBIT")
    for i, payload in enumerate(payloads):
        feeds.packet(payload, T0 + i, LINE)
    feeds.finish("not in the capture")
    rows = {}
    for table, found in feeds.take():
        rows[table] = np.concatenate([rows[table], found]) if table in rows else found
    return feeds, rows


def followed(*payloads):
    """What comes behind packet 1, with a snapshot of instrument 8 as of change 10."""
    first = packet(1, ticker(8), snapshot(8, 10, (BID, 99.0, 1), (ASK, 101.0, 2)))
    feeds, rows = decoded(first, *payloads)
    depth = rows["depth"][3:]
    return feeds, rows, [(d["action"], d["side"], d["price"], d["size"]) for d in depth]


def test_trades_have_the_aggressor_and_what_they_were_part_of():
    _, rows = decoded(packet(1, trades(8, trade(1), trade(2, SELL, 100.0, 3.0, liquidation=2)),
                             trades(8, trade(3, block=5))))  # fmt: skip
    names = ["venue_seq", "trade_id", "price", "size", "side", "action", "condition", "ts_event", "ts_recv"]
    assert rows["trade"][names].tolist() == [
        (1, 71, 100.5, 2.0, b"B", b"T", b"", AT, T0), (2, 72, 100.0, 3.0, b"S", b"T", b"LIQ", AT, T0),
        (3, 73, 100.5, 2.0, b"B", b"T", b"BLOCK", AT, T0),
    ]  # fmt: skip


def test_trades_that_are_missing_or_there_twice_are_told_by_their_number():
    _, rows = decoded(packet(1, trades(8, trade(1))), packet(2, trades(8, trade(4), trade(4))))
    assert rows["trade"]["venue_seq"].tolist() == [1, 4]
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"gap", 2, 3), (b"duplicate", 4, 4)]


def test_trades_that_can_not_be_are_events_and_no_rows():
    bad = [trade(1, 2), trade(2, price=NAN), trade(3, size=-1.0), trade(4, size=float("inf"))]
    _, rows = decoded(packet(9, trades(8, *bad, trade(5))))
    assert rows["trade"]["venue_seq"].tolist() == [5]
    assert rows["event"][["kind", "first"]].tolist() == [(b"malformed", 9)] * 4


def test_tickers_are_quotes_and_marks_and_open_interest_when_it_changes():
    empty = (NAN, NAN)
    _, rows = decoded(
        packet(1, ticker(8, funding=0.25), ticker(9, bid=empty)),
        packet(2, ticker(8, state=2, interest=8.0)),
        packet(3, ticker(9)),
    )
    quote = rows["quote"]
    assert quote[["instrument", "bid_size", "ask_price", "ask_size", "venue_seq"]].tolist() == [
        (1, 1.0, 100.5, 2.0, 1), (2, 0.0, 100.5, 2.0, 1), (1, 1.0, 100.5, 2.0, 2),
        (2, 1.0, 100.5, 2.0, 3)]  # fmt: skip
    assert np.isnan(quote["bid_price"]).tolist() == [False, True, False, False]
    status = rows["status"][["instrument", "kind", "value", "level_1"]].tolist()
    assert status == [
        (1, b"funding", b"open", 100.0), (1, b"interest", b"", 7.0), (2, b"mark", b"open", 100.0),
        (2, b"interest", b"", 7.0), (1, b"mark", b"closed", 100.0), (1, b"interest", b"", 8.0),
        (2, b"mark", b"open", 100.0),
    ]  # fmt: skip
    assert rows["status"]["level_2"][0] == 101.0
    assert rows["status"]["level_3"][0] == 0.25


def test_open_interest_that_is_the_same_in_a_later_batch_is_no_row_again():
    feeds = DeribitFeeds("DERIBIT")
    counts = []
    for seq in (1, 2):
        feeds.packet(packet(seq, ticker(8)), T0, LINE)
        counts.append(dict(feeds.take())["status"]["kind"].tolist().count(b"interest"))
    assert counts == [1, 0]


def test_indexes_and_requests_for_quotes_are_status():
    index = message(1008, b"btc_usd".ljust(16, b"\0") + struct.pack("<dQ", 25_448.5, MS))
    asked = [message(1009, struct.pack("<IBBdQ", 8, s, way, 10.0, MS)) for s, way in ((1, 1), (0, 2))]
    _, rows = decoded(packet(1, index, *asked))
    assert rows["status"][["kind", "value", "reason", "level_1", "ts_event"]].tolist() == [
        (b"index", b"", b"", 25_448.5, AT), (b"rfq", b"active", b"sell", 10.0, AT),
        (b"rfq", b"inactive", b"", 10.0, AT),
    ]  # fmt: skip
    assert rows["instrument"][["symbol", "kind"]].tolist() == [(b"btc_usd", b"index"), (b"8", b"")]


@pytest.mark.parametrize(("made", "symbol", "kind", "currency"), [
    (instrument(8, b"BTC-PERPETUAL"), b"BTC-USD-PERP", b"perp", b"USD"),
    (instrument(8, b"BTC-28JUN24", period=4, expires=JUNE), b"BTC-USD-20240628", b"future", b"USD"),
    (instrument(8, b"BTC-28JUN24-60000-C", kind=1, right=1, period=4, expires=JUNE,
                strike=60_000.0, priced=b"BTC"), b"BTC-USD-20240628-60000-C", b"option", b"BTC"),
    (instrument(8, b"XRP_USDC-28JUN24-0d625-P", kind=1, right=2, base=b"XRP", priced=b"USDC", strike=0.625,
                counter=b"USDC", expires=JUNE), b"XRP-USDC-20240628-0.625-P", b"option", b"USDC"),
    (instrument(8, b"BTC_USDC", kind=4, period=255, priced=b"USDC", counter=b"USDC"), b"BTC-USDC", b"spot",
     b"USDC"),
    (instrument(8, b"BTC-FS-28JUN24_PERP", kind=2, period=4), b"BTC-FS-28JUN24_PERP", b"combo", b"USD"),
])  # fmt: skip
def test_instruments_have_the_names_of_the_feed_over_websocket(made, symbol, kind, currency):
    _, rows = decoded(packet(1, made))
    (row,) = rows["instrument"]
    assert (row["symbol"], row["kind"], row["currency"]) == (symbol, kind, currency)
    assert (row["tick_size"], row["lot_size"], row["multiplier"]) == (0.5, 5.0, 10.0)
    assert rows["status"][["kind", "value"]].tolist() == [(b"state", b"open")]


def test_an_instrument_is_its_number_until_it_is_defined():
    made = instrument(8, b"BTC-PERPETUAL")
    _, rows = decoded(packet(1, ticker(8), made, ticker(8), trades(8, trade(1))), packet(2, made, ticker(8)))
    assert rows["instrument"]["symbol"].tolist() == [b"8", b"BTC-USD-PERP"]
    assert rows["quote"]["instrument"].tolist() == [1, 2, 2]
    assert rows["trade"]["instrument"].tolist() == [2]


def test_an_instrument_that_becomes_another_has_another_name_and_an_empty_book():
    _, rows, depth = followed(packet(2, instrument(8, b"BTC-PERPETUAL"), ticker(8)), packet(
        3, ticker(8), snapshot(8, 11, (BID, 50.0, 1))))  # fmt: skip
    assert [d[0] for d in depth] == [b"R", b"R", b"A"]
    assert rows["depth"]["instrument"].tolist() == [1, 1, 1, 1, 2, 2]
    assert rows["event"]["text"].tolist() == [b"book of 8: it is BTC-USD-PERP from now on"]


def test_both_layouts_of_an_instrument_are_one_definition():
    one = instrument(8, b"BTC-PERPETUAL")
    root = one[12 : 12 + 140]
    two = message(1010, root[:8] + root[9:], group(16, struct.pack("<dd", 1, 2)), texts=[b"BTC-PERPETUAL"])
    _, rows = decoded(packet(1, one, two, one, two))
    assert len(rows["instrument"]) == 1
    closed = root[:4] + b"\2" + root[5:]
    _, rows = decoded(packet(1, one, message(1000, closed, texts=[b"BTC-PERPETUAL"])))
    assert len(rows["instrument"]) == 1
    assert rows["status"]["value"].tolist() == [b"open", b"closed"]


def test_instruments_are_bounded_by_number_and_by_symbol(monkeypatch):
    monkeypatch.setattr("tickplant.feed.packets.deribit_sbe_rows.INSTRUMENTS_MAX", 2)
    one, other = b"BTC-PERPETUAL", b"BTC-28JUN24"
    feeds, rows = decoded(packet(1, ticker(1), ticker(2), ticker(3), instrument(4, one)))
    assert (feeds.rows.malformed, len(rows["instrument"])) == (2, 2)
    feeds, _ = decoded(packet(1, *(instrument(n, one) for n in (1, 2, 3)), instrument(1, other, period=4),
                              message(1008, b"btc_usd".ljust(32, b"\0"))))  # fmt: skip
    assert feeds.rows.malformed == 2
    assert b"one instrument too many" in rows["event"]["text"][0]


def test_a_book_is_a_snapshot_and_the_changes_behind_it():
    _, rows, depth = followed(packet(2, ticker(8), book(
        8, 10, 12, (BID, CREATED, 99.5, 3), (ASK, CHANGED, 101.0, 5), (BID, DELETED, 99.0, 0))))  # fmt: skip
    assert rows["depth"][:3][["action", "side", "size", "flags"]].tolist() == [
        (b"R", b"", 0.0, Flag.SNAPSHOT),
        (b"A", b"B", 1.0, Flag.SNAPSHOT),
        (b"A", b"S", 2.0, Flag.SNAPSHOT),
    ]
    assert depth == [(b"A", b"B", 99.5, 3), (b"C", b"S", 101.0, 5), (b"D", b"B", 99.0, 0)]
    tops = rows["quote"][rows["quote"]["flags"] & Flag.SYNTHETIC != 0]
    assert tops[["bid_price", "bid_size", "ask_price", "ask_size"]].tolist()[-1] == (99.5, 3.0, 101.0, 5.0)
    assert "event" not in rows


def test_a_change_that_names_another_before_it_is_a_gap_until_a_snapshot():
    late = book(8, 12, 13, (BID, CREATED, 98.0, 3))
    _, rows, depth = followed(
        packet(2, ticker(8), late), packet(3, ticker(8), snapshot(8, 12, (ASK, 102.0, 4)))
    )
    assert [d[:2] for d in depth] == [(b"R", b""), (b"R", b""), (b"A", b"S"), (b"A", b"B")]
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"gap", 11, 12)]
    assert (rows["depth"]["flags"] & Flag.STALE != 0).sum() == 1


def test_changes_before_any_snapshot_wait_for_it():
    change = book(8, 10, 11, (BID, CREATED, 98.0, 3))
    _, rows = decoded(packet(1, ticker(8), book(8, 9, 10, (BID, CREATED, 97.0, 1)), change),
                      packet(1, ticker(8), snapshot(8, 10, (BID, 97.0, 1)), channel=103))  # fmt: skip
    assert rows["depth"][["action", "price", "venue_seq"]].tolist()[1:] == [
        (b"A", 97.0, 10),
        (b"A", 98.0, 11),
    ]


def test_a_snapshot_with_nothing_new_says_nothing_and_one_ahead_is_taken():
    again, ahead = snapshot(8, 10, (BID, 98.0, 1)), snapshot(8, 14, (BID, 96.0, 1))
    _, _, depth = followed(packet(2, ticker(8), again), packet(3, ticker(8), ahead),
                           packet(4, ticker(8), book(8, 13, 14, (BID, CREATED, 96.0, 1))))  # fmt: skip
    assert [d[:3] for d in depth[1:]] == [(b"A", b"B", 96.0)]


def test_changes_that_are_counted_anew_are_found_by_the_second_snapshot():
    older = [packet(seq, ticker(8), snapshot(8, 3, (BID, 50.0 + seq, 1))) for seq in (2, 3)]
    _, _, depth = followed(*older)
    assert [d[:3] for d in depth[1:]] == [(b"A", b"B", 53.0)]


def test_parts_of_a_change_or_a_snapshot_are_taken_together():
    _, rows, depth = followed(
        packet(2, ticker(8), book(8, 10, 11, (BID, CREATED, 99.5, 3), is_last=0)),
        packet(3, book(8, 10, 11, (ASK, CREATED, 100.5, 4))),
        packet(4, ticker(9), snapshot(9, 5, (BID, 1.0, 1), is_last=0)),
        packet(5, snapshot(9, 5, (ASK, 2.0, 1))),
    )  # fmt: skip
    assert [d[:3] for d in depth if d[0] == b"A"] == [
        (b"A", b"B", 99.5), (b"A", b"S", 100.5), (b"A", b"B", 1.0), (b"A", b"S", 2.0)]  # fmt: skip
    assert "event" not in rows


def test_a_part_that_is_missing_puts_the_book_out_of_step():
    begun = packet(2, ticker(8), book(8, 10, 11, (BID, CREATED, 99.5, 3), is_last=0))
    _, rows, depth = followed(begun, packet(4, ticker(8), book(8, 11, 12, (BID, CREATED, 97.0, 1))))
    assert [d[0] for d in depth] == [b"R"]
    assert rows["event"]["kind"].tolist() == [b"gap", b"gap"]
    assert b"packets 3 to 3 are missing" in rows["event"]["text"][1]


def test_what_may_be_the_rest_of_a_change_that_is_missing_is_not_taken():
    rest = book(8, 10, 11, (BID, CREATED, 97.0, 1))
    _, rows, depth = followed(packet(3, rest))
    assert [d[0] for d in depth] == [b"R"]
    _, _, depth = followed(packet(3, ticker(8), rest))
    assert [d[0] for d in depth] == [b"A"]
    assert b"may lack what was in missing packets" in rows["event"]["text"][1]


@pytest.mark.parametrize("level", [(2, 0, 1.0, 1.0), (0, 3, 1.0, 1.0), (0, 0, NAN, 1.0), (0, 0, 1.0, -1.0)])
def test_a_level_that_can_not_be_refuses_its_whole_message(level):
    feeds, rows, depth = followed(packet(2, ticker(8), book(8, 10, 11, (BID, 0, 98.0, 1), level), ticker(8)))
    assert (feeds.rows.malformed, depth) == (1, [])
    assert rows["event"]["kind"].tolist() == [b"malformed"]
    assert feeds.rows.messages["ticker"] == 3


def test_packets_are_put_in_order_by_channel_and_what_is_missing_is_a_gap():
    one = [packet(seq, ticker(8)) for seq in range(1, 7)]
    feeds, rows = decoded(
        one[0], one[1], one[1], one[3], one[2], packet(1, ticker(9), channel=4), one[5], one[0]
    )
    assert rows["quote"]["venue_seq"].tolist() == [1, 2, 3, 4, 1, 6]
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"gap", 5, 5)]
    assert +feeds.ignored == {"duplicate packet": 2}


def test_a_channel_that_begins_anew_is_a_session_and_empties_its_books():
    late = 2 * HISTORY
    _, rows = decoded(
        packet(late, ticker(8), snapshot(8, 10, (BID, 99.0, 1)), book(8, 10, 11, (BID, 1, 99.0, 2))),
        packet(1, ticker(8), snapshot(8, 1, (BID, 50.0, 1))), packet(2, book(8, 1, 2, (BID, 1, 50.0, 3))),
    )  # fmt: skip
    assert rows["depth"]["action"].tolist() == [b"R", b"A", b"C", b"R", b"R", b"A", b"C"]
    assert rows["event"]["kind"].tolist() == [b"session", b"gap"]


def test_what_can_not_be_decoded_is_counted_and_an_event():
    good = ticker(8)
    bad = [
        b"abc", packet(1, good)[:-1], packet(1, good, b"\1\2"), packet(2, message(1003, bytes(20))),
        packet(3, message(1, b"", used=2)), packet(4, good[:12] + b"\0"),
        packet(5, message(1000, bytes(140))),
        packet(6, message(1000, bytes(139), texts=[b"X"])),
        packet(7, message(999, b"xx", texts=[b"new"]), good),
        packet(8, struct.pack("<6H", 4, 1002, 1, 2, 1, 0) + bytes(4) + struct.pack("<4H", 0, 1, 0, 0)),
        packet(9, struct.pack("<6H", 4, 1002, 1, 2, 1, 0) + bytes(4) + struct.pack("<4H", 1, 1, 1, 0) + b"x"),
        packet(10, trades(8), message(1002, bytes(4), group(9, bytes(9)))),
        packet(11, instrument(8, b"X", kind=7)), packet(12, instrument(8, b"X", kind=1, right=1)),
        packet(13, instrument(8, b"X", period=4, expires=2**60)), packet(14, message(1001, bytes(20))),
        packet(17, instrument(8, b"BTC\xff")), packet(18, instrument(8, b"X", priced=b"\xff" * 8)),
        packet(19, message(1008, b"\xff" * 32)), packet(15, ticker(8)[:60]),
        packet(16, instrument(8, b"BTC-PERPETUAL")[:-3]),
    ]  # fmt: skip
    feeds, rows = decoded(*bad)
    assert feeds.rows.malformed == len(bad)
    assert rows["event"]["kind"].tolist() == [b"malformed"] * len(bad)
    assert feeds.rows.messages == {"ticker": 2, "trades": 1}


def test_what_says_nothing_is_ignored_by_name():
    feeds, rows = decoded(packet(1, message(1005, bytes(4)), message(1006, b"")), packet(2),
                          packet(3, message(1007, bytes(4), group(8, bytes(8)))))  # fmt: skip
    assert feeds.ignored == {"snapshot_start": 1, "snapshot_end": 1, "combo_legs": 1, "empty packet": 1}
    assert rows == {}


def test_blocks_may_be_longer_than_is_known():
    longer = message(1003, ticker(8)[12:] + b"more", version=9)
    _, rows = decoded(
        packet(1, ticker(8), longer, message(1002, bytes(4) + b"x", group(90, trade(1) + bytes(7))))
    )
    assert rows["quote"]["ask_price"].tolist() == [100.5, 100.5]
    assert rows["trade"]["price"].tolist() == [100.5]


def test_the_shipped_layouts_are_as_long_as_the_venue_says():
    known = schema().templates.values()
    sizes = {t.name: (t.root.length, *(g.block.length for g in t.groups)) for t in known}
    assert sizes == {
        "instrument": (140,), "book": (29, 18), "trades": (4, 83), "ticker": (133,), "snapshot": (22, 17),
        "snapshot_start": (4,), "snapshot_end": (0,), "combo_legs": (4, 8), "price_index": (32,),
        "rfq": (22,), "instrument_v2": (139, 16),
    }  # fmt: skip
    for template in known:
        for block in (template.root, *(g.block for g in template.groups)):
            assert max((f.offset + f.encoding.size for f in block.fields), default=0) <= block.length
    assert {g.dimensions.size for t in known for g in t.groups} == {8}


def test_a_capture_is_told_by_its_content(tmp_path):
    path = tmp_path / "deribit.pcap"
    whole = [packet(1, ticker(8)), packet(2, trades(8, trade(1)))]
    path.write_bytes(packets.classic([(T0, packets.ethernet(packets.ipv4(p, to=LINE))) for p in whole]))
    assert isinstance(open_capture(path), DeribitSbe)
    found = decode(path)
    assert (found["messages"], found["total"]) == ({"ticker": 1, "trades": 1}, 2)
    with pytest.raises(CaptureError, match="1 to 16 ASCII"):
        open_capture(path, venue="")
    for bad in (whole[0][:-1], packet(1), packet(1, message(1003, bytes(5))), packet(1, message(9, b"x")),
                packet(1, ticker(8)[:12] + b"")):  # fmt: skip
        assert not is_deribit(bad)


TEMPLATES = st.sampled_from([999, *range(1000, 1011)])


@given(st.lists(st.tuples(TEMPLATES, st.binary(max_size=160), st.lists(st.binary(max_size=90), max_size=2),
                          st.lists(st.binary(max_size=9), max_size=2)), max_size=5), st.binary(max_size=30),
       st.lists(st.integers(0, 5), max_size=3))  # fmt: skip
def test_no_message_makes_the_decoder_fail_and_each_is_accounted_for(found, behind, numbers):
    feeds = DeribitFeeds("DERIBIT")
    parts = [message(t, root, *(group(len(g), g) if g else group(0) for g in groups), texts=texts)
             for t, root, groups, texts in found]  # fmt: skip
    feeds.packet(packet(1, *parts), T0, LINE)
    feeds.take()
    assert feeds.rows.messages.total() + feeds.rows.ignored.total() + feeds.rows.malformed == len(found)
    for seq in numbers:
        feeds.packet(packet(seq, behind), T0, LINE)
    feeds.finish("not in the capture")
    feeds.take()


@needs_captures
def test_a_real_capture_has_the_known_messages_and_its_books_the_tops_of_its_tickers():
    found = decode(CAPTURE)
    assert found["messages"] == {
        "ticker": 2578, "book": 459, "price_index": 295, "snapshot": 169, "instrument": 168,
        "instrument_v2": 168, "trades": 134,
    }  # fmt: skip
    assert found["ignored"] == {"snapshot_start": 42, "snapshot_end": 42}
    assert (found["malformed"], found["damaged"], found["events"], found["total"]) == (0, False, [], 4055)
    rows = {name: table["rows"] for name, table in found["tables"].items()}
    assert rows == {"instrument": 177, "quote": 2889, "status": 3150, "trade": 175, "depth": 605}
    quotes = np.concatenate([r for batch in open_capture(CAPTURE) for t, r in batch if t == "quote"])
    synthetic = quotes["flags"] & Flag.SYNTHETIC != 0
    names = ["bid_price", "bid_size", "ask_price", "ask_size"]
    for code in np.unique(quotes["instrument"][synthetic]):
        own = quotes["instrument"] == code
        book, told = quotes[own & synthetic][-1], quotes[own & ~synthetic][-1]
        np.testing.assert_array_equal([book[n] for n in names], [told[n] for n in names])
