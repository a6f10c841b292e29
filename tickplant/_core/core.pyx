# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The native core's Python face: thin, checked wrappers; the mechanisms stand in the headers beside it."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_READ
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

import numpy as np

from tickplant._core.frame cimport (TP_CRC_AT, TP_GOOD, TP_HEADER, TP_MAGIC, TP_ROWS, TP_VERSION, tp_crc32c, tp_crc32c_start, tp_frame,
                                     tp_frame_next, tp_frame_read, tp_frame_scan, tp_frame_seal)
from tickplant._core.rowsum cimport TP_AT_INSTRUMENT, TP_KEY_SIZE, tp_hash, tp_row_sum, tp_row_sums

cdef extern from "Python.h":
    object PyMemoryView_FromMemory(char *at, Py_ssize_t size, int flags)

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from "futex.h" nogil:
    ctypedef uint32_t atomic32 "_Atomic uint32_t"
    ctypedef uint64_t atomic64 "_Atomic uint64_t"
    uint64_t tp_load "atomic_load_explicit"(const atomic64 *p, int order)
    void tp_store "atomic_store_explicit"(atomic64 *p, uint64_t value, int order)
    int memory_order_acquire, memory_order_release
    void tp_wake(atomic32 *word, atomic32 *sleepers)
    uint64_t tp_wait_above(const atomic64 *value, uint64_t above, const atomic32 *word, atomic32 *sleepers,
                           int64_t timeout_ns, uint32_t spins)

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *address, size_t length, int advice)

cdef extern from "latch.h" nogil:
    uint64_t TP_LATCH_BUSY
    void tp_latch_fetch(const uint8_t *slot, uint32_t slot_size)
    uint64_t tp_latch_part(const uint8_t *slot, uint32_t cell_size, uint32_t begin, uint32_t size, uint8_t *out)

cdef extern from "table.h" nogil:
    int TP_CELL_MAX
    ctypedef struct tp_column:
        uint8_t *data
        uint32_t offset, size
    ctypedef struct tp_table:
        uint32_t number, row_size, schema, n_columns
        tp_column *columns
        uint64_t taken, rows, room
        atomic64 *committed
        uint32_t *prev
        atomic32 *head
        uint64_t n_heads
        const uint32_t *codes
        uint8_t *latest
        uint32_t cell_size, slot_size
        uint64_t n_slots
    void tp_gather(const tp_table *t, uint8_t *rows, uint64_t count, uint64_t at)
    void tp_pick(const tp_column *c, uint8_t *rows, const int64_t *numbers, uint64_t count, uint32_t row_size)
    void tp_table_rewind(tp_table *t, uint64_t n_prev)
    uint64_t tp_last_rows(const tp_table *t, uint64_t n_prev, uint64_t instrument, uint64_t committed, int64_t *out,
                          uint64_t wanted)

cdef extern from "drain.h" nogil:
    int TP_FAILED
    ctypedef struct tp_drain:
        uint8_t message[64]
        int held, failure
        uint64_t messages_left, bytes_left
        void *(*data)(void *)
        size_t (*size)(const void *)
    int tp_drain_open(tp_drain *d, const char *library, void *socket)
    int tp_drain_wait(tp_drain *d, uint64_t messages, uint64_t bytes, int bell, long timeout_ms)
    int tp_drain_pour(tp_drain *d, tp_intake *into, int64_t now_ns)
    void tp_drain_drop(tp_drain *d)

