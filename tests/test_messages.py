"""Typed control messages: what was said is read, and everything else is refused with its reason."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fix_plant import sealed
from tickplant.errors import FrameError, MessageDamaged, MessageRefused
from tickplant.messages import Count, Language, Message, Name, Number32, TableNumber, TradingDate


class Ask(Message, tag="ask"):
    row: Count
    table: TableNumber
    date: TradingDate = 0
    name: Name = ""
    check: bool = True


class Say(Message, tag="say"):
    crc: Number32


LANGUAGE = Language(Ask, Say)


@given(
    row=st.integers(0, 2**63 - 1), table=st.integers(0, 255), name=st.text(max_size=60), check=st.booleans()
)
def test_what_was_said_is_read(row, table, name, check):
    said = Ask(row=row, table=table, name=name, check=check)
    assert LANGUAGE.read(said.packed()) == said
    assert LANGUAGE.read(memoryview(said.packed())) == said


def test_fields_that_are_not_known_are_passed_over():
    packed = msgpack.packb({"op": "say", "crc": 5, "later": [1, {"x": 2}]})
    assert LANGUAGE.read(sealed(packed)) == Say(crc=5)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"op": "ask", "table": 3}, "message 'ask'.*missing required field `row`"),
        ({"op": "ask", "row": 2**63, "table": 3}, "field 'row' of message 'ask'"),
        ({"op": "ask", "row": 2**64 - 1, "table": 3}, "field 'row' of message 'ask'"),
        ({"op": "ask", "row": -1, "table": 3}, "field 'row' of message 'ask': Expected `int` >= 0"),
        ({"op": "ask", "row": True, "table": 3}, "field 'row' of message 'ask'.*got `bool`"),
        ({"op": "ask", "row": 1.5, "table": 3}, "field 'row' of message 'ask'.*got `float`"),
        ({"op": "ask", "row": "1", "table": 3}, "field 'row' of message 'ask'.*got `str`"),
        ({"op": "ask", "row": 1, "table": 256}, "field 'table' of message 'ask': Expected `int` <= 255"),
        ({"op": "ask", "row": 1, "table": 3, "name": "x" * 257}, "field 'name'.*length <= 256"),
        ({"op": "ask", "row": 1, "table": 3, "check": 1}, "field 'check' of message 'ask'"),
        ({"op": "say", "crc": 2**32}, "field 'crc' of message 'say'"),
        ({"op": "nothing"}, "no message 'nothing' here; there are: ask, say"),
        ({"op": 7}, "no message 7 here"),
        ({"op": ["ask"]}, "no message 'list' here"),
        ({"row": 1}, "no message None here"),
        ({1: 2}, "no message None here"),
        ([1, 2], "no message None here"),
        (None, "no message None here"),
    ],
)
def test_what_may_not_be_said_is_refused_with_its_place_and_reason(said, what):
    with pytest.raises(MessageRefused, match=what):
        LANGUAGE.read(sealed(msgpack.packb(said)))


def test_bytes_that_are_not_what_was_sent_are_damage_and_not_a_refusal():
    packed = Say(crc=5).packed()
    for at in range(len(packed)):
        with pytest.raises(MessageDamaged):
            LANGUAGE.read(packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :])
        with pytest.raises(MessageDamaged):
            LANGUAGE.read(packed[:at])


@pytest.mark.parametrize("packed", [b"\x81" * 100_000, b"\x91" * 1_000_000, b"\xa2\xff\xff", b"", b"\xc1"])
def test_no_bytes_raise_anything_else(packed):
    with pytest.raises(FrameError):
        LANGUAGE.read(sealed(packed))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(packed):
    with pytest.raises(FrameError):
        LANGUAGE.read(sealed(packed))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["op", "row", "table", "crc"]) | st.integers(0, 5), inner)
        ),
        max_leaves=10,
    )
)
def test_any_value_is_read_as_it_is_declared_or_refused(value):
    try:
        message = LANGUAGE.read(sealed(msgpack.packb(value)))
    except MessageRefused:
        return
    assert isinstance(message, Ask | Say)
    if isinstance(message, Ask):
        assert 0 <= message.row < 2**63
        assert 0 <= message.table < 256
