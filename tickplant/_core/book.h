/* The price levels of an instrument, of a venue that publishes every order (Nasdaq TotalView-ITCH and its kin).
 *
 * Format. A book is two sides of levels, sorted by key, the best level LAST, so that what happens most (at and near the
 * touch) moves least memory. The key is the price, or ~price on the offer side, with its top bit turned over: on both
 * sides, the greater key as a signed number is the better one, and there is one code for both. A level holds at least
 * one share; at zero it goes. Keys and shares lie in two arrays, as only keys are searched.
 *
 * Algorithm. To find a level, the NEAR best keys are compared at once and without a branch (there are always as many:
 * NEAR keys below any other lie in front of the array), then the next NEAR, and so on; the rest is searched by
 * bisection.
 *
 * Pitfalls.
 *  - Inserting below n better levels moves 12 n bytes. Real books have some thousand levels; a made-up one costs the
 *    decoder time, not memory: levels are bounded by the number of adds read.
 *  - Prices go through the whole range of 32 bits (0 and 0xffffffff too), shares of a level need 64. */
#ifndef TP_BOOK_H
#define TP_BOOK_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BID, ASK, NEAR = 16 };

/* Levels, best last: shares[room], then NEAR keys below every other, then keys[room]. */
struct side {
    uint64_t *shares;
    uint32_t count;
    uint32_t room;
};

struct book {
    struct side sides[2];
    uint64_t shares[2]; /* what was published last; 0: the side was empty */
    uint32_t prices[2];
    uint8_t touched[2]; /* the best level was changed since */
    uint8_t unused[6];
};
_Static_assert(sizeof(struct book) == 64, "a book is a cache line");

/* ---- levels ---- */

static inline int32_t level_key(uint8_t side, uint32_t price) {
    return (int32_t)((side == 'B' ? price : ~price) ^ 0x80000000u);
}

static inline uint32_t level_price(int which, int32_t key) {
    uint32_t price = (uint32_t)key ^ 0x80000000u;
    return which == BID ? price : ~price;
}

static inline int32_t *side_keys(const struct side *s) { return (int32_t *)(s->shares + s->room) + NEAR; }

/* How many of the NEAR keys before `end` are above `key`. */
static inline uint32_t keys_above(const int32_t *end, int32_t key) {
    uint32_t above = 0;
    for (int i = -NEAR; i < 0; i++) above += end[i] > key;
    return above;
}

/* How many levels have a key <= `key`: the level itself, if it is there, is the last of them.
 * The side has room for some. */
static inline uint32_t side_seek(const struct side *s, int32_t key) {
    const int32_t *keys = side_keys(s);
    uint32_t low = 0, high = s->count;
    for (int block = 0; block < 4; block++) {
        uint32_t above = keys_above(keys + high, key);
        high -= above;
        if (__builtin_expect(above < NEAR, 1)) return high;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (keys[middle] <= key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* 0, or -1 without memory. */
__attribute__((noinline)) static int side_grow(struct side *s) {
    struct side wider = {.count = s->count, .room = s->room ? 2 * s->room : 16};
    wider.shares = malloc(wider.room * sizeof *wider.shares + (NEAR + wider.room) * sizeof(int32_t));
    if (!wider.shares) return -1;
    for (int i = 0; i < NEAR; i++) side_keys(&wider)[i - NEAR] = INT32_MIN;
    if (s->room) {
        memcpy(wider.shares, s->shares, s->count * sizeof *s->shares);
        memcpy(side_keys(&wider), side_keys(s), s->count * sizeof(int32_t));
    }
    free(s->shares);
    *s = wider;
    return 0;
}

/* Fetch the levels that `side_seek` will mostly find a key among into the cache. */
__attribute__((always_inline)) static inline void side_prefetch(const struct side *s) {
    if (!s->room) return;
    const char *keys = (const char *)(side_keys(s) + s->count), *shares = (const char *)(s->shares + s->count);
    __builtin_prefetch(keys - 1, 1);
    __builtin_prefetch(keys - NEAR * sizeof(int32_t), 1);
    __builtin_prefetch(shares - 1, 1);
    __builtin_prefetch(shares - 64, 1);
}

/* Add shares at a price; whether it is the best one. There is room for one more level. */
static inline int side_add(struct side *s, int32_t key, uint32_t shares) {
    uint32_t i = side_seek(s, key), above = s->count - i;
    int32_t *keys = side_keys(s);
    if (i && keys[i - 1] == key) {
        s->shares[i - 1] += shares;
        return !above;
    }
    memmove(keys + i + 1, keys + i, above * sizeof *keys);
    memmove(s->shares + i + 1, s->shares + i, above * sizeof *s->shares);
    keys[i] = key;
    s->shares[i] = shares;
    s->count++;
    return !above;
}

/* Take away shares that were added at this price; whether it was the best one. */
static inline int side_take(struct side *s, int32_t key, uint32_t shares) {
    uint32_t i = side_seek(s, key) - 1, above = s->count - i - 1;
    s->shares[i] -= shares;
    if (s->shares[i]) return !above;
    int32_t *keys = side_keys(s);
    memmove(keys + i, keys + i + 1, above * sizeof *keys);
    memmove(s->shares + i, s->shares + i + 1, above * sizeof *s->shares);
    s->count--;
    return !above;
}

/* ---- books ---- */

static inline int which_side(uint8_t side) { return side == 'B' ? BID : ASK; }

/* Make room for one more level. 0, or -1 without memory. */
static inline int book_reserve(struct book *b, uint8_t side) {
    struct side *s = &b->sides[which_side(side)];
    return s->count == s->room ? side_grow(s) : 0;
}

static inline void book_add(struct book *b, uint8_t side, uint32_t price, uint32_t shares) {
    int which = which_side(side);
    b->touched[which] |= side_add(&b->sides[which], level_key(side, price), shares);
}

static inline void book_take(struct book *b, uint8_t side, uint32_t price, uint32_t shares) {
    int which = which_side(side);
    if (shares) b->touched[which] |= side_take(&b->sides[which], level_key(side, price), shares);
}

/* Whether the best of this side differs from what was published; it counts as published from now on. */
static inline int best_moved(struct book *b, int which) {
    const struct side *s = &b->sides[which];
    uint64_t shares = s->count ? s->shares[s->count - 1] : 0;
    uint32_t price = s->count ? level_price(which, side_keys(s)[s->count - 1]) : 0;
    int moved = shares != b->shares[which] || price != b->prices[which];
    b->touched[which] = 0;
    b->shares[which] = shares;
    b->prices[which] = price;
    return moved;
}

/* The same of the book. Sides whose best level was not touched aren't looked at: they are mostly not in the cache. */
static inline int book_moved(struct book *b) {
    int moved = 0;
    if (b->touched[BID]) moved |= best_moved(b, BID);
    if (b->touched[ASK]) moved |= best_moved(b, ASK);
    return moved;
}

static inline void book_free(struct book *b) {
    free(b->sides[BID].shares);
    free(b->sides[ASK].shares);
}
#endif