cdef extern from "intake.h" nogil:
    int TP_TABLES
    uint32_t TP_UNDEFINED
    ctypedef struct tp_claim:
        uint64_t rows, sum, base_rows, base_sum, done_rows, done_sum
    ctypedef struct tp_feed:
        uint64_t session, next_seq
        uint32_t *codes
        uint32_t n_codes
        tp_claim claims[256]
    ctypedef struct tp_intake:
        tp_table *tables[256]
        tp_feed **feeds
        uint32_t n_feeds, definitions, trading_date, last_crc
        uint8_t *stage
        size_t used, room
        uint32_t frame_bytes, frame_rows
        uint64_t frames, rows, duplicates, refused
    int tp_take(tp_intake *intake, const uint8_t *msg, size_t n, int64_t now_ns, int defined)
    int tp_take_written(tp_intake *intake, uint16_t feed, const uint8_t *p, size_t n, size_t *at, int64_t now_ns)
    void tp_feed_begin(tp_feed *f, uint64_t session, uint64_t next_seq)
    void tp_feed_roll(tp_feed *f)
    void tp_restore(tp_intake *intake, const uint8_t *p, size_t n)
    void tp_apply(tp_intake *intake, const uint8_t *p, size_t n, int again)

tp_crc32c_start(0)

HEADER, CRC_AT = TP_HEADER, TP_CRC_AT
TAKEN, DUPLICATE, CONTROL, MALFORMED, UNKNOWN_FEED, WRONG_SCHEMA, NEW_SESSION, GAP, DEFINITIONS, UNDEFINED_CODE, STAGE_FULL, TOO_LARGE = range(12)
CHECKS = ("good", "short", "not a frame", "bad crc", "broken chain")


def crc32c(const uint8_t[::1] data, uint32_t crc=0):
    return tp_crc32c(crc, &data[0], data.shape[0]) if data.shape[0] else crc


def crc_by_table(bint on):
    """Tests only: use the portable CRC code even where the machine has the instruction."""
    tp_crc32c_start(on)


def name_hash(bytes name):
    return tp_hash(0, <const uint8_t *>PyBytes_AS_STRING(name), len(name))


def check(const uint8_t[::1] data):
    """Which of CHECKS holds for the frame at the start of data."""
    cdef tp_frame h
    return tp_frame_read(&data[0], data.shape[0], &h) if data.shape[0] else 1


def scan(const uint8_t[::1] data, uint32_t crc):
    """Walk the chained frames of data: (bytes walked, frames, crc of the last, index into CHECKS of why it ended)."""
    cdef int why = 0
    cdef uint64_t frames = 0
    cdef size_t at = 0
    if data.shape[0]:
        with nogil:
            at = tp_frame_scan(&data[0], data.shape[0], &crc, &frames, &why)
    return at, frames, crc, why


def index(const uint8_t[::1] data):
    """Offset, size (with header), kind, table, feed, row, count of each whole frame of data, their checksums not
    looked at: int64 of shape (n, 7)."""
    cdef size_t at = 0, n = data.shape[0]
    cdef tp_frame h
    cdef Py_ssize_t i = 0, count = 0
    while n and tp_frame_next(&data[0], n, &at, &h):
        count += 1
    out = np.empty((count, 7), np.int64)
    cdef int64_t[:, ::1] o = out
    at = 0
    for i in range(count):
        o[i, 0] = at
        tp_frame_next(&data[0], n, &at, &h)
        o[i, 1] = <int64_t>at - o[i, 0]
        o[i, 2] = h.kind
        o[i, 3] = h.table
        o[i, 4] = h.feed
        o[i, 5] = h.row
        o[i, 6] = h.count
    return out


def payloads(const uint8_t[::1] data, uint16_t table):
    """The rows of one table in the whole frames of data, end to end, as bytes."""
    cdef size_t at = 0, n = data.shape[0], total = 0
    cdef const uint8_t *rows
    cdef tp_frame h
    while n and tp_frame_next(&data[0], n, &at, &h):
        if h.kind == TP_ROWS and h.table == table:
            total += h.size
    out = PyBytes_FromStringAndSize(NULL, total)
    cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(out)
    at = 0
    while total and (rows := tp_frame_next(&data[0], n, &at, &h)):
        if h.kind == TP_ROWS and h.table == table:
            memcpy(to, rows, h.size)
            to += h.size
    return out


