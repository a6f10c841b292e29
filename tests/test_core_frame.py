import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import core as oracle

from tickplant._core import framing

U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
FRAMES = st.fixed_dictionaries(
    {
        "kind": st.integers(0, 255), "table": U16, "feed": U16, "trading_date": U32, "row": U64,
        "session": U64, "seq": U64, "feed_row": U64, "feed_sum": U64, "count": U32, "schema": U32,
        "time_ns": st.integers(-(1 << 63), (1 << 63) - 1),
    }
)  # fmt: skip
PAYLOADS = st.binary(max_size=300)
KNOWN = [  # RFC 3720, appendix B.4, and the check value of the CRC catalogues
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(reversed(range(32))), 0x113FDB5C),
    (b"123456789", 0xE3069283),
    (b"", 0),
]


@pytest.fixture(params=[False, True], ids=["instruction", "table"])
def path(request):
    framing.crc_by_table(request.param)
    yield
    framing.crc_by_table(False)


def chained(parts, crc=0):
    """Frames of these (fields, payload), each naming the one before."""
    frames = []
    for fields, payload in parts:
        frames.append(framing.seal(payload, prev_crc=crc, **fields))
        if fields["kind"] != oracle.SEGMENT:
            crc = oracle.header(frames[-1])["crc"]
    return frames


@pytest.mark.parametrize(("data", "crc"), KNOWN)
@pytest.mark.usefixtures("path")
def test_crc_of_known_vectors(data, crc):
    assert framing.crc32c(data) == crc == oracle.crc32c(data)


@pytest.mark.usefixtures("path")
def test_crc_agrees_with_the_oracle_at_every_length_of_some_blocks():
    data = random.Random(1).randbytes(5000)
    for size in [*range(1300), *range(1300, 5000, 97)]:
        view = memoryview(data)[-size:] if size else memoryview(b"")
        assert framing.crc32c(view, size * 0x9E3779B1 & 0xFFFFFFFF) == oracle.crc32c(
            view, size * 0x9E3779B1 & 0xFFFFFFFF
        )


@pytest.mark.parametrize("by_table", [False, True])
@given(st.binary(max_size=200), U32, st.integers(0, 7), st.integers(0, 200))
def test_crc_agrees_with_the_oracle_at_every_alignment_and_in_pieces(by_table, data, crc, skip, cut):
    framing.crc_by_table(by_table)
    view = memoryview(data)[skip:]
    assert framing.crc32c(view, crc) == oracle.crc32c(view, crc)
    assert framing.crc32c(view[cut:], framing.crc32c(view[:cut], crc)) == framing.crc32c(view, crc)
    framing.crc_by_table(False)


@pytest.mark.parametrize("by_table", [False, True])
def test_crc_of_any_length_is_that_of_its_pieces(by_table):
    data = random.Random(1).randbytes(4000)
    framing.crc_by_table(by_table)
    for length in [*range(700, 860), *range(1500, 1600), 2303, 2304, 2305, 3999, 4000]:
        crc = length * 2654435761 % (1 << 32)
        wanted = crc
        for at in range(0, length, 100):  # pieces that are too short to be done three at a time
            wanted = framing.crc32c(data[at : min(at + 100, length)], wanted)
        assert framing.crc32c(data[:length], crc) == wanted, length
    assert framing.crc32c(data) == oracle.crc32c(data)
    framing.crc_by_table(False)


@given(FRAMES, PAYLOADS, U32)
def test_a_sealed_frame_is_the_oracles_to_the_byte(fields, payload, prev_crc):
    frame = framing.seal(payload, prev_crc=prev_crc, **fields)
    assert frame == oracle.seal(payload, prev_crc=prev_crc, **fields)
    assert framing.check(frame) == oracle.GOOD
    assert frame[80:] == payload


