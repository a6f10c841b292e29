/* CRC32C (Castagnoli, reflected polynomial 0x82f63b78, RFC 3720 appendix B.4): the checksum of every frame.
 *
 * The instruction of SSE4.2 or ARMv8 does 8 bytes at a time where the machine has it (asked once, at load);
 * elsewhere a table does one byte at a time. All give the same value.
 *
 * An x86 processor begins one instruction per cycle and has its result three cycles later: so a block is taken in
 * three parts of w words at once, each on its own, and these are put together. CRC is linear: the state after A B C is
 *     a x^(128 w) + b x^(64 w) + c     modulo the polynomial, with a, b, c those of the parts (b and c from 0).
 * The instruction multiplies what it takes in by x^32, and the carry-less product of two reflected numbers is one x
 * too high; so the factors kept in tp_crc_shift are x^(64 k - 33), and the instruction itself reduces the product. */
#ifndef TP_CRC32C_H
#define TP_CRC32C_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TP_CRC_WORTH = 6, TP_CRC_PART = 42 }; /* words of a part: from when on it is worth it; a block in 1 KiB */

static uint32_t tp_crc_table[256];
static uint32_t tp_crc_shift[2 * TP_CRC_PART + 1]; /* [k]: what a state is multiplied by to go past k words */

static inline uint32_t tp_crc_by_table(uint32_t crc, const uint8_t *p, size_t n) {
    while (n--) crc = tp_crc_table[(crc ^ *p++) & 0xff] ^ (crc >> 8);
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#define TP_CRC_TARGET __attribute__((target("sse4.2,pclmul")))

static inline TP_CRC_TARGET uint64_t tp_crc_word(uint64_t crc, const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return _mm_crc32_u64(crc, word);
}

/* The state `crc` times x^(64 words), not yet reduced. */
static inline TP_CRC_TARGET __m128i tp_crc_past(uint64_t crc, size_t words) {
    return _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)crc), _mm_cvtsi32_si128((int)tp_crc_shift[words]), 0);
}

TP_CRC_TARGET static uint32_t tp_crc_by_instruction(uint32_t crc, const uint8_t *p, size_t n) {
    uint64_t a = crc, b, c;
    while (n >= 24 * TP_CRC_WORTH) {
        const size_t words = n / 24 < TP_CRC_PART ? n / 24 : TP_CRC_PART;
        const uint8_t *q = p + 8 * words, *r = q + 8 * words, *end = q;
        for (b = c = 0; p < end; p += 8, q += 8, r += 8) {
            a = tp_crc_word(a, p);
            b = tp_crc_word(b, q);
            c = tp_crc_word(c, r);
        }
        const __m128i past = _mm_xor_si128(tp_crc_past(a, 2 * words), tp_crc_past(b, words));
        a = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(past)) ^ c;
        p = r;
        n -= 24 * words;
    }
    for (; n >= 8; n -= 8, p += 8) a = tp_crc_word(a, p);
    while (n--) a = _mm_crc32_u8((uint32_t)a, *p++);
    return (uint32_t)a;
}
static int tp_crc_has_instruction(void) {
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}
#elif defined(__ARM_FEATURE_CRC32)
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
    uint32_t shift = 1; /* x^31, reflected */
    for (uint32_t k = 1; k <= 2 * TP_CRC_PART; k++) {
        tp_crc_shift[k] = shift;
        for (int bit = 0; bit < 64; bit++) shift = shift & 1 ? (shift >> 1) ^ 0x82f63b78u : shift >> 1;
    }
    tp_crc_step = !force_table && tp_crc_has_instruction() ? tp_crc_by_instruction : tp_crc_by_table;
}

/* CRC of `n` bytes, going on from `crc` (0 to begin). */
static inline uint32_t tp_crc32c(uint32_t crc, const void *p, size_t n) {
    return ~tp_crc_step(~crc, (const uint8_t *)p, n);
}
#endif
