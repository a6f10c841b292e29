"""Captures of packets: containers, link layers, what is no datagram, damage, and what is written."""

import gzip
import struct

import packet_files as packets
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from packet_files import FROM, T0, A

from tickplant.errors import CaptureError
from tickplant.feed.packets import pcap
from tickplant.feed.packets.datagram import find, wrap
from tickplant.feed.packets.pcap import PcapReader, PcapWriter

FRAME = packets.ethernet(packets.ipv4(b"hello"))
ONE = packets.section() + packets.interface() + packets.enhanced(FRAME, 5)
WHOLE = [(T0, FROM, A, b"hello")]
PACKERS = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}


def read(tmp_path, data, piece=1 << 18):
    path = tmp_path / "capture"
    path.write_bytes(data)
    reader = PcapReader(path, piece)
    return reader, list(reader)


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("nano", [True, False])
@pytest.mark.parametrize("order", "<>")
def test_classic_captures_of_both_orders_and_clocks_however_packed(tmp_path, order, nano, packer):
    data = packets.classic([(T0, FRAME), (T0 + 1000, FRAME)], order=order, nano=nano)
    reader, found = read(tmp_path, PACKERS[packer](data))
    first = T0 if nano else T0 // 1000 * 1000
    assert found == [(first, FROM, A, b"hello"), (first + 1000, FROM, A, b"hello")]
    assert (reader.packets, reader.damaged, reader.troubles) == (2, False, [])


