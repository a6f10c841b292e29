/* Where a text in JSON ends: eight bytes at a time, for that is where the time of reading levels goes. */
#ifndef TP_SCAN_H
#define TP_SCAN_H
#include <stdint.h>
#include <string.h>
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the first byte in memory is the lowest one"
#endif

/* The top bit of each byte of `v` that is `c`; of those above the lowest such byte, perhaps of others too. */
static inline uint64_t bytes_that_are(uint64_t v, char c) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    v ^= ones * (uint8_t)c;
    return (v - ones) & ~v & (ones << 7);
}

/* The quote that ends the text whose first character is at `p`; NULL if there is none before `end`. What follows
 * a backslash ends nothing. */
static inline const char *text_end(const char *p, const char *end) {
    while (end - p >= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        uint64_t found = bytes_that_are(v, '"') | bytes_that_are(v, '\\');
        if (!found) {
            p += 8;
            continue;
        }
        p += __builtin_ctzll(found) / 8;
        if (*p == '"') return p;
        p += 2;
    }
    for (; p < end; p += *p == '\\' ? 2 : 1)
        if (*p == '"') return p;
    return NULL;
}
#endif
