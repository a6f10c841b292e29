# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Books of price levels: the Python face of levels.h and decimal.h, which hold format and algorithm."""

cimport cython
import numpy as np

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport NAN
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

cdef extern from "Python.h":
    double PyOS_string_to_double(const char *s, char **end, object overflow) except? -1.0
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef extern from "isotime.h" nogil:
    int64_t iso_read(const char *p, size_t n)

cdef extern from "levels.h" nogil:
    enum: BID_HALF, ASK_HALF
    cdef struct level:
        double price, size
        int32_t orders
        uint8_t price_decimals, size_decimals, half, unused
    cdef struct half:
        level *levels
        size_t count, room
    cdef struct levels:
        half halves[2]
        double quoted[4]
        size_t most
    cdef struct level_stamp:
        int64_t ts_event, ts_recv, venue_seq
        uint32_t instrument
        uint16_t flags
    cdef struct rows:
        uint8_t *bytes
        uint8_t *next
        uint8_t *end
    void levels_open(levels *b, size_t most)
    void levels_close(levels *b)
    int levels_sound(const level *l)
    int levels_reset(levels *b, rows *depth, const level_stamp *s)
    int levels_change(levels *b, rows *depth, const level_stamp *s, const level *l)
    int64_t levels_load(levels *b, rows *depth, const level_stamp *s, level *all, size_t n)
    int levels_crossed(const levels *b)
    int levels_trim(levels *b, rows *depth, const level_stamp *s)
    int level_digits(char *text, const level *l, unsigned price_decimals, unsigned size_decimals)
    int number_write(char *text, double value, unsigned decimals)
    int levels_quote(levels *b, rows *quotes, const level_stamp *s)

cdef extern from "scan.h" nogil:
    const char *text_end(const char *p, const char *end)

cdef extern from "decimal.h" nogil:
    enum: DECIMAL_FAST, DECIMAL_SLOW, DECIMAL_NONE, DECIMALS_UNKNOWN
    cdef struct decimal:
        double value
        const char *end
        int is_ "is"
        uint8_t decimals
    decimal decimal_read(const char *p, const char *end)

BID, ASK = 0, 1
_KEY = "ts_event=i8 ts_recv=i8 ts_plant=i8 instrument=u4 feed=u2 flags=u2 "
_TABLES = {
    "depth": "venue_seq=i8 price=f8 size=f8 orders=i4 level=i2 side=S1 action=S1",
    "quote": "venue_seq=i8 bid_price=f8 bid_size=f8 ask_price=f8 ask_size=f8",
}
DTYPES = {
    name: np.dtype([tuple(c.split("=")) for c in (_KEY + columns).split()]).newbyteorder("<")
    for name, columns in _TABLES.items()
}


cdef int _number(const char *p, const char *end, decimal *d) except -1:
    """A number at p; ValueError if there is none."""
    d[0] = decimal_read(p, end)
    if d.is_ == DECIMAL_FAST:
        return 0
    if d.is_ == DECIMAL_SLOW:
        text = PyBytes_FromStringAndSize(p, d.end - p)
        if len(text) > 400:
            raise ValueError(f"a number of {len(text)} characters")
        d.value = PyOS_string_to_double(PyBytes_AS_STRING(text), NULL, OverflowError)
        return 0
    shown = PyBytes_FromStringAndSize(p, min(<Py_ssize_t>20, end - p))
    raise ValueError(f"{shown!r} is not a number")


def to_float(bytes text):
    """The float64 nearest to a decimal number, and its decimals (255: written with an exponent)."""
    cdef const char *p = PyBytes_AS_STRING(text)
    cdef decimal d
    _number(p, p + len(text), &d)
    if d.end != p + len(text):
        raise ValueError(f"{text[:40]!r} is not a number")
    return d.value, d.decimals


def plain_iso_ns(str text not None):
    """Nanoseconds of a time like 2021-12-12T23:05:29.9692063Z, 1970 to 2261; -1 if it is written otherwise, or is none."""
    cdef Py_ssize_t n = 0
    cdef const char *p = PyUnicode_AsUTF8AndSize(text, &n)
    return iso_read(p, n)


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
        _number(self.p, self.end, d)
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

    cdef level *all
    cdef size_t count, room

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


cdef inline bint _is(const char *p, Py_ssize_t n, bytes text) noexcept:
    return n == PyBytes_GET_SIZE(text) and memcmp(p, PyBytes_AS_STRING(text), n) == 0


@cython.final
cdef class LevelRows:
    """The rows of depth and quote that books have made, until they are taken."""

    cdef rows depth
    cdef rows quotes

    def __dealloc__(self):
        free(self.depth.bytes)
        free(self.quotes.bytes)

    def take(self):
        """[(table, rows)] since the last time."""
        out = []
        for name, have in (("depth", _taken(&self.depth)), ("quote", _taken(&self.quotes))):
            if have:
                out.append((name, np.frombuffer(have, DTYPES[name])))
        return out


cdef bytes _taken(rows *r):
    if r.next == r.bytes:
        return b""
    out = PyBytes_FromStringAndSize(<char *>r.bytes, r.next - r.bytes)
    r.next = r.bytes
    return out


cdef bytes _text(double value, uint8_t decimals):
    cdef char text[768]
    return text[:_write(text, value, decimals)]


cdef inline int _write(char *text, double value, uint8_t decimals) except -1:
    """The number as it was written, into room for 309 digits and 254 decimals; how many characters it has."""
    cdef int n = number_write(text, value, decimals)
    return n if n else _write_slowly(text, value, decimals)


