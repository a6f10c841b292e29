"""HSVF of the Montréal Exchange: framing, and messages to rows."""

import os
import pathlib

import numpy as np
import packet_files as packets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_files import T0, A, B

from tickplant.analytics.book import DepthBook
from tickplant.errors import CaptureError
from tickplant.feed.decode import decode
from tickplant.feed.formats import open_capture
from tickplant.feed.packets import hsvf_fields as fields
from tickplant.feed.packets.hsvf import Hsvf, HsvfFeeds, is_hsvf, messages
from tickplant.feed.packets.hsvf_rows import option_symbol
from tickplant.feed.packets.hsvf_types import DECODED, IGNORED, layout
from tickplant.schema import Flag

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
MX = DATA / "venue-packets" / "Tmx" / "Mx.Sola.1.14"
needs_captures = pytest.mark.skipif(not MX.is_dir(), reason=f"no captures in {MX}")

TIME = b"20231114171320000123"
AT = 1_700_000_000_000_123_000
"""TIME, in winter five hours behind UTC."""
OPTION, STRATEGY = b"XYZ   F0012500326" + b"21", b"XYZ_UDS_1".ljust(30)
CALL = "XYZ 260621C00012500"
NONE = (0, 0, 0)


def message(kind, body, seq=1, time=TIME, exchange=b"Q"):
    return b"%010d" % seq + kind.encode().ljust(2) + time + exchange + body


def packet(*found):
    return b"".join(b"\2" + m + b"\3" for m in found)


def trade(
    seq=1, *, volume=b"00000005", price=b"00012502", marker=b" ", number=b"00000077", auction=b"", **more
):
    body = OPTION + volume + price + b"+00000102" + marker + number + auction.ljust(6)
    return message("C", body, seq, **more)


def strategy_trade(seq=1, price=b"-00000243", marker=b"D"):
    return message(
        "CS", STRATEGY + b"00000500" + price + b"-00000243" + marker + b"00000002" + b"      ", seq
    )


def renumbered(body, seq):
    return b"%010d" % seq + body[10:]


def half(price, size, orders, sign=b""):
    return sign + b"%07d2%05d%02d" % (price, size, orders)


def depth(seq, *levels, status=b"T", symbol=OPTION, kind="H", sign=b"", **more):
    """`levels`: (place, bid, ask), each side (price in cents, size, orders)."""
    body = b"".join(p + half(*bid, sign) + half(*ask, sign) for p, bid, ask in levels)
    return message(kind, symbol + status + b"%d" % len(levels) + body, seq, **more)


def keys(seq=1, *, tick=b"00001004", legs=2, count=None, symbol=STRATEGY):
    leg = b"ANM88200010000000 0"
    body = (
        symbol + b"25E09" + b"099999" + b"000010" + b"99999002" + b"00002004" + tick + b"WE" + b"SE" + b"M1X1"
    )
    body += symbol + b"Y" + b"GT" + b"C" + b"20250509160000" + b"  " + b"%02d" % (count or legs)
    return message("JS", body + leg * legs, seq)


def decoded(*payloads, lines=None):
    feeds = HsvfFeeds("XMOD")
    for i, payload in enumerate(payloads):
        feeds.packet(payload, T0 + i, lines[i] if lines else A)
    feeds.finish("not in the capture")
    return feeds, dict(feeds.rows.take())


def rows_of(table, *found):
    return decoded(packet(*found))[1][table]


def test_every_layout_is_as_long_as_the_specification_says():
    lengths = {b"C ": 92, b"CS": 104, b"H ": 54 + 31, b"HS": 65 + 33, b"JS": 164 + 19}
    assert {kind: layout(kind, size).itemsize for kind, size in lengths.items()} == lengths
    assert layout(b"H ", 54 + 6 * 31).itemsize == 54 + 6 * 31
    assert [layout(b"H ", n) for n in (54, 84, 86, 54 + 7 * 31)] == [None] * 4


