/* The latch: the last row of an instrument, replaced in place, read whole at any time.
 *
 *   slot, 64-byte aligned:  u64 version | cell 0 | cell 1          (cells padded to 8 bytes)
 *   readers use cell[version & 1]; version 0 means never written.
 *
 * The writer fills the other cell and then bumps the version. A writer that dies half-way leaves the current cell whole,
 * so unlike under a plain seqlock no reader waits for it. Two barriers are needed: the bump must not pass the cell's
 * stores (B), and the next update's stores must not pass the bump (C). A reader copies and then checks that the version
 * stands still (fence D pairs with C): at version + 1 the writer may already be filling the cell that was copied.
 * Cells are copied in relaxed 8-byte atomics, so there is no data race in the language's terms either. */
#ifndef TP_LATCH_H
#define TP_LATCH_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TP_LATCH_BUSY UINT64_MAX

static inline void tp_latch_put(uint8_t *slot, uint32_t cell_size, const uint64_t *words) {
    _Atomic uint64_t *version = (_Atomic uint64_t *)slot;
    uint64_t v = atomic_load_explicit(version, memory_order_relaxed);
    _Atomic uint64_t *cell = (_Atomic uint64_t *)(slot + 8 + ((v + 1) & 1) * cell_size);
    atomic_thread_fence(memory_order_release); /* SYNC POINT C: after the previous bump */
    for (uint32_t i = 0; i < cell_size / 8; i++) atomic_store_explicit(cell + i, words[i], memory_order_relaxed);
    atomic_store_explicit(version, v + 1, memory_order_release); /* SYNC POINT B */
}

/* Copy bytes [from, from + size) of the current cell, from on a whole word, to out; returns its version, 0 if never written,
 * TP_LATCH_BUSY if in 1,000 tries the writer never paused (a caller that must have the value yields and asks again). */
static inline uint64_t tp_latch_part(const uint8_t *slot, uint32_t cell_size, uint32_t from, uint32_t size, uint8_t *out) {
    const _Atomic uint64_t *version = (const _Atomic uint64_t *)slot;
    const uint32_t words = size / 8, rest = size % 8;
    for (int tries = 0; tries < 1000; tries++) {
        uint64_t v = atomic_load_explicit(version, memory_order_acquire); /* SYNC POINT B */
        if (v == 0) return 0;
        const _Atomic uint64_t *cell = (const _Atomic uint64_t *)(slot + 8 + (v & 1) * cell_size + from);
        for (uint32_t i = 0; i < words; i++) {
            const uint64_t word = atomic_load_explicit(cell + i, memory_order_relaxed);
            memcpy(out + (size_t)8 * i, &word, 8);
        }
        if (rest) {
            const uint64_t word = atomic_load_explicit(cell + words, memory_order_relaxed);
            memcpy(out + (size_t)8 * words, &word, rest);
        }
        atomic_thread_fence(memory_order_acquire); /* SYNC POINT D */
        if (atomic_load_explicit(version, memory_order_relaxed) == v) return v;
    }
    return TP_LATCH_BUSY;
}

/* The same of the whole cell. */
static inline uint64_t tp_latch_get(const uint8_t *slot, uint32_t cell_size, uint64_t *words) {
    return tp_latch_part(slot, cell_size, 0, cell_size, (uint8_t *)words);
}

/* Begin to fetch a slot that is to be read soon. */
static inline void tp_latch_fetch(const uint8_t *slot, uint32_t slot_size) {
    for (uint32_t at = 0; at < slot_size; at += 64) __builtin_prefetch(slot + at);
}
#endif