@settings(max_examples=20)
@given(FRAMES, st.binary(max_size=40))
def test_one_flipped_bit_never_passes(fields, payload):
    frame = bytearray(framing.seal(payload, **fields))
    for bit in range(8 * len(frame)):
        frame[bit // 8] ^= 1 << bit % 8
        assert framing.check(frame) == oracle.check(frame) != oracle.GOOD, bit
        frame[bit // 8] ^= 1 << bit % 8


@given(FRAMES, PAYLOADS, st.data())
def test_part_of_a_frame_is_short(fields, payload, data):
    frame = framing.seal(payload, **fields)
    part = frame[: data.draw(st.integers(0, len(frame) - 1))]
    assert framing.check(part) == oracle.check(part) == oracle.SHORT


@given(st.binary(max_size=200))
def test_random_bytes_are_judged_as_by_the_oracle(data):
    assert framing.check(data) == oracle.check(data)
    assert framing.scan(data, 0) == oracle.scan(data, 0)


@given(st.lists(st.tuples(FRAMES, PAYLOADS), max_size=6), U32, st.data())
def test_scan_agrees_with_the_oracle_on_whole_cut_and_flipped_chains(parts, crc, data):
    frames = chained(parts, crc)
    journal = bytearray(b"".join(frames))
    end = framing.scan(journal, crc)
    assert end == oracle.scan(journal, crc)
    assert end[:2] == (len(journal), len(frames))
    if journal:
        cut = data.draw(st.integers(0, len(journal) - 1))
        assert framing.scan(journal[:cut], crc) == oracle.scan(journal[:cut], crc)
        journal[cut] ^= data.draw(st.integers(1, 255))
        flipped = framing.scan(journal, crc)
        assert flipped == oracle.scan(journal, crc)
        assert flipped[0] <= cut


@given(st.lists(st.tuples(FRAMES, PAYLOADS), min_size=2, max_size=5), st.data())
def test_missing_repeated_and_exchanged_frames_break_the_chain(parts, data):
    parts = [(fields | {"kind": oracle.ROWS}, payload) for fields, payload in parts]
    frames = chained(parts)
    at = data.draw(st.integers(0, len(frames) - 2))
    before = sum(map(len, frames[:at]))
    missing = frames[:at] + frames[at + 1 :]
    repeated = [*frames[: at + 1], *frames[at:]]
    exchanged = [*frames[:at], frames[at + 1], frames[at], *frames[at + 2 :]]
    assert framing.scan(b"".join(missing), 0)[0::3] == (before, oracle.BROKEN_CHAIN)
    assert framing.scan(b"".join(exchanged), 0)[0::3] == (before, oracle.BROKEN_CHAIN)
    end = before + len(frames[at])
    assert framing.scan(b"".join(repeated), 0)[0::3] == (end, oracle.BROKEN_CHAIN)


def test_frames_that_begin_a_file_name_the_frame_before_but_are_no_links():
    rows = framing.seal(b"one", oracle.ROWS)
    crc = oracle.header(rows)["crc"]
    border = framing.seal(b"file", oracle.SEGMENT, prev_crc=crc)
    after = framing.seal(b"two", oracle.ROWS, prev_crc=crc)
    assert framing.scan(rows + border + after, 0)[1::2] == (3, oracle.GOOD)


@given(st.lists(st.tuples(FRAMES, PAYLOADS), max_size=5), st.binary(max_size=100), st.data())
def test_index_and_payloads_name_whole_frames_of_any_bytes(parts, tail, data):
    journal = bytearray(b"".join(chained(parts)) + tail)
    for _ in range(data.draw(st.integers(0, 4)) if journal else 0):
        journal[data.draw(st.integers(0, len(journal) - 1))] = data.draw(st.integers(0, 255))
    frames = oracle.whole_frames(journal)
    rows = framing.index(journal)
    assert rows[:, :2].tolist() == [[at, 80 + h["size"]] for at, h in frames]
    names = ("kind", "table", "feed", "row", "count")
    assert rows[:, 2:].astype("u8").tolist() == [[h[n] for n in names] for _, h in frames]
    for table in {h["table"] for _, h in frames} | {0}:
        mine = [(at, h) for at, h in frames if (h["kind"], h["table"]) == (oracle.ROWS, table)]
        expected = b"".join(bytes(journal[at + 80 : at + 80 + h["size"]]) for at, h in mine)
        assert framing.payloads(journal, table) == expected


@pytest.mark.parametrize("size", [0xFFFFFFB0, 0xFFFFFFFF, 0xFFFFFF00, 1 << 31])
def test_a_size_near_the_end_of_32_bits_ends_the_walk(size):
    frame = bytearray(framing.seal(b"x" * 80, oracle.ROWS, table=1, count=1))
    frame[4:8] = struct.pack("<I", size)
    assert framing.index(frame).shape == (0, 7)
    assert framing.payloads(frame, 1) == b""


def test_values_that_do_not_fit_their_field_are_refused():
    with pytest.raises(OverflowError):
        framing.seal(b"", 256)
    with pytest.raises(OverflowError):
        framing.seal(b"", 1, table=1 << 16)