def test_trades_have_their_price_time_condition_and_number():
    row = rows_of("trade", trade())[0]
    names = ["ts_event", "ts_recv", "venue_seq", "trade_id", "price", "size", "side", "action", "condition"]
    assert row[names].item() == (AT, T0, 1, 77, 12.5, 5.0, b"", b"T", b"")
    found = [trade(1, marker=b"L"), trade(2, marker=b"D"), trade(3, marker=b"P"), trade(4, auction=b"EX0001"),
             trade(5, number=b"        ", marker=b"t"), trade(6, volume=b"2584877C")]  # fmt: skip
    rows = rows_of("trade", *found)
    assert rows[["condition", "flags", "trade_id", "size"]].tolist() == [
        (b"L", Flag.LATE, 77, 5.0), (b"D", Flag.CROSS, 77, 5.0), (b"P", 0, 77, 5.0),
        (b"", Flag.CROSS, 77, 5.0), (b"t", Flag.CORRECTION, 0, 5.0), (b"", 0, 77, 258_487_700.0),
    ]  # fmt: skip


def test_a_strategy_trades_at_a_negative_price():
    _, rows = decoded(packet(strategy_trade(), trade(2)))
    assert rows["trade"][["venue_seq", "price", "size", "condition", "flags"]].tolist() == [
        (1, -0.024, 500.0, b"D", Flag.CROSS), (2, 12.5, 5.0, b"", 0),
    ]  # fmt: skip
    assert set(rows["instrument"][["venue", "symbol", "kind"]].tolist()) == {
        (b"XMOD", b"XYZ_UDS_1", b"strategy"), (b"XMOD", CALL.encode(), b"option"),
    }  # fmt: skip


def test_a_reference_price_is_no_trade():
    _, rows = decoded(packet(trade(volume=b"00000000", marker=b"S")))
    assert "trade" not in rows
    assert rows["status"][["kind", "level_1", "venue_seq"]].tolist() == [(b"reference", 12.5, 1)]


def test_summer_and_winter_are_told_apart():
    rows = rows_of("trade", trade(1), trade(2, time=b"20230714171320999999"))
    summer = 1_689_369_200_999_999_000  # four hours behind UTC
    assert rows["ts_event"].tolist() == [AT, summer]


def test_keys_define_strategies():
    _, rows = decoded(packet(keys(1), keys(2, tick=b"TT=A1   ", symbol=b"OTHER".ljust(30), legs=3)))
    names = ["symbol", "kind", "lot_size", "attributes", "ts_event"]
    assert rows["instrument"][names].tolist() == [
        (b"XYZ_UDS_1", b"strategy", 10.0, b"WE SEM1X1 GT C", AT),
        (b"OTHER", b"strategy", 10.0, b"WE SEM1X1 GT C", AT),
    ]  # fmt: skip
    assert rows["instrument"]["tick_size"][0] == 0.01
    assert np.isnan(rows["instrument"]["tick_size"][1])


def test_levels_of_a_book_that_is_not_known_whole_are_stale():
    rows = rows_of("depth", depth(1, (b"1", (1250, 10, 2), (1260, 20, 3))))
    assert rows[["action", "side", "price", "size", "orders", "level", "flags"]].tolist()[1:] == [
        (b"A", b"B", 12.5, 10.0, 2, 0, Flag.STALE), (b"A", b"S", 12.6, 20.0, 3, 0, Flag.STALE),
    ]  # fmt: skip
    assert rows[["action", "flags", "ts_event", "venue_seq"]][0].item() == (b"R", Flag.STALE, AT, 1)


def test_a_book_whose_levels_were_all_told_begins_anew():
    found = [
        depth(1, (b"1", (1250, 10, 2), (1260, 20, 3))),
        depth(2, (b"2", (1240, 1, 1), NONE)),
        depth(3, (b"3", NONE, NONE)),
        depth(
            4, (b"1", (1251, 5, 1), (1260, 25, 4)), (b"2", (1250, 10, 2), NONE), (b"3", (1240, 1, 1), NONE)
        ),
    ]
    rows = rows_of("depth", *found)
    after = [rows[rows["venue_seq"] == n] for n in (2, 3, 4)]
    assert after[0][["action", "price", "flags"]].tolist() == [(b"A", 12.4, Flag.STALE)]
    assert after[1][["action", "flags"]].tolist() == [(b"R", Flag.SNAPSHOT)] + [(b"A", Flag.SNAPSHOT)] * 3
    assert after[2][["action", "side", "price", "size", "flags"]].tolist() == [
        (b"A", b"B", 12.51, 5.0, 0), (b"C", b"S", 12.6, 25.0, 0),
    ]  # fmt: skip
    book = DepthBook()
    book.apply(rows)
    assert (book.stale, book.levels("B", 5)) == (False, [(12.51, 5.0, 1), (12.5, 10.0, 2), (12.4, 1.0, 1)])
    assert book.levels("S", 5) == [(12.6, 25.0, 4)]


