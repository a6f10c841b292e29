import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from oracle import core as oracle

from tickplant._core import framing
from tickplant._core.columns import Columns
from tickplant._core.intake import Intake
from tickplant._core.memory import Word

MAX_ROWS, HEADS, ROW = 64, 4, 45
KEY = [(0, 8), (8, 8), (16, 8), (24, 4), (28, 2), (30, 2)]
PARTS = [*KEY, (32, 1), (33, 4), (37, 8)]
COMMITTED, PREV, HEAD, FIRST = 0, 64, 512, 1024
OFFSETS = [FIRST + 1024 * i for i in range(len(PARTS))]
SIZE = FIRST + 1024 * len(PARTS)


def attached(memory, *, writable, room=MAX_ROWS):
    columns = Columns(3, 7, PARTS)
    columns.attach(memory, OFFSETS, MAX_ROWS, COMMITTED, PREV, HEAD, HEADS, writable)
    if writable:
        columns.room = room
    return columns


def row(number, code):
    packed = bytearray((number * 37 + j * 11) % 256 for j in range(ROW))
    packed[24:28] = code.to_bytes(4, "little")
    return bytes(packed)


def frame(first, rows):
    return framing.seal(b"".join(rows), oracle.ROWS, table=3, row=first, count=len(rows))