cdef int _write_slowly(char *text, double value, uint8_t decimals) except -1:
    if decimals == DECIMALS_UNKNOWN:
        shown = repr(value).encode()
        memcpy(text, PyBytes_AS_STRING(shown), len(shown))
        return len(shown)
    return snprintf(text, 768, b"%.*f", <int>decimals, value)


@cython.final
cdef class Levels:
    """The price levels of one instrument."""

    cdef levels book
    cdef uint32_t instrument
    cdef LevelRows out

    def __cinit__(self, LevelRows out, uint32_t instrument, size_t most=0):
        """`out`: where rows go; `most`: levels kept of each half after a message, 0 for all."""
        levels_open(&self.book, most)
        self.out, self.instrument = out, instrument

    def __dealloc__(self):
        levels_close(&self.book)

    cdef level_stamp stamp(self, int64_t ts_event, int64_t ts_recv, int64_t venue_seq, uint16_t flags) noexcept:
        return level_stamp(ts_event, ts_recv, venue_seq, self.instrument, flags)

    cdef int quote(self, const level_stamp *s) except -1:
        cdef int quoted = levels_quote(&self.book, &self.out.quotes, s)
        if quoted < 0:
            raise MemoryError
        return quoted

    def change(self, Changes changes, int64_t ts_event, int64_t ts_recv, int64_t venue_seq=0, uint16_t flags=0):
        """Apply changes in their order, then quote the top if it moved; is the book crossed now?"""
        cdef level_stamp s = self.stamp(ts_event, ts_recv, venue_seq, flags)
        cdef size_t i
        for i in range(changes.count):
            if levels_change(&self.book, &self.out.depth, &s, &changes.all[i]):
                raise MemoryError
        if levels_trim(&self.book, &self.out.depth, &s):
            raise MemoryError
        self.quote(&s)
        return bool(levels_crossed(&self.book))

    def load(self, Changes changes, int64_t ts_event, int64_t ts_recv, int64_t venue_seq=0, uint16_t flags=0):
        """Begin anew with these levels (they are sorted by it), then quote the top if it is another; is it crossed?"""
        cdef level_stamp s = self.stamp(ts_event, ts_recv, venue_seq, flags)
        if levels_load(&self.book, &self.out.depth, &s, changes.all, changes.count) < 0:
            raise MemoryError
        self.quote(&s)
        return bool(levels_crossed(&self.book))

    def reset(self, int64_t ts_event, int64_t ts_recv, int64_t venue_seq=0, uint16_t flags=0):
        """Have no levels; say so, and quote that there is no top."""
        cdef level_stamp s = self.stamp(ts_event, ts_recv, venue_seq, flags)
        if levels_reset(&self.book, &self.out.depth, &s):
            raise MemoryError
        self.quote(&s)

    @property
    def crossed(self):
        """Is the best bid at or above the best offer?"""
        return bool(levels_crossed(&self.book))

    def count(self, int half):
        """Levels of a half."""
        return self.book.halves[half != 0].count

    def top(self, int half, Py_ssize_t most):
        """(price, size, orders) of the best levels of a half, best first."""
        cdef const level *l
        cdef size_t i, n = self.book.halves[half != 0].count
        out = []
        for i in range(min(<size_t>most, n)):
            l = &self.book.halves[half != 0].levels[n - 1 - i]
            out.append((l.price, l.size, l.orders))
        return out

    def alternating(self, Py_ssize_t most, char ask_sign=0):
        """price:size of the best bid, of the best offer, of the next bid, ..., as the venue wrote them, with colons.

        `ask_sign`: a character before the sizes of offers, 0 for none.
        """
        cdef const half *h
        cdef const level *l
        cdef Py_ssize_t i, which, n = 0
        cdef char text[4096]
        out = []
        for i in range(most):
            for which in range(2):
                h = &self.book.halves[which]
                if <size_t>i >= h.count:
                    continue
                l = &h.levels[h.count - 1 - i]
                if n > 2048:
                    out.append(text[:n])
                    n = 0
                n += _write(text + n, l.price, l.price_decimals)
                text[n] = b":"
                n += 1
                if which == ASK_HALF and ask_sign:
                    text[n] = ask_sign
                    n += 1
                n += _write(text + n, l.size, l.size_decimals)
                text[n] = b":"
                n += 1
        out.append(text[:n])
        whole = b"".join(out)
        return whole[:max(0, len(whole) - 1)]

    def texts(self, int half, Py_ssize_t most):
        """(price, size) of the best levels of a half as the venue wrote them, best first."""
        cdef const level *l
        cdef size_t i, n = self.book.halves[half != 0].count
        out = []
        for i in range(min(<size_t>most, n)):
            l = &self.book.halves[half != 0].levels[n - 1 - i]
            out.append((_text(l.price, l.price_decimals), _text(l.size, l.size_decimals)))
        return out

    def digits(self, int half, Py_ssize_t most, int price_decimals=-1, int size_decimals=-1):
        """Prices and sizes of the best levels of a half without points and leading zeros, one behind the other.

        With so many decimals, or as many as each was written with (-1). None if one has more digits than a
        float64 is sure to keep.
        """
        cdef size_t i, count = self.book.halves[half != 0].count
        cdef const level *l
        cdef unsigned p, s
        cdef char text[4096]
        cdef int wrote, n = 0
        out = []
        for i in range(min(<size_t>most, count)):
            l = &self.book.halves[half != 0].levels[count - 1 - i]
            p = l.price_decimals if price_decimals < 0 else <unsigned>price_decimals
            s = l.size_decimals if size_decimals < 0 else <unsigned>size_decimals
            if n > 4000:
                out.append(text[:n])
                n = 0
            wrote = level_digits(text + n, l, p, s)
            if not wrote:
                return None
            n += wrote
        out.append(text[:n])
        return b"".join(out)
