"""MoldUDP64 packets, and ITCH 5.0 in them, from captures: framing, lines, gaps, sessions, blanked numbers."""

import os
import pathlib
import struct

import itch_messages as itch
import numpy as np
import packet_files as packets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_files import T0, A, B

from tickplant._core.itch import ItchDecoder, blocks_end
from tickplant.errors import CaptureError
from tickplant.feed.decode import decode
from tickplant.feed.formats import open_capture
from tickplant.feed.packets.mold_itch50 import MoldItch, MoldItch50, is_mold_itch50
from tickplant.feed.packets.moldudp64 import HEADER, MoldStream, Refused, messages, request
from tickplant.schema import Flag

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
MOLD = DATA / "nasdaq-itch50" / "mold-pcap-nasdaq-20230822"
needs_captures = pytest.mark.skipif(not MOLD.is_dir(), reason=f"no captures in {MOLD}")
DAY = [itch.directory(ns=1), *(itch.add(i, b"B", 100, 10_000 + i, ns=i) for i in range(2, 31))]
OTHER = b"20231115A "


def captured(tmp_path, payloads, name="day.pcap"):
    """A capture of (payload) or (payload, destination), a microsecond apart."""
    frames = []
    for i, payload in enumerate(payloads):
        payload, to = payload if isinstance(payload, tuple) else (payload, A)
        frames.append((T0 + i * 1000, packets.ethernet(packets.ipv4(payload, to=to))))
    path = tmp_path / name
    path.write_bytes(packets.classic(frames))
    return path


def read(path, **options):
    capture = open_capture(path, **options)
    tables = {}
    for batch in capture:
        for table, rows in batch:
            tables.setdefault(table, []).append(rows)
    return capture, {t: np.concatenate(r) for t, r in tables.items()}


def test_where_blocks_end_is_found_and_what_ends_inside_them_is_not():
    blocks = b"\0\1a\0\3bcd"
    assert [blocks_end(blocks, 0, n) for n in range(4)] == [0, 3, 8, -1]
    assert blocks_end(blocks, 3, 1) == 8
    assert blocks_end(blocks[:-1], 0, 2) == -1
    assert blocks_end(b"\0\0", 0, 1) == -1
    assert blocks_end(b"\0", 0, 1) == blocks_end(b"", 0, 1) == blocks_end(blocks, -1, 1) == -1
    assert blocks_end(b"", 5, 1) == -1


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=10), st.binary(max_size=3))
def test_blocks_end_where_they_were_put(blocks, behind):
    framed = b"".join(len(b).to_bytes(2, "big") + b for b in blocks)
    assert blocks_end(framed + behind, 0, len(blocks)) == len(framed)


def test_a_request_asks_for_a_range_of_a_session():
    assert request(b"20231114A ", 77, 5) == b"20231114A " + bytes(7) + b"\x4d\0\5"
    assert request(b"20231114A ", 1, 1 << 40)[-2:] == b"\xff\xfe"


def test_packets_that_are_no_moldudp64_are_refused():
    stream = MoldStream()
    for payload in (
        b"", bytes(19), packets.mold(DAY[:2], 1, count=3), packets.mold(DAY[:2], 1, count=1),
        packets.mold(DAY[:1], 1) + b"x", packets.mold([b""], 1), packets.mold(DAY[:1], 1 << 63),
        packets.mold(DAY[:1], 0),
    ):  # fmt: skip
        (step,) = stream.packet(payload, 0)
        assert isinstance(step, Refused)
    assert stream.session is None


def test_heartbeats_and_the_end_of_a_session_tell_what_there_is():
    stream = MoldStream(1)
    stream.packet(packets.mold([], 4), 0)
    assert stream.missing() == (1, 3)
    stream.packet(packets.mold([], 6, count=0xFFFF), 0)
    assert (stream.missing(), stream.ended) == ((1, 5), b"20231114A ")
    assert stream.ignored == {"heartbeat": 2}


def test_a_packet_is_delivered_without_what_was_there_before():
    stream = MoldStream()
    stream.packet(packets.mold(DAY[:2], 1), 0)
    (run,) = stream.packet(packets.mold(DAY[1:4], 2), 0)
    assert messages(run) == itch.file(DAY[2:4])


