"""ITCH 5.0 captures as files: plain and gzip, damaged, misnamed, and real ones."""

import datetime
import gzip
import os
import pathlib
import zlib

import itch_messages as itch
import numpy as np
import pytest
from itch_streams import MIDNIGHT, RECEIVED, assert_same_as_oracle, decoded

from tickplant._core.itch import DTYPES
from tickplant.errors import CaptureError
from tickplant.feed.itch50 import Itch50, date_in_name, sniff
from tickplant.schema import Flag

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
ITCH = DATA / "nasdaq-itch50"
needs_captures = pytest.mark.skipif(not ITCH.is_dir(), reason=f"no captures in {ITCH}")
MINIMAL = itch.file([itch.system(), itch.directory(), itch.add(1, b"B", 100, 100_000)])


def values(row, *names):
    return tuple(row[name].item() for name in names)


def read(path, **options):
    options.setdefault("date", datetime.date(2019, 12, 30))
    capture = Itch50(path, recv_clock=lambda: RECEIVED, **options)
    taken = {table: [] for table in DTYPES}
    for batch in capture:
        for table, rows in batch:
            taken[table].append(rows)
    whole = {t: np.concatenate(r) if r else np.empty(0, DTYPES[t]) for t, r in taken.items()}
    return capture, whole


@pytest.mark.parametrize("packed", [False, True])
def test_plain_and_gzip_files_are_told_apart_by_content(tmp_path, packed):
    path = tmp_path / "12302019.NASDAQ_ITCH50.whatever"
    path.write_bytes(gzip.compress(MINIMAL) if packed else MINIMAL)
    capture, rows = read(path, venue="XBOS", chunk_bytes=10)
    assert capture.messages == {"S": 1, "R": 1, "A": 1}
    assert (capture.malformed, capture.damaged) == (0, False)
    assert values(rows["instrument"][0], "venue", "ts_event") == (b"XBOS", MIDNIGHT + 1000)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_ends_inside_a_message_is_damaged(tmp_path, packed):
    path = tmp_path / "day"
    path.write_bytes(gzip.compress(MINIMAL[:-1]) if packed else MINIMAL[:-1])
    capture, rows = read(path)
    assert capture.damaged
    assert capture.messages == {"S": 1, "R": 1}
    assert values(rows["event"][0], "kind", "first", "last") == (b"truncated", 55, 91)


def test_messages_that_can_not_be_decoded_are_counted_but_are_no_damage(tmp_path):
    path = tmp_path / "day"
    path.write_bytes(MINIMAL + itch.file([b"?" * 20]) + MINIMAL)
    capture, rows = read(path, chunk_bytes=7)
    assert (capture.malformed, capture.damaged) == (1, False)
    assert capture.messages == {"S": 2, "R": 2, "A": 2}
    assert rows["event"]["kind"].tolist() == [b"malformed", b"duplicate"]


def test_gzip_members_one_after_the_other_and_padding_are_one_file(tmp_path):
    path = tmp_path / "day.gz"
    parts = MINIMAL[:20], MINIMAL[20:]
    path.write_bytes(b"".join(map(gzip.compress, parts)) + bytes(512))
    for chunk in (1, 33, 1 << 20):
        capture, _ = read(path, chunk_bytes=chunk)
        assert (capture.messages.total(), capture.damaged) == (3, False)


def test_a_gzip_file_cut_anywhere_gives_what_can_be_known_and_an_event(tmp_path):
    data = itch.file(itch.one_of_each() * 40)
    packed = gzip.compress(data)
    path = tmp_path / "day.gz"
    for size in range(200, len(packed), 97):
        path.write_bytes(packed[:size])
        known = zlib.decompressobj(31).decompress(packed[:size])
        capture, rows = read(path, chunk_bytes=300)
        assert capture.damaged
        assert rows["event"]["kind"][-1] == b"damaged"
        assert rows["event"]["first"][-1] == len(known)
        text = f"the gzip stream breaks off at byte {size} of the file"
        assert rows["event"]["text"][-1].decode() == text
        assert capture.messages.total() == decoded(known)[1].messages


@pytest.mark.parametrize("chunk", [100, 1 << 20])
def test_a_gzip_file_with_a_bad_checksum_gives_everything_and_an_event(tmp_path, chunk):
    data = itch.file(itch.one_of_each() * 40)
    packed = bytearray(gzip.compress(data))
    packed[-6] ^= 1
    path = tmp_path / "day.gz"
    path.write_bytes(packed)
    capture, rows = read(path, chunk_bytes=chunk)
    assert capture.damaged
    assert capture.messages.total() == 40 * len(itch.one_of_each())
    assert values(rows["event"][-1], "kind", "first") == (b"damaged", len(data))
    assert b"incorrect data check" in rows["event"]["text"][-1]