@pytest.mark.parametrize("order", "<>")
def test_pcapng_sections_and_interfaces_have_their_own_clocks_and_orders(tmp_path, order):
    other = ">" if order == "<" else "<"
    data = (
        packets.section(order) + packets.interface(order) + packets.interface(order, resolution=9, offset=-5)
    )
    data += packets.block(5, b"stat" * 3, order)
    data += packets.enhanced(FRAME, T0 // 1000, order) + packets.enhanced(FRAME, T0, order, number=1)
    data += packets.section(other) + packets.interface(other, link=101, resolution=0x80 | 10)
    data += packets.enhanced(packets.ipv4(b"raw"), 3 * 1024 + 512, other)
    for piece in (1, 50, 1 << 18):
        reader, found = read(tmp_path, data, piece)
        assert [f[0] for f in found] == [T0 // 1000 * 1000, T0 - 5 * 10**9, 3_500_000_000]
        assert [f[3] for f in found] == [b"hello", b"hello", b"raw"]
        assert not reader.damaged


@pytest.mark.parametrize(("link", "frame"), [
    (1, packets.ethernet(packets.ipv4(b"hello"), 0x8100)),
    (1, packets.ethernet(packets.ipv4(b"hello"), 0x88A8, 0x8100)),
    (1, packets.ethernet(packets.ipv4(b"hello", options=b"\1\1\1\0"))),
    (1, FRAME + bytes(9)),
    (101, packets.ipv4(b"hello")),
    (228, packets.ipv4(b"hello")),
    (0, b"\2\0\0\0" + packets.ipv4(b"hello")),
    (113, bytes(14) + b"\x08\0" + packets.ipv4(b"hello")),
    (113, bytes(14) + b"\x81\0\0\5\x08\0" + packets.ipv4(b"hello")),
    (276, b"\x08\0" + bytes(18) + packets.ipv4(b"hello")),
])  # fmt: skip
def test_every_link_layer_leads_to_the_datagram(tmp_path, link, frame):
    assert read(tmp_path, packets.classic([(T0, frame)], link=link))[1] == WHOLE


def test_ipv6_and_its_extension_headers_lead_to_the_datagram(tmp_path):
    options, atomic = (0, b"\0" + bytes(6)), (44, b"\0" + bytes(6))
    for extensions in ((), (options,), (options, (60, b"\1" + bytes(14)), atomic)):
        frame = packets.ethernet(packets.ipv6(b"six", extensions=extensions), kind=0x86DD)
        _, found = read(tmp_path, packets.classic([(T0, frame)]))
        assert found == [(T0, ("fe80::2", 8), ("ff0e::1", 9), b"six")]


def test_what_is_no_whole_datagram_is_counted_by_its_reason(tmp_path):
    part = (44, b"\0\0\1" + bytes(4))
    frames = [
        packets.ethernet(packets.ipv4(b"tcp", protocol=6)),
        packets.ethernet(b"arp" * 20, kind=0x0806),
        packets.ethernet(packets.ipv4(b"first", fragment=0x2000)),
        packets.ethernet(packets.ipv4(b"last", fragment=5)),
        packets.ethernet(packets.ipv6(b"six", extensions=(part,)), kind=0x86DD),
        packets.ethernet(packets.ipv6(b"six", end=58), kind=0x86DD),
        FRAME,
    ]
    reader, found = read(tmp_path, packets.classic([(T0, f) for f in frames]))
    assert (found, reader.troubles) == (WHOLE, [])
    assert reader.ignored == {"not UDP": 3, "fragment": 3}
    reader, _ = read(tmp_path, packets.classic([(T0, FRAME)], link=147))
    assert reader.ignored == {"unknown link layer": 1}


@pytest.mark.parametrize("order", "<>")
def test_a_packet_of_a_pcapng_that_was_cut_is_an_event_and_each_interface_has_its_link_layer(tmp_path, order):
    cooked = bytes(14) + b"\x08\0" + packets.ipv4(b"hello")
    data = packets.section(order) + packets.interface(order, resolution=9)
    data += packets.interface(order, link=113, resolution=9) + packets.enhanced(cooked, T0, order, number=1)
    data += packets.enhanced(FRAME[:-2], T0 + 1, order, wire=len(FRAME)) + packets.enhanced(FRAME, T0, order)
    reader, found = read(tmp_path, data)
    assert found == WHOLE * 2
    assert [t[:4] for t in reader.troubles] == [("truncated", T0 + 1, 2, 2)]


def test_a_packet_that_was_not_kept_whole_is_an_event_and_the_others_are_read(tmp_path):
    data = packets.classic(
        [(T0, FRAME), (T0 + 1, FRAME[:-1], len(FRAME)), (T0 + 2, FRAME[:20], 99), (T0, FRAME)]
    )
    reader, found = read(tmp_path, data)
    assert found == WHOLE * 2
    assert [t[:4] for t in reader.troubles] == [("truncated", T0 + 1, 2, 2), ("truncated", T0 + 2, 3, 3)]
    assert reader.troubles[0].text == f"{len(FRAME) - 1} of a frame's {len(FRAME)} bytes were kept"
    assert not reader.damaged


@pytest.mark.parametrize("frame", [
    packets.ethernet(packets.ipv4(b"hello", length=99)),
    packets.ethernet(packets.ipv4(b"hello", length=7)),
    packets.ethernet(packets.ipv4(b"hello", total=30)),
    packets.ethernet(b"\x41" + packets.ipv4(b"hello")[1:]),
    packets.ethernet(b"\x55" + packets.ipv4(b"hello")[1:]),
    FRAME[:30],
    b"",
])  # fmt: skip
def test_headers_that_contradict_one_another_are_malformed(tmp_path, frame):
    reader, found = read(tmp_path, packets.classic([(T0, frame), (T0, FRAME)]))
    assert found == WHOLE
    assert [t[:4] for t in reader.troubles] == [("malformed", T0, 1, 1)]


@pytest.mark.parametrize("packer", ["plain", "gzip"])
def test_a_file_that_is_cut_anywhere_gives_what_is_whole_and_an_event(tmp_path, packer):
    whole = packets.classic([(T0, FRAME)] * 3)
    data = PACKERS[packer](whole)
    for size in range(30, len(data) - 1):
        reader, found = read(tmp_path, data[:size])
        if packer == "plain":
            count, rest = divmod(size - 24, len(FRAME) + 16)
            assert (len(found), reader.damaged) == (count, bool(rest))
            kinds = [("truncated", 24 + count * (len(FRAME) + 16), size - 1)] if rest else []
            assert [(t.kind, t.first, t.last) for t in reader.troubles] == kinds
        else:
            assert found == WHOLE[: len(found)] * len(found)
            assert reader.damaged
            assert [t.kind for t in reader.troubles] == ["damaged"]


def test_zstd_frames_one_after_the_other_are_one_file_and_bad_ones_are_damage(tmp_path):
    data = packets.classic([(T0, FRAME)] * 50)
    pack = zstandard.ZstdCompressor(write_checksum=True).compress
    both = pack(data[:100]) + pack(data[100:])
    for piece in (1, 7, 1 << 18):
        reader, found = read(tmp_path, both, piece)
        assert (len(found), reader.damaged) == (50, False)
    reader, found = read(tmp_path, both[:-1])
    assert (len(found), reader.damaged) == (50, True)
    assert reader.troubles[-1].text == f"the zstd stream breaks off at byte {len(both) - 1} of the file"
    reader, found = read(tmp_path, both[:-1] + bytes([both[-1] ^ 1]))
    assert reader.damaged
    assert reader.troubles[-1].text.startswith("zstd: ")


@pytest.mark.parametrize("data", [
    packets.classic([(T0, FRAME)]) + struct.pack("<IIII", 1, 1, 1 << 20, 1 << 20),
    ONE + struct.pack("<III", 6, 7, 0),
    ONE + struct.pack("<III", 6, 1 << 30, 0),
    ONE + packets.enhanced(FRAME, 5, number=1),
    ONE + packets.block(6, b"abcd"),
    ONE + struct.pack("<IIII", 9, 16, 0, 12),
    ONE + packets.block(1, struct.pack("<HHIHHI", 1, 0, 0, 9, 8, 1)),
    ONE + packets.block(1, struct.pack("<HHIHH", 1, 0, 0, 9, 1)),
    ONE + packets.block(1, struct.pack("<HHIHHI", 1, 0, 0, 9, 2, 9)),
    ONE + packets.block(1, struct.pack("<HHIHHI", 1, 0, 0, 14, 4, 9)),
    ONE + packets.block(1, b""),
    ONE + packets.block(2, b"abcd"),
    ONE + packets.block(6, struct.pack("<IIIII", 0, 0, 5, 900, 900) + FRAME),
])  # fmt: skip
def test_a_container_that_is_broken_is_damage_after_what_was_sound(tmp_path, data):
    reader, found = read(tmp_path, data)
    assert [f[3] for f in found] == [b"hello"] or not found
    assert reader.packets == 1
    assert reader.damaged
    assert [t.kind for t in reader.troubles] == ["damaged"]


def test_a_time_that_no_row_can_hold_is_malformed(tmp_path):
    data = packets.section() + packets.interface(resolution=0) + packets.enhanced(FRAME, 1 << 60)
    reader, found = read(tmp_path, data)
    assert (found, [t.kind for t in reader.troubles]) == ([], ["malformed"])


def test_files_that_are_no_captures_of_packets_are_refused(tmp_path):
    for data in (b"", b"hello", b"hello, world" * 9, b"\x0a\x0d\x0d\x0a" + bytes(30)):
        with pytest.raises(CaptureError, match="is no capture of packets"):
            read(tmp_path, data)
    with pytest.raises(CaptureError, match="No such file"):
        list(PcapReader(tmp_path / "missing"))


def test_what_is_written_is_read_again_and_never_over_another_file(tmp_path):
    path = tmp_path / "new.pcap"
    sent = [
        (T0, FROM, A, b"one"),
        (T0 + 1, ("::1", 5), ("ff02::1", 6), b""),
        (T0 + 2, FROM, A, bytes(65_507)),
    ]
    with PcapWriter(path) as writer:
        for datagram in sent:
            writer.write(*datagram)
        writer.flush()
    assert list(PcapReader(path)) == sent
    with pytest.raises(CaptureError, match="File exists"):
        PcapWriter(path)
    with pytest.raises(ValueError, match="no datagram of 65508 bytes"):
        wrap(FROM, A, bytes(65_508))


def test_checksums_that_are_written_are_right():
    packet = wrap(FROM, A, b"payload")
    words = struct.unpack(">10H", packet[:20])
    assert sum(words) % 0xFFFF == 0
    six = wrap(("::1", 5), ("::2", 6), b"odd")
    pseudo = six[8:40] + struct.pack(">II", 11, 17) + six[40:] + b"\0"
    assert sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo)) % 0xFFFF == 0


