# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The slots of a latest-value table, for reading (latch.h)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

import numpy as np

from tickplant._core.futex cimport memory_order_acquire, tp_load
from tickplant._core.memory cimport Word, aligned, within

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from "latch.h" nogil:
    uint64_t TP_LATCH_BUSY
    void tp_latch_fetch(const uint8_t *slot, uint32_t slot_size)
    uint64_t tp_latch_part(const uint8_t *slot, uint32_t cell_size, uint32_t begin, uint32_t size, uint8_t *out)


cdef int ROWS_MADE = 16
cdef int SLOTS_AHEAD = 8


cdef uint64_t _latched(const uint8_t *slot, uint32_t cell_size, uint32_t begin, uint32_t size, uint8_t *out) noexcept nogil:
    """The version read; a slot that is being written to without a pause is waited for."""
    cdef uint64_t version = tp_latch_part(slot, cell_size, begin, size, out)
    while version == TP_LATCH_BUSY:
        sched_yield()
        version = tp_latch_part(slot, cell_size, begin, size, out)
    return version


cdef _cells_fit(Py_ssize_t n, Py_ssize_t first_slot, uint64_t slots, uint64_t slot_size, uint64_t cell_size):
    if cell_size % 8 or slot_size % 8 or cell_size == 0 or slot_size < 8 + 2 * cell_size or slots >= 1 << 31:
        raise ValueError(f"{slots} slots of {slot_size} bytes with cells of {cell_size} are out of range")
    within(n, first_slot, slot_size * slots)


def latch_snapshot(const uint8_t[::1] data, Py_ssize_t first_slot, uint32_t slot_size, uint32_t cell_size, Py_ssize_t n_slots,
                   uint8_t[::1] out, uint32_t begin, uint32_t size):
    """Copy bytes [begin, begin + size) of the current cells of all written slots to out, end to end; returns how many."""
    _cells_fit(data.shape[0], first_slot, n_slots, slot_size, cell_size)
    if begin % 8 or size == 0 or <uint64_t>begin + size > cell_size or <uint64_t>out.shape[0] < size * <uint64_t>n_slots:
        raise ValueError("part of the cell, or room, out of range")
    cdef Py_ssize_t i, n = 0
    if n_slots:
        aligned(&data[first_slot])
        with nogil:
            for i in range(n_slots):
                if i + SLOTS_AHEAD < n_slots:
                    tp_latch_fetch(&data[first_slot + (i + SLOTS_AHEAD) * slot_size], slot_size)
                if _latched(&data[first_slot + i * slot_size], cell_size, begin, size, &out[n * size]):
                    n += 1
    return n


cdef class Slots:
    """The slots of a latest-value table (latch.h), for reading: a slot per instrument."""

    cdef const uint8_t[::1] held
    cdef Word allocated
    cdef const uint8_t *first
    cdef uint32_t slot_size, cell_size, prefix, row_size
    cdef int64_t slots_max, there
    cdef object dtype, rows
    cdef uint8_t[::1] bytes_
    cdef int made

    def __init__(self, buffer, Py_ssize_t first, uint32_t slot_size, uint32_t cell_size, Py_ssize_t slots_max, Word allocated,
                 uint32_t prefix, dtype):
        """`slots_max` from `first` on, of which `allocated` have memory; rows (`dtype`) are `prefix` bytes into a cell."""
        self.held, self.allocated, self.slots_max, self.there = buffer, allocated, slots_max, 0
        self.slot_size, self.cell_size, self.prefix, self.row_size = slot_size, cell_size, prefix, dtype.itemsize
        _cells_fit(self.held.shape[0], first, slots_max, slot_size, cell_size)
        if prefix % 8 or <uint64_t>prefix + self.row_size > cell_size:
            raise ValueError(f"rows of {self.row_size} bytes do not fit at {prefix} into cells of {cell_size}")
        self.first = NULL
        if slots_max:
            aligned(&self.held[first])
            self.first = &self.held[first]
        self.dtype, self.made = dtype, ROWS_MADE

    def __len__(self):
        """How many slots have memory; never fewer than before."""
        self.there = min(<int64_t>tp_load(self.allocated.p, memory_order_acquire), self.slots_max)
        return self.there

    cdef const uint8_t *slot(self, int64_t instrument) noexcept:
        if instrument >= self.there:
            self.__len__()
        return self.first + <size_t>instrument * self.slot_size if 0 <= instrument < self.there else NULL

    def cell(self, int64_t instrument):
        """The instrument's cell as bytes, or None if it was never written."""
        cdef const uint8_t *slot = self.slot(instrument)
        if slot is NULL:
            return None
        out = PyBytes_FromStringAndSize(NULL, self.cell_size)
        return out if _latched(slot, self.cell_size, 0, self.cell_size, <uint8_t *>PyBytes_AS_STRING(out)) else None

    def row(self, int64_t instrument):
        """The instrument's row as a scalar of `dtype` that can't be written to, or None if it was never written."""
        cdef const uint8_t *slot = self.slot(instrument)
        if slot is NULL:
            return None
        if self.made == ROWS_MADE:  # an array for several: to make one takes as long as all the rest
            self._make()
        if not _latched(slot, self.cell_size, self.prefix, self.row_size, &self.bytes_[self.made * self.row_size]):
            return None
        self.made += 1
        return self.rows[self.made - 1]

    cdef _make(self):
        rows = np.zeros(ROWS_MADE, self.dtype)
        cdef uint8_t[::1] room = rows.view(np.uint8)
        rows.flags.writeable = False
        self.bytes_ = room
        self.rows, self.made = rows, 0
