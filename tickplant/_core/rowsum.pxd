"""rowsum.h for Cython."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "rowsum.h" nogil:
    int TP_AT_INSTRUMENT, TP_KEY_SIZE
    uint64_t tp_hash(uint64_t h, const uint8_t *p, size_t n)
    uint64_t tp_row_sum(const uint8_t *rows, uint64_t count, uint32_t row_size, const uint64_t *names, uint64_t n)
    uint64_t tp_row_sums(const uint8_t *rows, uint64_t count, uint32_t row_size, const uint64_t *names, uint64_t n_names,
                         uint64_t *counts, uint64_t *sums, uint64_t n_feeds, const int64_t *numbers, uint64_t first)
