/* CRC32C (Castagnoli, reflected polynomial 0x82f63b78, RFC 3720 appendix B.4): the checksum of every frame.
 *
 * The instruction of SSE4.2 or ARMv8 does 8 bytes at a time where the machine has it (asked once, at load);
 * elsewhere a table does one byte at a time. All give the same value.
 *
 * An instruction of SSE4.2 waits for the one before, for three cycles, and one could begin in each: so three pieces of
 * TP_CRC_LANE bytes are done at a time, the second and third from 0. A CRC is linear: that of a piece and what follows
 * it is that of the piece, moved on over as many zeros as follow (tp_crc_moved, four look-ups), XOR that of what follows. */
#ifndef TP_CRC32C_H
#define TP_CRC32C_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static uint32_t tp_crc_table[256];

static inline uint32_t tp_crc_by_table(uint32_t crc, const uint8_t *p, size_t n) {
    while (n--) crc = tp_crc_table[(crc ^ *p++) & 0xff] ^ (crc >> 8);
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
enum { TP_CRC_LANE = 256 };
static uint32_t tp_crc_moves[4][256];

/* By linearity from the 32 values of one bit each. */
static void tp_crc_moves_start(void) {
    for (int place = 0; place < 4; place++) {
        for (uint32_t bit = 1; bit < 256; bit <<= 1) {
            uint32_t c = bit << (8 * place);
            for (int i = 0; i < TP_CRC_LANE; i++) c = tp_crc_table[c & 0xff] ^ (c >> 8);
            tp_crc_moves[place][bit] = c;
        }
        for (uint32_t v = 1; v < 256; v++)
            tp_crc_moves[place][v] = tp_crc_moves[place][v & (v - 1)] ^ tp_crc_moves[place][v & (~v + 1)];
    }
}

/* The CRC after TP_CRC_LANE bytes of zeros more. */
static inline uint32_t tp_crc_moved(uint64_t crc) {
    return tp_crc_moves[0][crc & 0xff] ^ tp_crc_moves[1][crc >> 8 & 0xff] ^ tp_crc_moves[2][crc >> 16 & 0xff] ^
           tp_crc_moves[3][crc >> 24 & 0xff];
}

__attribute__((target("sse4.2"))) static uint32_t tp_crc_by_instruction(uint32_t crc, const uint8_t *p, size_t n) {
    uint64_t c = crc, word;
    for (; n >= 3 * TP_CRC_LANE; n -= 3 * TP_CRC_LANE, p += 3 * TP_CRC_LANE) {
        uint64_t second = 0, third = 0, words[2];
        for (size_t i = 0; i < TP_CRC_LANE; i += 8) {
            memcpy(&word, p + i, 8);
            memcpy(&words[0], p + TP_CRC_LANE + i, 8);
            memcpy(&words[1], p + 2 * TP_CRC_LANE + i, 8);
            c = _mm_crc32_u64(c, word);
            second = _mm_crc32_u64(second, words[0]);
            third = _mm_crc32_u64(third, words[1]);
        }
        c = tp_crc_moved(tp_crc_moved(c) ^ second) ^ third;
    }
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        c = _mm_crc32_u64(c, word);
    }
    while (n--) c = _mm_crc32_u8((uint32_t)c, *p++);
    return (uint32_t)c;
}
static int tp_crc_has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__ARM_FEATURE_CRC32)
static void tp_crc_moves_start(void) {}
#include <arm_acle.h>
static uint32_t tp_crc_by_instruction(uint32_t crc, const uint8_t *p, size_t n) {
    uint64_t word;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        crc = __crc32cd(crc, word);
    }
    while (n--) crc = __crc32cb(crc, *p++);
    return crc;
}
static int tp_crc_has_instruction(void) { return 1; }
#else
#define tp_crc_by_instruction tp_crc_by_table
static void tp_crc_moves_start(void) {}
static int tp_crc_has_instruction(void) { return 0; }
#endif

static uint32_t (*tp_crc_step)(uint32_t, const uint8_t *, size_t) = NULL;

/* Called once when the module loads, before any other thread can be in here. */
static void tp_crc32c_start(int force_table) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
        tp_crc_table[i] = c;
    }
    tp_crc_moves_start();
    tp_crc_step = !force_table && tp_crc_has_instruction() ? tp_crc_by_instruction : tp_crc_by_table;
}

/* CRC of `n` bytes, going on from `crc` (0 to begin). */
static inline uint32_t tp_crc32c(uint32_t crc, const void *p, size_t n) {
    return ~tp_crc_step(~crc, (const uint8_t *)p, n);
}
#endif
