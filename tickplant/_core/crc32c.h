/* CRC32C (Castagnoli, reflected polynomial 0x82f63b78, RFC 3720 appendix B.4): the checksum of every frame.
 *
 * The instruction of SSE4.2 or ARMv8 does 8 bytes at a time where the machine has it (asked once, at load);
 * elsewhere a table does one byte at a time. All give the same value. */
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
__attribute__((target("sse4.2"))) static uint32_t tp_crc_by_instruction(uint32_t crc, const uint8_t *p, size_t n) {
    uint64_t c = crc, word;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        c = _mm_crc32_u64(c, word);
    }
    while (n--) c = _mm_crc32_u8((uint32_t)c, *p++);
    return (uint32_t)c;
}
static int tp_crc_has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
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
    tp_crc_step = !force_table && tp_crc_has_instruction() ? tp_crc_by_instruction : tp_crc_by_table;
}

/* CRC of `n` bytes, going on from `crc` (0 to begin). */
static inline uint32_t tp_crc32c(uint32_t crc, const void *p, size_t n) {
    return ~tp_crc_step(~crc, (const uint8_t *)p, n);
}
#endif
