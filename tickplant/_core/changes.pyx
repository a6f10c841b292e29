# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Levels out of the text of messages, as they are given: new sizes at prices."""

cimport cython

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memset

from tickplant._core.decimal cimport DECIMALS_UNKNOWN, decimal, number_read
from tickplant._core.levels cimport ASK_HALF, BID_HALF, level, levels_sound

from tickplant._core.texts import to_float

cdef extern from "scan.h" nogil:
    const char *text_end(const char *p, const char *end)

BID, ASK = 0, 1


cdef inline bint _is(const char *p, Py_ssize_t n, bytes text) noexcept:
    return n == PyBytes_GET_SIZE(text) and memcmp(p, PyBytes_AS_STRING(text), n) == 0


@cython.final
@cython.freelist(4)
cdef class _Scanner:
    """Walks over JSON text that has been found to be sound by the parser it came from, or says where it is not."""

    cdef Py_buffer held
    cdef const char *p
    cdef const char *end

    def __cinit__(self, raw):
        PyObject_GetBuffer(raw, &self.held, PyBUF_SIMPLE)
        self.p = <const char *>self.held.buf
        self.end = self.p + self.held.len

    def __dealloc__(self):
        PyBuffer_Release(&self.held)

    cdef char peek(self) noexcept:
        cdef const char *p = self.p
        while p < self.end and p[0] in b" \t\r\n":
            p += 1
        self.p = p
        return p[0] if p < self.end else 0

    cdef int expect(self, char c) except -1:
        if self.peek() != c:
            raise ValueError(f"not a list of levels: {chr(c)!r} expected, not {chr(<uint8_t>self.peek())!r}")
        self.p += 1
        return 0

    cdef bint follows(self, char closing) except -1:
        """After an element: is there another one? Steps over the comma, or over what closes."""
        cdef char c = self.peek()
        self.p += 1
        if c != b"," and c != closing:
            raise ValueError(f"not a list of levels: ',' or {chr(closing)!r} expected")
        return c == b","

    cdef int finish(self) except -1:
        """There is nothing more."""
        if self.peek() or self.p < self.end:
            raise ValueError("not a list of levels: something follows it")
        return 0

    cdef int number(self, decimal *d) except -1:
        """A number, quoted or not."""
        cdef bint quoted = self.peek() == b'"'
        self.p += quoted
        number_read(self.p, self.end, d)
        self.p = d.end
        if quoted:
            if self.p >= self.end or self.p[0] != b'"':
                raise ValueError("not a number in quotes")
            self.p += 1
        return 0

    cdef int skip(self) except -1:
        """A value that is not asked for; not a list or an object."""
        cdef char c = self.peek()
        cdef const char *p = self.p  # and not self.p, which each step would have to write
        cdef const char *end = self.end
        if c == b'"':
            p = text_end(p + 1, end)
            if p == NULL:
                raise ValueError("a text without an end")
            self.p = p + 1
            return 0
        if c in b"[{" or c == 0:
            raise ValueError("not a list of levels: something nested in a level")
        while p < end and p[0] not in b",]} \t\r\n":
            p += 1
        self.p = p
        return 0


