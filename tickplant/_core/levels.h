/* The price levels of one instrument, of a venue that publishes levels (market by price), and the rows they make.
 *
 * Format. A book is two halves, each a sorted array of levels, the best level LAST, so that what happens most (at and
 * near the touch) moves least memory. A level is found by its price as a float64: the same decimal text always becomes
 * the same float64, so equality is exact. A level remembers with how many decimals price and size were written, so that
 * checksums can be made over the very text that the venue sends.
 *
 * Algorithm. A message of the venue is a list of changes; size 0 takes a level away. `levels_change` applies one and
 * writes the row of table depth that says what came of it: A added, C changed, D deleted; `level` is its place from the
 * best one, 0, after an addition or change, before a deletion. A change that changes nothing (a level deleted that is
 * not there, one set to what it is) makes no row. `levels_load` begins anew from a whole list: one row R, then one A for
 * each level, best first. `levels_quote` writes a row of table quote if the best bid or offer is another than the last
 * it wrote.
 *
 * Pitfalls.
 *  - Inserting below n better levels moves 24 n bytes. Books of venues have some thousand levels; a hostile one costs
 *    time, and `most` bounds the memory.
 *  - NaN compares with nothing: prices are refused before they come here (levels_sound). */
#ifndef TP_LEVELS_H
#define TP_LEVELS_H
#include "decimal.h"
#include "rows.h"
#include <math.h>
#include <string.h>

enum { BID_HALF, ASK_HALF, LEVELS_NEAR = 12 };

struct level {
    double price, size;
    int32_t orders;
    uint8_t price_decimals, size_decimals;
    uint8_t half, unused;
};
_Static_assert(sizeof(struct level) == 24, "a level is 24 bytes");

struct half {
    struct level *levels; /* best last */
    size_t count, room;
};

struct levels {
    struct half halves[2];
    double quoted[4]; /* bid price, bid size, ask price, ask size of the last quote row; NaN, 0: none */
    size_t most;      /* levels that a half keeps after a message; what is worse goes (0: any number) */
};

/* What the rows of a message have in common. */
struct level_stamp {
    int64_t ts_event, ts_recv, venue_seq;
    uint32_t instrument;
    uint16_t flags;
};

static inline void levels_open(struct levels *b, size_t most) {
    memset(b, 0, sizeof *b);
    b->quoted[0] = b->quoted[2] = NAN;
    b->most = most;
}

static inline void levels_close(struct levels *b) {
    free(b->halves[0].levels);
    free(b->halves[1].levels);
}

/* Can this be a level? Prices below 0 can (spreads, power); sizes can't. */
static inline int levels_sound(const struct level *l) { return isfinite(l->price) && isfinite(l->size) && l->size >= 0; }

static inline int level_is_better(int half, double a, double b) { return half == BID_HALF ? a > b : a < b; }

/* How many levels are worse than this price: where it is, or would be. */
static inline size_t half_place(const struct half *h, int which, double price) {
    size_t high = h->count, low = 0;
    for (int i = 0; i < LEVELS_NEAR; i++, high--)
        if (!high || level_is_better(which, price, h->levels[high - 1].price)) return high;
        else if (h->levels[high - 1].price == price) return high - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (level_is_better(which, price, h->levels[middle].price)) low = middle + 1;
        else high = middle;
    }
    return low;
}

static inline void *levels_row(struct rows *r, size_t row_size) {
    if ((size_t)(r->end - r->next) < row_size && rows_grow(r, row_size)) return NULL;
    uint8_t *row = r->next;
    r->next += row_size;
    return row;
}

static inline struct row_key level_key_of(const struct level_stamp *s, uint16_t flags) {
    return (struct row_key){s->ts_event, s->ts_recv, 0, s->instrument, 0, (uint16_t)(s->flags | flags)};
}

static inline int levels_say(struct rows *depth, const struct level_stamp *s, const struct level *l, size_t from_best,
                             char action) {
    struct depth_row *row = levels_row(depth, sizeof *row);
    if (!row) return -1;
    *row = (struct depth_row){.key = level_key_of(s, 0), .venue_seq = s->venue_seq, .price = l->price,
                              .size = action == 'D' ? 0 : l->size, .orders = action == 'D' ? 0 : l->orders,
                              .level = from_best > INT16_MAX ? INT16_MAX : (int16_t)from_best,
                              .side = l->half == BID_HALF ? 'B' : 'S', .action = action};
    return 0;
}

/* Say that the book begins anew: no level is left of it. */
static inline int levels_reset(struct levels *b, struct rows *depth, const struct level_stamp *s) {
    struct depth_row *row = levels_row(depth, sizeof *row);
    if (!row) return -1;
    *row = (struct depth_row){.key = level_key_of(s, 0), .venue_seq = s->venue_seq, .price = NAN, .action = 'R'};
    b->halves[0].count = b->halves[1].count = 0;
    return 0;
}

static inline int half_insert(struct half *h, size_t at, const struct level *l) {
    if (h->count == h->room) {
        size_t wider = h->room ? 2 * h->room : 64;
        struct level *levels = realloc(h->levels, wider * sizeof *levels);
        if (!levels) return -1;
        h->levels = levels;
        h->room = wider;
    }
    memmove(h->levels + at + 1, h->levels + at, (h->count - at) * sizeof *l);
    h->levels[at] = *l;
    h->count++;
    return 0;
}

static inline void half_remove(struct half *h, size_t at) {
    h->count--;
    memmove(h->levels + at, h->levels + at + 1, (h->count - at) * sizeof *h->levels);
}

