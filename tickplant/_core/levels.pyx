# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Books of price levels: the Python face of levels.h, which holds format and algorithm."""

cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free
from libc.string cimport memcpy

import numpy as np

from tickplant._core.changes cimport Changes
from tickplant._core.decimal cimport DECIMALS_UNKNOWN

_KEY = "ts_event=i8 ts_recv=i8 ts_plant=i8 instrument=u4 feed=u2 flags=u2 "
_TABLES = {
    "depth": "venue_seq=i8 price=f8 size=f8 orders=i4 level=i2 side=S1 action=S1",
    "quote": "venue_seq=i8 bid_price=f8 bid_size=f8 ask_price=f8 ask_size=f8",
}
DTYPES = {
    name: np.dtype([tuple(c.split("=")) for c in (_KEY + columns).split()]).newbyteorder("<")
    for name, columns in _TABLES.items()
}


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