def test_an_empty_level_ends_its_side():
    whole = [(b"%d" % n, (1250 - n, 1, 1), (1250 + n, 1, 1)) for n in range(1, 6)]
    rows = rows_of("depth", depth(1, *whole), depth(2, (b"2", NONE, (1252, 7, 2))))
    gone = rows[rows["venue_seq"] == 2]
    assert gone[gone["side"] == b"B"][["action", "price"]].tolist() == [
        (b"D", 12.48), (b"D", 12.47), (b"D", 12.46), (b"D", 12.45),
    ]  # fmt: skip
    assert gone[gone["side"] == b"S"][["action", "price", "size"]].tolist() == [(b"C", 12.52, 7.0)]
    assert not rows[rows["flags"] & Flag.STALE != 0].size


def test_implied_levels_are_left_out_and_negative_prices_kept():
    found = depth(
        1, (b"A", (1300, 9, 9), (1, 1, 1)), (b"1", (24, 3, 1), NONE), symbol=STRATEGY, kind="HS", sign=b"-"
    )
    rows = rows_of("depth", found)
    assert rows[["action", "side", "price", "size"]].tolist()[1:] == [(b"A", b"B", -0.24, 3.0)]


def test_books_of_several_batches_go_on():
    feeds = HsvfFeeds("XMOD")
    feeds.packet(packet(depth(1, (b"1", (1250, 10, 2), (1260, 20, 3)))), T0, A)
    feeds.rows.take()
    feeds.packet(packet(depth(2, (b"1", (1250, 10, 2), (1260, 21, 3)))), T0, A)
    rows = dict(feeds.rows.take())
    assert rows["depth"][["action", "side", "size"]].tolist() == [(b"C", b"S", 21.0)]
    assert "status" not in rows


def test_a_status_is_told_when_it_changes():
    one = (b"1", (1250, 10, 2), (1260, 20, 3))
    found = [depth(1, one), depth(2, one, (b"2", NONE, NONE), status=b"H"), depth(3, one), depth(4, one)]
    rows = rows_of("status", *found)
    assert sorted(rows[["venue_seq", "kind", "value"]].tolist()) == [
        (1, b"trading", b"T"), (2, b"trading", b"H"), (3, b"trading", b"T"),
    ]  # fmt: skip


def test_where_messages_are_lost_books_end():
    one, two = depth(1, (b"1", NONE, NONE)), depth(4, (b"1", (1250, 10, 2), (1260, 20, 3)))
    feeds, rows = decoded(packet(one), packet(two))
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"gap", 2, 3)]
    assert rows["depth"][["action", "flags", "venue_seq"]].tolist() == [
        (b"R", Flag.SNAPSHOT, 1), (b"R", Flag.STALE, 3), (b"R", Flag.STALE, 4), (b"A", Flag.STALE, 4),
        (b"A", Flag.STALE, 4),
    ]  # fmt: skip
    assert feeds.rows.messages == {"Option Market Depth": 2}


def test_another_line_brings_each_message_once_and_fills_gaps():
    each = [packet(trade(n, number=b"%08d" % n)) for n in range(1, 6)]
    feeds, rows = decoded(each[0], each[2], each[1], each[1], each[4], each[3])
    assert rows["trade"]["trade_id"].tolist() == [1, 2, 3, 4, 5]
    assert "event" not in rows
    assert +feeds.ignored == {"duplicate": 1}


