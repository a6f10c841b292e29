"""The ITCH 5.0 decoder: every message, and streams good and bad against the oracle."""

import pathlib
import random
import tomllib

import itch_messages as itch
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from itch_streams import MIDNIGHT, RECEIVED, assert_same_as_oracle, busy, decoded, streams

from tickplant._core.itch import DTYPES, MESSAGE_LENGTHS, ItchDecoder
from tickplant.schema import Flag, declare

ROOT = pathlib.Path(__file__).parents[1]
MINIMAL = itch.file([itch.system(), itch.directory(), itch.add(1, b"B", 100, 100_000)])


def rows_of(*messages: bytes):
    return decoded(itch.file(messages))[0]


def values(row, *names):
    return tuple(row[name].item() for name in names)


def test_rows_have_the_layout_of_the_tables_in_the_default_configuration():
    tables = tomllib.loads((ROOT / "conf" / "tickplant.toml").read_text())["tables"]
    for name, dtype in DTYPES.items():
        assert dtype == declare(name, 1, tables[name]["columns"]).dtype, name


def test_every_type_is_counted_once_and_agrees_with_the_oracle():
    data = itch.file(itch.one_of_each())
    _, decoder = decoded(data)
    assert decoder.counts() == {k: 2 if k == "C" else 1 for k in MESSAGE_LENGTHS}
    assert decoder.counts().keys() == set("SRHYLVWKJhAFECXDUPQBINO")
    assert_same_as_oracle(data)


def test_an_order_from_add_to_delete_gives_these_rows():
    rows = rows_of(
        itch.directory(lot=100, leverage=3, ns=1),
        itch.add(1, b"B", 300, 123_456, mpid=b"GS", ns=2),
        itch.executed(1, 100, 77, ns=3),
        itch.cancel(1, 50, ns=4),
        itch.replace(1, 2, 400, 123_500, ns=5),
        itch.delete(2, ns=6),
    )
    got = [values(r, "ts_event", "venue_seq", "order_id", "ref_id") for r in rows["order"]]
    midnight = MIDNIGHT
    assert got == [
        (midnight + 2, 2, 1, 0),
        (midnight + 3, 3, 1, 77),
        (midnight + 4, 4, 1, 0),
        (midnight + 5, 5, 2, 1),
        (midnight + 6, 6, 2, 0),
    ]
    got = [values(r, "action", "side", "price", "size", "attribution") for r in rows["order"]]
    assert got == [
        (b"A", b"B", 12.3456, 300.0, b"GS"),
        (b"E", b"B", 12.3456, 100.0, b""),
        (b"X", b"B", 12.3456, 50.0, b""),
        (b"U", b"B", 12.35, 400.0, b""),
        (b"D", b"B", 12.35, 400.0, b""),
    ]
    got = [values(r, "trade_id", "price", "size", "side", "action") for r in rows["trade"]]
    assert got == [(77, 12.3456, 100.0, b"S", b"T")]
    got = [values(r, "bid_price", "bid_size") for r in rows["quote"]]
    assert got[:4] == [(12.3456, 300.0), (12.3456, 200.0), (12.3456, 150.0), (12.35, 400.0)]
    assert np.isnan(got[4][0])
    assert got[4][1] == 0.0
    assert set(rows["quote"]["ask_size"]) == {0.0}
    assert np.isnan(rows["quote"]["ask_price"]).all()
    assert all(set(r["ts_recv"]) <= {RECEIVED} for r in rows.values())
    assert all(set(r["ts_plant"]) <= {0} and set(r["feed"]) <= {0} for r in rows.values())
    names = ("code", "instrument", "symbol", "kind", "currency", "lot_size", "attributes", "flags")
    (row,) = rows["instrument"]
    assert values(row, *names) == (1, 1, b"ACME", b"stock", b"USD", 100.0, b"QNNCZ PN 1NN3", 0)


def test_executions_with_price_are_trades_only_if_printable():
    rows = rows_of(
        itch.add(1, b"S", 300, 100_000),
        itch.executed_at(1, 100, 5, 99_900),
        itch.executed_at(1, 100, 6, 99_800, b"N"),
    )
    assert [values(r, "price", "flags") for r in rows["order"][1:]] == [
        (9.99, 0),
        (9.98, Flag.NON_PRINTABLE),
    ]
    names = ("trade_id", "price", "size", "side")
    assert [values(r, *names) for r in rows["trade"]] == [(5, 9.99, 100.0, b"B")]
    assert rows["quote"]["ask_size"].tolist() == [300.0, 200.0, 100.0]


