import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import core as oracle

from tickplant._core import core

ROW_SIZES = st.integers(32, 90)


class Slots:
    """Slots of one table, written as the plant does: by applying frames."""

    def __init__(self, row_size, n_slots):
        self.row_size, self.n_slots = row_size, n_slots
        self.cell = 16 + -(-row_size // 8) * 8
        self.slot = -(-(8 + 2 * self.cell) // 64) * 64
        self.memory = mmap.mmap(-1, max(4096, self.slot * n_slots))
        columns = core.Columns(1, 7, [(0, row_size)])
        columns.attach_latest(self.memory, 0, self.slot, self.cell, n_slots)
        self.intake = core.Intake([columns], 0, 1, 1)

    def put(self, rows, first=0, date=20240102):
        self.intake.apply(
            core.seal(b"".join(rows), oracle.ROWS, table=1, row=first, count=len(rows),
                      trading_date=date)
        )  # fmt: skip

    def get(self, code):
        return core.latch_get(self.memory, code * self.slot, self.cell)

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
    slots = Slots(row_size, 4)
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
    slots = Slots(40, 10)
    slots.put(rows_of(data.draw, 40, codes))
    out = np.zeros(10 * slots.cell, "u1")
    count = core.latch_snapshot(slots.memory, 0, slots.slot, slots.cell, 10, out)
    expected = [slots.get(c) for c in range(10) if slots.get(c) is not None]
    assert count == len(expected) == len(set(codes))
    assert out[: count * slots.cell].tobytes() == b"".join(expected)


def test_a_slot_never_written_has_no_value():
    assert Slots(32, 1).get(0) is None


@pytest.mark.parametrize("dead_half", [0, 1])
def test_a_writer_that_died_in_the_other_cell_leaves_the_current_one(dead_half):
    slots = Slots(40, 1)
    for number in range(1 + dead_half):
        slots.put([bytes(40)], first=number)
    before, version = slots.get(0), slots.memory[0]
    other = 8 + ((version + 1) & 1) * slots.cell
    slots.memory[other : other + slots.cell] = b"\xee" * slots.cell
    assert slots.get(0) == before


def test_slots_and_cells_beyond_the_memory_or_unaligned_are_refused():
    memory = mmap.mmap(-1, 4096)
    for slot, cell in [(4096 - 8, 16), (-8, 16), (4, 16), (0, 12), (0, 0), (0, 1 << 31)]:
        with pytest.raises(ValueError, match="bytes|multiple|cell"):
            core.latch_get(memory, slot, cell)
    with pytest.raises(ValueError, match="multiple of 8"):
        core.latch_get(memoryview(memory)[1:], 0, 16)
    out = np.zeros(4096, "u1")
    for first, size, cell, n in [(0, 64, 24, 65), (0, 40, 24, 2), (0, 64, 24, -1), (8, 64, 28, 1)]:
        with pytest.raises(ValueError, match="bytes|range|slots"):
            core.latch_snapshot(memory, first, size, cell, n, out)
    with pytest.raises(ValueError, match="range"):
        core.latch_snapshot(memory, 0, 64, 24, 4, out[:90])


def test_cells_that_do_not_fit_the_row_are_refused():
    memory = mmap.mmap(-1, 1 << 16)
    columns = core.Columns(1, 7, [(0, 40)])
    for slot, cell in [(128, 48), (128, 52), (128, 64), (104, 56), (124, 56), (1 << 20, 1 << 16)]:
        with pytest.raises(ValueError, match="bytes|size"):
            columns.attach_latest(memory, 0, slot, cell, 1)
    with pytest.raises(ValueError, match="multiple of 8"):
        columns.attach_latest(memoryview(memory)[4:], 0, 128, 56, 1)
