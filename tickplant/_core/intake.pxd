"""intake.h for Cython, and the class that holds one."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from tickplant._core.table cimport tp_table

cdef extern from "intake.h" nogil:
    int TP_TABLES, TP_TAKEN, TP_DUPLICATE, TP_CONTROL, TP_MALFORMED, TP_UNKNOWN_FEED, TP_WRONG_SCHEMA, TP_NEW_SESSION, TP_GAP
    int TP_DEFINITIONS, TP_UNDEFINED_CODE, TP_STAGE_FULL, TP_TOO_LARGE
    uint32_t TP_UNDEFINED
    ctypedef struct tp_claim:
        uint64_t rows, sum, base_rows, base_sum, done_rows, done_sum
    ctypedef struct tp_feed:
        uint64_t session, next_seq
        uint32_t *codes
        uint32_t n_codes
        tp_claim claims[256]
    ctypedef struct tp_intake:
        tp_table *tables[256]
        tp_feed **feeds
        uint32_t n_feeds, definitions, trading_date, last_crc
        uint8_t *stage
        size_t used, room
        uint32_t frame_bytes, frame_rows
        uint64_t frames, rows, duplicates, refused
    int tp_take(tp_intake *intake, const uint8_t *msg, size_t n, int64_t now_ns, int defined)
    int tp_take_written(tp_intake *intake, uint16_t feed, const uint8_t *p, size_t n, size_t *at, int64_t now_ns)
    void tp_feed_begin(tp_feed *f, uint64_t session, uint64_t next_seq)
    void tp_feed_roll(tp_feed *f)
    void tp_restore(tp_intake *intake, const uint8_t *p, size_t n)
    void tp_apply(tp_intake *intake, const uint8_t *p, size_t n, int again)


cdef class Intake:
    cdef tp_intake i
    cdef list tables
    cdef readonly int reason
    cdef tp_feed *feed(self, uint32_t number) except NULL