def seal(const uint8_t[::1] payload, uint8_t kind, *, uint16_t table=0, uint16_t feed=0, uint32_t trading_date=0, uint64_t row=0,
         uint64_t session=0, uint64_t seq=0, uint64_t feed_row=0, uint64_t feed_sum=0, int64_t time_ns=0,
         uint32_t count=0, uint32_t schema=0, uint32_t prev_crc=0):
    """A frame with this payload, as bytes."""
    cdef tp_frame h
    cdef Py_ssize_t n = payload.shape[0]
    if n >> 32:
        raise ValueError(f"{n} bytes are too many for a frame")
    h.magic, h.table, h.size, h.prev_crc, h.kind, h.version = TP_MAGIC, table, n, prev_crc, kind, TP_VERSION
    h.feed, h.trading_date, h.row, h.session, h.seq = feed, trading_date, row, session, seq
    h.feed_row, h.feed_sum, h.time_ns, h.count, h.schema = feed_row, feed_sum, time_ns, count, schema
    out = PyBytes_FromStringAndSize(NULL, TP_HEADER + n)
    cdef uint8_t *p = <uint8_t *>PyBytes_AS_STRING(out)
    if n:
        memcpy(p + TP_HEADER, &payload[0], n)
    tp_frame_seal(p, &h)
    return out


cdef _check_rows(Py_ssize_t n, uint32_t row_size):
    if row_size < TP_KEY_SIZE or n % row_size:
        raise ValueError(f"{n} bytes are not whole rows of {row_size} bytes")


