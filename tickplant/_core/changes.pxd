"""The class that holds levels as a message gives them."""

from tickplant._core.levels cimport level


cdef class Changes:
    cdef level *all
    cdef size_t count, room
    cdef level *next(self) except NULL
    cdef int take(self, const level *l) except -1
    cdef int _arrays(self, raw, int half, int price_at, int size_at, int orders_at) except -1
    cdef int _objects(self, raw, int half, bytes side, bytes bid, bytes ask, bytes price, bytes size) except -1
