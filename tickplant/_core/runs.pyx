# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Frames of a journal as messages and answers, and these as rows again (runs.h): nothing of Python per frame."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from tickplant._core.drain cimport TP_FAILED, tp_drain, tp_drain_drop, tp_drain_open
from tickplant._core.frame cimport TP_HEADER, TP_ROWS, tp_crc32c_start, tp_frame, tp_frame_next
from tickplant._core.intake cimport TP_TABLES
from tickplant._core.rowsum cimport TP_KEY_SIZE

cdef extern from "runs.h" nogil:
    ctypedef struct tp_run:
        uint32_t table, schema, trading_date, row_size
        uint64_t next
        uint8_t *rows
        size_t used, room, before
        uint32_t highest
    int tp_run_reserve(tp_run *r, size_t more)
    size_t tp_run_take(tp_run *r, const uint8_t *p, size_t n)
    int tp_tap_pour(tp_drain *d, tp_run **runs, size_t *taken)
    size_t tp_frame_walk(const uint8_t *p, size_t n, int *why)

tp_crc32c_start(0)

cdef enum:
    TABLES = 256
    SEAL = 5
assert TABLES == <int>TP_TABLES


cdef class _Rows:
    """Memory that was taken over from a run; read-only."""

    cdef uint8_t *p
    cdef Py_ssize_t n

    def __getbuffer__(self, Py_buffer *view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("rows that were received are read-only")
        PyBuffer_FillInfo(view, self, self.p, self.n, 1, flags)

    def __dealloc__(self):
        free(self.p)


cdef class Run:
    """Rows of one table that follow one another, as they are taken out of frames. `next` is the row that follows on."""

    cdef tp_run r

    def __init__(self, uint32_t number, uint32_t row_size, uint32_t schema):
        """number, row size and fingerprint of the table."""
        if number >= TABLES or row_size < TP_KEY_SIZE:
            raise ValueError(f"a table {number} with rows of {row_size} bytes can't be")
        self.r.table, self.r.row_size, self.r.schema = number, row_size, schema

    def __dealloc__(self):
        free(self.r.rows)

    def aim(self, uint32_t trading_date, uint64_t following):
        """Of this date take what follows on at row `following`; of date 0 there is nothing. Forgets what was taken."""
        self.r.trading_date, self.r.next = trading_date, following
        self.r.used = self.r.highest = 0

    @property
    def next(self): return self.r.next

    def take(self, const uint8_t[::1] frames):
        """Take the frames at the beginning that are valid and follow on; their bytes."""
        cdef size_t n = frames.shape[0], taken = 0
        cdef int failed
        if n:
            with nogil:
                failed = tp_run_reserve(&self.r, n)
                if not failed:
                    taken = tp_run_take(&self.r, &frames[0], n)
            if failed:
                raise MemoryError
        return taken

    def rows(self):
        """What was taken, packed, as (buffer, highest instrument), which is then no longer here; None if nothing was."""
        cdef tp_run *r = &self.r
        cdef uint8_t *fitting
        if not r.used:
            return None
        cdef _Rows out = _Rows.__new__(_Rows)
        if r.room - r.used > r.used // 8:
            fitting = <uint8_t *>realloc(r.rows, r.used)
            if fitting:
                r.rows = fitting
        out.p, out.n = r.rows, r.used
        r.before, r.rows, r.used, r.room = r.used, NULL, 0, 0
        return memoryview(out), r.highest


cdef class Tap:
    """Live messages of a ZeroMQ socket into runs. For one thread, as the socket is."""

    cdef tp_drain d
    cdef tp_run *runs[TABLES]
    cdef list held
    cdef size_t taken

    def __init__(self, list runs, str library, uintptr_t socket):
        """`library`: path of the libzmq that is loaded; `socket`: the address of its socket (Socket.underlying).

        Raises OSError if that library is not loaded, or is not libzmq.
        """
        cdef Run run
        self.held = runs
        for run in runs:
            self.runs[run.r.table] = &run.r
        if tp_drain_open(&self.d, library.encode(), <void *>socket):
            raise OSError(f"{library} is not a libzmq that is loaded")

    def __dealloc__(self):
        tp_drain_drop(&self.d)

    def begin(self, uint64_t messages, uint64_t size):
        """What follows takes so many messages and bytes at most."""
        self.d.messages_left, self.d.bytes_left = messages, size

    @property
    def left(self):
        """How many messages may still be taken."""
        return self.d.messages_left

    def pour(self):
        """Take what is there and follows on. Returns a message that needs a decision, without the frames of it that were
        taken; None if there is none, or the budget is spent. Raises OSError."""
        cdef int verdict
        tp_drain_drop(&self.d)
        with nogil:
            verdict = tp_tap_pour(&self.d, self.runs, &self.taken)
        if verdict == TP_FAILED:
            raise OSError(self.d.failure, "the socket can't be received from")
        if not verdict:
            return None
        cdef char *p = <char *>self.d.data(self.d.message)
        out = PyBytes_FromStringAndSize(p + self.taken, self.d.size(self.d.message) - self.taken)
        tp_drain_drop(&self.d)
        return out

    def close(self):
        """Let go what is held; before the socket is closed."""
        tp_drain_drop(&self.d)


def walk(const uint8_t[::1] data):
    """Bytes of the whole frames at the beginning of data, and an index into framing.CHECKS of what ended them; their checksums
    are not looked at."""
    cdef int why = 0
    cdef size_t at = tp_frame_walk(&data[0], data.shape[0], &why) if data.shape[0] else 0
    return at, why


cdef struct Part:
    size_t begin, end, size


cdef _part(object data, const uint8_t *p, Part *part, uint32_t table, int64_t row, size_t most):
    """Those frames of a part of data that are of this table, `most` bytes long at most, and end behind this row."""
    if part.end - part.begin == part.size:
        return memoryview(data)[part.begin : part.end]
    out = PyBytes_FromStringAndSize(NULL, part.size)
    cdef char *to = PyBytes_AS_STRING(out)
    cdef size_t at = part.begin, start = at
    cdef tp_frame h
    while tp_frame_next(p, part.end, &at, &h):
        if h.kind == TP_ROWS and h.table == table and <int64_t>(h.row + h.count) > row and at - start <= most:
            memcpy(to, p + start, at - start)
            to += at - start
        start = at
    return out


def bundles(const uint8_t[::1] data, size_t most):
    """Frames of rows as messages of one table each, `most` bytes at most: (messages, frames in them, frames that are
    longer)."""
    cdef Part open_[TABLES]
    cdef Part *b
    cdef const uint8_t *p = &data[0] if data.shape[0] else NULL
    cdef size_t at = 0, start = 0, n = data.shape[0]
    cdef uint64_t sent = 0, left = 0
    cdef tp_frame h
    cdef uint32_t table
    memset(open_, 0, sizeof(open_))
    out = []
    while n and tp_frame_next(p, n, &at, &h):
        if h.kind == TP_ROWS and h.table < TABLES and at - start <= most:
            b = &open_[h.table]
            if b.size + (at - start) > most:
                out.append(_part(data.base, p, b, h.table, -1, most))
                b.size = 0
            if not b.size:
                b.begin = start
            b.end = at
            b.size += at - start
            sent += 1
        elif h.kind == TP_ROWS:
            left += 1
        start = at
    for table in range(TABLES):
        if open_[table].size:
            out.append(_part(data.base, p, &open_[table], table, -1, most))
    return out, sent, left


def pick(const uint8_t[::1] data, uint32_t table, int64_t row, size_t limit, bint one):
    """Frames of a table that hold rows from `row` on, end to end, `limit` bytes at most (`one`: but one at least): (frames,
    the row that follows them, the offset of the first that did not fit, or -1)."""
    cdef Part part
    cdef const uint8_t *p = &data[0] if data.shape[0] else NULL
    cdef size_t at = 0, start = 0, n = data.shape[0]
    cdef uint64_t following = row
    cdef int64_t over = -1
    cdef tp_frame h
    part.begin = part.end = part.size = 0
    while n and tp_frame_next(p, n, &at, &h):
        if h.kind == TP_ROWS and h.table == table and <int64_t>(h.row + h.count) > row:
            if part.size + (at - start) > limit and (part.size or not one):
                over = start
                break
            if not part.size:
                part.begin = start
            part.end = at
            part.size += at - start
            following = h.row + h.count
        start = at
    return _part(data.base, p, &part, table, row, n), following, over


cdef class Places:
    """What an index of a journal notes of it: where rows are, at least `step` bytes apart for each table."""

    cdef int64_t last[TABLES]
    cdef int64_t step

    def __init__(self, int64_t step):
        cdef int table
        self.step = step
        for table in range(TABLES):
            self.last[table] = -step

    def note(self, const uint8_t[::1] data, int64_t begin):
        """Of the frames of data, which begin at this position: ([(table, row, position)] to note, [(table, rows so far)],
        [(offset, size) of seals])."""
        cdef uint64_t ends[TABLES]
        cdef size_t at = 0, start = 0, n = data.shape[0]
        cdef tp_frame h
        cdef int table
        memset(ends, 0, sizeof(ends))
        noted, seals = [], []
        while n and tp_frame_next(&data[0], n, &at, &h):
            if h.kind == TP_ROWS and h.table < TABLES:
                if begin + <int64_t>start - self.last[h.table] >= self.step:
                    self.last[h.table] = begin + start
                    noted.append((h.table, h.row, begin + start))
                ends[h.table] = h.row + h.count
            elif h.kind == SEAL:
                seals.append((start, at - start))
            start = at
        return noted, [(table, ends[table]) for table in range(TABLES) if ends[table]], seals