def test_packets_cut_otherwise_on_the_other_line_give_each_message_once():
    found = [trade(n, number=b"%08d" % n) for n in range(1, 5)]
    feeds, rows = decoded(packet(*found[:2]), packet(*found[1:3]), packet(*found))
    assert rows["trade"][["venue_seq", "trade_id"]].tolist() == [(n, n) for n in range(1, 5)]
    assert feeds.rows.messages["Option Trade"] == 4


def test_numbers_may_be_missing_within_a_packet():
    _, rows = decoded(packet(trade(1), trade(3)))
    assert rows["trade"]["venue_seq"].tolist() == [1, 3]
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"gap", 2, 2)]


def test_lines_are_numbered_by_themselves():
    _, rows = decoded(packet(trade(1)), packet(trade(9)), lines=[A, B])
    assert rows["trade"]["venue_seq"].tolist() == [1, 9]
    assert "event" not in rows


def test_a_start_of_day_begins_the_numbers_anew_once():
    later = b"20231115030000000000"
    start = [message("SD", b"20231114", 1), message("SD", b"20231115", 1, later)]
    found = [
        start[0],
        trade(2),
        start[0],
        trade(3),
        start[1],
        start[1],
        trade(2, time=later, number=b"00000009"),
    ]
    feeds, rows = decoded(*map(packet, found))
    assert rows["trade"]["trade_id"].tolist() == [77, 77, 9]
    assert rows["event"]["kind"].tolist() == [b"session"]
    assert +feeds.ignored == {"Start of Day": 2, "duplicate": 2}


def test_a_start_of_day_whose_number_goes_on_begins_nothing_anew():
    feeds, rows = decoded(packet(trade(1)), packet(message("SD", b"20231115", 2, b"20231115030000000000")))
    assert "event" not in rows
    assert +feeds.ignored == {"Start of Day": 1}


def test_other_types_are_ignored_by_their_names():
    found = [message(k.decode(), b"something", n) for n, k in enumerate(IGNORED, 1)]
    feeds, rows = decoded(packet(*found))
    assert (feeds.ignored, rows) == (dict.fromkeys(IGNORED.values(), 1), {})


@pytest.mark.parametrize("payload", [
    b"", b"\2", b"\2\3", packet(trade())[:-1], packet(trade())[1:], packet(trade()) + b"x",
    b"\2" + packet(trade()), packet(trade(), b"123"), packet(b"abc" + trade()), packet(trade()) + b"\3",
])  # fmt: skip
def test_packets_that_are_none_are_malformed(payload):
    feeds, rows = decoded(payload)
    assert (feeds.rows.malformed, feeds.rows.messages.total()) == (1, 0)
    assert rows["event"]["kind"].tolist() == [b"malformed"]


@pytest.mark.parametrize("bad", [
    trade(4)[:-1], trade(4) + b" ", trade(4)[:11], message("ZZ", b"", 4), message("N", b"", 4)[:31],
    trade(4, volume=b"0000000x"), trade(4, volume=b"00000000"), trade(4, volume=b"0000001Z"),
    trade(4, volume=b"000x001C"), trade(4, marker=b"\0"), strategy_trade(4, price=b"-0000024C"),
    trade(4, price=b"000125 2"), trade(4, price=b"0001250Q"), trade(4, number=b"1234567x"),
    trade(4, exchange=b"B"), trade(4, time=b"20231314171320000123"), trade(4, time=b"20231114171360000123"),
    trade(4, time=b"20231114251320000123"), trade(4, time=b"2023111417132000012 "),
    trade(4).replace(b"XYZ   ", b"      "), trade(4).replace(b"XYZ   F", b"XYZ   Y"),
    trade(4).replace(b"0326", b"Q326"), trade(4).replace(b"XYZ", b"X\0Z"),
    trade(4).replace(b"XYZ", b"X\xc9Z"),
    trade(4).replace(b"32621", b"32600"), strategy_trade(4, price=b" 00000243"),
    depth(4, (b"6", NONE, NONE)), depth(4, (b"0", NONE, NONE)), depth(4, (b"1", NONE, NONE))[:-1],
    depth(4, (b"1", NONE, NONE)).replace(b"T11", b"T21"), depth(4, (b"1", (1, 1, 1), NONE), sign=b"+"),
    depth(4, (b"1", (1, 1, 1), NONE), symbol=STRATEGY, kind="HS", sign=b"?"),
    depth(4, *[(b"1", NONE, NONE)] * 7), keys(4, count=3), keys(4, tick=b"0000x004"), keys(4)[:-1],
    keys(4, symbol=b" " * 30),
])  # fmt: skip
def test_messages_that_are_wrong_are_malformed_alone(bad):
    feeds, rows = decoded(packet(trade(3), bad, trade(5)))
    assert (feeds.rows.malformed, +feeds.rows.messages) == (1, {"Option Trade": 2})
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"malformed", 4, 4)]
    assert rows["trade"]["venue_seq"].tolist() == [3, 5]
    assert set(rows) == {"event", "trade", "instrument"}


