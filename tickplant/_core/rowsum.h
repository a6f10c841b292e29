/* The checksum of rows: what feed, journal, shared memory, PostgreSQL and a remote subscriber are compared by.
 *
 * The hash of a row covers every byte that its feed decided: all of the row but ts_plant and feed (which the plant
 * fills in), with the instrument's code replaced by the hash of its name "VENUE:SYMBOL" (codes differ between feed
 * and plant; names don't). 64-bit words, little-endian, the last one padded with zeros, are mixed one by one:
 *     h = (h ^ word) * M;  h ^= h >> 29
 * over: the row's size, ts_event, ts_recv, name hash, then the bytes from `flags` (offset 30) to the end.
 *
 *  - A table's *sum* is the sum of its row hashes modulo 2^64: the same in whatever order rows of several feeds met.
 *  - Its *ordered* sum weighs each hash by 2 * row + 1: it also changes when two rows have changed places. */
#ifndef TP_ROWSUM_H
#define TP_ROWSUM_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TP_AT_TS_PLANT = 16, TP_AT_INSTRUMENT = 24, TP_AT_FEED = 28, TP_AT_FLAGS = 30, TP_KEY_SIZE = 32 };
#define TP_MIX 0x9fb21c651e98df25ull

static inline uint64_t tp_mix(uint64_t h, uint64_t word) {
    h = (h ^ word) * TP_MIX;
    return h ^ (h >> 29);
}

/* Hash of `n` bytes from p, going on from h. */
static inline uint64_t tp_hash(uint64_t h, const uint8_t *p, size_t n) {
    uint64_t word;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        h = tp_mix(h, word);
    }
    if (n) {
        word = 0;
        memcpy(&word, p, n);
        h = tp_mix(h, word);
    }
    return h;
}

static inline uint64_t tp_row_hash(const uint8_t *row, uint32_t row_size, const uint64_t *names, uint64_t n_names) {
    uint32_t code;
    memcpy(&code, row + TP_AT_INSTRUMENT, 4);
    uint64_t h = tp_hash(tp_mix(0, row_size), row, TP_AT_TS_PLANT);
    h = tp_mix(h, code < n_names ? names[code] : 0);
    return tp_hash(h, row + TP_AT_FLAGS, row_size - TP_AT_FLAGS);
}

/* Sum of the hashes of `count` rows. */
static inline uint64_t tp_row_sum(const uint8_t *rows, uint64_t count, uint32_t row_size, const uint64_t *names,
                                  uint64_t n_names) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++) sum += tp_row_hash(rows + i * row_size, row_size, names, n_names);
    return sum;
}

/* Counts and sums per feed, and the ordered sum; `numbers` holds the row numbers, or NULL: they count from `first`.
 * Rows of a feed >= n_feeds are left out of counts and sums (and so can't go unnoticed). */
static inline uint64_t tp_row_sums(const uint8_t *rows, uint64_t count, uint32_t row_size, const uint64_t *names,
                                   uint64_t n_names, uint64_t *counts, uint64_t *sums, uint64_t n_feeds,
                                   const int64_t *numbers, uint64_t first) {
    uint64_t ordered = 0;
    uint16_t feed;
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *row = rows + i * row_size;
        uint64_t h = tp_row_hash(row, row_size, names, n_names);
        memcpy(&feed, row + TP_AT_FEED, 2);
        if (feed < n_feeds) {
            counts[feed]++;
            sums[feed] += h;
        }
        ordered += h * (2 * (numbers ? (uint64_t)numbers[i] : first + i) + 1);
    }
    return ordered;
}
#endif
