/* The rows that native decoders and books make: their layout, and the buffers they are collected in.
 *
 * Format. Each struct is a row of the table of that name as the default configuration declares it: the six key columns
 * (32 bytes), then the declared columns, packed, little-endian. A plant that declares more columns gets these copied
 * field by field; one that declares the same gets these bytes.
 *
 * Algorithm. One growing buffer per table. A row is claimed with `rows_new`, written once, and never touched again. The
 * user takes a buffer whole (`rows_steal`) and frees it; the next one begins as large as the last was, so that a steady
 * stream of chunks grows nothing.
 *
 * Pitfall. Without memory `rows_new` returns a spare row that goes nowhere and sets `failed`: callers write it without
 * asking, and the decoder stops after the message. */
#ifndef TP_ROWS_H
#define TP_ROWS_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rows are little-endian"
#endif

/* Bits of the column `flags` (tickplant.schema.Flag). */
enum {
    FLAG_SNAPSHOT = 1,
    FLAG_CORRECTION = 4,
    FLAG_NON_PRINTABLE = 8,
    FLAG_HIDDEN = 16,
    FLAG_CROSS = 32,
    FLAG_SYNTHETIC = 64,
    FLAG_ORPHAN = 128
};

#define PACKED __attribute__((packed))

struct PACKED row_key {
    int64_t ts_event, ts_recv, ts_plant;
    uint32_t instrument;
    uint16_t feed, flags;
};

struct PACKED instrument_row {
    struct row_key key;
    uint32_t code;
    char venue[16], symbol[48], kind[8], currency[8], base[16];
    double tick_size, lot_size, multiplier;
    char attributes[32];
};

struct PACKED event_row {
    struct row_key key;
    char kind[16];
    uint16_t about;
    int64_t session, first, last;
    char text[96];
};

struct PACKED status_row {
    struct row_key key;
    int64_t venue_seq;
    char kind[12], value[12], reason[12];
    double level_1, level_2, level_3;
};

struct PACKED order_row {
    struct row_key key;
    int64_t venue_seq, order_id, ref_id;
    double price, size;
    char side, action, attribution[4];
};

struct PACKED trade_row {
    struct row_key key;
    int64_t venue_seq, trade_id;
    double price, size;
    char side, action, condition[6];
};

struct PACKED quote_row {
    struct row_key key;
    int64_t venue_seq;
    double bid_price, bid_size, ask_price, ask_size;
};

struct PACKED depth_row {
    struct row_key key;
    int64_t venue_seq;
    double price, size;
    int32_t orders;
    int16_t level;
    char side, action;
};

struct PACKED imbalance_row {
    struct row_key key;
    int64_t venue_seq;
    double reference_price, near_price, far_price, paired_size, imbalance_size;
    char side, cross_type, variation;
};

_Static_assert(sizeof(struct row_key) == 32, "the key columns are 32 bytes");
_Static_assert(sizeof(struct instrument_row) == 188, "table instrument");
_Static_assert(sizeof(struct event_row) == 170, "table event");
_Static_assert(sizeof(struct status_row) == 100, "table status");
_Static_assert(sizeof(struct order_row) == 78, "table order");
_Static_assert(sizeof(struct trade_row) == 72, "table trade");
_Static_assert(sizeof(struct quote_row) == 72, "table quote");
_Static_assert(sizeof(struct depth_row) == 64, "table depth");
_Static_assert(sizeof(struct imbalance_row) == 83, "table imbalance");

/* In the order in which they are published: definitions before anything that uses them. */
enum { T_INSTRUMENT, T_EVENT, T_STATUS, T_ORDER, T_TRADE, T_QUOTE, T_IMBALANCE, T_COUNT };

static const size_t ROW_SIZES[T_COUNT] = {
    sizeof(struct instrument_row), sizeof(struct event_row), sizeof(struct status_row),   sizeof(struct order_row),
    sizeof(struct trade_row),      sizeof(struct quote_row), sizeof(struct imbalance_row)};

struct rows {
    uint8_t *bytes, *next, *end;
    size_t expected; /* bytes that the next buffer starts with */
};

struct row_set {
    struct rows tables[T_COUNT];
    uint8_t spare[sizeof(struct instrument_row)];
    int failed; /* memory ran out: rows are missing */
};

__attribute__((noinline)) static int rows_grow(struct rows *r, size_t row_size) {
    size_t used = (size_t)(r->next - r->bytes), room = (size_t)(r->end - r->bytes);
    size_t wider = room ? 2 * room : r->expected > 64 * row_size ? r->expected : 64 * row_size;
    uint8_t *bytes = realloc(r->bytes, wider);
    if (!bytes) return -1;
    r->bytes = bytes;
    r->next = bytes + used;
    r->end = bytes + wider;
    return 0;
}

/* A row of this table to write. Every byte must be written. */
static inline void *rows_new(struct row_set *set, int table, size_t row_size) {
    struct rows *r = &set->tables[table];
    if (__builtin_expect((size_t)(r->end - r->next) < row_size, 0) && rows_grow(r, row_size)) {
        set->failed = 1;
        return set->spare;
    }
    uint8_t *row = r->next;
    r->next += row_size;
    return row;
}

/* Bytes of rows made, and whose they are from now on (free()); NULL if there are none. */
static inline uint8_t *rows_steal(struct rows *r, size_t *size) {
    uint8_t *bytes = r->bytes;
    *size = (size_t)(r->next - r->bytes);
    if (!*size) return NULL;
    if (*size < (size_t)(r->end - r->bytes) / 2) {
        uint8_t *smaller = realloc(bytes, *size);
        if (smaller) bytes = smaller;
    }
    *r = (struct rows){.expected = *size + *size / 8};
    return bytes;
}

static inline void rows_free(struct row_set *set) {
    for (int t = 0; t < T_COUNT; t++) free(set->tables[t].bytes);
}
#endif