def test_trades_without_orders_are_flagged_and_broken_ones_taken_back():
    rows = rows_of(
        itch.directory(),
        itch.trade(700, 100_001, 14),
        itch.cross(90_000, 100_000, 15, b"C"),
        itch.cross(0, 0, 16),
        itch.broken(14),
        itch.broken(99),
        itch.broken(14 + 65536),
    )
    names = ("trade_id", "price", "size", "side", "action", "condition", "flags")
    assert [values(r, *names) for r in rows["trade"]] == [
        (14, 10.0001, 700.0, b"", b"T", b"", Flag.HIDDEN),
        (15, 10.0, 90_000.0, b"", b"T", b"C", Flag.CROSS),
        (14, 10.0001, 700.0, b"", b"X", b"", Flag.CORRECTION),
        (99, 0.0, 0.0, b"", b"X", b"", Flag.CORRECTION),
        (14 + 65536, 0.0, 0.0, b"", b"X", b"", Flag.CORRECTION),
    ]


def test_the_state_of_stock_and_market_gives_these_rows():
    names = ("kind", "value", "reason", "level_1", "level_2", "level_3", "instrument")
    rows = rows_of(*(m for m in itch.one_of_each() if chr(m[0]) in "RSHYLVWKJhNO"))["status"]
    assert [values(r, *names) for r in rows] == [
        (b"session", b"O", b"", 0.0, 0.0, 0.0, 0),
        (b"trading", b"H", b"T1", 0.0, 0.0, 0.0, 1),
        (b"regsho", b"1", b"", 0.0, 0.0, 0.0, 1),
        (b"participant", b"YNA", b"MMKR", 0.0, 0.0, 0.0, 1),
        (b"mwcb_levels", b"", b"", 4100.12345678, 3900.00000001, 3600.0, 0),
        (b"mwcb_breach", b"2", b"", 0.0, 0.0, 0.0, 0),
        (b"ipo", b"A", b"", 17.0, 34200.0, 0.0, 1),
        (b"luld", b"2", b"", 10.0, 10.5, 9.5, 1),
        (b"operational", b"H", b"Q", 0.0, 0.0, 0.0, 1),
        (b"rpii", b"A", b"", 0.0, 0.0, 0.0, 1),
        (b"dlcr", b"Y", b"", 8.0, 18.0, 10.0, 1),
        (b"dlcr_collar", b"Y", b"", 9.0, 11.0, 34_200_000_000_000.0, 1),
    ]


def test_an_imbalance_gives_this_row():
    (row,) = rows_of(itch.directory(), itch.imbalance(10, 20, 1_0000, 2_0000, 3_0000))["imbalance"]
    names = ("reference_price", "near_price", "far_price", "paired_size", "imbalance_size")
    assert values(row, *names) == (3.0, 2.0, 1.0, 10.0, 20.0)
    assert values(row, "side", "cross_type", "variation") == (b"S", b"C", b"L")


def test_a_stock_without_directory_message_is_defined_by_its_first_message():
    rows = rows_of(itch.trading(symbol=b"XYZ", locate=9), itch.directory(b"XYZ", locate=9))
    names = ("code", "symbol", "lot_size", "flags")
    assert [values(r, *names) for r in rows["instrument"]] == [
        (9, b"XYZ", 0.0, Flag.SYNTHETIC),
        (9, b"XYZ", 100.0, 0),
    ]


def test_messages_about_unknown_orders_leave_order_and_event_rows():
    unknown = [
        itch.executed(5, 100, 1),
        itch.executed_at(6, 200, 2, 50_000),
        itch.cancel(7, 10),
        itch.delete(8),
        itch.replace(9, 10, 300, 60_000),
        itch.delete(12),
    ]
    rows = rows_of(itch.directory(), *unknown)
    assert (rows["order"]["flags"] == Flag.ORPHAN).all()
    assert rows["order"]["action"].tolist() == [b"E", b"E", b"X", b"D", b"U", b"D"]
    assert rows["order"]["size"].tolist() == [100.0, 200.0, 10.0, 0.0, 300.0, 0.0]
    assert rows["event"]["kind"].tolist() == [b"orphan"] * 6
    assert rows["event"]["first"].tolist() == [5, 6, 7, 8, 9, 12]
    assert (rows["event"]["first"] == rows["event"]["last"]).all()
    assert rows["event"]["text"][0] == b"E of an order never added, at byte 41: 100 shares"
    assert rows["event"]["text"][3] == b"D of an order never added, at byte 137"
    assert rows["event"]["text"][4] == b"U of an order never added, at byte 158: 300 shares"
    names = ("trade_id", "price", "size", "flags")
    assert [values(r, *names) for r in rows["trade"]] == [(2, 5.0, 200.0, Flag.ORPHAN)]
    assert len(rows["quote"]) == 0