def test_two_lines_with_losses_give_each_message_once_with_its_number_and_time(tmp_path):
    payloads = []
    for i in range(0, 30, 2):
        packet = packets.mold(DAY[i : i + 2], i + 1)
        payloads += [(packet, A)] if i % 3 else []
        payloads += [(packet, B)] if i % 4 else [(packets.mold([], i + 1), B)]
    payloads.append((packets.mold(DAY[:2], 1), A))  # late, but before 2 was given up
    capture, rows = read(captured(tmp_path, [(packets.mold(DAY[:1], 1), A), *payloads]))
    lost = [i for i in range(0, 30, 2) if not i % 3 and not i % 4]
    gone = {n for i in lost for n in (i + 1, i + 2)} - {1, 2}
    assert rows["order"]["venue_seq"].tolist() == [n for n in range(2, 31) if n not in gone]
    gaps = rows["event"][rows["event"]["kind"] == b"gap"]
    assert {n for g in gaps for n in range(g["first"], g["last"] + 1)} == gone
    assert gaps["text"].tolist() == [b"not in the capture"] * len(gaps)
    sent = sum(HEADER.unpack_from(p)[2] for p, _ in payloads) + 1
    assert capture.total - capture.ignored["heartbeat"] == sent
    assert capture.malformed == 0


def test_rows_have_the_times_of_their_packets_and_the_date_of_the_capture(tmp_path):
    path = captured(tmp_path, [packets.mold(DAY[:2], 1), packets.mold(DAY[2:3], 3)])
    _, rows = read(path, venue="XPSX")
    assert rows["order"]["ts_recv"].tolist() == [T0, T0 + 1000]
    midnight = 1_699_938_000_000_000_000  # 14 November 2023, 05:00 UTC
    assert rows["order"]["ts_event"].tolist() == [midnight + 2, midnight + 3]
    assert rows["instrument"][["venue", "symbol"]].tolist() == [(b"XPSX", b"ACME")]
    _, rows = read(path, date="2023-07-03")
    assert rows["order"]["ts_event"][0] == 1_688_356_800_000_000_000 + 2


def test_another_session_is_another_day_with_orders_of_its_own(tmp_path):
    path = captured(tmp_path, [
        packets.mold(DAY[:3], 1),
        packets.mold(DAY[:2], 1, OTHER),
        packets.mold(DAY[3:4], 4),
        packets.mold([itch.delete(3, ns=5)], 3, OTHER),
    ])  # fmt: skip
    capture, rows = read(path)
    assert capture.messages == {"R": 2, "A": 3, "D": 1}
    assert capture.ignored == {"old session": 1}
    assert rows["event"]["kind"].tolist() == [b"session", b"orphan"]
    assert rows["order"]["venue_seq"].tolist() == [2, 3, 2, 3]


def test_a_session_whose_numbers_begin_again_with_other_messages_is_another_day(tmp_path):
    again = [packets.mold([itch.add(100 + i, b"S", 50, 20_000, ns=i)], i) for i in range(1, 9)]
    first = [packets.mold([message], i) for i, message in enumerate(DAY, 1)]
    capture, rows = read(captured(tmp_path, [*first, *first[-3:], *again]))
    assert rows["order"]["venue_seq"].tolist() == [*range(2, 31), *range(1, 9)]
    assert rows["event"][["kind", "first"]].tolist() == [(b"session", 1)]
    assert capture.ignored == {"duplicate": 3}


def test_malformed_packets_and_messages_are_counted_and_are_events(tmp_path):
    path = captured(tmp_path, [packets.mold([*DAY[:1], b"?"], 1), b"short", packets.mold(DAY[1:2], 3)])
    capture, rows = read(path)
    assert (capture.total, capture.malformed, capture.messages) == (4, 2, {"R": 1, "A": 1})
    assert rows["event"]["kind"].tolist() == [b"malformed", b"malformed"]
    assert rows["order"]["venue_seq"].tolist() == [3]


def test_only_the_lines_that_are_asked_for_are_read(tmp_path):
    path = captured(tmp_path, [(packets.mold(DAY[:1], 1), A), (packets.mold(DAY[:2], 1, OTHER), B)])
    capture, _ = read(path, to=["%s:%d" % A])  # noqa: UP031
    assert capture.messages == {"R": 1}
    assert capture.ignored == {"other address": 1}
    with pytest.raises(CaptureError, match="'nonsense' is not of the form IP:PORT"):
        open_capture(path, to=["nonsense"])


def test_what_was_asked_for_again_is_late():
    decoder = MoldItch("XNAS", "America/New_York", None, MoldStream(1))
    decoder.packet(packets.mold(DAY[2:3], 3), T0)
    decoder.packet(packets.mold(DAY[:2], 1), T0 + 5, filled=True)
    rows = [r for t, r in decoder.take() if t == "order"]
    flags = np.concatenate(rows)[["venue_seq", "flags"]].tolist()
    assert flags == [(2, Flag.LATE), (3, 0)]


def test_numbers_can_be_sought_for():
    decoder = ItchDecoder(0)
    decoder.seek(500)
    decoder.decode(itch.file(DAY[:2]))
    assert decoder.messages == 501


