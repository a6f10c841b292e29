"""The class that says where the columns of a table lie."""

from libc.stdint cimport uint8_t, uint64_t

from tickplant._core.table cimport tp_table


cdef class Columns:
    cdef tp_table t
    cdef const uint8_t[::1] held
    cdef const uint8_t[::1] held_latest
    cdef uint64_t max_rows