def test_what_follows_a_gzip_stream_and_is_not_gzip_is_damage(tmp_path):
    path = tmp_path / "day.gz"
    path.write_bytes(gzip.compress(MINIMAL) + b"garbage")
    capture, rows = read(path)
    assert capture.damaged
    assert capture.messages.total() == 3
    assert b"incorrect header check" in rows["event"]["text"][-1]


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("01302019.NASDAQ_ITCH50.gz", (2019, 1, 30)),
        ("20191230.BX_ITCH_50.gz", (2019, 12, 30)),
        ("ex20101224.TEST_ITCH_50.gz", (2010, 12, 24)),
        ("S081718-v50.txt.gz", (2018, 8, 17)),
    ],
)
def test_the_date_is_read_from_the_names_nasdaq_gives(name, date):
    assert date_in_name(f"/some/19991231/{name}") == datetime.date(*date)


@pytest.mark.parametrize("name", ["day.itch", "99999999.gz", "123456789.gz", "20191330.gz"])
def test_names_without_a_date_have_none(name):
    assert date_in_name(name) is None


def test_midnight_is_that_of_the_date_in_the_zone(tmp_path):
    path = tmp_path / "day"
    path.write_bytes(MINIMAL)
    summer = Itch50(path, date=datetime.date(2019, 7, 1))
    assert summer.midnight_ns == 1_561_953_600_000_000_000  # 04:00 UTC
    tokyo = Itch50(path, date=datetime.date(2019, 7, 1), timezone="Asia/Tokyo")
    assert tokyo.midnight_ns == 1_561_906_800_000_000_000


def test_files_that_are_missing_or_something_else_are_refused(tmp_path):
    with pytest.raises(CaptureError, match="No such file"):
        Itch50(tmp_path / "missing")
    for content in (b"", b"\0", b"hello, world", gzip.compress(b"hello, world"), b"\x1f\x8bxyz"):
        path = tmp_path / "day"
        path.write_bytes(content)
        assert not sniff(content)
        with pytest.raises(CaptureError, match="does not begin with"):
            Itch50(path)
    path.write_bytes(MINIMAL)
    with pytest.raises(CaptureError, match="its name does not tell which day: give --date YYYY-MM-DD"):
        Itch50(path)
    with pytest.raises(CaptureError, match="time zone"):
        Itch50(path, timezone="Mars/Base")
    with pytest.raises(CaptureError, match="venue"):
        Itch50(path, venue="")


# Real captures; the figures are those of the README beside them.


@needs_captures
def test_the_beginning_of_a_nasdaq_day_gives_the_known_counts():
    capture, rows = read(ITCH / "real_day_prefix_1MiB.itch.gz")
    assert capture.messages == {"S": 1, "R": 8713, "H": 8707, "Y": 8707, "L": 9453}
    assert (capture.malformed, capture.damaged) == (0, True)
    assert len(np.unique(rows["instrument"]["symbol"])) == 8713
    assert rows["event"]["kind"].tolist() == [b"truncated"]


@needs_captures
def test_the_sampled_bx_day_gives_the_known_counts_and_sums():
    path = ITCH / "bx_sampled_obfuscated.itch.gz"
    capture, rows = read(path, chunk_bytes=5000)
    assert capture.messages == dict(S=6, R=3, H=3, A=4997, F=3, E=198, X=45, D=1745, U=12, P=5000)
    assert rows["instrument"]["symbol"].tolist() == [b"ALC", b"BOB", b"CHAR"]
    executed = rows["order"]["action"] == b"E"
    assert rows["order"]["size"][executed].sum() == 61_798
    hidden = (rows["trade"]["flags"] & Flag.HIDDEN) != 0
    assert (hidden.sum(), rows["trade"]["size"][hidden].sum()) == (5000, 674_132)
    assert rows["event"]["kind"].tolist() == [b"orphan"] * 117
    assert ((rows["order"]["flags"] & Flag.ORPHAN) != 0).sum() == 117
    assert_same_as_oracle(gzip.decompress(path.read_bytes()))


@needs_captures
def test_messages_from_the_wire_decode_each_as_its_type():
    kinds = {}
    for path in sorted((ITCH / "mold-pcap-nasdaq-20230822").glob("*.pcap")):
        data, at, packets = path.read_bytes(), 24, []
        while at < len(data):
            size = int.from_bytes(data[at + 8 : at + 12], "little")
            frame = data[at + 16 : at + 16 + size]
            udp = frame[14 + 20 + (4 if frame[12:14] == b"\x81\0" else 0) :]  # VLAN; IPv4
            packets.append(udp[8 + 20 : int.from_bytes(udp[4:6], "big")])  # after MoldUDP64
            at += 16 + size
        decoder = decoded(b"".join(packets))[1]
        assert (decoder.malformed, decoder.damaged) == (0, False)
        ((kind, count),) = decoder.counts().items()
        assert count == len(packets) == (1 if path.stem == "SystemEvent" else 5)
        kinds[path.stem] = kind
    assert "".join(kinds.values()) == "AFQJLIPXDECUYHS"