def test_frames_that_are_no_datagrams_and_cut_files_are_in_the_account(tmp_path):
    path = captured(tmp_path, [packets.mold(DAY[:1], 1)])
    cut = packets.ethernet(packets.ipv4(packets.mold(DAY[1:2], 2)))
    more = packets.classic([(T0, packets.ethernet(bytes(50), kind=0x0806)), (T0, cut[:50], len(cut))])[24:]
    path.write_bytes(path.read_bytes() + more + b"half")
    found = decode(path)
    assert (found["total"], found["messages"]) == (3, {"R": 1})
    assert (found["ignored"], found["malformed"], found["damaged"]) == ({"not UDP": 1}, 1, True)
    assert [e["kind"] for e in found["events"]] == ["truncated", "truncated"]


def test_a_packet_is_itch_only_if_all_its_messages_are():
    assert is_mold_itch50(packets.mold(DAY[:3], 1))
    for payload in (
        packets.mold([DAY[0], b"?" * 19], 1), packets.mold(DAY[:2], 1)[:-1], packets.mold(DAY[:2], 1) + b"x",
        packets.mold([DAY[0][:-1]], 1), packets.mold([], 1), b"",
    ):  # fmt: skip
        assert not is_mold_itch50(payload)


def test_a_capture_that_begins_with_heartbeats_is_told_by_what_comes_after_them(tmp_path):
    beats = [packets.mold([], 1)] * 300
    assert isinstance(open_capture(captured(tmp_path, [*beats, packets.mold(DAY[:2], 1)])), MoldItch50)


def test_captures_of_something_else_are_refused_with_what_is_in_them(tmp_path):
    path = captured(tmp_path, [b"something else"])
    with pytest.raises(
        CaptureError, match=r"first UDP payload was not recognised \(14 bytes to 233.54.12.111"
    ):
        open_capture(path)
    path.write_bytes(packets.classic([(T0, packets.ethernet(bytes(50), kind=0x0806))]))
    with pytest.raises(CaptureError, match="does not begin with a UDP datagram"):
        open_capture(path)
    for options in ({"venue": ""}, {"timezone": "Mars/Base"}):
        with pytest.raises(CaptureError, match="venue|time zone"):
            MoldItch50(path, **options)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_packet_makes_the_decoder_fail(payloads):
    decoder = MoldItch("XNAS", "America/New_York", None)
    for payload in payloads:
        decoder.packet(struct.pack(">10sQH", b"S", 1, 1) + payload, T0)
        decoder.packet(payload, T0)
    decoder.finish("the end")
    events = [kind for table, rows in decoder.take() if table == "event" for kind in rows["kind"].tolist()]
    assert events.count(b"malformed") == decoder.malformed


@needs_captures
def test_real_packets_with_blanked_numbers_are_all_decoded():
    types = {}
    for path in sorted(MOLD.glob("*.pcap")):
        found = decode(path)
        count = 1 if path.stem == "SystemEvent" else 5
        assert (found["format"], found["total"], found["malformed"]) == ("itch50-mold", count, 0)
        ((types[path.stem], decoded),) = found["messages"].items()
        assert decoded == count
    assert "".join(types.values()) == "AFQJLIPXDECUYHS"


def test_after_a_gap_no_quote_pretends_to_be_sound_until_the_next_session(tmp_path):
    payloads = [packets.mold(DAY[:10], 1), packets.mold(DAY[15:20], 16), packets.mold(DAY[:5], 1, OTHER)]
    _, tables = read(captured(tmp_path, payloads))
    quotes, orders = tables["quote"], tables["order"]
    lost = int(np.flatnonzero(np.isnan(quotes["bid_price"]) & (quotes["flags"] & Flag.STALE != 0))[0])
    assert quotes["instrument"][lost] == 1
    assert quotes["bid_size"][lost] == 0
    assert (quotes["flags"][:lost] & Flag.STALE == 0).all()
    after = quotes["flags"][lost:] & Flag.STALE != 0
    assert after.tolist() == [True] * 6 + [False] * 4
    stale = orders["flags"] & Flag.STALE != 0
    assert orders["venue_seq"][stale].tolist() == list(range(16, 21))
    for table in set(tables) - {"quote", "order"}:
        assert (tables[table]["flags"] & Flag.STALE == 0).all()


def test_a_gap_before_anything_was_quoted_makes_no_quote():
    mold = MoldItch("XNAS", "UTC", None, MoldStream(start=1))
    mold.packet(packets.mold(DAY[2:3], 3), T0)
    mold.finish("not there")
    quotes = [rows for table, rows in mold.take() if table == "quote"]
    assert all((rows["flags"] & Flag.STALE != 0).all() for rows in quotes)