/* Apply one change. Returns 0, or -1 without memory. */
static inline int levels_change(struct levels *b, struct rows *depth, const struct level_stamp *s, const struct level *l) {
    struct half *h = &b->halves[l->half];
    size_t at = half_place(h, l->half, l->price);
    int there = at < h->count && h->levels[at].price == l->price;
    if (l->size == 0) {
        if (!there) return 0;
        if (levels_say(depth, s, l, h->count - 1 - at, 'D')) return -1;
        half_remove(h, at);
        return 0;
    }
    if (there) {
        int same = h->levels[at].size == l->size && h->levels[at].orders == l->orders;
        h->levels[at] = *l;
        return same ? 0 : levels_say(depth, s, l, h->count - 1 - at, 'C');
    }
    if (half_insert(h, at, l)) return -1;
    return levels_say(depth, s, l, h->count - 1 - at, 'A');
}

/* After the changes of a message: levels beyond those that are kept go, the worst first. Not before, since a message
 * that adds a level and takes another one away says nothing of the one that stays the last. */
static inline int levels_trim(struct levels *b, struct rows *depth, const struct level_stamp *s) {
    for (int which = 0; b->most && which < 2; which++) {
        struct half *h = &b->halves[which];
        size_t beyond = h->count > b->most ? h->count - b->most : 0;
        for (size_t i = 0; i < beyond; i++)
            if (levels_say(depth, s, &h->levels[i], h->count - 1 - i, 'D')) return -1;
        if (beyond) memmove(h->levels, h->levels + beyond, (h->count -= beyond) * sizeof *h->levels);
    }
    return 0;
}

static inline int level_order(const void *a, const void *b) {
    const struct level *x = a, *y = b;
    if (x->half != y->half) return x->half < y->half ? -1 : 1;
    if (x->price != y->price) return level_is_better(x->half, x->price, y->price) ? 1 : -1; /* best last */
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    if (x->orders != y->orders) return x->orders > y->orders ? -1 : 1;
    return x->size_decimals - y->size_decimals;
}

/* Begin anew from a whole list, which is sorted here. A list has a price once; where it has it again, the largest size
 * stays. Returns how many were left out for that or for being empty, or -1 without memory. */
static inline int64_t levels_load(struct levels *b, struct rows *depth, const struct level_stamp *s, struct level *all,
                                  size_t n) {
    int64_t left_out = 0;
    if (levels_reset(b, depth, s)) return -1;
    if (n) qsort(all, n, sizeof *all, level_order);
    for (size_t i = 0; i < n; i++) {
        struct half *h = &b->halves[all[i].half];
        if (all[i].size == 0 || (h->count && h->levels[h->count - 1].price == all[i].price)) {
            left_out++;
            continue;
        }
        if (half_insert(h, h->count, &all[i])) goto without_memory;
    }
    for (int which = 0; which < 2; which++) {
        struct half *h = &b->halves[which];
        if (b->most && h->count > b->most) {
            memmove(h->levels, h->levels + h->count - b->most, b->most * sizeof *h->levels);
            h->count = b->most;
        }
        for (size_t i = h->count; i-- > 0;)
            if (levels_say(depth, s, &h->levels[i], h->count - 1 - i, 'A')) goto without_memory;
    }
    return left_out;
without_memory:
    b->halves[0].count = b->halves[1].count = 0; /* as the row R says, not as much as there was memory for */
    return -1;
}

/* Write price and size of a level, the one behind the other: as if written with so many decimals, without points
 * and leading zeros, into room for 2 NUMBER_ROOM; how many characters they have. 0 if one has more digits than a
 * float64 is sure to keep. */
static inline int level_digits(char *text, const struct level *l, unsigned price_decimals,
                               unsigned size_decimals) {
    int64_t price = number_digits(fabs(l->price), price_decimals), size = number_digits(l->size, size_decimals);
    if (price < 0 || size < 0) return 0;
    int at = 0;
    if (l->price < 0 && price) text[at++] = '-';
    at += digits_write(text + at, price);
    return at + digits_write(text + at, size);
}

static inline const struct level *half_best(const struct half *h) { return h->count ? &h->levels[h->count - 1] : NULL; }

/* Is the best bid at or above the best offer? */
static inline int levels_crossed(const struct levels *b) {
    const struct level *bid = half_best(&b->halves[BID_HALF]), *ask = half_best(&b->halves[ASK_HALF]);
    return bid && ask && bid->price >= ask->price;
}

static inline int level_differs(double a, double b) { return !(a == b || (isnan(a) && isnan(b))); }

/* Write a quote if the top is another than the last one written. Returns 1 if so, 0, or -1 without memory. */
static inline int levels_quote(struct levels *b, struct rows *quotes, const struct level_stamp *s) {
    const struct level *bid = half_best(&b->halves[BID_HALF]), *ask = half_best(&b->halves[ASK_HALF]);
    double top[4] = {bid ? bid->price : NAN, bid ? bid->size : 0, ask ? ask->price : NAN, ask ? ask->size : 0};
    int differs = 0;
    for (int i = 0; i < 4; i++) differs |= level_differs(top[i], b->quoted[i]);
    if (!differs) return 0;
    struct quote_row *row = levels_row(quotes, sizeof *row);
    if (!row) return -1;
    *row = (struct quote_row){.key = level_key_of(s, FLAG_SYNTHETIC), .venue_seq = s->venue_seq, .bid_price = top[0],
                              .bid_size = top[1], .ask_price = top[2], .ask_size = top[3]};
    memcpy(b->quoted, top, sizeof top);
    return 1;
}
#endif