def test_an_order_that_replaces_an_unknown_one_rests_without_a_side_at_the_price_it_tells():
    rows = rows_of(
        itch.directory(),
        itch.replace(7, 5001, 300, 1_234_500),
        itch.executed(5001, 200, 9009),
        itch.cancel(5001, 40),
        itch.replace(5001, 5002, 70, 1_240_000),
        itch.executed_at(5002, 20, 9010, 1_239_900),
        itch.executed(5002, 50, 9011),
        itch.delete(5002),
    )
    got = [values(r, "action", "order_id", "price", "size", "side", "flags") for r in rows["order"]]
    assert got == [
        (b"U", 5001, 123.45, 300.0, b"", Flag.ORPHAN),
        (b"E", 5001, 123.45, 200.0, b"", 0),
        (b"X", 5001, 123.45, 40.0, b"", 0),
        (b"U", 5002, 124.0, 70.0, b"", 0),
        (b"E", 5002, 123.99, 20.0, b"", 0),
        (b"E", 5002, 124.0, 50.0, b"", 0),
        (b"D", 5002, 0.0, 0.0, b"", Flag.ORPHAN),
    ]
    assert [values(r, "trade_id", "price", "size", "side", "instrument") for r in rows["trade"]] == [
        (9009, 123.45, 200.0, b"", 1),
        (9010, 123.99, 20.0, b"", 1),
        (9011, 124.0, 50.0, b"", 1),
    ]
    assert len(rows["quote"]) == 0
    assert rows["event"]["first"].tolist() == [7, 5002]


def test_an_order_without_a_side_gives_way_to_one_that_is_added_and_leaves_the_book_alone():
    rows = rows_of(
        itch.add(1, b"S", 100, 20_000),
        itch.replace(7, 2, 300, 10_000),
        itch.add(2, b"B", 50, 10_000),
        itch.delete(2),
    )
    assert rows["quote"][["bid_size", "ask_size"]].tolist() == [(0, 100), (50, 100), (0, 100)]
    assert rows["event"]["kind"].tolist() == [b"orphan", b"duplicate"]


def test_a_stock_of_which_only_the_locate_is_known_goes_by_it_until_its_symbol_is_told():
    rows = rows_of(
        itch.replace(7, 8, 300, 10_000, locate=9),
        itch.executed(8, 300, 1, locate=9),
        itch.executed(5, 1, 2, locate=9),
        itch.broken(1, locate=9),
        itch.add(3, b"B", 100, 10_000, b"XYZ", locate=9),
        itch.directory(b"XYZ", locate=9),
    )
    assert [values(r, "code", "symbol", "flags") for r in rows["instrument"]] == [
        (9, b"#9", Flag.SYNTHETIC),
        (9, b"XYZ", Flag.SYNTHETIC),
        (9, b"XYZ", 0),
    ]
    assert set(rows["order"]["instrument"].tolist()) == {9}
    assert rows["trade"]["instrument"].tolist() == [9, 9]
    assert rows["event"]["text"].tolist()[1] == b"E of an order never added, at byte 70: 1 shares"


def test_a_message_that_can_not_be_decoded_is_an_event_and_the_next_one_is_decoded():
    first, second = b"Z" + bytes(20), itch.delete(3)[:-1]
    data = itch.file([itch.system(), first, second, itch.system(b"C")])
    rows, decoder = decoded(data)
    names = ("kind", "first", "last", "text")
    assert [values(r, *names) for r in rows["event"]] == [
        (b"malformed", 14, 36, b"a message of unknown type 0x5a, 21 bytes"),
        (b"malformed", 37, 56, b"D of 18 bytes, must be 19"),
    ]
    assert decoder.malformed == 2
    assert rows["status"]["venue_seq"].tolist() == [1, 4]


def test_more_shares_than_an_order_has_empty_it_and_no_more():
    rows = rows_of(
        itch.add(1, b"B", 100, 10_000),
        itch.add(2, b"B", 50, 10_000),
        itch.executed(1, 4_000_000_000, 1),
        itch.delete(1),
    )
    assert rows["quote"]["bid_size"].tolist() == [100.0, 150.0, 50.0]
    assert rows["event"]["kind"].tolist() == [b"malformed", b"orphan"]
    assert rows["event"]["text"][0] == b"E of 4000000000 shares, but the order has 100"


def test_of_two_orders_with_one_reference_the_later_is_in_the_book():
    rows = rows_of(
        itch.add(1, b"B", 100, 10_000, locate=1),
        itch.add(1, b"S", 200, 20_000, b"OTHER", locate=2),
        itch.delete(1, locate=2),
    )
    assert values(rows["event"][0], "kind", "first") == (b"duplicate", 1)
    names = ("instrument", "bid_size", "ask_size")
    assert [values(r, *names) for r in rows["quote"]] == [
        (1, 100.0, 0.0),
        (1, 0.0, 0.0),
        (2, 0.0, 200.0),
        (2, 0.0, 0.0),
    ]


