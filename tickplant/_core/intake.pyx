# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""From messages to staged journal frames, and from journaled frames to the tables (intake.h)."""

from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from tickplant._core.columns cimport Columns
from tickplant._core.frame cimport tp_crc32c_start

cdef extern from "Python.h":
    object PyMemoryView_FromMemory(char *at, Py_ssize_t size, int flags)

tp_crc32c_start(0)

TAKEN, DUPLICATE, CONTROL, MALFORMED = TP_TAKEN, TP_DUPLICATE, TP_CONTROL, TP_MALFORMED
UNKNOWN_FEED, WRONG_SCHEMA, NEW_SESSION, GAP = TP_UNKNOWN_FEED, TP_WRONG_SCHEMA, TP_NEW_SESSION, TP_GAP
DEFINITIONS, UNDEFINED_CODE, STAGE_FULL, TOO_LARGE = TP_DEFINITIONS, TP_UNDEFINED_CODE, TP_STAGE_FULL, TP_TOO_LARGE


cdef class Intake:
    """The feeds and tables of a plant. `reason` is why `take` stopped: TAKEN (all taken) or one of the names above."""

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
            if verdict > TP_DUPLICATE:
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
