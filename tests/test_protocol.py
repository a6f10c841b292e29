"""Declared protocols: what may be declared, what is refused, fields and times as they are read back."""

import datetime
import zoneinfo

import numpy as np
import pytest
from declared_protocol import PROTOCOL, SECOND, SENT, TEXT
from hypothesis import given
from hypothesis import strategies as st

from tickplant.errors import ConfigError
from tickplant.feed.packets.protocol import Clock, raw_type
from tickplant.feed.packets.protocol_fields import Fields
from tickplant.feed.packets.protocol_files import named, parse, presets
from tickplant.feed.packets.protocol_times import Clocks, Known

KINDS = [(k, w) for k in "ui" for w in range(1, 9)] + [("c", w) for w in (1, 3, 11)] + [("x", 3)]


@st.composite
def layouts(draw):
    """Fields, and a few messages' values of each."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=12))
    count = draw(st.integers(1, 4))
    columns = []
    for kind, width in kinds:
        if kind in "cx":
            text = st.text("ABCxyz09", max_size=width)
            columns.append(draw(st.lists(text, min_size=count, max_size=count)))
        else:
            low, high = (0, 1 << 8 * width) if kind == "u" else (-(1 << 8 * width - 1), 1 << 8 * width - 1)
            columns.append(draw(st.lists(st.integers(low, high - 1), min_size=count, max_size=count)))
    return kinds, columns, count


@given(layouts(), st.sampled_from(["big", "little"]))
def test_what_is_written_is_read_back(layout, order):
    kinds, columns, count = layout
    text = " ".join(f"x{w}" if k == "x" else f"f{i}:{k}{w}" for i, (k, w) in enumerate(kinds))
    fields = Fields.read(text, order)
    data = b""
    for row in range(count):
        for (kind, width), values in zip(kinds, columns, strict=True):
            value = values[row]
            if kind in "cx":
                data += value.encode().ljust(width)
            else:
                data += value.to_bytes(width, order, signed=kind == "i")
    rows = np.frombuffer(data, fields.dtype)
    assert fields.size * count == len(data)
    for i, ((kind, _), values) in enumerate(zip(kinds, columns, strict=True)):
        if kind == "x":
            assert f"f{i}" not in fields
        elif kind == "c":
            assert [v.decode() for v in fields.column(rows, f"f{i}").tolist()] == values
        else:
            assert fields.column(rows, f"f{i}").tolist() == values


@given(layouts())
def test_a_struct_of_the_fields_gives_the_same_as_their_columns(layout):
    kinds = [k for k in layout[0] if k[0] in "cx" or k[1] in (1, 2, 4, 8)] or [("u", 2)]
    text = " ".join(f"x{w}" if k == "x" else f"f{i}:{k}{w}" for i, (k, w) in enumerate(kinds))
    fields = Fields.read(text, "little")
    data = bytes(range(65, 65 + fields.size)) if fields.size < 100 else bytes(fields.size)
    values, rows = fields.struct.unpack(data), np.frombuffer(data, fields.dtype)
    for i, (kind, _) in enumerate(kinds):
        if kind != "x":
            assert values[fields.place(f"f{i}")] == fields.column(rows, f"f{i}").tolist()[0]


WRONG = [
    ('venue = "XACM"', 'venue = "X" \nvenu = "Y"', "venu"),
    ('venue = "XACM"', 'venue = ""', "venue"),
    ('"America/New_York"', '"America/Nowhere"', "time zone"),
    ('byte_order = "big"', 'byte_order = "middle"', "byte_order"),
    ("size:u2 flag:u1", "size:u9 flag:u1", "u9"),
    ("size:u2 flag:u1", "size:f2 flag:u1", "size:f2"),
    ("size:u2 flag:u1", "size:u2 size:u1", "twice"),
    ("size:u2 flag:u1", "size:c2 flag:u1", "no number"),
    ("size:u2 flag:u1", "size:u3 flag:u1", "3 bytes"),
    ("size:u2 flag:u1", "size:u2 flag:u1 x0", "x0"),
    ('count = "count"', 'count = "number"', "number"),
    ('channel = ["unit"]', 'channel = ["line"]', "line"),
    ("beat = { flag = [1] }", "beat = { flag = [300] }", "300"),
    ('fields = "bytes:u2 type:c1"', 'fields = "bytes:u2 kind:c1"', "type"),
    ('type = "T"', 'type = "TT"', "TT"),
    ('table = "quote"', 'table = "quotes"', "quotes"),
    ('bid_size = "bid_size"', 'bidsize = "bid_size"', "bidsize"),
    ('bid_size = "bid_size"', 'bid_size = "bid_siz"', "bid_siz"),
    ('flags = ["CROSS", "HIDDEN"]', 'flags = ["CROSSED"]', "CROSSED"),
    ("divisor = 10 }", "divisor = 0 }", "divisor"),
    ('kind = { value = "stock" }', "kind = {}", "field or a value"),
    ("when = { kind = ", "when = { knd = ", "knd"),
    ('replaces = "old_id"', 'replaces = "older_id"', "older_id"),
    ('decimals = "places" }', 'decimals = "place" }', "place"),
    ('fields = "second:u4"', 'fields = "second:u4"\nsize = 5', "less than"),
    ('name = "Chatter"\ntype = "Z"', 'name = "Chatter"\ntype = "B"', "without one"),
]


@pytest.mark.parametrize(("right", "wrong", "says"), WRONG, ids=[w[1] for w in WRONG])
def test_a_declaration_that_is_wrong_is_refused(right, wrong, says):
    text = TEXT.decode()
    assert right in text
    with pytest.raises(ConfigError, match=says):
        parse(text.replace(right, wrong, 1).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_declaration_or_are_refused(text):
    with pytest.raises(ConfigError):
        parse(text)


def test_without_a_size_in_the_header_every_message_must_have_one():
    text = TEXT.decode().replace('size = "bytes"\nsize_adds = 2\n', "")
    with pytest.raises(ConfigError, match="Chatter.*no size"):
        parse(text.encode())


def test_a_file_may_be_named_or_one_that_comes_with_tickplant(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(TEXT)
    assert named(str(path)) == PROTOCOL
    assert named("nyse-xdp").venue == "XNYS"
    with pytest.raises(ConfigError, match="no protocol 'nyse'.*nyse-xdp"):
        named("nyse")
    path.write_text("what = 7")
    with pytest.raises(ConfigError, match=r"mine\.toml.*what"):
        named(str(path))


def test_all_that_come_with_tickplant_are_right():
    assert {"nyse-xdp", "ice-impact"} <= presets().keys()
    for protocol in presets().values():
        for message in protocol.messages:
            assert protocol.layout(message).size >= protocol.message_header().size
            assert [raw_type(protocol, t) for t in message.types]


def clocked(clock, packet_ns, reference=0, **fields):
    layout = Fields.read(" ".join(f"{name}:u8" for name in fields), "big")
    data = b"".join(v.to_bytes(8, "big") for v in fields.values())
    known = Known(np.array([packet_ns]), np.array([reference]))
    clocks = Clocks([clock], "America/New_York")
    return clocks.times(layout, np.frombuffer(data, layout.dtype), known).tolist()[0]


def test_times_are_composed_of_their_fields():
    assert clocked(Clock(s="s", ns="ns"), SENT, s=SECOND, ns=42) == SENT + 42
    assert clocked(Clock(ms="ms"), SENT, ms=SECOND * 1000 + 5) == SENT + 5_000_000
    assert clocked(Clock(us="us"), SENT, us=SECOND * 10**6 + 5) == SENT + 5_000
    assert clocked(Clock(s="s"), SENT, s=0) == SENT
    assert clocked(Clock(s="other"), SENT, s=SECOND) == SENT


@given(st.integers(0, 999_999_999), st.integers(-400_000_000, 400_000_000))
def test_without_a_reference_the_second_is_the_nearest_to_the_packet(ns, late):
    assert clocked(Clock(ns="ns", since="second"), SENT + ns + late, ns=ns) == SENT + ns


def test_a_reference_goes_before_the_packet():
    clock = Clock(ns="ns", since="second")
    assert clocked(clock, SENT + 5 * 10**9, SENT, ns=7) == SENT + 7


@given(st.datetimes(datetime.datetime(2020, 1, 1), datetime.datetime(2030, 1, 1)),
       st.integers(-3_600, 3_600))  # fmt: skip
def test_times_since_midnight_are_of_the_nearest_day(at, late):
    zone = zoneinfo.ZoneInfo("America/New_York")
    at = at.replace(microsecond=0, tzinfo=zone)
    midnight = int(at.replace(hour=0, minute=0, second=0).timestamp())
    ns = int(at.timestamp()) * 10**9
    day_ns = ns - midnight * 10**9
    told = clocked(Clock(ns="ns", since="midnight"), ns + late * 10**9, ns=day_ns)
    assert abs(told - ns) in (0, 3_600 * 10**9)  # an hour on a day when the clocks change, across midnight
    if 4_000 < day_ns // 10**9 < 80_000:
        assert told == ns