def test_messages_of_no_stock_are_orphans_and_stay_out_of_the_book():
    rows = rows_of(itch.add(1, b"B", 100, 10_000, locate=0), itch.broken(3, locate=77))
    assert values(rows["order"][0], "instrument", "flags") == (0, Flag.ORPHAN)
    assert values(rows["trade"][0], "instrument", "flags") == (77, Flag.CORRECTION)
    assert rows["event"]["first"].tolist() == [0]
    assert values(rows["instrument"][0], "code", "symbol", "flags") == (77, b"#77", Flag.SYNTHETIC)
    assert len(rows["quote"]) == 0


@given(streams)
def test_without_books_there_are_no_quotes_and_all_other_rows_are_the_same(data):
    with_books, bookless = decoded(data)[0], decoded(data, books=False)[0]
    assert len(bookless.pop("quote")) == 0
    assert {t: r.tobytes() for t, r in bookless.items()} == {t: with_books[t].tobytes() for t in bookless}


@given(streams, st.lists(st.integers(0, 2500), max_size=8))
def test_random_streams_decode_as_the_oracle_says_however_they_are_cut(data, cuts):
    assert_same_as_oracle(data, cuts)


@pytest.mark.parametrize("refs", [3, 20, 400])
def test_long_streams_about_few_orders_decode_as_the_oracle_says(refs):
    messages = busy(random.Random(refs), 6000, refs)
    kinds = {chr(m[0]) for m in messages}
    assert kinds == set(MESSAGE_LENGTHS)
    assert_same_as_oracle(itch.file(messages))


@given(streams, st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=12))
def test_streams_with_bad_bytes_decode_as_the_oracle_says(data, patches):
    damaged = bytearray(data)
    for at, byte in patches:
        if damaged:
            damaged[at % len(damaged)] ^= byte
    assert_same_as_oracle(bytes(damaged))


@given(st.binary(max_size=400))
def test_random_bytes_decode_as_the_oracle_says(data):
    assert_same_as_oracle(data)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 38, 39, 1000])
def test_pieces_of_any_size_give_the_rows_of_the_whole(chunk):
    data = itch.file(itch.one_of_each() * 3)
    assert_same_as_oracle(data, range(0, len(data), chunk))


def test_a_file_cut_anywhere_gives_all_whole_messages_and_tells_of_the_rest():
    messages = itch.one_of_each()
    data = itch.file(messages)
    ends = np.cumsum([len(m) + 2 for m in messages])
    for size in range(len(data) - 200, len(data)):
        rows, decoder = decoded(data[:size])
        whole = int(np.searchsorted(ends, size, "right"))
        assert decoder.messages == whole
        cut = size != (ends[whole - 1] if whole else 0)
        assert decoder.damaged == cut
        events = [values(e, "kind", "first", "last") for e in rows["event"]]
        assert events == ([(b"truncated", ends[whole - 1], size - 1)] if cut else [])
        assert_same_as_oracle(data[:size])


def test_a_length_of_zero_ends_the_session_and_what_follows_is_told_of():
    rows, decoder = decoded(MINIMAL + b"\0\0")
    assert not decoder.damaged
    assert len(rows["event"]) == 0
    rows, decoder = decoded(MINIMAL + b"\0\0" + MINIMAL, cuts=[len(MINIMAL) + 2])
    assert decoder.damaged
    assert decoder.messages == 3
    at = len(MINIMAL)
    assert values(rows["event"][0], "kind", "first", "last") == (b"truncated", at, at + 1)


def test_a_decoder_that_is_at_its_end_or_misused_says_so():
    decoder = ItchDecoder(0)
    assert decoder.decode(b"", final=True) == 0
    assert decoder.take() == []
    with pytest.raises(ValueError, match="had ended"):
        decoder.decode(b"x")
    with pytest.raises(ValueError, match="below 2"):
        ItchDecoder(1 << 63)
    with pytest.raises(TypeError):
        ItchDecoder(0).decode("text")


def test_rows_taken_outlive_the_decoder_and_are_writable():
    decoder = ItchDecoder(0)
    decoder.decode(MINIMAL)
    rows = dict(decoder.take())
    assert list(rows) == ["instrument", "status", "order", "quote"]
    decoder.decode(MINIMAL)
    del decoder
    rows["order"]["feed"] = 5
    assert values(rows["order"][0], "order_id", "feed") == (1, 5)