def test_endpoints_that_are_remembered_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(pcap, "ENDS_MAX", 3)
    frames = [packets.ethernet(packets.ipv4(b"x", to=("10.0.0.1", port))) for port in range(1, 11)]
    _, found = read(tmp_path, packets.classic([(T0, f) for f in frames * 2]))
    assert [f[2][1] for f in found] == [*range(1, 11)] * 2


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_frame_makes_the_reader_fail(data, link):
    reader = pcap.Classic(packets.classic([], link=link))
    out = []
    body = packets.classic([(T0, data)], link=link)
    assert reader.scan(body, out) == len(body)
    assert len(out) + reader.ignored.total() + len(reader.troubles) == 1


def test_options_behind_the_end_of_options_and_of_packets_are_passed_over(tmp_path):
    options = struct.pack("<HHB3xHHHHI", 9, 1, 9, 0, 0, 9, 200, 0)
    comment = struct.pack("<HH4sI", 1, 4, b"note", 0)
    packet = struct.pack("<IIIII", 0, 0, 5, len(FRAME), len(FRAME)) + FRAME + bytes(-len(FRAME) % 4) + comment
    data = packets.section() + packets.block(1, struct.pack("<HHI", 1, 0, 0) + options)
    reader, found = read(tmp_path, data + packets.block(6, packet))
    assert (found, reader.damaged) == ([(5, FROM, A, b"hello")], False)


