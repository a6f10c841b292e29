/* The append table: rows in, columns of shared memory out, one committed count that makes them visible.
 *
 * One writer. Cells of rows [rows, rows + n) are written, then `committed` is stored with release (SYNC POINT E, pairs
 * with the readers' acquire load): a reader that sees n rows sees all cells of n rows, and they never change again.
 * Rows at or above committed are nobody's business; readers don't touch them (reading a hole of tmpfs allocates it).
 *
 * Two hidden columns give the last rows of one XX ahead of committed; a reader skips such rows
 * (their prev is written before head is stored, SYNC POINT F). After a crash tp_table_rewind takes heads back to rows that were
 * committed, because the rows above will be written again. */
#ifndef TP_TABLE_H
#define TP_TABLE_H
#include "frame.h"
#include "latch.h"
#include "rowsum.h"

enum { TP_LATEST_PREFIX = 16, TP_CELL_MAX = 16 + 8192 }; /* of a latest cell: u64 row, u32 trading_date, u32 zero */

typedef struct {
    uint8_t *data;
    uint32_t offset, size;
} tp_column;

typedef struct {
    uint32_t number, row_size, schema, n_columns;
    tp_column *columns;
    uint64_t taken;      /* rows that have a number: in the journal or about to be */
    uint64_t rows, room; /* rows written, rows for which memory is allocated */
    _Atomic uint64_t *committed;
    uint32_t *prev;
    _Atomic uint32_t *head;
    uint64_t n_heads;
    const uint32_t *codes; /* the column of instruments, or NULL */
    uint8_t *latest;       /* slots, or NULL */
    uint32_t cell_size, slot_size;
    uint64_t n_slots;
} tp_table;

/* Copy `count` cells of `size` bytes, from and to places so far apart. Inlined with what is constant: the sizes that
 * columns mostly have get code of their own, without a call. */
static inline __attribute__((always_inline)) void tp_cells(uint8_t *to, size_t to_step, const uint8_t *from,
                                                           size_t from_step, uint32_t size, uint64_t count) {
#define TP_CELLS(n) \
    for (uint64_t i = 0; i < count; i++) memcpy(to + i * to_step, from + i * from_step, n)
    switch (size) {
    case 1: TP_CELLS(1); break;
    case 2: TP_CELLS(2); break;
    case 4: TP_CELLS(4); break;
    case 6: TP_CELLS(6); break;
    case 8: TP_CELLS(8); break;
    case 16: TP_CELLS(16); break;
    default: TP_CELLS(size);
    }
#undef TP_CELLS
}

/* Packed rows into the columns. Eight rows at a time: they stay in the first-level cache for all columns, and of most
 * columns they are a line at most, so that columns that begin at the same place of a page don't drive out each other. */
static inline void tp_scatter(const tp_table *t, const uint8_t *rows, uint64_t count, uint64_t at) {
    const tp_column *c, *end = t->columns + t->n_columns;
    const uint32_t row_size = t->row_size;
    for (; count >= 8; count -= 8, at += 8, rows += (size_t)8 * row_size)
        for (c = t->columns; c < end; c++)
            tp_cells(c->data + at * c->size, c->size, rows + c->offset, row_size, c->size, 8);
    for (c = t->columns; count && c < end; c++)
        tp_cells(c->data + at * c->size, c->size, rows + c->offset, row_size, c->size, count);
}

/* The inverse: rows [at, at + count) of the columns into packed rows. */
static inline void tp_gather(const tp_table *t, uint8_t *rows, uint64_t count, uint64_t at) {
    const tp_column *c, *end = t->columns + t->n_columns;
    const uint32_t row_size = t->row_size;
    for (; count >= 8; count -= 8, at += 8, rows += (size_t)8 * row_size)
        for (c = t->columns; c < end; c++)
            tp_cells(rows + c->offset, row_size, c->data + at * c->size, c->size, c->size, 8);
    for (c = t->columns; count && c < end; c++)
        tp_cells(rows + c->offset, row_size, c->data + at * c->size, c->size, c->size, count);
}

/* The same of any rows, by their numbers. */
static inline void tp_pick(const tp_column *c, uint8_t *rows, const int64_t *numbers, uint64_t count, uint32_t row_size) {
    uint8_t *to = rows + c->offset;
#define TP_PICK(n) \
    for (uint64_t i = 0; i < count; i++, to += row_size) memcpy(to, c->data + (uint64_t)numbers[i] * (n), n)
    switch (c->size) {
    case 1: TP_PICK(1); break;
    case 2: TP_PICK(2); break;
    case 4: TP_PICK(4); break;
    case 8: TP_PICK(8); break;
    default: TP_PICK(c->size);
    }
#undef TP_PICK
}

static inline void tp_link(tp_table *t, const uint8_t *rows, uint64_t count) {
    const uint64_t n_heads = t->n_heads, first = t->rows;
    const uint32_t row_size = t->row_size;
    uint32_t *prev = t->prev + first, code;
    _Atomic uint32_t *heads = t->head;
    for (uint64_t i = 0; i < count; i++) {
        memcpy(&code, rows + i * row_size + TP_AT_INSTRUMENT, 4);
        _Atomic uint32_t *head = heads + (code < n_heads ? code : 0);
        prev[i] = atomic_load_explicit(head, memory_order_relaxed);
        atomic_store_explicit(head, (uint32_t)(first + i + 1), memory_order_release); /* SYNC POINT F */
    }
}