@pytest.mark.parametrize(("name", "symbol"), [
    (b"BNS   F071000042506", "BNS 250606C00071000"), (b"BNS   R071000042506", "BNS 250606P00071000"),
    (b"USX   A001355022616", "USX 260116C00135500"), (b"USX   X000000702616", "USX 261216P00007000"),
    (b"USX   A000000142616", ""), (b"U X   A000000702616", ""), (b"", ""),
])  # fmt: skip
def test_options_have_the_symbols_of_the_osi(name, symbol):
    assert option_symbol(name) == symbol


def chars(text):
    return np.frombuffer(text, np.uint8)[None]


@given(st.integers(0, 9_999_999), st.integers(0, 9))
def test_prices_are_rounded_correctly(number, decimals):
    for letter, sign in ((b"%d" % decimals, 1), (bytes([ord("A") + decimals]), -1)):
        (price,), (sound,) = fields.price(chars(b"%07d" % number), np.frombuffer(letter, np.uint8))
        if letter > b"G":
            assert not sound
        else:
            assert sound
            assert price == float(f"{sign * number}e-{decimals}")


@given(st.integers(0, 9999), st.sampled_from(b"CDEFGHI"))
def test_sizes_that_are_too_long_have_an_exponent(number, letter):
    (size,), (sound,) = fields.quantity(chars(b"%04d%c" % (number, letter)))
    assert (size, sound) == (number * 10 ** (letter - ord("A")), True)


LEVEL = st.tuples(st.integers(1, 5), st.tuples(*[st.integers(0, 3)] * 4))


@given(st.lists(st.lists(LEVEL, min_size=1, max_size=6), max_size=12), st.integers(1, 12))
def test_books_are_what_their_levels_were_told_to_be(updates, cut):
    """Against levels by place, one after the other, in batches cut anywhere."""
    places, told, feeds, book = [{}, {}], [set(), set()], HsvfFeeds("XMOD"), DepthBook()
    for seq, levels in enumerate(updates, 1):
        wire = []
        for place, (bid, bids, ask, asks) in levels:
            # Prices of different places differ, as they do in a book.
            halves = [(place * 10 + bid, bids, bids), (100 + place * 10 + ask, asks, asks)]
            wire.append((b"%d" % place, *halves))
            for side, (price, size, orders) in enumerate(halves):
                if size:
                    places[side][place] = (price / 100, float(size), orders)
                    told[side].add(place)
                else:
                    places[side] = {p: level for p, level in places[side].items() if p < place}
                    told[side] |= set(range(place, 6))
        feeds.packet(packet(depth(seq, *wire)), T0, A)
        if seq % cut == 0 or seq == len(updates):
            rows = dict(feeds.rows.take()).get("depth")
            if rows is not None:
                book.apply(rows)
            assert book.levels("B", 9) == sorted(places[0].values(), reverse=True)
            assert book.levels("S", 9) == sorted(places[1].values())
            assert book.stale == (told != [set(range(1, 6))] * 2)


