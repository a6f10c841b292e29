/* What every part of the ITCH decoder stands on: the message types, the decoder's state, the fields of a message, and
 * the rows of table event.
 *
 * Pitfall. A message's bytes are read only after its length was found to be that of its type. */
#ifndef TP_ITCH_BASE_H
#define TP_ITCH_BASE_H
#include <stdarg.h>
#include <stdio.h>

#include "book.h"
#include "rows.h"
#include "orders.h"

enum { LOCATES = 65536, PRINTS = 65536, BLOCK = 32 };

/* What is known of an instrument: its symbol; or only its stock locate, which is its symbol until a message tells it. */
enum { DEFINED = 1, NUMBERED = 2 };

/* Of a message type: its length, where its Stock field is (0: it has none), how many order references it has. */
struct itch_spec {
    uint8_t length, stock, refs;
};

static const struct itch_spec SPECS[256] = {
    ['S'] = {12, 0, 0},  ['R'] = {39, 11, 0}, ['H'] = {25, 11, 0}, ['Y'] = {20, 11, 0}, ['L'] = {26, 15, 0},
    ['V'] = {35, 0, 0},  ['W'] = {12, 0, 0},  ['K'] = {28, 11, 0}, ['J'] = {35, 11, 0}, ['h'] = {21, 11, 0},
    ['A'] = {36, 24, 1}, ['F'] = {40, 24, 1}, ['E'] = {31, 0, 1},  ['C'] = {36, 0, 1},  ['X'] = {23, 0, 1},
    ['D'] = {19, 0, 1},  ['U'] = {35, 0, 2},  ['P'] = {44, 24, 0}, ['Q'] = {40, 19, 0}, ['B'] = {19, 0, 0},
    ['I'] = {50, 28, 0}, ['N'] = {20, 11, 0}, ['O'] = {48, 11, 0}};

/* A trade that may still be broken. */
struct print {
    uint64_t match, shares;
    uint32_t price;
    uint8_t used;
};

struct itch {
    int64_t ts_event; /* of the last message that had one */
    uint64_t offset;  /* in the file, of the message being decoded */
    int64_t seq;      /* messages so far, this one included */
    uint64_t malformed;
    int64_t ts_recv, midnight;
    uint64_t counts[256];
    int ended, damaged;
    struct orders orders;
    struct book *books;   /* by stock locate; NULL: none are kept, and there are no quotes */
    uint8_t *defined;     /* by stock locate: what is known of the instrument (DEFINED, NUMBERED) */
    struct print *prints; /* by the low bits of the match number: match numbers go up, so the last ones are there */
    struct row_set rows;
};

/* A whole message that comes next. */
struct ahead {
    const uint8_t *bytes;
    uint32_t length, refs; /* refs: its order references, 0 if it has not the length of its type */
    uint32_t hints[2];     /* of where they are: orders_find */
};

/* The message being decoded, and what its rows are to say of the instrument. */
struct message {
    const uint8_t *bytes;
    uint32_t length;
    uint32_t hints[2]; /* for its order references: orders_find */
    uint32_t instrument;
    uint16_t locate, flags;
};

static inline uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static inline uint32_t be32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}

static inline uint64_t be64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

static inline double price4(uint32_t price) { return price / 10000.0; }

/* Copy a text field without the spaces it is padded with. `to` is zeros. */
static inline void text(char *to, const uint8_t *from, size_t n) {
    while (n && from[n - 1] == ' ') n--;
    memcpy(to, from, n);
}

/* Field by field: rows are written straight to where they stay. (A struct built on the stack and copied costs a
 * stall per row, as its narrow stores can't be forwarded to the wide loads of the copy.) */
static inline void set_key(struct row_key *key, const struct itch *d, const struct message *m, uint16_t flags) {
    key->ts_event = d->ts_event;
    key->ts_recv = d->ts_recv;
    key->ts_plant = 0;
    key->instrument = m->instrument;
    key->feed = 0;
    key->flags = (uint16_t)(m->flags | flags);
}

#define NEW_ROW(d, table, type) ((struct type *)rows_new(&(d)->rows, table, sizeof(struct type)))

__attribute__((format(printf, 6, 7), noinline)) static void event(struct itch *d, const struct message *m,
                                                                  const char *kind, int64_t first, int64_t last,
                                                                  const char *format, ...) {
    struct event_row *row = NEW_ROW(d, T_EVENT, event_row);
    *row = (struct event_row){.first = first, .last = last};
    set_key(&row->key, d, m, 0);
    memcpy(row->kind, kind, strlen(kind));
    char said[sizeof row->text + 1];
    va_list more;
    va_start(more, format);
    int n = vsnprintf(said, sizeof said, format, more);
    va_end(more);
    memcpy(row->text, said, n < (int)sizeof row->text ? (size_t)n : sizeof row->text);
}

#define MALFORMED(d, m, ...) \
    event(d, m, "malformed", (int64_t)(d)->offset, (int64_t)((d)->offset + 1 + (m)->length), __VA_ARGS__)
#endif