class Appending(RuleBasedStateMachine):
    """A table against a list: frames in turn, again, too early, beyond the room; writers that die."""

    def __init__(self):
        super().__init__()
        self.memory = mmap.mmap(-1, SIZE)
        self.rows, self.model = [], oracle.AppendIndex(HEADS)
        self.restart(MAX_ROWS)

    @rule(room=st.integers(0, MAX_ROWS))
    def restart(self, room):
        committed = Word(self.memory, COMMITTED).load()
        self.columns = attached(self.memory, writable=True, room=max(room, committed))
        self.columns.rewind(committed)
        self.intake = Intake([self.columns], 0, 1, 1)

    @rule(codes=st.lists(st.integers(0, HEADS + 2), max_size=9), back=st.integers(0, 5))
    def append(self, codes, back):
        first = max(0, len(self.rows) - back)
        old = self.rows[first:]
        new = [row(len(self.rows) + i, c) for i, c in enumerate(codes)]
        refused = self.intake.refused
        self.intake.apply(frame(first, old + new))
        fits = len(self.rows) + len(new) <= self.columns.room
        assert self.intake.refused - refused == (not fits)
        if fits:
            self.rows += new
            self.model.append(codes)

    @rule(ahead=st.integers(1, 5))
    def append_too_early(self, ahead):
        self.intake.apply(frame(len(self.rows) + ahead, [row(0, 1)]))
        assert self.intake.refused

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def die_before_the_commit(self, data):
        """Rows were linked, but never committed: another writer appends them again."""
        at = data.draw(st.integers(0, len(self.rows)))
        Word(self.memory, COMMITTED, True).store(at)
        del self.rows[at:], self.model.codes[at:]
        self.restart(MAX_ROWS)

    @invariant()
    def the_columns_are_the_rows(self):
        reader = attached(memoryview(self.memory).toreadonly(), writable=False)
        assert Word(self.memory, COMMITTED).load() == len(self.rows) == self.columns.rows
        out = bytearray(len(self.rows) * ROW)
        reader.gather(0, len(self.rows), out)
        assert bytes(out) == b"".join(self.rows)

    @invariant()
    def last_rows_are_what_a_scan_finds(self):
        reader = attached(memoryview(self.memory).toreadonly(), writable=False)
        for code in range(HEADS + 1):
            for committed in {len(self.rows), len(self.rows) // 2}:
                for wanted in (0, 1, 3, 1 << 40):
                    found = reader.last_rows(code, committed, wanted)
                    assert found.tolist() == self.model.last_rows(code, committed, wanted)
                    out = bytearray(len(found) * ROW)
                    reader.pick(found, out)
                    assert bytes(out) == b"".join(self.rows[n] for n in found.tolist())

    @invariant()
    def chains_are_the_oracles(self):
        prev, head = self.model.chain()
        words = memoryview(self.memory).toreadonly().cast("I")
        assert list(words[HEAD // 4 : HEAD // 4 + HEADS]) == head
        assert list(words[PREV // 4 : PREV // 4 + len(prev)]) == prev


TestAppending = Appending.TestCase
TestAppending.settings = settings(max_examples=60, stateful_step_count=20)


@given(
    st.lists(st.integers(1, 20), max_size=12), st.lists(st.integers(0, 40), min_size=1, max_size=4), st.data()
)
def test_columns_of_any_size_are_the_transpose_of_rows_in_frames_of_any_length(sizes, counts, data):
    parts = [*KEY]
    for size in sizes:
        parts.append((sum(parts[-1]), size))
    row_size, most, room = sum(parts[-1]), 4 * 40, 4 * 40 * 20
    memory = mmap.mmap(-1, 4096 + room * len(parts))
    columns = Columns(3, 7, parts)
    offsets = [4096 + room * i for i in range(len(parts))]
    columns.attach(memory, offsets, most, 0, 64, 2048, HEADS, True)
    columns.room = most
    rows = data.draw(st.randoms()).randbytes(sum(counts) * row_size)
    intake, at = Intake([columns], 0, 1, 1), 0
    for count in counts:
        part = rows[at * row_size : (at + count) * row_size]
        intake.apply(framing.seal(part, oracle.ROWS, table=3, row=at, count=count))
        at += count
    for (offset, size), where in zip(parts, offsets, strict=True):
        cells = b"".join(rows[n * row_size + offset :][:size] for n in range(at))
        assert memory[where : where + len(cells)] == cells
        assert not any(memory[where + len(cells) : where + room])
    first = data.draw(st.integers(0, at))
    count = data.draw(st.integers(0, at - first))
    out = bytearray(count * row_size)
    columns.gather(first, count, out)
    assert bytes(out) == rows[first * row_size : (first + count) * row_size]


@given(st.data())
def test_last_rows_of_a_damaged_chain_end_and_name_only_committed_rows(data):
    memory = mmap.mmap(-1, SIZE)
    words = memoryview(memory).cast("I")
    small = st.one_of(st.integers(0, MAX_ROWS + 2), st.integers(0, (1 << 32) - 1))
    for at in [*range(PREV // 4, PREV // 4 + MAX_ROWS), *range(HEAD // 4, HEAD // 4 + HEADS)]:
        words[at] = data.draw(small)
    committed = data.draw(st.integers(0, MAX_ROWS))
    reader = attached(memoryview(memory).toreadonly(), writable=False)
    found = reader.last_rows(data.draw(st.integers(0, HEADS)), committed, 1000).tolist()
    assert found == sorted(set(found))
    assert all(0 <= f < committed for f in found)
    writer = attached(memory, writable=True)
    writer.rewind(committed)
    assert all(words[HEAD // 4 + i] <= committed for i in range(HEADS))


@given(st.integers(1, 200), st.lists(st.binary(min_size=ROW, max_size=ROW), min_size=1, max_size=9))
def test_frames_whose_count_is_not_their_size_are_not_applied(count, rows):
    memory = mmap.mmap(-1, SIZE)
    intake = Intake([attached(memory, writable=True)], 0, 1, 1)
    intake.apply(framing.seal(b"".join(rows), oracle.ROWS, table=3, count=count))
    expected = len(rows) if count == len(rows) else 0
    assert Word(memory, COMMITTED).load() == expected


def test_columns_beyond_the_memory_or_unaligned_are_refused():
    memory = mmap.mmap(-1, SIZE)
    good = [OFFSETS, MAX_ROWS, COMMITTED, PREV, HEAD, HEADS]
    wrong = {
        0: [OFFSETS[:-1], [*OFFSETS[:-1], SIZE - 8], [*OFFSETS[:-1], -8], [*OFFSETS[:-1], 1028]],
        1: [1 << 32, 1 << 31, SIZE],
        2: [SIZE, -8, 4],
        3: [SIZE - 8, -8, 68],
        4: [SIZE - 8, -8, 514],
        5: [0, (1 << 32) + 1, 1 << 32],
    }
    for place, values in wrong.items():
        for value in values:
            given_ = [*good[:place], value, *good[place + 1 :]]
            with pytest.raises(ValueError, match="range|within|multiple"):
                Columns(3, 7, PARTS).attach(memory, *given_, True)
    with pytest.raises(ValueError, match="multiple of 8"):
        Columns(3, 7, PARTS).attach(memoryview(memory)[3:], *good[:1], 8, *good[2:], True)


@pytest.mark.parametrize("parts", [[], [(0, 8)], [*KEY, (40, 8)], [*KEY, (32, 1 << 31), (0, 1 << 31)]])
def test_columns_that_are_no_row_are_refused(parts):
    with pytest.raises(ValueError, match="row of"):
        Columns(3, 7, parts)


def test_reading_beyond_the_table_or_before_attaching_is_refused():
    memory = mmap.mmap(-1, SIZE)
    reader = attached(memory, writable=False)
    for first, count in [(MAX_ROWS + 1, 0), (0, MAX_ROWS + 1), (1 << 63, 1), (1, (1 << 64) - 1)]:
        with pytest.raises(ValueError, match="do not fit"):
            reader.gather(first, count, bytearray(ROW))
    with pytest.raises(ValueError, match="do not fit"):
        reader.gather(0, 2, bytearray(ROW))
    for number in (-1, MAX_ROWS, 1 << 62):
        with pytest.raises(ValueError, match="is not from 0"):
            reader.pick(np.array([0, number]), bytearray(2 * ROW))
    with pytest.raises(ValueError, match="are not 2 rows"):
        reader.pick(np.array([0, 1]), bytearray(ROW))
    with pytest.raises(ValueError, match="out of range"):
        reader.last_rows(0, MAX_ROWS + 1, 1)
    with pytest.raises(ValueError, match="wanted"):
        reader.last_rows(0, 1, -1)
    fresh = Columns(3, 7, PARTS)
    with pytest.raises(ValueError, match="do not fit"):
        fresh.gather(0, 0, bytearray())
    with pytest.raises(ValueError, match="not attached"):
        reader.rewind(0)
    with pytest.raises(ValueError, match="room"):
        reader.room = MAX_ROWS + 1


def test_a_mapping_for_reading_can_not_be_attached_for_writing():
    with pytest.raises((TypeError, BufferError)):
        attached(memoryview(mmap.mmap(-1, SIZE)).toreadonly(), writable=True)


def test_words_are_within_aligned_and_as_writable_as_said():
    memory = mmap.mmap(-1, 4096)
    for offset in (4089, -8, 4096):
        with pytest.raises(ValueError, match="within"):
            Word(memory, offset)
    with pytest.raises(ValueError, match="multiple of 8"):
        Word(memory, 4)
    with pytest.raises(TypeError, match="for reading"):
        Word(memory, 8).store(1)
    Word(memory, 8, True).store((1 << 64) - 1)
    assert Word(memory, 8).load() == (1 << 64) - 1
