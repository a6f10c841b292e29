import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import core as oracle

from tickplant._core import framing
from tickplant._core.columns import Columns
from tickplant._core.intake import Intake
from tickplant._core.memory import Word
from tickplant._core.slots import Slots, latch_snapshot

ROW_SIZES = st.integers(32, 90)


class Written:
    """Slots of one table, written as the plant does: by applying frames."""

    def __init__(self, row_size, n_slots):
        self.row_size, self.n_slots = row_size, n_slots
        self.cell = 16 + -(-row_size // 8) * 8
        self.slot = -(-(8 + 2 * self.cell) // 64) * 64
        self.memory = mmap.mmap(-1, max(4096, self.slot * n_slots))
        columns = Columns(1, 7, [(0, row_size)])
        columns.attach_latest(self.memory, 0, self.slot, self.cell, n_slots)
        self.intake = Intake([columns], 0, 1, 1)

    def put(self, rows, first=0, date=20240102):
        self.intake.apply(
            framing.seal(b"".join(rows), oracle.ROWS, table=1, row=first, count=len(rows),
                      trading_date=date)
        )  # fmt: skip

    def reader(self, prefix=16):
        count = mmap.mmap(-1, 4096)
        Word(count, 0, True).store(self.n_slots)
        dtype = np.dtype(f"V{self.row_size}")
        word = Word(count, 0)
        return Slots(self.memory, 0, self.slot, self.cell, self.n_slots, word, prefix, dtype)

    def get(self, code):
        return self.reader().cell(code)

    def cell_of(self, row, number, date=20240102):
        text = number.to_bytes(8, "little") + date.to_bytes(8, "little") + row
        return text.ljust(self.cell, b"\0")


def rows_of(draw, size, codes):
    rows = [bytearray(draw(st.binary(min_size=size, max_size=size))) for _ in codes]
    for row, code in zip(rows, codes, strict=True):
        row[24:28] = code.to_bytes(4, "little")
    return [bytes(r) for r in rows]


@given(ROW_SIZES, st.lists(st.integers(0, 5), max_size=20), st.data())
def test_slots_are_the_oracles_to_the_byte(row_size, codes, data):
    slots = Written(row_size, 4)
    model = [oracle.Latch(slots.cell) for _ in range(4)]
    rows = rows_of(data.draw, row_size, codes)
    slots.put(rows, first=40)
    for number, (code, row) in enumerate(zip(codes, rows, strict=True), 40):
        if code < 4:
            model[code].put(slots.cell_of(row, number))
    for code, latch in enumerate(model):
        assert slots.get(code) == latch.get()
        at = code * slots.slot
        assert slots.memory[at : at + 8 + 2 * slots.cell] == latch.slot()


@given(st.lists(st.integers(0, 9), max_size=12), st.data())
def test_a_snapshot_is_the_written_slots_in_order(codes, data):
    slots = Written(40, 10)
    slots.put(rows_of(data.draw, 40, codes))
    expected = [slots.get(c) for c in range(10) if slots.get(c) is not None]
    for begin, size in [(0, slots.cell), (16, 40), (8, 3)]:
        out = np.zeros(10 * size, "u1")
        count = latch_snapshot(slots.memory, 0, slots.slot, slots.cell, 10, out, begin, size)
        assert count == len(expected) == len(set(codes))
        assert out[: count * size].tobytes() == b"".join(cell[begin : begin + size] for cell in expected)


@given(ROW_SIZES, st.lists(st.integers(0, 5), max_size=40), st.data())
def test_a_row_is_that_of_its_cell(row_size, codes, data):
    slots, known = Written(row_size, 6), {}
    reader = slots.reader()
    for number, (code, row) in enumerate(zip(codes, rows_of(data.draw, row_size, codes), strict=True)):
        slots.put([row], first=number)
        known[code] = row
        asked = data.draw(st.integers(0, 6))
        found = reader.row(asked)
        assert (None if found is None else found.tobytes()) == known.get(asked)


def test_a_slot_never_written_has_no_value():
    assert Written(32, 1).get(0) is None


@pytest.mark.parametrize("dead_half", [0, 1])
def test_a_writer_that_died_in_the_other_cell_leaves_the_current_one(dead_half):
    slots = Written(40, 1)
    for number in range(1 + dead_half):
        slots.put([bytes(40)], first=number)
    before, version = slots.get(0), slots.memory[0]
    other = 8 + ((version + 1) & 1) * slots.cell
    slots.memory[other : other + slots.cell] = b"\xee" * slots.cell
    assert slots.get(0) == before


def test_slots_and_cells_beyond_the_memory_or_unaligned_are_refused():
    memory = mmap.mmap(-1, 4096)
    word, row = Word(memory, 0), np.dtype("V8")
    wrong = [(4096 - 8, 40, 16, 1), (-8, 40, 16, 1), (4, 40, 16, 1), (0, 40, 12, 1), (0, 40, 0, 1),
             (0, 1 << 31, 1 << 30, 2), (0, 64, 24, 65), (0, 40, 24, 2), (0, 64, 24, -1),
             (8, 64, 28, 1)]  # fmt: skip
    out = np.zeros(4096, "u1")
    for first, slot, cell, n in wrong:
        with pytest.raises((ValueError, OverflowError), match="bytes|multiple|cell|range|uint"):
            Slots(memory, first, slot, cell, n, word, 0, row)
        with pytest.raises((ValueError, OverflowError), match="bytes|multiple|cell|range|uint"):
            latch_snapshot(memory, first, slot, cell, n, out, 0, 8)
    with pytest.raises(ValueError, match="multiple of 8"):
        Slots(memoryview(memory)[1:], 0, 40, 16, 1, word, 0, row)
    for begin, size in [(0, 32), (8, 24), (4, 8), (0, 0), (24, 8)]:
        with pytest.raises(ValueError, match="out of range"):
            latch_snapshot(memory, 0, 64, 24, 4, out, begin, size)
    with pytest.raises(ValueError, match="out of range"):
        latch_snapshot(memory, 0, 64, 24, 4, out[:90], 0, 24)
    for prefix, size in [(16, 16), (24, 8), (4, 8)]:
        with pytest.raises(ValueError, match="do not fit"):
            Slots(memory, 0, 64, 24, 4, word, prefix, np.dtype(f"V{size}"))


def test_cells_that_do_not_fit_the_row_are_refused():
    memory = mmap.mmap(-1, 1 << 16)
    columns = Columns(1, 7, [(0, 40)])
    for slot, cell in [(128, 48), (128, 52), (128, 64), (104, 56), (124, 56), (1 << 20, 1 << 16)]:
        with pytest.raises(ValueError, match="bytes|size"):
            columns.attach_latest(memory, 0, slot, cell, 1)
    with pytest.raises(ValueError, match="multiple of 8"):
        columns.attach_latest(memoryview(memory)[4:], 0, 128, 56, 1)


@given(st.lists(st.lists(st.integers(0, 6), max_size=9), max_size=6), st.integers(0, 40), st.integers(1, 6))
def test_the_latest_value_is_the_last_row_also_of_those_that_had_no_room(frames, room, at_once):
    slots, n_heads, most = Written(32, 6), 7, 64
    parts = [(0, 8), (8, 8), (16, 8), (24, 4), (28, 2), (30, 2)]
    memory = mmap.mmap(-1, 4096 + len(parts) * 8 * most)
    columns = Columns(1, 7, parts)
    offsets = [4096 + 8 * most * i for i in range(len(parts))]
    columns.attach(memory, offsets, most, 0, 64, 2048, n_heads, True)
    columns.attach_latest(slots.memory, 0, slots.slot, slots.cell, slots.n_slots)
    columns.room = room
    intake, sealed, last, number = Intake([columns], 0, 1, 1), [], {}, 0
    for codes in frames:
        rows = [
            bytes([number + i]) * 24 + code.to_bytes(4, "little") + bytes(4) for i, code in enumerate(codes)
        ]
        last |= {code: (number + i, row) for i, (code, row) in enumerate(zip(codes, rows, strict=True))}
        sealed.append(
            framing.seal(
                b"".join(rows), oracle.ROWS, table=1, row=number, count=len(rows), trading_date=20240102
            )
        )
        number += len(codes)
    for first in range(0, len(sealed), at_once):
        intake.apply(b"".join(sealed[first : first + at_once]))
    for code in range(slots.n_slots):
        expected = slots.cell_of(last[code][1], last[code][0]) if code in last else None
        assert slots.get(code) == expected
