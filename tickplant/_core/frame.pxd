"""frame.h and crc32c.h for Cython."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "crc32c.h" nogil:
    void tp_crc32c_start(int force_table)
    uint32_t tp_crc32c(uint32_t crc, const void *p, size_t n)

cdef extern from "frame.h" nogil:
    ctypedef struct tp_frame:
        uint16_t magic, table
        uint32_t size, crc, prev_crc
        uint8_t kind, version
        uint16_t feed
        uint32_t trading_date
        uint64_t row, session, seq, feed_row, feed_sum
        int64_t time_ns
        uint32_t count, schema
    int TP_CRC_AT, TP_HEADER, TP_MAGIC, TP_VERSION, TP_ROWS, TP_GOOD
    int tp_frame_read(const uint8_t *p, size_t n, tp_frame *out)
    void tp_frame_seal(uint8_t *p, tp_frame *h)
    size_t tp_frame_scan(const uint8_t *p, size_t n, uint32_t *crc, uint64_t *frames, int *why)
    const uint8_t *tp_frame_next(const uint8_t *p, size_t n, size_t *at, tp_frame *h)