def row_sum(const uint8_t[::1] rows, uint32_t row_size, const uint64_t[::1] names):
    """Sum of the row hashes of packed rows; names[code] is the hash of the instrument's name."""
    _check_rows(rows.shape[0], row_size)
    cdef uint64_t total = 0
    if rows.shape[0]:
        with nogil:
            total = tp_row_sum(&rows[0], rows.shape[0] // row_size, row_size, &names[0], names.shape[0])
    return total


def row_sums(const uint8_t[::1] rows, uint32_t row_size, const uint64_t[::1] names, uint64_t[::1] counts, uint64_t[::1] sums,
             uint64_t first=0, const int64_t[::1] numbers=None):
    """Add counts and sums per feed of packed rows to the arrays; returns the ordered sum of these rows."""
    _check_rows(rows.shape[0], row_size)
    cdef uint64_t n = rows.shape[0] // row_size, ordered = 0
    if numbers is not None and numbers.shape[0] != n:
        raise ValueError(f"{numbers.shape[0]} row numbers for {n} rows")
    if counts.shape[0] != sums.shape[0]:
        raise ValueError("counts and sums differ in length")
    cdef const int64_t *given = &numbers[0] if numbers is not None and n else NULL
    if n:
        with nogil:
            ordered = tp_row_sums(&rows[0], n, row_size, &names[0], names.shape[0], &counts[0], &sums[0],
                                  counts.shape[0], given, first)
    return ordered


cdef _within(Py_ssize_t size, Py_ssize_t offset, uint64_t length):
    if offset < 0 or offset > size or length > <uint64_t>(size - offset):
        raise ValueError(f"bytes [{offset}, {offset} + {length}) are not within {size}")


cdef _aligned(const void *at):
    if <size_t>at % 8:
        raise ValueError(f"address {<size_t>at:#x} is not a multiple of 8")


def populate(uint8_t[::1] mapping, Py_ssize_t offset, uint64_t length):
    """Fault pages in for writing without holding the GIL (mmap.madvise holds it); False if the kernel can't."""
    cdef int MADV_POPULATE_WRITE = 23, failed
    _within(mapping.shape[0], offset, length)
    if length == 0:
        return True
    with nogil:
        failed = madvise(&mapping[offset], length, MADV_POPULATE_WRITE)
    return failed == 0


cdef class Word:
    """A 64-bit counter in shared memory, loaded with acquire and stored with release."""

    cdef const uint8_t[::1] held
    cdef atomic64 *p
    cdef bint writable

    def __init__(self, buffer, Py_ssize_t offset, bint writable=False):
        cdef uint8_t[::1] w
        if writable:
            w = buffer
            self.held = w
        else:
            self.held = buffer
        _within(self.held.shape[0], offset, 8)
        _aligned(&self.held[offset])
        self.p = <atomic64 *>&self.held[offset]
        self.writable = writable

    def load(self):
        return tp_load(self.p, memory_order_acquire)

    def store(self, uint64_t value):
        if not self.writable:
            raise TypeError("this word is mapped for reading")
        tp_store(self.p, value, memory_order_release)


cdef class Bell:
    """The wakeup (futex.h): a word that readers sleep on, and the flag that says that some may."""

    cdef Word word, sleepers

    def __init__(self, Word word, Word sleepers):
        if not sleepers.writable:
            raise TypeError("the sleepers flag must be writable")
        self.word, self.sleepers = word, sleepers

    def ring(self):
        """Wake all sleepers; no system call when nobody sleeps."""
        if not self.word.writable:
            raise TypeError("this bell is mapped for reading")
        tp_wake(<atomic32 *>self.word.p, <atomic32 *>self.sleepers.p)

    def wait_above(self, Word value, uint64_t above, int64_t timeout_ns, uint32_t spins=0):
        """The value once it is > above, or what it is after timeout_ns or 100 ms, whichever is sooner."""
        cdef uint64_t now
        cdef atomic64 *v = value.p
        cdef atomic32 *w = <atomic32 *>self.word.p
        cdef atomic32 *s = <atomic32 *>self.sleepers.p
        with nogil:
            now = tp_wait_above(v, above, w, s, timeout_ns if timeout_ns > 0 else 0, spins)
        return now


cdef class Columns:
    """Where the columns of one table lie in a mapping; gathers packed rows from them."""

    cdef tp_table t
    cdef const uint8_t[::1] held
    cdef const uint8_t[::1] held_latest
    cdef uint64_t max_rows

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
        _within(n, committed, 8)
        _within(n, prev, max_rows * 4)
        _within(n, head, n_heads * 4)
        for i in range(len(offsets)):
            _within(n, offsets[i], max_rows * self.t.columns[i].size)
        for at in (committed, prev, head, *offsets):
            _aligned(&b[<Py_ssize_t>at])
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
        _within(w.shape[0], offset, n_slots * slot_size)
        if cell_size > TP_CELL_MAX or cell_size < 16 + self.t.row_size or cell_size % 8 or cell_size >= 24 + self.t.row_size or slot_size < 8 + 2 * cell_size or slot_size % 8:
            raise ValueError("cell or slot size out of range")
        _aligned(&w[offset])
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
    _within(n, first_slot, slot_size * slots)


def latch_snapshot(const uint8_t[::1] data, Py_ssize_t first_slot, uint32_t slot_size, uint32_t cell_size, Py_ssize_t n_slots,
                   uint8_t[::1] out, uint32_t begin, uint32_t size):
    """Copy bytes [begin, begin + size) of the current cells of all written slots to out, end to end; returns how many."""
    _cells_fit(data.shape[0], first_slot, n_slots, slot_size, cell_size)
    if begin % 8 or size == 0 or <uint64_t>begin + size > cell_size or <uint64_t>out.shape[0] < size * <uint64_t>n_slots:
        raise ValueError("part of the cell, or room, out of range")
    cdef Py_ssize_t i, n = 0
    if n_slots:
        _aligned(&data[first_slot])
        with nogil:
            for i in range(n_slots):
                if i + SLOTS_AHEAD < n_slots:
                    tp_latch_fetch(&data[first_slot + (i + SLOTS_AHEAD) * slot_size], slot_size)
                if _latched(&data[first_slot + i * slot_size], cell_size, begin, size, &out[n * size]):
                    n += 1
    return n


cdef int ROWS_MADE = 16
cdef int SLOTS_AHEAD = 8


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
            _aligned(&self.held[first])
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


cdef class Intake:
    """From messages to staged journal frames, and from journaled frames to the tables (intake.h)."""

    cdef tp_intake i
    cdef list tables
    cdef readonly int reason
    """Why `take` stopped: TAKEN (all taken) or one of the names above."""

    def __init__(self, list tables, uint32_t definitions, uint32_t n_feeds, size_t stage_bytes):
        """tables: Columns; definitions: number of the table whose rows define instruments."""
        cdef Columns c
        self.tables = tables
        for c in tables:
            if not 0 < c.t.number < TP_TABLES:
                raise ValueError(f"table number {c.t.number}")
            self.i.tables[c.t.number] = &c.t
        self.i.definitions, self.i.n_feeds, self.i.room = definitions, n_feeds, stage_bytes
        self.i.frame_bytes = self.i.frame_rows = 0xffffffff
        self.i.feeds = <tp_feed **>PyMem_Calloc(max(1, n_feeds), sizeof(void *))
        self.i.stage = <uint8_t *>PyMem_Malloc(stage_bytes)
        if not self.i.feeds or not self.i.stage:
            raise MemoryError

    def __dealloc__(self):
        cdef uint32_t n
        if self.i.feeds:
            for n in range(self.i.n_feeds):
                if self.i.feeds[n]:
                    PyMem_Free(self.i.feeds[n].codes)
                    PyMem_Free(self.i.feeds[n])
        PyMem_Free(self.i.feeds)
        PyMem_Free(self.i.stage)

    cdef tp_feed *feed(self, uint32_t number) except NULL:
        if number >= self.i.n_feeds or not self.i.feeds[number]:
            raise KeyError(f"no feed number {number}")
        return self.i.feeds[number]

    def add_feed(self, uint32_t number):
        """Know a feed; code 0 stands for no instrument from the start."""
        if number >= self.i.n_feeds:
            raise KeyError(f"feed number {number} is not below {self.i.n_feeds}")
        if self.i.feeds[number]:
            raise ValueError(f"feed number {number} is known already")
        cdef tp_feed *f = <tp_feed *>PyMem_Calloc(1, sizeof(tp_feed))
        if not f:
            raise MemoryError
        self.i.feeds[number] = f
        self.define(number, 0, 0)

    def define(self, uint32_t number, uint32_t code, uint32_t instrument):
        """From now on the feed's code means this instrument."""
        cdef tp_feed *f = self.feed(number)
        cdef uint64_t room = f.n_codes
        cdef uint32_t *grown
        if code >= 1 << 31:
            raise ValueError(f"instrument code {code} is too large")
        if code >= room:
            room = max(<uint64_t>code + 1, 2 * room)
            grown = <uint32_t *>PyMem_Realloc(f.codes, <size_t>room * 4)
            if not grown:
                raise MemoryError
            for n in range(f.n_codes, room):
                grown[n] = TP_UNDEFINED
            f.codes, f.n_codes = grown, room
        f.codes[code] = instrument

    def limit(self, uint32_t frame_bytes, uint32_t frame_rows):
        """Take no message with more payload, or more rows, than this."""
        self.i.frame_bytes, self.i.frame_rows = frame_bytes, frame_rows

    def code(self, uint32_t number, uint32_t code):
        """The instrument that a feed's code means, or 2^32 - 1 if it was never defined."""
        cdef tp_feed *f = self.feed(number)
        return f.codes[code] if code < f.n_codes else TP_UNDEFINED

    def begin(self, uint32_t number, uint64_t session, uint64_t next_seq):
        """The feed goes on in another session; its codes have to be defined anew."""
        tp_feed_begin(self.feed(number), session, next_seq)

    def skip(self, uint32_t number, uint64_t next_seq):
        """Give up the rows of the session below next_seq."""
        self.feed(number).next_seq = next_seq

    def session(self, uint32_t number):
        """(session, next seq) of a feed; (0, 0) before its first."""
        cdef tp_feed *f = self.feed(number)
        return f.session, f.next_seq

    def codes(self, uint32_t number):
        """The feed's code table as packed u32."""
        cdef tp_feed *f = self.feed(number)
        return (<uint8_t *>f.codes)[:f.n_codes * 4]

    def claims(self, uint32_t number):
        """{table number: (rows, sum)} that the feed says it published in this trading date."""
        cdef tp_feed *f = self.feed(number)
        out = {}
        for n in range(TP_TABLES):
            c = f.claims[n]
            rows = c.done_rows + c.rows - c.base_rows
            if rows or c.rows:
                out[n] = (rows, <uint64_t>(c.done_sum + c.sum - c.base_sum))
        return out

    def counters(self, uint32_t number):
        """{table number: (rows, sum)} of the feed's session as a whole; with `carry` the state for the next date."""
        cdef tp_feed *f = self.feed(number)
        return {n: (f.claims[n].rows, f.claims[n].sum) for n in range(TP_TABLES) if f.claims[n].rows}

    def accounts(self, uint32_t number):
        """{table number: all that its claims are reckoned from}; with `resume` the state for the same date."""
        cdef tp_feed *f = self.feed(number)
        out = {}
        for n in range(TP_TABLES):
            c = f.claims[n]
            account = (c.rows, c.sum, c.base_rows, c.base_sum, c.done_rows, c.done_sum)
            if any(account):
                out[n] = account
        return out

    def resume(self, uint32_t number, uint64_t session, uint64_t next_seq, const uint8_t[::1] codes, dict accounts):
        """Put a feed where it was in the course of the trading date: what `session`, `codes`, `accounts` told."""
        cdef tp_feed *f = self.feed(number)
        cdef tp_claim *c
        cdef uint32_t n_codes = codes.shape[0] // 4
        if n_codes:
            self.define(number, n_codes - 1, 0)
        tp_feed_begin(f, session, next_seq)
        if n_codes:
            memcpy(f.codes, &codes[0], <size_t>n_codes * 4)
        memset(f.claims, 0, sizeof(f.claims))
        for table, account in accounts.items():
            if not 0 < table < TP_TABLES:
                raise ValueError(f"table number {table}")
            c = &f.claims[<int>table]
            c.rows, c.sum, c.base_rows, c.base_sum, c.done_rows, c.done_sum = account

    def carry(self, uint32_t number, uint64_t session, uint64_t next_seq, dict counters):
        """Put a feed where it was when the trading date began."""
        cdef tp_feed *f = self.feed(number)
        tp_feed_begin(f, session, next_seq)
        for table, (rows, total) in counters.items():
            if not 0 < table < TP_TABLES:
                raise ValueError(f"table number {table}")
            f.claims[table].rows, f.claims[table].sum = rows, total
        tp_feed_roll(f)

    def roll(self, uint32_t trading_date):
        """A new trading date: rows count from 0, claims from here."""
        cdef Columns c
        self.i.trading_date = trading_date
        for c in self.tables:
            c.t.taken = c.t.rows = c.t.room = 0
        for n in range(self.i.n_feeds):
            if self.i.feeds[n]:
                tp_feed_roll(self.i.feeds[n])

    def take(self, list messages, Py_ssize_t start, int64_t now_ns, bint defined=False):
        """Take messages (bytes) from `start` on; returns the index of the first not taken, `reason` says why."""
        cdef Py_ssize_t at = start, n = len(messages)
        cdef bytes message
        cdef int verdict = 0
        if start < 0:
            raise ValueError(f"start at {start}")
        while at < n:
            message = messages[at]
            verdict = tp_take(&self.i, <const uint8_t *>PyBytes_AS_STRING(message), len(message), now_ns, defined)
            if verdict > DUPLICATE_:
                break
            at += 1
        self.reason = verdict if at < n else 0
        return at

    def take_written(self, uint16_t feed, const uint8_t[::1] frames, size_t start, int64_t now_ns):
        """Take frames of rows and heartbeats as this feed wrote them end to end, from offset `start` on; returns the
        offset of the first not taken, `reason` says why: TAKEN if it is not a whole one."""
        cdef size_t at = start
        self.reason = 0
        if at < <size_t>frames.shape[0]:
            with nogil:
                self.reason = tp_take_written(&self.i, feed, &frames[0], frames.shape[0], &at, now_ns)
        return at

    def staged(self):
        """The staged frames, valid until `clear`."""
        return PyMemoryView_FromMemory(<char *>self.i.stage, self.i.used, PyBUF_READ)

    @property
    def wants_room(self):
        """Has a table taken more rows than it has memory for?"""
        cdef Columns c
        for c in self.tables:
            if c.t.taken > c.t.room:
                return True
        return False

    def clear(self):
        self.i.used = 0

    def restore(self, const uint8_t[::1] frames):
        """Recovery: bring feeds and row numbers to where these journaled frames leave them."""
        if frames.shape[0]:
            tp_restore(&self.i, &frames[0], frames.shape[0])

    def apply(self, const uint8_t[::1] frames, bint again=False):
        """Write journaled frames into the attached tables and make them visible.

        `again`: frames that were applied before, without room for all of their rows; rows that are there stay.
        """
        if frames.shape[0]:
            with nogil:
                tp_apply(&self.i, &frames[0], frames.shape[0], again)

    def apply_staged(self):
        """`apply` what is staged."""
        if self.i.used:
            tp_apply(&self.i, self.i.stage, self.i.used, 0)

    @property
    def last_crc(self): return self.i.last_crc
    @last_crc.setter
    def last_crc(self, uint32_t value): self.i.last_crc = value

    @property
    def frames(self): return self.i.frames

    @property
    def rows(self): return self.i.rows

    @property
    def duplicates(self): return self.i.duplicates

    @property
    def refused(self): return self.i.refused


cdef int DUPLICATE_ = 1
MESSAGE, BELL = 1, 2


cdef class Drain:
    """Messages of a ZeroMQ socket into an intake (drain.h). For one thread, as the socket is."""

    cdef tp_drain d
    cdef Intake intake

    def __init__(self, Intake intake, str library, uintptr_t socket):
        """`library`: path of the libzmq that is loaded; `socket`: the address of its socket (Socket.underlying).

        Raises OSError if that library is not loaded, or is not libzmq.
        """
        self.intake = intake
        if tp_drain_open(&self.d, library.encode(), <void *>socket):
            raise OSError(f"{library} is not a libzmq that is loaded")

    def __dealloc__(self):
        tp_drain_drop(&self.d)

    def wait(self, uint64_t messages, uint64_t size, int bell, long timeout_ms):
        """Wait for a message of the socket, or for something to read at descriptor `bell`: MESSAGE, BELL, both or 0.

        `pour` then takes so many messages and bytes at most.
        """
        cdef int there
        with nogil:
            there = tp_drain_wait(&self.d, messages, size, bell, timeout_ms)
        if there < 0:
            raise OSError(self.d.failure, "the socket can't be received from")
        return there

    def pour(self, int64_t now_ns):
        """Take what is there; why a message is not taken, or TAKEN if all are. It is held until `message` gives it, or
        it is tried again."""
        cdef int verdict
        with nogil:
            verdict = tp_drain_pour(&self.d, &self.intake.i, now_ns)
        if verdict == TP_FAILED:
            raise OSError(self.d.failure, "the socket can't be received from")
        return verdict

    def message(self):
        """The message that was not taken; it counts as received."""
        if not self.d.held:
            raise ValueError("no message is held")
        cdef size_t n = self.d.size(self.d.message)
        out = PyBytes_FromStringAndSize(<char *>self.d.data(self.d.message), n)
        self.d.messages_left -= min(1, self.d.messages_left)
        self.d.bytes_left -= min(n, self.d.bytes_left)
        tp_drain_drop(&self.d)
        return out

    def close(self):
        """Let go what is held; before the socket is closed."""
        tp_drain_drop(&self.d)
