"""levels.h for Cython."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

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