/* Is the latest value in a slot that of this row, or of a later one? */
static inline int tp_latest_is_newer(const uint8_t *slot, uint32_t cell_size, uint32_t trading_date, uint64_t number) {
    const uint64_t version = atomic_load_explicit((const _Atomic uint64_t *)slot, memory_order_relaxed);
    uint64_t there[2]; /* number and date: nobody else writes them */
    memcpy(there, slot + 8 + (version & 1) * cell_size, sizeof there);
    return version && (there[1] > trading_date || (there[1] == trading_date && there[0] >= number));
}

/* Put the latest values of a frame's rows. All rows of the turn are written and linked by now, so a row that is not its
 * instrument's head has a later one behind it, and need not be put. (Rows there was no room for are in no chain.)
 * `again`: the frame has been through here before; later ones may have put their values since. */
static inline void tp_put_latest(tp_table *t, const tp_frame *h, const uint8_t *rows, int again) {
    uint64_t cell[TP_CELL_MAX / 8];
    uint32_t code;
    const uint64_t n_slots = t->n_slots, n_heads = t->n_heads, there = t->rows > h->row ? t->rows - h->row : 0;
    const uint32_t row_size = t->row_size;
    const uint32_t *codes = t->codes && there >= h->count ? t->codes + h->row : NULL; /* less to read than in the rows */
    memset(cell + t->cell_size / 8 - 1, 0, 8);
    for (uint64_t i = 0; i < h->count; i++) {
        const uint8_t *row = rows + i * row_size;
        if (codes) code = codes[i];
        else memcpy(&code, row + TP_AT_INSTRUMENT, 4);
        if (code >= n_slots) continue;
        const uint64_t number = h->row + i;
        if (i < there && code < n_heads &&
            atomic_load_explicit(&t->head[code], memory_order_relaxed) != (uint32_t)(number + 1))
            continue;
        uint8_t *slot = t->latest + (uint64_t)code * t->slot_size;
        if (again && tp_latest_is_newer(slot, t->cell_size, h->trading_date, number)) continue;
        cell[0] = number;
        cell[1] = h->trading_date;
        memcpy((uint8_t *)cell + TP_LATEST_PREFIX, row, row_size);
        tp_latch_put(slot, t->cell_size, cell);
    }
}

/* Write the rows of one frame; not yet visible. Rows that are there already are skipped. Returns 0, or -1 if there is no
 * room (or rows before these were refused): nothing is written then. */
static inline int tp_table_write(tp_table *t, const tp_frame *h, const uint8_t *rows) {
    if (h->row + h->count <= t->rows) return 0;
    if (h->row > t->rows || h->row + h->count > t->room) return -1;
    uint64_t skip = t->rows - h->row, count = h->count - skip;
    const uint8_t *from = rows + skip * t->row_size;
    tp_scatter(t, from, count, t->rows);
    tp_link(t, from, count);
    t->rows += count;
    return 0;
}

static inline void tp_table_commit(tp_table *t) {
    atomic_store_explicit(t->committed, t->rows, memory_order_release); /* SYNC POINT E */
}

/* After a crash of the writer: heads above the committed count go back along prev[n_prev] to a row below it. A head or
 * link that no writer can have left ends the chain. */
static inline void tp_table_rewind(tp_table *t, uint64_t n_prev) {
    for (uint64_t i = 0; i < t->n_heads; i++) {
        uint32_t row = atomic_load_explicit(&t->head[i], memory_order_relaxed);
        if (row > n_prev) row = 0;
        while (row > t->rows) {
            uint32_t before = t->prev[row - 1];
            row = before < row ? before : 0;
        }
        atomic_store_explicit(&t->head[i], row, memory_order_relaxed);
    }
}

/* The last `wanted` rows of an instrument below `committed`, oldest first, into out; returns how many. Where the row
 * before is, is known only once this one's link has come from memory; its cells come along meanwhile. */
static inline uint64_t tp_last_rows(const tp_table *t, uint64_t n_prev, uint64_t instrument, uint64_t committed,
                                    int64_t *out, uint64_t wanted) {
    uint64_t n = 0;
    uint32_t row = atomic_load_explicit(&t->head[instrument], memory_order_acquire); /* SYNC POINT F */
    if (row > n_prev) return 0;
    while (row && n < wanted) {
        const uint64_t at = row - 1;
        __builtin_prefetch(t->prev + at);
        if (row <= committed) {
            for (const tp_column *c = t->columns, *end = c + t->n_columns; c < end; c++)
                __builtin_prefetch(c->data + at * c->size);
            out[n++] = (int64_t)at;
        }
        uint32_t before = t->prev[at];
        if (before >= row) break; /* a damaged chain must not become an endless one */
        row = before;
    }
    for (uint64_t i = 0; i < n / 2; i++) {
        int64_t swap = out[i];
        out[i] = out[n - 1 - i];
        out[n - 1 - i] = swap;
    }
    return n;
}
#endif
