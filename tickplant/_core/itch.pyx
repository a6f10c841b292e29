"""Nasdaq TotalView-ITCH 5.0 to rows: the Python face of itch.h, which holds the format and the algorithm."""

import secrets

import numpy as np

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free

cdef extern from "itch.h" nogil:
    cdef enum:
        T_COUNT
    cdef struct rows:
        pass
    cdef struct row_set:
        rows tables[7]
        int failed
    cdef struct itch_spec:
        uint8_t length
    cdef struct itch:
        int64_t ts_event
        uint64_t offset
        int64_t seq
        uint64_t malformed
        uint64_t counts[256]
        int damaged
        row_set rows
    const itch_spec SPECS[256]
    const size_t ROW_SIZES[7]
    int itch_open(itch *d, int64_t midnight, int books, uint64_t salt, uint64_t factor)
    void itch_close(itch *d)
    size_t itch_decode(itch *d, const uint8_t *data, size_t n, int64_t ts_recv, int final)
    uint8_t *rows_steal(rows *r, size_t *size)

_KEY = "ts_event=i8 ts_recv=i8 ts_plant=i8 instrument=u4 feed=u2 flags=u2 "
_TABLES = {
    "instrument": "code=u4 venue=S16 symbol=S48 kind=S8 currency=S8 base=S16 tick_size=f8 lot_size=f8"
    " multiplier=f8 attributes=S32",
    "event": "kind=S16 about=u2 session=i8 first=i8 last=i8 text=S96",
    "status": "venue_seq=i8 kind=S12 value=S12 reason=S12 level_1=f8 level_2=f8 level_3=f8",
    "order": "venue_seq=i8 order_id=i8 ref_id=i8 price=f8 size=f8 side=S1 action=S1 attribution=S4",
    "trade": "venue_seq=i8 trade_id=i8 price=f8 size=f8 side=S1 action=S1 condition=S6",
    "quote": "venue_seq=i8 bid_price=f8 bid_size=f8 ask_price=f8 ask_size=f8",
    "imbalance": "venue_seq=i8 reference_price=f8 near_price=f8 far_price=f8 paired_size=f8"
    " imbalance_size=f8 side=S1 cross_type=S1 variation=S1",
}


def _dtype(columns: str) -> np.dtype:
    return np.dtype([tuple(c.split("=")) for c in (_KEY + columns).split()]).newbyteorder("<")


DTYPES = {name: _dtype(columns) for name, columns in _TABLES.items()}
MESSAGE_LENGTHS = {chr(t): SPECS[t].length for t in range(256) if SPECS[t].length}

if [dtype.itemsize for dtype in DTYPES.values()] != [ROW_SIZES[t] for t in range(T_COUNT)]:
    raise ImportError("the row layouts of rows.h and of itch.pyx differ")


def blocks_end(data, Py_ssize_t start, Py_ssize_t count):
    cdef const uint8_t[::1] view = data
    cdef Py_ssize_t at = start, size = view.shape[0], length
    if start < 0:
        return -1
    while count > 0:
        if size - at < 2:
            return -1
        length = view[at] << 8 | view[at + 1]
        if length == 0 or size - at - 2 < length:
            return -1
        at += 2 + length
        count -= 1
    return at


cdef class _Memory:
    """Bytes from malloc, as a writable buffer that frees them with its last user."""

    cdef uint8_t *bytes
    cdef size_t size

    def __dealloc__(self):
        free(self.bytes)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.bytes, <Py_ssize_t>self.size, 0, flags)


cdef class ItchDecoder:
    """Decodes one day of a venue, piece by piece; see itch.pyi."""

    cdef itch state
    cdef bint busy
    cdef bint finished

    def __cinit__(self, midnight_ns, *, books=True):
        if not -(1 << 62) < midnight_ns < 1 << 62:
            raise ValueError(f"midnight_ns is {midnight_ns}; must be ns since 1970, below 2^62")
        if itch_open(&self.state, midnight_ns, bool(books), secrets.randbits(64), secrets.randbits(64)):
            raise MemoryError

    def __dealloc__(self):
        itch_close(&self.state)

    def decode(self, data, ts_recv=0, final=False):
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef size_t size = view.shape[0], used
        cdef int64_t received = ts_recv
        cdef int last = bool(final)
        cdef const uint8_t *start = &view[0] if size else NULL
        if self.busy:
            raise RuntimeError("the decoder is at work in another thread")
        if self.finished:
            raise ValueError("the decoder was told that the capture had ended")
        if self.state.rows.failed:
            raise MemoryError
        self.busy = True
        with nogil:
            used = itch_decode(&self.state, start, size, received, last)
        self.busy = False
        self.finished = last
        if self.state.rows.failed:
            raise MemoryError
        return used

    def seek(self, seq):
        if self.busy:
            raise RuntimeError("the decoder is at work in another thread")
        self.state.seq = seq - 1

    def take(self):
        cdef _Memory memory
        cdef int t
        if self.busy:
            raise RuntimeError("the decoder is at work in another thread")
        taken = []
        for t, (name, dtype) in enumerate(DTYPES.items()):
            memory = _Memory()
            memory.bytes = rows_steal(&self.state.rows.tables[t], &memory.size)
            if memory.bytes:
                taken.append((name, np.frombuffer(memory, dtype)))
        return taken

    def counts(self):
        cdef int t
        return {chr(t): self.state.counts[t] for t in range(256) if self.state.counts[t]}

    @property
    def malformed(self):
        return self.state.malformed

    @property
    def messages(self):
        return self.state.seq

    @property
    def ts_event(self):
        return self.state.ts_event

    @property
    def offset(self):
        return self.state.offset

    @property
    def damaged(self):
        return bool(self.state.damaged)