@cython.final
cdef class Changes:
    """Levels as a message gives them: new sizes at prices, 0 for none."""

    def __dealloc__(self):
        free(self.all)

    def __len__(self):
        return self.count

    cdef level *next(self) except NULL:
        cdef size_t wider
        cdef level *grown
        if self.count == self.room:
            wider = 2 * self.room if self.room else 64
            grown = <level *>realloc(self.all, wider * sizeof(level))
            if grown == NULL:
                raise MemoryError
            self.all, self.room = grown, wider
        memset(&self.all[self.count], 0, sizeof(level))
        return &self.all[self.count]

    cdef int take(self, const level *l) except -1:
        if not levels_sound(l):
            raise ValueError(f"a level of {l.size!r} at {l.price!r}")
        self.count += 1
        return 0

    def clear(self):
        """Forget them; the changes, for a chain of calls."""
        self.count = 0
        return self

    def copy(self):
        """The same levels in an object of their own."""
        cdef Changes made = Changes()
        cdef size_t i
        for i in range(self.count):
            made.next()[0] = self.all[i]
            made.count += 1
        return made

    def add(self, int half, price, size, int32_t orders=0):
        """One level; price and size as text (str or bytes) or numbers. ValueError if they can't be one."""
        cdef level *l = self.next()
        l.half, l.orders = half != 0, orders
        if isinstance(price, (str, bytes)):
            l.price, l.price_decimals = to_float(price if isinstance(price, bytes) else price.encode())
        else:
            l.price, l.price_decimals = price, DECIMALS_UNKNOWN
        if isinstance(size, (str, bytes)):
            l.size, l.size_decimals = to_float(size if isinstance(size, bytes) else size.encode())
        else:
            l.size, l.size_decimals = size, DECIMALS_UNKNOWN
        self.take(l)

    def halves(self, bids, asks, int price_at=0, int size_at=1, int orders_at=-1):
        """These levels only: `clear` and then `arrays` of both halves, in one call."""
        self.count = 0
        self._arrays(bids, BID_HALF, price_at, size_at, orders_at)
        self._arrays(asks, ASK_HALF, price_at, size_at, orders_at)
        return self

    def arrays(self, raw, int half, int price_at=0, int size_at=1, int orders_at=-1):
        """The levels in JSON text of the form [[price, size, ...], ...], numbers quoted or not.

        ValueError if it is not of this form, or has a level that can't be.
        """
        self._arrays(raw, half, price_at, size_at, orders_at)
        return self

    cdef int _arrays(self, raw, int half, int price_at, int size_at, int orders_at) except -1:
        cdef _Scanner s = _Scanner(raw)
        cdef level *l
        cdef decimal d
        cdef int at, had
        s.expect(b"[")
        if s.peek() == b"]":
            s.p += 1
            s.finish()
            return 0
        while True:
            s.expect(b"[")
            l = self.next()
            l.half, at, had = half != 0, 0, 0
            while True:
                if at == price_at:
                    s.number(&d)
                    l.price, l.price_decimals, had = d.value, d.decimals, had | 1
                elif at == size_at:
                    s.number(&d)
                    l.size, l.size_decimals, had = d.value, d.decimals, had | 2
                elif at == orders_at:
                    s.number(&d)
                    l.orders = <int32_t>d.value if 0 <= d.value < 1 << 31 else 0
                else:
                    s.skip()
                at += 1
                if not s.follows(b"]"):
                    break
            if had != 3:
                raise ValueError("a level without price or size")
            self.take(l)
            if not s.follows(b"]"):
                s.finish()
                return 0

    def objects(self, raw, int half, bytes price not None, bytes size not None):
        """The levels in JSON text of the form [{"price": ..., "size": ...}, ...], with these keys.

        ValueError if it is not of this form, or has a level that can't be.
        """
        self._objects(raw, half, b"", b"", b"", price, size)
        return self

    def sided(
        self, raw, bytes side not None, bytes bid not None, bytes ask not None, bytes price not None,
        bytes size not None
    ):
        """As `objects`, where each level tells its half: the text at the key `side` is `bid` or `ask`."""
        self._objects(raw, -1, side, bid, ask, price, size)
        return self

    cdef int _objects(self, raw, int half, bytes side, bytes bid, bytes ask, bytes price, bytes size) except -1:
        """`half` -1: as the text at `side` tells."""
        cdef _Scanner s = _Scanner(raw)
        cdef level *l
        cdef decimal d
        cdef int had, is_half
        cdef const char *key
        cdef Py_ssize_t n
        s.expect(b"[")
        if s.peek() == b"]":
            s.p += 1
            s.finish()
            return 0
        while True:
            s.expect(b"{")
            l = self.next()
            had, is_half = 0, half
            while True:
                if s.peek() != b'"':
                    raise ValueError("not a list of levels: a key expected")
                key = s.p + 1
                s.skip()
                n = s.p - 1 - key
                s.expect(b":")
                if _is(key, n, price):
                    s.number(&d)
                    l.price, l.price_decimals, had = d.value, d.decimals, had | 1
                elif _is(key, n, size):
                    s.number(&d)
                    l.size, l.size_decimals, had = d.value, d.decimals, had | 2
                elif half < 0 and _is(key, n, side):
                    s.peek()
                    key = s.p + 1
                    s.skip()
                    n = s.p - 1 - key
                    is_half = BID_HALF if _is(key, n, bid) else ASK_HALF if _is(key, n, ask) else -1
                else:
                    s.skip()
                if not s.follows(b"}"):
                    break
            if had != 3 or is_half < 0:
                raise ValueError("a level without price, size or side")
            l.half = is_half != 0
            self.take(l)
            if not s.follows(b"]"):
                s.finish()
                return 0
