import struct
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import core as oracle

from tests.fix_plant import sealed
from tickplant import wire
from tickplant.errors import FrameError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False)
    | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.binary(max_size=80), st.integers(0, 255), st.integers(0, 65535), st.integers(0, 1 << 63))
def test_the_header_of_a_frame_is_read_back_field_by_field(payload, kind, table, seq):
    frame = oracle.seal(payload, kind, table=table, seq=seq, count=3, schema=9)
    found = wire.header(b"before" + frame, 6)
    assert found._asdict() == oracle.header(frame)
    assert bytes(wire.payload(frame)) == payload


@given(st.binary(max_size=79))
def test_too_few_bytes_are_no_header(data):
    with pytest.raises(FrameError, match="too few"):
        wire.header(data)
    with pytest.raises(FrameError, match="short|not a frame"):
        wire.payload(data)


@given(st.binary(max_size=40), st.data())
def test_the_payload_of_a_damaged_frame_is_refused(payload, data):
    frame = bytearray(oracle.seal(payload, 1))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError, match="not a valid frame"):
        wire.payload(frame)


@pytest.mark.parametrize("table", [0, 1, 255])
def test_a_topic_is_how_frames_of_its_table_begin(table):
    assert oracle.seal(b"x", 1, table=table).startswith(wire.topic(table))
    assert not oracle.seal(b"x", 1, table=table + 1).startswith(wire.topic(table))


@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda k: k != "op"), PLAIN, max_size=5))
def test_control_messages_are_read_back(fields):
    assert wire.unpack(wire.pack("hello", **fields)) == {"op": "hello", **fields}


@given(st.binary(max_size=300))
def test_any_bytes_are_a_map_or_refused(data):
    with suppress(FrameError):
        assert isinstance(wire.small_map(data), dict)


def test_a_control_message_of_which_a_bit_was_flipped_is_refused():
    message = wire.pack("ack", session=1_700_000_000_000_000_000, seq=4711)
    for bit in range(len(message) * 8):
        damaged = bytearray(message)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            wire.unpack(damaged)


@pytest.mark.parametrize(
    "message",
    [b"", msgpack.packb([1]), msgpack.packb("x"), b"\x81\xa1\xff", b"\x91" * 2000, b"\xdf\xff\xff\xff\xff",
     msgpack.packb({"a": 1}) + b"\0", bytes(wire.CONTROL_MAX * 16 + 1)],
)  # fmt: skip
def test_what_is_no_control_message_is_refused(message):
    with pytest.raises(FrameError):
        wire.small_map(message)
    with pytest.raises(FrameError):
        wire.unpack(sealed(message))
    with pytest.raises(FrameError):
        wire.unpack(message)


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [(1, "int", True), (0, "int", True), ((1 << 64) - 1, "int", True), (-1, "int", False),
     (1 << 64, "int", False), (True, "int", False), (1.0, "int", False), ("x", "str", True),
     (b"x", "str", False), (b"x", "bytes", True), ([], "list", True), ({}, "dict", True),
     (None, "dict", False), ({}, "list", False)],
)  # fmt: skip
def test_a_field_has_the_type_asked_for_or_is_refused(value, kind, fits):
    message = {"op": "test", "value": value}
    if fits:
        assert wire.field(message, "value", kind) == value
    else:
        with pytest.raises(FrameError, match="'value' of message 'test'"):
            wire.field(message, "value", kind)


def test_a_missing_field_is_refused():
    with pytest.raises(FrameError, match="'seq' of message 'fetch'"):
        wire.field({"op": "fetch"}, "seq", "int")


def test_kinds_are_those_of_the_core():
    assert wire.HEADER_SIZE == struct.calcsize("<HHIIIBBHIQQQQQqII") == 80
    assert (wire.ROWS, wire.HEARTBEAT, wire.SEGMENT) == (
        oracle.ROWS,
        oracle.HEARTBEAT,
        oracle.SEGMENT,
    )
    assert sorted(wire.KINDS) == list(range(1, 7))
