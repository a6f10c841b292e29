import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import core as oracle

from tickplant._core import rowsums

NAMES = np.array([0, *(rowsums.name_hash(f"XNAS:S{i}".encode()) for i in range(1, 8))], "u8")


@st.composite
def packed(draw):
    """(packed rows, row size): any bytes, with instruments and feeds that are mostly known."""
    size = draw(st.integers(32, 75))
    rows = [bytearray(draw(st.binary(min_size=size, max_size=size))) for _ in range(draw(st.integers(0, 6)))]
    for row in rows:
        row[24:28] = draw(st.integers(0, 9)).to_bytes(4, "little")
        row[28:30] = draw(st.integers(0, 4)).to_bytes(2, "little")
    return b"".join(rows), size


def sums(rows, size, **options):
    counts, totals = np.zeros(3, "u8"), np.zeros(3, "u8")
    ordered = rowsums.row_sums(rows, size, NAMES, counts, totals, **options)
    return counts.tolist(), totals.tolist(), ordered


@given(st.binary(max_size=70))
def test_name_hash_agrees_with_the_oracle(name):
    assert rowsums.name_hash(name) == oracle.hash_bytes(0, name)


@given(packed(), st.integers(0, 1 << 40))
def test_sums_agree_with_the_oracle(case, first):
    rows, size = case
    numbers = range(first, first + len(rows) // size)
    counts, totals, ordered, total = oracle.row_sums(rows, size, NAMES.tolist(), 3, numbers)
    assert sums(rows, size, first=first) == (counts, totals, ordered)
    assert rowsums.row_sum(rows, size, NAMES) == total


@given(packed(), st.data())
def test_sums_with_given_row_numbers_agree_with_the_oracle(case, data):
    rows, size = case
    n = len(rows) // size
    numbers = data.draw(st.lists(st.integers(0, 1 << 40), min_size=n, max_size=n))
    *expected, _ = oracle.row_sums(rows, size, NAMES.tolist(), 3, numbers)
    assert sums(rows, size, numbers=np.array(numbers, "i8")) == tuple(expected)


@given(packed(), st.data())
def test_a_sum_in_pieces_is_the_sum(case, data):
    rows, size = case
    n = len(rows) // size
    cut = data.draw(st.integers(0, n))
    counts, totals = np.zeros(3, "u8"), np.zeros(3, "u8")
    ordered = rowsums.row_sums(rows[: cut * size], size, NAMES, counts, totals)
    ordered += rowsums.row_sums(rows[cut * size :], size, NAMES, counts, totals, first=cut)
    assert (counts.tolist(), totals.tolist(), ordered % (1 << 64)) == sums(rows, size)


@given(packed(), st.data())
def test_the_sum_covers_what_the_feed_decided_and_nothing_else(case, data):
    rows, size = case
    if not rows:
        return
    changed = bytearray(rows)
    at = data.draw(st.integers(0, len(rows) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    place = at % size
    if 24 <= place < 28:  # another code: another name, unless neither code is known
        codes = [int.from_bytes(r[at - place + 24 :][:4], "little") for r in (rows, changed)]
        names = [int(NAMES[c]) if c < len(NAMES) else 0 for c in codes]
        same = names[0] == names[1]
    else:
        same = 16 <= place < 30
    assert (rowsums.row_sum(rows, size, NAMES) == rowsums.row_sum(changed, size, NAMES)) is same


@given(packed())
def test_only_the_ordered_sum_sees_that_rows_changed_places(case):
    rows, size = case
    first, second, rest = rows[:size], rows[size : 2 * size], rows[2 * size :]
    swapped = second + first + rest
    assert rowsums.row_sum(rows, size, NAMES) == rowsums.row_sum(swapped, size, NAMES)
    hashes = [oracle.row_hash(r, NAMES.tolist()) for r in (first, second) if r]
    same = len(hashes) < 2 or hashes[0] == hashes[1]
    assert (sums(rows, size)[2] == sums(swapped, size)[2]) is same


def test_a_name_hash_does_not_depend_on_the_code():
    row = bytearray(range(40))
    row[24:28] = (2).to_bytes(4, "little")
    other = bytearray(row)
    other[24:28] = (5).to_bytes(4, "little")
    names = NAMES.copy()
    names[5] = names[2]
    assert rowsums.row_sum(row, 40, names) == rowsums.row_sum(other, 40, names)


@pytest.mark.parametrize(("length", "size"), [(33, 32), (64, 31), (10, 0), (1, 100)])
def test_bytes_that_are_not_whole_rows_are_refused(length, size):
    with pytest.raises(ValueError, match="whole rows"):
        rowsums.row_sum(bytes(length), size, NAMES)


def test_arrays_that_do_not_fit_together_are_refused():
    rows = bytes(64)
    with pytest.raises(ValueError, match="row numbers"):
        sums(rows, 32, numbers=np.zeros(3, "i8"))
    with pytest.raises(ValueError, match="differ in length"):
        rowsums.row_sums(rows, 32, NAMES, np.zeros(2, "u8"), np.zeros(3, "u8"))