@given(st.binary(max_size=40), st.sampled_from("<>"))
def test_no_options_of_an_interface_make_the_reader_fail(options, order):
    data = packets.section(order) + packets.block(1, struct.pack(order + "HHI", 1, 0, 0) + options, order)
    data += packets.enhanced(FRAME, 5, order)
    out = []
    reader = pcap.Blocks()
    assert reader.scan(data, out) == len(data) or reader.broken
    assert len(out) + len(reader.troubles) == 1 or reader.broken


@given(st.data())
def test_no_damage_of_a_pcapng_makes_the_reader_fail(data):
    whole = packets.section() + packets.interface(resolution=9, offset=1) + packets.enhanced(FRAME, T0) * 2
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    reader = pcap.Blocks()
    out = []
    assert 0 <= reader.scan(broken, out) <= len(broken)


@given(st.lists(st.tuples(st.integers(0, 2**61), st.binary(max_size=50)), max_size=8), st.integers(1, 100))
def test_pieces_of_any_size_give_the_same_datagrams(frames, piece):
    frames = [(ts % 2**60, packets.ethernet(packets.ipv4(payload))) for ts, payload in frames]
    data = packets.classic(frames)
    reader, out, rest = pcap.container(data), [], b""
    pieces = [data[i : i + piece] for i in range(0, len(data), piece)]
    for part in pieces:
        rest += part
        if len(rest) >= 24 or reader.packets or not reader._skip:
            rest = rest[reader.scan(rest, out) :]
    assert [(t, p) for t, _, _, p in out] == [(t, f[42:]) for t, f in frames]
    assert rest == b""


def test_a_frame_that_ends_in_its_headers_is_found_out():
    for size in range(len(FRAME) - 1):
        with pytest.raises(ValueError, match="ends inside its headers|of which|contradicts|in"):
            find(1, FRAME[:size])
