# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Where the columns of a table lie, and packed rows out of them again (table.h)."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

import numpy as np

from tickplant._core.futex cimport atomic32, atomic64
from tickplant._core.memory cimport aligned, within
from tickplant._core.rowsum cimport TP_AT_INSTRUMENT, TP_KEY_SIZE
from tickplant._core.table cimport TP_CELL_MAX, tp_column, tp_gather, tp_last_rows, tp_pick, tp_table_rewind


cdef class Columns:
    """Where the columns of one table lie in a mapping; gathers packed rows from them."""

    def __init__(self, uint32_t number, uint32_t schema, list columns):
        """columns: (offset in the row, size) of each."""
        cdef Py_ssize_t i
        self.t.columns = <tp_column *>PyMem_Calloc(max(1, len(columns)), sizeof(tp_column))
        if not self.t.columns:
            raise MemoryError
        self.t.number, self.t.schema, self.t.n_columns = number, schema, len(columns)
        for i in range(len(columns)):
            self.t.columns[i].offset, self.t.columns[i].size = columns[i]
            self.t.row_size += self.t.columns[i].size
        for i in range(len(columns)):
            if self.t.columns[i].size > self.t.row_size or self.t.columns[i].offset > self.t.row_size - self.t.columns[i].size:
                raise ValueError(f"column {i} lies beyond the row of {self.t.row_size} bytes")
        if self.t.row_size < TP_KEY_SIZE:
            raise ValueError(f"a row of {self.t.row_size} bytes has no room for the key columns")

    def __dealloc__(self):
        PyMem_Free(self.t.columns)

    def attach(self, buffer, list offsets, uint64_t max_rows, Py_ssize_t committed, Py_ssize_t prev, Py_ssize_t head,
               uint64_t n_heads, bint writable):
        """Bind to a mapping: offsets of the columns, of the committed count, of prev[max_rows] and head[n_heads]."""
        cdef uint8_t[::1] w
        cdef const uint8_t[::1] b
        if writable:
            w = buffer
            b = w
        else:
            b = buffer
        cdef Py_ssize_t i, n = b.shape[0]
        if len(offsets) != self.t.n_columns or max_rows >= 1 << 32 or not 0 < n_heads <= 1 << 32:
            raise ValueError("columns, rows or heads out of range")
        within(n, committed, 8)
        within(n, prev, max_rows * 4)
        within(n, head, n_heads * 4)
        for i in range(len(offsets)):
            within(n, offsets[i], max_rows * self.t.columns[i].size)
        for at in (committed, prev, head, *offsets):
            aligned(&b[<Py_ssize_t>at])
        for i in range(len(offsets)):
            self.t.columns[i].data = <uint8_t *>&b[<Py_ssize_t>offsets[i]]
            if self.t.columns[i].offset == TP_AT_INSTRUMENT and self.t.columns[i].size == 4:
                self.t.codes = <const uint32_t *>self.t.columns[i].data
        self.held, self.max_rows = b, max_rows
        self.t.prev, self.t.head, self.t.n_heads = <uint32_t *>&b[prev], <atomic32 *>&b[head], n_heads
        self.t.committed = <atomic64 *>&b[committed] if writable else NULL

    def detach(self):
        """Let go of the mapping: rows get their numbers, and are refused."""
        self.held, self.max_rows = None, 0
        for i in range(self.t.n_columns):
            self.t.columns[i].data = NULL
        self.t.prev, self.t.head, self.t.codes, self.t.committed = NULL, NULL, NULL, NULL
        self.t.n_heads = self.t.rows = self.t.room = 0

    def attach_latest(self, buffer, Py_ssize_t offset, uint32_t slot_size, uint32_t cell_size, uint64_t n_slots):
        """Bind to the slots of the latest-value table of the same rows, for writing."""
        cdef uint8_t[::1] w = buffer
        within(w.shape[0], offset, n_slots * slot_size)
        if cell_size > TP_CELL_MAX or cell_size < 16 + self.t.row_size or cell_size % 8 or cell_size >= 24 + self.t.row_size or slot_size < 8 + 2 * cell_size or slot_size % 8:
            raise ValueError("cell or slot size out of range")
        aligned(&w[offset])
        self.held_latest = w
        self.t.latest, self.t.slot_size, self.t.cell_size, self.t.n_slots = &w[offset], slot_size, cell_size, n_slots

    def gather(self, uint64_t first, uint64_t count, uint8_t[::1] out):
        """Write rows [first, first + count) as packed rows to out."""
        if self.t.head is NULL or first > self.max_rows or count > self.max_rows - first or out.shape[0] != count * self.t.row_size:
            raise ValueError(f"rows [{first}, {first} + {count}) do not fit")
        if count:
            with nogil:
                tp_gather(&self.t, &out[0], count, first)

    def pick(self, const int64_t[::1] numbers, uint8_t[::1] out):
        """Write the rows of these numbers as packed rows to out."""
        cdef Py_ssize_t i, count = numbers.shape[0]
        if self.t.head is NULL or out.shape[0] != count * self.t.row_size:
            raise ValueError(f"{out.shape[0]} bytes are not {count} rows of {self.t.row_size}")
        for i in range(count):
            if not 0 <= numbers[i] < <int64_t>self.max_rows:
                raise ValueError(f"row {numbers[i]} is not from 0 to {self.max_rows}")
        if count:
            with nogil:
                for i in range(self.t.n_columns):
                    tp_pick(&self.t.columns[i], &out[0], &numbers[0], count, self.t.row_size)

    def last_rows(self, uint64_t instrument, uint64_t committed, Py_ssize_t wanted):
        """Numbers of the last `wanted` rows of an instrument below committed, oldest first: int64 array."""
        if self.t.head is NULL or committed > self.max_rows:
            raise ValueError("committed count out of range")
        if wanted < 0:
            raise ValueError(f"{wanted} rows wanted")
        wanted = min(<uint64_t>wanted, committed)
        out = np.empty(wanted, np.int64)
        cdef int64_t[::1] o = out
        cdef uint64_t n = 0
        if wanted and instrument < self.t.n_heads:
            with nogil:
                n = tp_last_rows(&self.t, self.max_rows, instrument, committed, &o[0], wanted)
        return out[:n]

    @property
    def taken(self): return self.t.taken
    @taken.setter
    def taken(self, uint64_t value): self.t.taken = value

    @property
    def rows(self): return self.t.rows

    @property
    def room(self): return self.t.room
    @room.setter
    def room(self, uint64_t value):
        if value > self.max_rows:
            raise ValueError(f"room for {value} rows in a table of {self.max_rows}")
        self.t.room = value

    def rewind(self, uint64_t committed):
        """Go on after the committed rows of an earlier writer."""
        if not self.t.committed or committed > self.max_rows:
            raise ValueError("not attached for writing, or more rows than there can be")
        self.t.rows = committed
        tp_table_rewind(&self.t, self.max_rows)