def test_a_capture_is_told_by_its_messages(tmp_path):
    path = tmp_path / "mx.pcap"
    frames = [(T0, packets.ethernet(packets.ipv4(packet(trade(), keys(2)), to=to))) for to in (A, B)]
    path.write_bytes(packets.classic(frames))
    assert isinstance(open_capture(path), Hsvf)
    both = "+".join(f"{address}:{port}" for address, port in (A, B))
    found = decode(path, to=[both])
    assert (found["format"], found["ignored"]) == ("hsvf", {"duplicate": 2})
    assert found["messages"] == {"Option Trade": 1, "Strategy Instrument Keys": 1}
    assert decode(path)["messages"]["Option Trade"] == 2
    with pytest.raises(CaptureError, match="venue"):
        open_capture(path, venue="")


@pytest.mark.parametrize("payload", [
    packet(trade(), message("ZZ", b"")), packet(trade())[:-1], packet(trade(exchange=b"B")),
    packet(trade() + b" "), packet(trade(time=b"19991114171320000123")), b"",
    packet(message("V", b"1713\x01", exchange=b"")),
])  # fmt: skip
def test_what_is_not_certainly_hsvf_is_not_claimed(payload):
    assert not is_hsvf(payload)


def test_what_is_certainly_hsvf_is_claimed():
    assert is_hsvf(packet(trade(), message("V", b"171320", 2, exchange=b""), message("NS", b"x", 3)))


@given(st.lists(st.binary(max_size=40).filter(lambda b: not {2, 3} & set(b)), min_size=1, max_size=6))
def test_packets_are_taken_apart_as_they_were_put_together(bodies):
    found = [b"%010d" % n + body for n, body in enumerate(bodies)]
    assert messages(packet(*found)) == found


BODIES = [trade(), strategy_trade(), keys(), depth(1, (b"1", (1, 2, 3), NONE), (b"A", NONE, (1, 2, 3))),
          depth(1, (b"5", (1, 2, 3), NONE), symbol=STRATEGY, kind="HS", sign=b"-"),
          message("N", b"x")]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(BODIES), st.integers(0, 200), st.integers(4, 255)), max_size=8))
def test_no_message_makes_the_decoder_fail_and_each_is_accounted_for(changes):
    found = []
    for seq, (body, at, byte) in enumerate(changes, 1):
        broken = bytearray(body)
        broken[at % len(body)] = byte
        found.append(renumbered(bytes(broken), seq))
    feeds, rows = decoded(*([packet(*found)] if found else []))
    account = feeds.rows.messages.total() + feeds.rows.malformed + feeds.ignored.total()
    assert account == len(found)
    assert (rows["event"]["kind"] == b"malformed").sum() == feeds.rows.malformed if "event" in rows else True
    for table in ("trade", "depth", "status"):
        assert (rows[table]["instrument"] > 0).all() if table in rows else True


@given(st.lists(st.binary(max_size=120), max_size=6))
def test_no_packet_makes_the_decoder_fail(payloads):
    feeds, _ = decoded(*payloads)
    assert feeds.rows.malformed + feeds.ignored.total() + feeds.rows.messages.total() >= len(payloads)


@needs_captures
def test_real_packets_are_all_accounted_for():
    seen, ignored = {}, {}
    for path in sorted(MX.glob("*.pcap")):
        found = decode(path)
        assert (found["format"], found["malformed"], found["damaged"]) == ("hsvf", 0, False)
        for account, name in ((seen, "messages"), (ignored, "ignored")):
            for kind, count in found[name].items():
                account[kind] = account.get(kind, 0) + count
    assert seen == {"Option Market Depth": 2, "Option Trade": 3, "Strategy Instrument Keys": 1,
                    "Strategy Market Depth": 1, "Strategy Trade": 1}  # fmt: skip
    assert set(seen) == set(DECODED.values())
    assert ignored == {"Strategy Auction Beginning": 1, "Strategy Initial and Improvement Order": 1,
                       "Strategy Summary": 1}  # fmt: skip


@needs_captures
def test_real_prices_of_a_strategy_are_those_of_its_legs():
    rows = dict(next(iter(open_capture(MX / "StrategyTradeMessage.pcap"))))["trade"]
    assert rows["price"].tolist() == [-0.024, 0.01, 0.034]
    assert set(rows["size"].tolist()) == {500.0}
    assert (abs(rows["ts_event"] - rows["ts_recv"]) < 10**9).all()
