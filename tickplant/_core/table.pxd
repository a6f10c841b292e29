"""table.h for Cython."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from tickplant._core.futex cimport atomic32, atomic64

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
