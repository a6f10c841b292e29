"""A feed's session in the native core: its frames and sums against the oracle, and rows that do not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import core as oracle

from tickplant._core.session import Packer, Session

NAMES = [b"", *(f"XNAS:S{i}".encode() for i in range(1, 8))]
TABLES = [(1, 40, 77), (5, 33, 88)]

batches = st.lists(
    st.tuples(
        st.sampled_from(TABLES),
        st.integers(1, 5),
        st.integers(0, 9),
        st.binary(min_size=200, max_size=200),
    ),
    max_size=8,
)


def named(number=9, codes=range(1, 8)):
    session = Session(3, number, TABLES)
    for code in codes:
        session.name(code, NAMES[code])
    return session


@given(batches, st.integers(0, 2**32 - 1))
def test_frames_carry_the_numbers_and_sums_of_the_oracle(made, prev_crc):
    session, hashes = named(), [0, *(oracle.hash_bytes(0, name) for name in NAMES[1:])]
    seq, counts, sums = 0, {1: 0, 5: 0}, {1: 0, 5: 0}
    for (table, size, schema), count, code, noise in made:
        rows = bytearray(noise[: count * size])
        for at in range(24, len(rows), size):
            rows[at : at + 4] = code.to_bytes(4, "little")
        *_, total = oracle.row_sums(bytes(rows), size, hashes, 4, range(count))
        sums[table] = (sums[table] + total) % 2**64
        expected = oracle.seal(
            rows, oracle.ROWS, table=table, feed=3, session=9, seq=seq, feed_row=counts[table],
            feed_sum=sums[table], time_ns=5, count=count, schema=schema, prev_crc=prev_crc,
        )  # fmt: skip
        assert session.frame(table, rows, 5, prev_crc) == expected
        seq, counts[table] = seq + count, counts[table] + count
    assert session.seq == seq


def test_names_may_come_in_any_order_and_far_apart():
    session, far = Session(1, 1, TABLES), 5_000_000
    for code in (far, 3, 2_000, 1):
        session.name(code, b"N%d" % code)
    for code in (far, 3, 2_000, 1, 4, far + 1, 2**32 - 1):
        before = oracle.header(session.frame(1, bytes(40), 0, 0))["feed_sum"]
        row = bytes(24) + code.to_bytes(4, "little") + bytes(12)
        after = oracle.header(session.frame(1, row, 0, 0))["feed_sum"]
        name = oracle.hash_bytes(0, b"N%d" % code) if code in (far, 3, 2_000, 1) else 0
        same = bytes(24) + b"\1\0\0\0" + bytes(12)  # a row's hash is of the name, not of the code
        assert (after - before) % 2**64 == oracle.row_hash(same, [0, name])


@pytest.mark.parametrize(("table", "size"), [(1, 39), (1, 0), (1, 41), (2, 40), (0, 40), (255, 40)])
def test_bytes_that_are_not_rows_of_a_table_are_refused_and_count_for_nothing(table, size):
    session = named()
    with pytest.raises(ValueError, match="whole rows"):
        session.frame(table, bytes(size), 0, 0)
    assert session.seq == 0


@pytest.mark.parametrize("table", [(0, 40, 1), (256, 40, 1), (1, 31, 1)])
def test_tables_that_can_not_be_are_refused(table):
    with pytest.raises(ValueError, match="can't be"):
        Session(1, 1, [table])


def test_a_packer_takes_no_more_rows_than_it_has_room_for():
    packer = Packer([("at", "i8", 0), ("seen", "i8", 8), ("n", "u4", 16)], 2)
    for n in (1, 2**32 - 1):
        packer.add(7, {"n": n})
    with pytest.raises(ValueError, match="no room"):
        packer.add(7, {})
    assert np.frombuffer(packer, "i8,i8,u4").tolist() == [(7, 7, 1), (7, 7, 2**32 - 1)]
    packer.clear()
    packer.add(8, {"at": -1, "seen": 2})
    assert np.frombuffer(packer, "i8,i8,u4").tolist() == [(-1, 2, 0)]


@pytest.mark.parametrize("value", [True, np.int32(1), np.uint8(1)])
def test_whatever_is_an_integer_will_do_for_one(value):
    packer = Packer([("at", "i8", 0), ("seen", "i8", 8), ("n", "i2", 16)], 1)
    packer.add(0, {"n": value})
    assert bytes(packer)[16:] == b"\1\0"


def test_bytes_of_numpy_will_do_for_text():
    packer = Packer([("at", "i8", 0), ("seen", "i8", 8), ("s", "S4", 16)], 1)
    packer.add(0, {"s": np.bytes_(b"ab")})
    assert bytes(packer)[16:] == b"ab\0\0"


KEY = [("at", "i8", 0), ("seen", "i8", 8), ("n", "u4", 16)]


def numbers(packer):
    return np.frombuffer(packer, "i8,i8,u4")["f2"].tolist()


def test_a_packer_pushes_all_rows_but_the_first_and_the_last_that_there_is_room_for():
    later = []
    packer = Packer(KEY, 4, lambda: 5, lambda **values: later.append(values))
    packer.push(n=0)
    assert (later, len(packer)) == ([{"n": 0}], 0)
    packer.add(1, {"n": 1})
    for n in range(2, 6):
        packer.push(n=n)
    assert numbers(packer) == [1, 2, 3]
    assert later == [{"n": 0}, {"n": 4}, {"n": 5}]
    assert np.frombuffer(packer, "i8,i8,u4")[1].tolist() == (5, 5, 2)


@pytest.mark.parametrize("wrong", [{"n": -1}, {"n": "x"}, {"n": None}, {"other": 1}])
def test_what_a_packer_can_not_push_is_left_to_who_can_say_why(wrong):
    later = []
    packer = Packer(KEY, 4, lambda: 5, lambda **values: later.append(values))
    packer.add(1, {"n": 1})
    packer.push(**wrong)
    assert (later, numbers(packer)) == ([wrong], [1])


def test_a_row_that_is_pushed_while_another_is_made_does_not_mix_with_it():
    packer = Packer(KEY, 5, lambda: 5, lambda **values: pytest.fail("there is room"))

    class Slow:
        def __index__(self):
            packer.push(n=7, at=70)
            return 8

    packer.add(0, {"n": 1})
    packer.push(at=80, n=Slow(), seen=81)
    assert np.frombuffer(packer, "i8,i8,u4").tolist() == [(0, 0, 1), (70, 5, 7), (80, 81, 8)]


COLUMNS = [("at", "i8", 0), ("seen", "i8", 8), ("a", "i1", 16), ("b", "u2", 17), ("c", "i8", 19),
           ("d", "f8", 27), ("e", "f4", 35), ("f", "S3", 39), ("g", "S20", 42), ("h", "u4", 62)]  # fmt: skip
EDGES = [0, 1, -1, 127, 128, 65_535, 1 << 53, -(1 << 53), (1 << 53) + 1, (1 << 63) - 1, 1 << 63, -(1 << 63)]
VALUES = st.one_of(
    *(st.sampled_from(EDGES), st.integers(), st.booleans(), st.integers(-100, 100).map(np.int16)),
    *(st.floats(), st.floats().map(np.float64), st.binary(max_size=25), st.text(max_size=25)),
    *(st.binary(max_size=4).map(np.bytes_), st.none()),
)
GIVEN = st.dictionaries(st.sampled_from([*(name for name, *_ in COLUMNS), "other"]), VALUES, max_size=4)


@given(st.lists(GIVEN, max_size=12))
def test_what_is_pushed_is_what_would_be_added_or_it_is_left_to_later(made):
    later = []
    pushed, added = (Packer(COLUMNS, 30, lambda: 5, lambda **values: later.append(values)) for _ in range(2))
    left = []
    for packer in (pushed, added):
        packer.add(1, {"c": 7})
    for values in made:
        pushed.push(**values)
        try:
            added.add(5, values)
        except (KeyError, TypeError, ValueError, OverflowError):
            left.append(values)
    assert bytes(pushed) == bytes(added)
    assert [list(values.items()) for values in later] == [list(values.items()) for values in left]


def test_places_that_call_with_other_names_or_in_another_order_do_not_mix():
    packer = Packer(KEY, 12, lambda: 5, lambda **values: pytest.fail("there is room"))
    packer.add(0, {"n": 1})
    for at in (10, 20):
        packer.push(at=at, n=2, seen=3)
        packer.push(n=4, at=at)
        packer.push(seen=6)
        packer.push()
    rows = [(10, 3, 2), (10, 5, 4), (5, 6, 0), (5, 5, 0), (20, 3, 2), (20, 5, 4), (5, 6, 0), (5, 5, 0)]
    assert np.frombuffer(packer, "i8,i8,u4").tolist()[1:] == rows


def test_a_row_is_pushed_by_the_names_of_its_columns_only():
    packer = Packer(KEY, 9, lambda: 5, lambda **values: pytest.fail("there is room"))
    packer.add(0, {"n": 1})
    with pytest.raises(TypeError, match="names"):
        packer.push(1)
    assert numbers(packer) == [1]


def test_a_buffer_that_is_emptied_while_the_clock_is_read_leaves_the_row_to_later():
    later = []
    packer = Packer(KEY, 9, lambda: packer.clear() or 5, lambda **values: later.append(values))
    packer.add(0, {"n": 1})
    packer.push(n=2)
    assert (later, len(packer)) == ([{"n": 2}], 0)


@pytest.mark.parametrize("count", range(5))
def test_dropping_the_first_rows_leaves_those_that_came_after_them(count):
    packer = Packer(KEY, 3)
    for n in range(3):
        packer.add(0, {"n": n})
    packer.drop(count)
    assert numbers(packer) == [0, 1, 2][count:]


def test_a_text_that_is_given_takes_the_place_of_a_default_whole():
    packer = Packer(
        [("at", "i8", 0), ("came", "i8", 8), ("note", "S4", 16)], 8, lambda: 7, None, {"note": b"TTTT"}
    )
    packer.add(7, {})
    for text in (b"", "x", b"TTTT"):
        packer.push(note=text)
    notes = np.frombuffer(packer, [("at", "i8"), ("came", "i8"), ("note", "S4")])["note"]
    assert notes.tolist()[:3] == [b"TTTT", b"", b"x"]
